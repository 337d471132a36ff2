"""Convolutional encoders: from the one that learned Atari to residual ones."""

import numpy as np
import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Encoder, channels_last, check_dropout, check_in_shape, check_sizes


class NatureCNN(Encoder):
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

    def encode(self, x: Tensor) -> Tensor:
        return self.linear(self.cnn(x))


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
        s = self.stride[0]
        if x.shape[1] == self.in_channels or s == 1:
            return super().forward(x)
        k = self.kernel_size[0] // s
        weight = self.weight.unflatten(3, (k, s)).unflatten(2, (k, s))  # [O, C, k, s, k, s]
        weight = weight.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)  # [O, s * s * C, k, k]
        return nn.functional.conv2d(x, weight, self.bias)


class ImpalaCNN(Encoder):
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

    def encode(self, x: Tensor) -> Tensor:
        return self.linear(self.cnn(x))


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


class AlexNet(Encoder):
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

    def encode(self, x: Tensor) -> Tensor:
        return self.linear(self.cnn(x))


def check_image(model: str, in_shape: tuple[int, ...], smallest: int = 1) -> None:
    """Raise a ValueError unless `in_shape` is ``(C, H, W)`` with `H` and `W` at least `smallest`."""
    check_in_shape(in_shape)
    if len(in_shape) != 3 or min(in_shape[1:]) < smallest:
        least = f" of at least {smallest}x{smallest} pixels" if smallest > 1 else ""
        raise ValueError(f"{model} takes images [C, H, W]{least}, got in_shape {tuple(in_shape)}")


def _width(cnn: nn.Module, in_shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        return cnn(torch.zeros(1, *in_shape)).shape[1]
