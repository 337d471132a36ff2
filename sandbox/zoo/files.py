"""Saving and loading: one safetensors file with a record of how to build the module. Opening it runs no code.

The file's metadata has one entry, ``sandbox.zoo``, a JSON object:

========================  ================================================================================
``format``                1
``name``, ``kwargs``      what `build` was called with, defaults included
``in_shape``              shape of one input, without batch and time (a decoder: ``in_features``)
``out_features``          width of one output (a decoder: ``out_shape``)
``preprocessing``         `module.preprocessing`, whatever the owner wrote there, or null
``sha256``                over the rest of the record, and every tensor's name, dtype, shape and bytes
========================  ================================================================================
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sandbox.training.checkpoint import FileError as FileError  # what `load` raises
from sandbox.training.checkpoint import load_tensors, opening, save_tensors
from sandbox.training.device import private_seed
from sandbox.zoo.contracts import Decoder
from sandbox.zoo.names import build, plain

_KIND = "sandbox.zoo"
IN_RUN = Path("model", "encoder.safetensors")  # where a run's folder has its encoder


def save(module: nn.Module, path: str | os.PathLike[str], *, preprocessing: dict[str, Any] | None = None) -> None:
    """Write a module that `build` made to one file.

    The file is written beside its place and then moved there: whoever looks sees the old file or the new one, never
    half of one.

    Parameters
    ----------
    module : nn.Module
        Its parameters and buffers are saved, on whatever device they are.
    path : path-like
        Usually ``something.safetensors``.
    preprocessing : dict, optional
        What was done to inputs before they reached the module, in values that JSON can hold; by default
        `module.preprocessing`, if there is one.

    Raises
    ------
    ValueError
        If the module was not made by `build`, or its tensors have changed shape since.
    TypeError
        If `preprocessing` cannot be written as JSON.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> encoder = build("mlp", in_shape=(4,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(encoder, f"{folder}/mlp.safetensors", preprocessing={"mean": [0.5]})
    ...     again = load(f"{folder}/mlp.safetensors")
    >>> x = torch.ones(1, 4)
    >>> torch.equal(again(x), encoder(x)), again.preprocessing
    (True, {'mean': [0.5]})
    """
    spec = getattr(module, "spec", None)
    if spec is None:
        raise ValueError(f"zoo.save takes modules made by zoo.build, got a {type(module).__name__} made otherwise")
    if preprocessing is None:
        preprocessing = getattr(module, "preprocessing", None)
    tensors = module.state_dict()
    _skeleton(spec["name"], spec["kwargs"], tensors)  # what could not be loaded is not written
    save_tensors(path, _KIND, {**spec, **_shapes(module), "preprocessing": plain(preprocessing)}, tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """Open a file that `save` wrote. Nothing in the file is run, and torch's random generator is left alone.

    Parameters
    ----------
    path : path-like
        A file written by `save`, or the folder of a run, whose encoder is then opened.

    Returns
    -------
    Encoder, Decoder, Recurrent or Sequence
        On the CPU, in training mode as `build` makes it, with `module.spec` and `module.preprocessing` (None, if none
        was saved).

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, or `save` did not write it, or the zoo has no such model. One line.

    Examples
    --------
    >>> load("no/such.safetensors")
    Traceback (most recent call last):
    sandbox.training.checkpoint.FileError: no/such.safetensors: no such file; expected is a file of the kind sandbox.zoo
    """
    if Path(path).is_dir():
        with opening(path, _KIND):
            if not (Path(path) / IN_RUN).is_file():
                raise ValueError(f"a folder, and no run with an encoder (there is no {IN_RUN} in it)")
        path = Path(path) / IN_RUN
    record, tensors = load_tensors(path, _KIND)
    with opening(path, _KIND):
        module = _skeleton(record["name"], record["kwargs"], tensors)
        if any(record[key] != shape for key, shape in _shapes(module).items()):
            raise ValueError("its record of shapes is not that of its model")
        module.load_state_dict(tensors, assign=True)  # assigned, not copied: the saved dtype stays
        module.preprocessing = record["preprocessing"]
    return module


def _skeleton(name: str, kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    # Its weights will be replaced: drawing them must not move the caller's random generator.
    with private_seed(), torch.device("cpu"):
        module = build(name, **kwargs)
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if expected != found:
        key = min(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise ValueError(f"{name} has {key} of shape {expected.get(key)}, not {found.get(key)}")
    return module


def _shapes(module: Any) -> dict[str, Any]:
    if isinstance(module, Decoder):
        return {"in_features": module.in_features, "out_shape": list(module.out_shape)}
    in_shape = module.in_shape if hasattr(module, "in_shape") else (module.in_features,)
    return {"in_shape": list(in_shape), "out_features": module.out_features}
