"""The loop of the on-policy agents: act, remember, learn, forget.

`OnPolicyLoop` goes in front of a Stable-Baselines3 algorithm and replaces how it collects a rollout and how a minibatch
reaches the weights; everything else stays SB3's: constructor, ``learn``, callbacks, logger keys, buffers, files. Where
a user's own policy or buffer overrides what would be bypassed, SB3's code runs unchanged and `fast_path` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents import by_hand
from agents.autograd import Autograd, within_bounds
from agents.in_turn import InTurn
from agents.loop import FastPath, Loop, as_batch, overridden
from agents.masks import checked, masks_from, n_choices
from agents.mlp_step import MLPStep
from agents.policies import seen_space
from agents.recurrent import Recollection, Remembering, carry, predict
from agents.returns import gae
from agents.rollout import Samples
from agents.vecenv import Groups, GymVecEnv, Step, lean_step
from sandbox.training.device import rounded, threads

BYPASSED = (
    "forward",
    "evaluate_actions",
    "predict_values",
    "extract_features",
    "predict",
    "_predict",
    "get_distribution",
    "_get_action_dist_from_latent",
)


class Network(Protocol):
    """How the loop drives a policy: in numpy (`MLPStep`) or in torch (`Autograd`), whose arrays these are."""

    recurrent: bool
    frozen: bool  # what is kept of an observation is what frozen eyes see in it
    acting_threads: Any  # how many are worth it for one step; None is as many as there are

    def fits(self, policy: Any) -> bool: ...
    def begin_rollout(self, n_steps: int, n_envs: int) -> None: ...
    def act(self, obs: Any, starts: Any, masks: Any) -> tuple[Any, np.ndarray, torch.Tensor, torch.Tensor]: ...
    def values(self, obs: Any, state: Any = None) -> np.ndarray: ...
    def inputs(self, obs: Any) -> Any: ...
    def array(self, rows: np.ndarray) -> Any: ...
    def begin_update(self) -> None: ...
    def forward(self, batch: Samples) -> tuple[Any, Any, Any]: ...
    def backward(self, by_log_probs: Any, by_values: Any, by_entropy: float) -> None: ...
    def step(self, max_grad_norm: float) -> float: ...
    def end_update(self) -> None: ...


class OnPolicyLoop(Loop, OnPolicyAlgorithm):
    """A faster loop for an on-policy algorithm of Stable-Baselines3, mixed in before it."""

    mask_actions = False
    whole_episodes = False  # a rollout is one episode in each environment
    baseline = True  # a value function is learned; without one all values are 0
    ent_coef_schedule: Schedule | None = None  # what `ent_coef` is made of, if it is not one number
    _valid: np.ndarray | None = None  # [T, B], which steps to learn from, if not from all
    _masks: np.ndarray | None = None  # [T, B, A], which actions were allowed, if not all
    _last_infos: list[dict[str, Any]] | None = None  # of the last step; None after a reset

    @property
    def fast_path(self) -> FastPath:
        """Which loop trains this agent, and why it is not a faster one.

        ``by hand``: a small MLP, with or without a recurrent memory, its forward and backward pass and its optimiser in
        numpy. ``autograd``: any other policy.
        ``inherited``: Stable-Baselines3's own code, because a user's subclass overrides what the others bypass.
        """
        overridden = self._overridden()
        if overridden:
            return FastPath("inherited", overridden)
        if rounded(self.precision, self.device):
            return FastPath("autograd", "precision is bf16")
        reason = by_hand.refusal(self.policy)
        return FastPath("autograd", reason) if reason else FastPath("by hand")

    def _overridden(self) -> str | None:
        """What of the user's own would be bypassed."""
        policy = self.policy
        if not isinstance(policy, ActorCriticPolicy):
            return f"{type(policy).__name__} is not an actor-critic policy"
        own = overridden(policy, BYPASSED)
        if own:
            return own
        if type(self.rollout_buffer) not in (RolloutBuffer, DictRolloutBuffer):
            return f"{type(self.rollout_buffer).__name__} is not one of SB3's rollout buffers"
        return None

    # -- around Stable-Baselines3's own steps -------------------------------------------------------------------------

    def _setup_model(self) -> None:
        super()._setup_model()
        if callable(self.ent_coef):
            self.ent_coef_schedule, self.ent_coef = self.ent_coef, self.ent_coef(1.0)
        if self.mask_actions:
            n_choices(self.action_space)  # refuses actions that can't be masked
        if isinstance(self.policy, Remembering):
            self.policy_kwargs = {**self.policy_kwargs, "memory": self.policy.memory_spec}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_valid", "_masks", "_last_infos"]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        before = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not before:
            self._last_infos = None
        return result

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The policy's action, as in Stable-Baselines3; the likeliest action takes a tenth of the time.

        Parameters
        ----------
        observation : [...] or [N, ...]
        state, episode_start : optional
            Of a policy with a memory: what the last call gave back, and ``[N]`` where it is to be forgotten.
        deterministic : bool
            The likeliest action, or a drawn one.
        action_masks : [A] or [N, A] booleans, optional
            False where an action is forbidden.
        """
        shape = self.observation_space.shape
        if action_masks is None and isinstance(observation, np.ndarray) and observation.shape[1:] == shape:
            network = self._choose_network() if observation.dtype == np.uint8 else None
            if isinstance(network, Autograd) and network.pictures:
                return within_bounds(self.policy, network.predict(observation, deterministic)), state
        one = None
        if isinstance(observation, np.ndarray) and observation.dtype.kind == "f" and shape:
            one = True if observation.shape == shape else False if observation.shape[1:] == shape else None
        network = self._choose_network() if deterministic and one is not None else None
        if not isinstance(network, MLPStep) or network.recurrent:
            if action_masks is None and not isinstance(self.policy, Remembering):
                return super().predict(observation, state, episode_start, deterministic)
            return predict(self.policy, observation, state, episode_start, deterministic, action_masks)
        batch: Any = observation[None] if one else observation  # type: ignore[index]
        masks = None if action_masks is None else checked(action_masks, self.action_space, len(batch))
        actions = within_bounds(self.policy, network.best_actions(batch, masks))
        return actions[0] if one else actions, state

    def _choose_network(self) -> Network | None:
        """The policy as this loop drives it; None where SB3's own loop must."""
        before: Any = self._network
        if isinstance(before, MLPStep) and not rounded(self.precision, self.device) and before.fits(self.policy):
            return None if self._overridden() else before
        path = self.fast_path
        if not path:
            self._network = None
        elif path.kind == "by hand":
            self._network = by_hand.network(self.policy)
        else:
            kind: Any = Recollection if isinstance(self.policy, Remembering) else Autograd
            network = before if type(before) is kind and before.fits(self.policy) else kind(self.policy, self.precision)
            network.precision_name, self._network = self.precision, network
            network.learns(self.augment, self.aux_coef)
        if self._network is not before:
            carry(before, self._network)
        return self._network

    # -- act and remember ---------------------------------------------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Act for `n_rollout_steps` steps and fill the buffer; False if the callback asked to stop."""
        if self.ent_coef_schedule is not None:  # of what is learned from this rollout
            self.ent_coef = self.ent_coef_schedule(self._current_progress_remaining)
        network, next_step = self._choose_network(), self._next_step_envs(env)
        frozen = network is not None and network.frozen
        keeps = seen_space(self._eyes().encoder) if frozen else self.observation_space
        buffer: Any = rollout_buffer
        buffer.observation_space, buffer.obs_shape = keeps, get_obs_shape(keeps)  # of its next reset
        if network is None:
            if self.mask_actions or self.whole_episodes or isinstance(self.policy, Remembering):
                what = "mask_actions=True" if self.mask_actions else type(self).__name__
                what = "a recurrent encoder" if isinstance(self.policy, Remembering) else what
                raise ValueError(f"{what} needs a loop of this project, and here is {self.fast_path}")
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        as_they_come = self.use_sde or self.mask_actions or self.whole_episodes or network.recurrent
        in_turn = None
        if isinstance(env, Groups) and not as_they_come:
            in_turn = InTurn(network, self.policy, env, n_rollout_steps)
        with threads(network.acting_threads), in_turn or nullcontext():
            act, step = (in_turn.act, in_turn.step) if in_turn else (network.act, lean_step(env))
            return self._collect(network, env, next_step, act, step, callback, rollout_buffer, n_rollout_steps)

    def _collect(
        self,
        network: Network,
        env: VecEnv,
        next_step: GymVecEnv | None,
        act: Any,
        step: Step,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As `collect_rollouts`, by `act` and `step`. The local names are SB3's, for callbacks read them."""
        assert self._last_obs is not None, "No previous observation was provided"
        if self.whole_episodes:
            self._last_obs, self._last_infos = env.reset(), None  # type: ignore[assignment]
            self._last_episode_starts = np.ones(env.num_envs, bool)
        self._check_observation(self._last_obs)
        n_steps, shape = 0, (n_rollout_steps, env.num_envs)
        rollout_buffer.reset()
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        network.begin_rollout(*shape)
        truncated, valid, masks = np.zeros(shape, bool), np.ones(shape, bool), None
        self._masks = np.ones((*shape, sum(n_choices(self.action_space))), bool) if self.mask_actions else None
        in_first = np.ones(env.num_envs, bool)  # environments that are in the first episode of this rollout
        # Of each truncated episode, in the order of np.nonzero(truncated), the last observation and what a memory held.
        cut_off: list[Any] = []
        held: list[Any] = []
        while n_steps < n_rollout_steps and (in_first.any() or not self.whole_episodes):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            if self._masks is not None:
                masks = self._masks[n_steps] = masks_from(env, self._last_infos, self._last_episode_starts)  # type: ignore[arg-type]
            obs_tensor, actions, values, log_probs = act(self._last_obs, self._last_episode_starts, masks)
            clipped_actions = within_bounds(self.policy, actions)
            new_obs, rewards, dones, infos = step(clipped_actions)
            self.num_timesteps += env.num_envs
            if next_step is not None:
                valid[n_steps] = ~next_step.phantom
                self.num_timesteps -= int(next_step.phantom.sum())
            self._check_observation(new_obs)
            self._check_rewards(rewards)
            callback.update_locals(locals())
            if not callback.on_step():
                # Where another `learn` would go on.
                self._last_obs, self._last_infos, self._last_episode_starts = new_obs, infos, dones  # type: ignore[assignment]
                return False

            if self.whole_episodes:  # an environment that waits plays too, but only what is short comes to an end
                self._update_info_buffer([infos[i] for i in np.flatnonzero(in_first)], dones[in_first])
            else:
                self._update_info_buffer(infos, dones)
            for i in np.flatnonzero(dones):
                final_obs = infos[i].get("terminal_observation")
                if final_obs is not None:
                    self._check_observation(as_batch([final_obs]), env_index=int(i))
                    if infos[i].get("TimeLimit.truncated"):
                        truncated[n_steps, i] = True
                        cut_off.append(final_obs)
                        if network.recurrent:
                            held.append(network.state[:, i])  # type: ignore[attr-defined]
            kept: Any = obs_tensor.numpy(force=True) if network.frozen else self._last_obs
            _remember(rollout_buffer, n_steps, kept, actions, rewards, self._last_episode_starts, values, log_probs)
            if self.whole_episodes:
                valid[n_steps] &= in_first
                in_first &= ~dones
            n_steps += 1
            self._last_obs, self._last_infos = new_obs, infos  # type: ignore[assignment]
            # After a step that only reset, an episode starts as it does after one that ended and reset.
            self._last_episode_starts = dones if next_step is None else dones | next_step.phantom
        valid[n_steps:] = False
        if self.whole_episodes:
            valid[:, in_first] = False  # the rollout was too short for their episode
        rollout_buffer.pos, rollout_buffer.full = n_rollout_steps, True
        self._valid = None if valid.all() else valid

        lived = slice(n_steps)
        all_rewards, all_values = rollout_buffer.rewards[lived], rollout_buffer.values[lived]
        ended = np.concatenate([rollout_buffer.episode_starts[1:n_steps], dones[None]])
        next_values = np.concatenate([all_values[1:], network.values(new_obs)[None]])
        if cut_off:
            stack: Any = np.stack if held and isinstance(held[0], np.ndarray) else torch.stack
            after = stack(held, 1) if held else None
            next_values[truncated[lived]] = network.values(as_batch(cut_off), after)
        if not self.baseline:
            all_values[:], next_values[:] = 0.0, 0.0
        truncated, terminated = truncated[lived], ended * ~truncated[lived]
        rollout_buffer.advantages[lived], rollout_buffer.returns[lived] = gae(
            all_rewards, all_values, next_values, terminated, truncated, self.gamma, self.gae_lambda
        )
        # As SB3 leaves the buffer: with what a cut-off episode would still have brought.
        all_rewards += self.gamma * next_values * truncated
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    # -- learn --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _update(self, network: Network) -> Iterator[Samples]:
        """The rollout's samples for `network`; the policy gets its new weights if the block ends without error."""
        self._update_learning_rate(self.policy.optimizer)
        network.begin_update()
        buffer = self.rollout_buffer
        keep = slice(None) if self._valid is None else np.flatnonzero(self._valid.T)
        fields = ("observations", "actions", "values", "log_probs", "advantages", "returns")
        # Flat already if somebody has called the buffer's `get`.
        flat = {name: _flatten(getattr(buffer, name), keep, buffer.generator_ready) for name in fields}
        obs = (network.array if network.frozen else network.inputs)(flat["observations"])
        actions = flat["actions"]
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions[:, 0]
        floats = {name: network.array(flat[name].reshape(-1)) for name in fields[2:]}
        masks = None if self._masks is None else network.array(_flatten(self._masks, keep, False))
        states = first = None
        if network.recurrent:
            states = _flatten(network.states, slice(None), False)[keep]  # type: ignore[attr-defined]
            first = _flatten(self._sequence_starts(), keep, False)
        yield Samples(obs, network.array(actions), **floats, masks=masks, states=states, first=first)
        network.end_update()

    def _sequence_starts(self) -> np.ndarray:
        """Where the sequences that a memory learns from begin, ``[T, B]``: with an episode, or where one is full."""
        starts = self.rollout_buffer.episode_starts.reshape(-1, self.n_envs)  # `get` does not flatten these
        pieces = np.arange(len(starts)) % min(self.n_steps, getattr(self, "batch_size", self.n_steps)) == 0
        return (starts != 0) | pieces[:, None]


def _remember(
    buffer: RolloutBuffer, t: int, obs: Any, actions: Any, rewards: Any, starts: Any, values: Any, log_probs: Any
) -> None:
    """What ``RolloutBuffer.add`` does, each array written once."""
    stored: Any = buffer.observations
    for rows, new in ((stored[key], obs[key]) for key in stored) if isinstance(stored, dict) else ((stored, obs),):
        rows[t] = new.reshape(rows.shape[1:])
    buffer.actions[t] = actions.reshape(buffer.actions.shape[1:])
    buffer.rewards[t] = rewards
    buffer.episode_starts[t] = starts
    buffer.values[t] = values.numpy(force=True).reshape(-1)
    buffer.log_probs[t] = log_probs.numpy(force=True).reshape(-1)


def _flatten(rows: Any, keep: slice | np.ndarray, flat: bool) -> Any:
    """``[T, B, ...] -> [N, ...]``, environment after environment as SB3 has them, and of these the rows to keep."""
    if isinstance(rows, dict):
        return {key: _flatten(value, keep, flat) for key, value in rows.items()}
    return (rows if flat else rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:]))[keep]
