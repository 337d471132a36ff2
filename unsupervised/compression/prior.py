"""How likely a latent is: a learned density for the hyper-latents, normal ones for all that they describe."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsupervised.compression.entropy import Tables, counts_of

SCALES = 64  # standard deviations that a latent can have
LEAST, MOST = 0.11, 64.0
STEP = math.log(MOST / LEAST) / (SCALES - 1)
TAIL = 2.0**-18  # mass that a table leaves to the escape, about
_REACH = 4.7  # standard deviations, beyond which a normal distribution has as much


class FactorizedPrior(nn.Module):
    """A density for each channel, of any shape: bits of hyper-latents ``[B, C, H, W]``.

    A channel's cumulative distribution is a network of three layers of three units that can only rise.

    Parameters
    ----------
    channels : int
        `C`.

    References
    ----------
    Ballé et al., "Variational image compression with a scale hyperprior", arXiv:1802.01436, appendix 6.1.

    Examples
    --------
    >>> prior = FactorizedPrior(2)
    >>> prior(torch.zeros(1, 2, 4, 4)).shape
    torch.Size([1, 2, 4, 4])
    """

    WIDTHS = (1, 3, 3, 3, 1)

    def __init__(self, channels: int, scale: float = 8.0):
        super().__init__()
        self.channels = channels
        self.matrices, self.biases, self.gates = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        spread = scale ** (1 / (len(self.WIDTHS) - 1))
        for i, (n, m) in enumerate(zip(self.WIDTHS[:-1], self.WIDTHS[1:], strict=True)):
            start = math.log(math.expm1(1 / spread / m))  # softplus of it: a cumulative as wide as `scale`
            self.matrices.append(nn.Parameter(torch.full((channels, m, n), start)))
            self.biases.append(nn.Parameter(torch.rand(channels, m, 1) - 0.5))
            if i < len(self.WIDTHS) - 2:
                self.gates.append(nn.Parameter(torch.zeros(channels, m, 1)))

    def logits(self, x: Tensor) -> Tensor:
        """Of the cumulative distribution: ``[C, 1, n] -> [C, 1, n]``."""
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = F.softplus(matrix) @ x + bias
            if i < len(self.gates):
                x = x + self.gates[i].tanh() * x.tanh()
        return x

    def probability(self, x: Tensor) -> Tensor:
        """Mass of the interval of width 1 around values ``[C, 1, n]``."""
        low, high = self.logits(x - 0.5), self.logits(x + 0.5)
        side = -torch.sign(low + high).detach()  # on the side where a sigmoid is not close to 1
        return ((side * high).sigmoid() - (side * low).sigmoid()).abs()

    def forward(self, z: Tensor) -> Tensor:
        """Bits of each value, in float32."""
        B, C, H, W = z.shape
        rows = z.float().permute(1, 0, 2, 3).reshape(C, 1, -1)
        with torch.autocast(z.device.type, enabled=False):
            bits = -self.probability(rows).clamp_min(1e-9).log2()
        return bits.view(C, B, H, W).permute(1, 0, 2, 3)

    @torch.no_grad()
    def tables(self, reach: int = 256) -> Tables:
        """The densities as integers, one table for each channel."""
        values = torch.arange(-reach, reach + 1).float()
        p = self.probability(values.expand(self.channels, 1, -1)).double().squeeze(1).cpu().numpy()
        counts, firsts = [], []
        for row in p:
            seen = np.flatnonzero(row > TAIL)
            first, last = (int(seen[0]), int(seen[-1])) if len(seen) else (reach, reach)
            inside = row[first : last + 1]
            counts.append(counts_of(np.append(inside, max(1 - inside.sum(), TAIL))))
            firsts.append(first - reach)
        return Tables(counts, firsts)


def normal_bits(distance: Tensor, index: Tensor) -> Tensor:
    """Bits of the interval of width 1 around a value so far from the mean, under a scale of the grid.

    Parameters
    ----------
    distance : Tensor [...]
    index : Tensor [...]
        Of the scale, ``0.11 * exp(STEP * index)``; not a whole number while training.

    Examples
    --------
    >>> normal_bits(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 63.0]))
    tensor([7.9112e-06, 1.8476e+01, 7.3258e+00])
    """
    scale = LEAST * torch.exp(STEP * index.float().clamp(0, SCALES - 1))
    distance = distance.float().abs()
    # In the left tail, where a difference of two small numbers is exact.
    upper = torch.special.ndtr((0.5 - distance) / scale)
    lower = torch.special.ndtr((-0.5 - distance) / scale)
    return -(upper - lower).clamp_min(1e-9).log2()


def normal_tables() -> Tables:
    """The grid of normal distributions as integers, of mean 0.

    Examples
    --------
    >>> tables = normal_tables()
    >>> len(tables), tables.firsts[[0, -1]].tolist()
    (64, [-2, -301])
    """
    counts, firsts = [], []
    for index in range(SCALES):
        scale = LEAST * math.exp(STEP * index)
        reach = max(math.ceil(_REACH * scale), 2)
        edges = (np.arange(-reach, reach + 2) - 0.5) / (scale * math.sqrt(2))
        p = np.diff([0.5 * math.erfc(-edge) for edge in edges])
        p[reach + 1 :] = p[:reach][::-1]  # the left tail, where a difference of two small numbers is exact
        counts.append(counts_of(np.append(p, max(1 - p.sum(), TAIL / 4))))
        firsts.append(-reach)
    return Tables(counts, firsts)
