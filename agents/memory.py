"""How an off-policy agent reads its replay: all minibatches of a call at once, uniformly or by priority.

The border between Stable-Baselines3's replay buffers, whose arrays stay as they are and visible, and the arithmetic in
`agents.replay`. A buffer of a user's own class is asked for its samples as SB3 asks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from agents.frames import FrameReplay
from agents.replay import SumTree, importance_weights, look_ahead, stratified

OWN = (ReplayBuffer, NStepReplayBuffer, DictReplayBuffer, FrameReplay)


class Batch(NamedTuple):
    """N transitions, each of one step or of several taken as one."""

    obs: Any  # [N, ...], or a dictionary of such
    actions: np.ndarray  # [N, D]
    rewards: np.ndarray  # [N] float32, discounted and added over the steps
    next_obs: Any  # [N, ...], after the last step
    discounts: np.ndarray  # [N] float32, gamma to the number of steps, and 0 where the episode terminated
    leaves: np.ndarray | None = None  # [N], where each stands among the priorities
    weights: np.ndarray | None = None  # [N] float32, what each counts


def take(field: Any, rows: Any) -> Any:
    """Rows of an array, or of each array in a dictionary."""
    if isinstance(field, dict):
        return {key: values[rows] for key, values in field.items()}
    return None if field is None else field[rows]


def draw(buffer: ReplayBuffer, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and environments of `n` transitions, each as likely as any other; as Stable-Baselines3 draws them.

    Returns
    -------
    rows, envs : [N] integers
    """
    if isinstance(buffer, FrameReplay):
        return buffer.draw(n)
    if getattr(buffer, "optimize_memory_usage", False) and buffer.full:
        # The row at `pos` has lost its next observation.
        rows = (np.random.randint(1, buffer.buffer_size, n) + buffer.pos) % buffer.buffer_size  # noqa: NPY002
    else:
        rows = np.random.randint(0, buffer.size(), n)  # noqa: NPY002
    return rows, np.random.randint(0, buffer.n_envs, n)  # noqa: NPY002


def read(
    buffer: ReplayBuffer, rows: np.ndarray, envs: np.ndarray, gamma: float, normalizer: VecNormalize | None
) -> Batch:
    """The transitions in these rows; of an ``NStepReplayBuffer`` with the steps that follow them."""
    if isinstance(buffer, FrameReplay):
        found = buffer.transitions(rows, envs, normalizer)
        return Batch(found.obs, found.actions, found.rewards, found.next_obs, found.discounts.astype(np.float32))
    ahead = look_ahead(buffer, rows, envs, getattr(buffer, "n_steps", 1), gamma, normalizer)
    if getattr(buffer, "optimize_memory_usage", False):
        next_obs: Any = buffer.observations[(ahead.ends + 1) % buffer.buffer_size, envs]
    else:
        next_obs = _at(buffer.next_observations, ahead.ends, envs)
    obs = _at(buffer.observations, rows, envs)
    if normalizer is not None:
        obs, next_obs = normalizer.normalize_obs(obs), normalizer.normalize_obs(next_obs)
    return Batch(
        obs,
        buffer.actions[rows, envs],
        ahead.returns.astype(np.float32, copy=False),
        next_obs,
        ahead.discounts.astype(np.float32, copy=False),
    )


def _at(stored: Any, rows: np.ndarray, envs: np.ndarray) -> Any:
    if isinstance(stored, dict):
        return {key: values[rows, envs] for key, values in stored.items()}
    return stored[rows, envs]


def asked(buffer: Any, batch_size: int, gamma: float, normalizer: VecNormalize | None) -> Batch:
    """A minibatch from a buffer that is not one of SB3's plain ones, as it gives it."""

    def array(tensor: Any) -> Any:
        if isinstance(tensor, dict):
            return {key: values.numpy(force=True) for key, values in tensor.items()}
        return tensor.numpy(force=True)

    found = buffer.sample(batch_size, env=normalizer)
    discounts = gamma if getattr(found, "discounts", None) is None else array(found.discounts)[:, 0]
    return Batch(
        array(found.observations),
        array(found.actions),
        array(found.rewards)[:, 0].astype(np.float32, copy=False),
        array(found.next_observations),
        (discounts * (1 - array(found.dones)[:, 0])).astype(np.float32, copy=False),
    )


class Priorities:
    r"""How much there is to learn from each transition: its last error, to the power `alpha` (1511.05952).

    .. math:: P(i) \propto (|\delta_i| + \epsilon)^\alpha, \quad w_i \propto (N P(i))^{-\beta}

    What is new has the largest priority so far, so that it is seen at least once.

    Parameters
    ----------
    buffer : ReplayBuffer
        One of SB3's plain ones, or a `FrameReplay`.
    alpha : float
        0 is uniform.

    Raises
    ------
    ValueError
        If the buffer is none of these, or `alpha` is negative.
    """

    epsilon = 1e-6

    def __init__(self, buffer: Any, alpha: float):
        if type(buffer) not in OWN or getattr(buffer, "optimize_memory_usage", False):
            kind = "optimize_memory_usage=True" if type(buffer) in OWN else type(buffer).__name__
            raise ValueError(f"prioritized=True needs one of SB3's plain replay buffers, or FrameReplay, not {kind}")
        if alpha < 0:
            raise ValueError(f"priority_alpha must not be negative, got {alpha}")
        self.buffer, self.alpha = buffer, alpha
        self.tree = SumTree(buffer.buffer_size * buffer.n_envs)
        self.known = 0  # up to which row of the ring the leaves are set
        self.lost = 0  # how many rows of a FrameReplay, ever, have been taken off

    def catch_up(self) -> None:
        """Give what was added since the last call its leaves, and take them from rows that are no longer whole."""
        buffer, B = self.buffer, self.buffer.n_envs
        size = len(self.tree) // B
        added = (buffer.pos - self.known) % size
        if added == 0 and self.known == 0 and buffer.full:
            added = size  # a replay that was read from a file
        rows = (self.known + np.arange(added)) % size
        self._set(rows, self.tree.largest or 1.0)
        self.known = buffer.pos
        if isinstance(buffer, FrameReplay):
            self._set(np.arange(max(self.lost, buffer.added - size), buffer.first) % size, 0.0)
            self.lost = buffer.first

    def _set(self, rows: np.ndarray, priority: float) -> None:
        if len(rows):
            B = self.buffer.n_envs
            leaves = (rows[:, None] * B + np.arange(B)).reshape(-1)
            self.tree.set(leaves, np.full(len(leaves), priority))

    def draw(self, n: int, batch_size: int, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Leaves of `n` transitions by priority, and their weights, largest 1 in each minibatch.

        Returns
        -------
        leaves : [N] integers
        weights : [N] float32
        """
        self.catch_up()
        leaves = stratified(self.tree, np.random.random(n))  # noqa: NPY002
        np.random.shuffle(leaves)  # strata are in order of age, a minibatch should not be  # noqa: NPY002
        stored = self.buffer.size() * self.buffer.n_envs
        priorities, total = self.tree[leaves], self.tree.total
        weights = [
            importance_weights(priorities[start : start + batch_size], total, stored, beta)
            for start in range(0, n, batch_size)
        ]
        return leaves, np.concatenate(weights).astype(np.float32)

    def update(self, leaves: np.ndarray, errors: np.ndarray) -> None:
        """What was learned from these transitions: ``[N]`` leaves and how far off they were.

        Raises
        ------
        ValueError
            For an error that is NaN or infinite.
        """
        priorities = (np.abs(errors.astype(np.float64)) + self.epsilon) ** self.alpha
        self.tree.set(leaves, priorities)
