"""Acting in one group of environments while another plays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from agents.autograd import within_bounds
from agents.vecenv import Groups, GymVecEnv

if TYPE_CHECKING:
    from agents.onpolicy import Network


class InTurn:
    """Acting in one group of environments while the other plays, for `n_steps` steps.

    The policy is the same throughout a rollout: what to do next in a group can be found as soon as that group is there.
    So a group is always a step ahead of what the loop has seen of it. As a context manager it waits for those that
    still play when the loop ends early.
    """

    def __init__(self, network: Network, policy: ActorCriticPolicy, envs: Groups, n_steps: int):
        self.network, self.policy, self.envs, self.left = network, policy, envs, n_steps
        self.ahead: list[tuple[Any, ...]] = []  # of each group: what its next step begins with
        self.playing: list[GymVecEnv] = []

    def act(self, obs: Any, starts: Any, masks: Any) -> tuple[Any, np.ndarray, torch.Tensor, torch.Tensor]:
        """As `Network.act`, for all environments together."""
        if not self.ahead:
            for group, rows in self.envs.parts:
                self._begin(group, obs[rows])
        obs_tensors, actions, values, log_probs = zip(*self.ahead, strict=True)
        return torch.cat(obs_tensors), np.concatenate(actions), torch.cat(values), torch.cat(log_probs)

    def step(self, actions: np.ndarray) -> VecEnvStepReturn:
        """As `VecEnv.step`; the actions are those that `act` gave, and under way already."""
        self.left -= 1
        results = []
        for group, _ in self.envs.parts:
            del self.ahead[0], self.playing[0]  # groups take turns: the first is this one
            results.append(group.step_wait())
            if self.left:
                self._begin(group, results[-1][0])
        return self.envs.join(results)

    def _begin(self, group: GymVecEnv, obs: Any) -> None:
        self.ahead.append(self.network.act(obs, None, None))
        group.step_async(within_bounds(self.policy, self.ahead[-1][1]))
        self.playing.append(group)

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *error: Any) -> None:
        for group in self.playing:
            group.step_wait()
