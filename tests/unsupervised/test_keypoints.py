"""An autoencoder of points: it finds what moves, counts small things in full, and is an estimator like the others."""

import numpy as np
import pytest
import torch

import unsupervised
from unsupervised import KeypointAutoencoder


def moving(n=400, side=24, seed=0):
    """Pictures with a fixed background and a bright square that is somewhere, or (one in four) nowhere."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, 1, side, side), np.uint8)
    X[:, :, ::4] = 60
    place, there = rng.integers(2, side - 5, size=(n, 2)), rng.random(n) > 0.25
    for picture, (row, column), is_there in zip(X, place, there, strict=True):
        if is_there:
            picture[0, row : row + 3, column : column + 3] = 255
    return X, place, there


def test_a_linear_layer_reads_where_the_thing_is():
    X, place, there = moving()
    estimator = KeypointAutoencoder(6, max_iter=12, learning_rate=3e-3, batch_size=32, random_state=0).fit(X[:300])
    assert estimator.loss_curve_[-1] < 0.7 * estimator.loss_curve_[0]
    Z = np.column_stack([estimator.transform(X), np.ones(len(X))])
    target = place * there[:, None]  # 0 where there is none, as in a game's memory
    solved, *_ = np.linalg.lstsq(Z[:300], target[:300], rcond=None)
    rest = target[300:] - Z[300:] @ solved
    r2 = 1 - rest.var(0) / target[300:].var(0)
    assert (r2 > 0.9).all(), r2


def test_points_and_codes_are_the_same():
    X, *_ = moving(60)
    estimator = KeypointAutoencoder(6, max_iter=1, random_state=0).fit(X)
    Z, points = estimator.transform(X), estimator.points(X)
    assert points.shape == (60, 2, 3)
    assert (np.abs(points) <= 1).all()
    assert (points[..., 2] >= 0).all()
    np.testing.assert_allclose(points[..., 2], Z[:, 4:], atol=1e-6)
    np.testing.assert_allclose(points[..., 0] * points[..., 2], Z[:, :2], atol=1e-4)


def test_errors_are_in_units_of_each_pixels_deviation():
    X, *_ = moving(60)
    estimator = KeypointAutoencoder(3, max_iter=1, random_state=0).fit(X)
    deviation = (X / 255).std(0)
    floor = 0.25 * np.sqrt((X / 255).var(0).mean())
    np.testing.assert_allclose(estimator.model_.unit, np.hypot(deviation, floor), rtol=1e-4)
    x = torch.zeros(1, 1, 24, 24)
    error = estimator._error(x + estimator.model_.unit, x)
    assert error.item() == pytest.approx(1.0, rel=1e-5)


def test_kept_in_a_file_it_is_the_same(tmp_path):
    X, *_ = moving(60)
    estimator = KeypointAutoencoder(6, max_iter=1, random_state=0).fit(X)
    estimator.save(tmp_path / "e.safetensors")
    opened = unsupervised.load(tmp_path / "e.safetensors")
    assert type(opened) is KeypointAutoencoder
    np.testing.assert_array_equal(opened.points(X), estimator.points(X))
    assert opened.score(X) == pytest.approx(estimator.score(X))


def test_rows_with_an_image_shape_are_pictures_and_other_rows_are_refused():
    X, *_ = moving(40)
    rows = X.reshape(40, -1)
    assert KeypointAutoencoder(3, image_shape=(24, 24), max_iter=1).fit(rows).transform(rows).shape == (40, 3)
    with pytest.raises(ValueError, match="KeypointAutoencoder takes pictures"):
        KeypointAutoencoder(3, max_iter=1).fit(rows)
    with pytest.raises(ValueError, match="multiple of 3"):
        KeypointAutoencoder(4, max_iter=1).fit(X)
    with pytest.raises(ValueError, match="'encoder' parameter"):
        KeypointAutoencoder(3, encoder="conv").fit(X)
