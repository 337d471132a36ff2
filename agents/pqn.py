"""Parallel Q-learning without replay or target network (Gallici et al., 2407.04811)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule, explained_variance, obs_as_tensor
from torch import nn

from agents import vecenv
from agents.loop import FastPath, join
from agents.onpolicy import OnPolicyLoop
from agents.policies import with_encoder
from agents.q_agent import QAgent
from agents.q_heads import epsilon_greedy
from agents.q_policies import PQN_POLICIES, DQNPolicy
from agents.rollout import minibatches


class PQN(QAgent, OnPolicyLoop, OnPolicyAlgorithm):
    r"""Parallel Q-learning: many environments at once take the place of a replay, layer norm that of a target network.

    A rollout of `n_steps` in each environment is learned from in minibatches, `n_epochs` times over, and forgotten. Its
    targets are :math:`\lambda`-returns that go by the best action,

    .. math:: R_t = r_t + \gamma \bigl[(1 - \lambda) \max_a Q(s_{t+1}, a) + \lambda R_{t+1}\bigr],

    which are those of `agents.returns.gae` with :math:`V(s) = \max_a Q(s, a)`.

    Parameters
    ----------
    policy : str or type
        ``"MlpPolicy"``, ``"CnnPolicy"`` or ``"MultiInputPolicy"``.
    env : str, gymnasium.Env, VecEnv or gymnasium.vector.VectorEnv
        An id, or one or many environments.
    learning_rate : float or schedule
    n_steps : int
        Of each environment, in a rollout.
    batch_size, n_epochs : int
    gamma : float
    q_lambda : float
        0 looks one step ahead, 1 to the rollout's end.
    exploration_fraction, exploration_initial_eps, exploration_final_eps : float
        As for `agents.DQN`; each environment explores for itself.
    max_grad_norm : float
    norm : {"layer", None}
        Between a layer and its activation. Without it a small MLP is stepped by hand, and nothing but the many
        environments keeps the values from running away.
    dueling : bool
        As for `agents.DQN`.
    encoder, freeze_encoder, n_envs, precision
        As for `agents.PPO`.

    Raises
    ------
    NonFiniteError
        By `learn`, when an observation, a reward or the loss becomes NaN or infinite.
    ValueError
        For an encoder that takes observations of another shape.

    Examples
    --------
    >>> model = PQN("MlpPolicy", "sandbox/CartPole-v1", n_envs=8, norm=None, device="cpu")
    >>> str(model.fast_path)
    'by hand'
    >>> _ = model.learn(512)
    >>> action, _ = model.predict(np.zeros(4), deterministic=True)
    >>> action in (0, 1)
    True
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = PQN_POLICIES

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 2.5e-4,
        n_steps: int = 32,
        batch_size: int = 256,
        n_epochs: int = 2,
        gamma: float = 0.99,
        q_lambda: float = 0.65,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10.0,
        norm: str | None = "layer",
        dueling: bool = False,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
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
    ):
        if n_epochs < 1:
            raise ValueError(f"n_epochs must be at least 1, got {n_epochs}")
        self.precision, self.batch_size, self.n_epochs = precision, batch_size, n_epochs
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps, self.exploration_final_eps = exploration_initial_eps, exploration_final_eps
        self.exploration_rate = exploration_initial_eps
        switches = {name: value for name, value in {"norm": norm, "dueling": dueling}.items() if value}
        super().__init__(
            policy,  # type: ignore[arg-type]  # SB3 means actor-critics, and asks nothing of them here
            vecenv.by_id(env, n_envs),
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=q_lambda,
            ent_coef=0.0,
            vf_coef=1.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs={**(with_encoder(policy_kwargs, encoder, freeze_encoder) or {}), **switches},
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Discrete,),
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )

    def _driven(self, network: Any) -> Explorer:
        return Explorer(network, self)

    def _needs_own_loop(self, path: FastPath) -> None:
        raise ValueError(f"PQN has no other loop than this project's, and here is {path}")

    def _explore(self, network: Any, obs: Any, n: int) -> np.ndarray:
        return network.act(obs)[1]

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """Act for `n_steps` steps, greedily but for a part of the actions, and fill the buffer."""
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        return super().collect_rollouts(*args, **kwargs)

    def train(self) -> None:
        """Move the Q-values of the actions taken towards the returns of the rollout just collected."""
        if self._valid is not None and not self._valid.any():
            return  # every environment did nothing but reset
        explorer = self._choose_network()
        network = explorer.network
        losses: list[Any] = []
        with self._update(explorer) as samples:
            for _ in range(self.n_epochs):
                for batch in minibatches(samples, self.batch_size):
                    outputs = network.forward(batch.obs)
                    errors = outputs[network.rows(len(batch.returns)), batch.actions, 0] - batch.returns
                    losses.append(0.5 * (errors * errors).mean())
                    network.backward(batch.actions, errors[:, None] / len(errors))
                    self._check_loss(network.step(self.max_grad_norm))
                self._n_updates += 1
        values, returns = join([samples.values]), join([samples.returns])
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(sum(losses) / len(losses)))
        self.logger.record("train/explained_variance", float(explained_variance(values, returns)))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The best action; if not `deterministic`, with the present exploration, each observation for itself."""
        if action_masks is not None:
            raise ValueError("PQN does not know action masks: use agents.PPO with mask_actions=True")
        return super().predict(observation, state, episode_start, deterministic)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> PQN:
        """Train for `total_timesteps` steps of the environments."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


class Explorer:
    """A Q-network as the on-policy loop drives a policy: it acts greedily but for a part of the actions."""

    recurrent = False

    def __init__(self, network: Any, agent: PQN):
        self.network, self.agent = network, agent
        self.acting_threads, self.frozen = network.acting_threads, network.frozen
        self.prepare, self.greedy, self.hush = network.prepare, network.greedy, network.hush
        self.fits, self.begin_rollout, self.inputs = network.fits, network.begin_rollout, network.inputs
        self.array, self.begin_update, self.end_update = network.array, network.begin_update, network.end_update

    def act(
        self, obs: Any, starts: Any = None, masks: Any = None
    ) -> tuple[Any, np.ndarray, torch.Tensor, torch.Tensor]:
        """Observations of B -> what is kept of them, actions, V ``[B, 1]``; the log-probabilities mean nothing here."""
        q = self.network.q_values(obs)
        n, n_actions = q.shape
        coins, random = np.random.random(n), np.random.randint(0, n_actions, n)  # noqa: NPY002
        actions = epsilon_greedy(q.argmax(1), random, coins, self.agent.exploration_rate)
        kept = self.network.look(obs) if self.frozen else obs_as_tensor(obs, torch.device("cpu"))
        return kept, actions, torch.from_numpy(q.max(1))[:, None], torch.zeros(n)

    def values(self, obs: Any, state: Any = None) -> np.ndarray:
        """V of observations of N -> ``[N]``."""
        return self.network.q_values(obs).max(1)
