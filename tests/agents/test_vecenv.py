"""The border: Gymnasium's vector environments as SB3's, phantom transitions, and the lean step."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from agents import PPO, GymVecEnv
from agents.vecenv import lean_step, make

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


class Counter(gym.Env):
    """Observation: (index of the env, episode, step); reward 1; ends after `length` steps, cut off if `truncates`."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, index=0, length=3, truncates=False, info=None, as_dict=False):
        self.index, self.length, self.truncates, self.info = index, length, truncates, info or {}
        self.episode, self.as_dict, self.level, self.seeds = -1, as_dict, 0, []
        if as_dict:
            self.observation_space = spaces.Dict(a=Counter.observation_space, b=spaces.Discrete(100))

    def _obs(self):
        obs = np.array([self.index, self.episode, self.t], np.float32)
        return {"a": obs, "b": self.t} if self.as_dict else obs

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.options = options
        self.t, self.episode = 0, self.episode + 1
        return self._obs(), {"fresh": self.episode}

    def step(self, action):
        self.t += 1
        end = self.t == self.length
        return self._obs(), 1.0, end and not self.truncates, end and self.truncates, dict(self.info)

    def set_level(self, level):
        self.level = level
        return level


def vector(lengths, mode, **kwargs):
    return SyncVectorEnv([lambda i=i, n=n: Counter(i, n, **kwargs) for i, n in enumerate(lengths)], autoreset_mode=mode)


def agent(env, policy="MlpPolicy", **kwargs):
    return PPO(policy, env, **{"n_steps": 8, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu", **kwargs})


def steps(env, n):
    for _ in range(n):
        yield env.step(np.zeros(env.num_envs, int))


# -- GymVecEnv ------------------------------------------------------------------------------------------------------


def test_disabled_autoreset_is_refused():
    with pytest.raises(ValueError, match="SAME_STEP or NEXT_STEP"):
        GymVecEnv(vector([3], DISABLED))
    with pytest.raises(ValueError, match="SAME_STEP or NEXT_STEP"):
        agent(vector([3], DISABLED))


@pytest.mark.parametrize("truncates", [False, True])
def test_same_step_is_what_a_dummy_vec_env_gives(truncates):
    lengths = [2, 3, 5]
    env = GymVecEnv(vector(lengths, SAME, truncates=truncates))
    dummy = DummyVecEnv([lambda i=i, n=n: Monitor(Counter(i, n, truncates)) for i, n in enumerate(lengths)])
    np.testing.assert_array_equal(env.reset(), dummy.reset())
    for ours, theirs in zip(steps(env, 20), steps(dummy, 20), strict=True):
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for a, b in zip(ours[3], theirs[3], strict=True):
            assert a["TimeLimit.truncated"] == b["TimeLimit.truncated"]
            assert ("terminal_observation" in a) == ("terminal_observation" in b)
            assert ("episode" in a) == ("episode" in b)
            if "episode" in b:
                np.testing.assert_array_equal(a["terminal_observation"], b["terminal_observation"])
                assert {k: a["episode"][k] for k in "rl"} == {k: b["episode"][k] for k in "rl"}
    assert not env.phantom.any()


def test_next_step_marks_the_steps_that_only_reset():
    env = GymVecEnv(vector([2, 3], NEXT))
    env.reset()
    seen = [
        (env.phantom.tolist(), dones.tolist(), [info.get("episode", {}).get("l") for info in infos])
        for _, _, dones, infos in steps(env, 7)
    ]
    assert [phantom for phantom, _, _ in seen] == [
        [False, False], [False, False], [True, False], [False, True], [False, False], [True, False], [False, False]
    ]  # fmt: skip
    assert [dones for _, dones, _ in seen] == [
        [False, False], [True, False], [False, True], [False, False], [True, False], [False, False], [False, True]
    ]  # fmt: skip
    assert [lengths for _, _, lengths in seen if lengths != [None, None]] == [
        [2, None],
        [None, 3],
        [2, None],
        [None, 3],
    ]


@pytest.mark.parametrize("mode", [SAME, NEXT])
@pytest.mark.parametrize("as_dict", [False, True])
def test_the_final_observation_is_the_last_of_the_episode(mode, as_dict):
    env = GymVecEnv(vector([2, 3], mode, as_dict=as_dict, truncates=True))
    env.reset()
    finals = [
        info["terminal_observation"] for *_, infos in steps(env, 9) for info in infos if "terminal_observation" in info
    ]
    assert len(finals) > 4
    for final in finals:
        index, _, t = final["a"] if as_dict else final
        assert t == [2, 3][int(index)]
        if as_dict:
            assert final.keys() == {"a", "b"}
            assert final["b"] == t


@pytest.mark.parametrize("mode", [SAME, NEXT])
@pytest.mark.parametrize(
    "info", [{"x": 1.5}, {"x": np.arange(3)}, {"x": "text"}, {"x": {"y": 2}}, {"x": {"y": {"z": 3}}}, {"x": True}]
)
def test_infos_reach_each_environment_whole(mode, info):
    env = GymVecEnv(vector([2, 4], mode, info=info))
    env.reset()
    for *_, infos in steps(env, 6):
        for i, got in enumerate(infos):
            if not env.phantom[i]:
                np.testing.assert_equal(got["x"], info["x"])


def test_the_info_of_a_reset_is_not_the_info_of_the_step_before():
    env = GymVecEnv(vector([2], SAME))
    env.reset()
    assert env.reset_infos == [{"fresh": 0}]
    assert [("fresh" in infos[0]) for *_, infos in steps(env, 4)] == [False] * 4
    assert env.reset_infos == [{"fresh": 2}]


@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_seeds_and_options_reach_the_environments_once(mode):
    env = GymVecEnv(vector([3, 3], mode))
    env.seed(5)
    env.set_options({"how": 1})
    env.reset()
    env.reset()
    inner = env.envs.envs
    assert [one.seeds[:2] for one in inner] == [[5, None], [6, None]]
    assert [one.options for one in inner] == [None, None]


def test_the_same_seed_gives_the_same_episodes():
    def play(seed):
        env = make("sandbox/CartPole-v1", 3)
        env.seed(seed)
        return [env.reset(), *(step[0] for step in steps(env, 30))]

    np.testing.assert_array_equal(play(1), play(1))
    assert not np.array_equal(play(1), play(2))


def test_attributes_and_methods_of_chosen_environments():
    env = GymVecEnv(vector([3, 4, 5], SAME))
    env.reset()
    assert env.get_attr("length") == [3, 4, 5]
    assert env.get_attr("length", [2, 0]) == [5, 3]
    assert env.get_attr("length", 1) == [4]
    env.set_attr("length", 9, indices=[1])
    assert env.get_attr("length") == [3, 9, 5]
    assert env.env_method("set_level", 7, indices=[0, 2]) == [7, 7]
    assert env.get_attr("level") == [7, 0, 7]
    assert env.env_method("set_level", level=1) == [1, 1, 1]
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]


def test_attributes_of_an_environment_that_steps_as_one():
    env = make("sandbox/CartPole-v1", 3)
    assert env.get_attr("num_envs", [0, 1]) == [3, 3]
    env.set_attr("mark", 1)
    assert env.get_attr("mark") == [1, 1, 1]
    with pytest.raises((ValueError, AttributeError), match="all of them"):
        env.set_attr("mark", 2, indices=[0])
    with pytest.raises((ValueError, AttributeError), match="jump"):
        env.env_method("jump")


@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_evaluate_policy_counts_each_episode_right_and_does_not_warn(mode, recwarn):
    env = GymVecEnv(vector([2, 5], mode))
    rewards, lengths = evaluate_policy(agent(env), env, n_eval_episodes=6, return_episode_rewards=True)
    assert sorted(lengths) == [2, 2, 2, 5, 5, 5]
    assert rewards == lengths
    assert not [warning for warning in recwarn if "Monitor" in str(warning.message)]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("path", [{}, {"activation_fn": torch.nn.ELU}], ids=["by hand", "autograd"])
def test_the_buffer_has_the_observation_acted_on(copy, path):
    env = SyncVectorEnv([lambda i=i: Counter(i, 5) for i in range(2)], copy=copy, autoreset_mode=SAME)
    model = agent(env, policy_kwargs=path)
    model.learn(16)
    assert model.rollout_buffer.observations[:, 1, 2].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_observations_of_one_step_do_not_change_in_the_next():
    for env in (GymVecEnv(vector([3, 3], SAME)), make("sandbox/CartPole-v1", 2)):
        live = [env.reset(), *(step[0] for step in steps(env, 1))]
        kept = [obs.tolist() for obs in live]
        list(steps(env, 5))
        assert [obs.tolist() for obs in live] == kept


@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_dictionaries_are_learned_from(mode):
    model = agent(vector([2, 3], mode, as_dict=True), "MultiInputPolicy")
    model.learn(64)
    assert model.fast_path.kind == "by hand"
    assert {episode["l"] for episode in model.ep_info_buffer} == {2, 3}


def test_a_vector_env_may_be_given_later():
    model = agent(vector([2, 3], SAME))
    model.set_env(vector([4, 4], SAME))
    model.learn(16)
    assert {episode["l"] for episode in model.ep_info_buffer} == {4}


# -- phantom transitions ----------------------------------------------------------------------------------------------


def updates_of(model, monkeypatch, n_steps):
    """The samples that reached each update."""
    seen, inner = [], PPO._update

    def spied(self, network):
        from contextlib import contextmanager

        @contextmanager
        def around():
            with inner(self, network) as samples:
                seen.append(samples)
                yield samples

        return around()

    monkeypatch.setattr(PPO, "_update", spied)
    model.learn(n_steps)
    return seen


@pytest.mark.parametrize("path", [{}, {"activation_fn": torch.nn.ELU}], ids=["by hand", "autograd"])
@pytest.mark.parametrize(
    "wrap", [lambda env: env, GymVecEnv, lambda env: VecNormalize(GymVecEnv(env), norm_obs=False, norm_reward=False)]
)
def test_no_phantom_reaches_the_update_and_everything_else_does(monkeypatch, path, wrap):
    model = agent(wrap(vector([2, 3], NEXT)), policy_kwargs=path)
    seen = updates_of(model, monkeypatch, 60)
    got = np.concatenate([np.asarray(samples.obs)[:, :3] for samples in seen])
    # A phantom acts on the final observation of an episode: step 2 of env 0, step 3 of env 1.
    lengths = np.array([2, 3])[got[:, 0].astype(int)]
    assert (got[:, 2] < lengths).all()
    assert len(got) == model.num_timesteps
    for index, length in ((0, 2), (1, 3)):
        mine = got[got[:, 0] == index][:, 1:]
        want = [(e, t) for e in range(len(mine)) for t in range(length)][: len(mine)]
        assert sorted(map(tuple, mine)) == want


def test_num_timesteps_and_episodes_count_real_steps_alone():
    model = agent(vector([1, 3], NEXT))
    model.learn(12)
    # 8 steps: env 0 acts in 4 of them, env 1 in 6 of them; the first rollout brings 10, the second 10 more.
    assert model.num_timesteps == 20
    assert {episode["l"] for episode in model.ep_info_buffer} == {1, 3}
    assert {(episode["l"], episode["r"]) for episode in model.ep_info_buffer} == {(1, 1.0), (3, 3.0)}


def test_what_it_learns_from_is_the_same_in_both_modes(monkeypatch):
    found = []
    for mode in (SAME, NEXT):
        with monkeypatch.context() as patch:
            model = agent(
                vector([3], mode, truncates=True), n_steps=12 if mode is SAME else 16, batch_size=64, gae_lambda=0.7
            )
            found.append(updates_of(model, patch, 12)[0])
    same, following = found
    np.testing.assert_array_equal(same.obs[:, 2], following.obs[:, 2])
    np.testing.assert_allclose(same.values, following.values, atol=1e-6)
    np.testing.assert_allclose(same.advantages[:9], following.advantages[:9], atol=1e-5)
    np.testing.assert_allclose(same.returns[:9], following.returns[:9], atol=1e-5)


def test_a_rollout_of_phantoms_alone_is_no_error():
    model = agent(vector([1, 1], NEXT), n_steps=1, batch_size=2)
    model.learn(8)
    assert model.num_timesteps == 8


class OwnPolicy(ActorCriticPolicy):
    def forward(self, obs, deterministic=False):
        return super().forward(obs, deterministic)


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: VecNormalize(GymVecEnv(env))], ids=["plain", "wrapped"])
def test_the_inherited_loop_refuses_next_step_clearly(wrap):
    with pytest.raises(ValueError, match="SAME_STEP"):
        agent(wrap(vector([2, 3], NEXT)), OwnPolicy).learn(16)
    agent(wrap(vector([2, 3], SAME)), OwnPolicy).learn(16)


def test_an_own_train_refuses_next_step_clearly():
    import stable_baselines3 as sb3

    class Own(PPO):
        def train(self):
            sb3.PPO.train(self)

    with pytest.raises(ValueError, match="SAME_STEP"):
        Own("MlpPolicy", vector([2, 3], NEXT), n_steps=8, batch_size=16).learn(16)


def test_a_stack_of_frames_over_next_step_is_refused_clearly():
    # The frame of an episode's end would be the first of the next one's stack.
    with pytest.raises(ValueError, match="SAME_STEP"):
        agent(VecFrameStack(GymVecEnv(vector([2], NEXT)), 2)).learn(16)
    agent(VecFrameStack(GymVecEnv(vector([2], SAME)), 2)).learn(16)


# -- lean_step --------------------------------------------------------------------------------------------------------


def dummies(n=3):
    return [
        DummyVecEnv([lambda i=i: Monitor(Counter(i, 2 + i, truncates=i == 1, info={"x": {"y": i}})) for i in range(n)])
        for _ in range(2)
    ]


def test_lean_step_is_the_step_of_a_dummy_vec_env():
    ours, theirs = dummies()
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    step = lean_step(ours)
    assert step != ours.step
    for _ in range(15):
        mine, want = step(np.zeros(3, int)), theirs.step(np.zeros(3, int))
        for a, b in zip(mine[:3], want[:3], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for a, b in zip(mine[3], want[3], strict=True):
            assert a.keys() == b.keys()
            for key in a.keys() - {"episode"}:
                np.testing.assert_equal(a[key], b[key])
            if "episode" in a:
                assert {k: a["episode"][k] for k in "rl"} == {k: b["episode"][k] for k in "rl"}
        assert ours.reset_infos == theirs.reset_infos
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    np.testing.assert_array_equal(step(np.zeros(3, int))[0], theirs.step(np.zeros(3, int))[0])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "sandbox/Catch-v0"])
def test_lean_step_on_real_environments(env_id):
    name = f"envs:{env_id}" if "/" in env_id else env_id
    ours, theirs = (DummyVecEnv([lambda: Monitor(gym.make(name))] * 2) for _ in range(2))
    for env in (ours, theirs):
        env.seed(3)
        env.action_space.seed(3)
        env.reset()
    step, ends = lean_step(ours), 0
    for _ in range(250):
        actions = np.stack([ours.action_space.sample() for _ in range(2)])
        mine, want = step(actions), theirs.step(actions)
        for a, b in zip(mine[:3], want[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(mine[3], want[3], strict=True):
            assert a["TimeLimit.truncated"] == b["TimeLimit.truncated"]
            if "terminal_observation" in b:
                np.testing.assert_array_equal(a["terminal_observation"], b["terminal_observation"])
                ends += 1
    assert ends > 1


def test_lean_step_shares_no_memory_between_steps_or_with_the_environment():
    class Reuses(Counter):
        """Gives the same array and the same info again and again."""

        def __init__(self):
            super().__init__(0, 3)
            self.memory, self.shared = np.zeros(3, np.float32), {}

        def _obs(self):
            self.memory[:] = super()._obs()
            return self.memory

        def step(self, action):
            *rest, _ = super().step(action)
            self.shared["t"] = self.t
            return *rest, self.shared

    env = DummyVecEnv([Reuses])
    env.reset()
    step = lean_step(env)
    live = [step(np.zeros(1, int)) for _ in range(2)]
    kept = [(obs.tolist(), rewards.tolist(), dones.tolist(), infos[0]["t"]) for obs, rewards, dones, infos in live]
    for _ in range(5):
        step(np.zeros(1, int))
    assert [
        (obs.tolist(), rewards.tolist(), dones.tolist(), infos[0]["t"]) for obs, rewards, dones, infos in live
    ] == kept
    assert kept == [([[0, 0, 1]], [1], [False], 1), ([[0, 0, 2]], [1], [False], 2)]


def test_lean_step_leaves_other_environments_their_own_step():
    class Own(DummyVecEnv):
        pass

    for env in (
        Own([lambda: gym.make("CartPole-v1")]),
        VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")])),
        GymVecEnv(vector([3], SAME)),
        DummyVecEnv([lambda: Counter(as_dict=True)]),
    ):
        assert lean_step(env) == env.step


def test_lean_step_honours_a_step_patched_on_the_environment():
    env, calls = DummyVecEnv([Counter]), []
    original = env.step_wait

    def patched():
        calls.append(0)
        return original()

    env.step_wait = patched
    agent(env).learn(8)
    assert len(calls) == 8


def test_make_knows_our_ids_and_gymnasiums():
    assert isinstance(make("sandbox/CartPole-v1", 2), GymVecEnv)
    assert isinstance(make("CartPole-v1", 2), DummyVecEnv)
    assert make("sandbox/CartPole-v1", 2, max_episode_steps=7).envs._limit == 7
    with pytest.raises(gym.error.Error):
        make("sandbox/NoSuch-v0")
