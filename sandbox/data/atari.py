"""Atari games as pictures with labels."""

from __future__ import annotations

from typing import Any

from sandbox.data.names import Data


def frames(game: str, n: int = 1000, **kwargs: Any) -> Data:
    """Frames of a game, each with the 128 bytes of memory that it was drawn from.

    Parameters
    ----------
    game : str
    n : int
        Frames.
    **kwargs
        As for `envs.recording.record`.
    """
    try:
        from envs.recording import record
    except ModuleNotFoundError as error:
        if error.name != "ale_py":
            raise
        install = f"'atari:{game}' needs ale_py: pip install 'rl-unsup-sandbox[atari]'"
        raise ModuleNotFoundError(install, name="ale_py") from None
    played = record(game, n, **kwargs)
    about = f"{game}, policy {played.about['policy']}, seed {played.about['seed']}; the labels are the console's memory"
    return Data(played.frames, played.ram, tuple(f"ram[{i}]" for i in range(128)), about)
