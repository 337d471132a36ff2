"""Proximal policy optimisation (Schulman et al., 1707.06347)."""

from __future__ import annotations

from dataclasses import replace
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
from agents.losses import PPOGradient, approx_kl, normalize, ppo_gradient
from agents.onpolicy import OnPolicyLoop
from agents.policies import POLICIES
from agents.recurrent import with_eyes
from agents.rollout import minibatches


class PPO(OnPolicyLoop, stable_baselines3.PPO):
    """Proximal policy optimisation: act with a policy, then improve it in small steps that stay near it.

    It *is* ``stable_baselines3.PPO``, with its constructor, methods, callbacks, logger keys and files; only the loop
    and the arithmetic are its own. `fast_path` tells how an agent is trained.

    Parameters
    ----------
    policy : str or type
        ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or an SB3 policy class.
    env : str, gymnasium.Env, VecEnv or gymnasium.vector.VectorEnv
        An id, or one or many environments.
    learning_rate, n_steps, ..., device
        As in Stable-Baselines3, with its defaults; `ent_coef` may be a schedule, too.
    encoder : str, Path, dict or nn.Module, optional
        What sees: a name of the zoo, a file made by ``zoo.save``, the folder of a run, or a module. See
        `agents.policies.as_encoder`. One for sequences (``"lstm"``, ``"gru"``, ``"rnn"``, ``"transformer"``) gives the
        agent a memory; see `agents.recurrent.as_memory`. A minibatch then holds whole sequences, of at most
        `batch_size` steps.
    freeze_encoder : bool
        Keep the encoder's weights as they are, in evaluation mode. It then looks at each observation once: rollouts
        keep what it sees.
    encoder_learning_rate : float or schedule, optional
        Of the encoder alone, such as a tenth of `learning_rate` where it has learned before.
    augment : {None, "shift"}
        What pictures are learned from: "shift" moves them by up to four pixels each time (DrQ, 2004.13649; 2004.14990).
    aux_loss : {None, "contrastive", "reconstruction"}
        What the encoder learns beside the reward, from the same minibatches: to tell pictures apart (CURL, 2004.04136),
        or to draw them (1910.01741). Without `encoder` it is the zoo's ``nature_cnn``.
    aux_coef : float
        What that counts.
    n_envs : int, optional
        With an id: how many environments to make. This project's ids step all of them at once.
    precision : {"fp32", "bf16", "auto"}
        Of matrix products and convolutions; ``"auto"`` is bf16 where the processor is made for it.
    mask_actions : bool
        Draw among the actions that the environment allows: by its method ``action_masks()``, or by the entry
        ``"action_mask"`` of its infos. `predict` takes them as an argument.

    Raises
    ------
    NonFiniteError
        By `learn`, when an observation, a reward or the loss becomes NaN or infinite.
    ValueError
        For an encoder that takes observations of another shape.

    Examples
    --------
    >>> model = PPO("MlpPolicy", "sandbox/CartPole-v1", n_envs=8, n_steps=32, batch_size=256, device="cpu")
    >>> str(model.fast_path)
    'by hand'
    >>> _ = model.learn(512)
    >>> action, _ = model.predict(np.zeros(4), deterministic=True)
    >>> action in (0, 1)
    True
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICIES

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
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
        augment: str | None = None,
        aux_loss: str | None = None,
        aux_coef: float = 1.0,
        n_envs: int | None = None,
        precision: str = "fp32",
        mask_actions: bool = False,
    ):
        if n_epochs < 1:
            raise ValueError(f"n_epochs must be at least 1, got {n_epochs}")
        self.precision, self.mask_actions = precision, mask_actions
        self.augment, self.aux_coef = augment, aux_coef
        learns = {"learning_rate": encoder_learning_rate, "aux_loss": aux_loss, "augment": augment}
        policy, policy_kwargs = with_eyes(policy, policy_kwargs, encoder, freeze_encoder, **learns)
        super().__init__(
            policy,
            vecenv.by_id(env, n_envs),
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,  # type: ignore[arg-type]  # `_setup_model` takes the schedule apart
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def train(self) -> None:
        """Improve the policy on the rollout just collected, `n_epochs` times over."""
        network = self._choose_network()
        if network is None:
            super().train()
            return
        if self._valid is not None and not self._valid.any():
            return  # every environment did nothing but reset
        progress_remaining, clip_range_vf = self._current_progress_remaining, None
        clip_range = self.clip_range(progress_remaining)  # type: ignore[operator]  # `_setup_model` made it a schedule
        if self.clip_range_vf is not None:
            clip_range_vf = self.clip_range_vf(progress_remaining)  # type: ignore[operator]
        gradients: list[PPOGradient] = []
        entropies, stop = [], False
        with self._update(network) as samples:
            whole = self.batch_size >= len(samples.returns)  # one minibatch, and the same one in each epoch
            if self.normalize_advantage and whole:
                samples = replace(samples, advantages=normalize(samples.advantages))
            normalize_each = self.normalize_advantage and not whole
            for epoch in range(self.n_epochs):
                epoch_start = len(gradients)
                for batch in minibatches(samples, self.batch_size):
                    log_probs, values, entropy = network.forward(batch)
                    gradient = ppo_gradient(
                        log_probs,
                        values,
                        old_log_probs=batch.log_probs,
                        old_values=batch.values,
                        advantages=normalize(batch.advantages) if normalize_each else batch.advantages,
                        returns=batch.returns,
                        clip_range=clip_range,
                        clip_range_vf=clip_range_vf,
                        vf_coef=self.vf_coef,
                    )
                    gradients.append(gradient)
                    entropies.append(entropy)
                    if self.target_kl is not None and approx_kl(gradient.log_ratio) > 1.5 * self.target_kl:
                        stop = True
                        break
                    network.backward(gradient.by_log_probs, gradient.by_values, -self.ent_coef / len(log_probs))
                    self._check_loss(network.step(self.max_grad_norm))
                self._n_updates += 1
                if stop:
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch}: the KL divergence exceeds 1.5 x target_kl")
                    break

        log_ratio, last = join([g.log_ratio for g in gradients]), gradients[-1]
        last_loss = (
            self.vf_coef * (last.errors**2).mean() - last.surrogate.mean() - self.ent_coef * entropies[-1].mean()
        )
        for name, value in {
            "entropy_loss": -join(entropies).mean(),
            "policy_gradient_loss": -join([g.surrogate for g in gradients]).mean(),
            "value_loss": (join([g.errors for g in gradients]) ** 2).mean(),
            "approx_kl": approx_kl(join([g.log_ratio for g in gradients[epoch_start:]])),
            "clip_fraction": (np.abs(np.exp(log_ratio) - 1.0) > clip_range).mean(),
            "loss": last_loss,
            "explained_variance": explained_variance(join([samples.values]), join([samples.returns])),
            "clip_range": clip_range,
        }.items():
            self.logger.record(f"train/{name}", float(value))
        self._log_aux_loss(network)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> PPO:
        """Train for `total_timesteps` steps of the environments; as in Stable-Baselines3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
