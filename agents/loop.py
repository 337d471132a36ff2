"""What the loops of all agents share: the way in, the way out, and what stops them.

`Loop` goes in front of a Stable-Baselines3 algorithm, below a loop that replaces how it acts and learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecCheckNan, VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from agents.policies import ZooEyes, ZooFeatures
from agents.vecenv import GymVecEnv
from sandbox.training.device import no_denormals, precision, threads


class NonFiniteError(FloatingPointError):
    """An observation, a reward or the loss became NaN or infinite: training stopped before it reached the weights."""


class FastPath(NamedTuple):
    """Which loop trains an agent; true unless it is Stable-Baselines3's own."""

    kind: str  # "by hand", "autograd" or "inherited"
    reason: str = ""  # why it is not a faster one

    def __bool__(self) -> bool:
        return self.kind != "inherited"

    def __str__(self) -> str:
        return f"{self.kind} ({self.reason})" if self.reason else self.kind


class Loop(BaseAlgorithm):
    """What stands around a faster loop, on-policy or off-policy."""

    precision = "fp32"
    augment: str | None = None  # what is done to pictures before they are learned from
    aux_coef = 1.0  # of what the encoder learns beside the reward
    train: Any  # the algorithm's own
    _network: Any = None  # the policy as the loop drives it

    @property
    def fast_path(self) -> FastPath:
        """Which loop trains this agent, and why it is not a faster one."""
        raise NotImplementedError

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv):
            env = GymVecEnv(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        if self.augment is not None and not is_image_space(self.observation_space):
            raise ValueError(f"augment={self.augment!r} is of pictures, bytes [C, H, W], and not of these observations")
        super()._setup_model()  # type: ignore[safe-super]
        precision(self.precision, self.device)  # refuses a wrong name now, not in `learn`
        self._network = None
        # From here on the weights are the policy's own: a saved agent carries what rebuilds its encoder, not a path.
        features, kwargs = self._eyes(), self.policy_kwargs.get("features_extractor_kwargs")
        if kwargs and isinstance(features, ZooFeatures) and hasattr(features.encoder, "spec"):
            self.policy_kwargs = {
                **self.policy_kwargs,
                "features_extractor_kwargs": {**kwargs, "encoder": features.encoder.spec},
            }

    def _eyes(self) -> Any:
        """The features extractor of what is trained."""
        return self.policy.features_extractor

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        if isinstance(self.policy, ZooEyes) and self.policy.encoder_learning_rate is not None:
            self.policy.set_encoder_rate(self._current_progress_remaining)
            self.logger.record("train/encoder_learning_rate", self.policy.optimizer.param_groups[1]["lr"])

    def _log_aux_loss(self, network: Any) -> None:
        """The mean of the auxiliary losses since the last time, if there is one."""
        found = getattr(network, "aux_losses", None)
        if found:
            self.logger.record("train/aux_loss", float(torch.stack(found).mean()))
            found.clear()

    def learn(self, *args: Any, **kwargs: Any) -> Any:
        path = self.fast_path
        if not path:
            if self.augment is not None or getattr(self.policy, "aux_loss", None) is not None:
                raise ValueError(f"augment and aux_loss need a loop of this project, and here is {path}")
            return super().learn(*args, **kwargs)  # type: ignore[safe-super]
        with threads(1 if path.kind == "by hand" else None), no_denormals(), _unchecked_distributions():
            return super().learn(*args, **kwargs)  # type: ignore[safe-super]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_network"]

    @classmethod
    def load(
        cls,
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As in Stable-Baselines3, whose zip files can run code when they are opened; with ``trust=False`` none is run.

        See `agents.checkpoint.load_zip` for what is read then.
        """
        if kwargs.pop("trust", True):
            return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        from agents.checkpoint import load_zip  # it needs this class

        return load_zip(cls, path, env, device=device, **kwargs)

    def _next_step_envs(self, env: VecEnv) -> GymVecEnv | None:
        """The environments under `env` if they reset in a step of its own, which is no transition to learn from.

        Raises
        ------
        ValueError
            If something on the way to the update would take that step for a transition.
        """
        inner = env.unwrapped
        if not isinstance(inner, GymVecEnv) or not inner.next_step:
            return None
        path, obstacle = self.fast_path, None
        if not path:
            obstacle = str(path)
        elif not type(self).train.__module__.startswith("agents."):
            obstacle = f"{type(self).__name__}.train is overridden"
        while isinstance(env, VecEnvWrapper):
            if type(env) not in (VecNormalize, VecTransposeImage, VecCheckNan):
                obstacle = f"{type(env).__name__} does not know it"
            env = env.venv
        if obstacle:
            raise ValueError(
                f"autoreset mode NEXT_STEP has steps that only reset, and they can't be left out here: {obstacle}; "
                "make the vector environment with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        return inner

    def _check_observation(self, obs: Any, env_index: int | None = None) -> None:
        for array in leaves(obs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                if self._vec_normalize_env is not None and env_index is None:  # one bad value has spoilt all of them
                    original = self._vec_normalize_env.get_original_obs()
                    array = np.concatenate([rows.reshape(len(rows), -1) for rows in leaves(original)], axis=1)
                i = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0]
                where = f"of environment {i if env_index is None else env_index}"
                self._stop("the observation", where, array[i])

    def _check_rewards(self, rewards: np.ndarray) -> None:
        if not np.isfinite(rewards).all():
            if self._vec_normalize_env is not None:
                rewards = self._vec_normalize_env.get_original_reward()
            i = np.flatnonzero(~np.isfinite(rewards))[0]
            self._stop("the reward", f"of environment {i}", rewards[i])

    def _check_loss(self, gradient_norm: float) -> None:
        if not np.isfinite(gradient_norm):
            self._stop("the gradient of the loss", f"in update {self._n_updates + 1}", gradient_norm)

    def _stop(self, quantity: str, where: str, value: Any) -> None:
        raise NonFiniteError(
            f"{quantity} {where} is {value} at step {self.num_timesteps}: training stopped with the weights before it"
        )


def overridden(owner: Any, names: tuple[str, ...]) -> str | None:
    """The first of these methods that is a user's own, as words; None if all are SB3's or of this project."""
    for name in names:
        if name in vars(owner) or not getattr(type(owner), name).__module__.startswith(
            ("stable_baselines3.", "agents.")
        ):
            return f"{type(owner).__name__}.{name} is overridden"
    return None


def join(arrays: list[Any]) -> np.ndarray:
    """Numpy arrays or torch tensors, one after the other in numpy."""
    return np.concatenate(arrays) if isinstance(arrays[0], np.ndarray) else torch.cat(arrays).cpu().numpy()


def leaves(obs: Any) -> list[np.ndarray]:
    return list(obs.values()) if isinstance(obs, dict) else [obs]


def as_batch(observations: list[Any]) -> Any:
    """Single observations as one batch."""
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """torch checks the arguments of each distribution it makes; observations and gradients are checked here instead."""
    distribution = torch.distributions.Distribution
    before = distribution._validate_args
    distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        distribution.set_default_validate_args(before)
