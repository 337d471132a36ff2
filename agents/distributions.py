"""What an action is drawn from, by hand: sampling, log-probability, entropy and their gradient in numpy.

Each class is one of Stable-Baselines3's action distributions over the outputs of a policy network, features-first
``[A, N]`` as `agents.mlp_step` has them. Chance comes from torch's global generator by the same draws as in SB3: the
same seed gives the same actions. ``forward`` keeps what ``backward`` needs.

Masks are booleans ``[N, A]``, False where an action is forbidden: its probability is 0 and it has no gradient.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch

FORBIDDEN = np.float32(-1e8)  # a logit whose probability is 0 in float32, and which is still a number
LOG_2PI = math.log(2.0 * math.pi)


class Distribution(Protocol):
    """How `MLPStep` draws actions and learns from them."""

    def act(self, out: np.ndarray, masks: Any) -> tuple[np.ndarray, np.ndarray]: ...
    def best(self, out: np.ndarray, masks: Any) -> np.ndarray: ...
    def forward(self, out: np.ndarray, actions: np.ndarray, masks: Any) -> tuple[np.ndarray, np.ndarray]: ...
    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray: ...


class Categorical:
    """One of A actions, by logits.

    Examples
    --------
    >>> one_of_two = Categorical()
    >>> log_probs, entropy = one_of_two.forward(np.zeros((2, 1)), np.array([1]))
    >>> np.exp(log_probs), np.exp(entropy)
    (array([0.5]), array([2.]))
    >>> one_of_two.backward(np.ones(1), 0.0)[:, 0]  # onehot - p
    array([-0.5,  0.5])
    """

    def act(self, out: np.ndarray, masks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw: ``logits [A, B] -> actions [B], log_probs [B]``."""
        log_p = _log_softmax(_masked(out, masks))
        # The first of A exponential clocks with these rates: what torch.multinomial does, in a quarter of its time.
        race = torch.empty(out.shape[::-1]).exponential_().numpy()  # [B, A]
        actions = (np.exp(log_p) / race.T).argmax(axis=0)
        return actions, log_p[actions, np.arange(out.shape[1])]

    def best(self, out: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """The likeliest: ``[A, N] -> [N]``."""
        return _masked(out, masks).argmax(axis=0)

    def forward(
        self, out: np.ndarray, actions: np.ndarray, masks: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``[A, N], [N] -> log_probs [N], entropy [N]``."""
        self.log_p = _log_softmax(_masked(out, masks))
        self.p = np.exp(self.log_p)
        self.entropy = -(self.p * self.log_p).sum(axis=0)
        self.taken = actions, np.arange(out.shape[1])
        return self.log_p[self.taken], self.entropy

    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray:
        """From the loss's derivative by the outputs of `forward` to that by the logits ``[A, N]``."""
        # By the logits log p_a has the gradient onehot(a) - p, the entropy -p (log p + entropy).
        delta = self.p * -by_log_probs
        delta[self.taken] += by_log_probs
        if by_entropy:
            delta -= by_entropy * self.p * (self.log_p + self.entropy)
        return delta


class MultiCategorical:
    """Several choices at once, each `Categorical`: ``sizes[i]`` logits for the i-th, one below the other.

    Examples
    --------
    >>> MultiCategorical([2, 3]).best(np.array([[0.0], [1.0], [2.0], [0.0], [0.0]]))
    array([[1, 0]])
    """

    def __init__(self, sizes: Any):
        self.cuts = np.cumsum(sizes)[:-1]
        self.parts = [Categorical() for _ in sizes]

    def _split(self, out: np.ndarray, masks: np.ndarray | None) -> Any:
        several = [None] * len(self.parts) if masks is None else np.split(masks, self.cuts, axis=1)
        return zip(self.parts, np.split(out, self.cuts), several, strict=True)

    def act(self, out: np.ndarray, masks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[A, B] -> actions [B, choices], log_probs [B]``."""
        actions, log_probs = zip(
            *(part.act(logits, mask) for part, logits, mask in self._split(out, masks)), strict=True
        )
        return np.stack(actions, axis=1), np.sum(log_probs, axis=0)

    def best(self, out: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """``[A, N] -> [N, choices]``."""
        return np.stack([part.best(logits, mask) for part, logits, mask in self._split(out, masks)], axis=1)

    def forward(
        self, out: np.ndarray, actions: np.ndarray, masks: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``[A, N], [N, choices] -> log_probs [N], entropy [N]``."""
        several = zip(self._split(out, masks), actions.astype(np.intp).T, strict=True)
        outputs = [part.forward(logits, action, mask) for (part, logits, mask), action in several]
        log_probs, entropy = (np.sum(terms, axis=0) for terms in zip(*outputs, strict=True))
        return log_probs, entropy

    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray:
        """As `Categorical.backward`."""
        return np.concatenate([part.backward(by_log_probs, by_entropy) for part in self.parts])


class Bernoulli:
    """A independent switches, by logits.

    Examples
    --------
    >>> Bernoulli().best(np.array([[2.0], [-1.0]]))
    array([[1., 0.]], dtype=float32)
    """

    def act(self, out: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[A, B] -> actions [B, A] of 0.0 and 1.0, log_probs [B]``."""
        p = np.ascontiguousarray(1.0 / (1.0 + np.exp(-out.T)))
        actions = torch.bernoulli(torch.from_numpy(p)).numpy()
        return actions, self.forward(out, actions)[0]

    def best(self, out: np.ndarray, masks: None = None) -> np.ndarray:
        """``[A, N] -> [N, A]``."""
        return (out.T > 0).astype(np.float32)

    def forward(self, out: np.ndarray, actions: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[A, N], [N, A] -> log_probs [N], entropy [N]``."""
        self.out, self.p, on = out, 1.0 / (1.0 + np.exp(-out)), actions.T.astype(np.float32)
        self.error = on - self.p
        softplus = np.maximum(out, 0.0) + np.log1p(np.exp(-np.abs(out)))  # -log(1 - p)
        return (on * out - softplus).sum(axis=0), (softplus - self.p * out).sum(axis=0)

    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray:
        """As `Categorical.backward`: by a logit log p has the gradient a - p, the entropy -p (1 - p) logit."""
        delta = self.error * by_log_probs
        if by_entropy:
            delta -= by_entropy * self.p * (1.0 - self.p) * self.out
        return delta


class Gaussian:
    """A real numbers, independent and normal: the outputs are the means, `log_std` ``[A]`` a parameter.

    Parameters
    ----------
    log_std, log_std_grad : [A] floats
        The parameter, and where `backward` leaves its gradient.

    Examples
    --------
    >>> normal = Gaussian(np.zeros(1), np.empty(1))
    >>> log_probs, _ = normal.forward(np.zeros((1, 1)), np.array([[1.0]]))
    >>> round(float(log_probs[0]), 3)
    -1.419
    >>> normal.backward(np.ones(1), 0.0), normal.log_std_grad
    (array([[1.]]), array([0.]))
    """

    def __init__(self, log_std: np.ndarray, log_std_grad: np.ndarray):
        self.log_std, self.log_std_grad = log_std, log_std_grad

    def act(self, out: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``means [A, B] -> actions [B, A], log_probs [B]``."""
        noise = torch.normal(torch.zeros(out.shape[::-1]), 1.0).numpy()  # [B, A]
        return out.T + np.exp(self.log_std) * noise, self._log_probs(noise.T)

    def best(self, out: np.ndarray, masks: None = None) -> np.ndarray:
        """``[A, N] -> [N, A]``."""
        return out.T

    def forward(self, out: np.ndarray, actions: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[A, N], [N, A] -> log_probs [N], entropy [N]``."""
        self.scaled = (actions.T - out) * np.exp(-self.log_std)[:, None]  # [A, N]
        entropy = self.log_std.sum() + 0.5 * len(self.log_std) * (1.0 + LOG_2PI)
        return self._log_probs(self.scaled), np.full(out.shape[1], entropy, np.float32)

    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray:
        """By the means ``[A, N]``; `log_std_grad` is filled."""
        # log p = -z^2 / 2 - log_std + const with z = (a - mean) / std, entropy = log_std + const
        delta = self.scaled * by_log_probs
        self.log_std_grad[...] = (delta * self.scaled).sum(axis=1) - by_log_probs.sum() + by_entropy * len(by_log_probs)
        delta *= np.exp(-self.log_std)[:, None]
        return delta

    def _log_probs(self, scaled: np.ndarray) -> np.ndarray:
        constant = self.log_std.sum() + np.float32(0.5 * len(self.log_std) * LOG_2PI)
        return -0.5 * (scaled * scaled).sum(axis=0) - constant


class StateDependentNoise:
    """gSDE (Raffin et al., 2005.05719): normal, with a deviation that depends on the policy's last hidden layer h.

    .. math:: a = \\mu(h) + E^T h, \\quad E_{kj} \\sim N(0, \\sigma_{kj}), \\quad
              \\mathrm{var}_j = \\sum_k h_k^2 \\sigma_{kj}^2 + \\epsilon

    The matrix E stays for several steps, so that exploration is smooth. No gradient flows from the variance into h.

    Parameters
    ----------
    log_std, log_std_grad : [D, A] floats
    tower : Tower
        Whose `latent` is h.
    noise : stable_baselines3 StateDependentNoiseDistribution
        Which draws E, when the algorithm tells it to.
    """

    def __init__(self, log_std: np.ndarray, log_std_grad: np.ndarray, tower: Any, noise: Any):
        self.log_std, self.log_std_grad, self.tower, self.noise = log_std, log_std_grad, tower, noise

    def act(self, out: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``means [A, B] -> actions [B, A], log_probs [B]``."""
        latent = self.tower.latent.T  # [B, D]
        each = self.noise.exploration_matrices.detach().numpy()  # [B, D, A]
        if len(latent) == 1 or len(latent) != len(each):
            noise = latent @ self.noise.exploration_mat.detach().numpy()
        else:
            noise = np.matmul(latent[:, None], each)[:, 0]
        actions = out.T + noise
        return actions, self.forward(out, actions)[0]

    def best(self, out: np.ndarray, masks: None = None) -> np.ndarray:
        """``[A, N] -> [N, A]``."""
        return out.T

    def forward(self, out: np.ndarray, actions: np.ndarray, masks: None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[A, N], [N, A] -> log_probs [N], entropy [N]``."""
        self.latent_squared, self.variances = self.tower.latent**2, np.exp(2.0 * self.log_std)  # [D, N], [D, A]
        self.variance = self.variances.T @ self.latent_squared + self.noise.epsilon  # [A, N]
        self.error = actions.T - out
        log_variance = np.log(self.variance)
        log_probs = -0.5 * (self.error**2 / self.variance + log_variance + LOG_2PI).sum(axis=0)
        return log_probs, 0.5 * (log_variance + 1.0 + LOG_2PI).sum(axis=0)

    def backward(self, by_log_probs: np.ndarray, by_entropy: float) -> np.ndarray:
        """By the means ``[A, N]``; `log_std_grad` is filled."""
        delta = self.error / self.variance  # of log p by the mean
        by_variance = 0.5 * (by_log_probs * (delta * delta - 1.0 / self.variance) + by_entropy / self.variance)
        np.matmul(self.latent_squared, by_variance.T, out=self.log_std_grad)
        self.log_std_grad *= 2.0 * self.variances
        delta *= by_log_probs
        return delta


def _masked(logits: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    return logits if masks is None else np.where(masks.T, logits, FORBIDDEN)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """``[A, N] -> [A, N]``, over the first axis: for few actions that is the fast one."""
    shifted = logits - logits.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))
