"""`learn` leaves the caller's process as it found it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch.distributions import Distribution

from agents import PPO

PATHS = {"by hand": {}, "autograd": {"activation_fn": torch.nn.ELU}}


def snapshot():
    return {
        "torch threads": torch.get_num_threads(),
        "BLAS threads": [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()],
        "dtype": torch.get_default_dtype(),
        "validation": Distribution._validate_args,
        "matmul": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "numpy errors": np.geterr(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # something to be changed
    yield
    torch.set_num_threads(before)


def agent(path, env="sandbox/CartPole-v1", **kwargs):
    return PPO(
        "MlpPolicy",
        env,
        n_envs=2,
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        device="cpu",
        policy_kwargs=PATHS[path],
        **kwargs,
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("validate", [True, False])
def test_settings_are_as_before(path, validate):
    initial = Distribution._validate_args
    Distribution.set_default_validate_args(validate)
    try:
        before = snapshot()
        agent(path).learn(64)
        assert snapshot() == before
    finally:
        Distribution.set_default_validate_args(initial)


@pytest.mark.parametrize("path", PATHS)
def test_settings_are_as_before_an_error_too(path):
    def fails(*_):
        raise RuntimeError("mine")

    before = snapshot()
    with pytest.raises(RuntimeError, match="mine"):
        agent(path).learn(64, callback=fails)
    assert snapshot() == before


def test_a_small_network_runs_on_one_thread_meanwhile():
    threads = []
    agent("by hand").learn(32, callback=lambda *_: threads.append(torch.get_num_threads()) or True)
    assert set(threads) == {1}


def test_an_unseeded_agent_follows_the_callers_own_seeding():
    def run(seed):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        env = gym.make("CartPole-v1")
        env.reset(seed=0)
        model = PPO("MlpPolicy", env, n_steps=32, batch_size=16, device="cpu").learn(32)
        return model.rollout_buffer.actions.copy()

    np.testing.assert_array_equal(run(1), run(1))
