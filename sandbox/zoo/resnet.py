"""Residual networks for small images."""

from torch import Tensor, nn

from sandbox.zoo.contracts import Encoder
from sandbox.zoo.conv import check_image


class ResNet18(Encoder):
    """ResNet-18 with the stem for small images: ``[B, C, H, W] -> [B, out_features]``.

    The stem is one 3x3 convolution without max-pooling, then four stages of two residual blocks (64, 128, 256, 512
    channels), then the mean over all positions: 512 features. 11,168,832 parameters at ``in_shape=(3, 32, 32)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(C, H, W)``.
    out_features : int, optional
        Width of a final linear layer; without it the 512 pooled features are the output.

    Raises
    ------
    ValueError
        If `in_shape` is no image or a size is not positive.

    References
    ----------
    He et al., "Deep residual learning for image recognition", arXiv:1512.03385; initialisation: arXiv:1502.01852.

    Examples
    --------
    >>> import torch
    >>> ResNet18(in_shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """

    def __init__(self, in_shape: tuple[int, int, int], out_features: int | None = None) -> None:
        check_image("ResNet18", in_shape)
        super().__init__(in_shape, 512 if out_features is None else out_features)
        self.stem = nn.Sequential(*_convolution(in_shape[0], 64, 3), nn.ReLU())
        self.stages = nn.Sequential(
            _Residual(64, 64),
            _Residual(64, 64),
            _Residual(64, 128, stride=2),
            _Residual(128, 128),
            _Residual(128, 256, stride=2),
            _Residual(256, 256),
            _Residual(256, 512, stride=2),
            _Residual(512, 512),
        )
        self.head = nn.Identity() if out_features is None else nn.Linear(512, out_features)

    def encode(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))  # [B, 512, H / 8, W / 8]
        return self.head(x.mean(dim=(2, 3)))  # [B, out_features]


class _Residual(nn.Module):
    def __init__(self, channels: int, depth: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(channels, depth, 3, stride),
            nn.ReLU(),
            *_convolution(depth, depth, 3),
        )
        same = channels == depth and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(channels, depth, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + self.shortcut(x)).relu()


def _convolution(channels: int, depth: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels, depth, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, nn.BatchNorm2d(depth)
