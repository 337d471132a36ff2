"""What estimators share whose features are an encoder of their own, or one that they are given."""

from numbers import Integral
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sandbox.zoo.given import Given, brings_weights
from sandbox.zoo.names import build
from unsupervised.autoencoder import body_for, opened
from unsupervised.base import TorchEstimator, mean_and_scale


class OwnEncoder(TorchEstimator):
    """An encoder for the samples: one that is given, as it is, or a new one that takes their mean and scale.

    A subclass has the parameters `encoder` and `n_features`, the latter of an encoder that brings no weights.
    """

    encoder: Given | None
    n_features: int
    as_given_: bool

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        "encoder": "no_validation",
        "n_features": [Interval(Integral, 1, None, closed="left")],
    }

    def _takes_as_given(self) -> bool:
        """Whether the encoder is taken as it is."""
        return brings_weights(self.encoder)

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        if reset:  # and kept: opened from a file, an estimator has the specification of its encoder alone
            self.as_given_ = self._takes_as_given()
        return super()._checked(X, y, reset=reset)

    def _new_encoder(self) -> Any:
        body = body_for(self.in_shape_, self.encoder)
        if self.as_given_:
            return opened(body, self.in_shape_)
        shapes = {"in_shape": self.in_shape_, "out_features": self.n_features}
        return build("latent_encoder", body=body, linear_path=False, activation="relu", **shapes)

    def _start(self, x: Tensor) -> None:
        if not self.as_given_:
            self.model_.encoder.start(*mean_and_scale(x))

    def _writable(self, name: str, value: Any) -> Any:
        if name == "encoder" and brings_weights(value):  # its weights are in the model: the file may be gone one day
            return self.model_.encoder.spec
        return super()._writable(name, value)
