"""Joint embedding: two views of a sample should look alike to a network, and other samples should not, or need not.

What keeps all samples from looking alike, which would be the easy way, is what the methods differ in: other samples of
the batch (`SimCLR`) or of a queue (`MoCo`), a slow copy of the network (`BYOL`), a gradient that is stopped
(`SimSiam`), dimensions that must not tell the same (`BarlowTwins`, `VICReg`). Of `TemporalContrast` the views are two
frames of a recording.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from sandbox.training.fit import Loss
from sandbox.zoo.ema import EMA
from unsupervised import losses
from unsupervised.joint import JointEmbedding, Projected, follow_online, indicators, mlp, with_later


@dataclass(eq=False, repr=False)
class SimCLR(JointEmbedding):
    """Tell the two views of a sample from the views of all others in the batch.

    All other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    temperature : float
        The lower, the more the most similar other samples count. 0.5 is the paper's for small pictures.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", arXiv:2002.05709.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> SimCLR(n_features=16, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    temperature: float = 0.5

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _loss(self, x: Tensor) -> Loss:
        z1, z2 = self._embedded(x)
        return losses.nt_xent(z1, z2, self.temperature), indicators(z1)


@dataclass(eq=False, repr=False)
class MoCo(JointEmbedding):
    """Tell a sample's other view, seen by a slow copy of the network, from a queue of what the copy saw before.

    This is version 2, with a projector [2]_, which like the paper's has no batch norm. The copy is in evaluation mode,
    so that no statistics of a batch give away which key belongs to which query: where the paper shuffles batches
    between processors, one has nowhere to shuffle to. All other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    temperature : float
    momentum : float
        Of the copy; the paper's 0.999 is for a hundred times as many steps.
    queue : int
        Keys that are kept; the paper's 65536 are 5 % of its samples. Where they are more than there are samples, a
        query's own sample is in it.

    References
    ----------
    .. [1] He et al., "Momentum contrast for unsupervised visual representation learning", arXiv:1911.05722
    .. [2] Chen et al., "Improved baselines with momentum contrastive learning", arXiv:2003.04297

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> MoCo(n_features=16, queue=32, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    temperature: float = 0.2
    momentum: float = 0.99
    queue: int = 512

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "queue": [Interval(Integral, 1, None, closed="left")],
    }

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        model = Projected(encoder, mlp(encoder.out_features, (self.hidden,), self.dim, norm=None))
        model.target = EMA(model, tau=1 - self.momentum)
        model.register_buffer("queue", torch.randn(self.queue, self.dim))
        return model

    def _loss(self, x: Tensor) -> Loss:
        first, second = self._views(x)
        queries = self.model_(first)
        with torch.no_grad():
            keys = self.model_.target(second)
        loss = losses.queue_nce(queries, keys, self.model_.queue, self.temperature)
        if self.model_.training:
            self.model_.queue = torch.cat([keys, self.model_.queue])[: self.queue]
        return loss, indicators(queries)

    def _after_step(self) -> None:
        follow_online(self.model_)


@dataclass(eq=False, repr=False)
class BYOL(JointEmbedding):
    """Predict what a slow copy of the network sees in the other view: nothing is pushed apart.

    All other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    momentum : float
        Of the copy, at first; it rises to 1 along a cosine, epoch by epoch. The paper's 0.996 is for a thousand epochs.

    References
    ----------
    Grill et al., "Bootstrap your own latent", arXiv:2006.07733.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> BYOL(n_features=16, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    momentum: float = 0.98

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        "momentum": [Interval(Real, 0, 1, closed="both")],
    }

    def _build(self) -> nn.Module:
        model = super()._build()
        model.target = EMA(model, tau=1 - self.momentum)
        model.predictor = mlp(self.dim, (self.hidden,), self.dim)
        return model

    def _loss(self, x: Tensor) -> Loss:
        both, model = torch.cat(self._views(x)), self.model_
        z = model(both)
        with torch.no_grad():
            model.target.module.train(model.training)  # it normalises by the batch, as its original does
            wanted = model.target(both).roll(len(x), 0)  # of each view the other one
        loss = 2 + 2 * losses.negative_cosine(model.predictor(z).float(), wanted)
        return loss, indicators(z[: len(x)])

    def _after_step(self) -> None:
        done = min(self._fitting.epoch / self.max_iter, 1)
        self.model_.target.tau = (1 - self.momentum) * (1 + math.cos(math.pi * done)) / 2
        follow_online(self.model_)


@dataclass(eq=False, repr=False)
class SimSiam(JointEmbedding):
    """Predict what the network itself sees in the other view, with no gradient to what is predicted.

    The projector has three layers with a batch norm after each, the predictor a bottleneck of a quarter of `dim`. All
    parameters are those of `JointEmbedding`.

    References
    ----------
    Chen and He, "Exploring simple siamese representation learning", arXiv:2011.10566.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> SimSiam(n_features=16, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        projector = mlp(encoder.out_features, (self.hidden, self.hidden), self.dim)
        model = Projected(encoder, nn.Sequential(projector, nn.BatchNorm1d(self.dim, affine=False)))
        model.predictor = mlp(self.dim, (max(self.dim // 4, 1),), self.dim)
        return model

    def _loss(self, x: Tensor) -> Loss:
        z = self.model_(torch.cat(self._views(x)))
        loss = losses.negative_cosine(self.model_.predictor(z).float(), z.roll(len(x), 0))
        return loss, indicators(z[: len(x)])


@dataclass(eq=False, repr=False)
class BarlowTwins(JointEmbedding):
    """Make the correlations between two views' dimensions the identity: each alike in both, and no two the same.

    The projector has three layers. All other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    weight : float
        Of correlations that should be 0. The paper's 0.005 is for 8192 dimensions, which have 60 times as many of them.

    References
    ----------
    Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction", arXiv:2103.03230.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> BarlowTwins(n_features=16, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    weight: float = 0.02

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        return Projected(encoder, mlp(encoder.out_features, (self.hidden, self.hidden), self.dim))

    def _loss(self, x: Tensor) -> Loss:
        z1, z2 = self._embedded(x)
        return losses.barlow_twins(z1, z2, self.weight) / self.dim, indicators(z1)


@dataclass(eq=False, repr=False)
class VICReg(JointEmbedding):
    """Bring two views together while every dimension keeps its variance, and no two vary together.

    The projector has three layers. All other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    invariance, variance, covariance : float
        Weights of the three terms.

    References
    ----------
    Bardes et al., "VICReg: variance-invariance-covariance regularization", arXiv:2105.04906.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 5))
    >>> VICReg(n_features=16, max_iter=2, random_state=0).fit_transform(X).shape
    (64, 16)
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        **{name: [Interval(Real, 0, None, closed="left")] for name in ("invariance", "variance", "covariance")},
    }

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        return Projected(encoder, mlp(encoder.out_features, (self.hidden, self.hidden), self.dim))

    def _loss(self, x: Tensor) -> Loss:
        z1, z2 = self._embedded(x)
        alike, varied, joint = losses.vicreg(z1, z2)
        parts = {"invariance": alike.detach(), "variance": varied.detach(), "covariance": joint.detach()}
        return self.invariance * alike + self.variance * varied + self.covariance * joint, parts | indicators(z1)


@dataclass(eq=False, repr=False)
class TemporalContrast(JointEmbedding):
    """Tell which frame comes a few steps later, among those that come later elsewhere (ATC).

    `X` is a recording, frame by frame, and `y`, if it is given, names the episode of each: no pair crosses the end of
    one, near which the later frame is the last one. Both frames are shifted at random. The later one is seen by a slow
    copy of the network; from the earlier one's embedding a residual network predicts, and a bilinear form compares. All
    other parameters are those of `JointEmbedding`.

    Parameters
    ----------
    steps : int
        Between the two frames.
    momentum : float
        Of the copy.

    References
    ----------
    Stooke et al., "Decoupling representation learning from reinforcement learning", arXiv:2009.08319; the bilinear
    form: van den Oord et al., arXiv:1807.03748.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 255, (64, 4, 36, 36), np.uint8)
    >>> episodes = np.repeat([0, 1], 32)
    >>> TemporalContrast(n_features=16, max_iter=1, random_state=0).fit(frames, episodes).transform(frames).shape
    (64, 16)
    """

    steps: int = 3
    momentum: float = 0.99

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **JointEmbedding._parameter_constraints,
        "steps": [Interval(Integral, 1, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="both")],
    }

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        """Frames, and for each the one that comes later."""
        (rows,) = super()._checked(X, reset=reset)
        return with_later(rows, self.steps, y)

    def _build(self) -> nn.Module:
        encoder = self._new_encoder()
        model = Projected(encoder, mlp(encoder.out_features, (), self.dim))
        model.target = EMA(model, tau=1 - self.momentum)
        model.predictor = mlp(self.dim, (self.hidden,), self.dim, norm=None)
        model.bilinear = nn.Linear(self.dim, self.dim, bias=False)
        return model

    def _loss(self, x: Tensor, rows: Tensor) -> Loss:
        model, (earlier,), (later,) = self.model_, self._views(x, 1), self._views(self._seen(rows), 1)
        z = model(earlier)
        with torch.no_grad():
            keys = model.target(later)
        scores = model.bilinear(z + model.predictor(z)).float() @ keys.T  # [B, B]
        accuracy = (scores.argmax(1) == torch.arange(len(x), device=x.device)).float().mean()
        return losses.info_nce(scores), {"accuracy": accuracy} | indicators(z)

    def _after_step(self) -> None:
        follow_online(self.model_)
