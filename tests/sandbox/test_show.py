"""Pictures: learning curves, GIFs, the terminal."""

import re

import numpy as np
import pytest
from PIL import Image

from sandbox import show
from sandbox.show import common_grid, plot_learning_curves, plot_seeds, show_in_terminal, write_gif
from sandbox.training.log import MetricsCSV


def frames(n, height=20, width=30):
    """A white column that walks to the right."""
    film = np.zeros((n, height, width, 3), np.uint8)
    for i in range(n):
        film[i, :, i % width] = 255
    return list(film)


def gif(path):
    with Image.open(path) as image:
        lasts = []
        for i in range(image.n_frames):
            image.seek(i)
            lasts.append(image.info["duration"])
        return image.n_frames, image.size, lasts, image.info.get("loop")


def test_a_gif_has_every_frame_at_the_pace_of_the_environment_for_ever(tmp_path):
    write_gif(tmp_path / "e.gif", frames(12), fps=25)
    n, size, lasts, loop = gif(tmp_path / "e.gif")
    assert (n, size, loop) == (12, (30, 20), 0)
    assert lasts == [40] * 12


@pytest.mark.parametrize("n", [150, 151, 500, 1001])
def test_a_long_film_is_thinned_and_lasts_as_long(tmp_path, n):
    write_gif(tmp_path / "e.gif", frames(n, width=2000 // 2, height=4), fps=50)
    count, _, lasts, _ = gif(tmp_path / "e.gif")
    assert 75 <= count <= 150
    assert sum(lasts) == pytest.approx(1000 * n / 50, rel=0.02)


def test_no_frame_is_shorter_than_viewers_can_show(tmp_path):
    write_gif(tmp_path / "e.gif", frames(5), fps=1000)
    assert set(gif(tmp_path / "e.gif")[2]) == {20}


def test_a_wide_film_is_shrunk_in_proportion_and_a_small_one_is_not_blown_up_beyond_its_shape(tmp_path):
    write_gif(tmp_path / "e.gif", frames(2, 400, 600), fps=10)
    assert gif(tmp_path / "e.gif")[1] == (320, 213)


def test_a_single_frame_and_frames_all_alike_are_fine(tmp_path):
    write_gif(tmp_path / "one.gif", frames(1), fps=10)
    write_gif(tmp_path / "same.gif", [frames(1)[0]] * 5, fps=10)
    assert gif(tmp_path / "one.gif")[0] == 1
    assert gif(tmp_path / "same.gif")[0] >= 1
    with Image.open(tmp_path / "same.gif") as image:  # an encoder may merge equal frames, but not their time
        assert sum(gif(tmp_path / "same.gif")[2]) == 500 or image.n_frames == 5


def test_colours_come_through(tmp_path):
    film = np.zeros((3, 16, 16, 3), np.uint8)
    film[:, :8], film[:, 8:] = (200, 30, 40), (20, 60, 210)
    write_gif(tmp_path / "e.gif", list(film), fps=10)
    with Image.open(tmp_path / "e.gif") as image:
        again = np.asarray(image.convert("RGB")).astype(int)
    top, bottom = again[: again.shape[0] // 4].reshape(-1, 3), again[-(again.shape[0] // 4) :].reshape(-1, 3)
    assert np.abs(top - (200, 30, 40)).max() < 12
    assert np.abs(bottom - (20, 60, 210)).max() < 12


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 4, 4, 3), np.uint8)], ids=["list", "array"])
def test_no_frames_are_an_error_and_the_old_file_stays(tmp_path, nothing):
    (tmp_path / "e.gif").write_text("old")
    with pytest.raises(ValueError, match="no frames"):
        write_gif(tmp_path / "e.gif", nothing, fps=10)
    assert (tmp_path / "e.gif").read_text() == "old"


# -- learning curves ---------------------------------------------------------------------------------------------------


def table(path, rows):
    metrics = MetricsCSV(path)
    for step, row in rows:
        metrics.write(row, step=step)
    metrics.close()
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What goes into the figure: the lines' points by their label."""
    from matplotlib.axes import Axes

    lines, plot = {}, Axes.plot

    def spy(self, x, y, *args, **kwargs):
        lines[kwargs.get("label", "")] = (list(x), list(y))
        return plot(self, x, y, *args, **kwargs)

    monkeypatch.setattr(Axes, "plot", spy)
    return lines


def test_training_is_a_line_and_evaluations_are_dots_where_there_are_numbers(tmp_path, drawn):
    rows = [(10, {"rollout/ep_rew_mean": 1.0}), (20, {"rollout/ep_rew_mean": float("nan"), "eval/mean_return": 3.0})]
    rows += [(30, {"rollout/ep_rew_mean": 2.0, "loss": 9.0})]
    plot_learning_curves(tmp_path / "p.png", {"": table(tmp_path / "m.csv", rows)}, "a title")
    assert sorted(drawn.values()) == [([10.0, 30.0], [1.0, 2.0]), ([20.0], [3.0])]
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"


def test_each_run_has_its_colour_and_its_name(tmp_path, drawn):
    tables = {f"seed {i}": table(tmp_path / f"{i}.csv", [(1, {"rollout/ep_rew_mean": i})]) for i in range(3)}
    plot_learning_curves(tmp_path / "p.png", tables, "")
    assert len(drawn) == 3
    assert all(any(label.startswith(name) for label in drawn) for name in tables)


def seeds(folder, column, curves):
    """A table for each curve, a mapping of step to value."""
    rows = [[(step, {column: value}) for step, value in curve.items()] for curve in curves]
    return [table(folder / f"{i}.csv", own) for i, own in enumerate(rows)]


CURVES = [{10: 0.0, 20: 4.0, 30: 0.0}, {10: 1.0, 20: 4.0, 30: 10.0}, {10: 2.0, 20: 4.0, 30: 20.0}]
CURVES += [{10: 90.0, 20: 4.0, 30: 90.0}]


@pytest.mark.parametrize("column", ["eval/mean_return", "rollout/ep_rew_mean"])
def test_several_seeds_are_their_interquartile_mean_a_band_and_each_of_them_faintly(
    tmp_path, drawn, column, monkeypatch
):
    from matplotlib.axes import Axes

    bands = []
    monkeypatch.setattr(Axes, "fill_between", lambda self, *args, **kwargs: bands.append(args))
    plot_seeds(tmp_path / "p.png", seeds(tmp_path, column, CURVES), "a title")
    steps, mean = drawn["interquartile mean"]
    assert (steps, mean) == ([10.0, 20.0, 30.0], [1.5, 4.0, 15.0])
    assert drawn["single seeds"] == ([10.0, 20.0, 30.0], [0.0, 4.0, 0.0])
    ((grid, low, high),) = bands
    assert grid.tolist() == steps
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert low[1] == high[1] == 4.0
    assert high[0] > 20  # now and then most of the draws are the lucky seed
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"


def test_evaluations_go_before_training_where_there_are_enough(tmp_path, drawn):
    few = [{"rollout/ep_rew_mean": float(t), **({"eval/mean_return": 50.0} if t > 1 else {})} for t in range(4)]
    tables = [table(tmp_path / f"{i}.csv", [*enumerate(few)]) for i in range(2)]
    plot_seeds(tmp_path / "p.png", tables, "")
    assert drawn["interquartile mean"][1] == [0.0, 1.0, 2.0, 3.0]
    many = [{"rollout/ep_rew_mean": float(t), "eval/mean_return": 50.0} for t in range(4)]
    tables = [table(tmp_path / f"{i}.csv", [*enumerate(many)]) for i in range(2, 4)]
    plot_seeds(tmp_path / "p.png", tables, "")
    assert drawn["interquartile mean"][1] == [50.0] * 4


def test_curves_with_other_steps_meet_on_those_that_all_have_passed():
    steps, values = common_grid(
        [(np.array([0.0, 10.0, 40.0]), np.array([0.0, 1.0, 4.0])), (np.array([5.0, 9.0, 15.0, 30.0]), np.ones(4))]
    )
    assert steps.tolist() == [10.0]
    assert values.tolist() == [[1.0], [1.0]]
    apart = [(np.array([0.0, 1.0]), np.zeros(2)), (np.array([5.0, 6.0]), np.zeros(2))]
    assert common_grid(apart)[1].shape == (2, 0)


@pytest.mark.parametrize("curves", [[{}, {}], [{}, {1: 2.0}], [{1: 1.0}, {9: 1.0}]], ids=str)
def test_seeds_with_nothing_in_common_are_a_picture_and_no_error_or_warning(tmp_path, curves, recwarn):
    plot_seeds(tmp_path / "p.png", seeds(tmp_path, "rollout/ep_rew_mean", curves), "nothing yet")
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert not recwarn.list


@pytest.mark.parametrize("rows", [[], [(1, {"loss": 1.0})], [(1, {"rollout/ep_rew_mean": float("nan")})]], ids=len)
def test_nothing_to_draw_is_a_picture_and_no_error_or_warning(tmp_path, rows, recwarn):
    plot_learning_curves(tmp_path / "p.png", {"": table(tmp_path / "m.csv", rows)}, "nothing yet")
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert not recwarn.list


def test_plots_touch_no_pyplot_and_no_display(tmp_path):
    import sys

    before = "matplotlib.pyplot" in sys.modules
    plot_learning_curves(tmp_path / "p.png", {"": table(tmp_path / "m.csv", [])}, "")
    assert ("matplotlib.pyplot" in sys.modules) == before


# -- terminal ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slept(monkeypatch):
    naps = []
    monkeypatch.setattr(show.time, "sleep", naps.append)
    return naps


def test_a_terminal_film_shows_two_pixels_a_character_in_place_at_its_pace(capsys, slept):
    film = np.zeros((3, 4, 8, 3), np.uint8)
    film[:, :2] = (255, 0, 0)
    film[:, 2:] = (0, 0, 255)
    show_in_terminal(list(film), fps=20, width=8)
    out = capsys.readouterr().out
    assert len(slept) == 3
    assert sum(slept) == pytest.approx(0.15, rel=0.01)
    assert out.count("▀") == 3 * 8 * 2
    rows = out.split("\n")
    assert "38;2;255;0;0m" in rows[0]
    assert "38;2;0;0;255m" in rows[1]
    ups = [int(n) for n in re.findall(r"\x1b\[(\d+)A", out)]
    assert set(ups) == {1}  # two rows: one line up, to draw the next frame over this one
    assert out.rstrip("\n").count("\x1b[0m") >= 6  # each row resets its colours
    assert out.endswith("\n")


def test_no_frames_write_next_to_nothing(capsys, slept):
    show_in_terminal([], fps=10)
    assert capsys.readouterr().out.strip() == ""
    assert slept == []
