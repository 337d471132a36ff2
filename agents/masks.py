"""Which actions are allowed: asked of the environments, and put before an action distribution.

A forbidden action gets a logit of -1e8 and with it the probability 0, as in sb3-contrib (Huang and Ontañón,
2006.14171: the gradient of such a policy is still a policy gradient).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution, MultiCategoricalDistribution
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.distributions import FORBIDDEN
from agents.vecenv import GymVecEnv, UnfitEnvironment

METHOD, KEY = "action_masks", "action_mask"  # sb3-contrib's name of the method, Gymnasium's of the entry in `info`


def n_choices(space: spaces.Space) -> list[int]:
    """How many values each choice of a discrete action has.

    Raises
    ------
    ValueError
        For actions that can't be masked.

    Examples
    --------
    >>> n_choices(spaces.MultiDiscrete([2, 3]))
    [2, 3]
    """
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return [int(n) for n in space.nvec]
    raise ValueError(f"mask_actions=True is for Discrete and MultiDiscrete actions, not {space}")


def masks_from(env: VecEnv, infos: Sequence[dict[str, Any]] | None, started: np.ndarray) -> np.ndarray:
    """The masks of the actions that the environments allow now.

    Asked in this order: the environments' method ``action_masks()``, then the entry ``"action_mask"`` of `infos`.

    Parameters
    ----------
    env : VecEnv
    infos : sequence of dict or None
        Of the last step; None after a reset.
    started : [B] booleans
        Which environments have just been reset: their mask is in what the reset told.

    Returns
    -------
    [B, A] booleans
        A the number of all choices' values.

    Raises
    ------
    UnfitEnvironment
        If an environment gives no mask, one of another shape, or one that forbids every action.
    """
    inner: Any = env.unwrapped
    vector = inner.envs if isinstance(inner, GymVecEnv) else None
    waiting = inner.resets_next if isinstance(inner, GymVecEnv) else np.zeros(env.num_envs, bool)
    if vector is not None and hasattr(vector, METHOD):
        rows = list(getattr(vector, METHOD)())
    # A process of AsyncVectorEnv does not survive the question whether it has a method.
    elif (vector is None or hasattr(vector.unwrapped, "envs")) and env.has_attr(METHOD):
        rows = env.env_method(METHOD)
    else:
        from_reset = np.ones(env.num_envs, bool) if infos is None else started
        if infos is not None and isinstance(inner, GymVecEnv) and inner.next_step:
            from_reset = np.zeros(env.num_envs, bool)  # a reset's infos are those of a step
        told = [inner.reset_infos[i] if from_reset[i] else infos[i] for i in range(env.num_envs)]  # type: ignore[index]
        missing = [i for i, info in enumerate(told) if KEY not in info and not waiting[i]]
        if missing:
            raise UnfitEnvironment(
                f"mask_actions=True, but environment {missing[0]} gives no mask: let it have a method {METHOD}() -> "
                f"[A] booleans, or an entry {KEY!r} in the info of each step and reset"
            )
        rows = [info.get(KEY) for info in told]
    # What an environment does in a step that only resets, it does without an action.
    any_action = np.ones(sum(n_choices(env.action_space)), bool)
    rows = [any_action if wait else row for row, wait in zip(rows, waiting, strict=True)]
    return checked(np.stack([np.asarray(row).reshape(-1) for row in rows]), env.action_space, env.num_envs)


def mask_of(env: gym.Env, info: dict[str, Any]) -> np.ndarray:
    """The mask ``[A]`` of one environment that `info` comes from, asked for as `masks_from` does."""
    if env.has_wrapper_attr(METHOD):
        return checked(env.get_wrapper_attr(METHOD)(), env.action_space, 1)[0]
    if KEY not in info:
        raise UnfitEnvironment(f"the environment gives no mask: no method {METHOD}(), no entry {KEY!r} in its info")
    return checked(info[KEY], env.action_space, 1)[0]


def checked(masks: Any, space: spaces.Space, n: int) -> np.ndarray:
    """Masks as ``[n, A]`` booleans that leave something to choose.

    Raises
    ------
    UnfitEnvironment
        If they have another shape, or forbid every action.

    Examples
    --------
    >>> checked([1, 0], spaces.Discrete(2), 1)
    array([[ True, False]])
    """
    choices = n_choices(space)
    masks = np.asarray(masks)
    if masks.size != n * sum(choices):
        raise UnfitEnvironment(
            f"the action masks have shape {masks.shape}, for {n} of {space} it is {(n, sum(choices))}"
        )
    masks = masks.reshape(n, -1).astype(bool)
    for part in np.split(masks, np.cumsum(choices)[:-1], axis=1):
        empty = np.flatnonzero(~part.any(axis=1))
        if len(empty):
            raise UnfitEnvironment(f"the action mask of environment {empty[0]} forbids every action of {space}")
    return masks


def masked(distribution: Distribution, masks: Tensor | None) -> Distribution:
    """SB3's distribution with its forbidden actions' logits lowered, in place; ``masks [N, A]``."""
    if masks is None:
        return distribution
    if isinstance(distribution, CategoricalDistribution):
        logits = distribution.distribution.logits
    elif isinstance(distribution, MultiCategoricalDistribution):
        logits = torch.cat([one.logits for one in distribution.distribution], dim=1)
    else:
        raise ValueError(f"{type(distribution).__name__} can't be masked")
    return distribution.proba_distribution(action_logits=torch.where(masks, logits, float(FORBIDDEN)))
