"""The names of the data sets, and `load`. Loads nothing until a data set is asked for."""

from __future__ import annotations

import difflib
import importlib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SOURCES = {
    "atari:<Game>": "sandbox.data.atari:frames",
    "digits": "sandbox.data.pictures:digits",
    "env:<ID>": "sandbox.data.play:observations",
    "fashion_mnist": "sandbox.data.openml:fashion_mnist",
    "mnist": "sandbox.data.openml:mnist",
    "patches": "sandbox.data.pictures:patches",
    "photos": "sandbox.data.pictures:photos",
}


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """``N`` samples and what is known of them.

    Attributes
    ----------
    X : [N, ...]
        The samples in their own shape and type: pictures are ``[N, H, W]`` or ``[N, H, W, 3]``.
    y : [N] int or [N, K]
        Each sample's label, or its `K` labels; ``[N, 0]`` where none are known.
    names : tuple of str
        Of the labels ``0, 1, 2 ...`` where `y` is ``[N]``; else of the columns of `y`.
    about : str
        What it is, and where it is from.
    files : tuple of str
        Of the samples, where each was read from a file of its own.
    actions : [N] int, optional
        Of play: the action that followed each sample.
    episodes : [N] int, optional
        Of play: which episode each sample is of, counted from 0. Neighbours of one episode are one step apart.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    about: str
    files: tuple[str, ...] = ()
    actions: np.ndarray | None = None
    episodes: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Data(X {self.X.dtype} {list(self.X.shape)}, y {self.y.dtype} {list(self.y.shape)}: {self.about})"

    @property
    def rows(self) -> np.ndarray:
        """`X` as ``[N, D]``, as an estimator of scikit-learn wants it."""
        return self.X.reshape(len(self.X), math.prod(self.X.shape[1:]))


def load(name: str | os.PathLike[str], **kwargs: Any) -> Data:
    """Load a data set by name, or a file or folder of yours by its path.

    One of your own joins with ``SOURCES["mine"] = "my_package.my_file:function"``, a function that returns `Data`.

    Parameters
    ----------
    name : str or path-like
        ``"digits"`` and ``"photos"`` are scikit-learn's, ``"patches"`` small parts of the photos; ``"mnist"`` and
        ``"fashion_mnist"`` are downloaded once; ``"atari:Pong"`` is random play of that game, labelled with the
        console's memory, and ``"env:CartPole-v1"`` that of any environment of Gymnasium, ``"env:sandbox/Catch-v0"`` of
        this project's. Else a path: ``.npy`` (a memory map), ``.npz`` or ``.npz:name``, ``.csv``, a picture, a
        ``.wav``, a folder of pictures or of sounds, or a text (``.txt``, ``.md`` ...), whose bytes are cut into
        windows. Where a file has the name of a data set, ``"./digits"`` is the file.
    **kwargs
        Of patches: ``n``, ``size=(height, width)``, ``grey`` and ``seed``. Of Atari: ``n``, 1000 frames by default,
        ``what="frames" | "ram" | "sound"``, ``stack``, and what else `envs.recording.record` takes. Of environments:
        ``n``, 4000 observations by default, ``seed``, ``n_envs`` and ``policy``. Of pictures of yours: ``size`` and
        ``grey=True | False``. Of sounds and texts: ``window``, the samples (1024 by default) or bytes (128)
        of each row.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        If there is no such data set, game or environment; the message has the nearest ones. Of a file it is a
        `FileError`, if it is missing, damaged, or does not hold what it should; or it would have to be downloaded, and
        can't be.
    ModuleNotFoundError
        If what it needs is not installed; the message says how to install it.
    TypeError
        If it does not take a keyword.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits
    Data(X float64 [1797, 8, 8], y int64 [1797]: scikit-learn's handwritten digits, 0 to 16)
    >>> digits.rows.shape, digits.names[digits.y[0]]
    ((1797, 64), '0')
    """
    name, is_path = os.fspath(name), isinstance(name, os.PathLike)
    kind, colon, which = name.partition(":")
    kinds = {key.partition(":")[0]: key for key in SOURCES if ":<" in key}  # atari, which is atari:<Game>, and such
    key = kinds.get(kind, name) if colon else name
    if is_path or key not in SOURCES:
        if is_path or (name and (os.sep in name or "." in name or os.path.exists(name))):  # noqa: PTH110
            from sandbox.data.files import read

            return read(name, **kwargs)
        near = difflib.get_close_matches(name, SOURCES, cutoff=0.4) or list(SOURCES)
        raise ValueError(f"there is no data set {name!r}; nearest: {', '.join(near)}")
    module, _, attribute = SOURCES[key].partition(":")
    source = getattr(importlib.import_module(module), attribute)
    return source(which, **kwargs) if colon else source(**kwargs)
