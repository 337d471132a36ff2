"""Runs of hours: what a kill at any moment and a full disk leave behind, and the film at the end."""

import errno
import math
import os
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest

from agents import vecenv
from agents.ppo import PPO
from sandbox import train as training
from sandbox.runs import Run
from sandbox.train import EVAL_SEED, build, episode, film, record
from sandbox.training.checkpoint import load_tensors
from sandbox.training.log import STEP, MetricsCSV, ProgressLine, read_metrics

ENV = "sandbox/Catch-v0"
LONG = ["train", ENV, "--n-timesteps", "100000000", "--eval-every", "0"]
BY_ROLLOUT = [*LONG, "--n-envs", "4", "--n-steps", "64", "--n-epochs", "1"]
BY_REPLAY = [*LONG[:1], "dqn", *LONG[1:], "--n-envs", "2", "--train-freq", "64", "--learning-starts", "256"]
BY_REPLAY += ["--buffer-size", "1000"]
INTERVAL = 0.5
PROGRAM = f"""
import sys
from sandbox import cli, train
train.RunCallback.__init__.__defaults__ = ({INTERVAL},)
sys.exit(cli.main(sys.argv[1:]))
"""


def steps(path):
    return load_tensors(path, "sandbox.agent")[0]["counters"]["num_timesteps"]


@pytest.mark.parametrize(("name", "command"), [("ppo", BY_ROLLOUT), ("dqn", BY_REPLAY)])
def test_a_kill_loses_at_most_one_interval(tmp_path, cli, name, command):
    folder = tmp_path / f"runs/{name}/sandbox-Catch-v0_1"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *command], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline, seen = time.monotonic() + 60, set()
    while len(seen) < 4 and time.monotonic() < deadline:  # in the middle of training, whatever it is doing
        seen |= {path.name for path in (folder / "checkpoints").glob("step_*")}
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    killed = time.time()
    process.wait()
    assert len(seen) >= 4
    run = Run.open(folder)
    checkpoints = run.checkpoints()
    assert 1 <= len(checkpoints) <= 3  # two are kept, and one more may have been written but not yet pruned
    assert killed - checkpoints[0].stat().st_mtime < 4 * INTERVAL + 2.0  # the machine may be busy
    latest = steps(checkpoints[0])
    done = cli("train", "--resume", folder, "--n-timesteps", latest + 512)
    assert done.code == 0
    assert f"step {latest:,}" in done.out
    assert ("its replay is not kept" in done.out) == (name == "dqn")
    table = read_metrics(run.metrics)[STEP]
    assert table == sorted(set(table))
    assert steps(run.model) == latest + 512


def test_a_checkpoint_cut_off_in_the_middle_is_passed_over_for_the_one_before_and_the_user_told(finished, cli):
    model = build(PPO, finished.config, vecenv.make(ENV, finished.config["n_envs"]))
    for step in (128, 256):
        model.num_timesteps = step
        training.save_agent(model, finished.checkpoint(step))
    finished.model.unlink()
    whole = finished.checkpoint(256).read_bytes()
    finished.checkpoint(256).write_bytes(whole[: len(whole) // 2])
    done = cli("train", "--resume", finished.folder)
    assert done.code == 0
    assert "passed over" in done.err
    assert str(finished.checkpoint(256)) in done.err
    assert "step 128" in done.out


@pytest.fixture
def full_disk(monkeypatch):
    """Saving an agent fails as long as the list has entries, as on a full disk."""
    failures = []
    save = training.save_agent

    def failing(model, path):
        if failures:
            failures.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(model, path)

    monkeypatch.setattr(training, "save_agent", failing)
    monkeypatch.setattr(training.RunCallback.__init__, "__defaults__", (0.0,))  # a checkpoint each rollout
    return failures


SHORT = ["--n-timesteps", 1024, "--n-envs", 4, "--n-steps", 32, "--n-epochs", 1, "--batch-size", 64, "--eval-every", 0]


def test_a_disk_that_is_full_for_a_while_does_not_end_the_training(cli, full_disk):
    full_disk += [None] * 3
    done = cli("train", ENV, *SHORT)
    assert done.code == 0
    assert done.err.count("could not be saved") == 3
    assert "No space left" in done.err
    run = Run.open("runs/ppo/sandbox-Catch-v0_1")
    assert steps(run.model) == 1024
    assert not list(run.folder.rglob(".*"))


def test_a_disk_that_is_full_at_the_end_leaves_a_folder_that_goes_on(cli, full_disk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training.RunCallback, "_on_training_end", lambda self: full_disk.append(None))
        done = cli("train", ENV, *SHORT)
    assert done.code == 2
    assert "could not be saved" in done.err
    assert "sandbox train --resume runs/ppo/sandbox-Catch-v0_1" in done.err
    again = cli("train", "--resume", "runs/ppo/sandbox-Catch-v0_1")
    assert again.code == 0


def test_a_file_that_can_not_be_written_whole_is_an_oserror_and_the_old_one_stays(tmp_path):
    """The system's own limit on the size of a file stands for the disk's."""
    program = """
import resource, signal, sys, torch
from sandbox.training.checkpoint import load_tensors, save_tensors
path = sys.argv[1]
save_tensors(path, "test", {}, {"x": torch.ones(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_tensors(path, "test", {}, {"x": torch.ones(10_000)})
except OSError as error:
    print("refused", path in str(error))
assert len(load_tensors(path, "test")[1]["x"]) == 10
"""
    path = tmp_path / "x.safetensors"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout == "refused True\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_rows_wait_in_memory_while_the_table_can_not_be_written(tmp_path, monkeypatch, capsys):
    table = MetricsCSV(tmp_path / "metrics.csv")
    table.write({"loss": 1.0}, step=1)
    full = True

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, text):
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(text)

        def __getattr__(self, name):
            return getattr(self.file, name)

    table.file = Full(table.file)
    table.write({"loss": 2.0}, step=2)
    assert read_metrics(table.path)[STEP] == [1.0]
    assert "rows wait in memory" in capsys.readouterr().err
    full = False
    table.write({"loss": 3.0}, step=3)
    assert read_metrics(table.path)["loss"] == [1.0, 2.0, 3.0]
    table.write({"loss": 4.0}, step=4)
    table.close()
    assert read_metrics(table.path)["loss"] == [1.0, 2.0, 3.0, 4.0]
    assert capsys.readouterr().err == ""


# -- the film ----------------------------------------------------------------------------------------------------------


class Random:
    """A player that learned nothing."""

    def __init__(self, env_id):
        self.space = gym.make(vecenv.qualified(env_id)).action_space

    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        return np.asarray(self.space.sample()), None


def test_the_best_of_some_games_is_filmed_whole(tmp_path):
    av = pytest.importorskip("av")
    player = Random("CartPole-v1")
    scores, path = [], tmp_path / "best.mp4"
    player.space.seed(0)
    with gym.make("CartPole-v1", render_mode="rgb_array") as env:
        for game in range(3):
            *_, (_, total) = episode(player, env, EVAL_SEED + game)
            scores.append(total)
    assert len(set(scores)) == 3
    player.space.seed(0)
    assert film(player, "CartPole-v1", path, 3) == max(scores)
    with av.open(str(path)) as video:
        assert sum(1 for _ in video.decode(video=0)) == max(scores) + 1
        assert video.streams.video[0].average_rate == 50


def test_a_film_without_pyav_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'rl-unsup-sandbox\[media\]'"):
        film(Random("CartPole-v1"), "CartPole-v1", tmp_path / "best.mp4", 1)
    assert not list(tmp_path.iterdir())


def test_an_atari_game_is_played_over_the_loss_of_lives_and_counted_raw():
    pytest.importorskip("ale_py")
    player = Random("baselines/Breakout-v0")
    player.space.seed(1)
    with gym.make("baselines/Breakout-v0", render_mode="rgb_array") as env:
        frames, totals = zip(*episode(player, env, seed=0), strict=True)
        player.space.seed(1)
        env.reset(seed=0)
        lives, info = 0, {}
        while "episode" not in info:
            _, _, terminated, _, info = env.step(player.predict(None)[0][()])
            lives += terminated
            if terminated and "episode" not in info:
                env.reset()
    assert lives == 5
    assert totals[-1] == info["episode"]["r"]
    assert len(frames) == info["episode"]["l"] + 1
    assert frames[0].shape == (210, 160, 3)


def test_of_a_long_game_the_end_is_recorded_where_thinning_would_make_it_jump():
    pytest.importorskip("ale_py")
    player = Random("machado/Pong-v0")
    player.space.seed(0)
    frames, fps = record(player, "machado/Pong-v0", max_frames=40)
    player.space.seed(0)
    with gym.make("envs:machado/Pong-v0", render_mode="rgb_array") as env:
        whole = [frame for frame, _ in episode(player, env, EVAL_SEED)]
    assert fps == 15 / 2
    assert len(frames) in (40, 41)
    assert np.array_equal(frames[-1], whole[-1])
    last_even = (len(whole) - 1) // 2 * 2
    assert np.array_equal(frames[39], whole[last_even])
    assert np.array_equal(frames[38], whole[last_even - 2])


def test_what_is_over_soon_shows_no_bar(capsys):
    with ProgressLine("evaluating", 3, "episodes", patience=60.0) as progress:
        progress.update(1)
        progress.last = -math.inf  # plain lines come every five seconds
        progress.update(2)
    assert "evaluating" not in capsys.readouterr().out
    with ProgressLine("evaluating", 3, "episodes", patience=1e-9) as progress:
        time.sleep(0.01)
        progress.last = -math.inf
        progress.update(2)
    assert "evaluating: 2 of 3 episodes" in capsys.readouterr().out
