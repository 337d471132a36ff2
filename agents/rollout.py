"""What a policy has just lived through, cut into minibatches.

Everything here is flat: N = T·B samples, numpy arrays or torch tensors, in any order as long as it is the same one. For
a policy with a memory the samples stand in sequences, one after the other, each in the order of time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one rollout, or a minibatch of them: each field ``[N, ...]``, `obs` possibly a dictionary of such.

    Attributes
    ----------
    masks : [N, A] booleans, optional
        False where an action was forbidden.
    states, first : [N, S, D] floats and [N] booleans, optional
        What the memory held before each sample, and which samples begin a sequence.
    """

    obs: Any
    actions: Any
    values: Any
    log_probs: Any
    advantages: Any
    returns: Any
    masks: Any = None
    states: Any = None
    first: Any = None

    def take(self, index: np.ndarray) -> Samples:
        """The samples at `index`."""

        def rows(field: Any) -> Any:
            if isinstance(field, dict):
                return {key: value[index] for key, value in field.items()}
            return None if field is None else field[index]

        return Samples(*(rows(getattr(self, field.name)) for field in fields(self)))


def minibatches(samples: Samples, batch_size: int) -> Iterator[Samples]:
    """One pass over the samples in random order, a minibatch at a time; the last one may be smaller.

    Sequences stay whole: they are what is shuffled then, and a minibatch has as many as fit, at least one.

    The order comes from numpy's global generator, as in Stable-Baselines3: the same seed, the same minibatches. One
    that would hold everything is the samples themselves: a mean knows no order.

    Parameters
    ----------
    samples : Samples of N
    batch_size : int

    Yields
    ------
    Samples of at most `batch_size`

    Examples
    --------
    >>> samples = Samples(*np.arange(30.0).reshape(6, 5))
    >>> [len(batch.returns) for batch in minibatches(samples, 2)]
    [2, 2, 1]
    >>> samples = Samples(*np.arange(30.0).reshape(6, 5), first=np.array([True, False, False, True, False]))
    >>> sorted(len(batch.returns) for batch in minibatches(samples, 3))
    [2, 3]
    """
    n = len(samples.returns)
    if batch_size >= n:
        yield samples
    elif samples.first is None:
        order = np.random.permutation(n)  # noqa: NPY002
        for start in range(0, n, batch_size):
            yield samples.take(order[start : start + batch_size])
    else:
        sequences = np.split(np.arange(n), np.flatnonzero(samples.first)[1:])
        chosen: list[np.ndarray] = []
        for i in np.random.permutation(len(sequences)):  # noqa: NPY002
            if chosen and sum(map(len, chosen)) + len(sequences[i]) > batch_size:
                yield samples.take(np.concatenate(chosen))
                chosen = []
            chosen.append(sequences[i])
        yield samples.take(np.concatenate(chosen))


class Columns(NamedTuple):
    """Sequences of samples, laid one after the other into columns ``[T, B]``."""

    t: np.ndarray  # [N], the step at which each sample stands
    b: np.ndarray  # [N], and its column
    begins: np.ndarray  # samples that begin a sequence
    samples: np.ndarray  # [T, B], the sample at each place; 0 where there is none
    goes_on: list[np.ndarray | None]  # for each step which columns go on, [B, 1] booleans; None if all do


def pack(first: np.ndarray) -> Columns:
    """Lay out sequences in as few steps as the longest has, longest first, each into the column that is shortest.

    Parameters
    ----------
    first : [N] booleans
        Which samples begin a sequence.

    Examples
    --------
    >>> pack(np.array([True, False, True, True, False, False])).samples
    array([[3, 0],
           [4, 1],
           [5, 2]])
    """
    begins = np.flatnonzero(first)
    lengths = np.diff(begins, append=len(first))
    T = int(lengths.max())
    top, column = np.zeros((2, len(begins)), np.intp)
    shortest: list[tuple[int, int]] = []  # columns by how far they are filled
    for i in np.argsort(-lengths, kind="stable"):
        if shortest and shortest[0][0] + lengths[i] <= T:
            top[i], column[i] = heapq.heappop(shortest)
        else:
            column[i] = len(shortest)
        heapq.heappush(shortest, (top[i] + lengths[i], column[i]))
    samples = np.zeros((T, len(shortest)), np.intp)
    n = np.arange(len(first))
    t, b = n - np.repeat(begins - top, lengths), np.repeat(column, lengths)
    samples[t, b] = n
    goes_on: list[np.ndarray | None] = [None] * T
    for step in np.unique(top):
        goes_on[step] = ~np.isin(np.arange(len(shortest)), column[top == step])[:, None]
    return Columns(t, b, begins, samples, goes_on)
