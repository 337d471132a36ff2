"""A torch policy's weights as one flat vector in numpy, with its optimiser and the way there and back.

What `agents.mlp_step` and `agents.recurrent_step` compute with are views of one vector, so that the optimiser and the
gradient's norm are a few operations, however many layers there are. `pull` copies the weights from the torch policy
and `push` copies them back: the policy stays the truth.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from agents.optimizers import BY_HAND


class Block(NamedTuple):
    """Parameters that are computed with as one array: its shape, and how to cut it into them again."""

    shape: tuple[int, ...]
    parameters: list[nn.Parameter]
    cut: Callable[[np.ndarray], list[np.ndarray]]


def linear(layer: Any) -> Block:
    """A ``nn.Linear`` as ``[D_out, D_in + 1]``, the bias its last column.

    Examples
    --------
    >>> block = linear(nn.Linear(2, 3))
    >>> block.shape, [part.shape for part in block.cut(np.zeros(block.shape))]
    ((3, 3), [(3, 2), (3,)])
    """
    shape = layer.out_features, layer.in_features + 1
    return Block(shape, [layer.weight, layer.bias], lambda matrix: [matrix[:, :-1], matrix[:, -1]])


def hooks_of(policy: Any) -> list[Any]:
    """Where the hooks of a policy's modules and its optimiser are kept: each empty, unless it has some."""
    optimizer, modules = policy.optimizer, policy.modules()
    return [
        *(
            h
            for m in modules
            for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ),
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
    ]


def is_hooked(parameter: Any) -> bool:
    """Whether something waits for a parameter's gradient."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


class FlatWeights:
    """Weights, gradient and optimiser of a policy.

    Parameters
    ----------
    policy : stable_baselines3 ActorCriticPolicy
    blocks : sequence of Block
        All its parameters, in the order in which they lie in the vector.

    Attributes
    ----------
    flat, grad : [W] float32
        The weights and, wherever it is computed, the gradient.
    places : list of (parameter, weight, *moments)
        Each torch parameter beside the views of its shape, in `flat` and in the optimiser's moments.
    """

    def __init__(self, policy: Any, blocks: Sequence[Block]):
        self.policy, self.optimizer, self.blocks = policy, policy.optimizer, blocks
        n_weights = sum(math.prod(block.shape) for block in blocks)
        self.flat, self.grad = np.zeros((2, n_weights), np.float32)
        self.adapt = BY_HAND[type(self.optimizer)](n_weights)
        parameters = [parameter for block in blocks for parameter in block.parameters]
        self.places = list(zip(parameters, self._pieces(self.flat), *map(self._pieces, self.adapt.state), strict=True))
        self.memories: dict[int, tuple[torch.Tensor, int, np.ndarray]] = {}
        # What would make another network of it: modules or parameters that change, and hooks.
        self.modules, self.action_dist = list(policy.modules()), getattr(policy, "action_dist", None)
        owned = [owned for module in self.modules for owned in (module._modules, module._parameters)]
        self.owned = [(now, list(now.values())) for now in owned]
        self.hooks = hooks_of(policy)

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        """The blocks of a flat vector, in their shapes."""
        views, start = [], 0
        for block in self.blocks:
            stop = start + math.prod(block.shape)
            views.append(flat[start:stop].reshape(block.shape))
            start = stop
        return views

    def _pieces(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """The same, as torch's parameters are cut."""
        for block, view in zip(self.blocks, self.views(flat), strict=True):
            yield from block.cut(view)

    def fits(self, policy: Any) -> bool:
        """Whether this is the network of `policy` as it is now; quick to ask, for it is asked in each rollout."""
        groups = self.optimizer.param_groups
        return (
            policy is self.policy
            and policy.optimizer is self.optimizer
            and getattr(policy, "action_dist", None) is self.action_dist
            and all(len(now) == len(then) and all(map(operator.is_, now.values(), then)) for now, then in self.owned)
            and all(p.requires_grad and p.is_cpu and p.dtype == torch.float32 for p, *_ in self.places)
            and len(groups) == 1
            and not self.adapt.refusal(groups[0])
            and not any(self.hooks)
            and not any(is_hooked(p) for p, *_ in self.places)
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

    def end_update(self) -> None:
        """Give both back."""
        self.push()

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

    def step(self, max_grad_norm: float) -> float:
        """One step of the optimiser on the clipped gradient; returns its norm before clipping."""
        norm = math.sqrt(float(np.dot(self.grad, self.grad)))
        if math.isfinite(norm):
            scale = min(max_grad_norm / (norm + 1e-6), 1.0)
            if scale < 1.0:
                self.grad *= scale
            self.adapt.step(self.flat, self.grad)
        return norm
