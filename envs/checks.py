"""The door of every env: actions, states and reset options are checked here, once, for the whole batch."""

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, Space


def check_actions(actions: Any, space: Space[Any], num_envs: int) -> np.ndarray:
    """Return ``actions`` as an array ``[B, *space.shape]``, or say which env's is wrong.

    Out-of-range values of a Box are left to the dynamics, which clip them as Gymnasium's do.

    Raises
    ------
    ValueError
        Wrong shape; a discrete action out of range; a continuous one that is not finite.
    TypeError
        A discrete action that is not an integer.

    Examples
    --------
    >>> check_actions([0, 2], Discrete(2), 2)
    Traceback (most recent call last):
        ...
    ValueError: invalid action 2 for env 1: not in Discrete(2)
    """
    actions = np.asarray(actions)
    if actions.shape != (num_envs, *(space.shape or ())):
        raise ValueError(f"expected actions of shape {(num_envs, *(space.shape or ()))}, got {actions.shape}")
    if isinstance(space, Discrete):
        if actions.dtype.kind not in "iu":
            raise TypeError(f"expected integer actions, got {actions.dtype}")
        # a negative number wraps round to a huge one: one comparison finds both kinds of wrong
        wrong = actions.astype(np.uint64) >= np.uint64(space.n)
    else:
        wrong = ~np.isfinite(actions)
    if np.count_nonzero(wrong):
        i = int(np.argwhere(wrong)[0, 0])
        raise ValueError(f"invalid action {actions[i]} for env {i}: not in {space}")
    return actions


def check_state(state: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a copy of ``state``, which must have the shape of ``like``."""
    if state.shape != like.shape:
        raise ValueError(f"expected a state of shape {like.shape}, got {state.shape}")
    return state.copy()


def bounds(options: dict[str, Any] | None, low: float, high: float) -> tuple[float, float]:
    """Bounds of the uniform initial state: ``options["low"]`` and ``options["high"]``, as in Gymnasium.

    Examples
    --------
    >>> bounds({"high": 0.2}, -0.1, 0.1)
    (-0.1, 0.2)
    """
    if not options:
        return low, high
    low, high = number(options.get("low", low)), number(options.get("high", high))
    if not low <= high:
        raise ValueError(f"the lower bound {low} exceeds the upper bound {high}")
    return low, high


def number(value: Any) -> float:
    """Return ``value`` as a float; ValueError if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a number in the reset options, got {value!r}") from error
