"""What a policy has just lived through, cut into minibatches.

Everything here is flat: N = T·B samples, numpy arrays or torch tensors, in any order as long as it is the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one rollout, or a minibatch of them: each field ``[N, ...]``, `obs` possibly a dictionary of such."""

    obs: Any
    actions: Any
    values: Any
    log_probs: Any
    advantages: Any
    returns: Any

    def take(self, index: np.ndarray) -> Samples:
        """The samples at `index`."""
        obs = {key: value[index] for key, value in self.obs.items()} if isinstance(self.obs, dict) else self.obs[index]
        rest = (self.actions, self.values, self.log_probs, self.advantages, self.returns)
        return Samples(obs, *(field[index] for field in rest))


def minibatches(samples: Samples, batch_size: int) -> Iterator[Samples]:
    """One pass over the samples in random order, a minibatch at a time; the last one may be smaller.

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
    """
    n = len(samples.returns)
    if batch_size >= n:
        yield samples
        return
    order = np.random.permutation(n)  # noqa: NPY002
    for start in range(0, n, batch_size):
        yield samples.take(order[start : start + batch_size])
