"""Pictures as a few points: where things are, instead of what the pixels are."""

import math

import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Decoder, Encoder, check_sizes
from sandbox.zoo.conv import check_image


class Keypoints(Encoder):
    """Where the things in a picture are: ``[B, C, H, W] -> [B, out_features]``, three numbers for each point.

    Convolutions make one map of scores for each point, of half the picture's sides. A softmax over the places of a map,
    and over one more place that is nowhere, says where the point's thing is: its features are how likely it is there at
    all, ``p``, and ``p·x`` and ``p·y``, with `x` and `y` from -1 to 1. A linear layer can read positions from them,
    even of things that come and go. In the order ``[p·x of all points, p·y of all points, p of all points]``. 8,677
    parameters at ``in_shape=(1, 84, 84)``. `KeypointDecoder` is the way back.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``.
    out_features : int
        A multiple of three: three for each point.
    channels : tuple of int
        Of the convolutions before the last one: a first one of 7x7 with stride 2, then ones of 5x5.
    temperature : float
        What scores are multiplied by at first; it is learned.

    Raises
    ------
    ValueError
        If `in_shape` is no image, or `out_features` no multiple of three.

    References
    ----------
    Finn et al., "Deep spatial autoencoders for visuomotor learning", arXiv:1509.06113, who take the expected place of
    each map and leave presence to a filter.

    Examples
    --------
    >>> encoder = Keypoints(in_shape=(1, 84, 84))
    >>> encoder(torch.zeros(2, 1, 84, 84)).shape
    torch.Size([2, 30])
    >>> points = encoder.points(torch.zeros(2, 1, 84, 84))
    >>> points.shape, bool((points.abs() <= 1).all())
    (torch.Size([2, 10, 3]), True)
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_features: int = 30,
        channels: tuple[int, ...] = (16, 16),
        temperature: float = 3.0,
    ) -> None:
        check_image("Keypoints", in_shape)
        check_points("out_features", out_features)
        check_sizes(channels=channels)
        if not channels:
            raise ValueError("channels must be those of one convolution or more, got none")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        super().__init__(in_shape, out_features)
        layers: list[nn.Module] = []
        before = in_shape[0]
        for width in channels:
            layers += [nn.Conv2d(before, width, 5, padding=2) if layers else nn.Conv2d(before, width, 7, 2, 3)]
            layers += [nn.ReLU()]
            before = width
        n = out_features // 3
        self.cnn = nn.Sequential(*layers, nn.Conv2d(before, n, 3, padding=1))
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))
        x, y = places(in_shape)
        self.nowhere = nn.Parameter(torch.full((n, 1), math.log(len(x) * len(y))))  # as likely as all places together
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)

    x: Tensor
    y: Tensor

    def encode(self, x: Tensor) -> Tensor:
        scores = self.cnn(x).float() * self.temperature  # [B, n, h, w]
        nowhere = self.nowhere.expand(len(scores), -1, -1)
        p = torch.cat([scores.flatten(2), nowhere], 2).softmax(2)[..., :-1].view(scores.shape)
        column, row = p.sum(2), p.sum(3)  # [B, n, w], [B, n, h]
        return torch.cat([column @ self.x, row @ self.y, column.sum(2)], 1).to(x.dtype)

    def points(self, x: Tensor) -> Tensor:
        """The points of pictures ``[B, C, H, W]`` as ``[B, n, (x, y, p)]``."""
        return as_points(self(x))


class KeypointDecoder(Decoder):
    """Draw at each point what its thing looks like: ``[B, in_features] -> [B, C, H, W]``.

    Each point becomes Gaussian spots of several widths, as bright as it is likely to be there, on maps of half the
    picture's sides; convolutions make them into pixels. The narrow spot says exactly where; the wide ones are felt from
    afar, so that a point finds its thing. 9,620 parameters at ``in_features=30, out_shape=(1, 84, 84)``.

    Parameters
    ----------
    in_features : int
        A multiple of three: `p·x`, `p·y`, `p` of the points, as `Keypoints` gives them.
    out_shape : tuple of int
        ``(C, H, W)``.
    channels : tuple of int
        Of the convolutions of 5x5 before the last one.
    widths : tuple of float
        Standard deviations of the spots, where the picture goes from -1 to 1.

    Raises
    ------
    ValueError
        If `out_shape` is no image, `in_features` no multiple of three, or a width not positive.

    References
    ----------
    Jakab et al., "Unsupervised learning of object landmarks through conditional image generation", arXiv:1806.07823;
    in games: Kulkarni et al., arXiv:1906.11883.

    Examples
    --------
    >>> KeypointDecoder(in_features=6, out_shape=(3, 20, 31))(torch.zeros(2, 6)).shape
    torch.Size([2, 3, 20, 31])
    """

    x: Tensor
    y: Tensor

    def __init__(
        self,
        in_features: int,
        out_shape: tuple[int, int, int],
        channels: tuple[int, ...] = (16,),
        widths: tuple[float, ...] = (0.05, 0.2),
    ) -> None:
        check_image("KeypointDecoder", out_shape, name="out_shape")
        check_points("in_features", in_features)
        check_sizes(channels=channels)
        if not widths or not all(0 < width < math.inf for width in widths):
            raise ValueError(f"widths must be positive numbers, got {widths!r}")
        super().__init__(in_features, out_shape)
        self.widths = tuple(map(float, widths))
        layers: list[nn.Module] = []
        before = in_features // 3 * len(widths)
        for width in channels:
            layers += [nn.Conv2d(before, width, 5, padding=2), nn.ReLU()]
            before = width
        self.cnn = nn.Sequential(*layers, nn.Conv2d(before, 4 * out_shape[0], 5, padding=2), nn.PixelShuffle(2))
        x, y = places(out_shape)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)

    def decode(self, z: Tensor) -> Tensor:
        x, y, p = as_points(z)[..., None].unbind(2)  # [B, n, 1] each
        spots = []
        for width in self.widths:
            column = torch.exp(-0.5 * ((self.x - x) / width).square())  # [B, n, w]
            row = torch.exp(-0.5 * ((self.y - y) / width).square()) * p  # [B, n, h]
            spots.append(row[..., :, None] * column[..., None, :])
        _, H, W = self.out_shape
        return self.cnn(torch.cat(spots, 1))[:, :, :H, :W]  # of an odd side one pixel too many was made


def places(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Where the columns and the rows of a map are that has half a picture's sides, from -1 to 1.

    >>> places((1, 2, 6))
    (tensor([-1.,  0.,  1.]), tensor([0.]))
    """
    h, w = -(-shape[1] // 2), -(-shape[2] // 2)
    return tuple(torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (w, h))  # type: ignore[return-value]


def as_points(z: Tensor) -> Tensor:
    """From codes ``[B, 3 n]`` to points ``[B, n, (x, y, p)]``.

    >>> as_points(torch.tensor([[0.25, 0.0, -0.25, 0.0, 0.5, 0.0]])).round(decimals=3) + 0.0
    tensor([[[ 0.5000, -0.5000,  0.5000],
             [ 0.0000,  0.0000,  0.0000]]])
    """
    x, y, p = z.unflatten(1, (3, -1)).unbind(1)
    there = p.clamp(min=1e-4)
    return torch.stack([(x / there).clamp(-1, 1), (y / there).clamp(-1, 1), p], 2)


def check_points(name: str, features: int) -> None:
    """Raise a ValueError unless so many features are those of one point or more."""
    check_sizes(**{name: features})
    if features % 3:
        raise ValueError(f"{name} must be a multiple of 3, three for each point, got {features}")
