"""Pictures of a latent space: where rows lie in it, what is decoded from it, and how its model was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sandbox.figures import FEW, INK, PAPER, Sheet, blank, drawn, palette, scatter, span, unit, write
from sandbox.show import write_gif
from sandbox.training.checkpoint import atomic, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 30  # classes; whole numbers with more values than that are a measure
THUMBNAILS = 150
THUMBNAIL = 0.055  # its longer side, in sides of the picture
LINES, PER_ROW, PICTURES = 8, 10, 20  # of reconstructions: lines, pictures in a row, and all pictures
POINTED = 6  # pictures in a row, where points are drawn on them
SPRITE = 8192  # pixels, the largest side that the projector draws
FADED = "#c3c9ce"


# -- where rows lie ----------------------------------------------------------------------------------------------------


def plot_embedding(
    path: Path,
    Z: np.ndarray,
    y: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    pictures: np.ndarray | None = None,
    axes: Sequence[str] = ("z1", "z2"),
) -> None:
    """Draw rows by two latent numbers; classes are named where they lie.

    Parameters
    ----------
    path : Path
        Of the PNG.
    Z : [N, 2]
    y : [N] or [N, 0], optional
        Classes, if it is text or whole numbers of at most 30 values, or if there are `names`; else a measure, which a
        colour bar explains. What is not a number is grey.
    names : sequence of str, optional
        Of the classes 0, 1, 2 ...
    title : str
    pictures : [N, H, W] or [N, H, W, 3], optional
        What the rows show: some are drawn where they lie, in a frame of their colour; none covers another.
    axes : (str, str)
        What the latent numbers are called.

    Raises
    ------
    ValueError
        If an array has another shape, or a class no name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_embedding(Path(folder, "z.png"), np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 3)
    ...     [path.name for path in Path(folder).iterdir()]
    ['z.png']
    """
    Z = _points(Z, 2)
    meant = _Meaning.of(y, names, len(Z))
    if pictures is not None:
        pictures = _pictures(pictures, "pictures", len(Z))
    wide, high = 7 * np.clip(np.ptp(Z, axis=0) / _side(Z), 0.6, 1)
    with drawn(path, (wide + 0.6, high), title) as figure:
        place = figure.subplots()
        words = _draw_map(place, Z, meant, fontsize=13, alpha=0.75 if pictures is None else 0.4)
        if pictures is not None:
            _draw_thumbnails(place, Z, pictures, meant.colours, words)
        place.set(xlabel=axes[0], ylabel=axes[1])
        _colour_bar(figure, place, meant)


def spin_embedding(
    path: Path,
    Z: np.ndarray,
    y: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    n_frames: int = 60,
    fps: float = 15.0,
    axes: Sequence[str] = ("z1", "z2", "z3"),
) -> None:
    """Draw rows by three latent numbers as a GIF that turns once and begins anew; what is far is paler and smaller.

    Parameters
    ----------
    path : Path
        Of the GIF.
    Z : [N, 3]
    y, names, title
        As for `plot_embedding`.
    n_frames : int
        Of a whole turn.
    fps : float
        Frames a second.
    axes : (str, str, str)
        What the latent numbers are called; the third points up.

    Raises
    ------
    ValueError
        If an array has another shape, a class has no name, or there is no frame.
    """
    from matplotlib.collections import LineCollection

    Z = _points(Z, 3)
    meant = _Meaning.of(y, names, len(Z))
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, not {n_frames}")
    low, high = Z.min(axis=0), Z.max(axis=0)
    radius = float(np.linalg.norm(high - low)) / 2 or 1.0
    points, half = (Z - (low + high) / 2) / radius, np.maximum((high - low) / 2 / radius, 0.05)
    corners = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) * half
    edges = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    # Each axis is named in the middle of an edge at the floor, or at the corner above; a little outside.
    where = half * np.array([[0, -1.12, -1.12], [-1.12, 0, -1.12], [-1.08, -1.08, 0]])
    named = [(name, np.median(points[of], axis=0)) for _, name, of in meant.groups()]

    turns = 2 * np.pi * np.arange(n_frames) / n_frames
    reach = np.concatenate([_camera(1.15 * corners, angle)[0] for angle in turns])  # of the box, wherever it turns
    right, bottom, top = np.abs(reach[:, 0]).max(), reach[:, 1].min(), reach[:, 1].max()
    figure = blank((4.6, 0.4 + 4.4 * min((top - bottom) / (2 * right), 1.2)), title, dpi=100)
    place = figure.subplots()
    place.set(xlim=(-right, right), ylim=(bottom, top), aspect="equal")
    place.axis("off")
    box = LineCollection([], colors=FADED, linewidths=0.8, zorder=0)
    place.add_collection(box)
    dots = place.scatter(points[:, 0], points[:, 1], linewidths=0)
    words = [place.text(0, 0, name, ha="center", va="center", fontsize=8, color="#7a8288") for name in axes]
    labels = [write(place, 0, 0, name, colour) for (name, _), colour in zip(named, meant.ink(), strict=True)]
    places = np.concatenate([where, *(spot[None] for _, spot in named)])
    _colour_bar(figure, place, meant)
    size = float(np.clip(9_000 / len(points), 4, 36))

    def turn(i: int) -> None:
        seen, depth = _camera(points, turns[i])
        order = np.argsort(-depth)  # what is near is drawn last
        pale = np.clip((depth[order] - 0.7) / 0.6, 0, 1)[:, None] * 0.65
        dots.set_offsets(seen[order])
        dots.set_sizes(size / depth[order] ** 4)
        dots.set_facecolor(list(map(tuple, meant.colours[order] * (1 - pale) + pale)))
        ends, _ = _camera(corners, turns[i])
        box.set_segments([ends[list(edge)] for edge in edges])
        spots, _ = _camera(places, turns[i])
        for word, spot in zip([*words, *labels], spots, strict=True):
            word.set_position(spot)

    write_gif(path, _film(figure, n_frames, turn), fps, max_frames=n_frames, max_width=460, colours=256)


def _camera(points: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Where points [n, 3] within the unit ball are seen [n, 2], from a little above, and how far away [n], about 1."""
    above, far = np.deg2rad(18), 3.5
    x = points[:, 0] * np.cos(angle) - points[:, 1] * np.sin(angle)
    back = points[:, 0] * np.sin(angle) + points[:, 1] * np.cos(angle)
    up = points[:, 2] * np.cos(above) + back * np.sin(above)
    depth = 1 + (back * np.cos(above) - points[:, 2] * np.sin(above)) / far
    return np.stack([x, up], axis=1) / depth[:, None], depth


@dataclass(frozen=True, eq=False)
class _Meaning:
    """What rows are known to be: a colour each [N, 3], and either their classes or a measure."""

    colours: np.ndarray
    codes: np.ndarray | None = None  # [N]
    names: tuple[str, ...] = ()
    values: np.ndarray | None = None  # [N]

    @classmethod
    def of(cls, y: np.ndarray | None, names: Sequence[str] | None, n: int) -> _Meaning:
        if y is None or np.shape(y) == (n, 0):
            return cls(np.tile(palette(1), (n, 1)))
        y = np.asarray(y)
        if y.shape != (n,):
            raise ValueError(f"y of shape {list(y.shape)}; expected is one label for each of the {n} rows, [{n}]")
        values, codes = np.unique(y, return_inverse=True)
        if names is not None:
            if y.dtype.kind not in "bui" or values[0] < 0 or values[-1] >= len(names):
                raise ValueError(f"y has classes without a name: expected are whole numbers from 0 to {len(names) - 1}")
            return cls(palette(len(names))[y.astype(int)], y.astype(int), tuple(map(str, names)))
        if y.dtype.kind == "f" or (y.dtype.kind in "ui" and len(values) > NAMED):
            import matplotlib

            low, high = (float(np.nanmin(y)), float(np.nanmax(y))) if np.isfinite(y).any() else (0.0, 1.0)
            colours = matplotlib.colormaps["viridis"](unit(y, low, high))[:, :3]
            colours[~np.isfinite(y)] = 0.8
            return cls(colours, values=y.astype(float))
        return cls(palette(len(values))[codes], codes, tuple(map(str, values)))

    def groups(self) -> list[tuple[int, str, np.ndarray]]:
        """Of each class that is there its number, its name and which rows it has; none if they are too many to name."""
        if self.codes is None or len(self.names) > NAMED:
            return []
        return [(i, name, self.codes == i) for i, name in enumerate(self.names) if (self.codes == i).any()]

    def ink(self) -> list[Any]:
        """For the name of each group its colour, dark enough to be read."""
        return [tuple(0.65 * self.colours[of][0]) for _, _, of in self.groups()]


def _points(Z: np.ndarray, columns: int) -> np.ndarray:
    Z = np.asarray(Z, float)
    if Z.ndim != 2 or Z.shape[1] != columns or not len(Z):
        raise ValueError(f"Z of shape {list(Z.shape)}; expected is [N, {columns}], with at least one row")
    if not np.isfinite(Z).all():
        raise ValueError("Z has numbers that are not finite")
    return Z


def _pictures(X: np.ndarray, what: str, n: int | None = None) -> np.ndarray:
    X = np.asarray(X)
    if X.ndim == 4 and X.shape[3] == 1:
        X = X[..., 0]
    if not (X.ndim == 3 or (X.ndim == 4 and X.shape[3] == 3)) or not X.size:
        first = X.ndim == 4 and X.shape[1] in (1, 3)
        hint = "; its channels come first: np.moveaxis(X, 1, -1) puts them last" if first else ""
        raise ValueError(f"{what} of shape {list(X.shape)}; expected is [N, H, W] or [N, H, W, 3]{hint}")
    if n is not None and len(X) != n:
        raise ValueError(f"{what} are {len(X)}, for {n} rows; expected is one for each")
    return X


def _draw_map(
    axes: Axes, Z: np.ndarray, meant: _Meaning, fontsize: float, alpha: float = 0.75
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and the names of their classes; returns where these are [n, 2] and how large [n, 2]."""
    scatter(axes, Z, meant.colours, alpha)
    axes.set_aspect("equal", adjustable="datalim")  # a distance is one in every direction
    groups = meant.groups()
    letter = _side(Z) * fontsize / 470  # an axis is about as long
    sizes = letter * np.array([[0.68 * len(name) + 0.3, 1.25] for _, name, _ in groups]).reshape(-1, 2)
    spots = _apart(np.array([_heart(Z[of]) for _, _, of in groups]).reshape(-1, 2), sizes)
    for (x, y), (_, name, _), colour in zip(spots, groups, meant.ink(), strict=True):
        write(axes, x, y, name, colour, fontsize)
    return spots, sizes


def _side(Z: np.ndarray) -> float:
    return max(float(np.ptp(Z, axis=0).max()), 1e-12)


def _heart(points: np.ndarray) -> np.ndarray:
    """The point nearest to the median: of a bent cloud, the median itself lies outside."""
    return points[((points - np.median(points, axis=0)) ** 2).sum(axis=1).argmin()]


def _apart(spots: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Places [n, 2] for words of these sizes [n, 2], moved until none covers another."""
    spots = spots.copy()
    for _ in range(100):
        moved = False
        for i in range(len(spots)):
            for j in range(i):
                delta = spots[i] - spots[j]
                overlap = (sizes[i] + sizes[j]) / 2 - np.abs(delta)
                if (overlap > 1e-9).all():
                    axis = int(overlap.argmin())
                    push = overlap[axis] / 2 * (1 if delta[axis] >= 0 else -1)
                    spots[i, axis] += push
                    spots[j, axis] -= push
                    moved = True
        if not moved:
            break
    return spots


def _draw_thumbnails(
    axes: Axes, Z: np.ndarray, pictures: np.ndarray, colours: np.ndarray, words: tuple[np.ndarray, np.ndarray]
) -> None:
    from matplotlib.patches import Rectangle

    height, width = pictures.shape[1:3]
    half = _side(Z) * THUMBNAIL / max(height, width) * np.array([width, height]) / 2
    low, high = span(pictures)
    for i in _spread(Z, 2.2 * half, words[0], words[1] / 2 + half):
        (left, bottom), (right, top) = Z[i] - half, Z[i] + half
        picture = unit(pictures[i], low, high)
        axes.imshow(
            picture, "gray", vmin=0, vmax=1, extent=(left, right, bottom, top), zorder=4, interpolation="antialiased"
        )
        frame = Rectangle((left, bottom), right - left, top - bottom)
        frame.set(fill=False, edgecolor=tuple(colours[i]), linewidth=1.6, zorder=5)
        axes.add_patch(frame)
    axes.use_sticky_edges = False  # a picture at the edge keeps its distance from it
    axes.autoscale()


def _spread(Z: np.ndarray, apart: np.ndarray, taken: np.ndarray, around: np.ndarray) -> list[int]:
    """Some rows that are `apart` from each other along one axis at least, and by `around` from what is taken [n, 2]."""
    chosen: list[int] = []
    for i in np.random.default_rng(0).permutation(len(Z))[:5_000]:
        free = (np.abs(Z[chosen] - Z[i]) >= apart).any(axis=1).all()
        if free and (np.abs(taken - Z[i]) >= around).any(axis=1).all():
            chosen.append(int(i))
            if len(chosen) == THUMBNAILS:
                break
    return chosen


def _colour_bar(figure: Figure, axes: Axes, meant: _Meaning) -> None:
    if meant.values is None or not np.isfinite(meant.values).any():
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = Normalize(np.nanmin(meant.values), np.nanmax(meant.values))
    bar = figure.colorbar(ScalarMappable(scale, "viridis"), ax=axes, shrink=0.6, aspect=28, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8, length=0)


def _film(figure: Figure, n: int, move: Callable[[int], None]) -> list[np.ndarray]:
    """The frames [H, W, 3] uint8 of a figure that is changed `n` times."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    frames = []
    for i in range(n):
        move(i)
        canvas.draw()
        figure.set_layout_engine("none")  # laid out once: what moves does not shake the rest
        frames.append(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
    return frames


# -- what is decoded ---------------------------------------------------------------------------------------------------


def plot_reconstructions(
    path: Path, X: np.ndarray, X_hat: np.ndarray, title: str = "", noisy: np.ndarray | None = None
) -> None:
    """Draw originals above their reconstructions, and above both the noisy inputs, if these were given to the model.

    Parameters
    ----------
    path : Path
        Of the PNG.
    X : [N, H, W], [N, H, W, 3] or [N, T]
        Pictures, of which the first 20 are drawn, or rows of a series or of sound: the first 8, as lines.
    X_hat : like X
        Drawn with the brightness of `X`: what is darker than black is black.
    title : str
    noisy : like X, optional

    Raises
    ------
    ValueError
        If an array has another shape.
    """
    X, X_hat = np.asarray(X), np.asarray(X_hat)
    for name, other in (("X_hat", X_hat), ("noisy", noisy)):
        if other is not None and np.shape(other) != X.shape:
            raise ValueError(f"{name} of shape {list(np.shape(other))}; expected is that of X, {list(X.shape)}")
    if X.ndim == 2 and X.size:
        _plot_lines(path, X, X_hat, title, None if noisy is None else np.asarray(noisy))
        return
    X = _pictures(X, "X")
    low, high = span(X)
    kinds = {"noisy": noisy, "original": X, "reconstruction": X_hat}
    parts = {
        name: unit(_pictures(given[:PICTURES], name), low, high) for name, given in kinds.items() if given is not None
    }
    n = min(len(X), PICTURES)
    starts = range(0, n, PER_ROW)
    rows = [list(part[start : start + PER_ROW]) for start in starts for part in parts.values()]
    above = [0.35 if i and i % len(parts) == 0 else 0 for i in range(len(rows))]
    _draw_sheet(path, Sheet.of(rows, above=above), title, list(parts) * len(starts))


def _plot_lines(path: Path, X: np.ndarray, X_hat: np.ndarray, title: str, noisy: np.ndarray | None) -> None:
    n = min(len(X), LINES)
    columns = 1 if n == 1 else 2
    high = ceil(n / columns)
    with drawn(path, (10, 1.5 * high + 0.9), title) as figure:
        grid = figure.subplots(high, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, i in zip(grid, range(n), strict=False):
            if noisy is not None:
                axes.plot(noisy[i], ".", color="#e6b8a0", markersize=2, label="noisy", zorder=1)
            axes.plot(X[i], color="#8d99a3", linewidth=2.2, label="original")
            axes.plot(X_hat[i], color=FEW[0], linewidth=1.1, label="reconstruction")
            axes.grid(alpha=0.25)
            axes.margins(x=0)
            axes.tick_params(labelsize=8)
        for axes in grid[n:]:
            axes.axis("off")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)


def plot_keypoints(path: Path, pictures: np.ndarray, points: np.ndarray, title: str = "") -> None:
    """Draw pictures with the points that were found in them, a colour for each point; what is hardly there is faint.

    Parameters
    ----------
    path : Path
        Of the PNG.
    pictures : [N, H, W] or [N, H, W, 3]
        Of which the first 20 are drawn, six in a row.
    points : [N, n, 3]
        x and y from -1 (left, top) to 1, and how likely each is there, 0 to 1.
    title : str

    Raises
    ------
    ValueError
        If an array has another shape.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_keypoints(Path(folder, "points.png"), np.zeros((2, 8, 8)), np.array([[[0, 0, 1.0]]] * 2))
    """
    pictures, points = _pictures(pictures, "pictures")[:PICTURES], np.asarray(points, float)[:PICTURES]
    if points.ndim != 3 or points.shape[2] != 3 or len(points) != len(pictures):
        raise ValueError(f"points of shape {list(points.shape)}; expected is [{len(pictures)}, n, 3]")
    shown = list(unit(pictures, *span(pictures)))
    sheet = Sheet.of([shown[i : i + POINTED] for i in range(0, len(shown), POINTED)])
    height, width = sheet.scale * pictures.shape[1], sheet.scale * pictures.shape[2]
    high, wide = sheet.image.shape[:2]
    inches = min(11.0, 11.0 * wide / high)
    with drawn(path, (inches, inches * high / wide + 0.5), title) as figure:
        axes = figure.subplots()
        sheet.draw(axes)
        axes.axis("off")
        for i, found in enumerate(points):
            x = sheet.x[i % POINTED] + found[:, 0] * (width - 1) / 2
            y = sheet.y[i // POINTED] + found[:, 1] * (height - 1) / 2
            colours: Any = np.column_stack([palette(len(found)), found[:, 2].clip(0.08, 1)])
            axes.scatter(x, y, s=70, facecolors="none", edgecolors=colours, linewidths=1.8)


def plot_strip(
    path: Path,
    pictures: np.ndarray | Sequence[np.ndarray],
    title: str = "",
    names: Sequence[str] | None = None,
    values: np.ndarray | None = None,
    label: str = "",
) -> None:
    """Draw rows of pictures that change from left to right: from one sample to another, or along a latent number.

    Parameters
    ----------
    path : Path
        Of the PNG.
    pictures : [K, n, H, W] or [K, n, H, W, 3]
        A row each. Of interpolations, a row leads from one sample to another; of a traversal, along one latent number.
    title : str
    names : sequence of K str, optional
        Of the rows.
    values : [n] or [K, n], optional
        What the latent number is at each picture: the same in all rows, or each row's own.
    label : str
        What the values are.

    Raises
    ------
    ValueError
        If an array has another shape.

    Examples
    --------
    >>> import tempfile
    >>> ramp = np.linspace(0, 1, 7)[None, :, None, None] * np.ones((2, 7, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_strip(Path(folder, "ramp.png"), ramp, names=["z1", "z2"], values=np.linspace(-3, 3, 7))
    """
    rows = np.asarray(pictures)
    if rows.ndim not in (4, 5):
        raise ValueError(f"pictures of shape {list(rows.shape)}; expected is [K, n, H, W] or [K, n, H, W, 3]")
    K, n = rows.shape[:2]
    flat = _pictures(rows.reshape(K * n, *rows.shape[2:]), "the rows' pictures")
    if names is not None and len(names) != K:
        raise ValueError(f"{len(names)} names for {K} rows; expected is one for each")
    numbers = None if values is None else np.asarray(values, float)
    if numbers is not None and numbers.shape not in ((n,), (K, n)):
        raise ValueError(
            f"values of shape {list(numbers.shape)}; expected is [{n}], or [{K}, {n}] for each row its own"
        )
    own = numbers is not None and numbers.ndim == 2
    pictured = unit(flat, *span(flat)).reshape(K, n, *flat.shape[1:])
    sheet = Sheet.of(list(pictured), above=[0, *[0.3 if own else 0.06] * (K - 1)])
    _draw_sheet(path, sheet, title, list(names or [""] * K), numbers, label)


def _draw_sheet(
    path: Path, sheet: Sheet, title: str, names: list[str], values: np.ndarray | None = None, label: str = ""
) -> None:
    high, wide = sheet.image.shape[:2]
    inches = min(9.0, 9.0 * wide / high, 1.6 * len(sheet.x))
    with drawn(path, (inches + 1.3, inches * high / wide + 0.7 + 0.4 * (values is not None)), title) as figure:
        axes = figure.subplots()
        sheet.draw(axes)
        axes.set_xticks([])
        axes.set_yticks(sheet.y, names, fontsize=10)
        if values is None:
            return
        if values.ndim == 1:
            axes.set_xticks(sheet.x, [f"{value:.3g}" for value in values], fontsize=9)
        else:
            half = sheet.y[0]  # of a picture
            for y, row in zip(sheet.y, values, strict=True):
                for x, value in zip(sheet.x, row, strict=True):
                    axes.annotate(
                        f"{value:.3g}", (x, y + half), (0, -3), textcoords="offset points", ha="center", va="top",
                        fontsize=7.5, color=INK, annotation_clip=False,
                    )  # fmt: skip
        axes.set_xlabel(label, fontsize=9, labelpad=4 if values.ndim == 1 else 18)


def latent_walk(
    path: Path,
    pictures: np.ndarray,
    title: str = "",
    steps: np.ndarray | None = None,
    Z: np.ndarray | None = None,
    y: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    fps: float = 12.0,
    there_and_back: bool = True,
) -> None:
    """Draw what is decoded along a path through the latent space, as a GIF, and the path on a map beside it.

    Parameters
    ----------
    path : Path
        Of the GIF.
    pictures : [n, H, W] or [n, H, W, 3]
        Decoded at each step.
    title : str
    steps : [n, 2], optional
        Where each step is on the map; without, there is no map.
    Z : [N, 2], optional
        Other rows on the map, coloured by `y` and `names` as in `plot_embedding`.
    fps : float
        Steps a second.
    there_and_back : bool
        Walk back as well, so that the GIF begins anew without a leap. A closed path needs it not.

    Raises
    ------
    ValueError
        If an array has another shape, or there are rows for a map and no steps on it.
    """
    pictures = _pictures(pictures, "pictures")
    n = len(pictures)
    if steps is None and Z is not None:
        raise ValueError("Z is for the map, which needs steps [n, 2]: where each picture lies on it")
    if steps is not None:
        steps = _points(steps, 2)
        if len(steps) != n:
            raise ValueError(f"{len(steps)} steps for {n} pictures; expected is one for each")
    shown = unit(pictures, *span(pictures))
    figure = blank((3.4, 3.7) if steps is None else (6.8, 3.7), title, dpi=100)
    left, right = (figure.subplots(), None) if steps is None else figure.subplots(1, 2, width_ratios=[1, 1.05])
    left.axis("off")
    small = max(pictures.shape[1:3]) < 100
    image = left.imshow(shown[0], "gray", vmin=0, vmax=1, interpolation="nearest" if small else "antialiased")
    if right is not None and steps is not None:
        if Z is not None:
            Z = _points(Z, 2)
            _draw_map(right, Z, _Meaning.of(y, names, len(Z)), fontsize=9, alpha=0.35)
        right.plot(steps[:, 0], steps[:, 1], color=INK, linewidth=1, alpha=0.35)
        (trail,) = right.plot([], [], color=INK, linewidth=2.2, solid_capstyle="round")
        (here,) = right.plot([], [], "o", color=FEW[1], markersize=10, markeredgecolor=PAPER, markeredgewidth=1.5)
        here.set_zorder(20)
        right.set_aspect("equal", adjustable="datalim")
        right.set(xticks=[], yticks=[])
        right.spines[:].set_color(FADED)
    order = [*range(n), *range(n - 2, 0, -1)] if there_and_back else list(range(n))

    def step(i: int) -> None:
        image.set_data(shown[order[i]])
        if steps is not None:
            trail.set_data(*steps[: order[i] + 1].T)
            here.set_data(*steps[order[i] : order[i] + 1].T)

    write_gif(path, _film(figure, len(order), step), fps, max_frames=len(order), max_width=680, colours=256)


# -- how it was trained ------------------------------------------------------------------------------------------------


def plot_loss(
    path: Path,
    curve: Sequence[float] | np.ndarray,
    validation: Sequence[float] | np.ndarray | None = None,
    title: str = "",
    label: str = "loss",
) -> None:
    """Draw the loss over the epochs, and where it was least on the rows that were not trained on.

    Parameters
    ----------
    path : Path
        Of the PNG.
    curve : [n]
        Of each epoch; the first is number 1. The axis is logarithmic where all losses are positive and the largest is
        over ten times the smallest.
    validation : [n], optional
        The same on held-out rows; what is not a number was not measured.
    title : str
    label : str
        What the loss is, with its unit.

    Raises
    ------
    ValueError
        If a curve is empty, or they differ in length.
    """
    curves = {"training": np.asarray(curve, float)}
    if validation is not None:
        curves["validation"] = np.asarray(validation, float)
    n = len(curves["training"])
    for name, values in curves.items():
        if values.ndim != 1 or len(values) != n or not n:
            raise ValueError(
                f"{name} of shape {list(values.shape)}; expected is a loss for each of {n or 'the'} epochs"
            )
    epochs = np.arange(1, n + 1)
    every = np.concatenate(list(curves.values()))
    every = every[np.isfinite(every)]
    with drawn(path, (7, 4), title) as figure:
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), FEW, strict=False):
            there = np.isfinite(values)
            axes.plot(epochs[there], values[there], color=colour, linewidth=1.8, marker="o" * (n == 1), label=name)
        if validation is not None and np.isfinite(curves["validation"]).any():
            best = int(np.nanargmin(curves["validation"]))
            least = curves["validation"][best]
            axes.plot(best + 1, least, "o", color=FEW[1], markersize=7, markeredgecolor=PAPER, zorder=5)
            late = best > 0.7 * n
            axes.annotate(
                f"{least:.4g} in epoch {best + 1}", (best + 1, least), (-4 if late else 4, 10), fontsize=9, color=INK,
                textcoords="offset points", ha="right" if late else "left",
            )  # fmt: skip
        if len(every) and every.min() > 0 and every.max() > 10 * every.min():
            from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="epoch", ylabel=label)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9)


# -- in TensorBoard ----------------------------------------------------------------------------------------------------


def export_projector(
    folder: Path,
    Z: np.ndarray,
    y: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    pictures: np.ndarray | None = None,
) -> None:
    """Write what TensorBoard's embedding projector opens: a latent space to turn, to search and to look at.

    ``tensorboard --logdir FOLDER`` shows it under *Projector*, with the pictures. https://projector.tensorflow.org
    shows it without installing anything, and without pictures: press *Load*, and choose ``tensors.tsv``, then
    ``metadata.tsv``. What is loaded there stays in the browser.

    Parameters
    ----------
    folder : Path
        Where ``tensors.tsv``, ``metadata.tsv``, ``sprite.png`` and ``projector_config.pbtxt`` are put; made if needed.
    Z : [N, D]
    y : [N], [N, K] or [N, 0], optional
        Labels: one for each row, or `K`, each a column.
    names : sequence of str, optional
        Of the labels 0, 1, 2 ... where `y` is ``[N]``; else of the columns of `y`.
    pictures : [N, H, W] or [N, H, W, 3], optional
        Of each row, made square and small enough that all fit into the 8192x8192 pixels that the projector can draw.

    Raises
    ------
    ValueError
        If an array has another shape, a label has no name, or there are more pictures than pixels for them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_projector(Path(folder), np.eye(3), np.array([0, 1, 1]), names=["cat", "dog"])
    ...     print(Path(folder, "metadata.tsv").read_text().split())
    ['cat', 'dog', 'dog']
    """
    folder, Z = Path(folder), np.asarray(Z, float)
    if Z.ndim != 2 or not Z.size:
        raise ValueError(f"Z of shape {list(Z.shape)}; expected is [N, D], with at least one row")
    table = _metadata(y, names, len(Z))
    sprite, side = (None, 0) if pictures is None else _sprite(_pictures(pictures, "pictures", len(Z)))
    config = ['tensor_name: "latents"', 'tensor_path: "tensors.tsv"']
    with atomic(folder / "tensors.tsv") as draft:
        np.savetxt(draft, Z, fmt="%.7g", delimiter="\t")
    if table:
        write_text(folder / "metadata.tsv", "\n".join(table) + "\n")
        config.append('metadata_path: "metadata.tsv"')
    if sprite is not None:
        from PIL import Image

        with atomic(folder / "sprite.png") as draft:
            Image.fromarray(sprite).save(draft)
        config.append(f'sprite {{ image_path: "sprite.png" single_image_dim: {side} single_image_dim: {side} }}')
    lines = "".join(f"  {line}\n" for line in config)
    write_text(folder / "projector_config.pbtxt", f"embeddings {{\n{lines}}}\n")


def _metadata(y: np.ndarray | None, names: Sequence[str] | None, n: int) -> list[str]:
    """The lines of a table: one column without a header, or more with one; so the projector tells them apart."""
    if y is None or np.shape(y) == (n, 0):
        return []
    y = np.asarray(y)
    if y.ndim not in (1, 2) or len(y) != n:
        raise ValueError(f"y of shape {list(y.shape)}; expected is [{n}], or [{n}, K] with K labels for each row")

    def cell(value: Any) -> str:
        return " ".join(str(value).split())  # a tab or a line's end would be another column or row

    if y.ndim == 2 and y.shape[1] > 1:
        header = [f"label {i}" for i in range(y.shape[1])] if names is None else list(names)
        if len(header) != y.shape[1]:
            raise ValueError(f"{len(header)} names for {y.shape[1]} columns of y; expected is one for each")
        return ["\t".join(map(cell, row)) for row in [header, *y.tolist()]]
    if y.ndim == 2:
        return [cell(value) for value in y[:, 0].tolist()]
    _Meaning.of(y, names, n)  # says what is wrong
    return [cell(value if names is None else names[int(value)]) for value in y.tolist()]


def _sprite(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """All pictures row by row in one that is square [S, S, 3] uint8, and the side of each."""
    from PIL import Image

    n, height, width = pictures.shape[:3]
    columns = ceil(sqrt(n))
    side = min(max(height, width), SPRITE // columns)
    if not side:
        raise ValueError(f"{n:,} pictures; the projector draws at most {SPRITE**2:,}: give it some of the rows")
    bright = unit(pictures, *span(pictures))
    small = tuple(max(round(side * length / max(height, width)), 1) for length in (width, height))
    left, top = (side - small[0]) // 2, (side - small[1]) // 2
    sheet = np.full((columns * side, columns * side, 3), 255, np.uint8)
    for i in range(n):
        picture = np.round(255 * bright[i]).astype(np.uint8)
        if small != (width, height):
            picture = np.asarray(Image.fromarray(picture).resize(small, Image.Resampling.BOX))
        x, y = i % columns * side + left, i // columns * side + top
        sheet[y : y + small[1], x : x + small[0]] = picture if picture.ndim == 3 else picture[:, :, None]
    return sheet, side
