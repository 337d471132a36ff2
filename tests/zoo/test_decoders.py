"""The decoders, and the convolutions that one of them mirrors: architecture by numbers."""

import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sandbox import zoo
from sandbox.training.checkpoint import save_tensors
from sandbox.zoo.conv import he


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def maps(layers, x, kind=(nn.Conv2d, nn.ConvTranspose2d)):
    """The shapes, without the batch, that go into each convolution, and what comes out at the end."""
    shapes = []
    for layer in layers:
        if isinstance(layer, kind):
            shapes.append(tuple(x.shape[1:]))
        x = layer(x)
    return [*shapes, tuple(x.shape[1:])]


def kinds(layers):
    return [type(layer).__name__ for layer in layers]


# -- the contract ------------------------------------------------------------------------------------------------------


def test_a_decoder_of_ones_own():
    class Twice(zoo.Decoder):
        def __init__(self):
            super().__init__(in_features=2, out_shape=(2, 1))
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def decode(self, z):
            return self.second(self.first(z)).unflatten(1, self.out_shape)

    decoder = Twice()
    assert decoder.last is decoder.second
    assert decoder(torch.zeros(3, 2)).shape == (3, 2, 1)
    for wrong in (torch.zeros(3, 3), torch.zeros(2), torch.zeros(1, 3, 2)):
        with pytest.raises(ValueError, match=r"Twice takes z of shape \[B, 2\], got \["):
            decoder(wrong)
    with pytest.raises(NotImplementedError):
        zoo.Decoder(2, (2,))(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="Decoder has no layer with weights"):
        _ = zoo.Decoder(2, (2,)).last


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("mlp_decoder", {}),
        ("mlp_decoder", {"norm": "batch", "activation": "sigmoid", "dropout": 0.5}),
        ("conv_decoder", {}),
        ("conv_decoder", {"norm": "batch", "activation": "sigmoid", "channels": (8,)}),
        ("nature_decoder", {}),
        ("nature_decoder", {"channels": (16,)}),
        ("latent_decoder", {"body": "conv_decoder", "linear_path": False}),
    ],
)
def test_a_zero_last_layer_makes_zeros(name, kwargs):
    decoder = zoo.build(name, in_features=4, out_shape=(3, 37, 40), **kwargs)
    z = torch.randn(5, 4)
    assert decoder(z).all(dim=0).any()
    for parameter in decoder.last.parameters():
        nn.init.zeros_(parameter)
    assert not decoder(z).any()


def test_the_record_of_a_decoder(tmp_path):
    path = tmp_path / "decoder.safetensors"
    zoo.save(zoo.build("mlp_decoder", in_features=3, out_shape=(2, 5)), path)
    with safetensors.safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["sandbox.zoo"])
    record.pop("sha256")
    assert (record["in_features"], record["out_shape"]) == (3, [2, 5])
    assert not record.keys() & {"in_shape", "out_features"}
    tensors = safetensors.torch.load_file(path)
    for change in ({"out_shape": [5, 2]}, {"in_features": 4}):
        save_tensors(path, "sandbox.zoo", {**record, **change}, tensors)
        with pytest.raises(zoo.FileError, match="its record of shapes is not that of its model"):
            zoo.load(path)


# -- MLP ---------------------------------------------------------------------------------------------------------------


def test_mlp_decoder_is_an_mlp_that_takes_a_shape():
    decoder = zoo.MLPDecoder(4, (2, 3), widths=(8, 5), activation="tanh", norm="layer")
    mlp = zoo.MLP((4,), widths=(8, 5), out_features=6, activation="tanh", norm="layer")
    mlp.load_state_dict(decoder.mlp.state_dict())
    z = torch.randn(7, 4)
    assert torch.equal(decoder(z), mlp(z).reshape(7, 2, 3))
    assert str(decoder.mlp) == str(mlp)


def test_mlp_decoder_refuses_what_an_mlp_refuses():
    for key, wrong in [
        ("activation", "swosh"),
        ("norm", "batsh"),
        ("init", "zeros"),
        ("dropout", 1.0),
        ("widths", 8.5),
    ]:
        with pytest.raises(ValueError, match=key):
            zoo.MLPDecoder(4, (2,), **{key: wrong})


# -- convolutions there and back ---------------------------------------------------------------------------------------


def test_conv_layers():
    conv = zoo.Conv((3, 33, 28))
    assert kinds(conv.cnn) == ["Conv2d", "ReLU"] * 3 + ["Flatten"]
    assert maps(conv.cnn[:-1], torch.zeros(1, 3, 33, 28)) == [(3, 33, 28), (32, 16, 14), (64, 8, 7), (128, 4, 3)]
    assert kinds(conv.linear) == ["Linear", "ReLU"]
    assert (conv(torch.rand(2, 3, 33, 28)) >= 0).all()


def test_with_batch_norm_and_leaky_relu_they_are_dcgans():
    conv = zoo.Conv((3, 64, 64), channels=(8, 16, 32, 64), norm="batch", activation="leaky_relu")
    one = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds(conv.cnn) == ["Conv2d", "LeakyReLU", *3 * one, "Flatten"]  # no norm at the picture
    assert conv.cnn[1].negative_slope == 0.2
    assert [layer.bias is not None for layer in conv.cnn if isinstance(layer, nn.Conv2d)] == [True, False, False, False]
    decoder = zoo.ConvDecoder(100, (3, 64, 64), channels=(64, 32, 16, 8), norm="batch")
    assert kinds(decoder.cnn) == ["Linear", "Unflatten", *4 * ["BatchNorm2d", "ReLU", "ConvTranspose2d"]]
    biases = [layer.bias is not None for layer in decoder.cnn if isinstance(layer, nn.ConvTranspose2d)]
    assert biases == [False, False, False, True]
    assert maps(decoder.cnn, torch.zeros(2, 100))[0] == (64, 4, 4)


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 70), st.integers(8, 70), st.integers(1, 3), st.sampled_from([1, 3]))
def test_conv_decoder_goes_through_the_maps_of_conv_backwards(H, W, depth, C):
    channels = (2, 3, 4)[:depth]
    there = zoo.Conv((C, H, W), out_features=2, channels=channels)
    back = zoo.ConvDecoder(2, (C, H, W), channels=channels[::-1])
    assert maps(back.cnn, torch.zeros(1, 2)) == maps(there.cnn[:-1], torch.zeros(1, C, H, W))[::-1]


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 9, 8), (1, 11, 13)])
def test_with_the_same_weights_one_is_the_transpose_of_the_other(shape):
    there = zoo.Conv(shape, channels=(3,)).cnn[0]
    back = zoo.ConvDecoder(4, shape, channels=(3,)).last
    back.weight.data = there.weight.data
    x, y = torch.randn(1, *shape), torch.randn(1, 3, shape[1] // 2, shape[2] // 2)
    torch.testing.assert_close((there(x) * y).sum(), (x * back(y)).sum())


@pytest.mark.parametrize("name", ["conv_decoder", "nature_decoder"])
@pytest.mark.parametrize("side", [*range(36, 54), 64, 84, 96, 99])
def test_every_pixel_can_be_drawn(name, side):
    decoder = zoo.build(name, in_features=2, out_shape=(1, side, side + 1), channels=(4, 4, 4))
    for parameter in decoder.parameters():
        parameter.data.abs_()  # biases are zero: what is left at zero was not drawn
    picture = decoder(torch.ones(1, 2))
    assert picture.shape == (1, 1, side, side + 1)
    assert (picture > 0).all()


def test_images_too_small_to_be_halved_so_often():
    assert zoo.Conv((1, 8, 9)).linear[0].in_features == 128
    assert zoo.ConvDecoder(2, (1, 2, 3), channels=(4,))(torch.zeros(1, 2)).shape == (1, 1, 2, 3)
    with pytest.raises(
        ValueError, match=r"Conv takes images \[C, H, W\] of at least 8x8 pixels, got in_shape \(1, 7, 9"
    ):
        zoo.Conv((1, 7, 9))
    with pytest.raises(
        ValueError, match=r"ConvDecoder gives images .* at least 16x16 pixels, got out_shape \(1, 16, 15"
    ):
        zoo.ConvDecoder(2, (1, 16, 15), channels=(4, 3, 2, 1))
    for model in (zoo.Conv((1, 8, 8)), zoo.ConvDecoder(8, (1, 8, 8))):
        sizes = (8, (1, 8, 8)) if isinstance(model, zoo.Decoder) else ((1, 8, 8), 8)
        for key, wrong in [("channels", ()), ("channels", (3, 0)), ("norm", "instance"), ("activation", "maxout")]:
            with pytest.raises(ValueError, match=f"{key} must be"):
                type(model)(*sizes, **{key: wrong})


@pytest.mark.parametrize("name", ["conv_decoder", "nature_decoder"])
def test_vectors_are_refused(name):
    with pytest.raises(ValueError, match=r"gives images \[C, H, W\].*, got out_shape \(40,\)"):
        zoo.build(name, in_features=2, out_shape=(40,))


# -- Nature ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(32, 64, 64), (16, 32), (8,)])
def test_nature_decoder_goes_through_the_maps_of_nature_cnn_backwards(channels):
    there = zoo.NatureCNN((4, 84, 84), channels=channels)
    back = zoo.NatureDecoder(32, (4, 84, 84), channels=channels[::-1])
    shapes = maps(there.cnn[:-1], torch.zeros(1, 4, 84, 84))[::-1]
    assert maps(back.cnn, back.linear(torch.zeros(1, 32))) == shapes
    assert back.linear[0].out_features == 512
    strides = [layer.stride[0] for layer in back.cnn if isinstance(layer, nn.ConvTranspose2d)]
    assert strides == [4, 2, 1][: len(channels)][::-1]
    below = ["ReLU", "BlockConvTranspose2d"]  # the last one, of stride 4
    assert kinds(back.cnn) == ["ReLU", "ConvTranspose2d"] * (len(channels) - 1) + below


def test_nature_decoder_refuses():
    with pytest.raises(ValueError, match=r"NatureDecoder gives images .* at least 36x36 pixels, got out_shape \(1, 35"):
        zoo.NatureDecoder(2, (1, 35, 84))
    for wrong in ((), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="channels are those of one, two or three transposed convolutions"):
            zoo.NatureDecoder(2, (1, 36, 36), channels=wrong)
    with pytest.raises(ValueError, match="width must be positive"):
        zoo.NatureDecoder(2, (1, 36, 36), width=0)


# -- initialisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(300, 400), (300,)),
        (nn.Conv2d(20, 64, 4, stride=2, padding=1), (20, 32, 32)),
        (nn.ConvTranspose2d(80, 16, 4, stride=2, padding=1), (80, 32, 32)),
        (nn.ConvTranspose2d(80, 16, 8, stride=4), (80, 16, 16)),
    ],
)
def test_he_keeps_the_variance(layer, shape):
    nn.init.ones_(layer.bias)
    y = he(layer, gain=3.0)(torch.randn(64, *shape))
    assert not layer.bias.any()
    inside = y if y.ndim == 2 else y[..., 4:-4, 4:-4]
    assert inside.std().item() == pytest.approx(3, rel=0.05)
