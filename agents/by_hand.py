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
from agents.recurrent import Remembering
from agents.recurrent_step import RecurrentStep
from sandbox.zoo import recurrent as zoo

MAX_WEIGHTS = 60_000  # beyond this the matrix products dominate and torch, with its threads, is as good
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
    columns = [
        (key, int(space.n) if isinstance(space, spaces.Discrete) else math.prod(space.shape), not hasattr(space, "low"))
        for key, space in _leaves(policy.observation_space)
    ]
    step = RecurrentStep if isinstance(policy, Remembering) else MLPStep
    return step(policy, columns, partial(_distribution, policy.action_dist))


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
    features = policy.features_extractor
    plain = type(features) is FlattenExtractor or (
        type(features) is CombinedExtractor and all(type(part) is nn.Flatten for part in features.extractors.values())
    )
    if not plain or type(policy.mlp_extractor) not in (MlpExtractor, SB3MlpExtractor):
        return "the policy is more than two MLPs"
    for key, space in _leaves(policy.observation_space):
        numbers = isinstance(space, spaces.Box) and not (policy.normalize_images and is_image_space(space))
        if not numbers and not (isinstance(space, spaces.Discrete) and space.start == 0):
            of = "" if key is None else f" of {key!r}"
            return f"the observations{of} are {type(space).__name__} of {space.dtype}, neither numbers nor one choice"
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
    linears: list[Any] = [*list(nets[0])[::2], *list(nets[1])[::2], *heads]
    activations = {type(module) for net in nets for module in list(net)[1::2]}
    if any(len(net) % 2 for net in nets) or any(type(linear) is not nn.Linear for linear in linears):
        return "its towers and heads are not plain Linear layers, each hidden one with an activation"
    if not activations <= {nn.Tanh, nn.ReLU}:
        return "its towers are not plain Linear + Tanh/ReLU layers"
    if len(activations) > 1:
        return "its towers mix activations"
    memories = list(policy.memories) if isinstance(policy, Remembering) else []
    reason = _no_cell(policy, memories) if memories else None
    if reason:
        return reason
    parameters, limit = list(policy.parameters()), MAX_RECURRENT if memories else MAX_WEIGHTS
    if sum(p.numel() for p in parameters) > limit:
        return f"it has more than {limit} weights"
    own = [p for linear in linears for p in (linear.weight, linear.bias)]
    own += [p for memory in memories for p in memory.parameters()]
    if len(parameters) != len(own) + hasattr(policy, "log_std") or any(p is None for p in own):
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
