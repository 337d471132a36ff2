"""The probes' values, by brute force: play with the best policy and average the discounted returns."""

import gymnasium
import numpy as np
import pytest

import envs

PROBES = [i for i, path in envs.names.ENTRY_POINTS.items() if path.startswith("envs.probe:")]


def returns_by_first_obs(env_id, gamma, num_envs=400):
    """Discounted returns of one episode per env (without its limit), by the observation it starts with."""
    vec = gymnasium.make_vec(env_id, num_envs=num_envs, max_episode_steps=-1)
    obs, _ = vec.reset(seed=0)
    first, returns, alive, discount = obs[:, 0].copy(), np.zeros(num_envs), np.ones(num_envs, bool), 1.0
    for _ in range(200):
        obs, rewards, terminated, truncated, _ = vec.step(vec.dynamics.best_action(obs)[:, 0])
        assert not truncated.any()
        returns += discount * rewards * alive
        alive &= ~terminated
        discount *= gamma
    return {o: returns[first == o] for o in np.unique(first)}


@pytest.mark.parametrize("gamma", [0.5, 0.9])
@pytest.mark.parametrize("env_id", PROBES)
def test_value_is_the_average_return(env_id, gamma):
    probe = gymnasium.make(env_id).unwrapped.dynamics
    for obs, returns in returns_by_first_obs(env_id, gamma).items():
        assert returns.mean() == pytest.approx(probe.value(np.array([obs]), gamma)[0], abs=1e-6)


def test_values_by_hand():
    assert envs.ProbeConstant.value(np.array([0.0]), 0.9) == [1]
    assert envs.ProbeObservation.value(np.array([-1.0, 1.0]), 0.9).tolist() == [-1, 1]
    assert envs.ProbeDiscount.value(np.array([0.0, 1.0]), 0.9).tolist() == [0.9, 1]
    assert envs.ProbeAction.value(np.array([0.0]), 0.9) == [1]
    assert envs.ProbePolicy.value(np.array([-1.0, 1.0]), 0.9).tolist() == [1, 1]
    assert envs.ProbeTruncation.value(np.array([0.0]), 0.75) == [4]


@pytest.mark.parametrize(
    ("name", "steps"),
    [("Constant", 1), ("Observation", 1), ("Discount", 2), ("Action", 1), ("Policy", 1), ("Truncation", 8)],
)
def test_lengths_and_kinds_of_end(name, steps):
    env = gymnasium.make(f"sandbox/Probe{name}-v0")
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(steps)]
    last = (False, True) if name == "Truncation" else (True, False)
    assert ends == [(False, False)] * (steps - 1) + [last]


@pytest.mark.parametrize("name", ["Action", "Policy"])
def test_the_other_action_costs(name):
    vec = gymnasium.make_vec(f"sandbox/Probe{name}-v0", num_envs=50)
    obs, _ = vec.reset(seed=0)
    assert (vec.step(1 - vec.dynamics.best_action(obs)[:, 0])[1] == -1).all()


@pytest.mark.parametrize("name", ["Observation", "Policy"])
def test_both_signs_are_equally_likely(name):
    obs, _ = gymnasium.make_vec(f"sandbox/Probe{name}-v0", num_envs=4000).reset(seed=0)
    assert set(obs.ravel()) == {-1.0, 1.0}
    assert abs(obs.mean()) < 0.06
