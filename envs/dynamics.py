"""The extension point: a task is one class with four verbs over a batch of states."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Space

Options = dict[str, Any] | None


class Dynamics(ABC):
    """A Markov decision process over a batch of states: the one class to write for a new task.

    Nothing here keeps an episode or a random generator; the faces do. An object may keep scratch memory, so it belongs
    to one face.

    Attributes
    ----------
    observation_space, action_space : gymnasium.spaces.Space
        Of a single env.
    max_episode_steps : int or None
        Steps after which an episode is truncated; None for no limit.
    reward_threshold : float or None
        Return at which the task counts as solved.
    render_fps : int
        Frames per second of :meth:`draw`.
    remembers : bool
        True if :meth:`observe` looks at ``previous``.

    Examples
    --------
    A walk on the integers that ends at 3:

    >>> import gymnasium
    >>> from envs.vector import DynamicsVectorEnv
    >>> class Walk(Dynamics):
    ...     observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    ...     action_space = gymnasium.spaces.Discrete(2)
    ...     def initial(self, rng, num_envs, options=None):
    ...         return np.zeros((1, num_envs))
    ...     def step(self, state, actions):
    ...         state += 2 * actions - 1
    ...         terminated = state[0] >= 3
    ...         return terminated.astype(float), terminated
    ...     def observe(self, state, previous=None):
    ...         return state.T.astype(np.float32)
    ...     def draw(self, state):
    ...         return np.zeros((8, 8, 3), np.uint8)
    >>> class WalkVectorEnv(DynamicsVectorEnv):
    ...     dynamics_type = Walk
    >>> envs = WalkVectorEnv(num_envs=2)
    >>> obs, _ = envs.reset(seed=0)
    >>> envs.state = [[2.0, 0.0]]
    >>> obs, rewards, terminated, truncated, infos = envs.step(np.array([1, 1]))
    >>> obs.ravel().tolist(), rewards.tolist(), terminated.tolist()
    ([0.0, 1.0], [1.0, 0.0], [True, False])
    >>> infos["final_obs"][0]
    array([3.], dtype=float32)
    """

    observation_space: Space[Any]
    action_space: Space[Any]
    max_episode_steps: ClassVar[int | None] = None
    reward_threshold: ClassVar[float | None] = None
    render_fps: ClassVar[int] = 30
    remembers: ClassVar[bool] = False

    @abstractmethod
    def initial(self, rng: np.random.Generator, num_envs: int, options: Options = None) -> np.ndarray:
        """Draw ``num_envs`` initial states ``[S, num_envs]`` (float64); ``options`` are those of ``reset``."""

    @abstractmethod
    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Advance ``state`` ``[S, B]`` in place; return new arrays ``[B]``: rewards (float64), terminated (bool)."""

    @abstractmethod
    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        """Return a new array of observations ``[B, *shape]``.

        ``previous`` are the observations one step earlier, None after a reset: what a stack of frames is made from.
        """

    @abstractmethod
    def draw(self, state: np.ndarray) -> np.ndarray:
        """Draw the state ``[S]`` of one env as a picture ``[H, W, 3]``, uint8."""
