"""Multi-layer perceptrons, from Rosenblatt's to today's."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Encoder, check_choice, check_dropout, check_shape, check_sizes
from sandbox.zoo.noisy import NoisyLinear


class MLP(Encoder, nn.Sequential):
    """Multi-layer perceptron: ``[B, *in_shape] -> [B, out_features]``.

    Each layer is linear, norm (if any), activation, dropout (if any). With `out_features` a last linear layer without
    activation follows; without it the last layer's activations are the features. `widths=()` leaves that last layer
    alone: a linear map, which is Rosenblatt's perceptron before its threshold (the whole of it is ``widths=(n,),
    activation="step"``); with neither, the flattened input itself. 4,480 parameters at ``in_shape=(4,)``.

    It is an `nn.Sequential` too: parameters are called ``0.weight, 0.bias, 2.weight`` … as in Stable-Baselines3, and
    ``init=None`` draws from torch's generator exactly as a plain `nn.Sequential` of the same layers does.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one input; anything but a vector is flattened.
    widths : tuple of int
        Width of each layer that has an activation.
    out_features : int, optional
        Width of a final linear layer without activation.
    activation : str
        relu, tanh, sigmoid, leaky_relu, elu [2]_, gelu [3]_, silu, maxout [4]_ or step [5]_.
    norm : {None, "batch", "layer", "instance", "group"}
        Between linear and activation. A row of features is one instance with one channel, so ``"instance"`` [6]_ is
        layer norm [7]_ without learned scale and shift; ``"group"`` [8]_ makes groups of 16 features.
    dropout : float
        Probability of zeroing a unit after its activation [9]_.
    init : {"orthogonal", "xavier", "he", None}
        Initialisation of the weights (biases: zero), with the gain of the activation, 1 in the final layer: orthogonal
        [1]_, Xavier-Glorot uniform, He normal [10]_; None is torch's own.
    noisy : bool or float
        Every linear layer is a `sandbox.zoo.NoisyLinear` [11]_; a number is their initial deviation.

    Raises
    ------
    ValueError
        If an activation, norm or init is unknown, a size is not positive, or dropout is not in [0, 1).

    References
    ----------
    Rosenblatt, "The perceptron", Psychological Review 65 (1958).

    .. [1] Saxe et al., arXiv:1312.6120
    .. [2] Clevert et al., arXiv:1511.07289
    .. [3] Hendrycks and Gimpel, arXiv:1606.08415
    .. [4] Goodfellow et al., arXiv:1302.4389
    .. [5] straight-through gradient: Bengio et al., arXiv:1308.3432
    .. [6] Ulyanov et al., arXiv:1607.08022
    .. [7] Ba et al., arXiv:1607.06450
    .. [8] Wu and He, arXiv:1803.08494
    .. [9] Hinton et al., arXiv:1207.0580
    .. [10] He et al., arXiv:1502.01852
    .. [11] Fortunato et al., arXiv:1706.10295

    Examples
    --------
    >>> mlp = MLP(in_shape=(4,), widths=(8,), out_features=2)
    >>> mlp(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    >>> list(mlp.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        widths: tuple[int, ...] = (64, 64),
        out_features: int | None = None,
        activation: str = "tanh",
        norm: str | None = None,
        dropout: float = 0.0,
        init: str | None = "orthogonal",
        noisy: bool | float = False,
    ) -> None:
        check_shape(in_shape=in_shape)
        check_sizes(widths=widths)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("norm", norm, NORMS)
        check_choice("init", init, INITS)
        check_dropout(dropout)
        sizes = [math.prod(in_shape), *widths]
        super().__init__(in_shape, sizes[-1] if out_features is None else out_features)

        activate, gain = ACTIVATIONS[activation]
        for fan_in, width in pairwise(sizes):
            fan_out = 2 * width if activation == "maxout" else width
            self.append(_linear(fan_in, fan_out, init, gain, noisy))
            if norm is not None:
                self.append(NORMS[norm](fan_out))
            self.append(activate())
            if dropout > 0:
                self.append(nn.Dropout(dropout))
        if out_features is not None:
            self.append(_linear(sizes[-1], out_features, init, 1.0, noisy))

    def encode(self, x: Tensor) -> Tensor:
        return nn.Sequential.forward(self, x.flatten(1))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):  # nn.Sequential would call our constructor with the layers
            return nn.Sequential(*list(self)[index])
        return super().__getitem__(index)


class Maxout(nn.Module):
    """The larger of two linear units: ``[B, 2 D] -> [B, D]``, unit `i` paired with unit `i + D` (arXiv:1302.4389).

    Examples
    --------
    >>> Maxout()(torch.tensor([[1.0, 5.0, 3.0, 4.0]]))
    tensor([[3., 5.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(*x.chunk(2, dim=-1))


class Step(nn.Module):
    """The threshold unit, 1 where ``x >= 0`` and else 0. Backward it is the identity (straight-through,
    arXiv:1308.3432), for its own gradient is zero.

    Examples
    --------
    >>> Step()(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 1., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return _StraightThroughStep.apply(x)


class _StraightThroughStep(torch.autograd.Function):
    # A Function, since x + (step(x) - x).detach() would be off by the rounding of large x.
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


# Each with its gain: torch's where torch has one, else 1 / sqrt(E[f(z)²]) for z ~ N(0, 1).
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "relu": (nn.ReLU, math.sqrt(2)),
    "tanh": (nn.Tanh, 5 / 3),
    "sigmoid": (nn.Sigmoid, 1.0),
    "leaky_relu": (nn.LeakyReLU, math.sqrt(2 / (1 + 0.01**2))),
    "elu": (nn.ELU, 1.2452),
    "gelu": (nn.GELU, 1.5335),
    "silu": (nn.SiLU, 1.6765),
    "maxout": (Maxout, 1.0),
    "step": (Step, math.sqrt(2)),
}

NORMS: dict[str | None, Callable[[int], nn.Module]] = {
    None: lambda width: nn.Identity(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "instance": lambda width: nn.LayerNorm(width, elementwise_affine=False),
    "group": lambda width: _group_norm(width),
}

INITS: dict[str | None, Callable[[Tensor, float], Any]] = {
    None: lambda weight, gain: None,
    "orthogonal": nn.init.orthogonal_,
    "xavier": nn.init.xavier_uniform_,
    "he": lambda weight, gain: nn.init.normal_(weight, std=gain / math.sqrt(weight.shape[1])),
}


def _linear(fan_in: int, fan_out: int, init: str | None, gain: float, noisy: bool | float) -> nn.Linear:
    sigma = {} if noisy is True else {"sigma": noisy}
    layer = NoisyLinear(fan_in, fan_out, **sigma) if noisy else nn.Linear(fan_in, fan_out)
    INITS[init](layer.weight, gain)
    if init is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _group_norm(width: int) -> nn.GroupNorm:
    if width % 16:
        raise ValueError(f"norm='group' makes groups of 16 features, which {width} is no multiple of")
    return nn.GroupNorm(width // 16, width)
