"""Pendulum: swing a pendulum up and hold it there, with a motor too weak to lift it at once."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box

from envs.checks import number
from envs.draw import CORAL, INK, SAND, SLATE, Canvas
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

MASS, LENGTH, DT = 1.0, 1.0, 0.05  # kg, m, s
SPEED, TORQUE = 8.0, 2.0  # rad/s, N m


class Pendulum(Dynamics):
    """Torque-limited pendulum swing-up, stepping equal to Gymnasium's ``Pendulum-v1``.

    ``θ̇ ← clip(θ̇ + (3g/2l sin θ + 3/ml² u) dt, ±8)``, ``θ ← θ + θ̇ dt`` with ``θ`` (rad) 0 upright and ``u`` the torque
    clipped to ±2 N m. The state is ``θ, θ̇``, the observation ``cos θ, sin θ, θ̇``, the reward
    ``-(θ² + 0.1 θ̇² + 0.001 u²)`` with ``θ`` taken in [-π, π). It never terminates.

    Parameters
    ----------
    g : float
        Gravity in m/s².

    References
    ----------
    Doya (2000), *Reinforcement learning in continuous time and space*, Neural Computation 12.

    Examples
    --------
    >>> dynamics = Pendulum()
    >>> state = np.zeros((2, 1))  # upright at rest
    >>> rewards, terminated = dynamics.step(state, np.array([[2.0]]))
    >>> rewards.tolist(), state[:, 0].round(3).tolist()
    ([-0.004], [0.015, 0.3])
    """

    max_episode_steps = 200

    def __init__(self, g: float = 10.0) -> None:
        high = np.array([1, 1, SPEED], np.float32)
        self.observation_space: Any = Box(-high, high, dtype=np.float32)
        self.action_space: Any = Box(-TORQUE, TORQUE, (1,), np.float32)
        self.g = g

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        """``options["x_init"]`` and ``["y_init"]`` bound the angle (rad) and the velocity (rad/s) on both sides."""
        options = options or {}
        high = np.array([[number(options.get("x_init", np.pi))], [number(options.get("y_init", 1.0))]])
        return rng.uniform(-high, high, (2, num_envs))

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta, theta_dot = state
        # float32 actions enter in float32, as in Gymnasium
        torque = np.clip(actions[:, 0], -TORQUE, TORQUE)
        angle = (theta + np.pi) % (2 * np.pi) - np.pi
        costs = angle**2 + 0.1 * theta_dot**2 + 0.001 * torque**2
        theta_dot += (3 * self.g / (2 * LENGTH) * np.sin(theta) + 3.0 / (MASS * LENGTH**2) * torque) * DT
        np.clip(theta_dot, -SPEED, SPEED, out=theta_dot)
        theta += theta_dot * DT
        return -costs, np.zeros(len(costs), np.bool_)

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        theta, theta_dot = state
        obs = np.empty((len(theta), 3), np.float32)
        obs[:, 0], obs[:, 1], obs[:, 2] = np.cos(theta), np.sin(theta), theta_dot
        return obs

    def draw(self, state: np.ndarray) -> np.ndarray:
        theta = state[0]
        tip = np.array([-np.sin(theta), np.cos(theta)])
        canvas = Canvas(500, 500, scale=500 / 3.2, centre=(0.0, 0.0))
        canvas.disc((0.0, 0.0), 1.3, SAND)
        canvas.capsule((0.0, 0.0), tip, 0.09, CORAL)
        canvas.disc(tip, 0.16, SLATE)
        canvas.disc((0.0, 0.0), 0.05, INK)
        return canvas.picture()


class PendulumEnv(DynamicsEnv):
    """One :class:`Pendulum`."""

    dynamics_type = Pendulum


class PendulumVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`Pendulum`."""

    dynamics_type = Pendulum
