"""Which of Stable-Baselines3's policies are stepped by hand, and how their spaces and distributions are read.

The border between SB3's classes and the kernel in `agents.mlp_step` and `agents.recurrent_step`, which knows none of
them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import MlpExtractor as SB3MlpExtractor
from torch import nn

from agents.distributions import Bernoulli, Categorical, Distribution, Gaussian, MultiCategorical, StateDependentNoise
from agents.flat_weights import hooks_of, is_hooked
from agents.mlp_step import MLPStep, Tower
from agents.optimizers import BY_HAND
from agents.policies import MlpExtractor
from agents.q_step import QStep
from agents.recurrent import Remembering
from agents.recurrent_step import RecurrentStep
from sandbox.zoo import recurrent as zoo

MAX_WEIGHTS = 60_000  # beyond this the matrix products dominate and torch, with its threads, is as good
MAX_Q_WEIGHTS = 200_000  # a Q-network's minibatches are small, and RL-Zoo's two layers of 256 gain by a factor
MAX_RECURRENT = 300_000  # with a memory: its steps are many small products, and the default LSTM of 256 gains still


def network(policy: Any) -> MLPStep:
    """The policy in numpy; one that `refusal` has no objection to.

    Parameters
    ----------
    policy : ActorCriticPolicy

    Examples
    --------
    >>> from agents.policies import ActorCriticPolicy
    >>> two = ActorCriticPolicy(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), lambda _: 1e-3)
    >>> refusal(two), network(two).inputs(np.zeros((1, 3)))
    (None, array([[0., 0., 0., 1.]], dtype=float32))
    """
    step = RecurrentStep if isinstance(policy, Remembering) else MLPStep
    return step(policy, _columns(policy), partial(_distribution, policy.action_dist))


def _columns(policy: Any) -> list[tuple[str | None, int, bool]]:
    return [
        (key, int(space.n) if isinstance(space, spaces.Discrete) else math.prod(space.shape), not hasattr(space, "low"))
        for key, space in _leaves(policy.observation_space)
    ]


def _leaves(space: Any) -> list[tuple[str | None, Any]]:
    """A space's parts in the order of SB3's features, by key; one without a key if it is no dictionary."""
    return list(space.spaces.items()) if isinstance(space, spaces.Dict) else [(None, space)]


def _distribution(sb3: Any, log_std: np.ndarray, log_std_grad: np.ndarray, tower: Tower) -> Distribution:
    if isinstance(sb3, CategoricalDistribution):
        return Categorical()
    if isinstance(sb3, MultiCategoricalDistribution):
        return MultiCategorical(sb3.action_dims)
    if isinstance(sb3, BernoulliDistribution):
        return Bernoulli()
    if isinstance(sb3, DiagGaussianDistribution):
        return Gaussian(log_std, log_std_grad)
    return StateDependentNoise(log_std, log_std_grad, tower, sb3)


def refusal(policy: Any) -> str | None:
    """Why this policy can't be stepped by hand; None if it can.

    Looks at the spaces and the modules; whether the policy's methods are its own is the caller's question.
    """
    if type(policy.mlp_extractor) not in (MlpExtractor, SB3MlpExtractor):
        return "the policy is more than two MLPs"
    reason = _not_flat(policy, policy.features_extractor)
    if reason:
        return reason
    noise = policy.action_dist
    if type(noise) is StateDependentNoiseDistribution:
        if noise.bijector is not None or not noise.full_std or noise.use_expln or noise.learn_features:
            return "its gSDE is squashed, or has full_std=False, use_expln or learned features"
    elif type(noise) not in (
        CategoricalDistribution,
        MultiCategoricalDistribution,
        BernoulliDistribution,
        DiagGaussianDistribution,
    ):
        return f"the actions are drawn from {type(noise).__name__}"
    nets, heads = (
        (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net),
        (policy.action_net, policy.value_net),
    )
    towers: list[list[Any]] = [[*net, head] for net, head in zip(nets, heads, strict=True)]
    memories = list(policy.memories) if isinstance(policy, Remembering) else []
    reason = _not_linear(towers) or (_no_cell(policy, memories) if memories else None)
    if reason:
        return reason
    own = _parameters(towers) + [p for memory in memories for p in memory.parameters()]
    own += [policy.log_std] if hasattr(policy, "log_std") else []
    return _not_plain(policy, list(policy.parameters()), own, MAX_RECURRENT if memories else MAX_WEIGHTS)


def q_network(policy: Any) -> QStep:
    """A DQN policy in numpy; one that `q_refusal` has no objection to."""
    return QStep(policy, _columns(policy))


def q_refusal(policy: Any) -> str | None:
    """Why this DQN policy can't be stepped by hand; None if it can."""
    online = policy.q_net
    streams = [list(online.q_net)] if online.value_net is None else [list(online.q_net), list(online.value_net)]
    reason = _not_flat(policy, online.features_extractor) or _not_linear(streams)
    return reason or _not_plain(policy, list(online.parameters()), _parameters(streams), MAX_Q_WEIGHTS)


def _not_flat(policy: Any, features: Any) -> str | None:
    """Why what the towers see is not simply the observation."""
    plain = type(features) is FlattenExtractor or (
        type(features) is CombinedExtractor and all(type(part) is nn.Flatten for part in features.extractors.values())
    )
    if not plain:
        return "the policy is more than two MLPs"
    for key, space in _leaves(policy.observation_space):
        numbers = isinstance(space, spaces.Box) and not (policy.normalize_images and is_image_space(space))
        if not numbers and not (isinstance(space, spaces.Discrete) and space.start == 0):
            of = "" if key is None else f" of {key!r}"
            return f"the observations{of} are {type(space).__name__} of {space.dtype}, neither numbers nor one choice"
    return None


def _not_linear(towers: list[list[Any]]) -> str | None:
    """Why these are not linear layers with one kind of activation between them."""
    activations = {type(module) for tower in towers for module in tower[1::2]}
    if any(type(layer) is not nn.Linear for tower in towers for layer in tower[::2]) or not all(
        len(tower) % 2 for tower in towers
    ):
        return "its towers and heads are not plain Linear layers, each hidden one with an activation"
    if not activations <= {nn.Tanh, nn.ReLU}:
        return "its towers are not plain Linear + Tanh/ReLU layers"
    if len(activations) > 1:
        return "its towers mix activations"
    return None


def _parameters(towers: list[list[Any]]) -> list[Any]:
    return [p for tower in towers for layer in tower[::2] for p in (layer.weight, layer.bias)]


def _not_plain(policy: Any, parameters: list[Any], own: list[Any], limit: int) -> str | None:
    """Why these parameters, of which the layers have `own`, are not all stepped by a plain optimiser."""
    if sum(p.numel() for p in parameters) > limit:
        return f"it has more than {limit} weights"
    if len(parameters) != len(own) or any(p is None for p in own):
        return "it has parameters beside its layers', or a layer without bias"
    if any(not p.requires_grad or p.dtype != torch.float32 or p.device.type != "cpu" for p in parameters):
        return "its parameters are not all trainable float32 on the CPU"
    optimizer = policy.optimizer
    if type(optimizer) not in BY_HAND or len(optimizer.param_groups) != 1:
        return "its optimiser is not a plain Adam or RMSprop"
    group = optimizer.param_groups[0]
    reason = BY_HAND[type(optimizer)].refusal(group)
    if reason:
        return reason
    if {id(p) for p in group["params"]} != {id(p) for p in parameters}:
        return "its optimiser does not hold all parameters"
    if any(hooks_of(policy)) or any(map(is_hooked, parameters)):
        return "it has hooks"
    return None


def _no_cell(policy: Any, memories: list[Any]) -> str | None:
    """Why these memories are not the recurrent layers of `agents.cells`."""
    for name in ("recall", "features", "remember", "latents", "initial_state"):
        if getattr(type(policy), name) is not getattr(Remembering, name):
            return f"{type(policy).__name__}.{name} is overridden"
    for memory in memories:
        if type(memory) not in (zoo.LSTM, zoo.GRU, zoo.RNN):
            return f"its memory is a {type(memory).__name__}, neither LSTM nor GRU nor RNN"
        core = memory.core
        plain = core.bias and not (core.bidirectional or core.batch_first or core.dropout or core.proj_size)
        if (
            type(core) is not getattr(nn, type(memory).__name__)
            or not plain
            or getattr(core, "nonlinearity", "tanh") != "tanh"
        ):
            return "its memory is not the zoo's as it was built"
    return None
