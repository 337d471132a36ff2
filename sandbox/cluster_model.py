"""A fitted clusterer as one safetensors file. Opening it runs no code."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import unsupervised
from sandbox.training.checkpoint import load_tensors, opening, save_tensors

KIND = "sandbox.cluster"
FILE = Path("model", "clusters.safetensors")  # in a run's folder
CLASSES = ("KMeans", "MiniBatchKMeans", "SphericalKMeans", "BisectingKMeans")
TREE = "_bisecting_tree"


def save(
    path: str | os.PathLike[str],
    estimator: Any,
    scaler: StandardScaler | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Write a fitted clusterer to one file, whole or not at all.

    Parameters
    ----------
    path : path-like
        Usually ``something.safetensors``.
    estimator : KMeans or one of its kind
        With parameters that JSON can hold. Its labels are not saved.
    scaler : StandardScaler, optional
        What its rows went through.
    config : dict, optional
        What made it, kept in the file's record.

    Raises
    ------
    TypeError
        If a parameter can't be written as JSON.
    OSError
        If the file can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from unsupervised import KMeans
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = KMeans(2, random_state=0).fit(X)
    ...     save(f"{folder}/clusters.safetensors", fitted)
    ...     again = load(f"{folder}/clusters.safetensors")
    >>> bool((again.predict(X) == fitted.labels_).all())
    True
    """
    params = estimator.get_params()
    tensors, values = {}, {}
    for name, value in vars(estimator).items():
        if name in params or name == "labels_":
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors[name] = _tensor(value)
        elif isinstance(value, bool | int | float | str | np.bool_ | np.integer | np.floating):
            values[name] = value.item() if isinstance(value, np.generic) else value
    if hasattr(estimator, TREE):
        nodes = _nodes(getattr(estimator, TREE))
        tensors[f"{TREE}.center"] = _tensor(np.stack([node.center for node in nodes]))
        places = {id(node): i for i, node in enumerate(nodes)}
        children = [[places[id(child)] for child in (node.left, node.right) if child is not None] for node in nodes]
        values[TREE] = [[*below, getattr(node, "label", None)] for node, below in zip(nodes, children, strict=True)]
    if scaler is not None:
        tensors |= {f"scaler.{name}": _tensor(getattr(scaler, name)) for name in ("mean_", "scale_", "var_")}
    record = {"class": type(estimator).__name__, "params": params, "fitted": values, "config": config}
    save_tensors(path, KIND, record, tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """Open what `save` wrote, or the run folder that it is in.

    Parameters
    ----------
    path : path-like
        A file, or a folder such as ``runs/kmeans/digits_1``.

    Returns
    -------
    KMeans or one of its kind, or a Pipeline
        Fitted, without ``labels_``; behind a `StandardScaler` where its rows went through one, so that `predict` takes
        rows as they were.

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
    if path.is_dir():
        path = path / FILE
    record, tensors = load_tensors(path, KIND)
    with opening(path, KIND):
        if record["class"] not in CLASSES:
            raise ValueError(f"it is of the class {record['class']!r}, which this version does not know")
        estimator = getattr(unsupervised, record["class"])(**record["params"])
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        own = {key: array for key, array in arrays.items() if "." not in key}
        vars(estimator).update({key: value for key, value in record["fitted"].items() if key != TREE}, **own)
        if TREE in record["fitted"]:
            setattr(estimator, TREE, _tree(record["fitted"][TREE], arrays[f"{TREE}.center"]))
        if "scaler.mean_" not in arrays:
            return estimator
        scaler = StandardScaler()
        vars(scaler).update({key: arrays[f"scaler.{key}"] for key in ("mean_", "scale_", "var_")})
        scaler.n_features_in_ = len(scaler.mean_)
    return make_pipeline(scaler, estimator)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _nodes(root: Any) -> list[Any]:
    """A tree's nodes, each before those below it."""
    nodes = [root]
    for node in nodes:  # which grows meanwhile
        nodes += [] if node.left is None else [node.left, node.right]
    return nodes


def _tree(rows: list[list[Any]], centers: np.ndarray) -> SimpleNamespace:
    nodes = [SimpleNamespace(center=center, left=None, right=None) for center in centers]
    for node, (*below, label) in zip(nodes, rows, strict=True):
        if below:
            node.left, node.right = (nodes[i] for i in below)
        else:
            node.label = label
    return nodes[0]
