"""Schedules: numbers by hand, and the text form there and back."""

import math
import pickle

import pytest

from sandbox.training.schedules import Constant, Cosine, Exponential, Linear, Step, Warmup, parse

ALL = [Constant(0.2), Linear(1e-3), Linear(3.0, 1.0), Step(1.0), Exponential(1e-2, 1e-4), Cosine(1.0, 0.2)]


@pytest.mark.parametrize(
    ("schedule", "start", "half", "end"),
    [
        (Constant(0.2), 0.2, 0.2, 0.2),
        (Linear(1e-3), 1e-3, 5e-4, 0.0),
        (Linear(3.0, 1.0), 3.0, 2.0, 1.0),
        (Step(1.0), 1.0, 0.1, 0.01),  # three steps by default: at a half the second of them
        (Step(8.0, factor=0.5, n_steps=4), 8.0, 2.0, 1.0),
        (Exponential(1e-2, 1e-4), 1e-2, 1e-3, 1e-4),
        (Cosine(1.0), 1.0, 0.5, 0.0),
        (Cosine(1.0, 0.2), 1.0, 0.6, 0.2),
    ],
    ids=repr,
)
def test_at_the_start_half_way_and_at_the_end(schedule, start, half, end):
    assert [schedule(p) for p in (1.0, 0.5, 0.0)] == pytest.approx([start, half, end], abs=1e-12)


def test_the_cosine_is_flat_at_both_ends_and_not_a_line():
    assert Cosine(1.0)(0.75) == pytest.approx(0.5 + 0.25 * math.sqrt(2))
    assert Cosine(1.0)(0.25) == pytest.approx(0.5 - 0.25 * math.sqrt(2))


def test_steps_come_after_each_equal_part():
    schedule = Step(1.0, factor=0.5, n_steps=4)
    assert [schedule(p) for p in (0.76, 0.74, 0.51, 0.49, 0.26, 0.24, 0.0)] == [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_a_warmup_rises_from_zero_and_then_is_its_schedule():
    schedule = Warmup(Linear(1.0), fraction=0.2)
    assert schedule(1.0) == 0.0
    assert schedule(0.9) == pytest.approx(0.9 * 0.5)
    assert schedule(0.8) == pytest.approx(0.8)
    assert schedule(0.3) == pytest.approx(0.3)
    assert schedule(0.0) == 0.0


@pytest.mark.parametrize("schedule", [*ALL, Warmup(Cosine(1.0))], ids=repr)
def test_a_schedule_pickles_compares_and_prints_itself(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert again(0.3) == schedule(0.3)
    assert eval(repr(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1", 1.0),
        ("lin_1e-3", Linear(1e-3)),
        ("cos_0.5", Cosine(0.5)),
        ("step_2", Step(2.0)),
    ],
)
def test_text_is_read(text, value):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


@pytest.mark.parametrize("text", ["", "fast", "lin_", "_1e-3", "lin_fast", "tri_1e-3", "lin-1e-3", "lin_1e-3_2"])
def test_other_text_is_refused_with_what_would_be_right(text):
    with pytest.raises(ValueError, match=r"neither a number nor a schedule such as lin_1e-3, cos_1e-3, step_1e-3") as e:
        parse(text)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize(
    "schedule",
    [Linear(1.0), Linear(1.0, 0.5), Cosine(1.0), Step(1.0), Exponential(1.0, 0.1), Warmup(Linear(1.0))],
    ids=repr,
)
def test_beyond_the_end_the_value_stays(schedule):
    assert schedule(-0.024) == schedule(0.0)
