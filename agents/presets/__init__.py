"""Presets: tuned settings by environment, each a named overlay that says what it reached and in how long.

They are the YAML files beside this module, one for each algorithm, and load neither torch nor Stable-Baselines3.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Preset:
    """Settings for one algorithm in one environment.

    Attributes
    ----------
    algorithm, env, name : str
        Such as ``ppo``, ``CartPole-v1``, ``fast``; `env` may be a pattern, such as ``baselines/*-v0``.
    about : str
        Where the settings come from, what they reached and in how long.
    settings : dict
        Arguments of the algorithm's constructor, in the text form of the command line, and beside them ``env_id`` (an
        environment that steps equal to the named one, but faster), ``n_timesteps``, ``normalize`` (true, or a
        mapping of the arguments of Stable-Baselines3's ``VecNormalize``), ``greedy`` (whether evaluations take the
        likeliest action), ``eval_every``, ``eval_episodes`` and ``final_episodes``.
    """

    algorithm: str
    env: str
    name: str
    about: str
    settings: dict[str, Any]


@cache
def presets() -> tuple[Preset, ...]:
    """All presets; the first of an environment is its default.

    Examples
    --------
    >>> [preset.name for preset in presets() if (preset.algorithm, preset.env) == ("ppo", "CartPole-v1")]
    ['fast', 'rl-zoo', 'debug']
    """
    found = []
    # PPO's first: they are taken where no algorithm is named.
    for path in sorted(Path(__file__).parent.glob("*.yml"), key=lambda path: (path.stem != "ppo", path.stem)):
        for env, overlays in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            for name, overlay in overlays.items():
                settings = {key: value for key, value in overlay.items() if key != "about"}
                found.append(Preset(path.stem, env, name, " ".join(overlay["about"].split()), settings))
    return tuple(found)


def find(env_id: str, algorithm: str | None = None) -> dict[str, Preset]:
    """The presets for an environment by name, the default first; of one algorithm, or of the first that has any.

    ``sandbox/CartPole-v1`` has those of ``CartPole-v1``: the two step equally.

    Examples
    --------
    >>> find("sandbox/CartPole-v1")["rl-zoo"].settings["n_epochs"]
    20
    """
    fitting = [
        p
        for p in presets()
        if any(fnmatchcase(name, p.env) for name in (env_id, env_id.removeprefix("sandbox/")))
        and algorithm in (None, p.algorithm)
    ]
    return {p.name: p for p in fitting if p.algorithm == fitting[0].algorithm}
