"""How long an agent learns until it is good: the clock stands still while it is judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents import vecenv
from agents.evaluation import evaluate


class Clock(BaseCallback):
    """Ends a training once the agent is as good as it shall be; tells when it came to each return on the way.

    That is at the first of two evaluations in a row, of 20 episodes each with the likeliest actions. Between two
    evaluations there are `every` steps or a few more, as many as the rollout has.

    Parameters
    ----------
    env_id : str
    returns : sequence of float
        The last one is the highest, and ends the training.
    every : int
        Steps.
    seed : int
        Of the evaluations' episodes.

    Attributes
    ----------
    reached : dict of float to (float, int)
        Seconds and steps until each return.
    curve : list of (float, int, float)
        Of each evaluation, seconds and steps before it, and the mean return.
    running : float
        Seconds of training in all.

    Examples
    --------
    >>> from agents import PPO
    >>> clock = Clock("sandbox/Catch-v0", returns=[-2.0], every=64, seed=0)
    >>> _ = PPO("MlpPolicy", "sandbox/Catch-v0", n_envs=8, n_steps=8, batch_size=64, seed=0).learn(500, clock)
    >>> clock.reached[-2.0][1], len(clock.curve)
    (64, 2)
    """

    def __init__(self, env_id: str, returns: Sequence[float], every: int, seed: int):
        super().__init__()
        self.env_id, self.returns, self.every, self.seed = env_id, list(returns), every, seed
        self.running, self.next = 0.0, every
        self.curve: list[tuple[float, int, float]] = []
        self.reached: dict[float, tuple[float, int]] = {}

    def _on_training_start(self) -> None:
        self.envs = vecenv.make(self.env_id, 20)
        self.since = time.perf_counter()

    def _on_step(self) -> bool:
        return self.returns[-1] not in self.reached

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self.next:
            return
        self.running += time.perf_counter() - self.since
        self.next = self.num_timesteps + self.every
        mean = evaluate(self.model, self.envs, 20, seed=self.seed).mean
        last: Any = self.curve[-1] if self.curve else None
        self.curve.append((self.running, self.num_timesteps, mean))
        for wanted in self.returns:
            if wanted not in self.reached and last is not None and min(last[2], mean) >= wanted:
                self.reached[wanted] = last[:2]
        self.since = time.perf_counter()

    def _on_training_end(self) -> None:
        self.running += time.perf_counter() - self.since
        self.envs.close()
