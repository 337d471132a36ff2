"""The table of metrics and the line on the screen."""

import math

import numpy as np
import pytest
import torch

from sandbox.training import log
from sandbox.training.checkpoint import FileError
from sandbox.training.log import STEP, MetricsCSV, ProgressLine, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


@pytest.fixture
def table(path):
    """Three rows; the last one brings a column."""
    table = MetricsCSV(path)
    for step, row in ((10, {"loss": 0.5}), (20, {"loss": 0.25}), (30, {"loss": 0.125, "return": 3.25})):
        table.write(row, step=step)
    table.close()
    return path


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def test_rows_are_on_the_disk_as_soon_as_they_are_written(path):
    table = MetricsCSV(path)
    table.write({"loss": 0.5}, step=10)
    assert read_metrics(path) == {STEP: [10.0], "loss": [0.5]}
    table.close()


def test_a_new_metric_adds_a_column_that_earlier_rows_lack(table):
    columns = read_metrics(table)
    assert columns[STEP] == [10.0, 20.0, 30.0]
    assert columns["loss"] == [0.5, 0.25, 0.125]
    assert [math.isnan(value) for value in columns["return"]] == [True, True, False]


def test_a_row_may_lack_a_metric(path):
    table = MetricsCSV(path)
    table.write({"a": 1.0, "b": 2.0}, step=1)
    table.write({"b": 3.0}, step=2)
    table.close()
    assert same(read_metrics(path), {STEP: [1.0, 2.0], "a": [1.0, math.nan], "b": [2.0, 3.0]})


def test_a_resumed_run_drops_the_rows_that_a_crash_has_undone_and_goes_on(table):
    again = MetricsCSV(table, from_step=20)
    again.write({"loss": 0.2}, step=30)
    again.close()
    assert read_metrics(table)[STEP] == [10.0, 20.0, 30.0]
    assert read_metrics(table)["loss"] == [0.5, 0.25, 0.2]


def test_a_new_run_in_an_old_table_begins_anew(table):
    MetricsCSV(table, from_step=0).close()
    assert read_metrics(table)[STEP] == []


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_last_line_that_a_crash_cut_off_is_left_out(table, cut):
    whole = table.read_bytes()
    cut_off = whole[:-cut] if cut > 1 else whole.rstrip(b"\r\n")
    last_line = whole.rstrip(b"\r\n").rsplit(b"\n", 1)[1]
    if len(cut_off) <= len(whole.rstrip(b"\r\n")) - len(last_line):
        pytest.skip("the cut has reached the line before")
    table.write_bytes(cut_off)
    assert read_metrics(table)["loss"][:2] == [0.5, 0.25]
    assert read_metrics(table)["return"][2:] in ([], [3.25])  # whole or not at all, never 3.2


def test_a_last_number_that_ends_in_its_middle_does_not_spoil_the_table(path):
    table = MetricsCSV(path)
    table.write({"lr": 1.5e-5}, step=1)
    table.write({"lr": 2.5e-5}, step=2)
    table.close()
    path.write_bytes(path.read_bytes().rstrip(b"\r\n")[:-2])  # ...2.5e-
    assert read_metrics(path)["lr"] == [1.5e-5]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"a,b\n1,2\n", b"%b,x\n1,word\n" % STEP.encode(), b"\xff\xfe\x00", b"a" * 200_000, b'"\n' * 9],
    ids=["empty", "text", "csv", "words", "binary", "long", "quotes"],
)
def test_a_foreign_file_is_refused_in_one_line_and_left_alone(path, content):
    path.write_bytes(content)
    for reader in (read_metrics, MetricsCSV):
        with pytest.raises(FileError, match="not a table of metrics") as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_metrics(tmp_path / "none")
    with pytest.raises(FileError, match="directory"):
        read_metrics(tmp_path)


def test_numbers_of_every_kind_are_kept(path):
    table = MetricsCSV(path)
    values = {"int": 3, "float": 0.5, "np": np.float32(0.25), "npint": np.int64(7), "torch": torch.tensor(2.0)}
    table.write({**values, "zero_d": np.array(4.0), "nan": math.nan, "inf": math.inf}, step=1)
    table.close()
    columns = read_metrics(path)
    assert {name: columns[name] for name in values} == {name: [float(value)] for name, value in values.items()}
    assert columns["zero_d"] == [4.0]
    assert math.isnan(columns["nan"][0])
    assert columns["inf"] == [math.inf]


@pytest.mark.parametrize(
    "value",
    ["text", None, np.str_("text"), [1.0], np.array([1.0, 2.0]), torch.ones(3), {"a": 1}, object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_left_out(path, value):
    table = MetricsCSV(path)
    table.write({"loss": 0.5, "odd": value}, step=1)
    table.close()
    assert read_metrics(path) == {STEP: [1.0], "loss": [0.5]}


def test_a_name_with_a_comma_or_a_line_break_stays_one_name(path):
    table = MetricsCSV(path)
    table.write({"a,b": 1.0, 'say "hi"': 2.0}, step=1)
    table.close()
    assert read_metrics(path) == {STEP: [1.0], "a,b": [1.0], 'say "hi"': [2.0]}


# -- the line on the screen --------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_five_seconds_says_rate_and_time_left(capsys, clock):
    with ProgressLine("training", total=1_000, unit="steps") as progress:
        for second in range(1, 13):
            clock[0] = 100.0 + second
            progress.update(50 * second, "return 3.0")
    assert capsys.readouterr().out.splitlines() == [
        "training: 250 of 1,000 steps, 50/s, 15 s left, return 3.0",
        "training: 500 of 1,000 steps, 50/s, 10 s left, return 3.0",
    ]


def test_a_resumed_line_counts_its_rate_from_where_it_starts(capsys, clock):
    with ProgressLine("training", total=1_000, unit="steps", done=500) as progress:
        clock[0] += 5.0
        progress.update(600, "x")
    assert capsys.readouterr().out == "training: 600 of 1,000 steps, 20/s, 20 s left, x\n"


def test_no_progress_and_no_note_make_a_clean_line(capsys, clock):
    with ProgressLine("training", total=1_000, unit="steps") as progress:
        clock[0] += 5.0
        progress.update(0)
    line = capsys.readouterr().out.rstrip("\n")
    assert not line.endswith((" ", ","))
    assert "inf" not in line


def test_in_a_terminal_it_is_a_bar_that_ends_also_after_an_error(monkeypatch):
    progress = ProgressLine("training", total=10, unit="steps")
    monkeypatch.setattr(type(progress.console), "is_terminal", True)

    def half_way():
        with progress:
            progress.update(5, "return 3.0")
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        half_way()
    assert progress.bar.tasks[0].completed == 5
    assert progress.bar.tasks[0].fields["note"] == "return 3.0"
    assert progress.bar.live.is_started is False


def test_two_writes_of_one_step_are_one_row(path):
    table = MetricsCSV(path)
    table.write({"loss": 0.5}, step=1)
    table.write({"return": 3.0}, step=2)
    table.write({"loss": 0.25}, step=2)
    table.write({"loss": 0.125}, step=3)
    table.close()
    assert read_metrics(path)[STEP] == [1.0, 2.0, 3.0]
    assert read_metrics(path)["loss"] == [0.5, 0.25, 0.125]
    assert read_metrics(path)["return"][1] == 3.0
