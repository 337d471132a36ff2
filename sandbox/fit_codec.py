"""Runs of ``sandbox fit codec``: from pictures to a folder with a codec of one's own, and how it does on unseen ones.

========================  ==========================================================================
``config.yml``            everything that made the run; ``command.txt`` and ``versions.json`` beside it
``model/``                ``codec.safetensors``, which ``sandbox compress --model`` takes, by the run's folder
``metrics.csv``           the loss of each epoch
``summary.json``          sizes and PSNR of held-out pictures at nine qualities, and JPEG's and WebP's
``loss.png``              the loss over epochs
``rate_distortion.png``   PSNR against bits per pixel, of ours, JPEG and WebP
``pictures.png``          a held-out picture at three qualities
========================  ==========================================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sandbox import data, figures
from sandbox.compress import CODEC, PICTURES, Pixels, read
from sandbox.data.pictures import inside
from sandbox.latent_plots import plot_loss
from sandbox.rate_distortion import Point, jpeg, opened, plot_curves, webp
from sandbox.runs import Run, new_run, plain_numbers
from sandbox.training.checkpoint import FileError, write_text
from sandbox.training.log import MetricsCSV

__all__ = ["Album", "Learned", "fit", "keep", "open_samples"]

SHARE, MOST = 0.1, 8  # of the pictures that are judged by, and how many of them at most


@dataclass(frozen=True, eq=False)
class Album:
    """Pictures to learn from, of any sizes."""

    pictures: list[Pixels]

    def __len__(self) -> int:
        return len(self.pictures)

    def __str__(self) -> str:
        sizes = {x.shape[:2] for x in self.pictures}
        one = " of {}x{}".format(*next(iter(sizes))) if len(sizes) == 1 else f" of {len(sizes)} sizes"
        return f"{len(self):,} pictures{one}{', in colour' * any(x.ndim == 3 for x in self.pictures)}"


def open_samples(
    name: str, n: int | None = None, size: tuple[int, int] | None = None, grey: bool | None = None
) -> Album:
    """Open a data set by its name, a file or a folder, as pictures: those of a folder in the sizes that they have.

    Raises
    ------
    FileError, ValueError
        If there is no such data, or no pictures in it. One line.
    """
    folder = Path(name)
    if folder.is_dir() and size is None:
        files = inside(folder, PICTURES)[0][:n]
        if not files:
            raise FileError(f"{folder}: no pictures in it ({' '.join(PICTURES)})")
        pictures = [read(file) for file in files]
    else:
        kwargs: dict[str, Any] = {key: value for key, value in (("size", size), ("grey", grey)) if value is not None}
        makes = name == "patches" or name.startswith("atari:")
        try:
            found = data.load(name, **kwargs, **({"n": n} if makes and n else {})).X
        except TypeError as error:
            raise FileError(
                f"{name} takes no --{min(kwargs)}: that is for pictures in files, patches, games"
            ) from error
        if found.dtype != np.uint8 or found.ndim < 3:
            raise FileError(
                f"{name}: a codec learns from pictures in bytes, not from {found.dtype} {list(found.shape)}"
            )
        pictures = list(found[:n])
    if grey:
        from PIL import Image

        pictures = [np.array(Image.fromarray(x).convert("L")) for x in pictures]
    return Album(pictures)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a fit has come to: the codec, the pictures that it has not seen, and the seconds it took."""

    codec: Any
    held_out: list[Pixels]
    seconds: float


def fit(codec: Any, config: dict[str, Any], album: Album) -> Learned:
    """Learn from all pictures but some, by which it is judged."""
    if len(album) < 2:
        raise ValueError("one picture: there must be two or more, to learn from and to judge by")
    order = np.random.default_rng(config["seed"]).permutation(len(album))
    n = max(round(SHARE * len(album)), 1)
    began = time.monotonic()
    codec.fit([album.pictures[i] for i in order[n:]])
    return Learned(codec, [album.pictures[i] for i in order[: min(n, MOST)]], time.monotonic() - began)


def keep(learned: Learned, config: dict[str, Any], album: Album, root: Path, command: Sequence[str]) -> Run:
    """Judge a codec, say how it does, and leave everything in a run folder.

    Raises
    ------
    OSError
        If the folder can't be made or filled; nothing of it is then left.
    """
    codec, pictures = learned.codec, learned.held_out
    curves = {"ours": [_mean(codec.compress, codec.decompress, pictures, quality) for quality in range(1, 10)]}
    for name, encode in (("JPEG", jpeg), ("WebP", webp)):
        there = range(5, 100, 10)
        curves[name] = [_mean(encode, None, pictures, quality) for quality in there]
    summary = {
        "data": config["data"],
        "n_pictures": len(album),
        "held_out": len(pictures),
        "seed": config["seed"],
        "seconds": learned.seconds,
        "model_id": f"{codec.model_id_:04x}",
        "loss": codec.loss_curve_[-1],
        "curves": {
            name: [{key: getattr(point, key) for key in ("name", "bytes", "bpp", "psnr")} for point in points]
            for name, points in curves.items()
        },
    }
    print(
        f"{len(codec.loss_curve_)} epochs in {learned.seconds:.1f} s; of {len(pictures)} pictures that it has not seen"
    )
    for point in curves["ours"][::4]:
        print(f"  {point.name}: {point.bpp:.3f} bits per pixel, {point.psnr:.2f} dB")
    title = f"codec on {config['data']}"
    with new_run(root, config, command) as run:
        codec.save(run.folder / CODEC)
        table = MetricsCSV(run.metrics)
        for epoch, loss in enumerate(codec.loss_curve_):
            table.write({"loss": loss}, step=epoch + 1)
        table.close()
        write_text(run.folder / "summary.json", json.dumps(plain_numbers(summary), indent=2) + "\n")
        plot_loss(run.folder / "loss.png", codec.loss_curve_, None, title)
        plot_curves(
            run.folder / "rate_distortion.png",
            {title: {name: [(p.bpp, p.psnr) for p in points] for name, points in curves.items()}},
            "PSNR against bits per pixel, means over held-out pictures",
        )
        _draw(run.folder / "pictures.png", codec, pictures[0], title)
    return run


def _mean(encode: Any, decode: Any, pictures: list[Pixels], quality: int) -> Point:
    """Mean size and quality over pictures."""
    points = []
    for x in pictures:
        data = encode(x, quality)
        points.append(Point.of("", len(data), x, decode(data) if decode else opened(data, x.ndim == 3), False))
    sizes, bits, qualities = (np.mean([getattr(p, key) for p in points]) for key in ("bytes", "bpp", "psnr"))
    return Point(f"quality {quality}", int(sizes), float(bits), float(qualities))


def _draw(path: Path, codec: Any, x: Pixels, title: str) -> None:
    with figures.drawn(path, (12, 3.6), title) as figure:
        for axes, quality in zip(figure.subplots(1, 4), (None, 1, 5, 9), strict=True):
            shown, words = x, "a held-out picture"
            if quality:
                data = codec.compress(x, quality)
                shown, words = codec.decompress(data), f"quality {quality}: {len(data):,} bytes"
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[], title=words)
