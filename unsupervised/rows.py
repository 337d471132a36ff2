"""Rows of data, wherever they are: in memory, sparse, on a GPU, or in files larger than memory.

What k-means asks of its data is little: a tile of neighbouring rows, some rows by number, the scores of a tile
against the centres, and the sum of a tile's rows by cluster. `Dense`, `Sparse` and `Sharded` answer that; nothing else
in k-means knows where the rows lie.

Work is divided into strips and tiles whose borders depend on the shape of the data alone, and what the strips
bring is added up in their order: the result is the same for any number of threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.cluster._k_means_lloyd import lloyd_iter_chunked_dense, lloyd_iter_chunked_sparse
from torch import Tensor

from sandbox.training.device import threads
from unsupervised.shards import Shards

CACHED = 1 << 19  # numbers of a tile and its scores together: two megabytes, a core's cache
COMPILED = 1024  # numbers of all centres, fewer than which scikit-learn's compiled loop is faster than MKL and numpy
T = TypeVar("T")
Prepare = Callable[[NDArray[Any]], NDArray[Any]]
Span = tuple[int, int]  # rows from the first up to, not including, the second


class Rows(Protocol):
    """N rows of D features.

    Attributes
    ----------
    shape : (int, int)
        N and D.
    dtype : torch.dtype
        float32 or float64.
    device : torch.device
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def tile(self, start: int, stop: int) -> Any:
        """Neighbouring rows: a block."""

    def take(self, ids: Tensor) -> Any:
        """Rows by number: a block."""

    def pick(self, block: Any, ids: Tensor) -> Any:
        """Rows of a block, by their number in it: a block."""

    def dense(self, ids: Tensor) -> Tensor:
        """Rows by number as [len(ids), D], whatever a block is."""

    def nearest(self, block: Any, centers: Tensor) -> Tensor:
        """The nearest centre of each row of a block, int32 [n]."""

    def scores(self, block: Any, centers: Tensor, half: Tensor, out: Tensor) -> Tensor:
        """½‖c‖² - x·c for each row and centre, into `out` [n, K]: half of the squared distance but for ½‖x‖²."""

    def squared_norms(self, block: Any) -> Tensor:
        """‖x‖² [n]."""

    def weighted_sum(self, block: Any, weights: Tensor) -> Tensor:
        """Σ w x [D]."""

    def squared_errors(self, block: Any, centers: Tensor, labels: Tensor) -> Tensor:
        """‖x - c‖² [n] of each row and its own centre, from the differences themselves."""

    def add(self, block: Any, sums: Tensor, labels: Tensor, weights: Tensor | None, sign: int) -> None:
        """Add the rows, weighted, to the float64 `sums` [K, D] of their clusters, or take them away."""


class Dense:
    """Rows in one array, in memory or mapped from a file.

    Parameters
    ----------
    X : [N, D] float32 or float64
    device : torch.device
        A GPU takes a copy of all rows.
    """

    def __init__(self, X: NDArray[Any], device: torch.device) -> None:
        self.X = as_tensor(X)
        if device.type == "cuda":
            try:
                self.X = self.X.to(device)
            except torch.cuda.OutOfMemoryError:
                size = X.nbytes / 1e9
                raise MemoryError(f"X takes {size:.1f} GB, more than the GPU has free: use device='cpu'") from None
        self.shape = (X.shape[0], X.shape[1])
        self.dtype, self.device = self.X.dtype, device

    def tile(self, start: int, stop: int) -> Tensor:
        return self.X[start:stop]

    def take(self, ids: Tensor) -> Tensor:
        return self.X.index_select(0, ids)

    def pick(self, block: Tensor, ids: Tensor) -> Tensor:
        return block.index_select(0, ids)

    def dense(self, ids: Tensor) -> Tensor:
        return self.take(ids)

    def nearest(self, block: Tensor, centers: Tensor) -> Tensor:
        n, on_cpu = len(block), block.device.type == "cpu"
        if on_cpu and centers.numel() < COMPILED:
            return _compiled(lloyd_iter_chunked_dense, block.numpy(), centers.numpy())
        half, size = (centers * centers).sum(1) / 2, tile_size(sum(centers.shape), block.device)
        scores = torch.empty(min(n, size), len(centers), dtype=block.dtype, device=block.device)
        labels = torch.empty(n, dtype=torch.int32, device=block.device)
        for start, stop in tiles(0, n, size):
            found = self.scores(block[start:stop], centers, half, out=scores[: stop - start])
            # On a CPU numpy's argmin is several times faster than torch's.
            labels[start:stop] = torch.from_numpy(found.numpy().argmin(1)) if on_cpu else found.argmin(1)
        return labels

    def scores(self, block: Tensor, centers: Tensor, half: Tensor, out: Tensor) -> Tensor:
        return torch.addmm(half, block, centers.t(), alpha=-1, out=out)

    def squared_norms(self, block: Tensor) -> Tensor:
        return (block * block).sum(1)

    def weighted_sum(self, block: Tensor, weights: Tensor) -> Tensor:
        return weights @ block

    def squared_errors(self, block: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
        return self.squared_norms(block - centers.index_select(0, labels.long()))

    def add(self, block: Tensor, sums: Tensor, labels: Tensor, weights: Tensor | None, sign: int) -> None:
        if weights is not None:
            block = block * weights[:, None].to(block.dtype)
        if block.dtype == sums.dtype:
            sums.index_add_(0, labels, block, alpha=sign)
            return
        # Of a tile in float32, of all tiles in float64: the whole in float64 takes seven times as long.
        sums.add_(torch.zeros_like(sums, dtype=block.dtype).index_add_(0, labels, block), alpha=sign)


class Sharded(Dense):
    """Rows in several files, of which no more than a tile is in memory.

    Parameters
    ----------
    shards : Shards
    prepare : function, optional
        What becomes of rows [n, D] as they are read.
    """

    def __init__(self, shards: Shards, prepare: Prepare | None = None) -> None:
        self.shards, self.prepare = shards, prepare or (lambda rows: rows)
        self.shape = shards.shape
        self.dtype, self.device = torch.from_numpy(np.empty(0, shards.dtype)).dtype, torch.device("cpu")

    def tile(self, start: int, stop: int) -> Tensor:
        return as_tensor(self.prepare(self.shards.rows(start, stop)))

    def take(self, ids: Tensor) -> Tensor:
        return torch.from_numpy(self.prepare(self.shards.take(ids.numpy())))


class Sparse:
    """Rows of a CSR matrix.

    Parameters
    ----------
    X : CSR matrix or array [N, D] of float32 or float64
    """

    def __init__(self, X: Any) -> None:
        self.X = X
        self.shape = X.shape
        self.dtype, self.device = torch.from_numpy(X.data[:0]).dtype, torch.device("cpu")

    def tile(self, start: int, stop: int) -> Any:
        return self.X[start:stop]

    def take(self, ids: Tensor) -> Any:
        return self.X[ids.numpy()]

    def pick(self, block: Any, ids: Tensor) -> Any:
        return block[ids.numpy()]

    def dense(self, ids: Tensor) -> Tensor:
        return torch.from_numpy(self.take(ids).toarray())

    def nearest(self, block: Any, centers: Tensor) -> Tensor:
        return _compiled(lloyd_iter_chunked_sparse, block, centers.numpy())

    def scores(self, block: Any, centers: Tensor, half: Tensor, out: Tensor) -> Tensor:
        return torch.sub(half, torch.from_numpy(np.asarray(block @ centers.numpy().T)), out=out)

    def squared_norms(self, block: Any) -> Tensor:
        return torch.from_numpy(np.asarray(block.multiply(block).sum(axis=1)).reshape(-1))

    def weighted_sum(self, block: Any, weights: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(block.T @ weights.numpy()))

    def squared_errors(self, block: Any, centers: Tensor, labels: Tensor) -> Tensor:
        return Dense.squared_norms(self, torch.from_numpy(block.toarray()) - centers[labels.long()])  # type: ignore[arg-type]

    def add(self, block: Any, sums: Tensor, labels: Tensor, weights: Tensor | None, sign: int) -> None:
        n = block.shape[0]
        each = np.full(n, sign, np.float64) if weights is None else sign * weights.numpy()
        of_cluster = sp.csr_matrix((each, (labels.numpy(), np.arange(n))), shape=(len(sums), n))
        sums += torch.from_numpy((of_cluster @ block.astype(np.float64)).toarray())


def rows_of(X: Any, device: torch.device, prepare: Prepare | None = None) -> Rows:
    """The rows of an array, a CSR matrix or shards.

    Parameters
    ----------
    X : array, CSR matrix or Shards [N, D]
    device : torch.device
    prepare : function, optional
        What becomes of rows [n, D] before they are used: of an array at once, of shards as they are read.

    Raises
    ------
    ValueError
        If a sparse matrix or shards are asked for on a GPU.
    """
    if isinstance(X, Shards) or sp.issparse(X):
        if device.type != "cpu":
            what = "shards" if isinstance(X, Shards) else "a sparse matrix"
            raise ValueError(f"{what} can be clustered on the CPU alone: use device='cpu'")
        return Sharded(X, prepare) if isinstance(X, Shards) else Sparse(X)
    return Dense(X if prepare is None else prepare(X), device)


def _compiled(iterate: Callable[..., None], X: Any, centers: NDArray[Any]) -> Tensor:
    """The nearest centres by scikit-learn's compiled iteration, in this thread alone and without Python's lock."""
    labels, none = np.empty(X.shape[0], np.int32), np.empty(0, centers.dtype)
    centers = np.ascontiguousarray(centers)
    iterate(X, none, centers, None, None, labels, none, n_threads=1, update_centers=False)
    return torch.from_numpy(labels)


def as_tensor(X: NDArray[Any]) -> Tensor:
    """The array as a tensor on the same memory, which is never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(X)


class Team:
    """Threads that divide strips of rows among them; each runs torch and BLAS on itself alone.

    Parameters
    ----------
    pool : ThreadPoolExecutor, optional
        None works in the caller's thread.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool

    def map(self, work: Callable[..., T], pieces: Sequence[tuple[int, ...]]) -> list[T]:
        """What `work` brings for each piece, most often a span of rows, in their order."""
        if self.pool is None or len(pieces) == 1:
            return [work(*piece) for piece in pieces]
        return list(self.pool.map(lambda piece: work(*piece), pieces))


@contextmanager
def team(n_threads: int, work: float) -> Iterator[Team]:
    """Threads for the length of a fit.

    Parameters
    ----------
    n_threads : int
    work : float
        Multiplications of one pass over the data; with little of it, other threads are more trouble than help.

    Raises
    ------
    MemoryError
        If a GPU's memory does not suffice.
    """
    with threads(1):
        try:
            if n_threads == 1 or work < 1 << 22:
                yield Team(None)
            else:
                with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    yield Team(pool)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(
                "the GPU has no memory left, not even for small tiles: use device='cpu', or fewer clusters"
            ) from error


def strips(n: int, width: int, most: int = 16) -> list[Span]:
    """The rows divided into spans with work enough to be worth dividing: 1, 2, 4 … and at most `most` of them.

    Parameters
    ----------
    n : int
    width : int
        Numbers that are looked at for each row.
    most : int, default=16

    Examples
    --------
    >>> strips(10_000, 500)
    [(0, 5000), (5000, 10000)]
    """
    count = 1 << max(1, min(most, n * width >> 21)).bit_length() - 1
    edges = [n * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def tile_size(width: int, device: torch.device) -> int:
    """Rows whose numbers and scores, `width` of them each, stay in the cache; of a GPU, in what memory it has free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(128, min(1 << 26, free // 32) // width)
    return min(16384, max(128, CACHED // width))


def tiles(start: int, stop: int, size: int) -> Iterator[Span]:
    """The span cut into pieces of at most `size`."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)
