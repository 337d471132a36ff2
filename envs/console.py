"""The console itself: one Atari 2600 with a game in it, its screen, memory and sound. Needs the extra ``atari``."""

from __future__ import annotations

import difflib
from typing import Any

import ale_py

from envs.names import atari_games

GAMES = atari_games()
SEEDS = 2**31  # as many has the console's generator; any other number stands for one of them


def console(game: str, sticky: float = 0.0, sound: bool = False, seed: int = 0) -> ale_py.ALEInterface:
    """A console with the game in it, as ale-py has it: screen, memory, sound.

    Parameters
    ----------
    game : str
    sticky : float
        Probability that it repeats the last action instead of the new one, at each frame.
    sound : bool
        Whether it is to be heard.
    seed : int

    Examples
    --------
    >>> ale = console("Pong")
    >>> ale.getRAM().shape, ale.getScreenRGB().shape
    ((128,), (210, 160, 3))
    """
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", sticky)
    ale.setBool("sound_obs", sound)
    load(ale, game, seed)
    return ale


def load(ale: ale_py.ALEInterface, game: str, seed: int) -> None:
    """Put the game in, with the generator of sticky actions as the seed has it."""
    ale.setInt("random_seed", seed % SEEDS)
    rom: Any = ale_py.roms.get_rom_path(rom_of(game))
    ale.loadROM(rom)


def begin(ale: ale_py.ALEInterface, frames: int = 0, fire: bool = False) -> None:
    """Start a game and play, without an action, until it is so many frames old; press FIRE in the first if told so.

    Some games count frames before one can act: those in which their mode is set.
    """
    ale.reset_game()
    for frame in range(frames - ale.getEpisodeFrameNumber()):
        ale.act(ale_py.Action.FIRE if fire and frame == 0 else ale_py.Action.NOOP)


def rom_of(game: str) -> str:
    """The name of a game's ROM.

    Raises
    ------
    ValueError
        If there is no such game; the message has the nearest ones.

    Examples
    --------
    >>> rom_of("SpaceInvaders")
    'space_invaders'
    >>> rom_of("Pnog")
    Traceback (most recent call last):
    ValueError: there is no game 'Pnog'; nearest: Pong
    """
    if game in GAMES:
        return GAMES[game]
    near = difflib.get_close_matches(game, GAMES, cutoff=0.5)
    raise ValueError(f"there is no game {game!r}; nearest: {', '.join(near)}" if near else f"there is no game {game!r}")
