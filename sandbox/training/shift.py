"""Pictures moved at random: the augmentation of agents and of self-supervised learning alike."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def random_shift(x: Tensor, pad: int = 4, generator: Generator | None = None) -> Tensor:
    """Pictures moved by up to `pad` pixels either way; what comes into sight repeats the edge.

    That is padding and cropping at random, DrQ's augmentation (Kostrikov et al., arXiv:2004.13649). Whole rows are
    copied, which of bytes takes half the time of gathering pixels, and a sixth of that of `grid_sample` for floats.

    Examples
    --------
    >>> x = torch.arange(4.0).view(1, 1, 1, 4)
    >>> sorted({tuple(random_shift(x, pad=1).flatten().tolist()) for _ in range(60)})
    [(0.0, 0.0, 1.0, 2.0), (0.0, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 3.0)]
    """
    B, C, H, W = x.shape
    dy, dx = torch.randint(-pad, pad + 1, (2, B, 1), generator=generator, device=x.device)
    wider = torch.cat([x[..., :1].expand(-1, -1, -1, pad), x, x[..., -1:].expand(-1, -1, -1, pad)], 3).contiguous()
    rows = (torch.arange(H, device=x.device) + dy).clamp_(0, H - 1)  # [B, H]
    above = torch.arange(B * C, device=x.device).view(B, C, 1) * H + rows[:, None]  # [B, C, H] rows of all before each
    first = above * (W + 2 * pad) + (dx + pad)[:, None]
    return wider.flatten().unfold(0, W, 1).index_select(0, first.flatten()).view(B, C, H, W)
