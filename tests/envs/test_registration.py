"""Every id, by enumeration: a new env cannot forget these tests."""

import importlib
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs

ROOT = Path(envs.__file__).parents[1]

# Warnings about what the tasks are, the same for Gymnasium's own.
GYMNASIUM_SAYS = r".*(minimum value is -infinity|maximum value is infinity|symmetric and normalized space).*"
SB3_SAYS = r".*(symmetric and normalized Box action space|unconventional shape).*"


@pytest.mark.parametrize("env_id", envs.IDS)
def test_gymnasium_check_env(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=GYMNASIUM_SAYS)
        check_env(env)


@pytest.mark.parametrize("env_id", envs.IDS)
def test_sb3_check_env(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=SB3_SAYS)
        sb3_check_env(gymnasium.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", envs.IDS)
def test_make_vec_gives_the_vector_face(env_id):
    vec = gymnasium.make_vec(env_id, num_envs=3, render_mode="rgb_array")
    assert isinstance(vec, envs.DynamicsVectorEnv)
    assert vec.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    obs, infos = vec.reset(seed=0)
    assert vec.observation_space.contains(np.ascontiguousarray(obs))
    assert infos == {}
    obs, rewards, terminated, truncated, _ = vec.step(vec.action_space.sample())
    assert vec.observation_space.contains(np.ascontiguousarray(obs))
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
    assert rewards.shape == terminated.shape == truncated.shape == (3,)
    frames = vec.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 3
    assert all(f.dtype == np.uint8 and f.ndim == 3 and f.shape[2] == 3 for f in frames)
    vec.close()


@pytest.mark.parametrize("env_id", envs.IDS)
def test_both_faces_pickle(env_id):
    for env in (gymnasium.make(env_id).unwrapped, gymnasium.make_vec(env_id, num_envs=2)):
        first, _ = env.reset(seed=3)
        again, _ = pickle.loads(pickle.dumps(env)).reset(seed=3)
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
)
def test_the_specification_is_gymnasiums(name):
    ours, theirs = gymnasium.make(f"sandbox/{name}"), gymnasium.make(name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    assert ours.spec.reward_threshold == theirs.spec.reward_threshold
    assert ours.unwrapped.metadata["render_fps"] == theirs.unwrapped.metadata["render_fps"]


def test_limits_reach_the_vector_face():
    ends = {i: gymnasium.make_vec(i)._limit for i in envs.IDS}
    assert ends["sandbox/CartPole-v1"] == 500
    assert ends["sandbox/ProbeTruncation-v0"] == 8
    assert ends["sandbox/Catch-v0"] > 1e18
    assert gymnasium.make_vec("sandbox/CartPole-v1", max_episode_steps=7)._limit == 7
    assert envs.CartPoleVectorEnv()._limit == 500
    assert envs.CartPoleVectorEnv(max_episode_steps=-1)._limit > 1e18


def test_importing_twice_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(envs.names)
        spec = gymnasium.spec("sandbox/CartPole-v1")
        importlib.reload(envs)
    assert gymnasium.spec("sandbox/CartPole-v1") is spec


def test_module_id_form_and_no_torch():
    code = """
import sys, gymnasium
vec = gymnasium.make_vec("envs:sandbox/CartPole-v1", num_envs=2)
vec.reset(seed=0)
gymnasium.make("envs:sandbox/PixelCartPole-v0", size=84).reset(seed=0)
heavy = {"torch", "stable_baselines3", "sklearn", "pygame", "sandbox", "agents"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_all_is_sorted_and_complete():
    assert sorted(envs.__all__, key=lambda n: (not n.isupper(), n)) == envs.__all__
    assert all(hasattr(envs, n) for n in envs.__all__)
    assert set(envs.IDS) == {i for i in gymnasium.registry if i.startswith("sandbox/")}


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="colour"):
        gymnasium.make("sandbox/CartPole-v1", colour="red")
    with pytest.raises(TypeError, match="colour"):
        gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2, colour="red")
    with pytest.raises(ValueError, match="size"):
        gymnasium.make_vec("sandbox/PixelCartPole-v0", num_envs=2, size=3)
