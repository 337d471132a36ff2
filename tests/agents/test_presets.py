"""Presets: every one is accepted by its algorithm."""

import importlib
import inspect
from fnmatch import fnmatchcase

import pytest
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from agents import vecenv
from agents.presets import find, presets
from sandbox.cli import ALGORITHMS
from sandbox.training.schedules import parse

EVERY = {f"{preset.algorithm}-{preset.env}-{preset.name}": preset for preset in presets()}
BESIDE = {"env_id", "n_timesteps", "normalize", "greedy", "eval_every", "eval_episodes", "final_episodes", "film"}


def number(value):
    return parse(value) if isinstance(value, str) else value


@pytest.mark.parametrize("preset", EVERY.values(), ids=EVERY)
def test_its_settings_are_taken_by_the_constructor(preset):
    if preset.env.startswith("LunarLander"):
        pytest.importorskip("Box2D")
    pictures = preset.env.startswith(("baselines/", "machado/"))
    if pictures:
        pytest.importorskip("ale_py")
    module, name = ALGORITHMS[preset.algorithm].split(":")
    algorithm = getattr(importlib.import_module(module), name)
    settings = {key: value for key, value in preset.settings.items() if key not in BESIDE}
    assert set(settings) <= set(inspect.signature(algorithm).parameters)
    env_id = preset.settings.get("env_id", preset.env.replace("*", "Pong"))
    for key in ("learning_rate", "clip_range"):
        if key in settings:
            settings[key] = number(settings[key])
    envs = vecenv.make(env_id, settings.pop("n_envs"))
    if normalize := preset.settings.get("normalize"):
        envs = VecNormalize(envs, **(normalize if isinstance(normalize, dict) else {}))
    model = algorithm("CnnPolicy" if pictures else "MlpPolicy", envs, device="cpu", **settings)
    assert model.fast_path
    by_torch = pictures or settings.get("noisy")
    assert model.fast_path.kind == ("autograd" if by_torch else "by hand") or model.use_sde
    assert fnmatchcase(vecenv.spec(env_id).id.split("/")[-1], preset.env.split("/")[-1])
    if isinstance(model, OffPolicyAlgorithm):
        assert model.learning_starts < preset.settings["n_timesteps"]
        return
    # A minibatch cut short at each epoch's end would be a slip.
    assert model.n_steps * model.n_envs % getattr(model, "batch_size", 1) == 0


@pytest.mark.parametrize("preset", EVERY.values(), ids=EVERY)
def test_it_says_what_it_is_and_how_long_it_trains(preset):
    assert len(preset.about) > 20
    assert preset.settings["n_timesteps"] > 0


def test_every_environment_has_one_called_debug():
    has = {(preset.algorithm, preset.env) for preset in presets()}
    assert has == {(preset.algorithm, preset.env) for preset in presets() if preset.name == "debug"}


def test_ppos_presets_are_taken_where_no_algorithm_is_named():
    for env in {preset.env for preset in presets() if preset.algorithm == "ppo"}:
        assert {preset.algorithm for preset in find(env).values()} == {"ppo"}


def test_find_gives_the_default_first_and_knows_both_names():
    assert list(find("CartPole-v1"))[0] == "fast"  # noqa: RUF015
    assert find("sandbox/CartPole-v1") == find("CartPole-v1") == find("CartPole-v1", "ppo")
    assert find("NoSuch-v0") == {}
    assert find("CartPole-v1", "nothing") == {}
