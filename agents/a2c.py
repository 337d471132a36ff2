"""Advantage actor-critic (Mnih et al., 1602.01783), all environments in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance
from torch import nn

from agents import vecenv
from agents.loop import join
from agents.losses import a2c_gradient, normalize
from agents.onpolicy import OnPolicyLoop
from agents.policies import POLICIES
from agents.recurrent import with_eyes


class A2C(OnPolicyLoop, stable_baselines3.A2C):
    """Advantage actor-critic: act a few steps, move the policy along the gradient of what they brought, forget them.

    It *is* ``stable_baselines3.A2C``, with its constructor, methods, callbacks, logger keys and files; only the loop
    and the arithmetic are its own. `fast_path` tells how an agent is trained.

    Parameters
    ----------
    policy : str or type
        ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or an SB3 policy class.
    env : str, gymnasium.Env, VecEnv or gymnasium.vector.VectorEnv
        An id, or one or many environments.
    learning_rate, n_steps, ..., device
        As in Stable-Baselines3, with its defaults; `ent_coef` may be a schedule, too.
    encoder, freeze_encoder, encoder_learning_rate, n_envs, precision, mask_actions
        As for `agents.PPO`.

    Raises
    ------
    NonFiniteError
        By `learn`, when an observation, a reward or the loss becomes NaN or infinite.
    ValueError
        For an encoder that takes observations of another shape.

    Examples
    --------
    >>> model = A2C("MlpPolicy", "sandbox/CartPole-v1", n_envs=8, device="cpu")
    >>> str(model.fast_path)
    'by hand'
    >>> _ = model.learn(400)
    >>> model.num_timesteps
    400
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICIES

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 7e-4,
        n_steps: int = 5,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        rms_prop_eps: float = 1e-5,
        use_rms_prop: bool = True,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        normalize_advantage: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        encoder: str | Path | dict[str, Any] | nn.Module | None = None,
        freeze_encoder: bool = False,
        encoder_learning_rate: float | Schedule | None = None,
        n_envs: int | None = None,
        precision: str = "fp32",
        mask_actions: bool = False,
    ):
        self.precision, self.mask_actions = precision, mask_actions
        learns = {"learning_rate": encoder_learning_rate}
        policy, policy_kwargs = with_eyes(policy, policy_kwargs, encoder, freeze_encoder, **learns)
        super().__init__(
            policy,
            vecenv.by_id(env, n_envs),
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,  # type: ignore[arg-type]  # `_setup_model` takes the schedule apart
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            rms_prop_eps=rms_prop_eps,
            use_rms_prop=use_rms_prop,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            normalize_advantage=normalize_advantage,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def train(self) -> None:
        """One step along the gradient of the rollout just collected."""
        network = self._choose_network()
        if network is None:
            super().train()
            return
        if self._valid is not None and not self._valid.any():
            return  # nothing to learn from: every environment did nothing but reset
        with self._update(network) as batch:
            log_probs, values, entropy = network.forward(batch)
            advantages = normalize(batch.advantages) if self.normalize_advantage else batch.advantages
            gradient = a2c_gradient(values, advantages=advantages, returns=batch.returns, vf_coef=self.vf_coef)
            network.backward(gradient.by_log_probs, gradient.by_values, -self.ent_coef / len(log_probs))
            self._check_loss(network.step(self.max_grad_norm))
        self._n_updates += 1

        old_values, returns = join([batch.values]), join([batch.returns])
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/explained_variance", float(explained_variance(old_values, returns)))
        self.logger.record("train/entropy_loss", -float(entropy.mean()))
        self.logger.record("train/policy_loss", -float((advantages * log_probs).mean()))
        self.logger.record("train/value_loss", float(np.square(returns - join([values])).mean()))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "A2C",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> A2C:
        """Train for `total_timesteps` steps of the environments; as in Stable-Baselines3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
