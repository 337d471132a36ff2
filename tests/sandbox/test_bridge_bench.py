"""The bench of the bridge: every arm runs, and there is no table without its controls."""

import numpy as np
import pytest

from sandbox import bench as benches
from sandbox.bench import bridge as bench

CONTROLS = {"end to end", "augmentation only", "random, frozen", "PCA, frozen", "autoencoder, frozen"}


def measured(**kwargs):
    found = {"pretraining": 5.0, "seconds": {"195.0": 10.0, "475.0": None}, "return": 300.0, "rate": 1000.0}
    return {**found, **kwargs}


@pytest.mark.parametrize("arm", bench.ARMS)
def test_an_arm_makes_its_eyes_and_trains_an_agent(arm):
    found = bench.learn(arm, seed=0, n_timesteps=1024, small=True)
    assert found["fast_path"].startswith("autograd")
    assert (found["pretraining"] > 0) == bool(bench.ARMS[arm].get("eyes") not in (None, "random"))
    assert found["seconds"].keys() == {"195.0", "475.0"}
    assert found["return"] >= 8


def test_all_controls_are_arms():
    assert bench.ARMS.keys() >= CONTROLS
    assert {"TemporalContrast, frozen", "STDIM, fine-tuned"} <= bench.ARMS.keys()


def test_the_eyes_of_pca_are_pca():
    from sandbox.data import load

    encoder = bench.eyes("PCA", 300, seed=0, small=True)
    X = load(f"env:{bench.TASK}", n=300, seed=0).X
    from unsupervised.evaluate import frozen_features

    seen = frozen_features(encoder, X)
    there = seen.std(0) > 0
    np.testing.assert_allclose(seen[:, there].std(0)[:20], 1, atol=0.02)  # each component in units of its deviation
    correlations = np.corrcoef(seen[:, there][:, :20].T)
    assert np.abs(correlations - np.eye(20)).max() < 0.05


def test_a_table_has_medians_with_pretraining_and_says_what_was_never_reached(capsys):
    rounds = [{arm: measured(pretraining=10.0 * seed) for arm in bench.ARMS} for seed in (1, 2, 3)]
    bench.table(rounds)
    out = capsys.readouterr().out
    assert "30 (3 of 3)" in out  # 10 seconds, and a median of 20 before
    assert "never" in out
    assert "300 [300, 300]" in out


def test_there_is_no_table_without_its_controls():
    rounds = [{arm: measured() for arm in bench.ARMS if arm != "random, frozen"}]
    with pytest.raises(ValueError, match=r"no table without its controls: random, frozen was not measured"):
        bench.table(rounds)
    with pytest.raises(ValueError, match="no table without its controls"):
        bench.table([])


def test_pong_is_played_frozen_by_what_is_kept(monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.setitem(bench.PONG, "ours, frozen, 8 games", 2)
    found = bench.play("ours, frozen, 8 games", seed=0, small=True)
    assert found["rate"] > 0
    assert benches.spread([found["rate"]])
