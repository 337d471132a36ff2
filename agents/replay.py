"""Which of the past to learn from, and what it was worth: the arithmetic of replay, without the storage.

Batched functions on numpy arrays, and the one data structure that prioritised replay needs. Whoever calls owns the
random numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class SumTree:
    """Priorities that can be drawn in proportion, N at a time in O(log n): a binary tree of sums.

    Every inner node holds the sum of its two children, so the root holds the total. Sums are always taken anew from the
    children, never corrected by a difference: they carry no error from one change to the next.

    Parameters
    ----------
    n : int
        How many leaves; each has priority 0 at first.

    Attributes
    ----------
    largest : float
        The largest priority ever set, what a transition that was never replayed is given (1511.05952, algorithm 1); 0
        before the first.

    Examples
    --------
    >>> tree = SumTree(3)
    >>> tree.set([0, 2], [1.0, 3.0])
    >>> tree.total, tree[[0, 1, 2]].tolist()
    (4.0, [1.0, 0.0, 3.0])
    >>> tree.find([0.0, 0.9, 1.0, 4.0]).tolist()
    [0, 0, 2, 2]
    """

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"n is {n}: a tree has at least one leaf")
        self.n = n
        self.depth = (n - 1).bit_length()
        # The root is node 1, the children of node i are 2i and 2i + 1, and so leaf j is node 2**depth + j.
        self._nodes = np.zeros(2 << self.depth)
        self.largest = 0.0

    def __len__(self) -> int:
        return self.n

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._nodes[1])

    def __getitem__(self, index: np.ndarray | list[int] | int) -> np.ndarray:
        """The priorities of the leaves at `index`, [N]; IndexError outside 0..n-1."""
        return self._nodes[(1 << self.depth) + self._checked(index)]

    def set(self, index: np.ndarray | list[int] | int, priority: np.ndarray | list[float] | float) -> None:
        """Give leaves their priorities; where a leaf is named more than once, the last one counts.

        Parameters
        ----------
        index : [N] integers in 0..n-1
        priority : [N] floats, or one for all
            Finite and not negative; 0 means never drawn.

        Raises
        ------
        IndexError
            If there is no such leaf.
        ValueError
            If a priority is NaN, infinite or negative; the tree is then as it was.
        """
        index = np.atleast_1d(self._checked(index))
        priority = np.broadcast_to(np.asarray(priority, np.float64), index.shape)
        wrong = ~((priority >= 0) & (priority < np.inf))
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"the priority of index {index[i]} is {priority[i]}: it must be a finite number, 0 or more, such as "
                "|TD error| + a small constant"
            )
        if not len(index):
            return
        # Which of two values an assignment to a repeated index leaves there is not defined, so it is decided here.
        index, last = np.unique(index[::-1], return_index=True)
        priority = priority[::-1][last]
        self.largest = max(self.largest, float(priority.max()))
        node = index + (1 << self.depth)
        self._nodes[node] = priority
        left, right = self._nodes[0::2], self._nodes[1::2]  # left[i] and right[i] are the children of node i
        for _ in range(self.depth):
            node = node >> 1
            self._nodes[node] = left[node] + right[node]

    def find(self, mass: np.ndarray | list[float] | float) -> np.ndarray:
        """The leaves in which these masses fall: the first whose cumulative sum of priorities is larger.

        A leaf of priority 0 is never found. A mass of the whole total or, by rounding, beyond it falls in the last leaf
        that has a priority.

        Parameters
        ----------
        mass : [N] floats in 0..total

        Returns
        -------
        [N] integers

        Raises
        ------
        ValueError
            If a mass is negative or NaN, or all priorities are 0.
        """
        mass = np.array(mass, np.float64, ndmin=1)
        if not (mass >= 0).all():
            wrong = mass[~(mass >= 0)][0]
            raise ValueError(f"a mass is {wrong}: it must be between 0 and the total, {self.total}")
        if not self.total > 0:
            raise ValueError("every priority is 0: set one above 0 before drawing")
        node = np.ones(mass.shape, np.intp)
        for _ in range(self.depth):
            node <<= 1
            left = self._nodes[node]
            # Sums are rounded: a mass may seem to lie beyond the left child where the right one is empty.
            to_right = (mass >= left) & (self._nodes[node + 1] > 0)
            mass -= left * to_right
            node += to_right
        return node - (1 << self.depth)

    def _checked(self, index: np.ndarray | list[int] | int) -> np.ndarray:
        index = np.asarray(index, np.intp)
        if index.size and (index.min() < 0 or index.max() >= self.n):
            wrong = index[(index < 0) | (index >= self.n)].flat[0]
            raise IndexError(f"index {wrong}: the leaves are 0 to {self.n - 1}")
        return index


def stratified(tree: SumTree, uniform: np.ndarray) -> np.ndarray:
    """Draw leaves in proportion to their priorities, one from each of N equal slices of the total.

    The same expectation as N independent draws, with less variance (Schaul et al., 1511.05952, appendix B.2.1).

    Parameters
    ----------
    tree : SumTree
    uniform : [N] floats in 0..1
        Random numbers, one for the place within each slice.

    Returns
    -------
    [N] integers

    Raises
    ------
    ValueError
        If all priorities are 0.

    Examples
    --------
    >>> tree = SumTree(4)
    >>> tree.set([0, 1, 2, 3], [1.0, 1.0, 0.0, 2.0])
    >>> stratified(tree, np.array([0.5, 0.5, 0.5, 0.5])).tolist()
    [0, 1, 3, 3]
    """
    n = len(uniform)
    return tree.find((np.arange(n) + uniform) * (tree.total / n))


def importance_weights(priorities: np.ndarray, total: float, n_stored: int, beta: float) -> np.ndarray:
    r"""What makes up for drawing unevenly, at most 1 in each minibatch (Schaul et al., 1511.05952, section 3.4).

    .. math:: w_i = (n P(i))^{-\beta} / \max_j w_j, \quad P(i) = p_i / \textstyle\sum_k p_k

    Parameters
    ----------
    priorities : [N] floats above 0
        Of the transitions drawn.
    total : float
        The sum of all priorities.
    n_stored : int
        How many transitions there are to draw from.
    beta : float
        0 corrects nothing, 1 everything.

    Returns
    -------
    [N] floats

    Raises
    ------
    ValueError
        If a priority is not above 0: it can't have been drawn.

    Examples
    --------
    >>> importance_weights(np.array([1.0, 4.0]), total=10.0, n_stored=5, beta=0.5).tolist()
    [1.0, 0.5]
    """
    if not (priorities > 0).all():
        raise ValueError(f"priorities drawn must be above 0; the smallest is {priorities.min()}")
    weights = (n_stored / total * priorities) ** -beta
    return weights / weights.max()


def n_step_returns(rewards: np.ndarray, ended: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""The rewards of up to n steps, discounted and added, as far as the first end.

    .. math:: G = \sum_{i=0}^{m-1} \gamma^i r_i, \quad m = \min(n, 1 + \text{the first } i \text{ that ended})

    What the observation after the last step is worth is not in it: that is for a critic to say, times ``discounts``.

    Parameters
    ----------
    rewards : [N, n] floats
        What n steps in a row earned. Those after an end may be anything.
    ended : [N, n] booleans
        After which of them the row stops, for whatever reason.
    gamma : float
        Discount.

    Returns
    -------
    returns : [N] floats
    last : [N] integers in 0..n-1
        The last step that counts.
    discounts : [N] floats
        ``gamma ** (last + 1)``, whether the last step ended or not.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> returns, last, discounts = n_step_returns(np.ones((2, 3)), np.array([[0, 0, 0], [0, 1, 0]], bool), gamma=0.5)
    >>> returns.tolist(), last.tolist(), discounts.tolist()
    ([1.75, 1.5], [2, 1], [0.125, 0.25])
    """
    if ended.shape != rewards.shape or rewards.ndim != 2:
        raise ValueError(f"ended has shape {ended.shape}, rewards {rewards.shape}: both are [N, n]")
    n = rewards.shape[1]
    dtype = np.result_type(rewards, np.float32)
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), n - 1)
    taken = np.arange(n) <= last[:, None]
    returns = np.where(taken, rewards * gamma ** np.arange(n, dtype=dtype), 0).sum(axis=1)
    return returns, last, gamma ** (last + 1).astype(dtype)


class Ahead(NamedTuple):
    """What followed N stored transitions, each with as many steps as were asked for or its episode had."""

    returns: np.ndarray  # [N], see `n_step_returns`
    ends: np.ndarray  # [N] integers, the row of the last step
    steps: np.ndarray  # [N] integers in 1..n, how many they are
    terminated: np.ndarray  # [N] floats, 1 where the last one ended for good: a truncated one is still worth something
    discounts: np.ndarray  # [N], gamma ** steps · (1 - terminated): what the value of what follows is multiplied by


def look_ahead(buffer: Any, rows: np.ndarray, envs: np.ndarray, n: int, gamma: float, normalize: Any = None) -> Ahead:
    """Up to `n` steps of a replay from each of these rows on, as far as an end or what was stored last.

    Parameters
    ----------
    buffer : ReplayBuffer
        Of Stable-Baselines3, or with its arrays.
    rows, envs : [N] integers
    n : int
    gamma : float
    normalize : VecNormalize, optional
        By which rewards are normalised.
    """
    steps, whose = (rows[:, None] + np.arange(n)) % buffer.buffer_size, envs[:, None]  # [N, n]
    # What follows the newest row in the ring is the oldest one: nothing runs over it.
    newest = (buffer.pos - 1) % buffer.buffer_size
    ended = (buffer.dones[steps, whose] > 0) | (buffer.timeouts[steps, whose] > 0) | (steps == newest)
    rewards = buffer._normalize_reward(buffer.rewards[steps, whose], normalize)
    returns, last, discounts = n_step_returns(rewards, ended, gamma)
    ends = steps[np.arange(len(rows)), last]
    terminated = buffer.dones[ends, envs] * (1 - buffer.timeouts[ends, envs])
    return Ahead(returns, ends, last + 1, terminated, discounts * (1 - terminated))
