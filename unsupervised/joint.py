"""What the methods share that learn features without labels: an encoder with something behind it that is thrown away.

The methods themselves are in `unsupervised.contrastive` and `unsupervised.pretext`; what differs between two of them is
their `_loss`.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from sandbox.training.fit import Loss, Schedule
from sandbox.zoo.ema import follow
from sandbox.zoo.given import Given
from sandbox.zoo.names import build
from unsupervised import augment, losses
from unsupervised.autoencoder import FRAME
from unsupervised.own_encoder import OwnEncoder

LEAST_RANK, LEAST_SPREAD = 1.02, 0.02  # of embeddings, below which they have collapsed to a line or a point


class Projected(nn.Module):
    """An encoder, and a projector from its features to embeddings: ``[B, *in_shape] -> [B, dim]`` of float32."""

    def __init__(self, encoder: nn.Module, projector: nn.Module):
        super().__init__()
        self.encoder: Any = encoder
        self.projector = projector

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x)).float()


@dataclass(eq=False, repr=False)
class Pretrained(OwnEncoder):
    """What all have in common that learn features by a task of their own, and throw away what comes after the encoder.

    All other parameters, and the attributes, are those of `unsupervised.base.TorchEstimator`.

    Parameters
    ----------
    encoder : str, path, dict or nn.Module, optional
        A network of the zoo (see `sandbox.zoo.given`); one that brings weights is trained on from them. By default as
        for `Autoencoder`: an MLP for rows, ``"nature_cnn"`` for pictures of 36 pixels or more, else ``"conv"``.
    n_features : int
        What `transform` gives, of an encoder that brings no weights.
    """

    encoder: Given | None = None
    n_features: int = 128
    learning_rate: float | str | Schedule = field(default="cos_1e-3", kw_only=True)
    batch_size: int = field(default=256, kw_only=True)

    _compares: ClassVar[bool] = False  # the samples of a batch with each other

    def _train(self, arrays: list[NDArray[Any]], epochs: int | None = None) -> Self:
        if self._compares:
            check_batches(self, len(arrays[0]), epochs)
        super()._train(arrays, epochs)
        if self._compares and epochs is not None:
            warn_of_collapse(self)
        return self


@dataclass(eq=False, repr=False)
class JointEmbedding(Pretrained):
    """Two views of each sample, an encoder, and a projector whose embeddings of both are compared.

    All other parameters, and the attributes, are those of `Pretrained` and `unsupervised.base.TorchEstimator`. While it
    trains, ``effective_rank`` and ``spread`` of the embeddings are among the metrics (see `unsupervised.losses`). If
    they have collapsed at the end, a `RuntimeWarning` says so.

    Parameters
    ----------
    encoder, n_features
        See `Pretrained`.
    views : {"atari", "cifar", "digits", "tabular"} or callable, optional
        What is done to samples, a recipe of `unsupervised.augment` or a function of a batch ``[B, *in_shape]``. By
        default "tabular" for rows, and for pictures by their size: "atari" from 36 pixels on, below that "cifar" with
        three channels and "digits" with any other number.
    hidden, dim : int
        Width of the projector's hidden layers, and of embeddings; the papers have 2048 and more for photos of things.
    """

    views: str | Callable[[Tensor], Tensor] | None = None
    hidden: int = 256
    dim: int = 128

    _compares: ClassVar[bool] = True
    _starters: ClassVar[int] = 1024  # enough for a mean and a scale, which is all that is taken of them
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Pretrained._parameter_constraints,
        "views": [StrOptions(set(augment.RECIPES)), callable, None],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dim": [Interval(Integral, 1, None, closed="left")],
    }

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        return Projected(encoder, mlp(encoder.out_features, (self.hidden,), self.dim))

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        if hasattr(self.model_, "target"):
            follow_online(self.model_, tau=1.0)

    def _batch_loss(self, rows: Tensor, *targets: Tensor) -> Loss:
        return self._loss(self._seen(rows), *targets)

    def _seen(self, rows: Tensor) -> Tensor:
        """Rows as the samples that views are made of: floats, but bytes where all that is done to them is a shift.

        Bytes are a quarter of the memory to move, and the encoder takes them as well.
        """
        if rows.dtype == torch.uint8 and not callable(self.views) and recipe_for(self.in_shape_, self.views) == "atari":
            return rows.view(len(rows), *self.in_shape_)
        return self._floats(rows)

    def _views(self, x: Tensor, n: int = 2) -> list[Tensor]:
        """So many views of each sample, ``[B, *in_shape]`` each."""
        view = augment.RECIPES[recipe_for(self.in_shape_, self.views)] if not callable(self.views) else self.views
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # half the bits would move pixels
            views = [view(x) for _ in range(n)]
        if x.dtype == torch.uint8:  # in the order of memory that convolutions want, which costs least of bytes
            views = [one.contiguous(memory_format=torch.channels_last) for one in views]
        return views

    def _embedded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of two views ``[B, dim]``, both through the networks in one go."""
        z1, z2 = self.model_(torch.cat(self._views(x))).chunk(2)
        return z1, z2


def check_batches(estimator: Any, N: int, epochs: int | None) -> None:
    """Raise a ValueError if an estimator that compares the samples of a batch would be given one alone."""
    held_out = math.ceil(estimator.validation_fraction * N) if estimator.early_stopping and epochs is not None else 0
    learned = N - held_out
    if learned == 1 or (learned and learned // -(-learned // estimator.batch_size) < 2):
        raise ValueError(
            f"{type(estimator).__name__} compares the samples of a batch: n_samples={N} and batch_size="
            f"{estimator.batch_size} make a batch of one, and it takes two or more"
        )


def warn_of_collapse(estimator: Any) -> None:
    """Warn if the last epoch's indicators say that all samples have come to look alike."""
    last = estimator._fitting.history[-1] if estimator._fitting.history else {}
    for name, least in (("effective_rank", LEAST_RANK), ("spread", LEAST_SPREAD)):
        if last.get(name, math.inf) < least:
            warnings.warn(
                f"the embeddings of {type(estimator).__name__} have collapsed: {name}={last[name]:.3g}, below {least}. "
                "A smaller learning_rate, larger batches or other views may help",
                RuntimeWarning,
                stacklevel=3,
            )
            return


def mlp(in_features: int, widths: tuple[int, ...], out_features: int, norm: str | None = "batch") -> nn.Module:
    """A projector or predictor: hidden layers with batch norm and ReLU, and a linear one."""
    layers = {"widths": widths, "out_features": out_features, "activation": "relu", "norm": norm}
    return build("mlp", in_shape=(in_features,), **layers)


def indicators(z: Tensor) -> dict[str, Tensor]:
    """How far embeddings ``[B, dim]`` are from collapse, as metrics."""
    return {"effective_rank": losses.effective_rank(z), "spread": losses.spread(z)}


def follow_online(model: Any, tau: float | None = None) -> None:
    """Move ``model.target``, the slow copy of encoder and projector, one step towards them."""
    target = model.target
    follow(target.module, Projected(model.encoder, model.projector), target.tau if tau is None else tau)


def recipe_for(in_shape: tuple[int, ...], given: str | None = None) -> str:
    """The recipe that is given, or the one that suits samples of a shape.

    Examples
    --------
    >>> recipe_for((4, 84, 84)), recipe_for((3, 32, 32)), recipe_for((1, 8, 8)), recipe_for((20,))
    ('atari', 'cifar', 'digits', 'tabular')
    """
    if given is not None:
        return given
    if len(in_shape) != 3:
        return "tabular"
    if min(in_shape[1:]) >= FRAME:
        return "atari"
    return "cifar" if in_shape[0] == 3 else "digits"


class At:
    """Rows of an array at other places, `take`n when they are needed: frames that come later, and are not copied.

    Examples
    --------
    >>> later = At(np.array([[0], [10], [20]]), np.array([1, 2, 2]))
    >>> later.take([0, 1], axis=0).tolist(), len(later)
    ([[10], [20]], 3)
    """

    def __init__(self, rows: NDArray[Any], places: NDArray[np.intp]):
        self.rows, self.places = rows, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, some: Any) -> NDArray[Any]:
        return self.rows[self.places[some]]

    def take(self, some: Any, axis: int = 0, **kwargs: Any) -> NDArray[Any]:
        return self.rows.take(self.places[some], axis=axis, **kwargs)


def with_later(rows: NDArray[Any], steps: int, episodes: ArrayLike | None) -> list[NDArray[Any]]:
    """Frames, and for each the one `steps` later, or the last one of its episode; these are not copied.

    Examples
    --------
    >>> frames, later = with_later(np.array([[0], [1], [2], [3]]), 1, ["a", "a", "b", "b"])
    >>> later[:].ravel().tolist()
    [1, 1, 3, 3]
    """
    N = len(rows)
    later: Any = At(rows, np.minimum(np.arange(N) + steps, last_of_episode(N, episodes)))
    return [rows, later]


def last_of_episode(N: int, episodes: ArrayLike | None) -> NDArray[np.intp]:
    """For each of N frames the last one of its episode; of a recording without episodes, the last of all.

    Parameters
    ----------
    N : int
    episodes : [N], optional
        Anything that is the same for the frames of an episode, and differs between one episode and the next.

    Raises
    ------
    ValueError
        If they are not N.

    Examples
    --------
    >>> last_of_episode(5, ["a", "a", "b", "a", "a"])
    array([1, 1, 2, 4, 4])
    """
    if episodes is None:
        return np.full(N, N - 1)
    names = np.asarray(episodes)
    if names.shape != (N,):
        raise ValueError(f"episodes must be one for each of n_samples={N} frames, got shape {names.shape}")
    ends = np.append(np.flatnonzero(names[1:] != names[:-1]), N - 1)
    return ends[np.searchsorted(ends, np.arange(N))]
