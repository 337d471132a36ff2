"""Masked autoencoders: a transformer sees a quarter of a picture's patches, and another one draws the rest."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sandbox.training.device import private_seed
from sandbox.training.fit import Loss
from sandbox.zoo.names import build
from sandbox.zoo.transformer import Transformer, ViT
from unsupervised.base import TorchEstimator


class MaskedCoder(nn.Module):
    """A vision transformer that sees some patches, and a smaller one that draws all of them."""

    def __init__(self, encoder: ViT, dim: int, depth: int, heads: int):
        super().__init__()
        self.encoder = encoder
        C, H, W = encoder.in_shape
        self.n_patches = (H // encoder.patch) * (W // encoder.patch)
        pixels = C * encoder.patch**2
        self.embed = nn.Linear(encoder.out_features, dim)
        self.hidden = nn.Parameter(torch.zeros(dim).normal_(std=0.02))  # stands where a patch is not seen
        self.decoder = Transformer(
            dim, pixels, causal=False, dim=dim, depth=depth, heads=heads, max_length=self.n_patches
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """All patches of pictures [B, C, H, W] from the seen ones [B, S]: [B, n_patches, pixels]."""
        visible = self.encoder.encode_some(x, seen)  # [B, S, dim]
        steps = self.hidden.expand(len(x), self.n_patches, -1)
        codes = self.embed(visible).to(steps.dtype)
        return self.decoder(steps.scatter(1, seen[..., None].expand(-1, -1, codes.shape[2]), codes))


@dataclass(eq=False, repr=False)
class MaskedAutoencoder(TorchEstimator):
    """Learn features by drawing what is hidden: most patches of a picture are masked, and restored from the others.

    For pictures alone. The encoder is a ViT of the zoo that sees the visible patches only, which is what makes it fast;
    the loss is the squared error of the hidden ones. `transform` gives the mean over the patches of whole pictures.

    All other parameters, and the attributes, are those of `unsupervised.base.TorchEstimator`.

    Parameters
    ----------
    patch : int
        Side of a patch in pixels, a divisor of both sides of the pictures.
    masked : float
        Share of the patches that are hidden.
    dim, depth, heads : int
        Of the encoder.
    decoder_dim, decoder_depth : int
        Of the decoder, which is thrown away.
    normalize_patches : bool
        Whether what is restored is each patch with its own mean and variance taken out.

    References
    ----------
    He et al., "Masked autoencoders are scalable vision learners", arXiv:2111.06377.

    Examples
    --------
    >>> pictures = np.random.default_rng(0).random((64, 8, 8), np.float32)
    >>> MaskedAutoencoder(patch=2, dim=16, depth=1, heads=2, max_iter=2).fit_transform(pictures).shape
    (64, 16)
    """

    patch: int = 4
    masked: float = 0.75
    dim: int = 128
    depth: int = 4
    heads: int = 4
    decoder_dim: int = 64
    decoder_depth: int = 2
    normalize_patches: bool = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TorchEstimator._parameter_constraints,
        **{
            name: [Interval(Integral, 1, None, closed="left")]
            for name in ("patch", "dim", "depth", "heads", "decoder_dim", "decoder_depth")
        },
        "masked": [Interval(Real, 0, 1, closed="neither")],
        "normalize_patches": ["boolean"],
    }

    def _build(self) -> MaskedCoder:
        encoder = build(
            "vit", in_shape=self._picture_shape(), patch=self.patch, dim=self.dim, depth=self.depth, heads=self.heads
        )
        coder = MaskedCoder(encoder, self.decoder_dim, self.decoder_depth, heads=max(self.decoder_dim // 32, 1))
        if not 1 <= self._n_seen(coder) < coder.n_patches:
            raise ValueError(f"masked={self.masked} leaves {self._n_seen(coder)} of {coder.n_patches} patches to see")
        return coder

    def _n_seen(self, coder: MaskedCoder) -> int:
        return round((1 - self.masked) * coder.n_patches)

    def _draw(self, B: int) -> tuple[Tensor, Tensor]:
        """The patches that are seen [B, S] and those that are not [B, rest]."""
        order = torch.rand(B, self.model_.n_patches, device=self._on()).argsort(1)
        seen, unseen = order.tensor_split([self._n_seen(self.model_)], 1)
        return seen, unseen

    def _targets(self, x: Tensor) -> Tensor:
        patches = self.model_.encoder.patches(x)  # [B, n_patches, pixels]
        if self.normalize_patches:
            mean, var = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
            patches = (patches - mean) / (var + 1e-6).sqrt()
        return patches

    def _loss(self, x: Tensor) -> Loss:
        seen, unseen = self._draw(len(x))
        error = (self.model_(x, seen).float() - self._targets(x)).square().mean(2)  # [B, n_patches]
        return error.gather(1, unseen).mean(), {}

    def reconstruct(self, X: ArrayLike, random_state: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pictures with patches hidden, and with these drawn: two arrays in the shape of `X`, from 0 to 1 for bytes.

        What was hidden is grey in the first one, and has the model's drawing in the second.
        """
        check_is_fitted(self)
        if self.normalize_patches:
            raise ValueError("normalize_patches=True restores patches without their mean and variance: no pictures")
        rows, drawn, hidden = self._checked(X)[0], [], []
        with torch.no_grad(), private_seed(int(check_random_state(random_state).randint(2**31 - 1))):
            for start in range(0, len(rows), self.batch_size):
                x = self._floats(torch.tensor(rows[start : start + self.batch_size]).to(self._on()))
                seen, unseen = self._draw(len(x))
                patches = self.model_.encoder.patches(x)
                at = unseen[..., None].expand(-1, -1, patches.shape[2])
                hidden.append(self._whole(patches.scatter(1, at, float(x.mean()))))
                drawn.append(self._whole(patches.scatter(1, at, self.model_(x, seen).gather(1, at))))
        return np.concatenate(hidden).reshape(np.shape(X)), np.concatenate(drawn).reshape(np.shape(X))

    def _whole(self, patches: Tensor) -> NDArray[Any]:
        """Pictures [B, C, H, W] of their patches."""
        folded = nn.functional.fold(patches.transpose(1, 2), self.in_shape_[1:], self.patch, stride=self.patch)
        return folded.cpu().numpy()
