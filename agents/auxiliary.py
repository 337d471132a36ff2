"""What an agent's encoder may learn beside the reward: to tell pictures apart, or to draw them.

A minibatch that is learned from anyway is looked at once more, and the gradient of a second loss is added to the
encoder's. Nothing here is used once an agent is trained.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sandbox import zoo
from sandbox.training.losses import info_nce
from sandbox.training.shift import random_shift
from sandbox.zoo.contracts import check_choice, scaled
from sandbox.zoo.ema import EMA

SMALLEST = 36  # pixels that the decoder of the zoo's ``nature_decoder`` draws


class Contrast(nn.Module):
    """Tell the other view of a picture from the views of all others in the minibatch.

    Views are shifted at random; keys come from a slow copy of the encoder, and a bilinear form compares.

    Parameters
    ----------
    encoder : nn.Module
        With `out_features`; it is not changed, and not a part of this.
    tau : float
        Step of the slow copy.

    References
    ----------
    Laskin et al., "CURL: contrastive unsupervised representations for reinforcement learning", arXiv:2004.04136.

    Examples
    --------
    >>> encoder = zoo.build("conv", in_shape=(1, 8, 8), out_features=16)
    >>> contrast = Contrast(encoder)
    >>> loss = contrast(encoder, torch.randint(0, 255, (4, 1, 8, 8), dtype=torch.uint8))
    >>> contrast.after_step(encoder)
    >>> loss.shape, loss.requires_grad
    (torch.Size([]), True)
    """

    def __init__(self, encoder: Any, tau: float = 0.05):
        super().__init__()
        self.target = EMA(encoder, tau)
        self.bilinear = nn.Linear(encoder.out_features, encoder.out_features, bias=False)
        nn.init.orthogonal_(self.bilinear.weight)

    def forward(self, encoder: nn.Module, pictures: Tensor) -> Tensor:
        """The loss of pictures ``[N, C, H, W]``; `N` is two or more."""
        queries = encoder(random_shift(pictures))
        with torch.no_grad():
            keys = self.target(random_shift(pictures)).float()
        return info_nce(self.bilinear(queries.float()) @ keys.T)

    def after_step(self, encoder: nn.Module) -> None:
        """The slow copy follows."""
        self.target.update(encoder)


class Reconstruction(nn.Module):
    """Draw the picture again: the mean squared error of its pixels, from 0 to 1.

    Parameters
    ----------
    encoder : nn.Module
        With `out_features` and `in_shape`; it is not changed, and not a part of this.

    References
    ----------
    Yarats et al., "Improving sample efficiency in model-free reinforcement learning from images", arXiv:1910.01741.

    Examples
    --------
    >>> encoder = zoo.build("conv", in_shape=(1, 8, 8), out_features=16)
    >>> Reconstruction(encoder)(encoder, torch.zeros(4, 1, 8, 8, dtype=torch.uint8)) < 1
    tensor(True)
    """

    def __init__(self, encoder: Any):
        super().__init__()
        kind = "nature_decoder" if min(encoder.in_shape[1:]) >= SMALLEST else "conv_decoder"
        self.decoder: Any = zoo.build(kind, in_features=encoder.out_features, out_shape=encoder.in_shape)

    def forward(self, encoder: nn.Module, pictures: Tensor) -> Tensor:
        """The loss of pictures ``[N, C, H, W]``."""
        wanted = scaled(pictures) if pictures.dtype == torch.uint8 else pictures
        return F.mse_loss(self.decoder(encoder(pictures).float()).float(), wanted.float())

    def after_step(self, encoder: nn.Module) -> None:
        """Nothing follows."""


LOSSES: dict[str, type[Contrast | Reconstruction]] = {"contrastive": Contrast, "reconstruction": Reconstruction}
AUGMENTATIONS = {"shift": random_shift}


def auxiliary_for(name: str, encoder: Any) -> Contrast | Reconstruction:
    """The loss that a word stands for, for an encoder of pictures.

    Raises
    ------
    ValueError
        If there is no such loss, or the encoder takes no pictures.

    Examples
    --------
    >>> auxiliary_for("contrastive", zoo.build("mlp", in_shape=(4,)))
    Traceback (most recent call last):
    ValueError: aux_loss='contrastive' is of pictures [C, H, W], and the encoder takes inputs of shape (4,)
    """
    check_choice("aux_loss", name, LOSSES)
    shape = tuple(getattr(encoder, "in_shape", ()))
    if len(shape) != 3:
        raise ValueError(f"aux_loss={name!r} is of pictures [C, H, W], and the encoder takes inputs of shape {shape}")
    return LOSSES[name](encoder)
