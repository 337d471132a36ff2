"""REINFORCE (Williams, 1992), with a learned baseline or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents.a2c import A2C
from agents.vecenv import UnfitEnvironment


class REINFORCE(A2C):
    r"""The policy gradient itself: play whole episodes, then make each action likelier by what came after it.

    .. math:: \nabla J = \mathbb{E}\Bigl[\sum_t (G_t - b(s_t))\, \nabla \log \pi(a_t|s_t)\Bigr], \quad
              G_t = \sum_{k \ge t} \gamma^{k - t} r_k

    One update is made of one episode in each environment; environments whose episode is over wait for the longest, and
    what they do meanwhile is not learned from. An episode cut off by a time limit goes on, for its return, with the
    baseline's value, where there is a baseline. It is an `A2C` whose advantage is the whole return.

    Parameters
    ----------
    policy, env : as for `agents.PPO`
    learning_rate : float or schedule
    n_steps : int
        The longest episode that is learned from; longer ones are left out, and none at all is an error.
    gamma : float
        Discount.
    baseline : bool
        Subtract a learned value function b(s); without it, b is 0.
    normalize_advantage : bool
        Shift and scale what the log-probabilities are multiplied with: a baseline, too, though a crude one.
    ent_coef, vf_coef, max_grad_norm, ..., mask_actions
        As for `agents.A2C`. The optimiser is Adam.

    Raises
    ------
    UnfitEnvironment
        By `learn`, if no episode ends within `n_steps` steps.

    References
    ----------
    Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
    Learning 8 (1992).

    Examples
    --------
    >>> model = REINFORCE("MlpPolicy", "sandbox/Catch-v0", n_envs=8, device="cpu")
    >>> model.learn(72).num_timesteps  # an episode of Catch has 9 steps
    72
    """

    whole_episodes = True

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 1000,
        gamma: float = 0.99,
        baseline: bool = True,
        normalize_advantage: bool = False,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        encoder: str | Path | dict[str, Any] | nn.Module | None = None,
        freeze_encoder: bool = False,
        n_envs: int | None = None,
        precision: str = "fp32",
        mask_actions: bool = False,
    ):
        self.baseline = baseline
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=1.0,
            ent_coef=ent_coef,
            vf_coef=vf_coef if baseline else 0.0,
            max_grad_norm=max_grad_norm,
            use_rms_prop=False,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            normalize_advantage=normalize_advantage,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
            encoder=encoder,
            freeze_encoder=freeze_encoder,
            n_envs=n_envs,
            precision=precision,
            mask_actions=mask_actions,
        )

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Play one episode in each environment."""
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if goes_on and self._valid is not None and not self._valid.any():
            raise UnfitEnvironment(
                f"no episode ended within n_steps={n_rollout_steps} steps, and REINFORCE learns from whole episodes: "
                "make n_steps larger, or wrap the environment in a time limit"
            )
        return goes_on

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> REINFORCE:
        """Train for `total_timesteps` steps of the environments, those of waiting ones included."""
        super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        return self
