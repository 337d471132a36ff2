"""Pictures: those that come with scikit-learn, and your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sandbox.data.names import Data

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LONGER_SIDE = 64  # pixels that a picture of a folder has at most, unless a size is asked for


def digits() -> Data:
    """1797 handwritten digits, 8x8 and grey, each with its label."""
    from sklearn.datasets import load_digits

    found = load_digits()
    names = tuple(map(str, found.target_names))
    return Data(found.images, found.target, names, "scikit-learn's handwritten digits, 0 to 16")


def photos() -> Data:
    """Two photos in colour, 427x640: a temple and a flower."""
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    names = tuple(Path(name).stem for name in found.filenames)
    return Data(np.stack(found.images), np.arange(len(names)), names, "scikit-learn's two photos")


def patches(n: int = 20_000, size: tuple[int, int] = (16, 16), grey: bool = False, seed: int = 0) -> Data:
    """Small parts of the two photos, from anywhere in them, each labelled with the photo.

    Parameters
    ----------
    n : int
        As many; they may overlap.
    size : (height, width)
        Of each.
    grey : bool
        One channel, the luminance, instead of three.
    seed : int
        The same seed gives the same patches.

    Returns
    -------
    Data
        ``X`` is ``[n, H, W, 3]`` uint8, or ``[n, H, W]``.

    Raises
    ------
    ValueError
        If there is no such number, or a patch would be larger than a photo.

    Examples
    --------
    >>> patches(50, size=(8, 12), grey=True).X.shape
    (50, 8, 12)
    """
    whole = photos()
    X = whole.X
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    height, width = size
    if not (1 <= height <= X.shape[1] and 1 <= width <= X.shape[2]):
        raise ValueError(
            f"patches of {height}x{width}: expected is at least 1x1, and at most {X.shape[1]}x{X.shape[2]}"
        )
    if grey:
        from PIL import Image

        X = np.stack([np.asarray(Image.fromarray(photo).convert("L")) for photo in X])
    rng = np.random.default_rng(seed)
    of = rng.integers(len(X), size=n)
    tops, lefts = (rng.integers(there - side + 1, size=n) for there, side in zip(X.shape[1:3], size, strict=True))
    cut = np.lib.stride_tricks.sliding_window_view(X, size, axis=(1, 2))[of, tops, lefts]  # [n, (3,) H, W]
    cut = cut if grey else np.ascontiguousarray(np.moveaxis(cut, 1, -1))
    about = (
        f"{n:,} patches of scikit-learn's two photos, {height}x{width}, {'grey' if grey else 'in colour'}, seed {seed}"
    )
    return Data(cut, of, whole.names, about)


def small(height: int, width: int) -> tuple[int, int]:
    """A height and width in the same proportion, the longer of them 64 at most.

    Examples
    --------
    >>> small(427, 640), small(8, 8)
    ((43, 64), (8, 8))
    """
    scale = min(1.0, LONGER_SIDE / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


def pictures(folder: str | Path, size: tuple[int, int] | None = None, grey: bool | None = None) -> Data:
    """The pictures of a folder, in the order of their names, all in one size.

    Parameters
    ----------
    folder : path-like
        Pictures in it, or in its subfolders, whose names are then their labels. Other files are passed over.
    size : (height, width), optional
        By default the most common size, in proportion made smaller until the longer side has 64 pixels.
    grey : bool, optional
        By default only if all of them are.

    Returns
    -------
    Data
        ``X`` is ``[N, H, W]`` or ``[N, H, W, 3]`` uint8, and ``files`` their paths. What is transparent is white.

    Raises
    ------
    FileError
        If there is none, or one can't be decoded.
    """
    from sandbox.training.checkpoint import FileError
    from sandbox.training.log import ProgressLine

    folder = Path(folder)
    files, labels, names = inside(folder, SUFFIXES)
    if not files:
        raise FileError(f"{folder}: neither pictures in it ({', '.join(SUFFIXES)}), nor .wav files, nor .npy shards")
    if size is None or grey is None:
        seen: Counter[tuple[int, int]] = Counter()
        all_grey = True
        with ProgressLine(f"measuring {folder.name}", len(files), "pictures", patience=2.0) as progress:
            for i, file in enumerate(files):
                mode, measured = _measure(file)
                seen[measured] += 1
                all_grey &= mode in ("1", "L", "LA", "F") or mode.startswith("I")
                progress.update(i + 1)
        size = size or small(*seen.most_common(1)[0][0])
        grey = all_grey if grey is None else grey
    X = np.empty((len(files), *size, *(() if grey else (3,))), np.uint8)
    with ProgressLine(f"reading {folder.name}", len(files), "pictures", patience=2.0) as progress:
        for i, file in enumerate(files):
            X[i] = _decode(file, grey, size)
            progress.update(i + 1)
    about = f"{folder}: {len(files):,} pictures, {size[0]}x{size[1]}, {'grey' if grey else 'in colour'}"
    return Data(X, labels, names, about, tuple(map(str, files)))


def picture(path: str | Path, size: tuple[int, int] | None = None, grey: bool | None = None) -> Data:
    """One picture, as large as it is unless a size is asked for.

    Raises
    ------
    FileError
        If it can't be decoded.
    """
    path = Path(path)
    mode, measured = _measure(path)
    X = _decode(path, mode in ("1", "L", "LA") if grey is None else grey, size or measured)[None]
    return Data(X, np.empty((1, 0), int), (), f"{path}, {X.shape[1]}x{X.shape[2]}", (str(path),))


def inside(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """The files of a folder, or of its subfolders, their labels ``[N]`` or ``[N, 0]``, and the labels' names."""

    def among(place: Path) -> list[Path]:
        return sorted(
            path for path in place.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
        )

    if files := among(folder):
        return files, np.empty((len(files), 0), int), ()
    groups = {place.name: among(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    groups = {name: found for name, found in groups.items() if found}
    labels = np.repeat(np.arange(len(groups)), [len(found) for found in groups.values()])
    return [path for found in groups.values() for path in found], labels, tuple(groups)


def _measure(path: Path) -> tuple[str, tuple[int, int]]:
    """The mode of a picture, and its height and width, the camera's turn undone."""
    with _opened(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return image.mode, image.size if turned else image.size[::-1]


def _decode(path: Path, grey: bool, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(path) as image:
        image.draft(None, (max(size), max(size)))  # a large JPEG is decoded no larger than needed
        whole = ImageOps.exif_transpose(image)
        if whole.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower 8
            whole = Image.fromarray((np.asarray(whole) >> 8).clip(0, 255).astype(np.uint8))
        if whole.has_transparency_data:
            whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole.convert("RGBA"))
        whole = whole.convert("L" if grey else "RGB")
        if whole.size != size[::-1]:
            whole = whole.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(whole)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """An image; whatever goes wrong with it is told in one line that names it."""
    from PIL import Image

    from sandbox.training.checkpoint import FileError

    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # a picture can be wrong in every way, and each decoder has errors of its own
        reason = "" if "cannot identify" in str(error) else f" ({' '.join(str(error).split())})"
        raise FileError(f"{path}: not an image that can be decoded{reason}; take it away, or save it anew") from error
