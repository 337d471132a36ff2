"""torch's optimisers on one flat vector of weights in numpy: what their ``step`` does, in place.

A class says what torch calls its moments, when it is the torch optimiser it stands for, and what one step does.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch


class Adam:
    """Kingma and Ba, 1412.6980.

    Parameters
    ----------
    n : int
        How many weights there are.

    Examples
    --------
    >>> adam = Adam(1)
    >>> adam.read({"lr": 0.1, "betas": (0.9, 0.999), "eps": 0.0})
    >>> weights = np.ones(1, np.float32)
    >>> adam.step(weights, np.full(1, 4.0, np.float32))
    >>> weights.round(4)  # its first step is lr long, whatever the gradient
    array([0.9], dtype=float32)
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __init__(self, n: int):
        self.state = np.zeros((2, n), np.float32)
        self.tensors, self.count = [torch.from_numpy(moment) for moment in self.state], torch.zeros(())
        self.t = 0

    @staticmethod
    def refusal(group: dict[str, Any]) -> str | None:
        """Why these settings of torch's Adam are not the ones here."""
        if group["weight_decay"] or group["amsgrad"] or group["maximize"]:
            return "its Adam has weight decay, amsgrad or maximize"
        return None

    def read(self, group: dict[str, Any]) -> None:
        """Take the settings of a torch optimiser's group of parameters."""
        self.beta1, self.beta2 = (float(beta) for beta in group["betas"])
        self.lr, self.eps = float(group["lr"]), float(group["eps"])

    def step(self, weights: np.ndarray, grad: np.ndarray) -> None:
        """Move `weights`, in place."""
        self.t += 1
        self.count.fill_(self.t)
        m, v = self.tensors
        # m += (1 - beta1) (g - m);  v += (1 - beta2) (g^2 - v)
        # weights -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
        # Ten passes over the memory in numpy; torch has one kernel for all of it, three times as fast.
        torch._fused_adam_(
            [torch.from_numpy(weights)],
            [torch.from_numpy(grad)],
            [m],
            [v],
            [],
            [self.count],
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


class RMSprop:
    """Tieleman and Hinton, "Lecture 6.5", Coursera (2012), as torch has it: epsilon beside the root, not under it.

    Parameters
    ----------
    n : int
        How many weights there are.

    Examples
    --------
    >>> rmsprop = RMSprop(1)
    >>> rmsprop.read({"lr": 0.1, "alpha": 0.99, "eps": 0.0})
    >>> weights = np.ones(1, np.float32)
    >>> rmsprop.step(weights, np.full(1, 4.0, np.float32))
    >>> weights.round(4)  # 1 - 0.1 · 4 / sqrt(0.01 · 16)
    array([0.], dtype=float32)
    """

    moments: ClassVar[tuple[str, ...]] = ("square_avg",)

    def __init__(self, n: int):
        self.state = np.zeros((1, n), np.float32)
        self.scratch = np.empty(n, np.float32)
        self.t = 0

    @staticmethod
    def refusal(group: dict[str, Any]) -> str | None:
        """Why these settings of torch's RMSprop are not the ones here."""
        if group["weight_decay"] or group["momentum"] or group["centered"] or group["maximize"]:
            return "its RMSprop has weight decay, momentum, centered or maximize"
        return None

    def read(self, group: dict[str, Any]) -> None:
        """Take the settings of a torch optimiser's group of parameters."""
        self.lr, self.alpha, self.eps = float(group["lr"]), float(group["alpha"]), float(group["eps"])

    def step(self, weights: np.ndarray, grad: np.ndarray) -> None:
        """Move `weights`, in place."""
        self.t += 1
        (v,), scratch = self.state, self.scratch
        # v += (1 - alpha) (g^2 - v);  weights -= lr g / (sqrt(v) + eps)
        np.multiply(grad, grad, out=scratch)
        scratch -= v
        scratch *= 1.0 - self.alpha
        v += scratch
        np.sqrt(v, out=scratch)
        scratch += self.eps
        np.divide(grad, scratch, out=scratch)
        scratch *= self.lr
        weights -= scratch


BY_HAND: dict[type, type[Adam] | type[RMSprop]] = {torch.optim.Adam: Adam, torch.optim.RMSprop: RMSprop}
