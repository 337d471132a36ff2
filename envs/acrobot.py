"""Acrobot: swing a two-link pendulum up by a motor in its elbow."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.checks import bounds
from envs.draw import CORAL, INK, SLATE, STEEL, TEAL, Canvas
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

MASS, LENGTH, COM, MOMENT, GRAVITY = 1.0, 1.0, 0.5, 1.0, 9.8  # each link: kg, m, m, kg m²; m/s²
DT = 0.2  # s
SPEED = np.array([[4 * np.pi], [9 * np.pi]])  # rad/s, [2, 1] the highest of each joint


class Acrobot(Dynamics):
    """The acrobot of Sutton and Barto's book, stepping equal to Gymnasium's ``Acrobot-v1``.

    The state is ``θ1`` (rad, 0 hangs down), ``θ2`` (rad, relative to the first link) and their rates (rad/s), advanced
    by one Runge-Kutta step of 0.2 s; the observation ``cos θ1, sin θ1, cos θ2, sin θ2, θ̇1, θ̇2``. Actions are torques
    of -1, 0, 1 N m. The reward is -1 a step until the tip is one link's length above the pivot,
    ``-cos θ1 - cos(θ1 + θ2) > 1``, where the episode terminates with 0.

    References
    ----------
    Sutton (1996), *Generalization in reinforcement learning: successful examples using sparse coarse coding*, NIPS 8;
    Sutton and Barto (2018), *Reinforcement Learning*, 2nd ed.

    Examples
    --------
    >>> dynamics = Acrobot()
    >>> state = np.zeros((4, 1))  # hanging at rest, no torque
    >>> rewards, terminated = dynamics.step(state, np.array([1]))
    >>> np.abs(state).max() < 1e-12, rewards.tolist(), terminated.tolist()
    (np.True_, [-1.0], [False])
    """

    max_episode_steps = 500
    reward_threshold = -100.0
    render_fps = 15

    def __init__(self) -> None:
        high = np.array([1, 1, 1, 1, *SPEED[:, 0]], np.float32)
        self.observation_space: Any = Box(-high, high, dtype=np.float32)
        self.action_space: Any = Discrete(3)

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        low, high = bounds(options, -0.1, 0.1)
        # rounded to float32, as Gymnasium does
        return rng.uniform(low, high, (4, num_envs)).astype(np.float32).astype(np.float64)

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torque = actions - 1.0
        k1 = _rate(state, torque)
        k2 = _rate(state + DT / 2 * k1, torque)
        k3 = _rate(state + DT / 2 * k2, torque)
        k4 = _rate(state + DT * k3, torque)
        state += DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles, speeds = state[:2], state[2:]
        turns = np.ceil((np.abs(angles) - np.pi) / (2 * np.pi))  # full turns to take off, none within [-π, π]
        angles -= np.copysign(2 * np.pi * np.maximum(turns, 0), angles)
        np.clip(speeds, -SPEED, SPEED, out=speeds)
        terminated = -np.cos(state[0]) - np.cos(state[1] + state[0]) > 1.0
        return np.where(terminated, 0.0, -1.0), terminated

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        obs = np.empty((state.shape[1], 6), np.float32)
        obs[:, 0:4:2] = np.cos(state[:2]).T
        obs[:, 1:4:2] = np.sin(state[:2]).T
        obs[:, 4:] = state[2:].T
        return obs

    def draw(self, state: np.ndarray) -> np.ndarray:
        first, second = state[0], state[0] + state[1]
        elbow = np.array([np.sin(first), -np.cos(first)])
        tip = elbow + np.array([np.sin(second), -np.cos(second)])
        canvas = Canvas(500, 500, scale=500 / 4.6, centre=(0.0, 0.0))
        canvas.box((0.0, 1.0), 4.6, 0.02, CORAL)
        canvas.capsule((0.0, 0.0), elbow, 0.1, SLATE)
        canvas.capsule(elbow, tip, 0.08, TEAL)
        canvas.disc((0.0, 0.0), 0.05, STEEL)
        canvas.disc(elbow, 0.05, INK)
        return canvas.picture()


def _rate(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """Time derivative ``[4, B]`` of the state; names of Sutton and Barto, order of operations of Gymnasium."""
    theta1, theta2, rate1, rate2 = state
    sin2, cos2 = np.sin(theta2), np.cos(theta2)
    d1 = MASS * COM**2 + MASS * (LENGTH**2 + COM**2 + 2 * LENGTH * COM * cos2) + MOMENT + MOMENT
    d2 = MASS * (COM**2 + LENGTH * COM * cos2) + MOMENT
    phi2 = MASS * COM * GRAVITY * np.cos(theta1 + theta2 - np.pi / 2)
    phi1 = (
        -MASS * LENGTH * COM * rate2**2 * sin2
        - 2 * MASS * LENGTH * COM * rate2 * rate1 * sin2
        + (MASS * COM + MASS * LENGTH) * GRAVITY * np.cos(theta1 - np.pi / 2)
        + phi2
    )
    inertia = MASS * COM**2 + MOMENT - d2**2 / d1
    acc2 = (torque + d2 / d1 * phi1 - MASS * LENGTH * COM * rate1**2 * sin2 - phi2) / inertia
    acc1 = -(d2 * acc2 + phi1) / d1
    return np.stack((rate1, rate2, acc1, acc2))


class AcrobotEnv(DynamicsEnv):
    """One :class:`Acrobot`."""

    dynamics_type = Acrobot


class AcrobotVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`Acrobot`."""

    dynamics_type = Acrobot
