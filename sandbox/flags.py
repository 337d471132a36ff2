"""Command-line flags from a signature: one for each parameter, read as its annotation says."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import yaml


class UsageError(Exception):
    """Something on the command line that can't be: one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse with errors in one line that name what is near."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse everything, or name the flags nearest to the first unknown one."""
        namespace, unknown = self.parse_known_args(argv)
        if unknown and unknown[0].startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = nearest(unknown[0].split("=")[0], flags)
            raise UsageError(f"unknown flag {unknown[0]}{near} (see `{self.prog} --help`)")
        if unknown:
            raise UsageError(f"{unknown[0]!r} is one word too many; see `{self.prog} --help`")
        return namespace


def nearest(word: str, known: Iterable[str]) -> str:
    """The known names nearest to a wrong one, as the end of a message.

    Examples
    --------
    >>> nearest("cartpol-v1", ["CartPole-v1", "Pendulum-v1"])
    ': did you mean CartPole-v1?'
    """
    by_lower = {name.lower(): name for name in known}
    found = [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    if found:
        return f": did you mean {' or '.join(found)}?"
    return f": known are {', '.join(by_lower.values())}" if len(by_lower) <= 16 else ""


def whole(text: str) -> int:
    """A whole number that is not negative, ``1e5`` included.

    Examples
    --------
    >>> whole("1e5")
    100000
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < 0 or value != value // 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(value)


def count(text: str) -> int:
    """A whole number of at least 1.

    Examples
    --------
    >>> count("3")
    3
    """
    with contextlib.suppress(argparse.ArgumentTypeError):
        if value := whole(text):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")


def read_yaml(text: str) -> Any:
    """A value in YAML, in which ``1e-3`` is a number (YAML 1.1, which PyYAML reads, takes it for a word).

    Raises
    ------
    ValueError
        If it is not YAML, or is nothing JSON could hold.

    Examples
    --------
    >>> read_yaml("{net_arch: [64, 64], log_std_init: -1e-3}")
    {'net_arch': [64, 64], 'log_std_init': -0.001}
    """

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): numbers(item) for key, item in value.items()}
        if isinstance(value, list):
            return [numbers(item) for item in value]
        if isinstance(value, str) and value[:1] in tuple("+-.0123456789"):
            with contextlib.suppress(ValueError):
                return float(value)
        return value

    try:
        value = numbers(yaml.safe_load(text))
        json.dumps(value)
    except (yaml.YAMLError, TypeError):
        raise ValueError(f"{text!r} can't be read") from None
    return value


def add_signature(
    parser: argparse.ArgumentParser, function: Callable[..., Any], title: str, skip: Iterable[str] = ()
) -> None:
    """Add a flag ``--like-this`` for each parameter ``like_this`` that has a default; what is not given is not set.

    A flag of ``true`` or ``false`` without a word after it is ``true``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    function : callable
    title : str
        Of the group of flags in the help.
    skip : iterable of str
        Parameters without a flag.

    Examples
    --------
    >>> def train(n_steps: int = 8, lr: float = 0.1, clip: float | None = None): ...
    >>> parser = Parser()
    >>> add_signature(parser, train, "settings")
    >>> parser.parse(["--n-steps", "16", "--clip", "null"])
    Namespace(n_steps=16, clip=None)
    """
    group = parser.add_argument_group(title)
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if name not in skip and parameter.default is not parameter.empty:
            default = "null" if parameter.default is None else parameter.default
            alone: dict[str, Any] = {"nargs": "?", "const": True} if bool in _members(parameter.annotation) else {}
            group.add_argument(
                f"--{name.rstrip('_').replace('_', '-')}",  # lambda_ is a parameter as lambda can't be one
                dest=name,
                type=_reader(parameter.annotation),
                default=argparse.SUPPRESS,
                metavar=_metavar(parameter.annotation),
                help=f"default {default}",
                **alone,
            )


def join_dotted(argv: Sequence[str]) -> list[str]:
    """Gather ``--policy-kwargs.net_arch X --policy-kwargs.y Z`` into ``--policy-kwargs '{net_arch: X, y: Z}'``.

    Examples
    --------
    >>> join_dotted(["--a", "1", "--kw.x", "[2]", "--kw.y.z=3"])
    ['--a', '1', '--kw={"x": [2], "y": {"z": 3}}']
    """
    plain: list[str] = []
    dotted: dict[str, dict[str, Any]] = {}
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        name, dot, key = flag.partition(".")
        if word.startswith("--") and dot:
            text = value if equals else next(words, None)
            if not text:
                raise UsageError(f"argument {flag}: expected one argument")
            try:
                *outer, last = key.split(".")
                place = dotted.setdefault(name, {})
                for part in outer:
                    place = place.setdefault(part, {})
                place[last] = read_yaml(text)
            except (ValueError, AttributeError, TypeError) as error:
                raise UsageError(f"argument {flag}: {error}") from None
        else:
            plain.append(word)
    return plain + [f"{name}={json.dumps(values)}" for name, values in dotted.items()]


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, generic ones by their origin: ``float | Callable[...]`` -> float, Callable."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(get_origin(member) or member for member in members)


def _is_schedule(members: tuple[Any, ...]) -> bool:
    return Callable in members and float in members


def _metavar(annotation: Any) -> str:
    members = _members(annotation)
    if _is_schedule(members):
        return "SCHEDULE"
    if {str, dict} <= set(members):
        return "NAME|MAPPING"
    for kind, name in (
        (bool, "true|false"),
        (int, "INT"),
        (float, "FLOAT"),
        (tuple, "[INT, ...]"),
        (dict, "MAPPING"),
    ):
        if kind in members:
            return name
    return "VALUE"


def _reader(annotation: Any) -> Callable[[str], Any]:
    members = _members(annotation)
    is_schedule = _is_schedule(members)

    def read(text: str) -> Any:
        if text == "null" and NoneType in members:
            return None
        try:
            if annotation is inspect.Parameter.empty:  # whatever it looks like
                return read_yaml(text)
            if is_schedule:
                from sandbox.training.schedules import parse

                return value if isinstance(value := parse(text), float) else text
            if bool in members:
                return {"true": True, "false": False}[text.lower()]
            if float in members:
                return float(text)
            if int in members:
                return int(text) if text.lstrip("-").isdigit() else whole(text)
            if tuple in members:
                return tuple(read_yaml(text))
            if dict in members:
                value = read_yaml(text)
                return text if str in members and isinstance(value, str) else dict(value.items())
        except (ValueError, TypeError, KeyError, AttributeError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentTypeError(
                str(error) if is_schedule else f"{text!r} is not {_metavar(annotation)}"
            ) from None
        return text

    return read
