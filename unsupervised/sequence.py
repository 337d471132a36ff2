"""An autoencoder for series and sound: one recurrent network reads, another one writes."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from sandbox.zoo.names import build
from unsupervised.autoencoder import Autoencoder, Coder


@dataclass(eq=False, repr=False)
class SequenceAutoencoder(Autoencoder):
    """Compress series to a few numbers by an LSTM or a GRU that reads them, and restore them by one that writes them.

    Samples are series ``[N, T]``, or ``[N, T, D]`` with `D` values at a time. A long series of single values, such as
    sound, is read `step` values at a time. As in `Autoencoder`, a linear path starts from PCA, and the other parameters
    are those of that class.

    Parameters
    ----------
    n_components : int
    cell : {"lstm", "gru", "rnn"}
    hidden : int
        Width of both recurrent networks.
    step : int
        Values of ``[N, T]`` that are read at a time; the last step is filled up with zeros.

    References
    ----------
    Srivastava et al., "Unsupervised learning of video representations using LSTMs", arXiv:1502.04681.

    Examples
    --------
    >>> import numpy as np
    >>> phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (200, 1))
    >>> X = np.sin(phase + np.linspace(0, 6, 24))
    >>> estimator = SequenceAutoencoder(2, hidden=16, step=4, max_iter=5, random_state=0).fit(X)
    >>> estimator.transform(X).shape, estimator.reconstruct(X).shape
    ((200, 2), (200, 24))
    """

    n_components: int = 8
    cell: str = "gru"
    hidden: int = 64
    step: int = 8

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Autoencoder._parameter_constraints,
        "cell": [StrOptions({"lstm", "gru", "rnn"})],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "step": [Interval(Integral, 1, None, closed="left")],
    }

    def _sample_shape(self, given: tuple[int, ...] | None, D: int) -> tuple[int, ...]:
        if self.image_shape is not None or (given is not None and len(given) != 2):
            raise ValueError(
                f"SequenceAutoencoder takes series [N, T] or [N, T, D], got samples of {given or self.image_shape}"
            )
        return (D,) if given is None else given

    def _build(self) -> Coder:
        cells = {"cell": self.cell, "step": self.step}
        encoder = build(
            "latent_encoder",
            in_shape=self.in_shape_,
            out_features=self.n_components,
            body={"name": "recurrent_encoder", "kwargs": {"out_features": self.hidden, **cells}},
            linear_path=self._straight(),
        )
        decoder = build(
            "latent_decoder",
            in_features=self.n_components,
            out_shape=self.in_shape_,
            body={"name": "recurrent_decoder", "kwargs": {"hidden": self.hidden, **cells}},
            linear_path=self._straight(),
        )
        return Coder(encoder, decoder)
