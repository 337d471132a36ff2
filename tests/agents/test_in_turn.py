"""Games in two groups, one of which plays while the other is thought for: the same games, step by step."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

from agents import A2C, PPO, vecenv
from agents.vecenv import Groups, GymVecEnv

pytest.importorskip("ale_py")
GAME = "baselines/Breakout-v0"


def one_group(n_envs, **kwargs):
    return GymVecEnv(gym.make_vec(f"envs:{GAME}", num_envs=n_envs, **kwargs))


def agent(env, algorithm=PPO, **kwargs):
    kwargs = {**({"batch_size": 8, "n_epochs": 1} if algorithm is PPO else {}), **kwargs}
    model = algorithm("CnnPolicy", env, n_steps=6, seed=3, device="cpu", **kwargs)
    with torch.no_grad():  # draws come in another order: here they don't matter
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(torch.tensor([0.0, 0.0, 200.0, 0.0]))
    return model


def test_make_gives_two_groups_where_steps_can_be_begun_and_waited_for():
    assert isinstance(vecenv.make(GAME, 4), Groups)
    assert isinstance(vecenv.make(GAME, 3), GymVecEnv)
    assert isinstance(vecenv.make(GAME, 2), GymVecEnv)
    assert isinstance(vecenv.make("sandbox/CartPole-v1", 4), GymVecEnv)


def test_a_wrapped_environment_is_stepped_as_a_whole():
    envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(f"envs:{GAME}", num_envs=4))
    env = GymVecEnv(envs)
    assert not env.plays_on
    env.seed(0)
    env.reset()
    assert env.step(np.zeros(4, int))[0].shape == (4, 4, 84, 84)


def test_two_groups_are_the_games_of_one():
    one, two = one_group(4, max_frames=300), vecenv.make(GAME, 4, max_frames=300)
    for env in (one, two):
        env.seed(5)
    np.testing.assert_array_equal(one.reset(), two.reset())
    rng, ends = np.random.default_rng(0), 0
    for _ in range(170):
        actions = rng.integers(0, 4, 4)
        mine, theirs = two.step(actions), one.step(actions)
        for a, b in zip(mine[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for a, b in zip(mine[3], theirs[3], strict=True):
            assert a.keys() == b.keys()
            assert a.get("lives") == b.get("lives")
            assert a["TimeLimit.truncated"] == b["TimeLimit.truncated"]
            if "episode" in a:
                assert (a["episode"]["r"], a["episode"]["l"]) == (b["episode"]["r"], b["episode"]["l"])
                np.testing.assert_array_equal(a["terminal_observation"], b["terminal_observation"])
                ends += 1
    assert ends >= 8


def test_questions_go_to_the_environments_they_are_meant_for():
    env = vecenv.make(GAME, 6)
    assert env.get_attr("num_envs") == [3] * 6
    assert env.get_attr("num_envs", [5, 0]) == [3, 3]
    env.set_attr("note", "all")
    assert env.get_attr("note", [1, 5]) == ["all", "all"]
    assert env.env_is_wrapped(Monitor) == [True] * 6
    assert env.env_is_wrapped(Monitor, [2]) == [True]
    env.close()


class Watch(BaseCallback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.seen = stop_at, []

    def _on_step(self):
        names = ("actions", "rewards", "new_obs", "dones", "values")
        self.seen.append({name: np.array(self.locals[name]) for name in names})
        return self.n_calls != self.stop_at


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_a_rollout_in_turn_is_the_rollout_of_all_together(algorithm):
    seen, models = [], []
    for env in (one_group(4), vecenv.make(GAME, 4)):
        model, watch = agent(env, algorithm), Watch()
        model.train = lambda: None
        model.learn(48, watch)
        models.append(model)
        seen.append(watch.seen)
    assert len(seen[0]) == len(seen[1]) == 12
    for all_together, in_turn in zip(*seen, strict=True):
        for name, array in all_together.items():
            if name == "values":
                np.testing.assert_allclose(in_turn[name], array, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(in_turn[name], array)
    one, two = (model.rollout_buffer for model in models)
    np.testing.assert_array_equal(one.observations, two.observations)
    np.testing.assert_array_equal(one.episode_starts, two.episode_starts)
    np.testing.assert_allclose(one.advantages, two.advantages, rtol=1e-3, atol=1e-4)
    assert models[1].num_timesteps == 48


@pytest.mark.parametrize("stop_at", [1, 3, 6, 7])
def test_a_callback_that_stops_leaves_no_game_waiting(stop_at):
    model = agent(vecenv.make(GAME, 4))
    model.learn(48, Watch(stop_at))
    assert model.num_timesteps == 4 * stop_at
    model.learn(24, Watch(), reset_num_timesteps=False)
    assert model.num_timesteps == 4 * stop_at + 24


def test_an_error_in_a_callback_leaves_no_game_waiting():
    class Raise(BaseCallback):
        def _on_step(self):
            raise RuntimeError("mine")

    model = agent(vecenv.make(GAME, 4))
    with pytest.raises(RuntimeError, match="mine"):
        model.learn(24, Raise())
    model.learn(24)


@pytest.mark.parametrize("which", [0, 1])
def test_an_error_between_two_groups_leaves_no_game_waiting(monkeypatch, which):
    env = vecenv.make(GAME, 4)
    model, group, calls = agent(env), env.parts[which][0], []
    wait = group.step_wait

    def fails_once():
        result = wait()
        calls.append(None)
        if len(calls) == 3:
            raise RuntimeError("mine")
        return result

    monkeypatch.setattr(group, "step_wait", fails_once)
    with pytest.raises(RuntimeError, match="mine"):
        model.learn(24)
    model.learn(24)


def test_while_a_group_plays_the_other_is_thought_for(monkeypatch):
    """The order of things: both groups begin, then each is waited for and goes on before the other is."""
    env = vecenv.make(GAME, 4)
    order = []
    for name, (group, _) in zip("ab", env.parts, strict=True):
        for verb in ("step_async", "step_wait"):
            original, note = getattr(group, verb), f"{verb.removeprefix('step_')} {name}"

            def noted(*args, note=note, original=original):
                order.append(note)
                return original(*args)

            monkeypatch.setattr(group, verb, noted)
    model = agent(env)
    model.train = lambda: None
    model.learn(24)
    step = ["wait a", "async a", "wait b", "async b"]
    assert order == ["async a", "async b", *step * 5, "wait a", "wait b"]
