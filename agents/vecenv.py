"""The border between environments and Stable-Baselines3: everything becomes an SB3 ``VecEnv``.

A Gymnasium ``VectorEnv`` steps all its environments in one call, in numpy or C++. SB3 can't take one; `GymVecEnv` shows
it one, at the price of a list of small dicts. This is the one place where ``terminated | truncated`` is called `dones`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

Step = Callable[[np.ndarray], VecEnvStepReturn]


class GymVecEnv(VecEnv):
    """A Gymnasium ``VectorEnv`` as a Stable-Baselines3 ``VecEnv``, with the episode statistics of a ``Monitor``.

    Parameters
    ----------
    envs : gymnasium.vector.VectorEnv
        With SAME_STEP autoreset, taken as it is; or NEXT_STEP, where the step after an episode's end only resets and its
        action is ignored: such phantom transitions are marked in `phantom`, and the agents here leave them out.

    Attributes
    ----------
    phantom : [B] booleans
        Which environments only reset in the last step.

    Raises
    ------
    ValueError
        If the environment does not reset itself (autoreset mode DISABLED).

    Examples
    --------
    >>> env = GymVecEnv(gym.make_vec("CartPole-v1", num_envs=2))
    >>> env.seed(0)
    [0, 1]
    >>> env.reset().shape
    (2, 4)
    """

    def __init__(self, envs: VectorEnv):
        mode = AutoresetMode(envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if mode is AutoresetMode.DISABLED:
            raise ValueError("the vector environment has autoreset DISABLED: make it with autoreset_mode=SAME_STEP or NEXT_STEP")
        self.envs = envs
        self.next_step = mode is AutoresetMode.NEXT_STEP
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.phantom = np.zeros(self.num_envs, bool)
        self._clear()

    def _clear(self) -> None:
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)
        self._started_at = time.time()

    def reset(self) -> VecEnvObs:
        seed = self._seeds[0]  # SB3 seeds environment i with seed + i, and so does Gymnasium
        obs, _ = self.envs.reset(seed=seed, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self._clear()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, terminated, truncated, extras = self.envs.step(self._actions)
        dones = terminated | truncated
        self.phantom = self._ended
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        if self.next_step:
            self._returns[self.phantom], self._lengths[self.phantom] = 0.0, 0
            self._ended = dones
        if len(extras) > 2 or (extras and "final_obs" not in extras):
            _spread(extras, infos)
        if dones.any():
            final_obs = obs if self.next_step else extras["final_obs"]
            for i in np.flatnonzero(dones):
                info = infos[i]
                info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
                info["terminal_observation"] = {k: v[i] for k, v in final_obs.items()} if isinstance(final_obs, dict) else final_obs[i]
                info["episode"] = {
                    "r": round(float(self._returns[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._started_at, 6),
                }
            self._returns[dones], self._lengths[dones] = 0.0, 0
        return obs, rewards.astype(np.float32, copy=False), dones, infos

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        chosen = self._get_indices(indices)
        if hasattr(self.envs.unwrapped, "get_attr"):  # Sync- and AsyncVectorEnv ask each of their environments
            values = self.envs.unwrapped.get_attr(attr_name)
            return [values[i] for i in chosen]
        value = getattr(self.envs, attr_name)
        return [value for _ in chosen]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        chosen = list(self._get_indices(indices))
        if hasattr(self.envs.unwrapped, "set_attr"):
            values = list(self.envs.unwrapped.get_attr(attr_name))
            for i in chosen:
                values[i] = value
            self.envs.unwrapped.set_attr(attr_name, values)
        elif len(chosen) == self.num_envs:
            setattr(self.envs.unwrapped, attr_name, value)
        else:
            raise ValueError(f"{self.envs} steps all its environments as one: {attr_name!r} can only be set for all of them")

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        chosen = self._get_indices(indices)
        if hasattr(self.envs.unwrapped, "call"):
            results = self.envs.unwrapped.call(method_name, *method_args, **method_kwargs)
            return [results[i] for i in chosen]
        raise ValueError(f"{self.envs} steps all its environments as one: it has no method {method_name!r} for each of them")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        # Episodes are counted here as a Monitor counts them, so that SB3's evaluation trusts them.
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


def _spread(extras: dict[str, Any], infos: list[dict[str, Any]]) -> None:
    """Gymnasium's dict of arrays, with its ``_key`` masks, as SB3's list of dicts."""
    for key, values in extras.items():
        if key.startswith("_") or key in ("final_obs", "final_info") or f"_{key}" not in extras:
            continue
        for i in np.flatnonzero(extras[f"_{key}"]):
            infos[i][key] = values[i] if not isinstance(values, dict) else {k: v[i] for k, v in values.items()}
    if isinstance(extras.get("final_info"), dict):
        _spread(extras["final_info"], infos)


def make(env_id: str, n_envs: int = 1, **kwargs: Any) -> VecEnv:
    """Environments by id, as many as asked for.

    Parameters
    ----------
    env_id : str
        An id of this project (``sandbox/CartPole-v1``) gives its vector environment; any other Gymnasium id gives
        Gymnasium's own environment, stepped one after the other as ``stable_baselines3.make_vec_env`` does.
    n_envs : int
    **kwargs
        For the environment.

    Returns
    -------
    VecEnv

    Raises
    ------
    gymnasium.error.Error
        If there is no such environment.

    Examples
    --------
    >>> make("sandbox/CartPole-v1", n_envs=4).num_envs
    4
    """
    env_id = qualified(env_id)
    if spec(env_id).vector_entry_point is not None and env_id.startswith("envs:"):
        return GymVecEnv(gym.make_vec(env_id, num_envs=n_envs, **kwargs))
    return make_vec_env(env_id, n_envs, env_kwargs=kwargs)


def by_id(env: Any, n_envs: int | None) -> Any:
    """What an agent's `env` and `n_envs` stand for: environments by id, or `env` as it is."""
    if n_envs is not None and not isinstance(env, str):
        raise ValueError(f"n_envs={n_envs} goes with the id of an environment; {type(env).__name__} is already made")
    if not isinstance(env, str):
        return env
    return qualified(env) if n_envs is None else make(env, n_envs)


def spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """What Gymnasium has registered under an id, the module of ``module:id`` imported first.

    Raises
    ------
    gymnasium.error.Error or ImportError
        If there is no such environment or module.
    """
    module, _, name = qualified(env_id).rpartition(":")
    if module:
        importlib.import_module(module)
    return gym.spec(name)


def qualified(env_id: str) -> str:
    """The id with the module that registers it, for the ids of this project.

    Examples
    --------
    >>> qualified("sandbox/Catch-v0"), qualified("CartPole-v1")
    ('envs:sandbox/Catch-v0', 'CartPole-v1')
    """
    return f"envs:{env_id}" if env_id.startswith("sandbox/") else env_id


def lean_step(env: VecEnv) -> Step:
    """The environment's `step`; for a plain ``DummyVecEnv`` the same work without its deep copies.

    ``DummyVecEnv`` copies every observation and every info twice. Here each is written once, into memory of its own.
    """
    if type(env) is not DummyVecEnv or env.keys != [None]:
        return env.step
    envs, shape, dtype = env.envs, env.buf_obs[None].shape, env.buf_obs[None].dtype
    reset_infos = env.reset_infos

    def step(actions: np.ndarray) -> VecEnvStepReturn:
        n = len(envs)
        obs, rewards, dones = np.empty(shape, dtype), np.empty(n, np.float32), np.empty(n, bool)
        infos = []
        for i, one in enumerate(envs):
            new_obs, rewards[i], terminated, truncated, info = one.step(actions[i])
            done = terminated or truncated
            info = {**info, "TimeLimit.truncated": truncated and not terminated}
            if done:
                info["terminal_observation"] = new_obs
                new_obs, reset_infos[i] = one.reset()
            obs[i], dones[i] = new_obs, done
            infos.append(info)
        return obs, rewards, dones, infos

    return step
