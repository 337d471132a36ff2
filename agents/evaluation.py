"""How good an agent is: full episodes in environments of their own, with an interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from agents import vecenv
from agents.masks import masks_from

MAX_STEPS = 100_000  # of an episode: some have no end, if a greedy agent goes in circles


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of full episodes.

    Examples
    --------
    >>> Evaluation(np.array([1.0, 3.0]), np.array([5, 7])).mean
    2.0
    """

    returns: np.ndarray  # [n_episodes]
    lengths: np.ndarray  # [n_episodes]

    @property
    def mean(self) -> float:
        """Mean return of an episode."""
        return float(self.returns.mean())

    @property
    def interval(self) -> float:
        """Half the width of the mean's 95 % interval, by the normal approximation."""
        return (
            float(1.96 * self.returns.std(ddof=1) / len(self.returns) ** 0.5) if len(self.returns) > 1 else float("nan")
        )

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.interval:.1f}" if len(self.returns) > 1 else f"{self.mean:.1f}"


def evaluate(
    model: Any,
    env: str | VecEnv | VectorEnv,
    n_episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Play full episodes, as many at a time as there are environments.

    Each environment plays the same number of episodes: taking the first to finish would favour the short ones. Returns
    are those of the environment, whatever the model was trained on; no running statistics change.

    Parameters
    ----------
    model : BaseAlgorithm or BasePolicy
        Whatever has SB3's `predict`. If it was trained under ``VecNormalize``, it sees normalised observations; if with
        masks, the environments are asked for theirs.
    env : str, VecEnv or gymnasium.vector.VectorEnv
        An id gives `n_episodes` environments (at most 100) that only this evaluation uses. Under a ``VecNormalize`` of
        its own, that one's statistics hold.
    n_episodes : int
    seed : int
        Of the environments.
    deterministic : bool
        The policy's likeliest actions, or drawn ones.
    progress : callable, optional
        Called with the number of episodes played, each time another one is.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> from agents import PPO
    >>> model = PPO("MlpPolicy", "sandbox/Catch-v0", seed=0)
    >>> evaluate(model, "sandbox/Catch-v0", n_episodes=20).lengths.tolist() == [9] * 20
    True
    """
    own = isinstance(env, str)
    envs = vecenv.make(env, n_envs=min(n_episodes, 100)) if isinstance(env, str) else env
    envs = vecenv.GymVecEnv(envs) if isinstance(envs, VectorEnv) else envs
    normalizer = unwrap_vec_normalize(envs)
    see = normalized(model) if normalizer is None else _as_it_is
    updating = normalizer is not None and normalizer.training
    try:
        if normalizer is not None:
            normalizer.training = False
        envs.seed(seed)
        obs = envs.reset()
        todo = np.full(envs.num_envs, n_episodes // envs.num_envs)
        todo[: n_episodes % envs.num_envs] += 1
        returns, lengths, state, starts = [], [], None, np.ones(envs.num_envs, bool)
        so_far = np.zeros((2, envs.num_envs))  # return and length of the running episodes
        monitored = envs.env_is_wrapped(Monitor)[0]
        masking, infos = getattr(model, "mask_actions", False), None
        while todo.any():
            masks = {"action_masks": masks_from(envs, infos, starts)} if masking else {}
            how = {"state": state, "episode_start": starts, "deterministic": deterministic, **masks}
            actions, state = model.predict(see(obs), **how)
            obs, rewards, starts, infos = envs.step(actions)
            if normalizer is not None:
                rewards = normalizer.get_original_reward()
            so_far += rewards, np.ones(envs.num_envs)
            endless = (so_far[1] >= MAX_STEPS) & (todo > 0)
            if endless.any():
                warnings.warn(f"an episode of {MAX_STEPS:,} steps did not end: it counts as it stands", stacklevel=2)
            for i in np.flatnonzero((starts & (todo > 0)) | endless):
                # A monitor's word goes first: under a wrapper that clips rewards, or ends an episode with a life, only
                # it knows what an episode and its return are.
                if monitored and "episode" not in infos[i] and not endless[i]:
                    continue
                todo[i] -= 1
                episode = infos[i].get("episode", {"r": so_far[0, i], "l": so_far[1, i]})
                returns.append(float(episode["r"]))
                lengths.append(int(episode["l"]))
                if progress is not None:
                    progress(len(returns))
            so_far[:, starts | endless] = 0.0
    finally:
        if normalizer is not None:
            normalizer.training = updating
        if own:
            envs.close()
    return Evaluation(np.array(returns), np.array(lengths))


def normalized(model: Any) -> Callable[[Any], Any]:
    """What turns an environment's observations, one or a batch, into those that a model was trained on.

    Under ``VecNormalize`` that is its normalisation, with the statistics as they are; else nothing.

    Parameters
    ----------
    model : BaseAlgorithm or BasePolicy

    Examples
    --------
    >>> from stable_baselines3.common.vec_env import VecNormalize
    >>> from agents import PPO
    >>> envs = VecNormalize(vecenv.make("sandbox/CartPole-v1", 2), clip_obs=2.0)
    >>> see = normalized(PPO("MlpPolicy", envs, device="cpu"))
    >>> see(np.array([0.0, 1.0, 5.0, -5.0])).tolist()  # nothing seen yet: mean 0, variance 1
    [0.0, 1.0, 2.0, -2.0]
    """
    find = getattr(model, "get_vec_normalize_env", None)
    normalizer = find() if find else None
    return _as_it_is if normalizer is None else normalizer.normalize_obs


def _as_it_is(obs: Any) -> Any:
    return obs


def interquartile_mean(scores: np.ndarray, n_resamples: int = 10_000, seed: int = 0) -> tuple[Any, Any, Any]:
    """The mean of the middle half of the scores, with a 95 % interval by the bootstrap (Agarwal et al., 2108.13264).

    A quarter of the scores is cut off at each end; where a quarter is no whole number, the outermost
    that stay count in part.

    Parameters
    ----------
    scores : [n] or [n, ...] floats
        One for each seed; or several for each, such as a learning curve, whose columns are taken one by one.
    n_resamples, seed : int
        Of the bootstrap, which draws whole seeds.

    Returns
    -------
    mean, low, high : float, or [...] floats

    Examples
    --------
    >>> interquartile_mean(np.array([0.0, 10.0, 20.0, 1000.0]))[0]
    15.0
    >>> interquartile_mean(np.array([[0.0, 5.0], [10.0, 5.0], [20.0, 5.0], [1000.0, 5.0]]))[0]
    array([15.,  5.])
    """
    n = len(scores)
    weights = np.clip(np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) - n / 4, 0.0, 1.0)  # of the sorted scores
    draws = scores[np.random.default_rng(seed).integers(n, size=(n_resamples, n))]
    samples = np.sort(np.concatenate([scores[None], draws]), axis=1)
    means = np.moveaxis(samples, 1, -1) @ weights / weights.sum()
    mean, (low, high) = means[0], np.quantile(means[1:], [0.025, 0.975], axis=0)
    return (mean, low, high) if scores.ndim > 1 else (float(mean), float(low), float(high))
