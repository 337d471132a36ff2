"""What training tells: a table on the disk and a line on the screen."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sandbox.training.checkpoint import FileError, atomic

STEP = "time/total_timesteps"


class MetricsCSV:
    """Metrics as a CSV file, one row each time; a new metric adds a column.

    It has the two methods of an output format of Stable-Baselines3's logger, and can be given to one. Rows already in
    the file are kept, up to `from_step`: a resumed run goes on in the same table.

    Parameters
    ----------
    path : Path
    from_step : int
        Rows after this step are dropped: they tell of what a crash has undone.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = MetricsCSV(Path(folder) / "metrics.csv")
    ...     table.write({"loss": 0.5}, step=10)
    ...     table.write({"loss": 0.25, "return": 3.0}, step=20)
    ...     read_metrics(Path(folder) / "metrics.csv")["loss"]
    [0.5, 0.25]
    """

    def __init__(self, path: Path, from_step: int = 0):
        self.path = path
        self.file: TextIO | None = None
        self.behind = False  # whether rows are missing in the file
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            columns = read_metrics(path)
            self.rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            self.rows = [row for row in self.rows if row[STEP] <= from_step]
        self.columns = list(dict.fromkeys([STEP, *(key for row in self.rows for key in row)]))
        self._rewrite()

    def write(
        self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any] | None = None, step: int = 0
    ) -> None:
        """Add a row, or to the last row if it is of the same step; values that are not numbers are left out."""
        # A disk that is full now may not be later: what can't be written stays in memory until it can.
        row = {STEP: step, **{key: float(value) for key, value in key_values.items() if _is_number(value)}}
        again = bool(self.rows) and self.rows[-1][STEP] == step
        if again:
            self.rows[-1].update(row)
        else:
            self.rows.append(row)
        new = [key for key in row if key not in self.columns]
        self.columns += new
        try:
            if new or again or self.behind:
                self._rewrite()
            else:
                assert self.file is not None, "the table is closed"
                csv.DictWriter(self.file, self.columns).writerow(row)
                self.file.flush()
            self.behind = False
        except OSError as error:
            if not self.behind:
                print(f"{self.path}: {error.strerror or error}: rows wait in memory", file=sys.stderr)
            self.behind = True

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            file, self.file = self.file, None
            with suppress(OSError):  # what it could not write is in `rows`
                file.close()

    def _rewrite(self) -> None:
        self.close()
        with atomic(self.path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        self.file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - open as long as training runs


class TensorBoard:
    """Metrics as TensorBoard's events, with the methods of `MetricsCSV`.

    Parameters
    ----------
    folder : Path
        ``tensorboard --logdir folder`` shows them.

    Raises
    ------
    ModuleNotFoundError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            install = "this needs TensorBoard: pip install 'rl-unsup-sandbox[tensorboard]'"
            raise ModuleNotFoundError(install, name="tensorboard") from error
        self.writer = SummaryWriter(str(folder))

    def write(self, key_values: Mapping[str, Any], step: int = 0) -> None:
        """Add what is a number, at a step."""
        for key, value in key_values.items():
            if _is_number(value):
                self.writer.add_scalar(key, float(value), step)

    def close(self) -> None:
        """Write out everything."""
        self.writer.close()


def _is_number(value: Any) -> bool:
    """Whether it is one number: Python's, numpy's, or a tensor of no dimension."""
    array = np.asarray(value) if isinstance(value, Real | np.generic | np.ndarray) or hasattr(value, "numpy") else None
    return array is not None and array.ndim == 0 and array.dtype.kind in "biuf"


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Read a table of `MetricsCSV`: each column's name and its numbers, NaN where a row has none.

    A last row that a crash cut off is left out.

    Raises
    ------
    FileError
        If the file is missing or not such a table.
    """
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        header, *rows = list(csv.reader(whole.splitlines())) or [[]]
        if STEP not in header or any(len(row) != len(header) for row in rows):
            raise ValueError
        return {name: [float(row[i]) if row[i] else math.nan for row in rows] for i, name in enumerate(header)}
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise FileError(f"{path}: not a table of metrics") from error


class _Rate(ProgressColumn):
    def render(self, task: Any) -> str:
        return f"{task.speed or task.finished_speed or 0.0:,.0f} {task.fields['unit']}/s"


class ProgressLine:
    """A progress bar with rate, time left and whatever is worth a look; plain lines where the output is no terminal.

    Parameters
    ----------
    label : str
    total : int
        Of `unit`.
    unit : str
    done : int
        Where it starts.
    patience : float
        Seconds before anything is shown: what is over by then needs no bar.

    Examples
    --------
    >>> with ProgressLine("training", total=10, unit="steps") as progress:
    ...     progress.update(10, "return 3.0")
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, patience: float = 0.0):
        self.label, self.total, self.unit, self.start, self.patience = label, total, unit, done, patience
        self.console = Console()
        self.bar: Progress | None = None

    def __enter__(self) -> ProgressLine:
        self.began = self.last = time.monotonic()
        if self.patience == 0.0:
            self._show()
        return self

    def _show(self) -> None:
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Progress(*columns, console=self.console, refresh_per_second=5)
            self.task = self.bar.add_task(self.label, total=self.total, completed=self.start, unit=self.unit, note="")
            self.bar.start()

    def update(self, done: int, note: str = "") -> None:
        """Say how much is done; without a terminal, a line every five seconds."""
        if self.bar is None and self.patience and time.monotonic() - self.began > self.patience:
            self._show()
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self.began > self.patience and now - self.last >= 5.0:
            self.last = now
            rate = (done - self.start) / (now - self.began)
            words = [f"{self.label}: {done:,} of {self.total:,} {self.unit}"]
            if rate:
                words += [f"{rate:,.0f}/s", f"{max(self.total - done, 0) / rate:.0f} s left"]
            print(", ".join([*words, note] if note else words), flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
