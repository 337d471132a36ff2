"""REINFORCE: whole episodes, the whole return, and a baseline or none."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import REINFORCE, evaluate


class Counting(gym.Env):
    """Pays 1, 2, 3 ...; terminates after `length` steps, or is cut off after `limit`."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length, limit=1000):
        self.length, self.limit = length, limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), float(self.t), self.t == self.length, self.t == self.limit, {}


def agent(*envs, **kwargs):
    settings = {"n_steps": 6, "gamma": 0.5, "seed": 0, "device": "cpu", **kwargs}
    return REINFORCE("MlpPolicy", DummyVecEnv([lambda e=e: Counting(**e) for e in envs]), **settings)


def collected(model):
    _, callback = model._setup_learn(1000, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def test_one_episode_in_each_environment_and_nothing_else_is_learned_from():
    model = collected(agent({"length": 2}, {"length": 4}, baseline=False))
    np.testing.assert_array_equal(model._valid.sum(axis=0), [2, 4])
    assert model.num_timesteps == 4 * 2  # the short one waited for the long one
    with model._update(model._choose_network()) as samples:
        # G = 1 + 2/2, 2; and 1 + 2/2 + 3/4 + 4/8, 2 + 3/2 + 4/4, 3 + 4/2, 4
        np.testing.assert_allclose(samples.returns, [2.0, 2.0, 3.25, 4.5, 5.0, 4.0])
        np.testing.assert_allclose(samples.advantages, samples.returns)


def test_the_mean_return_is_of_the_episodes_that_are_learned_from():
    model = REINFORCE("MlpPolicy", DummyVecEnv([lambda n=n: Monitor(Counting(n)) for n in (2, 5)]), n_steps=6)
    model.learn(20)
    assert [episode["l"] for episode in model.ep_info_buffer] == [2, 5, 2, 5]


def test_the_next_rollout_begins_with_new_episodes():
    model = collected(agent({"length": 2}, {"length": 3}))
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, model.n_steps)
    np.testing.assert_array_equal(model.rollout_buffer.observations[0], 0)
    np.testing.assert_array_equal(model._valid.sum(axis=0), [2, 3])


def test_with_a_baseline_the_advantage_is_what_was_not_expected():
    model = collected(agent({"length": 3}))
    buffer = model.rollout_buffer
    np.testing.assert_allclose(buffer.returns[:3, 0], [2.75, 3.5, 3.0], rtol=1e-6)
    np.testing.assert_allclose(buffer.advantages[:3], buffer.returns[:3] - buffer.values[:3], rtol=1e-5)


def test_a_time_limit_goes_on_with_the_baseline_and_ends_without_one():
    model = collected(agent({"length": 9, "limit": 2}))
    value = model._choose_network().values(np.full((1, 1), 2.0, np.float32))
    np.testing.assert_allclose(model.rollout_buffer.returns[:2, 0], [2 + value[0] / 4, 2 + value[0] / 2], rtol=1e-5)
    model = collected(agent({"length": 9, "limit": 2}, baseline=False))
    np.testing.assert_allclose(model.rollout_buffer.returns[:2, 0], [2.0, 2.0])


def test_without_a_baseline_the_value_function_does_not_learn():
    model = agent({"length": 3}, baseline=False)
    before = {name: weight.clone() for name, weight in model.policy.state_dict().items()}
    model.learn(12)
    moved = {name for name, weight in model.policy.state_dict().items() if not weight.equal(before[name])}
    assert moved
    assert not [name for name in moved if "value" in name]


def test_an_episode_that_is_too_long_is_left_out_and_none_at_all_is_an_error():
    model = collected(agent({"length": 50}, {"length": 4}))
    np.testing.assert_array_equal(model._valid.sum(axis=0), [0, 4])
    with pytest.raises(ValueError, match="no episode ended within n_steps=6 steps"):
        agent({"length": 50}).learn(10)


@pytest.mark.parametrize("baseline", [True, False])
def test_it_learns(baseline):
    model = REINFORCE("MlpPolicy", "sandbox/Catch-v0", n_envs=32, learning_rate=3e-3, baseline=baseline, seed=0)
    assert evaluate(model, "sandbox/Catch-v0", 100).mean < 0
    assert evaluate(model.learn(60_000), "sandbox/Catch-v0", 100).mean > 0.5
