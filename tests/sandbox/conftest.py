"""The command line in this process, a tiny run to try it on, and environments that misbehave."""

import shutil
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from sandbox.cli import main
from sandbox.runs import Run

ENV = "sandbox/Catch-v0"  # nine steps an episode
TINY = ["--n-timesteps", "512", "--n-envs", "4", "--n-steps", "16", "--batch-size", "32", "--n-epochs", "1"]
TINY += ["--eval-every", "128", "--eval-episodes", "4"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test leaves a folder in the project."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys):
    """Run a command: its exit code, and what it wrote to stdout and stderr."""

    def run(*argv):
        capsys.readouterr()
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def refused(cli):
    """Run a command that can't be: exit code 2, exactly one line on stderr, which is returned."""

    def run(*argv):
        done = cli(*argv)
        assert done.code == 2, done
        assert done.err.count("\n") == 1, done.err
        assert done.err.startswith("sandbox: ")
        return done.err

    return run


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert main(["train", ENV, *TINY, "--out", str(root)]) == 0
    return root / "ppo" / "sandbox-Catch-v0_1"


@pytest.fixture
def finished(template, tmp_path):
    """A finished run of 512 steps, a copy for each test."""
    return Run.open(shutil.copytree(template, tmp_path / "runs" / "ppo" / template.name))


@pytest.fixture
def snapshot():
    """Every file's bytes, to see that nothing was overwritten."""
    return lambda folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Odd(gym.Env):
    """Five steps an episode, until `trouble` comes at its step number `when`, counted over all of its kind."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    trouble, when, steps = None, 0, 0

    def __init__(self, trouble=None):
        if trouble == "constructor":
            raise ValueError("the constructor's own words")
        if trouble == "space":
            self.action_space = gym.spaces.Dict({"a": gym.spaces.Discrete(2)})
        type(self).trouble = trouble

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.trouble == "reset":
            raise RuntimeError("the reset's own words")
        self.t = 0
        return np.full(2, np.nan if self.trouble == "nan-reset" else 0.0, np.float32), {}

    def step(self, action):
        self.t += 1
        type(self).steps += 1
        now = Odd.steps >= Odd.when
        if now and self.trouble == "step":
            raise ValueError("the step's own words")
        obs = np.full(2, np.nan if now and self.trouble == "nan" else 0.0, np.float32)
        reward = float("inf") if now and self.trouble == "reward" else 1.0
        return obs, reward, self.t >= 5, False, {}


@pytest.fixture
def odd():
    """Register the environment with a trouble; its id is returned."""

    def register(trouble, when=300):
        Odd.trouble, Odd.when, Odd.steps = trouble, when, 0
        gym.register(f"Odd/{trouble}-v0", entry_point=Odd, kwargs={"trouble": trouble})
        return f"Odd/{trouble}-v0"

    before = set(gym.registry)
    yield register
    for name in set(gym.registry) - before:
        if name.startswith("Odd/"):
            del gym.registry[name]
