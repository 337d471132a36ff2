"""Autoencoders: PCA at the start, better than PCA at the end, and what each kind is for, on data with known answers."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from sandbox import zoo
from sandbox.training import private_seed
from unsupervised import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SequenceAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    VQAutoencoder,
)
from unsupervised.augment import mask, salt_and_pepper
from unsupervised.losses import contraction


@pytest.fixture(scope="module")
def digits():
    X = (load_digits().data / 16).astype(np.float32)
    return train_test_split(X, test_size=360, random_state=0)


def circle(n=400, dtype=np.float32):
    angle = np.random.default_rng(0).uniform(0, np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(dtype)


def pca_error(n, train, test):
    pca = PCA(n).fit(train)
    return np.square(pca.inverse_transform(pca.transform(test)) - test).mean()


# -- the plain one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 8])
def test_it_starts_as_pca(n, digits):
    train, test = digits
    estimator = Autoencoder(n, max_iter=1, learning_rate=1e-12, optimizer="sgd", random_state=0).fit(train)
    pca = PCA(n).fit(train)
    scores = pca.transform(test) / np.sqrt(pca.explained_variance_.mean())
    np.testing.assert_allclose(np.abs(estimator.transform(test)), np.abs(scores), atol=2e-3)
    assert -estimator.score(test) == pytest.approx(pca_error(n, train, test), rel=1e-3)


@pytest.mark.parametrize("n", [2, 16])
def test_it_ends_better_than_pca(n, digits):
    train, test = digits
    estimator = Autoencoder(n, max_iter=25, learning_rate="cos_1e-3", random_state=0).fit(train)
    error = np.square(estimator.reconstruct(test) - test).mean()
    assert error == pytest.approx(-estimator.score(test), rel=1e-3)
    assert error < 0.85 * pca_error(n, train, test)
    np.testing.assert_allclose(
        estimator.inverse_transform(estimator.transform(test)), estimator.reconstruct(test), rtol=1e-6
    )


@pytest.mark.parametrize("units", [(1e-3, 0.0), (1e4, 1e5)])
def test_units_do_not_matter(units):
    X = circle(dtype=np.float64)
    scaled = X * units[0] + units[1]
    one = Autoencoder(1, max_iter=20, random_state=0).fit(X).score(X)
    two = Autoencoder(1, max_iter=20, random_state=0).fit(scaled).score(scaled) / units[0] ** 2
    assert one > -0.02
    assert two > -0.02


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "bce"])
def test_every_loss_restores_half_a_circle(loss):
    X = circle() / 2 + 0.5
    estimator = Autoencoder(1, loss=loss, max_iter=60, learning_rate=3e-3, random_state=0).fit(X)
    assert np.square(estimator.reconstruct(X) - X).mean() < 0.3 * pca_error(1, X, X)


@pytest.mark.parametrize("encoder", ["conv", "mlp", {"name": "conv", "kwargs": {"channels": [8, 16]}}, "resnet18"])
def test_any_encoder_of_the_zoo_for_pictures(encoder):
    X = np.random.default_rng(0).random((24, 2, 8, 12), np.float32)
    estimator = Autoencoder(3, encoder=encoder, max_iter=1, random_state=0).fit(X)
    assert estimator.reconstruct(X).shape == X.shape
    assert isinstance(estimator.encoder_, zoo.Encoder)
    assert isinstance(estimator.decoder_, zoo.Decoder)


def test_bytes_are_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), np.uint8)
    as_bytes = Autoencoder(2, max_iter=3, random_state=0).fit(pixels)
    as_floats = Autoencoder(2, max_iter=3, random_state=0).fit(pixels / np.float32(255))
    np.testing.assert_allclose(as_bytes.transform(pixels), as_floats.transform(pixels / np.float32(255)), rtol=1e-4)
    assert as_bytes.reconstruct(pixels).max() < 2


def test_weights_that_an_encoder_brings_are_kept(tmp_path):
    X = circle()
    body = zoo.build("mlp", in_shape=(2,), widths=(8,))
    zoo.save(body, tmp_path / "body.safetensors")
    for given in (body, str(tmp_path / "body.safetensors"), tmp_path / "body.safetensors"):
        estimator = Autoencoder(1, encoder=given, max_iter=1, learning_rate=1e-12, optimizer="sgd").fit(X)
        own = estimator.encoder_.body.state_dict()
        assert all(torch.allclose(own[key], value, atol=1e-6) for key, value in body.state_dict().items())


def test_interpolation_begins_and_ends_with_the_reconstructions(digits):
    train, test = digits
    estimator = Autoencoder(4, max_iter=2, random_state=0).fit(train)
    between = estimator.interpolate(test[:3], test[3:6], n=5)
    assert between.shape == (3, 5, 64)
    np.testing.assert_allclose(between[:, 0], estimator.reconstruct(test[:3]), atol=1e-5)
    np.testing.assert_allclose(between[:, -1], estimator.reconstruct(test[3:6]), atol=1e-5)


# -- its kinds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "level"), [("gaussian", 1.0), ("mask", 0.4), ("salt_and_pepper", 0.4)])
def test_a_denoiser_brings_noisy_samples_nearer_to_the_clean_ones(noise, level):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(600, 1)), 12, axis=1).astype(np.float32)
    estimator = DenoisingAutoencoder(2, noise=noise, noise_level=level, max_iter=30, random_state=0).fit(X)
    with private_seed(1):
        noisy = estimator.corrupt(torch.from_numpy(X)).numpy()
    assert np.square(estimator.reconstruct(noisy) - X).mean() < 0.35 * np.square(noisy - X).mean()


def test_noises_by_hand():
    x = torch.linspace(0.5, 1.5, 20_000).view(100, 2, 10, 10)
    with private_seed(0):
        hidden, peppered = mask(x, 0.3), salt_and_pepper(x, 0.2)
    gone = hidden == 0
    assert gone.float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(gone[:, 0], gone[:, 1])  # a pixel goes with all its channels
    assert (peppered == 0.5).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (peppered == 1.5).float().mean() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(hidden[~gone], x[~gone])


@pytest.mark.parametrize("penalty", ["l1", "kl"])
def test_a_penalty_silences_units(penalty, digits):
    def activity(weight):
        how = {"max_iter": 15, "learning_rate": 3e-3, "random_state": 0}
        estimator = SparseAutoencoder(40, penalty=penalty, weight=weight, **how).fit(digits[0])
        return np.abs(estimator.transform(digits[1])).mean(), -estimator.score(digits[1])

    loud, silent = activity(0.0), activity(1.0)
    assert silent[0] < 0.5 * loud[0]


def test_a_contractive_code_changes_less(digits):
    def slope(weight):
        estimator = ContractiveAutoencoder(4, weight=weight, max_iter=8, random_state=0).fit(digits[0])
        x = torch.from_numpy(digits[1][:100]).requires_grad_()
        with private_seed(0):
            return contraction(estimator.encoder_(x), x).item()

    assert slope(10.0) < 0.5 * slope(0.0)


def test_the_contraction_is_the_squared_norm_of_the_jacobian():
    weight = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    x = torch.ones(4, 3, requires_grad=True)
    with private_seed(0):
        found = np.mean([contraction(x @ weight.T, x).item() for _ in range(400)])
    assert found == pytest.approx(weight.square().sum().item(), rel=0.05)


def test_a_variational_code_is_a_distribution(digits):
    train, test = digits
    estimator = VariationalAutoencoder(8, max_iter=40, learning_rate=2e-3, random_state=0).fit(train)
    with torch.no_grad():
        mean, log_var = estimator.encoder_.distribution(torch.from_numpy(test))
    np.testing.assert_allclose(estimator.transform(test), mean.numpy(), atol=1e-5)
    whole = mean.var(0) + log_var.exp().mean(0)  # of codes that are drawn: that of the prior
    assert whole.mean() == pytest.approx(1.0, abs=0.5)
    drawn = estimator.sample(500, random_state=0)
    np.testing.assert_allclose(drawn, estimator.sample(500, random_state=0))
    assert np.abs(drawn.mean(0) - train.mean(0)).mean() < 0.06
    noise = np.random.default_rng(0).normal(train.mean(0), train.std(0), drawn.shape)  # pixels one by one

    def away(X):
        return np.median(np.sqrt(((X[:200, None] - train[None]) ** 2).sum(2)).min(1))

    assert away(drawn) < 0.7 * away(noise)


def test_free_bits_keep_dimensions_alive():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(1000, 4)) @ rng.normal(size=(4, 6))).astype(np.float32)
    how = {"max_iter": 60, "learning_rate": 3e-3, "random_state": 0, "linear_path": False, "beta": 20.0}

    def divergences(free):
        estimator = VariationalAutoencoder(4, free_bits=free, **how).fit(X)
        with torch.no_grad():
            mean, log_var = estimator.encoder_.distribution(torch.from_numpy(X))
        return (0.5 * (mean**2 + log_var.exp() - 1 - log_var)).mean(0)

    assert divergences(0.0).max() < 0.05
    assert divergences(0.5).min() > 0.15


@pytest.mark.parametrize("quantizer", ["ema", "fsq"])
def test_a_code_of_words(quantizer, digits):
    train, test = digits
    how = {"max_iter": 25, "learning_rate": 2e-3, "random_state": 0, "quantizer": quantizer}
    estimator = VQAutoencoder(16, n_codes=64, code_dim=4, levels=(4, 4, 2, 2), **how).fit(train)
    symbols = estimator.symbols(test)
    assert symbols.shape == (360, 4)
    assert symbols.dtype == np.int64
    assert 0 <= symbols.min() <= symbols.max() < 64
    np.testing.assert_allclose(estimator.look_up(symbols), estimator.transform(test), atol=1e-5)
    restored = estimator.inverse_transform(estimator.look_up(symbols))  # a digit from four numbers
    assert np.square(restored - test).mean() < 0.6 * np.square(test - train.mean(0)).mean()
    assert len(np.unique(symbols)) > 20
    with pytest.raises(ValueError, match=r"symbols are \[N, 4\] from 0 to 63"):
        estimator.look_up([[64, 0, 0, 0]])


def test_the_book_starts_from_kmeans_plus_plus(digits):
    estimator = VQAutoencoder(8, n_codes=16, code_dim=4, max_iter=1, learning_rate=1e-12, random_state=0)
    estimator._checked(digits[0], reset=True)
    estimator._begin([digits[0]])
    book = estimator.model_.quantizer.codes.numpy()
    with torch.no_grad():
        parts = estimator.encoder_(torch.from_numpy(digits[0])).view(-1, 4).numpy()
    nearest = np.sqrt(((book[:, None] - parts[None]) ** 2).sum(2)).min(1)
    assert nearest.max() < 1e-3  # each word is the code of some digit
    assert len(np.unique(book.round(4), axis=0)) == 16


@pytest.mark.parametrize("wrong", [{"n_components": 6, "code_dim": 4}, {"quantizer": "fsq", "levels": (5, 5)}])
def test_words_that_do_not_fit(wrong, digits):
    with pytest.raises(ValueError, match=r"multiple of code_dim=4|must be code_dim=4 numbers, one for each value"):
        VQAutoencoder(**{"n_components": 8, "code_dim": 4, **wrong}).fit(digits[0])


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_series_are_restored_from_their_phase(cell):
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (400, 1))
    X = np.sin(phase + np.linspace(0, 9, 30)).astype(np.float32)  # two dimensions, in thirty values
    X = np.where(X > 0, X, 0.2 * X)  # which PCA does not see
    estimator = SequenceAutoencoder(2, cell=cell, hidden=32, step=5, max_iter=60, learning_rate=5e-3, random_state=0)
    error = -estimator.fit(X).score(X)
    assert error < 0.9 * pca_error(2, X, X)
    assert estimator.reconstruct(X).shape == X.shape


def test_series_of_several_values_at_a_time():
    X = np.random.default_rng(0).normal(size=(40, 7, 3)).astype(np.float32)
    estimator = SequenceAutoencoder(4, hidden=8, max_iter=2, random_state=0).fit(X)
    assert estimator.in_shape_ == (7, 3)
    assert estimator.reconstruct(X).shape == X.shape
    with pytest.raises(ValueError, match=r"series \[N, T\] or \[N, T, D\]"):
        SequenceAutoencoder(2).fit(np.zeros((9, 1, 4, 4)))


def test_wide_layers_over_rows_round_their_products_and_nothing_else():
    X = np.random.default_rng(0).random((8, 6))
    narrow = Autoencoder(2, max_iter=1, random_state=0).fit(X)
    assert narrow._precision() == "fp32"
    wide = Autoencoder(2, encoder={"name": "mlp", "kwargs": {"widths": [512, 512]}}, max_iter=1, precision="bf16")
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert wide.fit(X)._precision() == "medium"
    else:
        with pytest.raises(ValueError, match="AVX-512"):
            wide.fit(X)
