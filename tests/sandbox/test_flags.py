"""Flags from a signature: what is read, and what an error says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.flags import Parser, UsageError, add_signature, count, join_dotted, nearest


class Thing:
    def __init__(
        self,
        needed,
        n_steps: int = 8,
        seed: int | None = None,
        gamma: float = 0.99,
        target_kl: float | None = None,
        learning_rate: float | Callable[[float], float] = 3e-4,
        clip_range_vf: float | Callable[[float], float] | None = None,
        normalize: bool = True,
        policy_kwargs: dict[str, Any] | None = None,
        encoder: str | Path | None = None,
        device: str = "auto",
        hidden: int = 1,
    ): ...


def read(*argv):
    parser = Parser(prog="sandbox thing")
    add_signature(parser, Thing.__init__, "settings", skip=("hidden",))
    return vars(parser.parse(join_dotted(argv)))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["--n-steps", "16"], {"n_steps": 16}),
        (["--n-steps", "1e5"], {"n_steps": 100_000}),
        (["--n-steps=-1"], {"n_steps": -1}),
        (["--seed", "null"], {"seed": None}),
        (["--gamma", "0.9"], {"gamma": 0.9}),
        (["--gamma", "1e-3"], {"gamma": 1e-3}),
        (["--gamma", "1"], {"gamma": 1.0}),
        (["--target-kl", "null"], {"target_kl": None}),
        (["--target-kl", "0.1"], {"target_kl": 0.1}),
        (["--learning-rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--learning-rate", "lin_1e-3"], {"learning_rate": "lin_1e-3"}),
        (["--clip-range-vf", "null"], {"clip_range_vf": None}),
        (["--clip-range-vf", "cos_0.2"], {"clip_range_vf": "cos_0.2"}),
        (["--normalize", "false"], {"normalize": False}),
        (["--normalize", "True"], {"normalize": True}),
        (["--normalize"], {"normalize": True}),
        (["--normalize", "--n-steps", "2"], {"normalize": True, "n_steps": 2}),
        (["--policy-kwargs", "{net_arch: [8, 8]}"], {"policy_kwargs": {"net_arch": [8, 8]}}),
        (["--policy-kwargs", "null"], {"policy_kwargs": None}),
        (["--encoder", "mlp"], {"encoder": "mlp"}),
        (["--encoder", "null"], {"encoder": None}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--policy-kwargs.net_arch", "[8]"], {"policy_kwargs": {"net_arch": [8]}}),
        (["--policy-kwargs.a=1", "--n-steps", "2", "--policy-kwargs.b", "x"],
         {"policy_kwargs": {"a": 1, "b": "x"}, "n_steps": 2}),
        (["--policy-kwargs.log_std_init", "1e-3"], {"policy_kwargs": {"log_std_init": 1e-3}}),
        (["--policy-kwargs", "{log_std_init: 1e-3}"], {"policy_kwargs": {"log_std_init": 1e-3}}),
        (["--policy-kwargs.net_arch", "{pi: [8], vf: [16]}"], {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}}}),
        (["--policy-kwargs.flag", "true"], {"policy_kwargs": {"flag": True}}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_value_is_read_as_its_annotation_says(argv, expected):
    found = read(*argv)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--n-steps", "many"], ["--n-steps", "'many'", "INT"]),
        (["--n-steps", "1.5"], ["--n-steps", "'1.5'", "INT"]),
        (["--n-steps", "null"], ["--n-steps", "'null'", "INT"]),
        (["--gamma", "high"], ["--gamma", "'high'", "FLOAT"]),
        (["--gamma", "null"], ["--gamma", "'null'", "FLOAT"]),
        (["--learning-rate", "tri_1"], ["--learning-rate", "'tri_1'", "number", "lin_1e-3"]),
        (["--normalize", "yes"], ["--normalize", "'yes'", "true|false"]),
        (["--policy-kwargs", "[1]"], ["--policy-kwargs", "MAPPING"]),
        (["--policy-kwargs", "{a: ["], ["--policy-kwargs", "MAPPING"]),
        (["--policy-kwargs.net_arch", "[1,"], ["--policy-kwargs.net_arch", "[1,"]),
        (["--policy-kwargs.net_arch"], ["--policy-kwargs.net_arch"]),
        (["--policy-kwargs.when", "2020-01-01"], ["--policy-kwargs.when"]),
        (["--n-steps"], ["--n-steps", "expected one argument"]),
        (["--n-stepz", "3"], ["--n-stepz", "did you mean --n-steps"]),
        (["--n_steps", "3"], ["--n_steps", "did you mean --n-steps"]),
        (["--gama=3"], ["--gama", "did you mean --gamma"]),
        (["--n-st", "3"], ["--n-st"]),
        (["--hidden", "3"], ["--hidden"]),
        (["--needed", "3"], ["--needed"]),
        (["--polcy-kwargs.a", "3"], ["--polcy-kwargs", "did you mean --policy-kwargs"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_error_is_one_line_that_names_the_flag_and_what_would_be_right(argv, words):
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_the_real_algorithms_flags_are_read_with_the_right_types():
    """SB3's annotations are strings and unions: each must still be understood."""
    from agents import PPO
    from sandbox.cli import NOT_FLAGS

    parser = Parser()
    add_signature(parser, PPO.__init__, "settings", skip=NOT_FLAGS)
    text = parser.format_help()
    for flag, kind in {
        "--learning-rate": "SCHEDULE", "--n-steps": "INT", "--gamma": "FLOAT", "--clip-range-vf": "SCHEDULE",
        "--normalize-advantage": "[true|false]", "--target-kl": "FLOAT", "--policy-kwargs": "MAPPING",
    }.items():  # fmt: skip
        assert f"{flag} {kind}" in text
    assert "--verbose" not in text
    assert "VALUE" in text


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1e5", 100_000), ("2.0", 2)])
def test_a_count_is_a_positive_whole_number(text, value):
    assert count(text) == value
    assert type(count(text)) is int


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e-3", "many", "", "nan", "inf"])
def test_other_counts_are_refused(text):
    parser = Parser()
    parser.add_argument("--n", type=count)
    with pytest.raises(UsageError, match=r"argument --n: .*(whole number|at least 1)"):
        parser.parse(["--n", text])


def test_nearest_names_what_is_near_lists_what_is_few_and_is_silent_where_all_are_many():
    assert nearest("cartpol", ["CartPole", "Pendulum"]) == ": did you mean CartPole?"
    assert nearest("zzz", ["a", "b"]) == ": known are a, b"
    assert nearest("zzz", [str(i) for i in range(100)]) == ""


def test_a_parameter_without_an_annotation_is_what_its_value_looks_like():
    def fit(self, n_init="auto", tol=1e-4, size=None): ...

    parser = Parser()
    add_signature(parser, fit, "settings")
    read = vars(parser.parse(["--n-init", "3", "--tol", "1e-3", "--size", "null"]))
    assert read == {"n_init": 3, "tol": 0.001, "size": None}
    assert vars(parser.parse(["--n-init", "auto"])) == {"n_init": "auto"}


def test_a_callable_that_is_no_number_is_no_schedule():
    def fit(init: str | Callable[..., Any] = "k-means++"): ...

    parser = Parser()
    add_signature(parser, fit, "settings")
    assert vars(parser.parse(["--init", "random"])) == {"init": "random"}


def test_several_numbers_and_one_or_a_tuple():
    def make(levels: tuple[int, ...] = (8, 5), every: int | tuple[int, str] = 4): ...

    parser = Parser()
    add_signature(parser, make, "settings")
    assert vars(parser.parse(["--levels", "[4, 4, 2]", "--every", "64"])) == {"levels": (4, 4, 2), "every": 64}
    with pytest.raises(UsageError, match=r"'4' is not \[INT, \.\.\.\]"):
        parser.parse(["--levels", "4"])
