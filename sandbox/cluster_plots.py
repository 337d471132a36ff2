"""Pictures of a clustering: its rows in two dimensions, its sizes, and, where the rows are pictures, what they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA

from sandbox.figures import FEW, INK, Sheet, drawn, palette, scatter, unit, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contact_sheet", "palette", "plot_choice", "plot_clusters", "plot_colours"]

MOST_CLUSTERS = 24  # on a contact sheet
MEMBERS = 12  # of each
MOST_PHOTOS = 4
NAMED = 30  # clusters, of more only the colour is told


def plot_clusters(
    path: Path,
    X: np.ndarray,
    labels: np.ndarray,
    centres: np.ndarray,
    sizes: np.ndarray,
    colours: np.ndarray,
    title: str,
) -> None:
    """Draw rows on their two principal axes, beside how large the clusters are.

    Parameters
    ----------
    path : Path
        Of the PNG.
    X : [n, D]
        Some rows; with a single feature, how they are spread along it.
    labels : [n]
    centres : [K, D]
    sizes : [K]
        Of all rows.
    colours : [K, 3]
        From 0 to 1.
    title : str
    """
    with drawn(path, (10, 5.2), title) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[2.1, 1])
        if X.shape[1] == 1:
            _plot_spread(left, X[:, 0], labels, colours)
        else:
            _plot_points(left, X, labels, centres, colours)
        _plot_sizes(right, sizes, colours)


def _plot_points(axes: Axes, X: np.ndarray, labels: np.ndarray, centres: np.ndarray, colours: np.ndarray) -> None:
    flat = X.shape[1] == 2  # two features need no other axes
    shares = [None, None]
    if flat or len(X) < 2 or not np.ptp(X, axis=0).any():
        points, middles = X[:, :2], centres[:, :2]
    else:
        pca = PCA(2, random_state=0).fit(X)
        points, middles, shares = pca.transform(X), pca.transform(centres), pca.explained_variance_ratio_
    scatter(axes, points, colours[labels])
    if len(middles) <= NAMED:
        for i, (x, y) in enumerate(middles):
            write(axes, x, y, str(i))
    names = ["feature", "feature"] if flat else ["principal axis", "principal axis"]
    for i, (name, share) in enumerate(zip(names, shares, strict=True)):
        told = f"{name} {i + 1}" if share is None else f"{name} {i + 1} ({share:.0%} of the variance)"
        (axes.set_xlabel if i == 0 else axes.set_ylabel)(told)
    if (colours.min(axis=1) > 0.8).any():  # as bright as paper, where colours are those of a photo
        axes.set_facecolor("#b4b9bd")
    axes.set_aspect("equal", adjustable="datalim")  # a distance is one in every direction


def _plot_spread(axes: Axes, values: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> None:
    groups = [values[labels == i] for i in range(len(colours))]
    axes.hist(groups, bins=60, stacked=True, color=list(map(tuple, colours)))
    axes.set(xlabel="value", ylabel="rows")


def _plot_sizes(axes: Axes, sizes: np.ndarray, colours: np.ndarray) -> None:
    order = np.argsort(-sizes, kind="stable")
    places = np.arange(len(sizes))
    bars = axes.barh(places, sizes[order], color=colours[order], height=0.8 if len(sizes) <= NAMED else 1.0)
    axes.set_xlabel("rows")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=4)
    axes.set_ylim(max(len(sizes), 6) - 0.5, -0.5)  # the largest on top; no bar is as thick as a wall
    if len(sizes) <= NAMED:
        axes.set_yticks(places, [str(i) for i in order])
        axes.bar_label(bars, [f"{size:,}" for size in sizes[order]], padding=3, fontsize=8, color=INK)
        axes.margins(x=0.18)
        axes.set_ylabel("cluster")
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(sizes)} clusters, by size")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def contact_sheet(
    path: Path,
    centres: Mapping[int, np.ndarray],
    members: Mapping[int, np.ndarray],
    sizes: np.ndarray,
    colours: np.ndarray,
    title: str,
    directions: bool = False,
) -> None:
    """Draw each cluster as a row of pictures: its centre, then its members.

    Parameters
    ----------
    path : Path
        Of the PNG.
    centres : mapping of int to [H, W] or [H, W, 3]
        By cluster, in the order of the rows.
    members : mapping of int to [M, H, W] or [M, H, W, 3]
    sizes : [K]
    colours : [K, 3]
        From 0 to 1.
    title : str
    directions : bool
        Whether centres are directions, of length 1, whose brightness means nothing.
    """
    values = np.concatenate([pictures.ravel() for pictures in members.values()])
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255 and values.dtype == np.float32:  # bytes, which have a scale of their own
        low, high = 0.0, 255.0

    rows = [
        [unit(centre, *((centre.min(), centre.max()) if directions else (low, high))), *unit(members[one], low, high)]
        for one, centre in centres.items()
    ]
    sheet = Sheet.of(rows, before=[0, 0.45])
    inches = 9.0
    with drawn(path, (inches + 1.3, inches * sheet.image.shape[0] / sheet.image.shape[1] + 0.9), title) as figure:
        axes = figure.subplots()
        sheet.draw(axes)
        axes.set_yticks(sheet.y, [f"{one}  ·  {sizes[one]:,}" for one in centres], fontsize=9)
        for text, one in zip(axes.get_yticklabels(), centres, strict=True):
            text.set(color=tuple(0.8 * colours[one]), weight="bold")
        axes.set_xticks([sheet.x[0], (sheet.x[1] + sheet.x[-1]) / 2], ["centre", "nearest to it"], fontsize=9)
        axes.xaxis.tick_top()
        axes.annotate("cluster · rows", (0, 1), (-6, 6), "axes fraction", "offset points", ha="right", fontsize=9)
        if len(sizes) > len(centres):
            axes.set_xlabel(f"the {len(centres)} largest of {len(sizes)} clusters", fontsize=9)


def plot_colours(
    path: Path, photos: np.ndarray, centres: np.ndarray, labels: np.ndarray, sizes: np.ndarray, title: str
) -> None:
    """Draw pictures above themselves in the colours of the centres alone, and these colours by how much they are used.

    Parameters
    ----------
    path : Path
        Of the PNG.
    photos : [M, H, W, 3]
        From 0 to 255; the first four are drawn.
    centres : [K, 3]
    labels : [M * H * W]
    sizes : [K]
    title : str
    """
    M, H, W = min(len(photos), MOST_PHOTOS), *photos.shape[1:3]
    few = np.clip(centres, 0, 255).round().astype(np.uint8)
    after = few[labels[: M * H * W]].reshape(M, H, W, 3)
    rows, columns = (1, 2) if M == 1 else (2, M)
    wide = 10.0
    high = rows * wide / columns * H / W + 0.9
    with drawn(path, (wide, high), title) as figure:
        grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1] * rows + [0.32 * rows / (high - 0.9)])
        places = [grid[i // columns, i % columns] for i in range(2 * M)]
        for place, picture, word in zip(places, [*photos[:M], *after], ["before"] * M + ["after"] * M, strict=True):
            axes = figure.add_subplot(place)
            axes.imshow(np.asarray(picture).astype(np.uint8), interpolation="antialiased")
            axes.axis("off")
            if M == 1 or place.colspan.start == 0:
                axes.set_title(word, fontsize=9, loc="left", pad=3)
        axes = figure.add_subplot(grid[rows, :])
        order = np.argsort(few @ np.array([0.299, 0.587, 0.114]))  # from dark to bright
        left = np.cumsum([0, *sizes[order]])[:-1]
        axes.barh(0, sizes[order], left=left, color=few[order] / 255, height=1.0)
        axes.set(xlim=(0, sizes.sum()), ylim=(-0.5, 0.5))
        axes.axis("off")


def plot_choice(path: Path, choice: Any, title: str) -> None:
    """Draw what was tried to choose k: inertia, silhouette with twice its error, and stability.

    Parameters
    ----------
    path : Path
        Of the PNG.
    choice : unsupervised.evaluate.Choice
    title : str
    """
    ks = [tried.k for tried in choice.table]
    with drawn(path, (10, 3.4), title) as figure:
        three = figure.subplots(1, 3)
        three[0].plot(ks, [tried.inertia for tried in choice.table], "o-", color=FEW[0], markersize=4)
        three[0].set(title="inertia", ylim=(0, None))
        errors = [2 * tried.error for tried in choice.table]
        three[1].errorbar(
            ks, [tried.silhouette for tried in choice.table], errors, fmt="o-", color=FEW[0], markersize=4
        )
        three[1].set(title="silhouette ± 2 standard errors")
        three[2].plot(ks, [tried.stability for tried in choice.table], "o-", color=FEW[0], markersize=4)
        three[2].set(title="stability over seeds (ARI)", ylim=(None, 1.03))
        for axes in three:
            axes.axvline(choice.k, color=FEW[1], linewidth=1.5, zorder=0, label=f"chosen: {choice.k}")
            axes.title.set_fontsize(9)
            axes.set_xlabel("k")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        three[0].legend(frameon=False, fontsize=9)
