"""Files that a crash cannot lose, and that run no code when they are opened.

A file is written beside its place, flushed to the disk and renamed: whoever looks sees the old file or the new one,
whole. Tensors and their record, a JSON object, are one safetensors file; its metadata has one entry, named by the kind
of file, and in it, beside the record, the SHA-256 of everything else.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FORMAT = 1


class FileError(ValueError):
    """A file that is missing, damaged or not what it should be; one line that names it and says what is wrong."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends without an error, rename it over `path`.

    Parameters
    ----------
    path : path-like
        Where the file shall be. Its folder is made if it is missing.

    Yields
    ------
    Path
        Where to write it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(f"{folder}/note.txt") as draft:
    ...         _ = draft.write_text("whole or not at all")
    ...     os.listdir(folder)
    ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last, for writers that read the format from it.
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    draft.touch()
    mode = draft.stat().st_mode & 0o777
    draft.unlink()
    try:
        yield draft
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        draft.chmod(mode)  # some writers make files that nobody else may read
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def save_tensors(
    path: str | os.PathLike[str], kind: str, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write tensors and their record to one file.

    Parameters
    ----------
    path : path-like
        Usually ``something.safetensors``.
    kind : str
        What the file is, such as ``"sandbox.zoo"``: `load_tensors` opens it as nothing else.
    record : mapping
        Anything JSON can hold.
    tensors : mapping of str to Tensor
        From any device.

    Raises
    ------
    TypeError
        If the record cannot be written as JSON.
    OSError
        If the file cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    entry = json.loads(json.dumps({"format": FORMAT, **record}))  # as it will be read
    entry["sha256"] = _sha256(entry, whole)
    text = json.dumps(entry)
    with atomic(path) as draft:
        try:
            save_file(whole, draft, metadata={kind: text})
        except SafetensorError as error:  # a full disk, for one, is to it an error of its own
            raise OSError(f"{os.fspath(path)}: {error}") from error


def load_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a file that `save_tensors` wrote.

    Parameters
    ----------
    path : path-like
    kind : str

    Returns
    -------
    record : dict
    tensors : dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, cut off or of another kind. One line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(f"{folder}/w.safetensors", "example", {"step": 7}, {"w": torch.ones(2)})
    ...     load_tensors(f"{folder}/w.safetensors", "example")
    ({'step': 7}, {'w': tensor([1., 1.])})
    """
    with opening(path, kind):
        return _read(Path(path), kind)


@contextmanager
def opening(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Around what reads a file, or makes something of its record: whatever is wrong with either is one `FileError`.

    Examples
    --------
    >>> with opening("w.safetensors", "example"):
    ...     {}["step"]
    Traceback (most recent call last):
    sandbox.training.checkpoint.FileError: w.safetensors: 'step'; expected is a file of the kind example
    """
    try:
        yield
    except Exception as error:  # they can be wrong in every way; the cause is chained to it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{os.fspath(path)}: {reason}; expected is a file of the kind {kind}") from error


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise ValueError("a folder, not a file" if path.is_dir() else "no such file")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if kind not in metadata:
            raise ValueError("a safetensors file of another kind")
        record = json.loads(metadata[kind])
        # Cloned, for these are views of the file on the disk, which may change under us.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"its record is not of format {FORMAT}, which this version reads")
    if record.pop("sha256", None) != _sha256(record, tensors):
        raise ValueError("damaged: its sha256 is not that of its contents")
    del record["format"]
    return record, tensors


def _sha256(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
