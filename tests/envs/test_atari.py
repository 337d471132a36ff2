"""Atari: the two faces, frame by frame beside Gymnasium's preprocessing, scores, the screen, seeds, names.

Games are played with actions that the test draws, the same for all that are compared. All equalities are exact.
"""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401 (registers the ids)
from envs.names import PROTOCOLS, atari_games

ale_py = pytest.importorskip("ale_py")

from agents import evaluate, vecenv  # noqa: E402
from envs.atari import AtariEnv, AtariVectorEnv  # noqa: E402
from sandbox.cli import main  # noqa: E402

MACHADO = PROTOCOLS["machado"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """More help nobody on a busy machine."""
    init = AtariVectorEnv.__init__
    monkeypatch.setattr(AtariVectorEnv, "__init__", lambda *args, **kwargs: init(*args, **{"num_threads": 1} | kwargs))


def random_actions(env, n, seed=0):
    """``[n]``, or ``[n, B]`` for the vector face."""
    space = env.action_space
    n_actions, shape = (space.n, n) if space.shape == () else (space.nvec[0], (n, *space.shape))
    return np.random.default_rng(seed).integers(n_actions, size=shape)


def trace(env, seed, n=20):
    """The first observations of the vector face, ``[n + 1, B, 4, 84, 84]``; all environments get the same actions."""
    obs = [env.reset(seed=seed)[0]]
    actions = np.random.default_rng(0).integers(env.single_action_space.n, size=n)
    obs += [env.step(np.full(env.num_envs, action))[0] for action in actions]
    return np.stack(obs)


# -- two faces, the same games -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "num_envs", "n", "lost", "games", "kwargs"),
    [
        ("baselines/Breakout-v0", 2, 240, 11, 2, {}),
        ("baselines/Frogger-v0", 1, 330, 3, 1, {}),  # has no FIRE; goes on for a while with no life left
        ("baselines/Breakout-v0", 2, 110, 4, 4, {"max_frames": 202}),  # no whole number of steps
        ("machado/Pong-v0", 1, 800, 0, 1, {}),
        ("machado/Pong-v0", 2, 110, 0, 4, {"max_frames": 201}),
        ("machado/Berzerk-v0", 2, 500, 0, 2, {}),
    ],
)
def test_the_scalar_face_plays_what_the_vector_face_plays(env_id, num_envs, n, lost, games, kwargs):
    """Environment ``i`` with the seed ``seed + i``, over lost lives and whole games, none of them seeded again."""
    vec = gymnasium.make_vec(env_id, num_envs=num_envs, **kwargs)
    ones = [gymnasium.make(env_id, **kwargs) for _ in range(num_envs)]
    firsts, infos = vec.reset(seed=7)
    for i, one in enumerate(ones):
        assert_same_start(one.reset(seed=7 + i), firsts, infos, i)
    steps = random_actions(vec, n)
    if n == 800:
        steps = np.where(np.arange(n)[:, None] % 7, 2, 3)  # a whole game of Pong is lost soonest in a corner
    lives_lost = whole_games = 0
    for actions in steps:
        obs, rewards, terminated, truncated, infos = vec.step(actions)
        for i, one in enumerate(ones):
            expected, *outcome, info = one.step(actions[i])
            assert outcome == [rewards[i], terminated[i], truncated[i]]
            ended = terminated[i] or truncated[i]
            seen, told = (infos["final_obs"], infos["final_info"]) if ended else (obs, infos)
            np.testing.assert_array_equal(seen[i], expected)
            assert info["lives"] == told["lives"][i]
            over = bool(ended and "episode" in told and told["_episode"][i])
            assert ("episode" in info) == over
            if over:
                assert info.keys() == {"lives", "episode"}
                assert info["episode"] == {key: told["episode"][key][i] for key in "rl"}
                assert truncated[i] or info["lives"] == 0
            if ended:
                assert_same_start(one.reset(), obs, infos, i)
            whole_games, lives_lost = whole_games + over, lives_lost + (ended and not over)
    assert lives_lost >= lost
    assert whole_games >= games
    assert lost or not lives_lost


def assert_same_start(start, obs, infos, i):
    np.testing.assert_array_equal(start[0], obs[i])
    assert start[1] == {key: infos[key][i] for key in ("lives", "episode_frame_number")}


def test_the_faces_make_the_same_promises():
    for env_id in ("baselines/MsPacman-v0", "machado/Seaquest-v0"):
        one, vec = gymnasium.make(env_id), gymnasium.make_vec(env_id, num_envs=2)
        assert (
            one.observation_space == vec.single_observation_space == gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        )
        assert one.action_space == vec.single_action_space
        assert vec.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        assert vec.observation_space.contains(vec.reset(seed=0)[0])
        obs, rewards, terminated, truncated, _ = vec.step(vec.action_space.sample())
        assert vec.observation_space.contains(obs)
        assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
    assert gymnasium.make("baselines/Breakout-v0").action_space.n == 4
    assert gymnasium.make("baselines/Breakout-v0", full_action_space=True).action_space.n == 18


def test_after_a_lost_life_reset_goes_on_and_a_seed_or_a_second_reset_begins_anew():
    env = AtariEnv("Breakout", noop_max=0)
    new = {"lives": 5, "episode_frame_number": 0}

    def until_the_end():
        ended, t = False, 0
        while not ended:
            obs, _, terminated, truncated, info = env.step(1 if t % 10 == 0 else 3)  # FIRE, and into a corner
            ended, t = terminated or truncated, t + 1
        return obs, info

    first, info = env.reset(seed=0)
    assert info == new
    last, info = until_the_end()
    assert info["lives"] == 4
    obs, info = env.reset()
    np.testing.assert_array_equal(obs, last)  # the last observation of one episode, the first of the next
    assert info["lives"] == 4
    assert info["episode_frame_number"] > 0
    obs, info = env.reset()
    np.testing.assert_array_equal(obs, first)  # nothing is drawn in this one
    assert info == new
    until_the_end()
    assert env.reset(seed=1)[1] == new
    for lives in (4, 3, 2, 1, 0):
        _, info = until_the_end()
        assert info["lives"] == lives
        assert ("episode" in info) == (lives == 0)
        obs, info = env.reset()
        assert info["lives"] == (lives or 5)
    np.testing.assert_array_equal(obs, first)


def test_returned_arrays_are_never_touched_again():
    vec = AtariVectorEnv("Breakout", 2, max_frames=101)
    kept = [vec.reset(seed=0)[0]]
    for actions in random_actions(vec, 40):
        obs, rewards, terminated, truncated, infos = vec.step(actions)
        kept += [obs, rewards, terminated, truncated, infos["lives"]]
        if "final_obs" in infos:
            last = infos["final_info"]
            kept += [infos["final_obs"], infos["_final_obs"], last["lives"], *last.get("episode", {}).values()]
    assert len(kept) > 5 * 40 + 1 + 7
    copies = [array.copy() for array in kept]
    for actions in random_actions(vec, 30):
        vec.step(actions)
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# -- as Gymnasium preprocesses -----------------------------------------------------------------------------------------


class Theirs:
    """Gymnasium's preprocessing and stack of 4, without no-ops.

    The stack is padded with empty pictures, not with the first one as is its default: ale-py's begins with three
    empty ones. The console gets the seed itself, so that sticky actions are drawn alike; ``reset(seed=...)`` of
    ale-py's own environment would make another number of it.
    """

    def __init__(self, game, sticky, max_frames=108_000, terminal_on_life_loss=False):
        gymnasium.register_envs(ale_py)
        console = gymnasium.make(
            f"ALE/{game}-v5",
            frameskip=1,
            repeat_action_probability=sticky,
            max_num_frames_per_episode=max_frames,
            disable_env_checker=True,
        )
        pictures = gymnasium.wrappers.AtariPreprocessing(
            console,
            noop_max=0,
            frame_skip=4,
            screen_size=84,
            grayscale_obs=True,
            terminal_on_life_loss=terminal_on_life_loss,
        )
        self.env = gymnasium.wrappers.FrameStackObservation(pictures, 4, padding_type="zero")
        self.step = self.env.step

    def reset(self, seed=None):
        if seed is not None:
            self.env.unwrapped.ale.setInt("random_seed", seed)
            self.env.unwrapped.load_game()
        return self.env.reset()


@pytest.mark.parametrize(
    ("game", "sticky", "max_frames", "n", "games"),
    [
        ("Breakout", 0.0, 108_000, 250, 1),
        ("Breakout", 0.25, 108_000, 250, 1),
        ("Frogger", 0.0, 108_000, 330, 1),
        ("Pong", 0.25, 241, 130, 2),  # 60 steps and a frame
    ],
)
def test_every_picture_is_gymnasiums(game, sticky, max_frames, n, games):
    """All four of the stack, at every step, past lost lives, and to the very last of a game.

    That last one is no new picture, in neither: within its four frames the game ends before one is taken, and what
    was pooled before is shown once more. It is the same where `max_frames` ends the game.
    """
    pytest.importorskip("cv2")
    ours = AtariEnv(game, sticky=sticky, noop_max=0, episodic_life=False, clip_rewards=False, max_frames=max_frames)
    theirs = Theirs(game, sticky, max_frames)
    (obs, info), (expected, _) = ours.reset(seed=5), theirs.reset(5)
    assert not obs[:3].any()
    assert obs[3].any()
    np.testing.assert_array_equal(obs, expected)
    lives, lost, over, distinct = info["lives"], 0, 0, set()
    for action in random_actions(ours, n, seed=3):
        obs, *outcome, info = ours.step(action)
        expected, *their_outcome, their_info = theirs.step(action)
        np.testing.assert_array_equal(obs, expected)
        assert outcome == their_outcome
        ended = outcome[1] or outcome[2]
        assert ended or info["lives"] == their_info["lives"]
        lost, lives = lost + (info["lives"] < lives), info["lives"]
        distinct.add(obs.tobytes())
        if ended:
            over += 1
            (obs, info), (expected, _) = ours.reset(), theirs.reset()
            np.testing.assert_array_equal(obs, expected)
            lives = info["lives"]
    assert over >= games
    assert lost >= 3 or game == "Pong"
    assert len(distinct) > n // 4  # there was something to see


def test_a_lost_life_ends_an_episode_in_the_step_in_which_it_does_in_gymnasiums():
    """Until then all is equal. There the last picture differs, and must.

    Gymnasium's breaks off within the four frames and shows the picture before once more. Ours plays the four to
    their end, as OpenAI's baselines did, and shows them, since the game goes on from there: it is the picture of a
    Gymnasium that does not end with a life.
    """
    pytest.importorskip("cv2")
    ours = AtariEnv("Breakout", noop_max=0)
    cut, whole = Theirs("Breakout", 0.0, terminal_on_life_loss=True), Theirs("Breakout", 0.0)
    ends = differ = 0
    for seed in range(3):
        for env in (ours, cut, whole):
            env.reset(seed=seed)
        for action in random_actions(ours, 100, seed):
            obs, reward, terminated, *_ = ours.step(action)
            expected, their_reward, their_terminated, *_ = cut.step(action)
            assert (reward, terminated) == (np.sign(their_reward), their_terminated)
            np.testing.assert_array_equal(obs, whole.step(action)[0])
            if terminated:
                np.testing.assert_array_equal(obs[:3], expected[:3])
                np.testing.assert_array_equal(expected[3], expected[2])
                ends, differ = ends + 1, differ + (obs[3] != expected[3]).any()
                break
            np.testing.assert_array_equal(obs, expected)
    assert ends == 3
    assert differ > 0


def test_no_op_starts():
    """FIRE, where the game has it, and fewer than 30 frames with it, as many as drawn; none by Machado's protocol."""
    for game, fewest in (("Breakout", 1), ("Frogger", 0)):
        vec = AtariVectorEnv(game, 8)
        frames = np.ravel([vec.reset()[1]["episode_frame_number"] for _ in range(5)])
        assert frames.min() >= fewest
        assert frames.max() < 30
        assert len(set(frames)) > 10
        assert not AtariVectorEnv(game, 3, **MACHADO).reset()[1]["episode_frame_number"].any()


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "n", "sign", "limit"),
    [
        ("baselines/Berzerk-v0", 240, 1, {}),
        ("machado/Berzerk-v0", 500, 1, {}),
        ("machado/Skiing-v0", 60, -1, {"max_frames": 100}),
    ],
)
def test_rewards_are_clipped_and_the_infos_have_the_score(env_id, n, sign, limit):
    clipped, raw = (gymnasium.make_vec(env_id, num_envs=2, clip_rewards=clip, **limit) for clip in (True, False))
    first, expected = (vec.reset(seed=6) for vec in (clipped, raw))
    np.testing.assert_array_equal(first[0], expected[0])
    score, length, lives = np.zeros(2), np.zeros(2, int), first[1]["lives"]
    games, lost, seen = 0, 0, set()
    for actions in random_actions(raw, n):
        obs, rewards, terminated, truncated, infos = clipped.step(actions)
        expected, points, *ends, told = raw.step(actions)
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal([terminated, truncated], ends)
        np.testing.assert_array_equal(rewards, np.sign(points))
        seen |= set(points.tolist())
        score, length, now = score + points, length + 1, infos["lives"]
        ended = terminated | truncated
        assert ("final_info" in infos) == ended.any()
        over = infos.get("final_info", {}).get("_episode", np.zeros(2, bool))
        for i in over.nonzero()[0]:
            for last in (infos["final_info"], told["final_info"]):
                assert (last["episode"]["r"][i], last["episode"]["l"][i]) == (score[i], length[i])
        fewer = (now < lives) & ~over
        np.testing.assert_array_equal(ended & ~over, fewer if env_id.startswith("baselines") else np.zeros(2, bool))
        games, lost, lives = games + over.sum(), lost + fewer.sum(), now
        score[over] = length[over] = 0
    assert max(seen, key=abs) * sign > 1
    assert games >= 2
    assert lost >= 3 or sign < 0


def test_a_game_that_goes_on_without_a_life_ends_once():
    """Else the frames until it is over were an episode of their own, as OpenAI's baselines know it from Qbert."""
    vec = AtariVectorEnv("Frogger", 2, noop_max=0)
    lives, without, games = vec.reset(seed=0)[1]["lives"], 0, 0
    for actions in random_actions(vec, 330):
        _, _, terminated, _, infos = vec.step(actions)
        over = infos.get("final_info", {}).get("_episode", np.zeros(2, bool))
        none_left = (infos["lives"] == 0) & ~over
        assert not (terminated & none_left).any()
        without, games, lives = without + (none_left & (lives > 0)).sum(), games + over.sum(), infos["lives"]
    assert games == without == 2


# -- behind Stable-Baselines3's door -----------------------------------------------------------------------------------


def the_games(env_id, n_envs, steps, seed, **kwargs):
    """Each environment's games, as one that hides nothing tells them: last step, score, length, whether cut off."""
    vec = gymnasium.make_vec(env_id, num_envs=n_envs, clip_rewards=False, episodic_life=False, **kwargs)
    vec.reset(seed=seed)
    score, length, games = np.zeros(n_envs), np.zeros(n_envs, int), [[] for _ in range(n_envs)]
    for t, actions in enumerate(steps):
        _, points, terminated, truncated, _ = vec.step(actions)
        score, length = score + points, length + 1
        for i in (terminated | truncated).nonzero()[0]:
            games[i].append((t, score[i], length[i], truncated[i]))
            score[i] = length[i] = 0
    return games


def test_through_gymvecenv_episodes_are_games_with_their_score():
    env = vecenv.make("baselines/Berzerk-v0", 2, max_frames=560)
    assert isinstance(env, vecenv.GymVecEnv)
    steps = random_actions(env.envs, 290)
    expected = the_games("baselines/Berzerk-v0", 2, steps, seed=4, max_frames=560)
    env.seed(4)
    first = env.reset()
    found, ends = [[], []], 0
    for t, actions in enumerate(steps):
        obs, rewards, dones, infos = env.step(actions)
        assert rewards.dtype == np.float32
        assert set(rewards.tolist()) <= {0.0, 1.0}
        for i, info in enumerate(infos):
            assert dones[i] == ("terminal_observation" in info)
            assert dones[i] or not info["TimeLimit.truncated"]
            assert ("episode" in info) == (dones[i] and not obs[i][:3].any())  # a new game's stack is empty but for one
            if "episode" in info:
                assert info["episode"].keys() == {"r", "l", "t"}
                found[i].append((t, info["episode"]["r"], info["episode"]["l"], info["TimeLimit.truncated"]))
                assert (info["lives"] > 0) == info["TimeLimit.truncated"]
                assert info["terminal_observation"][:3].any()
            elif dones[i]:
                np.testing.assert_array_equal(info["terminal_observation"], obs[i])
            ends += dones[i]
    assert found == expected
    assert {game[3] for games in found for game in games} == {True, False}  # both kinds of end
    assert ends >= sum(map(len, found)) + 3  # lives
    env.seed(4)
    np.testing.assert_array_equal(env.reset(), first)


class Steps:
    """What `evaluate` asks of a model."""

    def __init__(self, steps):
        self.steps = iter(steps)

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        return next(self.steps), state


@pytest.mark.parametrize(("game", "max_frames"), [("Berzerk", 280), ("Freeway", 800)])
def test_evaluate_reports_whole_games_and_raw_scores(game, max_frames):
    env_id = f"baselines/{game}-v0"
    env = vecenv.make(env_id, 2, max_frames=max_frames)
    steps = random_actions(env.envs, 3 * max_frames // 4)
    if game == "Freeway":
        steps[:] = 1  # UP
    games = the_games(env_id, 2, steps, seed=2, max_frames=max_frames)
    expected = sorted(game for i in range(2) for game in games[i][: 3 - i])
    result = evaluate(Steps(steps), env, n_episodes=5, seed=2)
    assert sorted(result.returns.tolist()) == sorted(score for _, score, _, _ in expected)
    assert result.lengths.tolist() == [length for _, _, length, _ in expected]
    assert len(result.lengths) == 5
    assert result.lengths.max() == max_frames // 4
    assert result.returns.max() > 0


def test_the_limit_of_frames_truncates():
    env = vecenv.make("machado/Freeway-v0", 2, max_frames=82)  # 20 steps, and half of one
    env.reset()
    for t in range(1, 43):
        _, _, dones, infos = env.step(np.array([1, 1]))
        ends = t % 21 == 0
        assert dones.tolist() == [ends] * 2
        for info in infos:
            assert info["TimeLimit.truncated"] == ("terminal_observation" in info) == ends
            assert info.get("episode", {"l": 0})["l"] == 21 * ends
    one = gymnasium.make("machado/Freeway-v0", max_frames=40)
    one.reset(seed=0)
    assert [one.step(0)[2:4] for _ in range(10)] == [(False, False)] * 9 + [(False, True)]


# -- the screen --------------------------------------------------------------------------------------------------------


class Watched:
    """The console behind `render`, and its last two screens in grey."""

    def __init__(self, ale):
        self.ale, self.screens = ale, []

    def act(self, action):
        reward = self.ale.act(action)
        self.screens = [*self.screens[-1:], self.ale.getScreenGrayscale()]
        return reward

    def observed(self):
        """The picture that an observation has of these two."""
        return small(np.maximum(*self.screens))

    def __getattr__(self, name):
        return getattr(self.ale, name)


def small(screen):
    cv2 = pytest.importorskip("cv2")
    return cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("env_id", "n", "games", "kwargs"),
    [
        ("baselines/Breakout-v0", 260, 1, {}),
        ("baselines/Frogger-v0", 60, 2, {"max_frames": 100}),  # no FIRE
        ("baselines/Freeway-v0", 60, 2, {"max_frames": 100, "full_action_space": True}),  # now it has
        ("baselines/Berzerk-v0", 60, 2, {"max_frames": 100}),  # counts 20 frames before one can act
        ("machado/Berzerk-v0", 700, 2, {}),
        ("machado/Pong-v0", 130, 2, {"max_frames": 243}),  # three frames into a step
        ("machado/Breakout-v0", 110, 2, {"max_frames": 201, "noop_max": 30}),  # no-ops stick too
    ],
)
def test_the_screen_shows_the_game_that_is_observed(env_id, n, games, kwargs):
    """To the pixel: an observation's last picture is made of the screen's last two."""
    env = gymnasium.make(env_id, render_mode="rgb_array", **kwargs).unwrapped
    env._screen.ale = watched = Watched(env._screen.ale)
    env.reset(seed=1)
    whole = 0
    for action in random_actions(env, n, seed=1):
        obs, _, terminated, truncated, info = env.step(action)
        screen = env.render()
        assert screen.shape == (210, 160, 3)
        assert np.abs(screen @ [0.299, 0.587, 0.114] - watched.screens[-1]).max() < 1.5
        over = "episode" in info
        if over:  # its last picture is the one before
            assert watched.game_over() == terminated
        else:
            np.testing.assert_array_equal(watched.observed(), obs[-1])
            assert info["lives"] == watched.lives()
            assert info["episode_frame_number"] == watched.getEpisodeFrameNumber()
        if terminated or truncated:
            obs, info = env.reset()
            assert info["episode_frame_number"] == watched.getEpisodeFrameNumber()
            assert not over or np.array_equal(small(watched.getScreenGrayscale()), obs[-1])
        whole += over
    assert whole >= games


def test_a_seed_and_a_reset_in_the_middle_of_a_game_reach_the_screen():
    env = AtariEnv("Breakout", render_mode="rgb_array", sticky=0.25)
    env._screen.ale = watched = Watched(env._screen.ale)
    for seed in (3, None, None, 4, 2**40 + 1):
        env.reset(seed=seed)
        for action in random_actions(env, 25):
            obs = env.step(action)[0]
            np.testing.assert_array_equal(watched.observed(), obs[-1])


COUNT_FRAMES_FIRST = ["AirRaid", "BasicMath", "LostLuggage"]  # three of the fourteen in which a mode is set


@pytest.mark.parametrize("game", [*list(atari_games())[::13], *COUNT_FRAMES_FIRST])
def test_the_screen_begins_where_the_observation_does(game):
    env = AtariEnv(game, render_mode="rgb_array")
    for seed in (2, None):
        obs, info = env.reset(seed=seed)
        screen = env._screen.ale
        np.testing.assert_array_equal(small(screen.getScreenGrayscale()), obs[3])
        assert info == {"lives": screen.lives(), "episode_frame_number": screen.getEpisodeFrameNumber()}


def test_render_without_a_mode_warns():
    env = AtariEnv("Pong")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


# -- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_seed_decides_everything(protocol):
    vec, again = (gymnasium.make_vec(f"{protocol}/Breakout-v0", num_envs=3) for _ in range(2))
    first = trace(vec, 0)
    np.testing.assert_array_equal(trace(vec, 0), first)
    np.testing.assert_array_equal(trace(again, np.int32(0)), first)
    np.testing.assert_array_equal(trace(again, np.arange(3)), first)
    np.testing.assert_array_equal(trace(vec, 1)[:, :2], first[:, 1:])  # environment i has the seed + i
    np.testing.assert_array_equal(trace(vec, [2, 0, 2]), first[:, [2, 0, 2]])
    other = trace(vec, 77)
    games = [played[:, i].tobytes() for played in (first, other) for i in range(3)]
    assert len(set(games)) == 6


def test_the_games_after_the_first_follow_from_the_seed_too():
    starts = []
    for _ in range(2):
        env = AtariEnv("Breakout")
        starts.append([env.reset(seed=9 if i == 0 else None)[1]["episode_frame_number"] for i in range(10)])
    assert starts[0] == starts[1]
    assert len(set(starts[0])) > 3  # and are not all the same


@pytest.mark.parametrize("seed", [2**31 - 1, 2**63])
def test_seeds_of_any_size(seed):
    """Stable-Baselines3 draws them below 2**32, and users take any; ale-py refuses what has more than 31 bits."""
    vec = AtariVectorEnv("Breakout", 2, **MACHADO)
    first = trace(vec, seed)
    np.testing.assert_array_equal(trace(vec, [seed, seed + 1]), first)
    assert (first[:, 0] != first[:, 1]).any()
    one = AtariEnv("Breakout", render_mode="rgb_array")
    np.testing.assert_array_equal(one.reset(seed=seed)[0], AtariVectorEnv("Breakout").reset(seed=seed)[0][0])


def test_without_a_seed_games_differ_from_each_other_and_from_run_to_run():
    """Also where they begin within a second, by which ale-py would seed them."""
    runs = [trace(AtariVectorEnv("Breakout", 3, **MACHADO), None) for _ in range(2)]
    assert len({run[:, i].tobytes() for run in runs for i in range(3)}) > 1  # some may agree for so few steps
    partly = trace(AtariVectorEnv("Breakout", 4, **MACHADO), [None, 3, None, 3])
    assert len({partly[:, i].tobytes() for i in range(4)}) > 1
    np.testing.assert_array_equal(partly[:, 1], partly[:, 3])


def test_a_none_among_the_seeds_lets_that_game_go_on_with_its_generator():
    vec, other = (AtariVectorEnv("Breakout", 2, **MACHADO) for _ in range(2))
    first = trace(vec, [5, 6])
    trace(other, [5, 6])
    mixed = trace(vec, [None, 5])
    np.testing.assert_array_equal(mixed[:, 0], trace(other, None)[:, 0])
    np.testing.assert_array_equal(mixed[:, 1], first[:, 0])
    assert (mixed[:, 0] != first[:, 0]).any()


def test_an_unseeded_scalar_env_plays_what_its_generator_draws():
    played = []
    for generator in (3, 3, 4, None, None):
        env = AtariEnv("Breakout", **MACHADO)
        if generator is not None:
            env.np_random = np.random.default_rng(generator)
        env.reset()
        played.append(np.stack([env.step(action)[0] for action in random_actions(env, 25)]).tobytes())
    assert played[0] == played[1]
    assert len(set(played)) == 4


def test_reset_mask_starts_games_only_there():
    """The others don't notice: they go on as a twin's, and their games are counted from where they began."""
    kwargs = {"max_frames": 120, **MACHADO}
    vec, twin, fresh = (AtariVectorEnv("Breakout", 3, **kwargs) for _ in range(3))
    steps = random_actions(vec, 40)
    for env in (vec, twin):
        env.reset(seed=3)
    for actions in steps[:10]:
        before = vec.step(actions)[0]
        twin.step(actions)
    obs, infos = vec.reset(seed=8, options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(obs[1], before[1])
    assert infos["episode_frame_number"].tolist() == [0, 40, 0]
    np.testing.assert_array_equal(obs[[0, 2]], fresh.reset(seed=8)[0][[0, 2]])
    ends = []
    for t, actions in enumerate(steps[10:], start=1):
        obs, *_, infos = vec.step(actions)
        np.testing.assert_array_equal(obs[1], twin.step(actions)[0][1])
        np.testing.assert_array_equal(obs[[0, 2]], fresh.step(actions)[0][[0, 2]])  # the seed + i, as always
        if "final_info" in infos:
            ends.append((t, infos["final_info"]["episode"]["l"].tolist(), infos["_final_obs"].tolist()))
    assert ends == [(20, [20, 30, 20], [False, True, False]), (30, [30, 10, 30], [True, False, True])]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([0, 6], ValueError, "invalid action 6 for env 1"),
        ([-1, 0], ValueError, "invalid action -1 for env 0"),
        ([0, 0, 0], ValueError, r"shape \(2,\), got \(3,\)"),
        ([0.0, 1.0], TypeError, "integer actions, got float64"),
    ],
)
def test_invalid_actions(actions, error, message):
    """ale-py waits for ever for a game that refused its action."""
    vec, other = (AtariVectorEnv("Pong", 2) for _ in range(2))
    for env in (vec, other):
        env.reset(seed=0)
    with pytest.raises(error, match=message):
        vec.step(np.array(actions))
    np.testing.assert_array_equal(
        vec.step(np.array([1, 2], np.uint8))[0], other.step([1, 2])[0]
    )  # nothing had happened
    one = AtariEnv("Pong")
    one.reset(seed=0)
    with pytest.raises((ValueError, TypeError)):
        one.step(actions if len(actions) == 3 else max(actions, key=abs))


def test_reset_comes_first():
    for env, action in ((AtariEnv("Pong"), 0), (AtariVectorEnv("Pong", 2), np.array([0, 0]))):
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(action)
    with pytest.raises(ValueError, match="one seed for each of 2 envs, got 3"):
        AtariVectorEnv("Pong", 2).reset(seed=[1, 2, 3])


def test_an_unknown_game_is_told_its_nearest():
    for make in (AtariEnv, AtariVectorEnv):
        with pytest.raises(ValueError, match="no game 'Pnog'; nearest: Pong"):
            make("Pnog")
        with pytest.raises(ValueError, match=r"no game 'Zzyzx'$"):
            make("Zzyzx")
    with pytest.raises(TypeError, match="colour"):
        gymnasium.make("baselines/Pong-v0", colour="red")


def test_on_the_command_line_an_unknown_game_is_one_line_with_its_nearest(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in ("baselines/Pnog-v0", "machado/pong-v0"):
        nearest = f"{wrong.partition('/')[0]}/Pong-v0"
        assert main(["train", wrong]) == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"sandbox: unknown environment {wrong!r}: did you mean {nearest}")
        assert (out, err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())


def test_without_ale_py_training_on_atari_is_one_line_to_type(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ale_py", None)  # is neither found nor imported
    for wanted in ("baselines/Pong-v0", "machado/Pong-v0"):
        assert main(["train", wanted]) == 2
        assert capsys.readouterr() == ("", f"sandbox: {wanted!r} needs ale_py: pip install 'rl-unsup-sandbox[atari]'\n")
    assert not list(tmp_path.iterdir())


def test_without_ale_py_all_the_rest_is_there(tmp_path):
    """In a process that never saw it, where the ids are not even registered."""
    code = """
import sys, warnings
sys.modules["ale_py"] = None
warnings.simplefilter("error")
import gymnasium, envs
assert not [name for name in gymnasium.registry if name.startswith(("baselines/", "machado/"))]
gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2).reset(seed=0)
from sandbox.cli import main
assert main(["list"]) == 0
assert "torch" not in sys.modules
warnings.simplefilter("ignore")
sys.exit(main(["train", "baselines/Pong-v0"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == "sandbox: 'baselines/Pong-v0' needs ale_py: pip install 'rl-unsup-sandbox[atari]'\n"
    assert done.returncode == 2
    assert "sandbox/CartPole-v1" in done.stdout


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_game_that_ale_py_ships_is_registered_by_both_protocols():
    gymnasium.register_envs(ale_py)
    theirs = {name[4:-3] for name in gymnasium.registry if name.startswith("ALE/") and name.endswith("-v5")}
    assert set(atari_games()) == theirs
    assert len(theirs) >= 104
    for protocol, kwargs in PROTOCOLS.items():
        registered = {spec.name: spec.kwargs for spec in gymnasium.registry.values() if spec.namespace == protocol}
        assert registered == {game: {"game": game, **kwargs} for game in theirs}


def test_importing_envs_imports_no_ale_py():
    subprocess.run([sys.executable, "-c", "import sys, envs; assert 'ale_py' not in sys.modules"], check=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", ["baselines/Breakout-v0", "machado/Freeway-v0"])
def test_gymnasium_check_env(env_id):
    check_env(gymnasium.make(env_id, render_mode="rgb_array").unwrapped)
