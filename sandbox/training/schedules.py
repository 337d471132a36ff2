"""Schedules: a value as a function of what is left of training, from 1 at the start to 0 at the end.

A last rollout may go beyond the end: what is left is then below 0, and the value stays what it is at 0.

Each is a small frozen dataclass, so it pickles, compares and prints itself. `parse` reads the short text form that the
command line and the presets use: ``lin_1e-3`` falls from 1e-3 to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """The same value throughout.

    Examples
    --------
    >>> Constant(0.2)(0.7)
    0.2
    """

    value: float

    def __call__(self, progress_remaining: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line.

    Examples
    --------
    >>> Linear(1e-3)(0.5)
    0.0005
    """

    start: float
    end: float = 0.0

    def __call__(self, progress_remaining: float) -> float:
        return self.end + (self.start - self.end) * max(progress_remaining, 0.0)


@dataclass(frozen=True)
class Step:
    """`start`, multiplied by `factor` each time another ``1/n_steps`` of training is done.

    Examples
    --------
    >>> [Step(1.0, factor=0.5, n_steps=2)(p) for p in (1.0, 0.6, 0.4)]
    [1.0, 1.0, 0.5]
    """

    start: float
    factor: float = 0.1
    n_steps: int = 3

    def __call__(self, progress_remaining: float) -> float:
        done = min(int((1.0 - progress_remaining) * self.n_steps), self.n_steps - 1)
        return self.start * self.factor**done


@dataclass(frozen=True)
class Exponential:
    """From `start` to `end` by the same factor each step.

    Examples
    --------
    >>> round(Exponential(1e-2, 1e-4)(0.5), 6)
    0.001
    """

    start: float
    end: float

    def __call__(self, progress_remaining: float) -> float:
        return self.end * (self.start / self.end) ** max(progress_remaining, 0.0)


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine (Loshchilov & Hutter, 1608.03983).

    Examples
    --------
    >>> round(Cosine(1.0)(0.5), 6)
    0.5
    """

    start: float
    end: float = 0.0

    def __call__(self, progress_remaining: float) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1.0 - math.cos(math.pi * max(progress_remaining, 0.0)))


@dataclass(frozen=True)
class Warmup:
    """Another schedule, scaled up from 0 during the first `fraction` of training.

    Examples
    --------
    >>> [Warmup(Constant(1.0), fraction=0.1)(p) for p in (1.0, 0.95, 0.5)]
    [0.0, 0.5, 1.0]
    """

    schedule: Callable[[float], float]
    fraction: float = 0.1

    def __call__(self, progress_remaining: float) -> float:
        done = 1.0 - progress_remaining
        return self.schedule(progress_remaining) * min(round(done / self.fraction, 9), 1.0)


SHORT_FORMS: dict[str, Callable[[float], Linear | Cosine | Step | Exponential]] = {
    "lin": Linear,
    "cos": Cosine,
    "step": Step,
    "exp": lambda start: Exponential(start, start / 100),
}


def as_schedule(value: float | str | Callable[[float], float]) -> Callable[[float], float]:
    """What a number, a text that `parse` reads, or a schedule stands for.

    Examples
    --------
    >>> as_schedule("lin_1e-3"), as_schedule(3e-4)
    (Linear(start=0.001, end=0.0), Constant(value=0.0003))
    """
    read = parse(value) if isinstance(value, str) else value
    return read if callable(read) else Constant(float(read))


def parse(text: str) -> float | Linear | Cosine | Step | Exponential:
    """Read a number, or a schedule in its short form.

    Parameters
    ----------
    text : str
        ``"3e-4"``, or ``"lin_3e-4"``, ``"cos_3e-4"``, ``"step_3e-4"``, ``"exp_3e-4"`` (to a hundredth).

    Returns
    -------
    float or schedule

    Raises
    ------
    ValueError
        If the text is neither.

    Examples
    --------
    >>> parse("3e-4")
    0.0003
    >>> parse("lin_1e-3")
    Linear(start=0.001, end=0.0)
    """
    kind, separator, value = text.rpartition("_")
    try:
        return SHORT_FORMS[kind](float(value)) if separator else float(value)
    except (KeyError, ValueError):
        forms = ", ".join(f"{name}_1e-3" for name in SHORT_FORMS)
        raise ValueError(f"{text!r} is neither a number nor a schedule such as {forms}") from None
