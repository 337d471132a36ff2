"""A replay of stacked pictures that keeps each frame once.

An Atari agent sees the last four frames. Kept as they are seen, observation and next observation hold each frame eight
times, and a million transitions take 56 GB; kept once, 7.4 GB.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from agents.replay import look_ahead
from sandbox.training.device import free_memory

SPARE_STACKS = 16  # room for the starts of episodes in a small replay; in a large one the 4 % count


class Transitions(NamedTuple):
    """N transitions, or n steps taken as one; numpy arrays."""

    obs: np.ndarray  # [N, k·c, H, W]
    actions: np.ndarray  # [N, A], the first of the n steps
    rewards: np.ndarray  # [N], discounted and added over the steps
    next_obs: np.ndarray  # [N, k·c, H, W], after the last step
    terminated: np.ndarray  # [N] floats, 1 where the last step ended for good: a truncated one is still worth something
    steps: np.ndarray  # [N] integers in 1..n, how many steps it is
    discounts: np.ndarray  # [N], gamma ** steps · (1 - terminated): what the value of next_obs is multiplied by


class NotEnoughMemory(MemoryError):
    """Something would not fit into the memory that is free; told before any of it is taken."""


class FrameReplay(ReplayBuffer):
    """Stable-Baselines3's ``ReplayBuffer`` and ``NStepReplayBuffer`` for stacked pictures, each frame stored once.

    Each environment has a ring of frames; a transition keeps the number of the newest frame of its observation and of
    its next one, and a stack is that frame and the k - 1 before it. What comes in is compared with what is there, and
    only the frames by which it goes on are written: usually one a step. Whatever does not go on is written whole, so
    every transition comes back exactly as it was, whichever way a stack begins and even if it is none.

    The ring has 4 % more frames than there are rows, and those of 16 stacks. Where episodes are so short, or stacks so
    unlike one another, that this does not suffice, the oldest transitions go earlier: `size` tells how many there are.

    Parameters
    ----------
    buffer_size : int
        Transitions, of all environments together.
    observation_space : gymnasium.spaces.Box
        uint8 ``[k·c, H, W]``: k frames of c channels, the newest last.
    action_space : gymnasium.spaces.Space
    device : torch.device or str
        Where samples go.
    n_envs : int
    optimize_memory_usage : bool
        Has no effect: it asks for what is done here in any case.
    handle_timeout_termination : bool
        Whether ``info["TimeLimit.truncated"]`` is looked at; if not, a truncated episode counts as terminated.
    n_steps : int
        How many steps a sample spans, up to the end of its episode or the newest transition.
    gamma : float
        Discount, of the steps within a sample.
    frame_channels : int
        c: 1 for grey frames, 3 for coloured ones.
    path : str or Path, optional
        A file for the frames, made here, instead of memory. It stays when the program ends, and is not opened again.

    Attributes
    ----------
    actions, rewards, dones, timeouts : [rows, B, ...]
        As in Stable-Baselines3, and so are `pos` and `full`. There are no `observations` and `next_observations`.
    frames : [F, B, c, H, W] uint8
        The rings; frame number i of an environment is at ``i % F``.
    obs_numbers, next_obs_numbers : [rows, B] int64
        The number of the newest frame of each observation and next observation.
    added, first : int
        How many rows were ever added, and which of these is the oldest that is still whole; row i is at
        ``i % buffer_size``.

    Raises
    ------
    ValueError
        If the observations are not such pictures.
    NotEnoughMemory
        If memory would not suffice.
    FileExistsError, OSError
        If there is something at `path` already, or the disk has not enough room.

    Examples
    --------
    >>> replay = FrameReplay(100, spaces.Box(0, 255, (4, 8, 8), np.uint8), spaces.Discrete(2), n_steps=3, gamma=0.5)
    >>> film = np.arange(7, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    >>> for t in range(3):
    ...     replay.add(film[None, t:t+4], film[None, t+1:t+5], np.array([0]), np.array([1.0]), np.array([False]), [{}])
    >>> batch = replay.transitions(np.array([0, 1]), np.array([0, 0]))
    >>> batch.next_obs[:, :, 0, 0].tolist(), batch.rewards.tolist(), batch.discounts.tolist()
    ([[3, 4, 5, 6], [3, 4, 5, 6]], [1.75, 1.5], [0.125, 0.25])
    """

    observation_space: spaces.Box

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_steps: int = 1,
        gamma: float = 0.99,
        frame_channels: int = 1,
        path: str | Path | None = None,
    ):
        shape = _ring_shape(buffer_size, observation_space, n_envs, frame_channels)
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}: a sample spans at least one step")
        needed = self.predicted_bytes(buffer_size, observation_space, action_space, n_envs, frame_channels, path)
        check_room(needed, f"a replay of {buffer_size:,} transitions")
        # BaseBuffer's constructor alone: ReplayBuffer's would allocate the observations that are not kept here.
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = _rows(buffer_size, n_envs)
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        self.frame_channels = frame_channels
        self.stack = self.obs_shape[0] // frame_channels

        rows = (self.buffer_size, n_envs)
        self.actions = np.zeros((*rows, self.action_dim), self._maybe_cast_dtype(action_space.dtype))
        self.rewards, self.dones, self.timeouts = (np.zeros(rows, np.float32) for _ in range(3))
        self.obs_numbers, self.next_obs_numbers = (np.zeros(rows, np.int64) for _ in range(2))
        self.added = self.first = 0

        # The rings begin with a stack of zeros, so that there is always one that the next may go on from.
        self.written = [self.stack] * n_envs  # frames of each environment, ever
        self._latest: np.ndarray | None = np.zeros((n_envs, *self.obs_shape), np.uint8)  # their last k frames
        self.path = None if path is None else Path(path).expanduser()
        self.frames = np.zeros(shape, np.uint8) if self.path is None else zeros_in_file(self.path, shape)

    @staticmethod
    def predicted_bytes(
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        n_envs: int = 1,
        frame_channels: int = 1,
        path: str | Path | None = None,
    ) -> int:
        """The memory that such a replay takes, in bytes, without making one; with `path` the frames do not count.

        Examples
        --------
        >>> pictures = spaces.Box(0, 255, (4, 84, 84), np.uint8)
        >>> FrameReplay.predicted_bytes(1_000_000, pictures, spaces.Discrete(6)) / 1e9
        7.374719808
        """
        shape = _ring_shape(buffer_size, observation_space, n_envs, frame_channels)
        frames = 0 if path is not None else math.prod(shape)
        actions = get_action_dim(action_space) * np.dtype(ReplayBuffer._maybe_cast_dtype(action_space.dtype)).itemsize
        flags, numbers = 3 * 4, 2 * 8  # rewards, dones and timeouts; the numbers of two frames
        latest = math.prod(observation_space.shape or ())
        return frames + n_envs * (_rows(buffer_size, n_envs) * (actions + flags + numbers) + latest)

    def size(self) -> int:
        """How many rows there are to sample from, of `n_envs` transitions each."""
        return self.added - self.first

    def reset(self) -> None:
        """Forget every transition."""
        super().reset()
        self.added = self.first = 0

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a row: one transition of each environment.

        Parameters
        ----------
        obs, next_obs : [B, k·c, H, W]
            Where an episode ended, `next_obs` is what it ended in, not what the next one begins with.
        action : [B, ...]
        reward, done : [B]
        infos : list of B dicts
            ``TimeLimit.truncated`` tells an end that was merely a cut.

        Raises
        ------
        ValueError
            If a shape is not that.
        """
        obs, next_obs = self._pictures(obs), self._pictures(next_obs)
        row = self.pos
        self.actions[row] = np.asarray(action).reshape(self.n_envs, self.action_dim)
        self.rewards[row], self.dones[row] = reward, done
        if self.handle_timeout_termination:
            self.timeouts[row] = [info.get("TimeLimit.truncated", False) for info in infos]

        # Taken away while frames are written: should this be interrupted, the next stacks go on from none.
        latest, self._latest = self._latest, None
        for b in range(self.n_envs):
            self.obs_numbers[row, b] = self._write(b, obs[b], None if latest is None else latest[b], self.stack)
            self.next_obs_numbers[row, b] = self._write(b, next_obs[b], obs[b], self.stack - 1)
        self._latest = next_obs.copy()

        self.added += 1
        self.pos = self.added % self.buffer_size
        self.full = self.added >= self.buffer_size
        self.first = max(self.first, self.added - self.buffer_size)
        while not self._is_whole(self.first % self.buffer_size):
            self.first += 1

    def _pictures(self, obs: np.ndarray) -> np.ndarray:
        obs = np.asarray(obs, self.frames.dtype)
        if obs.shape != (self.n_envs, *self.obs_shape):
            raise ValueError(f"observations have shape {obs.shape}, not {(self.n_envs, *self.obs_shape)}")
        return obs

    def _write(self, b: int, stack: np.ndarray, latest: np.ndarray | None, likely: int) -> int:
        """Write those frames of a stack by which it goes on from `latest`, the last k of environment `b`.

        How many frames the two have in common is tried from the `likely` number, then from many to few. Returns the
        number of the newest frame.
        """
        common = 0
        if latest is not None:
            c = self.frame_channels
            lengths = (likely, *range(self.stack, -1, -1))
            common = next(n for n in lengths if _equal(stack[: n * c], latest[(self.stack - n) * c :]))
        number = self.written[b]
        for i in range(common, self.stack):
            self.frames[number % len(self.frames), b] = stack[i * self.frame_channels : (i + 1) * self.frame_channels]
            number += 1
        self.written[b] = number
        return number - 1

    def _is_whole(self, row: int) -> bool:
        """Whether every frame of a row's observations is still there; those of its next ones are newer."""
        lost = self.stack - 1 - len(self.frames)
        return all(n >= count + lost for n, count in zip(self.obs_numbers[row].tolist(), self.written, strict=True))

    def stacks(self, numbers: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """The stacks that end in these frames.

        Parameters
        ----------
        numbers : [N] integers
            Of frames, as in `obs_numbers`.
        envs : [N] integers
            Whose frames.

        Returns
        -------
        [N, k·c, H, W] uint8
        """
        places = (numbers[:, None] + np.arange(1 - self.stack, 1)) % len(self.frames)
        return self.frames[places, envs[:, None]].reshape(len(numbers), *self.obs_shape)

    def transitions(self, rows: np.ndarray, envs: np.ndarray, normalize: VecNormalize | None = None) -> Transitions:
        """Transitions by where they stand, each with the steps that follow it if `n_steps` is more than 1.

        Parameters
        ----------
        rows : [N] integers in 0..buffer_size-1
            Where they stand in `actions`, `rewards` and so on, as `draw` gives them; only rows that are still whole.
        envs : [N] integers in 0..B-1
        normalize : VecNormalize, optional
            By which observations and rewards are normalised.

        Returns
        -------
        Transitions
        """
        ahead = look_ahead(self, rows, envs, self.n_steps, self.gamma, normalize)
        return Transitions(
            obs=self._normalize_obs(self.stacks(self.obs_numbers[rows, envs], envs), normalize),  # type: ignore[arg-type]
            actions=self.actions[rows, envs],
            rewards=ahead.returns,
            next_obs=self._normalize_obs(self.stacks(self.next_obs_numbers[ahead.ends, envs], envs), normalize),  # type: ignore[arg-type]
            terminated=ahead.terminated,
            steps=ahead.steps,
            discounts=ahead.discounts,
        )

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and environments for `transitions`, each as likely as any other, by numpy's global generator.

        Where every row is whole, the same seed gives what Stable-Baselines3 draws.

        Returns
        -------
        rows, envs : [N] integers

        Raises
        ------
        ValueError
            If nothing was added yet.
        """
        rows = self._draw_rows(n)
        return rows, np.random.randint(0, self.n_envs, n)  # noqa: NPY002

    def _draw_rows(self, n: int) -> np.ndarray:
        if not self.size():
            raise ValueError("the replay is empty: add transitions before sampling")
        start = 0 if self.size() == self.buffer_size else self.first
        return (start + np.random.randint(0, self.size(), n)) % self.buffer_size  # noqa: NPY002

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """A minibatch as Stable-Baselines3's algorithms take it.

        Parameters
        ----------
        batch_size : int
        env : VecNormalize, optional
            By which observations and rewards are normalised.

        Returns
        -------
        ReplayBufferSamples
            ``discounts`` is gamma to the number of steps, or None if `n_steps` is 1, as there.
        """
        return self._get_samples(self._draw_rows(batch_size), env)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        batch = self.transitions(batch_inds, np.random.randint(0, self.n_envs, len(batch_inds)), env)  # noqa: NPY002
        discounts = self.gamma ** batch.steps[:, None].astype(np.float32)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return self.to_torch(array, copy=False)  # all of them are copies already

        return ReplayBufferSamples(
            observations=tensor(batch.obs),
            actions=tensor(batch.actions),
            next_observations=tensor(batch.next_obs),
            dones=tensor(batch.terminated[:, None]),
            rewards=tensor(batch.rewards[:, None]),
            discounts=None if self.n_steps == 1 else tensor(discounts),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything, with the frames as far as they are written; from a file they become an ordinary array."""
        written = min(max(self.written), len(self.frames))
        return {**self.__dict__, "frames": self.frames[:written], "frame_room": len(self.frames), "path": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        room, frames = state.pop("frame_room"), state["frames"]
        self.__dict__.update(state)
        if len(frames) < room:
            self.frames = np.zeros((room, *frames.shape[1:]), frames.dtype)
            self.frames[: len(frames)] = frames


def check_room(needed_bytes: int, what: str) -> None:
    """Refuse what would not fit into memory before it is begun, rather than when it is half full.

    Parameters
    ----------
    needed_bytes : int
    what : str
        What needs them, for the message.

    Raises
    ------
    NotEnoughMemory
        If less is free. Where that can't be told, nothing is checked.

    Examples
    --------
    >>> check_room(1000, "a small thing")
    """
    free = free_memory()
    if free is not None and needed_bytes > free:
        raise NotEnoughMemory(
            f"{what} would take {needed_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free. Take a "
            "smaller buffer_size=, keep the frames in a file with replay_path=, or, where whole stacks of pictures are "
            "stored, store each frame once (FrameReplay)"
        )


def _rows(buffer_size: int, n_envs: int) -> int:
    return max(buffer_size // n_envs, 1)


def _ring_shape(buffer_size: int, space: spaces.Space, n_envs: int, frame_channels: int) -> tuple[int, ...]:
    """``[F, B, c, H, W]``; ValueError if the observations are not stacks of pictures."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        raise ValueError(f"frames are kept of pictures, uint8 boxes [k·c, H, W]; the observations are {space}")
    channels, height, width = space.shape
    if width < min(channels, height):
        raise ValueError(f"pictures {space.shape} seem to have their channels last: wrap the env in VecTransposeImage")
    if frame_channels < 1 or channels % frame_channels:
        raise ValueError(f"{channels} channels are no whole number of frames of frame_channels={frame_channels}")
    rows, stack = _rows(buffer_size, n_envs), channels // frame_channels
    # The newest transition alone may need two whole stacks; SPARE_STACKS is more than that.
    return rows + rows // 25 + SPARE_STACKS * stack, n_envs, frame_channels, height, width


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures of one shape are equal: as bytes, the cheapest comparison there is, copies included."""
    return a.tobytes() == b.tobytes()


def zeros_in_file(path: Path, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """An array of zeros in a new ``.npy`` file, with its room on the disk taken."""
    if path.exists():
        raise FileExistsError(
            f"{path} is already there, and a replay never writes over a file: give another path, or delete it first"
        )
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    no_room = OSError(
        errno.ENOSPC,
        f"the frames would take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the disk: take a smaller "
        "buffer_size=, or a path on another disk",
        str(path),
    )
    if needed > free:
        raise no_room
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(exist_ok=False)
    try:
        frames = np.lib.format.open_memmap(path, "w+", dtype, shape)
        # Else the file has holes, and a disk that fills up later would end the program without a word.
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise no_room from error
        raise
    return np.asarray(frames)  # a plain array, which still holds the file
