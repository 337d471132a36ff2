"""Clustering runs: from a configuration to a folder with labels, centres, a judgement and pictures.

========================  ==========================================================================
``config.yml``            everything that made the run; ``command.txt`` and ``versions.json`` beside it
``labels.npy``            each row's cluster; of the colours of pictures ``[M, H, W]``
``labels.csv``            the same by file, where each row is a picture in a file of its own
``model/``                the fitted estimator: `load` opens it
``summary.json``          sizes, inertia, silhouette, seconds, agreement with known labels
``clusters.png``          the rows on their two principal axes, and the sizes
``members.png``           of pictures: each centre, and the members nearest to it
``colours.png``           of colours: the pictures before and after
``choice.png``            with ``-k auto``: what was tried
========================  ==========================================================================
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler, normalize

from sandbox import cluster_plots as plots
from sandbox import data
from sandbox.cluster_model import FILE, load, save
from sandbox.data.files import is_shards
from sandbox.data.pictures import small
from sandbox.runs import Run, new_run, plain_numbers
from sandbox.training.checkpoint import FileError, atomic, write_text
from sandbox.training.device import free_memory
from sandbox.training.log import ProgressLine
from unsupervised import Shards, evaluate

__all__ = ["Found", "Rows", "fit", "keep", "load", "open_rows"]

CHUNK = 1 << 22  # numbers that are looked at together
JUDGED = 20_000  # rows that the silhouette is drawn from
DRAWN = 5_000  # rows in a picture
LARGE = 1 << 30  # bytes, from which on it is asked whether they fit into memory


@dataclass(frozen=True, eq=False)
class Rows:
    """What is clustered: ``N`` rows of ``D`` numbers, and what they are.

    Attributes
    ----------
    X : [N, D] array or Shards
    shape : tuple of int
        Of one row as a picture, ``(H, W)`` or ``(H, W, 3)``; empty if it is none.
    y : [N] int or [N, 0]
        Labels that are known.
    files : tuple of str
        Of the rows, where each is a file of its own.
    photos : [M, H, W, 3], optional
        The pictures whose colours the rows are.
    """

    X: Any
    shape: tuple[int, ...]
    y: np.ndarray
    files: tuple[str, ...] = ()
    photos: np.ndarray | None = None

    def __len__(self) -> int:
        return self.X.shape[0]

    def __str__(self) -> str:
        if self.photos is not None:
            n, (H, W) = len(self.photos), self.photos.shape[1:3]
            return f"the colours of {len(self):,} pixels, of {n} picture{'s' * (n != 1)} of {H}x{W}"
        if self.shape:
            return (
                f"{len(self):,} pictures of {'x'.join(map(str, self.shape[:2]))}{', in colour' * (len(self.shape) > 2)}"
            )
        return f"{len(self):,} rows of {self.X.shape[1]:,}" + ", read in passes" * isinstance(self.X, Shards)

    def take(self, ids: np.ndarray) -> np.ndarray:
        """Rows by their numbers, ascending."""
        return self.X.take(ids) if isinstance(self.X, Shards) else np.asarray(self.X[ids])

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in turn, some at a time."""
        size = max(CHUNK // self.X.shape[1], 1)
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.X.rows(start, stop) if isinstance(self.X, Shards) else np.asarray(self.X[start:stop])


def open_rows(
    name: str,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    pixels: bool | None = None,
    in_passes: bool = True,
) -> Rows:
    """Open a data set by its name, a file or a folder, as rows to cluster.

    Parameters
    ----------
    name : str
        As for `sandbox.data.load`, or a folder of ``.npy`` shards.
    size : (height, width), optional
        Of pictures in files and Atari's frames; by default those are made small.
    grey : bool, optional
        Of the same.
    pixels : bool, optional
        Cluster the colours of all pixels rather than whole pictures. By default so of a single picture, and of
        ``photos``.
    in_passes : bool
        Whether rows may be given as `Shards`, from a folder of them, or a file that is too large for memory.

    Raises
    ------
    FileError, ValueError
        If there is no such data, it is damaged, or it is not of pictures and yet asked to be. One line.
    ModuleNotFoundError
        If what it needs is not installed.

    Examples
    --------
    >>> digits = open_rows("digits")
    >>> digits.X.shape, digits.shape
    ((1797, 64), (8, 8))
    >>> open_rows("photos").X.shape
    (546560, 3)
    """
    path = Path(name)
    if name not in data.SOURCES and is_shards(path):
        _no_pictures(name, size, grey, pixels)
        if not in_passes:
            raise FileError(f"{name}: a folder of .npy shards is read in passes, as --method kmeans alone does")
        try:
            shards = Shards(path)
        except OSError as error:
            raise FileError(f"{name}: {error}") from error
        return Rows(shards, (), np.empty((len(shards), 0), int))
    kwargs: dict[str, Any] = {key: value for key, value in (("size", size), ("grey", grey)) if value is not None}
    if name.startswith("atari:"):
        kwargs = {"size": small(210, 160), **kwargs}
    try:
        found = data.load(name, **kwargs)
    except TypeError as error:  # the kind of data takes no such keyword
        if not kwargs:
            raise
        raise FileError(
            f"{name} takes no --{min(kwargs)}: that is for pictures in files, and Atari's frames"
        ) from error
    X = found.X
    pictures = X.ndim == 3 or (X.ndim == 4 and X.shape[-1] == 3)
    if pixels is None:
        pixels = name == "photos" or (len(found.files) == 1 and X.ndim == 4)
    if pixels:
        if X.ndim != 4 or not pictures:
            _no_pictures(name, None, None, pixels)
        return Rows(_floats(X.reshape(-1, 3)), (), np.empty((X.size // 3, 0), int), photos=X)
    shape = X.shape[1:] if pictures else ()
    wanted = found.rows.size * (8 if X.dtype.itemsize > 2 else 4)
    if in_passes and isinstance(X, np.memmap) and X.ndim == 2 and wanted > LARGE and _too_large(wanted):
        return Rows(Shards([path]), (), found.y)
    return Rows(_floats(found.rows), shape, found.y, found.files)


def _no_pictures(name: str, size: Any, grey: Any, pixels: Any) -> None:
    for flag, value in (("size", size), ("grey", grey), ("pixels", pixels)):
        if value not in (None, False):
            what = "pictures in colour" if flag == "pixels" else "pictures"
            raise FileError(f"{name} takes no --{flag}: it does not hold {what}")


def _floats(X: np.ndarray) -> np.ndarray:
    """Rows in a type that k-means takes as it is: what float32 holds exactly becomes that, half the size of float64."""
    return X.astype(np.float32) if (X.dtype.kind in "biu" and X.dtype.itemsize <= 2) or X.dtype == np.float16 else X


def _too_large(wanted: int) -> bool:
    free = free_memory()
    return free is not None and wanted > free / 2


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Found:
    """What a fit has found.

    Attributes
    ----------
    estimator : KMeans or one of its kind, fitted
    seen : Rows
        As the estimator saw them.
    scaler : StandardScaler, optional
        What made them so.
    choice : unsupervised.evaluate.Choice, optional
        Why so many clusters.
    seconds : float
        That the last fit took.
    """

    estimator: Any
    seen: Rows
    scaler: StandardScaler | None
    choice: evaluate.Choice | None
    seconds: float


def fit(estimator: Any, config: dict[str, Any], rows: Rows) -> Found:
    """Find the clusters, and before that how many, if so asked.

    Parameters
    ----------
    estimator : KMeans or one of its kind, unfitted
    config : dict
        ``algorithm``, ``k`` (a number, or ``"auto"``), ``seed`` and ``standardize``.
    rows : Rows

    Returns
    -------
    Found

    Raises
    ------
    ValueError, TypeError or MemoryError
        What scikit-learn says of rows or settings that can't be.
    """
    seen, scaler = _standardized(rows) if config["standardize"] else (rows, None)
    choice = None
    if config["k"] == "auto":
        choice = _choose(estimator, seen, config)
        print(choice, flush=True)
        estimator.set_params(n_clusters=choice.k)
    began = time.monotonic()
    with ProgressLine("clustering", estimator.max_iter, "iterations at most", patience=1.0) as line:
        done, start = -1, 1

        def progress(iteration: int, inertia: float) -> None:
            nonlocal done, start
            start += iteration <= done  # another start: n_init, or another cluster that is halved
            done = iteration
            line.update(iteration, f"inertia {_number(inertia)}" + (f", start {start}" if start > 1 else ""))

        estimator._progress = progress
        try:
            estimator.fit(seen.X)
        finally:
            del estimator._progress
    return Found(estimator, seen, scaler, choice, time.monotonic() - began)


def _standardized(rows: Rows) -> tuple[Rows, StandardScaler]:
    """The rows with each feature's mean at 0 and its standard deviation at 1, and what makes them so."""
    scaler = StandardScaler()
    for chunk in rows.chunks():
        scaler.partial_fit(chunk)
    scaled = (scaler.transform(chunk) for chunk in rows.chunks())
    X = Shards(scaled) if isinstance(rows.X, Shards) else np.concatenate(list(scaled))
    return replace(rows, X=X), scaler


def _choose(estimator: Any, rows: Rows, config: dict[str, Any]) -> evaluate.Choice:
    """The number of clusters, found from a sample."""
    sample = _direction(rows.take(_some(rows, DRAWN, config["seed"])), config["algorithm"])
    with ExitStack() as stack:
        lines: list[ProgressLine] = []

        def progress(done: int, total: int, word: str) -> None:
            if not lines:  # only now is it known how much there is to do
                lines.append(stack.enter_context(ProgressLine("choosing k", total, "fits", patience=1.0)))
            lines[0].update(done, word)

        return evaluate.choose_k(sample, estimator=estimator, random_state=config["seed"], progress=progress)


def _some(rows: Rows, n: int, seed: int) -> np.ndarray:
    """The numbers of `n` rows by chance, or of all, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(len(rows))[:n])


def _direction(X: np.ndarray, method: str) -> np.ndarray:
    """What the method sees of rows: the spherical one their direction alone."""
    if method != "spherical":
        return X
    return normalize(X)


# -- its folder --------------------------------------------------------------------------------------------------------


def keep(found: Found, config: dict[str, Any], rows: Rows, root: Path, command: Sequence[str]) -> Run:
    """Judge what was found, say it, and leave everything in a run folder.

    Parameters
    ----------
    found : Found
    config : dict
        ``algorithm``, ``data`` and ``seed``, and what else made the run.
    rows : Rows
        As they were.
    root : Path
        Where run folders go. The run's is gone again if it can't be filled.
    command : sequence of str

    Returns
    -------
    Run

    Raises
    ------
    OSError
        If the folder can't be made or filled.
    """
    ids = _some(rows, JUDGED, config["seed"])
    sample = _direction(found.seen.take(ids), config["algorithm"])
    summary = _summary(found, config, rows, sample, ids)
    print("\n".join(_said(summary)), flush=True)
    with new_run(root, config, command) as run:
        _write_labels(run.folder, rows, found.estimator.labels_)
        save(run.folder / FILE, found.estimator, found.scaler, config)
        write_text(run.folder / "summary.json", json.dumps(plain_numbers(summary), indent=2) + "\n")
        _draw(run.folder, found, rows, sample, ids, summary)
    return run


def _summary(found: Found, config: dict[str, Any], rows: Rows, sample: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    labels, k = found.estimator.labels_, found.estimator.n_clusters
    summary: dict[str, Any] = {
        "algorithm": config["algorithm"],
        "data": config["data"],
        "n_samples": len(rows),
        "n_features": rows.X.shape[1],
        "k": k,
        "seed": config["seed"],
        "sizes": np.bincount(labels, minlength=k).tolist(),
        "inertia": float(found.estimator.inertia_),
        "n_iter": getattr(found.estimator, "n_iter_", None),
        "seconds": found.seconds,
        "silhouette": None,
        "silhouette_error": None,
    }
    if 2 <= len(np.unique(labels[ids])) < len(ids):
        judged = evaluate.silhouette(sample, labels[ids], random_state=config["seed"])
        summary["silhouette"], summary["silhouette_error"] = judged
    if rows.y.ndim == 1:
        summary["ari"], summary["nmi"] = evaluate.agreement(rows.y, labels)
    if found.choice is not None:
        summary["tried"] = [tried._asdict() for tried in found.choice.table]
        summary["reason"], summary["elbow"] = found.choice.reason, found.choice.elbow
    return summary


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


def _said(summary: dict[str, Any]) -> list[str]:
    """The summary in words."""
    sizes, k = np.array(summary["sizes"]), summary["k"]
    iterations = f" after {summary['n_iter']} iterations" if summary["n_iter"] else ""
    lines = [
        f"{k} cluster{'s' * (k != 1)} in {summary['seconds']:.1f} s: inertia {_number(summary['inertia'])}{iterations}"
    ]
    if k <= 12:
        lines += [f"sizes {', '.join(f'{size:,}' for size in sizes)}"]
    else:
        lines += [f"sizes from {sizes.min():,} to {sizes.max():,}, median {np.median(sizes):,.0f}"]
    if summary["silhouette"] is not None:
        mean, error = summary["silhouette"], summary["silhouette_error"]
        lines += [f"silhouette {mean:.3f} ± {error:.3f} (standard error; 1: far apart, 0: side by side)"]
    if "ari" in summary:
        lines += [
            f"agreement with the labels: ARI {summary['ari']:.3f}, NMI {summary['nmi']:.3f} (1: the same, 0: chance)"
        ]
    return lines


def _write_labels(folder: Path, rows: Rows, labels: np.ndarray) -> None:
    with atomic(folder / "labels.npy") as draft:
        np.save(draft, labels if rows.photos is None else labels.reshape(rows.photos.shape[:-1]), allow_pickle=False)
    if rows.files and rows.photos is None:
        with atomic(folder / "labels.csv") as draft, open(draft, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "cluster"), *zip(rows.files, labels.tolist(), strict=True)])


# -- pictures ----------------------------------------------------------------------------------------------------------


def _draw(folder: Path, found: Found, rows: Rows, sample: np.ndarray, ids: np.ndarray, summary: dict[str, Any]) -> None:
    k, method, labels = summary["k"], summary["algorithm"], found.estimator.labels_
    title, sizes = f"{method} on {summary['data']}, k = {k}", np.array(summary["sizes"])
    own = found.estimator.cluster_centers_
    centres = own if found.scaler is None else found.scaler.inverse_transform(own)
    colours = plots.palette(k) if rows.photos is None else np.clip(centres / 255, 0, 1)
    drawn = slice(None, None, -(-len(ids) // DRAWN))
    plots.plot_clusters(folder / "clusters.png", sample[drawn], labels[ids][drawn], own, sizes, colours, title)
    if found.choice is not None:
        plots.plot_choice(folder / "choice.png", found.choice, f"{method} on {summary['data']}: how many clusters?")
    if rows.photos is not None:
        plots.plot_colours(folder / "colours.png", rows.photos, centres, labels, sizes, title)
    if rows.shape:
        shown = np.argsort(-sizes, kind="stable")[: plots.MOST_CLUSTERS]
        members = {one: rows.X[ids].reshape(-1, *rows.shape) for one, ids in _typical(found, shown, method).items()}
        of_centres = {one: centres[one].reshape(rows.shape) for one in members}
        plots.contact_sheet(
            folder / "members.png", of_centres, members, sizes, colours, title, directions=method == "spherical"
        )


def _typical(found: Found, shown: np.ndarray, method: str) -> dict[int, np.ndarray]:
    """The rows nearest to the centre of each shown cluster, the nearest first."""
    labels, centres = found.estimator.labels_, found.estimator.cluster_centers_
    distances, start = np.empty(len(labels)), 0
    for chunk in found.seen.chunks():
        stop = start + len(chunk)
        away = _direction(chunk, method) - centres[labels[start:stop]]
        distances[start:stop] = np.einsum("nd,nd->n", away, away)
        start = stop
    members = {int(one): np.flatnonzero(labels == one) for one in shown}
    return {one: ids[np.argsort(distances[ids], kind="stable")[: plots.MEMBERS]] for one, ids in members.items()}
