"""Atari games as pictures, memory or sound."""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.data.names import Data
from sandbox.data.play import new_array

KINDS = ("frames", "ram", "sound")


def frames(game: str, n: int = 1000, what: str = "frames", stack: int | None = None, **kwargs: Any) -> Data:
    """Frames of a game, each with the 128 bytes of memory that it was drawn from.

    The actions between them, and which game of the recording each is of, are with them, too.

    Parameters
    ----------
    game : str
    n : int
        Frames.
    what : {"frames", "ram", "sound"}
        What a sample is: a picture, the memory ``[128]`` uint8, or what is heard from that frame to the next,
        ``[512 * frame_skip]`` float32 from -1 to 1. Pictures and sounds are labelled with the memory.
    stack : int, optional
        Frames to a sample, ``[n, stack, H, W]``, as agents see a game: the last ones, the oldest first; before there
        are as many, the first one is repeated. Only of frames in grey.
    **kwargs
        As for `envs.recording.record`.

    Raises
    ------
    ValueError
        If there is no such game, or it has no such thing.
    MemoryError
        If the frames, or stacks of them, would be larger than the memory that is free.
    """
    if what not in KINDS:
        raise ValueError(f"what={what!r}: a game has {', '.join(KINDS)}")
    if stack is not None and (what != "frames" or not kwargs.get("grey")):
        raise ValueError(f"stack={stack} is for frames in grey, which have one channel each: give grey=True")
    if stack is not None and stack < 1:
        raise ValueError(f"stack must be at least 1, got {stack}")
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
    play: dict[str, Any] = {"actions": played.actions, "episodes": played.starts.cumsum() - 1}
    if what == "ram":
        return Data(played.ram, np.empty((len(played), 0), int), (), f"{about}; the console's memory", **play)
    names = tuple(f"ram[{i}]" for i in range(128))
    if what == "sound":
        sound = (played.sound.astype(np.float32) - SILENCE) / SILENCE
        about += f"; sound, {played.sound_rate:,} samples a second; the labels are the console's memory"
        return Data(sound, played.ram, names, about, **play)
    X = played.frames if stack is None else stacked(played.frames, played.starts, stack)
    return Data(X, played.ram, names, f"{about}; the labels are the console's memory", **play)


def stacked(frames: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """The last `n` frames at each step, the oldest first, where an episode's first one stands for those before it.

    Parameters
    ----------
    frames : [N, H, W]
    starts : [N] bool
        Where an episode begins.
    n : int

    Returns
    -------
    [N, n, H, W]

    Raises
    ------
    MemoryError
        If that would be larger than the memory that is free.

    Examples
    --------
    >>> stacked(np.arange(4).reshape(4, 1, 1), np.array([True, False, True, False]), 3)[:, :, 0, 0].tolist()
    [[0, 0, 0], [0, 0, 1], [2, 2, 2], [2, 2, 3]]
    """
    X = new_array((len(frames), n, *frames.shape[1:]), frames.dtype, "ask for fewer frames, or smaller ones")
    step = np.arange(len(frames))
    first = np.maximum.accumulate(np.where(starts, step, 0))
    places = np.maximum(step[:, None] + np.arange(1 - n, 1), first[:, None])  # [N, n]
    for sample, some in zip(X, places, strict=True):  # one at a time: all at once would be another copy of everything
        np.take(frames, some, axis=0, out=sample)
    return X
