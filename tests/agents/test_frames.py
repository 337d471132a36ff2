"""Frames stored once: by hand, then against Stable-Baselines3's buffers fed the same steps."""

import pickle
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import agents.frames as frames_module
from agents.frames import FrameReplay, NotEnoughMemory, check_room

K, H, W = 4, 5, 6
PICTURES = spaces.Box(0, 255, (K, H, W), np.uint8)
ACTIONS = spaces.Discrete(3)
STYLES = ("zeros", "repeated", "continuing", "no stack", "two colours", "still")


class Film:
    """One environment that shows stacks of pictures, its episodes of 1 to 9 steps, half of them cut off at the end."""

    def __init__(self, style, seed, shape=(K, H, W), c=1):
        self.rng, self.style, self.shape, self.c = np.random.default_rng(seed), style, shape, c
        self.obs = np.zeros(shape, np.uint8)
        self.reset()

    def frame(self):
        if self.style == "still":
            return np.full((self.c, *self.shape[1:]), 7, np.uint8)
        if self.style == "two colours":  # so that stacks go on from one another by chance
            return np.full((self.c, *self.shape[1:]), self.rng.integers(2), np.uint8)
        return self.rng.integers(0, 256, (self.c, *self.shape[1:]), np.uint8)

    def onto(self, stack):
        if self.style == "no stack":
            return self.rng.integers(0, 256, self.shape, np.uint8)
        return np.concatenate([stack[self.c :], self.frame()])

    def reset(self):
        self.left = self.rng.integers(1, 10)
        if self.style == "repeated":
            self.obs = np.tile(self.frame(), (self.shape[0] // self.c, 1, 1))
        elif self.style == "continuing":
            self.obs = self.onto(self.obs)
        else:
            self.obs = self.onto(np.zeros(self.shape, np.uint8))

    def step(self):
        obs, next_obs = self.obs, self.onto(self.obs)
        self.obs, self.left = next_obs, self.left - 1
        done = self.left == 0
        if done:
            self.reset()
        cut = bool(done and self.rng.random() < 0.5)
        return obs, next_obs, self.rng.integers(3), self.rng.normal(), done, {"TimeLimit.truncated": cut}


def feed(films, n, *buffers):
    """`n` steps of these films into each of the buffers; the steps, in the order they were added."""
    steps = []
    for _ in range(n):
        *arrays, infos = zip(*(film.step() for film in films), strict=True)
        step = [np.array(array) for array in arrays]
        for buffer in buffers:
            buffer.add(*(array.copy() for array in step), list(infos))
        steps.append(step)
    return steps


def every_transition(replay):
    """Rows and environments of all that there is to sample, oldest first."""
    rows = np.arange(replay.first, replay.added) % replay.buffer_size
    return np.repeat(rows, replay.n_envs), np.tile(np.arange(replay.n_envs), len(rows))


def at(buffer, rows, envs):
    """Stable-Baselines3's samples at these places, by its own arithmetic."""
    randint = np.random.randint
    try:
        np.random.randint = lambda *args, **kwargs: envs
        return buffer._get_samples(rows)
    finally:
        np.random.randint = randint


def seed_draws(seed):
    np.random.seed(seed)  # noqa: NPY002


def assert_same_samples(ours, theirs):
    for name, a, b in zip(ours._fields, ours, theirs, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name


def pair(size=60, n_envs=1, n_steps=1, **kwargs):
    ours = FrameReplay(size, PICTURES, ACTIONS, n_envs=n_envs, n_steps=n_steps, gamma=0.9, device="cpu", **kwargs)
    if n_steps == 1:
        return ours, ReplayBuffer(size, PICTURES, ACTIONS, n_envs=n_envs, device="cpu")
    return ours, NStepReplayBuffer(size, PICTURES, ACTIONS, n_envs=n_envs, device="cpu", n_steps=n_steps, gamma=0.9)


def picture(*values):
    return np.array(values, np.uint8)[None, :, None, None].repeat(H, 2).repeat(W, 3)  # [1, K, H, W]


def add(replay, obs, next_obs, reward=0.0, done=False, truncated=False, action=0):
    infos = [{"TimeLimit.truncated": truncated}]
    replay.add(picture(*obs), picture(*next_obs), np.array([action]), np.array([reward]), np.array([done]), infos)


# --- by hand ---


def test_a_step_writes_one_frame_and_a_start_only_what_is_new():
    replay = FrameReplay(50, PICTURES, ACTIONS)
    written = [int(replay.written[0])]

    def frames_of(*args, **kwargs):
        add(replay, *args, **kwargs)
        written.append(int(replay.written[0]))
        return written[-1] - written[-2]

    assert frames_of((0, 0, 0, 1), (0, 0, 1, 2)) == 2  # padded with zeros: the ring begins with some
    assert frames_of((0, 0, 1, 2), (0, 1, 2, 3)) == 1
    assert frames_of((0, 1, 2, 3), (1, 2, 3, 4), done=True) == 1
    assert frames_of((5, 5, 5, 5), (5, 5, 5, 6)) == 5  # the first frame repeated: nothing to go on from
    assert frames_of((5, 5, 5, 6), (5, 5, 6, 7), done=True) == 1
    assert frames_of((5, 6, 7, 8), (6, 7, 8, 9), done=True) == 2  # a life was lost, the stack goes on
    assert frames_of((8, 9, 10, 11), (10, 11, 12, 13)) == 4  # two new ones at a time
    assert frames_of((0, 0, 0, 1), (2, 3, 4, 5)) == 8  # no stacks at all
    batch = replay.transitions(np.arange(8), np.zeros(8, int))
    assert batch.obs[:, :, 0, 0].tolist()[3:6] == [[5, 5, 5, 5], [5, 5, 5, 6], [5, 6, 7, 8]]
    assert batch.next_obs[:, :, 0, 0].tolist()[2:5] == [[1, 2, 3, 4], [5, 5, 5, 6], [5, 5, 6, 7]]


def test_n_steps_end_with_the_episode_and_with_the_newest_row():
    replay = FrameReplay(50, PICTURES, ACTIONS, n_steps=3, gamma=0.5)
    film = [(i, i + 1, i + 2, i + 3) for i in range(8)]
    ends = {2: {"done": True}, 4: {"done": True, "truncated": True}}
    for i in range(7):
        add(replay, film[i], film[i + 1], reward=2.0**i, action=i % 3, **ends.get(i, {}))
    batch = replay.transitions(np.arange(7), np.zeros(7, int))
    # row 0: 1 + 1 + 1, terminated; 1: 2 + 2; 2: 4; 3: 8 + 8, cut off in row 4; 4: 16; 5: 32 + 32, no further yet; 6: 64
    assert batch.rewards.tolist() == [3, 4, 4, 16, 16, 64, 64]
    assert batch.steps.tolist() == [3, 2, 1, 2, 1, 2, 1]
    assert batch.terminated.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert batch.discounts.tolist() == [0, 0, 0, 0.25, 0.5, 0.25, 0.5]
    assert batch.next_obs[:, 0, 0, 0].tolist() == [3, 3, 3, 5, 5, 7, 7]
    assert batch.obs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert batch.actions[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_numbers_and_rows():
    replay = FrameReplay(10, PICTURES, ACTIONS, n_envs=2)
    assert isinstance(replay, ReplayBuffer)
    assert replay.buffer_size == 5
    assert replay.frames.shape == (5 + 0 + 16 * K, 2, 1, H, W)
    feed([Film("zeros", 0), Film("zeros", 1)], 7, replay)
    assert (replay.pos, replay.full, replay.size(), replay.added, replay.first) == (2, True, 5, 7, 2)
    assert replay.actions.shape == (5, 2, 1)
    assert replay.rewards.shape == replay.dones.shape == replay.timeouts.shape == (5, 2)
    assert not hasattr(replay, "observations")
    assert not hasattr(replay, "next_observations")


def test_an_empty_replay_gives_nothing():
    replay = FrameReplay(10, PICTURES, ACTIONS)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(4)
    with pytest.raises(ValueError, match="empty"):
        replay.draw(4)


# --- parity ---


@pytest.mark.parametrize("n_steps", [1, 3, 7])
@pytest.mark.parametrize("style", STYLES)
def test_transitions_are_those_of_stable_baselines3(style, n_steps):
    """Not yet full, just full, and after several rounds."""
    ours, theirs = pair(20, n_steps=n_steps)
    film = Film(style, 0)
    for n in (1, 12, 7, 1, 13, 57):
        feed([film], n, ours, theirs)
        rows, envs = every_transition(ours)
        batch, expected = ours.transitions(rows, envs), at(theirs, rows, envs)
        np.testing.assert_array_equal(batch.obs, expected.observations)
        np.testing.assert_array_equal(batch.next_obs, expected.next_observations)
        np.testing.assert_array_equal(batch.actions, expected.actions)
        np.testing.assert_array_equal(batch.rewards, expected.rewards[:, 0])
        np.testing.assert_array_equal(batch.terminated, expected.dones[:, 0])
        discounts = 0.9 if n_steps == 1 else expected.discounts
        np.testing.assert_allclose(batch.discounts, (discounts * (1 - expected.dones))[:, 0], rtol=1e-6)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("steps", [9, 20, 47])
def test_the_same_seed_gives_the_same_samples(steps, n_steps):
    ours, theirs = pair(60, n_envs=3, n_steps=n_steps)
    films = [Film("repeated", 0), Film("continuing", 1), Film("zeros", 2)]
    feed(films, steps, ours, theirs)
    assert ours.size() == theirs.size()
    for seed in range(3):
        seed_draws(seed)
        expected = theirs.sample(32)
        seed_draws(seed)
        assert_same_samples(ours.sample(32), expected)
        seed_draws(seed)
        rows, envs = ours.draw(32)
        np.testing.assert_array_equal(ours.transitions(rows, envs).obs, expected.observations)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_environments_that_end_at_different_times(n_steps):
    ours, theirs = pair(200, n_envs=5, n_steps=n_steps)
    films = [Film(style, i) for i, style in enumerate(STYLES[:3] + STYLES[4:])]
    for _ in range(20):
        feed(films, 7, ours, theirs)
        rows, envs = every_transition(ours)
        batch, expected = ours.transitions(rows, envs), at(theirs, rows, envs)
        np.testing.assert_array_equal(batch.obs, expected.observations)
        np.testing.assert_array_equal(batch.next_obs, expected.next_observations)
        np.testing.assert_array_equal(batch.rewards, expected.rewards[:, 0])


def test_a_cut_that_is_marked_without_an_end_stops_the_steps():
    ours, theirs = pair(40, n_steps=3)
    feed([Film("zeros", 3)], 30, ours, theirs)
    ours.timeouts[::4] = theirs.timeouts[::4] = 1
    rows, envs = every_transition(ours)
    assert_same_samples(at(ours, rows, envs), at(theirs, rows, envs))


def test_truncations_count_as_ends_where_they_are_not_handled():
    ours = FrameReplay(40, PICTURES, ACTIONS, handle_timeout_termination=False, device="cpu")
    theirs = ReplayBuffer(40, PICTURES, ACTIONS, handle_timeout_termination=False, device="cpu")
    feed([Film("zeros", 3)], 40, ours, theirs)
    rows, envs = every_transition(ours)
    assert_same_samples(at(ours, rows, envs), at(theirs, rows, envs))
    assert ours.timeouts.sum() == 0
    assert ours.dones.sum() > 3


@pytest.mark.parametrize("norm_obs", [True, False])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_normalised_like_stable_baselines3(n_steps, norm_obs):
    env = VecNormalize(DummyVecEnv([Screen]), gamma=0.9, norm_obs=norm_obs)
    env.reset()
    for _ in range(20):
        env.step(np.array([0]))
    ours, theirs = (
        kind(50, Screen.observation_space, ACTIONS, device="cpu", **kwargs)
        for kind, kwargs in (
            (FrameReplay, {"n_steps": n_steps, "gamma": 0.9}),
            (NStepReplayBuffer, {"n_steps": n_steps, "gamma": 0.9}) if n_steps > 1 else (ReplayBuffer, {}),
        )
    )
    feed([Film("zeros", 0, (4, 8, 8))], 30, ours, theirs)
    seed_draws(0)
    expected = theirs.sample(16, env)
    seed_draws(0)
    assert_same_samples(ours.sample(16, env), expected)


def test_colours_and_no_stack():
    for shape, c in (((6, H, W), 3), ((3, H, W), 3), ((1, H, W), 1)):
        space = spaces.Box(0, 255, shape, np.uint8)
        ours = FrameReplay(30, space, ACTIONS, frame_channels=c, device="cpu")
        theirs = ReplayBuffer(30, space, ACTIONS, device="cpu")
        feed([Film("repeated", 1, shape, c)], 70, ours, theirs)
        rows, envs = every_transition(ours)
        assert len(rows) == 30
        assert_same_samples(at(ours, rows, envs), at(theirs, rows, envs))


class Screen(gym.Env):
    """Four small pictures, the newest last; episodes end or are cut off."""

    observation_space, action_space = spaces.Box(0, 255, (4, 8, 8), np.uint8), ACTIONS

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.film, self.t = Film("repeated", self.np_random.integers(1000), (4, 8, 8)), 0
        return self.film.obs, {}

    def step(self, action):
        self.film.obs, self.t = self.film.onto(self.film.obs), self.t + 1
        return self.film.obs, float(action), self.t % 7 == 0, self.t >= 5 and action == 2, {}


@pytest.mark.parametrize("n_steps", [1, 3])
def test_an_agent_of_stable_baselines3_learns_the_same(n_steps):
    learned = []
    for kind in (FrameReplay, ReplayBuffer if n_steps == 1 else NStepReplayBuffer):
        kwargs = {} if n_steps == 1 else {"n_steps": n_steps, "gamma": 0.99}
        agent = DQN(
            "MlpPolicy",
            Screen(),
            buffer_size=50,
            learning_starts=20,
            train_freq=4,
            batch_size=8,
            policy_kwargs={"net_arch": [8]},
            replay_buffer_class=kind,
            replay_buffer_kwargs=kwargs,
            seed=3,
            device="cpu",
        ).learn(100)
        assert type(agent.replay_buffer) is kind
        learned.append(agent.policy.state_dict())
    for name, weights in learned[0].items():
        assert torch.equal(weights, learned[1][name]), name


# --- exactness ---


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_is_still_there_is_as_it_was(data):
    """Pictures of two colours and two pixels, in any order: stacks, half stacks and none."""
    n_envs, k, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    rows = data.draw(st.integers(1, 30))
    space = spaces.Box(0, 255, (k * c, 1, 2), np.uint8)
    if k * c > 2:
        space = spaces.Box(0, 255, (k * c, 1, k * c), np.uint8)
    replay = FrameReplay(rows * n_envs, space, ACTIONS, n_envs=n_envs, frame_channels=c)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    same, shifted = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))

    def after(stack, chance):
        new = rng.integers(0, 2, (n_envs, *space.shape), np.uint8)
        on = np.concatenate([stack[:, c:], new[:, -c:]], axis=1)
        return np.where((rng.random(n_envs) < chance)[:, None, None, None], on, new)

    latest, steps = np.zeros((n_envs, *space.shape), np.uint8), []
    for _ in range(data.draw(st.integers(1, 120))):
        obs = latest if rng.random() < same else after(latest, shifted)
        latest = after(obs, shifted)
        steps.append((obs, latest))
        replay.add(obs, latest, np.zeros(n_envs), np.zeros(n_envs), np.zeros(n_envs), [{}] * n_envs)
        assert 1 <= replay.size() <= rows
    at_rows, envs = every_transition(replay)
    batch = replay.transitions(at_rows, envs)
    kept = steps[replay.first :]
    np.testing.assert_array_equal(batch.obs, np.concatenate([obs for obs, _ in kept]))
    np.testing.assert_array_equal(batch.next_obs, np.concatenate([next_obs for _, next_obs in kept]))


@pytest.mark.parametrize("n_steps", [1, 5])
def test_rows_go_when_their_frames_are_gone(n_steps):
    """Pictures that are no stacks take four frames a step, and a start four more, where there is room for one."""
    ours, theirs = pair(200, n_envs=2, n_steps=n_steps)
    films = [Film("no stack", 0), Film("zeros", 1)]
    feed(films, 300, ours, theirs)
    F = len(ours.frames)
    assert ours.full
    assert F // 8 <= ours.size() <= F // 4 < 100
    rows, envs = every_transition(ours)
    batch, expected = ours.transitions(rows, envs), at(theirs, rows, envs)
    np.testing.assert_array_equal(batch.obs, expected.observations)
    np.testing.assert_array_equal(batch.next_obs, expected.next_observations)
    np.testing.assert_array_equal(batch.rewards, expected.rewards[:, 0])
    drawn, whose = ours.draw(2000)
    assert set(drawn.tolist()) == set(rows.tolist())
    assert set(whose.tolist()) == {0, 1}
    feed([Film("continuing", 2), Film("continuing", 3)], 300, ours)  # films again, and there is room again
    assert ours.size() > F // 4


def test_a_row_goes_with_its_first_frame_and_not_before():
    replay, film = FrameReplay(100, PICTURES, ACTIONS), Film("repeated", 0)
    newest, tight = [], 0
    for t in range(300):
        film.left = min(film.left, 1 + t % 3)  # four frames for each start: there is not enough room
        feed([film], 1, replay)
        newest.append(int(replay.obs_numbers[t % 100, 0]))
        oldest_frame = replay.written[0] - len(replay.frames)
        there = [i for i in range(max(0, t - 99), t + 1) if newest[i] - (K - 1) >= oldest_frame]
        assert replay.first == there[0]
        assert replay.size() == len(there)
        tight += newest[replay.first] - (K - 1) == oldest_frame
    assert tight > 20


def test_four_in_a_hundred_more_frames_than_rows_are_enough_for_long_episodes():
    replay = FrameReplay(2000, PICTURES, ACTIONS)
    film = Film("repeated", 0)
    for t in range(2400):
        if t % 100 == 0:
            film.reset()
            film.left = 101
        obs, next_obs, *_ = film.step()
        one = np.zeros(1)
        replay.add(obs[None], next_obs[None], one, one, one, [{}])
    assert replay.size() == 2000


def test_what_is_added_may_be_changed_afterwards():
    replay = FrameReplay(10, PICTURES, ACTIONS)
    obs, next_obs, zero = picture(1, 2, 3, 4), picture(2, 3, 4, 5), np.zeros(1)
    replay.add(obs, next_obs, zero, zero, zero, [{}])
    obs[:], next_obs[:] = 77, 88
    replay.add(next_obs, next_obs, zero, zero, zero, [{}])  # not what was added, though it is the same array
    replay.add(picture(2, 3, 4, 5), picture(3, 4, 5, 6), zero, zero, zero, [{}])
    batch = replay.transitions(np.arange(3), np.zeros(3, int))
    assert batch.obs[:, :, 0, 0].tolist() == [[1, 2, 3, 4], [88] * 4, [2, 3, 4, 5]]
    batch.obs[:] = 0
    assert replay.transitions(np.array([0]), np.array([0])).obs[0, :, 0, 0].tolist() == [1, 2, 3, 4]


def test_an_interrupted_add_spoils_nothing():
    """The first environment's frame is written, the second's not: what is known of the first is out of date then."""
    replay, films = FrameReplay(60, PICTURES, ACTIONS, n_envs=2), [Film("repeated", 0), Film("still", 1)]
    for film in films:
        film.left = 100
    steps = feed(films, 5, replay)

    class Interrupted:
        """Rings that are written to once, and then the user has had enough."""

        shape, dtype = replay.frames.shape, replay.frames.dtype

        def __len__(self):
            return len(frames)

        def __setitem__(self, place, value):
            if place[1] == 1:
                raise KeyboardInterrupt
            frames[place] = value

    frames, replay.frames = replay.frames, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        feed(films, 1, replay)
    replay.frames = frames
    steps += feed(films, 5, replay)
    batch = replay.transitions(*every_transition(replay))
    np.testing.assert_array_equal(batch.obs, np.concatenate([step[0] for step in steps]))
    np.testing.assert_array_equal(batch.next_obs, np.concatenate([step[1] for step in steps]))


def test_reset_forgets_everything():
    ours, theirs = pair(20)
    feed([Film("zeros", 0)], 33, ours, theirs)
    ours.reset(), theirs.reset()
    assert (ours.size(), ours.pos, ours.full) == (0, 0, False)
    feed([Film("repeated", 1)], 5, ours, theirs)
    rows, envs = every_transition(ours)
    assert_same_samples(at(ours, rows, envs), at(theirs, rows, envs))


# --- refusals ---


@pytest.mark.parametrize(
    ("space", "kwargs", "message"),
    [
        (spaces.Box(0, 1, (4, 8, 8), np.float32), {}, "uint8 boxes"),
        (spaces.Box(0, 255, (64,), np.uint8), {}, "uint8 boxes"),
        (spaces.Dict({"a": PICTURES}), {}, "uint8 boxes"),
        (spaces.Box(0, 255, (84, 84, 4), np.uint8), {}, "channels last: wrap the env in VecTransposeImage"),
        (PICTURES, {"frame_channels": 3}, "4 channels are no whole number of frames of frame_channels=3"),
        (PICTURES, {"n_steps": 0}, "at least one step"),
    ],
)
def test_what_is_no_stack_of_pictures_is_refused(space, kwargs, message):
    with pytest.raises(ValueError, match=message):
        FrameReplay(10, space, ACTIONS, **kwargs)


def test_observations_of_another_shape_are_refused():
    replay, zero = FrameReplay(10, PICTURES, ACTIONS), np.zeros(1)
    turned = np.zeros((1, H, W, K), np.uint8)
    with pytest.raises(ValueError, match=r"shape \(1, 5, 6, 4\), not \(1, 4, 5, 6\)"):
        replay.add(turned, turned, zero, zero, zero, [{}])


def test_the_bytes_are_known_beforehand():
    for n_envs, action_space in ((1, ACTIONS), (3, spaces.Box(-1, 1, (2,), np.float64))):
        replay = FrameReplay(1000, PICTURES, action_space, n_envs=n_envs)
        taken = sum(value.nbytes for value in vars(replay).values() if isinstance(value, np.ndarray))
        assert FrameReplay.predicted_bytes(1000, PICTURES, action_space, n_envs) == taken
        in_file = FrameReplay.predicted_bytes(1000, PICTURES, action_space, n_envs, path="frames.npy")
        assert in_file == taken - replay.frames.nbytes


@pytest.mark.parametrize("n_envs", [1, 8, 64])
def test_a_million_of_ataris_transitions_take_less_than_7_5_gb(n_envs):
    pictures = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert 7e9 < FrameReplay.predicted_bytes(1_000_000, pictures, spaces.Discrete(18), n_envs) < 7.5e9


def test_what_would_not_fit_is_refused_before_it_is_begun(monkeypatch):
    monkeypatch.setattr(frames_module, "free_memory", lambda: 3_000_000_000)
    check_room(3_000_000_000, "a replay")
    with pytest.raises(NotEnoughMemory, match=r"a replay would take 3.2 GB, and 3.0 GB .*buffer_size=.*replay_path="):
        check_room(3_200_000_000, "a replay")
    pictures = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(MemoryError, match=r"1,000,000 transitions would take 7.4 GB"):
        FrameReplay(1_000_000, pictures, ACTIONS)
    monkeypatch.setattr(frames_module, "free_memory", lambda: None)
    check_room(10**18, "anything")


# --- files and pickles ---


def test_frames_in_a_file(tmp_path):
    path = tmp_path / "new" / "folder" / "frames.npy"
    ours, theirs = pair(60, n_envs=2, n_steps=3, path=path)
    feed([Film("zeros", 0), Film("repeated", 1)], 70, ours, theirs)
    rows, envs = every_transition(ours)
    assert_same_samples(at(ours, rows, envs), at(theirs, rows, envs))
    on_disk = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(on_disk, ours.frames)
    assert on_disk.any()


@pytest.mark.skipif(sys.platform != "linux", reason="where files can be given their room beforehand")
def test_a_file_has_its_room_from_the_start(tmp_path):
    replay = FrameReplay(20_000, PICTURES, ACTIONS, path=tmp_path / "frames.npy")
    assert replay.path.stat().st_blocks * 512 >= replay.frames.nbytes > 600_000  # no holes


def test_a_file_that_is_there_is_left_alone(tmp_path):
    path = tmp_path / "frames.npy"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"already there.*another path, or delete it"):
        FrameReplay(10, PICTURES, ACTIONS, path=path)
    assert path.read_text() == "mine"


def test_a_disk_without_room_is_told_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"would take 0.0 GB, and 0.0 GB are free on the disk.*buffer_size="):
        FrameReplay(10, PICTURES, ACTIONS, path=tmp_path / "folder" / "frames.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "I/O"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(frames_module.os, "posix_fallocate", fail, raising=False)
    message = "free on the disk" if getattr(error, "errno", 0) == 28 else None
    with pytest.raises(type(error), match=message):
        FrameReplay(10, PICTURES, ACTIONS, path=tmp_path / "frames.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [3, 100])
@pytest.mark.parametrize("in_file", [False, True])
def test_pickled_and_back_it_goes_on(tmp_path, in_file, steps):
    ours, theirs = pair(60, n_steps=3, path=tmp_path / "frames.npy" if in_file else None)
    film = Film("zeros", 0)
    feed([film], steps, ours, theirs)
    stored = pickle.dumps(ours)
    assert len(stored) < 6000 or steps == 100  # frames never written take no room
    back = pickle.loads(stored)
    assert type(back.frames) is np.ndarray
    assert back.path is None
    assert back.frames.shape == ours.frames.shape
    feed([film], 50, back, theirs)
    rows, envs = every_transition(back)
    assert_same_samples(at(back, rows, envs), at(theirs, rows, envs))
    assert ours.size() == min(steps, 60)


def test_an_agent_keeps_its_replay(tmp_path):
    agent = DQN(
        "MlpPolicy",
        Screen(),
        buffer_size=50,
        learning_starts=100,
        replay_buffer_class=FrameReplay,
        replay_buffer_kwargs={"path": tmp_path / "frames.npy"},
        device="cpu",
    ).learn(70)
    agent.save_replay_buffer(tmp_path / "replay.pkl")
    before = agent.replay_buffer.transitions(*every_transition(agent.replay_buffer))
    agent.load_replay_buffer(tmp_path / "replay.pkl")
    after = agent.replay_buffer.transitions(*every_transition(agent.replay_buffer))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    agent.learn(20, reset_num_timesteps=False)
