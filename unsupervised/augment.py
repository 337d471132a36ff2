"""What is done to samples before a network sees them: functions of batches, drawn from torch's global generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gaussian(x: Tensor, level: float) -> Tensor:
    """Normal noise of standard deviation `level` on every value.

    Examples
    --------
    >>> gaussian(torch.zeros(2, 3), 0.0).abs().max()
    tensor(0.)
    """
    return x + level * torch.randn_like(x)


def mask(x: Tensor, level: float) -> Tensor:
    """Every value 0 with probability `level` (Vincent et al., JMLR 11, 2010); of pictures, all channels of a pixel.

    Examples
    --------
    >>> mask(torch.ones(2, 3), 1.0).sum()
    tensor(0.)
    """
    return x * (_draw(x) >= level)


def salt_and_pepper(x: Tensor, level: float) -> Tensor:
    """Every value, with probability `level`, the least or the largest one of the batch, either as likely.

    Examples
    --------
    >>> salt_and_pepper(torch.tensor([[0.0, 0.5, 1.0]]), 0.0)
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    drawn = _draw(x)
    return torch.where(drawn < level / 2, x.min(), torch.where(drawn < level, x.max(), x))


NOISES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian": gaussian,
    "mask": mask,
    "salt_and_pepper": salt_and_pepper,
}


def _draw(x: Tensor) -> Tensor:
    """A uniform number for each value; of pictures [B, C, H, W] for each pixel."""
    shape = (len(x), 1, *x.shape[2:]) if x.ndim == 4 else x.shape
    return torch.rand(shape, device=x.device)
