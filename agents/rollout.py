"""What a policy has just lived through, cut into minibatches.

Everything here is flat: N = T·B samples, numpy arrays or torch tensors, in any order as long as it is the same one. For
a policy with a memory the samples stand in sequences, one after the other, each in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

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
