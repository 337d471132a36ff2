"""Who looks at whom."""

import math

import pytest
import torch

from sandbox import zoo

B, T, D = 2, 6, 3


@pytest.fixture(autouse=True)
def private_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(**kwargs):
    return zoo.build("transformer", **{"in_features": D, "dim": 16, "depth": 2, "heads": 2, **kwargs}).eval()


def changed(model, x, t):
    """Which outputs change when the input at step t does."""
    other = x.clone()
    other[:, t] += 1
    return [bool(((model(x) - model(other))[:, s].abs() > 1e-6).any()) for s in range(T)]


def test_causal_does_not_look_ahead():
    model, x = small(causal=True), torch.randn(B, T, D)
    for t in range(T):
        assert changed(model, x, t) == [s >= t for s in range(T)]


def test_bidirectional_looks_everywhere():
    model, x = small(causal=False), torch.randn(B, T, D)
    for t in range(T):
        assert all(changed(model, x, t))


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_not_looked_at(causal):
    model, x = small(causal=causal), torch.randn(B, T, D)
    mask = torch.ones(B, T)
    mask[0, 4:] = 0
    y = model(x, mask)
    torch.testing.assert_close(y[0, :4], model(x[:1, :4])[0])
    torch.testing.assert_close(y[1], model(x)[1])
    assert not y[0, 4:].any()

    x[0, 4:] = float("nan")
    assert torch.equal(model(x, mask.bool()), y)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_in_front_and_everywhere_is_finite(causal):
    model, x = small(causal=causal), torch.randn(B, T, D, requires_grad=True)
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, :3] = False
    mask[1] = False
    assert model._looks(mask).any(-1).all()
    y = model(x, mask)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert not y[1].any()
    assert x.grad.isfinite().all()
    assert not x.grad[~mask].any()
    # with a mask, causal is still causal
    other = x.detach().clone()
    other[0, 5] += 1
    assert bool((model(other, mask)[0, 3:5] - y[0, 3:5]).abs().max() > 1e-6) is not causal


def test_a_mask_of_ones_is_no_mask():
    for causal in (True, False):
        model, x = small(causal=causal), torch.randn(B, T, D)
        torch.testing.assert_close(model(x, torch.ones(B, T)), model(x))


def test_block_by_the_formula():
    block = zoo.Block(dim=8, heads=2, causal=True)
    x = torch.randn(B, T, 8)
    n = block.norm1(x)
    q, k, v = (n @ w.T for w in block.qkv.weight.chunk(3))  # [B, T, 8] each
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        scores = q[..., h] @ k[..., h].transpose(1, 2) / math.sqrt(4)  # [B, T, T]
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v[..., h])
    after = x + torch.cat(heads, -1) @ block.project.weight.T
    expected = after + block.feed(block.norm2(after))
    torch.testing.assert_close(block(x), expected)


def test_initialisation_is_that_of_gpt2():
    model = small(dim=128, depth=8, heads=4)
    for block in model.blocks:
        assert block.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.feed[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.project.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert block.feed[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert not block.qkv.bias.any()


def test_sinusoidal_positions_by_hand():
    positions = small(dim=4, positions="sinusoidal", max_length=3).positions
    expected = [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(positions, torch.tensor(expected))
    assert not positions.requires_grad
    with pytest.raises(ValueError, match="even dim, got 5"):
        small(dim=5, heads=1, positions="sinusoidal")


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_order_matters(positions):
    model, x = small(causal=False, positions=positions), torch.randn(B, T, D)
    assert (model(x).flip(1) - model(x.flip(1))).abs().max() > 1e-3
    with torch.no_grad():
        model.positions.zero_()
    torch.testing.assert_close(model(x).flip(1), model(x.flip(1)))  # without positions it does not


def test_dropout_only_while_training():
    model, x = small(dropout=0.5), torch.randn(B, T, D)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"heads": 3}, "dim must be a multiple of heads, got dim=16, heads=3"),
        ({"positions": "rotary"}, "positions must be one of learned, sinusoidal, got 'rotary'"),
        ({"depth": 0}, "depth must be positive"),
        ({"dropout": 2}, "dropout must be in"),
    ],
)
def test_wrong_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_too_long_and_wrong_mask():
    with pytest.raises(ValueError, match="at most max_length=5 steps, got 6"):
        small(max_length=5)(torch.zeros(B, T, D))
    with pytest.raises(ValueError, match=r"Transformer takes mask of shape \[2, 6\], got \[6, 2\]"):
        small()(torch.zeros(B, T, D), torch.ones(T, B))


def test_vit_patches_by_hand():
    vit = zoo.ViT((2, 4, 6), patch=2, dim=8, depth=1, heads=1)
    x = torch.arange(48.0).reshape(1, 2, 4, 6)
    patches = vit.patches(x)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 1].tolist() == x[0, :, 0:2, 2:4].flatten().tolist()
    assert patches[0, 3].tolist() == x[0, :, 2:4, 0:2].flatten().tolist()


def test_vit_pools():
    x = torch.randn(2, 1, 4, 4)
    mean = zoo.ViT((1, 4, 4), patch=2, dim=8, depth=1, heads=1).eval()
    torch.testing.assert_close(mean(x), mean.body(mean.patches(x)).mean(1))
    cls = zoo.ViT((1, 4, 4), patch=2, dim=8, depth=1, heads=1, pool="cls").eval()
    steps = torch.cat([torch.zeros(2, 1, 4), cls.patches(x)], 1)
    torch.testing.assert_close(cls(x), cls.body(steps)[:, 0])
    assert (cls(x) - cls(x + torch.randn_like(x))).abs().max() > 1e-5  # the extra step does see the image


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_shape": (3, 30, 32)}, r"sides are multiples of patch=4, got \(3, 30, 32\)"),
        ({"in_shape": (3, 32, 32), "pool": "max"}, "pool must be one of mean, cls, got 'max'"),
        ({"in_shape": (3, 32, 32), "patch": 0}, "patch must be positive"),
    ],
)
def test_wrong_vit_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("vit", **kwargs)
