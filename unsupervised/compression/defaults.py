"""The codecs that come with this package, and files of any of them."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.training.checkpoint import FileError, load_tensors
from unsupervised.compression.codec import ImageCodec
from unsupervised.compression.container import CorruptFile, describe, unpack
from unsupervised.compression.frames import FrameCodec
from unsupervised.compression.model_file import KIND

FILES = {"photo": "photo", "atari": "clip", "clip": "clip"}  # a clip's first frames are pictures of the same games
DEFAULTS = tuple(FILES)
MODELS = Path(__file__).parent / "models"


@cache
def default(name: str) -> Any:
    """A codec that this project has trained: ``"photo"`` and ``"atari"`` are `ImageCodec`, ``"clip"`` a `FrameCodec`.

    Raises
    ------
    ValueError
        If there is none of this name.
    FileError
        If its file is missing or damaged.
    """
    if name not in DEFAULTS:
        raise ValueError(f"there is no model {name!r}: {', '.join(DEFAULTS)}")
    codec = load(MODELS / f"{FILES[name]}.safetensors")
    return codec.image_ if name == "atari" else codec


def load(path: str | os.PathLike[str]) -> Any:
    """Open a codec that its `save` wrote, whichever it is. Nothing in the file is run.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged. One line.
    """
    kinds = {kind.__name__: kind for kind in (ImageCodec, FrameCodec)}
    name = load_tensors(path, KIND)[0].get("class")
    if name not in kinds:
        raise FileError(f"{os.fspath(path)}: it holds a {name!r}, which this version does not know")
    return kinds[name].load(path)


def inspect(data: bytes) -> dict[str, Any]:
    """What a file says of itself; its checksum is tested, and nothing is decoded.

    Returns
    -------
    dict
        ``kind`` ("image" or "clip"), ``version``, ``model`` (the name of one that comes with this package, or None),
        ``model_id`` (four hexadecimal digits), ``width``, ``height``, ``channels``, ``quality``, ``bytes``; of a clip
        also ``frames``, ``group`` and ``groups``.

    Raises
    ------
    CorruptFile
        If it is no such file, or not a whole one.
    """
    about = describe(data)
    return {"kind": about.pop("kind"), "model": _names().get(int(about["model_id"], 16)), **about}


def decompress(data: bytes) -> NDArray[np.uint8]:
    """A picture or a clip from a file that one of the package's own models wrote.

    Raises
    ------
    CorruptFile
        If it is damaged, or another model wrote it: then that model's `decompress` reads it.
    """
    header, _ = unpack(data)
    name = _names().get(header.model)
    if name is None:
        known = ", ".join(f"{key:04x} ({value})" for key, value in _names().items())
        raise CorruptFile(f"the model {header.model:04x} wrote it; give that model. Known here: {known or 'none'}")
    pixels: NDArray[np.uint8] = default(name).decompress(data)
    return pixels


@cache
def _names() -> dict[int, str]:
    return {default(name).model_id_: name for name in DEFAULTS if (MODELS / f"{FILES[name]}.safetensors").exists()}
