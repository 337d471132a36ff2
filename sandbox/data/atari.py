"""Atari games as pictures, memory or sound."""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.data.names import Data

KINDS = ("frames", "ram", "sound")


def frames(game: str, n: int = 1000, what: str = "frames", **kwargs: Any) -> Data:
    """Frames of a game, each with the 128 bytes of memory that it was drawn from.

    Parameters
    ----------
    game : str
    n : int
        Frames.
    what : {"frames", "ram", "sound"}
        What a sample is: a picture, the memory ``[128]`` uint8, or what is heard from that frame to the next,
        ``[512 * frame_skip]`` float32 from -1 to 1. Pictures and sounds are labelled with the memory.
    **kwargs
        As for `envs.recording.record`.

    Raises
    ------
    ValueError
        If there is no such game, or it has no such thing.
    """
    if what not in KINDS:
        raise ValueError(f"what={what!r}: a game has {', '.join(KINDS)}")
    try:
        from envs.recording import SILENCE, record
    except ModuleNotFoundError as error:
        if error.name != "ale_py":
            raise
        install = f"'atari:{game}' needs ale_py: pip install 'rl-unsup-sandbox[atari]'"
        raise ModuleNotFoundError(install, name="ale_py") from None
    if what != "frames":
        kwargs = {"size": 1, "grey": True, **kwargs}  # pictures that nobody looks at
    played = record(game, n, **kwargs)
    about = f"{game}, policy {played.about['policy']}, seed {played.about['seed']}"
    if what == "ram":
        return Data(played.ram, np.empty((len(played), 0), int), (), f"{about}; the console's memory")
    names = tuple(f"ram[{i}]" for i in range(128))
    if what == "sound":
        sound = (played.sound.astype(np.float32) - SILENCE) / SILENCE
        about += f"; sound, {played.sound_rate:,} samples a second; the labels are the console's memory"
        return Data(sound, played.ram, names, about)
    return Data(played.frames, played.ram, names, f"{about}; the labels are the console's memory")
