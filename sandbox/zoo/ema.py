"""A slow copy of a network."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """Exponential moving average of a module's parameters: ``average += tau · (parameters - average)``.

    The one idea behind DQN's and SAC's soft target network (`tau` small; 1 is a plain copy) and BYOL's target encoder
    (momentum ``1 - tau``). The average starts as a deep copy of the module, needs no gradient and stays in eval mode
    (``ema.module.train()`` for a target that normalises by the batch). Buffers, such as BatchNorm's running mean, are
    copied.

    Parameters
    ----------
    module : nn.Module
        What to follow; it is copied, never changed. The copy is `ema.module`, and calling `ema` calls it.
    tau : float
        Step towards the module at each `update`, in [0, 1]; read anew each time, so a schedule may set it.

    Raises
    ------
    ValueError
        If `tau` is not in [0, 1].

    References
    ----------
    Lillicrap et al., arXiv:1509.02971 (soft target); Grill et al., arXiv:2006.07733 (BYOL).

    Examples
    --------
    >>> online = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(online.weight, 0.0)
    >>> ema = EMA(online, tau=0.25)
    >>> _ = nn.init.constant_(online.weight, 4.0)
    >>> ema.update(online)
    >>> ema.module.weight.item()
    1.0
    """

    def __init__(self, module: nn.Module, tau: float) -> None:
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must be in [0, 1], got {tau!r}")
        super().__init__()
        self.tau = tau
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.eval()

    def update(self, module: nn.Module) -> None:
        """Move one step of size `tau` towards `module`, in place."""
        follow(self.module, module, self.tau)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def train(self, mode: bool = True) -> "EMA":
        return super().train(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, tau: float) -> None:
    """Move the parameters of `average` one step of size `tau` towards those of `module`, in place; copy the buffers.

    Examples
    --------
    >>> average, module = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> follow(average, module, tau=1.0)
    >>> torch.equal(average.weight, module.weight)
    True
    """
    parameters: list[Tensor] = list(average.parameters())
    buffers = list(average.buffers())
    if parameters:  # foreach refuses empty lists
        torch._foreach_lerp_(parameters, list(module.parameters()), tau)
    if buffers:
        torch._foreach_copy_(buffers, list(module.buffers()))
