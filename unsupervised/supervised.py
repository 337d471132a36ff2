"""A classifier and a regressor on any network of the zoo: to learn from labels, or fine-tune what learned without."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length, check_is_fitted
from torch import Tensor, nn

from sandbox.training.fit import Loss
from sandbox.zoo.given import Given
from unsupervised import losses
from unsupervised.own_encoder import OwnEncoder


class Headed(nn.Module):
    """An encoder, frozen or not, and a linear head on its features; outputs are in units of the targets."""

    shift: Tensor
    scale: Tensor

    def __init__(self, encoder: nn.Module, n_outputs: int, frozen: bool):
        super().__init__()
        self.encoder, self.frozen = encoder.requires_grad_(not frozen), frozen
        self.head = nn.Linear(encoder.out_features, n_outputs)  # type: ignore[arg-type]
        self.register_buffer("shift", torch.zeros(n_outputs))
        self.register_buffer("scale", torch.ones(n_outputs))

    def forward(self, x: Tensor) -> Tensor:  # [B, *in_shape] -> [B, n_outputs]
        return self.head(self.encoder(x)) * self.scale + self.shift

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:  # running means of a batch norm would move
            self.encoder.eval()
        return self


@dataclass(eq=False, repr=False)
class Supervised(OwnEncoder):
    """What both have in common: an encoder, and a linear layer on its features.

    Parameters
    ----------
    encoder : str, path, dict or nn.Module, optional
        A network of the zoo (see `sandbox.zoo.given`), such as ``autoencoder.encoder_`` or a file of ``zoo.save``,
        whose weights are kept; by default as for `Autoencoder`.
    freeze_encoder : bool
        Whether the encoder is left as it is.
    n_features : int
        Of an encoder that brings no weights.
    """

    encoder: Given | None = None
    freeze_encoder: bool = False
    n_features: int = 64

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **OwnEncoder._parameter_constraints,
        "freeze_encoder": ["boolean"],
    }

    def _n_outputs(self) -> int:
        raise NotImplementedError

    def _targets(self, y: NDArray[Any], reset: bool) -> NDArray[Any]:
        """Labels as the loss takes them."""
        raise NotImplementedError

    def _build(self) -> Headed:
        return Headed(self._new_encoder(), self._n_outputs(), self.freeze_encoder)

    def _takes_as_given(self) -> bool:
        return super()._takes_as_given() or self.freeze_encoder

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        (rows,) = super()._checked(X, reset=reset)
        if y is None:
            if reset:
                raise ValueError(
                    f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
                )
            return [rows]
        numeric = isinstance(self, RegressorMixin)
        targets = _check_y(y, multi_output=numeric, y_numeric=numeric, estimator=self)
        check_consistent_length(rows, targets)
        return [rows, self._targets(targets, reset)]

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return self._in_batches(self.model_, self._checked(X)[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


@dataclass(eq=False, repr=False)
class Classifier(ClassifierMixin, Supervised):
    """A neural classifier: any encoder of the zoo, and a linear layer on its features.

    Given an encoder that was trained without labels, it fine-tunes it, or learns the last layer alone. `transform`
    gives the features. All other parameters, and the attributes, are those of `unsupervised.base.TorchEstimator`.

    Parameters
    ----------
    encoder, freeze_encoder, n_features
        See `Supervised`.
    loss : {"ce", "hinge"}
        Cross-entropy, with `predict_proba`, or the hinge loss of Crammer and Singer.

    Attributes
    ----------
    classes_ : [K]

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(Classifier(max_iter=30, random_state=0).fit(X, y).score(X, y) > 0.9)
    True
    """

    loss: str = "ce"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Supervised._parameter_constraints,
        "loss": [StrOptions({"ce", "hinge"})],
    }

    def partial_fit(self, X: ArrayLike, y: ArrayLike | None = None, classes: ArrayLike | None = None) -> Self:
        """Train one more epoch; the first call is given all `classes`, or `y` must have them all."""
        if classes is not None and not hasattr(self, "model_"):
            self._known = np.unique(np.asarray(classes))
        return super().partial_fit(X, y)

    def _targets(self, y: NDArray[Any], reset: bool) -> NDArray[Any]:
        check_classification_targets(y)
        if reset:
            self.classes_ = self.__dict__.pop("_known", np.unique(y))
        places = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (self.classes_[places] != y).any():
            raise ValueError(f"y has labels {np.setdiff1d(y, self.classes_)}, which are not among {self.classes_}")
        return places.astype(np.int64)

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _loss(self, x: Tensor, labels: Tensor) -> Loss:
        scores = self.model_(x).float()
        value = losses.cross_entropy(scores, labels) if self.loss == "ce" else losses.hinge(scores, labels)
        return value, {"accuracy": (scores.argmax(1) == labels).float().mean()}

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores ``[N, K]``; of two classes how far the second is before the first, ``[N]``."""
        scores = self._outputs(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the largest score, ``[N]``."""
        places = self._outputs(X).argmax(1)
        return self.classes_[places]

    @available_if(lambda self: self.loss == "ce")
    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities ``[N, K]``; with the cross-entropy alone."""
        scores = self._outputs(X)
        odds = np.exp(scores - scores.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


@dataclass(eq=False, repr=False)
class Regressor(RegressorMixin, Supervised):
    """A neural regressor: any encoder of the zoo, and a linear layer on its features.

    All other parameters are those of `Classifier` and `unsupervised.base.TorchEstimator`. Targets are learned in units
    of their standard deviation, one or several at a time.

    Parameters
    ----------
    encoder, freeze_encoder, n_features
        See `Supervised`.
    loss : {"mse", "huber"}

    Examples
    --------
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> bool(Regressor(max_iter=100, random_state=0).fit(X, np.abs(X[:, 0])).score(X, np.abs(X[:, 0])) > 0.95)
    True
    """

    loss: str = "mse"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Supervised._parameter_constraints,
        "loss": [StrOptions({"mse", "huber"})],
    }

    def _targets(self, y: NDArray[Any], reset: bool) -> NDArray[Any]:
        if reset:
            self.n_outputs_ = 0 if y.ndim == 1 else y.shape[1]
            self._units = y.mean(0), y.std(0)
        elif (y.ndim == 1) != (self.n_outputs_ == 0) or (y.ndim == 2 and y.shape[1] != self.n_outputs_):
            raise ValueError(f"y has shape {y.shape}, but {max(self.n_outputs_, 1)} targets were fitted")
        return y.reshape(len(y), -1).astype(np.float32)

    def _n_outputs(self) -> int:
        return max(self.n_outputs_, 1)

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        mean, std = (torch.as_tensor(np.atleast_1d(one), dtype=torch.float32) for one in self.__dict__.pop("_units"))
        self.model_.shift.copy_(mean)
        self.model_.scale.copy_(torch.where(std > 0, std, 1.0))

    def _loss(self, x: Tensor, y: Tensor) -> Loss:
        units = self.model_.scale
        function = losses.mse if self.loss == "mse" else losses.huber
        return function(self.model_(x).float() / units, y / units), {}

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Targets ``[N]``, or ``[N, M]`` as they were given."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 0 else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
