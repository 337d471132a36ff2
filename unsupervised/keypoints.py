"""An autoencoder whose code is a few points: where the things in a picture are."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sandbox.training.fit import Loss
from sandbox.zoo.keypoints import as_points
from sandbox.zoo.names import build
from unsupervised import losses
from unsupervised.autoencoder import Autoencoder, Coder

FLOOR = 0.25  # of the data's standard deviation: the least unit that the error of a value is measured in


@dataclass(eq=False, repr=False)
class KeypointAutoencoder(Autoencoder):
    """Pictures as a few points, where something changes: for those with one background, such as a game's.

    A code is three numbers for each point: how likely its thing is there at all, and that times its place (see
    `sandbox.zoo.keypoints.Keypoints`). The decoder draws at the points, on the mean of all pictures; what is to be
    drawn is what differs from it. Each pixel's error counts in units of that pixel's own standard deviation: else what
    is small, or seldom in one place, would not be worth a point.

    All other parameters are those of `Autoencoder`. Encoder and decoder are fixed, and there is no linear path. Points
    come to what explains most first: of Pong that is the score, and minutes of training do not bring them to the ball.
    A linear layer reads positions from points that have not found their thing, too, and from ones left at random.

    Parameters
    ----------
    n_components : int
        A multiple of three: three numbers for each point.

    References
    ----------
    Finn et al., "Deep spatial autoencoders for visuomotor learning", arXiv:1509.06113; Jakab et al., "Unsupervised
    learning of object landmarks through conditional image generation", arXiv:1806.07823.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, place = np.zeros((200, 1, 24, 24), np.float32), rng.integers(2, 20, size=(200, 2))
    >>> for picture, (y, x) in zip(X, place):  # a square of 3x3 pixels somewhere
    ...     picture[0, y : y + 3, x : x + 3] = 1
    >>> estimator = KeypointAutoencoder(6, max_iter=2, random_state=0).fit(X)
    >>> estimator.transform(X).shape, estimator.points(X).shape
    ((200, 6), (200, 2, 3))
    """

    n_components: int = 30

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "n_components": [Interval(Integral, 3, None, closed="left")],
        "encoder": [None],
        "decoder": [None],
        "loss": [StrOptions({"mse", "mae", "huber"})],
    }

    def _straight(self) -> bool:
        return False

    def _build(self) -> Coder:
        encoder = build(
            "latent_encoder",
            in_shape=self._picture_shape(),
            out_features=self.n_components,
            body="keypoints",
            linear_path=False,
            head=False,
        )
        decoder = build(
            "latent_decoder",
            in_features=self.n_components,
            out_shape=self.in_shape_,
            body="keypoint_decoder",
            linear_path=False,
        )
        for parameter in decoder.body.last.parameters():  # at first it draws the mean, and nothing on it
            nn.init.zeros_(parameter)
        model = Coder(encoder, decoder)
        model.register_buffer("unit", torch.ones(self.in_shape_))
        return model

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        floor = FLOOR * self.model_.encoder.scale
        self.model_.unit.copy_(torch.hypot(x.std(0, correction=0), floor))

    def _error(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return losses.RECONSTRUCTION[self.loss](x_hat.float() / self.model_.unit, x / self.model_.unit)

    def _loss(self, x: Tensor) -> Loss:
        z = self.model_.encoder(x)
        present = z[:, -self.n_components // 3 :].detach().mean()
        return self._error(self.model_.decoder(z), x), {"presence": present}

    def points(self, X: ArrayLike) -> NDArray[Any]:
        """The points of pictures: ``[N, n, 3]``, x and y from -1 (left, top) to 1, and how likely each is there."""
        check_is_fitted(self)
        return as_points(torch.from_numpy(self.transform(X))).numpy()
