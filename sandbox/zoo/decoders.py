"""Decoders: the ways back from a vector to what it was made of, each the mirror of an encoder."""

import math
from itertools import pairwise

from torch import Tensor, nn

from sandbox.zoo.contracts import Decoder, check_choice, check_sizes
from sandbox.zoo.conv import ACTIVATIONS, NORMS, BlockConvTranspose2d, check_halvings, check_image, halved, he
from sandbox.zoo.mlp import MLP


class MLPDecoder(Decoder):
    """A multi-layer perceptron and a linear layer: ``[B, in_features] -> [B, *out_shape]``.

    It is an `MLP` whose outputs take a shape. 863,744 parameters at ``in_features=32, out_shape=(3, 32, 32)``.

    Parameters
    ----------
    in_features : int
        Length of a vector.
    out_shape : tuple of int
        Shape of what it becomes.
    widths : tuple of int
        Width of each layer that has an activation.
    activation, norm, dropout, init
        As in `MLP`.

    Raises
    ------
    ValueError
        If an activation, norm or init is unknown, a size is not positive, or dropout is not in [0, 1).

    References
    ----------
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313 (2006);
    initialisation: Saxe et al., arXiv:1312.6120.

    Examples
    --------
    >>> import torch
    >>> MLPDecoder(in_features=2, out_shape=(1, 8, 8))(torch.zeros(5, 2)).shape
    torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_shape: tuple[int, ...],
        widths: tuple[int, ...] = (256, 256),
        activation: str = "relu",
        norm: str | None = None,
        dropout: float = 0.0,
        init: str | None = "orthogonal",
    ) -> None:
        super().__init__(in_features, out_shape)
        self.mlp = MLP((in_features,), widths, math.prod(self.out_shape), activation, norm, dropout, init)

    def decode(self, z: Tensor) -> Tensor:
        return self.mlp.encode(z).unflatten(1, self.out_shape)


class ConvDecoder(Decoder):
    """Transposed convolutions, each doubling the side of a picture: ``[B, in_features] -> [B, C, H, W]``.

    The mirror of `Conv`: a linear layer to the smallest map, then transposed convolutions of 4x4 with stride 2 up to a
    picture of exactly `out_shape`, odd sides too. A norm (if any) and an activation stand before each of them. 233,059
    parameters at ``in_features=32, out_shape=(3, 32, 32)``. With ``norm="batch"`` it is the generator of DCGAN but for
    the activation of its pixels.

    Parameters
    ----------
    in_features : int
        Length of a vector.
    out_shape : tuple of int
        ``(C, H, W)``.
    channels : tuple of int
        Of each map that a transposed convolution takes, the smallest first: those of `Conv` from the last one to the
        first.
    norm : {None, "batch", "layer", "group"}
        As in `Conv`.
    activation : str
        As in `Conv`.

    Raises
    ------
    ValueError
        If `out_shape` is no image, or one too small to be halved so often, or a norm or activation is unknown.

    References
    ----------
    Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
    arXiv:1511.06434; initialisation: arXiv:1502.01852.

    Examples
    --------
    >>> import torch
    >>> ConvDecoder(in_features=16, out_shape=(3, 33, 28))(torch.zeros(2, 16)).shape
    torch.Size([2, 3, 33, 28])
    """

    def __init__(
        self,
        in_features: int,
        out_shape: tuple[int, int, int],
        channels: tuple[int, ...] = (128, 64, 32),
        norm: str | None = None,
        activation: str = "relu",
    ) -> None:
        check_halvings("ConvDecoder", channels, out_shape, name="out_shape")
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        super().__init__(in_features, out_shape)
        activate, gain = ACTIVATIONS[activation]
        maps = halved(self.out_shape, channels[::-1])[::-1]
        layers: list[nn.Module] = [he(nn.Linear(in_features, math.prod(maps[0])), gain), nn.Unflatten(1, maps[0])]
        for i, ((before, _, _), (after, H, W)) in enumerate(pairwise(maps), start=1):
            final = i == len(channels)
            odd = (H % 2, W % 2)
            bias = final or norm is None
            deconvolution = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd, bias=bias)
            if norm is not None:
                layers.append(NORMS[norm](before))
            layers += [activate(), he(deconvolution, 1.0 if final else gain)]
        self.cnn = nn.Sequential(*layers)

    def decode(self, z: Tensor) -> Tensor:
        return self.cnn(z)


class NatureDecoder(Decoder):
    """The mirror of the network that learned to play Atari: ``[B, in_features] -> [B, C, H, W]``.

    What `NatureCNN` does, backwards: two linear layers, then transposed convolutions (3x3, 4x4 stride 2, 8x8 stride 4),
    a ReLU between any two layers. Pictures of 36 pixels or more; where a size does not fit the strides, each map is
    large enough for the next to cover every pixel, and trimmed. 1,703,588 parameters at
    ``in_features=32, out_shape=(4, 84, 84)``.

    Parameters
    ----------
    in_features : int
        Length of a vector.
    out_shape : tuple of int
        ``(C, H, W)``, `H` and `W` at least 36.
    channels : tuple of int
        Of each map that a transposed convolution takes, the smallest first: those of `NatureCNN` from the last one to
        the first. One, two or three.
    width : int
        Of the first linear layer.

    Raises
    ------
    ValueError
        If `out_shape` is no image, a side has fewer than 36 pixels, or `channels` are none or more than three.

    References
    ----------
    The encoder is that of Mnih et al., Nature 518 (2015); a decoder of its mirrored shape beside an agent: Yarats et
    al., "Improving sample efficiency in model-free reinforcement learning from images", arXiv:1910.01741.

    Examples
    --------
    >>> import torch
    >>> NatureDecoder(in_features=32, out_shape=(4, 84, 84))(torch.zeros(2, 32)).shape
    torch.Size([2, 4, 84, 84])
    """

    def __init__(
        self,
        in_features: int,
        out_shape: tuple[int, int, int],
        channels: tuple[int, ...] = (64, 64, 32),
        width: int = 512,
    ) -> None:
        check_image("NatureDecoder", out_shape, smallest=36, name="out_shape")
        check_sizes(channels=channels, width=width)
        if not 1 <= len(channels) <= 3:
            raise ValueError(f"channels are those of one, two or three transposed convolutions, got {tuple(channels)}")
        super().__init__(in_features, out_shape)
        relu = ACTIVATIONS["relu"][1]
        after, H, W = self.out_shape
        layers: list[nn.Module] = []  # from the picture back to the smallest map
        for before, (kernel, stride) in zip(channels[::-1], ((8, 4), (4, 2), (3, 1)), strict=False):
            (h, *row), (w, *column) = _covering(H, kernel, stride), _covering(W, kernel, stride)
            padding, output_padding = zip(row, column, strict=True)
            kind = BlockConvTranspose2d if stride > 2 else nn.ConvTranspose2d  # blocks of 2x2 are no faster
            deconvolution = kind(before, after, kernel, stride, padding, output_padding)
            layers = [nn.ReLU(), he(deconvolution, relu if layers else 1.0), *layers]
            after, H, W = before, h, w
        self.linear = nn.Sequential(
            he(nn.Linear(in_features, width), relu),
            nn.ReLU(),
            he(nn.Linear(width, after * H * W), relu),
            nn.Unflatten(1, (after, H, W)),
        )
        self.cnn = nn.Sequential(*layers)

    def decode(self, z: Tensor) -> Tensor:
        return self.cnn(self.linear(z))


def _covering(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """The length whose transposed convolution covers `size`; the padding and output padding that trim the rest."""
    length = -(-(size - kernel) // stride) + 1
    rest = (length - 1) * stride + kernel - size
    return length, (rest + 1) // 2, rest % 2  # twice the padding, less the output padding, is the rest
