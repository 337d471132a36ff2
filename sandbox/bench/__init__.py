"""Benchmarks: ours and the peer on the same work, in turn, each in a process of its own, with quality beside speed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.flags import Parser, count
from sandbox.training.checkpoint import write_text


def measure(module: str, **job: Any) -> dict[str, Any]:
    """Run one measurement in a fresh process, so that no setting, cache or heap of another one is in it.

    Parameters
    ----------
    module : str
        Whose ``main`` answers ``--job JSON`` with one line of JSON.
    **job
        What to measure.

    Returns
    -------
    dict
        The job and its measurements.

    Raises
    ------
    RuntimeError
        If the process fails; its own error has been printed.
    """
    command = [sys.executable, "-m", module, "--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the measurement {job} failed")
    return {**job, **json.loads(done.stdout.splitlines()[-1])}


def arguments(name: str, about: str | None, repeats: int | None = None, epilog: str | None = None) -> Parser:
    """The flags that all benches have.

    Parameters
    ----------
    name : str
        Of the bench.
    about : str
    repeats : int, optional
        Seeds of each case by default; no flag for it where there is none.
    epilog : str, optional
    """
    parser = Parser(prog=f"sandbox bench {name}", description=about, epilog=epilog)
    if repeats is not None:
        text = f"seeds of each case; default {repeats}"
        parser.add_argument("--repeats", type=count, default=repeats, metavar="N", help=text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the raw measurements as JSON")
    parser.add_argument("--job", type=json.loads, help="one measurement, as the bench starts it")
    return parser


def compare(
    module: str, name: str, cases: Mapping[str, Sequence[str]], repeats: int, out: Path | None, what: str, **job: Any
) -> None:
    """Theirs and each of ours by turns, seed by seed, and a table of what both took and reached.

    Parameters
    ----------
    module : str
        As for `measure`; a measurement has ``rate`` and ``return``.
    name : str
        Of the bench.
    cases : mapping
        For each case, who of ours runs it beside ``"theirs"``.
    repeats : int
        Seeds of each.
    out : Path, optional
        See `keep`.
    what : str
        The table's title.
    **job
        What else each measurement is told.
    """
    measurements: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    for case, ours in cases.items():
        rounds: list[dict[str, Any]] = []
        for seed in range(repeats):
            rounds.append({who: measure(module, case=case, who=who, seed=seed, **job) for who in ("theirs", *ours)})
            measurements += rounds[-1].values()
            keep(out, name, measurements)
        rows += ratios(case, rounds, "theirs", "return", 1)
    header = ("", "theirs", "ours", "ratio", "return, theirs", "ours")
    show(f"{what}: median [min, max] of {repeats} seeds", header, rows)


def ratios(
    case: str, rounds: Sequence[Mapping[str, dict[str, Any]]], peer: str, quality: str, digits: int
) -> list[tuple[str, ...]]:
    """A table's rows for one case, and a line on the screen for each: rates, their ratio, and the quality beside.

    Parameters
    ----------
    case : str
    rounds : sequence of mapping
        For each seed, by who was measured, a measurement with ``rate`` and the quality.
    peer : str
        Whom all others in the rounds are compared with.
    quality : str
        Its name in a measurement.
    digits : int
        Of the quality.

    Examples
    --------
    >>> rounds = [{"theirs": {"rate": 2.0, "loss": 0.5}, "ours": {"rate": 6.0, "loss": 0.4}}]
    >>> ratios("CartPole", rounds, "theirs", "loss", 1)[0][3]
    CartPole, ours: 3.00 [3.00, 3.00]
    '3.00 [3.00, 3.00]'
    """
    rows = []
    for who in (who for who in rounds[0] if who != peer):
        pairs = [(one[peer], one[who]) for one in rounds]
        ratio = spread([mine["rate"] / theirs["rate"] for theirs, mine in pairs])
        rates, qualities = (
            [spread([side[key] for side in sides], places) for sides in zip(*pairs, strict=True)]
            for key, places in (("rate", 0), (quality, digits))
        )
        rows.append((f"{case}, {who}", *rates, ratio, *qualities))
        print(f"{case}, {who}: {ratio}", flush=True)
    return rows


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the smallest and largest in brackets.

    Examples
    --------
    >>> spread([1.0, 3.0, 2.0])
    '2.00 [1.00, 3.00]'
    """
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=Text(title), title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def keep(path: Path | None, name: str, measurements: Sequence[dict[str, Any]]) -> None:
    """Write the raw measurements, and the machine that made them, as JSON."""
    if path is None:
        return
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    write_text(
        path, json.dumps({"bench": name, "machine": machine, "measurements": list(measurements)}, indent=1) + "\n"
    )
    print(f"raw measurements: {path}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()
