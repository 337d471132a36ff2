"""Contrast in space and time: what is seen at each place tells the next frame from other ones, small things included.

A contrast of whole frames is content with what is largest. Here each place of the convolutions' map asks for itself,
so that a ball of two pixels counts as much as a score.
"""

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from sandbox.training.fit import Loss
from unsupervised import losses
from unsupervised.joint import Pretrained, indicators, with_later


class Placed(nn.Module):
    """An encoder with a map, and the two bilinear forms that compare: of features and places, and of places."""

    def __init__(self, encoder: Any, channels: int):
        super().__init__()
        self.encoder: Any = encoder
        self.by_features = nn.Linear(encoder.out_features, channels)
        self.by_places = nn.Linear(channels, channels)


@dataclass(eq=False, repr=False)
class STDIM(Pretrained):
    """Tell the next frame from other ones at every place of the map, by the frame's features and by the place (ST-DIM).

    For a recording, frame by frame; `y`, if it is given, names the episode of each: no pair crosses the end of one.
    The encoder must have a map of convolutions, as ``"nature_cnn"``, ``"impala_cnn"``, ``"conv"`` and ``"alexnet"``
    have. While it trains, ``effective_rank`` and ``spread`` of the features are among the metrics; if they have
    collapsed at the end, a `RuntimeWarning` says so. All other parameters are those of `Pretrained`.

    Parameters
    ----------
    steps : int
        Between the two frames.

    References
    ----------
    Anand et al., "Unsupervised state representation learning in Atari", arXiv:1906.08226.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 255, (64, 1, 36, 36), np.uint8)
    >>> episodes = np.repeat([0, 1], 32)
    >>> STDIM(n_features=16, max_iter=1, batch_size=32, random_state=0).fit(frames, episodes).transform(frames).shape
    (64, 16)
    """

    steps: int = 1
    batch_size: int = field(default=128, kw_only=True)

    _compares: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Pretrained._parameter_constraints,
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    def _checked(self, X: ArrayLike, y: ArrayLike | None = None, *, reset: bool = False) -> list[NDArray[Any]]:
        """Frames, and for each the one that comes later."""
        (rows,) = super()._checked(X, reset=reset)
        return with_later(rows, self.steps, y)

    def _build(self) -> Placed:
        encoder = self._new_encoder()
        try:
            with torch.no_grad():
                places, _ = encoder.see(torch.zeros(1, *self._picture_shape()))
        except AttributeError:
            kind = type(getattr(encoder, "body", encoder)).__name__
            raise ValueError(f"STDIM looks at the map of an encoder's convolutions, and {kind} has none") from None
        return Placed(encoder, places.shape[1])

    def _loss(self, x: Tensor, rows: Tensor) -> Loss:
        model, B = self.model_, len(x)
        places, features = model.encoder.see(torch.cat([x, self._floats(rows)]))
        now, later = places.float().flatten(2).permute(2, 0, 1).split(B, 1)  # [places, B, c] each
        by_features = losses.place_nce(model.by_features(features[:B].float())[None] @ later.mT)
        by_places = losses.place_nce(model.by_places(now) @ later.mT)
        parts = {"by_features": by_features.detach(), "by_places": by_places.detach()}
        return by_features + by_places, parts | indicators(features[:B])
