"""The slow copy: numbers by hand."""

import pytest
import torch
from torch import nn

from sandbox import zoo
from sandbox.zoo import EMA


def constant(value):
    layer = nn.Linear(2, 2)
    for p in layer.parameters():
        nn.init.constant_(p, value)
    return layer


def values(ema):
    return {p.unique().item() for p in ema.module.parameters()}


def test_three_steps_by_hand():
    online = constant(0.0)
    ema = EMA(online, tau=0.5)
    for p in online.parameters():
        nn.init.constant_(p, 8.0)
    expected = [4.0, 6.0, 7.0]
    for value in expected:
        ema.update(online)
        assert values(ema) == {value}
    assert {p.unique().item() for p in online.parameters()} == {8.0}


def test_tau_is_read_at_each_update():
    ema, online = EMA(constant(0.0), tau=0.25), constant(1.0)
    ema.update(online)
    assert values(ema) == {0.25}
    ema.tau = 1.0
    ema.update(online)
    assert values(ema) == {1.0}
    ema.tau = 0.0
    ema.update(constant(5.0))
    assert values(ema) == {1.0}


def test_tau_of_one_copies_exactly():
    online = nn.Linear(50, 50)
    ema = EMA(nn.Linear(50, 50), tau=1.0)
    ema.update(online)
    assert torch.equal(ema.module.weight, online.weight)


def test_in_place_without_gradient():
    online = constant(0.0)
    ema = EMA(online, tau=0.1)
    places = [p.data_ptr() for p in ema.module.parameters()]
    assert not set(places) & {p.data_ptr() for p in online.parameters()}
    ema.update(constant(1.0))
    assert [p.data_ptr() for p in ema.module.parameters()] == places
    assert not any(p.requires_grad for p in ema.parameters())
    assert all(p.requires_grad for p in online.parameters())
    assert not ema(torch.ones(1, 2, requires_grad=False)).requires_grad


def test_buffers_are_copied_and_eval_mode_is_kept():
    online = zoo.build("mlp", in_shape=(4,), widths=(8,), norm="batch", dropout=0.5)
    ema = EMA(online, tau=0.1)
    online(torch.randn(16, 4))
    ema.update(online)
    assert torch.equal(ema.module[1].running_mean, online[1].running_mean)
    assert ema.module[1].num_batches_tracked == 1
    assert online.training
    ema.train()
    nn.Sequential(ema).train()
    assert not any(m.training for m in ema.modules())
    x = torch.randn(1, 4)
    assert torch.equal(ema(x), ema(x))
    assert torch.equal(ema(x), ema.module(x))


def test_modules_without_parameters_and_wrong_tau():
    ema = EMA(nn.Identity(), tau=0.5)
    ema.update(nn.Identity())
    for tau in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"tau must be in \[0, 1\]"):
            EMA(nn.Identity(), tau=tau)


def test_average_can_be_saved(tmp_path):
    ema = EMA(zoo.build("mlp", in_shape=(4,)), tau=0.1)
    zoo.save(ema.module, tmp_path / "target.safetensors")
    assert torch.equal(zoo.load(tmp_path / "target.safetensors")[0].weight, ema.module[0].weight)
