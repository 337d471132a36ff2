"""The command line's words: help, lists, and every kind of bad input in one line with exit code 2."""

import importlib.metadata
import importlib.util
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sandbox import cli as module
from sandbox.runs import Run

ENV = "sandbox/Catch-v0"
TINY = ["--n-timesteps", "512", "--n-envs", "4", "--n-steps", "16", "--batch-size", "32", "--n-epochs", "1"]
TINY += ["--eval-every", "0"]
COMMANDS = ["train", "eval", "watch", "cluster", "fit", "pretrain", "probe", "compress", "decompress", "inspect"]
COMMANDS += ["list", "bench", "demo"]
PROGRAM = Path(sys.executable).with_name("sandbox")


def program(*argv, **kwargs):
    """The installed program, in a process of its own."""
    return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False, **kwargs)


# -- help, list, version -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_names_every_command_and_the_first_one_to_type(cli, argv):
    done = cli(*argv)
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)
    assert "sandbox train CartPole-v1" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        module.main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: sandbox {command}" in capsys.readouterr().out


@pytest.mark.parametrize("bench", module.BENCHES)
def test_each_bench_has_help(bench, capsys):
    with pytest.raises(SystemExit) as caught:
        module.main(["bench", bench, "--help"])
    assert caught.value.code == 0
    assert f"usage: sandbox bench {bench}" in capsys.readouterr().out


def test_list_names_everything_there_is(cli):
    from agents.presets import presets
    from envs.names import IDS
    from sandbox.zoo import ZOO

    out = cli("list").out
    words = out.split()
    ours = (*module.ALGORITHMS, *module.CLUSTERERS, *module.BENCHES, *module.DEMOS)
    for name in (*ours, *ZOO, *IDS, *(p.name for p in presets())):
        assert name in words


def test_the_version_is_the_distributions(cli):
    assert cli("--version").out.strip() == importlib.metadata.version("rl-unsup-sandbox")


def test_the_installed_program_answers_help_in_half_a_second(tmp_path):
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        assert program("--help", cwd=tmp_path).returncode == 0
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 0.5


def test_a_reader_who_leaves_is_no_error(tmp_path):
    done = subprocess.run(
        f"{shlex.quote(str(PROGRAM))} list | head -1",
        shell=True, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = [
    (["trian"], ["'trian'", "train"]),
    (["--nope"], ["--nope", "train"]),
    (["train"], ["environment", "CartPole-v1"]),
    (["train", "Cartpole-v1"], ["'Cartpole-v1'", "CartPole-v1"]),
    (["train", "CartPole"], ["'CartPole'", "CartPole-v1"]),
    (["train", "CartPole-v99"], ["'CartPole-v99'", "CartPole-v1"]),
    (["train", "sandbox/Cach-v0"], ["'sandbox/Cach-v0'", "sandbox/Catch-v0"]),
    (["train", "nowhere_at_all:Foo-v0"], ["nowhere_at_all:Foo-v0", "nowhere_at_all"]),
    (["train", "not an id"], ["'not an id'"]),
    (["train", "../up-v0"], ["'../up-v0'"]),
    (["train", "pppo", ENV], ["'pppo'", "did you mean ppo"]),
    (["train", "ppq", ENV], ["'ppq'", "ppo"]),
    (["train", ENV, "and", "more"], ["not an algorithm"]),
    (["train", "CartPole-v1", "--preset", "fsat"], ["'fsat'", "fast", "CartPole-v1"]),
    (["train", ENV, "--preset", "fast"], ["'fast'", ENV, "none"]),
    (["train", ENV, "--encoder", "nature_cn"], ["'nature_cn'", "nature_cnn"]),
    (["train", ENV, "--encoder", "missing.safetensors"], ["missing.safetensors", "no such file"]),
    (["train", ENV, "--encoder", "nature_cnn"], ["(10, 5)"]),
    (["train", ENV, "--freeze-encoder", "true"], ["encoder"]),
    (["train", ENV, "--n-stepz", "3"], ["--n-stepz", "--n-steps"]),
    (["train", ENV, "--n-steps", "many"], ["--n-steps", "'many'"]),
    (["train", ENV, "--n-timesteps", "0"], ["--n-timesteps", "'0'"]),
    (["train", ENV, "--n-envs", "-1"], ["--n-envs", "'-1'"]),
    (["train", ENV, "--seeds", "0"], ["--seeds", "'0'"]),
    (["train", ENV, "--seed", "x"], ["--seed", "'x'"]),
    (["train", ENV, "--seed", "-1"], ["eed"]),
    (["train", ENV, "--eval-every", "-5"], ["--eval-every"]),
    (["train", ENV, "--normalize", "maybe"], ["--normalize", "'maybe'", "true", "false"]),
    (["train", ENV, "--normalize", "3"], ["--normalize", "'3'", "true", "false"]),
    (["train", ENV, "--normalize", "{norm_obs: ["], ["--normalize"]),
    (["train", ENV, "--normalize", "{norm_obz: true}"], ["normalize", "'norm_obz'", "norm_obs"]),
    (["train", ENV, "--normalize.norm_rewards", "true"], ["normalize", "'norm_rewards'", "norm_reward"]),
    (["train", ENV, "--normalize", "{norm_obs: 1}"], ["norm_obs", "bool", "1"]),
    (["train", ENV, "--normalize", "{clip_obs: true}"], ["clip_obs", "float", "True"]),
    (["train", ENV, "--normalize", "{clip_obs: high}"], ["clip_obs", "float", "'high'"]),
    (["train", ENV, "--normalize", "{training: false}"], ["training"]),
    (["train", ENV, "--normalize", "{norm_obs_keys: [x]}"], ["norm_obs_keys"]),
    (["train", "FrozenLake-v1", "--normalize", "true"], ["Discrete"]),
    (["train", ENV, "--learning-rate", "fast"], ["--learning-rate", "lin_1e-3"]),
    (["train", ENV, "--learning-rate", "-1"], ["learning rate"]),
    (["train", ENV, "--batch-size", "1"], ["batch_size"]),
    (["train", ENV, "--n-steps", "-5"], ["n_steps"]),
    (["train", ENV, "--n-epochs", "0"], ["n_epochs"]),
    (["train", ENV, "--precision", "fp64"], ["fp32, bf16", "'fp64'"]),
    (["train", ENV, "--device", "gpu"], ["gpu"]),
    (["train", ENV, "--policy-kwargs.net_arhc", "[8]"], ["net_arhc"]),
    (["train", ENV, "--policy-kwargs.net_arch", "[8,"], ["--policy-kwargs.net_arch"]),
    (["train", ENV, "--policy-kwargs.net_arch"], ["--policy-kwargs.net_arch"]),
    (["train", ENV, "--policy-kwargs.activation_fn", "rellu"], ["rellu"]),
    (["train", "--resume"], ["--resume"]),
    (["train", "--resume", "nowhere"], ["nowhere", "not a run"]),
    (["eval"], ["RUN"]),
    (["eval", "nowhere"], ["nowhere", "not a run"]),
    (["eval", "nowhere", "--episodes", "0"], ["--episodes", "'0'"]),
    (["watch", "nowhere"], ["nowhere", "not a run"]),
    (["watch", "nowhere", "--in", "cinema"], ["--in", "cinema", "terminal"]),
    (["bench"], ["NAME"]),
    (["bench", "env-step"], ["'env-step'", "env-steps"]),
    (["bench", "env-steps", "--repeat", "3"], ["--repeat", "--repeats"]),
    (["bench", "ppo-cartpole", "--part", "sped"], ["--part", "sped", "speed"]),
    (["demo"], ["NAME"]),
    (["demo", "cartpole"], ["'cartpole'", "cartpole_ppo"]),
    (["list", "--al"], ["--al"]),
]


@pytest.mark.parametrize(("argv", "words"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_is_one_line_that_names_it_and_leaves_no_run(refused, tmp_path, argv, words):
    line = refused(*argv)
    assert all(word in line for word in words), line
    assert not list(tmp_path.rglob("*"))


def test_the_installed_program_gives_exit_code_2_and_one_line_without_traceback(tmp_path):
    done = program("train", "CartPole-v1", "--n-stepz", "3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--n-steps" in done.stderr


def test_a_space_that_the_algorithm_cannot_take_is_sb3s_error_in_one_line(refused, odd, tmp_path):
    assert "Dict" in refused("train", odd("space"), *TINY)
    assert not list(tmp_path.rglob("*"))


def test_a_gpu_that_is_not_there_is_not_silently_the_cpu(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "GPU" in refused("train", ENV, *TINY, "--device", "cuda")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_place_where_no_folder_can_be_made(refused, tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    assert folder in refused("train", ENV, *TINY, "--out", folder)
    assert (tmp_path / "file").read_text() == "mine"


# -- missing extras ----------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch):
    """Make a package look as if it were not installed."""

    def hide(name):
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda one, *a: None if one == name else find(one, *a))
        monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_without_tensorboard_the_pip_line(refused, without, tmp_path):
    without("tensorboard")
    assert "pip install 'rl-unsup-sandbox[tensorboard]'" in refused("train", ENV, *TINY, "--tensorboard")
    assert not list(tmp_path.rglob("*"))


def test_without_box2d_the_pip_line(refused, without, finished, tmp_path):
    without("Box2D")
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        sys.modules.pop(name)
    line = refused("train", "LunarLander-v3", *TINY, "--out", "r")
    assert "'LunarLander-v3' needs Box2D: pip install 'rl-unsup-sandbox[box2d]'" in line
    assert not (tmp_path / "r").exists()
    damage_config("env_id", "LunarLander-v3")(finished)
    for entrance in ENTRANCES:
        assert "pip install 'rl-unsup-sandbox[box2d]'" in refused(*entrance, finished.folder)


def test_without_pygame_no_window_but_the_pip_line(refused, without, finished):
    without("pygame")
    line = refused("watch", finished.folder, "--in", "window")
    assert "pip install 'rl-unsup-sandbox[render]'" in line


def test_without_pygame_gymnasiums_own_task_still_trains_and_watching_it_gives_the_pip_line(cli, refused, without):
    without("pygame")
    done = cli("train", "MountainCar-v0", "--preset", "none", *TINY, "--out", "r")
    assert done.code == 0
    assert "pip install" in done.out + done.err
    assert not Path("r/ppo/MountainCar-v0_1/episode.gif").exists()
    assert "pip install 'rl-unsup-sandbox[render]'" in refused("watch", "r/ppo/MountainCar-v0_1")


def test_a_window_without_a_display_says_what_to_do(refused, finished):
    line = refused("watch", finished.folder, "--in", "window")
    assert "--in gif" in line
    assert "--in terminal" in line


# -- damaged runs ------------------------------------------------------------------------------------------------------

ENTRANCES = [["eval"], ["watch"], ["watch", "--in", "terminal"], ["train", "--n-timesteps", "1024", "--resume"]]


def damage_config(key, value):
    def damage(run):
        config = yaml.safe_load((run.folder / "config.yml").read_text())
        if value is None:
            del config[key]
        else:
            config[key] = value
        (run.folder / "config.yml").write_text(yaml.safe_dump(config))

    return damage


def write(name, content):
    return lambda run: (run.folder / name).write_bytes(content)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "no config": lambda run: (run.folder / "config.yml").unlink(),
    "empty config": write("config.yml", b""),
    "binary config": write("config.yml", b"\x00\xff\xfe" * 9),
    "cut config": write("config.yml", b"algorithm: ppo\nenv: {a: ["),
    "list config": write("config.yml", b"- 1\n- 2\n"),
    "code in config": write("config.yml", b"algorithm: !!python/object/apply:os.mkdir ['ran']\n"),
    **{
        f"{key} missing": damage_config(key, None)
        for key in ("algorithm", "env", "env_id", "seed", "n_envs", "n_timesteps", "eval_every", "settings")
    },
    "another algorithm": damage_config("algorithm", "muzero"),
    "algorithm a list": damage_config("algorithm", [1]),
    "env a number": damage_config("env_id", 3),
    "env unknown": damage_config("env_id", "Nowhere-v0"),
    "settings a number": damage_config("settings", 3),
    "settings unknown": damage_config("settings", {"bogus": 1}),
    "seed a word": damage_config("seed", "x"),
    "steps a word": damage_config("n_timesteps", "many"),
    "envs negative": damage_config("n_envs", -1),
    "normalize a number": damage_config("normalize", 3),
    "normalize unknown": damage_config("normalize", {"norm_obz": True}),
    "normalize where the agent was not": damage_config("normalize", True),
    "another network": damage_config("settings", {"policy_kwargs": {"net_arch": [7]}}),
    "no agent": lambda run: run.model.unlink(),
    "empty agent": write("model/agent.safetensors", b""),
    "foreign agent": write("model/agent.safetensors", b"PK\x03\x04 a zip"),
    "cut agent": lambda run: run.model.write_bytes(run.model.read_bytes()[:-100]),
    "flipped agent": lambda run: flip(run.model),
}


@pytest.mark.parametrize(
    "flags", [["--normalize", "false"], ["--normalize", "true"], ["--seed", "0"], ["--eval-every", "0"]], ids=" ".join
)
def test_a_resumed_run_takes_no_new_settings_not_even_false_or_zero(refused, finished, snapshot, flags):
    before = snapshot(finished.folder)
    assert flags[0] in refused("train", "--resume", finished.folder, *flags)
    assert snapshot(finished.folder) == before


@pytest.mark.parametrize("entrance", ENTRANCES, ids=" ".join)
@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_damaged_run_is_one_line_and_nothing_is_overwritten(cli, finished, snapshot, damage, entrance):
    DAMAGES[damage](finished)
    before = snapshot(finished.folder)
    done = cli(*entrance, finished.folder)
    if damage == "seed a word" or damage == "envs negative" or "missing" in damage:
        assert done.code in (0, 2)  # what a command does not need, it need not refuse
        if done.code == 0:
            return
    assert done.code == 2
    *passed_over, last = done.err.splitlines()
    assert last.startswith("sandbox: ")
    assert str(finished.folder) in last or damage == "env unknown"
    assert all(line.startswith("passed over ") for line in passed_over)
    assert len(passed_over) <= 2
    assert snapshot(finished.folder) == before
    assert not Path("ran").exists()


def test_the_settings_command_keeps_can_be_pasted(tmp_path):
    argv = ["train", ENV, *TINY, "--policy-kwargs.net_arch", "[8, 8]", "--out", "my runs"]
    done = program(*argv, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "my runs" / "ppo" / "sandbox-Catch-v0_1")
    assert shlex.split((run.folder / "command.txt").read_text()) == ["sandbox", *argv]
    assert run.config["settings"]["policy_kwargs"] == {"net_arch": [8, 8]}
    assert done.stderr == ""
