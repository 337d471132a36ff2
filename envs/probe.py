"""Probe envs: tasks so small that their value function is known, each testing one more part of an agent.

Run an agent through them in order; the first that it fails says where the bug is. After Andy Jones, *Debugging
reinforcement learning systems* (2021), https://andyljones.com/posts/rl-debugging.html; the last one is ours.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.draw import CORAL, INK, STEEL, TEAL, Canvas
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

Array = np.ndarray


class Probe(Dynamics):
    """What the probes share: one number is the state ``[1, B]`` and the observation ``[B, 1]``, 0 at first."""

    n_actions: ClassVar[int] = 1
    render_fps = 4

    def __init__(self) -> None:
        self.observation_space: Any = Box(-1, 1, (1,), np.float32)
        self.action_space: Any = Discrete(self.n_actions)

    @staticmethod
    @abstractmethod
    def value(obs: Array, gamma: float) -> Array:
        """Expected discounted return from ``obs`` under the best policy, in the shape of ``obs``."""

    @staticmethod
    def best_action(obs: Array) -> Array:
        """Action of the best policy, in the shape of ``obs``, int64."""
        return np.zeros_like(obs, np.int64)

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> Array:
        return np.zeros((1, num_envs))

    def observe(self, state: Array, previous: Array | None = None) -> Array:
        return state.T.astype(np.float32)  # [B, 1]

    def draw(self, state: Array) -> Array:
        canvas = Canvas(100, 100, scale=40, centre=(0.0, 0.0))
        obs = float(state[0])
        canvas.box((0.0, 0.0), 2.0, 0.04, STEEL)
        canvas.disc((0.0, 0.75 * obs), 0.3, TEAL if obs > 0 else CORAL if obs < 0 else INK)
        return canvas.picture()


class _RandomSign(Probe):
    """Probes whose observation is -1 or 1 with equal probability."""

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> Array:
        return 2.0 * rng.integers(2, size=(1, num_envs)) - 1


class ProbeConstant(Probe):
    """One action, observation 0, one step, reward 1: ``V(obs) = 1``. Fails if the value loss or its optimiser is wrong.

    Examples
    --------
    >>> ProbeConstant.value(np.zeros(1), gamma=0.9)
    array([1.])
    """

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return np.ones_like(obs)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return np.ones(len(actions)), np.ones(len(actions), np.bool_)


class ProbeObservation(_RandomSign):
    """One action, observation -1 or 1, one step, the reward is the observation: ``V(obs) = obs``.

    Passing the first probe and failing this one: the value does not depend on the observation it should.

    Examples
    --------
    >>> ProbeObservation.value(np.array([-1.0, 1.0]), gamma=0.9)
    array([-1.,  1.])
    """

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return np.array(obs)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return state[0].copy(), np.ones(len(actions), np.bool_)


class ProbeDiscount(Probe):
    """One action, observations 0 then 1, two steps, reward 1 at the end: ``V(0) = gamma``, ``V(1) = 1``.

    Failing here: discounting or bootstrapping is wrong.

    Examples
    --------
    >>> ProbeDiscount.value(np.array([0.0, 1.0]), gamma=0.9)
    array([0.9, 1. ])
    """

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return gamma ** (1 - np.array(obs))

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        terminated = state[0] >= 1
        state[0] = 1
        return terminated.astype(np.float64), terminated


class ProbeAction(Probe):
    """Two actions, observation 0, one step, reward -1 for action 0 and 1 for action 1.

    ``V(obs) = 1`` for the best policy, ``2 π(1) - 1`` for any. Failing here: the advantage or the policy loss is wrong.

    Examples
    --------
    >>> ProbeAction.value(np.zeros(1), gamma=0.9), ProbeAction.best_action(np.zeros(1))
    (array([1.]), array([1]))
    """

    n_actions = 2

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return np.ones_like(obs)

    @staticmethod
    def best_action(obs: Array) -> Array:
        return np.ones_like(obs, np.int64)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return 2.0 * actions - 1, np.ones(len(actions), np.bool_)


class ProbePolicy(_RandomSign):
    """Two actions, observation -1 or 1, one step, reward 1 if the action has its sign (0 for -1, 1 for 1), else -1.

    ``V(obs) = 1`` for the best policy. Failing here: observations, actions and advantages are not kept together.

    Examples
    --------
    >>> ProbePolicy.best_action(np.array([-1.0, 1.0]))
    array([0, 1])
    """

    n_actions = 2

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return np.ones_like(obs)

    @staticmethod
    def best_action(obs: Array) -> Array:
        return (np.asarray(obs) > 0).astype(np.int64)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return state[0] * (2.0 * actions - 1), np.ones(len(actions), np.bool_)


class ProbeTruncation(Probe):
    """One action, observation 0, reward 1 a step, never terminates, truncated after 8: ``V(obs) = 1 / (1 - gamma)``.

    Failing here with ``(1 - gamma^8) / (1 - gamma)`` or less: a truncated episode is not bootstrapped from its final
    observation.

    Examples
    --------
    >>> ProbeTruncation.value(np.zeros(1), gamma=0.75)
    array([4.])
    """

    max_episode_steps = 8

    @staticmethod
    def value(obs: Array, gamma: float) -> Array:
        return np.full_like(obs, 1 / (1 - gamma))

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        return np.ones(len(actions)), np.zeros(len(actions), np.bool_)


class ProbeConstantEnv(DynamicsEnv):
    """One :class:`ProbeConstant`."""

    dynamics_type = ProbeConstant


class ProbeConstantVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeConstant`."""

    dynamics_type = ProbeConstant


class ProbeObservationEnv(DynamicsEnv):
    """One :class:`ProbeObservation`."""

    dynamics_type = ProbeObservation


class ProbeObservationVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeObservation`."""

    dynamics_type = ProbeObservation


class ProbeDiscountEnv(DynamicsEnv):
    """One :class:`ProbeDiscount`."""

    dynamics_type = ProbeDiscount


class ProbeDiscountVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeDiscount`."""

    dynamics_type = ProbeDiscount


class ProbeActionEnv(DynamicsEnv):
    """One :class:`ProbeAction`."""

    dynamics_type = ProbeAction


class ProbeActionVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeAction`."""

    dynamics_type = ProbeAction


class ProbePolicyEnv(DynamicsEnv):
    """One :class:`ProbePolicy`."""

    dynamics_type = ProbePolicy


class ProbePolicyVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbePolicy`."""

    dynamics_type = ProbePolicy


class ProbeTruncationEnv(DynamicsEnv):
    """One :class:`ProbeTruncation`."""

    dynamics_type = ProbeTruncation


class ProbeTruncationVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeTruncation`."""

    dynamics_type = ProbeTruncation
