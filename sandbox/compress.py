"""Pictures and clips as compressed files: what `sandbox compress`, `decompress` and `inspect` do."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.rate_distortion import FAR, USED, Point, has_x264, is_clip, peers
from sandbox.training.checkpoint import FileError, atomic

__all__ = ["Compressed", "compress", "decompress", "inspect", "open_codec", "read", "write"]

PICTURES, CLIPS = (".png", ".jpg", ".jpeg", ".webp", ".bmp"), (".npy", ".gif")
FPS = 15  # of a GIF: an agent's steps of four frames in a game of 60 a second
CODEC = Path("model", "codec.safetensors")
HEADER = 16  # bytes that tell whether a file is worth reading

Pixels = NDArray[np.uint8]


# -- pictures and clips as they are ------------------------------------------------------------------------------------


def read(path: str | Path) -> Pixels:
    """Open a picture or a clip.

    Parameters
    ----------
    path : path-like
        A picture ``.png .jpg .jpeg .webp .bmp``; a clip ``.gif``; or ``.npy``, in which ``[H, W]`` and ``[H, W, 3]``
        are pictures and ``[T, H, W]``, ``[T, H, W, 3]`` and ``[T, 3, H, W]`` clips.

    Returns
    -------
    uint8 [H, W], [H, W, 3], [T, H, W] or [T, H, W, 3]
        What is transparent is refused, not painted over. Pictures are turned as the camera says.

    Raises
    ------
    FileError
        If it can't be read, has a transparent pixel or no pixel, or is larger than the format holds. One line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in PICTURES + CLIPS:
        raise FileError(f"{path}: {suffix or 'a file without an ending'} is no format known here{_formats()}")
    if not path.is_file():
        raise FileError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        return _array(path) if suffix == ".npy" else _image(path, frames=suffix == ".gif")
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:  # a file can be wrong in every way, and each decoder has errors of its own
        reason = "" if "cannot identify" in str(error) else f" ({' '.join(str(error).split())})"
        raise FileError(f"{path}: damaged, or not what its ending says{reason}") from error


def _formats() -> str:
    return f": pictures are {' '.join(PICTURES)}, clips {' '.join(CLIPS)}"


def _fits(n_pixels: int, n_frames: int = 1) -> None:
    """Refuse, before its pixels are decoded, what the format does not hold."""
    from unsupervised.compression.container import MAX_CLIP, MAX_PIXELS

    if not n_pixels * n_frames:
        raise FileError("it has no pixels")
    if n_pixels > MAX_PIXELS or n_pixels * n_frames > MAX_CLIP:
        many = f"{n_frames:,} frames of {n_pixels:,} pixels" if n_frames > 1 else f"{n_pixels:,} pixels"
        raise FileError(f"{many}: at most {MAX_PIXELS:,}, and {MAX_CLIP:,} in all frames of a clip")


def _image(path: Path, frames: bool) -> Pixels:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # larger ones are refused below
        with Image.open(path) as image:
            n = getattr(image, "n_frames", 1) if frames else 1
            _fits(image.width * image.height, n)
            if n == 1:
                return _plain(ImageOps.exif_transpose(image))
            clip, times = [], []
            for i in range(n):
                image.seek(i)
                clip.append(_plain(image.convert("RGBA")))  # what a frame leaves out is as it was before
                times.append(max(image.info.get("duration", 0), 10))
    repeats = np.rint(np.divide(times, min(times))).astype(int)  # one that is shown for longer is several equal ones
    _fits(clip[0].shape[0] * clip[0].shape[1], int(repeats.sum()))
    X = np.stack(clip).repeat(repeats, axis=0)
    grey = bool((X[..., :1] == X).all())  # a GIF has colours even if they are greys
    return np.ascontiguousarray(X[..., 0]) if grey else X


def _plain(image: Any) -> Pixels:
    """A picture of Pillow's as bytes, grey or in colour."""
    from PIL import Image

    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        raise FileError("it has transparent pixels, which this format doesn't hold; put it on a background first")
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower 8
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def _array(path: Path) -> Pixels:
    X = np.load(path, mmap_mode="r", allow_pickle=False)
    if X.dtype != np.uint8:
        raise FileError(f"pixels are bytes from 0 to 255, uint8, and these are {X.dtype}")
    if X.ndim == 4 and X.shape[1] in (1, 3) and X.shape[3] not in (1, 3):
        X = np.moveaxis(X, 1, -1)
    if X.ndim == 4 and X.shape[3] == 1:
        X = X[..., 0]
    if X.ndim == 4 and X.shape[3] == 4:
        raise FileError("it has an alpha channel, which this format doesn't hold; put it on a background first")
    if X.ndim not in (2, 3, 4) or (X.ndim == 4 and X.shape[3] != 3):
        expected = "[H, W] and [H, W, 3] are pictures, [T, H, W], [T, H, W, 3] and [T, 3, H, W] clips"
        raise FileError(f"shape {list(X.shape)}: {expected}")
    clip = is_clip(X)
    _fits(math.prod(X.shape[clip : clip + 2]), len(X) if clip else 1)
    return np.ascontiguousarray(X)


def write(path: str | Path, x: Pixels, fps: float = FPS) -> None:
    """Write a picture or a clip, whole or not at all: JPEG at quality 95, a GIF in 256 colours, the others exactly.

    Raises
    ------
    FileError
        If the ending is none for it.
    OSError
        If it can't be written.
    """
    from PIL import Image

    from sandbox.show import write_gif

    path = Path(path)
    suffix = path.suffix.lower()
    check_ending(path, is_clip(x))
    if suffix == ".gif":
        frames = x if x.ndim == 4 else np.repeat(x[..., None], 3, axis=3)
        write_gif(path, list(frames), fps, max_frames=len(x), max_width=x.shape[2], colours=256)
        return
    with atomic(path) as draft:
        if suffix == ".npy":
            np.save(draft, x, allow_pickle=False)
            return
        exactly: dict[str, Any] = {".jpg": {"quality": 95, "subsampling": "4:4:4"}, ".webp": {"lossless": True}}
        Image.fromarray(x).save(draft, **exactly.get(suffix.replace("jpeg", "jpg"), {}))


def check_ending(path: Path, clip: bool) -> None:
    """Refuse a name that a picture, or a clip, can't be written to."""
    may = CLIPS if clip else (*PICTURES, ".npy")
    if path.suffix.lower() not in may:
        raise FileError(f"{path}: a {'clip' if clip else 'picture'} can be written as {' '.join(may)}")


# -- compressed --------------------------------------------------------------------------------------------------------


def open_codec(model: str | None, clip: bool) -> Any:
    """A codec by its name, ``photo``, ``atari`` or ``clip``, by the folder of a run, or by a file that `save` wrote.

    Raises
    ------
    FileError, ValueError
        If there is no such codec, it is damaged, or one for the other kind.
    ModuleNotFoundError
        If what it needs is not installed.
    """
    from unsupervised import FrameCodec, compression

    name = model or ("clip" if clip else "photo")
    if name in compression.DEFAULTS:
        codec = compression.default(name)
    else:
        path = Path(name)
        if path.is_dir():
            path /= CODEC
        if not path.is_file():
            known = ", ".join(compression.DEFAULTS)
            raise FileError(f"{name}: no model: {known}, a run of `sandbox fit codec`, or a file that `save` wrote")
        codec = compression.load(path)
    if isinstance(codec, FrameCodec) != clip:
        kind, other = ("clip", "pictures") if clip else ("picture", "clips")
        raise FileError(f"{name} is a model for {other}, and this is a {kind}")
    return codec


@dataclass(frozen=True, eq=False)
class Compressed:
    """What `compress` has written.

    Attributes
    ----------
    source : str
        What was compressed, in words.
    model : str
        Its name, or the place it is at, and its id.
    ours : Point
    others : list of Point
        JPEG and WebP, or x264, at the nearest size.
    notes : list of str
        How all this was measured.
    seconds : float
        Of compressing alone.
    """

    source: str
    model: str
    ours: Point
    others: list[Point]
    notes: list[str]
    seconds: float

    def lines(self) -> list[str]:
        """The table as it is printed."""
        points = [self.ours, *self.others]
        width = max(len(point.name) for point in points) + 2
        rows = [f"{'':{width}s}{'bytes':>12s}{'bits/pixel':>12s}{'PSNR':>11s}{'MS-SSIM':>9s}"]
        rows += [
            f"{p.name:{width}s}{p.bytes:>12,d}{p.bpp:>12.3f}"
            + (f"{p.psnr:>8.2f} dB" if math.isfinite(p.psnr) else f"{'exact':>11s}")
            + ("" if math.isnan(p.ms_ssim) else f"{p.ms_ssim:>9.4f}")
            for p in points
        ]
        return [f"{self.source}, by {self.model}, in {self.seconds:.2f} s", *rows, *self.notes]


def compress(
    source: str | Path, target: str | Path, quality: int = 5, model: str | None = None, compare: bool = True
) -> Compressed:
    """Write a picture or a clip as a compressed file, and measure what it restores.

    Parameters
    ----------
    source, target : path-like
    quality : int
        1, the smallest, to 9.
    model : str, optional
        See `open_codec`.
    compare : bool
        Whether to measure JPEG and WebP, or x264, too; that takes longer than compressing.

    Raises
    ------
    FileError, ValueError
        If `source` can't be read or is nothing the model takes; nothing is then written. One line.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() in PICTURES + CLIPS:
        raise FileError(f"{target}: a compressed file is no {target.suffix[1:].upper()}; name it {target.stem}.sbx")
    x = read(source)
    codec = open_codec(model, is_clip(x))
    began = time.perf_counter()
    data = codec.compress(x, quality)
    seconds = time.perf_counter() - began
    restored = codec.decompress(data)
    with atomic(target) as draft:
        draft.write_bytes(data)
    about = inspect(target)
    ours = Point.of(f"{target.name}, quality {quality}", len(data), x, restored)
    others = [point for point, _ in peers(x, len(data))] if compare else []
    notes = _notes(ours, others)
    if compare and is_clip(x) and not has_x264():
        notes.append("not compared with x264: that needs PyAV, pip install 'rl-unsup-sandbox[media]'")
    height, width, *colour = x.shape[is_clip(x) :]
    frames = f"{len(x):,} frames of " if is_clip(x) else ""
    told = f"{source} ({frames}{width}x{height}, {'in colour' if colour else 'grey'}, {source.stat().st_size:,} bytes)"
    return Compressed(told, f"model {about['model'] or model} [{about['model_id']}]", ours, others, notes, seconds)


def _notes(ours: Point, others: list[Point]) -> list[str]:
    notes = []
    for point in others:
        name = point.name.replace(",", " ").split()[0]
        far = abs(point.bytes / ours.bytes - 1) > FAR
        notes.append(f"{name}: {USED[name]}" + "; it makes no file nearer to that size" * far)
    if ours.scales == 0:
        notes.append("no MS-SSIM: fewer than 11 pixels high or wide")
    elif ours.scales < 5:
        notes.append(f"MS-SSIM of {ours.scales} of its 5 scales: fewer than 176 pixels high or wide")
    return notes


def decompress(
    source: str | Path,
    target: str | Path,
    model: str | None = None,
    frames: tuple[int, int | None] | None = None,
    fps: float = FPS,
) -> Pixels:
    """Write what a compressed file holds as a picture or a clip.

    Parameters
    ----------
    source, target : path-like
    model : str, optional
        Needed if it was none of the package's own.
    frames : (start, stop), optional
        Of a clip, only these: no group without one of them is decoded.
    fps : float
        Of a GIF.

    Raises
    ------
    CorruptFile, FileError
        If it is damaged, or another model's; nothing is then written. One line.
    """
    from unsupervised import compression

    source, target = Path(source), Path(target)
    about = inspect(source)
    clip = about["kind"] == "clip"
    check_ending(target, clip)
    if frames is not None and not clip:
        raise FileError(f"{source}: a picture, which has no frames to choose from")
    start, stop = frames or (0, None)
    if frames is not None and not (0 <= start < (about["frames"] if stop is None else stop) <= about["frames"]):
        raise FileError(f"{source}: it has frames 0 to {about['frames']}, and {start} to {stop} are not among them")
    if model is None and about["model"] is None:
        raise FileError(f"{source}: written by a model of its own, {about['model_id']}: give it with --model")
    codec = open_codec(model or about["model"], clip)
    try:
        data = source.read_bytes()
        x: Pixels = codec.decompress(data, start, stop) if clip else codec.decompress(data)
    except compression.CorruptFile as error:
        raise FileError(f"{source}: {error}") from error
    write(target, x, fps)
    return x


def inspect(path: str | Path) -> dict[str, Any]:
    """What a compressed file says of itself, see `unsupervised.compression.inspect`.

    Raises
    ------
    FileError
        If there is no such file, it is something else, or damaged. One line.
    """
    from unsupervised import compression

    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        with open(path, "rb") as file:
            start = file.read(HEADER)
            foreign = start[:3] != b"SBX"  # of something else, however large, no more is read
            return compression.inspect(start if foreign else start + file.read())
    except compression.CorruptFile as error:
        raise FileError(f"{path}: {error}") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
