"""Demos are short and run; benches run with tiny settings and keep what they measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox.demos
from agents.presets import find
from sandbox import bench
from sandbox.bench import learning, on_policy, ppo_cartpole
from sandbox.cli import DEMOS

FOLDER = Path(sandbox.demos.__file__).parent
PROGRAM = Path(sys.executable).with_name("sandbox")
SHORTER = {
    "compress_pong": ["20"],
    "eyes_for_pong": ["1000", "1", "2000"],
    "gan_digits": ["10"],
    "pong_dqn": ["2000"],
    "pong_latents": ["600", "2"],
    "pong_ppo": ["2000"],
    "text_from_bytes": ["1"],
}  # a demo that takes longer than a test may


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_is_at_most_60_lines_begins_with_its_purpose_and_compiles(name):
    source = (FOLDER / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 60
    assert source.startswith('"""')
    compile(source, name, "exec")


@pytest.mark.parametrize("name", DEMOS)
def test_the_source_of_a_demo_is_printed_as_it_is(name, cli):
    done = cli("demo", name, "--source")
    assert done.code == 0
    assert done.out == (FOLDER / f"{name}.py").read_text()


def test_words_after_its_name_reach_the_demo_that_takes_some(cli, monkeypatch):
    seen, typed = [], list(sys.argv)
    monkeypatch.setattr("runpy.run_module", lambda name, run_name: seen.append((name, list(sys.argv[1:]), run_name)))
    assert cli("demo", "pong_ppo", "2000").code == cli("demo", "bicycle").code == 0
    assert seen == [
        ("sandbox.demos.pong_ppo", ["2000"], "__main__"),
        ("sandbox.demos.bicycle", [], "__main__"),
    ]
    assert sys.argv == typed


def test_words_for_a_demo_that_takes_none_are_refused(refused):
    assert "bicycle takes no words after its name, but got 'fast'" in refused("demo", "bicycle", "fast")


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_runs_and_learns(name, tmp_path):
    options = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    done = subprocess.run([PROGRAM, "demo", name, *SHORTER.get(name, [])], cwd=tmp_path, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= 2


def test_a_measurement_is_made_in_a_process_of_its_own():
    job = {"task": "Pendulum-v1", "ours": True, "n_envs": 2, "seconds": 0.01}
    result = bench.measure("sandbox.bench.env_steps", **job)
    assert job.items() <= result.items()
    assert result["rate"] > 0


def test_a_measurement_that_fails_is_an_error_and_no_number(capfd):
    with pytest.raises(RuntimeError, match="failed"):
        bench.measure("sandbox.bench.env_steps", task="Nowhere-v0", ours=False, n_envs=2, seconds=0.01)
    assert "Nowhere" in capfd.readouterr().err


def test_spread_is_median_smallest_and_largest():
    assert bench.spread([4.0, 1.0, 3.0, 2.0]) == "2.50 [1.00, 4.00]"
    assert bench.spread([12345.6], digits=0) == "12,346 [12,346, 12,346]"


def test_measurements_are_kept_with_the_machine_that_made_them(tmp_path, capsys):
    bench.keep(tmp_path / "new" / "b.json", "a-bench", [{"rate": 1.0}])
    kept = json.loads((tmp_path / "new" / "b.json").read_text())
    assert kept["bench"] == "a-bench"
    assert kept["measurements"] == [{"rate": 1.0}]
    assert kept["machine"]["cores"] == os.cpu_count()
    assert kept["machine"]["processor"]
    assert "b.json" in capsys.readouterr().out
    bench.keep(None, "a-bench", [])
    assert capsys.readouterr().out == ""


def test_a_table_shows_all_its_cells(capsys):
    bench.show("a title", ("", "ratio"), [("ours", "2.00 [1.00, 3.00]")])
    out = capsys.readouterr().out
    assert all(word in out for word in ("a title", "ratio", "ours", "2.00 [1.00, 3.00]"))


def run_bench(monkeypatch, cli, name, *argv):
    """The bench with its measurements in this process: the processes are tested above."""
    import importlib

    from sandbox.cli import BENCHES

    module = importlib.import_module(BENCHES[name][0])
    jobs = []

    def measure(where, **job):
        jobs.append(dict(job))
        if name == "env-steps":
            return {**job, "rate": 200.0 if job["ours"] else 100.0}
        seconds = 4.0 if "SB3" in job.get("arm", job.get("who")) else 1.0
        return {**job, "seconds": seconds, "return": 500.0, "solved": job["seed"] != 1, "steps": 1000}

    monkeypatch.setattr(module, "measure", measure)
    return cli("bench", name, *argv), jobs


def test_env_steps_alternates_ours_and_theirs_and_keeps_all(monkeypatch, cli, tmp_path):
    done, jobs = run_bench(monkeypatch, cli, "env-steps", "--repeats", "2", "--out", "b.json")
    assert done.code == 0
    assert [job["ours"] for job in jobs] == [True, False] * (len(jobs) // 2)
    assert {job["n_envs"] for job in jobs if job["task"] == "CartPole-v1"} == {8, 64, 512}
    assert "2.00 [2.00, 2.00]" in done.out
    assert len(json.loads((tmp_path / "b.json").read_text())["measurements"]) == len(jobs)


def test_ppo_cartpole_measures_each_arm_with_each_seed_and_says_what_is_not_solved(monkeypatch, cli, tmp_path):
    done, jobs = run_bench(monkeypatch, cli, "ppo-cartpole", "--repeats", "3", "--out", "b.json")
    assert done.code == 0
    speed = [(job["arm"], job["seed"]) for job in jobs if job["part"] == "speed"]
    assert speed == [(arm, seed) for seed in range(3) for arm in ("SB3", "ours", "ours, drop-in")]
    assert "4.00 [4.00, 4.00]" in done.out  # the ratio
    assert "2 of 3" in done.out
    assert "median SB3's PPO / median PPO: 4.0" in done.out
    assert "median PPO / median PQN: 1.0" in done.out
    assert (
        len(json.loads((tmp_path / "b.json").read_text())["measurements"])
        == len(jobs)
        == 9 + 3 * len(ppo_cartpole.SOLVERS)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("env-steps", ["--repeats", "1", "--seconds", "0.05"]),
        ("ppo-cartpole", ["--repeats", "1", "--n-timesteps", "3000"]),
    ],
)
def test_a_bench_runs_from_end_to_end(name, argv, tmp_path):
    done = subprocess.run(
        [PROGRAM, "bench", name, *argv, "--out", "b.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measurements = json.loads((tmp_path / "b.json").read_text())["measurements"]
    assert all(job.get("rate", job.get("seconds", 0)) > 0 for job in measurements)
    if name == "ppo-cartpole":
        assert {job["arm"] for job in measurements if "arm" in job} == {"SB3", "ours", "ours, drop-in"}
        assert all(0 < job["return"] <= 500 for job in measurements if job["part"] == "speed")


@pytest.mark.parametrize("who", [{"arm": "SB3"}, {"arm": "ours"}, *({"who": who} for who in ppo_cartpole.SOLVERS)])
def test_one_job_of_ppo_cartpole_in_this_process(who):
    import torch

    threads = torch.get_num_threads()
    job = ppo_cartpole.train_at_full_speed if "arm" in who else ppo_cartpole.train_until_solved
    try:
        result = job(**who, seed=0, n_timesteps=300)
    finally:
        torch.set_num_threads(threads)
    assert set(result) == {"seconds", *({"return"} if "arm" in who else {"solved", "steps"})}
    assert result["seconds"] >= 0


def test_the_on_policy_bench_trains_the_same_work_on_either_side(monkeypatch):
    small = {
        name: (algorithm, world, {**settings, "n_envs": 2, "n_steps": 16}, 32)
        for name, (algorithm, world, settings, _) in on_policy.CASES.items()
    }
    monkeypatch.setattr(on_policy, "CASES", small)
    for case, (_, world, _, _) in small.items():
        ours, theirs = (on_policy.train(case, which, seed=0) for which in (True, False))
        assert ours["steps"] == theirs["steps"] == 32, case
        assert ours["fast_path"].startswith("autograd" if world == "picture" else "by hand"), case


def test_the_learning_bench_measures_a_preset_beside_its_controls(monkeypatch):
    monkeypatch.setitem(learning.CASES, "quick", ("ppo", "sandbox/Bicycle-v0", "debug", None))
    result = learning.train("quick", None, seed=0)
    assert len(result["returns"]) == 100
    assert result["return"] == pytest.approx(sum(result["returns"]) / 100)
    assert result["controls"].keys() == {"random", "no control"}
    assert 20 < result["controls"]["random"] < result["controls"]["no control"] < 90  # steps of 20 ms


def test_every_case_of_the_learning_bench_has_its_preset():
    for algorithm, env, preset, _ in learning.CASES.values():
        assert preset in find(env, algorithm), env
