"""From symbols to bytes and back, with integer tables: no float decides what a symbol's interval is.

A table's counts sum to 2**24. The range coder of `constriction` keeps as many bits, and gives each symbol at least one
count and a share of the others: told the counts less one, whose sum it scales by exactly 1, it uses these very counts.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unsupervised.compression.container import CorruptFile

BITS = 24
TOTAL = 1 << BITS
LARGEST = (1 << 14) - 1  # magnitude of a symbol
_LENGTHS = 16  # an escaped symbol's distance has fewer bits than this


@cache
def _stream() -> Any:
    try:
        import constriction
    except ModuleNotFoundError:
        install = "compression needs constriction: pip install 'rl-unsup-sandbox[compression]'"
        raise ModuleNotFoundError(install, name="constriction") from None
    return constriction.stream


def counts_of(p: ArrayLike) -> NDArray[np.uint32]:
    """Probabilities as whole numbers, 1 or more, whose sum is 2**24; what rounding leaves goes to the likeliest.

    Parameters
    ----------
    p : [n] float
        Not negative; they need not sum to 1.

    Examples
    --------
    >>> counts_of([0.5, 0.25, 0.25, 0.0]).tolist()
    [8388607, 4194304, 4194304, 1]
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 1 or not len(p) or not np.isfinite(p).all() or p.min() < 0 or not p.sum():
        raise ValueError("probabilities must be a row of finite numbers, not negative and not all 0")
    whole = np.floor(p / p.sum() * (TOTAL - len(p))).astype(np.int64) + 1
    short = TOTAL - int(whole.sum())
    whole[np.argsort(-p, kind="stable")[: short % len(p)]] += 1
    whole[p.argmax()] += short // len(p) * len(p)
    return whole.astype(np.uint32)


class Tables:
    """Distributions of whole numbers, each over a range of its own; what is outside of it is escaped.

    Parameters
    ----------
    counts : sequence of uint32 [n_i + 1]
        Of each table, the counts of the symbols ``first, first + 1, ...``, and of the escape.
    firsts : [K] int
        Each table's lowest symbol.

    Raises
    ------
    ValueError
        If a table's counts don't sum to 2**24.

    Examples
    --------
    >>> tables = Tables([counts_of([1, 2, 1, 0.01])], [-1])
    >>> symbols, which = np.array([0, 1, 0, -1, 5]), np.zeros(5, int)
    >>> encoder = Encoder()
    >>> encoder.write(symbols, tables, which)
    >>> Decoder(encoder.payload()).read(tables, which).tolist()
    [0, 1, 0, -1, 5]
    """

    def __init__(self, counts: Sequence[ArrayLike], firsts: ArrayLike):
        self.counts = [np.asarray(one).astype(np.int64) for one in counts]
        self.firsts = np.asarray(firsts).astype(np.int64)
        if len(self.counts) != len(self.firsts):
            raise ValueError(f"{len(self.counts)} tables need as many firsts, got {len(self.firsts)}")
        for i, one in enumerate(self.counts):
            if one.ndim != 1 or len(one) < 2 or one.min() < 1 or one.sum() != TOTAL:
                raise ValueError(f"table {i}: counts must be positive, two or more, and sum to 2**{BITS}")
        self.sizes = np.array([len(one) - 1 for one in self.counts])  # without the escape
        self._starts = np.concatenate([[0], np.cumsum(self.sizes + 1)])
        self._costs = BITS - np.log2(np.concatenate(self.counts))
        self._models: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.counts)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_models": {}}  # the coder's own forms can't be pickled, and are soon made anew

    def model(self, i: int) -> Any:
        """The coder's own form of a table."""
        if i not in self._models:
            # In its constructor the scale is (2**24 - n) / sum(counts - 1), which is 1.
            self._models[i] = _stream().model.Categorical((self.counts[i] - 1).astype(np.float64), perfect=False)
        return self._models[i]

    def places(self, symbols: NDArray[Any], which: NDArray[Any]) -> NDArray[np.int64]:
        """Where in its table each symbol is; the last place is the escape's."""
        places = symbols - self.firsts[which]
        sizes = self.sizes[which]
        return np.where((places < 0) | (places >= sizes), sizes, places)

    def bits(self, symbols: NDArray[Any], which: NDArray[Any]) -> float:
        """What symbols cost, ``[...]`` by tables ``[...]``: their entropy by these counts, in bits."""
        return float(self.costs(symbols, which).sum())

    def costs(self, symbols: NDArray[Any], which: NDArray[Any]) -> NDArray[np.float64]:
        """The bits of each ``[...]``."""
        places = self.places(symbols, which)
        costs: NDArray[np.float64] = self._costs[self._starts[which] + places]
        escaped = places == self.sizes[which]
        if escaped.any():
            lengths, *_ = self.distances(symbols[escaped], which[escaped])
            costs[escaped] += lengths + 1 + np.log2(_LENGTHS)
        return costs

    def least(self) -> NDArray[np.float64]:
        """Of each table, the bits of its likeliest symbol ``[K]``."""
        return np.minimum.reduceat(self._costs, self._starts[:-1])

    def distances(self, symbols: NDArray[Any], which: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Of escaped symbols: bits of their distance from the table, whether they are below it, and these bits."""
        first, size = self.firsts[which], self.sizes[which]
        below = symbols < first
        distance = np.where(below, first - symbols, symbols - (first + size - 1))  # 1 or more
        lengths = np.frexp(distance.astype(np.float64))[1] - 1
        return lengths, below, distance - (1 << lengths.astype(np.int64))


class Coder(Protocol):
    """What goes through a file's symbols, block after block: an `Encoder`, a `Decoder` or a `Meter`."""

    def code(self, symbols: NDArray[Any] | None, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        """The next block: symbols ``[...]`` that are written, or None if they are read; the table of each ``[...]``.

        Returns
        -------
        symbols ``[...]``
        """
        ...


class Encoder:
    """Writes symbols, block after block."""

    def __init__(self) -> None:
        self._coder = _stream().queue.RangeEncoder()

    def write(self, symbols: NDArray[Any], tables: Tables, which: NDArray[Any]) -> None:
        """Add a block: symbols ``[...]``, and the table of each ``[...]``.

        Raises
        ------
        ValueError
            If a symbol is beyond 16383 in magnitude.
        """
        symbols, which = symbols.ravel().astype(np.int64), which.ravel().astype(np.int64)
        if symbols.size and np.abs(symbols).max() > LARGEST:
            raise ValueError(f"symbols must be between -{LARGEST} and {LARGEST}")
        places = tables.places(symbols, which)
        for i, at in _by_table(which):
            self._coder.encode(places[at].astype(np.int32), tables.model(i))
        escaped = np.flatnonzero(places == tables.sizes[which])
        if escaped.size:
            lengths, below, rest = tables.distances(symbols[escaped], which[escaped])
            self._coder.encode((lengths * 2 + below).astype(np.int32), _uniform(2 * _LENGTHS))
            for bits, at in _by_table(lengths):
                if bits:
                    self._coder.encode(rest[at].astype(np.int32), _uniform(1 << bits))

    def code(self, symbols: NDArray[Any] | None, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        assert symbols is not None
        self.write(symbols, tables, which)
        return symbols

    def payload(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Meter:
    """Adds up what symbols would cost.

    Attributes
    ----------
    bits : float
    """

    def __init__(self) -> None:
        self.bits = 0.0

    def code(self, symbols: NDArray[Any] | None, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        assert symbols is not None
        self.bits += tables.bits(symbols, which)
        return symbols


class Decoder:
    """Reads what an `Encoder` wrote, in the same blocks.

    Raises
    ------
    CorruptFile
        Here and by `read`, if no encoder can have written it.
    """

    def __init__(self, payload: bytes):
        if len(payload) % 4:
            raise CorruptFile(f"a payload of {len(payload)} bytes: expected is a multiple of 4")
        self._coder = _stream().queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def read(self, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        """The next block, by the table of each symbol ``[...]``."""
        shape, which = which.shape, which.ravel().astype(np.int64)
        places = np.empty(which.shape, np.int64)
        for i, at in _by_table(which):
            places[at] = self._take(tables.model(i), len(at))
        symbols = places + tables.firsts[which]
        escaped = np.flatnonzero(places == tables.sizes[which])
        if escaped.size:
            told = self._take(_uniform(2 * _LENGTHS), len(escaped)).astype(np.int64)
            lengths, below = told >> 1, told & 1
            distance = np.int64(1) << lengths
            for bits, at in _by_table(lengths):
                if bits:
                    distance[at] += self._take(_uniform(1 << bits), len(at))
            first, size = tables.firsts[which[escaped]], tables.sizes[which[escaped]]
            symbols[escaped] = np.where(below, first - distance, first + size - 1 + distance)
        return symbols.reshape(shape)

    def code(self, symbols: NDArray[Any] | None, tables: Tables, which: NDArray[Any]) -> NDArray[np.int64]:
        return self.read(tables, which)

    def finish(self) -> None:
        """Make sure that nothing is left."""
        if not self._coder.maybe_exhausted():
            raise CorruptFile("its payload goes on after the last symbol")

    def _take(self, model: Any, n: int) -> NDArray[np.int32]:
        try:
            taken: NDArray[np.int32] = self._coder.decode(model, n)
        except AssertionError:  # the coder's own word for data that can't be
            raise CorruptFile("its payload is not what an encoder writes") from None
        return taken


def _by_table(which: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Each table that occurs, in rising order, with its symbols' places: one call to the coder for each."""
    if which.size:
        narrow = which.astype(np.uint16)  # whose stable sort is by counting
        order = np.argsort(narrow, kind="stable")
        edges = np.flatnonzero(np.diff(narrow[order])) + 1
        for at in np.split(order, edges):
            yield int(which[at[0]]), at


@cache
def _uniform(n: int) -> Any:
    return _stream().model.Uniform(n)
