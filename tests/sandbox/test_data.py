"""Data sets by name: what they are, what is said of a wrong name, and what is not loaded before it is asked for."""

import sys

import numpy as np
import pytest

from sandbox import data
from sandbox.data import SOURCES


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
    [("digit", "digits"), ("Photo", "photos"), ("atari", "atari:<Game>"), ("digits:8", "digits"), ("", "digits")],
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
