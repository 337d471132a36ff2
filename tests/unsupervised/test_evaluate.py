"""The judges of a clustering against numbers by hand and scikit-learn's; the choice of k on sets whose k is known."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_samples, silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unsupervised import KMeans, evaluate
from unsupervised.evaluate import agreement, choose_k, elbow, inertia_curve, silhouette, stability


def blobs(k, d=2, n=400, apart=8.0, seed=0):
    """Round heaps of width 1 whose centres are at least so far apart, and which heap each row is of."""
    rng = np.random.default_rng(seed)
    centres = np.empty((0, d))
    side = apart
    while len(centres) < k:
        candidate = rng.uniform(0, side, (1, d))
        if (np.linalg.norm(centres - candidate, axis=1) >= apart).all():
            centres = np.vstack([centres, candidate])
        side *= 1.02
    y = np.arange(n) % k
    return centres[y] + rng.normal(size=(n, d)), y


def on_circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


class Log:
    """A `progress` that remembers."""

    def __init__(self):
        self.calls = []

    def __call__(self, done, total, text):
        self.calls.append((done, total))
        assert isinstance(text, str)

    def complete(self):
        total = self.calls[-1][1]
        return self.calls == [(i + 1, total) for i in range(total)]


# -- silhouette --------------------------------------------------------------------------------------------------------


def test_silhouette_of_all_rows_is_scikit_learns_and_its_error_that_of_a_mean():
    X, y = blobs(3, n=90, apart=3)
    result = silhouette(X, y)
    assert result.mean == pytest.approx(silhouette_score(X, y))
    values = silhouette_samples(X, y)
    by_hand = np.sqrt(np.mean([values[y == c].var(ddof=1) for c in range(3)]) / 90)  # equal clusters
    assert result.error == pytest.approx(by_hand)


def test_a_sampled_silhouette_is_unbiased_and_its_error_honest():
    X, y = blobs(4, n=4000, apart=4, seed=1)
    X, y = X[(keep := np.r_[0:1000, 1000:4000:7])], y[keep]
    X, y = np.vstack([X, blobs(1, n=300, seed=2)[0] - 12]), np.r_[y, np.full(300, 4)]  # unequal ones
    exact = silhouette_score(X, y)
    sampled = [silhouette(X, y, sample_size=300, random_state=seed) for seed in range(30)]
    means, errors = np.array(sampled).T
    assert means.mean() == pytest.approx(exact, abs=3 * means.std() / 30**0.5 + 0.002)
    assert means.std() > 0
    assert 0.5 < means.std() / errors.mean() < 1.5


def test_every_cluster_is_in_the_sample_and_counts_by_its_size(monkeypatch):
    X = np.r_[np.zeros((980, 1)), np.full((17, 1), 10.0), [[20.0], [20.0], [30.0]]]
    X += np.random.default_rng(0).normal(0, 0.1, X.shape)
    y = np.repeat([5, 7, -1, 9], [980, 17, 2, 1])
    seen = []
    monkeypatch.setattr(
        evaluate, "silhouette_samples", lambda X, labels: seen.append(labels) or silhouette_samples(X, labels)
    )
    result = silhouette(X, y, sample_size=100, random_state=0)
    assert np.bincount(seen[0]).tolist() == [2, 98, 2, 1]  # in the order of their names: -1, 5, 7, 9
    assert result.mean == pytest.approx(silhouette_score(X, y), abs=0.005)


def test_a_silhouettes_memory_is_bounded_and_no_setting_is_left_behind(monkeypatch):
    import sklearn

    during = []

    def spy(X, labels):
        during.append(sklearn.get_config()["working_memory"])
        return silhouette_samples(X, labels)

    monkeypatch.setattr(evaluate, "silhouette_samples", spy)
    before = sklearn.get_config()
    silhouette(*blobs(2, n=20))
    assert during == [64]
    assert sklearn.get_config() == before


def test_the_same_seed_draws_the_same_sample():
    X, y = blobs(3, apart=3)
    draws = [silhouette(X, y, sample_size=60, random_state=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_silhouette_takes_sparse_rows_and_names():
    X, y = blobs(3, n=60)
    names = np.array(["a", "b", "c"])[y]
    assert silhouette(csr_matrix(X), names) == pytest.approx(silhouette(X, y))
    assert silhouette(csr_matrix(X), names, sample_size=30).mean > 0.5


@pytest.mark.parametrize(
    ("X", "labels", "words"),
    [
        (np.zeros((0, 2)), [], "Found array with 0 sample"),
        ([[0.0], [np.nan], [1.0]], [0, 1, 1], "Input X contains NaN"),
        ([[0.0], [1.0], [2.0]], [0, 1], "inconsistent numbers of samples"),
        ([[0.0], [1.0], [2.0]], [0, 0, 0], "Number of labels is 1"),
        ([[0.0], [1.0], [2.0]], [0, 1, 2], "Number of labels is 3"),
    ],
)
def test_a_silhouette_that_cannot_be_is_scikit_learns_error(X, labels, words):
    with pytest.raises(ValueError, match=words):
        silhouette(X, labels, sample_size=2)


# -- agreement ---------------------------------------------------------------------------------------------------------


def test_agreement_by_hand():
    result = agreement([0, 0, 1, 1], [0, 0, 1, 2])
    # Of the six pairs two are together in the first, one in the second and in both; by chance 2 * 1 / 6 would be.
    assert result.ari == pytest.approx((1 - 1 / 3) / ((2 + 1) / 2 - 1 / 3))
    # The second tells all of the first, which is one bit, and is one and a half bits itself.
    assert result.nmi == pytest.approx(1 / ((1 + 1.5) / 2))
    assert agreement([0, 1, 2], [2, 0, 1]) == (1.0, 1.0)


def test_labels_that_tell_nothing_agree_no_more_than_chance():
    rng = np.random.default_rng(0)
    result = agreement(rng.integers(5, size=5000), rng.integers(5, size=5000))
    assert abs(result.ari) < 0.01
    assert 0 < result.nmi < 0.01


def test_agreement_of_different_lengths_is_scikit_learns_error():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        agreement([0, 1], [0, 1, 1])


# -- stability ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsample", [1.0, 0.7])
def test_the_right_k_is_stable_and_a_wrong_one_is_not(subsample):
    X, _ = blobs(5, seed=3)
    right, wrong = (stability(KMeans(k, n_init=3), X, subsample=subsample, random_state=0, n_seeds=6) for k in (5, 8))
    assert right == (1.0, 0.0)
    assert wrong.mean < 0.95
    assert wrong.std > 0


def test_stability_is_the_mean_over_all_pairs(monkeypatch):
    answers = iter([[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]])
    monkeypatch.setattr(KMeans, "fit_predict", lambda self, X: np.array(next(answers)))
    result = stability(KMeans(2), np.eye(4), n_seeds=3)
    assert result.mean == pytest.approx((1 - 0.5 - 0.5) / 3)
    assert result.std == pytest.approx(np.std([1, -0.5, -0.5]))


def test_two_runs_on_different_rows_are_compared_on_those_that_both_saw(monkeypatch):
    """An estimator that tells each row by its value agrees with itself, whichever rows it saw, and in their order."""
    monkeypatch.setattr(KMeans, "fit_predict", lambda self, X: X[:, 0].astype(int) // 10)
    assert stability(KMeans(2), np.arange(50.0)[:, None], subsample=0.6, random_state=0) == (1.0, 0.0)


def test_stability_takes_pipelines_other_estimators_and_sparse_rows():
    X, _ = blobs(3, n=90)
    pipeline = make_pipeline(StandardScaler(), KMeans(3, n_init=3, random_state=7))
    assert stability(pipeline, X, n_seeds=3, random_state=0).mean == 1
    assert pipeline[-1].random_state == 7
    assert not hasattr(pipeline[-1], "labels_")
    assert stability(DBSCAN(eps=3), X, n_seeds=3, random_state=0).mean == 1
    assert stability(KMeans(3, n_init=3), csr_matrix(X), n_seeds=3, subsample=0.8, random_state=0).mean == 1


def test_each_place_of_a_pipeline_that_takes_a_seed_gets_a_new_one(monkeypatch):
    seeds = []
    monkeypatch.setattr(
        KMeans, "fit_predict", lambda self, X, y=None, **_: seeds.append(self.random_state) or np.zeros(len(X))
    )
    stability(make_pipeline(StandardScaler(), KMeans(3)), np.eye(4), n_seeds=4, random_state=0)
    assert len(set(seeds)) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_seeds": 1}, "n_seeds=1, but stability compares two runs"),
        ({"subsample": 0.5}, "subsample=0.5, but it is above 0.5"),
        ({"subsample": 1.5}, "subsample=1.5, but"),
    ],
)
def test_a_stability_that_cannot_be_says_what_could(settings, words):
    with pytest.raises(ValueError, match=words):
        stability(KMeans(2), np.eye(4), **settings)


# -- inertia and elbow -------------------------------------------------------------------------------------------------


def test_an_inertia_curve_falls_and_takes_any_estimator():
    X, _ = blobs(4)
    log = Log()
    curve = inertia_curve(X, range(1, 9), random_state=0, progress=log)
    assert curve.ks == tuple(range(1, 9))
    assert (np.diff(curve.inertias) < 0).all()
    assert curve.inertias[0] == pytest.approx(((X - X.mean(0)) ** 2).sum())
    assert log.complete()
    model = KMeans(n_clusters=2, init="random", n_init=1, max_iter=1)
    worse = inertia_curve(X, [8, 8, 6], estimator=model, random_state=0)
    assert worse.ks == (6, 8)
    assert worse.inertias[1] > curve.inertias[-1]
    assert model.n_clusters == 2


@pytest.mark.parametrize("d", [2, 10])
@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_the_elbow_is_at_the_number_of_separated_blobs(k, d):
    for seed in range(3):
        curve = inertia_curve(blobs(k, d, seed=seed)[0], range(1, 13), random_state=seed)
        assert elbow(*curve) == k, seed


def test_an_elbow_by_hand():
    ks = [1, 2, 4, 8, 16]
    line = np.array([1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16])  # straight in logarithms
    for i in (1, 2, 3):
        bent = line.copy()
        bent[i] /= 1.1
        assert elbow(ks, bent) == ks[i]
    assert elbow([1, 2, 3, 4], [10.0, 5.0, 0.0, 0.0]) == 3


@pytest.mark.parametrize(
    ("ks", "inertias"), [([1, 2], [2, 1]), ([1, 2, 3], [2, 1]), ([1, 3, 2], [3, 2, 1]), ([0, 1, 2], [3, 2, 1])]
)
def test_an_elbow_that_cannot_be_says_so(ks, inertias):
    with pytest.raises(ValueError, match="three or more ascending ks"):
        elbow(ks, inertias)


@pytest.mark.parametrize("choose", [inertia_curve, choose_k])
@pytest.mark.parametrize(
    ("X", "ks", "words"),
    [
        ([[0.0], [np.nan], [1.0]], [1, 2], "contains NaN"),
        ([[0.0], [np.inf], [1.0]], [1, 2], "contains infinity"),
        (np.zeros((0, 2)), [1, 2], "Found array with 0 sample"),
        ([[0.0], [1.0], [2.0]], [1, 4], "n_samples=3 should be >= n_clusters=4"),
        ([[0.0], [1.0], [2.0]], [0], "The 'n_clusters' parameter of KMeans must be an int in the range"),
        ([[0.0], [1.0], [2.0]], [], "ks is empty"),
        ([0.0, 1.0, 2.0], [1, 2], "Expected 2D array, got 1D array"),
        (
            [["a"], ["b"], ["c"]],
            [1, 2],
            "could not convert string to float|not compatible with arrays of bytes/strings",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_scikit_learns_error(choose, X, ks, words):
    with pytest.raises(ValueError, match=words):
        choose(X, ks)


@pytest.mark.parametrize("shape", [(200, 30), (40, 100)])
def test_the_heaps_of_reference_extend_as_far_as_the_rows(shape):
    X = np.random.default_rng(0).normal(size=shape) * np.linspace(5, 1, shape[1]) + 100
    gaussian, uniform = (list(heaps) for heaps in evaluate._heaps(X, np.random.RandomState(0)))
    assert len(gaussian) == len(uniform) == 5
    assert np.mean([heap.var(axis=0, ddof=1).sum() for heap in gaussian]) == pytest.approx(
        X.var(axis=0, ddof=1).sum(), rel=0.1
    )
    along = PCA().fit_transform(X)
    boxes = np.sort(np.mean([np.ptp(heap, axis=0) for heap in uniform], axis=0))
    assert boxes == pytest.approx(np.sort(np.ptp(along, axis=0)), rel=0.1, abs=0.1)
    heap = next(evaluate._heaps(X.astype(np.float32), np.random.RandomState(0))[0])
    assert heap.dtype == np.float32


# -- the choice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 10])
@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_the_number_of_separated_blobs_is_found(k, d):
    for seed in range(3):
        log = Log()
        choice = choose_k(blobs(k, d, seed=seed)[0], range(1, 11), n_seeds=3, random_state=seed, progress=log)
        assert choice.k == choice.elbow == k, seed
        assert "the largest silhouette" in choice.reason
        assert log.complete()


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("gaussian", lambda rng: rng.normal(size=(400, 2))),
        ("long gaussian", lambda rng: rng.normal(size=(400, 3)) * [8, 1, 1]),
        ("few rows in many dimensions", lambda rng: rng.normal(size=(40, 100))),
        ("uniform", lambda rng: rng.uniform(size=(400, 2))),
        ("uniform line", lambda rng: rng.uniform(size=(400, 1))),
        ("uniform triangle", lambda rng: rng.dirichlet([1, 1, 1], 1500)[:, :2]),
        ("long, with heavy tails across", lambda rng: np.c_[4 * rng.normal(size=400), rng.standard_t(3, (400, 10))]),
        ("uniform disc", lambda rng: np.sqrt(rng.uniform(size=(900, 1))) * on_circle(rng.uniform(0, 6.2832, 900))),
        ("heavy tails", lambda rng: rng.standard_t(3, size=(400, 2))),
    ],
)
def test_one_heap_is_one_cluster_and_the_reason_says_so(name, draw):
    for seed in range(3):
        choice = choose_k(draw(np.random.default_rng(seed)), range(1, 5), n_seeds=3, random_state=seed)
        assert choice.k == 1, (seed, choice.reason)
        assert "no clusters found" in choice.reason


def test_two_overlapping_heaps_on_a_line_are_two():
    """A single heap on a line has a high silhouette, too, so that there is little room above it."""
    for seed in range(3):
        X = np.random.default_rng(seed).normal(size=(400, 1)) + np.repeat([[0.0], [4.5]], 200, axis=0)
        assert choose_k(X, range(1, 5), random_state=seed).k == 2


def test_where_one_cluster_is_not_among_those_tried_the_best_is_named_with_its_doubt():
    choice = choose_k(np.random.default_rng(0).normal(size=(300, 2)), range(2, 6), random_state=0)
    assert 2 <= choice.k <= 5
    assert "hardly clusters" in choice.reason


def test_digits_have_about_ten():
    digits = load_digits()
    choice = choose_k(digits.data, [2, 5, 9, 14, 20], n_seeds=3, random_state=0)
    assert choice.k in (9, 14)
    assert choice.elbow in (5, 9, 14)


def test_the_most_stable_of_equally_good_ones_is_taken(monkeypatch):
    """Where the silhouettes of 2, 3 and 4 differ less than their errors, and 3 is found each time."""
    X, _ = blobs(3, n=90)
    given = {2: (0.62, 0.05), 3: (0.60, 0.05), 4: (0.63, 0.05), 5: (0.40, 0.05)}

    def made_up(rows, labels, **_):
        return evaluate.Silhouette(*(given[len(np.unique(labels))] if np.array_equal(rows, X) else (0.1, 0.01)))

    monkeypatch.setattr(evaluate, "silhouette", made_up)
    choice = choose_k(X, range(1, 6), random_state=0)
    assert choice.k == 3
    assert choice.table[2].stability == 1 > choice.table[3].stability
    assert "the most stable" in choice.reason
    given[3] = (0.55, 0.05)
    assert choose_k(X, range(1, 6), random_state=0).k in (2, 4)


def test_a_choice_among_many_rows_looks_at_some_and_the_table_shows_all_it_tried():
    X, _ = blobs(3, n=900)
    choice = choose_k(X.astype(np.float32), [1, 2, 3, 4], max_rows=300, random_state=0)
    assert choice.k == 3
    assert [tried.k for tried in choice.table] == [1, 2, 3, 4]
    assert choice.table[0].inertia < 0.5 * ((X - X.mean(0)) ** 2).sum()
    assert np.isnan(choice.table[0].silhouette)
    assert choice.table[2].stability == 1
    text = str(choice)
    assert text.splitlines()[3].endswith("<")
    assert text.endswith(f"k = 3: {choice.reason}")


def test_the_same_seed_makes_the_same_choice():
    X, _ = blobs(4, apart=3)
    first, second = (choose_k(X, [2, 3, 4, 5], random_state=0) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("X", "k", "words"),
    [
        ([[1.0, 2.0]] * 9, 1, "all rows are equal"),
        ([[1.0, 2.0]], 1, "all rows are equal"),
        ([[1.0], [2.0]], 1, "no other was tried"),
        ([[0.0]] * 9 + [[1.0]] * 9, 2, "the largest silhouette, 1.000"),
    ],
)
def test_a_set_of_few_distinct_rows(X, k, words):
    log = Log()
    choice = choose_k(X, random_state=0, progress=log)
    assert choice.k == k
    assert words in choice.reason
    assert log.calls[-1][0] == log.calls[-1][1]


def test_as_many_clusters_as_rows_have_no_silhouette():
    choice = choose_k([[0.0], [1.0], [5.0], [6.0]], [1, 2, 4], random_state=0)
    assert np.isnan(choice.table[2].silhouette)


def test_a_single_seed_has_no_stability_and_sparse_rows_are_refused():
    with pytest.raises(ValueError, match="n_seeds=1"):
        choose_k(np.eye(4), n_seeds=1)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        choose_k(csr_matrix(np.eye(4)))
    with pytest.raises(TypeError, match="float"):
        choose_k(np.eye(4), [1.5])
