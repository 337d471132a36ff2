"""Pretext tasks: labels that cost nothing, for the sake of the features that it takes to tell them.

Which way up a picture is (`RotationPrediction`), how its tiles were shuffled (`Jigsaw`), which action led from one
frame to the next (`InverseDynamics`).
"""

import itertools
import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor, nn

from sandbox.training.fit import Loss
from unsupervised import losses
from unsupervised.joint import At, Pretrained, last_of_episode, mlp

CANDIDATES = 1000  # permutations that the most different ones are chosen from


class Answering(nn.Module):
    """An encoder, and what answers from its features: ``[B, ...] -> [B, K]`` of float32."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder: Any = encoder
        self.head = head

    def forward(self, *samples: Tensor) -> Tensor:
        features = self.encoder(torch.cat(samples)).chunk(len(samples))
        return self.head(torch.cat(features, 1)).float()


@dataclass(eq=False, repr=False)
class RotationPrediction(Pretrained):
    """Tell by which of four right angles a picture was turned.

    For pictures alone. Each is seen in all four ways; one that is no square in two, for the others have another shape.
    Useless where things have no upper side. All parameters are those of `Pretrained`.

    References
    ----------
    Gidaris et al., "Unsupervised representation learning by predicting image rotations", arXiv:1803.07728.

    Examples
    --------
    >>> pictures = np.random.default_rng(0).random((64, 8, 8), np.float32)
    >>> RotationPrediction(n_features=16, max_iter=2, random_state=0).fit_transform(pictures).shape
    (64, 16)
    """

    def _build(self) -> Answering:
        _, H, W = self._picture_shape()
        encoder = self._new_encoder()
        return Answering(encoder, nn.Linear(encoder.out_features, 4 if H == W else 2))

    def _loss(self, x: Tensor) -> Loss:
        turned, labels = turns(x)
        return told(self.model_(turned), labels)


@dataclass(eq=False, repr=False)
class Jigsaw(Pretrained):
    """Tell how the tiles of a picture were shuffled.

    For pictures alone. The shuffled tiles are put together to a picture again, so that any encoder can look at it
    [2]_; the paper's looks at one tile at a time [1]_. All other parameters are those of `Pretrained`.

    Parameters
    ----------
    grid : int
        Tiles in a row, and rows; a divisor of both sides of the pictures.
    n_permutations : int
        Ways to shuffle, as unlike each other as can be; or all, where there are fewer.

    References
    ----------
    .. [1] Noroozi and Favaro, arXiv:1603.09246
    .. [2] Carlucci et al., arXiv:1903.06864

    Examples
    --------
    >>> pictures = np.random.default_rng(0).random((64, 8, 8), np.float32)
    >>> Jigsaw(n_features=16, max_iter=2, random_state=0).fit_transform(pictures).shape
    (64, 16)
    """

    grid: int = 2
    n_permutations: int = 30

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Pretrained._parameter_constraints,
        "grid": [Interval(Integral, 2, None, closed="left")],
        "n_permutations": [Interval(Integral, 2, None, closed="left")],
    }

    def _build(self) -> Answering:
        _, H, W = self._picture_shape()
        if H % self.grid or W % self.grid:
            raise ValueError(f"grid={self.grid} must divide both sides of pictures of {H}x{W} pixels")
        encoder, ways = self._new_encoder(), unlike_permutations(self.grid**2, self.n_permutations)
        model = Answering(encoder, nn.Linear(encoder.out_features, len(ways)))
        model.register_buffer("ways", ways)
        return model

    def _loss(self, x: Tensor) -> Loss:
        labels = torch.randint(len(self.model_.ways), (len(x),), device=x.device)
        return told(self.model_(shuffled(x, self.model_.ways[labels])), labels)


@dataclass(eq=False, repr=False)
class InverseDynamics(Pretrained):
    """Tell which action led from one frame to the next: features of what an agent can move.

    `X` is a recording, frame by frame, and ``y[i]`` the action that led from ``X[i]`` to ``X[i + 1]``, one of a few;
    the last one of an episode is not used. All other parameters are those of `Pretrained`.

    Parameters
    ----------
    hidden : int
        Width of the layer that sees the features of both frames.

    Attributes
    ----------
    classes_ : [K]
        The actions.

    References
    ----------
    Agrawal et al., "Learning to poke by poking", arXiv:1606.07419; Pathak et al., arXiv:1705.05363.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> actions = rng.integers(0, 2, 300)
    >>> places = np.cumsum(np.append(0, 2 * actions[:-1] - 1))[:, None]
    >>> estimator = InverseDynamics(max_iter=50, batch_size=32, random_state=0).fit(places, actions)
    >>> bool(estimator.score(places, actions) > -0.3)  # chance: -0.69
    True
    """

    hidden: int = 256

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Pretrained._parameter_constraints,
        "hidden": [Interval(Integral, 1, None, closed="left")],
    }

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, episodes: ArrayLike | None = None) -> Self:
        """Train from the start.

        Parameters
        ----------
        X : [N, D] rows, or [N, *in_shape] pictures
            Frames in the order in which they were recorded.
        y : [N]
            The action that followed each.
        episodes : [N], optional
            Anything that differs between one episode and the next; no action leads from one to the other.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If actions or episodes are not as many as frames, or no frame follows another.
        """
        self._episodes = episodes
        return super().fit(X, y)

    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None, episodes: ArrayLike | None = None) -> Self:
        """Train one more epoch; `y` of the first call must have all actions."""
        self._episodes = episodes
        return super().partial_fit(X, y)

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        """Frames, those that follow them, and the actions in between; frames alone, where there are no actions."""
        episodes = self.__dict__.pop("_episodes", None)
        (rows,) = super()._checked(X, reset=reset)
        if y is None:
            if reset:
                raise ValueError("This InverseDynamics estimator requires y to be passed, but the target y is None.")
            return [rows]
        actions = _check_y(y, estimator=self)
        check_consistent_length(rows, actions)
        check_classification_targets(actions)
        if reset:
            self.classes_ = np.unique(actions)
        labels = np.searchsorted(self.classes_, actions).clip(max=len(self.classes_) - 1)
        if (self.classes_[labels] != actions).any():
            unknown = np.setdiff1d(actions, self.classes_)
            raise ValueError(f"y has actions {unknown}, which are not among {self.classes_}")
        N = len(rows)
        first = np.flatnonzero(np.arange(N) < last_of_episode(N, episodes))
        if not len(first):
            raise ValueError(f"of n_samples={N} frames none is followed by another one of the same episode")
        pairs: list[Any] = [At(rows, first), At(rows, first + 1), labels[first]]
        return pairs

    def _build(self) -> Answering:
        encoder = self._new_encoder()
        head = mlp(2 * encoder.out_features, (self.hidden,), len(self.classes_), norm=None)
        return Answering(encoder, head)

    def _loss(self, x: Tensor, following: Tensor, actions: Tensor) -> Loss:
        return told(self.model_(x, self._floats(following)), actions)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def told(scores: Tensor, labels: Tensor) -> Loss:
    """The cross-entropy of scores ``[B, K]`` and labels ``[B]``, and how many are right."""
    return losses.cross_entropy(scores, labels), {"accuracy": (scores.argmax(1) == labels).float().mean()}


def turns(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures ``[B, C, H, W]`` turned by each right angle that keeps their shape, and by how many, ``[4 B]``.

    Examples
    --------
    >>> turned, labels = turns(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    >>> turned.flatten(1).tolist()[:2], labels.tolist()
    ([[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0]], [0, 1, 2, 3])
    """
    angles = range(4) if x.shape[2] == x.shape[3] else (0, 2)
    labels = torch.arange(len(angles), device=x.device).repeat_interleave(len(x))
    return torch.cat([x.rot90(angle, (2, 3)) for angle in angles]), labels


def shuffled(x: Tensor, order: Tensor) -> Tensor:
    """Pictures ``[B, C, H, W]`` with their tiles in another order, ``[B, grid²]``: which tile comes to each place.

    Examples
    --------
    >>> shuffled(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[3, 0, 1, 2]]))
    tensor([[[[4., 1.],
              [2., 3.]]]])
    """
    grid = math.isqrt(order.shape[1])
    tiles = x.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    tiles = tiles[torch.arange(len(x), device=x.device)[:, None], order]  # [B, grid², C, h, w]
    return tiles.unflatten(1, (grid, grid)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def unlike_permutations(length: int, n: int) -> Tensor:
    """Up to `n` permutations, each next one as far as can be from those before, by the places that differ.

    Drawn from torch's global generator, where there are too many to look at all (arXiv:1603.09246, algorithm 1).

    Examples
    --------
    >>> unlike_permutations(3, 3)
    tensor([[0, 1, 2],
            [1, 2, 0],
            [2, 0, 1]])
    >>> unlike_permutations(3, 99).shape
    torch.Size([6, 3])
    """
    if math.factorial(length) <= CANDIDATES:
        candidates = torch.tensor(list(itertools.permutations(range(length))))
    else:
        candidates = torch.rand(max(CANDIDATES, 10 * n), length).argsort(1)
    chosen, distance = [0], (candidates != candidates[0]).sum(1)
    while len(chosen) < min(n, len(candidates)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (candidates != candidates[chosen[-1]]).sum(1))
    return candidates[chosen]
