"""Which blocks of a frame change: a flag for each, told given the flags around it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unsupervised.compression.container import CorruptFile
from unsupervised.compression.entropy import Coder, Tables, counts_of
from unsupervised.compression.transform import PHASES

BEFORE = 19  # what is known of a flag from the last frame: it and its eight neighbours, or nothing
CONTEXTS = len(PHASES) * BEFORE * 9


def flag_tables(seen: NDArray[Any] | None = None) -> Tables:
    """Tables of flags that were seen so often not set and set ``[CONTEXTS, 2]``."""
    often = np.full((CONTEXTS, 2), (0.4, 0.1)) + (0 if seen is None else seen)
    return Tables([counts_of([*row, 0]) for row in often], np.zeros(CONTEXTS, int))


def code_flags(
    coder: Coder, tables: Tables, flags: NDArray[Any] | None, last: NDArray[Any] | None, h: int, w: int
) -> NDArray[Any]:
    """Write or read flags ``[h, w]``, each given those of the last frame around it, and of this one's earlier phases.

    Parameters
    ----------
    coder : Encoder, Decoder or Meter
    tables : Tables
    flags : bool [h, w], optional
        None, if they are read.
    last : bool [h, w], optional
        Of the frame before; None, if it is not known what changed in it.
    h, w : int
    """
    known = np.zeros((h, w), bool)
    before = np.full((h, w), BEFORE - 1) if last is None else last * 9 + around(last)
    for k, (a, b) in enumerate(PHASES):
        at = np.s_[a::2, b::2]
        which = (k * BEFORE + before[at]) * 9 + around(known)[at]
        if which.size:
            told = None if flags is None else flags[at].astype(np.int64)
            read = coder.code(told, tables, which)
            if read.min() < 0 or read.max() > 1:
                raise CorruptFile("its payload has flags that no encoder writes")
            known[at] = read > 0
    return known


def around(flags: NDArray[Any]) -> NDArray[np.int64]:
    """How many of a flag's eight neighbours are set: ``[h, w]``.

    >>> around(np.eye(3, dtype=bool))
    array([[1, 2, 1],
           [2, 2, 2],
           [1, 2, 1]])
    """
    padded = np.pad(flags, 1).astype(np.int64)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    whole: NDArray[np.int64] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - padded[1:-1, 1:-1]
    return whole


class Counting:
    """A coder that counts what it is given, for tables to be made of.

    Attributes
    ----------
    seen : int [K, n]
        How often each table has had each of the symbols ``0 ... n - 1``.
    """

    def __init__(self, tables: Tables, n: int):
        self.tables = tables
        self.seen = np.zeros((len(tables), n))

    def code(self, symbols: NDArray[Any] | None, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        assert symbols is not None
        if tables is self.tables:
            np.add.at(self.seen, (which, symbols), 1)
        return symbols
