"""What matters to a policy whose weights are chosen by hand, and what its first layer is."""

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents import PPO
from agents.policies import POLICIES
from sandbox import sight
from sandbox.sight import first_filters, saliency

PICTURE = spaces.Box(0, 255, (2, 8, 8), np.uint8)
SHARP = {"stride": 1, "radius": 0.1}  # at each pixel, of that pixel alone
FLAT = 1e6  # a blur so wide that it leaves the mean


class TwoPixels(BaseFeaturesExtractor):
    """Of the pictures ``[B, 2, 8, 8]``, one pixel of the first and one of the second."""

    def __init__(self, space):
        super().__init__(space, features_dim=2)

    def forward(self, obs):
        return torch.stack([obs[:, 0, 2, 3], obs[:, 1, 6, 1]], dim=1)


def policy_of(space, actions, extractor=TwoPixels, kind=ActorCriticCnnPolicy, **kwargs):
    return kind(space, actions, lambda _: 1e-3, net_arch=[], features_extractor_class=extractor, **kwargs)


@pytest.fixture(params=[ActorCriticCnnPolicy, POLICIES["CnnPolicy"]], ids=["SB3's", "ours"])
def by_hand(request):
    """Logits 1, 2 and -2 times the first pixel, a value of 3 times the second; biases, which change nothing."""
    policy = policy_of(PICTURE, spaces.Discrete(3), kind=request.param)
    with torch.no_grad():
        policy.action_net.weight[:] = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
        policy.action_net.bias[:] = torch.tensor([5.0, 0.0, 1.0])
        policy.value_net.weight[:] = torch.tensor([[0.0, 3.0]])
        policy.value_net.bias[:] = 7.0
    return policy


def two_dots():
    """One bright pixel where the policy looks, another where it does not; likewise for the value."""
    obs = np.zeros((2, 8, 8), np.uint8)
    obs[0, 2, 3] = obs[0, 5, 5] = obs[1, 6, 1] = 255
    return obs


def test_it_is_the_pixels_that_the_heads_depend_on_and_by_how_much(by_hand):
    by_policy, by_value = saliency(by_hand, two_dots(), **SHARP, blur=FLAT)
    assert by_policy.shape == by_value.shape == (8, 8)
    assert by_policy.dtype == by_value.dtype == np.float32
    assert by_policy[2, 3] == pytest.approx(0.5 * (1 + 4 + 4) * (1 - 2 / 64) ** 2, rel=1e-4)  # two dots of 64 pixels
    assert by_value[6, 1] == pytest.approx(0.5 * 9 * (1 - 1 / 64) ** 2, rel=1e-4)
    by_policy[2, 3] = by_value[6, 1] = 0.0
    assert max(by_policy.max(), by_value.max()) < 1e-8


def test_a_spot_reaches_as_far_as_its_radius_and_blurs_as_wide_as_it_is_told(by_hand):
    by_policy, _ = saliency(by_hand, two_dots(), stride=1, radius=2.0, blur=FLAT)
    full = 4.5 * (1 - 2 / 64) ** 2
    for row, column in ((2, 3), (2, 5), (4, 3), (5, 7)):
        spot = np.exp(-((row - 2) ** 2 + (column - 3) ** 2) / (2 * 2.0**2))
        assert by_policy[row, column] == pytest.approx(full * spot**2, rel=1e-3)
    # Of a dot by itself, blurred by a Gaussian of 1 pixel, is left the product of two normalised rows' middles.
    weights = np.exp(-0.5 * (np.arange(8)[None] - np.arange(8)[:, None]) ** 2.0)
    weights /= weights.sum(axis=1, keepdims=True)
    dot = np.zeros((2, 8, 8), np.uint8)
    dot[0, 2, 3] = 255
    by_policy, by_value = saliency(by_hand, dot, **SHARP, blur=1.0)
    assert by_policy[2, 3] == pytest.approx(4.5 * (1 - weights[2, 2] * weights[3, 3]) ** 2, rel=1e-3)
    assert by_value.max() < 1e-8


def test_where_nothing_is_to_be_seen_nothing_matters(by_hand):
    for level in (0, 200):
        maps = saliency(by_hand, np.full((2, 8, 8), level, np.uint8), stride=2, radius=3.0, blur=2.0)
        assert max(one.max() for one in maps) < 1e-8


def test_a_coarse_grid_is_interpolated_and_the_parts_of_a_batch_make_a_whole(by_hand, monkeypatch):
    how = {"stride": 3, "radius": 1.5, "blur": FLAT}  # 3 x 3 points, at 5/6, 3.5 and 37/6
    by_policy, _ = saliency(by_hand, two_dots(), **how)
    points = (np.arange(3) + 0.5) * 8 / 3 - 0.5
    grid = 4.5 * (1 - 2 / 64) ** 2 * np.exp(-((points[:, None] - 2) ** 2 + (points[None] - 3) ** 2) / 1.5**2)
    rows = np.array([np.interp(np.arange(8), points, column) for column in grid.T])  # [3, 8]
    expected = np.array([np.interp(np.arange(8), points, row) for row in rows.T])
    np.testing.assert_allclose(by_policy, expected, rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(sight, "COPIES", 4)
    np.testing.assert_allclose(saliency(by_hand, two_dots(), **how)[0], by_policy, rtol=1e-5)


def test_pictures_that_are_not_square_and_floats_are_seen_as_the_policy_takes_them():
    policy = policy_of(spaces.Box(-1, 1, (2, 9, 5), np.float32), spaces.Box(-1, 1, (2,)))  # a Gaussian: its means
    with torch.no_grad():
        policy.action_net.weight[:] = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
        policy.value_net.weight[:] = torch.tensor([[0.0, 1.0]])
    obs = np.zeros((2, 9, 5), np.float32)
    obs[0, 2, 3], obs[1, 6, 1] = 0.5, -1.0
    by_policy, by_value = saliency(policy, obs, **SHARP, blur=FLAT)
    assert by_policy.shape == by_value.shape == (9, 5)
    assert by_policy[2, 3] == pytest.approx(0.5 * (4 * 0.5 * (1 - 1 / 45)) ** 2, rel=1e-4)
    assert by_value[6, 1] == pytest.approx(0.5 * (1 - 1 / 45) ** 2, rel=1e-4)


@pytest.mark.parametrize("share", [True, False])
def test_policy_and_value_function_may_have_eyes_of_their_own(share):
    """Only then can a change of the one's eyes leave the other's map as it was."""
    torch.manual_seed(0)
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    policy = POLICIES["CnnPolicy"](space, spaces.Discrete(2), lambda _: 1e-3, share_features_extractor=share)
    obs = np.random.default_rng(0).integers(0, 256, (1, 36, 36), np.uint8)
    before = saliency(policy, obs, stride=12)
    with torch.no_grad():
        policy.pi_features_extractor.cnn[0].weight.mul_(2.0)
    after = saliency(policy, obs, stride=12)
    assert not np.allclose(before[0], after[0], rtol=1e-3)
    assert np.allclose(before[1], after[1], rtol=1e-3) is (not share)


def test_observation_and_weights_stay_as_they_are_and_the_policy_is_left_as_by_predict(by_hand):
    obs, weights = two_dots(), [one.clone() for one in by_hand.parameters()]
    by_hand.set_training_mode(True)
    saliency(by_hand, obs)
    assert (obs == two_dots()).all()
    assert all(torch.equal(a, b) for a, b in zip(by_hand.parameters(), weights, strict=True))
    assert all(one.grad is None for one in by_hand.parameters())
    assert not by_hand.training


# -- refusals ----------------------------------------------------------------------------------------------------------


def remembering():
    return PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=1, encoder="lstm", device="cpu").policy


def remembering_in_contrib():
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticCnnPolicy

    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    return RecurrentActorCriticCnnPolicy(space, spaces.Discrete(2), lambda _: 1e-3, lstm_hidden_size=8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PPO("MlpPolicy", "sandbox/CartPole-v1", device="cpu").policy, "no pictures .* Box"),
        (lambda: PPO("MlpPolicy", "Taxi-v4", device="cpu").policy, "no pictures .* Discrete"),
        (lambda: PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=1, device="cpu"), "give model.policy"),
        (lambda: sb3.DQN("CnnPolicy", "sandbox/PixelCartPole-v0", buffer_size=1).policy, "no actor-critic"),
        (remembering, "memory"),
        (remembering_in_contrib, "memory"),
    ],
    ids=["a vector", "a number", "a model", "no actor", "a memory", "sb3-contrib's memory"],
)
def test_what_saliency_is_not_for_is_one_clear_error(make, words):
    with pytest.raises(ValueError, match=words):
        saliency(make(), np.zeros((4, 42, 42), np.uint8))


@pytest.mark.parametrize("shape", [(8, 8, 2), (1, 2, 8, 8), (8, 8)], ids=str)
def test_an_observation_of_another_shape_is_refused(by_hand, shape):
    with pytest.raises(ValueError, match=r"shape \[2, 8, 8\], got"):
        saliency(by_hand, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"radius": 0.0}, {"blur": -1.0}], ids=str)
def test_a_size_that_is_none_is_refused(by_hand, wrong):
    with pytest.raises(ValueError, match="stride, radius, blur > 0"):
        saliency(by_hand, two_dots(), **wrong)


# -- filters -----------------------------------------------------------------------------------------------------------


class SecondLayer(BaseFeaturesExtractor):
    """A convolution that is not the first layer, and another one after it."""

    def __init__(self, space):
        super().__init__(space, features_dim=3)
        self.layers = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 5, (3, 4)), nn.ReLU(), nn.Conv2d(5, 3, 1))

    def forward(self, obs):
        return self.layers(obs).mean(dim=(2, 3))


def test_the_filters_are_the_weights_of_the_first_convolution_and_a_copy():
    policy = policy_of(PICTURE, spaces.Discrete(2), SecondLayer)
    filters, weight = first_filters(policy), policy.features_extractor.layers[1].weight
    assert filters.shape == (5, 2, 3, 4)
    assert (filters == weight.detach().numpy()).all()
    filters[:] = 0.0
    assert weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("encoder", "shape"), [(None, (32, 4, 8, 8)), ("nature_cnn", (32, 4, 8, 8)), ("impala_cnn", (16, 4, 3, 3))]
)
def test_the_eyes_of_the_zoo_have_filters(encoder, shape):
    model = PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=1, encoder=encoder, device="cpu")
    assert first_filters(model.policy).shape == shape


@pytest.mark.parametrize(
    "make",
    [
        lambda: policy_of(PICTURE, spaces.Discrete(2)),
        lambda: PPO("MlpPolicy", "sandbox/CartPole-v1", device="cpu").policy,
        lambda: nn.Linear(1, 1),
    ],
    ids=["hand-made eyes", "a vector", "no policy"],
)
def test_without_a_convolution_there_are_no_filters(make):
    with pytest.raises(ValueError, match="has no convolution"):
        first_filters(make())
