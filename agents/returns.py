"""Returns and advantages: what a step was worth, from what followed it.

Pure, batched, time-major functions: every argument is ``[T, B]`` (T steps of B environments), numpy array or torch
tensor, and the result is of the same kind.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    gae_lambda: float,
) -> tuple[Array, Array]:
    r"""Generalised advantage estimation (Schulman et al., 1506.02438).

    .. math::
        \delta_t &= r_t + \gamma (1 - \text{terminated}_t) V(s'_t) - V(s_t) \\
        A_t &= \delta_t + \gamma \lambda (1 - \text{terminated}_t)(1 - \text{truncated}_t) A_{t+1}

    A terminated episode is worth nothing after its end. A truncated one was merely cut off: it still has the value of
    the observation it ended in, but no advantage flows back to it from the next episode.

    Parameters
    ----------
    rewards : [T, B] floats
    values : [T, B] floats
        V of the observation acted on at each step.
    next_values : [T, B] floats
        V of the observation that each step led to: the final one, not the reset one, where an episode ended.
    terminated, truncated : [T, B] booleans or floats
    gamma : float
        Discount.
    gae_lambda : float
        0 gives the one-step temporal difference, 1 the whole discounted return less the value.

    Returns
    -------
    advantages, returns : [T, B] floats
        ``returns = advantages + values``, the TD(lambda) target of the value function.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> rewards, values = np.ones((3, 1)), np.zeros((3, 1))
    >>> never = np.zeros((3, 1))
    >>> advantages, _ = gae(rewards, values, values, never, never, gamma=0.5, gae_lambda=1.0)
    >>> advantages[:, 0].tolist()
    [1.75, 1.5, 1.0]
    """
    others = {"values": values, "next_values": next_values, "terminated": terminated, "truncated": truncated}
    for name, array in others.items():
        if array.shape != rewards.shape:
            raise ValueError(f"{name} has shape {tuple(array.shape)}, rewards {tuple(rewards.shape)}: both are [T, B]")
    goes_on = 1 - _floats(terminated, rewards)
    advantages = rewards + gamma * goes_on * next_values - values  # the deltas; the sum over what follows comes next
    decay = gamma * gae_lambda * goes_on * (1 - _floats(truncated, rewards))
    for t in range(len(rewards) - 2, -1, -1):
        advantages[t] += decay[t] * advantages[t + 1]
    return advantages, advantages + values


def _floats(flags: Array, like: Array) -> Array:
    return flags.to(like.dtype) if isinstance(flags, torch.Tensor) else flags.astype(like.dtype)
