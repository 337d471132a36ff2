"""Probes against numbers by hand, loops that are slow and plain, scikit-learn's, and the memory of real games."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sandbox import zoo
from sandbox.training.device import private_seed
from sandbox.zoo import Encoder
from unsupervised import evaluate, probes
from unsupervised.evaluate import RAM_LABELS, LinearProbe, RamScores, frozen_features, knn_accuracy, ram_probe


def linear(n=200, d=6, k=2, noise=0.0, seed=0):
    """Features of very different scales, and targets that are linear in them but for some noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.logspace(-2, 2, d) + rng.normal(size=d) * 10
    Y = X / np.logspace(-2, 2, d) @ rng.normal(size=(d, k)) + 5
    return X, Y + noise * rng.normal(size=(n, k))


def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300], y[:300]), (X[300:600], y[300:600])


# -- the contract of scikit-learn --------------------------------------------------------------------------------------


@parametrize_with_checks([LinearProbe(), LinearProbe(task="regression")])
def test_a_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


def test_the_task_says_what_it_is():
    assert is_classifier(LinearProbe())
    assert not is_regressor(LinearProbe())
    probe = LinearProbe(task="regression")
    assert is_regressor(probe)
    assert not is_classifier(probe)
    assert get_tags(probe).target_tags.multi_output
    assert not hasattr(probe, "decision_function")
    assert not hasattr(LinearProbe(), "r2")


def test_the_judge_of_clusterings_offers_the_probes_too():
    assert evaluate.LinearProbe is probes.LinearProbe
    assert all(hasattr(evaluate, name) for name in evaluate.__all__)


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_a_ridge_by_hand():
    # Standardised, [1, 2, 3] is z = (x - 2) / sqrt(2/3), z'z = 3 and z'y = 4 sqrt(3/2) * ... of y = [0, 2, 4].
    probe = LinearProbe(task="regression", alphas=[1]).fit([[1.0], [2.0], [3.0]], [0.0, 2.0, 4.0])
    # Without a penalty it is y = 2 (x - 1); the penalty of 1 beside z'z = 3 leaves three quarters of the slope.
    assert probe.coef_ == pytest.approx([1.5])
    assert probe.intercept_ == pytest.approx(2 - 1.5 * 2)
    assert probe.predict([[4.0]]) == pytest.approx([5.0])
    assert probe.r2([[1.0], [2.0], [3.0]], [0.0, 2.0, 4.0]) == pytest.approx([1 - 2 * 0.5**2 / 8])
    assert probe.score([[1.0], [2.0], [3.0]], [0.0, 2.0, 4.0]) == pytest.approx(1 - 2 * 0.5**2 / 8)
    assert probe.alpha_ == 1
    assert isinstance(probe.alpha_, float)


@pytest.mark.parametrize("d", [6, 300], ids=["more rows", "more features"])
def test_what_is_linear_is_read_whole(d):
    X, Y = linear(k=3)
    X = X if d == 6 else X / X.std(0) @ np.random.default_rng(1).normal(size=(6, d))  # the same six, in many mixtures
    probe = LinearProbe(task="regression").fit(X[:150], Y[:150])
    assert probe.coef_.shape == (3, d)
    assert probe.alpha_.shape == probe.intercept_.shape == (3,)
    assert probe.score(X[150:], Y[150:]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(probe.r2(X[150:], Y[150:]), 1, atol=1e-6)


def test_from_noise_nothing_is_read():
    rng = np.random.default_rng(0)
    X, Y, y = rng.normal(size=(1000, 50)), rng.normal(size=(1000, 3)), rng.integers(4, size=1000)
    probe = LinearProbe(task="regression").fit(X[:500], Y[:500])
    assert abs(probe.score(X[500:], Y[500:])) < 0.03
    assert probe.r2(X[500:], Y[500:]).mean() == pytest.approx(probe.score(X[500:], Y[500:]))
    assert abs(LinearProbe(random_state=0).fit(X[:500], y[:500]).score(X[500:], y[500:]) - 1 / 4) < 0.06


def test_each_target_has_the_strength_that_suits_it():
    X, Y = linear(n=100, d=30)
    Y[:, 1] = np.random.default_rng(1).normal(size=100)
    probe = LinearProbe(task="regression").fit(X, Y)
    assert probe.alpha_[0] < 1 < 100 < probe.alpha_[1]
    for k in range(2):
        alone = LinearProbe(task="regression").fit(X, Y[:, k])
        assert alone.alpha_ == probe.alpha_[k]
        np.testing.assert_allclose(alone.coef_, probe.coef_[k])


@pytest.mark.parametrize("d", [12, 90], ids=["more rows", "more features"])
def test_the_ridge_of_rows_left_out_one_by_one_is_scikit_learns(d):
    X, Y = linear(n=60, d=d, k=3, noise=2.0)
    alphas = np.logspace(-1, 4, 11)
    probe = LinearProbe(task="regression", alphas=alphas).fit(X, Y)
    peer = make_pipeline(StandardScaler(), RidgeCV(alphas, alpha_per_target=True)).fit(X, Y)
    np.testing.assert_allclose(probe.alpha_, peer[-1].alpha_)
    assert 0.1 < probe.alpha_.min() <= probe.alpha_.max() < 1e4  # a choice, not an end of the list
    np.testing.assert_allclose(probe.predict(X), peer.predict(X), rtol=1e-6)
    np.testing.assert_allclose(probe.coef_, peer[-1].coef_ / peer[0].scale_, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("d", [5, 90], ids=["more rows", "more features"])
def test_the_ridge_of_groups_left_out_is_that_of_a_loop(d):
    X, Y = linear(n=60, d=d, k=2, noise=2.0)
    groups, alphas = np.repeat(["a", "b", "c", "d"], 15), [0.1, 1.0, 10.0, 100.0, 1000.0]
    probe = LinearProbe(task="regression", alphas=alphas, cv=3).fit(X, Y, groups)
    Z = StandardScaler().fit_transform(X)
    folds = list(GroupKFold(3).split(Z, Y, groups))
    errors = [((cross_val_predict(Ridge(alpha), Z, Y, cv=folds) - Y) ** 2).sum(0) for alpha in alphas]
    np.testing.assert_array_equal(probe.alpha_, np.array(alphas)[np.argmin(errors, axis=0)])
    np.testing.assert_allclose(probe.predict(X), Ridge(probe.alpha_).fit(Z, Y).predict(Z), rtol=1e-6)


def test_groups_are_what_keeps_neighbours_apart():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(100, 60)), 4, axis=0) + 0.01 * rng.normal(size=(400, 60))  # a hundred scenes
    y, scenes = np.repeat(rng.normal(size=100), 4), np.repeat(np.arange(100), 4)
    fooled, aware = (LinearProbe(task="regression").fit(X, y, groups) for groups in (None, scenes))
    assert fooled.alpha_ < 100 < aware.alpha_
    folds = probes._folds_of_classes((y > 0).astype(int), scenes, 5, None)
    assert len(folds) == 5
    assert all(not set(scenes[learned]) & set(scenes[left]) for learned, left in folds)
    fooled, aware = (LinearProbe(random_state=0).fit(X, y > 0, groups) for groups in (None, scenes))
    assert fooled.alpha_ < aware.alpha_


@pytest.mark.parametrize("two", [False, True], ids=["ten classes", "two classes"])
def test_the_logistic_part_is_scikit_learns(two):
    (X, y), (X_test, y_test) = digits()
    if two:
        y, y_test = y % 2, y_test % 2
    probe = LinearProbe(alphas=[0.5]).fit(X, y)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=2.0, max_iter=1000)).fit(X, y)
    np.testing.assert_array_equal(probe.predict(X_test), peer.predict(X_test))
    np.testing.assert_allclose(probe.decision_function(X_test), peer.decision_function(X_test), rtol=1e-6, atol=1e-9)
    assert probe.score(X_test, y_test) == peer.score(X_test, y_test) > 0.8
    assert probe.coef_.shape == ((1, 64) if two else (10, 64))


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, of what its next release will call otherwise
def test_the_strength_of_labels_is_that_of_scikit_learns_cross_validation():
    rng = np.random.default_rng(1)
    y = rng.integers(3, size=150)
    X = rng.normal(size=(3, 20))[y] + 2.5 * rng.normal(size=(150, 20))
    probe = LinearProbe(random_state=3, cv=4).fit(X, y)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    Z = StandardScaler().fit_transform(X)
    cs = 1 / np.logspace(4, -2, 7)
    peer = LogisticRegressionCV(Cs=cs, cv=folds, max_iter=1000, tol=1e-6, scoring="accuracy").fit(Z, y)
    assert 1 / probe.alpha_ == pytest.approx(float(np.ravel(peer.C_)[0]))
    assert probe.alpha_ > 1


def test_of_equal_strengths_the_strongest_is_taken():
    X = np.repeat([[-1.0], [1.0]], 20, axis=0)
    assert LinearProbe(task="regression").fit(X, np.full(40, 3.0)).alpha_ == 1e7
    assert LinearProbe(alphas=[1.0, 100.0, 10.0]).fit(X, X[:, 0]).alpha_ == 100


def test_classes_may_have_names_and_a_single_row():
    (X, y), _ = digits()
    names = np.array([f"digit {i}" for i in range(10)])[y]
    names[0] = "the only one"
    probe = LinearProbe(random_state=0).fit(X, names)
    assert set(probe.predict(X)) <= set(names)
    assert len(probe.classes_) == 11
    assert probe.score(X, names) > 0.9
    each = LinearProbe().fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])  # nothing can be left out
    assert each.alpha_ == 1


def test_a_feature_that_never_varies_does_no_harm():
    X, Y = linear()
    X[:, 2] = 7
    Y[:, 1] = 3
    probe = LinearProbe(task="regression").fit(X, Y)
    assert np.isfinite(probe.coef_).all()
    np.testing.assert_allclose(probe.predict(X)[:, 1], 3)
    flat = LinearProbe(task="regression").fit(np.ones((9, 2)), np.arange(9.0))
    np.testing.assert_allclose(flat.predict(np.ones((2, 2))), 4)


def test_the_data_stay_as_they_are_and_a_seed_is_a_fit():
    (X, y), _ = digits()
    before = X.copy()
    one, other = (LinearProbe(random_state=5).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("kwargs", "X", "y", "words"),
    [
        ({}, [[0.0], [1.0]], [0, 1, 1], "inconsistent numbers of samples"),
        ({}, [[0.0], [np.nan]], [0, 1], "Input X contains NaN"),
        ({}, [[0.0], [1.0]], [1, 1], "one class alone, '1'"),
        ({}, [[0.0], [1.0], [2.0]], [0.5, 1.5, 2.7], "Unknown label type"),
        ({}, [[0.0]], [1], "minimum of 2 is required"),
        ({"task": "regression"}, [[0.0], [1.0]], [np.nan, 1], "Input y contains NaN"),
        ({"task": "auto"}, [[0.0], [1.0]], [0, 1], r"'task' parameter.*'classification'.*'regression'|'task'"),
        ({"alphas": [0.0, 1.0]}, [[0.0], [1.0]], [0, 1], "alphas must be positive, got 0.0"),
        ({"cv": 1}, [[0.0], [1.0]], [0, 1], "'cv'"),
        ({"encoder": 3}, [[0.0], [1.0]], [0, 1], "'encoder'"),
    ],
)
def test_what_cannot_be_probed_is_said(kwargs, X, y, words):
    with pytest.raises(ValueError, match=words):
        LinearProbe(**kwargs).fit(X, y)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_groups_that_cannot_be_left_out_are_refused(task):
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    with pytest.raises(ValueError, match="at least two groups"):
        LinearProbe(task=task).fit(X, y, groups=np.zeros(8))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearProbe(task=task).fit(X, y, groups=np.arange(7))


# -- encoders ----------------------------------------------------------------------------------------------------------


class Watched(Encoder):
    """Keeps what it was given, and in which mode."""

    def __init__(self, in_shape, out_features):
        super().__init__(in_shape, out_features)
        self.frozen = nn.Dropout(0.5).eval()
        self.learning = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(int(np.prod(in_shape))))
        self.weight = nn.Parameter(torch.ones(int(np.prod(in_shape)), out_features))
        self.seen = []

    def encode(self, x):
        self.seen.append((len(x), self.training, torch.is_grad_enabled(), float(x.max())))
        return self.learning(self.frozen(x.flatten(1))) @ self.weight


def test_a_network_runs_in_batches_in_eval_mode_without_gradient_and_is_left_as_it_was():
    encoder = Watched((1, 2, 2), 3)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    X = np.arange(28, dtype=np.uint8).reshape(7, 1, 2, 2)
    z = frozen_features(encoder, X, batch_size=3)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, np.repeat(X.reshape(7, 4).sum(1, keepdims=True) / 255, 3, axis=1), rtol=1e-4)
    assert [one[:3] for one in encoder.seen] == [(3, False, False), (3, False, False), (1, False, False)]
    assert [one[3] for one in encoder.seen] == pytest.approx([11 / 255, 23 / 255, 27 / 255])
    assert encoder.training
    assert encoder.learning[0].training
    assert not encoder.frozen.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_rows_grey_pictures_and_pictures_with_a_channel_are_one(dtype):
    encoder = zoo.build("mlp", in_shape=(1, 3, 4), widths=(8,), out_features=5)
    X = np.random.default_rng(0).integers(0, 255, (6, 1, 3, 4)).astype(dtype)
    X.flags.writeable = False
    with torch.no_grad():
        expected = encoder(torch.tensor(X if dtype == np.uint8 else X.astype(np.float32))).numpy()
    for shaped in (X, X[:, 0], X.reshape(6, 12), X.transpose(0, 1, 3, 2).transpose(0, 1, 3, 2)):
        np.testing.assert_allclose(frozen_features(encoder, shaped), expected, rtol=1e-5, atol=1e-5)
    if dtype != np.uint8:
        np.testing.assert_allclose(frozen_features(encoder.double(), X), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_kind_of_encoder_gives_what_its_features_give(task, tmp_path):
    (X, y), (X_test, y_test) = digits()
    with private_seed(0):
        network = zoo.build("mlp", in_shape=(1, 8, 8), widths=(32,), out_features=12)
    path = tmp_path / "mlp.safetensors"
    zoo.save(network, path)
    pca = PCA(12).fit(X)
    for encoder in (network, path, str(path), pca):
        made = [frozen_features(encoder, part) for part in (X, X_test)]
        plain = LinearProbe(task=task, random_state=0).fit(made[0], y)
        probe = LinearProbe(encoder, task, random_state=0, batch_size=100).fit(X, y)
        np.testing.assert_allclose(probe.coef_, plain.coef_, rtol=1e-3, atol=1e-5)
        assert probe.score(X_test, y_test) == pytest.approx(plain.score(made[1], y_test), abs=0.01)
        assert task == "regression" or probe.score(X_test, y_test) > 0.3
        again = pickle.loads(pickle.dumps(probe))
        np.testing.assert_array_equal(again.predict(X_test), probe.predict(X_test))
        assert not hasattr(probe, "n_features_in_")


def test_an_encoder_from_a_file_stays_as_it_was_when_the_probe_was_fitted(tmp_path):
    (X, y), _ = digits()
    path = tmp_path / "mlp.safetensors"
    zoo.save(zoo.build("mlp", in_shape=(64,), widths=(8,), out_features=4), path)
    probe = LinearProbe(path, random_state=0).fit(X, y)
    before = probe.predict(X)
    path.unlink()
    np.testing.assert_array_equal(probe.predict(X), before)


def test_a_clone_keeps_its_encoder_and_nothing_learned():
    (X, y), _ = digits()
    pca = PCA(8).fit(X)
    probe = LinearProbe(pca, alphas=[1.0, 10.0], cv=3, random_state=1).fit(X, y)
    again = clone(probe)
    assert again.encoder is pca
    assert again.get_params(deep=False) == probe.get_params(deep=False)
    assert again.alphas is not probe.alphas
    assert not [name for name in vars(again) if name.endswith("_")]
    assert cross_val_score(LinearProbe(pca, alphas=[1.0]), X, y, cv=3, error_score="raise").min() > 0.6
    with pytest.raises(NotFittedError):
        LinearProbe(pca).predict(X)


def test_what_is_no_encoder_or_takes_other_data_is_refused():
    with pytest.raises(ValueError, match="encoder must be an Encoder of the zoo"):
        frozen_features(nn.Linear(2, 2), np.zeros((3, 2)))
    with pytest.raises(zoo.FileError, match="no such file"):
        LinearProbe("no/such.safetensors").fit(np.zeros((3, 2)), [0, 1, 1])
    encoder = zoo.build("mlp", in_shape=(4,), widths=(8,), out_features=2)
    with pytest.raises(ValueError, match=r"takes x of shape \[B, 4\], got \[3, 5\]"):
        LinearProbe(encoder).fit(np.zeros((3, 5)), [0, 1, 1])
    with pytest.raises(ValueError, match="uint8"):
        frozen_features(encoder, np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match="NaN"):
        LinearProbe(encoder).fit(np.full((3, 4), np.nan), [0, 1, 1])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        LinearProbe(Watched((4,), 2)).fit(np.zeros((3, 4)), [0, 1])


# -- the nearest neighbours --------------------------------------------------------------------------------------------


def by_loop(features, y, k, test=None, test_y=None, temperature=0.07):
    right = 0
    for i, row in enumerate(features if test is None else test):
        candidates = []
        for j, other in enumerate(features):
            if test is not None or i != j:
                s = row @ other / np.linalg.norm(row) / np.linalg.norm(other)
                candidates.append((s, y[j]))
        votes = {}
        for s, label in sorted(candidates, reverse=True)[:k]:
            votes[label] = votes.get(label, 0) + np.exp(s / temperature)
        right += max(votes, key=votes.get) == (y if test is None else test_y)[i]
    return right / len(features if test is None else test)


@pytest.mark.parametrize("scores", [1, 70, 1 << 22], ids=["row by row", "odd batches", "at once"])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 1.0), (59, 0.3)])
def test_neighbours_are_those_of_a_loop(k, temperature, scores, monkeypatch):
    monkeypatch.setattr(probes, "SCORES", scores)
    rng = np.random.default_rng(0)
    y, test_y = rng.integers(4, size=60), rng.integers(4, size=37)
    means = rng.normal(size=(4, 5))
    X, test = (means[one] + rng.normal(size=(len(one), 5)) for one in (y, test_y))
    alone = knn_accuracy(X, y, k, temperature=temperature)
    assert alone == pytest.approx(by_loop(X, y, k, temperature=temperature))
    apart = knn_accuracy(X, y, k, test_features=test, test_y=test_y, temperature=temperature)
    assert apart == pytest.approx(by_loop(X, y, k, test, test_y, temperature=temperature))
    assert 0.2 < alone < 0.95


def test_no_more_similarities_are_in_memory_than_was_said(monkeypatch):
    sizes, topk = [], torch.Tensor.topk
    monkeypatch.setattr(probes, "SCORES", 130)
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, k: sizes.append(self.numel()) or topk(self, k))
    knn_accuracy(np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2, 3)
    assert sizes == [120] * 30


def test_the_nearest_counts_most_and_many_count_more():
    # Two at cosine 0.8 against one at 1: at 0.07 the one has e^(0.2/0.07) = 17 times their weight; at 1, 1.2 times.
    X, y = [[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]], ["near", "far", "far"]
    asked = {"test_features": [[2.0, 0.0]], "test_y": ["near"]}
    assert knn_accuracy(X, y, 3, **asked) == 1
    assert knn_accuracy(X, y, 3, temperature=1.0, **asked) == 0


def test_equal_rows_are_neighbours_but_none_is_its_own():
    X = np.eye(4)[[0, 0, 1, 1]] + 1e-3
    assert knn_accuracy(X, [0, 0, 1, 1], 1) == 1
    assert knn_accuracy(X, [0, 1, 0, 1], 1) == 0


def test_a_length_is_no_similarity_and_zeros_are_alike_to_none():
    (X, y), _ = digits()
    lengths = np.random.default_rng(0).uniform(0.01, 100, (len(X), 1))
    assert knn_accuracy(X * lengths, y, 5) == knn_accuracy(X, y, 5) > 0.9
    assert np.isfinite(knn_accuracy(np.zeros((5, 2)), [0, 0, 1, 1, 1], 2))
    assert knn_accuracy(torch.tensor(X), y, 5) == knn_accuracy(X, y, 5)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((np.ones((3, 2)), [0, 1]), {}, "inconsistent numbers of samples"),
        (([[np.nan], [1.0]], [0, 1]), {}, "contains NaN"),
        ((np.ones((3, 2)), [0, 1, 1], 3), {}, "k must be from 1 to 2.*got 3"),
        ((np.ones((3, 2)), [0, 1, 1], 0), {}, "k must be from 1 to 2.*got 0"),
        ((np.ones((3, 2)), [0.5, 1, 1.2], 1), {}, "Unknown label type"),
        ((np.ones((3, 2)), [0, 1, 1], 1), {"temperature": 0}, "temperature must be positive"),
        ((np.ones((3, 2)), [0, 1, 1], 1), {"test_features": np.ones((1, 2))}, "belong together"),
        ((np.ones((3, 2)), [0, 1, 1], 1), {"test_features": np.ones((1, 3)), "test_y": [0]}, "must have 2 columns"),
        ((np.ones((3, 2)), [0, 1, 1], 4), {"test_features": np.ones((1, 2)), "test_y": [0]}, "from 1 to 3"),
    ],
)
def test_neighbours_that_cannot_be_are_refused(args, kwargs, words):
    with pytest.raises(ValueError, match=words):
        knn_accuracy(*args, **kwargs)


# -- the memory of a game ----------------------------------------------------------------------------------------------


def memory(n=400, bytes_=(49, 54), seed=0):
    """Memory in which some bytes wander slowly, as things on a screen do."""
    ram = np.zeros((n, 128), np.uint8)
    steps = np.random.default_rng(seed).normal(size=(n, len(bytes_))).cumsum(0)
    ram[:, bytes_] = (steps - steps.min(0)) / np.ptp(steps, axis=0) * 200 + 20
    return ram


@pytest.fixture(scope="module")
def pong():
    pytest.importorskip("ale_py")
    from envs.recording import record

    return record("Pong", 150, seed=3, grey=True, size=21, cache=False)


def test_the_memory_itself_tells_all_and_in_another_order_nothing(pong):
    features = pong.ram / 255
    scores = ram_probe(features, pong.ram)
    assert {"player y", "enemy y", "ball x", "ball y"} <= set(scores.r2)
    assert all(scores.r2[name] > 0.99 for name in ("player y", "enemy y", "ball x", "ball y"))
    assert {"player x", "enemy x"} <= set(scores.left_out)  # the paddles go up and down alone
    assert set(scores.r2) | set(scores.left_out) == set(RAM_LABELS["Pong"])
    assert (scores.game, scores.n_test, scores.n_train) == ("Pong", 30, 80)
    mixed = ram_probe(np.random.default_rng(0).permutation(features), pong.ram)
    assert mixed.mean < 0.1
    assert max(mixed.r2[name] for name in ("player y", "enemy y", "ball x", "ball y")) < 0.2


@pytest.mark.parametrize(("name", "columns"), [("player y", slice(18, 20)), ("enemy y", slice(1, 3))])
def test_the_bytes_of_pong_are_where_the_paddles_are_seen(pong, name, columns):
    strip = pong.frames[:, 4:19, columns].astype(float).sum(2)  # the player's is on the right, the enemy's on the left
    paddle = np.abs(strip - np.median(strip))
    seen = paddle.sum(1) > 0
    place = (paddle @ np.arange(15))[seen] / paddle[seen].sum(1)
    value = pong.ram[seen, RAM_LABELS["Pong"][name]].astype(float)
    others = [
        abs(np.corrcoef(place, pong.ram[seen, RAM_LABELS["Pong"][other]])[0, 1]) for other in ("ball x", "ball y")
    ]
    assert seen.sum() > 100
    assert np.corrcoef(place, value)[0, 1] > max(0.6, *others)


def test_an_encoder_of_the_zoo_is_probed(pong):
    encoder = zoo.build("mlp", in_shape=(1, 21, 21), widths=(32,), out_features=16)
    scores = ram_probe(frozen_features(encoder, pong.frames), pong.ram)
    assert np.isfinite(list(scores.r2.values())).all()


def test_blocks_do_not_leak_what_rows_at_random_would():
    frames = np.random.default_rng(1).normal(size=(1000, 32)).cumsum(0)  # wanders, and knows nothing of the memory
    scores = [ram_probe(frames, memory(1000, seed=2), random_state=seed).mean for seed in range(5)]
    assert np.mean(scores) < 0.1
    rows, targets = np.random.default_rng(0).permutation(1000), memory(1000, seed=2)[:, [49, 54]]
    leak = LinearProbe(task="regression").fit(frames[rows[:800]], targets[rows[:800]])
    assert leak.score(frames[rows[800:]], targets[rows[800:]]) > 0.8


def test_the_strength_is_chosen_on_successive_frames_too():
    frames, ram = np.random.default_rng(1).normal(size=(1000, 32)).cumsum(0), memory(1000, seed=2)
    train, test = probes._held_out(1000, None, 0.2, 10, 10, 0)
    targets, fifths = ram[:, [49, 54]], np.arange(len(train)) * 5 // len(train)
    fifthwise, one_by_one = (
        LinearProbe(task="regression").fit(frames[train], targets[train], groups).r2(frames[test], targets[test])
        for groups in (fifths, None)
    )
    scores = ram_probe(frames, ram)
    assert [scores.r2["ball x"], scores.r2["ball y"]] == pytest.approx(fifthwise.tolist())
    assert np.abs(fifthwise - one_by_one).min() > 0.001


@pytest.mark.parametrize("gap", [0, 7])
def test_blocks_are_successive_and_have_a_gap(gap):
    train, test = probes._held_out(400, None, 0.2, 10, gap, 0)
    held = np.unique(test // 40)
    assert len(held) == 2
    np.testing.assert_array_equal(test, np.flatnonzero(np.isin(np.arange(400) // 40, held)))
    distance = np.abs(train[:, None] - test).min(1)
    assert distance.min() == gap + 1
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train, test, [i for i in range(400) if 0 < np.abs(i - test).min() <= gap]])), range(400)
    )


def test_whole_games_are_held_out():
    starts = np.zeros(300, bool)
    starts[[0, 70, 130, 220, 290]] = True
    games = np.cumsum(starts)
    seen = set()
    for seed in range(12):
        train, test = probes._held_out(300, starts, 0.4, 10, 10, seed)
        assert len(set(games[test])) == 2
        assert not set(games[test]) & set(games[train])
        assert len(train) + len(test) == 300
        seen |= set(games[test].tolist())
    assert seen == {1, 2, 3, 4, 5}
    scores = ram_probe(memory(300) / 255, memory(300), starts=starts)
    assert scores.mean > 0.99


def test_the_same_frames_are_held_out_whatever_the_features():
    ram = memory()
    one, again = (ram_probe(ram[:, [49]], ram, random_state=0) for _ in range(2))
    assert one == again == ram_probe(ram[:, [49]], ram)
    assert one != ram_probe(ram[:, [49]], ram, random_state=3)
    assert one.r2["ball x"] > 0.99 > one.r2["ball y"]


def test_scores_are_printed_as_a_table():
    scores = RamScores("Pong", {"ball x": 0.5, "player y": -1.25}, ("clock 1", "score 0", "score 1"), 1200, 300)
    assert scores.mean == -0.375
    assert str(scores).splitlines() == [
        "Pong: R² on 300 frames, of a linear layer learned on 1,200",
        "  ball x     0.500",
        "  player y  -1.250",
        "  mean      -0.375",
        "left out, as they do not vary: clock 1, score (2)",
    ]


def test_the_annotations_are_bytes_of_games_that_there_are():
    assert len(RAM_LABELS) == 24
    for variables in RAM_LABELS.values():
        assert all(isinstance(byte, int) and 0 <= byte < 128 for byte in variables.values())
        assert len(set(variables.values())) == len(variables)
    pong = {"player x": 46, "player y": 51, "enemy x": 45, "enemy y": 50, "ball x": 49, "ball y": 54}
    assert RAM_LABELS["Pong"] == {**pong, "player score": 14, "enemy score": 13}
    assert RAM_LABELS["Breakout"]["blocks 29"] == 29
    assert len(RAM_LABELS["Asteroids"]) == 41
    pytest.importorskip("ale_py")
    from envs.names import atari_games

    assert set(RAM_LABELS) <= set(atari_games())


@pytest.mark.parametrize("game", ["pong", "PONG", "Pong"])
def test_a_game_may_be_written_as_one_likes(game):
    assert ram_probe(memory() / 255, memory(), game).game == "Pong"
    assert probes._labels_of("montezuma_revenge")[0] == "MontezumaRevenge"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"game": "Pnog"}, "'Pnog' is not annotated; nearest: Pong"),
        ({"game": "xx"}, "nearest: Asteroids, BattleZone"),
        ({"features": np.ones((399, 3))}, "inconsistent numbers of samples"),
        ({"features": np.full((400, 3), np.nan)}, "contains NaN"),
        ({"features": np.ones(400)}, "Expected 2D array"),
        ({"ram": np.ones((400, 127), np.uint8)}, r"\[N, 128\], got uint8 \[400, 127\]"),
        ({"ram": np.ones((400, 128))}, "got float64"),
        ({"ram": np.ones((400, 128), np.uint8)}, "nothing varies: player x, player y"),
        ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1"),
        ({"blocks": 1}, "blocks must be from 2 to the number of frames, 400"),
        ({"gap": -1}, "gap must not be negative"),
        ({"gap": 400}, "0 of 400 frames are left"),
        ({"starts": np.eye(400)[0]}, "starts has a single game"),
        ({"starts": np.ones(399)}, r"starts must be of shape \[400\]"),
    ],
)
def test_a_game_that_cannot_be_probed_is_said(change, words):
    kwargs = {"features": memory() / 255, "ram": memory(), **change}
    with pytest.raises(ValueError, match=words):
        ram_probe(kwargs.pop("features"), kwargs.pop("ram"), **kwargs)


def test_a_variable_that_is_still_in_either_part_is_left_out():
    train, test = probes._held_out(400, None, 0.2, 10, 10, 0)
    ram = memory(bytes_=(49, 54, 50, 51))
    ram[test, 54] = 9
    ram[train, 50] = 9
    scores = ram_probe(ram / 255, ram)
    assert set(scores.r2) == {"ball x", "player y"}
    assert scores.left_out == ("player x", "enemy x", "enemy y", "ball y", "player score", "enemy score")
