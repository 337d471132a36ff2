"""Deep Q-learning (Mnih et al., Nature 518, 2015), with the ideas of Rainbow (1710.02298) as switches."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.dqn.policies import DQNPolicy as SB3Policy
from torch import nn

from agents import vecenv
from agents.loop import FastPath, join
from agents.memory import take
from agents.offpolicy import OffPolicyLoop
from agents.policies import with_encoder
from agents.q_agent import QAgent
from agents.q_heads import Categorical
from agents.q_policies import DQN_POLICIES, DQNPolicy
from sandbox.zoo.ema import follow

COVERED = 0.1  # of the returns' probability may fall outside c51's support before it is said


class DQN(QAgent, OffPolicyLoop, stable_baselines3.DQN):
    """Deep Q-learning: learn what each action is worth from what was lived through, and take the best.

    It *is* ``stable_baselines3.DQN``, with its constructor, methods, callbacks, logger keys and files; only the loop
    and the arithmetic are its own. `fast_path` tells how an agent is trained. Each idea of Rainbow is one switch.

    Parameters
    ----------
    policy : str or type
        ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or an SB3 policy class.
    env : str, gymnasium.Env, VecEnv or gymnasium.vector.VectorEnv
        An id, or one or many environments.
    learning_rate, buffer_size, ..., device
        As in Stable-Baselines3, with its defaults. `n_steps` sums the rewards of so many steps before it bootstraps.
        Stacked pictures are stored a frame at a time (`agents.frames.FrameReplay`).
    encoder, freeze_encoder, encoder_learning_rate, augment, aux_loss, aux_coef, n_envs, precision
        As for `agents.PPO`. With a frozen encoder the replay keeps what it sees in the place of pictures.
    double : bool
        The online network chooses the next action, the target network says what it is worth (1509.06461).
    dueling : bool
        The network has a stream for the state's value and one for the actions' advantages (1511.06581).
    prioritized : bool
        Replay what was most surprising (1511.05952), with exponent `priority_alpha` and, annealed to 1 over the
        training, `priority_beta`.
    noisy : bool or float
        Explore by noise on the weights, learned (1706.10295), instead of epsilon. A number is its initial deviation as
        `sandbox.zoo.NoisyLinear` has it; True is 0.5.
    noise_steps : int
        For how many steps of the environments the agent acts by the same noise.
    distributional : {None, "c51", "qr"}
        Learn the return's distribution over `n_atoms` values from `v_min` to `v_max` (1707.06887), or its `n_quantiles`
        quantiles (1710.10044).
    replay_path : str or Path, optional
        A folder in which the replay's observations are kept in memory-mapped files.

    Raises
    ------
    NotEnoughMemory
        If the replay would not fit into the memory that is free.
    NonFiniteError
        By `learn`, when an observation, a reward or the loss becomes NaN or infinite.
    ValueError
        For switches that can't be combined, or an encoder that takes observations of another shape.

    Examples
    --------
    >>> model = DQN("MlpPolicy", "sandbox/CartPole-v1", double=True, learning_starts=64, device="cpu")
    >>> str(model.fast_path)
    'by hand'
    >>> _ = model.learn(128)
    >>> action, _ = model.predict(np.zeros(4), deterministic=True)
    >>> action in (0, 1)
    True
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = DQN_POLICIES

    def __init__(
        self,
        policy: str | type[SB3Policy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10,
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
        double: bool = False,
        dueling: bool = False,
        prioritized: bool = False,
        priority_alpha: float = 0.6,
        priority_beta: float = 0.4,
        noisy: bool | float = False,
        noise_steps: int = 1,
        distributional: str | None = None,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        n_quantiles: int = 200,
        replay_path: str | Path | None = None,
    ):
        if noise_steps < 1:
            raise ValueError(f"noise_steps must be at least 1, got {noise_steps}")
        self.precision, self.double, self.replay_path = precision, double, replay_path
        self.noisy, self.noise_steps = bool(noisy), noise_steps
        self.prioritized, self.priority_alpha, self.priority_beta = prioritized, priority_alpha, priority_beta
        self.augment, self.aux_coef = augment, aux_coef
        learns: dict[str, Any] = {"learning_rate": encoder_learning_rate, "aux_loss": aux_loss, "augment": augment}
        policy_kwargs = with_encoder(policy_kwargs, encoder, freeze_encoder, **learns)
        self._outside: float | None = None  # the part of the returns outside c51's support, a running mean
        head = {"c51": {"v_min": v_min, "v_max": v_max, "n_outputs": n_atoms}, "qr": {"n_outputs": n_quantiles}}
        switches = {"dueling": dueling, "noisy": noisy, "distributional": distributional}
        settings: dict[str, Any] = {name: value for name, value in switches.items() if value}
        if distributional in head:
            settings["head"] = head[distributional]
        super().__init__(
            policy,
            vecenv.by_id(env, n_envs),
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            max_grad_norm=max_grad_norm,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs={**(policy_kwargs or {}), **settings},
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.policy, DQNPolicy):
            self._needs_own_loop(self.fast_path)

    def _needs_own_loop(self, path: FastPath) -> None:
        if self.double or self.prioritized or self._keeps_seen:
            what = "a replay of what frozen eyes see needs" if self._keeps_seen else "double and prioritized need"
            raise ValueError(f"{what} a loop of this project, and here is {path}")

    # -- act ----------------------------------------------------------------------------------------------------------

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions to try, and to store: at random at first, then by the network with some chance."""
        network = self._network
        if network is None or self.num_timesteps < learning_starts or type(self).predict is not QAgent.predict:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        actions = self._explore(network, self._last_obs, n_envs)
        return actions, actions

    def _on_step(self) -> None:
        """After a step of all environments: the target network follows, and exploration fades."""
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            follow(self.q_net_target, self.q_net, self.tau)
        self.exploration_rate = 0.0 if self.noisy else self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    # -- learn --------------------------------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take `gradient_steps` steps towards what the replay says, `batch_size` transitions each."""
        network = self._choose_network()
        if network is None:
            super().train(gradient_steps, batch_size)
            return
        if not self._refilled():
            return
        self._update_learning_rate(self.policy.optimizer)
        network.aux_coef = self.aux_coef
        head: Any = self.policy.q_net.head
        losses: list[Any] = []
        network.begin_update()
        for read, inputs, next_inputs in self._minibatches(gradient_steps, batch_size):
            next_outputs, errors = network.next_outputs(next_inputs), []
            actions = network.array(read.actions[:, 0])
            rewards, discounts = network.array(read.rewards), network.array(read.discounts)
            weights = None if read.weights is None else network.array(read.weights)
            for start in range(0, len(rewards), batch_size):
                rows = slice(start, start + batch_size)
                if self.noisy:
                    network.reset_noise()
                choice = network.choice(take(next_inputs, rows)) if self.double else None
                after = head.bootstrap(next_outputs[rows], choice)
                target = head.target(rewards[rows], discounts[rows], after)
                taken = actions[rows]
                outputs = network.forward(take(inputs, rows))[network.rows(len(taken)), taken]
                gradient = head.gradient(outputs, target, None if weights is None else weights[rows])
                network.backward(taken, gradient.by_outputs)
                self._check_loss(network.step(self.max_grad_norm))
                losses.append(gradient.losses.mean())
                errors.append(gradient.errors)
            if self._priorities is not None and read.leaves is not None:
                self._priorities.update(read.leaves, join(errors))
        network.end_update()
        if isinstance(head, Categorical):
            self._watch_support(head, rewards[rows], discounts[rows], after)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(sum(losses) / len(losses)))
        self._log_aux_loss(network)

    def _refilled(self) -> bool:
        """Whether there is enough to learn from: an agent that was loaded begins with an empty replay."""
        buffer: Any = self.replay_buffer
        wanted = min(self.learning_starts, buffer.buffer_size * buffer.n_envs)
        if self.num_timesteps <= self.learning_starts:  # `learn` would not ask yet: somebody else does
            wanted = 1
        return buffer.size() * buffer.n_envs >= max(wanted, 1)

    def _watch_support(self, head: Categorical, rewards: Any, discounts: Any, after: Any) -> None:
        """Warn, once, if many returns are larger or smaller than c51 can tell."""
        if self._outside is not None and math.isnan(self._outside):
            return
        clipped = head.clipped(rewards, discounts, after)
        self._outside = clipped if self._outside is None else self._outside + 0.01 * (clipped - self._outside)
        self.logger.record("train/clipped", self._outside)
        if self._n_updates > 1000 and self._outside > COVERED:
            warnings.warn(
                f"{self._outside:.0%} of the returns' probability falls outside c51's support from {head.v_min:g} to "
                f"{head.v_max:g}, and is clipped: give v_min= and v_max= that cover the discounted returns",
                stacklevel=2,
            )
            self._outside = math.nan

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "DQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> DQN:
        """Train for `total_timesteps` steps of the environments; as in Stable-Baselines3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
