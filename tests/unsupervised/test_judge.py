"""Features beside their controls: encoders whose worth is known, what can't be left out, and what can't be."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sandbox import zoo
from sandbox.training.checkpoint import FileError
from unsupervised import SimCLR, evaluate
from unsupervised.evaluate import RAM_LABELS, few_labels, judge, judge_ram
from unsupervised.judge import _in_proportion, _pixels, _samples, left_at_random

CONTROLS = ["supervised", "random", "PCA", "pixels"]
QUICK = {"supervised": False, "max_iter": 1}


def labelled(n=240, classes=4, noise=6, seed=0):
    """Samples whose first values are their label, 1 at its place, among louder noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return np.column_stack([np.eye(classes)[y], rng.normal(size=(n, noise))]).astype(np.float32), y


def linear(weights):
    """An encoder of the zoo that is one given matrix [out, in]."""
    weights = torch.as_tensor(np.asarray(weights), dtype=torch.float32)
    encoder = zoo.build("mlp", in_shape=(weights.shape[1],), widths=(), out_features=len(weights))
    (layer,) = (module for module in encoder.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.zero_()
    return encoder


def telling(classes=4, noise=6):
    return linear(np.eye(classes, classes + noise))


# -- judge -------------------------------------------------------------------------------------------------------------


def test_an_encoder_that_gives_the_label_itself_is_perfect():
    X, y = labelled()
    judged = judge(telling(), X, y, **QUICK)
    found = judged.rows["encoder"]
    assert found[:5] == pytest.approx((4, 1, 1, 1, 1))
    assert found.effective_rank > 3.5
    assert judged.rows["PCA"].linear < 0.9  # of what is loud, it is nothing
    assert (judged.n_train, judged.n_test, judged.n_classes, judged.k) == (192, 48, 4, 20)


def test_a_constant_encoder_is_chance_and_its_collapse_is_told():
    X, y = labelled()
    encoder = linear(np.zeros((3, 10)))
    with torch.no_grad():
        next(m for m in encoder.modules() if isinstance(m, torch.nn.Linear)).bias.fill_(2.0)
    judged = judge(encoder, X, y, **QUICK)
    found = judged.rows["encoder"]
    assert found.linear == pytest.approx(judged.chance)
    assert found.linear < 0.4
    assert (found.nmi, found.ari) == (0, 0)
    assert found.effective_rank == pytest.approx(1, abs=1e-3)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert judged.rows["random"].spread > 0.5


def test_controls_are_always_there_and_the_table_says_which_was_left_out():
    X, y = labelled(n=80)
    judged = judge(telling(), X, y, max_iter=1)
    assert list(judged.rows) == ["encoder", *CONTROLS]
    assert all(name in str(judged) for name in judged.rows)
    assert "left out" not in str(judged)
    less = judge(telling(), X, y, **QUICK)
    assert list(less.rows) == ["encoder", *CONTROLS[1:]]
    assert "without the supervised control" in str(less)
    assert less.rows["random"] == judged.rows["random"]


def test_each_control_is_what_it_says():
    X, y = labelled()
    judged = judge(telling(), X, y, max_iter=500)
    assert judged.rows["supervised"].linear > 0.9  # it learned what the encoder was given
    assert judged.rows["random"].linear < judged.rows["supervised"].linear
    assert [judged.rows[name].n_features for name in CONTROLS] == [4, 4, 4, 10]
    known, which = judge(linear(np.eye(10)), X, y, **QUICK).rows, slice(1, 5)
    assert known["encoder"][which] == pytest.approx(known["pixels"][which])  # the samples as they are
    wide = judge(linear(np.eye(20, 10)), X, y, **QUICK)
    assert wide.rows["PCA"].n_features == 10  # there are no more


def test_bytes_count_from_0_to_1_and_pictures_may_be_rows():
    X, y = load_digits(n_class=3, return_X_y=True)
    encoder = zoo.build("conv", in_shape=(1, 8, 8))
    pictures = (X * 15).astype(np.uint8).reshape(-1, 8, 8)
    judged = [judge(encoder, x, y, **QUICK) for x in (pictures, pictures[:, None], pictures.reshape(-1, 64) / 255)]
    assert judged[0] == judged[1]
    assert _pixels(pictures).max() == pytest.approx(240 / 255)
    for name, row in judged[0].rows.items():
        assert row == pytest.approx(judged[2].rows[name], abs=1e-3), name


def test_an_encoder_comes_as_a_module_an_estimator_or_a_file(tmp_path):
    X, y = labelled(n=100)
    estimator = SimCLR(n_features=8, max_iter=1, random_state=0).fit(X)
    zoo.save(estimator.encoder_, tmp_path / "encoder.safetensors")
    judged = [judge(one, X, y, **QUICK) for one in (estimator, estimator.encoder_, tmp_path / "encoder.safetensors")]
    assert judged[0] == judged[1] == judged[2]


def test_the_same_seed_gives_the_same_table_and_leaves_everything_as_it_was():
    X, y = labelled(n=100)
    encoder = telling()
    weights = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (judge(encoder, X, y, max_iter=1, random_state=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert few_labels(encoder, X, y, max_iter=1) == few_labels(encoder, X, y, max_iter=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weights[name], tensor) for name, tensor in encoder.state_dict().items())
    assert all(p.requires_grad for p in encoder.parameters())


def test_the_split_that_is_given_is_the_one_that_is_used():
    X, y = labelled()
    X[200:, :4] = 0  # of what is held out, nothing can be told
    train, test = np.arange(200), np.arange(200, 240)
    judged = judge(telling(), X, y, split=(train, test), **QUICK)
    assert (judged.n_train, judged.n_test) == (200, 40)
    assert judged.rows["encoder"].linear < 0.6
    masks = np.arange(240) < 200, np.arange(240) >= 200
    assert judge(telling(), X, y, split=masks, **QUICK) == judged


def test_names_and_a_rare_class():
    X, y = labelled(n=60)
    names = np.array(["a", "b", "c", "d"])[y]
    names[7] = "the only one"
    assert judge(telling(), X, names, **QUICK).n_classes == 5


def test_what_is_left_at_random_keeps_mean_and_scale_and_nothing_else():
    X, _ = labelled(n=100)
    encoder = SimCLR(n_features=8, max_iter=1, random_state=0).fit(X + 7).encoder_
    fresh, again, other = (left_at_random(encoder, seed) for seed in (0, 0, 1))
    assert fresh.mean.mean() > 5
    assert torch.equal(fresh.mean, encoder.mean)
    assert torch.equal(fresh.scale, encoder.scale)
    for name, tensor in fresh.head.state_dict().items():
        assert not torch.equal(tensor, encoder.head.state_dict()[name])
        assert torch.equal(tensor, again.head.state_dict()[name])
        assert not torch.equal(tensor, other.head.state_dict()[name])


# -- few labels --------------------------------------------------------------------------------------------------------


def test_every_beginning_has_all_classes_in_proportion_and_first_one_of_each():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    order = _in_proportion(labels, np.random.RandomState(0))
    assert sorted(order) == list(range(150))
    assert sorted(labels[order[:3]]) == [0, 1, 2]
    for n in (15, 30, 75, 120):
        counts = np.bincount(labels[order[:n]], minlength=3)
        np.testing.assert_allclose(counts, np.array([100, 40, 10]) * n / 150, atol=1.01)
    assert not np.array_equal(order, _in_proportion(labels, np.random.RandomState(1)))


def test_shares_are_of_the_right_number_stratified_and_nested(monkeypatch):
    X, y = labelled(n=500)
    seen, strengths = [], []

    class Spy(evaluate.LinearProbe):
        def fit(self, X, y, groups=None):
            seen.append((X, y))
            strengths.append(self.alphas)
            return super().fit(X, y, groups)

    monkeypatch.setattr("unsupervised.judge.LinearProbe", Spy)
    found = few_labels(telling(), X, y, shares=(0.005, 0.05, 0.5), max_iter=1)
    assert found.n_labels == (4, 20, 200)  # one of each class at least, then the share of 400
    assert found.shares == (0.005, 0.05, 0.5)
    assert found.n_test == 100
    chosen = [np.bincount(labels).min() >= 5 for _, labels in seen]
    assert strengths == [None if choice else [1.0] for choice in chosen]
    assert (chosen[0], chosen[2]) == (False, True)
    frozen = seen[:3]
    for Z, labels in frozen:
        counts = np.bincount(labels, minlength=4)
        np.testing.assert_allclose(counts, len(labels) * np.bincount(y) / 500, atol=1.1)
        assert min(counts) >= 1
        np.testing.assert_array_equal(Z.argmax(1), labels)
    for (fewer, _), (more, _) in pairwise(frozen):
        np.testing.assert_array_equal(more[: len(fewer)], fewer)
    for i in range(3, 12):  # of the others the same rows
        np.testing.assert_array_equal(seen[i][1], seen[i % 3][1])


def test_features_that_tell_the_label_need_one_of_each():
    X, y = labelled()
    found = few_labels(telling(), X, y, shares=(0.02, 1.0), max_iter=500)
    assert list(found.accuracy) == ["fine-tuned", "frozen", "from scratch", "random", "PCA", "pixels"]
    assert found.accuracy["frozen"] == (1, 1)
    assert found.accuracy["fine-tuned"][1] > 0.95 > found.accuracy["from scratch"][1] > 0.7  # from where it began
    assert max(found.accuracy[name][0] for name in ("from scratch", "random", "PCA", "pixels")) < 0.7
    table = str(found)
    assert "4 (2 %)" in table
    assert all(way in table for way in ("fine-tuned", "from scratch", "PCA", "pixels", "left at random"))


def test_progress_is_told_to_the_end():
    X, y = labelled(n=80)
    told = []
    judge(telling(), X, y, **QUICK, progress=lambda *words: told.append(words))
    assert told == [(0, 4, "encoder"), (1, 4, "random"), (2, 4, "PCA"), (3, 4, "pixels"), (4, 4, "done")]
    told.clear()
    few_labels(telling(), X, y, (0.1, 1.0), max_iter=1, progress=lambda *words: told.append(words))
    assert [done for done, _, _ in told] == list(range(13))
    assert told[0] == (0, 12, "fine-tuned, 6 labels")


# -- the memory of a game ----------------------------------------------------------------------------------------------


def game(n=600, seed=0):
    """Frames of eight values, and memory: one number of the ball is a frame's first value, one is in none of them."""
    rng = np.random.default_rng(seed)
    ram = np.zeros((n, 128), np.uint8)
    ram[:, [RAM_LABELS["Pong"][name] for name in ("ball x", "ball y")]] = rng.integers(40, 200, (n, 2))
    loud = 10 * rng.normal(size=(n, 7))
    return np.column_stack([ram[:, 49] / 255, loud]).astype(np.float32), ram


def test_what_is_read_of_a_game_beside_the_controls():
    frames, ram = game()
    judged = judge_ram(linear(np.eye(2, 8)), frames, ram, "pong")
    assert list(judged.scores) == ["encoder", "random", "PCA"]
    ball, nothing = judged.scores["encoder"].r2["ball x"], judged.scores["encoder"].r2["ball y"]
    assert ball == pytest.approx(1, abs=1e-6)
    assert abs(nothing) < 0.1
    assert judged.scores["PCA"].r2["ball x"] < 0.1  # the loud ones are no ball
    assert judged.minus_pca["ball x"] == pytest.approx(ball - judged.scores["PCA"].r2["ball x"])
    assert judged.minus_random["mean"] == pytest.approx(judged.scores["encoder"].mean - judged.scores["random"].mean)
    table = str(judged)
    assert "Pong: R² on" in table
    assert "minus random  minus PCA" in table
    assert "left out, as they do not vary: player x, player y" in table
    assert judge_ram(linear(np.eye(2, 8)), frames, ram, "Pong") == judged


def test_some_variables_pixels_and_whole_games():
    frames, ram = game()
    starts = np.arange(600) % 100 == 0
    judged = judge_ram(linear(np.eye(2, 8)), frames, ram, "Pong", variables=["ball x"], pixels=True, starts=starts)
    assert list(judged.scores) == ["encoder", "random", "PCA", "pixels"]
    assert judged.scores["pixels"].r2 == pytest.approx({"ball x": 1}, abs=1e-6)
    assert judged.scores["encoder"].mean == judged.scores["encoder"].r2["ball x"]
    assert (judged.scores["encoder"].n_train, judged.scores["encoder"].n_test) == (500, 100)
    assert "left out" not in str(judged)


def test_principal_components_of_many_large_frames_are_about_those_of_all():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(6000, 3)) * [30, 20, 10]
    frames = (hidden @ rng.normal(size=(3, 1600)) / 4 + 128).clip(0, 255).astype(np.uint8)
    from unsupervised.judge import _principal

    found = _principal(frames, np.arange(6000), 3, seed=0)
    assert found.shape == (6000, 3)
    assert found.dtype == np.float32
    left = np.linalg.lstsq(np.column_stack([found, np.ones(6000)]), hidden, rcond=None)[1]
    assert (left / (6000 * hidden.var(0)) < 0.02).all()  # fitted on every second, by a randomised solver


# -- what can't be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": np.zeros(7)}, "y must be a label for each of the 240 samples, got 7"),
        ({"y": np.zeros(240)}, "y names one class alone, '0.0'"),
        ({"y": np.arange(240)}, "240 classes, but 192 samples to learn from"),
        ({"y": np.linspace(0, 1, 240)}, "y must be labels, not numbers that are not whole"),
        ({"X": np.zeros((240, 11))}, r"takes samples of shape \(10,\), but X has shape \(240, 11\)"),
        ({"X": np.zeros((0, 10))}, r"but X has shape \(0, 10\)"),
        ({"X": np.zeros((240, 10), int)}, r"must be bytes \(uint8\) or floats, got int64"),
        ({"X": np.full((240, 10), np.nan)}, "not finite"),
        ({"encoder": zoo.build("mlp", in_shape=(9,))}, r"takes samples of shape \(9,\)"),
        ({"encoder": torch.nn.Linear(10, 4)}, "made by zoo.build"),
        ({"encoder": SimCLR()}, "made by zoo.build"),
        ({"test_size": 1.0}, "test_size must be between 0 and 1"),
        ({"split": (np.arange(9), np.arange(5, 20))}, "none in both"),
        ({"split": (np.arange(9), [])}, "neither empty"),
    ],
)
@pytest.mark.parametrize("function", [judge, few_labels])
def test_what_cannot_be_judged_is_said_before_any_work(function, change, words, monkeypatch):
    X, y = labelled()
    if "split" in change:
        change["split"] = tuple(np.asarray(part, int) for part in change["split"])
    monkeypatch.setattr("unsupervised.judge.frozen_features", lambda *args: pytest.fail("it worked"))
    monkeypatch.setattr("unsupervised.judge._taught", lambda *args: pytest.fail("it worked"))
    given = {"encoder": telling(), "X": X, "y": y, **change}
    with pytest.raises(ValueError, match=words):
        function(given.pop("encoder"), given.pop("X"), given.pop("y"), **given)


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.1), (-1,)])
def test_shares_that_cannot_be(shares):
    X, y = labelled(n=40)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        few_labels(telling(), X, y, shares)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"game": "Pnog"}, "nearest: Pong"),
        ({"variables": ["ball z"]}, "Pong has no variable 'ball z'; nearest: ball [xy], ball [xy]"),
        ({"variables": ["player x"]}, "nothing varies: player x keep one value"),
        ({"frames": np.zeros((600, 9))}, r"but frames has shape \(600, 9\)"),
        ({"ram": np.zeros((3, 128), np.uint8)}, "that of each of the 600 frames, got 3"),
    ],
)
def test_a_game_that_cannot_be_judged(change, words):
    frames, ram = game()
    given = {"frames": frames, "ram": ram, "game": "Pong", **change}
    with pytest.raises(ValueError, match=words):
        judge_ram(linear(np.eye(2, 8)), given.pop("frames"), given.pop("ram"), given.pop("game"), **given)


def test_a_file_that_is_missing_is_a_file_error():
    with pytest.raises(FileError, match="no such file"):
        judge("no/such.safetensors", *labelled())


def test_floats_are_not_copied_where_they_are_as_wanted():
    X, _ = labelled()
    assert np.shares_memory(_samples(telling(), X), X)
