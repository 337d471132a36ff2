"""Convolutional encoders: from the plainest to residual ones."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from sandbox.zoo import mlp
from sandbox.zoo.contracts import Encoder, channels_last, check_choice, check_dropout, check_shape, check_sizes


class MapEncoder(Encoder):
    """Convolutions `cnn` to a map ``[B, c, h, w]``, flattened at their end, and layers `linear` that read it."""

    cnn: nn.Sequential
    linear: nn.Module

    def encode(self, x: Tensor) -> Tensor:
        return self.linear(self.cnn(x))

    def see(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and what is read from it: floats ``[B, *in_shape]`` to ``[B, c, h, w], [B, out_features]``.

        Examples
        --------
        >>> places, features = NatureCNN(in_shape=(1, 84, 84)).see(torch.zeros(2, 1, 84, 84))
        >>> places.shape, features.shape
        (torch.Size([2, 64, 7, 7]), torch.Size([2, 512]))
        """
        places = self.cnn[:-1](x)
        return places, self.linear(places.flatten(1))


class Conv(MapEncoder):
    """Plain convolutions, each halving the side of a picture: ``[B, C, H, W] -> [B, out_features]``.

    Convolutions of 4x4 with stride 2, each with a norm (if any, and not the first) and an activation, then a linear
    layer with an activation. Where a side is odd, its last pixel falls away. 690,144 parameters at
    ``in_shape=(3, 32, 32)``. `ConvDecoder` is the way back. With ``norm="batch", activation="leaky_relu"`` it is the
    discriminator of DCGAN but for its last layer.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``.
    out_features : int
        Width of the linear layer.
    channels : tuple of int
        Of each convolution.
    norm : {None, "batch", "layer", "group"}
        Between convolution and activation, not after the first one (as in the paper); ``"group"`` makes groups of 16
        channels, ``"layer"`` a single one.
    activation : str
        relu, leaky_relu (slope 0.2, as in the paper), elu, gelu, silu, tanh or sigmoid.

    Raises
    ------
    ValueError
        If `in_shape` is no image, or one too small to be halved so often, or a norm or activation is unknown.

    References
    ----------
    Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
    arXiv:1511.06434; initialisation: arXiv:1502.01852.

    Examples
    --------
    >>> Conv(in_shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_features: int = 256,
        channels: tuple[int, ...] = (32, 64, 128),
        norm: str | None = None,
        activation: str = "relu",
    ) -> None:
        check_halvings("Conv", channels, in_shape)
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        super().__init__(in_shape, out_features)
        activate, gain = ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        before = in_shape[0]
        for width in channels:
            normed = norm is not None and bool(layers)
            layers.append(he(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=not normed), gain))
            if normed:
                layers.append(NORMS[norm](width))
            layers.append(activate())
            before = width
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        C, H, W = halved(in_shape, channels)[-1]
        self.linear = nn.Sequential(he(nn.Linear(C * H * W, out_features), gain), activate())


class NatureCNN(MapEncoder):
    """The network that learned to play Atari: ``[B, C, H, W] -> [B, out_features]``, images of 36 pixels or more.

    Three convolutions (32 of 8x8 stride 4, 64 of 4x4 stride 2, 64 of 3x3) and a linear layer, each with a ReLU.
    1,684,128 parameters at ``in_shape=(4, 84, 84)``. Parameter names and initialisation are those of
    Stable-Baselines3's class of the same name, so weights pass between the two. ``channels=(16, 32),
    out_features=256`` is the smaller network of 2013: 676,144 parameters, a third of the arithmetic.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``, `H` and `W` at least 36.
    out_features : int
        Width of the linear layer.
    channels : tuple of int
        Of the first one, two or all three convolutions.

    Raises
    ------
    ValueError
        If `in_shape` is no image, a side has fewer than 36 pixels, or `channels` are none or more than three.

    References
    ----------
    Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015); the network of 2013 is
    that of arXiv:1312.5602.

    Examples
    --------
    >>> NatureCNN(in_shape=(4, 84, 84))(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape
    torch.Size([2, 512])
    """

    def __init__(
        self, in_shape: tuple[int, int, int], out_features: int = 512, channels: tuple[int, ...] = (32, 64, 64)
    ) -> None:
        check_image("NatureCNN", in_shape, smallest=36)
        check_sizes(channels=channels)
        if not 1 <= len(channels) <= 3:
            raise ValueError(f"channels are those of one, two or three convolutions, got {tuple(channels)}")
        super().__init__(in_shape, out_features)
        layers: list[nn.Module] = []
        before = in_shape[0]
        for width, (kernel, stride) in zip(channels, ((8, 4), (4, 2), (3, 1)), strict=False):
            convolution = nn.Conv2d if layers else BlockConv2d
            layers += [convolution(before, width, kernel, stride=stride), nn.ReLU()]
            before = width
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(_width(self.cnn, in_shape), out_features), nn.ReLU())

    def arrange(self, pictures: np.ndarray) -> np.ndarray:
        return self.cnn[0].arrange(pictures)  # type: ignore[operator]

    def is_arranged(self, x: Tensor) -> bool:
        C, H, W = self.in_shape
        return x.shape[1:] == (16 * C, H // 4, W // 4) and H % 4 == W % 4 == 0


class BlockConv2d(nn.Conv2d):
    """A convolution that also takes pictures cut into blocks of stride x stride pixels, each a column of channels.

    Over blocks it is a convolution of stride 1 with a small kernel and many channels. Processors are made for those:
    over four pictures of 84x84 it takes half the time. The weights are the same.

    Examples
    --------
    >>> layer = BlockConv2d(3, 2, kernel_size=4, stride=2)
    >>> pictures = np.random.default_rng(0).standard_normal((1, 3, 8, 6), np.float32)
    >>> blocks = torch.from_numpy(layer.arrange(pictures)).permute(0, 3, 1, 2)
    >>> blocks.shape, torch.allclose(layer(blocks), layer(torch.from_numpy(pictures)), atol=1e-6)
    (torch.Size([1, 12, 4, 3]), True)
    """

    def arrange(self, pictures: np.ndarray) -> np.ndarray:
        """``[N, C, H, W] -> [N, H / s, W / s, s * s * C]``, or ``[N, H, W, C]`` where the stride `s` does not fit."""
        last, s = channels_last(pictures), self.stride[0]
        N, H, W, C = last.shape
        if H % s or W % s or self.kernel_size[0] % s:
            return last
        row = np.dtype((np.void, s * C * last.itemsize))  # of a block: moved as one
        rows = last.reshape(N, H, W // s, s * C).view(row).reshape(N, H // s, s, W // s)
        return rows.swapaxes(2, 3).copy().view(last.dtype).reshape(N, H // s, W // s, s * s * C)

    def forward(self, x: Tensor) -> Tensor:
        s, plain = self.stride[0], x.shape[1] == self.in_channels
        if s == 1 or (plain and not self._pays(x)):
            return super().forward(x)
        k = self.kernel_size[0] // s
        weight = self.weight.unflatten(3, (k, s)).unflatten(2, (k, s))  # [O, C, k, s, k, s]
        if plain:  # cut into blocks here, channels outermost
            blocks = x.unflatten(3, (-1, s)).unflatten(2, (-1, s)).permute(0, 2, 4, 1, 3, 5)  # [B, h, w, C, s, s]
            x, order = blocks.flatten(3).permute(0, 3, 1, 2), (0, 1, 3, 5, 2, 4)
        else:
            order = (0, 3, 5, 1, 2, 4)
        return nn.functional.conv2d(x, weight.permute(order).flatten(1, 3), self.bias)

    def _pays(self, x: Tensor) -> bool:
        """Whether cutting pictures into blocks takes less time than it saves: in bf16 it does."""
        s = self.stride[0]
        fits = not (x.shape[2] % s or x.shape[3] % s or self.kernel_size[0] % s)
        return fits and torch.is_autocast_enabled(x.device.type)


class BlockConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that makes blocks of stride x stride pixels, and lays them side by side.

    It is a convolution of stride 1 with a small kernel and many channels, as in `BlockConv2d`, where the kernel is a
    multiple of the stride: for one of 8x8 with stride 4 it takes a third of the time. The weights are the same.

    Examples
    --------
    >>> layer, plain = BlockConvTranspose2d(3, 2, 8, 4, padding=1), nn.ConvTranspose2d(3, 2, 8, 4, padding=1)
    >>> _ = plain.load_state_dict(layer.state_dict())
    >>> x = torch.randn(1, 3, 5, 4)
    >>> layer(x).shape, torch.allclose(layer(x), plain(x), atol=1e-5)
    (torch.Size([1, 2, 22, 18]), True)
    """

    @property
    def _trimmed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What is cut off on either side, and given back on the far one; rows, columns."""
        padding, output_padding = self.padding, self.output_padding
        assert isinstance(padding, tuple)  # else a word, which only convolutions the other way take
        return padding, output_padding

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        s, ((rows, columns), (more, wider)) = self.stride[0], self._trimmed
        if self.kernel_size[0] % s or more > rows or wider > columns:
            return super().forward(x, output_size)
        k = self.kernel_size[0] // s
        weight = self.weight.unflatten(3, (k, s)).unflatten(2, (k, s)).flip(2, 4)  # [C, O, k, s, k, s]
        weight = weight.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # [O * s * s, C, k, k]
        bias = None if self.bias is None else self.bias.repeat_interleave(s * s)
        blocks = nn.functional.conv2d(x, weight, bias, padding=k - 1).permute(0, 2, 3, 1)  # [B, h, w, O s s]
        # Not pixel_shuffle, whose gradient would come back in another order of memory than the activations have.
        y = blocks.unflatten(3, (-1, s, s)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        H, W = y.shape[2:]
        return y[:, :, rows : H - rows + more, columns : W - columns + wider]


class ImpalaCNN(MapEncoder):
    """The deep residual encoder of IMPALA, 15 convolutions: ``[B, C, H, W] -> [B, out_features]``.

    One stage per depth: convolution, max-pooling to half the size, two residual blocks. 1,089,232 parameters at
    ``in_shape=(4, 84, 84)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``.
    out_features : int
        Width of the linear layer at the end (with ReLU).
    depths : tuple of int
        Channels of each stage.
    scale : int
        Multiplies every depth; 4 is common where data is plentiful.

    Raises
    ------
    ValueError
        If `in_shape` is no image or a size is not positive.

    References
    ----------
    Espeholt et al., "IMPALA", arXiv:1802.01561, figure 3 (right).

    Examples
    --------
    >>> ImpalaCNN(in_shape=(4, 84, 84))(torch.zeros(2, 4, 84, 84)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_features: int = 256,
        depths: tuple[int, ...] = (16, 32, 32),
        scale: int = 1,
    ) -> None:
        check_image("ImpalaCNN", in_shape)
        check_sizes(depths=depths, scale=scale)
        super().__init__(in_shape, out_features)
        stages: list[nn.Module] = []
        channels = in_shape[0]
        for depth in (scale * depth for depth in depths):
            stages += [
                nn.Conv2d(channels, depth, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _ImpalaResidual(depth),
                _ImpalaResidual(depth),
            ]
            channels = depth
        self.cnn = nn.Sequential(*stages, nn.ReLU(), nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(_width(self.cnn, in_shape), out_features), nn.ReLU())


class _ImpalaResidual(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(depth, depth, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(depth, depth, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class AlexNet(MapEncoder):
    """AlexNet for small images: ``[B, C, H, W] -> [B, out_features]``.

    The five convolutions of the single-column version, with the kernels and strides of the first two shrunk so that
    32 pixels suffice, overlapping max-pooling, and two linear layers with dropout. 4,811,584 parameters at
    ``in_shape=(3, 32, 32)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``.
    out_features : int
        Width of both linear layers (4096 in the paper), each with a ReLU.
    dropout : float
        Before each linear layer.

    Raises
    ------
    ValueError
        If `in_shape` is no image or a size is not positive.

    References
    ----------
    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks" (2012); single-column:
    Krizhevsky, arXiv:1404.5997.

    Examples
    --------
    >>> AlexNet(in_shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """

    def __init__(self, in_shape: tuple[int, int, int], out_features: int = 512, dropout: float = 0.5) -> None:
        check_image("AlexNet", in_shape)
        check_dropout(dropout)
        super().__init__(in_shape, out_features)
        self.cnn = nn.Sequential(
            nn.Conv2d(in_shape[0], 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Flatten(),
        )
        self.linear = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(_width(self.cnn, in_shape), out_features),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(out_features, out_features),
            nn.ReLU(),
        )


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    **{name: mlp.ACTIVATIONS[name] for name in ("relu", "elu", "gelu", "silu", "tanh", "sigmoid")},
    "leaky_relu": (partial(nn.LeakyReLU, 0.2), math.sqrt(2 / (1 + 0.2**2))),
}

NORMS: dict[str | None, Callable[[int], nn.Module]] = {
    None: lambda width: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "layer": partial(nn.GroupNorm, 1),
    "group": mlp.NORMS["group"],
}


def halved(shape: tuple[int, ...], channels: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The shape of a picture, and of the map after each convolution of stride 2.

    Examples
    --------
    >>> halved((3, 28, 30), (32, 64, 128))
    [(3, 28, 30), (32, 14, 15), (64, 7, 7), (128, 3, 3)]
    """
    C, H, W = shape
    return [(width, H >> i, W >> i) for i, width in enumerate((C, *channels))]


def he(layer: nn.Module, gain: float) -> nn.Module:
    """The layer with He's initialisation, N(0, gain² / fan in), and biases of zero (arXiv:1502.01852).

    Examples
    --------
    >>> layer = he(nn.Linear(10_000, 10), gain=2.0)
    >>> round(layer.weight.std().item(), 3), layer.bias.any().item()
    (0.02, False)
    """
    weight: Tensor = layer.weight  # type: ignore[assignment]
    fan_in = weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):  # [C_in, C_out, k, k], of whose k x k places each pixel meets a part
        fan_in = len(weight) * weight[0, 0].numel() // math.prod(layer.stride)
    nn.init.normal_(weight, std=gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def check_halvings(model: str, channels: tuple[int, ...], shape: tuple[int, ...], name: str = "in_shape") -> None:
    """Raise a ValueError unless `shape` is that of an image whose sides can be halved once for each of `channels`."""
    check_sizes(channels=channels)
    if not channels:
        raise ValueError("channels must be those of one convolution or more, got none")
    check_image(model, shape, smallest=2 ** len(channels), name=name)


def check_image(model: str, shape: tuple[int, ...], smallest: int = 1, name: str = "in_shape") -> None:
    """Raise a ValueError unless `shape`, which is called `name`, is ``(C, H, W)`` with sides of at least `smallest`."""
    check_shape(**{name: shape})
    if len(shape) != 3 or min(shape[1:]) < smallest:
        least = f" of at least {smallest}x{smallest} pixels" if smallest > 1 else ""
        does = "takes" if name == "in_shape" else "gives"
        raise ValueError(f"{model} {does} images [C, H, W]{least}, got {name} {tuple(shape)}")


def _width(cnn: nn.Module, in_shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        return cnn(torch.zeros(1, *in_shape)).shape[1]
