"""How near a compressed picture is to the original, and what JPEG, WebP and x264 make of it in files of that size."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import correlate1d

from sandbox import figures

__all__ = ["Point", "bd_rate", "ms_ssim", "nearest", "pareto", "peers", "plot_curves", "psnr"]

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM, from the finest scale to the coarsest
WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
WINDOW /= WINDOW.sum()
QUALITIES = range(1, 101)  # of JPEG and WebP
CRFS = range(51, 0, -1)  # of x264, from the smallest file to the largest
FRAMES = 50  # of a clip that MS-SSIM is measured of
FAR = 0.1  # of a size: what is further from it is not compared for quality
CHROMA = ("4:2:0", "4:4:4")
USED = {
    "JPEG": "Huffman tables optimised; of 4:2:0 and 4:4:4 the better at that size",
    "WebP": "lossy, method 6",
    "x264": "preset medium, one thread, the bare stream; of 4:2:0 and 4:4:4 the better at that size",
}


# -- quality -----------------------------------------------------------------------------------------------------------


def psnr(x: np.ndarray, y: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels, ``10 log10(255² / mean (x - y)²)`` over all pixels and channels.

    Parameters
    ----------
    x, y : uint8, of one shape
        Pictures, or clips.

    Examples
    --------
    >>> round(psnr(np.full((2, 2), 100, np.uint8), np.full((2, 2), 110, np.uint8)), 6)
    28.130804
    """
    # By parts: a clip in float64 has eight times its size.
    total = sum(float(np.square(a.astype(np.float32) - b).sum(dtype=np.float64)) for a, b in zip(x, y, strict=True))
    return math.inf if total == 0 else 10 * math.log10(255**2 * x.size / total)


def luma(x: np.ndarray) -> np.ndarray:
    """Brightness ``[H, W]`` of a picture in colour, by Rec. 601; of a grey one what it is."""
    return x.astype(np.float64) if x.ndim == 2 else x @ np.array([0.299, 0.587, 0.114])


def ms_ssim(x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """Multi-scale structural similarity of the brightness of two pictures, 1 if they are equal.

    Parameters
    ----------
    x, y : uint8 [H, W] or [H, W, 3]

    Returns
    -------
    similarity : float
        NaN for pictures less than 11 pixels high or wide, the size of the window.
    scales : int
        Five, as published, where the shorter side has 176 pixels or more; else as many as there is room for, their
        weights in proportion.

    References
    ----------
    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.

    Examples
    --------
    >>> x = np.random.default_rng(0).integers(0, 256, (64, 48), np.uint8)
    >>> ms_ssim(x, x)
    (1.0, 3)
    """
    side = min(x.shape[:2])
    n = sum(side >= len(WINDOW) * 2**i for i in range(len(SCALES)))
    if not n:
        return math.nan, 0
    weights = np.array(SCALES) if n == len(SCALES) else np.array(SCALES[:n]) / sum(SCALES[:n])
    a, b = luma(x), luma(y)
    product = 1.0
    for i, weight in enumerate(weights):
        if i:
            a, b = _halved(a), _halved(b)
        brightness, structure = _ssim(a, b)
        last = i == n - 1
        product *= max((brightness * structure if last else structure).mean(), 0.0) ** weight
    return float(product), n


def _ssim(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At each place where the window fits, how alike two pictures are in brightness, and in contrast and structure."""

    def mean(z: np.ndarray) -> np.ndarray:
        r = len(WINDOW) // 2
        return correlate1d(correlate1d(z, WINDOW, 0), WINDOW, 1)[r:-r, r:-r]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    return (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1), (2 * cov + c2) / (var_a + var_b + c2)


def _halved(z: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in z.shape)
    return z[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))


@dataclass(frozen=True)
class Point:
    """A file and what it restores.

    Attributes
    ----------
    name : str
        Of the format and its setting.
    bytes : int
        Of the whole file.
    bpp : float
        Bits per pixel; of a clip, per pixel of each frame.
    psnr : float
        Decibels.
    ms_ssim : float
        Of a clip the mean over 50 of its frames, or over all if there are no more; NaN where not measured.
    scales : int
        That MS-SSIM has been measured at.
    """

    name: str
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float = math.nan
    scales: int = 0

    @classmethod
    def of(cls, name: str, n_bytes: int, x: np.ndarray, restored: np.ndarray, similarity: bool = True) -> Point:
        """Measure what was restored from a file of so many bytes against a picture or clip."""
        clip = is_clip(x)
        found = [(math.nan, 0)]
        if similarity:
            some = slice(None, None, -(-len(x) // FRAMES))
            pairs = zip(x[some], restored[some], strict=True) if clip else [(x, restored)]
            found = [ms_ssim(a, b) for a, b in pairs]
        pixels = math.prod(x.shape[: 2 + clip])
        return cls(
            name,
            n_bytes,
            8 * n_bytes / pixels,
            psnr(x, restored),
            float(np.mean([value for value, _ in found])),
            found[0][1],
        )


def is_clip(x: np.ndarray) -> bool:
    """Whether it is ``[T, H, W]`` or ``[T, H, W, 3]``, and no picture.

    >>> is_clip(np.zeros((5, 4, 3))), is_clip(np.zeros((5, 4, 4))), is_clip(np.zeros((5, 4, 4, 3)))
    (False, True, True)
    """
    return x.ndim == 4 or (x.ndim == 3 and x.shape[2] != 3)


# -- other formats -----------------------------------------------------------------------------------------------------


def jpeg(x: np.ndarray, quality: int, chroma: str = "4:2:0") -> bytes:
    """A picture as a JPEG file."""
    return _saved(x, "JPEG", quality=quality, optimize=True, **({"subsampling": chroma} if x.ndim == 3 else {}))


def webp(x: np.ndarray, quality: int) -> bytes:
    """A picture as a lossy WebP file."""
    return _saved(x, "WEBP", quality=quality, method=6)


def lossless_webp(x: np.ndarray) -> bytes:
    """A picture as a WebP file that restores it exactly."""
    return _saved(x, "WEBP", lossless=True, quality=100, method=6)


def _saved(x: np.ndarray, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, kind, **settings)
    return file.getvalue()


def opened(data: bytes, colour: bool) -> np.ndarray:
    """The picture in a file of any format that Pillow knows, ``[H, W, 3]`` or ``[H, W]``."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB" if colour else "L"))


def x264(clip: np.ndarray, crf: int, chroma: str = "4:2:0") -> bytes:
    """A clip as a bare H.264 stream, which is smaller than any file that a player seeks in. Needs PyAV.

    Parameters
    ----------
    clip : uint8 [T, H, W] or [T, H, W, 3]
        Of even height and width for 4:2:0.
    crf : int
        Constant rate factor, 1, the best, to 51.
    chroma : {"4:2:0", "4:4:4"}
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = f"yuv{chroma.replace(':', '')}p"
        stream.options = {"preset": "medium", "crf": str(crf)}
        stream.thread_count = 1  # more cost some bits, and the file would depend on the machine
        for x in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(x), format="rgb24" if x.ndim == 3 else "gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def played(data: bytes, colour: bool) -> np.ndarray:
    """The frames of a video file, ``[T, H, W, 3]`` or ``[T, H, W]``."""
    import av

    with av.open(io.BytesIO(data), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24" if colour else "gray") for frame in container.decode(video=0)])


def has_x264() -> bool:
    """Whether PyAV is there."""
    return importlib.util.find_spec("av") is not None


def chromas(x: np.ndarray) -> tuple[str, ...]:
    """How finely colours can be stored beside brightness, for a picture or clip of this size."""
    if not is_clip(x):
        return CHROMA if x.ndim == 3 else CHROMA[:1]
    even = x.shape[1] % 2 == x.shape[2] % 2 == 0
    return CHROMA[not even :] if x.ndim == 4 else CHROMA[not even :][:1]


def nearest(encode: Callable[[int], bytes], settings: Sequence[int], size: int) -> tuple[int, bytes]:
    """Among settings along which files grow, the one whose file is nearest to a size, and that file.

    Examples
    --------
    >>> quality, data = nearest(lambda quality: bytes(quality**2), range(1, 101), 5000)
    >>> quality, len(data)
    (71, 5041)
    """
    encode = cache(encode)
    low, high = 0, len(settings) - 1
    while low < high:
        middle = (low + high) // 2
        if len(encode(settings[middle])) < size:
            low = middle + 1
        else:
            high = middle
    near = {setting: encode(setting) for setting in settings[max(low - 1, 0) : low + 1]}
    return min(near.items(), key=lambda item: abs(len(item[1]) - size))


def peers(x: np.ndarray, size: int, similarity: bool = True) -> list[tuple[Point, np.ndarray]]:
    """What other formats make of a picture (JPEG, WebP) or clip (x264) in files of nearly the same size.

    Parameters
    ----------
    x : uint8 [H, W], [H, W, 3], [T, H, W] or [T, H, W, 3]
    size : int
        Bytes.
    similarity : bool
        Whether to measure MS-SSIM, too.

    Returns
    -------
    list of (Point, array)
        Each format's best, and what it restores; a format that can't hold `x`, or is not installed, is left out.
    """
    if is_clip(x):
        ways = {f"x264 {way}": partial(x264, x, chroma=way) for way in chromas(x)} if has_x264() else {}
        found = [_best(x, ways, CRFS, "crf", size)]
    else:
        names = {way: f"JPEG {way}" if x.ndim == 3 else "JPEG" for way in chromas(x)}
        ways = {name: partial(jpeg, x, chroma=way) for way, name in names.items()}
        found = [_best(x, ways, QUALITIES, "quality", size)]
        found += [_best(x, {"WebP": partial(webp, x)}, QUALITIES, "quality", size)]
    return [
        (Point.of(one.name, one.bytes, x, restored, similarity), restored) for some in found for one, restored in some
    ]


def _best(
    x: np.ndarray, ways: Mapping[str, Callable[[int], bytes]], settings: Sequence[int], knob: str, size: int
) -> list[tuple[Point, np.ndarray]]:
    """Of several ways to encode, the best among the files of that size; none, if the format can't hold it."""
    decode, colour = (played, x.ndim == 4) if is_clip(x) else (opened, x.ndim == 3)
    tried = []
    for name, encode in ways.items():
        try:
            setting, data = nearest(encode, settings, size)
        except (OSError, ValueError):  # a side is too long for this format
            continue
        restored = decode(data, colour)
        tried.append((Point.of(f"{name}, {knob} {setting}", len(data), x, restored, similarity=False), restored))
    near = [one for one in tried if abs(one[0].bytes / size - 1) <= FAR]
    if near:
        return [max(near, key=lambda one: one[0].psnr)]
    return sorted(tried, key=lambda one: abs(one[0].bytes - size))[:1]


# -- curves ------------------------------------------------------------------------------------------------------------


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of ``(rate, psnr)``, those that no other one beats: no larger and no worse. In the order of their rates.

    Examples
    --------
    >>> pareto([(3, 31), (1, 30), (2, 29), (4, 31), (5, 33)])
    [(1, 30), (3, 31), (5, 33)]
    """
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return kept


def bd_rate(anchor: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]]) -> float:
    """Bjøntegaard's difference in rate at equal PSNR: -0.2 means a fifth fewer bits, over the range both reach.

    Each curve's log rate is interpolated over its PSNR by monotone cubics (PCHIP), and their mean difference taken. A
    file that restores exactly counts as one of the best PSNR that the other curve reaches; a curve of such files alone
    costs the same at each PSNR of the other.

    Parameters
    ----------
    anchor, ours : sequence of (rate, psnr)
        In any order; a point that another one of the same curve beats is left out. An infinite PSNR is exact.

    Raises
    ------
    ValueError
        If a curve has fewer than two points, or no PSNR is reached by both.

    References
    ----------
    Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001; on PCHIP see
    Herglotz et al., arXiv:2304.12852.

    Examples
    --------
    >>> curve = [(10, 30.0), (20, 33.0), (40, 36.0), (80, 39.0)]
    >>> round(bd_rate(curve, [(rate / 2, quality) for rate, quality in curve]), 6)
    -0.5
    """
    sides = [pareto(anchor), pareto(ours)]
    curves = [np.array(_finite(*pair)) for pair in (sides, sides[::-1])]
    if min(map(len, curves)) < 2:
        raise ValueError("a curve of fewer than two points has no BD-rate")
    low, high = max(curve[0, 1] for curve in curves), min(curve[-1, 1] for curve in curves)
    if low >= high:
        spans = " and ".join(f"{curve[0, 1]:.1f} to {curve[-1, 1]:.1f} dB" for curve in curves)
        raise ValueError(f"the curves share no PSNR: {spans}")
    theirs, mine = (float(PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high)) for c in curves)
    return math.exp((mine - theirs) / (high - low)) - 1


def _finite(curve: list[tuple[float, float]], other: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve with its exact files where the other one ends."""
    found, theirs = ([point for point in side if math.isfinite(point[1])] for side in (curve, other))
    if len(found) == len(curve) or not theirs:
        return found
    rate, best = curve[-1][0], theirs[-1][1]
    if not found:
        return [(rate, theirs[0][1]), (rate, best)][: len(theirs)]
    return [*found, (rate, best)] if found[-1][1] < best else found


STYLES = {"ours": ("#c94f6d", "o-"), "JPEG": ("#7a8288", "-"), "WebP": ("#3366aa", "-"), "x264": ("#2f9e77", "-")}


def plot_curves(path: Path, panels: dict[str, dict[str, list[tuple[float, float]]]], title: str) -> None:
    """Draw rate against distortion.

    Parameters
    ----------
    path : Path
        Of the PNG.
    panels : dict of dict of list of (rate, psnr)
        By the panel's title and the name of the codec; what is seen is where ``"ours"`` lies.
    title : str
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    named: dict[str, Any] = {}  # one legend for all panels, beside them: its marks would look like measurements
    with figures.drawn(path, (4.2 * columns + 0.8, 3.4 * rows + 0.9), title) as figure:
        for i, (name, found) in enumerate(panels.items()):
            curves = {who: pareto(points) for who, points in found.items() if points}
            finite = {who: [point for point in curve if math.isfinite(point[1])] for who, curve in curves.items()}
            seen = [q for _, q in finite["ours"]]
            exactly = len(seen) < len(curves["ours"])
            if exactly:
                seen = [q for curve in finite.values() for _, q in curve] or [0.0]
            axes = figure.add_subplot(rows, columns, i + 1)
            low, high = min(seen) - 3, max(seen) + (6 if exactly else 3)
            for who, curve in curves.items():
                colour, style = STYLES.get(who, (None, "-"))
                exact = [rate for rate, quality in curve if math.isinf(quality)]
                if finite[who]:
                    axes.plot(*zip(*finite[who], strict=True), style, color=colour, markersize=4, label=who)
                if exact:
                    axes.plot(exact, [high - 3], "^", color=colour, label=f"{who}, exact")
            near = [rate for curve in curves.values() for rate, q in curve if low <= q <= high or math.isinf(q)]
            axes.set(title=name, xscale="log", xlabel="bits per pixel (log)", ylabel="PSNR, dB")
            axes.set(xlim=(min(near) / 1.2, max(near) * 1.2), ylim=(low, high))
            axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.25)
            for line, who in zip(*axes.get_legend_handles_labels(), strict=True):
                named.setdefault(who, line)
        figure.legend(named.values(), named.keys(), frameon=False, loc="outside lower center", ncols=len(named))
