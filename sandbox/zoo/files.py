"""Saving and loading: one safetensors file with a record of how to build the module. Opening it runs no code.

The file's metadata has one entry, ``sandbox.zoo``, a JSON object:

========================  ================================================================================
``format``                1
``name``, ``kwargs``      what `build` was called with, defaults included
``in_shape``              shape of one input, without batch and time
``out_features``          width of one output
``preprocessing``         `module.preprocessing`, whatever the owner wrote there, or null
``sha256``                over the rest of the record, and every tensor's name, dtype, shape and bytes
========================  ================================================================================
"""

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sandbox.zoo.names import build, plain

_FORMAT = 1
_KEY = "sandbox.zoo"


class FileError(ValueError):
    """A file that `load` cannot or will not open: missing, damaged, foreign, or of a model that the zoo has not."""


def save(module: nn.Module, path: str | os.PathLike[str], *, preprocessing: dict[str, Any] | None = None) -> None:
    """Write a module that `build` made to one file.

    The file is written beside its place and then moved there: whoever looks sees the old file or the new one, never
    half of one.

    Parameters
    ----------
    module : nn.Module
        Its parameters and buffers are saved, on whatever device they are.
    path : path-like
        Usually ``something.safetensors``. The folder must exist.
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
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    _skeleton(spec["name"], spec["kwargs"], tensors)  # what could not be loaded is not written
    record = {"format": _FORMAT, **spec, **_shapes(module), "preprocessing": plain(preprocessing)}
    record["sha256"] = _sha256(record, tensors)
    atomic_write(path, safetensors.torch.save(tensors, {_KEY: json.dumps(record)}))


def load(path: str | os.PathLike[str]) -> Any:
    """Open a file that `save` wrote. Nothing in the file is run, and torch's random generator is left alone.

    Parameters
    ----------
    path : path-like
        A file written by `save`.

    Returns
    -------
    Encoder, Recurrent or Sequence
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
    sandbox.zoo.files.FileError: no/such.safetensors: no such file; zoo.load opens files that zoo.save wrote
    """
    try:
        return _read(Path(path))
    except Exception as error:  # a file can be wrong in every way: all of them are one error, the cause chained to it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{os.fspath(path)}: {reason}; zoo.load opens files that zoo.save wrote") from error


def _read(path: Path) -> nn.Module:
    if not path.is_file():
        raise ValueError("a folder" if path.is_dir() else "no such file")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _KEY not in metadata:
            raise ValueError("a safetensors file, but not of the zoo")
        record = json.loads(metadata[_KEY])
        # Cloned, for these are views of the file on the disk, which may change under us.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"its record is not of format {_FORMAT}, which this version reads")
    if record.pop("sha256", None) != _sha256(record, tensors):
        raise ValueError("damaged: its sha256 is not that of its contents")
    module = _skeleton(record["name"], record["kwargs"], tensors)
    if _shapes(module) != {key: record[key] for key in ("in_shape", "out_features")}:
        raise ValueError("its record of shapes is not that of its model")
    module.load_state_dict(tensors, assign=True)  # assigned, not copied: the saved dtype stays
    module.preprocessing = record["preprocessing"]
    return module


def _skeleton(name: str, kwargs: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    # Its weights will be replaced: drawing them must not move the caller's random generator.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        module = build(name, **kwargs)
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if expected != found:
        key = min(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise ValueError(f"{name} has {key} of shape {expected.get(key)}, not {found.get(key)}")
    return module


def _shapes(module: Any) -> dict[str, Any]:
    in_shape = module.in_shape if hasattr(module, "in_shape") else (module.in_features,)
    return {"in_shape": list(in_shape), "out_features": module.out_features}


def _sha256(record: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one: temporary file, fsync, rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
