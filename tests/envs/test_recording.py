"""What is recorded is what the console showed, step by step; what is kept is found again, or made anew."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ale_py")

import ale_py
from PIL import Image

from envs import atari, recording
from envs.atari import AtariEnv, record
from envs.console import console
from envs.recording import ARRAYS, Recording


def equal(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


@pytest.fixture(scope="module")
def pong():
    return record("Pong", 120, seed=3, cache=False)


@pytest.fixture
def no_play(monkeypatch):
    """From now on, to play is an error."""
    monkeypatch.setattr(recording, "console", lambda *args, **kwargs: pytest.fail("it plays"))


class Model:
    """Presses what it drew with a seed; keeps what it was shown."""

    def __init__(self, n_actions=6):
        self.rng, self.n_actions, self.seen, self.asked = np.random.default_rng(0), n_actions, [], []

    def predict(self, obs, deterministic=False):
        self.seen.append(obs.copy())
        self.asked.append(deterministic)
        return np.array(self.rng.integers(self.n_actions)), None


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_the_types_and_shapes_are_those_that_are_promised(pong):
    assert (pong.frames.shape, pong.frames.dtype) == ((120, 210, 160, 3), np.uint8)
    assert (pong.ram.shape, pong.ram.dtype) == ((120, 128), np.uint8)
    assert (pong.sound.shape, pong.sound.dtype) == ((120, 4 * 512), np.uint8)
    assert (pong.actions.shape, pong.actions.dtype) == ((120,), np.int64)
    assert (pong.rewards.shape, pong.rewards.dtype) == ((120,), np.float64)
    assert (pong.starts.shape, pong.starts.dtype) == ((120,), np.bool_)
    assert pong.action_meanings == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert set(pong.actions) == set(range(6))
    assert pong.sound_rate == 31_400
    assert len(pong) == 120
    assert repr(pong) == "Recording(Pong, 120 steps of 210x160x3, policy random)"


def test_the_same_arguments_give_the_same_arrays_and_another_seed_gives_others(pong):
    assert equal(pong, record("Pong", 120, seed=3, cache=False))
    assert not np.array_equal(pong.actions, record("Pong", 120, seed=4, cache=False).actions)


def test_a_longer_recording_begins_with_the_shorter_one(pong):
    longer = record("Pong", 125, seed=3, cache=False)
    assert all(np.array_equal(getattr(longer, name)[:120], getattr(pong, name)) for name in ARRAYS)


@pytest.mark.parametrize(("game", "n", "frame_skip"), [("Pong", 120, 4), ("Breakout", 400, 4), ("Breakout", 500, 1)])
def test_a_console_that_is_given_the_same_actions_shows_remembers_and_plays_the_same(game, n, frame_skip):
    played = record(game, n, seed=3, frame_skip=frame_skip, cache=False)
    ale = console(game, sound=True, seed=3)
    for i in range(n):
        if played.starts[i]:
            ale.reset_game()
        assert np.array_equal(played.frames[i], ale.getScreenRGB()), i
        assert np.array_equal(played.ram[i], ale.getRAM()), i
        reward, heard = 0.0, []
        for _ in range(frame_skip):
            if not ale.game_over():
                reward += ale.act(getattr(ale_py.Action, played.action_meanings[played.actions[i]]))
                heard.append(ale.getAudio())
        silence = np.full(512 * (frame_skip - len(heard)), 128)
        assert np.array_equal(played.sound[i], np.concatenate([*heard, silence])), i
        assert played.rewards[i] == reward, i
        assert ale.game_over() == (i + 1 < n and played.starts[i + 1]) or i + 1 == n, i
    if frame_skip == 4:
        assert played.sound.std() > 1
        assert played.rewards.any()
        assert (played.starts.sum() > 1) == (game == "Breakout")  # five lives are soon lost


def test_grey_is_the_luminance_and_size_the_mean_of_what_a_pixel_covers(pong):
    grey = record("Pong", 20, seed=3, grey=True, cache=False)
    small = record("Pong", 20, seed=3, grey=True, size=84, cache=False)
    colour = record("Pong", 20, seed=3, size=(105, 80), cache=False)
    assert grey.frames.shape == (20, 210, 160)
    assert small.frames.shape == (20, 84, 84)
    assert colour.frames.shape == (20, 105, 80, 3)
    rgb = pong.frames[:20].astype(float)
    assert np.abs(rgb @ (0.299, 0.587, 0.114) - grey.frames).max() < 1.5
    halves = rgb.reshape(20, 105, 2, 80, 2, 3).mean(axis=(2, 4))
    assert np.abs(halves - colour.frames).max() <= 0.5
    box = Image.fromarray(grey.frames[19]).resize((84, 84), Image.Resampling.BOX)
    assert np.array_equal(small.frames[19], box)
    for other in (grey, small, colour):  # how it is seen changes nothing else
        assert np.array_equal(other.ram, pong.ram[:20])
        assert np.array_equal(other.actions, pong.actions[:20])


def test_the_module_of_the_environments_offers_it():
    assert atari.record is record
    assert atari.Recording is Recording


# -- who plays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("game", "n", "games"), [("Pong", 60, 1), ("Breakout", 260, 2)])
def test_a_model_sees_what_the_environment_gives_and_its_console_plays_along(game, n, games):
    env = AtariEnv(game, render_mode="rgb_array", clip_rewards=False)
    model = Model(int(env.action_space.n))
    played = record(game, n, model, seed=5)
    assert played.about["policy"] == "Model"
    assert set(model.asked) == {True}
    assert played.starts.sum() >= games
    obs, _ = env.reset(seed=5)
    over = True
    for i in range(n):
        assert played.starts[i] == over, i
        assert np.array_equal(model.seen[i], obs), i
        assert np.array_equal(played.frames[i], env.render()), i
        assert np.array_equal(played.ram[i], env._screen.ale.getRAM()), i
        obs, reward, terminated, truncated, info = env.step(played.actions[i])
        assert played.rewards[i] == reward, i
        over = "episode" in info
        if terminated or truncated:
            obs, _ = env.reset()


@pytest.mark.parametrize("policy", [None, lambda obs: 3])
def test_a_game_that_is_too_long_is_cut_at_the_same_frame_as_the_environments(monkeypatch, policy):
    monkeypatch.setattr(recording, "MAX_FRAMES", 30)
    played = record("Pong", 20, policy, seed=1, cache=False)
    assert np.flatnonzero(played.starts).tolist() == [0, 8, 16]
    if policy is not None:
        env = AtariEnv("Pong", render_mode="rgb_array", max_frames=30)
        env.reset(seed=1)
        for i in range(20):
            assert np.array_equal(played.frames[i], env.render()), i
            assert np.array_equal(played.ram[i], env._screen.ale.getRAM()), i
            if env.step(3)[3]:
                env.reset()


def test_a_callable_is_asked_with_observations_too():
    shapes = set()

    def policy(obs):
        shapes.add((obs.shape, obs.dtype))
        return 3

    played = record("Pong", 8, policy)
    assert shapes == {((4, 84, 84), np.dtype(np.uint8))}
    assert played.actions.tolist() == [3] * 8
    assert played.about["policy"] == "policy"


def test_a_policy_with_a_memory_gets_its_state_back_and_hears_where_a_game_begins():
    heard = []

    def predict(obs, state=None, episode_start=None, deterministic=False):
        heard.append((state, episode_start, deterministic))
        return np.array(0), (0 if state is None else state) + 1

    record("Breakout", 4, SimpleNamespace(predict=predict), deterministic=False)
    assert [(state, deterministic) for state, _, deterministic in heard] == [(s, False) for s in (None, 1, 2, 3)]
    assert [start.tolist() for _, start, _ in heard[1:]] == [[False]] * 3


def test_an_agent_of_the_project_plays():
    from agents import PPO

    model = PPO("CnnPolicy", "baselines/Pong-v0", n_envs=1, n_steps=8, batch_size=8, seed=0, encoder="nature_cnn")
    played = record("Pong", 5, model, seed=1, grey=True, size=42)
    assert played.frames.shape == (5, 42, 42)
    assert equal(played, record("Pong", 5, model, seed=1, grey=True, size=42))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"game": "Pnog"}, ValueError, "nearest: Pong"),
        ({"n": 0}, ValueError, "n must be at least 1, not 0"),
        ({"frame_skip": 0}, ValueError, "frame_skip must be at least 1"),
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"size": (84, -1)}, ValueError, "size must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"policy": "random"}, TypeError, "policy must be None, an object with predict, or a callable, not 'random'"),
        ({"policy": Model}, TypeError, "policy must be"),
        ({"policy": Model(), "frame_skip": 1}, ValueError, "is for random play"),
        ({"policy": lambda obs: 6}, ValueError, "chose action 6, but the game has 6"),
        ({"policy": lambda obs: 1.5}, TypeError, "integer"),
    ],
)
def test_what_cannot_be_is_one_clear_line(arguments, kind, words):
    with pytest.raises(kind, match=words) as caught:
        record(**{"game": "Pong", "n": 4, "cache": False, **arguments})
    assert "\n" not in str(caught.value)


def test_more_than_the_free_memory_is_refused_before_anything_is_played(no_play, monkeypatch):
    monkeypatch.setattr(recording, "_free_memory", lambda: 1e9)
    words = r"100,000 steps with frames of 210x160x3 are 10\.3 GB, and 1\.0 GB of memory are free: ask for size=84"
    with pytest.raises(MemoryError, match=words):
        record("Pong", 100_000)


def test_the_free_memory_is_a_number_of_this_machine():
    assert 1e7 < recording._free_memory() < 1e14


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_random_play_is_kept_where_the_system_wants_it_and_found_without_playing(tmp_path, monkeypatch, request):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = record("Pong", 12, seed=1, size=42)
    (path,) = (tmp_path / "rl-unsup-sandbox" / "atari").iterdir()
    assert path.name == f"Pong-n12-skip4-42x42x3-seed1-ale{ale_py.__version__}.npz"
    request.getfixturevalue("no_play")
    again = record("Pong", 12, seed=1, size=42, cache=True)
    assert equal(first, again)
    assert (again.action_meanings, again.sound_rate, again.about) == (first.action_meanings, 31_400, first.about)


def test_another_recording_has_another_file_and_without_a_cache_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "never"))
    ways = [{}, {"seed": 1}, {"size": 42}, {"grey": True}, {"frame_skip": 1}, {"n": 3}, {"game": "Breakout"}]
    for way in ways:
        record(**{"game": "Pong", "n": 2, "cache": tmp_path / "here", **way})
    assert len(list((tmp_path / "here").iterdir())) == len(ways)
    record("Pong", 2, cache=False)
    record("Pong", 2, Model(), cache=tmp_path / "here")  # a policy may change: what it plays is not kept
    assert len(list((tmp_path / "here").iterdir())) == len(ways)
    assert not (tmp_path / "never").exists()


def damage_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage_a_byte, "no recording, or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "no recording, or damaged"),
        (lambda path: path.write_bytes(b""), "no recording, or damaged"),
        (lambda path: path.write_text("words"), "no recording, or damaged"),
        (lambda path: np.save(path.open("wb"), np.ones(3)), "no recording, or damaged"),
        (lambda path: np.savez(path, frames=np.ones(3)), "no recording, or damaged"),
        (lambda path: np.savez(path, frames=np.array([{}], dtype=object)), "no recording, or damaged"),
        (lambda path: record("Pong", 12, seed=2, cache=False).save(path), "not what its name says"),
    ],
    ids=["a byte", "the end", "empty", "text", "an array", "other arrays", "a pickle", "another recording"],
)
def test_a_damaged_or_foreign_file_is_recorded_anew_with_one_line(tmp_path, harm, words):
    first = record("Pong", 12, seed=1, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    harm(path)
    with pytest.warns(UserWarning, match=words) as caught:
        again = record("Pong", 12, seed=1, cache=tmp_path)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert str(path) in str(caught[0].message)
    assert caught[0].filename == __file__
    assert equal(first, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(first, record("Pong", 12, seed=1, cache=tmp_path))


def test_a_file_of_another_format_is_not_read(tmp_path, pong):
    pong.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        entry = json.loads(file["record"].item())
    entry["about"]["format"] += 1
    arrays = {name: getattr(pong, name) for name in ARRAYS}
    np.savez(tmp_path / "a.npz", record=np.array(json.dumps(entry)), **arrays)
    with pytest.raises(ValueError, match=r"a\.npz: .*this version reads format 1"):
        Recording.load(tmp_path / "a.npz")


def test_arrays_that_differ_in_length_are_no_recording(tmp_path, pong):
    pong.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "a.npz", **{**arrays, "ram": arrays["ram"][:-1]})
    with pytest.raises(ValueError, match="its arrays differ in length"):
        Recording.load(tmp_path / "a.npz")


def test_what_a_policy_played_can_be_saved_and_loaded(tmp_path):
    played = record("Pong", 6, lambda obs: 2)
    played.save(tmp_path / "new" / "mine.npz")
    assert equal(played, Recording.load(tmp_path / "new" / "mine.npz"))
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "none.npz")


def test_a_crash_in_the_middle_of_writing_leaves_the_old_file_and_no_half_one(tmp_path, pong, monkeypatch):
    path = tmp_path / "a.npz"
    pong.save(path)
    before = path.read_bytes()
    write, written = np.lib.format.write_array, []

    def crash(entry, array, **kwargs):
        write(entry, array, **kwargs)
        written.append(len(array) if array.ndim else 0)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", crash)
    with pytest.raises(KeyboardInterrupt):
        record("Pong", 12, cache=False).save(path)
    assert written == [0, 12, 12]
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


def test_on_a_full_disk_the_recording_is_returned_with_one_warning(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # no file may be larger
    try:
        with pytest.warns(UserWarning, match=r"the recording is not kept in .*npz: File too large") as caught:
            played = record("Pong", 12, seed=1, cache=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(caught) == 1
    assert not list(tmp_path.iterdir())
    assert equal(played, record("Pong", 12, seed=1, cache=False))


def test_where_no_folder_can_be_made_the_recording_is_returned_with_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="the recording is not kept") as caught:
        assert len(record("Pong", 3, cache=tmp_path / "file" / "cache")) == 3
    assert len(caught) == 1


# -- what is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "seconds", "told"), [(True, 3.0, True), (True, 0.0, False), (False, 3.0, False)])
def test_a_terminal_shows_a_bar_once_it_takes_long_and_a_pipe_shows_nothing(
    capsys, monkeypatch, terminal, seconds, told
):
    make, times = recording.Console, iter([0.0] + [seconds] * 10)
    monkeypatch.setattr(recording, "Console", lambda **kwargs: make(**kwargs, force_terminal=terminal))
    monkeypatch.setattr(recording, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with recording._progress("recording Pong", 10) as tell:
        for done in range(10):
            tell(done + 1)
    out, err = capsys.readouterr()
    assert not out
    assert ("recording Pong" in err) == told
    assert told or not err
