"""MountainCar: rock a weak car out of a valley, with three pushes or with any force."""

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.checks import bounds
from envs.draw import AMBER, CORAL, INK, SAND, SLATE, STEEL, Canvas
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

LEFT, RIGHT, SPEED = -1.2, 0.6, 0.07  # positions; position per step
FORCE, POWER, GRAVITY = 0.001, 0.0015, 0.0025  # position per step²; POWER is the continuous car's


class MountainCar(Dynamics):
    """The mountain car of Moore and Sutton, stepping equal to Gymnasium's ``MountainCar-v0``.

    ``v ← clip(v + 0.001 (a - 1) - 0.0025 cos 3x, ±0.07)``, ``x ← clip(x + v, -1.2, 0.6)``; the wall on the left stops
    the car. The state and the observation are ``x`` and ``v``. The reward is -1 a step; the episode terminates at
    ``x ≥ 0.5`` with ``v ≥ goal_velocity``.

    Parameters
    ----------
    goal_velocity : float
        Least velocity at the goal.

    References
    ----------
    Moore (1990), *Efficient memory-based learning for robot control*, PhD thesis, Cambridge; Sutton (1996), NeurIPS 8.

    Examples
    --------
    >>> dynamics = MountainCar()
    >>> state = np.array([[0.49], [0.02]])
    >>> rewards, terminated = dynamics.step(state, np.array([2]))
    >>> terminated.tolist()
    [True]
    """

    max_episode_steps = 200
    reward_threshold: ClassVar[float | None] = -110.0
    goal: ClassVar[float] = 0.5

    def __init__(self, goal_velocity: float = 0.0) -> None:
        low, high = np.array([[LEFT, -SPEED], [RIGHT, SPEED]], np.float32)
        self.observation_space: Any = Box(low, high, dtype=np.float32)
        self.action_space: Any = Discrete(3)
        self.goal_velocity = goal_velocity

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        low, high = bounds(options, -0.6, -0.4)
        return np.stack((rng.uniform(low, high, num_envs), np.zeros(num_envs)))

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, v = state
        v += (actions - 1.0) * FORCE + np.cos(3 * x) * -GRAVITY
        np.clip(v, -SPEED, SPEED, out=v)
        x += v
        np.clip(x, LEFT, RIGHT, out=x)
        v[(x == LEFT) & (v < 0)] = 0.0
        return np.full(len(x), -1.0), (x >= self.goal) & (v >= self.goal_velocity)

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        return state.T.astype(np.float32, order="C")  # [B, 2]

    def draw(self, state: np.ndarray) -> np.ndarray:
        x = state[0]
        canvas = Canvas(400, 600, scale=600 / (RIGHT - LEFT), centre=((LEFT + RIGHT) / 2, 0.6))
        columns = canvas.columns()
        goal, pole = self.goal, _height(self.goal) + 0.15
        canvas.box((goal, pole - 0.08), 0.008, 0.16, INK)
        canvas.polygon([(goal, pole), (goal, pole - 0.06), (goal + 0.08, pole - 0.03)], CORAL)
        canvas.below(_height(columns), _slope(columns), STEEL)
        canvas.below(_height(columns) - 0.012, _slope(columns), SAND)
        angle = np.arctan(_slope(x))
        along, up = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        ground = np.array([x, _height(x)])
        canvas.box(ground + 0.062 * up, 0.13, 0.05, SLATE, angle)
        canvas.box(ground + 0.095 * up - 0.01 * along, 0.07, 0.05, AMBER, angle)
        for side in (-0.038, 0.038):
            canvas.disc(ground + 0.027 * up + side * along, 0.027, INK)
            canvas.disc(ground + 0.027 * up + side * along, 0.011, STEEL)
        return canvas.picture()


class MountainCarContinuous(MountainCar):
    """The mountain car with any force in [-1, 1], stepping equal to Gymnasium's ``MountainCarContinuous-v0``.

    As :class:`MountainCar` with ``v ← clip(v + 0.0015 clip(a, ±1) - 0.0025 cos 3x, ±0.07)`` and the goal at
    ``x ≥ 0.45``. The reward is ``-0.1 a²`` a step (of the action as given, not clipped), and 100 at the goal.

    Gymnasium keeps this state in float32 from the first step on, and so do the numbers here (in arrays of float64).

    Parameters
    ----------
    goal_velocity : float
        Least velocity at the goal.

    Examples
    --------
    >>> dynamics = MountainCarContinuous()
    >>> state = np.array([[0.44], [0.02]])
    >>> rewards, terminated = dynamics.step(state, np.array([[1.0]], np.float32))
    >>> rewards.tolist(), terminated.tolist()
    ([99.9], [True])
    """

    max_episode_steps = 999
    reward_threshold = 90.0
    goal = 0.45

    def __init__(self, goal_velocity: float = 0.0) -> None:
        super().__init__(goal_velocity)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, v = state
        actions = actions[:, 0]
        # a state that no float32 holds is a reset's: Gymnasium computes its first step in float64
        first = x != _single(x)
        slope = np.cos(np.where(first, 3 * x, _single(3 * x)))
        v += _single(_single(np.clip(actions, -1.0, 1.0) * np.float32(POWER)) - _single(GRAVITY * slope))
        v[:] = np.clip(np.where(first, v, _single(v)), -_single(SPEED), _single(SPEED))
        x += v
        x[:] = np.clip(_single(x), _single(LEFT), _single(RIGHT))
        v[:] = np.where((x == _single(LEFT)) & (v < 0), 0.0, _single(v))
        terminated = (x >= _single(self.goal)) & (v >= _single(self.goal_velocity))
        return 100.0 * terminated - np.square(actions, dtype=np.float64) * 0.1, terminated


def _single(x: Any) -> Any:
    """Round to float32's numbers, in float64."""
    return np.float64(np.float32(x))


def _height(x: Any) -> Any:
    return np.sin(3 * x) * 0.45 + 0.55


def _slope(x: Any) -> Any:
    return np.cos(3 * x) * 1.35


class MountainCarEnv(DynamicsEnv):
    """One :class:`MountainCar`."""

    dynamics_type = MountainCar


class MountainCarVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`MountainCar`."""

    dynamics_type = MountainCar


class MountainCarContinuousEnv(DynamicsEnv):
    """One :class:`MountainCarContinuous`."""

    dynamics_type = MountainCarContinuous


class MountainCarContinuousVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`MountainCarContinuous`."""

    dynamics_type = MountainCarContinuous
