"""The bench of features without labels, on little data: what it measures, and the tables it makes of it."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from sandbox.bench import ssl as bench

CASES = {"photos, 32x32, conv": (3, 32, 32), "Pong, 4x84x84, nature_cnn": (4, 84, 84)}


@pytest.fixture(autouse=True)
def pong():
    pytest.importorskip("ale_py")


@pytest.mark.parametrize("who", ["plain", "ours", "ours, fp32"])
@pytest.mark.parametrize("case", bench.SPEED)
def test_both_sides_are_measured_and_judged_alike(case, who):
    found = bench.speed(case, "SimCLR", who, seed=0, small=True)
    assert found["rate"] == pytest.approx(300 / found["seconds"])
    assert found["probe"] < 1


@pytest.mark.parametrize("method", bench.COMPARED)
@pytest.mark.parametrize("case", bench.SPEED)
def test_the_plain_networks_have_as_many_weights_as_ours(case, method):
    import unsupervised

    X = np.random.default_rng(0).integers(0, 255, (8, *CASES[case]), np.uint8)
    ours = getattr(unsupervised, method)(max_iter=1, random_state=0).fit(X)
    learned = [p for p in ours.model_.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learned) == sum(p.numel() for p in bench.PlainSSL(X.shape[1:], method).parameters())


@pytest.mark.parametrize("method", bench.COMPARED)
def test_the_plain_losses_are_ours(method):
    from unsupervised import losses

    torch.manual_seed(0)
    plain, (x1, x2) = bench.PlainSSL((3, 32, 32), method), torch.rand(2, 6, 3, 32, 32)
    z1, z2 = plain.network(x1), plain.network(x2)
    if method == "SimCLR":
        plain.network.eval()
        theirs = losses.nt_xent(plain.network(x1), plain.network(x2), bench.TEMPERATURE)
    else:
        p1, p2 = plain.predictor(z1), plain.predictor(z2)
        if method == "BYOL":
            z1, z2 = plain.target(x1), plain.target(x2)
        cosine = losses.negative_cosine(p1, z2) + losses.negative_cosine(p2, z1)
        theirs = 2 + cosine if method == "BYOL" else cosine / 2
    torch.testing.assert_close(plain.loss(x1, x2), theirs)


@pytest.mark.parametrize("method", ["BYOL", "SimSiam"])
def test_a_plain_step_moves_the_network_and_the_slow_copy(method):
    torch.manual_seed(0)
    plain = bench.PlainSSL((3, 32, 32), method)
    before = [p.clone() for p in plain.network.parameters()]
    X = np.random.default_rng(0).integers(0, 255, (8, 3, 32, 32), np.uint8)
    assert bench.plain_loop(plain, X, epochs=1) > 0
    assert not torch.equal(before[0], next(plain.network.parameters()))
    if plain.target is not None:
        for slow, old, new in zip(plain.target.parameters(), before, plain.network.parameters(), strict=True):
            torch.testing.assert_close(slow, bench.MOMENTUM * old + (1 - bench.MOMENTUM) * new)


def test_the_plain_views_are_those_of_the_usual_pipeline():
    random.seed(0)
    shares, picture = [], np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for _ in range(300):
        left, top, right, bottom = bench._box(32, 32)
        assert 0 <= left < right <= 32
        assert 0 <= top < bottom <= 32
        shares.append((right - left) * (bottom - top) / 1024)
    assert 0.17 < min(shares) < 0.3 < 0.8 < max(shares) <= 1
    views = torch.stack([bench._photo_view(picture) for _ in range(200)])
    assert (views.shape, views.dtype) == ((200, 3, 32, 32), torch.float32)
    assert 0 <= views.min() < views.max() <= 1
    without_colour = (views.amax(1) - views.amin(1)).flatten(1).amax(1) == 0
    assert 20 < without_colour.sum() < 65  # a fifth
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert np.array(bench._turned(red, 0.0)).tolist() == np.array(red).tolist()
    turned = np.array([np.array(bench._turned(red, 0.1))[0, 0] for _ in range(50)])
    assert (turned[:, 0] == 255).all()
    assert 100 < turned[:, 1].max() < 160  # towards yellow, by a tenth of a turn of which a sixth is all the way
    assert 100 < turned[:, 2].max() < 160
    for change, least in ((bench._brighter, 0.6), (bench._sharper, 0.6), (bench._stronger, 0.6)):
        image = Image.fromarray(picture)
        changed = [np.array(change(image)).astype(float) for _ in range(30)]
        assert len({one.tobytes() for one in changed}) > 20
        assert np.std(changed[0]) < 1.5 * np.std(picture) / least


def test_a_plain_frame_is_shifted():
    random.seed(0)
    frames = np.random.default_rng(0).integers(0, 255, (4, 20, 20), np.uint8)
    padded = np.pad(frames, ((0, 0), (4, 4), (4, 4)), mode="edge")
    parts = {padded[:, i : i + 20, j : j + 20].tobytes() for i in range(9) for j in range(9)}
    views = [(bench._shifted(frames) * 255).round().to(torch.uint8).numpy().tobytes() for _ in range(50)]
    assert set(views) <= parts
    assert len(set(views)) > 20


@pytest.mark.parametrize("case", bench.PROBE)
def test_a_method_is_judged_beside_its_network_left_at_random(case):
    method = list(bench.PROBE[case])[-1]
    found = bench.probe(case, method, seed=0, small=True)
    assert set(found) == {*bench.JUDGED, "seconds"}
    assert all(-1 < found[key] < 1 for key in bench.JUDGED)
    assert found["probe"] != found["random_probe"]
    if case == "digits":
        assert found["random_probe"] > 0.5


def test_covered_frames_keep_what_is_not_covered():
    torch.manual_seed(0)
    x = torch.rand(20, 1, 30, 30)
    assert bench.nudged(x).shape == x.shape
    out = bench.covered(torch.ones(50, 1, 30, 30))
    assert out.shape == (50, 1, 30, 30)
    torch.testing.assert_close(out.flatten(1).std(1), torch.zeros(50), atol=1e-5, rtol=0)  # the mean fills
    light = x.clone()
    light[:, :, :15] = 0.0
    shares = (bench.covered(light) != bench.covered(light)).float().mean()
    assert 0 < shares <= 1


def test_every_method_has_its_settings():
    import unsupervised

    for case, methods in bench.PROBE.items():
        assert {"SimCLR", "MoCo", "BYOL", "SimSiam", "BarlowTwins", "VICReg"} <= set(methods)
        assert ("TemporalContrast" in methods) == (case == "Pong")
        for method, settings in methods.items():
            assert set(settings) <= set(getattr(unsupervised, method)().get_params())


def test_what_is_read_of_a_memory_is_beside_its_controls():
    found = bench.states("Pong", seed=0, small=True)
    assert found.keys() == {"encoder", "random", "PCA", "seconds"}
    for who in ("encoder", "random", "PCA"):
        assert found[who].keys() == {*bench.READ["Pong"], "mean"}


def test_the_tables(monkeypatch, capsys, tmp_path):
    def measure(module, part, case, seed, small, method="STDIM", who=""):
        assert module == "sandbox.bench.ssl"
        job = {"part": part, "case": case, "method": method, "who": who, "seed": seed}
        rates = {"plain": 100.0, "plain, 2 workers": 150.0 if case.startswith("photos") else 50.0}
        measured = {
            "speed": {"rate": rates.get(who, 600.0), "probe": 0.9, "seconds": 1.0},
            "ram": {"encoder": {"mean": 0.9}, "random": {"mean": 0.5}, "PCA": {"mean": 0.7}, "seconds": 3.0},
            "probe": {"probe": 0.9, "knn": 0.8 + 0.1 * seed, "random_probe": 0.5, "random_knn": 0.4, "seconds": 2.0},
        }
        return {**job, **measured[part]}

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main(["--repeats", "2", "--out", str(tmp_path / "raw.json")]) == 0
    out = capsys.readouterr().out
    assert "photos, 32x32, conv: SimCLR, ours: 4.00 [4.00, 4.00]" in out
    assert "Pong, 4x84x84, nature_cnn: BYOL, ours, fp32: 6.00 [6.00, 6.00]" in out
    assert "MsPacman: 0.40 [0.40, 0.40] above random, 0.20 [0.20, 0.20] above PCA" in out
    assert "digits, SimCLR: probe 0.400 [0.400, 0.400], neighbours 0.450 [0.400, 0.500] above random" in out
    kept = json.loads((tmp_path / "raw.json").read_text())["measurements"]
    assert len(kept) == 2 * (2 * len(bench.COMPARED) * 4 + sum(map(len, bench.PROBE.values())) + len(bench.READ))
    assert bench.main(["--part", "probe", "--case", "Pong", "--method", "BYOL", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "BYOL" in out
    assert "SimCLR" not in out
