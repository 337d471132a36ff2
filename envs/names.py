"""The table of ids: what each is made of. Imports none of it."""

import importlib.util
from pathlib import Path
from typing import Any

ENTRY_POINTS = {  # id: "module:Dynamics"; the faces are in the same module, called ...Env and ...VectorEnv
    "sandbox/Acrobot-v1": "envs.acrobot:Acrobot",
    "sandbox/Bicycle-v0": "envs.bicycle:Bicycle",
    "sandbox/BicycleGoal-v0": "envs.bicycle:BicycleGoal",
    "sandbox/CartPole-v1": "envs.cartpole:CartPole",
    "sandbox/CartPoleNoVel-v1": "envs.cartpole:CartPoleNoVel",
    "sandbox/Catch-v0": "envs.pixel:Catch",
    "sandbox/MountainCar-v0": "envs.mountain_car:MountainCar",
    "sandbox/MountainCarContinuous-v0": "envs.mountain_car:MountainCarContinuous",
    "sandbox/Pendulum-v1": "envs.pendulum:Pendulum",
    "sandbox/PixelCartPole-v0": "envs.pixel:PixelCartPole",
    "sandbox/ProbeAction-v0": "envs.probe:ProbeAction",
    "sandbox/ProbeChain-v0": "envs.value_probe:ProbeChain",
    "sandbox/ProbeConstant-v0": "envs.probe:ProbeConstant",
    "sandbox/ProbeDelay-v0": "envs.value_probe:ProbeDelay",
    "sandbox/ProbeDiscount-v0": "envs.probe:ProbeDiscount",
    "sandbox/ProbeManyActions-v0": "envs.value_probe:ProbeManyActions",
    "sandbox/ProbeObservation-v0": "envs.probe:ProbeObservation",
    "sandbox/ProbeOverestimation-v0": "envs.value_probe:ProbeOverestimation",
    "sandbox/ProbePolicy-v0": "envs.probe:ProbePolicy",
    "sandbox/ProbeRare-v0": "envs.value_probe:ProbeRare",
    "sandbox/ProbeTruncation-v0": "envs.probe:ProbeTruncation",
    "sandbox/ProbeTwoValued-v0": "envs.value_probe:ProbeTwoValued",
}

IDS = tuple(sorted(ENTRY_POINTS))

PROTOCOLS: dict[str, dict[str, Any]] = {  # of Atari games: settings of `envs.atari.AtariEnv`
    "baselines": {},
    "machado": {"sticky": 0.25, "noop_max": 0, "episodic_life": False},
}
FOR_TWO = {"combat", "joust", "maze_craze", "warlords"}  # ale-py plays these with two players only


def atari_games() -> dict[str, str]:
    """The games that come with ale-py, each with the name of its ROM; none if it is not installed.

    Examples
    --------
    >>> atari_games().get("MsPacman", "ms_pacman")
    'ms_pacman'
    """
    found = importlib.util.find_spec("ale_py")
    folders = list(found.submodule_search_locations or ()) if found else []
    roms = sorted(path.stem for folder in folders for path in Path(folder, "roms").glob("*.bin"))
    return {rom.title().replace("_", ""): rom for rom in roms if rom not in FOR_TWO}
