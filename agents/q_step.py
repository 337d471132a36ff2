"""A small Q-network by hand: forward and backward pass in numpy, as `agents.mlp_step` does for two towers.

The target network's weights are a second vector. It stands still while the agent learns, so that what it says of all
minibatches of a call is one large product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from agents.flat_weights import FlatWeights, linear
from agents.mlp_step import Columns, Tower, numbers
from agents.q_heads import dueling

BLOCK = 256  # rows whose activations, of some hundred units, stay in the cache


class QStep(FlatWeights):
    """Outputs ``[N, A, K]`` of a DQN policy's two networks, in numpy.

    Parameters
    ----------
    policy : DQNPolicy
        One that `agents.by_hand.q_refusal` has no objection to.
    columns : sequence of (key, width, one_hot)
        The parts of an observation, as for `agents.mlp_step.MLPStep`.
    """

    acting_threads: int | None = None  # it all runs on one
    frozen = False

    def __init__(self, policy: Any, columns: Columns):
        self.columns, self.made_from = columns, (policy, columns)
        online, target = policy.q_net, getattr(policy, "q_net_target", None)
        self.head, self.n_actions = online.head, online.n_actions
        streams = [[m for m in stream if isinstance(m, nn.Linear)] for stream in _streams(online)]
        slow = [] if target is None else _streams(target)
        self.target_layers = [m for stream in slow for m in stream if isinstance(m, nn.Linear)]
        super().__init__(policy, [linear(layer) for stream in streams for layer in stream])
        relu = any(type(m) is nn.ReLU for m in online.q_net)
        self.target_flat = np.zeros_like(self.flat)
        self.online = self._towers(self.flat, [len(stream) for stream in streams], relu)
        self.target = self._towers(self.target_flat, [len(stream) for stream in streams], relu)

    def _towers(self, flat: np.ndarray, lengths: list[int], relu: bool) -> list[Tower]:
        weights, grads, towers = self.views(flat), self.views(self.grad), []
        for n in lengths:
            towers.append(Tower(weights[:n], grads[:n], relu))
            weights, grads = weights[n:], grads[n:]
        return towers

    def __reduce__(self) -> tuple[type[QStep], tuple[Any, ...]]:
        # Copied piece by piece, the matrices would no longer be views of the flat vector.
        return type(self), self.made_from

    def prepare(self, n: int) -> None:
        """Take the policy's weights, to answer for `n` observations outside of a rollout."""
        self.pull()

    def reset_noise(self) -> None:
        """Nothing here is noisy."""

    hush = reset_noise

    @staticmethod
    def rows(n: int) -> np.ndarray:
        """0, 1, ... n - 1."""
        return np.arange(n)

    def begin_update(self) -> None:
        """Take both networks' weights and the optimiser's state."""
        super().begin_update()
        for view, layer in zip(self.views(self.target_flat), self.target_layers, strict=False):  # PQN has no target
            view[:, :-1], view[:, -1] = self._array(layer.weight), self._array(layer.bias)

    def inputs(self, obs: Any) -> np.ndarray:
        """Observations of N, in SB3's forms -> ``[N, D + 1]`` float32 with a last column of ones."""
        return numbers(obs, self.columns)

    @staticmethod
    def array(rows: np.ndarray) -> np.ndarray:
        """Any other rows, as they are."""
        return rows

    def q_values(self, obs: Any) -> np.ndarray:
        """Of observations of N: ``[N, A]``, by the weights of the last `pull`."""
        return self.head.q_values(self.choice(self.inputs(obs)))

    def greedy(self, obs: Any) -> np.ndarray:
        """The best actions ``[N]`` for observations of N."""
        return self.q_values(obs).argmax(1)

    def next_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the target network says of `inputs`: ``[N, A, K]``."""
        blocks = np.split(inputs, range(BLOCK, len(inputs), BLOCK))
        # Copied: it lies in memory that the next block is written into.
        return np.concatenate([self._read([tower.forward(block.T) for tower in self.target]) for block in blocks])

    def choice(self, inputs: np.ndarray) -> np.ndarray:
        """What the online network says of `inputs`, with nothing kept: ``[N, A, K]``."""
        return self._read([tower.outputs(inputs.T) for tower in self.online])

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """The same, kept for `backward`."""
        return self._read([tower.forward(inputs.T) for tower in self.online])

    def _read(self, streams: list[np.ndarray]) -> np.ndarray:
        outputs = streams[0].reshape(self.n_actions, self.head.n_outputs, -1).transpose(2, 0, 1)
        return outputs if len(streams) == 1 else dueling(streams[1].T[:, None], outputs)

    def backward(self, actions: np.ndarray, by_outputs: np.ndarray) -> None:
        """Fill `grad` from the loss's derivative by the outputs of the actions taken, ``[N], [N, K]``."""
        n = len(actions)
        by_stream = np.zeros((self.n_actions, self.head.n_outputs, n), np.float32)
        by_stream[actions, :, np.arange(n)] = by_outputs
        if len(self.online) == 2:  # dueling: V stands for every action, and the advantages' mean is taken off
            by_values = by_outputs.T.astype(np.float32)
            self.online[1].backward(by_values)
            by_stream -= by_values / self.n_actions
        self.online[0].backward(by_stream.reshape(-1, n))


def _streams(net: Any) -> list[Any]:
    return [net.q_net] if net.value_net is None else [net.q_net, net.value_net]
