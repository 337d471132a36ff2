"""NaN and infinity stop the training: with the step, the environment's index, the quantity, and the weights intact."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents import PPO, NonFiniteError

PATHS = {"by hand": {}, "autograd": {"activation_fn": torch.nn.ELU}}
N_ENVS, BAD = 3, 1


class Bad(gym.Env):
    """Gives a `value` as `what` at its `at`-th step; episodes of 5 steps that are cut off."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, what=None, at=0, value=np.nan):
        self.what, self.at, self.value, self.n = what, at, value, 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        obs = np.zeros(3, np.float32)
        if self.what == "first observation":
            obs[1] = self.value
        return obs, {}

    def step(self, action):
        self.t, self.n = self.t + 1, self.n + 1
        obs, reward = np.full(3, self.t, np.float32), 1.0
        if self.n == self.at:
            if self.what == "observation":
                obs[2] = self.value
            elif self.what == "reward":
                reward = self.value
            elif self.what == "error":
                raise ZeroDivisionError("mine")
        return obs, reward, False, self.t == 5, {}


def envs_of(kind, *args, wrap=Monitor):
    makers = [lambda i=i: wrap(Bad(*args) if i == BAD else Bad()) for i in range(N_ENVS)]
    if kind in ("dummy", "normalised"):
        return VecNormalize(DummyVecEnv(makers)) if kind == "normalised" else DummyVecEnv(makers)
    return SyncVectorEnv(
        makers, autoreset_mode=AutoresetMode.NEXT_STEP if kind == "next step" else AutoresetMode.SAME_STEP
    )


def agent(env, path="by hand", **kwargs):
    kwargs = {
        "n_steps": 16,
        "batch_size": 8,
        "n_epochs": 2,
        "seed": 0,
        "device": "cpu",
        "policy_kwargs": PATHS[path],
        **kwargs,
    }
    model = PPO("MlpPolicy", env, **kwargs)
    assert model.fast_path.kind == path
    return model


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()]).clone()


def stopped(model, quantity, step):
    before = weights(model)
    with pytest.raises(NonFiniteError) as caught:
        model.learn(48)
    message = str(caught.value)
    assert f"the {quantity} of environment {BAD}" in message
    assert int(re.search(r"at step (\d+)", message)[1]) == step
    assert "\n" not in message
    assert torch.equal(weights(model), before)
    assert isinstance(caught.value, FloatingPointError)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["dummy", "same step", "next step"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["observation", "reward"])
def test_it_is_found_with_its_step_and_its_environment(path, kind, value, what):
    stopped(agent(envs_of(kind, what, 4, value), path), what, 4 * N_ENVS)


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_step_after_phantoms_is_counted_right(what):
    # Each env: 5 steps, one that only resets, then its 6th and 7th own step; the phantoms are not counted.
    stopped(agent(envs_of("next step", what, 7)), what, 7 * N_ENVS)


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_normalisation_does_not_blame_another_environment(what):
    stopped(agent(envs_of("normalised", what, 4)), what, 4 * N_ENVS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["dummy", "same step", "next step"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_last_observation_of_an_episode_is_looked_at(path, kind, value):
    stopped(agent(envs_of(kind, "observation", 5, value), path), "observation", 5 * N_ENVS)


@pytest.mark.parametrize("kind", ["dummy", "same step"])
def test_the_first_observation_of_all_is_looked_at(kind):
    stopped(agent(envs_of(kind, "first observation")), "observation", 0)


def test_one_value_in_a_dictionary_is_enough():
    class InDict(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = spaces.Dict(a=env.observation_space, b=env.observation_space)

        def observation(self, obs):
            return {"a": np.zeros(3, np.float32), "b": obs}

    env = envs_of("dummy", "observation", 4, wrap=lambda env: Monitor(InDict(env)))
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=8, seed=0, device="cpu")
    stopped(model, "observation", 4 * N_ENVS)


def test_large_finite_observations_pass():
    class Large(Bad):
        def step(self, action):
            obs, *rest = super().step(action)
            return np.full_like(obs, 3e38), *rest  # their sum is infinite

    agent(DummyVecEnv([Large])).learn(16)


@pytest.mark.parametrize("path", PATHS)
def test_a_loss_that_is_not_finite_does_not_reach_the_weights(path):
    model = agent(envs_of("dummy"), path)
    model.learn(48)
    before = weights(model)
    model.vf_coef = float("nan")
    with pytest.raises(NonFiniteError, match="gradient of the loss"):
        model.learn(48)
    assert torch.equal(weights(model), before)
    model.vf_coef = 0.5
    model.learn(48)  # and training can go on
    assert torch.isfinite(weights(model)).all()


def test_weights_before_the_bad_rollout_are_kept():
    # 16 steps an env are a rollout; the bad one is in the second.
    model = agent(envs_of("dummy", "reward", 20))
    before = weights(model)
    with pytest.raises(NonFiniteError):
        model.learn(200)
    assert model._n_updates == 2
    assert not torch.equal(weights(model), before)
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["dummy", "same step"])
def test_an_error_of_the_environment_comes_through(path, kind):
    with pytest.raises(ZeroDivisionError, match="mine"):
        agent(envs_of(kind, "error", 3), path).learn(48)


@pytest.mark.filterwarnings("error")
def test_looking_for_it_warns_of_nothing():
    class Large(Bad):
        def step(self, action):
            obs, *rest = super().step(action)
            return np.full_like(obs, 3e38), *rest

    agent(DummyVecEnv([lambda: Monitor(Large())])).learn(16)
