"""What environments show while they are played."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sandbox.data.names import Data

EXTRAS = {"ale_py": "atari", "Box2D": "box2d"}  # what a missing module comes with
SPACES = ("Box", "Discrete", "MultiBinary", "MultiDiscrete")  # of actions, that can be drawn as arrays


def observations(
    env_id: str, n: int = 4000, seed: int = 0, n_envs: int = 8, policy: Any = None, deterministic: bool = True
) -> Data:
    """Observations of an environment in random play, with the actions between them.

    Several environments are played side by side. Their observations follow one environment after the other, in order
    of time, and `episodes` counts through them all: neighbours with the same number are one step apart. What is seen at
    the end of an episode, when nothing is chosen any more, is left out.

    Parameters
    ----------
    env_id : str
        Of Gymnasium, or of this project: ``sandbox/PixelCartPole-v0``, ``baselines/Pong-v0``.
    n : int
        Observations.
    seed : int
        Of the environments and of random play: the same one gives the same arrays.
    n_envs : int
        Environments side by side; fewer where `n` is less.
    policy : model, optional
        With the ``predict(obs, deterministic=...)`` of Stable-Baselines3, which returns actions and a state; a state
        that is not None is given back to it. None is random play: every action of a few with equal probability.
    deterministic : bool
        A model's likeliest actions, not drawn ones.

    Returns
    -------
    Data
        ``X`` is ``[n, ...]`` as the environment gives them, such as ``[n, C, H, W]`` uint8; ``actions`` is None where
        they are not numbered.

    Raises
    ------
    ValueError
        If there is no such environment (the message has the nearest ones); if it does not show an array, or can't be
        played at random; or `n` or `n_envs` is below 1.
    ModuleNotFoundError
        If what it needs is not installed.
    TypeError
        If the policy is no model.
    MemoryError
        If the observations would be larger than the memory that is free.

    Examples
    --------
    >>> seen = observations("sandbox/Catch-v0", n=30, n_envs=2)
    >>> seen.X.shape, seen.X.dtype, seen.episodes[:10].tolist(), seen.episodes[15]
    ((30, 10, 5), dtype('float32'), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], np.int64(2))
    """
    if min(n, n_envs) < 1:
        raise ValueError(f"n and n_envs must be at least 1, got {n} and {n_envs}")
    if policy is not None and not hasattr(policy, "predict"):
        raise TypeError(f"a policy is a model with predict(), got {type(policy).__name__}")
    from gymnasium.spaces import Box, Discrete

    from sandbox.training.device import private_seed

    with private_seed(seed), _made(env_id, min(n, n_envs)) as env:
        seen, played = env.observation_space, env.action_space
        if not isinstance(seen, Box):
            raise ValueError(f"{env_id} shows a {type(seen).__name__}: only arrays (Box) can be samples")
        if policy is None and type(played).__name__ not in SPACES:
            raise ValueError(f"{env_id} takes a {type(played).__name__}, which can't be drawn at random: give a policy")
        X = new_array((n, *seen.shape), seen.dtype, "ask for fewer observations")
        actions, episodes = _play(env, X, seed, policy, deterministic, f"playing {env_id}")
    who = "random" if policy is None else type(policy).__name__
    return Data(
        X=X,
        y=np.empty((n, 0), int),
        names=(),
        about=f"{env_id}, policy {who}, seed {seed}",
        actions=actions if isinstance(played, Discrete) else None,
        episodes=episodes,
    )


def _play(
    env: Any, X: np.ndarray, seed: int, policy: Any, deterministic: bool, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """Fill `X` with what is seen; the actions chosen then, and which episode each is of."""
    from sandbox.training.log import ProgressLine

    n, B = len(X), env.num_envs
    counts = n // B + (np.arange(B) < n % B)  # of each environment
    first = np.cumsum(counts) - counts
    own_seed = np.random.SeedSequence([seed, 1]).generate_state(1)[0]  # the environments draw from `seed` itself
    env.action_space.seed(int(own_seed))
    actions: Any = np.empty((n, *(env.action_space.shape or ())), env.action_space.dtype)
    starts, new, state = np.zeros(n, bool), np.ones(B, bool), None
    env.seed(seed)
    obs = env.reset()
    with ProgressLine(label, n, "observations", patience=2.0) as progress:
        for t in range(counts[0]):
            if policy is None:
                chosen = np.stack([env.action_space.sample() for _ in range(B)])
            else:
                how: dict[str, Any] = {} if state is None else {"state": state, "episode_start": new}
                chosen, state = policy.predict(obs, deterministic=deterministic, **how)
            here = t < counts
            places = first[here] + t
            X[places], actions[places], starts[places] = obs[here], chosen[here], new[here]
            obs, _, new, _ = env.step(chosen)
            progress.update(min((t + 1) * B, n))
    return actions, starts.cumsum() - 1


@contextmanager
def _made(env_id: str, n_envs: int) -> Iterator[Any]:
    """The environments, while they are played."""
    import gymnasium as gym

    from agents.vecenv import make

    try:
        env = make(env_id, n_envs)
    except (ModuleNotFoundError, gym.error.DependencyNotInstalled) as error:
        name = getattr(error.__cause__ or error, "name", None)
        own = f"pip install 'rl-unsup-sandbox[{EXTRAS[name]}]'" if name in EXTRAS else ""
        how = own or " ".join(str(error).split())  # Gymnasium says how, where it knows
        raise ModuleNotFoundError(f"'env:{env_id}' needs {name or 'more'}: {how}", name=name) from error
    except gym.error.Error as error:
        from envs import IDS
        from sandbox.flags import nearest

        near = nearest(env_id, [*IDS, *gym.registry])
        said = f" ({' '.join(str(error).split())})" if not near else ""
        raise ValueError(f"there is no environment {env_id!r}{near}{said}") from error
    try:
        yield env
    finally:
        env.close()


def new_array(shape: tuple[int, ...], dtype: Any, advice: str) -> np.ndarray:
    """An array to be filled.

    Raises
    ------
    MemoryError
        If it is larger than the memory that is free: it would be given, and the process be killed when it is filled.

    Examples
    --------
    >>> new_array((2, 3), np.uint8, "ask for less").shape
    (2, 3)
    """
    from sandbox.training.device import free_memory

    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, free_memory()
    if free is not None and needed > free:
        size = " x ".join(f"{size:,}" for size in shape)
        have = f"{free / 1e9:,.1f} GB of memory are free"
        raise MemoryError(f"{size} are {needed / 1e9:,.1f} GB, and {have}: {advice}")
    return np.empty(shape, dtype)
