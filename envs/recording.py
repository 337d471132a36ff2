"""A game as data: pictures, memory, sound, actions and rewards, step by step, as arrays. Needs the extra ``atari``."""

from __future__ import annotations

import json
import math
import operator
import os
import secrets
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from envs.console import SEEDS, begin, console, rom_of

FORMAT = 1  # of a file, and of the rules of `record`: a change of either makes old files foreign
FRAME_SKIP = 4  # frames for which an agent of this project holds an action
MAX_FRAMES = 108_000  # of a game, half an hour, after which another one begins
SAMPLES = 512  # of sound to a frame
SILENCE = 128  # the middle of unsigned samples
ARRAYS = ("frames", "ram", "sound", "actions", "rewards", "starts")


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """``n`` steps of play.

    Step ``i`` begins with what is seen, ``frames[i]``, while the memory holds ``ram[i]``. Then ``actions[i]`` is
    chosen; it brings ``rewards[i]``, and ``sound[i]`` is heard, until ``frames[i + 1]`` is seen, or the first frame of
    another game where ``starts[i + 1]``.

    Attributes
    ----------
    frames : [n, 210, 160, 3] uint8
        RGB; ``[n, 210, 160]`` in grey; another height and width where a size was asked for.
    ram : [n, 128] uint8
        The console's whole memory: what the game knows about itself.
    sound : [n, 512 * frame_skip] uint8
        Samples with silence at 128, 512 for each frame.
    actions : [n] int64
        Indices into `action_meanings`.
    rewards : [n] float64
        What the game's score changed by.
    starts : [n] bool
        Where a game begins.
    action_meanings : tuple of str
        Such as ``("NOOP", "FIRE", "RIGHT")``.
    sound_rate : int
        Samples a second that give the right pitch: 31,400. A second has 60 frames, so that at ``60 * 512 = 30720``
        the sound is as long as the play, and 2 % too low.
    about : dict
        How it was made: ``game``, ``policy``, ``seed`` and the other arguments, and the version of ale-py.
    """

    frames: np.ndarray
    ram: np.ndarray
    sound: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    starts: np.ndarray
    action_meanings: tuple[str, ...]
    sound_rate: int
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        seen = "x".join(map(str, self.frames.shape[1:]))
        return f"Recording({self.about['game']}, {len(self)} steps of {seen}, policy {self.about['policy']})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one compressed file, ``.npz`` with a JSON record: whole, or not at all.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays as it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
        record = {"action_meanings": self.action_meanings, "sound_rate": self.sound_rate, "about": self.about}
        arrays = {"record": np.array(json.dumps(record)), **{name: getattr(self, name) for name in ARRAYS}}
        try:
            with open(draft, "wb") as file:
                # numpy's own savez_compressed takes twice as long, for files that are tiny either way.
                with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                            np.lib.format.write_array(entry, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a file that `save` wrote.

        Raises
        ------
        ValueError
            If it is damaged, or something else. One line.
        OSError
            If there is no such file, or it cannot be read.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                record = json.loads(file["record"].item())
                arrays = {name: file[name] for name in ARRAYS}  # the archive's checksums are compared on the way
            if record["about"]["format"] != FORMAT:
                raise ValueError(f"this version reads format {FORMAT}")
            if len({len(array) for array in arrays.values()}) != 1:
                raise ValueError("its arrays differ in length")
            return cls(**arrays, **{**record, "action_meanings": tuple(record["action_meanings"])})
        except OSError:
            raise
        except Exception as error:  # a file can be wrong in every way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{os.fspath(path)}: no recording, or damaged ({reason})") from error


def record(
    game: str,
    n: int,
    policy: Any = None,
    *,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    frame_skip: int = FRAME_SKIP,
    deterministic: bool = True,
    cache: str | os.PathLike[str] | bool | None = None,
) -> Recording:
    """Play a game for `n` steps and keep all of it; the same arguments give the same arrays.

    Random play presses the game's buttons with equal probability and begins where the console does. A policy plays
    ``baselines/<Game>-v0``, with its up to 29 no-ops at the start, and sees its observations; the frames that are kept
    are those of the screen. Games are played to their end, or for half an hour, and one follows the other.

    Parameters
    ----------
    game : str
        Such as ``"Pong"``, ``"MsPacman"``.
    n : int
        Steps.
    policy : None, model or callable
        None is random play. A model has the ``predict(obs, deterministic=...)`` of Stable-Baselines3, which returns an
        action and a state; a state that is not None is given back to it, as to a policy with a memory. A callable is
        given an observation, ``[4, 84, 84]`` uint8, and returns an action.
    seed : int
        Of the console and of random play. A policy that draws its actions has a generator of its own.
    size : int or (int, int), optional
        Side, or height and width, of the frames: each pixel is the mean of the area that it covers.
    grey : bool
        One channel, the luminance, instead of three.
    frame_skip : int
        Frames to a step, of 1/60 s each. A policy always has 4.
    deterministic : bool
        A model's likeliest actions, not drawn ones.
    cache : path-like or bool, optional
        The folder where random play is kept and found again; by default, and with True, it is
        ``$XDG_CACHE_HOME/rl-unsup-sandbox/atari``, or ``~/.cache/...``; False is none. What a policy plays is never
        kept, as nothing tells whether it is still the same: see `Recording.save`.

    Returns
    -------
    Recording

    Raises
    ------
    ValueError
        If there is no such game, or no such number; or a policy chooses an action that the game has not.
    TypeError
        If the policy is neither a model nor a callable.
    MemoryError
        If the arrays would be larger than the memory that is free.

    Notes
    -----
    A frame is one picture, not the maximum of two as in the observations: what a game draws in every second picture,
    as many do with their sprites, can be missing from it.

    Examples
    --------
    >>> played = record("Pong", 50, size=84, grey=True, cache=False)
    >>> played.frames.shape, played.ram.shape, played.sound.shape
    ((50, 84, 84), (50, 128), (50, 2048))
    >>> played.starts.sum(), played.action_meanings[:3]
    (np.int64(1), ('NOOP', 'FIRE', 'RIGHT'))
    """
    rom_of(game)  # says what is near if there is no such game
    height, width = (210, 160) if size is None else (size, size) if isinstance(size, int | np.integer) else size
    for name, value in (("n", n), ("frame_skip", frame_skip), ("size", min(height, width))):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed must be at least 0 and less than {SEEDS}, not {seed}")
    if policy is not None and (isinstance(policy, type) or not (hasattr(policy, "predict") or callable(policy))):
        raise TypeError(f"policy must be None, an object with predict, or a callable, not {policy!r}")
    if policy is not None and frame_skip != FRAME_SKIP:
        raise ValueError(f"a policy acts every {FRAME_SKIP} frames: frame_skip={frame_skip} is for random play")

    shape = (int(height), int(width)) if grey else (int(height), int(width), 3)
    needed, free = n * (math.prod(shape) + 128 + SAMPLES * frame_skip + 17), _free_memory()
    if needed > free:
        raise MemoryError(
            f"{n:,} steps with frames of {'x'.join(map(str, shape))} are {needed / 1e9:,.1f} GB, and "
            f"{free / 1e9:,.1f} GB of memory are free: ask for size=84, grey=True or fewer steps"
        )
    about: dict[str, Any] = {
        "game": game,
        "n": int(n),
        "policy": "random" if policy is None else getattr(policy, "__name__", type(policy).__name__),
        "seed": int(seed),
        "shape": list(shape),
        "frame_skip": int(frame_skip),
        "ale_py": ale_py.__version__,
        "format": FORMAT,
    }
    if policy is not None:
        return _play(about, _Agent(game, policy, int(seed), deterministic))
    if cache is False:
        return _play(about, _RandomPlayer(int(seed)))

    path = _cache_file(None if cache is True else cache, about)
    trouble = None
    try:
        found = Recording.load(path)
        if found.about == about:
            return found
        trouble = f"{path}: not what its name says"
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        trouble = str(error)
    if trouble:
        warnings.warn(f"{trouble}; it is recorded anew", stacklevel=2)
    played = _play(about, _RandomPlayer(int(seed)))
    try:
        played.save(path)
    except OSError as error:
        warnings.warn(f"the recording is not kept in {path}: {error.strerror or error}", stacklevel=2)
    return played


def _play(about: dict[str, Any], player: _RandomPlayer | _Agent) -> Recording:
    n, shape, frame_skip = about["n"], tuple(about["shape"]), about["frame_skip"]
    frames, ram = np.empty((n, *shape), np.uint8), np.empty((n, 128), np.uint8)
    sound = np.full((n, frame_skip, SAMPLES), SILENCE, np.uint8)  # a game's last step may have fewer frames
    actions, rewards, starts = np.empty(n, np.int64), np.zeros(n), np.zeros(n, bool)
    ale = console(about["game"], sound=True, seed=about["seed"])
    buttons = ale.getMinimalActionSet()
    over, left = True, 0
    with _progress(f"recording {about['game']}", n) as tell:
        for i in range(n):
            if over:
                starts[i], left = True, MAX_FRAMES
                begin(ale, *player.start())
            frames[i], ram[i] = _picture(ale, shape), ale.getRAM()
            actions[i], over = player.step(len(buttons))
            for frame in range(frame_skip):
                rewards[i] += ale.act(buttons[actions[i]])
                sound[i, frame] = ale.getAudio()
                left -= 1
                if ale.game_over() or not left:
                    over = True
                    break
            tell(i + 1)
    return Recording(
        frames=frames,
        ram=ram,
        sound=sound.reshape(n, -1),
        actions=actions,
        rewards=rewards,
        starts=starts,
        action_meanings=tuple(button.name for button in buttons),
        sound_rate=ale.getInt("freq"),
        about=about,
    )


def _picture(ale: ale_py.ALEInterface, shape: tuple[int, ...]) -> np.ndarray:
    screen = ale.getScreenRGB() if len(shape) == 3 else ale.getScreenGrayscale()
    if screen.shape == shape:
        return screen
    return np.asarray(Image.fromarray(screen).resize((shape[1], shape[0]), Image.Resampling.BOX))


class _RandomPlayer:
    """Presses every button with equal probability, from where the console begins."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def start(self) -> tuple[int, bool]:
        return 0, False

    def step(self, n_actions: int) -> tuple[int, bool]:
        return int(self.rng.integers(n_actions)), False


class _Agent:
    """A policy in its environment, whose own console shows nothing: the recorder's is played along with it."""

    def __init__(self, game: str, policy: Any, seed: int, deterministic: bool) -> None:
        env = gym.make(f"baselines/{game}-v0", episodic_life=False, disable_env_checker=True)
        self.env: Any = env.unwrapped
        self.policy, self.deterministic = policy, deterministic
        self.seed: int | None = seed
        self.state: Any = None

    def start(self) -> tuple[int, bool]:
        """Begin a game; how many frames of it the environment has played by then, and whether it pressed FIRE."""
        self.obs, info = self.env.reset(seed=self.seed)
        self.seed, self.new = None, True  # the games that follow are drawn by the same generator
        return info["episode_frame_number"], self.env.games.fires

    def step(self, n_actions: int) -> tuple[int, bool]:
        """The action that is chosen, and whether the game is over."""
        if hasattr(self.policy, "predict"):
            how = {} if self.state is None else {"state": self.state, "episode_start": np.array([self.new])}
            chosen, self.state = self.policy.predict(self.obs, deterministic=self.deterministic, **how)
        else:
            chosen = self.policy(self.obs)
        action, self.new = operator.index(np.asarray(chosen).item()), False
        if not 0 <= action < n_actions:
            raise ValueError(f"the policy chose action {action}, but the game has {n_actions}")
        self.obs, _, terminated, truncated, _ = self.env.step(action)
        return action, bool(terminated or truncated)


def _cache_file(folder: str | os.PathLike[str] | None, about: dict[str, Any]) -> Path:
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "rl-unsup-sandbox" / "atari"
    seen = "x".join(map(str, about["shape"]))
    return Path(folder) / "{game}-n{n}-skip{frame_skip}-{seen}-seed{seed}-ale{ale_py}.npz".format(seen=seen, **about)


def _free_memory() -> float:
    """Bytes that can still be had, as far as the system tells."""
    free = math.inf
    with suppress(OSError, ValueError, AttributeError):  # a system without these names
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = min(free, 1024 * int(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # the limit of a container, where it is not "max"
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


@contextmanager
def _progress(label: str, n: int) -> Iterator[Callable[[int], None]]:
    """Give what to tell how many steps are done: a terminal shows a bar once two seconds have passed."""
    screen = Console(stderr=True)
    bar = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    task, began = bar.add_task(label, total=n), time.monotonic()

    def tell(done: int) -> None:
        if time.monotonic() - began > 2.0:
            bar.start()  # more than once is as good as once
            bar.update(task, completed=done)

    try:
        yield tell
    finally:
        bar.stop()
