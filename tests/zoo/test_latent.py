"""Latent encoders and decoders: PCA at the start, more than PCA later, saved with all that they are made of."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from sandbox import zoo

BODIES = {(12,): ("mlp", "mlp_decoder"), (3, 8, 9): ("conv", "conv_decoder")}
every_shape = pytest.mark.parametrize("shape", BODIES)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pair(shape, K, linear_path=True, variance=False):
    eyes, hand = BODIES[shape]
    encoder = zoo.build(
        "latent_encoder", in_shape=shape, out_features=K, body=eyes, linear_path=linear_path, variance=variance
    )
    return encoder, zoo.build("latent_decoder", in_features=K, out_shape=shape, body=hand, linear_path=linear_path)


def pixels(shape, N=60):
    """Bytes that have something in common."""
    rng = np.random.default_rng(0)
    D = int(np.prod(shape))
    X = rng.standard_normal((N, 6)) @ rng.standard_normal((6, D)) * 20 + 128 + rng.standard_normal((N, D)) * 4
    return X.clip(0, 255).astype(np.uint8).reshape(N, *shape)


def started(shape, K, scale=0.25):
    X = pixels(shape)
    rows = X.reshape(len(X), -1) / 255
    pca = PCA(K, svd_solver="full").fit(rows / scale)
    encoder, decoder = pair(shape, K)
    spread = np.sqrt(pca.explained_variance_)
    for module in (encoder, decoder):
        module.start(rows.mean(0), scale, pca.components_, spread)
    return encoder, decoder, pca, rows / scale, torch.from_numpy(X)


# -- the start ---------------------------------------------------------------------------------------------------------


@every_shape
def test_after_the_start_they_are_pca(shape):
    scale = 0.25
    encoder, decoder, pca, rows, X = started(shape, K=4, scale=scale)
    z = encoder(X)
    np.testing.assert_allclose(z.detach(), pca.transform(rows) / np.sqrt(pca.explained_variance_), atol=1e-4)
    np.testing.assert_allclose(z.detach().std(0), 1, atol=1e-4)
    x_hat = decoder(z)
    assert x_hat.shape == X.shape
    expected = pca.inverse_transform(pca.transform(rows)).reshape(X.shape) * scale
    np.testing.assert_allclose(x_hat.detach(), expected, atol=1e-5)
    assert np.abs(expected - X.numpy() / 255).mean() > 1e-3  # four components leave something out


def test_the_start_by_hand():
    encoder, decoder = pair((12,), 2)
    V = torch.eye(12)[[3, 0]]
    encoder.start(torch.arange(12.0), 2.0, V, torch.tensor([4.0, 0.5]))
    decoder.start(torch.arange(12.0), 2.0, V, torch.tensor([4.0, 0.5]))
    x = torch.zeros(1, 12)
    x[0, 3], x[0, 0] = 19, 5
    assert encoder(x).tolist() == [[(19 - 3) / 2 / 4, (5 - 0) / 2 / 0.5]]
    expected = torch.arange(12.0)
    expected[3], expected[0] = 19, 5
    assert torch.equal(decoder(torch.tensor([[2.0, 5.0]]))[0], expected)


@every_shape
def test_mean_and_scale_alone(shape):
    encoder, decoder = pair(shape, 3)
    before = encoder.linear.weight.clone(), decoder.linear.weight.clone()
    x = torch.randn(5, *shape)
    z = encoder(x)
    D = int(np.prod(shape))
    for module in (encoder, decoder):
        module.start(np.full(D, 2.0), 4.0)
    torch.testing.assert_close(encoder(4 * x + 2), z)
    torch.testing.assert_close(decoder(z), 4 * (z @ before[1].T).unflatten(1, shape) + 2)
    assert torch.equal(encoder.linear.weight, before[0])


def test_axes_along_which_nothing_spreads_are_left_out():
    encoder, decoder = pair((12,), 3)
    for module in (encoder, decoder):
        module.start(torch.zeros(12), 1.0, torch.eye(12)[:3], torch.tensor([2.0, 0.0, 1e-9]))
        assert module.linear.weight.isfinite().all()
    x = torch.ones(1, 12)
    assert encoder(x).tolist() == [[0.5, 0, 0]]
    assert decoder(torch.ones(1, 3)).tolist() == [[2.0] + 11 * [0.0]]


def test_wrong_starts_change_nothing():
    encoder, decoder = pair((12,), 2)
    alone = pair((12,), 2, linear_path=False)
    mean, V, spread = np.ones(12), np.eye(12)[:2], np.ones(2)
    for module in (encoder, decoder):
        before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        for args, match in [
            ((mean[:3], 1.0), r"mean must have shape \[12\], got \[3\]"),
            ((mean, 0.0), "scale must be positive"),
            ((mean, float("nan")), "scale must be positive"),
            ((mean, 1.0, V.T, spread), r"components must have shape \[2, 12\], got \[12, 2\]"),
            ((mean, 1.0, V, spread[:1]), r"spread must have shape \[2\], got \[1\]"),
        ]:
            with pytest.raises(ValueError, match=match):
                module.start(*args)
        assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    for module in alone:
        module.start(mean, 1.0)
        with pytest.raises(ValueError, match="components are for the linear path, and there is none"):
            module.start(mean, 1.0, V, spread)


# -- beside the linear path --------------------------------------------------------------------------------------------


@every_shape
def test_the_network_joins_in_as_it_is_trained(shape):
    encoder, decoder, _, _, X = started(shape, K=4)
    modules = nn.ModuleList([encoder, decoder])
    pca = [module.linear.weight.clone() for module in modules]
    optimizer = torch.optim.Adam(modules.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = (decoder(encoder(X)) - X / 255).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert encoder.head.weight.any()
    assert decoder.body.last.weight.any()
    assert not any(torch.equal(module.linear.weight, weight) for module, weight in zip(modules, pca, strict=True))


def test_without_a_linear_path_body_and_head_are_all():
    encoder, decoder = pair((12,), 2, linear_path=False)
    assert encoder.linear is None
    assert decoder.linear is None
    assert not any("linear" in key for key in [*encoder.state_dict(), *decoder.state_dict()])
    encoder.start(np.full(12, 1.0), 2.0)
    decoder.start(np.full(12, 1.0), 2.0)
    x, z = torch.randn(5, 12), torch.randn(5, 2)
    torch.testing.assert_close(encoder(x), encoder.head(encoder.body((x - 1) / 2)))
    torch.testing.assert_close(decoder(z), decoder.body(z) * 2 + 1)
    assert encoder(x).std() > 0.1
    assert decoder(z).std() > 0.01
    assert decoder.last is decoder.body.last
    with pytest.raises(ValueError, match="two last layers"):
        _ = pair((12,), 2)[1].last


@every_shape
def test_distribution(shape):
    encoder, _ = pair(shape, 3, variance=True)
    x = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    mean, log_var = encoder.distribution(x)
    assert torch.equal(mean, encoder(x))
    assert torch.equal(log_var, torch.zeros(5, 3))
    encoder.deviation.bias.data = torch.tensor([-99.0, 0.5, 99.0])
    assert torch.equal(encoder.distribution(x)[1], torch.tensor([[-10.0, 0.5, 10.0]]).expand(5, 3))
    assert torch.equal(encoder.distribution(x)[0], mean)
    with pytest.raises(ValueError, match="LatentEncoder takes x of shape"):
        encoder.distribution(x[0])
    with pytest.raises(ValueError, match="uint8"):
        encoder.distribution(x.long())
    with pytest.raises(ValueError, match="made without variance=True"):
        pair(shape, 3)[0].distribution(x)


# -- memory and precision ----------------------------------------------------------------------------------------------


def test_channels_last_in_memory_is_the_same_and_stays_so():
    encoder, _, _, _, X = started((3, 8, 9), K=4)
    arranged = torch.from_numpy(encoder.arrange(X.numpy())).permute(0, 3, 1, 2)
    assert not arranged.is_contiguous()
    torch.testing.assert_close(encoder(arranged), encoder(X))
    seen = []
    encoder.body.encode = lambda x: seen.append(x) or x.new_zeros(len(x), encoder.body.out_features)
    encoder(arranged)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@every_shape
def test_bf16_gives_nearly_the_same(shape):
    encoder, decoder, _, _, X = started(shape, K=4)
    with torch.no_grad():
        expected = decoder(encoder(X))
        with torch.autocast("cpu", torch.bfloat16):
            x_hat = decoder(encoder(X))
    assert x_hat.dtype == torch.float32
    torch.testing.assert_close(x_hat, expected, atol=0.03, rtol=0)


def test_jacobians_through_vmap():
    encoder, _, _, _, X = started((12,), K=4)
    x = X[:5].float() / 255
    J = torch.func.vmap(torch.func.jacrev(lambda one: encoder(one[None])[0]))(x)
    assert J.shape == (5, 4, 12)
    torch.testing.assert_close(J[0], encoder.linear.weight / encoder.scale)


def test_the_given_inputs_are_left_as_they_are():
    encoder, *_ = started((12,), K=4)
    x = torch.rand(3, 12)
    before = x.clone()
    encoder(x)
    assert torch.equal(x, before)


# -- the body ----------------------------------------------------------------------------------------------------------


def test_the_specification_has_the_defaults_of_the_body():
    encoder = zoo.build("latent_encoder", in_shape=(4,), out_features=2, body="mlp")
    body = encoder.spec["kwargs"]["body"]
    assert body == zoo.build("mlp", in_shape=(4,)).spec
    assert body["kwargs"]["activation"] == "tanh"
    half = {"name": "mlp", "kwargs": {"widths": (8,)}}
    encoder = zoo.build("latent_encoder", in_shape=(4,), out_features=2, body=half)
    assert encoder.spec["kwargs"]["body"]["kwargs"]["widths"] == [8]
    assert encoder.spec["kwargs"]["body"]["kwargs"]["norm"] is None
    assert half == {"name": "mlp", "kwargs": {"widths": (8,)}}
    encoder.body.spec["name"] = "changed"
    assert encoder.spec["kwargs"]["body"]["name"] == "mlp"


def test_a_file_survives_a_default_of_the_body_that_has_changed(tmp_path, monkeypatch):
    encoder, decoder, _, _, X = started((12,), K=4)
    zoo.save(encoder, tmp_path / "encoder")
    zoo.save(decoder, tmp_path / "decoder")
    for cls in (zoo.MLP, zoo.MLPDecoder):
        defaults = tuple((3, 3) if isinstance(value, tuple) else value for value in cls.__init__.__defaults__)
        assert defaults != cls.__init__.__defaults__
        monkeypatch.setattr(cls.__init__, "__defaults__", defaults)
    assert zoo.build("latent_encoder", in_shape=(12,), out_features=4, body="mlp").body.out_features == 3
    again = zoo.load(tmp_path / "encoder"), zoo.load(tmp_path / "decoder")
    assert torch.equal(again[1](again[0](X)), decoder(encoder(X)))
    assert again[0].scale == 0.25
    assert again[0].mean.any()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("lstm", "body must be of the kind Encoder, which 'lstm' is not"),
        ("mlp_decoder", "body must be of the kind Encoder, which 'mlp_decoder' is not"),
        ("mpl", "no model 'mpl' in the zoo; nearest: mlp"),
        ({"name": "mlp", "kwarks": {}}, "body must be a name of the zoo or"),
        ({"kwargs": {}}, "body must be a name of the zoo or"),
        (None, "body must be a name of the zoo or"),
        ({"name": "mlp", "kwargs": {"in_shape": [3]}}, r"the body has in_shape \(3,\), which must be \(4,\) here"),
        ("resnet18", r"ResNet18 takes images \[C, H, W\], got in_shape \(4,\)"),
    ],
)
def test_a_wrong_body_of_an_encoder_is_one_clear_error(body, match):
    with pytest.raises(ValueError, match=match):
        zoo.build("latent_encoder", in_shape=(4,), out_features=2, body=body)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("mlp", "body must be of the kind Decoder, which 'mlp' is not"),
        ({"name": "mlp_decoder", "kwargs": {"in_features": 3}}, "the body has in_features 3, which must be 2 here"),
        ({"name": "mlp_decoder", "kwargs": {"out_shape": [5]}}, r"the body has out_shape \(5,\), which must be \(4,\)"),
    ],
)
def test_a_wrong_body_of_a_decoder_is_one_clear_error(body, match):
    with pytest.raises(ValueError, match=match):
        zoo.build("latent_decoder", in_features=2, out_shape=(4,), body=body)


def test_wrong_keywords_of_a_body():
    with pytest.raises(TypeError, match="mlp: got an unexpected keyword argument 'width'"):
        zoo.build("latent_encoder", in_shape=(4,), out_features=2, body={"name": "mlp", "kwargs": {"width": 3}})
