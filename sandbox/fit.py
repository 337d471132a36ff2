"""Runs of estimators with a network: from a data set to a folder with the estimator, its codes, a judgement, pictures.

========================  ==========================================================================
``config.yml``            everything that made the run; ``command.txt`` and ``versions.json`` beside it
``model/``                ``estimator.safetensors``, which `load` opens, and ``encoder.safetensors``, for an agent
``codes.npy``             each sample's code ``[N, n_components]``
``metrics.csv``           one row for each epoch: the loss, and what else the estimator tells of itself
``summary.json``          the error on held-out samples beside PCA's, seconds, epochs
``loss.png``              the loss over epochs
``embedding.png``         the codes, the first two axes of them where there are more; ``embedding.gif`` turns three
``reconstructions.png``   held-out samples above what their codes restore
``strips.png``            pictures on the way between samples, or ones that were made
``keypoints.png``         the points that were found, on held-out pictures
``sample.txt``            of a text: what was written after the beginning of one, or filled in
``projector/``            for TensorBoard's embedding projector
========================  ==========================================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from sandbox import data, fit_text, zoo
from sandbox import latent_plots as plots
from sandbox.data.texts import SUFFIXES as TEXTS
from sandbox.runs import Run, new_run, plain_numbers
from sandbox.training.checkpoint import FileError, atomic, write_text
from sandbox.training.log import MetricsCSV
from unsupervised import STDIM, InverseDynamics, TemporalContrast
from unsupervised import load as load_estimator
from unsupervised.tokens import BYTES, TokenModel

__all__ = ["Fitted", "Samples", "fit", "held_out", "keep", "load", "open_samples"]

ESTIMATOR, ENCODER = Path("model", "estimator.safetensors"), Path("model", "encoder.safetensors")
FRAMES = 4000  # of a game, unless a number is asked for
SHARE = 0.1  # of the samples, which are judged by and not learned from
IN_ORDER = ("temporal", "stdim", "inverse")  # what learns from neighbours in time
DRAWN = 4000  # samples in a picture of the codes
PCA_ROWS = 10_000  # that PCA is fitted on, where there are more


@dataclass(frozen=True, eq=False)
class Samples:
    """What is learned from.

    Attributes
    ----------
    X : [N, D], or [N, C, H, W] pictures
        As an estimator takes them.
    y : [N] int, or [N, 0]
        Labels that are known.
    names : tuple of str
        Of the labels.
    about : str
    actions, episodes : [N], optional
        Of play: the action that followed each, and which episode it is of.
    memory : [N, 128] uint8, optional
        Of a game: the console's, at each frame.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    about: str
    actions: np.ndarray | None = None
    episodes: np.ndarray | None = None
    memory: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __str__(self) -> str:
        if self.X.ndim == 4:
            channels, height, width = self.X.shape[1:]
            how = "" if channels == 1 else ", in colour" if channels == 3 else f", {channels} to a sample"
            return f"{len(self):,} pictures of {height}x{width}{how}"
        return f"{len(self):,} rows of {self.X.shape[1]:,}"

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Samples as they are drawn: ``[n, H, W]``, ``[n, H, W, 3]``, or rows; bytes from 0 to 255."""
        X = np.asarray(rows).reshape(len(rows), *self.X.shape[1:])
        if self.X.dtype == np.uint8 and X.dtype != np.uint8:
            X = (X.clip(0, 1) * 255).round().astype(np.uint8)
        if X.ndim < 4:
            return X
        if self.X.dtype != np.uint8:  # what is decoded goes a little beyond, and would grey all else
            X = X.clip(self.X.min(), self.X.max())
        X = np.moveaxis(X, 1, -1)
        return X if X.shape[-1] == 3 else X[..., -1]  # of a stack of pictures the newest


def open_samples(
    name: str,
    n: int | None = None,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    stack: int | None = None,
    seed: int | None = None,
    window: int | None = None,
) -> Samples:
    """Open a data set by its name, a file or a folder, as samples to learn from.

    Parameters
    ----------
    name : str
        As for `sandbox.data.load`.
    n : int, optional
        Samples: of a game, an environment or patches to make; of anything else the first ones.
    size : (height, width), optional
        Of a game's frames (84x84, and grey, unless asked otherwise), of patches, and of pictures in files.
    grey : bool, optional
    stack : int, optional
        Of a game: frames to a sample, as an agent sees them.
    seed : int, optional
        Of a game: of the play.
    window : int, optional
        Of a text: the bytes of a sample.

    Raises
    ------
    FileError, ValueError
        If there is no such data, it is damaged, or takes no such setting. One line.
    ModuleNotFoundError
        If what it needs is not installed.
    """
    kwargs: dict[str, Any] = {key: value for key, value in (("size", size), ("grey", grey)) if value is not None}
    plays = name.startswith("atari:")
    makes = name == "patches" or name.startswith(("atari:", "env:"))
    if plays:
        more = {key: value for key, value in (("stack", stack), ("seed", seed)) if value is not None}
        kwargs = {"size": (84, 84), "grey": True, "n": FRAMES, **more, **kwargs}
    elif stack is not None:
        raise FileError(f"{name} takes no --stack: that is for the frames of a game, such as atari:Pong")
    if window is not None:
        if Path(name).suffix.lower() not in TEXTS:
            raise FileError(f"{name} takes no --context: that is for texts ({', '.join(TEXTS)})")
        kwargs["window"] = window
    if makes and n is not None:
        kwargs["n"] = n
    if name == "photos":
        raise FileError("photos are two large pictures; learn from small parts of them: patches")
    try:
        found = data.load(name, **kwargs)
    except TypeError as error:  # the kind of data takes no such keyword
        if not kwargs:
            raise
        raise FileError(f"{name} takes no --{min(kwargs)}: that is for pictures in files, patches and games") from error
    X = found.X
    if X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and X.shape[-1] == 3:
        X = np.moveaxis(X, -1, 1)
    elif X.ndim != 2 and not (X.ndim == 4 and name.startswith(("atari:", "env:"))):  # which have channels first
        X = found.rows
    if X.dtype.kind in "bi" or (X.dtype.kind == "u" and X.dtype != np.uint8):
        X = X.astype(np.float32)
    keep = slice(None if makes else n)
    y = found.y[keep] if found.y.ndim == 1 else np.empty((len(X[keep]), 0), int)
    play = {"actions": found.actions, "episodes": found.episodes, "memory": found.y if plays else None}
    return Samples(
        X[keep],
        y,
        found.names if y.ndim == 1 else (),
        found.about,
        **{key: None if value is None else value[keep] for key, value in play.items()},
    )


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit has come to: the estimator, the samples that it has not seen, and the seconds it took."""

    estimator: Any
    held_out: np.ndarray
    seconds: float


def fit(estimator: Any, config: dict[str, Any], samples: Samples) -> Fitted:
    """Learn from all samples but some, by which it is judged.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        What the estimator says of samples or settings that can't be.
    """
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} sample: there must be two or more, to learn from and to judge by")
    unseen = held_out(len(samples), config)
    learned = np.setdiff1d(np.arange(len(samples)), unseen)
    began = time.monotonic()
    estimator.fit(samples.X[learned], **_known(estimator, samples, learned))
    return Fitted(estimator, unseen, time.monotonic() - began)


def held_out(n: int, config: dict[str, Any]) -> np.ndarray:
    """Which of `n` samples a run with a configuration does not learn from: a tenth of them.

    They are drawn; but what learns from neighbours in time leaves out the last ones, or it would have pairs of frames
    that are no neighbours.

    Examples
    --------
    >>> held_out(30, {"algorithm": "temporal", "seed": 0})
    array([27, 28, 29])
    >>> held_out(30, {"algorithm": "simclr", "seed": 0}).shape
    (3,)
    """
    some = max(round(SHARE * n), 1)
    if config["algorithm"] in IN_ORDER:
        return np.arange(n - some, n)
    return np.sort(np.random.default_rng(config["seed"]).permutation(n)[:some])


def _known(estimator: Any, samples: Samples, learned: np.ndarray) -> dict[str, Any]:
    """What an estimator is told besides the samples: labels, or the episodes of a recording and its actions."""
    episodes = None if samples.episodes is None else samples.episodes[learned]
    if isinstance(estimator, TemporalContrast | STDIM):
        return {"y": episodes}
    name = type(estimator).__name__
    if isinstance(estimator, InverseDynamics):
        if samples.actions is None:
            raise ValueError(
                f"{name} learns from actions, one of a few after each sample, and these have none: atari:<Game> has "
                "them, and env:<ID>, where actions are numbered"
            )
        return {"y": samples.actions[learned], "episodes": episodes}
    if not estimator.__sklearn_tags__().target_tags.required:
        return {}
    if samples.y.ndim != 1:
        raise ValueError(f"{name} learns from labels, and these samples have none")
    return {"y": samples.y[learned]}


# -- its folder --------------------------------------------------------------------------------------------------------


def keep(fitted: Fitted, config: dict[str, Any], samples: Samples, root: Path, command: Sequence[str]) -> Run:
    """Judge what was learned, say it, and leave everything in a run folder.

    Raises
    ------
    OSError
        If the folder can't be made or filled; nothing of it is then left.
    """
    estimator = fitted.estimator
    codes = estimator.transform(samples.X)
    summary = _summary(fitted, config, samples, codes)
    print("\n".join(_said(summary)), flush=True)
    text = ""
    if isinstance(estimator, TokenModel) and estimator.vocabulary == BYTES:
        text = fit_text.written(estimator, samples.X[fitted.held_out], config["seed"])
        print(f"\n{text}\n", flush=True)
    with new_run(root, config, command) as run:
        estimator.save(run.folder / ESTIMATOR)
        zoo.save(estimator.encoder_, run.folder / ENCODER)
        table = MetricsCSV(run.metrics)
        for epoch, row in enumerate(estimator.history_, 1):
            table.write(row, step=epoch)
        table.close()
        with atomic(run.folder / "codes.npy") as draft:
            np.save(draft, codes, allow_pickle=False)
        if text:
            write_text(run.folder / "sample.txt", text + "\n")
        write_text(run.folder / "summary.json", json.dumps(plain_numbers(summary), indent=2) + "\n")
        _draw(run.folder, fitted, config, samples, codes)
    return run


def load(path: str | Path) -> Any:
    """Open the estimator of a run by its folder, or any that its `save` wrote by its file.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged or something else. One line.

    Examples
    --------
    >>> load("no/such.safetensors")
    Traceback (most recent call last):
    sandbox.training.checkpoint.FileError: no/such.safetensors: no such file; expected is a file of the kind ...
    """
    path = Path(path)
    return load_estimator(path / ESTIMATOR if path.is_dir() else path)


def _summary(fitted: Fitted, config: dict[str, Any], samples: Samples, codes: np.ndarray) -> dict[str, Any]:
    estimator, unseen = fitted.estimator, samples.X[fitted.held_out]
    summary: dict[str, Any] = {
        "algorithm": config["algorithm"],
        "data": config["data"],
        "n_samples": len(samples),
        "n_features": int(np.prod(samples.X.shape[1:])),
        "n_components": codes.shape[1],
        "seed": config["seed"],
        "seconds": fitted.seconds,
        "epochs": estimator.n_iter_,
        "stopped": estimator.stopped_,
        "loss": estimator.loss_curve_[-1] if estimator.loss_curve_ else None,
        "known": "memory" if samples.memory is not None else "labels" if samples.y.ndim == 1 else None,
    }
    if hasattr(estimator, "predict"):
        summary["held_out_score"] = estimator.score(unseen, samples.y[fitted.held_out])
    elif isinstance(estimator, TokenModel):
        learned = np.setdiff1d(np.arange(len(samples)), fitted.held_out)
        summary |= fit_text.judged(estimator, samples.X[learned], unseen)
    elif _restores(estimator):
        summary["held_out_mse"] = _mse(estimator.reconstruct(unseen), unseen)
        summary["pca_mse"] = _pca_mse(samples, fitted.held_out, codes.shape[1])
    return summary


def _restores(estimator: Any) -> bool:
    return hasattr(estimator, "reconstruct") and hasattr(estimator, "inverse_transform")


def _scaled(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X).reshape(len(X), -1)
    return X / np.float32(255) if X.dtype == np.uint8 else X


def _mse(restored: np.ndarray, X: np.ndarray) -> float:
    return float(np.square(restored.reshape(len(X), -1) - _scaled(X)).mean())


def _pca_mse(samples: Samples, held_out: np.ndarray, n: int) -> float | None:
    learned = np.setdiff1d(np.arange(len(samples)), held_out)[:PCA_ROWS]
    if n > min(len(learned), int(np.prod(samples.X.shape[1:]))):
        return None
    pca = PCA(n, random_state=0).fit(_scaled(samples.X[learned]))
    unseen = _scaled(samples.X[held_out])
    return float(np.square(pca.inverse_transform(pca.transform(unseen)) - unseen).mean())


def _said(summary: dict[str, Any]) -> list[str]:
    """The summary in words."""
    epochs = f"{summary['epochs']} epochs in {summary['seconds']:.1f} s"
    lines = [epochs + (f" ({summary['stopped']})" if summary["stopped"] else "")]
    if summary.get("held_out_mse") is not None:
        ours, theirs = summary["held_out_mse"], summary["pca_mse"]
        beside = "" if theirs is None else f"; of PCA with as many components {theirs:.4g} ({ours / theirs:.0%} of it)"
        lines += [f"mean squared error on held-out samples {ours:.4g}{beside}"]
    if "held_out_score" in summary:
        lines += [f"score on held-out samples {summary['held_out_score']:.3f}"]
    return lines + fit_text.said(summary)


# -- pictures ----------------------------------------------------------------------------------------------------------


def _draw(folder: Path, fitted: Fitted, config: dict[str, Any], samples: Samples, codes: np.ndarray) -> None:
    estimator, seed = fitted.estimator, config["seed"]
    title = f"{config['algorithm']} on {config['data']}, {codes.shape[1]} components"
    if estimator.loss_curve_:
        plots.plot_loss(folder / "loss.png", estimator.loss_curve_, estimator.validation_curve_ or None, title)
    some = np.sort(np.random.default_rng(seed).permutation(len(samples))[:DRAWN])
    y, names = (samples.y[some], samples.names) if samples.y.ndim == 1 else (None, None)
    Z = codes[some]
    shown, axes = (Z, ("z1", "z2")) if Z.shape[1] == 2 else _axes_of(Z)
    pictures = samples.pictures(samples.X[some]) if samples.X.ndim == 4 else None
    if shown is not None:
        plots.plot_embedding(folder / "embedding.png", shown, y, names, title, pictures, axes)
    if Z.shape[1] == 3:
        plots.spin_embedding(folder / "embedding.gif", Z, y, names, title)
    plots.export_projector(folder / "projector", Z, y, names, pictures)
    unseen = samples.X[fitted.held_out]
    if _restores(estimator):
        restored = samples.pictures(estimator.reconstruct(unseen[:20]))
        plots.plot_reconstructions(folder / "reconstructions.png", samples.pictures(unseen[:20]), restored, title)
    if samples.X.ndim != 4:
        return
    if hasattr(estimator, "points"):
        some = np.linspace(0, len(unseen) - 1, min(len(unseen), 12)).astype(int)
        plots.plot_keypoints(
            folder / "keypoints.png", samples.pictures(unseen[some]), estimator.points(unseen[some]), title
        )
    if hasattr(estimator, "sample"):
        made = samples.pictures(estimator.sample(60, random_state=seed))
        plots.plot_strip(folder / "strips.png", made.reshape(6, 10, *made.shape[1:]), f"{title}: made from noise")
    elif hasattr(estimator, "interpolate") and len(unseen) >= 12:
        between = estimator.interpolate(unseen[:6], unseen[6:12], 9)  # [6, 9, C, H, W]
        drawn = samples.pictures(between.reshape(-1, *between.shape[2:]))
        plots.plot_strip(folder / "strips.png", drawn.reshape(6, 9, *drawn.shape[1:]), f"{title}: between samples")


def _axes_of(Z: np.ndarray) -> tuple[np.ndarray | None, tuple[str, str]]:
    """The two axes along which codes vary most."""
    if Z.shape[1] < 2 or len(Z) < 2:
        return None, ("", "")
    return PCA(2, random_state=0).fit_transform(Z), ("first axis of the codes", "second axis")
