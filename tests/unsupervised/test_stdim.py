"""ST-DIM: its loss by hand, and that it learns where a small thing is."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from unsupervised import STDIM, losses
from unsupervised.joint import indicators


def walk(n=600, side=36, seed=0):
    """A dot of two pixels on its way over a picture ``[n, 1, side, side]``, and where it is."""
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.integers(-2, 3, (n, 2)), axis=0) % (2 * side)
    places = np.minimum(places, 2 * side - 1 - places).clip(1, side - 2)  # it turns round at the edges
    frames = np.zeros((n, 1, side, side), np.uint8)
    for i, (y, x) in enumerate(places):
        frames[i, 0, y : y + 2, x : x + 2] = 255
    return frames, places


def test_the_loss_at_each_place_is_that_of_the_whole_there():
    torch.manual_seed(0)
    scores = torch.randn(3, 5, 5)
    each = [losses.info_nce(one) for one in scores]
    torch.testing.assert_close(losses.place_nce(scores), torch.stack(each).mean())
    with pytest.raises(ValueError, match="give 2 or more"):
        losses.place_nce(torch.zeros(3, 1, 1))


def test_the_loss_is_the_papers():
    frames, _ = walk(8)
    estimator = STDIM(n_features=4, max_iter=1, batch_size=8, random_state=0, precision="fp32").fit(frames)
    model, x = estimator.model_, torch.from_numpy(frames).float() / 255
    now, later = x[:4], x[1:5]
    with torch.no_grad():
        value, metrics = estimator._loss(now, later.flatten(1))
        places, later_places = model.encoder.see(now)[0], model.encoder.see(later)[0]
        features = model.encoder(now)
        total, n = 0.0, places.shape[2] * places.shape[3]
        for i in range(places.shape[2]):
            for j in range(places.shape[3]):
                keys = later_places[:, :, i, j]
                total += losses.info_nce(model.by_features(features) @ keys.T)
                total += losses.info_nce(model.by_places(places[:, :, i, j]) @ keys.T)
    assert value.item() == pytest.approx(total.item() / n, rel=1e-4)
    assert metrics.keys() == {"by_features", "by_places", *indicators(features)}
    assert (metrics["by_features"] + metrics["by_places"]).item() == pytest.approx(value.item())


def test_a_linear_layer_reads_where_a_small_thing_is():
    frames, places = walk(1500, side=16)
    small = {"encoder": {"name": "conv", "kwargs": {"channels": [16, 32]}}, "n_features": 32, "random_state": 0}
    learned = STDIM(**small, max_iter=15, batch_size=64, learning_rate="cos_3e-3").fit(frames)
    random = STDIM(**small, max_iter=1, learning_rate=1e-12).fit(frames)
    reads = {}
    for name, estimator in (("learned", learned), ("random", random)):
        Z = estimator.transform(frames)
        reads[name] = Ridge(1.0).fit(Z[:1100], places[:1100]).score(Z[1100:], places[1100:])
    assert reads["learned"] > reads["random"] + 0.2
    assert reads["learned"] > 0.7


def test_no_pair_crosses_an_episode():
    frames, _ = walk(6)
    now, later = STDIM(steps=2)._checked(frames, [0, 0, 0, 1, 1, 1], reset=True)
    assert len(now) == 6
    np.testing.assert_array_equal(later[np.arange(6)], now[[2, 2, 2, 5, 5, 5]])


@pytest.mark.parametrize(
    ("kwargs", "X", "says"),
    [
        ({"encoder": "vit"}, walk(8)[0], "map of an encoder's convolutions, and ViT has none"),
        ({}, np.zeros((8, 5)), "STDIM takes pictures"),
        ({"batch_size": 1}, walk(8)[0], "make a batch of one"),
        ({}, np.full((8, 1, 36, 36), np.nan), "Input X contains NaN"),
    ],
)
def test_what_cannot_be_is_one_line(kwargs, X, says):
    with pytest.raises(ValueError, match=says):
        STDIM(max_iter=1, random_state=0, **kwargs).fit(X)


def test_a_collapse_is_told():
    frames = np.zeros((32, 1, 36, 36), np.uint8)  # all alike: nothing to tell
    with pytest.warns(RuntimeWarning, match="STDIM have collapsed: effective_rank"):
        STDIM(n_features=8, max_iter=1, batch_size=16, random_state=0).fit(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STDIM(n_features=8, max_iter=1, batch_size=16, random_state=0).fit(walk(64)[0])
