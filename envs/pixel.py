"""Tasks seen as pictures: CartPole from pixels, and Catch."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.cartpole import CartPole
from envs.draw import AMBER, SLATE, STEEL, Canvas, coverage
from envs.dynamics import Dynamics
from envs.vector import DynamicsEnv, DynamicsVectorEnv

HALF_VIEW = 3.2  # m that the picture shows on each side of the track's middle


class PixelCartPole(CartPole):
    """:class:`CartPole` seen as the last four grey pictures.

    Observations are ``[frames, size, size]`` uint8, oldest first, white on black; after a reset all frames are the
    first. Edges are anti-aliased, so that motion below one pixel shows in the grey levels: at size 42, 0.01 m of cart
    or 0.001 rad of pole change the picture. The pole is drawn longer than to scale, 0.62 of the height.

    Parameters
    ----------
    size : int
        Height and width of the picture in pixels; 42 and 84 are usual.
    frames : int
        Pictures in an observation.
    sutton_barto_reward : bool
        See :class:`CartPole`.

    Examples
    --------
    >>> dynamics = PixelCartPole()
    >>> obs = dynamics.observe(np.zeros((4, 2)))
    >>> obs.shape, obs.dtype, bool((obs == obs[..., ::-1]).all())  # upright in the middle: its own mirror image
    ((2, 4, 42, 42), dtype('uint8'), True)
    """

    remembers = True

    def __init__(self, size: int = 42, frames: int = 4, sutton_barto_reward: bool = False) -> None:
        if size < 16 or frames < 1:
            raise ValueError(f"expected size >= 16 and frames >= 1, got {size} and {frames}")
        super().__init__(sutton_barto_reward)
        self.size, self.frames = size, frames
        self.observation_space = Box(0, 255, (frames, size, size), np.uint8)
        self._cart, self._pole_radius, self._pole_length = 0.11 * size, 0.035 * size, 0.62 * size
        top, bottom = 0.22 * size, 0.1 * size
        middle = (top + bottom) / 2
        x = np.arange(size) + 0.5 - size / 2  # columns' distance from the middle
        y = size - 0.5 - np.arange(size)  # rows' height above the ground
        self._x = x.astype(np.float32)[None, None, :]
        self._rows = slice(0, int(np.ceil(size - middle)))  # that the pole can touch
        self._y = (y - middle).astype(np.float32)[self._rows, None]
        cart = coverage(np.abs(y - middle) - (top - bottom) / 2)
        self._cart_rows = slice(int(np.flatnonzero(cart)[0]), int(np.flatnonzero(cart)[-1]) + 1)
        self._cart_cover = (255 * cart).astype(np.float32)[self._cart_rows, None]
        self._block = max(1, 28_000 // size**2)  # pictures drawn together: few enough to stay in the cache

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        picture = self.picture(state)
        if previous is None:
            return np.repeat(picture[:, None], self.frames, axis=1)
        obs = np.empty((len(picture), self.frames, self.size, self.size), np.uint8)
        obs[:, :-1] = previous[:, 1:]
        obs[:, -1] = picture
        return obs

    def picture(self, state: np.ndarray) -> np.ndarray:
        """One grey picture ``[B, size, size]`` uint8 of each state ``[4, B]``."""
        num_envs = state.shape[1]
        pictures = np.zeros((num_envs, self.size, self.size), np.uint8)
        for start in range(0, num_envs, self._block):
            block = slice(start, start + self._block)
            self._draw_block(state[:, block], pictures[block])
        return pictures

    def _draw_block(self, state: np.ndarray, pictures: np.ndarray) -> None:
        x, sin, cos = (
            row.astype(np.float32)[:, None, None]  # [B, 1, 1]
            for row in (state[0] * (self.size / (2 * HALF_VIEW)), np.sin(state[2]), np.cos(state[2]))
        )
        x = self._x - x  # [B, 1, W] pixels from the cart
        # 255 times the pole's coverage: distances across and along it are a part by column and a part by row
        across = 255 * x * cos - 255 * self._y * sin  # [B, H, W]
        np.abs(across, out=across)
        grey = np.subtract(255 * (self._pole_radius + 0.5), across, out=across)
        below_tip = 255 * (self._pole_length + 0.5 - x * sin) - 255 * self._y * cos  # [B, H, W]
        np.minimum(grey, below_tip, out=grey)
        grey += 0.5  # to round, not to cut
        pictures[:, self._rows] = np.clip(grey, 0, 255, out=grey)
        cart = coverage(np.abs(x) - self._cart) * self._cart_cover + 0.5  # [B, cart's rows, W]
        below = pictures[:, self._cart_rows]
        np.maximum(below, cart.astype(np.uint8), out=below)


class Catch(Dynamics):
    """Catch a falling ball with a paddle, after bsuite.

    The ball starts in a random column of the top row and falls one row a step; the paddle on the bottom row moves
    left, stays or moves right. With the ball on the bottom row the episode terminates: reward 1 if caught, else -1.
    Observations are the board ``[rows, columns]``, float32, 1 where the ball or the paddle is. The state is the
    ball's row, the ball's column, the paddle's column.

    Parameters
    ----------
    rows, columns : int
        Size of the board.

    References
    ----------
    Osband et al. (2020), *Behaviour suite for reinforcement learning*, arXiv:1908.03568; the game is from Mnih et al.
    (2014), arXiv:1406.6247.

    Examples
    --------
    >>> dynamics = Catch(rows=3, columns=3)
    >>> state = np.array([[1.0], [2.0], [1.0]])  # the ball one row above the bottom, one column to the right
    >>> dynamics.observe(state)[0].astype(int)
    array([[0, 0, 0],
           [0, 0, 1],
           [0, 1, 0]])
    >>> rewards, terminated = dynamics.step(state, np.array([2]))
    >>> rewards.tolist(), terminated.tolist()
    ([1.0], [True])
    """

    render_fps = 8
    reward_threshold = 0.99

    def __init__(self, rows: int = 10, columns: int = 5) -> None:
        if rows < 2 or columns < 1:
            raise ValueError(f"expected rows >= 2 and columns >= 1, got {rows} and {columns}")
        self.rows, self.columns = rows, columns
        self.observation_space: Any = Box(0, 1, (rows, columns), np.float32)
        self.action_space: Any = Discrete(3)

    def initial(self, rng: np.random.Generator, num_envs: int, options: dict[str, Any] | None = None) -> np.ndarray:
        state = np.zeros((3, num_envs))
        state[1] = rng.integers(self.columns, size=num_envs)
        state[2] = self.columns // 2
        return state

    def step(self, state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column, paddle = state
        paddle += actions - 1.0
        np.clip(paddle, 0, self.columns - 1, out=paddle)
        np.minimum(row + 1, self.rows - 1, out=row)
        terminated = row == self.rows - 1
        return np.where(terminated, np.where(column == paddle, 1.0, -1.0), 0.0), terminated

    def observe(self, state: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        row, column, paddle = state.astype(np.intp)
        envs = np.arange(len(row))
        obs = np.zeros((len(row), self.rows, self.columns), np.float32)
        obs[envs, row, column] = 1
        obs[envs, self.rows - 1, paddle] = 1
        return obs

    def draw(self, state: np.ndarray) -> np.ndarray:
        row, column, paddle = state
        cell = 40
        canvas = Canvas(cell * self.rows, cell * self.columns, cell, (self.columns / 2, self.rows / 2), SLATE)
        for line in range(1, self.columns):
            canvas.box((line, self.rows / 2), 0.02, self.rows, STEEL)
        for line in range(1, self.rows):
            canvas.box((self.columns / 2, line), self.columns, 0.02, STEEL)
        canvas.capsule((paddle + 0.15, 0.3), (paddle + 0.85, 0.3), 0.12, (250, 248, 243))
        canvas.disc((column + 0.5, self.rows - row - 0.5), 0.32, AMBER)
        return canvas.picture()


class PixelCartPoleEnv(DynamicsEnv):
    """One :class:`PixelCartPole`."""

    dynamics_type = PixelCartPole


class PixelCartPoleVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`PixelCartPole`."""

    dynamics_type = PixelCartPole


class CatchEnv(DynamicsEnv):
    """One :class:`Catch`."""

    dynamics_type = Catch


class CatchVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`Catch`."""

    dynamics_type = Catch
