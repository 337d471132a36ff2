"""A small actor-critic with a memory by hand: `agents.mlp_step` over the recurrent layers of `agents.cells`.

In a rollout it takes a step at a time; in an update the sequences of a minibatch stand in columns, one below the other,
so that there are as few steps as the longest has, and no padding but at the foot of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from agents.cells import CELLS
from agents.distributions import Distribution
from agents.flat_weights import Block
from agents.mlp_step import MLPStep
from agents.rollout import Columns, Samples, pack


def recurrent_layer(cores: Sequence[Any], layer: int) -> list[Block]:
    """The `layer`-th layer of M recurrent networks of torch: inputs with their bias, recurrent weights, their bias.

    Examples
    --------
    >>> import torch
    >>> [block.shape for block in recurrent_layer([torch.nn.LSTM(3, 2), torch.nn.LSTM(3, 2)], 0)]
    [(2, 8, 4), (2, 8, 2), (2, 8)]
    """
    names = "weight_ih", "bias_ih", "weight_hh", "bias_hh"
    w, b, w_h, b_h = ([getattr(core, f"{name}_l{layer}") for core in cores] for name in names)
    rows, width = w[0].shape
    return [
        Block((len(cores), rows, width + 1), [*w, *b], lambda array: [*array[..., :-1], *array[..., -1]]),
        Block((len(cores), *w_h[0].shape), w_h, list),
        Block((len(cores), rows), b_h, list),
    ]


class RecurrentStep(MLPStep):
    """As `MLPStep`, with a memory below the towers, or one below each.

    Parameters
    ----------
    policy, columns, distribution
        As for `MLPStep`.

    Attributes
    ----------
    state : [S, B, H] floats
        What the memory holds now, after the last step that was acted on.
    states : [T, B, S, H] floats
        What it held before each step of the rollout.

    Examples
    --------
    >>> from gymnasium import spaces
    >>> from agents.by_hand import network
    >>> from agents.recurrent import RecurrentActorCriticPolicy
    >>> box, two = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
    >>> step = network(RecurrentActorCriticPolicy(box, two, lambda _: 1e-3, memory="lstm"))
    >>> step.begin_rollout(1, 5)
    >>> step.act(np.zeros((5, 3)), np.ones(5, bool))[1].shape, step.states.shape
    ((5,), (1, 5, 2, 256))
    """

    recurrent = True

    def __init__(
        self,
        policy: Any,
        columns: Sequence[tuple[str | None, int, bool]],
        distribution: Callable[..., Distribution],
    ):
        cores = [memory.core for memory in policy.memories]
        cell, n_layers = CELLS[type(cores[0]).__name__], cores[0].num_layers
        blocks = [block for layer in range(n_layers) for block in recurrent_layer(cores, layer)]
        super().__init__(policy, columns, distribution, blocks)
        weights, grads = self.below
        self.cells = [cell(weights[i : i + 3], grads[i : i + 3]) for i in range(0, len(blocks), 3)]
        # How a state's S rows are arranged: memories, vectors of a layer's state, layers.
        self.arranged = len(cores), cell.rows, n_layers
        self.width = cores[0].hidden_size
        self.state = self._initial(0)
        self.packed: tuple[Any, Columns | None] = None, None

    def __reduce__(self) -> Any:
        return *super().__reduce__(), {"state": self.state}

    def _initial(self, n: int) -> np.ndarray:
        return np.zeros((int(np.prod(self.arranged)), n, self.width), np.float32)

    def begin_rollout(self, n_steps: int, n_envs: int) -> None:
        """Take the policy's weights; the memory goes on where it was."""
        super().begin_rollout(n_steps, n_envs)
        if self.state.shape[1] != n_envs:
            self.state = self._initial(n_envs)
        self.t, self.states = 0, np.zeros((n_steps, n_envs, *self.state.shape[::2]), np.float32)

    def pull(self) -> None:
        super().pull()
        self._prepare()

    def step(self, max_grad_norm: float) -> float:
        norm = super().step(max_grad_norm)
        self._prepare()
        return norm

    def _prepare(self) -> None:
        for cell in self.cells:
            cell.prepare()

    # -- the network --------------------------------------------------------------------------------------------------

    def act(self, obs: Any, starts: Any = None, masks: np.ndarray | None = None) -> Any:
        """As `MLPStep.act`; the memory is cleared where an episode starts, ``[B]`` booleans."""
        state = self.states[self.t]
        state[...] = self.state.swapaxes(0, 1)
        if starts is not None:
            state[np.asarray(starts, bool)] = 0.0
        self.t += 1
        seen = self._remember(self.inputs(obs), _one_step(len(state)), state)
        after = [cell.after[0].swapaxes(0, 1) for cell in self.cells]  # [M, R, B, H] each
        self.state = np.stack(after, axis=2).reshape(self.state.shape)
        return self._act(obs, seen[0], seen[-1], masks)

    def values(self, obs: Any, state: np.ndarray | None = None) -> np.ndarray:
        """V of observations of N after what `state` ``[S, N, H]`` remembers, by default the present one -> ``[N]``."""
        before = (self.state if state is None else state).swapaxes(0, 1)
        return self.vf.outputs(self._remember(self.inputs(obs), _one_step(len(before)), before)[-1])[0]

    def forward(self, batch: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `MLPStep.forward`, of whole sequences: see `Samples.first`."""
        if self.packed[0] is not batch.first:  # often it is the same minibatch again
            self.packed = batch.first, pack(batch.first)
        columns: Any = self.packed[1]
        seen = self._remember(batch.obs, columns, batch.states[columns.begins])
        return self._judge(batch, seen[0], seen[-1])

    def _remember(self, inputs: np.ndarray, columns: Columns, states: np.ndarray) -> np.ndarray:
        """``[N, D + 1]``, and before each sequence the state ``[n, S, H]`` -> what towers see, ``[M, H + 1, N]``."""
        self.columns_of = columns
        states = states.reshape(len(states), *self.arranged, self.width)
        x = inputs[columns.samples][:, None]  # [T, 1, B, D + 1]
        for i, cell in enumerate(self.cells):
            y = cell.forward(x, columns, states[:, :, :, i].swapaxes(1, 2))  # [T, M, B, H]
            if cell is not self.cells[-1]:
                x = np.concatenate([y, np.ones_like(y[..., :1])], axis=-1)
        seen = np.ones((len(inputs), self.arranged[0], self.width + 1), np.float32)
        seen[..., :-1] = y[columns.t, :, columns.b]
        return seen.transpose(1, 2, 0)

    def backward(self, by_log_probs: np.ndarray, by_values: np.ndarray, by_entropy: float) -> None:
        """As `MLPStep.backward`, and on through the memory to the first step of each sequence."""
        columns = self.columns_of
        by_pi = self.pi.by_input(self.pi.backward(self.distribution.backward(by_log_probs, by_entropy)))
        by_vf = self.vf.by_input(self.vf.backward(by_values[None]))
        by_y = np.zeros(self.cells[-1].shape, np.float32)  # [T, M, B, H]
        by_y[columns.t, 0, columns.b] = by_pi
        by_y[columns.t, -1, columns.b] += by_vf
        for cell in reversed(self.cells):
            cell.backward(by_y)
            if cell is not self.cells[0]:
                by_y = cell.by_input()


@lru_cache(maxsize=32)
def _one_step(n: int) -> Columns:
    """The next step of n sequences, side by side."""
    return pack(np.ones(n, bool))
