"""Compressed files against JPEG, WebP and x264: bits at equal PSNR on held-out data, seconds, size over entropy."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sandbox.bench import arguments, keep, measure, show, spread

if TYPE_CHECKING:
    import numpy as np

MODULE = "sandbox.bench.codec"
PHOTOS = ("chelsea", "coffee", "flower")  # of scikit-image's and scikit-learn's; the default model has seen none
GAMES = ("Breakout", "MsPacman", "Pong", "Seaquest", "SpaceInvaders")
HELD_OUT = 100  # seed of episodes that no default model has seen
CLIPS, FRAMES = ("Pong", "Breakout"), 500
CURVES = {  # the model, and who it is compared with
    "photos": ("photo", ("JPEG", "WebP")),
    "atari": ("atari", ("JPEG", "WebP")),
    "clip": ("clip", ("x264",)),
}
PARTS = (*CURVES, "speed", "overhead")
QUALITIES = range(1, 10)
SETTINGS = {  # along which each of them makes its curve
    "JPEG": (2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 99, 100),
    "WebP": (1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 88, 90, 92, 94, 96, 98, 99, 100),
    "x264": (51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 10, 5, 1),
}


def main(argv: Sequence[str] | None = None) -> int:
    from sandbox.rate_distortion import USED

    lines = "\n".join(f"  {name}: {text}" for name, text in USED.items())
    parser = arguments("codec", __doc__, repeats=5, epilog=f"how the others are used (whole files):\n{lines}")
    parser.add_argument("--part", choices=PARTS, help="only one of the five")
    parser.add_argument(
        "--small", action="store_true", help="little data: to see that it runs, the numbers mean nothing"
    )
    args = parser.parse(argv)
    if args.job:
        parts: dict[str, Callable[..., dict[str, Any]]] = {"curve": curve, "speed": speed, "overhead": overhead}
        job = dict(args.job)
        print(json.dumps(parts[job.pop("part")](**job)))
        return 0
    measurements: list[dict[str, Any]] = []

    def take(**job: Any) -> dict[str, Any]:
        measurements.append(measure(MODULE, **job, small=args.small))
        keep(args.out, "codec", measurements)
        return measurements[-1]

    rows: list[tuple[str, ...]] = []
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for case, (_, others) in CURVES.items():
        if args.part not in (None, case):
            continue
        taken = {who: take(part="curve", case=case, who=who) for who in ("ours", *others)}
        found = {who: _curves(one) for who, one in taken.items()}
        for name, points in found["ours"].items():
            if least := [rate for rate, quality in points if math.isinf(quality)]:
                theirs = taken.get("WebP", {}).get("exact", {}).get(name)
                beside = f"; a lossless WebP, {theirs:.4f}" if theirs else ""
                print(f"{case}, {name}: restored exactly in {min(least):.4f} bits per pixel{beside}", flush=True)
        rows += compared(case, found)
        panels |= {f"{case}: {name}": {who: found[who][name] for who in found} for name in found["ours"]}
    if rows:
        columns = ("held-out data", "against", "BD-rate", "bits at equal PSNR", "over PSNR, dB", "BD-rate of each")
        show("Size of files at equal PSNR (BD-rate; less is better)", columns, rows)
        print(lines)
    if panels and args.out:
        from sandbox.rate_distortion import plot_curves

        for case in CURVES:
            some = {name: panel for name, panel in panels.items() if name.startswith(f"{case}:")}
            if some:
                picture = args.out.with_name(f"{args.out.stem}-{case}.png")
                plot_curves(picture, some, f"PSNR against size of real files, held-out {case}")
                print(picture)
    if args.part in (None, "speed"):
        show_speed([take(part="speed", who=who, repeats=args.repeats) for who in ("ours", "JPEG", "WebP")])
    if args.part in (None, "overhead"):
        over = {case: take(part="overhead", case=case) for case in ("image", "clip")}
        header = ("", "quality", "bytes", "entropy of its symbols, bytes", "over it")
        rows = [
            (case, str(one["quality"]), f"{one['bytes']:,}", f"{one['entropy']:,.0f}", f"{one['over']:+.3%}")
            for case, measured in over.items()
            for one in measured["files"]
        ]
        show("Whole files over the entropy by the model's own tables", header, rows)
    return 0


def _curves(measured: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {
        name: [(rate, math.inf if quality is None else quality) for rate, quality in points]
        for name, points in measured["curves"].items()
    }


def compared(case: str, found: dict[str, dict[str, list[tuple[float, float]]]]) -> list[tuple[str, ...]]:
    """A table's rows: BD-rate of ours against each other format, over the pictures of a case.

    Parameters
    ----------
    case : str
    found : dict of dict of list of (bits per pixel, psnr)
        By who made them, and by the picture.

    Examples
    --------
    >>> curves = {"JPEG": {"a": [(1.0, 30.0), (2.0, 33.0)]}, "ours": {"a": [(0.5, 30.0), (1.0, 33.0)]}}
    >>> compared("photos", curves)[0][:4]
    ('photos', 'JPEG', '-50.0 %', '0.500')
    """
    from sandbox.rate_distortion import bd_rate

    rows = []
    for who in found.keys() - {"ours"}:
        rates, spans, names = [], [], []
        for name, ours in found["ours"].items():
            theirs = found[who][name]
            try:
                rate = bd_rate(theirs, ours)
            except ValueError as error:
                names.append(f"{name}: none ({error})")
                continue
            rates.append(rate)
            names.append(f"{name} {rate:+.1%}")
            finite = [[quality for _, quality in curve if math.isfinite(quality)] for curve in (theirs, ours)]
            ends = [side for side in finite if side]
            spans.append((max(map(min, ends)), min(map(max, ends))))
        mean = statistics.fmean(rates) if rates else math.nan
        span = f"{min(low for low, _ in spans):.0f} to {max(high for _, high in spans):.0f}" if spans else "none shared"
        rows.append((case, who, f"{100 * mean:+.1f} %", f"{1 + mean:.3f}", span, ", ".join(names)))
    return sorted(rows)


def show_speed(found: Sequence[dict[str, Any]]) -> None:
    """Seconds and MB/s of one picture, with what came of it beside."""
    rows = []
    for one in found:
        for threads, sides in one["seconds"].items():
            name = f"{one['who']}, {one['setting']}, {threads} thread{'s' * (threads != '1')}"
            encode, decode = (
                (spread([1000 * x for x in side], 0), f"{one['megabytes'] / statistics.median(side):.1f}")
                for side in sides
            )
            rows.append((name, *encode, *decode, f"{one['bpp']:.2f}", f"{one['psnr']:.1f}"))
    header = ("", "encode, ms", "MB/s", "decode, ms", "MB/s", "bits/pixel", "dB")
    show("A picture of 768x512 in colour (1.18 MB): median [min, max]", header, rows)


# -- rate and distortion -----------------------------------------------------------------------------------------------


def curve(case: str, who: str, small: bool = False) -> dict[str, Any]:
    """Size in bits per pixel, and PSNR, of real files at each setting: for each picture, game or clip.

    PSNR is None where all is restored exactly: JSON has no infinity.
    """
    curves, files, exact = {}, {}, {}
    for name, pictures in held_out(case, small).items():
        points, told = [], []
        for setting, ways in ways_of(case, who, pictures[0], small):
            for way, (encode, decode) in ways.items():
                sizes, errors, pixels = 0, 0.0, 0
                for x in pictures:
                    data = encode(x)
                    sizes += len(data)
                    errors += squared_error(decode(data), x)
                    pixels += x.size // (3 if x.shape[-1] == 3 else 1)
                told.append({"setting": setting, "way": way, "bytes": sizes})
                quality = 10 * math.log10(255**2 * sum(x.size for x in pictures) / errors) if errors else None
                points.append((8 * sizes / pixels, quality))
        curves[name], files[name] = points, told
        if who == "WebP":
            from sandbox.rate_distortion import lossless_webp

            exact[name] = (
                8 * sum(len(lossless_webp(x)) for x in pictures) / sum(x.shape[0] * x.shape[1] for x in pictures)
            )
    return {"curves": curves, "files": files, "exact": exact}


def ways_of(case: str, who: str, x: np.ndarray, small: bool) -> list[tuple[int, dict[str, Any]]]:
    """For each setting, how a picture or clip is encoded and decoded; for one format in several ways."""
    from sandbox import rate_distortion as rd

    thin = slice(None, None, 4) if small else slice(None)
    if who == "ours":
        codec = model(CURVES[case][0])
        return [(q, {"": (lambda x, q=q: codec.compress(x, q), codec.decompress)}) for q in QUALITIES[thin]]  # type: ignore[misc]
    encoders: dict[str, Callable[..., bytes]] = {"JPEG": rd.jpeg, "WebP": rd.webp, "x264": rd.x264}
    encode = encoders[who]
    decode = rd.played if who == "x264" else rd.opened
    ways: list[tuple[int, dict[str, Any]]] = []
    for setting in SETTINGS[who][thin]:
        one: dict[str, Any] = {}
        for chroma in ("",) if who == "WebP" else rd.chromas(x):
            more = (chroma,) if chroma else ()
            one[chroma] = (
                lambda x, setting=setting, more=more: encode(x, setting, *more),
                lambda data: decode(data, True),
            )
        ways.append((setting, one))
    return ways


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """The sum over all pixels and channels."""
    import numpy as np

    return sum(float(np.square(x.astype(np.float32) - y).sum(dtype=np.float64)) for x, y in zip(a, b, strict=True))


# -- speed, and what is lost to the coder ------------------------------------------------------------------------------


def speed(who: str, repeats: int, small: bool = False) -> dict[str, Any]:
    """Seconds to encode and decode a picture of 768x512 in colour, on one thread and on two."""
    import torch

    from sandbox import rate_distortion as rd

    x = picture_of_768x512()
    if small:
        x, repeats = x[:64, :96], 1
    if who == "ours":
        codec, setting = model("photo"), "quality 5"
        encode, decode = codec.compress, codec.decompress
    else:
        setting = "quality 75"
        encode = (lambda x: rd.jpeg(x, 75)) if who == "JPEG" else (lambda x: rd.webp(x, 75))
        decode = lambda data: rd.opened(data, True)  # noqa: E731
    y = decode(encode(x))  # what is loaded at first use is loaded
    seconds: dict[str, tuple[list[float], list[float]]] = {}
    for threads in (1, 2) if who == "ours" else (1,):
        torch.set_num_threads(threads)
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            start = time.perf_counter()
            data = encode(x)
            middle = time.perf_counter()
            decode(data)
            taken[0].append(middle - start)
            taken[1].append(time.perf_counter() - middle)
        seconds[str(threads)] = taken
    point = rd.Point.of(setting, len(data), x, y, similarity=False)
    return {"seconds": seconds, "setting": setting, "megabytes": x.size / 1e6, "bpp": point.bpp, "psnr": point.psnr}


def overhead(case: str, small: bool = False) -> dict[str, Any]:
    """Bytes of whole files, and the entropy of what is in them by the tables that wrote them."""
    if case == "clip":
        codec, x = model("clip"), held_out("clip", small)[CLIPS[0]][0]
    else:
        codec, x = model("photo"), picture_of_768x512()
    files = []
    for quality in (1, 5, 9):
        n, entropy = len(codec.compress(x, quality)), codec.estimate_bits(x, quality) / 8
        files.append({"quality": quality, "bytes": n, "entropy": entropy, "over": n / entropy - 1})
    return {"files": files}


# -- models and data ---------------------------------------------------------------------------------------------------


def model(name: str) -> Any:
    """A default model."""
    from unsupervised.compression import default

    return default(name)


def held_out(case: str, small: bool = False) -> dict[str, list[np.ndarray]]:
    """What the curves are made of: for each photo or game its pictures, or for a clip's game the clip."""
    from envs.recording import record

    if case == "photos":
        photos = {name: [photo(name)] for name in PHOTOS[: 1 if small else None]}
        return {name: [x[:64, :96] for x in found] for name, found in photos.items()} if small else photos
    if case == "clip":
        clips, n = (CLIPS[:1], 12) if small else (CLIPS, FRAMES)
        return {game: [record(game, n, seed=HELD_OUT).frames] for game in clips}
    games = GAMES[:1] if small else GAMES
    n, some = (20, slice(9, None, 10)) if small else (400, slice(49, None, 50))
    return {game: list(record(game, n, seed=HELD_OUT).frames[some]) for game in games}


def photo(name: str) -> np.ndarray:
    """One of them at half its size: each pixel the mean of four, for most have been JPEGs."""
    import numpy as np
    import skimage.data
    from PIL import Image

    from sandbox.data import load

    whole = load("photos").X[1] if name == "flower" else getattr(skimage.data, name)()
    return np.array(Image.fromarray(whole).reduce(2))


def picture_of_768x512() -> np.ndarray:
    """Held-out photos side by side, as many as are needed."""
    import numpy as np

    tiles = [photo(name)[:150, :225] for name in PHOTOS]
    rows = [np.hstack([tiles[(i + j) % 3] for j in range(4)]) for i in range(4)]
    return np.ascontiguousarray(np.vstack(rows)[:512, :768])


if __name__ == "__main__":
    raise SystemExit(main())
