"""A small actor-critic MLP by hand: forward and backward pass in numpy.

For two towers of a few thousand weights the arithmetic takes less time than a framework's book-keeping around it.
This is the mathematics of ``ActorCriticPolicy`` with torch's autograd (a test compares them), written out: every array
is laid out once, every operation writes into memory that is already there. What the actions are drawn from is in
`agents.distributions`, where the weights lie and what moves them in `agents.flat_weights`.

Activations are features-first, ``[D + 1, N]``: a layer's outputs lie in one piece, above a last row of ones that meets
the bias, which is the last column of the weights ``[D_out, D_in + 1]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.distributions import Distribution
from agents.flat_weights import Block, FlatWeights, linear
from agents.rollout import Samples


class Tower:
    """One MLP over weights ``[D_out, D_in + 1]``, a layer each, the last one linear."""

    def __init__(self, weights: list[np.ndarray], grads: list[np.ndarray], relu: bool):
        self.weights, self.grads, self.relu = weights, grads, relu
        self.memory: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def layers(self, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each hidden layer its activations ``[D + 1, n]`` and, ``[D, n]``, their gradient."""
        if n not in self.memory:
            if len(self.memory) > 8:  # sizes seldom vary: rollout, minibatch, its remainder
                self.memory.clear()
            widths = [len(weight) for weight in self.weights[:-1]]
            self.memory[n] = [(np.ones((d + 1, n), np.float32), np.empty((d, n), np.float32)) for d in widths]
        return self.memory[n]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """``x [D + 1, N]``, its last row ones -> outputs ``[D_out, N]``; what `backward` needs is kept."""
        self.x, self.kept = x, self.layers(x.shape[1])
        for weight, (buffer, _) in zip(self.weights, self.kept, strict=False):
            h = buffer[:-1]
            np.matmul(weight, x, out=h)
            np.maximum(h, 0.0, out=h) if self.relu else np.tanh(h, out=h)
            x = buffer
        return self.weights[-1] @ x

    @property
    def latent(self) -> np.ndarray:
        """The last hidden layer of the last `forward`, ``[D, N]``: what the output layer saw."""
        return (self.kept[-1][0] if self.kept else self.x)[:-1]

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """As `forward`, but nothing is kept: for batches of any size, from any thread."""
        for weight in self.weights[:-1]:
            h = weight @ x
            x = np.concatenate([np.maximum(h, 0.0) if self.relu else np.tanh(h), np.ones_like(x[:1])])
        return self.weights[-1] @ x

    def backward(self, delta: np.ndarray) -> np.ndarray:
        """From the loss's derivative by the outputs ``[D_out, N]`` to the one by each weight, in `grads`.

        Once for each `forward`: the activations are used up. Returned is the derivative by what the first layer gives
        before its activation, from which `by_input` goes on.
        """
        for i in range(len(self.weights) - 1, 0, -1):
            below, gradient = self.kept[i - 1]
            np.matmul(delta, below.T, out=self.grads[i])
            # For one output the product is an outer one, for which BLAS takes six times as long as a multiplication.
            product = np.matmul if len(delta) > 1 else np.multiply
            product(self.weights[i][:, :-1].T, delta, out=gradient)
            h = below[:-1]
            if self.relu:
                np.greater(h, 0.0, out=h)
            else:  # tanh' = 1 - tanh^2
                np.multiply(h, h, out=h)
                np.subtract(1.0, h, out=h)
            delta = np.multiply(gradient, h, out=gradient)
        np.matmul(delta, self.x.T, out=self.grads[0])
        return delta

    def by_input(self, delta: np.ndarray) -> np.ndarray:
        """The loss's derivative by the input, ``[N, D]``, from what `backward` gave back."""
        return delta.T @ self.weights[0][:, :-1]


Columns = Sequence[tuple[str | None, int, bool]]


def numbers(obs: Any, columns: Columns) -> np.ndarray:
    """Observations of N, in SB3's forms -> ``[N, D + 1]`` float32 with a last column of ones.

    Examples
    --------
    >>> numbers(np.array([2, 0]), [(None, 3, True)]).tolist()  # one choice of three
    [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]]
    """
    parts = [obs if key is None else obs[key] for key, _, _ in columns]
    x = np.ones((len(parts[0]), sum(width for _, width, _ in columns) + 1), np.float32)
    start = 0
    for values, (_, width, one_hot) in zip(parts, columns, strict=True):
        rows = values.reshape(len(x), -1)
        x[:, start : start + width] = rows == np.arange(width) if one_hot else rows
        start += width
    return x


class MLPStep(FlatWeights):
    """The policy's two towers and its action distribution, in numpy.

    Parameters
    ----------
    policy : stable_baselines3 ActorCriticPolicy
        One that `agents.by_hand.refusal` has no objection to.
    columns : sequence of (key, width, one_hot)
        The parts of an observation, in order: its key (None if the observation is no dictionary), how many inputs it
        gives, and whether it is a number to be written as one of so many.
    distribution : callable
        ``(log_std, log_std_grad, tower) -> Distribution``, given the views of the parameter `log_std`, if there is one,
        and the policy's tower.
    below : sequence of Block
        What stands between the observations and the towers, for a subclass that has something there.
    """

    recurrent = False
    frozen = False
    acting_threads: int | None = None  # it all runs on one

    def __init__(
        self,
        policy: Any,
        columns: Columns,
        distribution: Callable[..., Distribution],
        below: Sequence[Block] = (),
    ):
        self.columns, self.made_from = columns, (policy, columns, distribution)
        self.action_shape = tuple(policy.action_space.shape)
        nets = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
        towers = [
            [*(module for module in net if isinstance(module, nn.Linear)), head]
            for net, head in zip(nets, (policy.action_net, policy.value_net), strict=True)
        ]
        parameters = [policy.log_std] if hasattr(policy, "log_std") else []
        blocks = [linear(layer) for tower in towers for layer in tower]
        blocks += [Block(tuple(parameter.shape), [parameter], lambda array: [array]) for parameter in parameters]
        super().__init__(policy, [*blocks, *below])

        weights, grads = self.views(self.flat), self.views(self.grad)
        split, end, relu = len(towers[0]), sum(map(len, towers)), any(type(m) is nn.ReLU for net in nets for m in net)
        self.pi = Tower(weights[:split], grads[:split], relu)
        self.vf = Tower(weights[split:end], grads[split:end], relu)
        log_std, log_std_grad = (weights[end], grads[end]) if parameters else (None, None)
        self.distribution = distribution(log_std, log_std_grad, self.pi)
        self.below = weights[len(blocks) :], grads[len(blocks) :]

    def __reduce__(self) -> tuple[type[MLPStep], tuple[Any, ...]]:
        # Copied piece by piece, the matrices would no longer be views of the flat vector.
        return type(self), self.made_from

    def inputs(self, obs: Any) -> np.ndarray:
        """Observations of N, in SB3's forms -> ``[N, D + 1]`` float32 with a last column of ones."""
        return numbers(obs, self.columns)

    def best_actions(self, obs: Any, masks: np.ndarray | None = None) -> np.ndarray:
        """The likeliest actions for observations of N, ``[N, ...]``."""
        self.pull()
        best = self.distribution.best(self.pi.outputs(self.inputs(obs).T), masks)
        return best.reshape(-1, *self.action_shape)

    def values(self, obs: Any, state: None = None) -> np.ndarray:
        """V of observations of N -> ``[N]``."""
        return self.vf.outputs(self.inputs(obs).T)[0]

    @staticmethod
    def array(rows: np.ndarray) -> np.ndarray:
        """Any other rows, as they are."""
        return rows

    def act(
        self, obs: Any, starts: Any = None, masks: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, torch.Tensor, torch.Tensor]:
        """Sample actions.

        Parameters
        ----------
        obs : observations of B
        starts : ignored
            This network remembers nothing.
        masks : [B, A] booleans, optional

        Returns
        -------
        obs, actions, values, log_probs : of B, [B, ...], [B, 1], [B]
            All but the actions as tensors, as Stable-Baselines3's callbacks see them.
        """
        x = self.inputs(obs).T
        return self._act(obs, x, x, masks)

    def _act(self, obs: Any, x_pi: np.ndarray, x_vf: np.ndarray, masks: np.ndarray | None) -> Any:
        out, values = self.pi.forward(x_pi), self.vf.forward(x_vf)[0]
        actions, log_probs = self.distribution.act(out, masks)
        tensors = {key: torch.as_tensor(rows) for key, rows in obs.items()} if isinstance(obs, dict) else None
        return (
            torch.as_tensor(obs) if tensors is None else tensors,
            actions.reshape(-1, *self.action_shape),
            torch.from_numpy(values)[:, None],
            torch.from_numpy(log_probs),
        )

    def forward(self, batch: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the policy thinks of the actions now: ``log_probs [N], values [N], entropy [N]``; kept for `backward`.

        ``batch.obs`` is what `inputs` made.
        """
        x = batch.obs.T
        return self._judge(batch, x, x)

    def _judge(self, batch: Samples, x_pi: np.ndarray, x_vf: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        out, values = self.pi.forward(x_pi), self.vf.forward(x_vf)[0]
        log_probs, entropy = self.distribution.forward(out, batch.actions, batch.masks)
        return log_probs, values, entropy

    def backward(self, by_log_probs: np.ndarray, by_values: np.ndarray, by_entropy: float) -> None:
        """Fill `grad` from the loss's derivative by the three outputs of `forward`.

        Parameters
        ----------
        by_log_probs, by_values : [N]
        by_entropy : float
            One for all samples, as in every actor-critic loss.
        """
        self.pi.backward(self.distribution.backward(by_log_probs, by_entropy))
        self.vf.backward(by_values[None])
