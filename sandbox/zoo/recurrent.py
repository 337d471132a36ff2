"""Recurrent networks, time-major, with resets at episode starts."""

import torch
from torch import Tensor, nn

from sandbox.zoo.contracts import Recurrent, check_sizes


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
