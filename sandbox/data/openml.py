"""Data sets that are downloaded from https://www.openml.org once, and kept where scikit-learn keeps its own."""

from __future__ import annotations

import http.client
import importlib.util
import os
import warnings

import numpy as np

from sandbox.data.names import Data
from sandbox.training.checkpoint import FileError

CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def mnist(data_home: str | os.PathLike[str] | None = None) -> Data:
    """70,000 handwritten digits, 28x28 and grey, each with its label; downloaded once.

    The first 60,000 are those to train on, the last 10,000 those to test on.

    Parameters
    ----------
    data_home : path-like, optional
        Where it is kept: by default ``$SCIKIT_LEARN_DATA``, or ``~/scikit_learn_data``.

    Raises
    ------
    FileError
        If it is not there yet, and cannot be downloaded. One line.
    """
    return _fetch("mnist_784", "MNIST, handwritten digits", tuple("0123456789"), data_home)


def fashion_mnist(data_home: str | os.PathLike[str] | None = None) -> Data:
    """70,000 pictures of clothes, 28x28 and grey, in ten kinds; downloaded once (Fashion-MNIST, arXiv:1708.07747).

    The first 60,000 are those to train on, the last 10,000 those to test on.

    Parameters
    ----------
    data_home : path-like, optional
        Where it is kept: by default ``$SCIKIT_LEARN_DATA``, or ``~/scikit_learn_data``.

    Raises
    ------
    FileError
        If it is not there yet, and cannot be downloaded. One line.
    """
    return _fetch("Fashion-MNIST", "Fashion-MNIST, pictures of clothes", CLOTHES, data_home)


def _fetch(name: str, about: str, names: tuple[str, ...], data_home: str | os.PathLike[str] | None) -> Data:
    from sklearn import datasets

    place = datasets.get_data_home(data_home)
    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"  # the second is slow, and always there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each attempt that fails; what is said is said once, below
            found = datasets.fetch_openml(name, version=1, data_home=place, as_frame=False, parser=parser)
    except (OSError, ValueError, http.client.HTTPException) as error:  # the network has many ways to fail
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(
            f"{name} is not in {place}, and could not be downloaded from openml.org ({reason}): try again with a "
            f"network, or copy the folder {os.path.join(place, 'openml')} from a machine where it was loaded"  # noqa: PTH118
        ) from error
    X = found.data.astype(np.uint8).reshape(-1, 28, 28)
    return Data(X, found.target.astype(np.int64), names, f"{about}, from openml.org, kept in {place}")
