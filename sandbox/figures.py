"""What all pictures have in common: their colours, how one is begun and kept, and small pictures side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sandbox.training.checkpoint import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INK, PAPER = "#22313f", "#ffffff"
FEW = ("#3366aa", "#e07b39", "#2f9e77", "#c94f6d", "#8b6bb8", "#a97c50", "#d98cb3", "#7a8288", "#b5a62e", "#37a3c2")
SHARP = 48  # pixels that the longer side of a small picture has at least, drawn


def palette(k: int) -> np.ndarray:
    """Colours that can be told apart, as long as there are few, ``[k, 3]`` from 0 to 1.

    Examples
    --------
    >>> palette(3).shape, len(np.unique(palette(40).round(3), axis=0))
    ((3, 3), 40)
    """
    if k <= len(FEW):
        return np.array([[int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)] for text in FEW[:k]])
    golden = 0.61803398875  # of a turn: wherever one stops, the hues are spread
    return np.array(
        [colorsys.hls_to_rgb(i * golden % 1, (0.42, 0.62, 0.52)[i % 3], (0.45, 0.6)[i % 2]) for i in range(k)]
    )


@contextmanager
def drawn(path: Path, size: tuple[float, float], title: str) -> Iterator[Figure]:
    """An empty figure, of a size in inches; after the block it is the picture at `path`."""
    figure = blank(size, title)
    yield figure
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with atomic(path) as draft:
        figure.savefig(draft)


def blank(size: tuple[float, float], title: str, dpi: float = 120) -> Figure:
    """An empty figure, of a size in inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def scatter(axes: Axes, points: np.ndarray, colours: np.ndarray, alpha: float = 0.75) -> None:
    """Draw points [n, 2] in their colours [n, 3], the smaller the more there are."""
    mixed = np.random.default_rng(0).permutation(len(points))  # no cluster lies on top of all others
    size = float(np.clip(12_000 / max(len(points), 1), 3, 30))
    axes.scatter(points[mixed, 0], points[mixed, 1], s=size, c=colours[mixed], alpha=alpha, linewidths=0)


def write(axes: Axes, x: float, y: float, text: str, colour: Any = INK, fontsize: float = 11) -> Text:
    """Write a word in the middle of a place, readable on top of anything."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground=PAPER)]
    place: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo, "zorder": 10}
    return axes.text(x, y, text, fontsize=fontsize, color=colour, **place)


def span(pictures: np.ndarray) -> tuple[float, float]:
    """The numbers that are black and white: of bytes 0 and 255, of what lies between 0 and 1 these, else the extremes.

    Examples
    --------
    >>> span(np.zeros((2, 4, 4), np.uint8)), span(np.full((1, 2, 2), 0.5)), span(np.array([[[-3.0, 8.0]]]))
    ((0.0, 255.0), (0.0, 1.0), (-3.0, 8.0))
    """
    if pictures.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(pictures.min()), float(pictures.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Brightness from 0, at `low` and below, to 1, at `high` and above.

    Examples
    --------
    >>> unit(np.array([-4, 0, 4, 16]), 0, 16).tolist()
    [0.0, 0.0, 0.25, 1.0]
    """
    return np.clip((np.asarray(values, float) - low) / max(high - low, 1e-12), 0, 1)


@dataclass(frozen=True, eq=False)
class Sheet:
    """Small pictures of one size side by side on paper.

    Attributes
    ----------
    image : [h, w, 3]
        From 0 to 1.
    x, y : [columns] and [rows]
        Where their middles are, in pixels of `image`.
    scale : int
        Pixels of `image` along a side of a picture's pixel.
    """

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    scale: int

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[np.ndarray]],
        gap: float = 0.08,
        above: Sequence[float] = (),
        before: Sequence[float] = (),
    ) -> Sheet:
        """Put pictures side by side.

        Parameters
        ----------
        rows : sequence of sequences of [H, W] or [H, W, 3]
            From 0 to 1, all of one size; one row may be shorter than another.
        gap : float
            Between two pictures, in heights of one; at least a pixel.
        above : sequence of float, optional
            For each row, what is left free above it besides, in heights of a picture.
        before : sequence of float, optional
            For each column, what is left free before it besides, in widths of a picture; at least a pixel.

        Examples
        --------
        >>> sheet = Sheet.of([[np.zeros((64, 64))] * 3] * 2, gap=0.125)
        >>> sheet.image.shape, sheet.x.tolist(), sheet.y.tolist()
        ((136, 208, 3), [32.0, 104.0, 176.0], [32.0, 104.0])
        """
        height, width = rows[0][0].shape[:2]
        between = max(round(gap * height), 1)
        columns = max(map(len, rows))

        def starts(n: int, side: int, free: Sequence[float]) -> np.ndarray:
            more = [max(round(part * side), 1) if part else 0 for part in free] + [0] * (n - len(free))
            return np.arange(n) * (side + between) + np.cumsum(more)

        left, top = starts(columns, width, before), starts(len(rows), height, above)
        image = np.ones((top[-1] + height, left[-1] + width, 3))
        for y, pictures in zip(top, rows, strict=True):
            for x, picture in zip(left, pictures, strict=False):
                image[y : y + height, x : x + width] = picture if picture.ndim == 3 else picture[:, :, None]
        scale = max(SHARP // max(height, width), 1)  # whole pixels, so that small pictures stay sharp
        image = image.repeat(scale, axis=0).repeat(scale, axis=1)
        return cls(image, (left + width / 2) * scale, (top + height / 2) * scale, scale)

    def draw(self, axes: Axes) -> None:
        """Draw it in axes, whose coordinates are then its pixels."""
        axes.imshow(self.image, interpolation="none" if self.scale > 1 else "antialiased")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
