"""Texts: a file's bytes cut into windows of equal length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sandbox.data.names import Data
from sandbox.training.checkpoint import FileError

SUFFIXES = (".md", ".py", ".rst", ".tex", ".txt")
WINDOW = 128  # bytes


def text(path: str | Path, window: int = WINDOW) -> Data:
    """One text, cut into windows that follow each other; what is left at its end is dropped.

    Parameters
    ----------
    path : path-like
        Its bytes are taken as they are, in whichever alphabet.
    window : int
        Bytes.

    Returns
    -------
    Data
        ``X`` is ``[N, window]`` uint8.

    Raises
    ------
    FileError
        If it is empty, or shorter than a window.
    ValueError
        If a window has no byte.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "book.txt").write_text("to be or not to be")
    ...     book = text(f"{folder}/book.txt", window=6)
    >>> book.X.tobytes(), book.X.shape
    (b'to be or not to be', (3, 6))
    """
    path = Path(path)
    if window < 1:
        raise ValueError(f"window must be at least 1 byte, not {window}")
    read = np.fromfile(path, np.uint8)
    if not len(read):
        raise FileError(f"{path}: empty; expected is text")
    X = read[: len(read) // window * window].reshape(-1, window)
    if not len(X):
        raise FileError(f"{path}: {len(read):,} bytes, less than a window; ask for window={len(read)} or less")
    return Data(X, np.empty((len(X), 0), int), (), f"{path}: {len(read):,} bytes in windows of {window:,}")
