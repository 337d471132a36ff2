"""``sandbox probe``: what the features of a run's encoder are worth, beside controls; as tables, numbers and a picture.

===============  =======================================================================================
``probe.json``   of data with labels what `unsupervised.evaluate.judge` and `few_labels` found, of a game `judge_ram`
``probe.png``    the same as bars, the encoder beside its controls
===============  =======================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sandbox import fit, zoo
from sandbox.probe_plots import plot_judgement, plot_ram
from sandbox.runs import Run, plain_numbers
from sandbox.training.checkpoint import FileError, write_text
from sandbox.training.log import ProgressLine
from unsupervised.evaluate import FewLabels, Judgement, RamJudgement, few_labels, judge, judge_ram

__all__ = ["agent_for", "next_steps", "probe"]

LEARNED = 10_000  # labelled samples to learn from, unless a number is asked for
ANEW = 1_000  # added to a run's seed: the games that an encoder is judged on are none that it learned from
GAMES = 5  # of which whole ones are held out; of fewer, blocks of frames
ROWS, SCORES, COLUMNS = 5, 18, 3  # of the three tables


def next_steps(run: Run) -> list[str]:
    """The commands that go on from an encoder: its judgement, and an agent, if it can be one's eyes."""
    summary = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
    data = "" if summary["known"] else " --data DATA   (of samples like these with labels: these have none)"
    steps = [f"sandbox probe {run.folder}{data}"]
    if env := agent_for(run):
        steps.append(f"sandbox train ppo {env} --encoder {run.folder} --freeze-encoder true")
    return steps


def agent_for(run: Run) -> str:
    """The environment whose observations are what the encoder of a run takes, or nothing.

    Examples
    --------
    >>> agent_for(Run(Path("no/such"), {"data": "digits"}))
    ''
    """
    kind, _, name = run.config["data"].partition(":")
    if kind not in ("atari", "env"):
        return ""
    shape = tuple(zoo.load(run.folder).in_shape)
    if kind == "atari":
        return f"baselines/{name}-v0" if shape == (4, 84, 84) else ""
    from agents.vecenv import make

    env: Any = make(name, 1)
    seen = tuple(env.observation_space.shape)
    env.close()
    return name if shape in (seen, (*seen[2:], *seen[:2])) else ""  # agents, too, put the colours of a picture first


def probe(folder: Path, data: str | None = None, n: int | None = None) -> list[Judgement | FewLabels | RamJudgement]:
    """Judge the encoder of a run, and leave ``probe.json`` and ``probe.png`` in its folder.

    On the run's own data the samples that it held out are held out again; games are played anew, so that no frame has
    been learned from.

    Parameters
    ----------
    folder : Path
        With a ``config.yml`` and an encoder, as `sandbox pretrain` makes it.
    data : str, optional
        By default what the run learned from.
    n : int, optional
        Labelled samples to learn from (10,000 at most by default), or frames of a game (4,000).

    Returns
    -------
    list
        What was found; print each for a table.

    Raises
    ------
    FileError, ValueError
        If it is no such run, the data have neither labels nor a game's memory, or are of another shape than the encoder
        takes. One line.
    """
    config = _config(folder)
    encoder = zoo.load(folder)
    name = config.get("data") if data is None else data
    if name is None:
        raise FileError(f"{folder}: a run without data of its own: say what to judge it on, such as --data digits")
    own = config if name == config.get("data") else None
    seed, title = config.get("seed", 0), f"{config.get('algorithm')} on {config.get('data', config.get('env'))}"
    samples = _opened(name, own, n, seed, tuple(encoder.in_shape))
    if samples.memory is None and samples.y.ndim != 1:
        raise FileError(f"{name}: no labels to judge by: give --data digits, pictures in subfolders, or atari:<Game>")
    print(f"{title}: its encoder, judged on {name}: {samples}\n", flush=True)
    found: list[Any]
    if samples.memory is not None:
        starts = np.append(True, np.diff(np.asarray(samples.episodes)) > 0)
        several = starts if starts.sum() >= GAMES else None
        with ProgressLine("judging", COLUMNS, "columns", patience=2.0) as line:
            game, told = name.partition(":")[2], _onto(line, 0)
            found = [judge_ram(encoder, samples.X, samples.memory, game, starts=several, progress=told)]
        plot_ram(folder / "probe.png", found[0], title)
    else:
        X, y, split = _parts(samples, own, n or LEARNED, seed)
        with ProgressLine("judging", ROWS + SCORES, "steps", patience=2.0) as line:
            judged = judge(encoder, X, y, split=split, random_state=seed, progress=_onto(line, 0))
            few = few_labels(encoder, X, y, split=split, random_state=seed, progress=_onto(line, ROWS))
        found = [judged, few]
        plot_judgement(folder / "probe.png", judged, few, title)
    record = {"data": name, "seed": seed, **{type(one).__name__: _plain(one) for one in found}}
    write_text(folder / "probe.json", json.dumps(plain_numbers(record), indent=2) + "\n")
    return found


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yml"
    if not path.is_file():
        raise FileError(f"{folder}: not a run: a run is a folder with a config.yml, as `sandbox pretrain` makes it")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: damaged: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not isinstance(config.get("data", ""), str):
        raise FileError(f"{path}: damaged, or not the configuration of a run")
    return config


def _opened(name: str, own: dict[str, Any] | None, n: int | None, seed: int, in_shape: tuple[int, ...]) -> fit.Samples:
    """The run's samples as it had them; or others in the shape that the encoder takes, where they can be had in any."""
    how: dict[str, Any] = {key: own.get(key) for key in ("size", "grey", "stack")} if own else {}
    if own is None and len(in_shape) == 3 and (name.startswith("atari:") or Path(name).is_dir()):
        channels = in_shape[0]
        how = {"size": in_shape[1:], "grey": channels != 3}
        how |= {"stack": channels} if name.startswith("atari:") and channels not in (1, 3) else {}
    if how.get("size"):
        how["size"] = tuple(how["size"])  # the configuration has a list
    if name.startswith("atari:"):
        return fit.open_samples(name, n, **how, seed=seed + ANEW)
    return fit.open_samples(name, own.get("n") if own else None, **how)


def _parts(
    samples: fit.Samples, own: dict[str, Any] | None, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Samples and labels, up to `n` to learn from, and, of the run's own data, which rows it has held out."""
    mixed = np.random.default_rng(seed).permutation(len(samples))
    if own is None:
        some = mixed[: round(n / 0.8)]  # a fifth will be held out
        return samples.X[some], samples.y[some], None
    unseen = fit.held_out(len(samples), own)
    learned = mixed[~np.isin(mixed, unseen)][:n]
    some = np.concatenate([learned, unseen])
    return samples.X[some], samples.y[some], (np.arange(len(learned)), np.arange(len(learned), len(some)))


def _onto(line: ProgressLine, first: int) -> Callable[[int, int, str], None]:
    return lambda done, total, text: line.update(first + done, text)


def _plain(value: Any) -> Any:
    """The same as mappings, where it has named fields."""
    fields = value._asdict() if hasattr(value, "_asdict") else value
    return {name: _plain(one) for name, one in fields.items()} if isinstance(fields, dict) else value
