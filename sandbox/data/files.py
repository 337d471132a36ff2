"""Your own files as data: `read` for arrays, tables, pictures, sounds and texts. Opening one runs no code.

========================  ==========================================================================
``.npy``                  one array, opened as a memory map: what is not read takes no memory
``.npz``                  one of its arrays: ``file.npz:name``, or ``file.npz`` if there is but one
``.csv``                  rows of numbers, with a header or without
a picture                 one sample
a folder of pictures      a sample each; those of subfolders are labelled with the subfolder's name
``.wav``                  sound, cut into windows
a folder of ``.wav``      the same of each, labelled with the file, or with the subfolder
a text                    ``.txt`` and the like: its bytes, cut into windows
========================  ==========================================================================
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sandbox.data.names import Data
from sandbox.data.pictures import SUFFIXES, inside, picture, pictures
from sandbox.data.sounds import SUFFIX, sound, sounds
from sandbox.data.texts import SUFFIXES as TEXTS
from sandbox.data.texts import text
from sandbox.training.checkpoint import FileError
from sandbox.training.log import ProgressLine

PICTURES, WRITTEN = ", ".join(SUFFIXES), ", ".join(TEXTS)
KINDS = f".npy, .npz, .csv, .wav, a picture ({PICTURES}), a folder of pictures or sounds, or a text ({WRITTEN})"


def read(path: str | os.PathLike[str], **kwargs: Any) -> Data:
    """Read a file, or a folder of pictures or sounds.

    Parameters
    ----------
    path : path-like
        One of the above.
    **kwargs
        Of pictures: ``size`` and ``grey``, see `sandbox.data.pictures.pictures`. Of sounds: ``window``, see
        `sandbox.data.sounds.sounds`; and of texts, see `sandbox.data.texts.text`.

    Returns
    -------
    Data
        Without labels ``y`` is ``[N, 0]``.

    Raises
    ------
    FileError
        If it is missing, damaged, of an unknown kind, or does not hold numbers. One line.
    TypeError
        If its kind does not take a keyword.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "points.csv").write_text("x,y\\n1,2\\n3,4\\n")
    ...     read(f"{folder}/points.csv").X
    array([[1., 2.],
           [3., 4.]])
    """
    path, name = _split(os.fspath(path))
    try:
        if path.is_dir():
            if is_shards(path):
                raise FileError(f"{path}: a folder of .npy shards, which `load` does not read; use unsupervised.Shards")
            is_heard = inside(path, (SUFFIX,))[0] and not inside(path, SUFFIXES)[0]
            return sounds(path, **kwargs) if is_heard else pictures(path, **kwargs)
        if not path.exists():
            raise FileError(f"{path}: no such file or folder")
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            return picture(path, **kwargs)
        if suffix == SUFFIX:
            return sound(path, **kwargs)
        if suffix in TEXTS:
            return text(path, **kwargs)
        if suffix == ".npy":
            return _unlabelled(_npy(path, **kwargs), f"{path}, a memory map")
        if suffix == ".npz":
            return _unlabelled(_npz(path, name, **kwargs), f"{path}{name and ':'}{name}")
        if suffix == ".csv":
            return _csv(path, **kwargs)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    raise FileError(f"{path}: not a kind of file that is read here; expected is {KINDS}")


def _split(text: str) -> tuple[Path, str]:
    """``file.npz:name`` as its two parts; the second is empty where there is none."""
    head, colon, name = text.rpartition(":")
    named = bool(colon) and head.lower().endswith(".npz") and not Path(text).exists()
    return (Path(head), name) if named else (Path(text), "")


def _unlabelled(X: np.ndarray, about: str) -> Data:
    return Data(X, np.empty((len(X), 0), int), (), about)


# -- arrays ------------------------------------------------------------------------------------------------------------


def is_shards(folder: Path) -> bool:
    """Whether a folder holds ``.npy`` files, and no picture beside them."""
    endings = {path.suffix.lower() for path in folder.iterdir()} if folder.is_dir() else set()
    return ".npy" in endings and not endings & set(SUFFIXES)


def _npy(path: Path) -> np.ndarray:
    try:
        return _numbers(np.lib.format.open_memmap(path, mode="r"), str(path))  # it never unpickles
    except (ValueError, EOFError) as error:
        raise _damaged(error, str(path), "numpy.save") from error


def _npz(path: Path, name: str) -> np.ndarray:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("not an archive")
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            if not name and len(names) == 1:
                name = names[0]
            if name not in names:
                wrong = f"no array {name!r} in it" if name else f"{len(names)} arrays in it"
                which = f"say which: {', '.join(f'{path}:{one}' for one in names)}" if names else "expected is one"
                raise FileError(f"{path}: {wrong}; {which}")
            return _numbers(file[name], f"{path}:{name}")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(error, str(path), "numpy.savez") from error


def _damaged(error: Exception, what: str, writer: str) -> FileError:
    if isinstance(error, FileError):
        return error
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return FileError(
            f"{what}: Python objects, which are never opened: that can run code; expected are real numbers"
        )
    reason = "" if "magic" in str(error) else f" ({' '.join(str(error).split())})"
    return FileError(f"{what}: damaged, or not written by {writer}{reason}")


def _numbers(X: np.ndarray, what: str) -> np.ndarray:
    """`X`, if it is what an estimator could take."""
    if X.dtype.kind not in "biuf":
        kind = {"c": "complex numbers", "U": "text", "S": "text"}.get(X.dtype.kind, "no numbers")
        raise FileError(f"{what}: {kind} ({X.dtype}); expected are real numbers")
    if X.ndim < 2:
        raise FileError(f"{what}: of shape {list(X.shape)}; expected are rows [N, D], or [N, ...] with a sample each")
    return X


# -- tables ------------------------------------------------------------------------------------------------------------


def _csv(path: Path) -> Data:
    try:
        delimiter, header, skip = _beginning(path)
        with ProgressLine(f"reading {path.name}", path.stat().st_size, "bytes", patience=2.0) as progress:
            lines = _Lines(path, skip, progress)
            try:
                X = np.loadtxt(lines, delimiter=delimiter, quotechar='"', comments=None, ndmin=2)
            except UnicodeDecodeError:
                raise
            except ValueError as error:
                raise FileError(f"{path}, line {lines.number}: {lines.trouble(delimiter, header, error)}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not text in UTF-8; expected are rows of numbers with commas between") from error
    except csv.Error as error:
        raise FileError(f"{path}: not a table with commas ({error})") from error
    if header and len(header) != X.shape[1]:
        raise FileError(f"{path}: {len(header)} names in the header, but {X.shape[1]} values in a row; make them equal")
    counted = bool(header) and not header[0].strip() and np.array_equal(X[:, 0], np.arange(len(X))) and X.shape[1] > 1
    if counted:  # as pandas writes it
        X, header = X[:, 1:], header[1:]
    left_out = "; its first column has no name and counts the rows: left out" if counted else ""
    return _unlabelled(X, f"{path}{': ' if header else ''}{', '.join(header)}{left_out}")


def _beginning(path: Path) -> tuple[str, list[str], int]:
    """What separates the values, the names of the columns if there are any, and the lines that they take."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [(i, line) for i, line in enumerate(islice(file, 100), 1) if line.strip()][:2]
    if not rows:
        raise FileError(f"{path}: empty; expected are rows of numbers with commas between")
    delimiter = max(",;\t", key=rows[0][1].count)
    first, *second = list(csv.reader([line for _, line in rows], delimiter=delimiter))
    words = [i for i, text in enumerate(first) if not _is_number(text)]
    # A name or two may be a number, such as a year. Then the values below the others are numbers.
    below = bool(second) and all(i < len(second[0]) and _is_number(second[0][i]) for i in words)
    has_header = bool(words) and (len(words) == len(first) or below)
    if has_header and not second:
        raise FileError(f"{path}: a header, and no rows of numbers after it")
    return delimiter, first if has_header else [], rows[0][0] if has_header else 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # 1_000 is one to Python alone


class _Lines:
    """The lines of a file after the first `skip`, counted as they are read."""

    def __init__(self, path: Path, skip: int, progress: ProgressLine):
        self.path, self.skip, self.progress = path, skip, progress
        self.number, self.text, self.first = 0, "", ""

    def __iter__(self) -> Iterator[str]:
        done = 0
        with open(self.path, "rb") as file:
            for self.number, raw in enumerate(file, 1):
                done += len(raw)
                if self.number % 20_000 == 0:
                    self.progress.update(done, f"line {self.number:,}")
                self.text = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
                if self.number > self.skip:
                    self.first = self.first or self.text.strip()
                    yield self.text

    def trouble(self, delimiter: str, header: list[str], error: ValueError) -> str:
        """What is wrong with the line that was read last."""
        fields, expected = (next(csv.reader([text], delimiter=delimiter)) for text in (self.text, self.first))
        if len(fields) != len(expected):
            return f"{len(fields)} values where the rows before have {len(expected)}; a row needs them all"
        for i, field in enumerate(fields):
            if not _is_number(field):
                column = f"column {i + 1}" + (f" ({header[i]})" if i < len(header) else "")
                if not field.strip():
                    return f"{column} is empty; fill it in, or leave out the row or the column"
                return (
                    f"{column} is {field.strip()!r}, not a number; leave out columns of text, or write them as numbers"
                )
        return " ".join(str(error).split())
