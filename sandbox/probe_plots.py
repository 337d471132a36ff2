"""Pictures of what an encoder's features are worth: bars, the encoder beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sandbox.figures import FEW, INK, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unsupervised.evaluate import FewLabels, Judgement, RamJudgement

COLOURS = {
    "encoder": FEW[0],
    "fine-tuned": "#1d3f73",
    "frozen": FEW[0],
    "supervised": FEW[1],
    "from scratch": FEW[1],
    "random": "#8a939b",
    "PCA": "#b4bbc1",
    "pixels": "#d9dde0",
}
LOWEST = -0.2  # of R², which may fall without end where nothing is known
MANY = 9  # variables, whose names are then written aslant


def plot_judgement(path: Path, judged: Judgement, few: FewLabels, title: str = "") -> None:
    """Draw what features are worth with all labels, and with few.

    Parameters
    ----------
    path : Path
        Of the PNG.
    judged : Judgement
    few : FewLabels
    title : str
    """
    with drawn(path, (12, 4.6), title) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        rows = {name: (row.linear, row.knn, row.nmi, row.ari) for name, row in judged.rows.items()}
        _bars(left, rows, ("linear layer\naccuracy", "neighbours\naccuracy", "k-means\nNMI", "k-means\nARI"))
        left.plot((-0.46, 1.46), (judged.chance, judged.chance), ":", color=INK, linewidth=1.2, label="chance")
        left.set_title(f"features as they are, {judged.n_train:,} labels", fontsize=10)
        _legend(left)
        _few(right, few)


def plot_few_labels(path: Path, few: FewLabels, title: str = "") -> None:
    """Draw how accuracy grows with labels.

    Parameters
    ----------
    path : Path
        Of the PNG.
    few : FewLabels
    title : str

    Examples
    --------
    >>> import tempfile
    >>> from unsupervised.evaluate import FewLabels
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_few_labels(Path(folder, "few.png"), FewLabels((0.1,), (20,), {"frozen": (0.9,), "pixels": (0.7,)}, 50))
    ...     [path.name for path in Path(folder).iterdir()]
    ['few.png']
    """
    with drawn(path, (7.6, 4.6), title) as figure:
        _few(figure.subplots(), few)


def plot_ram(path: Path, judged: RamJudgement, title: str = "") -> None:
    """Draw what a linear layer reads of each variable in a game's memory.

    Parameters
    ----------
    path : Path
        Of the PNG.
    judged : RamJudgement
    title : str
    """
    scores = judged.scores
    names = ["mean", *scores["encoder"].r2]
    rows = {who: [one.mean, *one.r2.values()] for who, one in scores.items()}
    many = len(names) > MANY
    with drawn(path, (float(np.clip(1.5 + 0.9 * len(names), 7, 26)), 4.8 + 0.8 * many), title) as figure:
        axes = figure.subplots()
        _bars(axes, rows, names if many else [name.replace(" ", "\n", 1) for name in names], LOWEST)
        if many:
            for label in axes.get_xticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
        axes.axvline(0.5, color=INK, linewidth=0.6, linestyle=":")
        first = scores["encoder"]
        about = f"R² on {first.n_test:,} frames held out, a linear layer learned on {first.n_train:,}"
        axes.set_title(f"{first.game}: {about}", fontsize=10)
        _legend(axes)


def _few(axes: Axes, few: FewLabels) -> None:
    columns = [f"{n:,} labels\n({100 * share:.3g} %)" for share, n in zip(few.shares, few.n_labels, strict=True)]
    _bars(axes, few.accuracy, columns)
    axes.set_title(f"accuracy on {few.n_test:,} samples held out", fontsize=10)
    _legend(axes)


def _bars(axes: Axes, rows: dict[str, Any], columns: Sequence[str], lowest: float = 0.0) -> None:
    """Groups of bars, one for each column, in each a bar for each row; the numbers that matter are on top."""
    width = 0.84 / len(rows)
    for i, (name, values) in enumerate(rows.items()):
        heights = np.maximum(values, lowest)
        places = np.arange(len(columns)) + (i - (len(rows) - 1) / 2) * width
        bars = axes.bar(places, heights, 0.92 * width, color=COLOURS[name], label=name, zorder=2)
        if name in ("encoder", "fine-tuned", "frozen", "from scratch"):
            told = [f"{value:.2f}" for value in values]
            axes.bar_label(bars, told, fontsize=7, padding=1, color=INK, rotation=90 if len(rows) > 5 else 0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylim(min(0.0, *(np.maximum(values, lowest).min() for values in rows.values())), 1.1)
    axes.set_xticks(np.arange(len(columns)), columns, fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color="#e6e9ec", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)


def _legend(axes: Axes) -> None:
    """What the colours mean, between the title and the bars."""
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 1])
    axes.set_ylim(low, high + 0.1 * (high - low))
    axes.legend(loc="upper center", ncols=6, fontsize=8, frameon=False, columnspacing=1.2, handlelength=1.2)
