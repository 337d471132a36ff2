"""Sounds: ``.wav`` files cut into windows of equal length, read with Python's own `wave`."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from sandbox.data.names import Data
from sandbox.data.pictures import inside
from sandbox.training.checkpoint import FileError
from sandbox.training.log import ProgressLine

SUFFIX = ".wav"
WINDOW = 1024  # samples


def sound(path: str | Path, window: int = WINDOW) -> Data:
    """One sound, cut into windows that follow each other; what is left at its end is dropped.

    Parameters
    ----------
    path : path-like
        PCM of 8, 16, 24 or 32 bits; the channels of stereo are averaged.
    window : int
        Samples.

    Returns
    -------
    Data
        ``X`` is ``[N, window]`` float32 from -1 to 1.

    Raises
    ------
    FileError
        If it is damaged, of another kind, or shorter than a window.
    ValueError
        If a window has no sample.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with wave.open(f"{folder}/tone.wav", "wb") as file:
    ...         file.setparams((1, 2, 8000, 0, "NONE", ""))
    ...         file.writeframes(np.full(2500, 1 << 14, "<i2").tobytes())
    ...     tone = sound(f"{folder}/tone.wav")
    >>> tone.X.shape, float(tone.X.max()), tone.about.split(": ")[1]
    ((2, 1024), 0.5, '0.3 s at 8,000 samples a second, in windows of 1,024')
    """
    path = Path(path)
    _check(window)
    samples, rate = _read(path)
    X = _windows(samples, window)
    if not len(X):
        raise FileError(f"{path}: {len(samples):,} samples, less than a window; ask for window={len(samples)} or less")
    return Data(X, np.empty((len(X), 0), int), (), _about(path, len(samples), rate, window))


def sounds(folder: str | Path, window: int = WINDOW) -> Data:
    """The sounds of a folder, in the order of their names, cut into windows; each is labelled with its file.

    Parameters
    ----------
    folder : path-like
        Sounds in it, or in its subfolders, whose names are then the labels. All have the same rate. One that is
        shorter than a window gives none.
    window : int
        Samples.

    Returns
    -------
    Data
        ``X`` is ``[N, window]`` float32 from -1 to 1.

    Raises
    ------
    FileError
        If one can't be read, two differ in their rate, or all are shorter than a window.
    ValueError
        If a window has no sample.
    """
    folder = Path(folder)
    _check(window)
    files, labels, names = inside(folder, (SUFFIX,))
    if not names:
        labels, names = np.arange(len(files)), tuple(file.stem for file in files)
    parts, total, common = [], 0, 0
    with ProgressLine(f"reading {folder.name}", len(files), "sounds", patience=2.0) as progress:
        for i, file in enumerate(files):
            samples, rate = _read(file)
            common = common or rate
            if rate != common:
                raise FileError(
                    f"{file}: {rate:,} samples a second, but {common:,} in {files[0]}; resample one of them"
                )
            parts.append(_windows(samples, window))
            total += len(samples)
            progress.update(i + 1)
    X = np.concatenate(parts)
    if not len(X):
        raise FileError(f"{folder}: none of its {len(files)} sounds has a window of {window:,} samples; ask for less")
    y = np.repeat(labels, [len(part) for part in parts])
    return Data(X, y, names, _about(folder, total, common, window, f"{len(files):,} sounds, "))


def _check(window: int) -> None:
    if window < 1:
        raise ValueError(f"window must be at least 1 sample, not {window}")


def _about(path: Path, n: int, rate: int, window: int, first: str = "") -> str:
    return f"{path}: {first}{n / rate:,.1f} s at {rate:,} samples a second, in windows of {window:,}"


def _windows(samples: np.ndarray, window: int) -> np.ndarray:
    n = len(samples) // window
    return samples[: n * window].reshape(n, window)


def _read(path: Path) -> tuple[np.ndarray, int]:
    """The samples [T] of a file, float32 from -1 to 1, and how many there are to a second."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, n = file.getparams()[:4]
            raw = file.readframes(n)
    except (wave.Error, EOFError, OverflowError) as error:
        reason = " ".join(str(error).split())
        if "unknown format" in reason:
            raise FileError(f"{path}: not PCM ({reason}); save it anew as PCM of 16 bits") from error
        raise FileError(f"{path}: not a .wav file, or damaged{reason and f' ({reason})'}") from error
    if width not in (1, 2, 3, 4) or not rate:
        raise FileError(f"{path}: samples of {width} bytes, {rate:,} a second; expected is PCM of 8, 16, 24 or 32 bits")
    if len(raw) != n * channels * width:
        raise FileError(f"{path}: damaged, it ends after {len(raw) // (channels * width):,} of {n:,} samples")
    values: np.ndarray
    if width == 1:  # the only one without a sign
        values = np.frombuffer(raw, np.uint8).astype(np.float32) - 128
    elif width == 3:  # as the upper bytes of 32 bits, which keep the sign
        values = np.zeros((n * channels, 4), np.uint8)
        values[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = values.view("<i4")[:, 0] >> 8
    else:
        values = np.frombuffer(raw, f"<i{width}")
    samples = values.astype(np.float32) / 2.0 ** (8 * width - 1)
    return samples.reshape(n, channels).mean(axis=1, dtype=np.float32), rate
