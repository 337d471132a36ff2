"""The four contracts: what a network of the zoo takes and gives.

The base class is the door: it checks shapes, so that inside a model only the mathematics is left. A subclass writes one
method (`encode`, `decode` or `unroll`).

Legend: `B` batch or envs, `T` steps, `D` features, `S` rows of state, `C H W` channels, height, width.
"""

from collections.abc import Iterable
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """From an observation to a vector: ``[B, *in_shape] -> [B, out_features]``.

    The rule for pixels, here and for every encoder: **uint8 input is divided by 255, floats are taken as they are**,
    every other dtype is refused. (Stable-Baselines3 scales images itself and hands over floats: nothing is done twice.)
    Where numbers are names, as in `TokenEncoder`, there are no pixels to scale.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one input without the batch, images as ``(C, H, W)``.
    out_features : int
        Length of the vector that one input becomes.

    Raises
    ------
    ValueError
        By `forward`, if the input has another shape or is neither uint8 nor floating point.

    Examples
    --------
    >>> class Brightness(Encoder):
    ...     def encode(self, x):  # [B, C, H, W]
    ...         return x.mean(dim=(2, 3))  # [B, C]
    >>> encoder = Brightness(in_shape=(3, 2, 2), out_features=3)
    >>> encoder(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8))
    tensor([[0.2000, 0.2000, 0.2000]])
    >>> encoder(torch.zeros(1, 2, 2))
    Traceback (most recent call last):
    ValueError: Brightness takes x of shape [B, 3, 2, 2], got [1, 2, 2]
    """

    def __init__(self, in_shape: tuple[int, ...], out_features: int) -> None:
        check_shape(in_shape=in_shape)
        check_sizes(out_features=out_features)
        super().__init__()
        self.in_shape = tuple(map(int, in_shape))
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:  # [B, *in_shape], or arranged
        return self.encode(self.admit(x))  # [B, out_features]

    def admit(self, x: Tensor) -> Tensor:
        """The input as `encode` takes it: of the right shape, floats."""
        if x.shape[1:] != self.in_shape and not self.is_arranged(x):
            raise _wrong_shape(self, "x", ("B", *self.in_shape), x)
        if x.dtype == torch.uint8:
            return scaled(x)
        if not x.is_floating_point():
            raise ValueError(f"{type(self).__name__} takes uint8 (divided by 255) or floats, got {x.dtype}")
        return x

    def arrange(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures ``[N, C, H, W]`` in the order of memory that this network reads fastest, ``[N, H', W', C']``.

        For pictures that are seen several times it pays to do so once. The network takes the result as a tensor with
        its channels moved back to the front, ``x.permute(0, 3, 1, 2)``.
        """
        return channels_last(pictures)

    def is_arranged(self, x: Tensor) -> bool:
        """Whether `x` is what `arrange` gives, where that has another shape than a picture."""
        return False

    def encode(self, x: Tensor) -> Tensor:
        """From floats ``[B, *in_shape]`` to ``[B, out_features]``: what a subclass writes."""
        raise NotImplementedError


class Decoder(nn.Module):
    """From a vector to what it stands for, such as a picture: ``[B, in_features] -> [B, *out_shape]``.

    It gives floats as they are, with no activation at the end: whether they are values, or the logits of pixels, is for
    a loss to say.

    Parameters
    ----------
    in_features : int
        Length of a vector.
    out_shape : tuple of int
        Shape of what one vector becomes, images as ``(C, H, W)``.

    Raises
    ------
    ValueError
        By `forward`, if the input has another shape.

    Examples
    --------
    >>> class Canvas(Decoder):
    ...     def decode(self, z):  # [B, C]
    ...         return z[:, :, None, None].expand(-1, *self.out_shape)  # [B, C, H, W]
    >>> decoder = Canvas(in_features=1, out_shape=(1, 2, 2))
    >>> decoder(torch.tensor([[0.5]]))
    tensor([[[[0.5000, 0.5000],
              [0.5000, 0.5000]]]])
    >>> decoder(torch.zeros(1, 2))
    Traceback (most recent call last):
    ValueError: Canvas takes z of shape [B, 1], got [1, 2]
    """

    def __init__(self, in_features: int, out_shape: tuple[int, ...]) -> None:
        check_sizes(in_features=in_features)
        check_shape(out_shape=out_shape)
        super().__init__()
        self.in_features = in_features
        self.out_shape = tuple(map(int, out_shape))

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.in_features:
            raise _wrong_shape(self, "z", ("B", self.in_features), z)
        return self.decode(z)  # [B, *out_shape]

    def decode(self, z: Tensor) -> Tensor:
        """From ``[B, in_features]`` to ``[B, *out_shape]``: what a subclass writes."""
        raise NotImplementedError

    @property
    def last(self) -> nn.Module:
        """The layer whose output is the decoder's: with zeros for weights and bias, all that it gives is zero.

        The last layer with weights that was made, unless a subclass says otherwise.
        """
        layers = [layer for layer in self.modules() if isinstance(getattr(layer, "weight", None), Tensor)]
        if not layers:
            raise ValueError(f"{type(self).__name__} has no layer with weights")
        return layers[-1]


class Recurrent(nn.Module):
    """From a sequence and a state to a sequence and a state, one step after the other, time-major.

    ``x [T, B, in_features], state [S, B, state_features], starts [T, B] -> [T, B, out_features], state``

    Wherever ``starts[t, b]`` is 1, env `b` begins a new episode at step `t`: its state is reset to the initial state
    *before* that step. The state is one tensor, so that a rollout can store, index and reset it with one operation. The
    sequence is cut only at the steps at which some env starts; between two cuts the whole stretch runs in one call.

    Parameters
    ----------
    in_features, out_features : int
        `D` of input and output.
    state_rows : int
        `S`, how many vectors one env's state holds.
    state_features : int, optional
        Their length, `out_features` by default.

    Raises
    ------
    ValueError
        By `forward`, if a shape is wrong or `T` is 0.

    Examples
    --------
    >>> class Counter(Recurrent):
    ...     def unroll(self, x, state):  # [T, B, 1], [1, B, 1]
    ...         y = state + x.cumsum(0)
    ...         return y, y[-1:]
    >>> counter = Counter(in_features=1, out_features=1, state_rows=1)
    >>> starts = torch.tensor([[0], [0], [1], [0]])
    >>> y, state = counter(torch.ones(4, 1, 1), torch.full((1, 1, 1), 5.0), starts)
    >>> y.flatten().tolist(), state.item()
    ([6.0, 7.0, 1.0, 2.0], 2.0)
    """

    def __init__(self, in_features: int, out_features: int, state_rows: int, state_features: int | None = None) -> None:
        state_features = out_features if state_features is None else state_features
        check_sizes(
            in_features=in_features, out_features=out_features, state_rows=state_rows, state_features=state_features
        )
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.state_rows = state_rows
        self.state_features = state_features

    def initial_state(self, B: int) -> Tensor:
        """The state before the first step of an episode: zeros ``[S, B, state_features]``."""
        like = next(self.parameters(), torch.empty(0))
        return like.new_zeros(self.state_rows, B, self.state_features)

    def forward(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim != 3 or x.shape[2] != self.in_features or len(x) == 0:
            raise _wrong_shape(self, "x", ("T > 0", "B", self.in_features), x)
        T, B, _ = x.shape
        if state.shape != (self.state_rows, B, self.state_features):
            raise _wrong_shape(self, "state", (self.state_rows, B, self.state_features), state)
        if starts.shape != (T, B):
            raise _wrong_shape(self, "starts", (T, B), starts)
        reset = (starts != 0).unsqueeze(-1)  # [T, B, 1]
        initial = self.initial_state(B)  # [S, B, state_features]
        cuts = [0, *(1 + reset[1:].any(1).nonzero()[:, 0]).tolist(), T]
        outputs = []
        for begin, end in pairwise(cuts):
            state = torch.where(reset[begin], initial, state)
            y, state = self.unroll(x[begin:end], state)
            outputs.append(y)
        return torch.cat(outputs), state

    def unroll(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[T, B, in_features], [S, B, state_features]`` to outputs and state, no episode starting inside: what a
        subclass writes."""
        raise NotImplementedError


class Sequence(nn.Module):
    """From a sequence to a sequence, all steps at once: ``[B, T, in_features] -> [B, T, out_features]``.

    `mask` ``[B, T]``, if given, is True (or 1) at valid steps and False at padding: padding is never looked at, and its
    outputs are zero.

    Parameters
    ----------
    in_features, out_features : int
        `D` of input and output.
    causal : bool
        Whether output `t` depends on the inputs up to `t` alone (as in GPT) or on all of them (as in BERT).

    Raises
    ------
    ValueError
        By `forward`, if a shape is wrong.

    Examples
    --------
    >>> class Double(Sequence):
    ...     def encode(self, x, mask):
    ...         return 2 * x
    >>> Double(1, 1, causal=True)(torch.ones(1, 3, 1), torch.tensor([[1, 1, 0]])).flatten()
    tensor([2., 2., 0.])
    """

    def __init__(self, in_features: int, out_features: int, causal: bool) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.causal = causal

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # [B, T, in_features], [B, T]
        if x.ndim != 3 or x.shape[2] != self.in_features:
            raise _wrong_shape(self, "x", ("B", "T", self.in_features), x)
        if mask is None:
            return self.encode(x, None)
        if mask.shape != x.shape[:2]:
            raise _wrong_shape(self, "mask", tuple(x.shape[:2]), mask)
        mask = mask != 0
        padding = ~mask.unsqueeze(-1)  # [B, T, 1]
        # Zeroed at the way in as well: an attention weight of 0 does not silence a NaN.
        return self.encode(x.masked_fill(padding, 0), mask).masked_fill(padding, 0)  # [B, T, out_features]

    def encode(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, T, in_features]`` and a boolean mask ``[B, T]`` or None to ``[B, T, out_features]``: what a subclass
        writes."""
        raise NotImplementedError


def scaled(pixels: Tensor) -> Tensor:
    """Bytes as floats from 0 to 1, in the precision that networks run in just now.

    Under bf16 they become bfloat16 at once: a byte has no more digits, and float32 pixels would be the largest thing
    in memory by far.

    Examples
    --------
    >>> scaled(torch.tensor([0, 51], dtype=torch.uint8))
    tensor([0.0000, 0.2000])
    """
    device = pixels.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return pixels.to(dtype).div_(255)


def channels_last(pictures: np.ndarray) -> np.ndarray:
    """``[N, C, H, W] -> [N, H, W, C]``, in memory too.

    Examples
    --------
    >>> channels_last(np.array([[[[1, 2]], [[3, 4]]]])).tolist()
    [[[[1, 3], [2, 4]]]]
    """
    last = np.empty((len(pictures), *pictures.shape[2:], pictures.shape[1]), pictures.dtype)
    for channel in range(pictures.shape[1]):  # plane by plane: a transposed copy goes element by element
        last[..., channel] = pictures[:, channel]
    return last


def check_sizes(**sizes: Any) -> None:
    """Raise a ValueError unless every size (or every part of it, for a tuple or list) is a positive integer."""
    for name, size in sizes.items():
        parts = size if isinstance(size, (tuple, list)) else (size,)
        if not all(isinstance(part, Integral) and int(part) > 0 for part in parts):
            raise ValueError(f"{name} must be positive, in whole numbers, got {size!r}")


def check_shape(**shapes: Any) -> None:
    """Raise a ValueError unless every shape is a tuple (or list) of positive integers, at least one."""
    for name, shape in shapes.items():
        if not isinstance(shape, (tuple, list)) or not shape:
            raise ValueError(f"{name} must be a tuple such as (4,) or (3, 32, 32), got {shape!r}")
    check_sizes(**shapes)


def check_dropout(dropout: float) -> None:
    """Raise a ValueError unless `dropout` is a probability below 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout!r}")


def check_choice(name: str, choice: Any, known: Iterable[Any]) -> None:
    """Raise a ValueError that lists what is `known` unless `choice` is among it."""
    if choice not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {choice!r}")


def _wrong_shape(module: nn.Module, name: str, expected: tuple[Any, ...], got: Tensor) -> ValueError:
    wanted = ", ".join(map(str, expected))
    return ValueError(f"{type(module).__name__} takes {name} of shape [{wanted}], got {list(got.shape)}")
