"""The perceptrons: numbers by hand."""

import math

import pytest
import torch
from torch import nn

from sandbox.zoo import MLP, Maxout, Step
from sandbox.zoo.mlp import ACTIVATIONS


@pytest.fixture(autouse=True)
def private_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def set_linear(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))


def test_two_layers_by_hand():
    mlp = MLP(in_shape=(2,), widths=(2,), out_features=1, activation="relu")
    set_linear(mlp[0], [[1.0, -1.0], [2.0, 1.0]], [0.0, -1.0])
    set_linear(mlp[2], [[10.0, 1.0]], [0.5])
    # hidden: relu(1 - 3), relu(2 + 3 - 1) = 0, 4; output: 4 + 0.5
    assert mlp(torch.tensor([[1.0, 3.0]])).item() == 4.5


def test_perceptron_computes_and():
    perceptron = MLP(in_shape=(2,), widths=(1,), activation="step")
    set_linear(perceptron[0], [[1.0, 1.0]], [-2.0])
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert perceptron(corners).flatten().tolist() == [0, 0, 0, 1]


def test_step_is_straight_through_and_exact():
    x = torch.tensor([-3e8, -0.1, 0.0, 0.1, 3e8], requires_grad=True)
    y = Step()(x)
    assert y.tolist() == [0, 0, 1, 1, 1]
    (y * torch.arange(5)).sum().backward()
    assert x.grad.tolist() == [0, 1, 2, 3, 4]


def test_maxout_takes_the_larger_of_each_pair():
    x = torch.tensor([[1.0, 5.0, -2.0, 3.0, 4.0, -9.0]], requires_grad=True)
    y = Maxout()(x)
    assert y.tolist() == [[3, 5, -2]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 1, 0, 0]]


def test_maxout_layers_are_twice_as_wide():
    mlp = MLP(in_shape=(4,), widths=(8, 6), activation="maxout")
    assert [layer.out_features for layer in mlp if isinstance(layer, nn.Linear)] == [16, 12]
    assert mlp.out_features == 6


def test_no_layers_is_the_flattened_input():
    mlp = MLP(in_shape=(2, 3), widths=())
    x = torch.randn(5, 2, 3)
    assert mlp.out_features == 6
    assert torch.equal(mlp(x), x.flatten(1))


def test_no_hidden_layer_is_linear():
    mlp = MLP(in_shape=(3,), widths=(), out_features=2)
    assert list(mlp.state_dict()) == ["0.weight", "0.bias"]
    x = torch.randn(4, 3)
    torch.testing.assert_close(mlp(x), x @ mlp[0].weight.T + mlp[0].bias)


@pytest.mark.parametrize(("activation", "layer"), [("tanh", nn.Tanh), ("relu", nn.ReLU)])
def test_without_init_it_is_torchs_own_sequential(activation, layer):
    torch.manual_seed(3)
    mlp = MLP(in_shape=(4,), widths=(8, 16), out_features=2, activation=activation, init=None)
    after_ours = torch.rand(1)
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Linear(4, 8), layer(), nn.Linear(8, 16), layer(), nn.Linear(16, 2))
    after_plain = torch.rand(1)

    assert isinstance(mlp, nn.Sequential)
    assert list(mlp.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    assert all(torch.equal(a, b) for a, b in zip(mlp.parameters(), plain.parameters(), strict=True))
    assert torch.equal(after_ours, after_plain)
    x = torch.randn(5, 4)
    assert torch.equal(mlp(x), plain(x))


def test_names_are_those_of_stable_baselines3():
    torch_layers = pytest.importorskip("stable_baselines3.common.torch_layers")
    theirs = torch_layers.MlpExtractor(4, {"pi": [64, 64], "vf": []}, nn.Tanh).policy_net
    ours = MLP(in_shape=(4,))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(ours(x), theirs(x))


def test_slices_are_plain_sequentials():
    mlp = MLP(in_shape=(4,), widths=(8,), out_features=2)
    x = torch.randn(3, 4)
    assert torch.equal(mlp[2:](mlp[:2](x)), mlp(x))


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm), ("instance", nn.LayerNorm), ("group", nn.GroupNorm)],
)
def test_norm_stands_between_linear_and_activation(norm, kind):
    mlp = MLP(in_shape=(4,), widths=(32, 32), out_features=3, activation="relu", norm=norm, dropout=0.5)
    kinds = [nn.Linear, kind, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in mlp] == [*kinds, *kinds, nn.Linear]


def test_norms_normalise_what_they_say():
    x = 5 + 3 * torch.randn(64, 4)
    outputs = {n: MLP(in_shape=(4,), widths=(32,), norm=n)[:2](x) for n in ("batch", "layer", "instance", "group")}

    def is_normal(y, dim):
        return y.mean(dim).abs().max() < 1e-4 and (y.std(dim, correction=0) - 1).abs().max() < 1e-2

    assert is_normal(outputs["batch"], 0)
    assert not is_normal(outputs["batch"], 1)
    assert is_normal(outputs["layer"], 1)
    assert is_normal(outputs["instance"], 1)
    assert is_normal(outputs["group"].unflatten(1, (2, 16)), 2)
    assert not is_normal(outputs["layer"].unflatten(1, (2, 16)), 2)
    assert not list(MLP(in_shape=(4,), widths=(32,), norm="instance")[1].parameters())


def test_dropout_only_while_training():
    mlp = MLP(in_shape=(4,), widths=(1000,), activation="sigmoid", dropout=0.25)
    x = torch.randn(1, 4)
    dropped = (mlp(x) == 0).float().mean().item()
    assert abs(dropped - 0.25) < 0.05
    mlp.eval()
    assert (mlp(x) != 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gains(activation):
    layer, gain = ACTIVATIONS[activation]
    by_hand = {"tanh": 5 / 3, "sigmoid": 1.0}  # torch's, by convention
    z = torch.randn(2 if activation == "maxout" else 1, 1_000_000)
    second_moment = layer()(z.T).square().mean().item()
    assert gain == pytest.approx(by_hand.get(activation, second_moment**-0.5), rel=0.01)
    if activation in ("relu", "tanh", "sigmoid", "leaky_relu"):
        assert gain == pytest.approx(nn.init.calculate_gain(activation))


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_orthogonal_init(activation):
    mlp = MLP(in_shape=(50,), widths=(20,), out_features=5, activation=activation, init="orthogonal")
    gain = ACTIVATIONS[activation][1]
    torch.testing.assert_close(mlp[0].weight @ mlp[0].weight.T, gain**2 * torch.eye(20), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mlp[2].weight @ mlp[2].weight.T, torch.eye(5), rtol=1e-4, atol=1e-5)
    assert not mlp[0].bias.any()
    assert not mlp[2].bias.any()


def test_he_and_xavier_variance():
    he = MLP(in_shape=(300,), widths=(200,), out_features=100, activation="relu", init="he")
    assert he[0].weight.var().item() == pytest.approx(2 / 300, rel=0.03)
    assert he[2].weight.var().item() == pytest.approx(1 / 200, rel=0.03)
    xavier = MLP(in_shape=(300,), widths=(200,), activation="tanh", init="xavier")
    assert xavier[0].weight.var().item() == pytest.approx((5 / 3) ** 2 * 2 / 500, rel=0.03)
    assert xavier[0].weight.abs().max().item() <= 5 / 3 * math.sqrt(6 / 500)
    assert not he[0].bias.any()
    assert not xavier[0].bias.any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"activation": "rleu"}, "activation must be one of relu, tanh, .*step, got 'rleu'"),
        ({"norm": "power"}, "norm must be one of None, batch, layer, instance, group, got 'power'"),
        ({"init": "zeros"}, "init must be one of None, orthogonal, xavier, he, got 'zeros'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"widths": (8, 0)}, r"widths must be positive, in whole numbers, got \(8, 0\)"),
        ({"widths": (8,), "norm": "group"}, "groups of 16 features, which 8 is no multiple of"),
    ],
)
def test_wrong_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MLP(in_shape=(4,), **kwargs)
