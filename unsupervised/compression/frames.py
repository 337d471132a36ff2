"""Clips to bytes and back: what stands still costs nearly nothing.

A frame's latents are those of a picture. The first of a group is coded as one; of the others, a flag for each place
says whether its latents change at all, and those that do are told given the last two frames and what is around them.
Nothing drifts: an encoder compares each frame itself, not a difference, with what the decoder has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sandbox.training.device import private_seed
from sandbox.training.fit import Fitting, Loss, Schedule, fit
from unsupervised.compression.codec import BIT, ImageCodec, pictures_of
from unsupervised.compression.container import MAX_GROUP, QUALITIES, Header, check_length, pack
from unsupervised.compression.entropy import Coder, Decoder, Encoder, Meter, Tables, counts_of
from unsupervised.compression.exact import Exact, palette_of
from unsupervised.compression.flags import Counting, code_flags, flag_tables
from unsupervised.compression.model_file import Codec, part, take_layers, taken_tables, told_layers, told_tables
from unsupervised.compression.prior import STEP, normal_bits
from unsupervised.compression.transform import BLOCK, PHASES, Context, clipped, freeze, means_and_indices, rounded

STILL = 0.55  # steps that all latents of a place may be off, for it to count as unchanged
SOME = 25  # frames that are coded both ways, to see which is smaller
COUNTED = (1, 4, 7)  # qualities at which flags are counted
BATCH = 16  # frames that go through the transforms at a time


@dataclass(eq=False, repr=False)
class FrameCodec(Codec):
    """A codec for clips, learned from clips.

    Parameters
    ----------
    image : ImageCodec, optional
        A fitted one, for what a single frame is; without one, `fit` makes it from the clips' frames.
    group : int
        Frames that are decoded together, from a first one that needs no other; at most 4096.
    width : int
        Units of the network that looks at the last two frames.
    samples : int
        Frames of an epoch.
    max_iter : int
        Epochs.
    batch_size : int
    learning_rate : float, str or callable
    random_state : int, RandomState or None
    verbose : int

    Attributes
    ----------
    image_ : ImageCodec
    model_ : unsupervised.compression.transform.Context
        What tells a frame's latents from those of the last two.
    tables_ : dict of Tables
        ``"flags"`` and ``"fresh"``.
    wider_ : Tensor [9, M]
        How much further along the grid of scales latents are for being stretched.
    model_id_, channels_, loss_curve_
        As of `ImageCodec`.

    References
    ----------
    What is coded given the last latents instead of a motion field: Mentzer et al., "VCT: a video compression
    transformer", arXiv:2206.07307.

    Examples
    --------
    >>> clip = np.zeros((6, 16, 24), np.uint8)
    >>> for t in range(6):
    ...     clip[t, 4:8, 3 * t : 3 * t + 4] = 200
    >>> image = ImageCodec(8, 8, (8, 8), crop=16, crops=8, max_iter=1, random_state=0).fit(clip)
    >>> codec = FrameCodec(image, group=3, width=8, samples=4, max_iter=1, random_state=0).fit(clip)
    >>> data = codec.compress(clip)
    >>> whole = codec.decompress(data)
    >>> whole.shape, bool((codec.decompress(data, 4, 5) == whole[4:5]).all())
    ((6, 16, 24), True)
    """

    image: ImageCodec | None = None
    group: int = 250
    width: int = 64
    samples: int = 2000
    max_iter: int = 10
    batch_size: int = 16
    learning_rate: float | str | Schedule = "cos_1e-3"
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "image": [ImageCodec, None],
        "group": [Interval(Integral, 1, MAX_GROUP, closed="both")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "samples": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), str, callable],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike | Sequence[ArrayLike], y: None = None) -> Self:
        """Learn from clips.

        Parameters
        ----------
        X : uint8 [T, H, W], [T, H, W, 3] or [T, C, H, W], or a list of such clips; three frames or more each
        y : ignored

        Raises
        ------
        ValueError
            If they are no such clips.
        """
        several: Any = X if isinstance(X, (list, tuple)) else [X]
        clips = [_frames(one) for one in several]
        if any(len(clip) < 3 for clip in clips) or not clips:
            raise ValueError("a clip to learn from has three frames or more")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.image_ = self._fitted_image(clips, seed)
        self.channels_ = self.image_.channels_
        latents = [torch.cat([y for y, _ in self._latents(clip, 1)]) for clip in clips]
        latents = [y / self.image_.model_.log_gain[0].exp()[:, None, None] for y in latents]
        lengths = torch.tensor([float(len(y) - 2) for y in latents])
        with private_seed(seed):
            self.model_ = self._build()

        def loss(ids: Tensor) -> Loss:
            of = latents[int(torch.multinomial(lengths, 1))]
            t = torch.randint(2, len(of), (len(ids),))
            return self._loss(of[t].detach(), of[t - 1].detach(), of[t - 2].detach())

        fitting = fit(
            Fitting(self.model_),
            loss,
            [np.arange(self.samples)],
            epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            clip_norm=1.0,
            seed=seed,
            label=f"fitting {type(self).__name__}" if self.verbose else "",
        )
        self.loss_curve_ = [row["loss"] for row in fitting.history]
        freeze(self.model_)
        self.wider_ = rounded(self.image_.model_.stretch.log() / STEP, 1.0)
        self.tables_ = {"flags": flag_tables(), "fresh": Tables([counts_of([0.99, 0.01, 0])], [0])}
        self.tables_["flags"] = self._counted(clips)
        self.exact_ = Exact()
        self.exact_.learn([clip.numpy() for clip in clips])
        self.model_id_ = self._id()
        return self

    def compress(self, clip: ArrayLike, quality: int = 5) -> bytes:
        """A clip as bytes.

        Parameters
        ----------
        clip : uint8 [T, H, W], [T, H, W, 3] or [T, C, H, W]
        quality : int
            1, the smallest, to 9.

        Raises
        ------
        ValueError
            If it is no such clip.
        """
        check_is_fitted(self, "model_id_")
        frames = _frames(clip)
        header = self.image_._header(frames[0], quality, len(frames), self.group, self.model_id_)
        exact = self._found(frames, quality)
        payloads = []
        for start in range(0, len(frames), self.group):
            encoder, some = Encoder(), frames[start : start + self.group]
            if exact:
                self._code_exactly(encoder, some)
            else:
                self._encode(encoder, some, quality)
            payloads.append(encoder.payload())
        return pack(replace(header, exact=exact), payloads)

    def decompress(self, data: bytes, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """The frames from `start` to `stop`, nearly as `compress` was given them; other groups are not decoded.

        Returns
        -------
        [stop - start, H, W] or [stop - start, H, W, 3] uint8

        Raises
        ------
        CorruptFile
            If the file is damaged, of another kind, or of another model. One line.
        ValueError
            If there are no such frames.
        """
        header, payloads = self._opened(data, clip=True)
        stop = header.frames if stop is None else stop
        if not 0 <= start <= stop <= header.frames:
            raise ValueError(f"frames {start} to {stop}: there are {header.frames}")
        h, w = -(-header.height // BLOCK), -(-header.width // BLOCK)
        out = np.empty((stop - start, *header.shape[1:]), np.uint8)
        for g in range(start // header.group, -(-stop // header.group)):
            first = g * header.group
            n = min(header.group, header.frames - first)
            decoder = Decoder(payloads[g])
            if header.exact:
                least = self.exact_.least_bits(header.height, header.width, False)
                check_length(payloads[g], least + (n - 1) * self.exact_.least_bits(header.height, header.width, True))
                frames = self._exact_frames(decoder, n, header)
            else:
                least = h * w * self.tables_["flags"].least().min()
                check_length(payloads[g], self.image_._least_bits(h, w) + (n - 1) * least)
                frames = self._shown(self._decoded(decoder, n, h, w, header.quality), header)
            for t, frame in enumerate(frames, first):
                if start <= t < stop:
                    out[t - start] = frame
            decoder.finish()
        return out

    def estimate_bits(self, clip: ArrayLike, quality: int = 5) -> float:
        """The entropy of a clip's symbols by the model's own tables, without the file's header and index."""
        check_is_fitted(self, "model_id_")
        frames, meter = _frames(clip), Meter()
        self.image_._header(frames[0], quality, len(frames), self.group)
        exact = self._found(frames, quality)
        for start in range(0, len(frames), self.group):
            if exact:
                self._code_exactly(meter, frames[start : start + self.group])
            else:
                self._encode(meter, frames[start : start + self.group], quality)
        return meter.bits

    # -- training ------------------------------------------------------------------------------------------------------

    def _build(self) -> Context:
        M = len(self.image_.model_.restore[0])
        model = Context(3 * M + 2, self.width, M)
        with torch.no_grad():
            deviation = 1 / self.image_.model_.synthesis.network[0].weight.square().mean((0, 2, 3)).sqrt().float()
            scale = (deviation / deviation.mean()).clamp(0.05, 20).repeat(3)
            model.look.weight[:, : 3 * M] /= scale[:, None, None]
            model.tell.bias[M:] = -5.0
        return model

    def _fitted_image(self, clips: list[Tensor], seed: int) -> ImageCodec:
        if self.image is not None and hasattr(self.image, "model_id_"):
            return self.image
        image = ImageCodec(random_state=seed, verbose=self.verbose) if self.image is None else self.image
        some = [np.moveaxis(frame.numpy(), 0, -1) for clip in clips for frame in clip[::4]]
        return image.fit(some)

    def _loss(self, now: Tensor, last: Tensor, before: Tensor) -> Loss:
        """Bits of each place that changes, from latents ``[B, M, h, w]`` of three frames in a row."""
        model, M = self.image_.model_, now.shape[1]
        quality = torch.randint(QUALITIES, (len(now),))
        gain = model.log_gain[quality].exp()[:, :, None, None]
        restore, stretch = (scale[quality].float()[:, :, None, None] for scale in (model.restore, model.stretch))
        offset = torch.rand_like(now) - 0.5  # of the means that latents were rounded about, which are not known here
        before = (before * gain - offset).round() + offset
        moved = _off(last * gain - before)
        last = torch.where(moved, (last * gain - offset).round() + offset, before)
        now = now * gain
        changed = _off(now - last)
        noisy = now + torch.rand_like(now) - 0.5
        current, known = torch.where(changed, last, noisy), (~changed).float()
        level = (quality / (QUALITIES - 1))[:, None, None, None].expand_as(known)
        bits = now.new_zeros(())
        for phase in PHASES:
            at = (..., slice(phase[0], None, 2), slice(phase[1], None, 2))
            seen = torch.cat([current * restore, last * restore, before * restore, known, level], 1)
            mean, index = means_and_indices(self.model_(seen, phase), stretch, stretch.log() / STEP)
            bits = bits + (normal_bits(noisy[at] - last[at] - mean, index) * changed[at]).sum()
            current, known = current.clone(), known.clone()
            current[at] = noisy[at]
            known[at] = 1
        loss = bits / changed.sum().clamp_min(1) / M
        return loss, {"changed": changed.float().mean()}

    def _counted(self, clips: list[Tensor]) -> Tables:
        """Tables of flags, by how often they are set in clips that are coded."""
        notes = Counting(self.tables_["flags"], 2)
        for clip in clips:
            for quality in COUNTED:
                self._encode(notes, clip[:SOME], quality)
        return flag_tables(notes.seen)

    # -- without loss --------------------------------------------------------------------------------------------------

    def _found(self, frames: Tensor, quality: int) -> bool:
        """Whether frames have few colours, and the first group takes fewer bits without loss."""
        if palette_of(frames.numpy()) is None:
            return False
        exactly, with_loss, some = Meter(), Meter(), frames[: min(self.group, SOME)]
        self._code_exactly(exactly, some)
        self._encode(with_loss, some, quality)
        return exactly.bits <= with_loss.bits

    def _code_exactly(self, coder: Coder, frames: Tensor) -> None:
        found = palette_of(frames.numpy())
        assert found is not None
        colours, numbers = found
        self.exact_.code_palette(coder, colours, frames.shape[1])
        last = flags = None
        for now in numbers:
            _, flags = self.exact_.code(coder, now, last, flags, now.shape, len(colours))
            last = now

    def _exact_frames(self, decoder: Decoder, n: int, header: Header) -> Iterator[NDArray[np.uint8]]:
        colours = self.exact_.code_palette(decoder, None, 3 if header.colour else 1)
        last = flags = None
        for _ in range(n):
            last, flags = self.exact_.code(decoder, None, last, flags, (header.height, header.width), len(colours))
            yield colours[last].reshape(header.shape[1:])

    def _shown(self, frames: Iterator[tuple[Tensor, bool]], header: Header) -> Iterator[NDArray[np.uint8]]:
        """Pixels of latents, of some frames at a time; of those that did not change, again the last one's."""
        waiting: list[Tensor] = []
        repeats: list[int] = []

        def flushed() -> Iterator[NDArray[np.uint8]]:
            if waiting:
                for frame, n in zip(self.image_._pixels(torch.stack(waiting), header), repeats, strict=True):
                    yield from [frame] * n
            waiting.clear()
            repeats.clear()

        for y_hat, changed in frames:
            if not changed and waiting:
                repeats[-1] += 1
                continue
            if len(waiting) == BATCH:
                yield from flushed()
            waiting.append(y_hat)
            repeats.append(1)
        yield from flushed()

    # -- a group -------------------------------------------------------------------------------------------------------

    def _latents(self, frames: Tensor, quality: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Some frames at a time."""
        for start in range(0, len(frames), BATCH):
            yield self.image_._latents(frames[start : start + BATCH], quality)

    def _encode(self, coder: Coder, frames: Tensor, quality: int) -> None:
        """Write one group ``[n, C, H, W]``."""
        parts = ((y, z) for some in self._latents(frames, quality) for y, z in zip(*some, strict=True))
        h, w = (-(-side // BLOCK) for side in frames.shape[2:])
        for _ in self._group(coder, parts, h, w, quality):
            pass

    def _decoded(self, coder: Coder, n: int, h: int, w: int, quality: int) -> Iterator[tuple[Tensor, bool]]:
        """Read one group: each frame's latents, and whether they are others than the last frame's."""
        return self._group(coder, ((None, None) for _ in range(n)), h, w, quality)

    @torch.no_grad()
    def _group(self, coder: Coder, frames: Any, h: int, w: int, quality: int) -> Iterator[tuple[Tensor, bool]]:
        """Write frames' latents, or read them where they are None."""
        last = before = flags = None
        for y, z in frames:
            fresh = last is None
            if last is not None:
                told = None if y is None else np.array([self._is_better_fresh(y, z, last, before, flags, quality)])
                fresh = bool(coder.code(told, self.tables_["fresh"], np.zeros(1, np.int64))[0])
            if last is None or fresh:
                now, flags = self.image_._code(coder, z, y, h, w, quality), None
            else:
                now, flags = self._code_frame(coder, y, last, before, flags, quality)
            last, before = now, now if last is None or fresh else last
            yield now, flags is None or bool(flags.any())

    def _is_better_fresh(
        self, y: Tensor, z: Tensor, last: Tensor, before: Tensor | None, flags: NDArray[Any] | None, quality: int
    ) -> int:
        """Whether a frame is smaller as a picture of its own, asked where more than half of it changes."""
        if _off(y - last).float().mean() < 0.5:
            return 0
        given, alone = Meter(), Meter()
        self._code_frame(given, y, last, before, flags, quality)
        self.image_._code(alone, z, y, y.shape[1], y.shape[2], quality)
        return int(alone.bits < given.bits)

    def _code_frame(
        self, coder: Coder, y: Tensor | None, last: Tensor, before: Any, flags: NDArray[Any] | None, quality: int
    ) -> tuple[Tensor, NDArray[Any]]:
        """A frame ``[M, h, w]`` given the last two, and its flags."""
        _, h, w = last.shape
        changed = None if y is None else self._worth_telling(y, last, before, quality)
        changed = code_flags(coder, self.tables_["flags"], changed, flags, h, w)
        now, known = last.clone(), torch.from_numpy(~changed).double()[None]
        for phase in PHASES:
            i, j = (
                torch.from_numpy(2 * at + a)
                for at, a in zip(np.nonzero(changed[phase[0] :: 2, phase[1] :: 2]), phase, strict=True)
            )
            if len(i):
                mean, index = self._told(now, last, before, known, (i, j), quality)
                given = None if y is None else y[:, i, j].T
                now[:, i, j] = self.image_._code_places(coder, given, mean, index).T
                known[:, i, j] = 1
        return now, changed

    def _told(
        self, now: Tensor, last: Tensor, before: Tensor, known: Tensor, places: Any, quality: int
    ) -> tuple[Tensor, Tensor]:
        """Means and scales ``[n, M]`` at places."""
        model = self.image_.model_
        restore, stretch = model.restore[quality - 1], model.stretch[quality - 1]
        level = torch.full_like(known, round((quality - 1) / (QUALITIES - 1) * 256) / 256)
        seen = [clipped(one * restore[:, None, None]) for one in (now, last, before)]
        told = self.model_.at(torch.cat([*seen, known, level]), places)
        mean, index = means_and_indices(told, stretch, self.wider_[quality - 1])
        return mean + last[:, places[0], places[1]].T, index

    def _worth_telling(self, y: Tensor, last: Tensor, before: Tensor, quality: int) -> NDArray[Any]:
        """Places ``[h, w]`` where a change is worth its bits."""
        changed = _off(y - last)[0].numpy()
        i, j = (torch.from_numpy(at) for at in np.nonzero(changed))
        if len(i):
            known = torch.from_numpy(~changed).double()[None]
            mean, index = self._told(last, last, before, known, (i, j), quality)
            there = y[:, i, j].T.double()
            symbols = (there - mean).round()
            normal = self.image_.tables_["normal"]
            bits = normal.costs(symbols.numpy().astype(np.int64), index.numpy().astype(np.int64)).sum(1) + 4
            gained = (there - last[:, i, j].T).square().sum(1) - (there - mean - symbols).square().sum(1)
            changed[i.numpy(), j.numpy()] = gained.numpy() > bits * BIT
        return changed

    # -- a model as tensors --------------------------------------------------------------------------------------------

    def _record(self) -> dict[str, Any]:
        return super()._record() | {"image": self.image_._record()}

    def _tensors(self) -> dict[str, Tensor]:
        own = {f"frames.{name}": value for name, value in told_layers(self.model_).items()}
        image = {f"image.{name}": value for name, value in self.image_._tensors().items()}
        exact = {f"exact.{name}": value for name, value in self.exact_.tensors().items()}
        return own | image | exact | told_tables(self.tables_) | {"wider": self.wider_.short()}

    def _take(self, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.image_ = ImageCodec._made_of(record["image"], part(tensors, "image"))
        with private_seed():
            self.model_ = self._build()
        freeze(self.model_)
        take_layers(self.model_, part(tensors, "frames"))
        self.model_.eval()
        self.wider_ = tensors["wider"].double()
        self.tables_ = taken_tables(tensors)
        self.exact_ = Exact()
        self.exact_.take(part(tensors, "exact"))


def _off(difference: Tensor) -> Tensor:
    """Where latents ``[..., M, h, w]`` differ: ``[..., 1, h, w]``."""
    return difference.abs().amax(-3, keepdim=True) > STILL


def _frames(clip: ArrayLike) -> Tensor:
    """A clip as it comes, as ``[T, C, H, W]``."""
    x = np.asarray(clip)
    if x.ndim not in (3, 4) or not len(x):
        raise ValueError(f"a clip is uint8 [T, H, W], [T, H, W, 3] or [T, C, H, W], got {x.dtype} {tuple(x.shape)}")
    return torch.from_numpy(np.stack(pictures_of(x)))
