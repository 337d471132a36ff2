"""Losses that agents and unsupervised learning share, each a pure function of batches. `B` is the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(scores: Tensor) -> Tensor:
    """Cross-entropy of scores whose first B columns belong to the B rows, one each: ``[B, B or more] -> []``.

    Rows are queries; each other column is a key that does not belong to the row (van den Oord et al.,
    arXiv:1807.03748, equation 4).

    Examples
    --------
    >>> info_nce(torch.zeros(2, 4))  # log 4: chance
    tensor(1.3863)
    """
    several(scores)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def several(*embeddings: Tensor) -> int:
    """How many samples there are, which is two or more."""
    B = len(embeddings[0])
    if B < 2 or any(len(one) != B for one in embeddings):
        raise ValueError(f"a sample is compared with others: give 2 or more, as many of each view, got batches of {B}")
    return B
