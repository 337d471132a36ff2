"""The border between environments and Stable-Baselines3: everything becomes an SB3 ``VecEnv``.

A Gymnasium ``VectorEnv`` steps all its environments in one call, in numpy or C++. SB3 can't take one; `GymVecEnv` shows
it one, at the price of a list of small dicts. This is the one place where ``terminated | truncated`` is called `dones`.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

# The module that registers a namespace, and the one without which there is nothing to register.
HOMES = {"sandbox": "envs", "baselines": "envs", "machado": "envs", "ALE": "ale_py"}
NEEDS = {"baselines": "ale_py", "machado": "ale_py"}
AUTORESET_KEYS = {"final_obs", "_final_obs", "final_info", "_final_info"}
Step = Callable[[np.ndarray], VecEnvStepReturn]


class UnfitEnvironment(ValueError):
    """An environment does not give what the agent was told to learn from, such as masks, or an end of its episodes."""


class GymVecEnv(VecEnv):
    """A Gymnasium ``VectorEnv`` as a Stable-Baselines3 ``VecEnv``, with the episode statistics of a ``Monitor``.

    Parameters
    ----------
    envs : gymnasium.vector.VectorEnv
        With SAME_STEP autoreset, taken as it is; or NEXT_STEP, where the step after an episode's end only resets and
        its action is ignored: such phantom transitions are marked in `phantom`, and the agents here leave them out.

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
            raise ValueError(
                "the vector environment has autoreset DISABLED: make it with autoreset_mode=SAME_STEP or NEXT_STEP"
            )
        self.envs = envs
        self.next_step = mode is AutoresetMode.NEXT_STEP
        # Of an Atari game, where rewards are clipped and a life is an episode, only the environment knows the score.
        self.counts_itself = bool(envs.metadata.get("counts_episodes", False))
        self.plays_on = _plays_on(envs)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.phantom = np.zeros(self.num_envs, bool)
        self._clear()

    def _clear(self) -> None:
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)
        self._started_at = time.time()

    @property
    def resets_next(self) -> np.ndarray:
        """Which environments will only reset in the next step, ``[B]``."""
        return self._ended if self.next_step else np.zeros(self.num_envs, bool)

    def reset(self) -> VecEnvObs:
        seed = self._seeds[0]  # SB3 seeds environment i with seed + i, and so does Gymnasium
        obs, extras = self.envs.reset(seed=seed, options=self._options[0] or None)
        self.reset_infos = [_info_of(extras, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._clear()
        return self._own(obs)

    def step_async(self, actions: np.ndarray) -> None:
        if self.plays_on:
            self.envs.send(actions)  # type: ignore[attr-defined]
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, terminated, truncated, extras = (
            self.envs.recv() if self.plays_on else self.envs.step(self._actions)  # type: ignore[attr-defined]
        )
        obs, dones = self._own(obs), terminated | truncated
        self.phantom = self._ended
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        if self.next_step:
            self._returns[self.phantom], self._lengths[self.phantom] = 0.0, 0
            self._ended = dones
        ended = np.flatnonzero(dones)
        if extras.keys() - AUTORESET_KEYS or extras.get("final_info"):
            for i in range(self.num_envs):
                own = _info_of(extras, i)
                if dones[i] and not self.next_step:  # what is not final is already the next episode's
                    self.reset_infos[i], own = own, _info_of(extras.get("final_info") or {}, i)
                infos[i].update(own)
        for i in ended.tolist():
            final_obs = obs if self.next_step else extras["final_obs"]
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
            infos[i]["terminal_observation"] = _row(final_obs, i)
            seconds = {"t": round(time.time() - self._started_at, 6)}
            if not self.counts_itself:
                infos[i]["episode"] = {"r": round(float(self._returns[i]), 6), "l": int(self._lengths[i]), **seconds}
            elif "episode" in infos[i]:
                episode = infos[i]["episode"]
                infos[i]["episode"] = {"r": float(episode["r"]), "l": int(episode["l"]), **seconds}
        if len(ended):
            self._returns[dones], self._lengths[dones] = 0.0, 0
        return obs, rewards.astype(np.float32, copy=False), dones, infos

    def _own(self, obs: VecEnvObs) -> VecEnvObs:
        # SyncVectorEnv(copy=False) writes each step's observations over the last one's.
        return copy.deepcopy(obs) if getattr(self.envs.unwrapped, "copy", True) is False else obs

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.envs.render() or [None] * self.num_envs)  # type: ignore[arg-type]

    def _each(self, indices: VecEnvIndices, what: str) -> list[gym.Env]:
        """The single environments, where there are such."""
        if not hasattr(self.envs.unwrapped, "envs"):
            raise AttributeError(
                f"{self.envs} has no single environments in this process: {what} is only there for all of them"
            )
        return [self.envs.unwrapped.envs[i] for i in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if hasattr(self.envs.unwrapped, "envs"):
            return [env.get_wrapper_attr(attr_name) for env in self._each(indices, attr_name)]
        if hasattr(self.envs.unwrapped, "get_attr"):  # AsyncVectorEnv asks its processes
            values = self.envs.unwrapped.get_attr(attr_name)
            return [values[i] for i in self._get_indices(indices)]
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        if indices is None and not hasattr(self.envs.unwrapped, "envs"):
            if hasattr(self.envs.unwrapped, "set_attr"):
                self.envs.unwrapped.set_attr(attr_name, value)
            else:
                setattr(self.envs.unwrapped, attr_name, value)
            return
        for env in self._each(indices, attr_name):
            env.set_wrapper_attr(attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        if indices is None and not hasattr(self.envs.unwrapped, "envs") and hasattr(self.envs.unwrapped, "call"):
            return list(self.envs.unwrapped.call(method_name, *args, **kwargs))
        return [env.get_wrapper_attr(method_name)(*args, **kwargs) for env in self._each(indices, method_name)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        # Episodes are counted here as a Monitor counts them, so that SB3's evaluation trusts them.
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


class Groups(VecEnv):
    """Environments in groups, each stepped in threads of its own: while one group plays, the others can be thought for.

    Parameters
    ----------
    groups : sequence of GymVecEnv

    Attributes
    ----------
    parts : list of (GymVecEnv, slice)
        Each group, and which of all environments it is.
    """

    def __init__(self, groups: Sequence[GymVecEnv]):
        ends = np.cumsum([group.num_envs for group in groups]).tolist()
        self.parts = [(group, slice(end - group.num_envs, end)) for group, end in zip(groups, ends, strict=True)]
        super().__init__(ends[-1], groups[0].observation_space, groups[0].action_space)

    def reset(self) -> VecEnvObs:
        for group, rows in self.parts:
            group._seeds, group._options = self._seeds[rows], self._options[rows]
        obs = np.concatenate([group.reset() for group, _ in self.parts])
        self.reset_infos = [info for group, _ in self.parts for info in group.reset_infos]
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        for group, rows in self.parts:
            group.step_async(actions[rows])

    def step_wait(self) -> VecEnvStepReturn:
        return self.join([group.step_wait() for group, _ in self.parts])

    def join(self, results: Sequence[VecEnvStepReturn]) -> VecEnvStepReturn:
        """What the groups' steps have brought, as one step."""
        obs, rewards, dones, infos = zip(*results, strict=True)
        self.reset_infos = [info for group, _ in self.parts for info in group.reset_infos]
        return np.concatenate(obs), np.concatenate(rewards), np.concatenate(dones), [i for each in infos for i in each]

    def close(self) -> None:
        for group, _ in self.parts:
            group.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [image for group, _ in self.parts for image in group.get_images()]

    def _each(self, indices: VecEnvIndices, ask: Callable[[GymVecEnv, list[int]], Sequence[Any]]) -> list[Any]:
        """Ask each group for those of its environments that are among `indices`; the answers in their order."""
        answers: dict[int, Any] = {}
        for group, rows in self.parts:
            own = self._among(indices, rows)
            answers |= dict(zip((i + rows.start for i in own), ask(group, own), strict=True))
        return [answers[i] for i in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return self._each(indices, lambda group, own: group.get_attr(attr_name, own))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for group, rows in self.parts:
            group.set_attr(attr_name, value, None if indices is None else self._among(indices, rows))

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        return self._each(indices, lambda group, own: group.env_method(method_name, *args, indices=own, **kwargs))

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return self._each(indices, lambda group, own: group.env_is_wrapped(wrapper_class, own))

    def _among(self, indices: VecEnvIndices, rows: slice) -> list[int]:
        return [i - rows.start for i in self._get_indices(indices) if rows.start <= i < rows.stop]


def _plays_on(envs: VectorEnv) -> bool:
    """Whether a step of these environments can be begun and waited for: nothing wrapped around them may be left out."""
    return envs is envs.unwrapped and hasattr(envs, "send") and hasattr(envs, "recv")


def _info_of(extras: dict[str, Any], i: int) -> dict[str, Any]:
    """Environment `i`'s own part of Gymnasium's dict of arrays, as the ``_key`` masks tell."""
    return {
        key: _info_of(values, i) if isinstance(values, dict) else values[i]
        for key, values in extras.items()
        if key not in AUTORESET_KEYS and f"_{key}" in extras and extras[f"_{key}"][i]
    }


def _row(obs: Any, i: int) -> Any:
    return {key: values[i] for key, values in obs.items()} if isinstance(obs, dict) else obs[i]


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
        envs = gym.make_vec(env_id, num_envs=n_envs, **kwargs)
        if n_envs < 4 or n_envs % 2 or not _plays_on(envs):
            return GymVecEnv(envs)
        envs.close()
        return Groups([GymVecEnv(gym.make_vec(env_id, num_envs=n_envs // 2, **kwargs)) for _ in range(2)])
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
    needed = NEEDS.get(name.partition("/")[0])
    if needed and importlib.util.find_spec(needed) is None:
        raise ModuleNotFoundError(f"No module named {needed!r}", name=needed)
    return gym.spec(name)


def qualified(env_id: str) -> str:
    """The id with the module that registers it, for namespaces whose home is known.

    Examples
    --------
    >>> qualified("sandbox/Catch-v0"), qualified("CartPole-v1")
    ('envs:sandbox/Catch-v0', 'CartPole-v1')
    """
    namespace, slash, _ = env_id.partition("/")
    return f"{HOMES[namespace]}:{env_id}" if slash and namespace in HOMES else env_id


def lean_step(env: VecEnv) -> Step:
    """The environment's `step`; for a plain ``DummyVecEnv`` the same work without its deep copies.

    ``DummyVecEnv`` copies every observation and every info twice. Here each is written once, into memory of its own.
    """
    if type(env) is not DummyVecEnv or env.keys != [None] or {"step", "step_async", "step_wait"} & vars(env).keys():
        return env.step
    space: Any = env.observation_space
    envs, shape, dtype = env.envs, (env.num_envs, *space.shape), space.dtype
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


def frames_in(env: VecEnv) -> int | None:
    """How many channels a frame has, where observations are stacks of the last few; None where they are not.

    Examples
    --------
    >>> frames_in(make("sandbox/CartPole-v1"))
    """
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecFrameStack):
            shape = env.observation_space.shape  # a dictionary has none
            stacked: Any = env.stacked_obs
            return shape[stacked.repeat_axis] // stacked.n_stack if shape and len(shape) == 3 else None
        env = env.venv
    one: Any = env.parts[0][0] if isinstance(env, Groups) else env
    if isinstance(one, DummyVecEnv):
        one = one.envs[0].unwrapped
    elif isinstance(one, GymVecEnv):
        one = one.envs
    same = getattr(one, "single_observation_space", one.observation_space) == env.observation_space
    return one.metadata.get("frame_channels") if same else None
