"""What the outputs of a Q-network say about a return, and how they learn it: the equations of the Rainbow family.

A network gives ``[N, A, K]``: K numbers for each action. For `Expected` K is 1, the mean of the return; for
`Categorical` they are the logits of its distribution over K fixed values; for `Quantiles` its K quantiles. All are pure
functions of numpy arrays or torch tensors, and give a loss's derivative in closed form.

Legend: N samples, A actions, K atoms or quantiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)


class TDGradient(NamedTuple):
    """The derivative of a mean loss, and per sample what it came from."""

    by_outputs: Any  # [N, K], by the outputs of the actions taken
    losses: Any  # [N]
    errors: Any  # [N], how far off each one is: the priority of its replay (1511.05952; Rainbow: the loss)


def _namespace(array: np.ndarray | torch.Tensor) -> ModuleType:
    return torch if isinstance(array, torch.Tensor) else np


def dueling(values: Array, advantages: Array) -> Array:
    r"""Outputs from a value and an advantage stream (Wang et al., 1511.06581, equation 9).

    .. math:: Q(s, a) = V(s) + A(s, a) - \tfrac{1}{|A|} \sum_{a'} A(s, a')

    Parameters
    ----------
    values : [N, 1, K] floats
    advantages : [N, A, K] floats

    Returns
    -------
    [N, A, K] floats

    Examples
    --------
    >>> dueling(np.full((1, 1, 1), 5.0), np.array([[[1.0], [3.0]]]))[0, :, 0].tolist()
    [4.0, 6.0]
    """
    return values + advantages - advantages.sum(1)[:, None] / advantages.shape[1]


def epsilon_greedy(greedy: np.ndarray, random: np.ndarray, coins: np.ndarray, epsilon: float) -> np.ndarray:
    """The random action where the coin, uniform in [0, 1), falls below epsilon, else the greedy one; all ``[B]``.

    Examples
    --------
    >>> epsilon_greedy(np.array([0, 0]), np.array([7, 7]), np.array([0.05, 0.5]), epsilon=0.1)
    array([7, 0])
    """
    return np.where(coins < epsilon, random, greedy)


def huber(errors: Array, kappa: float = 1.0) -> Array:
    r"""Half the squared error, linear beyond `kappa` (Huber, 1964): what ``smooth_l1_loss`` is with beta 1.

    Examples
    --------
    >>> huber(np.array([0.5, -3.0])).tolist()
    [0.125, 2.5]
    """
    size = abs(errors)
    near = _namespace(errors).clip(size, None, kappa)
    return near * (size - 0.5 * near)


class Head(ABC):
    """How the outputs ``[N, A, K]`` are read, and moved towards a target ``[N, K]``."""

    n_outputs: int  # K

    @abstractmethod
    def q_values(self, outputs: Array) -> Array:
        """The expected return: ``[N, A, K] -> [N, A]``."""

    @abstractmethod
    def target(self, rewards: Array, discounts: Array, next_outputs: Array) -> Array:
        """What a transition says of the return: ``[N], [N], [N, K] -> [N, K]``.

        `discounts` are ``gamma ** n``, and 0 where the episode has terminated; `next_outputs` those of the action that
        is taken next.
        """

    @abstractmethod
    def gradient(self, outputs: Array, target: Array, weights: Array | None = None) -> TDGradient:
        """The derivative of the mean loss by ``outputs [N, K]``; `weights` ``[N]`` weigh the samples."""

    def bootstrap(self, next_outputs: Array, choice: Array | None = None) -> Array:
        r"""The outputs of the action that is taken next: ``[N, A, K] -> [N, K]``.

        The best one by `next_outputs` themselves, or by `choice`, the outputs of another network: with the online
        network for that and the target network's outputs this is double Q-learning (van Hasselt et al., 1509.06461),
        which does not mistake noise for value.

        .. math:: Q_\text{target}\bigl(s', \arg\max_{a'} Q_\text{online}(s', a')\bigr)
        """
        best = self.q_values(next_outputs if choice is None else choice).argmax(1)
        return next_outputs[_rows(best), best]


def _rows(index: Array) -> Array:
    return torch.arange(len(index), device=index.device) if isinstance(index, torch.Tensor) else np.arange(len(index))


def _mean(by_outputs: Any, losses: Any, errors: Any, weights: Any) -> TDGradient:
    """The gradient of the mean over samples, of which each may have a weight."""
    n = len(losses)
    scale = 1.0 / n if weights is None else weights[:, None] / n
    return TDGradient(by_outputs * scale, losses if weights is None else losses * weights, errors)


class Expected(Head):
    r"""The mean of the return, by the Huber loss (Mnih et al., Nature 518).

    .. math:: L = \mathrm{huber}\bigl(Q(s, a) - (r + \gamma Q_\text{target}(s', a'))\bigr)

    Examples
    --------
    >>> head = Expected()
    >>> target = head.target(np.ones(2), np.array([0.5, 0.0]), np.full((2, 1), 4.0))
    >>> target[:, 0].tolist()
    [3.0, 1.0]
    >>> head.gradient(np.full((2, 1), 1.5), target).by_outputs[:, 0].tolist()
    [-0.5, 0.25]
    """

    n_outputs = 1

    def q_values(self, outputs: Array) -> Array:
        return outputs[..., 0]

    def target(self, rewards: Array, discounts: Array, next_outputs: Array) -> Array:
        return rewards[:, None] + discounts[:, None] * next_outputs

    def gradient(self, outputs: Array, target: Array, weights: Array | None = None) -> TDGradient:
        errors = outputs - target
        return _mean(_namespace(errors).clip(errors, -1.0, 1.0), huber(errors[:, 0]), abs(errors[:, 0]), weights)


class Categorical(Head):
    r"""The distribution of the return over K values between `v_min` and `v_max`, by cross-entropy (C51: 1707.06887).

    The target shifts and shrinks the values ``z`` of the next distribution ``p`` and shares each one's probability
    between its two neighbours in the support, whose values are :math:`\Delta` apart:

    .. math:: m_i = \sum_j p_j \bigl[1 - \tfrac{1}{\Delta} |\mathrm{clip}(r + \gamma z_j) - z_i|\bigr]_0^1

    Parameters
    ----------
    v_min, v_max : float
        The least and largest return that can be told.
    n_outputs : int

    Raises
    ------
    ValueError
        If `v_min` is not below `v_max`, or there are fewer than two atoms.

    Examples
    --------
    >>> head = Categorical(0.0, 2.0, n_outputs=3)
    >>> never = np.log(np.array([[1e-9, 1e-9, 1.0]]))  # a return of 2
    >>> head.target(np.array([0.5]), np.array([0.5]), never).round(3).tolist()  # 1.5, between 1 and 2
    [[0.0, 0.5, 0.5]]
    """

    def __init__(self, v_min: float = -10.0, v_max: float = 10.0, n_outputs: int = 51):
        if not v_min < v_max or n_outputs < 2:
            raise ValueError(
                f"c51's support is at least two values from v_min to v_max, got {n_outputs} from {v_min} to {v_max}"
            )
        self.v_min, self.v_max, self.n_outputs = float(v_min), float(v_max), n_outputs
        self.step = (self.v_max - self.v_min) / (n_outputs - 1)

    def support(self, like: Array) -> Array:
        """The values ``[K]`` whose probabilities are told."""
        values = np.linspace(self.v_min, self.v_max, self.n_outputs, dtype=np.float32)
        return torch.as_tensor(values, device=like.device) if isinstance(like, torch.Tensor) else values

    def q_values(self, outputs: Array) -> Array:
        return softmax(outputs) @ self.support(outputs)

    def target(self, rewards: Array, discounts: Array, next_outputs: Array) -> Array:
        support, clip = self.support(next_outputs), _namespace(next_outputs).clip
        landed = clip(self.landing(rewards, discounts, next_outputs), self.v_min, self.v_max)
        distance = abs(landed[:, None, :] - support[None, :, None]) / self.step  # [N, to K, from K]
        return (clip(1.0 - distance, 0.0, None) @ softmax(next_outputs)[:, :, None])[:, :, 0]

    def landing(self, rewards: Array, discounts: Array, like: Array) -> Array:
        """Where the values of the next state's returns land, ``[N, K]``, before they are clipped to the support."""
        return rewards[:, None] + discounts[:, None] * self.support(like)

    def clipped(self, rewards: Array, discounts: Array, next_outputs: Array) -> float:
        """The part of the next returns' probability that lands outside the support."""
        landed = self.landing(rewards, discounts, next_outputs)
        edge = 1e-4 * self.step
        outside = (landed < self.v_min - edge) | (landed > self.v_max + edge)
        return float((softmax(next_outputs) * outside).sum(-1).mean())

    def gradient(self, outputs: Array, target: Array, weights: Array | None = None) -> TDGradient:
        xp = _namespace(outputs)
        shifted = outputs - xp.amax(outputs, -1)[:, None]
        log_probs = shifted - xp.log(xp.exp(shifted).sum(-1))[:, None]
        losses = -(target * log_probs).sum(-1)
        return _mean(xp.exp(log_probs) - target, losses, losses, weights)


class Quantiles(Head):
    r"""K quantiles of the return, by quantile regression with the Huber loss (QR-DQN: 1710.10044, equation 10).

    .. math:: L = \sum_i \tfrac{1}{K} \sum_j |\tau_i - 1[u_{ij} < 0]|\, \mathrm{huber}(u_{ij}), \quad
              u_{ij} = r + \gamma \theta'_j - \theta_i, \quad \tau_i = \tfrac{i - 1/2}{K}

    Parameters
    ----------
    n_outputs : int

    Examples
    --------
    >>> head = Quantiles(2)
    >>> gradient = head.gradient(np.zeros((1, 2)), np.array([[0.0, 4.0]]))
    >>> gradient.by_outputs.tolist()  # the upper quantile is drawn up three times as hard as the lower
    [[-0.125, -0.375]]
    """

    def __init__(self, n_outputs: int = 200):
        if n_outputs < 1:
            raise ValueError(f"there is at least one quantile, got {n_outputs}")
        self.n_outputs = n_outputs

    def q_values(self, outputs: Array) -> Array:
        return outputs.mean(-1)

    def target(self, rewards: Array, discounts: Array, next_outputs: Array) -> Array:
        return rewards[:, None] + discounts[:, None] * next_outputs

    def gradient(self, outputs: Array, target: Array, weights: Array | None = None) -> TDGradient:
        K = self.n_outputs
        taus = (np.arange(K, dtype=np.float32) + 0.5) / K
        below: Any = torch.as_tensor(taus, device=outputs.device) if isinstance(outputs, torch.Tensor) else taus
        errors = target[:, None, :] - outputs[:, :, None]  # u: [N, i, j]
        xp = _namespace(errors)
        slopes = xp.where(errors < 0, 1.0 - below[:, None], below[:, None])
        by_outputs = -(slopes * xp.clip(errors, -1.0, 1.0)).sum(-1) / K
        losses = (slopes * huber(errors)).sum(-1).sum(-1) / K
        return _mean(by_outputs, losses, losses, weights)


def softmax(logits: Array) -> Array:
    """Along the last axis.

    Examples
    --------
    >>> softmax(np.zeros(2)).tolist()
    [0.5, 0.5]
    """
    xp = _namespace(logits)
    raised = xp.exp(logits - xp.amax(logits, -1)[..., None])
    return raised / raised.sum(-1)[..., None]


def head_for(distributional: str | None, **settings: Any) -> Head:
    """The head that a word stands for: None, ``"c51"`` or ``"qr"``.

    Raises
    ------
    ValueError
        For any other word, or settings that the head does not have.

    Examples
    --------
    >>> head_for("qr", n_outputs=32).n_outputs
    32
    """
    heads: dict[str | None, type[Head]] = {None: Expected, "c51": Categorical, "qr": Quantiles}
    if distributional not in heads:
        raise ValueError(f"distributional must be None, 'c51' or 'qr', got {distributional!r}")
    try:
        return heads[distributional](**settings)
    except TypeError:
        raise ValueError(f"distributional={distributional!r} has no settings {', '.join(sorted(settings))}") from None
