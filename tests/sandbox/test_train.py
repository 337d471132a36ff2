"""Training runs from the command line: what they leave, how they go on, and what a crash cannot lose."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from PIL import Image

from agents import vecenv
from agents.checkpoint import load_agent
from agents.ppo import PPO
from sandbox import train as training
from sandbox import zoo
from sandbox.runs import Run
from sandbox.train import EVAL_SEED, build, load_latest, policy_for, record, trained
from sandbox.training.checkpoint import FileError, load_tensors
from sandbox.training.log import STEP, read_metrics

ENV = "sandbox/Catch-v0"
TINY = ["--n-timesteps", "512", "--n-envs", "4", "--n-steps", "16", "--batch-size", "32", "--n-epochs", "1"]
TINY += ["--eval-every", "0"]
PROGRAM = Path(sys.executable).with_name("sandbox")


def agent(path):
    return load_tensors(path, "sandbox.agent")


def fresh(run):
    """The run's agent, untrained."""
    return build(PPO, run.config, vecenv.make(run.config["env_id"], run.config["n_envs"]))


def steps(path):
    return agent(path)[0]["counters"]["num_timesteps"]


def is_picture(path, formats=("PNG", "GIF")):
    with Image.open(path) as image:
        image.load()
        return image.format in formats and min(image.size) > 4


# -- what a run leaves -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debug(tmp_path_factory):
    """`sandbox train CartPole-v1 --preset debug`, once, as a program."""
    folder = tmp_path_factory.mktemp("debug")
    done = subprocess.run(
        [PROGRAM, "train", "CartPole-v1", "--preset", "debug"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, folder / "runs" / "ppo" / "CartPole-v1_1"


def test_the_first_line_says_which_environment_is_used(debug):
    first = debug[0].stdout.splitlines()[0]
    assert "CartPole-v1 as sandbox/CartPole-v1" in first
    assert "debug" in first
    assert "seed 0" in first


def test_the_end_says_mean_interval_and_where_everything_is(debug):
    done, folder = debug
    result = json.loads((folder / "evaluation.json").read_text())
    mean, spread = np.mean(result["returns"]), 1.96 * np.std(result["returns"], ddof=1) / 10
    assert f"100 episodes: return {mean:.1f} ± {spread:.1f}" in done.stdout
    assert "runs/ppo/CartPole-v1_1" in done.stdout
    assert "sandbox watch runs/ppo/CartPole-v1_1" in done.stdout
    assert done.stderr == ""


def test_the_folder_has_everything_and_everything_is_valid(debug):
    _, folder = debug
    names = {"best", "command.txt", "config.yml", "episode.gif", "evaluation.json", "learning_curve.png", "metrics.csv"}
    assert {path.name for path in folder.iterdir()} - {"checkpoints"} == names | {"model", "versions.json"}
    assert is_picture(folder / "learning_curve.png")
    assert is_picture(folder / "episode.gif")
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert 0 < config.pop("eval_every") < 1024
    assert config == {
        "algorithm": "ppo", "env": "CartPole-v1", "env_id": "sandbox/CartPole-v1", "preset": "debug", "seed": 0,
        "n_timesteps": 1024, "n_envs": 4, "normalize": False, "eval_episodes": 20,
        "final_episodes": 100, "greedy": True, "film": 0,
        "settings": {"n_steps": 32, "batch_size": 64, "n_epochs": 2},
    }  # fmt: skip
    assert (folder / "command.txt").read_text() == "sandbox train CartPole-v1 --preset debug\n"
    versions = json.loads((folder / "versions.json").read_text())
    assert {"python", "torch", "numpy", "gymnasium", "stable-baselines3", "rl-unsup-sandbox"} <= set(versions)
    assert "not installed" not in versions.values()
    assert steps(folder / "model" / "agent.safetensors") == 1024
    assert not list(folder.rglob(".*"))  # no draft stays behind


def test_the_table_has_a_row_for_each_rollout_with_finite_numbers_under_sb3s_names(debug):
    _, folder = debug
    columns = read_metrics(folder / "metrics.csv")
    assert columns[STEP] == [128.0 * i for i in range(1, 9)]
    assert {"rollout/ep_rew_mean", "eval/mean_return", "time/fps", "train/approx_kl", "train/value_loss"} <= {*columns}
    assert np.isfinite(columns["eval/mean_return"]).sum() >= 4  # the preset evaluates a few times
    assert not np.isinf(columns["eval/mean_return"]).any()
    assert np.isfinite(columns["train/loss"][1:]).all()  # the first row is written before the first update
    assert np.isfinite(columns["rollout/ep_rew_mean"][-1])
    with open(folder / "metrics.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 9


def test_the_closing_evaluation_is_100_full_episodes(debug):
    result = json.loads((debug[1] / "evaluation.json").read_text())
    assert len(result["returns"]) == len(result["lengths"]) == 100
    assert result["returns"] == result["lengths"]  # CartPole earns one a step
    assert result["mean_return"] == pytest.approx(np.mean(result["returns"]))


def test_the_learning_curve_is_not_blank(debug):
    with Image.open(debug[1] / "learning_curve.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    coloured = (pixels.max(axis=1) - pixels.min(axis=1)) > 60
    assert coloured.sum() > 200


def test_two_runs_get_folders_of_their_own(cli, finished, snapshot):
    before = snapshot(finished.folder)
    assert cli("train", ENV, *TINY).code == 0
    assert (finished.folder.parent / "sandbox-Catch-v0_2" / "evaluation.json").exists()
    assert snapshot(finished.folder) == before


def test_the_same_seed_gives_the_same_agent_and_evaluation_and_another_seed_another(cli):
    for seed in (3, 3, 4):
        assert cli("train", ENV, *TINY, "--seed", seed).code == 0
    results, agents = [], []
    for n in (1, 2, 3):
        run = Run.open(f"runs/ppo/sandbox-Catch-v0_{n}")
        results.append((run.folder / "evaluation.json").read_bytes())
        agents.append(agent(run.model)[1]["policy.action_net.weight"].numpy())
    assert results[0] == results[1]
    assert np.array_equal(agents[0], agents[1])
    assert not np.array_equal(agents[0], agents[2])


def test_several_seeds_are_compared_in_words_and_a_picture(cli):
    done = cli("train", ENV, *TINY, "--seeds", 3, "--seed", 5)
    assert done.code == 0
    assert "3 seeds: interquartile mean" in done.out
    for n, seed in enumerate((5, 6, 7), 1):
        assert Run.open(f"runs/ppo/sandbox-Catch-v0_{n}").config["seed"] == seed
        assert f"seed {seed}: " in done.out
    picture = Path("runs/ppo/sandbox-Catch-v0_1_to_3_seeds.png")
    assert list(Path("runs/ppo").glob("*.png")) == [picture]
    assert str(picture) in done.out
    assert is_picture(picture)
    kept = json.loads(picture.with_suffix(".json").read_text())
    assert str(picture.with_suffix(".json")) in done.out
    low, high = kept["interval"]
    assert f"interquartile mean {kept['interquartile_mean']:.1f} [{low:.1f}, {high:.1f}]" in done.out
    for n, (seed, entry) in enumerate(zip((5, 6, 7), kept["seeds"], strict=True), 1):
        result = json.loads(Path(f"runs/ppo/sandbox-Catch-v0_{n}/evaluation.json").read_text())
        assert entry == {
            "seed": seed, "folder": f"sandbox-Catch-v0_{n}",
            "mean_return": result["mean_return"], "returns": result["returns"],
        }  # fmt: skip


def test_flags_go_over_the_preset(cli):
    argv = ["--preset", "debug", "--n-timesteps", "256", "--n-steps", "16", "--learning-rate", "lin_1e-3"]
    argv += ["--policy-kwargs.net_arch", "[8, 8]", "--eval-every", "0"]
    assert cli("train", "CartPole-v1", *argv).code == 0
    run = Run.open("runs/ppo/CartPole-v1_1")
    settings = run.config["settings"]
    assert settings["n_steps"] == 16
    assert settings["batch_size"] == 64  # the preset's
    assert settings["learning_rate"] == "lin_1e-3"
    model = trained(PPO, run)
    assert model.policy.net_arch == [8, 8]
    assert model.lr_schedule(1.0) == pytest.approx(1e-3)
    assert model.lr_schedule(0.5) == pytest.approx(5e-4)
    assert [tensor.shape[0] for name, tensor in model.policy.named_parameters() if "policy_net" in name] == [8] * 4


def test_a_flag_adds_to_the_mapping_of_a_preset(cli):
    argv = ["--preset", "fast", "--n-timesteps", "64", "--n-envs", "4", "--n-steps", "16", "--batch-size", "64"]
    assert cli("train", "CartPole-v1", *argv, "--policy-kwargs.net_arch", "[8]", "--eval-every", "0").code == 0
    run = Run.open("runs/ppo/CartPole-v1_1")
    assert run.config["settings"]["policy_kwargs"] == {"activation_fn": "relu", "net_arch": [8]}


def test_preset_none_is_the_algorithms_own_defaults_in_gymnasiums_own_environment(cli):
    argv = ["--preset", "none", "--n-timesteps", "64", "--n-envs", "2", "--n-steps", "32", "--eval-every", "0"]
    done = cli("train", "CartPole-v1", *argv)
    assert done.code == 0
    config = Run.open("runs/ppo/CartPole-v1_1").config
    assert config["env_id"] == "CartPole-v1"
    assert config["settings"] == {"n_steps": 32}
    assert " as sandbox/" not in done.out


def test_a_plain_gymnasium_id_without_a_preset(cli):
    argv = ["--n-timesteps", "64", "--n-envs", "2", "--n-steps", "32", "--batch-size", "64", "--eval-every", "0"]
    assert cli("train", "ppo", "FrozenLake-v1", *argv).code == 0
    run = Run.open("runs/ppo/FrozenLake-v1_1")
    assert run.config["preset"] == "none"
    assert is_picture(run.folder / "episode.gif")


def test_images_get_a_cnn(cli):
    argv = ["--n-timesteps", "32", "--n-envs", "2", "--n-steps", "16", "--batch-size", "32", "--n-epochs", "1"]
    assert cli("train", "sandbox/PixelCartPole-v0", *argv, "--eval-every", "0").code == 0
    run = Run.open("runs/ppo/sandbox-PixelCartPole-v0_1")
    assert any("features_extractor.cnn" in name for name in agent(run.model)[1])
    assert is_picture(run.folder / "episode.gif")


def test_the_policy_suits_the_observations():
    from gymnasium.spaces import Box, Dict, Discrete

    image = Box(0, 255, (1, 84, 84), np.uint8)
    assert policy_for(image) == "CnnPolicy"
    assert policy_for(Box(0, 255, (84, 84, 3), np.uint8)) == "CnnPolicy"
    assert policy_for(Box(-1, 1, (4,))) == "MlpPolicy"
    assert policy_for(Discrete(3)) == "MlpPolicy"
    assert policy_for(Dict({"a": image})) == "MultiInputPolicy"


def test_an_encoder_file_may_go_once_the_run_has_its_weights(cli, tmp_path):
    encoder = zoo.build("mlp", in_shape=(10, 5), widths=(12,))
    zoo.save(encoder, "eyes.safetensors")
    assert cli("train", ENV, *TINY, "--encoder", "eyes.safetensors", "--freeze-encoder", "true").code == 0
    Path("eyes.safetensors").unlink()
    run = Run.open("runs/ppo/sandbox-Catch-v0_1")
    seen = trained(PPO, run).policy.features_extractor.encoder
    pairs = zip(seen.parameters(), encoder.parameters(), strict=True)
    assert all(np.array_equal(a.detach(), b.detach()) for a, b in pairs)
    assert cli("eval", run.folder, "--episodes", "2").code == 0
    assert cli("train", "--resume", run.folder, "--n-timesteps", "600").code == 0


def test_an_encoder_by_its_name(cli):
    assert cli("train", ENV, *TINY, "--encoder", "mlp").code == 0
    assert cli("eval", "runs/ppo/sandbox-Catch-v0_1", "--episodes", "2").code == 0


def test_tensorboards_events_when_asked_for(cli):
    pytest.importorskip("tensorboard")
    assert cli("train", ENV, *TINY, "--tensorboard").code == 0
    assert list(Path("runs/ppo/sandbox-Catch-v0_1").rglob("events.out.tfevents*"))
    assert cli("train", ENV, *TINY).code == 0
    assert not list(Path("runs/ppo/sandbox-Catch-v0_2").rglob("events.out.tfevents*"))


def test_training_leaves_no_signal_handler_and_no_setting_behind(cli):
    import torch

    def state():
        return signal.getsignal(signal.SIGINT), torch.get_num_threads(), torch.distributions.Distribution._validate_args

    before = state()
    assert cli("train", ENV, *TINY).code == 0
    assert state() == before


# -- going on ----------------------------------------------------------------------------------------------------------


def test_resume_for_longer_goes_on_in_the_same_folder_without_duplicate_rows(cli, finished):
    first = read_metrics(finished.metrics)
    done = cli("train", "--resume", finished.folder, "--n-timesteps", 1024)
    assert done.code == 0
    assert "step 512" in done.out
    assert steps(finished.model) == 1024
    columns = read_metrics(finished.metrics)
    assert columns[STEP] == [64.0 * i for i in range(1, 17)]
    assert columns["train/loss"][1:8] == first["train/loss"][1:8]
    assert list(finished.folder.parent.iterdir()) == [finished.folder]
    assert Run.open(finished.folder).config["n_timesteps"] == 1024  # the next --resume must know


def test_resume_of_a_finished_run_trains_no_step(cli, finished):
    before = agent(finished.model)[1]["policy.action_net.weight"]
    assert cli("train", "--resume", finished.folder).code == 0
    assert steps(finished.model) == 512
    assert np.array_equal(agent(finished.model)[1]["policy.action_net.weight"], before)
    assert read_metrics(finished.metrics)[STEP][-1] == 512


def test_a_schedule_goes_on_where_it_was_and_reaches_its_end(cli):
    argv = ["--learning-rate", "lin_1e-3"]
    assert cli("train", ENV, *TINY, *argv).code == 0
    run = Run.open("runs/ppo/sandbox-Catch-v0_1")
    assert cli("train", "--resume", run.folder, "--n-timesteps", 1024).code == 0
    columns = read_metrics(run.metrics)
    rates = dict(zip(columns[STEP], columns["train/learning_rate"], strict=True))
    # A row tells of the update before it: the row of step s of the one at s - 64.
    assert rates[512] == pytest.approx(1e-3 * (1 - 448 / 512))
    assert rates[1024] == pytest.approx(1e-3 * (1 - 960 / 1024))
    assert agent(run.model)[0]["counters"]["_current_progress_remaining"] == pytest.approx(0.0)


def test_the_optimiser_goes_on_too(finished):
    model = fresh(finished)
    load_latest(model, finished)
    moments = model.policy.optimizer.state_dict()["state"]
    assert moments
    assert all(float(state["step"]) > 0 for state in moments.values())


@pytest.mark.parametrize(
    "extra",
    [["--seed", "3"], ["--n-envs", "2"], ["--seeds", "2"], ["--gamma", "0.9"], ["--preset", "fast"], [ENV],
     ["--eval-every", "64"], ["--out", "elsewhere"], ["--encoder", "mlp"]],
    ids=" ".join,
)  # fmt: skip
def test_resume_refuses_other_settings_rather_than_ignoring_them(refused, finished, snapshot, extra):
    before = snapshot(finished.folder)
    assert "--resume" in refused("train", "--resume", finished.folder, *extra)
    assert snapshot(finished.folder) == before


def test_a_damaged_newest_agent_is_passed_over_for_the_one_before_and_said_so(cli, finished):
    older = finished.folder / "checkpoints" / "step_000000000256.safetensors"
    model = fresh(finished)
    load_latest(model, finished)
    model.num_timesteps = 256
    training.save_agent(model, older)
    os.utime(older, (1, 1))
    finished.model.write_bytes(finished.model.read_bytes()[:-50])
    done = cli("train", "--resume", finished.folder)
    assert done.code == 0
    assert "passed over" in done.err
    assert "model/agent.safetensors" in done.err
    assert "step 256" in done.out
    assert steps(finished.model) == 512
    assert read_metrics(finished.metrics)[STEP] == [64.0 * i for i in range(1, 9)]


def test_a_worse_agent_after_resume_does_not_replace_the_best(cli, finished, monkeypatch):
    before = finished.best.read_bytes()
    evaluate = training.evaluate

    def worse(*args, **kwargs):
        result = evaluate(*args, **kwargs)
        return type(result)(result.returns - 100.0, result.lengths)

    monkeypatch.setattr(training, "evaluate", worse)
    assert cli("train", "--resume", finished.folder, "--n-timesteps", 1024).code == 0
    assert np.nanmin(read_metrics(finished.metrics)["eval/mean_return"]) < -90  # else nothing was evaluated
    assert finished.best.read_bytes() == before


LONG = [*TINY[2:], "--n-timesteps", "500000000"]


def started(folder, *argv):
    """A training program that runs."""
    return subprocess.Popen(
        [PROGRAM, "train", ENV, *argv], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def until(condition, process, seconds=40.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_saves_says_how_to_go_on_and_resume_goes_on(tmp_path, cli):
    process = started(tmp_path, *LONG, "--eval-every", "2000")
    folder = tmp_path / "runs/ppo/sandbox-Catch-v0_1"
    until((folder / "best" / "agent.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""
    assert "sandbox train --resume runs/ppo/sandbox-Catch-v0_1" in out
    done = steps(folder / "model" / "agent.safetensors")
    assert done > 0
    assert f"{done:,}" in out
    resumed = cli("train", "--resume", folder, "--n-timesteps", done + 256)
    assert resumed.code == 0
    assert f"step {done:,}" in resumed.out
    assert done + 256 <= steps(folder / "model" / "agent.safetensors") < done + 512
    column = read_metrics(folder / "metrics.csv")[STEP]
    assert column == sorted(set(column))


def test_a_kill_leaves_a_folder_that_goes_on_or_says_why_not(tmp_path, cli):
    process = started(tmp_path, *LONG)
    folder = tmp_path / "runs/ppo/sandbox-Catch-v0_1"
    until((folder / "metrics.csv").exists, process)
    process.kill()
    process.communicate()
    run = Run.open(folder)
    done = cli("train", "--resume", folder, "--n-timesteps", 256)
    if run.checkpoints():
        assert done.code == 0
    else:
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert str(folder) in done.err


def test_after_a_kill_resume_goes_on_from_the_checkpoint_and_the_table_forgets_what_is_lost(cli, finished):
    """As a kill leaves it: rows beyond the checkpoint, the last of them cut off, and no model/."""
    model = fresh(finished)
    load_latest(model, finished)
    model.num_timesteps = 256
    training.save_agent(model, finished.checkpoint(256))
    shutil.rmtree(finished.model.parent)
    finished.metrics.write_bytes(finished.metrics.read_bytes()[:-7])
    done = cli("train", "--resume", finished.folder)
    assert done.code == 0
    assert "step 256" in done.out
    assert read_metrics(finished.metrics)[STEP] == [64.0 * i for i in range(1, 9)]


# -- trouble while training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        ("reset", RuntimeError, "the reset's own words"),
        ("step", ValueError, "the step's own words"),
        ("constructor", ValueError, "the constructor's own words"),
    ],
)
@pytest.mark.parametrize("eval_every", ["0", "64"])
def test_an_environment_that_raises_has_its_own_traceback(cli, odd, snapshot, trouble, error, words, eval_every):
    with pytest.raises(error, match=words) as caught:
        cli("train", odd(trouble), *TINY, "--eval-every", eval_every)
    assert caught.traceback[-1].name in ("reset", "step", "__init__")
    assert caught.traceback[-1].path.name == "conftest.py"
    if trouble != "constructor":
        run = Run.open(f"runs/ppo/Odd-{trouble}-v0_1")
        assert run.config["n_timesteps"] == 512
        assert all(math.isfinite(step) for step in read_metrics(run.metrics)[STEP])
        assert not list(run.folder.rglob(".*"))


@pytest.mark.parametrize(("trouble", "quantity"), [("nan", "observation"), ("reward", "reward")])
@pytest.mark.parametrize("when", [2, 300])
def test_a_nan_stops_with_step_environment_and_quantity_and_keeps_the_agent(cli, odd, trouble, quantity, when):
    done = cli("train", odd(trouble, when), *TINY)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert f"the {quantity} of environment" in done.err
    assert f"at step {4 * math.ceil(when / 4)}" in done.err
    run = Run.open(f"runs/ppo/Odd-{trouble}-v0_1")
    model = fresh(run)
    kept = load_latest(model, run)  # the message promises it
    assert all(np.isfinite(tensor.detach().numpy()).all() for tensor in model.policy.parameters())
    assert kept.parent.name in ("checkpoints", "model")


def test_a_nan_loss_stops_and_names_the_loss(cli):
    done = cli("train", ENV, *TINY, "--gamma", "nan")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "loss" in done.err


def test_an_older_good_agent_is_still_there_after_a_nan(cli, odd, monkeypatch):
    env = odd("nan", when=10**9)
    assert cli("train", env, *TINY).code == 0
    run = Run.open("runs/ppo/Odd-nan-v0_1")
    import gymnasium as gym

    gym.spec(env).entry_point.when = 0
    done = cli("train", "--resume", run.folder, "--n-timesteps", 1024)
    assert done.code == 2
    model = fresh(run)
    load_latest(model, run)
    assert all(np.isfinite(tensor.detach().numpy()).all() for tensor in model.policy.parameters())
    assert model.num_timesteps >= 512


# -- normalised --------------------------------------------------------------------------------------------------------

POLE = "sandbox/CartPole-v1"
NORMALIZED = ["--n-timesteps", "512", "--n-envs", "4", "--n-steps", "16", "--batch-size", "32", "--n-epochs", "1"]
NORMALIZED += ["--eval-every", "0", "--normalize"]


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    from sandbox.cli import main

    root = tmp_path_factory.mktemp("normalised")
    assert main(["train", POLE, *NORMALIZED, "true", "--out", str(root)]) == 0
    return root / "ppo" / "sandbox-CartPole-v1_1"


@pytest.fixture
def upright(pole, tmp_path):
    """A finished run under VecNormalize, a copy for each test."""
    return Run.open(shutil.copytree(pole, tmp_path / "runs" / "ppo" / pole.name))


def test_a_normalised_run_says_so_in_its_configuration_and_keeps_the_statistics(upright):
    assert upright.config["normalize"] is True
    record, tensors = agent(upright.model)
    assert record["normalizer"]["gamma"] == 0.99
    assert tensors["normalizer.obs.count"] == pytest.approx(512 + 4, abs=1e-3)  # every step and the first reset
    assert tensors["normalizer.returns.count"] == pytest.approx(512, abs=1e-3)
    assert trained(PPO, upright).fast_path.kind == "by hand"


def test_eval_of_a_normalised_run_is_its_closing_evaluation(cli, upright):
    result = json.loads((upright.folder / "evaluation.json").read_text())
    done = cli("eval", upright.folder, "--seed", EVAL_SEED)
    mean, spread = np.mean(result["returns"]), 1.96 * np.std(result["returns"], ddof=1) / 10
    assert f"return {mean:.1f} ± {spread:.1f}, from" in done.out
    assert result["returns"] == result["lengths"]  # and not what the normaliser makes of one a step
    # Without the statistics it is another agent.
    model = trained(PPO, upright)
    model.get_vec_normalize_env().obs_rms.mean += 1.0
    assert training.evaluate(model, POLE, 100, seed=EVAL_SEED).returns.tolist() != result["returns"]


def test_evaluations_beside_training_are_those_of_the_environment_itself(cli):
    argv = [*NORMALIZED, "true", "--eval-every", "64", "--eval-episodes", "4"]
    assert cli("train", POLE, *argv).code == 0
    run = Run.open("runs/ppo/sandbox-CartPole-v1_1")
    best = np.nanmax(read_metrics(run.metrics)["eval/mean_return"])
    model = trained(PPO, run, best=True)
    assert training.evaluate(model, POLE, 4, seed=EVAL_SEED).mean == best >= 8.0  # the statistics of then, too


def test_an_episode_is_drawn_from_what_the_agent_was_trained_on(upright, monkeypatch):
    model, shown, predict = trained(PPO, upright), [], PPO.predict

    def spy(self, obs, *args, **kwargs):
        shown.append(obs)
        return predict(self, obs, *args, **kwargs)

    monkeypatch.setattr(PPO, "predict", spy)
    model.get_vec_normalize_env().obs_rms.mean = np.array([0.0, 0.0, 0.0, 100.0])
    count = model.get_vec_normalize_env().obs_rms.count
    record(model, POLE, max_frames=8)
    assert (np.array(shown)[:, 3] == -10).all()  # cut off there
    assert (np.abs(np.array(shown)[:, 2]) < 5).all()
    assert model.get_vec_normalize_env().obs_rms.count == count


def test_an_agent_with_a_memory_is_evaluated_drawn_and_resumed_under_a_normaliser_too(cli):
    assert cli("train", POLE, *NORMALIZED, "true", "--encoder", "lstm").code == 0
    run = Run.open("runs/ppo/sandbox-CartPole-v1_1")
    result = json.loads((run.folder / "evaluation.json").read_text())
    assert f"return {np.mean(result['returns']):.1f} ±" in cli("eval", run.folder, "--seed", EVAL_SEED).out
    (run.folder / "episode.gif").unlink()
    assert cli("watch", run.folder).code == 0
    assert is_picture(run.folder / "episode.gif")
    assert cli("train", "--resume", run.folder, "--n-timesteps", 576).code == 0
    assert agent(run.model)[1]["normalizer.obs.count"] == pytest.approx(2 * 4 + 576, abs=1e-3)


def test_watching_plays_the_episode_that_training_has_drawn(cli, upright):
    drawn = (upright.folder / "episode.gif").read_bytes()
    (upright.folder / "episode.gif").unlink()
    assert cli("watch", upright.folder, "--seed", EVAL_SEED).code == 0
    with Image.open(upright.folder / "episode.gif") as image:
        n_frames = image.n_frames
    (upright.folder / "episode.gif").write_bytes(drawn)
    with Image.open(upright.folder / "episode.gif") as image:
        assert image.n_frames == n_frames


def test_a_normalised_run_goes_on_with_the_same_statistics(cli, upright):
    before = agent(upright.model)[1]
    done = cli("train", "--resume", upright.folder, "--n-timesteps", 576)
    assert done.code == 0, done.err
    after = agent(upright.model)[1]
    assert after["normalizer.obs.count"] == pytest.approx(2 * 4 + 576, abs=1e-3)  # it begins with a reset
    assert after["normalizer.returns.count"] == pytest.approx(576, abs=1e-3)
    # An eighth more of the same: the mean moves by less than its own spread, and does move.
    moved = (after["normalizer.obs.mean"] - before["normalizer.obs.mean"]).abs()
    assert (moved > 0).all()
    assert (moved < before["normalizer.obs.var"].sqrt()).all()


@pytest.mark.parametrize(
    ("flags", "config", "gamma"),
    [
        (["true"], True, 0.99),
        (["true", "--gamma", "0.5"], True, 0.5),
        (["{norm_reward: false, clip_obs: 3}"], {"norm_reward": False, "clip_obs": 3}, 0.99),
        (["{gamma: 0.25}", "--gamma", "0.5"], {"gamma": 0.25}, 0.25),
        (["{}"], {}, 0.99),
        (["false"], False, None),
    ],
    ids=str,
)
def test_normalisation_has_the_algorithms_gamma_and_what_else_it_is_told(cli, flags, config, gamma):
    assert cli("train", POLE, *NORMALIZED, *flags).code == 0
    run = Run.open("runs/ppo/sandbox-CartPole-v1_1")
    assert run.config["normalize"] == config
    normalizer = trained(PPO, run).get_vec_normalize_env()
    assert (normalizer and normalizer.gamma) == gamma
    if config and config is not True and "clip_obs" in config:
        assert (normalizer.norm_obs, normalizer.norm_reward, normalizer.clip_obs) == (True, False, 3)


def test_flags_go_over_a_presets_normalisation_and_into_its_mapping(cli, monkeypatch):
    from agents import presets

    preset = presets.Preset("ppo", POLE, "mine", "", {"n_timesteps": 64, "n_envs": 2, "n_steps": 16})
    for own, flags, want in (
        (True, [], True),
        (True, ["--normalize", "false"], False),
        (True, ["--normalize.norm_obs", "false"], {"norm_obs": False}),
        ({"clip_obs": 5.0}, ["--normalize.norm_obs", "false"], {"clip_obs": 5.0, "norm_obs": False}),
        ({"clip_obs": 5.0}, ["--normalize", "true"], True),
    ):
        mine = {**preset.settings, "normalize": own}
        monkeypatch.setattr(presets, "presets", lambda mine=mine: (presets.Preset("ppo", POLE, "mine", "", mine),))
        assert cli("train", POLE, "--batch-size", "32", "--eval-every", "0", "--out", "r", *flags).code == 0
        folder = max(Path("r/ppo").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
        assert Run.open(folder).config["normalize"] == want


@pytest.mark.parametrize(
    ("trouble", "when"), [("nan", 2), ("nan", 300), ("reward", 2), ("reward", 300), ("nan-reset", 0)]
)
def test_a_nan_does_not_spoil_the_statistics_that_are_kept(cli, odd, trouble, when):
    done = cli("train", odd(trouble, when), *NORMALIZED, "true")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("sandbox: the ")
    run = Run.open(f"runs/ppo/Odd-{trouble}-v0_1")
    model = fresh(run)
    load_latest(model, run)
    kept = [tensor for name, tensor in agent(run.checkpoints()[0])[1].items() if name.startswith("normalizer.")]
    assert len(kept) == 6
    assert all(np.isfinite(tensor.numpy()).all() for tensor in kept)


def test_a_run_from_before_there_was_normalisation_goes_on(cli, finished):
    config = yaml.safe_load((finished.folder / "config.yml").read_text())
    del config["normalize"]
    (finished.folder / "config.yml").write_text(yaml.safe_dump(config))
    assert cli("eval", finished.folder, "--episodes", "2").code == 0
    assert cli("train", "--resume", finished.folder, "--n-timesteps", "600").code == 0


# -- eval and watch ----------------------------------------------------------------------------------------------------


def test_eval_says_mean_interval_and_range_and_changes_nothing(cli, finished, snapshot):
    before = snapshot(finished.folder)
    done = cli("eval", finished.folder, "--episodes", 7)
    assert done.code == 0
    assert done.out.startswith("7 episodes: return ")
    assert "±" in done.out
    assert cli("eval", finished.folder, "--episodes", 7).out == done.out
    assert snapshot(finished.folder) == before


def test_eval_warns_of_nothing(recwarn, cli, finished):
    assert cli("eval", finished.folder, "--episodes", 2).err == ""
    assert not [str(warning.message) for warning in recwarn]


def test_one_episode_has_no_interval(cli, finished):
    assert "nan" not in cli("eval", finished.folder, "--episodes", 1).out


def test_eval_best_plays_the_best_agent(cli, finished, monkeypatch):
    played = []
    monkeypatch.setattr(training, "load_agent", lambda model, path: played.append(path) or load_agent(model, path))
    assert cli("eval", finished.folder, "--best", "--episodes", 2).code == 0
    assert cli("eval", finished.folder, "--episodes", 2).code == 0
    assert played == [finished.best, finished.model]


def test_eval_best_without_a_best_agent_is_one_line(refused, cli):
    assert cli("train", ENV, *TINY).code == 0
    assert "best" in refused("eval", "runs/ppo/sandbox-Catch-v0_1", "--best")


def test_the_best_agent_is_the_one_with_the_best_evaluation(finished):
    columns = read_metrics(finished.metrics)
    evaluations = dict(zip(columns[STEP], columns["eval/mean_return"], strict=True))
    best = max(value for value in evaluations.values() if not math.isnan(value))
    assert evaluations[steps(finished.best)] == best


def test_stochastic_draws_actions(cli, finished, monkeypatch):
    seen = []
    monkeypatch.setattr(PPO, "predict", lambda self, *a, deterministic, **k: seen.append(deterministic) or 1 / 0)
    for extra in ([], ["--stochastic"]):
        with pytest.raises(ZeroDivisionError):
            cli("eval", finished.folder, *extra)
    assert seen == [True, False]


def test_watch_as_a_gif_is_what_happens_without_a_display(cli, finished):
    for extra in ([], ["--in", "gif"]):
        (finished.folder / "episode.gif").unlink()
        done = cli("watch", finished.folder, *extra)
        assert done.code == 0
        assert "episode.gif" in done.out
        assert is_picture(finished.folder / "episode.gif")


def test_watch_in_the_terminal_is_bytes_of_colour_that_end_on_a_new_line(cli, finished, monkeypatch, snapshot):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    before = snapshot(finished.folder)
    done = cli("watch", finished.folder, "--in", "terminal")
    assert done.code == 0
    assert "\x1b[38;2;" in done.out
    assert "▀" in done.out
    assert done.out.endswith("\n")
    assert snapshot(finished.folder) == before


def test_watch_what_draws_nothing_is_one_line(cli, refused, odd):
    env = odd("nothing")
    assert cli("train", env, *TINY).code == 0
    assert "draws nothing" in refused("watch", "runs/ppo/Odd-nothing-v0_1")


def test_checkpoints_come_by_the_clock_and_only_the_last_ones_stay(finished):
    from sandbox.training.log import ProgressLine

    run = Run.create(finished.folder.parents[2] / "other", {**finished.config, "n_timesteps": 512}, [])
    envs = vecenv.make(run.config["env_id"], 4)
    callback = training.RunCallback(run, ProgressLine("t", 512, "steps"), envs, -np.inf, checkpoint_seconds=0.0)
    with callback.progress:
        fresh(run).learn(512, callback)
    kept = [steps(path) for path in run.checkpoints()]
    assert kept == [512, 448]


def test_no_agent_to_go_on_from_is_a_file_error(finished):
    shutil.rmtree(finished.model.parent)
    shutil.rmtree(finished.best.parent)
    with pytest.raises(FileError, match="no agent to go on from"):
        load_latest(fresh(finished), finished)


def test_every_evaluation_reaches_the_table_also_between_two_log_entries(cli, tmp_path):
    # 1,024 rollouts make an entry each fifth; the evaluations come when they come.
    words = ["--n-envs", "1", "--n-steps", "2", "--batch-size", "2", "--n-epochs", "1", "--eval-episodes", "2"]
    done = cli("train", ENV, *words, "--n-timesteps", "2048", "--eval-every", "256", "--out", tmp_path)
    assert done.code == 0, done.err
    columns = read_metrics(tmp_path / "ppo" / "sandbox-Catch-v0_1" / "metrics.csv")
    evaluated = [step for step, value in zip(columns[STEP], columns["eval/mean_return"], strict=True) if value == value]
    assert evaluated == [256.0 * i for i in range(1, 9)]


def test_masks_that_an_environment_does_not_give_are_found_out_before_a_folder_is_made(cli, tmp_path):
    done = cli("train", "CartPole-v1", "--mask-actions", "true", "--out", str(tmp_path / "runs"))
    assert done.code == 2
    assert "action_mask" in done.err
    assert not (tmp_path / "runs").exists()


def test_no_whole_episode_is_one_line(cli, tmp_path):
    done = cli("train", "reinforce", "CartPole-v1", "--n-steps", "4", "--out", str(tmp_path / "runs"))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "no episode ended within n_steps=4" in done.err


@pytest.mark.parametrize("how", [["--encoder", "{name: lstm, out_features: 16}"], ["--encoder.out_features", "16"]])
def test_a_specification_that_is_none_is_refused(cli, tmp_path, how):
    done = cli("train", "CartPole-v1", *how, "--out", str(tmp_path / "runs"))
    assert done.code == 2
    assert "a specification is a name of the zoo and its keywords" in done.err


def test_the_size_of_a_memory_is_a_dotted_flag(cli, tmp_path):
    how = ["--encoder.name", "lstm", "--encoder.kwargs.out_features", "5"]
    done = cli("train", "CartPole-v1", "--preset", "debug", *how, "--out", str(tmp_path))
    assert done.code == 0
    assert "out_features: 5" in (tmp_path / "ppo" / "CartPole-v1_1" / "config.yml").read_text()


class Boards(gym.Env):
    observation_space, action_space = gym.spaces.Box(0, 1, (50,), np.float32), gym.spaces.Discrete(3)


def test_what_an_agent_sees_by_is_in_its_run_and_is_another_agents_eyes(finished):
    encoder = zoo.load(finished.folder)
    assert encoder.in_shape == (50,)  # a board of Catch
    assert encoder.preprocessing == {"dtype": "float32"}
    model = PPO("MlpPolicy", Boards(), encoder=finished.folder, freeze_encoder=True, device="cpu")
    weights = zip(model.policy.features_extractor.encoder.parameters(), encoder.parameters(), strict=True)
    assert all((ours == theirs).all() for ours, theirs in weights)
