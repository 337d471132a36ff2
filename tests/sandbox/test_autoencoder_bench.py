"""The bench of autoencoders, on little data: what it measures, and the tables it makes of it."""

import json

import numpy as np
import pytest

from sandbox.bench import autoencoder as bench


@pytest.mark.parametrize("who", ["plain", "ours", "ours, fp32"])
@pytest.mark.parametrize("case", bench.SPEED)
def test_both_sides_train_the_same_network_and_are_judged_alike(case, who):
    found = bench.speed(case, who, seed=0, small=True)
    assert found["rate"] > 0
    assert 0 < found["loss"] < 1


@pytest.mark.parametrize("conv", [False, True])
def test_the_plain_network_has_as_many_weights_as_ours(conv):
    from unsupervised import Autoencoder

    encoder = "nature_cnn" if conv else {"name": "mlp", "kwargs": {"widths": [512], "activation": "relu"}}
    X = np.random.default_rng(0).random((8, 1, 84, 84) if conv else (8, 784), np.float32)
    ours = Autoencoder(32 if conv else 16, encoder=encoder, linear_path=False, max_iter=1).fit(X)
    count = sum(p.numel() for p in bench.plain_network(conv).parameters())
    assert sum(p.numel() for p in ours.model_.parameters()) == count


def test_errors_are_on_held_out_samples():
    found = bench.error("digits", 2, seed=0, small=True)
    assert found["mse"] < found["pca"]
    train, held_out = bench.digits(0)
    assert (len(train), len(held_out)) == (1437, 360)
    assert not {row.tobytes() for row in held_out} <= {row.tobytes() for row in train}


def test_three_kinds_of_features_are_asked_the_same():
    found = bench.probe("Pong", seed=0, small=True)
    for who in bench.PROBES:
        assert set(found[who]) == {*bench.PROBED, "mean"}
        assert found[who]["mean"] == pytest.approx(np.mean([found[who][name] for name in bench.PROBED]))


def test_the_tables(monkeypatch, capsys, tmp_path):
    def measure(module, part, who="", case="", n=0, seed=0, small=False):
        assert module == "sandbox.bench.autoencoder"
        job = {"part": part, "who": who, "case": case, "n": n, "seed": seed}
        probed = dict.fromkeys((*bench.PROBED, "mean"), 0.5 + 0.1 * seed)
        measured = {
            "speed": {"rate": 300.0 if "ours" in who else 100.0, "loss": 0.01, "seconds": 1.0},
            "error": {"mse": 0.5, "pca": 1.0, "seconds": 2.0, "epochs": 3},
            "probe": {**dict.fromkeys(bench.PROBES, probed), "seconds": {"keypoints, 30": 4.0}},
        }
        return {**job, **measured[part]}

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main(["--repeats", "2", "--out", str(tmp_path / "raw.json")]) == 0
    out = capsys.readouterr().out
    assert "MLP 784-512-16, batch 128, ours: 3.00 [3.00, 3.00]" in out
    assert "Breakout, 32: 0.50 [0.50, 0.50] of PCA's" in out
    assert "0.55 [0.50, 0.60]" in out
    kept = json.loads((tmp_path / "raw.json").read_text())["measurements"]
    assert len(kept) == 2 * (2 * 3 + 3 * 5 + 1)
    assert bench.main(["--part", "error", "--case", "digits", "--repeats", "1"]) == 0
    assert "Pong" not in capsys.readouterr().out
