"""Recurrent layers by hand: LSTM, GRU and RNN of torch, forward through time and back, in numpy.

In a small one most of the time goes into the calls, not into the arithmetic. So M layers of one shape (a policy's and
its value function's) run as one; all that needs no earlier step is done for all steps at once, before the loop or after
it; and what is left, the product with the state and the gates, works on memory that lies in one piece: time first, then
gates, ``[T, G, M, B, H]``. A logistic gate is a tanh of half its argument, ``(1 + tanh(x / 2)) / 2``, so that one call
does all gates of an LSTM.

Legend: `M` layers side by side, `G` gates, `R` vectors of a state, `H` units, `D` inputs, `T` steps, `B` columns.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from agents.rollout import Columns


class Memory:
    """Arrays by name, of any shape, in memory that is asked for once: it is the pages' first touch that takes time."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        size = math.prod(shape)
        if name not in self.arrays or self.arrays[name].size < size:
            self.arrays[name] = np.empty(size, np.float32)
        return self.arrays[name][:size].reshape(shape)


class Cell:
    """One recurrent layer, or M of them side by side; a subclass has the gates.

    Parameters
    ----------
    weights, grads : (inputs [M, G·H, D + 1], recurrent [M, G·H, H], bias [M, G·H])
        As torch has them, the bias of the inputs as their last column; the other one is that of the recurrent product.

    Examples
    --------
    >>> from agents.rollout import pack
    >>> lstm = LSTM(*([np.zeros((1, 4, 2)), np.zeros((1, 4, 1)), np.zeros((1, 4))] for _ in range(2)))
    >>> lstm.prepare()
    >>> once = pack(np.array([True]))
    >>> lstm.forward(np.ones((1, 1, 1, 2)), once, np.array([[[[0.0]], [[1.0]]]])).round(3)  # tanh(c / 2) / 2
    array([[[[0.231]]]], dtype=float32)
    """

    gates: ClassVar[int]
    rows: ClassVar[int] = 1
    scale: ClassVar[tuple[float, ...]]  # of each gate's argument: 1/2 for a logistic one, else 1

    def __init__(self, weights: Any, grads: Any):
        def by_gate(array: np.ndarray) -> np.ndarray:  # [M, G·H, ...] -> [G, M, H, ...]
            return array.reshape(len(array), self.gates, -1, *array.shape[2:]).swapaxes(0, 1)

        self.inputs, self.recurrent, self.bias = map(by_gate, weights)
        self.grads = [by_gate(grad) for grad in grads]
        self.factor = np.array(self.scale, np.float32).reshape(-1, 1, 1, 1)
        self.memory = Memory()

    def prepare(self) -> None:
        """Lay out the weights for the way forward; after each change of them."""
        # Activations times [D, H]: several times as fast as times the transpose of torch's [H, D].
        self.into = np.multiply(self.inputs.swapaxes(2, 3), self.factor, order="C")
        self.across = np.multiply(self.recurrent.swapaxes(2, 3), self.factor, order="C")
        self.into[:, :, -1] += self.factor[:, 0] * self.bias

    def forward(self, x: np.ndarray, columns: Columns, stored: np.ndarray) -> np.ndarray:
        """Outputs of all steps; what `backward` needs is kept.

        Parameters
        ----------
        x : [T, 1 or M, B, D + 1]
            Its last column is ones.
        columns : Columns
        stored : [sequences, R, M, H]
            The states from which they begin.

        Returns
        -------
        [T, M, B, H]
        """
        self.x, self.goes_on = x, columns.goes_on
        self.shape = T, M, B, H = len(x), self.bias.shape[1], x.shape[2], self.bias.shape[2]
        self.z = np.matmul(x[:, None], self.into, out=self.memory("z", T, self.gates, M, B, H))
        self.before, self.after = (self.memory(name, T, self.rows, M, B, H) for name in ("before", "after"))
        self.product, self.scratch = self.memory("product", self.gates, M, B, H), self.memory("scratch", M, B, H)
        self.kept = self.memory("kept", T, M, B, H)
        # Written out, for arrays of one shape are multiplied in a fifth of the time of a broadcast.
        self.squash = self.memory("squash", 2, self.gates, M, B, H)
        self.squash[0], self.squash[1] = self.factor, 1.0 - self.factor
        self.before[columns.t[columns.begins], :, :, columns.b[columns.begins]] = stored
        for t, goes_on in enumerate(self.goes_on):
            if goes_on is None:
                self.before[t] = self.after[t - 1]
            elif t:
                np.copyto(self.before[t], self.after[t - 1], where=goes_on)
            np.matmul(self.before[t, 0], self.across, out=self.product)
            self.advance(self.z[t], self.before[t], self.after[t], self.kept[t])
        return self.after[:, 0]

    def backward(self, by_output: np.ndarray) -> None:
        """From the loss's derivative by the outputs ``[T, M, B, H]`` to that by the weights, in `grads`.

        Once for each `forward`, whose activations are used up; so is `by_output`.
        """
        T, M, B, H = self.shape
        self.deltas = self.memory("deltas", T, self.gates, M, B, H)
        self.differentiate(self.deltas)
        by_state = self.memory("by_state", self.rows, M, B, H)
        by_state[...] = 0.0
        for t in reversed(range(T)):
            by_state[0] += by_output[t]
            self.retreat(t, by_state)
            if self.goes_on[t] is not None:
                by_state *= self.goes_on[t]  # where a sequence begins, the state is a constant

        self.by_z = self._by_layer(self.deltas, "by_z")
        inputs, recurrent, bias = self.grads
        np.matmul(self.by_z.swapaxes(2, 3), self._by_layer(self.before[:, :1], "h"), out=recurrent)
        self.turn_to_inputs()
        np.matmul(self.by_z.swapaxes(2, 3), self.x.swapaxes(0, 1).reshape(self.x.shape[1], T * B, -1), out=inputs)
        bias[...] = inputs[..., -1]

    def by_input(self) -> np.ndarray:
        """The loss's derivative by the input, ``[T, M, B, D]``; after `backward`."""
        T, M, B, _ = self.shape
        by_x = (self.by_z @ self.inputs[..., :-1]).sum(axis=0)  # [M, T·B, D]
        return by_x.reshape(M, T, B, -1).swapaxes(0, 1)

    def _by_layer(self, array: np.ndarray, name: str) -> np.ndarray:
        """A copy ``[T, G, M, B, H] -> [G, M, T·B, H]``: the steps as the rows of one matrix."""
        T, G, M, B, H = array.shape
        copy = self.memory(name, G, M, T, B, H)
        copy[...] = array.transpose(1, 2, 0, 3, 4)
        return copy.reshape(G, M, T * B, H)

    def _through(self, t: int, by_h: np.ndarray) -> None:
        """From the derivative by the gates' arguments at step t to that by the output before it."""
        np.matmul(self.deltas[t], self.recurrent, out=self.product)
        np.add.reduce(self.product, axis=0, out=by_h)

    # What a subclass has of its own.

    def advance(self, z: np.ndarray, before: np.ndarray, after: np.ndarray, kept: np.ndarray) -> None:
        """One step: from the state `before` to that `after` it, ``[R, M, B, H]``.

        The input's share ``z [G, M, B, H]`` of the gates' arguments and the state's, which is in `product`, become the
        gates; ``kept [M, B, H]`` is for whatever else `differentiate` wants to know.
        """
        raise NotImplementedError

    def differentiate(self, deltas: np.ndarray) -> None:
        """For all steps, what of the derivative by the gates' arguments needs no later step."""
        raise NotImplementedError

    def retreat(self, t: int, by_state: np.ndarray) -> None:
        """One step back: finish ``deltas[t]``; turn the derivative by the state after the step to that before it."""
        raise NotImplementedError

    def turn_to_inputs(self) -> None:
        """Turn `by_z` from the derivative by the state's share of the gates' arguments to that by the input's."""


class LSTM(Cell):
    """Gates i, f, g, o: ``c' = f c + i g``, ``h' = o tanh c'``; the state is h and c."""

    gates, rows, scale = 4, 2, (0.5, 0.5, 1.0, 0.5)

    def advance(self, z: np.ndarray, before: np.ndarray, after: np.ndarray, kept: np.ndarray) -> None:
        z += self.product
        np.tanh(z, out=z)
        z *= self.squash[0]
        z += self.squash[1]
        h, c = after
        np.multiply(z[1], before[1], out=c)
        np.multiply(z[0], z[2], out=h)
        c += h
        np.tanh(c, out=kept)
        np.multiply(z[3], kept, out=h)

    def differentiate(self, deltas: np.ndarray) -> None:
        i, _, g, o = self.z.swapaxes(0, 1)
        np.subtract(1.0, self.z, out=deltas)
        deltas *= self.z  # s (1 - s), for a logistic s
        by_i, by_f, by_g, by_o = deltas.swapaxes(0, 1)
        by_i *= g
        by_f *= self.before[:, 1]
        np.multiply(g, g, out=by_g)
        np.subtract(1.0, by_g, out=by_g)
        by_g *= i
        by_o *= self.kept
        # Of c' by h', in the place of tanh c': o (1 - tanh^2 c').
        np.multiply(self.kept, self.kept, out=self.kept)
        np.subtract(1.0, self.kept, out=self.kept)
        self.kept *= o

    def retreat(self, t: int, by_state: np.ndarray) -> None:
        by_h, by_c = by_state
        by_z = self.deltas[t]
        np.multiply(by_h, self.kept[t], out=self.scratch)
        by_c += self.scratch
        by_z[:3] *= by_c
        by_z[3] *= by_h
        by_c *= self.z[t, 1]
        self._through(t, by_h)


class GRU(Cell):
    """Gates r, z, n: ``n = tanh(x' + r (W h + b))``, ``h' = (1 - z) n + z h``."""

    gates, scale = 3, (0.5, 0.5, 1.0)

    def prepare(self) -> None:
        super().prepare()
        self.into[2, :, -1] -= self.bias[2]  # it goes through the gate r, and not with the input

    def advance(self, z: np.ndarray, before: np.ndarray, after: np.ndarray, kept: np.ndarray) -> None:
        np.add(self.product[2], self.bias[2][:, None], out=kept)
        gates, n, h = z[:2], z[2], after[0]
        gates += self.product[:2]
        np.tanh(gates, out=gates)
        gates *= 0.5
        gates += 0.5
        np.multiply(z[0], kept, out=h)
        n += h
        np.tanh(n, out=n)
        np.subtract(before[0], n, out=h)
        h *= z[1]
        h += n

    def differentiate(self, deltas: np.ndarray) -> None:
        r, z, n = self.z.swapaxes(0, 1)
        by_r, by_z, by_n = deltas.swapaxes(0, 1)
        self.by_n = by_input = (1.0 - z) * (1.0 - n * n)
        np.multiply(by_input, r, out=by_n)
        np.multiply(by_n, 1.0 - r, out=by_r)
        by_r *= self.kept
        np.subtract(self.before[:, 0], n, out=by_z)
        by_z *= z * (1.0 - z)

    def retreat(self, t: int, by_state: np.ndarray) -> None:
        by_h = by_state[0]
        self.deltas[t] *= by_h
        self.by_n[t] *= by_h
        np.multiply(by_h, self.z[t, 1], out=self.scratch)
        self._through(t, by_h)
        by_h += self.scratch

    def backward(self, by_output: np.ndarray) -> None:
        super().backward(by_output)
        np.sum(self.deltas[:, 2], axis=(0, 2), out=self.grads[2][2])

    def turn_to_inputs(self) -> None:
        self.by_z[2] = self._by_layer(self.by_n[:, None], "h")[0]


class RNN(Cell):
    """Elman's: ``h' = tanh(x' + W h)``."""

    gates, scale = 1, (1.0,)

    def advance(self, z: np.ndarray, before: np.ndarray, after: np.ndarray, kept: np.ndarray) -> None:
        np.add(z, self.product, out=after)
        np.tanh(after, out=after)

    def differentiate(self, deltas: np.ndarray) -> None:
        np.multiply(self.after, self.after, out=deltas)
        np.subtract(1.0, deltas, out=deltas)

    def retreat(self, t: int, by_state: np.ndarray) -> None:
        self.deltas[t] *= by_state
        self._through(t, by_state[0])


CELLS: dict[str, type[Cell]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
