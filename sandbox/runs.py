"""A run is a folder: what was asked for, what happened, and the agent, in files that open without running code.

========================  ==========================================================================
``config.yml``            everything that made the run, resolved: ``train --resume`` needs no more
``command.txt``           the command line
``versions.json``         of Python and the libraries, and the machine
``metrics.csv``           one row for each log entry
``model/``                the agent as it is now, and what it sees by (``encoder.safetensors``)
``best/``                 the agent at its best evaluation
``checkpoints/``          the last ones, by step
``evaluation.json``       the closing evaluation, every return
``learning_curve.png``    return against steps
``episode.gif``           one episode of the trained agent
========================  ==========================================================================
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sandbox.data.names import SOURCES
from sandbox.training.checkpoint import FileError, write_text

LIBRARIES = ("rl-unsup-sandbox", "torch", "numpy", "gymnasium", "stable-baselines3", "scikit-learn")
AGENT = "agent.safetensors"
KINDS = {
    "algorithm": str,
    "env": str,
    "env_id": str,
    "seed": int,
    "n_timesteps": int,
    "n_envs": int,
    "eval_every": int,
    "eval_episodes": int,
    "settings": dict,
}


class Run:
    """The folder of one run: a training, or a clustering.

    Attributes
    ----------
    folder : Path
    config : dict
        ``algorithm``, ``env`` or ``data``, ``settings`` and what else made the run.
    """

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder, self.config = folder, config

    @classmethod
    def create(cls, root: Path, config: dict[str, Any], command: Sequence[str], stem: str | None = None) -> Run:
        """Make the next free folder ``root/<algorithm>/<env>_<n>``, or with another stem than the environment."""
        parent = root / config["algorithm"]
        parent.mkdir(parents=True, exist_ok=True)
        stem, n = (config["env"] if stem is None else stem).replace("/", "-").replace(":", "-"), 1
        while True:
            folder = parent / f"{stem}_{n}"
            try:
                folder.mkdir()
                break
            except FileExistsError:  # an earlier run, or one that another process has just begun
                n += 1
        run = cls(folder, config)
        run.write_config()
        write_text(folder / "command.txt", shlex.join(command) + "\n")
        write_text(folder / "versions.json", json.dumps(_versions(), indent=2) + "\n")
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run's folder.

        Raises
        ------
        FileError
            If it is no such folder, or its configuration is damaged.
        """
        folder = Path(folder)
        path = folder / "config.yml"
        if not path.is_file():
            raise FileError(f"{folder}: not a run: a run is a folder with a config.yml, as `sandbox train` makes it")
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FileError(f"{path}: damaged: {' '.join(str(error).split())}") from error
        if not isinstance(config, dict):
            raise FileError(f"{path}: damaged, or not the configuration of a training run")
        if "data" in config and "env" not in config:
            what = "a clustering, not an agent; open it with sandbox.cluster.load"
            if "k" not in config:
                what = "an estimator, not an agent; open it with sandbox.fit.load"
            raise FileError(f"{folder}: {what}")
        for key, kind in KINDS.items():
            if type(config.get(key)) is not kind:
                raise FileError(f"{path}: damaged: {key} should be of type {kind.__name__}, not {config.get(key)!r}")
            if kind is int and config[key] < (key in ("n_envs", "n_timesteps", "eval_episodes")):
                raise FileError(f"{path}: damaged: {key} can't be {config[key]}")
        if not isinstance(config.get("normalize", False), bool | dict):  # the first runs have none
            raise FileError(f"{path}: damaged: normalize should be true, false or a mapping")
        return cls(folder, config)

    def write_config(self) -> None:
        """Write the configuration as it is now."""
        write_text(self.folder / "config.yml", yaml.safe_dump(self.config, sort_keys=False))

    @property
    def model(self) -> Path:
        """The agent's file."""
        return self.folder / "model" / AGENT

    @property
    def best(self) -> Path:
        """The file of the agent at its best evaluation."""
        return self.folder / "best" / AGENT

    @property
    def metrics(self) -> Path:
        """The table of metrics."""
        return self.folder / "metrics.csv"

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of `step` goes."""
        return self.folder / "checkpoints" / f"step_{step:012d}.safetensors"

    def prune(self, keep: int = 2) -> None:
        """Leave only the latest checkpoints."""
        for old in self.checkpoints()[keep:]:
            old.unlink(missing_ok=True)

    def checkpoints(self) -> list[Path]:
        """The checkpoints there are, the latest first."""
        return sorted((self.folder / "checkpoints").glob("step_*.safetensors"), reverse=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[library] = "not installed"
    return versions


def write_evaluation(path: Path, returns: np.ndarray, lengths: np.ndarray) -> None:
    """Keep every return of the closing evaluation."""
    record = {"mean_return": float(returns.mean()), "returns": returns.tolist(), "lengths": lengths.tolist()}
    write_text(path, json.dumps(record) + "\n")


def write_seeds(
    path: Path, runs: dict[int, Run], returns: dict[int, np.ndarray], iqm: tuple[float, float, float]
) -> None:
    """Keep what runs that differ in their seed have reached: every return, and the interquartile mean over the seeds.

    Parameters
    ----------
    path : Path
        Of the JSON file.
    runs : dict of int to Run
        By seed.
    returns : dict of int to [n_episodes] floats
        Of each seed's closing evaluation.
    iqm : (mean, low, high)
        The interquartile mean of the seeds' mean returns, and its 95 % interval.
    """
    shared = next(iter(runs.values())).config
    record = {
        **{key: shared.get(key) for key in ("algorithm", "env", "env_id", "preset", "n_timesteps")},
        "interquartile_mean": iqm[0],
        "interval": list(iqm[1:]),
        "seeds": [
            {
                "seed": seed,
                "folder": run.folder.name,
                "mean_return": float(returns[seed].mean()),
                "returns": returns[seed].tolist(),
            }
            for seed, run in runs.items()
        ],
    }
    write_text(path, json.dumps(record) + "\n")


@contextmanager
def new_run(root: Path, config: dict[str, Any], command: Sequence[str]) -> Iterator[Run]:
    """The folder of a run on some data, which is gone again if the block fails."""
    made = [place for place in (root / config["algorithm"], root) if not place.exists()]
    run = Run.create(root, config, command, stem=stem_of(config["data"]))
    try:
        yield run
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)
        with suppress(OSError):  # another run has begun there
            for place in made:
                place.rmdir()
        raise


def stem_of(data: str) -> str:
    """What a run on some data is called: the data set's name, or the file's.

    Examples
    --------
    >>> stem_of("atari:Pong"), stem_of("some/table.csv"), stem_of("two.npz:first")
    ('atari:Pong', 'table', 'two-first')
    """
    name, _, array = data.rpartition(":") if ".npz:" in data.lower() else (data, "", "")
    if name in SOURCES or name.startswith(("atari:", "env:")):
        return name
    stem = Path(name).resolve().stem or "root"
    return f"{stem}-{array}" if array else stem


def plain_numbers(value: Any) -> Any:
    """The same, with None for what is no number, and Python's numbers for numpy's: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: plain_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
