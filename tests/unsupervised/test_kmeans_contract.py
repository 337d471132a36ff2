"""K-means keeps scikit-learn's contract: its checks without an excuse, its signatures, attributes, errors and uses."""

import inspect
import pickle
from collections import Counter
from dataclasses import replace
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.cluster
import torch
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from threadpoolctl import threadpool_info

import unsupervised
from unsupervised import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans

PEERS = {
    KMeans: sklearn.cluster.KMeans,
    MiniBatchKMeans: sklearn.cluster.MiniBatchKMeans,
    SphericalKMeans: sklearn.cluster.KMeans,
    BisectingKMeans: sklearn.cluster.BisectingKMeans,
}
QUICK = {"n_clusters": 2, "n_init": 2, "max_iter": 5}  # as scikit-learn tests its own
FUNCTIONS = ("k_means", "kmeans_plusplus")
METHODS = (
    "fit",
    "fit_predict",
    "fit_transform",
    "get_feature_names_out",
    "partial_fit",
    "predict",
    "score",
    "transform",
)

each = pytest.mark.parametrize("kind", PEERS, ids=lambda kind: kind.__name__)


def rows(dtype=np.float64):
    """Sixty rows around three corners, none of them alike."""
    rng = np.random.default_rng(0)
    return (np.repeat([[9, 0, 1], [0, 9, 1], [5, 5, 9]], 20, axis=0) + rng.normal(size=(60, 3))).astype(dtype)


# -- scikit-learn's checks ---------------------------------------------------------------------------------------------


@parametrize_with_checks([kind(**settings) for kind in PEERS for settings in ({}, QUICK)])
def test_a_check_of_scikit_learn_passes(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        with pytest.raises(SkipTest):  # only where its own class is skipped, too
            check.func("KMeans", PEERS[type(estimator)](), **check.keywords)
        pytest.skip(f"as scikit-learn's own: {reason}")


@each
def test_as_many_checks_run_as_for_scikit_learns_class(kind):
    def names(estimator):
        checks = [check for _, check in estimator_checks_generator(estimator)]
        return Counter((check.func.__name__, *check.keywords.items()) for check in checks)

    ours, theirs = names(kind()), names(PEERS[kind]())
    assert theirs - ours == Counter()
    assert ours.total() >= theirs.total() > 40
    for weights in ("dense", "sparse"):  # which scikit-learn excuses its own from
        assert ours[f"check_sample_weight_equivalence_on_{weights}_data",] == 1


@each
def test_the_tags_are_scikit_learns_so_that_no_check_is_left_out(kind):
    ours, theirs = get_tags(kind()), get_tags(PEERS[kind]())
    assert set(ours.transformer_tags.preserves_dtype) >= set(theirs.transformer_tags.preserves_dtype)
    assert replace(ours, transformer_tags=theirs.transformer_tags) == theirs


# -- signatures and attributes -----------------------------------------------------------------------------------------


def same_parameters(ours, theirs, added=("device",)):
    """Whether a signature has all of another one's parameters, in order, with the same defaults, and the added ones."""
    mine, others = (dict(inspect.signature(function).parameters) for function in (ours, theirs))
    assert [name for name in mine if name not in added] == list(others)
    for name in added:
        extra = mine.pop(name)
        assert (extra.kind, extra.default) == (extra.KEYWORD_ONLY, "auto")
    for name, other in others.items():
        assert mine[name].kind == other.kind, name
        assert mine[name].default == ("auto" if name == "algorithm" else other.default), name


@each
def test_the_constructor_is_scikit_learns_with_a_device(kind):
    assert issubclass(kind, PEERS[kind])
    same_parameters(kind, PEERS[kind])
    assert list(kind().get_params()) == sorted([*PEERS[kind]().get_params(), "device"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_scikit_learns_parameters_and_a_device(name):
    same_parameters(getattr(unsupervised, name), getattr(sklearn.cluster, name))


@each
def test_the_methods_take_what_scikit_learns_take(kind):
    for name in METHODS:
        assert hasattr(kind, name) == hasattr(PEERS[kind], name), name
        if hasattr(kind, name):
            same_parameters(getattr(kind, name), getattr(PEERS[kind], name), added=())


@each
@pytest.mark.parametrize("make", [rows, lambda: rows(np.float32), lambda: sp.csr_array(rows())])
def test_a_fit_leaves_the_attributes_that_scikit_learns_leaves(kind, make):
    X = make()
    ours, theirs = (one(3, random_state=0).fit(X) for one in (kind, PEERS[kind]))
    public = [name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")]
    assert {"cluster_centers_", "inertia_", "labels_", "n_features_in_"} <= set(public)
    for name in public:
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert np.shape(mine) == np.shape(other), name
        assert np.asarray(mine).dtype == np.asarray(other).dtype, name
    assert ours.transform(X).dtype == theirs.transform(X).dtype
    assert ours.predict(X).dtype == theirs.predict(X).dtype


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_function_returns_what_scikit_learns_returns(name, dtype):
    extra = [{}, {"return_n_iter": True}] if name == "k_means" else [{}]
    for kwargs in extra:
        ours, theirs = (
            getattr(one, name)(rows(dtype), 3, random_state=0, **kwargs) for one in (unsupervised, sklearn.cluster)
        )
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert np.shape(mine) == np.shape(other)
            assert np.asarray(mine).dtype.kind == np.asarray(other).dtype.kind
        assert ours[0].dtype == dtype


# -- errors ------------------------------------------------------------------------------------------------------------

NAN, INFINITE = rows(), rows()
NAN[7, 1], INFINITE[7, 1] = np.nan, np.inf
BAD = {
    "a NaN": (NAN, {}),
    "an infinity": (INFINITE, {}),
    "complex numbers": (rows() + 1j, {}),
    "text": (np.array([["a", "b"]] * 60), {}),
    "no rows": (np.empty((0, 3)), {}),
    "no columns": (np.empty((60, 0)), {}),
    "one column without its dimension": (rows()[:, 0], {}),
    "fewer rows than clusters": (rows()[:1], {}),
    "no clusters": (rows(), {"n_clusters": 0}),
    "half a cluster": (rows(), {"n_clusters": 2.5}),
    "an unknown init": (rows(), {"init": "k-means+++"}),
    "a negative tolerance": (rows(), {"tol": -1.0}),
    "no iterations": (rows(), {"max_iter": 0}),
    "a random state of text": (rows(), {"random_state": "zero"}),
}


@each
@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_is_refused_in_scikit_learns_words(kind, bad):
    X, settings = BAD[bad]
    messages = []
    for one in (PEERS[kind], kind):
        with pytest.raises((ValueError, TypeError)) as caught:
            one(**{"n_clusters": 3, **settings}).fit(X)
        messages.append((caught.type, str(caught.value).replace(kind.__name__, PEERS[kind].__name__)))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, SphericalKMeans])  # the fourth takes no array
@pytest.mark.parametrize("init", [np.zeros((2, 3)), np.zeros((3, 2))], ids=["too few", "too narrow"])
def test_an_init_of_another_shape_is_refused_in_scikit_learns_words(kind, init):
    messages = []
    for one in (PEERS[kind], kind):
        with pytest.raises(ValueError, match="initial centers") as caught:
            one(3, init=init, n_init=1).fit(rows())
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@each
def test_weights_that_cannot_be_are_refused_in_scikit_learns_words(kind):
    for weights in (np.zeros(60), np.full(60, np.nan), np.ones(59), np.ones((60, 2))):
        messages = []
        for one in (PEERS[kind], kind):
            with pytest.raises(ValueError, match="weight") as caught:
                one(3).fit(rows(), sample_weight=weights)
            messages.append(str(caught.value).replace(kind.__name__, PEERS[kind].__name__))
        assert messages[0] == messages[1]


@each
def test_an_unknown_algorithm_or_device_is_named_beside_what_would_be_right(kind):
    with pytest.raises(ValueError, match=r"(?=.*'tpu')(?=.*'cpu')"):
        kind(3, device="tpu").fit(rows())
    if "algorithm" in kind().get_params():
        with pytest.raises(ValueError, match=r"(?=.*'algorithm')(?=.*'auto')(?=.*'full')"):
            kind(3, algorithm="full").fit(rows())


@each
def test_a_gpu_that_is_not_there_is_never_the_cpu_in_silence(kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"(?=.*'cuda')(?=.*'cpu')"):
        kind(3, device="cuda").fit(rows())


# -- in use ------------------------------------------------------------------------------------------------------------


@each
def test_set_output_gives_a_frame_with_the_rows_names(kind):
    X = pd.DataFrame(rows(), columns=["a", "b", "c"], index=np.arange(60)[::-1])
    model = kind(3, random_state=0).set_output(transform="pandas")
    frame = model.fit_transform(X)
    assert (
        list(frame.columns) == list(model.get_feature_names_out()) == [f"{kind.__name__.lower()}{i}" for i in range(3)]
    )
    assert frame.index.equals(X.index)
    again = clone(model).set_output(transform="default").fit(X)
    np.testing.assert_allclose(frame.to_numpy(), again.transform(X))


@each
def test_names_of_columns_are_kept_and_others_refused(kind):
    X = pd.DataFrame(rows(), columns=["a", "b", "c"])
    model = kind(3, random_state=0).fit(X)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["b", "a", "c"]])


@each
def test_a_pickle_answers_as_before(kind):
    X, model = rows(), kind(3, random_state=0)
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model.fit(X)))
    for method in ("predict", "transform", "score"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    np.testing.assert_array_equal(again.labels_, model.labels_)
    np.testing.assert_array_equal(clone(again).fit(X).labels_, model.labels_)


def test_a_pickle_goes_on_learning_where_it_was():
    X = rows()
    model = MiniBatchKMeans(3, random_state=0).partial_fit(X[::2])
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.partial_fit(X[1::2])
    np.testing.assert_array_equal(again.cluster_centers_, model.cluster_centers_)


@each
def test_a_clone_has_every_setting_and_nothing_learned(kind):
    settings = {"n_clusters": 3, "init": "random", "n_init": 2, "random_state": 1, "device": "cpu", "tol": 0.01}
    model = kind(**settings)
    before = model.get_params()
    assert settings.items() <= before.items()
    model.fit(rows())
    assert model.get_params() == before
    again = clone(model)
    assert again.get_params() == before
    assert not [name for name in vars(again) if name.endswith("_")]


@each
def test_a_grid_is_searched_in_a_pipeline(kind):
    name = kind.__name__.lower()
    pipeline = make_pipeline(StandardScaler(), kind(random_state=0))
    grid = {f"{name}__n_clusters": [1, 3], f"{name}__device": ["cpu"]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(
        rows()[np.random.default_rng(0).permutation(60)]
    )
    assert search.best_params_ == {f"{name}__n_clusters": 3, f"{name}__device": "cpu"}
    assert search.predict(rows()).shape == (60,)


@each
def test_no_global_setting_and_no_global_generator_is_touched(kind):
    def settings():
        pools = [(one["filepath"], one["num_threads"]) for one in threadpool_info()]
        state = np.random.get_state()[1].tolist()  # noqa: NPY002
        random = torch.initial_seed(), torch.get_rng_state().tolist()
        return pools, state, random, torch.get_num_threads(), torch.get_float32_matmul_precision()

    kind(3, random_state=0).fit(rows())  # whatever is loaded at first use
    before = settings()
    kind(3, random_state=0).fit(rows()).predict(rows())
    assert settings() == before


@each
def test_the_same_seed_gives_the_same_fit_and_the_data_stay_as_they_are(kind):
    X = rows()
    first, second = (kind(3, random_state=5).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    np.testing.assert_array_equal(first.labels_, second.labels_)
    np.testing.assert_array_equal(X, rows())


# -- on the sphere -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_on_the_sphere_only_the_direction_of_a_row_counts(container):
    X = rows() * np.exp2(np.random.default_rng(1).integers(-3, 4, (60, 1)))  # lengths from an eighth to eightfold
    near, far = (SphericalKMeans(3, random_state=0).fit(container(one)) for one in (rows(), X))
    assert adjusted_rand_score(near.labels_, far.labels_) == 1
    assert {len(set(far.labels_[i : i + 20])) for i in (0, 20, 40)} == {1}
    np.testing.assert_allclose(np.linalg.norm(far.cluster_centers_, axis=1), 1)
    np.testing.assert_allclose(*(one.cluster_centers_[one.labels_] for one in (near, far)))
    assert far.inertia_ == pytest.approx(near.inertia_)
    np.testing.assert_array_equal(far.predict(container(rows())), far.labels_)
    assert far.score(container(rows())) == pytest.approx(-far.inertia_)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_row_of_zeros_has_no_direction_and_does_no_harm(container, dtype):
    X = rows(dtype)
    X[::7] = 0
    model = SphericalKMeans(3, random_state=0).fit(container(X))
    assert np.isfinite(model.cluster_centers_).all()
    assert np.isfinite(model.inertia_)
    assert set(model.labels_) <= {0, 1, 2}
    assert np.isfinite(model.transform(container(X))).all()
    np.testing.assert_array_equal(model.predict(container(X)), model.labels_)
    others = np.delete(np.arange(60), np.s_[::7])
    assert {len(set(model.labels_[others[others // 20 == i]])) for i in range(3)} == {1}


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_nothing_but_rows_of_zeros_is_one_cluster():
    model = SphericalKMeans(2, random_state=0).fit(np.zeros((5, 3)))
    assert np.isfinite(model.cluster_centers_).all()
    assert len(set(model.labels_)) == 1
    assert model.inertia_ == pytest.approx(0, abs=5)
