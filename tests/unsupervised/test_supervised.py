"""Classifier, regressor, GAN and masked autoencoder: what they learn on data with known answers."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sandbox import zoo
from sandbox.zoo.given import brings_weights, from_given
from unsupervised import GAN, Autoencoder, Classifier, MaskedAutoencoder, Regressor
from unsupervised.losses import hinge


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, test_size=360, random_state=0)


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "hinge"])
def test_digits_are_told_better_than_by_a_linear_model(loss, digits):
    train, test, y_train, y_test = digits
    classifier = Classifier(loss=loss, max_iter=40, learning_rate="cos_2e-3", random_state=0).fit(train, y_train)
    linear = LogisticRegression(max_iter=1000).fit(train, y_train).score(test, y_test)
    assert classifier.score(test, y_test) > max(linear, 0.96)
    assert hasattr(classifier, "predict_proba") == (loss == "ce")
    if loss == "ce":
        odds = classifier.predict_proba(test)
        np.testing.assert_allclose(odds.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(classifier.classes_[odds.argmax(1)], classifier.predict(test))


def test_names_as_labels_and_two_classes():
    X = np.linspace(-1, 1, 100)[:, None]
    y = np.where(X[:, 0] > 0, "yes", "no")
    classifier = Classifier(max_iter=60, random_state=0).fit(X, y)
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert classifier.score(X, y) > 0.95
    np.testing.assert_array_equal(classifier.decision_function(X) > 0, classifier.predict(X) == "yes")


def test_partial_fit_is_told_all_classes():
    X, y = np.eye(3).repeat(10, axis=0), np.arange(3).repeat(10)
    classifier = Classifier(random_state=0)
    for _ in range(60):
        classifier.partial_fit(X[:10], y[:10], classes=[0, 1, 2])
        classifier.partial_fit(X[10:], y[10:])
    assert classifier.classes_.tolist() == [0, 1, 2]
    assert classifier.score(X, y) == 1.0
    with pytest.raises(ValueError, match=r"y has labels \[7\], which are not among \[0 1 2\]"):
        classifier.partial_fit(X[:1], [7])


def test_hinge_is_zero_from_a_margin_of_one_on():
    scores = torch.tensor([[2.0, 1.0, -5.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    assert hinge(scores[:1], torch.tensor([0])) == 0
    assert hinge(scores[1:2], torch.tensor([0])) == 1
    assert hinge(scores, torch.tensor([0, 0, 0])) == pytest.approx((0 + 1 + 4) / 3)


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_several_targets_in_any_units(loss):
    X = np.linspace(-1, 1, 300)[:, None]
    y = np.column_stack([1e5 + 1e4 * np.abs(X[:, 0]), 1e-4 * X[:, 0] ** 2])
    regressor = Regressor(loss=loss, max_iter=100, learning_rate=3e-3, random_state=0).fit(X, y)
    assert regressor.predict(X).shape == (300, 2)
    assert regressor.score(X, y) > 0.97
    with pytest.raises(ValueError, match=r"y has shape \(300, 3\), but 2 targets were fitted"):
        regressor.partial_fit(X, np.zeros((300, 3)))


def test_labels_are_asked_for():
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        Classifier().fit(np.eye(3))


# -- fine-tuning -------------------------------------------------------------------------------------------------------


def test_what_was_learned_without_labels_helps_where_labels_are_few(digits):
    train, test, y_train, y_test = digits
    few = np.concatenate([np.flatnonzero(y_train == one)[:3] for one in range(10)])  # three of each digit
    autoencoder = Autoencoder(32, max_iter=40, learning_rate="cos_1e-3", random_state=0).fit(train)
    how = {"max_iter": 200, "learning_rate": 0.03, "batch_size": 30, "l2": 1e-3}

    def score(encoder, freeze):
        found = [
            Classifier(encoder=encoder, freeze_encoder=freeze, random_state=seed, **how)
            .fit(train[few], y_train[few])
            .score(test, y_test)
            for seed in range(3)
        ]
        return np.mean(found)

    untrained = Autoencoder(32, max_iter=1, learning_rate=1e-12, optimizer="sgd", linear_path=False, random_state=0)
    assert score(autoencoder.encoder_, True) > score(untrained.fit(train).encoder_, True) + 0.02
    assert score(autoencoder.encoder_, True) > 0.75


def test_a_frozen_encoder_stays_as_it_is_and_a_tuned_one_does_not(digits, tmp_path):
    train, _, y_train, _ = digits
    encoder = zoo.build("mlp", in_shape=(64,), widths=(16,), norm="batch")
    zoo.save(encoder, tmp_path / "encoder.safetensors")
    for freeze in (True, False):
        fitted = Classifier(encoder=tmp_path / "encoder.safetensors", freeze_encoder=freeze, max_iter=2).fit(
            train, y_train
        )
        own = fitted.encoder_.state_dict()
        same = [torch.equal(own[key], value) for key, value in encoder.state_dict().items()]
        assert all(same) == freeze
        fitted.save(tmp_path / "classifier.safetensors")
        again = Classifier.load(tmp_path / "classifier.safetensors")
        np.testing.assert_array_equal(again.predict(train), fitted.predict(train))
    other = zoo.build("mlp", in_shape=(3,), widths=(16,))
    with pytest.raises(ValueError, match=r"the encoder takes samples of shape \(3,\), but X has \(64,\)"):
        Classifier(encoder=other).fit(train, y_train)


def test_networks_as_people_give_them(tmp_path):
    module = zoo.build("mlp", in_shape=(4,), widths=(8,))
    zoo.save(module, tmp_path / "m.safetensors")
    for given in (module, tmp_path / "m.safetensors", str(tmp_path / "m.safetensors")):
        again = from_given(given, in_shape=(4,))
        assert brings_weights(given)
        assert again is not module
        assert torch.equal(again[0].weight, module[0].weight)
    for given in ("mlp", {"name": "mlp", "kwargs": {"widths": [8]}}):
        assert not brings_weights(given)
        assert from_given(given, in_shape=(4,)).in_shape == (4,)
    with pytest.raises(ValueError, match="a specification is a name of the zoo and its keywords"):
        from_given({"kwargs": {}}, in_shape=(4,))


# -- generative --------------------------------------------------------------------------------------------------------


def test_a_gan_makes_a_ring():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    X = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32) * 3 + 7
    gan = GAN(4, max_iter=60, learning_rate=1e-3, random_state=0).fit(X)
    made = gan.sample(1000, random_state=0)
    radius = np.linalg.norm(made - 7, axis=1)
    assert np.median(radius) == pytest.approx(3.0, abs=0.4)
    around = np.histogram(np.arctan2(*(made - 7).T), bins=8, range=(-np.pi, np.pi))[0]
    assert around.min() > 20  # all round, not in one place
    np.testing.assert_array_equal(made, gan.sample(1000, random_state=0))


def test_each_player_learns_from_its_own_loss_alone():
    X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    gan = GAN(2, max_iter=1, penalty=0.0, random_state=0).fit(X)
    players = gan.model_
    players.zero_grad()
    made = players.generator(torch.ones(5, 2))
    players.judge_fixed(made).sum().backward()
    assert all(p.grad is None for p in [*players.encoder.parameters(), *players.head.parameters()])
    assert all(p.grad.abs().sum() > 0 for p in players.generator.parameters())
    torch.testing.assert_close(players.judge_fixed(made), players.judge(made))


def test_a_masked_autoencoder_draws_what_is_hidden():
    rng = np.random.default_rng(0)
    tones = rng.random((300, 1, 1, 1)).astype(np.float32)
    X = np.broadcast_to(tones, (300, 1, 8, 8)) + 0.02 * rng.random((300, 1, 8, 8), np.float32)
    estimator = MaskedAutoencoder(
        patch=2, dim=32, depth=2, heads=2, decoder_dim=32, decoder_depth=1, max_iter=30, learning_rate=3e-3
    ).set_params(random_state=0)
    estimator.fit(X)
    assert -estimator.score(X) < 0.2 * X.var()
    hidden, drawn = estimator.reconstruct(X[:10], random_state=0)
    assert hidden.shape == drawn.shape == (10, 1, 8, 8)
    changed = np.abs(hidden - X[:10]) > 1e-6
    assert changed.mean() == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(drawn[~changed], hidden[~changed])
    assert np.square(drawn - X[:10]).mean() < 0.3 * np.square(hidden - X[:10]).mean()


def test_the_masked_autoencoder_looks_at_the_seen_patches_alone():
    X = np.random.default_rng(0).random((6, 1, 8, 8), np.float32)
    estimator = MaskedAutoencoder(patch=2, dim=8, depth=1, heads=2, max_iter=1, random_state=0).fit(X)
    encoder, seen = estimator.encoder_, torch.arange(5).expand(6, 5)
    other = X.copy()
    other[:, :, 4:] = 9.0  # patches 8 to 15
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.encode_some(torch.from_numpy(X), seen), encoder.encode_some(torch.from_numpy(other), seen)
        )
        everything = torch.arange(16).expand(6, 16)
        whole = encoder.encode_some(torch.from_numpy(X), everything).mean(1)
        torch.testing.assert_close(whole, encoder(torch.from_numpy(X)))


@pytest.mark.parametrize(
    ("X", "kwargs", "words"),
    [
        (np.zeros((5, 64)), {}, "takes pictures"),
        (np.zeros((5, 8, 8)), {"patch": 3}, "multiples of patch=3"),
        (np.zeros((5, 8, 8)), {"masked": 0.001}, r"masked=0.001 leaves 4 of 4 patches to see"),
    ],
)
def test_pictures_that_can_not_be_masked(X, kwargs, words):
    with pytest.raises(ValueError, match=words):
        MaskedAutoencoder(**kwargs).fit(X)
