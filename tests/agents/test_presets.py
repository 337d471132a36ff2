"""Presets: every one is accepted by its algorithm."""

import inspect

import pytest

import agents
from agents.presets import find, presets
from agents.vecenv import spec
from sandbox.training.schedules import parse

EVERY = {f"{preset.algorithm}-{preset.env}-{preset.name}": preset for preset in presets()}
BESIDE = {"env_id", "n_timesteps"}


def number(value):
    return parse(value) if isinstance(value, str) else value


@pytest.mark.parametrize("preset", EVERY.values(), ids=EVERY)
def test_its_settings_are_taken_by_the_constructor(preset):
    algorithm = getattr(agents, preset.algorithm.upper())
    settings = {key: value for key, value in preset.settings.items() if key not in BESIDE}
    assert set(settings) <= set(inspect.signature(algorithm).parameters)
    env_id = preset.settings.get("env_id", preset.env)
    for key in ("learning_rate", "clip_range"):
        if key in settings:
            settings[key] = number(settings[key])
    model = algorithm("MlpPolicy", env_id, device="cpu", **settings)
    assert model.fast_path.kind == "by hand"
    assert spec(env_id).id.split("/")[-1] == preset.env.split("/")[-1]
    # A minibatch cut short at each epoch's end would be a slip.
    assert model.n_steps * model.n_envs % model.batch_size == 0


@pytest.mark.parametrize("preset", EVERY.values(), ids=EVERY)
def test_it_says_what_it_is_and_how_long_it_trains(preset):
    assert len(preset.about) > 20
    assert preset.settings["n_timesteps"] > 0


def test_every_environment_has_one_called_debug():
    assert {preset.env for preset in presets()} == {preset.env for preset in presets() if preset.name == "debug"}


def test_find_gives_the_default_first_and_knows_both_names():
    assert list(find("CartPole-v1"))[0] == "fast"  # noqa: RUF015
    assert find("sandbox/CartPole-v1") == find("CartPole-v1") == find("CartPole-v1", "ppo")
    assert find("NoSuch-v0") == {}
    assert find("CartPole-v1", "nothing") == {}
