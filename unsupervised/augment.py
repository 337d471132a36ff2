"""What is done to samples before a network sees them: functions of whole batches, each a few tensor operations.

Legend: `B` batch, `C H W` of a picture, `D` values of a row, `K` classes. Each sample of a batch is drawn for by
itself, from `generator`, on the device of the samples, or from torch's global one, which is private while an estimator
is fitted. Shape and type are kept: results for bytes are rounded, and cut off at 0 and 255; floats may be in any units,
and are never cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sandbox.training.shift import random_shift

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue are (ITU-R BT.601)
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))  # brightness, and two axes of colour

# -- noise, on rows and pictures ---------------------------------------------------------------------------------------


def gaussian(x: Tensor, level: float, generator: Generator | None = None) -> Tensor:
    """Normal noise of standard deviation `level`, in the units of `x`, on every value.

    Examples
    --------
    >>> gaussian(torch.zeros(2, 3), 0.0).abs().max()
    tensor(0.)
    """
    values = _floats(x)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=values.dtype)
    return _typed(values + level * noise, x)


def mask(x: Tensor, level: float, generator: Generator | None = None) -> Tensor:
    """Every value 0 with probability `level` (Vincent et al., JMLR 11, 2010); of pictures, all channels of a pixel.

    Examples
    --------
    >>> mask(torch.ones(2, 3), 1.0).sum()
    tensor(0.)
    """
    return x * (_draw(x, generator) >= level)


def salt_and_pepper(x: Tensor, level: float, generator: Generator | None = None) -> Tensor:
    """Every value, with probability `level`, the least or the largest one of the batch, either as likely.

    Examples
    --------
    >>> salt_and_pepper(torch.tensor([[0.0, 0.5, 1.0]]), 0.0)
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    drawn = _draw(x, generator)
    return torch.where(drawn < level / 2, x.min(), torch.where(drawn < level, x.max(), x))


def swap(x: Tensor, level: float, generator: Generator | None = None) -> Tensor:
    """Every value, with probability `level`, that of another sample: masking that needs no value to mask with.

    What stands in its place is as likely as in the data, whatever the units (SCARF, Bahri et al., arXiv:2106.15147).

    Examples
    --------
    >>> swap(torch.tensor([[1.0, 20.0], [1.0, 20.0]]), 1.0)
    tensor([[ 1., 20.],
            [ 1., 20.]])
    """
    drawn = _draw(x, generator)
    others = torch.randint(len(x), drawn.shape, generator=generator, device=x.device).expand_as(x)
    return torch.where(drawn < level, x.gather(0, others), x)


NOISES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian": gaussian,
    "mask": mask,
    "salt_and_pepper": salt_and_pepper,
}

# -- where things are in pictures [B, C, H, W] -------------------------------------------------------------------------


def resized_crop(
    x: Tensor,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: Generator | None = None,
    *,
    mirrored: float = 0.0,
) -> Tensor:
    """A part of each picture, brought to the size of the whole (bilinear).

    The share of the area that is seen is uniform in `scale`, width to height log-uniform in `ratio`, as far as the
    picture reaches, and the place uniform (Szegedy et al., arXiv:1409.4842; SimCLR, arXiv:2002.05709, appendix A). With
    probability `mirrored` it is turned left for right as by `flip`, which costs nothing here.

    Examples
    --------
    >>> x = torch.rand(2, 3, 8, 8)
    >>> bool(torch.allclose(resized_crop(x, scale=(1, 1), ratio=(1, 1)), x, atol=1e-6))
    True
    """
    area = _uniform(x, *scale, generator)
    aspect = _uniform(x, math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    width, height = (area * aspect).sqrt().clamp_max(1), (area / aspect).sqrt().clamp_max(1)
    left, top = (1 - width) * _uniform(x, -1, 1, generator), (1 - height) * _uniform(x, -1, 1, generator)
    zero = torch.zeros_like(left)
    if mirrored:
        width = torch.where(_chosen(x, mirrored, generator), -width, width)
    return _warped(x, [width, zero, left, zero, height, top])


def flip(x: Tensor, p: float = 0.5, generator: Generator | None = None) -> Tensor:
    """Pictures mirrored, left for right, with probability `p`.

    Examples
    --------
    >>> flip(torch.tensor([[[[1.0, 2.0]]]]), p=1.0)
    tensor([[[[2., 1.]]]])
    """
    return torch.where(_chosen(x, p, generator), x.flip(3), x)


def rotation(x: Tensor, degrees: float = 15.0, generator: Generator | None = None) -> Tensor:
    """Pictures turned by up to so many degrees either way (bilinear); what comes into sight repeats the edge.

    Examples
    --------
    >>> rotation(torch.ones(2, 1, 5, 5), 45).round(decimals=4).unique()
    tensor([1.])
    """
    H, W = x.shape[2:]
    angle = torch.deg2rad(_uniform(x, -degrees, degrees, generator))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _warped(x, [cos, -sin * H / W, zero, sin * W / H, cos, zero])


def cutout(x: Tensor, share: float = 0.5, fill: float = 0.0, generator: Generator | None = None) -> Tensor:
    """A rectangle of `share` of either side, centred on any pixel, filled (DeVries and Taylor, arXiv:1708.04552).

    It may reach over the edge.

    Examples
    --------
    >>> cutout(torch.ones(1, 1, 4, 4), share=0.25).sum()
    tensor(15.)
    """
    side = torch.full((len(x), 1, 1, 1), share, device=x.device)
    return x.masked_fill(_box(x, side, generator), fill)


# -- what they look like -----------------------------------------------------------------------------------------------


def colour_jitter(
    x: Tensor,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    p: float = 0.8,
    generator: Generator | None = None,
    *,
    colourless: float = 0.0,
) -> Tensor:
    """Brightness, contrast, saturation and hue of pictures changed, with probability `p` (arXiv:2002.05709).

    Each strength is how far the factor may be from 1; that of `hue` is in turns, about the axis of grey. Nothing is cut
    off in between, so that all four are one affine map of a picture's colours, whatever their order; so is what `grey`
    would do after them, with probability `colourless`. Of pictures that have not three channels, brightness and
    contrast are changed, of all channels together.

    Examples
    --------
    >>> x = torch.rand(2, 3, 4, 4)
    >>> bool(torch.allclose(colour_jitter(x, 0, 0, 0, 0), x, atol=1e-6))
    True
    """
    chosen, values = _chosen(x, p, generator), _floats(x)

    def factor(strength: float) -> Tensor:
        return torch.where(chosen, _uniform(x, max(1 - strength, 0), 1 + strength, generator), 1)

    lighter, sharper = factor(brightness), factor(contrast)
    gain, rest = lighter * sharper, lighter * (1 - sharper)
    if x.shape[1] != 3:
        return _typed(torch.addcmul(rest * values.mean((1, 2, 3), keepdim=True), values, gain), x)
    stronger = factor(saturation)
    angle = 2 * math.pi * torch.where(chosen, _uniform(x, -hue, hue, generator), 0)
    cos, sin, zero = stronger * angle.cos(), stronger * angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([torch.ones_like(zero), zero, zero, zero, cos, -sin, zero, sin, cos], 3).view(-1, 3, 3)
    axes = values.new_tensor(YIQ)
    maps = axes.inverse() @ turn @ axes  # [B, 3, 3], which leave everything as bright as it is
    if colourless:
        maps = torch.where(_chosen(x, colourless, generator).view(-1, 1, 1), axes[:1].expand(3, 3) @ maps, maps)
    middle = values.mean((2, 3)) @ axes[0]  # [B]
    return _typed(_recoloured(values, gain.view(-1, 1, 1) * maps, rest.view(-1) * middle), x)


def grey(x: Tensor, p: float = 0.2, generator: Generator | None = None) -> Tensor:
    """Pictures of three channels without colour, with probability `p`; others as they are.

    Examples
    --------
    >>> grey(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), p=1.0).flatten()
    tensor([0.2990, 0.2990, 0.2990])
    """
    if x.shape[1] != 3:
        return x
    return torch.where(_chosen(x, p, generator), _typed(_luma(_floats(x)), x), x)


def blur(
    x: Tensor, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5, generator: Generator | None = None
) -> Tensor:
    """Pictures blurred, with probability `p`, by Gaussians of a deviation uniform in `sigma`, in pixels.

    Examples
    --------
    >>> blur(torch.tensor([[[[0.0, 1.0, 0.0]]]]), (0.5, 0.5), p=1.0)  # 1 / (1 + 2 e⁻²); e⁻² / (1 + e⁻²) at the edges
    tensor([[[[0.1192, 0.7870, 0.1192]]]])
    """
    sigmas = torch.where(_chosen(x, p, generator), _uniform(x, *sigma, generator), 0).clamp_min(1e-3)
    H, W = x.shape[2:]
    down, across = (_gaussians(size, sigmas) for size in (H, W))  # [B, 1, H, H], [B, 1, W, W]
    return _typed(down @ (_floats(x) @ across.mT), x)


# -- pictures and their labels -----------------------------------------------------------------------------------------


def mixup(x: Tensor, y: Tensor, alpha: float = 1.0, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Each sample ``λ x + (1 - λ) x'`` with another one of the batch, and so its label; ``λ ~ Beta(alpha, alpha)``.

    Parameters
    ----------
    x : [B, ...]
    y : [B, K]
        Probabilities of classes, such as ``F.one_hot(labels, K).float()``.

    References
    ----------
    Zhang et al., arXiv:1710.09412.

    Examples
    --------
    >>> x, y = mixup(torch.tensor([[0.0], [1.0]]), torch.eye(2))
    >>> bool(torch.allclose(x[:, 0], y[:, 1])), bool(torch.allclose(y.sum(1), torch.ones(2)))
    (True, True)
    """
    share, others = _beta(x, alpha, generator), torch.randperm(len(x), generator=generator, device=x.device)
    values = _floats(x)
    mixed = torch.lerp(values[others], values, _over(share, values))
    return _typed(mixed, x), torch.lerp(y[others], y, _over(share, y))


def cutmix(x: Tensor, y: Tensor, alpha: float = 1.0, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """A rectangle of another picture in each one; labels are shared out by area (Yun et al., arXiv:1905.04899).

    Parameters
    ----------
    x : [B, C, H, W]
    y : [B, K]
        As for `mixup`; the rectangle is ``1 - λ`` of the area, with its centre on any pixel.

    Examples
    --------
    >>> x, y = cutmix(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 9, 9), torch.eye(2))
    >>> bool(torch.allclose(x.mean((1, 2, 3)), y[:, 1]))
    True
    """
    side, others = (1 - _beta(x, alpha, generator)).sqrt(), torch.randperm(len(x), generator=generator, device=x.device)
    box = _box(x, side.view(-1, 1, 1, 1), generator)
    kept = 1 - box.float().mean((1, 2, 3))
    return torch.where(box, x[others], x), torch.lerp(y[others], y, _over(kept, y))


# -- recipes -----------------------------------------------------------------------------------------------------------


def atari(x: Tensor, generator: Generator | None = None) -> Tensor:
    """For frames of games, where a ball is two pixels: they are shifted, and nothing else (arXiv:2009.08319)."""
    return random_shift(x, 4, generator)


def cifar(x: Tensor, generator: Generator | None = None) -> Tensor:
    """For small photos: crops, mirror images, colours (arXiv:2002.05709, appendix B.9)."""
    x = resized_crop(x, mirrored=0.5, generator=generator)
    return colour_jitter(x, colourless=0.2, generator=generator)


def digits(x: Tensor, generator: Generator | None = None) -> Tensor:
    """For letters and digits: turned, cropped, in stronger or weaker ink; never mirrored, for they would be others."""
    x = resized_crop(rotation(x, 15, generator), (0.5, 1.0), generator=generator)
    return colour_jitter(x, p=1.0, generator=generator)


def tabular(x: Tensor, generator: Generator | None = None) -> Tensor:
    """For rows in any units: some values are those of other rows, and all are a little off (arXiv:2106.15147)."""
    return swap(x, 0.3, generator) + 0.1 * x.std(0, correction=0) * gaussian(torch.zeros_like(x), 1.0, generator)


RECIPES: dict[str, Callable[..., Tensor]] = {"atari": atari, "cifar": cifar, "digits": digits, "tabular": tabular}


# -- inside ------------------------------------------------------------------------------------------------------------


def _floats(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float()


def _typed(values: Tensor, x: Tensor) -> Tensor:
    """Values in the type of `x`."""
    return values if x.is_floating_point() else values.round().clamp(0, 255).to(x.dtype)


def _draw(x: Tensor, generator: Generator | None) -> Tensor:
    """A uniform number for each value; of pictures [B, C, H, W] for each pixel."""
    shape = (len(x), 1, *x.shape[2:]) if x.ndim == 4 else x.shape
    return torch.rand(shape, generator=generator, device=x.device)


def _uniform(x: Tensor, low: float, high: float, generator: Generator | None) -> Tensor:
    """A number for each picture, [B, 1, 1, 1]."""
    drawn = torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device)
    return (low + (high - low) * drawn).to(_floats(x[:0]).dtype)


def _chosen(x: Tensor, p: float, generator: Generator | None) -> Tensor:
    return _uniform(x, 0, 1, generator) < p


def _beta(x: Tensor, alpha: float, generator: Generator | None) -> Tensor:
    """Beta(alpha, alpha) for each sample, [B]: of two gamma variables, the share that the first one has of both."""
    alphas = torch.full((2, len(x)), alpha, device=x.device)
    first, second = torch._standard_gamma(alphas, generator=generator)
    return first / (first + second)


def _over(share: Tensor, x: Tensor) -> Tensor:
    """[B] as it is broadcast over samples [B, ...]."""
    return share.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def _box(x: Tensor, share: Tensor, generator: Generator | None) -> Tensor:
    """Whether a pixel is in a rectangle of a share [B, 1, 1, 1] of either side about one drawn: bool [B, 1, H, W]."""
    H, W = x.shape[2:]
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for size, shape in ((H, (1, 1, H, 1)), (W, (1, 1, 1, W))):
        length = (share * size).round()
        first = (_uniform(x, 0, size, generator).floor() - length / 2).ceil()
        place = torch.arange(size, device=x.device).view(shape)
        inside = inside & (place >= first) & (place < first + length)
    return inside


def _warped(x: Tensor, entries: list[Tensor]) -> Tensor:
    """Pictures seen through affine maps, six entries [B, 1, 1, 1] each; outside is what the edge is."""
    across, down, at = torch.cat(entries, 1).view(-1, 2, 3, 1, 1).unbind(2)  # [B, 2, 1, 1] each
    columns, rows = (torch.arange(1 - size, size, 2, device=x.device, dtype=at.dtype) / size for size in x.shape[:1:-1])
    # What `affine_grid` gives, which by itself takes longer than the sampling: [B, 2, H, W], from -1 to 1.
    places = torch.addcmul(torch.addcmul(at, down, rows[:, None]), across, columns)
    return _typed(F.grid_sample(_floats(x), places.permute(0, 2, 3, 1), padding_mode="border", align_corners=False), x)


def _luma(values: Tensor) -> Tensor:
    """How bright pixels are [B, 1, H, W]; of pictures without colours, the values themselves."""
    if values.shape[1] != 3:
        return values
    red, green, blue = values.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _recoloured(values: Tensor, maps: Tensor, plus: Tensor) -> Tensor:
    """The colours of each picture through its own map [B, 3, 3], and a number [B] to all of them."""
    return torch.baddbmm(plus.view(-1, 1, 1), maps, values.flatten(2)).view(values.shape)


def _gaussians(size: int, sigmas: Tensor) -> Tensor:
    """For each deviation [B, 1, 1, 1], the weight of each place for each: [B, 1, size, size], in sum 1."""
    place = torch.arange(size, device=sigmas.device)
    weights = ((place[:, None] - place) / sigmas).square().mul_(-0.5).clamp_min_(-20).exp_()
    weights *= weights > 1e-6  # products with numbers next to none take ten times as long
    return weights / weights.sum(3, keepdim=True)
