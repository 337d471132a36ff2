"""Generalised advantage estimation: by hand, against its definition, and against Stable-Baselines3's buffer."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stable_baselines3.common.buffers import RolloutBuffer

from agents.returns import gae


def column(*numbers):
    return np.array(numbers, float)[:, None]  # [T, 1]


def random_rollout(T, B, seed=0):
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, T, B))
    ended = rng.random((2, T, B)) < 0.3
    return rewards, values, next_values, ended[0] & ~ended[1], ended[1]


def test_four_steps_by_hand():
    # deltas: 1 + .5*4 - 2 = 1; 2 + .5*6 - 4 = 1; 3 + .5*8 - 6 = 1; 4 + .5*10 - 8 = 1; decay .5 * .5 = .25
    never = column(0, 0, 0, 0)
    advantages, returns = gae(column(1, 2, 3, 4), column(2, 4, 6, 8), column(4, 6, 8, 10), never, never, 0.5, 0.5)
    assert advantages[:, 0].tolist() == [1.328125, 1.3125, 1.25, 1.0]
    assert returns[:, 0].tolist() == [3.328125, 5.3125, 7.25, 9.0]


def test_termination_is_worth_nothing_after_it_and_stops_the_flow():
    # step 1 terminates: delta 2 - 4 = -2; nothing of step 2 reaches it
    never, ends = column(0, 0, 0, 0), column(0, 1, 0, 0)
    advantages, _ = gae(column(1, 2, 3, 4), column(2, 4, 6, 8), column(4, 99, 8, 10), ends, never, 0.5, 0.5)
    assert advantages[:, 0].tolist() == [1 - 0.25 * 2, -2.0, 1.25, 1.0]


def test_truncation_keeps_the_final_value_and_stops_the_flow():
    # step 1 is cut off in an observation worth 20: delta 2 + .5*20 - 4 = 8
    never, cut = column(0, 0, 0, 0), column(0, 1, 0, 0)
    advantages, _ = gae(column(1, 2, 3, 4), column(2, 4, 6, 8), column(4, 20, 8, 10), never, cut, 0.5, 0.5)
    assert advantages[:, 0].tolist() == [1 + 0.25 * 8, 8.0, 1.25, 1.0]


def test_an_episode_that_ends_at_the_last_step():
    never, last = column(0, 0), column(0, 1)
    assert gae(column(0, 1), column(0, 0), column(0, 7), last, never, 1.0, 1.0)[0][:, 0].tolist() == [1.0, 1.0]
    assert gae(column(0, 1), column(0, 0), column(0, 7), never, last, 1.0, 1.0)[0][:, 0].tolist() == [8.0, 8.0]


def test_environments_do_not_mix():
    rollout = random_rollout(6, 3)
    together, _ = gae(*rollout, 0.9, 0.8)
    for b in range(3):
        alone, _ = gae(*(array[:, b : b + 1] for array in rollout), 0.9, 0.8)
        np.testing.assert_allclose(together[:, b : b + 1], alone)


def test_torch_gives_what_numpy_gives():
    rollout = random_rollout(7, 2)
    ours = gae(*map(torch.as_tensor, rollout), 0.9, 0.8)
    for tensor, array in zip(ours, gae(*rollout, 0.9, 0.8), strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor.numpy(), array)


@pytest.mark.parametrize("as_floats", [False, True])
def test_flags_may_be_booleans_or_floats(as_floats):
    rewards, values, next_values, terminated, truncated = random_rollout(7, 2)
    flags = [flag.astype(np.float32) if as_floats else flag for flag in (terminated, truncated)]
    want = gae(rewards, values, next_values, terminated, truncated, 0.9, 0.8)[0]
    np.testing.assert_allclose(gae(rewards, values, next_values, *flags, 0.9, 0.8)[0], want)


def test_float32_stays_float32_and_arguments_stay_as_they_are():
    rollout = [array.astype(np.float32) if array.dtype == float else array for array in random_rollout(5, 2)]
    copies = [array.copy() for array in rollout]
    advantages, returns = gae(*rollout, 0.9, 0.8)
    assert advantages.dtype == returns.dtype == np.float32
    assert all(np.array_equal(a, b) for a, b in zip(rollout, copies, strict=True))


@pytest.mark.parametrize("argument", [1, 2, 3, 4])
def test_another_shape_is_named(argument):
    rollout = list(random_rollout(4, 2))
    rollout[argument] = rollout[argument][:, 0]
    name = ["rewards", "values", "next_values", "terminated", "truncated"][argument]
    with pytest.raises(ValueError, match=rf"{name} has shape \(4,\), rewards \(4, 2\)"):
        gae(*rollout, 0.9, 0.8)


@settings(max_examples=60, deadline=None)
@given(
    rewards=hnp.arrays(np.float64, (5, 2), elements=st.floats(-10, 10)),
    values=hnp.arrays(np.float64, (5, 2), elements=st.floats(-10, 10)),
    last=hnp.arrays(np.float64, (2,), elements=st.floats(-10, 10)),
    terminated=hnp.arrays(bool, (5, 2)),
    gamma=st.floats(0, 1),
)
def test_with_lambda_one_it_is_the_discounted_return_less_the_value(rewards, values, last, terminated, gamma):
    next_values = np.concatenate([values[1:], last[None]])
    advantages, returns = gae(rewards, values, next_values, terminated, np.zeros_like(terminated), gamma, 1.0)
    discounted, after = np.zeros_like(rewards), last
    for t in reversed(range(5)):
        after = discounted[t] = rewards[t] + gamma * np.where(terminated[t], 0.0, after)
    np.testing.assert_allclose(returns, discounted, atol=1e-9)
    np.testing.assert_allclose(advantages, discounted - values, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), gamma=st.floats(0, 1))
def test_with_lambda_zero_it_is_the_temporal_difference(seed, gamma):
    rewards, values, next_values, terminated, truncated = random_rollout(5, 2, seed)
    advantages, _ = gae(rewards, values, next_values, terminated, truncated, gamma, 0.0)
    np.testing.assert_allclose(advantages, rewards + gamma * next_values * ~terminated - values)


@pytest.mark.parametrize("seed", range(5))
def test_as_stable_baselines3_computes_it_with_truncations_bootstrapped(seed):
    T, B, gamma, gae_lambda = 12, 3, 0.97, 0.9
    rng = np.random.default_rng(seed)
    rewards, values, final_values = rng.normal(size=(3, T, B)).astype(np.float32)
    last_values = rng.normal(size=B).astype(np.float32)
    _, _, _, terminated, truncated = random_rollout(T, B, seed)
    ended = terminated | truncated

    buffer = RolloutBuffer(T, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", gae_lambda, gamma, B)
    starts = np.ones(B)
    for t in range(T):
        bootstrapped = rewards[t] + gamma * final_values[t] * truncated[t]  # as OnPolicyAlgorithm.collect_rollouts does
        buffer.add(np.zeros((B, 1)), np.zeros((B, 1)), bootstrapped, starts, torch.as_tensor(values[t]), torch.zeros(B))
        starts = ended[t]
    buffer.compute_returns_and_advantage(torch.as_tensor(last_values), ended[-1])

    next_values = np.where(truncated, final_values, np.concatenate([values[1:], last_values[None]]))
    advantages, returns = gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
    np.testing.assert_allclose(advantages, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(returns, buffer.returns, atol=1e-5)
