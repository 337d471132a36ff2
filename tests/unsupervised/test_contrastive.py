"""Joint embedding: losses by hand, what each method is made of, collapse, and digits told better than by chance."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sandbox import zoo
from sandbox.zoo.ema import EMA
from unsupervised import BYOL, BarlowTwins, MoCo, SimCLR, SimSiam, TemporalContrast, VICReg, losses
from unsupervised.evaluate import LinearProbe, knn_accuracy
from unsupervised.joint import At, indicators, last_of_episode

METHODS = [SimCLR, MoCo, BYOL, SimSiam, BarlowTwins, VICReg, TemporalContrast]
each = pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
SMALL = {"n_features": 8, "hidden": 16, "dim": 8, "max_iter": 2, "random_state": 0}


def embeddings(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frames(n=40):
    return np.random.default_rng(0).random((n, 1, 8, 8), np.float32)


# -- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_of_identical_orthogonal_pairs(temperature):
    for B in (2, 3, 7):
        z = 3 * torch.eye(7)[:B]
        others = math.exp(1 / temperature) + 2 * (B - 1)
        assert losses.nt_xent(z, z, temperature).item() == pytest.approx(math.log(others) - 1 / temperature, abs=1e-5)


def test_nt_xent_is_equation_1():
    z1, z2 = embeddings(5, 3), embeddings(5, 3, seed=1)
    z = [*z1, *z2]
    total = 0.0
    for i in range(10):
        likes = [math.exp(torch.cosine_similarity(z[i], z[k], 0) / 0.5) for k in range(10)]
        total -= math.log(likes[(i + 5) % 10] / (sum(likes) - likes[i]))
    assert losses.nt_xent(z1, z2, 0.5).item() == pytest.approx(total / 10, rel=1e-5)
    assert losses.nt_xent(z1, 5 * z2, 0.5).item() == pytest.approx(losses.nt_xent(z2, z1, 0.5).item(), rel=1e-5)


def test_info_nce_and_the_queue_by_hand():
    assert losses.info_nce(torch.diag(torch.full((4,), 50.0))).item() == pytest.approx(0, abs=1e-6)
    assert losses.info_nce(torch.zeros(3, 8)).item() == pytest.approx(math.log(8), rel=1e-6)
    queries, keys, queue = (
        embeddings(4, 3).requires_grad_(),
        embeddings(4, 3, seed=1).requires_grad_(),
        embeddings(6, 3),
    )
    total = 0.0
    for q, k in zip(queries, keys, strict=True):
        own = math.exp(torch.cosine_similarity(q, k, 0).item() / 0.2)
        total -= math.log(
            own / (own + sum(math.exp(torch.cosine_similarity(q, other, 0).item() / 0.2) for other in queue))
        )
    loss = losses.queue_nce(queries, keys, queue, 0.2)
    assert loss.item() == pytest.approx(total / 4, rel=1e-4)
    loss.backward()
    assert keys.grad is None
    assert queries.grad.abs().sum() > 0


def test_cosine_is_byols_squared_distance_and_stops_the_gradient():
    p, z = embeddings(6, 4).requires_grad_(), embeddings(6, 4, seed=1).requires_grad_()
    unit_p, unit_z = p / p.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)
    squared = (unit_p - unit_z).square().sum(1).mean()
    assert (2 + 2 * losses.negative_cosine(p, z)).item() == pytest.approx(squared.item(), rel=1e-5)
    assert losses.negative_cosine(p, 7 * p).item() == pytest.approx(-1)
    losses.negative_cosine(p, z).backward()
    assert z.grad is None


def test_barlow_twins_of_identical_white_views_is_zero():
    white = torch.linalg.qr(embeddings(64, 6) - embeddings(64, 6).mean(0))[0]
    assert losses.barlow_twins(3 * white + 5, white, 1.0).item() == pytest.approx(0, abs=1e-6)
    z = embeddings(500, 4)
    same = torch.cat([z[:, :1]] * 4, 1)  # four times the same: all correlations are 1
    assert losses.barlow_twins(same, same, 0.01).item() == pytest.approx(12 * 0.01, rel=1e-3)
    assert losses.barlow_twins(z, -z, 0.0).item() == pytest.approx(4 * 4, rel=1e-4)
    C = np.corrcoef(z.T, embeddings(500, 4, seed=1).T)[:4, 4:]
    by_hand = np.square(1 - np.diag(C)).sum() + 0.3 * (np.square(C).sum() - np.square(np.diag(C)).sum())
    assert losses.barlow_twins(z, embeddings(500, 4, seed=1), 0.3).item() == pytest.approx(by_hand, rel=1e-4)


def test_vicregs_three_terms():
    z1, z2 = 0.3 * embeddings(50, 5).double(), 2 * embeddings(50, 5, seed=1).double()
    alike, varied, joint = losses.vicreg(z1, z2)
    assert alike.item() == pytest.approx((z1 - z2).square().mean().item())
    first, second = np.cov(z1.T), np.cov(z2.T)
    deviations = [np.sqrt(np.diag(one) + 1e-4) for one in (first, second)]
    assert varied.item() == pytest.approx(sum(np.maximum(0, 1 - one).mean() for one in deviations))
    off = [(np.square(one).sum() - np.square(np.diag(one)).sum()) / 5 for one in (first, second)]
    assert joint.item() == pytest.approx(sum(off))
    white = torch.linalg.qr(z1 - z1.mean(0))[0] * 50  # uncorrelated, and wide enough
    assert [round(term.item(), 8) for term in losses.vicreg(white, white)] == [0, 0, 0]


def test_indicators_of_collapse():
    for k in (1, 3, 6):
        basis = torch.linalg.qr(embeddings(20, k))[0]
        z = basis @ torch.linalg.qr(embeddings(6, 6))[0][:k]  # k equal singular values
        assert losses.effective_rank(z).item() == pytest.approx(k, rel=1e-3)
        assert losses.effective_rank(z.T).item() == pytest.approx(k, rel=1e-3)
    values = np.array([4.0, 2.0, 1.0]) / 7
    expected = math.exp(-(values * np.log(values)).sum())
    assert losses.effective_rank(torch.diag(torch.tensor([4.0, 2.0, 1.0]))).item() == pytest.approx(expected, rel=1e-5)
    assert losses.spread(embeddings(5000, 16)).item() == pytest.approx(1, abs=0.02)
    assert losses.spread(embeddings(50, 16) + 1e4).item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(losses.effective_rank(torch.full((4, 3), math.nan)))
    assert not losses.effective_rank(embeddings(4, 3).requires_grad_()).requires_grad


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.barlow_twins, losses.vicreg])
def test_one_sample_has_none_to_be_compared_with(loss):
    with pytest.raises(ValueError, match=r"give 2 or more, as many of each view, got batches of 1"):
        loss(embeddings(1, 4), embeddings(1, 4))
    with pytest.raises(ValueError, match="as many of each view"):
        loss(embeddings(3, 4), embeddings(2, 4))


# -- what they are made of ---------------------------------------------------------------------------------------------


@each
def test_a_batch_of_one_is_one_clear_error(kind):
    X = np.random.default_rng(0).normal(size=(9, 4))
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} compares .* n_samples=9 and batch_size=1 make a batch of o"
    ):
        kind(**SMALL, batch_size=1).fit(X)
    with pytest.raises(ValueError, match=r"n_samples=1 and batch_size=256 make a batch of one, and it takes two or mo"):
        kind(**SMALL).fit(X[:1])
    with pytest.raises(ValueError, match=r"n_samples=9 and batch_size=2 make"):  # the last one of each epoch
        kind(**SMALL, batch_size=2).fit(X)
    with pytest.raises(
        ValueError, match=r"n_samples=2 and batch_size=256 make a batch of one"
    ):  # the other is held out
        kind(**SMALL, early_stopping=True).fit(X[:2])
    assert kind(**SMALL, batch_size=3).fit(X).transform(X).shape == (9, 8)


@each
@pytest.mark.parametrize("shape", [(4, 36, 40), (3, 16, 16), (1, 8, 8), (5,)])
def test_the_encoder_suits_the_samples_and_its_features_are_what_comes_out(kind, shape):
    X = np.random.default_rng(0).random((12, *shape), np.float32)
    estimator = kind(**SMALL).fit(X)
    assert estimator.transform(X).shape == (12, 8)
    assert estimator.encoder_.in_shape == shape
    body = {36: "nature_cnn", 16: "conv", 8: "conv", 5: "mlp"}[shape[1] if len(shape) == 3 else 5]
    assert estimator.encoder_.spec["kwargs"]["body"]["name"] == body
    with torch.no_grad():
        np.testing.assert_allclose(estimator.encoder_(torch.from_numpy(X)), estimator.transform(X), atol=1e-5)


@each
def test_an_encoder_that_brings_weights_is_trained_on_from_them(kind, tmp_path):
    X = frames()
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of six units all may be silent else, and stay so
        encoder = zoo.build("conv", in_shape=(1, 8, 8), out_features=6)
    still = kind(**{**SMALL, "learning_rate": 1e-12}, encoder=encoder).fit(X)
    assert still.encoder_.spec == encoder.spec
    with torch.no_grad():
        np.testing.assert_allclose(still.transform(X), encoder(torch.from_numpy(X)), atol=1e-4)
    moved = kind(**SMALL, encoder=encoder).fit(X)
    assert not np.allclose(moved.transform(X), still.transform(X), atol=1e-4)
    moved.save(tmp_path / "moved.safetensors")
    np.testing.assert_array_equal(kind.load(tmp_path / "moved.safetensors").transform(X), moved.transform(X))
    by_name = kind(**SMALL, encoder={"name": "conv", "kwargs": {"channels": [4]}}).fit(X)
    assert by_name.encoder_.spec["kwargs"]["body"]["kwargs"]["channels"] == [4]
    with pytest.raises(ValueError, match=r"takes samples of shape \(1, 8, 8\), but X has \(1, 6, 6\)"):
        kind(**SMALL, encoder=encoder).fit(X[..., :6, :6])


@each
def test_a_network_with_batch_norm_is_judged_by_what_it_saw(kind):
    X = frames(16)
    estimator = kind(
        **{**SMALL, "max_iter": 1}, encoder={"name": "conv", "kwargs": {"channels": [4, 4], "norm": "batch"}}
    )
    Z = estimator.fit(X).transform(X)
    np.testing.assert_allclose(estimator.transform(X[:1]), Z[:1], atol=1e-5)
    assert estimator.score(X) == estimator.score(X)


def test_views_by_shape_by_name_and_by_function():
    x = torch.rand(6, 1, 8, 8)
    assert not torch.equal(*SimCLR(**SMALL).fit(frames())._views(x))
    plain = SimCLR(**SMALL, views=lambda x: x).fit(frames())
    assert all(torch.equal(view, x) for view in plain._views(x))
    shifted = SimCLR(**SMALL, views="atari").fit(frames())._views(torch.ones(6, 1, 8, 8))
    assert all(torch.equal(view, torch.ones(6, 1, 8, 8)) for view in shifted)
    with pytest.raises(ValueError, match="The 'views' parameter of SimCLR must be a str among"):
        SimCLR(**SMALL, views="imagenet").fit(frames())


def test_projectors_are_the_papers():
    def layers(module):
        return [type(one).__name__ for one in module.modules() if not list(one.children())]

    two = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    three = ["Linear", "BatchNorm1d", "ReLU", *two]
    made = {kind: kind(**SMALL).fit(frames()).model_ for kind in METHODS}
    assert layers(made[SimCLR].projector) == layers(made[BYOL].projector) == layers(made[BYOL].predictor) == two
    assert layers(made[BarlowTwins].projector) == layers(made[VICReg].projector) == three
    assert layers(made[SimSiam].projector) == [*three, "BatchNorm1d"]
    assert layers(made[SimSiam].predictor) == two
    assert made[SimSiam].predictor[0].out_features == 2  # a bottleneck
    assert layers(made[MoCo].projector) == ["Linear", "ReLU", "Linear"]
    assert layers(made[TemporalContrast].projector) == ["Linear"]


@pytest.mark.parametrize("kind", [MoCo, BYOL, TemporalContrast])
def test_the_slow_copy_starts_as_the_network_and_follows_it(kind):
    X = frames() + 3  # a mean that the encoder has to know
    still = kind(**{**SMALL, "learning_rate": 1e-12}).fit(X).model_
    for slow, fast in zip(
        still.target.parameters(), [*still.encoder.parameters(), *still.projector.parameters()], strict=True
    ):
        torch.testing.assert_close(slow, fast, atol=1e-6, rtol=0)
    assert isinstance(still.target, EMA)
    seen = []

    class Watched(kind):
        def _loss(self, *batch):
            seen.append(float(self.model_.target.module.encoder.mean.mean()))
            return super()._loss(*batch)

    Watched(**SMALL).fit(X)
    assert seen[0] == pytest.approx(3.5, abs=0.05)  # before the first step
    torch.testing.assert_close(still.target.module.encoder.mean, still.encoder.mean)
    stuck = kind(**{**SMALL, "momentum": 1.0, "max_iter": 4}).fit(X).model_
    plain = kind(**{**SMALL, "momentum": 0.0, "max_iter": 1}).fit(X).model_
    for slow, fast in ((stuck.target.module, stuck), (plain.target.module, plain)):
        assert torch.equal(slow.encoder.head.weight, fast.encoder.head.weight) == (slow is plain.target.module)


def test_the_copys_momentum_rises_to_one():
    taus = []

    class Watched(BYOL):
        def _after_step(self):
            super()._after_step()
            taus.append(self.model_.target.tau)

    Watched(**{**SMALL, "max_iter": 4}, momentum=0.9).fit(frames())
    np.testing.assert_allclose(taus, [0.1 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)])


def test_the_queue_holds_the_newest_keys_and_an_evaluation_adds_none():
    estimator = MoCo(**{**SMALL, "max_iter": 1}, queue=50, batch_size=20, views=lambda x: x).fit(frames())
    model, X = estimator.model_, torch.from_numpy(frames())
    queue = model.queue.clone()
    assert queue.shape == (50, 8)
    estimator.score(frames())
    assert torch.equal(model.queue, queue)
    with torch.no_grad():
        keys = model.target(X)
    nearest = torch.cdist(queue, keys).min(1).values
    assert nearest[:40].max() < 0.1 < nearest[40:].min()  # forty keys, and ten of the random ones that it began with


# -- frames ------------------------------------------------------------------------------------------------------------


def test_pairs_are_so_many_steps_apart_and_cross_no_episode():
    X, episodes = np.arange(10.0)[:, None], [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    earlier, later = TemporalContrast(steps=2)._checked(X, episodes, reset=True)
    assert earlier[:, 0].tolist() == list(range(10))
    assert later[np.arange(10)][:, 0].tolist() == [2, 3, 3, 3, 5, 5, 8, 9, 9, 9]
    assert np.take(later, [0, 6], axis=0)[:, 0].tolist() == [2, 8]
    assert isinstance(later, At)
    assert later.rows is earlier  # no copy of a recording
    _, later = TemporalContrast(steps=3)._checked(X, reset=True)
    assert later[np.arange(10)][:, 0].tolist() == [3, 4, 5, 6, 7, 8, 9, 9, 9, 9]
    with pytest.raises(ValueError, match=r"episodes must be one for each of n_samples=10 frames, got shape \(9,\)"):
        TemporalContrast().fit(X, episodes[1:])
    assert last_of_episode(3, ["a", "b", "b"]).tolist() == [0, 2, 2]


def test_what_moves_slowly_is_learned_and_noise_is_not():
    rng = np.random.default_rng(0)
    angle = np.cumsum(rng.normal(0.1, 0.05, 1500))
    X = np.column_stack([np.cos(angle), np.sin(angle), 3 * rng.normal(size=(1500, 6))])
    estimator = TemporalContrast(
        n_features=16, steps=2, views=lambda x: x, max_iter=15, batch_size=128, random_state=0
    ).fit(X)
    curve = [row["accuracy"] for row in estimator._fitting.history]
    assert curve[-1] > 4 / 128  # chance: 1 / 128
    random = TemporalContrast(n_features=16, max_iter=1, learning_rate=1e-12, random_state=0).fit(X)
    told = [
        LinearProbe(task="regression")
        .fit(one.transform(X)[:1000], X[:1000, :2])
        .r2(one.transform(X)[1000:], X[1000:, :2])
        for one in (estimator, random)
    ]
    assert told[0].mean() > told[1].mean() + 0.03


# -- collapse ----------------------------------------------------------------------------------------------------------


def test_collapse_is_a_warning_that_names_the_indicator():
    class Alike(MoCo):  # views should be alike, and that is all
        def _loss(self, x):
            z1, z2 = self._embedded(x)
            return -torch.cosine_similarity(z1, z2).mean(), indicators(z1)

    X = np.random.default_rng(0).normal(size=(200, 6))
    collapsing = Alike(n_features=16, max_iter=40, batch_size=50, learning_rate=3e-3, random_state=0)
    with pytest.warns(RuntimeWarning, match=r"embeddings of Alike have collapsed: (spread|effective_rank)=.* may help"):
        collapsing.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound = VICReg(n_features=16, max_iter=10, random_state=0).fit(X)
    rows = sound._fitting.history
    assert all({"effective_rank", "spread", "invariance", "variance", "covariance"} <= row.keys() for row in rows)
    assert rows[-1]["effective_rank"] > 10


@each
def test_indicators_are_in_the_table(kind, tmp_path):
    kind(**SMALL, tensorboard=tmp_path / "table.csv").fit(frames())
    names = (tmp_path / "table.csv").read_text().splitlines()[0].split(",")
    assert {"effective_rank", "spread"} <= set(names)


# -- learning ----------------------------------------------------------------------------------------------------------


def judged(estimator, data):
    train, test, y_train, y_test = data
    features, others = estimator.transform(train), estimator.transform(test)
    probe = LinearProbe(random_state=0).fit(features, y_train).score(others, y_test)
    return probe, knn_accuracy(features, y_train, test_features=others, test_y=y_test)


def beats_a_random_encoder(kind, epochs):
    X, y = load_digits(return_X_y=True)
    pictures = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    data = train_test_split(pictures, y, test_size=360, random_state=0)
    random = judged(kind(max_iter=1, learning_rate=1e-12, random_state=0).fit(data[0]), data)
    learned = judged(kind(max_iter=epochs, random_state=0).fit(data[0]), data)
    assert learned[0] > random[0] + 0.01, (learned, random)
    assert learned[1] > random[1] + 0.01, (learned, random)


@pytest.mark.parametrize("kind", [SimCLR, BarlowTwins], ids=lambda kind: kind.__name__)
def test_digits_are_told_better_than_from_random_features(kind):
    beats_a_random_encoder(kind, epochs=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS[:-1], ids=lambda kind: kind.__name__)
def test_every_method_beats_random_features(kind):
    beats_a_random_encoder(kind, epochs=60)


def test_nothing_but_the_encoder_is_in_the_features():
    estimator = SimCLR(**SMALL).fit(frames())
    before = estimator.transform(frames())
    for parameter in estimator.model_.projector.parameters():
        nn.init.zeros_(parameter)
    np.testing.assert_array_equal(estimator.transform(frames()), before)
