"""Pretext tasks: what is asked is right, what can be told is told, and wrong input is one clear error."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from unsupervised import InverseDynamics, Jigsaw, RotationPrediction
from unsupervised.pretext import shuffled, turns, unlike_permutations

SMALL = {"n_features": 8, "max_iter": 2, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32).reshape(-1, 1, 8, 8), y


def told(estimator):
    return estimator._fitting.history[-1]["accuracy"]


# -- rotations ---------------------------------------------------------------------------------------------------------


def test_four_right_angles_of_a_square_and_two_of_a_rectangle():
    x = torch.rand(5, 3, 6, 6)
    turned, labels = turns(x)
    for k in range(4):
        assert torch.equal(turned[labels == k], x.rot90(k, (2, 3)))
        assert torch.equal(turned[labels == k].rot90(-k, (2, 3)), x)
    turned, labels = turns(x[..., :4])
    assert torch.equal(turned[5:], x[..., :4].flip(2, 3))
    assert labels.tolist() == [0] * 5 + [1] * 5
    assert RotationPrediction(**SMALL).fit(x.numpy()).model_.head.out_features == 4
    assert RotationPrediction(**SMALL).fit(x[..., :4].numpy()).model_.head.out_features == 2


def test_the_upper_side_of_digits_is_learned(digits):
    estimator = RotationPrediction(max_iter=5, random_state=0).fit(digits[0])
    assert told(estimator) > 0.7  # chance: 0.25
    assert estimator.transform(digits[0]).shape == (1797, 128)


# -- tiles -------------------------------------------------------------------------------------------------------------


def test_tiles_come_to_their_places():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    order = torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]])
    out = shuffled(x, order)
    assert torch.equal(out[0], x[0])
    tiles = [x[1, :, i : i + 2, j : j + 3] for i in (0, 2) for j in (0, 3)]
    assert torch.equal(out[1, :, :2, :3], tiles[3])
    assert torch.equal(out[1, :, :2, 3:], tiles[1])
    assert torch.equal(out[1, :, 2:, :3], tiles[0])
    assert torch.equal(out[1, :, 2:, 3:], tiles[2])


def test_permutations_are_unlike_each_other():
    four = unlike_permutations(4, 4)
    assert min(int((a != b).sum()) for a, b in itertools.combinations(four, 2)) == 4  # no tile at a place twice
    assert len({tuple(one.tolist()) for one in unlike_permutations(4, 30)}) == 24
    torch.manual_seed(0)
    nine = unlike_permutations(9, 30)
    assert all(sorted(one.tolist()) == list(range(9)) for one in nine)
    assert min(int((a != b).sum()) for a, b in itertools.combinations(nine, 2)) >= 7


def test_how_digits_were_shuffled_is_learned(digits):
    estimator = Jigsaw(max_iter=12, random_state=0).fit(digits[0])
    assert told(estimator) > 0.3  # chance: 1 / 24
    assert estimator.model_.ways.shape == (24, 4)
    assert Jigsaw(**SMALL, grid=4, n_permutations=7).fit(digits[0][:50]).model_.ways.shape == (7, 16)
    with pytest.raises(ValueError, match="grid=3 must divide both sides of pictures of 8x8 pixels"):
        Jigsaw(**SMALL, grid=3).fit(digits[0][:50])


@pytest.mark.parametrize("kind", [Jigsaw, RotationPrediction])
def test_rows_are_no_pictures(kind, digits):
    rows = digits[0][:50].reshape(50, 64)
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} takes pictures: give X as .*, or image_shape with rows of 64"
    ):
        kind(**SMALL).fit(rows)
    with_shape = kind(**SMALL, image_shape=(8, 8)).fit(rows).transform(rows)
    np.testing.assert_array_equal(with_shape, kind(**SMALL).fit(digits[0][:50]).transform(digits[0][:50]))
    assert kind(**SMALL, batch_size=1).fit(rows[:3].reshape(3, 8, 8)).n_iter_ == 2


# -- actions -----------------------------------------------------------------------------------------------------------


def walk(n=600, seed=0):
    """A dot that steps left, stays or steps right on a ring of twelve pixels, beside noise."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 3, n)
    places = np.cumsum(np.append(0, actions[:-1] - 1)) % 12
    frames = 0.2 * rng.random((n, 1, 8, 12), np.float32)
    frames[np.arange(n), 0, 4, places] = 1.0
    return frames, np.array(["left", "stay", "right"])[actions]


def test_the_action_is_what_led_to_the_next_frame():
    frames, actions = walk()
    estimator = InverseDynamics(max_iter=12, batch_size=64, random_state=0).fit(frames, actions)
    assert told(estimator) > 0.9
    assert estimator.classes_.tolist() == ["left", "right", "stay"]
    unseen = walk(seed=1)
    assert estimator.score(*unseen) > -0.5  # chance: -1.1
    late = InverseDynamics(max_iter=5, batch_size=64, random_state=0).fit(frames[1:], actions[:-1])
    assert late.score(unseen[0][1:], unseen[1][:-1]) < -1  # what led to the first of two frames says nothing of both


def test_no_action_leads_from_one_episode_to_the_next():
    X, y = np.arange(7.0)[:, None], [0, 1, 0, 1, 0, 1, 0]
    estimator = InverseDynamics()
    estimator._episodes = ["a", "a", "a", "b", "c", "c", "c"]
    first, second, actions = estimator._checked(X, y, reset=True)
    assert first[np.arange(4)][:, 0].tolist() == [0, 1, 4, 5]
    assert second[np.arange(4)][:, 0].tolist() == [1, 2, 5, 6]
    assert actions.tolist() == [0, 1, 0, 1]
    fitted = InverseDynamics(**SMALL).fit(X, y, episodes=[0, 0, 0, 1, 2, 2, 2])
    assert "_episodes" not in vars(fitted)
    assert fitted.partial_fit(X, y, episodes=np.zeros(7)).n_iter_ == 3


@pytest.mark.parametrize(
    ("y", "episodes", "words"),
    [
        (None, None, "requires y to be passed, but the target y is None"),
        ([0, 1, 0], None, "inconsistent numbers of samples"),
        (np.arange(5) + 0.5, None, "Unknown label type: continuous"),
        (np.arange(5), np.zeros(4), r"episodes must be one for each of n_samples=5 frames, got shape \(4,\)"),
        (np.arange(5), np.arange(5), "of n_samples=5 frames none is followed by another one of the same episode"),
    ],
)
def test_wrong_actions_are_one_clear_error(y, episodes, words):
    with pytest.raises(ValueError, match=words):
        InverseDynamics(**SMALL).fit(np.eye(5), y, episodes)


def test_an_action_that_was_never_seen_is_named():
    estimator = InverseDynamics(**SMALL).fit(np.eye(5), [0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=r"y has actions \[7\], which are not among \[0 1\]"):
        estimator.score(np.eye(5), [0, 1, 7, 1, 0])
