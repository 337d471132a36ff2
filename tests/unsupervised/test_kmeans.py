"""Our k-means against scikit-learn's, against numbers by hand, and against itself in other circumstances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare
from sklearn import cluster
from sklearn.datasets import load_digits, make_blobs
from threadpoolctl import threadpool_limits

from unsupervised import BisectingKMeans, KMeans, MiniBatchKMeans, Shards, SphericalKMeans, k_means, kmeans_plusplus
from unsupervised.lloyd import Partition, lloyd
from unsupervised.rows import Dense, Team, rows_of, strips, team, tile_size
from unsupervised.seeding import moments, ordering, plusplus, row_keys

ALGORITHMS = ["lloyd", "elkan", "auto"]
CPU = torch.device("cpu")


def blobs(n=600, d=5, k=7, std=2.0, seed=0, dtype=np.float64):
    X, _ = make_blobs(n, d, centers=k, cluster_std=std, random_state=seed)
    return X.astype(dtype)


def starts(X, k, seed=0):
    return X[np.random.default_rng(seed).choice(len(X), k, replace=False)]


# -- numbers by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_four_rows(algorithm, container):
    X = container(np.array([[0.0, 0.0], [0.0, 2.0], [8.0, 0.0], [8.0, 4.0]]))
    model = KMeans(2, init=[[0.0, 0.0], [8.0, 0.0]], algorithm=algorithm).fit(X, sample_weight=[1, 1, 1, 3])
    assert model.labels_.tolist() == [0, 0, 1, 1]
    assert model.cluster_centers_.tolist() == [[0.0, 1.0], [8.0, 3.0]]
    assert model.inertia_ == 1 + 1 + 9 + 3 * 1
    assert model.n_iter_ == 2
    assert model.predict(container(np.array([[7.0, 7.0]]))).tolist() == [1]
    assert model.score(X) == -(1 + 1 + 9 + 1)


def test_by_direction():
    X = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 9.0], [5.0, 5.0]])
    model = SphericalKMeans(2, init=[[1.0, 0.1], [0.0, 1.0]]).fit(X)
    assert model.labels_.tolist() == [0, 0, 1, 1, 0]
    between = np.array([2 + np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(model.cluster_centers_, [between / np.linalg.norm(between), [0, 1]])
    cosines = X[[0, 1, 4]] @ model.cluster_centers_[0] / np.linalg.norm(X[[0, 1, 4]], axis=1)
    assert model.inertia_ == pytest.approx((2 - 2 * cosines).sum())


# -- against scikit-learn's Lloyd from the same start ------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    "case", ["blobs", "overlapping", "uniform", "digits", "many centres", "one centre", "weights", "far"]
)
def test_the_same_labels_and_iterations(algorithm, container, case):
    X, weights, k = blobs(), None, 7
    if case == "overlapping":
        X = blobs(2000, 3, 9, std=6.0)
        k = 9
    elif case == "uniform":
        X, k = np.random.default_rng(0).random((3000, 2)), 40
    elif case == "digits":
        X, k = load_digits().data, 10
    elif case == "many centres":
        X, k = blobs(1500, 4, 30), 150  # more than fit into the bits of `_packed`
    elif case == "one centre":
        k = 1
    elif case == "weights":
        weights = np.random.default_rng(1).random(len(X)) * (np.arange(len(X)) % 5 > 0)
    elif case == "far":
        X = X + 1e6
    if case == "far" and container is sp.csr_array:
        pytest.skip("nothing is subtracted from sparse rows, so rounding decides")
    if algorithm == "elkan" and k == 1:
        pytest.skip("told to the user, and lloyd is taken")
    init = starts(X, k) + np.random.default_rng(2).normal(size=(k, X.shape[1]))  # no distance is exactly another
    settings = {"init": init, "n_init": 1, "tol": 0, "max_iter": 300}
    theirs = cluster.KMeans(k, **settings).fit(container(X), sample_weight=weights)
    ours = KMeans(k, algorithm=algorithm, **settings).fit(container(X), sample_weight=weights)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-8)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_a_tolerance_ends_the_run_where_it_ends_scikit_learns(tol):
    X = np.random.default_rng(0).normal(size=(4000, 6))
    settings = {"init": starts(X, 12), "n_init": 1, "tol": tol}
    theirs, ours = cluster.KMeans(12, **settings).fit(X), KMeans(12, **settings).fit(X)
    assert ours.n_iter_ == theirs.n_iter_ > 3
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_single_precision_stays_within_a_thousandth(algorithm):
    X = np.random.default_rng(0).random((5000, 16)).astype(np.float32)
    settings = {"init": starts(X, 20), "n_init": 1, "tol": 0, "max_iter": 60}
    theirs, ours = cluster.KMeans(20, **settings).fit(X), KMeans(20, algorithm=algorithm, **settings).fit(X)
    assert ours.cluster_centers_.dtype == np.float32
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_clusters_are_seated_as_scikit_learn_seats_them(algorithm, weighted):
    X = blobs(300, 2, 4)
    weights = np.random.default_rng(0).integers(1, 4, 300) if weighted else None
    init = np.concatenate([starts(X, 3), [[1e3, 1e3], [2e3, 0]]])
    theirs = cluster.KMeans(5, init=init, n_init=1, tol=0).fit(X, sample_weight=weights)
    ours = KMeans(5, init=init, n_init=1, tol=0, algorithm=algorithm).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 3, 64, 65, 128, 129])
def test_nearly_equal_distances_are_decided_in_full(dtype, k):
    """Centres a few units of the last place apart, which the packed comparison alone cannot tell from each other."""
    rng = np.random.default_rng(k)
    X = rng.normal(size=(500, 3)).astype(dtype)
    centers = np.repeat(rng.normal(size=(-(-k // 2), 3)), 2, axis=0)[:k].astype(dtype)
    centers[1::2] += np.finfo(dtype).eps * 20
    rows, about = Dense(X, CPU), moments(Dense(X, CPU), None, Team(None))
    partition = Partition(rows, about.norms, None, k, Team(None), "never")
    partition.assign(torch.from_numpy(centers))
    scores = rows.scores(
        rows.X,
        torch.from_numpy(centers),
        torch.from_numpy((centers**2).sum(1) / 2),
        torch.empty(500, k, dtype=rows.dtype),
    )
    mine = scores.gather(1, partition.labels.long()[:, None])[:, 0]
    unit = np.finfo(dtype).eps * (about.norms.numpy() + (centers**2).sum(1).max())
    assert (mine.numpy() - scores.amin(1).numpy() <= 2 * unit).all()


# -- the same in other circumstances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_number_of_threads_changes_nothing(dtype):
    X = np.random.default_rng(0).random((40_000, 16)).astype(dtype)
    fits = []
    for n in (1, 2, 3):
        with threadpool_limits(n):
            fits.append(KMeans(30, random_state=3, max_iter=15).fit(X))
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.labels_, fits[0].labels_)
        np.testing.assert_array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
        assert fit.inertia_ == fits[0].inertia_


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, SphericalKMeans, BisectingKMeans])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_neither_order_nor_repetition_of_rows_matters(kind, init):
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(80, 4)), rng.integers(0, 4, 80)
    repeated = rng.permutation(np.repeat(X, weights, axis=0))
    one = kind(5, init=init, random_state=7).fit(X, sample_weight=weights)
    other = kind(5, init=init, random_state=7).fit(repeated)
    np.testing.assert_allclose(one.cluster_centers_, other.cluster_centers_)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.inertia_ == pytest.approx(other.inertia_)


@pytest.mark.parametrize("kind", [KMeans, SphericalKMeans])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [0, 1e3])
def test_shards_give_what_the_array_gives(kind, dtype, shift, tmp_path):
    X = blobs(1000, 6, 5, dtype=dtype) + dtype(shift)
    for i, part in enumerate(np.split(X, [100, 101, 700])):
        np.save(tmp_path / f"{i}.npy", part)
    whole = kind(5, random_state=0).fit(X)
    paths = sorted(str(path) for path in tmp_path.glob("*.npy"))
    for shards in (Shards(tmp_path), Shards(paths), Shards(X[i : i + 64] for i in range(0, 1000, 64))):
        fit = kind(5, random_state=0).fit(shards)
        np.testing.assert_array_equal(fit.labels_, whole.labels_)
        np.testing.assert_allclose(fit.cluster_centers_, whole.cluster_centers_, rtol=1e-5)
        np.testing.assert_array_equal(fit.predict(shards), whole.labels_)
        np.testing.assert_allclose(fit.transform(shards), fit.transform(X), atol=1e-4 * (1 + shift))
        assert fit.score(shards) == pytest.approx(-fit.inertia_, rel=1e-4)


def test_a_memory_map_is_read_and_not_changed(tmp_path):
    X = blobs(500, 3, 4)
    np.save(tmp_path / "x.npy", X)
    fit = KMeans(4, random_state=0).fit(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(fit.labels_, KMeans(4, random_state=0).fit(X).labels_)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


def test_batches_of_shards_are_learned_from():
    X = np.random.default_rng(0).permutation(blobs(3000, 3, 3, std=0.5))
    model = MiniBatchKMeans(3, random_state=0, batch_size=256, n_init=3)
    model.partial_fit(Shards([X[:1000], X[1000:]]))
    assert model.n_steps_ == 11  # of 256 rows, the last of 440
    assert len(set(model.predict(X))) == 3
    with pytest.raises(TypeError, match="partial_fit"):
        model.fit(Shards([X]))


@given(
    X=arrays(np.float64, st.tuples(st.integers(2, 60), st.integers(1, 4)), elements=st.floats(-100, 100, width=32)),
    k=st.integers(1, 8),
    pruned=st.sampled_from(["never", "always", "auto"]),
)
@settings(max_examples=60, deadline=None)
def test_inertia_never_rises(X, k, pruned):
    k = min(k, len(X))
    told: list[float] = []
    rows = rows_of(X, CPU)
    about = moments(rows, None, Team(None))
    result = lloyd(
        rows,
        about.norms,
        None,
        torch.from_numpy(X[:k].copy()),
        max_iter=20,
        tol=0,
        team=Team(None),
        pruned=pruned,
        progress=lambda _iteration, inertia: told.append(inertia),
    )
    told.append(result.inertia)
    assert all(after <= before + 1e-9 * (1 + float(about.norms.sum())) for before, after in itertools.pairwise(told))


def test_bounds_spare_most_distances():
    X = blobs(20_000, 4, 20, std=1.0)
    seen = []
    for pruned in ("never", "always"):
        rows = rows_of(X, CPU)
        count = [0]

        def counted(found, count=count):
            def call(block, *args, **kwargs):
                count[0] += len(block)
                return found(block, *args, **kwargs)

            return call

        rows.scores, rows.nearest = counted(rows.scores), counted(rows.nearest)
        about = moments(rows, None, Team(None))
        start = torch.from_numpy(starts(X, 20))
        lloyd(rows, about.norms, None, start, max_iter=100, tol=0, team=Team(None), pruned=pruned)
        seen.append(count[0])
    assert seen[1] < seen[0] / 2


# -- seeding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 1.0, 4.0, 1.0])])
def test_seeds_are_drawn_by_squared_distance(weights):
    """Each set of three, of five rows on a line, as often as k-means++ says: also those that a rejection led to."""
    X = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
    mass = np.ones(5) if weights is None else weights
    expected: dict[tuple[int, ...], float] = {}
    for first in range(5):
        one = mass[first] / mass.sum()
        near = mass * ((X - X[first]) ** 2)[:, 0]
        for second in np.flatnonzero(near):
            two = one * near[second] / near.sum()
            left = mass * np.minimum((X - X[first]) ** 2, (X - X[second]) ** 2)[:, 0]
            for third in np.flatnonzero(left):
                found = (first, int(second), int(third))
                expected[found] = expected.get(found, 0) + two * left[third] / left.sum()
    seen = dict.fromkeys(expected, 0)
    rows, draws = Dense(X, CPU), 4000
    about = moments(rows, None, Team(None))
    order = ordering(row_keys(X))
    tensor = None if weights is None else torch.from_numpy(weights)
    for seed in range(draws):
        ids = plusplus(rows, about.norms, tensor, 3, np.random.RandomState(seed), order, Team(None), n_local_trials=1)
        seen[tuple(ids.tolist())] += 1
    assert chisquare(list(seen.values()), [draws * p for p in expected.values()]).pvalue > 1e-3


def test_seeding_leaves_no_more_than_scikit_learns_does():
    X = blobs(2000, 8, 20, std=5.0, dtype=np.float32)

    def potential(centers):
        return ((X[:, None] - centers) ** 2).sum(2).min(1).sum()

    ours, theirs = (
        np.array([potential(seeding(X, 20, random_state=seed)[0]) for seed in range(20)])
        for seeding in (kmeans_plusplus, cluster.kmeans_plusplus)
    )
    error = np.hypot(ours.std(ddof=1), theirs.std(ddof=1)) / np.sqrt(20)
    assert ours.mean() < theirs.mean() + 3 * error


def test_more_seeds_than_rows_that_differ():
    X = np.array([[1.0], [1.0], [2.0], [2.0], [2.0]])
    centers, ids = kmeans_plusplus(X, 4, random_state=0)
    assert set(centers[:, 0]) == {1.0, 2.0}
    assert ids.shape == (4,)
    with pytest.warns(UserWarning, match=r"distinct clusters \(2\)"):
        KMeans(4, init="random", n_init=1, random_state=0).fit(X)


def test_equal_rows_have_equal_keys_and_others_have_not():
    X = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    X[100] = X[7]
    keys = row_keys(X)
    assert len(set(keys.tolist())) == 499
    assert keys[100] == keys[7]
    for same in (X.astype(np.float64), np.asfortranarray(X), sp.csr_array(X), Shards([X[:9], X[9:]])):
        np.testing.assert_array_equal(row_keys(same), keys)
    np.testing.assert_array_equal(row_keys(np.array([[0.0]])), row_keys(np.array([[-0.0]])))


def test_strips_cover_all_rows_once():
    for n in (1, 4095, 4096, 8192, 100_000, 1_000_001):
        covered = [i for span in strips(n, 50) for i in (span[0], span[1])]
        assert covered[0] == 0
        assert covered[-1] == n
        assert covered[1:-1:2] == covered[2::2]


# -- the functions, and bad input --------------------------------------------------------------------------------------


def test_the_function_returns_what_the_class_holds():
    X = blobs(200, 2, 3)
    model = KMeans(3, random_state=0).fit(X)
    centers, labels, inertia, n_iter = k_means(X, 3, random_state=0, return_n_iter=True)
    np.testing.assert_array_equal(centers, model.cluster_centers_)
    np.testing.assert_array_equal(labels, model.labels_)
    assert (inertia, n_iter) == (model.inertia_, model.n_iter_)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[np.nan, 1.0], [0.0, 1.0]], "NaN"),
        ([[np.inf, 1.0], [0.0, 1.0]], "infinity"),
        (np.array([[1j, 1.0], [0.0, 1.0]]), "Complex data not supported"),
        ([["a", "b"], ["c", "d"]], "could not convert string"),
        (np.empty((0, 2)), "Found array with 0 sample"),
        ([[1.0, 2.0]], r"n_samples=1 should be >= n_clusters=2"),
    ],
)
@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, SphericalKMeans, BisectingKMeans])
def test_bad_rows_are_refused_as_scikit_learn_refuses_them(kind, X, message):
    with pytest.raises(ValueError, match=message):
        cluster.KMeans(2).fit(X)
    with pytest.raises(ValueError, match=message):
        kind(2).fit(X)


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, SphericalKMeans, BisectingKMeans])
def test_negative_weights_are_refused(kind):
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        kind(2).fit(blobs(20, 2, 2), sample_weight=-np.ones(20))


def test_bad_shards_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Shards(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"without \.npy files"):
        Shards(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"b\.npy has 4 columns, but .*a\.npy has 2"):
        Shards(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"b\.npy holds float64 of shape \(3,\)"):
        Shards(tmp_path)
    (tmp_path / "b.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.npy is no \.npy file"):
        Shards(tmp_path)
    np.save(tmp_path / "b.npy", np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="NaN"):
        KMeans(2).fit(Shards(tmp_path))
    with pytest.raises(ValueError, match="no chunk"):
        Shards(iter([]))
    with pytest.raises(ValueError, match="chunk 1 has shape"):
        Shards([np.zeros((2, 2)), np.zeros(2)])
    with pytest.raises(ValueError, match="expecting 2"):
        KMeans(2).fit(np.eye(2)).predict(Shards([np.zeros((2, 3))]))
    with pytest.raises(TypeError, match="in memory"):
        BisectingKMeans(2).fit(Shards([np.eye(2)]))


def test_a_gpu_gets_the_tiles_that_fit_and_else_an_error(monkeypatch):
    gpu = torch.device("cuda")
    for free, rows in ((80 << 30, (1 << 26) // 100), (1 << 20, (1 << 15) // 100), (0, 128)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert tile_size(100, gpu) == rows
    with pytest.raises(MemoryError, match="device='cpu'"), team(1, 1):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_a_team_leaves_no_thread_and_no_setting_behind():
    before = torch.get_num_threads()
    with team(2, 1e9) as threads:
        assert threads.map(lambda a, b: b - a, strips(100_000, 100)) == [b - a for a, b in strips(100_000, 100)]
    assert torch.get_num_threads() == before
