"""`sandbox pretrain` and `sandbox probe`: features learned without labels, and what they are worth beside controls."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sandbox import cli as module
from sandbox import fit, probe
from sandbox.training.log import read_metrics
from unsupervised import STDIM, InverseDynamics, TemporalContrast

SMALL = ("--max-iter", "2", "--n-features", "8")


@pytest.fixture
def labelled():
    """Sixty pictures of 8x8, dark ones and bright ones, with labels."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("bright", 190)):
        Path("drawn", name).mkdir(parents=True)
        for i in range(30):
            picture = (level + rng.integers(-50, 50, (8, 8))).astype(np.uint8)
            Image.fromarray(picture).save(f"drawn/{name}/{i:02d}.png")
    return "drawn"


def metrics_of(folder):
    return read_metrics(Path(folder) / "metrics.csv")


# -- pretrain ----------------------------------------------------------------------------------------------------------


def test_a_method_leaves_what_fit_leaves_and_says_what_comes_next(cli):
    done = cli("pretrain", "simclr", "digits", "--n", "300", *SMALL)
    assert done.code == 0, done.err
    assert "simclr on digits: 300 pictures of 8x8, seed 0" in done.out
    assert done.out.endswith("next:\n  sandbox probe runs/simclr/digits_1\n")
    folder = Path("runs/simclr/digits_1")
    assert folder.joinpath("command.txt").read_text().startswith("sandbox pretrain simclr digits")
    assert set(metrics_of(folder)) >= {"loss", "effective_rank", "spread"}
    assert len(metrics_of(folder)["spread"]) == 2
    assert cli("fit", "simclr", "digits", "--n", "300", *SMALL).code == 0  # the same by its other name
    np.testing.assert_array_equal(*(np.load(f"runs/simclr/digits_{i}/codes.npy") for i in (1, 2)))
    configs = [yaml.safe_load(Path(f"runs/simclr/digits_{i}/config.yml").read_text()) for i in (1, 2)]
    assert configs[0] == configs[1]


def test_held_out_metrics_are_in_the_table_too(cli):
    assert cli("fit", "classifier", "digits", "--n", "200", "--max-iter", "2", "--early-stopping").code == 0
    assert set(metrics_of("runs/classifier/digits_1")) >= {"accuracy", "held_out_loss", "held_out_accuracy"}


def test_eyes_for_an_agent_are_told_with_the_command_that_takes_them(cli, monkeypatch):
    seen = {}

    def keep(self, X, y=None, episodes=None):
        seen[type(self).__name__] = X.shape, y, episodes
        return real[type(self)](self, X, y, episodes) if episodes is not None else real[type(self)](self, X, y)

    real = {kind: kind.fit for kind in (TemporalContrast, STDIM, InverseDynamics)}
    for kind in real:
        monkeypatch.setattr(kind, "fit", keep)
    for method in ("temporal", "stdim", "inverse"):
        done = cli("pretrain", method, "atari:Pong", "--n", "60", "--stack", "4", "--encoder", "nature_cnn", *SMALL)
        assert done.code == 0, done.err
        assert "60 pictures of 84x84, 4 to a sample" in done.out
        run = f"runs/{method}/atari-Pong_1"
        assert f"sandbox train ppo baselines/Pong-v0 --encoder {run} --freeze-encoder true" in done.out
    samples = fit.open_samples("atari:Pong", 60, stack=4)
    for kind in ("TemporalContrast", "STDIM"):
        shape, episodes, _ = seen[kind]
        assert shape == (54, 4, 84, 84)
        np.testing.assert_array_equal(episodes, samples.episodes[:54])
    _, actions, episodes = seen["InverseDynamics"]
    np.testing.assert_array_equal(actions, samples.actions[:54])
    np.testing.assert_array_equal(episodes, samples.episodes[:54])


def test_what_an_environment_shows_is_learned_from_and_has_no_labels(cli, refused):
    done = cli("pretrain", "inverse", "env:CartPole-v1", "--n", "120", *SMALL)
    assert done.code == 0, done.err
    run = "runs/inverse/env-CartPole-v1_1"
    assert f"sandbox train ppo CartPole-v1 --encoder {run} --freeze-encoder true" in done.out
    assert "with labels: these have none" in done.out
    assert "env:CartPole-v1: no labels to judge by: give --data digits" in refused("probe", run)


def test_neighbours_in_time_stay_neighbours():
    assert fit.held_out(50, {"algorithm": "inverse", "seed": 0}).tolist() == [45, 46, 47, 48, 49]
    drawn = fit.held_out(50, {"algorithm": "byol", "seed": 0})
    assert len(drawn) == 5
    assert drawn.tolist() != [45, 46, 47, 48, 49]


def test_help_teaches_methods_flags_and_the_next_commands(capsys):
    for words in (["pretrain"], ["pretrain", "byol"], ["probe"]):
        with pytest.raises(SystemExit):
            module.main([*words, "--help"])
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 120
        assert "sandbox probe runs/simclr/digits_1" in out
        if words[0] == "pretrain":
            assert "METHOD is one of" in out
            assert "--stack N" in out
            assert not [name for name in module.NOT_PRETRAINING if f"\n  {name} " in out]
    assert set(module.NOT_PRETRAINING) < set(module.FITTERS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "For example: sandbox pretrain simclr digits"),
        (("simclr",), "For example: sandbox pretrain simclr digits"),
        (("simcrl", "digits"), "unknown method 'simcrl': did you mean simclr?"),
        (("classifier", "digits"), "unknown method 'classifier'"),
        (("simclr", "digits", "--stack", "4"), "digits takes no --stack: that is for the frames of a game"),
        (("simclr", "atari:Pong", "--stack", "4", "--grey", "false"), "stack=4 is for frames in grey"),
        (("inverse", "digits"), "InverseDynamics learns from actions, one of a few after each sample"),
        (("simclr", "digits", "--n-features", "0"), "'n_features' parameter of SimCLR must be an int"),
    ],
)
def test_what_cannot_be_learned_is_one_line_and_leaves_nothing(refused, words, said):
    assert said in refused("pretrain", *words)
    assert not Path("runs").exists()


# -- probe -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Networks that learn labels for a step each."""
    monkeypatch.setattr("unsupervised.judge.STEPS", 1)
    for name in ("judge", "few_labels"):
        whole = getattr(probe, name)
        monkeypatch.setattr(probe, name, lambda *args, whole=whole, **kwargs: whole(*args, **kwargs, max_iter=1))


def test_labels_judge_a_run_on_what_it_held_out(cli, quick):
    assert cli("pretrain", "simclr", "digits", "--n", "400", *SMALL, "--seed", "3").code == 0
    folder = Path("runs/simclr/digits_1")
    done = cli("probe", folder)
    assert done.code == 0, done.err
    assert "simclr on digits: its encoder, judged on digits: 400 pictures of 8x8" in done.out
    assert "40 samples of 10 classes held out, 360 learned from" in done.out
    for word in ("supervised", "random", "PCA", "pixels", "encoder, fine-tuned", "from scratch", "360 (100 %)"):
        assert word in done.out
    assert done.out.endswith(f"{folder / 'probe.png'}\n{folder / 'probe.json'}\n")
    found = json.loads((folder / "probe.json").read_text())
    assert list(found["Judgement"]["rows"]) == ["encoder", "supervised", "random", "PCA", "pixels"]
    assert found["Judgement"]["rows"]["encoder"]["n_features"] == 8
    assert found["FewLabels"]["n_labels"] == [10, 36, 360]
    assert Image.open(folder / "probe.png").size[0] > 1000
    fewer = cli("probe", folder, "--n", "100")
    assert "40 samples of 10 classes held out, 100 learned from" in fewer.out


def test_the_samples_that_a_run_held_out_are_held_out_again(cli, quick, monkeypatch):
    assert cli("pretrain", "simclr", "digits", "--n", "200", *SMALL, "--seed", "5").code == 0
    seen = []
    monkeypatch.setattr(probe, "judge", lambda encoder, X, y, split, **kwargs: seen.append((X, split)) or "table")
    monkeypatch.setattr(probe, "few_labels", lambda *args, **kwargs: "table")
    monkeypatch.setattr(probe, "plot_judgement", lambda *args: None)
    assert cli("probe", "runs/simclr/digits_1").code == 0
    (X, (train, test)), samples = seen[0], fit.open_samples("digits", 200)
    unseen = fit.held_out(200, {"algorithm": "simclr", "seed": 5})
    np.testing.assert_array_equal(X[test], samples.X[unseen])
    learned = {row.tobytes() for row in X[train]}
    assert learned == {row.tobytes() for row in np.delete(samples.X, unseen, axis=0)}


def test_other_data_with_labels_come_in_the_shape_that_the_encoder_takes(cli, quick, labelled):
    assert cli("pretrain", "simclr", "digits", "--n", "100", *SMALL).code == 0
    done = cli("probe", "runs/simclr/digits_1", "--data", labelled)
    assert done.code == 0, done.err
    assert "judged on drawn: 60 pictures of 8x8" in done.out
    assert "12 samples of 2 classes held out, 48 learned from" in done.out


def test_the_memory_of_a_game_judges_frames_that_nobody_has_seen(cli, monkeypatch):
    seeds, load = [], fit.data.load
    monkeypatch.setattr(
        fit.data, "load", lambda *args, **kwargs: seeds.append(kwargs.get("seed")) or load(*args, **kwargs)
    )
    assert cli("pretrain", "temporal", "atari:Pong", "--n", "60", "--size", "40", *SMALL).code == 0
    folder = Path("runs/temporal/atari-Pong_1")
    done = cli("probe", folder, "--n", "300")
    assert done.code == 0, done.err
    assert seeds == [None, probe.ANEW]
    assert "300 pictures of 40x40" in done.out
    assert "minus random  minus PCA" in done.out
    found = json.loads((folder / "probe.json").read_text())
    assert list(found["RamJudgement"]["scores"]) == ["encoder", "random", "PCA"]
    assert "player y" in found["RamJudgement"]["scores"]["encoder"]["r2"]
    assert Image.open(folder / "probe.png").size[0] > 500


def test_a_run_that_cannot_be_judged_is_one_line(cli, refused, labelled, finished):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 5)))
    assert cli("pretrain", "simclr", "rows.npy", *SMALL).code == 0
    run = Path("runs/simclr/rows_1")
    before = {path.name for path in run.iterdir()}
    assert "rows.npy: no labels to judge by" in refused("probe", run)
    assert "nowhere: not a run: a run is a folder with a config.yml" in refused("probe", "nowhere")
    assert "a run without data of its own" in refused("probe", finished.folder)
    (finished.folder / "model" / "encoder.safetensors").unlink()
    assert "no run with an encoder" in refused("probe", finished.folder)
    assert "takes samples of shape (5,), but X has shape" in refused("probe", run, "--data", "digits")
    assert "there is no data set 'digit'; nearest: digits" in refused("probe", run, "--data", "digit")
    assert "unknown flag --dta: did you mean --data?" in refused("probe", run, "--dta", "digits")
    assert {path.name for path in run.iterdir()} == before
    run.joinpath("config.yml").write_text("[1, 2")
    assert "config.yml: damaged" in refused("probe", run)
