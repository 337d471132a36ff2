"""The noisy layer: quiet it is a linear layer, and its noise is the factorised one of the paper."""

import pytest
import torch
from torch import nn

from sandbox import zoo
from sandbox.zoo import MLP, NoisyLinear


def test_quiet_it_is_the_linear_layer_of_its_means():
    noisy, plain = NoisyLinear(4, 3), nn.Linear(4, 3)
    missing, unexpected = noisy.load_state_dict(plain.state_dict(), strict=False)
    assert sorted(missing) == ["bias_sigma", "weight_sigma"]
    assert not unexpected
    x = torch.randn(5, 4)
    torch.testing.assert_close(noisy(x), plain(x))


def test_the_noise_is_an_outer_product_scaled_by_sigma():
    layer = NoisyLinear(2, 3, sigma=0.4)
    layer.reset_noise()
    with torch.no_grad():
        layer.weight.zero_(), layer.bias.zero_()
    x = torch.tensor([[2.0, -1.0]])
    sigma = 0.4 / 2**0.5
    expected = sigma * layer.noise_out * (layer.noise_in @ x[0]) + sigma * layer.noise_out
    torch.testing.assert_close(layer(x)[0], expected)


def test_the_noise_has_the_papers_spread():
    torch.manual_seed(0)
    layer = NoisyLinear(2000, 2000)
    layer.reset_noise()
    # f(e) = sign(e) sqrt|e|: mean 0, and f(e)^2 = |e| has the mean sqrt(2 / pi)
    assert layer.noise_in.mean().abs() < 0.05
    assert (layer.noise_in**2).mean() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.05)


def test_each_draw_is_another_one_and_both_parts_learn():
    layer, x = NoisyLinear(3, 2), torch.ones(1, 3)
    layer.reset_noise()
    first = layer(x)
    layer.reset_noise()
    assert not torch.equal(first, layer(x))
    layer(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_a_noisy_mlp_keeps_no_noise_in_its_file(tmp_path):
    mlp = zoo.build("mlp", in_shape=(3,), widths=(4,), out_features=2, noisy=True)
    assert isinstance(mlp, MLP)
    assert sum(isinstance(m, NoisyLinear) for m in mlp.modules()) == 2
    for layer in mlp[::2]:
        layer.reset_noise()
    zoo.save(mlp, tmp_path / "mlp.safetensors")
    again = zoo.load(tmp_path / "mlp.safetensors")
    for layer in mlp[::2]:
        layer.hush()
    x = torch.randn(2, 3)
    torch.testing.assert_close(again(x), mlp(x))


def test_a_number_is_the_initial_deviation():
    mlp = zoo.build("mlp", in_shape=(4,), widths=(9,), out_features=2, noisy=1.5)
    sigmas = [layer.weight_sigma.unique().tolist() for layer in mlp if isinstance(layer, NoisyLinear)]
    assert sigmas == [[1.5 / 2], [1.5 / 3]]  # over the root of the inputs
    plain = zoo.build("mlp", in_shape=(4,), widths=(9,), out_features=2, noisy=True)
    assert plain[0].weight_sigma[0, 0].item() == 0.25
