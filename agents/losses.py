"""The losses of the agents: pure, batched equations on numpy arrays or torch tensors.

A loss returns ``(loss, metrics)``: a scalar with its graph, and detached metrics. Beside a loss that is minimised
thousands of times a second stands its gradient in closed form: the derivative by log-probabilities and values, from
which a network's own backward pass goes on. A test holds the two together.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, torch.Tensor)
Loss = tuple[Tensor, dict[str, Tensor]]


def _namespace(array: np.ndarray | Tensor) -> ModuleType:
    return torch if isinstance(array, Tensor) else np


def normalize(advantages: Array, eps: float = 1e-8) -> Array:
    """Shift to mean 0 and scale to standard deviation 1 (the sample's, with N - 1); a single one is left as it is.

    Examples
    --------
    >>> normalize(np.array([1.0, 2.0, 3.0])).round(3).tolist()
    [-1.0, 0.0, 1.0]
    """
    n = len(advantages)
    if n < 2:
        return advantages
    centred = advantages - advantages.sum() / n
    return centred / (((centred * centred).sum() / (n - 1)) ** 0.5 + eps)


def clipped_surrogate(log_ratio: Array, advantages: Array, clip_range: float) -> Array:
    r"""The objective of PPO for each sample (Schulman et al., 1707.06347, equation 7).

    .. math:: \min\bigl(\rho A,\ \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A\bigr), \quad
              \rho = \pi(a|s) / \pi_\text{old}(a|s)

    Parameters
    ----------
    log_ratio : [N] floats
        log pi(a|s) - log pi_old(a|s).
    advantages : [N] floats
    clip_range : float

    Returns
    -------
    [N] floats, to be made large.

    Examples
    --------
    >>> clipped_surrogate(np.log([1.5, 1.5]), np.array([1.0, -1.0]), 0.2).tolist()
    [1.2, -1.5]
    """
    xp = _namespace(log_ratio)
    ratio = xp.exp(log_ratio)
    return xp.minimum(ratio * advantages, xp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range) * advantages)


def clip_values(values: Array, old_values: Array, clip_range_vf: float | None) -> Array:
    """Values that move no further than `clip_range_vf` from the old ones; None lets them go anywhere.

    Examples
    --------
    >>> clip_values(np.array([0.0, 3.0]), np.array([0.5, 0.5]), 1.0).tolist()
    [0.0, 1.5]
    """
    if clip_range_vf is None:
        return values
    return old_values + _namespace(values).clip(values - old_values, -clip_range_vf, clip_range_vf)


def approx_kl(log_ratio: Array) -> Array:
    r"""KL(pi_old || pi) from samples of pi_old: mean of :math:`(\rho - 1) - \log \rho`, never negative.

    The low-variance estimator of J. Schulman's note "Approximating KL divergence" (2020).

    Examples
    --------
    >>> float(approx_kl(np.zeros(4)))
    0.0
    """
    return (_namespace(log_ratio).expm1(log_ratio) - log_ratio).mean()


def ppo_loss(
    log_probs: Tensor,
    values: Tensor,
    entropy: Tensor,
    *,
    old_log_probs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip_range: float,
    clip_range_vf: float | None = None,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
) -> Loss:
    r"""The whole loss of PPO: policy, value and entropy (1707.06347, equation 9).

    .. math:: L = -\overline{\text{surrogate}} + c_v \overline{(R - V)^2} - c_e \overline{H}

    Parameters
    ----------
    log_probs, values, entropy : [N] floats
        Of the policy as it is now, with their graph.
    old_log_probs, old_values, advantages, returns : [N] floats
        Of the policy that collected the samples.
    clip_range, clip_range_vf, vf_coef, ent_coef : float

    Returns
    -------
    loss : scalar Tensor
    metrics : dict of str to Tensor
        ``policy_gradient_loss, value_loss, entropy_loss, approx_kl, clip_fraction``.

    Examples
    --------
    >>> ones = torch.ones(2)
    >>> loss, metrics = ppo_loss(0 * ones, ones, ones, old_log_probs=0 * ones, old_values=ones, advantages=ones,
    ...                          returns=3 * ones, clip_range=0.2)
    >>> loss.item(), metrics["value_loss"].item()
    (1.0, 4.0)
    """
    log_ratio = log_probs - old_log_probs
    policy_loss = -clipped_surrogate(log_ratio, advantages, clip_range).mean()
    value_loss = ((returns - clip_values(values, old_values, clip_range_vf)) ** 2).mean()
    entropy_loss = -entropy.mean()
    log_ratio = log_ratio.detach()
    return policy_loss + vf_coef * value_loss + ent_coef * entropy_loss, {
        "policy_gradient_loss": policy_loss.detach(),
        "value_loss": value_loss.detach(),
        "entropy_loss": entropy_loss.detach(),
        "approx_kl": approx_kl(log_ratio),
        "clip_fraction": ((log_ratio.exp() - 1).abs() > clip_range).float().mean(),
    }


class A2CGradient(NamedTuple):
    """The derivative of `a2c_loss`; every field is [N]."""

    by_log_probs: Any
    by_values: Any


def a2c_loss(
    log_probs: Tensor,
    values: Tensor,
    entropy: Tensor,
    *,
    advantages: Tensor,
    returns: Tensor,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
) -> Loss:
    r"""The policy gradient with a learned value function (Mnih et al., 1602.01783), and without one REINFORCE.

    .. math:: L = -\overline{A \log \pi(a|s)} + c_v \overline{(R - V)^2} - c_e \overline{H}

    Parameters
    ----------
    log_probs, values, entropy : [N] floats
        Of the policy, with their graph.
    advantages, returns : [N] floats
    vf_coef, ent_coef : float

    Returns
    -------
    loss : scalar Tensor
    metrics : dict of str to Tensor
        ``policy_loss, value_loss, entropy_loss``.

    Examples
    --------
    >>> ones = torch.ones(2)
    >>> loss, metrics = a2c_loss(-ones, ones, ones, advantages=2 * ones, returns=3 * ones)
    >>> loss.item(), metrics["policy_loss"].item()
    (4.0, 2.0)
    """
    policy_loss = -(advantages * log_probs).mean()
    value_loss = ((returns - values) ** 2).mean()
    entropy_loss = -entropy.mean()
    return policy_loss + vf_coef * value_loss + ent_coef * entropy_loss, {
        "policy_loss": policy_loss.detach(),
        "value_loss": value_loss.detach(),
        "entropy_loss": entropy_loss.detach(),
    }


def a2c_gradient(values: Array, *, advantages: Array, returns: Array, vf_coef: float = 0.5) -> A2CGradient:
    """The derivative of `a2c_loss` by log-probabilities and values, without a graph.

    By the entropy it is the constant ``-ent_coef / N``.

    Examples
    --------
    >>> one = np.ones(1)
    >>> a2c_gradient(one, advantages=2 * one, returns=3 * one)
    A2CGradient(by_log_probs=array([-2.]), by_values=array([-2.]))
    """
    n = len(values)
    return A2CGradient(advantages * (-1.0 / n), (values - returns) * (2.0 * vf_coef / n))


class PPOGradient(NamedTuple):
    """The derivative of `ppo_loss`, and per sample what its metrics are made of; every field is [N]."""

    by_log_probs: Any
    by_values: Any
    log_ratio: Any
    surrogate: Any
    errors: Any


def ppo_gradient(
    log_probs: Array,
    values: Array,
    *,
    old_log_probs: Array,
    old_values: Array,
    advantages: Array,
    returns: Array,
    clip_range: float,
    clip_range_vf: float | None = None,
    vf_coef: float = 0.5,
) -> PPOGradient:
    """The derivative of `ppo_loss` by log-probabilities and values, without a graph.

    By the entropy it is the constant ``-ent_coef / N``. Where the clipped objective is the smaller one, the
    log-probability has no gradient; where a value was clipped, neither has the value.

    Parameters
    ----------
    As for `ppo_loss`.

    Returns
    -------
    PPOGradient

    Examples
    --------
    >>> one = np.ones(1)
    >>> ppo_gradient(0 * one, one, old_log_probs=0 * one, old_values=one, advantages=one, returns=3 * one,
    ...              clip_range=0.2).by_values.tolist()
    [-2.0]
    """
    xp = _namespace(log_probs)
    n = len(log_probs)
    log_ratio = log_probs - old_log_probs
    ratio = xp.exp(log_ratio)
    unclipped = ratio * advantages
    clipped = xp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range) * advantages
    by_log_probs = unclipped * ((clipped >= unclipped) * (-1.0 / n))
    errors = clip_values(values, old_values, clip_range_vf) - returns
    by_values = errors * (2.0 * vf_coef / n)
    if clip_range_vf is not None:
        by_values = by_values * (abs(values - old_values) <= clip_range_vf)
    return PPOGradient(by_log_probs, by_values, log_ratio, xp.minimum(unclipped, clipped), errors)
