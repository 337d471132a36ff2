"""Recurrent networks, time-major, with resets at episode starts."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sandbox.zoo.contracts import Decoder, Encoder, Recurrent, check_choice, check_sizes


class RNN(Recurrent):
    """Elman's recurrent network (tanh): ``[T, B, in_features] -> [T, B, out_features]``, `S` = `layers`.

    82,432 parameters at ``in_features=64``.

    Parameters
    ----------
    in_features : int
        `D` of one step's input.
    out_features : int
        Width of the hidden state, which is the output.
    layers : int
        Stacked layers.

    Raises
    ------
    ValueError
        If a size is not positive.

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14 (1990); stacked: Graves, arXiv:1308.0850.

    Examples
    --------
    >>> rnn = RNN(in_features=3, out_features=8)
    >>> y, state = rnn(torch.zeros(5, 2, 3), rnn.initial_state(2), torch.zeros(5, 2))
    >>> y.shape, state.shape
    (torch.Size([5, 2, 8]), torch.Size([1, 2, 8]))
    """

    def __init__(self, in_features: int, out_features: int = 256, layers: int = 1) -> None:
        check_sizes(layers=layers)
        super().__init__(in_features, out_features, state_rows=layers)
        self.core = nn.RNN(in_features, out_features, layers)

    def unroll(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.core(x, state)


class GRU(Recurrent):
    """Gated recurrent unit: ``[T, B, in_features] -> [T, B, out_features]``, `S` = `layers`.

    247,296 parameters at ``in_features=64``.

    Parameters
    ----------
    in_features : int
        `D` of one step's input.
    out_features : int
        Width of the hidden state, which is the output.
    layers : int
        Stacked layers.

    Raises
    ------
    ValueError
        If a size is not positive.

    References
    ----------
    Cho et al., arXiv:1406.1078.

    Examples
    --------
    >>> gru = GRU(in_features=3, out_features=8, layers=2)
    >>> y, state = gru(torch.zeros(5, 2, 3), gru.initial_state(2), torch.zeros(5, 2))
    >>> y.shape, state.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 8]))
    """

    def __init__(self, in_features: int, out_features: int = 256, layers: int = 1) -> None:
        check_sizes(layers=layers)
        super().__init__(in_features, out_features, state_rows=layers)
        self.core = nn.GRU(in_features, out_features, layers)

    def unroll(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.core(x, state)


class LSTM(Recurrent):
    """Long short-term memory: ``[T, B, in_features] -> [T, B, out_features]``, `S` = 2 · `layers`.

    The state holds the hidden vectors `h` of all layers, then the cells `c`. 329,728 parameters at ``in_features=64``.

    Parameters
    ----------
    in_features : int
        `D` of one step's input.
    out_features : int
        Width of the hidden state, which is the output.
    layers : int
        Stacked layers.

    Raises
    ------
    ValueError
        If a size is not positive.

    References
    ----------
    Hochreiter and Schmidhuber, Neural Computation 9 (1997); with forget gate: Greff et al., arXiv:1503.04069.

    Examples
    --------
    >>> lstm = LSTM(in_features=3, out_features=8)
    >>> y, state = lstm(torch.zeros(5, 2, 3), lstm.initial_state(2), torch.zeros(5, 2))
    >>> y.shape, state.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 8]))
    """

    def __init__(self, in_features: int, out_features: int = 256, layers: int = 1) -> None:
        check_sizes(layers=layers)
        super().__init__(in_features, out_features, state_rows=2 * layers)
        self.core = nn.LSTM(in_features, out_features, layers)

    def unroll(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state.chunk(2)  # [layers, B, out_features] each
        y, (h, c) = self.core(x, (h, c))
        return y, torch.cat([h, c])


class RecurrentEncoder(Encoder):
    """A series read step by step, and its summary: ``[B, T] or [B, T, D] -> [B, out_features]``.

    What the cell has for output at the last step is the summary. A series of single values is read `step` of them at a
    time, the last step filled up with zeros. 13,056 parameters at ``in_shape=(32,)``.

    Parameters
    ----------
    in_shape : tuple of int
        ``(T,)`` or ``(T, D)``.
    out_features : int
        Width of the cell.
    cell : {"gru", "lstm", "rnn"}
    step : int
        Values at a time, for ``(T,)``.

    Raises
    ------
    ValueError
        If `in_shape` is no series, a size is not positive, or there is no such cell.

    References
    ----------
    Sutskever et al., "Sequence to sequence learning with neural networks", arXiv:1409.3215.

    Examples
    --------
    >>> RecurrentEncoder(in_shape=(30,), out_features=16)(torch.zeros(2, 30)).shape
    torch.Size([2, 16])
    """

    def __init__(self, in_shape: tuple[int, ...], out_features: int = 64, cell: str = "gru", step: int = 2) -> None:
        super().__init__(in_shape, out_features)
        self.steps = _steps(self.in_shape, step)
        check_choice("cell", cell, CELLS)
        self.cell = CELLS[cell](self.steps[1], out_features)

    def encode(self, x: Tensor) -> Tensor:
        T, D = self.steps
        steps = F.pad(x.flatten(1), (0, T * D - math.prod(self.in_shape))).unflatten(1, (T, D)).transpose(0, 1)
        y, _ = self.cell(steps, self.cell.initial_state(len(x)), steps.new_zeros(T, len(x)))
        return y[-1]


class RecurrentDecoder(Decoder):
    """A series written step by step from a vector: ``[B, in_features] -> [B, T] or [B, T, D]``.

    The vector is the cell's input at every step; a linear layer turns each output into values. 18,946 parameters at
    ``in_features=32, out_shape=(32,)``.

    Parameters
    ----------
    in_features : int
        Length of a vector.
    out_shape : tuple of int
        ``(T,)`` or ``(T, D)``.
    hidden : int
        Width of the cell.
    cell : {"gru", "lstm", "rnn"}
    step : int
        Values at a time, for ``(T,)``.

    Raises
    ------
    ValueError
        If `out_shape` is no series, a size is not positive, or there is no such cell.

    References
    ----------
    Srivastava et al., "Unsupervised learning of video representations using LSTMs", arXiv:1502.04681.

    Examples
    --------
    >>> RecurrentDecoder(in_features=3, out_shape=(30,), hidden=16)(torch.zeros(2, 3)).shape
    torch.Size([2, 30])
    """

    def __init__(
        self, in_features: int, out_shape: tuple[int, ...], hidden: int = 64, cell: str = "gru", step: int = 2
    ) -> None:
        super().__init__(in_features, out_shape)
        self.steps = _steps(self.out_shape, step)
        check_sizes(hidden=hidden)
        check_choice("cell", cell, CELLS)
        self.cell = CELLS[cell](in_features, hidden)
        self.head = nn.Linear(hidden, self.steps[1])

    def decode(self, z: Tensor) -> Tensor:
        T, _ = self.steps
        y, _ = self.cell(z.expand(T, *z.shape), self.cell.initial_state(len(z)), z.new_zeros(T, len(z)))
        values = self.head(y).transpose(0, 1).flatten(1)[:, : math.prod(self.out_shape)]
        return values.unflatten(1, self.out_shape)


CELLS = {"gru": GRU, "lstm": LSTM, "rnn": RNN}


def _steps(shape: tuple[int, ...], step: int) -> tuple[int, int]:
    """How many steps a series has, and how many values each of them."""
    check_sizes(step=step)
    if len(shape) > 2:
        raise ValueError(f"a series is [T] or [T, D], got {list(shape)}")
    return (shape[0], shape[1]) if len(shape) == 2 else (-(-shape[0] // step), step)
