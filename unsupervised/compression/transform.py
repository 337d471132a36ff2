"""From pixels to latents and back; the way back is exact arithmetic.

What a decoder computes must be the same on every machine, or the next symbol is read from a wrong table. Once trained,
weights and activations of everything that decodes are whole multiples of powers of two, held in float64, and no sum of
them needs more than its 53 bits: additions are then exact, in whatever order and on however many threads.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsupervised.compression.container import QUALITIES
from unsupervised.compression.prior import SCALES, FactorizedPrior, normal_bits

UNIT = 2.0**-12  # of activations
REACH = 2.0**8  # their largest magnitude
MEANS = 2.0**-4  # unit of a latent's mean
BIASES = 2.0**-16
WEIGHT_BITS = 15
BLOCK = 8  # pixels from one latent to the next


class Conv(nn.Conv2d):
    """A convolution of 1x1 or 3x3 that keeps the size (or halves it), and can be made exact.

    References
    ----------
    Ballé et al., "Integer networks for data compression with latent-variable models", ICLR 2019.
    """

    bias: nn.Parameter

    def __init__(self, n: int, m: int, size: int = 3, stride: int = 1, full: bool = False):
        super().__init__(n, m, size, stride, size // 2)
        self.full = full  # precision also in training: bf16 would not tell apart the values that it gives
        self.exact = False
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def freeze(self) -> None:
        """Round weights to 15 bits and a sign, and compute exactly from now on."""
        self.double().requires_grad_(False)
        unit = weight_unit(self.weight)
        self.weight.copy_(rounded(self.weight, unit).clamp((1 - 2**WEIGHT_BITS) * unit, (2**WEIGHT_BITS - 1) * unit))
        self.bias.copy_(rounded(self.bias, BIASES))
        self.exact = True
        largest = self.weight.abs().flatten(1).sum(1).max() * 4 * REACH + self.bias.abs().max()
        if largest >= 2.0**53 * min(UNIT * unit, BIASES):
            raise OverflowError("weights too large for exact sums; train with a smaller learning_rate")

    def forward(self, x: Tensor) -> Tensor:
        if not self.exact:
            with torch.autocast(x.device.type, enabled=not self.full and torch.is_autocast_enabled(x.device.type)):
                return super().forward(x.float() if self.full else x)
        B, _, H, W = x.shape
        side, m = self.kernel_size[0], self.out_channels
        if side == 1:
            out = torch.addmm(self.bias, x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), self.weight[:, :, 0, 0].T)
            return clipped(out).view(B, H, W, m).permute(0, 3, 1, 2)
        # Rows of a padded picture are one after the other: a step aside is a step of the same length everywhere, and
        # the convolution is nine matrix products of shifted views. (PyTorch's own in float64 is three times slower.)
        rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).reshape(-1, x.shape[1])
        n = len(rows) - 2 * (W + 2) - 2
        out = rows.new_empty(len(rows), m)
        out[:] = self.bias
        for i in range(9):
            start = i // 3 * (W + 2) + i % 3
            out[:n].addmm_(rows[start : start + n], self.weight[:, :, i // 3, i % 3].T)
        return clipped(out.view(B, H + 2, W + 2, m)[:, :H, :W]).permute(0, 3, 1, 2)


def weight_unit(weight: Tensor) -> float:
    """The power of two in whose multiples a layer's weights are told.

    >>> weight_unit(torch.tensor([0.3, -0.9])) * 2**WEIGHT_BITS
    1.0
    """
    largest = max(float(weight.abs().max()), 2.0**-12)
    return float(2.0 ** (math.frexp(largest)[1] - WEIGHT_BITS))


def rounded(x: Tensor, unit: float) -> Tensor:
    """The nearest multiple of a power of two, of two the upper.

    >>> rounded(torch.tensor([0.3, 0.25, -0.3]), 0.5)
    tensor([ 0.5000,  0.5000, -0.5000])
    """
    return torch.floor(x / unit + 0.5) * unit


def clipped(x: Tensor) -> Tensor:
    """Activations as they are passed on."""
    return x.mul(1 / UNIT).add_(0.5).floor_().mul_(UNIT).clamp_(-REACH, REACH)


class Residual(nn.Module):
    """Two convolutions beside a straight path."""

    def __init__(self, n: int):
        super().__init__()
        self.first, self.second = Conv(n, n // 2), Conv(n // 2, n)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x.relu()).relu())


def up(n: int, m: int) -> nn.Sequential:
    """To twice the size."""
    return nn.Sequential(Conv(n, 4 * m, 1), nn.PixelShuffle(2))


PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # rows and columns from which every second place is coded


class Context(nn.Module):
    """What is known around a place tells how likely its latents are: means and scales of the ``[M]`` there.

    Places are coded in four phases, and each sees in its 3x3 neighbours those of the phases before.

    References
    ----------
    He et al., "Checkerboard context model for efficient learned image compression", arXiv:2103.15306.
    """

    def __init__(self, n: int, width: int, n_latents: int):
        super().__init__()
        self.look, self.think = Conv(n, width), Conv(width, width, 1)
        self.tell = Conv(width, 2 * n_latents, 1, full=True)
        with torch.no_grad():
            self.tell.weight[:n_latents] = 0
            self.tell.bias[n_latents:] = SCALES / 3

    def forward(self, x: Tensor, phase: tuple[int, int]) -> Tensor:
        """In training, for all places of a phase: ``[B, n, h, w] -> [B, 2 * M, h', w']``."""
        shifted = F.pad(x, (1, 1, 1, 1))[:, :, phase[0] :, phase[1] :]
        x = F.conv2d(shifted, self.look.weight, self.look.bias, stride=2).relu()
        return self.tell(self.think(x).relu())

    @torch.no_grad()
    def at(self, x: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Exactly, at some places ``i [n], j [n]`` of ``[n, h, w]``: ``[n, 2 * M]``."""
        i, j = places
        padded = F.pad(x, (1, 1, 1, 1))
        seen = torch.stack([padded[:, i + d // 3, j + d % 3] for d in range(9)], 1).flatten(0, 1).T  # [n, 9 * C]
        for layer in (self.look, self.think, self.tell):
            seen = clipped(torch.addmm(layer.bias, seen, layer.weight.flatten(1).T))
            if layer is not self.tell:
                seen = seen.relu()
        return seen


def places_of(phase: tuple[int, int], h: int, w: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of a phase, row by row.

    >>> places_of((1, 0), 3, 4)
    (tensor([1, 1]), tensor([0, 2]))
    """
    i, j = torch.meshgrid(torch.arange(phase[0], h, 2), torch.arange(phase[1], w, 2), indexing="ij")
    return i.flatten(), j.flatten()


class Beside(nn.Module):
    """A linear map of blocks with a network beside it, which adds nothing at first."""

    def __init__(self, straight: nn.Module, network: nn.Sequential, last: Conv):
        super().__init__()
        self.straight: Any = straight
        self.network: Any = network
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.network(x)


class Transforms(nn.Module):
    """Everything that is learned: ``x [B, C, H, W]`` of floats from 0 to 1, sides multiples of 8.

    There and back, it starts as PCA of blocks of 8x8 pixels, which is about where JPEG ends.

    One model has nine qualities: a factor for each latent channel and quality, by which latents are stretched before
    they are rounded, and another by which they are restored.

    Parameters
    ----------
    channels : int
        `C`.
    n_latents : int
        `M`, channels of the latents, at most ``64 * C``.
    n_hyper : int
        Channels of the hyper-latents.
    widths : (int, int)
        Channels of the networks at a quarter and at an eighth of the size.

    References
    ----------
    Ballé et al., arXiv:1802.01436; Minnen et al., arXiv:1809.02736 (means); Cui et al., arXiv:2003.02012 (factors).
    """

    restore: Tensor
    stretch: Tensor

    def __init__(self, channels: int, n_latents: int, n_hyper: int, widths: tuple[int, int]):
        super().__init__()
        (a, b), M = widths, n_latents
        there, back = Conv(b, M, full=True), Conv(a, 16 * channels, full=True)
        self.analysis = Beside(
            nn.Sequential(nn.PixelUnshuffle(BLOCK), Conv(channels * BLOCK**2, M, 1, full=True)),
            nn.Sequential(
                *(nn.PixelUnshuffle(4), Conv(16 * channels, a), nn.ReLU(), Conv(a, b, stride=2)),
                *(Residual(b), nn.ReLU(), there),
            ),
            there,
        )
        self.synthesis = Beside(
            nn.Sequential(Conv(M, channels * BLOCK**2, 1, full=True), nn.PixelShuffle(BLOCK)),
            nn.Sequential(
                *(Conv(M, b), Residual(b), Residual(b), nn.ReLU(), up(b, a), nn.ReLU()),
                *(back, nn.PixelShuffle(4)),
            ),
            back,
        )
        self.hyper_analysis = nn.Sequential(
            Conv(M, n_hyper, stride=2), nn.ReLU(), Conv(n_hyper, n_hyper, stride=2, full=True)
        )
        self.hyper_synthesis = nn.Sequential(
            *(up(n_hyper, n_hyper), nn.ReLU(), Conv(n_hyper, n_hyper), nn.ReLU()),
            *(up(n_hyper, n_hyper), nn.ReLU(), Conv(n_hyper, 2 * n_hyper), nn.ReLU()),
        )
        self.context = Context(2 * n_hyper + M + 1, max(M, 2 * n_hyper), M)
        self.prior = FactorizedPrior(n_hyper)
        self.log_gain = nn.Parameter(torch.zeros(QUALITIES, M))
        self.log_restore = nn.Parameter(torch.zeros(QUALITIES, M))
        # Once frozen: the second, and the inverse of it.
        self.register_buffer("restore", torch.zeros(QUALITIES, M, dtype=torch.float64))
        self.register_buffer("stretch", torch.zeros(QUALITIES, M, dtype=torch.float64))

    @torch.no_grad()
    def start(self, x: Tensor, lambdas: Tensor) -> None:
        """Take the principal axes of the blocks of some pictures, and the steps that are best for what error costs."""
        blocks = F.pixel_unshuffle(x - 0.5, BLOCK).permute(0, 2, 3, 1).flatten(0, 2).double()
        values, axes = torch.linalg.eigh(blocks.T @ blocks / len(blocks))
        M = self.log_gain.shape[1]
        axes = axes.flip(1)[:, :M].float()
        axes = axes * torch.sign(axes.sum(0) + 1e-12)
        self.analysis.straight[1].weight.copy_(axes.T[:, :, None, None])
        self.synthesis.straight[0].weight.copy_(axes[:, :, None, None])
        deviation = values.flip(0)[:M].clamp_min(1e-4).sqrt().float()
        self.synthesis.network[0].weight /= deviation[:, None, None]
        self.context.look.weight[:, -M - 1 : -1] /= deviation[:, None, None]
        # With steps of width d, errors of d**2 / 12 and bits that fall by one where d doubles: the least of their sum.
        gain = (lambdas * 255**2 * math.log(2) / 18).sqrt().log()[:, None].to(self.log_gain)
        self.log_gain.copy_(gain.expand(-1, M))
        self.log_restore.copy_(-gain.expand(-1, M))

    def forward(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures as they would be restored at qualities ``[B]`` from 0, and each one's bits ``[B]``; in training.

        The rate is that of latents with noise in place of rounding; what is restored is rounded, with the gradient of
        what is not.
        """
        restore = self.log_restore[quality].exp()[:, :, None, None]
        y = self.analysis(x - 0.5).float() * self.log_gain[quality].exp()[:, :, None, None]
        z = self.hyper_analysis(y.asinh()).float()
        bits = self.prior(z + torch.rand_like(z) - 0.5).flatten(1).sum(1)
        features = self.hyper_synthesis(straight_through(z))[:, :, : y.shape[2], : y.shape[3]].float()
        noisy, mean = y + torch.rand_like(y) - 0.5, torch.zeros_like(y)
        known = torch.zeros_like(y[:, :1])
        for phase in PHASES:
            seen = torch.cat([features, noisy * restore * known, known], 1)
            at = (..., slice(phase[0], None, 2), slice(phase[1], None, 2))
            means, index = means_and_indices(self.context(seen, phase), 1 / restore)
            bits = bits + normal_bits(noisy[at] - means, index).flatten(1).sum(1)
            mean[at] = means
            known = known.clone()
            known[at] = 1
        y_hat = straight_through(y - mean) + mean
        return self.synthesis(y_hat * restore).float() + 0.5, bits

    def freeze(self) -> None:
        """Make the way back exact, and the way there what a file of half precision holds."""
        for net in (self.synthesis, self.hyper_synthesis, self.context):
            freeze(net)
        with torch.no_grad():
            restore = self.log_restore.double().exp()
            unit = weight_unit(restore)
            self.restore.copy_(rounded(restore, unit).clamp(unit, (2**WEIGHT_BITS - 1) * unit))
            unit = weight_unit(1 / restore)
            self.stretch.copy_(rounded(1 / restore, unit).clamp(unit, (2**WEIGHT_BITS - 1) * unit))
            for parameter in (*self.analysis.parameters(), *self.hyper_analysis.parameters(), self.log_gain):
                parameter.copy_(parameter.half())

    @torch.no_grad()
    def analyse(self, x: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Latents ``[B, M, h, w]``, stretched and not yet rounded, and hyper-latents, of bytes ``[B, C, H, W]``."""
        there = lambda part: self.analysis((part.float() / 255 - 0.5).contiguous(memory_format=torch.channels_last))  # noqa: E731
        y = in_strips(there, x, BLOCK, 4 * BLOCK, down=BLOCK) * self.log_gain[quality - 1].exp()[:, None, None]
        return y, self.hyper_analysis(y.asinh()).round().clamp(-REACH, REACH).double()

    @torch.no_grad()
    def restored(self, y_hat: Tensor, quality: int) -> Tensor:
        """Bytes ``[B, C, H, W]`` of rounded latents ``[B, M, h, w]``, the same everywhere."""

        def back(part: Tensor) -> Tensor:
            x = self.synthesis(clipped(part * self.restore[quality - 1][:, None, None]))
            return ((x + 0.5) * 255 + 0.5).floor_().clamp_(0, 255).to(torch.uint8)

        return in_strips(back, y_hat, 1, 8, up=BLOCK)


def freeze(net: nn.Module) -> None:
    """Make all convolutions of a network exact."""
    for module in net.modules():
        if isinstance(module, Conv):
            module.freeze()


def means_and_indices(told: Tensor, stretch: Tensor, wider: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """What a context ``[B, 2 * M, ...]`` tells of latents: means, and indices of scales.

    The means are told unstretched; the indices, where `wider` is given, for latents that are not stretched either.
    """
    mean, index = told.chunk(2, 1)
    if told.dtype == torch.float64:
        return rounded(mean * stretch, MEANS), (rounded(index, 1.0) + wider).clamp(0, SCALES - 1)
    return mean.float() * stretch, index.float() + wider


def straight_through(x: Tensor) -> Tensor:
    """Rounded, with the gradient of what is not."""
    return x + (x.round() - x).detach()


STRIP = 1 << 20  # pixels at a time, about


def in_strips(
    net: Callable[[Tensor], Tensor], x: Tensor, multiple: int, halo: int, up: int = 1, down: int = 1
) -> Tensor:
    """A network over a large picture, so many rows at a time that memory stays bounded: the same as all at once.

    Parameters
    ----------
    net : callable
        ``[B, C, H, W] -> [B, D, H * up / down, W * up / down]``.
    x : Tensor [B, C, H, W]
    multiple : int
        Strips begin at multiples of so many rows.
    halo : int
        Rows that are given to it on both sides besides, and whose results are cut off: more than it sees beyond a row.
    up, down : int

    Examples
    --------
    >>> x = torch.rand(1, 1, 40000, 64)
    >>> bool((in_strips(lambda part: part[:, :, ::4, ::4], x, 4, 8, down=4) == x[:, :, ::4, ::4]).all())
    True
    """
    H = x.shape[2]
    rows = max(STRIP // (len(x) * x.shape[3] * up * up), 1)
    rows = -(-max(rows, 2 * halo) // multiple) * multiple
    if rows >= H:
        return net(x)
    out = []
    for top in range(0, H, rows):
        start, stop = max(top - halo, 0), min(top + rows + halo, H)
        part = net(x[:, :, start:stop])
        first = (top - start) * up // down
        out.append(part[:, :, first : first + min(rows, H - top) * up // down])
    return torch.cat(out, 2)
