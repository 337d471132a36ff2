"""Pictures to bytes and back: an autoencoder whose latents are rounded, and written at the price of their entropy."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sandbox.training.device import PRECISIONS, pick_device, private_seed
from sandbox.training.fit import Fitting, Loss, Schedule, fit
from unsupervised.compression.container import QUALITIES, Header, check_length, check_size, pack
from unsupervised.compression.entropy import LARGEST, Coder, Decoder, Encoder, Meter
from unsupervised.compression.exact import Exact, palette_of
from unsupervised.compression.model_file import (
    Codec,
    fill,
    part,
    take_layers,
    taken_tables,
    taken_whole,
    told_layers,
    told_tables,
    told_whole,
)
from unsupervised.compression.prior import normal_tables
from unsupervised.compression.transform import BLOCK, PHASES, REACH, Transforms, clipped, means_and_indices, places_of

BIT = math.log(2) / 6  # squared error, in steps, that a bit is worth where steps are fine
STARTERS = 256  # squares that the axes are taken from


@dataclass(eq=False, repr=False)
class ImageCodec(Codec):
    """A codec for pictures, learned from pictures.

    Parameters
    ----------
    n_latents, n_hyper : int
        Channels of the latents, one for each 8x8 pixels, at most 192 of a picture in colour; and of the hyper-latents,
        one for each 32x32, that tell how large each latent is likely to be.
    widths : (int, int)
        Channels of the networks at a quarter and at an eighth of the picture's size.
    lambda_ : (float, float)
        What squared error costs against bits at quality 1 and at quality 9, the others between them in equal ratios:
        the loss is ``bits per pixel + lambda * 255**2 * mean squared error`` of values from 0 to 1.
    crop : int
        Side of the squares that are cut out of the pictures for training; a multiple of 8.
    crops : int
        Squares of an epoch, each from anywhere in any picture.
    flip : bool
        Whether some squares are mirrored.
    max_iter : int
        Epochs.
    batch_size : int
    learning_rate : float, str or callable
        See `unsupervised.base.TorchEstimator`.
    clip_norm : float, optional
        Largest norm of the gradient.
    precision : {"auto", "fp32", "bf16"}
        Of training.
    device : {"auto", "cpu", "cuda"}
        Of training; files are written and read on the CPU.
    random_state : int, RandomState or None
    verbose : int
        A bar with loss and time left.
    checkpoint : path, optional
        A file that an interrupted training goes on from.

    Attributes
    ----------
    model_ : unsupervised.compression.transform.Transforms
        What decodes in it is exact.
    tables_ : dict of Tables
        ``"hyper"`` and ``"normal"``.
    exact_ : unsupervised.compression.exact.Exact
        What it has learned of pictures with few colours: they are coded without loss where that takes fewer bytes.
    model_id_ : int
        First two bytes of the SHA-256 of everything that decodes.
    channels_ : int
        1, if it learned from grey pictures alone; else 3, and grey ones are coded as coloured ones.
    loss_curve_ : list of float

    Notes
    -----
    The first test of a codec is that what is decoded is the same everywhere: everything after the rounded latents is
    whole-number arithmetic, see `unsupervised.compression.transform`.

    References
    ----------
    Ballé et al., "Variational image compression with a scale hyperprior", arXiv:1802.01436.

    Examples
    --------
    >>> ramps = np.add.outer(np.arange(4), np.arange(64)).astype(np.uint8)[:, None].repeat(48, 1)  # [4, 48, 64]
    >>> codec = ImageCodec(8, 8, (8, 8), crop=32, crops=8, max_iter=1, random_state=0).fit(ramps)
    >>> data = codec.compress(ramps[0], quality=1)
    >>> codec.decompress(data).shape, len(data) < ramps[0].size
    ((48, 64), True)
    """

    n_latents: int = 96
    n_hyper: int = 40
    widths: tuple[int, int] = (64, 80)
    lambda_: tuple[float, float] = (0.001, 0.06)
    crop: int = 128
    crops: int = 2000
    flip: bool = True
    max_iter: int = 20
    batch_size: int = 8
    learning_rate: float | str | Schedule = "cos_1e-3"
    clip_norm: float | None = 1.0
    precision: str = "auto"
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0
    checkpoint: str | os.PathLike[str] | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_latents": [Interval(Integral, 1, None, closed="left")],
        "n_hyper": [Interval(Integral, 1, None, closed="left")],
        "widths": ["array-like"],
        "lambda_": ["array-like"],
        "crop": [Interval(Integral, 16, None, closed="left")],
        "crops": [Interval(Integral, 1, None, closed="left")],
        "flip": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), str, callable],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "checkpoint": [str, os.PathLike, None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike | Sequence[ArrayLike], y: None = None) -> Self:
        """Learn from pictures.

        Parameters
        ----------
        X : uint8 [N, H, W], [N, C, H, W] or [N, H, W, C], or a list of pictures [H, W] or [H, W, 3] of any sizes
        y : ignored

        Raises
        ------
        ValueError
            If they are no such pictures, or there are none.
        FloatingPointError
            If the loss is no number from the start.
        """
        if self.crop % BLOCK:
            raise ValueError(f"crop must be a multiple of {BLOCK}, got {self.crop}")
        pictures = [torch.from_numpy(picture) for picture in pictures_of(X)]
        self.channels_ = max(len(picture) for picture in pictures)
        pictures = [picture.expand(self.channels_, -1, -1) for picture in pictures]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        device = pick_device(self.device)
        with private_seed(seed):
            model: Any = self._build()
            self.model_: Transforms = model.to(device, memory_format=torch.channels_last)
        low, high = self.lambda_
        self._lambdas = torch.logspace(np.log10(low), np.log10(high), QUALITIES).to(device)
        areas = torch.tensor([float(picture[0].numel()) for picture in pictures])

        def cuts(n: int) -> Tensor:
            some = torch.multinomial(areas, n, replacement=True).tolist()
            cut = torch.stack([self._cut(pictures[i]) for i in some]).to(device)
            return cut.contiguous(memory_format=torch.channels_last).float() / 255

        def loss(ids: Tensor) -> Loss:
            return self._loss(cuts(len(ids)))

        with private_seed(seed):
            self.model_.start(cuts(STARTERS), self._lambdas)

        fitting = fit(
            Fitting(self.model_),
            loss,
            [np.arange(self.crops)],
            epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            clip_norm=self.clip_norm,
            seed=seed,
            precision=self.precision,
            checkpoint=self.checkpoint,
            label=f"fitting {type(self).__name__}" if self.verbose else "",
        )
        self.loss_curve_ = [row["loss"] for row in fitting.history]
        self._finish()
        self.exact_ = Exact()
        self.exact_.learn([picture[None].numpy() for picture in pictures])
        self.model_id_ = self._id()
        return self

    def compress(self, x: ArrayLike, quality: int = 5) -> bytes:
        """A picture as bytes.

        Parameters
        ----------
        x : uint8 [H, W] or [H, W, 3]
        quality : int
            1, the smallest, to 9.

        Raises
        ------
        ValueError
            If it is no such picture; one with an alpha channel, too.
        """
        picture = self._picture(x)
        header = self._header(picture, quality)
        encoder = Encoder()
        self._code_picture(encoder, picture, quality)
        payload = encoder.payload()
        if (found := palette_of(picture[None].numpy())) is not None:
            encoder = Encoder()
            self._code_exactly(encoder, *found)
            if len(encoder.payload()) <= len(payload):
                return pack(replace(header, exact=True), [encoder.payload()])
        return pack(header, [payload])

    def decompress(self, data: bytes) -> NDArray[np.uint8]:
        """The picture that `compress` was given, nearly: ``[H, W]`` or ``[H, W, 3]`` uint8.

        Raises
        ------
        CorruptFile
            If the file is damaged, of another kind, or of another model. One line.
        """
        header, (payload,) = self._opened(data, clip=False)
        decoder = Decoder(payload)
        if header.exact:
            check_length(payload, self.exact_.least_bits(header.height, header.width, False))
            colours = self.exact_.code_palette(decoder, None, 3 if header.colour else 1)
            numbers, _ = self.exact_.code(decoder, None, None, None, (header.height, header.width), len(colours))
            decoder.finish()
            return colours[numbers].reshape(header.shape)
        h, w = -(-header.height // BLOCK), -(-header.width // BLOCK)
        check_length(payload, self._least_bits(h, w))
        y_hat = self._code(decoder, None, None, h, w, header.quality)
        decoder.finish()
        return self._pixels(y_hat[None], header)[0]

    def estimate_bits(self, x: ArrayLike, quality: int = 5) -> float:
        """The entropy of a picture's symbols by the model's own tables; the file adds a header of 128 bits."""
        meter, picture = Meter(), self._picture(x)
        self._header(picture, quality)
        self._code_picture(meter, picture, quality)
        if (found := palette_of(picture[None].numpy())) is not None:
            exactly = Meter()
            self._code_exactly(exactly, *found)
            return min(meter.bits, exactly.bits)
        return meter.bits

    # -- training ------------------------------------------------------------------------------------------------------

    def _build(self) -> Transforms:
        a, b = self.widths
        return Transforms(self.channels_, min(self.n_latents, self.channels_ * BLOCK**2), self.n_hyper, (a, b))

    def _cut(self, picture: Tensor) -> Tensor:
        """A square of a picture, from anywhere in it."""
        side, (H, W) = self.crop, picture.shape[1:]
        top, left = (int(torch.randint(max(length - side, 0) + 1, ())) for length in (H, W))
        cut = picture[:, top : top + side, left : left + side]
        if self.flip and torch.rand(()) < 0.5:
            cut = cut.flip(2)
        return _padded(cut[None], side)[0]

    def _loss(self, x: Tensor) -> Loss:
        quality = torch.randint(QUALITIES, (len(x),), device=x.device)
        x_hat, bits = self.model_(x, quality)
        error = (x_hat - x).square().mean((1, 2, 3))
        rate = bits / (x.shape[2] * x.shape[3])
        weight = self._lambdas[quality]
        # Divided by its root, or the best qualities, whose errors cost most, would be all that is learned at first.
        share = (self._lambdas[QUALITIES // 2] / weight).sqrt()
        loss = (share * (rate + weight * 255**2 * error)).mean()
        return loss, {"rate": rate.mean().detach(), "error": error.mean().detach()}

    def _finish(self) -> None:
        """Freeze what has been learned."""
        self.model_.cpu().freeze()
        self.tables_ = {"hyper": self.model_.prior.tables(), "normal": normal_tables()}

    # -- files ---------------------------------------------------------------------------------------------------------

    def _header(
        self, picture: Tensor, quality: int, frames: int = 0, group: int = 0, model_id: int | None = None
    ) -> Header:
        check_is_fitted(self, "model_id_")
        if not (isinstance(quality, Integral) and 1 <= quality <= QUALITIES):
            raise ValueError(f"quality must be a whole number from 1 to {QUALITIES}, got {quality!r}")
        C, H, W = picture.shape
        if self.channels_ < C:
            raise ValueError("this codec has learned from grey pictures alone")
        model_id = self.model_id_ if model_id is None else model_id
        header = Header(model_id, W, H, int(quality), C == 3, frames, group)
        check_size(header)
        return header

    def _picture(self, x: ArrayLike) -> Tensor:
        """One picture ``[C, H, W]`` as it was given, C 1 or 3."""
        x = np.asarray(x)
        if x.ndim == 3 and x.shape[2] in (2, 4):
            raise ValueError("it has an alpha channel, which this format doesn't hold; put it on a background first")
        if x.dtype != np.uint8 or not (x.ndim == 2 or (x.ndim == 3 and x.shape[2] == 3)) or not x.size:
            raise ValueError(f"a picture is uint8 [H, W] or [H, W, 3] with a pixel or more, got {x.dtype} {x.shape}")
        return torch.from_numpy(np.require(x if x.ndim == 3 else x[:, :, None], requirements=["C", "W"])).permute(
            2, 0, 1
        )

    def _code_exactly(self, coder: Coder, colours: NDArray[Any], frames: NDArray[Any]) -> None:
        """Write frames of few colours, of numbers ``[T, H, W]``."""
        self.exact_.code_palette(coder, colours, colours.shape[1])
        last = flags = None
        for now in frames:
            _, flags = self.exact_.code(coder, now, last, flags, now.shape, len(colours))
            last = now

    def _least_bits(self, h: int, w: int) -> float:
        """What the latents of a picture cost at least."""
        hyper, normal = self.tables_["hyper"].least().sum(), self.tables_["normal"].least().min()
        return float(-(-h // 4) * -(-w // 4) * hyper + h * w * self.model_.restore.shape[1] * normal)

    def _code_picture(self, coder: Coder, picture: Tensor, quality: int) -> None:
        y, z = self._latents(picture[None], quality)
        h, w = y.shape[2:]
        self._code(coder, z[0], y[0], h, w, quality)

    def _latents(self, x: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Latents not yet rounded and hyper-latents of pictures uint8 ``[B, C, H, W]``."""
        return self.model_.analyse(_padded(x.expand(-1, self.channels_, -1, -1), BLOCK), quality)

    @torch.no_grad()
    def _code(self, coder: Coder, z: Tensor | None, y: Tensor | None, h: int, w: int, quality: int) -> Tensor:
        """Write one picture's latents, or read them if there are none yet: rounded, ``[M, h, w]``.

        Parameters
        ----------
        coder : Encoder, Meter or Decoder
        z : Tensor [n_hyper, ceil(h / 4), ceil(w / 4)], optional
        y : Tensor [M, h, w], optional
        h, w, quality : int
        """
        model = self.model_
        restore, stretch = model.restore[quality - 1], model.stretch[quality - 1]
        channels = np.broadcast_to(np.arange(self.n_hyper)[:, None, None], (self.n_hyper, -(-h // 4), -(-w // 4)))
        told = coder.code(None if z is None else z.numpy().astype(np.int64), self.tables_["hyper"], channels)
        z_hat = torch.from_numpy(told).double().clamp(-REACH, REACH)
        features = model.hyper_synthesis(z_hat[None])[0, :, :h, :w]
        y_hat, known = torch.zeros(len(restore), h, w, dtype=torch.float64), torch.zeros(1, h, w, dtype=torch.float64)
        for phase in PHASES:
            i, j = places_of(phase, h, w)
            if not len(i):
                continue
            seen = torch.cat([features, clipped(y_hat * restore[:, None, None]), known])
            mean, index = means_and_indices(model.context.at(seen, (i, j)), stretch)
            y_hat[:, i, j] = self._code_places(coder, None if y is None else y[:, i, j].T, mean, index).T
            known[:, i, j] = 1
        return y_hat

    def _code_places(self, coder: Coder, y: Tensor | None, mean: Tensor, index: Tensor) -> Tensor:
        """Write or read latents ``[n, M]`` of which the means and scales are known; rounded."""
        symbols, which, normal = None, index.numpy().astype(np.int64), self.tables_["normal"]
        if y is not None:
            exact = (y.double() - mean).clamp(-LARGEST, LARGEST).numpy()
            near = np.rint(exact)
            less = near - np.sign(near)  # which may cost fewer bits than its larger error is worth
            symbols, smaller = near.astype(np.int64), less.astype(np.int64)
            saved = normal.costs(symbols, which) - normal.costs(smaller, which)
            symbols = np.where((exact - less) ** 2 - (exact - near) ** 2 < BIT * saved, smaller, symbols)
        symbols = coder.code(symbols, normal, which)
        return torch.from_numpy(symbols).double() + mean

    def _pixels(self, y_hat: Tensor, header: Header) -> NDArray[np.uint8]:
        """Pictures ``[B, H, W]`` or ``[B, H, W, 3]``."""
        x = self.model_.restored(y_hat, header.quality)[:, :, : header.height, : header.width]
        if not header.colour:
            if self.channels_ == 3:
                x = ((x.int().sum(1, keepdim=True) + 1) // 3).to(torch.uint8)
            return x[:, 0].numpy()
        return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())

    # -- a model as tensors --------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        scales = told_whole("restore", self.model_.restore) | told_whole("stretch", self.model_.stretch)
        gain = {"log_gain": self.model_.log_gain.detach().half()}
        exact = {f"exact.{name}": value for name, value in self.exact_.tensors().items()}
        return told_layers(self.model_) | scales | gain | told_tables(self.tables_) | exact

    def _take(self, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        with private_seed():
            self.model_ = self._build()
        self.model_.freeze()
        take_layers(self.model_, tensors)
        for name in ("restore", "stretch"):
            fill(getattr(self.model_, name), taken_whole(name, tensors))
        fill(self.model_.log_gain, tensors["log_gain"].float())
        self.model_.eval()
        self.tables_ = taken_tables(tensors)
        self.exact_ = Exact()
        self.exact_.take(part(tensors, "exact"))


def pictures_of(X: ArrayLike | Sequence[ArrayLike]) -> list[NDArray[np.uint8]]:
    """Pictures as they come, as a list of ``[C, H, W]`` with C 1 or 3.

    Examples
    --------
    >>> [picture.shape for picture in pictures_of([np.zeros((4, 6), np.uint8), np.zeros((2, 2, 3), np.uint8)])]
    [(1, 4, 6), (3, 2, 2)]
    """
    some: Any = X
    if hasattr(some, "ndim") and some.ndim == 4 and some.shape[1] in (1, 3) and some.shape[3] not in (1, 3):
        some = np.moveaxis(np.asarray(some), 1, -1)
    pictures = []
    for one in some:
        x = np.asarray(one)
        x = x[:, :, None] if x.ndim == 2 else x
        if x.ndim != 3 or x.shape[2] not in (1, 3) or x.dtype != np.uint8 or not x.size:
            raise ValueError(f"pictures are uint8 [H, W] or [H, W, 3] with a pixel or more, got {x.dtype} {x.shape}")
        pictures.append(np.require(np.moveaxis(x, -1, 0), requirements=["C", "W"]))
    if not pictures:
        raise ValueError("there are no pictures to learn from")
    return pictures


def _padded(x: Tensor, multiple: int) -> Tensor:
    """With its last rows and columns repeated, until the sides are multiples: ``[B, C, H, W]``."""
    right, below = -x.shape[3] % multiple, -x.shape[2] % multiple
    if not (right or below):
        return x
    return F.pad(x.float(), (0, right, 0, below), mode="replicate").to(x.dtype)
