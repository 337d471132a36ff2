"""Rows in several files, for data larger than memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Shards:
    """Rows of one table in several ``.npy`` files, read where they are needed and never all at once.

    ``KMeans.fit`` takes them as it takes an array, and finds the same clusters.

    Parameters
    ----------
    source : path, sequence of paths, or iterable of [n, D] arrays
        A folder of ``.npy`` files, taken in the order of their names; such files; or chunks of rows, which are
        kept in temporary files for as long as this object lives.

    Attributes
    ----------
    shape : (int, int)
        N rows of D features, in all files together.
    dtype : numpy.dtype
        float32 if all files are, else float64; other numbers are converted as they are read.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no file, a file holds no table of numbers, or their widths differ; the message names the file.

    Examples
    --------
    >>> from unsupervised import KMeans, Shards
    >>> chunks = (np.random.default_rng(i).normal(size=(100, 2)) + 20 * (i % 2) for i in range(6))
    >>> shards = Shards(chunks)
    >>> shards.shape
    (600, 2)
    >>> KMeans(2, random_state=0).fit(shards).labels_[[0, 100]].tolist() in ([0, 1], [1, 0])
    True
    """

    def __init__(self, source: str | Path | Sequence[str | Path] | Iterable[Any]) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(source, (str, Path)):
            paths: list[Path] = sorted(Path(source).glob("*.npy"))
            if not paths:
                known = "a folder without .npy files" if Path(source).is_dir() else "no folder"
                raise FileNotFoundError(f"{source} is {known}: Shards takes a folder of .npy files")
        else:
            items = list(source) if isinstance(source, (list, tuple)) else source
            if isinstance(items, list) and items and all(isinstance(item, (str, Path)) for item in items):
                paths = [Path(item) for item in items]
            else:
                self._folder = tempfile.TemporaryDirectory(prefix="shards-")
                paths = list(_kept(items, Path(self._folder.name)))
        self._arrays = [_opened(path) for path in paths]
        widths = {array.shape[1] for array in self._arrays}
        if len(widths) > 1:
            wrong = next(i for i, array in enumerate(self._arrays) if array.shape[1] != self._arrays[0].shape[1])
            raise ValueError(
                f"{paths[wrong]} has {self._arrays[wrong].shape[1]} columns, but {paths[0]} has "
                f"{self._arrays[0].shape[1]}: all shards must have as many"
            )
        self._starts = np.cumsum([0, *(len(array) for array in self._arrays)])
        self.shape = (int(self._starts[-1]), widths.pop())
        single = all(array.dtype == np.float32 for array in self._arrays)
        self.dtype = np.dtype(np.float32 if single else np.float64)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Neighbouring rows as one array [stop - start, D]; read-only where no copy is needed."""
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        parts = [
            self._arrays[i][max(start - self._starts[i], 0) : stop - self._starts[i]] for i in range(first, last + 1)
        ]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.ascontiguousarray(whole, self.dtype)

    def take(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Rows by number [len(ids), D]."""
        found = np.empty((len(ids), self.shape[1]), self.dtype)
        of_shard = np.searchsorted(self._starts, ids, side="right") - 1
        for i in np.unique(of_shard):
            here = of_shard == i
            found[here] = self._arrays[i][ids[here] - self._starts[i]]
        return found


def _kept(chunks: Iterable[Any], folder: Path) -> Iterator[Path]:
    """Each chunk in a file of its own."""
    count = 0
    for chunk in chunks:
        array = np.asarray(chunk)
        if array.ndim != 2:
            raise ValueError(f"chunk {count} has shape {array.shape}: a chunk is a table [n, D]")
        path = folder / f"{count:08d}.npy"
        np.save(path, array, allow_pickle=False)
        count += 1
        yield path
    if not count:
        raise ValueError("there was no chunk: Shards needs at least one table [n, D]")


def _opened(path: Path) -> NDArray[Any]:
    """The table in a file, mapped and not read."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from None
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}: a shard is a table [n, D] of numbers")
    return array
