"""Every estimator with a network keeps scikit-learn's contract, by enumeration, and what this project adds to it."""

import copy
import inspect
import pickle
from collections import Counter
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import unsupervised
from sandbox import zoo
from sandbox.training import FileError
from unsupervised import (
    BYOL,
    GAN,
    STDIM,
    Autoencoder,
    BarlowTwins,
    Classifier,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    InverseDynamics,
    Jigsaw,
    KeypointAutoencoder,
    MaskedAutoencoder,
    MaskedToken,
    MoCo,
    NextToken,
    Regressor,
    RotationPrediction,
    SequenceAutoencoder,
    SimCLR,
    SimSiam,
    SparseAutoencoder,
    TemporalContrast,
    TorchEstimator,
    VariationalAutoencoder,
    VICReg,
    VQAutoencoder,
)

SMALL = {"n_features": 4, "hidden": 8, "dim": 4}
QUICK = {
    Autoencoder: {"max_iter": 2},
    ContractiveAutoencoder: {"max_iter": 2},
    DenoisingAutoencoder: {"max_iter": 2},
    GAN: {"max_iter": 2, "n_components": 2},
    SequenceAutoencoder: {"max_iter": 2, "n_components": 2, "hidden": 4, "step": 2},
    SparseAutoencoder: {"max_iter": 2, "n_components": 4},
    VQAutoencoder: {"max_iter": 2, "n_components": 2, "code_dim": 1, "n_codes": 4},
    VariationalAutoencoder: {"max_iter": 2},
    Classifier: {"max_iter": 50},
    Regressor: {"max_iter": 50},
    **{kind: {"max_iter": 2, **SMALL} for kind in (BYOL, BarlowTwins, SimCLR, SimSiam, VICReg)},
    MoCo: {"max_iter": 2, "queue": 16, **SMALL},
    TemporalContrast: {"max_iter": 2, "steps": 1, **SMALL},
    InverseDynamics: {"max_iter": 2, "n_features": 4, "hidden": 8},
}
ROWS = list(QUICK)  # those that take rows
QUICK_ON_PICTURES = {
    KeypointAutoencoder: {"max_iter": 2, "n_components": 6},
    Jigsaw: {"max_iter": 2, "n_features": 4},
    RotationPrediction: {"max_iter": 2, "n_features": 4},
    STDIM: {"max_iter": 2, "n_features": 4, "batch_size": 16},
    MaskedAutoencoder: {"patch": 2, "dim": 8, "depth": 1, "heads": 2, "decoder_dim": 8, "decoder_depth": 1},
}
PICTURES = list(QUICK_ON_PICTURES)
QUICK_ON_TOKENS = {kind: {"max_iter": 2, "dim": 8, "depth": 1, "heads": 2} for kind in (MaskedToken, NextToken)}
TOKENS = list(QUICK_ON_TOKENS)
NEW = [*ROWS, *PICTURES, *TOKENS]
each = pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
each_on_rows_of_some_kind = pytest.mark.parametrize("kind", [*ROWS, *TOKENS], ids=lambda kind: kind.__name__)


def made(kind, **kwargs):
    quick = {**QUICK, **QUICK_ON_PICTURES, **QUICK_ON_TOKENS}[kind]
    return kind(**{"random_state": 0, **quick, **kwargs})


def rows(n=60, dtype=np.float64):
    """Sixty rows on a curve in six dimensions, and which half of it they are on."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, n)
    X = np.column_stack([t, t**2, t**3, np.sin(3 * t), np.cos(3 * t), t]) + 0.05 * rng.normal(size=(n, 6))
    return X.astype(dtype), (t > 0).astype(int)


def rows_for(kind):
    """Those rows, or as many of six tokens that count from anywhere."""
    X, y = rows()
    return ((np.arange(60)[:, None] + np.arange(6)) % 9 if kind in TOKENS else X), y


def fitted(kind, **kwargs):
    X, y = rows_for(kind)
    return made(kind, **kwargs).fit(X, y)


def test_none_is_forgotten():
    found = {getattr(unsupervised, name) for name in unsupervised.__all__}
    assert {kind for kind in found if isinstance(kind, type) and issubclass(kind, TorchEstimator)} == {
        *NEW,
        TorchEstimator,
    }


# -- scikit-learn's checks ---------------------------------------------------------------------------------------------


@parametrize_with_checks([kind(**settings) for kind, settings in QUICK.items()])
def test_a_check_of_scikit_learn_passes(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        assert "array_api" in check.func.__name__  # of which scikit-learn skips its own, too
        pytest.skip(str(reason))


@each
def test_as_many_checks_run_as_for_pca(kind):
    def names(estimator):
        checks = [check.func.__name__ for _, check in estimator_checks_generator(estimator)]
        return Counter(name for name in checks if "array_api" not in name)

    assert names(PCA()) - names(made(kind)) == Counter()


# -- signatures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NEW, ids=lambda kind: kind.__name__)
def test_the_signature_has_every_parameter_and_the_constructor_stores_and_nothing_else(kind):
    parameters = inspect.signature(kind).parameters
    assert parameters.keys() >= inspect.signature(TorchEstimator).parameters.keys()
    assert all(p.default is not p.empty for p in parameters.values())
    assert vars(kind()) == {name: p.default for name, p in parameters.items()}
    assert kind._parameter_constraints.keys() == parameters.keys()
    documented = "".join(inspect.getdoc(one) or "" for one in kind.__mro__ if issubclass(one, TorchEstimator))
    assert [name for name in parameters if f"{name} " not in documented and f"{name}," not in documented] == []


@each_on_rows_of_some_kind
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"optimizer": "lion"}, "'optimizer' parameter of .* must be a str among"),
        ({"batch_size": 0}, "'batch_size' parameter of .* must be an int in the range"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"precision": "fp8"}, "'precision' parameter"),
        ({"learning_rate": "cosine"}, "'cosine' is neither a number nor a schedule such as lin_1e-3"),
        ({"device": "tpu3"}, "unknown device 'tpu3'"),
    ],
)
def test_a_wrong_parameter_is_named(kind, wrong, words):
    with pytest.raises(ValueError, match=words):
        fitted(kind, **wrong)


# -- uses --------------------------------------------------------------------------------------------------------------


@each
def test_the_type_of_the_rows_is_kept(kind):
    for dtype in (np.float32, np.float64):
        X, y = rows(dtype=dtype)
        assert made(kind).fit(X, y).transform(X).dtype == dtype
    pixels = (rows()[0].clip(0, 1) * 255).astype(np.uint8)
    assert made(kind).fit(pixels, y).transform(pixels).dtype == np.float32


@each
def test_pipelines_searches_frames_and_clones(kind):
    X, y = rows()
    table = pd.DataFrame(X, columns=list("abcdef"))
    estimator = made(kind).set_output(transform="pandas").fit(table, y)
    out = estimator.transform(table)
    assert (
        list(out.columns)
        == list(estimator.get_feature_names_out())
        == [f"{kind.__name__.lower()}{i}" for i in range(out.shape[1])]
    )
    assert make_pipeline(StandardScaler(), made(kind)).fit(X, y).transform(X).shape == out.shape
    search = GridSearchCV(made(kind), {"learning_rate": [1e-9, 3e-3]}, cv=2).fit(X, y)
    assert set(search.best_params_) == {"learning_rate"}
    assert clone(estimator).get_params() == estimator.get_params()


@each_on_rows_of_some_kind
def test_pickles_and_copies_give_the_same_and_can_go_on(kind):
    X, y = rows_for(kind)
    estimator = fitted(kind)
    for again in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        np.testing.assert_array_equal(again.transform(X), estimator.transform(X))
        again.partial_fit(X, y)
        assert not np.array_equal(again.transform(X), estimator.transform(X))


@pytest.mark.parametrize("kind", NEW, ids=lambda kind: kind.__name__)
def test_a_saved_one_is_the_same_and_opening_it_runs_no_code(kind, tmp_path):
    X, y = rows_for(kind)
    if kind in PICTURES:
        X = np.random.default_rng(0).random((30, 6, 8), np.float32)
        y = np.zeros(30)
    estimator = made(kind).fit(X, y)
    path = tmp_path / "estimator.safetensors"
    estimator.save(path)
    before = torch.random.get_rng_state()
    for again in (kind.load(path), unsupervised.load(path)):
        assert type(again) is kind
        assert again.get_params() == estimator.get_params()
        np.testing.assert_array_equal(again.transform(X), estimator.transform(X))
        assert again.score(X, y) == pytest.approx(estimator.score(X, y), rel=1e-4)
        assert again.in_shape_ == estimator.in_shape_
        assert again.n_iter_ == estimator.n_iter_
        again.partial_fit(X, y)
    assert torch.equal(torch.random.get_rng_state(), before)
    if kind is not Autoencoder:
        with pytest.raises(FileError, match=f"it holds a {kind.__name__}, not a Autoencoder"):
            Autoencoder.load(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match=r"expected is a file of the kind sandbox\.estimator"):
        unsupervised.load(path)


@pytest.mark.parametrize("kind", NEW, ids=lambda kind: kind.__name__)
def test_the_encoder_is_one_of_the_zoo_and_gives_the_features(kind, tmp_path):
    if kind is VQAutoencoder:  # whose features are the vectors that stand for what its encoder gives
        pytest.skip("its features are quantised")
    X, y = rows_for(kind)
    X = X if kind in TOKENS else X.astype(np.float32)
    if kind in PICTURES:
        X, y = np.random.default_rng(0).random((30, 1, 6, 8), np.float32), None
    estimator = made(kind).fit(X, y)
    zoo.save(estimator.encoder_, tmp_path / "encoder.safetensors")
    encoder = zoo.load(tmp_path / "encoder.safetensors").eval()
    with torch.no_grad():
        features = encoder(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(features, estimator.transform(X), rtol=1e-4, atol=1e-5)


@each_on_rows_of_some_kind
def test_partial_fit_is_an_epoch(kind):
    X, y = rows_for(kind)
    estimator = made(kind)
    for epoch in range(3):
        estimator.partial_fit(X, y)
        assert estimator.n_iter_ == epoch + 1 == len(estimator.loss_curve_)
    with pytest.raises(ValueError, match="expecting 6 features"):
        estimator.partial_fit(X[:, :5], y)


@each_on_rows_of_some_kind
def test_global_state_is_left_alone(kind):
    def state():
        return torch.get_rng_state().sum().item(), np.random.get_state()[1].sum(), torch.get_num_threads()  # noqa: NPY002

    before = state()
    estimator = fitted(kind)
    estimator.score(*rows_for(kind))
    assert state() == before


@each_on_rows_of_some_kind
def test_interrupted_it_is_fitted_so_far(kind, monkeypatch):
    X, y = rows_for(kind)
    estimator = made(kind, max_iter=50)
    steps = []

    def after_step(self):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(kind, "_after_step", after_step)
    with pytest.warns(UserWarning, match="training was interrupted in epoch"):
        estimator.fit(X, y)
    assert len(estimator.transform(X)) == len(X)
    assert "interrupted" in estimator.stopped_


@each_on_rows_of_some_kind
def test_a_diverging_loss_is_stopped_and_named(kind):
    X, y = rows_for(kind)
    how = {"max_iter": 20, "learning_rate": 1e25, "optimizer": "sgd", "precision": "fp32"}
    with pytest.raises(FloatingPointError, match="epoch 1: take a smaller learning_rate"):
        made(kind, batch_size=4, **how).fit(X, y)
    with pytest.warns(RuntimeWarning, match="training stopped: the loss was"):  # one step an epoch: the second diverges
        estimator = made(kind, batch_size=60, **how).fit(X, y)
    assert "the loss was" in estimator.stopped_
    assert np.isfinite(estimator.transform(X)).all()


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_pictures_are_rows_with_a_shape():
    pictures = np.random.default_rng(0).random((20, 1, 6, 8), np.float32)
    results = [
        made(Autoencoder).fit(pictures).transform(pictures),
        made(Autoencoder).fit(pictures[:, 0]).transform(pictures[:, 0]),
        made(Autoencoder, image_shape=(1, 6, 8)).fit(pictures.reshape(20, -1)).transform(pictures),
        made(Autoencoder, image_shape=(6, 8)).fit(pictures.reshape(20, -1)).transform(pictures.reshape(20, -1)),
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
    estimator = made(Autoencoder).fit(pictures)
    assert estimator.in_shape_ == (1, 6, 8)
    assert estimator.reconstruct(pictures).shape == (20, 1, 6, 8)
    assert estimator.inverse_transform(results[0]).shape == (20, 48)


@pytest.mark.parametrize(
    ("X", "kwargs", "words"),
    [
        (np.zeros((9, 8, 8, 3)), {}, r"pictures are \[N, C, H, W\], got \['N', 8, 8, 3\]: use np.moveaxis"),
        (np.zeros((9, 10)), {"image_shape": (3, 3)}, r"image_shape must be \(H, W\) or \(C, H, W\) with 10 values"),
        (np.zeros((9, 1, 4, 4)), {"image_shape": (4, 4, 1)}, r"image_shape=\(4, 4, 1\), but X holds samples of shape"),
        (np.zeros((9, 2, 2, 2, 2)), {}, r"with 16 values in all, got \(2, 2, 2, 2\)"),
        (np.zeros((0, 3)), {}, r"Found array with 0 sample"),
        (np.full((9, 3), np.nan), {}, "Input X contains NaN"),
        (np.full((9, 1, 4, 4), np.inf), {}, "Input X contains infinity"),
        (np.zeros((1, 3)), {}, r"n_components=2 .* with n_samples=1 and n_features=3"),
        (np.ones((9, 1)), {}, r"n_components=2 must be between 1 and min\(n_samples, n_features\)=1"),
        (np.ones((9, 3)), {"n_components": 4}, r"n_components=4 must be .* linear_path=False takes more"),
        (np.ones((9, 3)), {"encoder": "resnet81"}, "no model 'resnet81' in the zoo; nearest: resnet18"),
        (np.ones((9, 3)), {"encoder": "no/such.safetensors"}, "no/such.safetensors: no such file"),
        (np.ones((9, 3)), {"encoder": "nature_cnn"}, "NatureCNN takes images"),
        (np.ones((9, 3)), {"encoder": torch.nn.Linear(3, 3)}, "encoder=Linear is not of the zoo"),
        (np.ones((9, 3)), {"loss": "bce", "n_components": 1, "max_iter": 1}, None),
        (np.full((9, 3), 2.0), {"loss": "bce"}, "loss='bce' takes values from 0 to 1, got 2 to 2"),
        (np.ones((4, 3)), {"early_stopping": True, "validation_fraction": 0.9}, "early_stopping holds out 4 of n_samp"),
    ],
)
def test_wrong_input_is_one_clear_error(X, kwargs, words):
    estimator = made(Autoencoder, **kwargs)
    if words is None:
        estimator.fit(X.clip(0, 1))
        return
    with pytest.raises(ValueError, match=words):
        estimator.fit(X)


def test_samples_of_another_shape_are_refused():
    estimator = made(Autoencoder).fit(np.random.default_rng(0).random((9, 1, 6, 8)))
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 6\), but Autoencoder is expecting \(1, 6, 8\)"):
        estimator.transform(np.zeros((2, 1, 8, 6)))
    with pytest.raises(ValueError, match="X has 47 features, but Autoencoder is expecting 48 features"):
        estimator.transform(np.zeros((2, 47)))
    with pytest.raises(ValueError, match="codes have n_components=2 values, got 3"):
        estimator.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="not fitted yet"):
        Autoencoder().transform(np.zeros((2, 3)))


# -- training ----------------------------------------------------------------------------------------------------------


def test_early_stopping_holds_samples_out_and_keeps_the_best():
    X, _ = rows(200)
    estimator = made(
        Autoencoder, max_iter=300, early_stopping=True, n_iter_no_change=3, learning_rate=0.02, tol=0.01
    ).fit(X)
    assert estimator.stopped_ == "no better for 3 epochs"
    assert len(estimator.validation_curve_) == estimator.n_iter_ < 300
    assert min(estimator.validation_curve_) < estimator.validation_curve_[-1]


def test_a_training_that_was_interrupted_goes_on_from_its_file(tmp_path, monkeypatch):
    X, _ = rows()
    path = tmp_path / "checkpoint.safetensors"
    whole = made(Autoencoder, max_iter=6).fit(X)
    with monkeypatch.context() as killed:  # before it could take the file away
        killed.setattr("unsupervised.base.Path.unlink", lambda *args, **kwargs: None)
        made(Autoencoder, max_iter=3, checkpoint=path).fit(X)
    again = made(Autoencoder, max_iter=6, checkpoint=path).fit(X)
    assert not path.exists()
    np.testing.assert_allclose(again.transform(X), whole.transform(X), rtol=1e-6)
    assert again.loss_curve_ == whole.loss_curve_


def test_a_table_and_tensorboards_events(tmp_path):
    X, _ = rows()
    made(Autoencoder, tensorboard=tmp_path / "table.csv").fit(X)
    assert (tmp_path / "table.csv").read_text().splitlines()[0].startswith("time/total_timesteps,loss")
    pytest.importorskip("tensorboard")
    made(Autoencoder, tensorboard=tmp_path / "events").fit(X)
    assert list((tmp_path / "events").glob("events.*"))


@pytest.mark.parametrize("settings", [{"l2": 0.1}, {"l1": 0.01}, {"clip_norm": 1e-3}, {"ema": 0.01}, {"warmup": 0.5}])
def test_every_switch_of_training_does_something(settings):
    X, _ = rows()
    how = {"max_iter": 5, "optimizer": "sgd", "learning_rate": 0.05}
    plain, other = made(Autoencoder, **how).fit(X), made(Autoencoder, **how, **settings).fit(X)
    assert not np.allclose(plain.transform(X), other.transform(X), rtol=1e-6)
