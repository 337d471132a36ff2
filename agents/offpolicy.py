"""The loop of the off-policy agents: act, store, and learn from what is stored.

`OffPolicyLoop` goes in front of a Stable-Baselines3 algorithm and replaces how it acts, stores and samples; everything
else stays SB3's: constructor, ``learn``, callbacks, logger keys, buffers, files. An algorithm adds how it chooses an
action (`_choose_actions`) and its gradient steps (``train``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv

from agents.frames import FrameReplay, check_room, zeros_in_file
from agents.loop import Loop, as_batch
from agents.memory import OWN, Batch, Priorities, asked, draw, read
from agents.policies import ZooFeatures, as_encoder, seen_space
from agents.vecenv import GymVecEnv, Step, frames_in, lean_step
from sandbox.training.device import private_seed, threads

AT_ONCE = 8e6  # bytes of observations that are read for several minibatches together
WORTH_SAYING = 1e9  # bytes of a replay


class OffPolicyLoop(Loop, OffPolicyAlgorithm):
    """A faster loop for an off-policy algorithm of Stable-Baselines3, mixed in before it."""

    prioritized = False
    priority_alpha, priority_beta = 0.6, 0.4
    replay_path: str | Path | None = None
    _priorities: Priorities | None = None
    _keeps_seen = False  # the replay has what frozen eyes see in the place of observations

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_priorities"]

    # -- the replay ---------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        stored_as: Any = self.replay_buffer_class
        if self.replay_buffer is None and stored_as in (None, ReplayBuffer, NStepReplayBuffer, FrameReplay):
            self._make_replay()
            stored_as = type(self.replay_buffer) if self.replay_buffer is not None else stored_as
        self.replay_buffer_class = None if stored_as in (NStepReplayBuffer, FrameReplay) else stored_as
        super()._setup_model()
        self.replay_buffer_class = type(self.replay_buffer)  # type: ignore[assignment]  # there is one now
        if self.replay_path is not None and not isinstance(self.replay_buffer, FrameReplay):
            for name in ("observations", "next_observations"):
                stored = getattr(self.replay_buffer, name, None)
                if stored is not None:
                    path = Path(self.replay_path) / f"{name}.npy"
                    setattr(self.replay_buffer, name, zeros_in_file(path, stored.shape, stored.dtype))
        self._priorities = None
        if self.prioritized:
            self._priorities = Priorities(self.replay_buffer, self.priority_alpha)

    def _make_replay(self) -> None:
        """Say what the replay will take, refuse what does not fit, and keep each frame of a stack once."""
        space, kwargs = self.observation_space, dict(self.replay_buffer_kwargs)
        channels = frames_in(self.env) if self.env is not None else None
        wanted = self.replay_buffer_class is FrameReplay
        seen = None if wanted else self._seen_by_frozen_eyes()
        self._keeps_seen, space = seen is not None, space if seen is None else seen
        frames = wanted or (
            channels and not self._keeps_seen and not self.optimize_memory_usage and self.replay_buffer_class is None
        )
        if frames:
            kwargs = {"frame_channels": channels or 1, **kwargs, "n_steps": self.n_steps, "gamma": self.gamma}
            if self.replay_path is not None:
                kwargs["path"] = Path(self.replay_path) / "frames.npy"
            needed = FrameReplay.predicted_bytes(
                self.buffer_size, space, self.action_space, self.n_envs, kwargs["frame_channels"], kwargs.get("path")
            )
        else:
            needed = plain_bytes(self.buffer_size, space, self.optimize_memory_usage, self.replay_path is not None)
        if needed > WORTH_SAYING or self.verbose > 0:
            each = "each frame once" if frames else "what is seen, twice" if self._keeps_seen else "observations twice"
            print(f"replay of {self.buffer_size:,} transitions: {needed / 1e9:.2f} GB of memory ({each})")
        check_room(needed, f"a replay of {self.buffer_size:,} transitions")
        if frames:
            self.replay_buffer = FrameReplay(
                self.buffer_size, space, self.action_space, device=self.device, n_envs=self.n_envs, **kwargs
            )
        elif self._keeps_seen:
            kind: Any = ReplayBuffer
            if self.n_steps > 1:
                kind, kwargs = NStepReplayBuffer, {**kwargs, "n_steps": self.n_steps, "gamma": self.gamma}
            kwargs["optimize_memory_usage"] = self.optimize_memory_usage
            self.replay_buffer = kind(
                self.buffer_size, space, self.action_space, device=self.device, n_envs=self.n_envs, **kwargs
            )

    def _seen_by_frozen_eyes(self) -> spaces.Box | None:
        """The space of what frozen eyes see, which can be kept in the place of observations; None if it can't be."""
        kwargs = self.policy_kwargs.get("features_extractor_kwargs") or {}
        ours = self.policy_class in self.policy_aliases.values()  # a user's own may look anew at each minibatch
        eyes = self.policy_kwargs.get("features_extractor_class") is ZooFeatures
        if not (ours and eyes and kwargs.get("freeze")) or self._vec_normalize_env is not None:
            return None
        with private_seed():
            return seen_space(as_encoder(kwargs["encoder"], self.observation_space))

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """As in Stable-Baselines3: unpickled, which can run code. Priorities are not in it: all begin alike."""
        super().load_replay_buffer(path, truncate_last_traj)
        if self.prioritized:
            self._priorities = Priorities(self.replay_buffer, self.priority_alpha)

    def _minibatches(self, n: int, batch_size: int) -> Iterator[tuple[Batch, Any, Any]]:
        """`n` minibatches, read many at once: each with its observations as the network takes them, and the next ones.

        Yields
        ------
        batch, inputs, next_inputs
            The last two of several minibatches if these were read together; `batch` then holds as many rows.
        """
        buffer: Any = self.replay_buffer
        normalizer = self._vec_normalize_env
        if type(buffer) not in OWN:
            for _ in range(n):
                yield self._with_inputs(asked(buffer, batch_size, self.gamma, normalizer))
            return
        together = max(int(AT_ONCE // max(2 * batch_size * bytes_of(self.observation_space), 1)), 1)
        for start in range(0, n, together):
            rows = min(together, n - start) * batch_size
            leaves = weights = None
            if self._priorities is None:
                drawn = draw(buffer, rows)
            else:
                beta = 1.0 - (1.0 - self.priority_beta) * self._current_progress_remaining
                leaves, weights = self._priorities.draw(rows, batch_size, beta)
                drawn = leaves // buffer.n_envs, leaves % buffer.n_envs
            yield self._with_inputs(
                read(buffer, *drawn, self.gamma, normalizer)._replace(leaves=leaves, weights=weights)
            )

    def _with_inputs(self, batch: Batch) -> tuple[Batch, Any, Any]:
        network = self._network
        take_in = network.array if self._keeps_seen else network.look if network.frozen else network.inputs
        inputs, next_inputs = take_in(batch.obs), take_in(batch.next_obs)
        if self.augment is not None:
            inputs, next_inputs = network.augmented(inputs), network.augmented(next_inputs)
        return batch, inputs, next_inputs

    # -- act and store ------------------------------------------------------------------------------------------------

    def _choose_network(self) -> Any:
        """The policy as this loop drives it; None where SB3's own loop must."""
        raise NotImplementedError

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Act until `train_freq` says to learn, and store what happens."""
        network, next_step = self._choose_network(), self._next_step_envs(env)
        if network is None:
            return super().collect_rollouts(
                env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
            )
        network.begin_rollout(train_freq.frequency, env.num_envs)
        with threads(network.acting_threads):
            return self._collect(
                network,
                env,
                next_step,
                callback,
                train_freq,
                replay_buffer,
                action_noise,
                learning_starts,
                log_interval,
            )

    def _collect(
        self,
        network: Any,
        env: VecEnv,
        next_step: GymVecEnv | None,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None,
        learning_starts: int,
        log_interval: int | None,
    ) -> RolloutReturn:
        """As `collect_rollouts`. The local names are SB3's, for callbacks read them."""
        if env.num_envs > 1 and train_freq.unit is not TrainFrequencyUnit.STEP:
            raise ValueError("train_freq in episodes needs one environment: several do not end together")
        step: Step = lean_step(env)
        num_collected_steps = num_collected_episodes = 0
        continue_training = True  # as SB3 calls it, where a callback may read it
        callback.on_rollout_start()
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = step(actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1
            if next_step is not None:
                self.num_timesteps -= int(next_step.phantom.sum())
            self._check_observation(new_obs)
            self._check_rewards(rewards)
            callback.update_locals(locals())
            if not callback.on_step():
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, False)
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for i in np.flatnonzero(dones):
                num_collected_episodes += 1
                self._episode_num += 1
                if action_noise is not None:
                    action_noise.reset(**({"indices": [i]} if env.num_envs > 1 else {}))
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, True)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store a step: what was seen before normalisation, and at an episode's end what it ended in.

        A step of an environment that only reset is no transition. The one before it is stored again in its place.
        """
        normalizer = self._vec_normalize_env
        if normalizer is None:
            self._last_original_obs, new_original, reward_ = self._last_obs, new_obs, reward
        else:
            new_original, reward_ = normalizer.get_original_obs(), normalizer.get_original_reward()
        next_obs = new_original
        ends = [i for i in np.flatnonzero(dones) if infos[i].get("terminal_observation") is not None]
        if ends:
            next_obs = {k: v.copy() for k, v in next_obs.items()} if isinstance(next_obs, dict) else next_obs.copy()
            for i in ends:
                final_obs = infos[i]["terminal_observation"]
                self._check_observation(as_batch([final_obs]), env_index=int(i))
                if normalizer is not None:  # which has normalised it, too
                    final_obs = normalizer.unnormalize_obs(final_obs)
                if isinstance(next_obs, dict):
                    for key, rows in next_obs.items():
                        rows[i] = final_obs[key]
                else:
                    next_obs[i] = final_obs
        before: Any = self._last_original_obs
        if self._keeps_seen:
            before, next_obs = self._seen(self._last_obs, new_obs, next_obs, ends)
        stored: tuple[Any, ...] = (before, next_obs, buffer_action, reward_, dones, infos)
        inner = None if self.env is None else self.env.unwrapped
        if isinstance(inner, GymVecEnv) and inner.phantom.any() and replay_buffer.size():
            stored = _again(replay_buffer, inner.phantom, *stored)
        replay_buffer.add(*stored)
        self._last_obs = new_obs
        if normalizer is not None:
            self._last_original_obs = new_original

    def _seen(self, obs: Any, new_obs: Any, next_obs: Any, ends: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """What frozen eyes see before a step and after it, ``[B, D]`` each; they look at each observation once."""
        look = self._network.look
        before = look(obs).numpy(force=True)
        last = look(next_obs[ends]).numpy(force=True) if ends else None
        after = look(new_obs).numpy(force=True)  # which is what is acted on next
        if last is not None:
            after = after.copy()
            after[ends] = last
        return before, after


def plain_bytes(buffer_size: int, space: spaces.Space, once: bool, in_file: bool = False) -> int:
    """The memory that a plain replay takes, in bytes: mostly observations, twice unless SB3's option keeps them once.

    Examples
    --------
    >>> plain_bytes(1_000_000, spaces.Box(0, 255, (4, 84, 84), np.uint8), once=False) / 1e9
    56.468
    """
    return buffer_size * (bytes_of(space) * (0 if in_file else 1 if once else 2) + 20)


def bytes_of(space: spaces.Space) -> int:
    """What one observation takes."""
    boxes: Any = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(np.dtype(box.dtype).itemsize * int(np.prod(box.shape)) for box in boxes)


def _again(
    buffer: Any, phantom: np.ndarray, obs: Any, next_obs: Any, action: Any, reward: Any, dones: Any, infos: Any
) -> tuple[Any, ...]:
    """The step with the last stored transition in place of those that only reset."""
    last = (buffer.pos - 1) % buffer.buffer_size
    if isinstance(buffer, DictReplayBuffer) or isinstance(obs, dict):
        raise ValueError("autoreset mode NEXT_STEP and dictionaries don't go together here: use SAME_STEP")
    if isinstance(buffer, FrameReplay):
        numbers, each = (buffer.obs_numbers[last], buffer.next_obs_numbers[last]), np.arange(buffer.n_envs)
        before, after = (buffer.stacks(number, each) for number in numbers)
    else:
        before, after = buffer.observations[last], buffer.next_observations[last]
    wide = phantom.reshape(-1, *[1] * (before.ndim - 1))
    shape = np.shape(obs)
    cut = buffer.timeouts[last] > 0
    infos = [{**info, "TimeLimit.truncated": bool(cut[i])} if phantom[i] else info for i, info in enumerate(infos)]
    actions = buffer.actions[last].reshape(np.shape(action))
    return (
        np.where(wide, before, np.reshape(obs, before.shape)).reshape(shape),
        np.where(wide, after, np.reshape(next_obs, after.shape)).reshape(shape),
        np.where(phantom.reshape(-1, *[1] * (np.ndim(action) - 1)), actions, action),
        np.where(phantom, buffer.rewards[last], reward),
        np.where(phantom, buffer.dones[last] > 0, dones),
        infos,
    )
