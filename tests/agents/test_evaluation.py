"""Evaluation: full episodes, fairly taken; and the mean of the middle half."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy.stats import trim_mean
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents import PPO, Evaluation, GymVecEnv, evaluate, interquartile_mean


class Lasts(gym.Env):
    """Ends after `length` steps, each worth `reward`."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, length, reward=1.0):
        self.length, self.reward = length, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), self.reward, self.t == self.length, False, {}


class Still:
    """A model that remembers how it was asked."""

    def __init__(self):
        self.asked = []

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        self.asked.append((episode_start.tolist(), deterministic))
        return np.zeros(len(obs), int), state


MAKERS = [lambda: Lasts(2, 1.0), lambda: Lasts(10, 0.5)]
FACES = {
    "monitored": lambda: DummyVecEnv([lambda make=make: Monitor(make()) for make in MAKERS]),
    "bare": lambda: DummyVecEnv(MAKERS),
    "same step": lambda: GymVecEnv(SyncVectorEnv(MAKERS, autoreset_mode=AutoresetMode.SAME_STEP)),
    "next step": lambda: GymVecEnv(SyncVectorEnv(MAKERS)),
    "normalised and bare": lambda: VecNormalize(DummyVecEnv(MAKERS)),
    "normalised": lambda: VecNormalize(DummyVecEnv([lambda make=make: Monitor(make()) for make in MAKERS])),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("n_episodes", [1, 2, 5, 6])
def test_each_environment_plays_the_same_number_of_episodes(face, n_episodes):
    # The first to finish would all be the short ones.
    result = evaluate(Still(), FACES[face](), n_episodes)
    short, long = (n_episodes + 1) // 2, n_episodes // 2
    assert sorted(result.lengths.tolist()) == [2] * short + [10] * long
    assert sorted(result.returns.tolist()) == [2.0] * short + [5.0] * long


def test_the_model_is_told_where_episodes_start():
    model = Still()
    evaluate(model, DummyVecEnv([lambda: Monitor(Lasts(2))]), 2, deterministic=False)
    assert model.asked == [([True], False), ([False], False), ([True], False), ([False], False)]


class Shows(Lasts):
    """Its observation is always 4."""

    observation_space = spaces.Box(-9, 9, (1,), np.float32)

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return np.full(1, 4, np.float32), {}

    def step(self, action):
        return (np.full(1, 4, np.float32), *super().step(action)[1:])


def shows(normalizer_mean=None, normalizer_var=1.0):
    """Two such environments, under a normaliser with that mean and variance if there is one."""
    envs = DummyVecEnv([lambda: Shows(3, 0.5)] * 2)
    if normalizer_mean is None:
        return envs
    envs = VecNormalize(envs, epsilon=0.0)
    envs.obs_rms.mean, envs.obs_rms.var = np.full(1, normalizer_mean), np.full(1, normalizer_var)
    envs.ret_rms.var = np.float64(100.0)
    return envs


@pytest.fixture
def observed(monkeypatch):
    """What agents are shown."""
    shown, predict = [], PPO.predict

    def spy(self, obs, *args, **kwargs):
        shown.append(obs.copy())
        return predict(self, obs, *args, **kwargs)

    monkeypatch.setattr(PPO, "predict", spy)
    return shown


FRESH = {
    "environments": lambda: shows(),
    "a vector environment": lambda: SyncVectorEnv([lambda: Shows(3, 0.5)] * 2, autoreset_mode=AutoresetMode.SAME_STEP),
}


@pytest.mark.parametrize("face", FRESH)
def test_an_agent_trained_under_a_normaliser_sees_what_it_saw(face, observed):
    model = PPO("MlpPolicy", shows(2.0, 16.0), device="cpu")
    before = model.get_vec_normalize_env().obs_rms.count
    result = evaluate(model, FRESH[face](), 4)
    np.testing.assert_allclose(observed, 0.5)  # (4 - 2) / 4
    assert result.returns.tolist() == [1.5] * 4
    assert model.get_vec_normalize_env().obs_rms.count == before
    assert model.get_vec_normalize_env().training


def test_an_agent_trained_under_a_normaliser_by_id(observed):
    envs = VecNormalize(make_vec_env("CartPole-v1", 2))
    model = PPO("MlpPolicy", envs, device="cpu")
    envs.obs_rms.mean = np.array([0.0, 0.0, 3.0, 0.0])
    evaluate(model, "sandbox/CartPole-v1", 4)
    assert np.concatenate(observed)[:, 2].max() < -2.0
    assert np.abs(np.concatenate(observed)[:, 0]).max() < 2.5


@pytest.mark.parametrize("own", [False, True])
def test_environments_under_a_normaliser_of_their_own_keep_it_and_are_not_normalised_twice(own, observed):
    # Not the agent's: what one gives goes before what the agent brings.
    model = PPO("MlpPolicy", shows(2.0, 16.0) if own else shows(), device="cpu")
    envs = shows(0.0, 4.0)
    count = envs.obs_rms.count
    result = evaluate(model, envs, 4)
    np.testing.assert_allclose(observed, 2.0)
    assert result.returns.tolist() == [1.5] * 4  # the environment's, not the normalised ones
    assert envs.obs_rms.count == count
    assert envs.ret_rms.count == pytest.approx(1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_normaliser_learns_on_after_an_evaluation_if_it_did_before(training):
    envs = shows(0.0)
    envs.training = training
    evaluate(Still(), envs, 2)
    assert envs.training == training

    class Stumbles:
        def predict(self, *args, **kwargs):
            assert not envs.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate(Stumbles(), envs, 2)
    assert envs.training == training


def test_the_same_seed_gives_the_same_episodes():
    model = PPO("MlpPolicy", "sandbox/CartPole-v1", seed=0, device="cpu")
    results = [evaluate(model, "sandbox/CartPole-v1", 8, seed=seed).returns for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    assert len(evaluate(model, "CartPole-v1", 3).returns) == 3


def test_it_does_not_disturb_the_agents_training():
    models = []
    for pause in (False, True):
        model = PPO("MlpPolicy", "sandbox/CartPole-v1", n_envs=2, n_steps=16, batch_size=32, seed=0, device="cpu")
        models.append(model)
        model.learn(32)
        if pause:
            evaluate(model, "sandbox/CartPole-v1", 4)
        model.learn(32, reset_num_timesteps=False)
    np.testing.assert_array_equal(models[0].rollout_buffer.observations, models[1].rollout_buffer.observations)


def test_mean_and_interval_by_hand():
    result = Evaluation(np.array([1.0, 3.0]), np.array([1, 1]))
    assert result.mean == 2.0
    assert result.interval == pytest.approx(1.96 * np.sqrt(2) / np.sqrt(2))
    assert str(result) == "2.0 ± 2.0"
    assert np.isnan(Evaluation(np.array([1.0]), np.array([1])).interval)


@pytest.mark.parametrize(
    ("scores", "want"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 3.0, 90.0], (0.25 * 0 + 3 + 0.25 * 90) / 1.5),
        ([9.0, 0.0, 1.0, 3.0], 2.0),
        ([0.0, 1.0, 2.0, 4.0, 100.0], (0.75 * 1 + 2 + 0.75 * 4) / 2.5),
    ],
)
def test_interquartile_mean_by_hand(scores, want):
    mean, low, high = interquartile_mean(np.array(scores))
    assert mean == pytest.approx(want)
    assert low <= mean <= high


def test_columns_are_taken_one_by_one_by_whole_seeds():
    rng = np.random.default_rng(3)
    curves = rng.normal(size=(5, 7, 2))
    mean, low, high = interquartile_mean(curves, 500)
    assert mean.shape == low.shape == high.shape == (7, 2)
    for t in range(7):
        for k in range(2):
            single = interquartile_mean(curves[:, t, k], 500)
            assert (mean[t, k], low[t, k], high[t, k]) == pytest.approx(single)


@pytest.mark.parametrize("n", [4, 8, 20, 100])
def test_interquartile_mean_is_the_trimmed_mean_where_a_quarter_is_whole(n):
    scores = np.random.default_rng(n).normal(size=n)
    assert interquartile_mean(scores, 10)[0] == pytest.approx(trim_mean(scores, 0.25))


def test_the_interval_narrows_and_is_repeatable():
    rng = np.random.default_rng(0)
    few, many = (interquartile_mean(rng.normal(size=n)) for n in (8, 200))
    assert many[2] - many[1] < 0.5 * (few[2] - few[1])
    scores = rng.normal(size=8)
    assert interquartile_mean(scores) == interquartile_mean(scores)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = [low <= 0 <= high for _, low, high in (interquartile_mean(rng.normal(size=40), 300) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_environments_that_are_given_stay_open():
    env = make_vec_env("CartPole-v1", 1)
    evaluate(Still(), env, 1)
    env.reset()
    env.step(np.zeros(1, int))


class Lives(gym.Wrapper):
    """Ends an episode of 5 steps at the third: a life."""

    def reset(self, **kwargs):
        self.t = 0 if getattr(self, "t", 5) >= 5 else self.t
        return (np.zeros(4, np.float32), {}) if self.t else self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.t = 5 if terminated or truncated else self.t + 1
        return obs, reward, terminated or self.t == 3, truncated, info


def test_a_life_is_no_episode_where_a_monitor_knows_better():
    envs = DummyVecEnv([lambda: Lives(Monitor(gym.make("CartPole-v1", max_episode_steps=5)))])
    model = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, device="cpu")
    assert evaluate(model, envs, 3).lengths.tolist() == [5, 5, 5]


def test_an_episode_without_end_is_cut(monkeypatch):
    class Up:
        def predict(self, obs, **kwargs):
            return np.zeros(len(obs), np.int64), None  # into the wall, for ever: -1 each step

    monkeypatch.setattr("agents.evaluation.MAX_STEPS", 50)
    with pytest.warns(UserWarning, match="an episode of 50 steps did not end"):
        result = evaluate(Up(), "CliffWalking-v1", 3)
    assert result.returns.tolist() == [-50.0] * 3
    assert result.lengths.tolist() == [50] * 3
