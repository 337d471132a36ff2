"""Data sets by name: what they are, what is said of a wrong name, and what is not loaded before it is asked for."""

import http.client
import sys
import warnings
import wave
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from PIL import Image

from sandbox import data
from sandbox.data import SOURCES
from sandbox.training.checkpoint import FileError


def test_the_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    found, theirs = data.load("digits"), load_digits()
    assert np.array_equal(found.X, theirs.images)
    assert np.array_equal(found.rows, theirs.data)
    assert np.array_equal(found.y, theirs.target)
    assert found.names == tuple("0123456789")


def test_the_photos_are_two_pictures_in_colour():
    found = data.load("photos")
    assert (found.X.shape, found.X.dtype) == ((2, 427, 640, 3), np.uint8)
    assert found.y.tolist() == [0, 1]
    assert found.names == ("china", "flower")
    assert found.X[0].mean() != found.X[1].mean()


def test_patches_are_parts_of_their_photo_and_the_same_for_a_seed():
    photos = data.load("photos").X
    found = data.load("patches", n=300, size=(9, 7), seed=3)
    assert (found.X.shape, found.X.dtype, found.names) == ((300, 9, 7, 3), np.uint8, ("china", "flower"))
    assert found.X.flags.c_contiguous
    assert 100 < found.y.sum() < 200
    for patch, of in zip(found.X[:3], found.y, strict=False):
        parts = np.lib.stride_tricks.sliding_window_view(photos[of], (9, 7, 3))
        assert (parts == patch).all(axis=(2, 3, 4, 5)).any()
    assert np.array_equal(data.load("patches", n=300, size=(9, 7), seed=3).X, found.X)
    assert not np.array_equal(data.load("patches", n=300, size=(9, 7)).X, found.X)


def test_patches_come_from_the_whole_photo_in_grey_if_asked_and_as_many_as_there_are_by_default():
    whole = data.load("patches", n=9, size=(427, 640))
    assert all(np.array_equal(one, data.load("photos").X[of]) for one, of in zip(whole.X, whole.y, strict=True))
    columns = data.load("patches", n=60, size=(427, 1), grey=True)
    assert len(np.unique(columns.rows, axis=0)) > 50
    rows = data.load("patches", n=60, size=(1, 640), grey=True)
    assert len(np.unique(rows.rows, axis=0)) > 50
    grey = data.load("patches", n=50, grey=True, seed=1)
    colours = data.load("patches", n=50, seed=1)
    assert grey.X.shape == (50, 16, 16)
    assert np.abs(colours.X @ [0.299, 0.587, 0.114] - grey.X).max() < 1
    assert len(data.load("patches").X) == 20_000


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": (0, 4)}, {"size": (428, 4)}, {"size": (4, 641)}])
def test_patches_that_cannot_be_are_one_line(wrong):
    with pytest.raises(ValueError, match=r"at least 1|from 1x1 to 427x640") as caught:
        data.load("patches", **wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "theirs"), [("mnist", "mnist_784"), ("fashion_mnist", "Fashion-MNIST")])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_mnist_is_what_openml_has_as_bytes(tmp_path, monkeypatch, name, theirs, dtype):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 784)), np.arange(30) % 10
    asked = []

    def fetch(name, **kwargs):
        asked.append((name, kwargs))
        return SimpleNamespace(data=pixels.astype(dtype), target=labels.astype(str).astype(object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "kept"))
    found = data.load(name)
    assert (found.X.shape, found.X.dtype) == ((30, 28, 28), np.uint8)
    assert np.array_equal(found.rows, pixels)
    assert (found.y.tolist(), found.y.dtype) == (labels.tolist(), np.int64)
    assert len(set(found.names)) == 10
    assert str(tmp_path / "kept") in found.about
    assert (asked[0][0], asked[0][1]["version"]) == (theirs, 1)
    data.load(name, data_home=tmp_path / "else")
    assert asked[1][1]["data_home"] == str(tmp_path / "else")


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        HTTPError("https://openml.org", 503, "Service Unavailable", Message(), None),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        ValueError("no such\ndata set"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_a_network_it_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, recwarn, error):
    def fetch(*args, **kwargs):
        warnings.warn("a network error occurred; retrying", stacklevel=1)
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    line = refused("mnist", data_home=tmp_path)
    assert not len(recwarn)
    for words in ("mnist_784", str(tmp_path / "openml"), " ".join(str(error).split()), "network"):
        assert words in line


def test_a_game_is_frames_labelled_with_the_memory():
    pytest.importorskip("ale_py")
    from envs.recording import record

    found = data.load("atari:Pong", n=7, seed=2, size=(40, 30), grey=True, cache=False)
    played = record("Pong", 7, seed=2, size=(40, 30), grey=True, cache=False)
    assert np.array_equal(found.X, played.frames)
    assert np.array_equal(found.y, played.ram)
    assert found.names[49] == "ram[49]"
    assert len(found.names) == found.y.shape[1]
    assert found.rows.shape == (7, 1200)
    assert repr(found).startswith("Data(X uint8 [7, 40, 30], y uint8 [7, 128]: Pong, policy random, seed 2")


def test_a_game_is_its_sound_or_its_memory_if_asked():
    pytest.importorskip("ale_py")
    from envs.recording import record

    played = record("Pong", 90, seed=2, size=1, grey=True, cache=False)
    assert np.ptp(played.sound) > 5
    heard = data.load("atari:Pong", n=90, what="sound", seed=2, cache=False)
    assert (heard.X.shape, heard.X.dtype) == ((90, 2048), np.float32)
    assert np.array_equal(np.round(heard.X * 128) + 128, played.sound)
    assert heard.X.min() >= -1
    assert heard.X.max() <= 1
    assert np.array_equal(heard.y, played.ram)
    assert "31,400 samples a second" in heard.about
    memory = data.load("atari:Pong", n=90, what="ram", seed=2, cache=False)
    assert np.array_equal(memory.X, played.ram)
    assert memory.y.shape == (90, 0)
    with pytest.raises(ValueError, match="what='smell': a game has frames, ram, sound"):
        data.load("atari:Pong", what="smell")


def test_a_game_has_the_actions_and_the_episodes_of_its_recording():
    pytest.importorskip("ale_py")
    from envs.recording import record

    how = {"seed": 1, "size": 8, "grey": True, "cache": False, "frame_skip": 60}
    played = record("Pong", 100, **how)
    assert played.starts.sum() > 1
    for what in ("frames", "ram", "sound"):
        found = data.load("atari:Pong", n=100, what=what, **how)
        assert np.array_equal(found.actions, played.actions)
        assert found.episodes[0] == 0
        assert np.array_equal(np.diff(found.episodes), played.starts[1:])


def test_a_stack_is_the_last_frames_and_at_the_start_of_an_episode_its_first_one_again():
    pytest.importorskip("ale_py")
    how = {"n": 100, "seed": 1, "size": 8, "grey": True, "cache": False, "frame_skip": 60}
    one, found = data.load("atari:Pong", **how), data.load("atari:Pong", **how, stack=3)
    assert (found.X.shape, found.X.dtype) == ((100, 3, 8, 8), np.uint8)
    assert np.array_equal(found.y, one.y)
    (start,) = np.flatnonzero(np.diff(one.episodes))[:1] + 1
    assert start > 3
    for i, frames in [(0, [0, 0, 0]), (1, [0, 0, 1]), (2, [0, 1, 2]), (start - 1, [start - 3, start - 2, start - 1])]:
        assert np.array_equal(found.X[i], one.X[frames])
    for i, frames in [(start, [start] * 3), (start + 1, [start, start, start + 1])]:
        assert np.array_equal(found.X[i], one.X[frames])
    assert np.array_equal(data.load("atari:Pong", **how, stack=1).X[:, 0], one.X)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stack": 4}, "grey=True"),
        ({"stack": 4, "grey": True, "what": "ram"}, "frames in grey"),
        ({"stack": 0, "grey": True}, "at least 1"),
    ],
)
def test_a_stack_that_cannot_be_is_one_line(wrong, words):
    with pytest.raises(ValueError, match=words) as caught:
        data.load("atari:Pong", n=5, **wrong)
    assert "\n" not in str(caught.value)


def test_stacks_larger_than_the_free_memory_are_refused(monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.setattr("sandbox.training.device.free_memory", lambda: 4 * 50 * 64)
    how = {"n": 50, "size": 8, "grey": True, "cache": False}
    assert data.load("atari:Pong", **how, stack=4).X.shape == (50, 4, 8, 8)
    with pytest.raises(MemoryError, match="50 x 5 x 8 x 8 are"):
        data.load("atari:Pong", **how, stack=5)


def test_a_game_has_a_thousand_frames_unless_told_otherwise(monkeypatch):
    pytest.importorskip("ale_py")
    from envs import recording

    asked = []

    def record(game, n, **kwargs):
        asked.append((game, n, kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "record", record)
    with pytest.raises(KeyboardInterrupt):
        data.load("atari:Pong")
    assert asked == [("Pong", 1000, {})]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("digit", "digits"),
        ("Photo", "photos"),
        ("atari", "atari:<Game>"),
        ("env", "env:<ID>"),
        ("patches:<Game>", "patches"),
        ("digits:8", "digits"),
        ("", "digits"),
        ("MNIST", "mnist"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest_ones(name, near):
    with pytest.raises(ValueError, match="there is no data set") as caught:
        data.load(name)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_game_is_one_line_with_the_nearest_ones():
    pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match="there is no game 'Pnog'; nearest: Pong"):
        data.load("atari:Pnog")


def test_a_wrong_keyword_is_an_error():
    with pytest.raises(TypeError, match="colour"):
        data.load("digits", colour=True)


def test_without_ale_py_a_game_says_how_to_install_it(monkeypatch):
    for loaded in ("envs.recording", "envs.console", "envs.atari"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    monkeypatch.setitem(sys.modules, "ale_py", None)  # an import of it fails, as if it was not there
    with pytest.raises(ModuleNotFoundError) as caught:
        data.load("atari:Pong")
    assert str(caught.value) == "'atari:Pong' needs ale_py: pip install 'rl-unsup-sandbox[atari]'"


def test_another_import_that_fails_is_its_own_error(monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.delitem(sys.modules, "envs.recording", raising=False)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        data.load("atari:Pong")
    assert "atari]" not in str(caught.value)


def test_a_source_of_ones_own_joins_the_others(tmp_path, monkeypatch):
    source = "def three(n=3):\n    return Data(np.arange(n), np.zeros(n, int), ('none',), 'numbers')\n"
    (tmp_path / "data_of_mine.py").write_text(f"import numpy as np\nfrom sandbox.data import Data\n{source}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "mine", "data_of_mine:three")
    assert data.load("mine").X.tolist() == [0, 1, 2]
    assert len(data.load("mine", n=5).rows) == 5


def test_a_source_of_ones_own_may_take_a_word_after_its_name(tmp_path, monkeypatch):
    source = "def some(n):\n    return Data(np.arange(int(n)), np.zeros(int(n), int), ('none',), 'numbers')\n"
    (tmp_path / "more_data_of_mine.py").write_text(f"import numpy as np\nfrom sandbox.data import Data\n{source}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "numbers:<N>", "more_data_of_mine:some")
    assert data.load("numbers:4").X.tolist() == [0, 1, 2, 3]


# -- environments ------------------------------------------------------------------------------------------------------


def replayed(env, found, counts):
    """What an environment shows when the actions are played again, episode by episode, as many as each one has."""
    import gymnasium as gym

    seen, ends = [], np.cumsum(counts)
    for i, (stop, count) in enumerate(zip(ends, counts, strict=True)):
        one = gym.make(env)
        for t in range(stop - count, stop):
            new = t == stop - count or found.episodes[t] != found.episodes[t - 1]
            if new:
                obs, _ = one.reset(seed=found_seed(found) + i) if t == stop - count else one.reset()
            seen.append(obs)
            obs, _, terminated, truncated, _ = one.step(found.actions[t])
            ends_here = t + 1 < stop and found.episodes[t + 1] != found.episodes[t]
            assert t + 1 == stop or (terminated or truncated) == ends_here
    return np.array(seen)


def found_seed(found):
    return int(found.about.rpartition("seed ")[2])


def test_played_again_the_actions_show_the_same_observations():
    found = data.load("env:CartPole-v1", n=200, n_envs=3, seed=5)
    assert (found.X.shape, found.X.dtype) == ((200, 4), np.float32)
    assert (found.y.shape, found.actions.shape, found.episodes.shape) == ((200, 0), (200,), (200,))
    assert np.array_equal(replayed("CartPole-v1", found, [67, 67, 66]), found.X)
    assert found.episodes[66] != found.episodes[67]
    assert found.episodes[133] != found.episodes[134]
    assert set(np.diff(found.episodes)) == {0, 1}
    assert repr(found) == "Data(X float32 [200, 4], y int64 [200, 0]: CartPole-v1, policy random, seed 5)"


def test_an_environment_of_this_project_keeps_its_episodes_apart_and_its_pictures_as_they_are():
    found = data.load("env:sandbox/Catch-v0", n=50, n_envs=2)
    assert (found.X.shape, found.X.dtype) == ((50, 10, 5), np.float32)
    ball = found.X.sum(2).argmax(1)  # its row: 0 to 8, as the last observation of an episode has no action after it
    assert np.array_equal(ball, np.tile(np.arange(25) % 9, 2))
    assert np.array_equal(np.flatnonzero(np.diff(found.episodes)), [8, 17, 24, 33, 42])
    paddle = found.X[:, -1].argmax(1)
    together = found.episodes[1:] == found.episodes[:-1]
    moved = (paddle[:-1] + found.actions[:-1] - 1).clip(0, 4)
    assert np.array_equal(paddle[1:][together], moved[together])
    pictures = data.load("env:sandbox/PixelCartPole-v0", n=30)
    assert (pictures.X.shape, pictures.X.dtype) == ((30, 4, 42, 42), np.uint8)
    first = np.flatnonzero(np.diff(pictures.episodes, prepend=-1))
    assert (pictures.X[first] == pictures.X[first][:, :1]).all()
    later = np.setdiff1d(np.arange(30), first)
    assert np.array_equal(pictures.X[later][:, :-1], pictures.X[later - 1][:, 1:])


def test_atari_by_the_protocol_is_four_frames_in_order_of_time():
    pytest.importorskip("ale_py")
    found = data.load("env:baselines/Pong-v0", n=40, n_envs=4)
    assert (found.X.shape, found.X.dtype) == ((40, 4, 84, 84), np.uint8)
    assert found.episodes.tolist() == np.repeat(range(4), 10).tolist()
    for t in range(1, 10):
        assert np.array_equal(found.X[10 + t, :-1], found.X[9 + t, 1:])


def test_the_same_seed_plays_the_same_and_nothing_global_is_drawn_from():
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]  # noqa: NPY002
    for env in ("CartPole-v1", "sandbox/Catch-v0", "sandbox/Pendulum-v1"):
        one, again, other = (data.load(f"env:{env}", n=60, seed=seed) for seed in (3, 3, 4))
        assert np.array_equal(one.X, again.X)
        assert np.array_equal(one.episodes, again.episodes)
        assert not np.array_equal(one.X, other.X)
        if env == "sandbox/Pendulum-v1":
            assert one.actions is None
        else:
            assert np.array_equal(one.actions, again.actions)
            assert not np.array_equal(one.actions, other.actions)
    after = np.random.get_state()[1], np.random.get_state()[2]  # noqa: NPY002
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]


def test_a_policy_is_shown_what_is_kept_and_given_its_memory_back():
    class Policy:
        def __init__(self):
            self.seen = []

        def predict(self, obs, state=None, episode_start=None, deterministic=True):
            self.seen.append((obs.copy(), None if state is None else episode_start.copy(), deterministic))
            return np.full(len(obs), 2), np.zeros(1)

    policy = Policy()
    found = data.load("env:sandbox/Catch-v0", n=20, n_envs=2, policy=policy, deterministic=False)
    assert (found.actions == 2).all()
    assert np.array_equal(found.X[:10], [obs[0] for obs, _, _ in policy.seen])
    assert policy.seen[0][1] is None
    assert [starts.tolist() for _, starts, _ in policy.seen[1:]] == [[False, False]] * 8 + [[True, True]]
    assert not any(deterministic for _, _, deterministic in policy.seen)
    assert "policy Policy" in found.about


def test_fewer_observations_than_environments_are_as_many_as_asked_for():
    found = data.load("env:CartPole-v1", n=3)
    assert (len(found.X), found.episodes.tolist()) == (3, [0, 1, 2])
    assert len(data.load("env:CartPole-v1").X) == 4000


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("env:CartPol-v1", {}, "there is no environment 'CartPol-v1': did you mean CartPole-v1"),
        ("env:sandbox/Cetch-v0", {}, "did you mean sandbox/Catch-v0"),
        ("env:", {}, "there is no environment ''"),
        ("env:Blackjack-v1", {}, "Blackjack-v1 shows a Tuple"),
        ("env:FrozenLake-v1", {}, "FrozenLake-v1 shows a Discrete"),
        ("env:CartPole-v1", {"n": 0}, "at least 1"),
        ("env:CartPole-v1", {"n_envs": 0}, "at least 1"),
    ],
)
def test_an_environment_that_cannot_be_played_is_one_line(name, kwargs, words):
    with pytest.raises(ValueError, match=words) as caught:
        data.load(name, **kwargs)
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_no_model_is_an_error():
    with pytest.raises(TypeError, match=r"a model with predict\(\), got int"):
        data.load("env:CartPole-v1", policy=3)


def test_more_observations_than_the_free_memory_are_refused_before_anything_is_played(monkeypatch):
    monkeypatch.setattr("sandbox.training.device.free_memory", lambda: 1000)
    assert len(data.load("env:CartPole-v1", n=62).X) == 62
    with pytest.raises(MemoryError, match="63 x 4 are"):
        data.load("env:CartPole-v1", n=63)


def test_an_environment_whose_extra_is_missing_says_how_to_install_it(monkeypatch):
    import importlib.util

    monkeypatch.setattr("agents.vecenv.importlib.util.find_spec", lambda name: None if name == "ale_py" else True)
    assert importlib.util.find_spec("ale_py") is None
    with pytest.raises(ModuleNotFoundError) as caught:
        data.load("env:baselines/Pong-v0")
    assert str(caught.value) == "'env:baselines/Pong-v0' needs ale_py: pip install 'rl-unsup-sandbox[atari]'"


def test_play_of_two_seconds_shows_how_far_it_is(monkeypatch):
    from sandbox.training import log

    told = []
    monkeypatch.setattr(log.ProgressLine, "update", lambda self, done, note="": told.append((done, self.total)))
    data.load("env:CartPole-v1", n=20)
    assert told == [(8, 20), (16, 20), (20, 20)]


# -- files of one's own ------------------------------------------------------------------------------------------------


def refused(path, **kwargs):
    """The one line that is said of a file."""
    with pytest.raises(FileError) as caught:
        data.load(path, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


TABLES = {
    "with a header": ("x,y\n1,2\n3,4\n", [[1, 2], [3, 4]]),
    "without": ("1,2\n3,4\n", [[1, 2], [3, 4]]),
    "semicolons": ("1;2\n3;4\n", [[1, 2], [3, 4]]),
    "tabs": ("x\ty\n1\t2\n", [[1, 2]]),
    "quotes": ('"x","y, z"\n"1","2"\n', [[1, 2]]),
    "a byte order mark": ("\ufeff1,2\n", [[1, 2]]),
    "years for names": ("name,2019,2020\n1,2,3\n", [[1, 2, 3]]),
    "blank lines": ("\n\nx,y\n\n1,2\n\n", [[1, 2]]),
    "one column": ("1\n2\n", [[1], [2]]),
    "spaces and powers": (" 1 , -2e3\n3,.5\n", [[1, -2000], [3, 0.5]]),
    "Windows": ("x,y\r\n1,2\r\n", [[1, 2]]),
    "rows counted by pandas": (",x,y\n0,5,6\n1,7,8\n", [[5, 6], [7, 8]]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_its_numbers(tmp_path, kind):
    text, rows = TABLES[kind]
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = data.load(tmp_path / "t.csv")
    assert found.X.tolist() == rows
    assert (found.y.shape, found.names) == ((len(rows), 0), ())
    assert "t.csv" in found.about


def test_a_large_table_shows_how_far_it_is(tmp_path, monkeypatch):
    from sandbox.data import files

    told = []
    monkeypatch.setattr(files.ProgressLine, "update", lambda self, done, note="": told.append((done, self.total)))
    X = np.arange(50_000.0).reshape(-1, 2)
    np.savetxt(tmp_path / "t.csv", X, delimiter=",", fmt="%d")
    assert np.array_equal(data.load(tmp_path / "t.csv").X, X)
    assert 0 < told[0][0] < told[0][1]


WRONG_TABLES = {
    "": ["empty"],
    "\n\n": ["empty"],
    "x,y\n": ["no rows"],
    "x,y\n1,2\n3\n": ["line 3", "1 values", "2"],
    "\nx,y\n\n1,2\n3,4,5\n": ["line 5", "3 values"],
    "x,y,z\n1,2\n": ["3 names", "2 values"],
    "x,colour\n1,2\n3,red\n": ["line 3", "column 2 (colour)", "'red'"],
    "1,red\n2,blue\n": ["line 1", "column 2", "'red'"],
    "x,y\n1,\n": ["line 2", "column 2 (y)", "empty"],
    "1,1_000\n": ["line 1", "'1_000', not a number"],
}


@pytest.mark.parametrize("text", WRONG_TABLES)
def test_a_table_that_is_none_names_its_line(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    line = refused(tmp_path / "t.csv")
    assert all(word in line for word in ("t.csv", *WRONG_TABLES[text])), line


def test_bytes_are_no_table(tmp_path):
    (tmp_path / "t.csv").write_bytes("1,2\n".encode("utf-16"))
    assert "UTF-8" in refused(tmp_path / "t.csv")


def test_an_array_is_a_memory_map_and_an_archive_gives_one_of_its_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(3, 2))
    found = data.load(str(tmp_path / "a.npy"))
    assert isinstance(found.X, np.memmap)
    assert found.X.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.savez(tmp_path / "one.npz", x=np.ones((2, 2)))
    assert data.load(tmp_path / "one.npz").X.shape == (2, 2)
    np.savez(tmp_path / "two.npz", x=np.ones((2, 2)), y=np.ones((3, 2)))
    assert len(data.load(f"{tmp_path}/two.npz:y").X) == 3
    line = refused(tmp_path / "two.npz")
    assert "two.npz:x" in line
    assert "two.npz:y" in line
    assert "'z'" in refused(f"{tmp_path}/two.npz:z")


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return print, ("RAN",)


@pytest.mark.parametrize("writer", [np.save, np.savez])
def test_no_object_is_ever_unpickled(tmp_path, capsys, writer):
    path = tmp_path / ("a.npy" if writer is np.save else "a.npz")
    writer(path, np.array([[Trap(), Trap()]]))
    assert "Python objects" in refused(path)
    assert "RAN" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY", b"PK\x03\x04"])
def test_a_damaged_array_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert f"{name}: damaged, or not written by" in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "word"),
    [(np.array([["a"]]), "text"), (np.ones((2, 2), complex), "complex"), (np.ones(3), "[N, D]"), (np.array(1.0), "[]")],
)
def test_an_array_of_something_else_is_one_line(tmp_path, array, word):
    np.save(tmp_path / "a.npy", array)
    assert word in refused(tmp_path / "a.npy")


def paint(path, size, colour, mode="RGB"):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_pictures_come_in_the_most_common_size_by_name_and_in_grey_only_if_all_are(tmp_path):
    for i in range(3):
        paint(tmp_path / f"{i}.png", (20, 10), (0, 0, 50 * i))
    paint(tmp_path / "9.JPG", (300, 200), (255, 255, 255))
    (tmp_path / "notes.txt").write_text("not a picture")
    found = data.load(tmp_path)
    assert (found.X.shape, found.X.dtype) == ((4, 10, 20, 3), np.uint8)
    assert [Path(file).name for file in found.files] == ["0.png", "1.png", "2.png", "9.JPG"]
    assert found.X[:, 0, 0, 2].tolist() == [0, 50, 100, 255]
    assert data.load(tmp_path, size=(4, 6), grey=True).X.shape == (4, 4, 6)
    paint(tmp_path / "grey" / "0.png", (200, 100), 7, "L")
    assert data.load(tmp_path / "grey").X.shape == (1, 32, 64)


def test_subfolders_of_pictures_are_labels(tmp_path):
    for group, n in (("cat", 2), ("ant", 1)):
        for i in range(n):
            paint(tmp_path / group / f"{i}.png", (4, 4), i, "L")
    found = data.load(tmp_path)
    assert (found.y.tolist(), found.names) == ([0, 1, 1], ("ant", "cat"))


def test_what_is_transparent_is_white_what_has_16_bits_keeps_its_light_and_a_turned_camera_is_turned_back(tmp_path):
    paint(tmp_path / "a.png", (2, 2), (255, 0, 0, 0), "RGBA")
    assert (data.load(tmp_path / "a.png").X == 255).all()
    Image.fromarray(np.full((2, 2), 60_000, np.uint16)).save(tmp_path / "b.png")
    assert np.unique(data.load(tmp_path / "b.png", grey=True).X).tolist() == [60_000 >> 8]
    turn = Image.Exif()
    turn[0x0112] = 6
    Image.new("RGB", (30, 10)).save(tmp_path / "c.jpg", exif=turn)
    assert data.load(tmp_path / "c.jpg").X.shape == (1, 30, 10, 3)


@pytest.mark.parametrize("content", [b"", b"junk", "cut"])
def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, content):
    paint(tmp_path / "0.png", (40, 40), (1, 2, 3))
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:50] if content == "cut" else content)
    assert "1.png" in refused(tmp_path)
    assert "1.png" in refused(tmp_path / "1.png")


def test_a_name_comes_before_a_file_of_that_name_and_a_path_is_always_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "digits" / "0.png", (4, 4), 0, "L")
    assert len(data.load("digits").X) == 1797
    assert len(data.load("./digits").X) == len(data.load(Path("digits")).X) == 1


def test_what_is_not_there_not_known_or_not_read_here_is_one_line(tmp_path):
    assert "no such file" in refused(tmp_path / "a.npy")
    (tmp_path / "a.xyz").write_text("?")
    assert ".csv" in refused(tmp_path / "a.xyz")
    (tmp_path / "empty").mkdir()
    assert "pictures" in refused(tmp_path / "empty")
    np.save(tmp_path / "empty" / "0.npy", np.ones((2, 2)))
    assert "unsupervised.Shards" in refused(tmp_path / "empty")


# -- sounds ------------------------------------------------------------------------------------------------------------


def record_wav(path, samples, bits=16, rate=8000):
    """Write whole numbers [T] or [T, channels], of so many bits, as PCM."""
    path.parent.mkdir(exist_ok=True)
    samples = np.asarray(samples)
    little = (samples + (128 if bits == 8 else 0)).astype("<i4").reshape(-1, 1).view(np.uint8)[:, : bits // 8]
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1] if samples.ndim == 2 else 1, bits // 8, rate, 0, "NONE", ""))
        file.writeframes(little.tobytes())
    return path


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_a_sound_is_windows_from_minus_one_to_one(tmp_path, bits):
    top = 2 ** (bits - 1)
    samples = np.array([-top, -top // 2, 0, top // 2, top - 1, 1, -1, 0, 5, 7])
    found = data.load(record_wav(tmp_path / "a.wav", samples, bits), window=4)
    assert (found.X.shape, found.X.dtype) == ((2, 4), np.float32)
    assert np.array_equal(found.X.ravel(), (samples[:8] / top).astype(np.float32))
    assert (found.y.shape, found.names) == ((2, 0), ())
    assert "0.0 s at 8,000 samples a second, in windows of 4" in found.about


def test_stereo_is_averaged_and_a_window_has_1024_samples(tmp_path):
    left, right = np.full(3000, 8192), np.full(3000, -16384)
    found = data.load(record_wav(tmp_path / "a.WAV", np.stack([left, right], axis=1)))
    assert found.X.shape == (2, 1024)
    assert (found.X == -0.125).all()


def test_a_folder_of_sounds_is_labelled_with_the_files_or_the_subfolders(tmp_path):
    for i, name in enumerate(("b", "a", "short")):
        record_wav(tmp_path / "flat" / f"{name}.wav", np.full((20, 10, 3)[i], 1000 * i))
    found = data.load(tmp_path / "flat", window=5)
    assert (found.y.tolist(), found.names) == ([0, 0, 1, 1, 1, 1], ("a", "b", "short"))
    assert found.X[:, 0].round(2).tolist() == pytest.approx([0.03, 0.03, 0, 0, 0, 0])
    assert "3 sounds" in found.about
    for name in ("dog", "cat"):
        for i in range(2):
            (tmp_path / "deep").mkdir(exist_ok=True)
            record_wav(tmp_path / "deep" / name / f"{i}.wav", np.zeros(5))
    found = data.load(tmp_path / "deep", window=5)
    assert (found.y.tolist(), found.names) == ([0, 0, 1, 1], ("cat", "dog"))
    paint(tmp_path / "deep" / "cat" / "0.png", (4, 4), 0, "L")
    assert data.load(tmp_path / "deep").X.shape == (1, 4, 4)


def test_sounds_that_cannot_be_cut_are_one_line(tmp_path):
    path = record_wav(tmp_path / "s" / "a.wav", np.zeros(9))
    assert "window=9" in refused(path)
    assert "none of its 1 sounds" in refused(tmp_path / "s")
    record_wav(tmp_path / "s" / "b.wav", np.zeros(9), rate=44_100)
    assert "b.wav: 44,100 samples a second, but 8,000" in refused(tmp_path / "s", window=3)
    for place in (path, tmp_path / "s"):
        with pytest.raises(ValueError, match="window must be at least 1"):
            data.load(place, window=0)
        with pytest.raises(TypeError, match="grey"):
            data.load(place, grey=True)


@pytest.mark.parametrize("damage", ["empty", "junk", "header cut", "samples cut", "floats", "no channels", "no rate"])
def test_a_damaged_sound_is_one_line(tmp_path, damage):
    path = record_wav(tmp_path / "a.wav", np.zeros(2000))
    whole = path.read_bytes()
    fields = {"floats": (20, b"\x03\x00"), "no channels": (22, b"\x00\x00"), "no rate": (24, b"\x00" * 4)}
    if damage in fields:
        at, value = fields[damage]
        path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    else:
        path.write_bytes({"empty": b"", "junk": b"junk" * 99, "header cut": whole[:30]}.get(damage, whole[:-10]))
    words = {"floats": "not PCM", "samples cut": "ends after 1,995 of 2,000", "no rate": "0 a second"}
    for place in (path, tmp_path):
        line = refused(place)
        assert "a.wav: " in line
        assert words.get(damage, "damaged") in line


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["book.txt", "README.md", "notes.RST", "program.py", "paper.tex"])
def test_a_text_is_windows_of_its_bytes(tmp_path, name):
    written = ("Größe und Maß.\r\n" * 40).encode()
    (tmp_path / name).write_bytes(written)
    found = data.load(tmp_path / name)
    assert (found.X.shape, found.X.dtype) == ((len(written) // 128, 128), np.uint8)
    assert found.X.tobytes() == written[: found.X.size]
    assert (found.y.shape, found.names) == ((len(found.X), 0), ())
    assert f"{name}: {len(written)} bytes in windows of 128" in found.about
    assert data.load(str(tmp_path / name), window=7).X.tobytes() == written[: len(written) // 7 * 7]


def test_a_text_that_cannot_be_cut_is_one_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("")
    assert "a.txt: empty; expected is text" in refused(path)
    path.write_text("short")
    assert "a.txt: 5 bytes, less than a window; ask for window=5 or less" in refused(path)
    assert data.load(path, window=5).X.tobytes() == b"short"
    with pytest.raises(ValueError, match="window must be at least 1 byte, not 0"):
        data.load(path, window=0)
    with pytest.raises(TypeError, match="grey"):
        data.load(path, grey=True)
    assert "no such file" in refused(tmp_path / "b.txt")
