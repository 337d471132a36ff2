"""Write the dynamics once, get a ``gymnasium.Env`` and a ``gymnasium.vector.VectorEnv``.

A task is a subclass of :class:`envs.dynamics.Dynamics`: four verbs over a *batch* of states, in plain numpy. The two
generic faces here turn it into what Gymnasium knows: one env, or ``B`` envs in one array.

Legend: ``B`` envs, ``S`` numbers in a state. States are ``[S, B]`` and float64: one row per quantity, so that every
row is contiguous and an equation reads as it does on paper.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.checks import check_actions, check_state
from envs.dynamics import Dynamics, Options


class DynamicsEnv(gym.Env[Any, Any]):
    """One env of a :class:`Dynamics`, as ``gymnasium.Env``. ``gym.make`` adds the time limit.

    Parameters
    ----------
    render_mode : {None, "rgb_array"}
    **kwargs
        For the dynamics.

    Attributes
    ----------
    state : numpy.ndarray
        ``[S]``, a copy; may be set, to look at the env from there on.
    """

    dynamics_type: ClassVar[type[Dynamics]]
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (Gymnasium's type)

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.dynamics = self.dynamics_type(**kwargs)
        self.observation_space = self.dynamics.observation_space
        self.action_space = self.dynamics.action_space
        self.metadata = {**self.metadata, "render_fps": self.dynamics.render_fps}
        self.render_mode = render_mode
        self._state: np.ndarray | None = None  # [S, 1]
        self._obs: np.ndarray | None = None  # [1, *shape]

    @property
    def state(self) -> np.ndarray:
        return _started(self._state)[:, 0].copy()

    @state.setter
    def state(self, value: Any) -> None:
        self._state = check_state(np.asarray(value, np.float64)[..., None], _started(self._state))
        self._obs = self.dynamics.observe(self._state)

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the same seed gives the same one."""
        super().reset(seed=seed)
        self._state = self.dynamics.initial(self.np_random, 1, options)
        self._obs = self.dynamics.observe(self._state)
        return self._obs[0].copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        state = _started(self._state)
        actions = check_actions(np.asarray(action)[None], self.action_space, 1)
        rewards, terminated = self.dynamics.step(state, actions)
        self._obs = self.dynamics.observe(state, self._obs)
        return self._obs[0].copy(), float(rewards[0]), bool(terminated[0]), False, {}

    def render(self) -> Any:
        """Return the picture ``[H, W, 3]`` of the current state, or None without a render mode."""
        return _frames(self, self._state)[0] if _can_render(self) else None


class DynamicsVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """``B`` envs of a :class:`Dynamics` in one array, as ``gymnasium.vector.VectorEnv``.

    Autoreset is SAME_STEP: the observation returned with an episode's end is already the next episode's first, and
    the final one is in ``infos["final_obs"]`` (an object array, valid where ``infos["_final_obs"]``). Without an end,
    ``infos`` is empty. Every returned array is new.

    Parameters
    ----------
    num_envs : int
    max_episode_steps : int, optional
        Steps to truncation; the task's own by default, -1 for no limit.
    render_mode : {None, "rgb_array"}
    **kwargs
        For the dynamics.

    Attributes
    ----------
    state : numpy.ndarray
        ``[S, B]``, a copy; may be set.
    """

    dynamics_type: ClassVar[type[Dynamics]]
    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's type)
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int | None = None, render_mode: str | None = None, **kwargs: Any
    ) -> None:
        self.dynamics = self.dynamics_type(**kwargs)
        self.num_envs = num_envs
        self.single_observation_space = self.dynamics.observation_space
        self.single_action_space = self.dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**self.metadata, "render_fps": self.dynamics.render_fps}
        self.render_mode = render_mode
        limit = self.dynamics.max_episode_steps if max_episode_steps is None else max_episode_steps
        self._limit = np.int64(np.iinfo(np.int64).max if limit is None or limit == -1 else limit)
        self._steps = np.zeros(num_envs, np.int64)  # [B] since the last reset
        self._state: np.ndarray | None = None  # [S, B]
        self._obs: np.ndarray | None = None  # [B, *shape]
        self._options: Options = None
        self._generators: list[np.random.Generator] | None = None  # one per env if seeded by a list

    @property
    def state(self) -> np.ndarray:
        return _started(self._state).copy()

    @state.setter
    def state(self, value: Any) -> None:
        self._state = check_state(np.asarray(value, np.float64), _started(self._state))
        self._obs = self.dynamics.observe(self._state)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Options = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every env.

        Parameters
        ----------
        seed : int or sequence of int, optional
            An int seeds one generator for all envs. A sequence seeds one for each: env ``i`` then lives through the
            very episodes that the scalar face lives through with ``seed[i]``.
        options : dict, optional
            For the initial states, also those of the autoresets until the next ``reset``.
        """
        if options is not None and "reset_mask" in options:
            raise ValueError("reset_mask is not supported: these envs reset themselves (SAME_STEP)")
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            self._generators = self._generators if seed is None else None
        elif len(seed) != self.num_envs:
            raise ValueError(f"expected one seed for each of {self.num_envs} envs, got {len(seed)}")
        else:
            self._generators = [seeding.np_random(None if s is None else int(s))[0] for s in seed]
        self._options = options
        self._steps[:] = 0
        self._state = self._initial(np.arange(self.num_envs))
        self._obs = self.dynamics.observe(self._state)
        return self._obs.copy(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step in every env and reset those whose episode ended."""
        state = _started(self._state)
        actions = check_actions(actions, self.single_action_space, self.num_envs)
        rewards, terminated = self.dynamics.step(state, actions)
        self._steps += 1
        truncated = self._steps >= self._limit
        obs = self.dynamics.observe(state, self._obs)
        ended = terminated | truncated
        infos = self._autoreset(state, obs, ended) if np.count_nonzero(ended) else {}
        self._obs = obs
        # what the next stack of frames is made from must not be in the user's hands
        return obs.copy() if self.dynamics.remembers else obs, rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return one picture ``[H, W, 3]`` per env, or None without a render mode."""
        return _frames(self, self._state) if _can_render(self) else None

    def _autoreset(self, state: np.ndarray, obs: np.ndarray, ended: np.ndarray) -> dict[str, Any]:
        """Reset the ended envs in place; return the infos, keyed as Gymnasium's SyncVectorEnv does."""
        which = ended.nonzero()[0]
        final_obs = np.empty(self.num_envs, dtype=object)  # all None
        final_obs[which] = np.fromiter(obs.take(which, axis=0), object, len(which))
        fresh = self._initial(which)  # [S, len(which)]
        state[:, which] = fresh
        obs[which] = self.dynamics.observe(fresh)
        self._steps[which] = 0
        return {"final_obs": final_obs, "_final_obs": ended, "final_info": {}, "_final_info": ended.copy()}

    def _initial(self, which: np.ndarray) -> np.ndarray:
        if self._generators is None:
            return self.dynamics.initial(self.np_random, len(which), self._options)
        return np.concatenate([self.dynamics.initial(self._generators[i], 1, self._options) for i in which], axis=1)


def _started(state: np.ndarray | None) -> np.ndarray:
    if state is None:
        raise gym.error.ResetNeeded("call reset() first")
    return state


def _can_render(env: DynamicsEnv | DynamicsVectorEnv) -> bool:
    if env.render_mode is None:
        gym.logger.warn('render() does nothing: make the env with render_mode="rgb_array"')
    return env.render_mode is not None


def _frames(env: DynamicsEnv | DynamicsVectorEnv, state: np.ndarray | None) -> tuple[np.ndarray, ...]:
    return tuple(env.dynamics.draw(column) for column in _started(state).T)
