"""Agents on tasks whose value is known; the first that fails says what is wrong."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import envs
from agents import PPO, evaluate
from agents.presets import find
from sandbox.training.schedules import parse

PROBES = ["Constant", "Observation", "Discount", "Action", "Policy", "Truncation"]
PATHS = {"by hand": {}, "autograd": {"activation_fn": torch.nn.ELU}}
GAMMA = 0.75


def train(env, path, steps):
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=32,
        batch_size=128,
        n_epochs=8,
        gamma=GAMMA,
        gae_lambda=0.9,
        learning_rate=3e-3,
        policy_kwargs={"net_arch": [16], **PATHS[path]},
        seed=0,
        device="cpu",
    )
    assert model.fast_path.kind == path
    return model.learn(steps)


def check(model, name):
    probe = getattr(envs, f"Probe{name}")
    observations = {"Observation": [-1, 1], "Discount": [0, 1], "Policy": [-1, 1]}.get(name, [0])
    obs = np.array(observations, np.float32)[:, None]
    values = model.policy.predict_values(torch.as_tensor(obs)).detach().numpy()
    np.testing.assert_allclose(values, probe.value(obs, GAMMA), atol=0.12)
    if name in ("Action", "Policy"):
        np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], probe.best_action(obs)[:, 0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", PROBES)
def test_the_value_and_the_action_are_the_known_ones(path, name):
    check(train(gym.make_vec(f"envs:sandbox/Probe{name}-v0", num_envs=16), path, 16 * 32 * 16), name)


@pytest.mark.parametrize("name", ["Discount", "Policy", "Truncation"])
def test_also_where_a_step_only_resets(name):
    env = gym.make_vec(
        f"envs:sandbox/Probe{name}-v0",
        num_envs=8,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
    )
    check(train(env, "by hand", 8 * 32 * 20), name)


def test_also_on_environments_of_stable_baselines3():
    check(train("sandbox/ProbeTruncation-v0", "by hand", 32 * 80), "Truncation")


def test_the_fast_preset_solves_cartpole():
    settings = dict(find("CartPole-v1")["fast"].settings)
    steps = settings.pop("n_timesteps")
    env = settings.pop("env_id")
    settings["learning_rate"], settings["clip_range"] = (
        parse(settings["learning_rate"]),
        parse(settings["clip_range"]),
    )
    settings["policy_kwargs"] = {"activation_fn": torch.nn.ReLU}
    model = PPO("MlpPolicy", env, seed=1, device="cpu", **settings)
    assert model.fast_path.kind == "by hand"
    model.learn(steps)
    assert evaluate(model, "sandbox/CartPole-v1", n_episodes=50, seed=7).mean >= 475
