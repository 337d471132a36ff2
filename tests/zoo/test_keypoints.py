"""Keypoints: places by hand, there and back, and that a point finds its thing."""

import math

import pytest
import torch

from sandbox import zoo
from sandbox.zoo.keypoints import as_points, places


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def seer(**kwargs):
    """An encoder of one point whose scores are the brightness of every second pixel, times a hundred."""
    encoder = zoo.build("keypoints", in_shape=(1, 9, 13), out_features=3, channels=(1,), temperature=100.0, **kwargs)
    with torch.no_grad():
        for layer in encoder.cnn[0], encoder.cnn[2]:
            layer.weight.zero_()
            layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
            layer.bias.zero_()
    return encoder


def picture(*bright):
    x = torch.zeros(1, 1, 9, 13)
    for row, column in bright:
        x[0, 0, row, column] = 1
    return x


@pytest.mark.parametrize(
    ("place", "expected"), [((0, 0), (-1, -1)), ((4, 6), (0, 0)), ((8, 12), (1, 1)), ((2, 9 - 1), (1 / 3, -0.5))]
)
def test_a_point_is_where_the_light_is(place, expected):
    x, y, p = seer()(picture(place))[0].tolist()
    assert (x, y, p) == pytest.approx((*expected, 1), abs=1e-4)


def test_between_two_lights_and_nowhere():
    encoder = seer()
    assert encoder(picture((4, 0), (4, 12)))[0].tolist() == pytest.approx([0, 0, 1], abs=1e-4)
    assert encoder.points(picture((4, 2), (4, 6)))[0, 0].tolist() == pytest.approx([-1 / 3, 0, 1], abs=1e-4)
    dark = encoder(picture())[0].tolist()  # every place as likely as any other, and nowhere as likely as all of them
    assert dark == pytest.approx([0, 0, 0.5], abs=1e-5)
    with torch.no_grad():
        encoder.nowhere.fill_(math.log(35) + math.log(3))
    assert encoder(picture())[0, 2].item() == pytest.approx(0.25, abs=1e-5)


def test_the_order_of_features_is_that_of_points():
    z = torch.tensor([[0.2, -0.1, 0.4, 0.3, 0.4, 0.5]])  # x of two points, y of them, p of them
    assert as_points(z).flatten().tolist() == pytest.approx([0.5, 1, 0.4, -0.2, 0.6, 0.5])


def test_places_are_the_middles_of_what_a_stride_of_two_sees():
    x, y = places((1, 9, 13))
    assert (len(x), len(y)) == (7, 5)
    assert zoo.build("keypoints", in_shape=(1, 9, 13)).cnn(torch.zeros(1, 1, 9, 13)).shape[2:] == (5, 7)


def test_a_spot_is_drawn_at_its_point_as_bright_as_it_is_likely():
    decoder = zoo.build("keypoint_decoder", in_features=3, out_shape=(1, 16, 24), channels=(), widths=(0.1,))
    with torch.no_grad():
        decoder.last.weight.zero_()
        decoder.last.weight[:, 0, 2, 2] = 1
        decoder.last.bias.zero_()
        full = decoder(torch.tensor([[1.0, -1.0, 1.0]]))[0, 0]
        half = decoder(torch.tensor([[0.5, -0.5, 0.5]]))[0, 0]
    assert full.shape == (16, 24)
    assert full.argmax().item() in (22, 23)  # the upper right corner
    torch.testing.assert_close(half, full / 2)
    assert full[8:].max() < 1e-6


def test_gradients_reach_the_scores_from_the_pixels():
    encoder = zoo.build("keypoints", in_shape=(1, 20, 20), out_features=6)
    decoder = zoo.build("keypoint_decoder", in_features=6, out_shape=(1, 20, 20))
    decoder(encoder(torch.rand(3, 1, 20, 20))).square().sum().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("keypoints", {"in_shape": (8,)}, "Keypoints"),
        ("keypoints", {"in_shape": (1, 8, 8), "out_features": 32}, "out_features must be a multiple of 3"),
        ("keypoints", {"in_shape": (1, 8, 8), "channels": ()}, "one convolution or more"),
        ("keypoints", {"in_shape": (1, 8, 8), "temperature": 0.0}, "temperature must be positive"),
        ("keypoint_decoder", {"in_features": 4, "out_shape": (1, 8, 8)}, "in_features must be a multiple of 3"),
        ("keypoint_decoder", {"in_features": 3, "out_shape": (8,)}, "KeypointDecoder"),
        ("keypoint_decoder", {"in_features": 3, "out_shape": (1, 8, 8), "widths": (0.0,)}, "widths must be positive"),
    ],
)
def test_what_cannot_be_is_one_clear_error(name, kwargs, words):
    with pytest.raises(ValueError, match=words):
        zoo.build(name, **kwargs)


def test_without_a_head_the_bodys_features_are_the_code():
    how = {"in_shape": (1, 9, 13), "out_features": 6, "body": "keypoints", "linear_path": False}
    encoder = zoo.build("latent_encoder", head=False, **how)
    encoder.start(mean=torch.full((117,), 0.5), scale=2.0)
    x = torch.rand(4, 1, 9, 13)
    torch.testing.assert_close(encoder(x), encoder.body((x - 0.5) / 2))
    with pytest.raises(ValueError, match="head=False takes linear_path=False"):
        zoo.build("latent_encoder", head=False, **{**how, "linear_path": True})
