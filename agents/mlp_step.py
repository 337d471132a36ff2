"""A small actor-critic MLP by hand: forward and backward pass in numpy.

For two towers of a few thousand weights the arithmetic takes less time than a framework's book-keeping around it.
This is the mathematics of ``ActorCriticPolicy`` with torch's autograd (a test compares them), written out: every array
is laid out once, every operation writes into memory that is already there. What the actions are drawn from is in
`agents.distributions`, what moves the weights in `agents.optimizers`.

Activations are features-first, ``[D + 1, N]``: a layer's outputs lie in one piece, above a last row of ones that meets
the bias, which is the last column of the weights ``[D_out, D_in + 1]``. All weights are one flat vector, for the
optimiser and the gradient's norm. `pull` copies them from the torch policy and `push` copies them back: the policy
stays the truth.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.distributions import Distribution
from agents.optimizers import BY_HAND
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

    def backward(self, delta: np.ndarray) -> None:
        """From the loss's derivative by the outputs ``[D_out, N]`` to the one by each weight, in `grads`.

        Once for each `forward`: the activations are used up.
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


class MLPStep:
    """The policy's two towers, its action distribution and its optimiser, in numpy.

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
    """

    recurrent = False

    def __init__(
        self, policy: Any, columns: Sequence[tuple[str | None, int, bool]], distribution: Callable[..., Distribution]
    ):
        self.policy, self.optimizer = policy, policy.optimizer
        self.action_shape = tuple(policy.action_space.shape)
        self.columns, self.made_from = columns, (policy, columns, distribution)
        self.n_columns = sum(width for _, width, _ in columns) + 1
        nets = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
        towers = [
            [*(module for module in net if isinstance(module, nn.Linear)), head]
            for net, head in zip(nets, (policy.action_net, policy.value_net), strict=True)
        ]
        self.layers = [layer for tower in towers for layer in tower]
        self.log_std = getattr(policy, "log_std", None)
        n_weights = sum(parameter.numel() for parameter in policy.parameters())
        self.flat, self.grad = np.zeros((2, n_weights), np.float32)
        self.adapt = BY_HAND[type(self.optimizer)](n_weights)

        (weights, log_std), (grads, log_std_grad) = self._split(self.flat), self._split(self.grad)
        split, relu = len(towers[0]), any(type(module) is nn.ReLU for net in nets for module in net)
        self.pi = Tower(weights[:split], grads[:split], relu)
        self.vf = Tower(weights[split:], grads[split:], relu)
        self.distribution = distribution(log_std, log_std_grad, self.pi)

        # Each torch parameter beside its place among the weights and the optimiser's moments.
        self.places = list(
            zip(self._parameters(), self._pieces(self.flat), *map(self._pieces, self.adapt.state), strict=True)
        )
        self.memories: dict[int, tuple[torch.Tensor, int, np.ndarray]] = {}
        # What would make another network of it: modules or parameters that change, and hooks.
        self.modules, self.action_dist = list(policy.modules()), policy.action_dist
        owned = [owned for module in self.modules for owned in (module._modules, module._parameters)]
        self.owned = [(now, list(now.values())) for now in owned]
        self.hooks: list[Any] = [
            hooks
            for m in self.modules
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ]
        self.hooks += [self.optimizer._optimizer_step_pre_hooks, self.optimizer._optimizer_step_post_hooks]

    def __reduce__(self) -> tuple[type[MLPStep], tuple[Any, ...]]:
        # Copied piece by piece, the matrices would no longer be views of the flat vector.
        return MLPStep, self.made_from

    def _parameters(self) -> Iterator[nn.Parameter]:
        for layer in self.layers:
            yield layer.weight
            yield layer.bias
        if self.log_std is not None:
            yield self.log_std

    def _split(self, flat: np.ndarray) -> tuple[list[np.ndarray], Any]:
        """Views of a flat vector: one ``[D_out, D_in + 1]`` for each layer, and what is left for `log_std`."""
        matrices, start = [], 0
        for layer in self.layers:
            stop = start + layer.out_features * (layer.in_features + 1)
            matrices.append(flat[start:stop].reshape(layer.out_features, layer.in_features + 1))
            start = stop
        return matrices, None if self.log_std is None else flat[start:].reshape(self.log_std.shape)

    def _pieces(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """The same views, as torch's parameters are cut: weight and bias apart."""
        matrices, log_std = self._split(flat)
        for matrix in matrices:
            yield matrix[:, :-1]
            yield matrix[:, -1]
        if log_std is not None:
            yield log_std

    # -- between torch and here ---------------------------------------------------------------------------------------

    def fits(self, policy: Any) -> bool:
        """Whether this is the network of `policy` as it is now; quick to ask, for it is asked in each rollout."""
        groups = self.optimizer.param_groups
        return (
            policy is self.policy
            and policy.optimizer is self.optimizer
            and policy.action_dist is self.action_dist
            and all(len(now) == len(then) and all(map(operator.is_, now.values(), then)) for now, then in self.owned)
            and all(p.requires_grad and p.is_cpu and p.dtype == torch.float32 for p, *_ in self.places)
            and len(groups) == 1
            and not self.adapt.refusal(groups[0])
            and not any(self.hooks)
            and not any(p._backward_hooks or p._post_accumulate_grad_hooks for p, *_ in self.places)
        )

    def begin_rollout(self, n_steps: int, n_envs: int) -> None:
        """Take the policy's weights."""
        self._set_mode(False)
        self.pull()

    def begin_update(self) -> None:
        """Take the policy's weights and its optimiser's state."""
        self._set_mode(True)
        self.pull()
        self.pull_optimizer()

    def _set_mode(self, training: bool) -> None:
        # ``policy.train(mode)`` takes longer than a step of all environments; no module here behaves otherwise by it.
        for module in self.modules:
            module.__dict__["training"] = training

    def _array(self, tensor: torch.Tensor) -> np.ndarray:
        """The tensor's own memory in numpy: asked of torch once, as long as it stays where it is."""
        known = self.memories.get(id(tensor))
        if known is None or known[0] is not tensor or known[1] != tensor.data_ptr():
            known = self.memories[id(tensor)] = tensor, tensor.data_ptr(), tensor.detach().numpy()
        return known[2]

    def end_update(self) -> None:
        """Give both back."""
        self.push()

    def pull(self) -> None:
        """Copy the weights of the torch policy."""
        for parameter, weight, *_ in self.places:
            weight[...] = self._array(parameter)

    def pull_optimizer(self) -> None:
        """Copy the state of the torch optimiser: moments, step count, settings."""
        self.adapt.read(self.optimizer.param_groups[0])
        self.adapt.t = 0
        for parameter, _, *moments in self.places:
            state = self.optimizer.state.get(parameter)
            for name, moment in zip(self.adapt.moments, moments, strict=True):
                moment[...] = self._array(state[name]) if state else 0.0
            self.adapt.t = int(state["step"]) if state else 0

    def push(self) -> None:
        """Copy weights and moments back to the torch policy and its optimiser."""
        for parameter, weight, *moments in self.places:
            self._array(parameter)[...] = weight
            state = self.optimizer.state[parameter]
            if not state:  # as the optimiser itself starts
                state["step"] = torch.tensor(0.0)
                state.update((name, torch.zeros_like(parameter.detach())) for name in self.adapt.moments)
            self._array(state["step"])[...] = self.adapt.t
            for name, moment in zip(self.adapt.moments, moments, strict=True):
                self._array(state[name])[...] = moment

    # -- the network --------------------------------------------------------------------------------------------------

    def inputs(self, obs: Any) -> np.ndarray:
        """Observations of N, in SB3's forms -> ``[N, D + 1]`` float32 with a last column of ones."""
        parts = [obs if key is None else obs[key] for key, _, _ in self.columns]
        x = np.ones((len(parts[0]), self.n_columns), np.float32)
        start = 0
        for values, (_, width, one_hot) in zip(parts, self.columns, strict=True):
            rows = values.reshape(len(x), -1)
            x[:, start : start + width] = rows == np.arange(width) if one_hot else rows
            start += width
        return x

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
        out, values = self.pi.forward(x), self.vf.forward(x)[0]
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
        out, values = self.pi.forward(x), self.vf.forward(x)[0]
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

    def step(self, max_grad_norm: float) -> float:
        """One step of the optimiser on the clipped gradient; returns its norm before clipping."""
        norm = math.sqrt(float(np.dot(self.grad, self.grad)))
        if math.isfinite(norm):
            scale = min(max_grad_norm / (norm + 1e-6), 1.0)
            if scale < 1.0:
                self.grad *= scale
            self.adapt.step(self.flat, self.grad)
        return norm
