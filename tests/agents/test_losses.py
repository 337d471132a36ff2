"""The losses against Stable-Baselines3's formulas, and each closed-form gradient against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from agents.losses import (
    a2c_gradient,
    a2c_loss,
    approx_kl,
    clip_values,
    clipped_surrogate,
    normalize,
    ppo_gradient,
    ppo_loss,
)

N = 6
NUMBERS = hnp.arrays(np.float64, (6, N), elements=st.floats(-3, 3).map(lambda x: round(x, 3)))


def batch_of(rows):
    names = ("log_probs", "values", "old_log_probs", "old_values", "advantages", "returns")
    return dict(zip(names, map(torch.as_tensor, rows), strict=True))


def sb3_loss(
    log_probs,
    values,
    entropy,
    old_log_probs,
    old_values,
    advantages,
    returns,
    clip_range,
    clip_range_vf,
    vf_coef,
    ent_coef,
):
    """As PPO.train of Stable-Baselines3 writes it."""
    ratio = torch.exp(log_probs - old_log_probs)
    policy_loss = -torch.min(advantages * ratio, advantages * torch.clamp(ratio, 1 - clip_range, 1 + clip_range)).mean()
    if clip_range_vf is not None:
        values = old_values + torch.clamp(values - old_values, -clip_range_vf, clip_range_vf)
    return policy_loss + ent_coef * -torch.mean(entropy) + vf_coef * F.mse_loss(returns, values)


@settings(max_examples=60, deadline=None)
@given(rows=NUMBERS, clip_range=st.sampled_from([0.1, 0.2, 0.5]), clip_range_vf=st.sampled_from([None, 0.25, 1.0]))
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_gradient_is_that_of_autograd(kind, rows, clip_range, clip_range_vf):
    batch = batch_of(rows)
    ratio = (batch["log_probs"] - batch["old_log_probs"]).exp()
    # On a corner of the clip any subgradient is right.
    assume(((ratio - 1 - clip_range).abs() > 1e-6).all() and ((ratio - 1 + clip_range).abs() > 1e-6).all())
    if clip_range_vf is not None:
        assume((((batch["values"] - batch["old_values"]).abs() - clip_range_vf).abs() > 1e-6).all())
    log_probs, values = (batch[name].clone().requires_grad_() for name in ("log_probs", "values"))
    rest = {name: batch[name] for name in ("old_log_probs", "old_values", "advantages", "returns")}
    options = {"clip_range": clip_range, "clip_range_vf": clip_range_vf, "vf_coef": 0.7}
    loss, _ = ppo_loss(log_probs, values, torch.zeros(N), **rest, **options)
    loss.backward()

    arrays = {name: tensor.numpy() if kind == "numpy" else tensor for name, tensor in batch.items()}
    gradient = ppo_gradient(**arrays, **options)
    assert isinstance(gradient.by_values, np.ndarray if kind == "numpy" else torch.Tensor)
    np.testing.assert_allclose(gradient.by_log_probs, log_probs.grad, atol=1e-12)
    np.testing.assert_allclose(gradient.by_values, values.grad, atol=1e-12)


def test_the_gradient_by_hand():
    # log ratios 0, log 2, log 2, log .5; advantages 1, 1, -1, -1: the 2nd and the 4th are clipped
    one = np.ones(4)
    gradient = ppo_gradient(
        np.log([1, 2, 2, 0.5]),
        0 * one,
        old_log_probs=0 * one,
        old_values=0 * one,
        advantages=np.array([1, 1, -1, -1.0]),
        returns=one,
        clip_range=0.2,
    )
    np.testing.assert_allclose(gradient.by_log_probs, [-0.25, 0, 0.5, 0])
    np.testing.assert_allclose(gradient.by_values, [-0.25] * 4)  # 2 * 0.5 * (0 - 1) / 4
    np.testing.assert_allclose(gradient.surrogate, [1, 1.2, -2, -0.8])


@pytest.mark.parametrize("clip_range_vf", [None, 0.3])
def test_the_loss_is_stable_baselines3s(clip_range_vf):
    rows = torch.randn(7, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_probs, values, entropy, old_log_probs, old_values, advantages, returns = rows
    options = {"clip_range": 0.2, "clip_range_vf": clip_range_vf, "vf_coef": 0.4, "ent_coef": 0.03}
    old = {"old_log_probs": old_log_probs, "old_values": old_values, "advantages": advantages, "returns": returns}
    loss, metrics = ppo_loss(log_probs, values, entropy, **old, **options)
    assert loss.item() == pytest.approx(sb3_loss(log_probs, values, entropy, **old, **options).item())
    parts = metrics["policy_gradient_loss"] + 0.4 * metrics["value_loss"] + 0.03 * metrics["entropy_loss"]
    assert parts.item() == pytest.approx(loss.item())


def test_metrics_carry_no_graph_and_the_loss_does():
    log_probs = torch.zeros(3, requires_grad=True)
    rest = dict.fromkeys(("old_log_probs", "old_values", "advantages", "returns"), torch.ones(3))
    loss, metrics = ppo_loss(log_probs, torch.zeros(3), torch.zeros(3), **rest, clip_range=0.2)
    assert loss.requires_grad
    assert not any(metric.requires_grad for metric in metrics.values())


def test_clip_fraction_counts_the_ratios_outside():
    zeros = torch.zeros(4)
    _, metrics = ppo_loss(
        torch.log(torch.tensor([1.0, 1.1, 1.5, 0.5])),
        zeros,
        zeros,
        old_log_probs=zeros,
        old_values=zeros,
        advantages=zeros,
        returns=zeros,
        clip_range=0.2,
    )
    assert metrics["clip_fraction"].item() == 0.5


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, N, elements=st.floats(-5, 5)))
def test_approx_kl_is_never_negative(log_ratio):
    assert approx_kl(log_ratio) >= 0
    assert float(approx_kl(torch.as_tensor(log_ratio))) == pytest.approx(float(approx_kl(log_ratio)))


def test_approx_kl_estimates_the_divergence():
    # Two Gaussians a mean of 0.5 apart: KL = 0.125.
    x = np.random.default_rng(0).normal(size=200_000)
    assert approx_kl(-0.5 * (x - 0.5) ** 2 + 0.5 * x**2) == pytest.approx(0.125, abs=0.002)


@pytest.mark.parametrize("n", [2, 3, 64])
def test_normalize_is_stable_baselines3s(n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(n)) * 7 + 3
    want = (x - x.mean()) / (x.std() + 1e-8)
    np.testing.assert_allclose(normalize(x), want, atol=1e-6)
    np.testing.assert_allclose(normalize(x.numpy()), want, atol=1e-6)


def test_normalize_leaves_a_single_one_and_survives_equal_ones():
    assert normalize(np.array([5.0])).tolist() == [5.0]
    assert normalize(torch.full((4,), 2.0)).tolist() == [0.0] * 4


def test_the_surrogate_is_the_smaller_one_and_values_are_held():
    assert clipped_surrogate(
        torch.log(torch.tensor([0.5, 0.5])), torch.tensor([1.0, -1.0]), 0.2
    ).tolist() == pytest.approx([0.5, -0.8])
    assert clip_values(torch.tensor([-5.0, 0.1]), torch.zeros(2), 0.5).tolist() == pytest.approx([-0.5, 0.1])


def test_the_gradient_of_a2c_is_that_of_autograd():
    torch.manual_seed(0)
    log_probs, values, entropy, advantages, returns = torch.randn(5, 7)
    for tensor in (log_probs, values, entropy):
        tensor.requires_grad_()
    loss, metrics = a2c_loss(
        log_probs, values, entropy, advantages=advantages, returns=returns, vf_coef=0.3, ent_coef=0.1
    )
    loss.backward()
    gradient = a2c_gradient(values.detach(), advantages=advantages, returns=returns, vf_coef=0.3)
    torch.testing.assert_close(gradient.by_log_probs, log_probs.grad)
    torch.testing.assert_close(gradient.by_values, values.grad)
    torch.testing.assert_close(torch.full((7,), -0.1 / 7), entropy.grad)
    assert not any(metric.requires_grad for metric in metrics.values())


def test_the_loss_of_a2c_by_hand():
    one = torch.ones(2)
    loss, metrics = a2c_loss(
        torch.tensor([-1.0, -2.0]),
        0 * one,
        3 * one,
        advantages=torch.tensor([2.0, -1.0]),
        returns=2 * one,
        ent_coef=0.5,
    )
    # policy: -(2·-1 + -1·-2) / 2 = 0; value: 4; entropy: -3
    assert [metrics[name].item() for name in ("policy_loss", "value_loss", "entropy_loss")] == [0.0, 4.0, -3.0]
    assert loss.item() == 0.0 + 0.5 * 4.0 - 0.5 * 3.0
