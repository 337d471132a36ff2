"""The equations of the Rainbow family: numbers by hand, and the closed-form gradients against autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from agents.q_heads import Categorical, Expected, Quantiles, dueling, epsilon_greedy, head_for, huber, softmax

HEADS = [Expected(), Categorical(-2.0, 3.0, 11), Quantiles(7)]


def loss_of(head, outputs, target, weights):
    """Each head's loss as its paper has it, written with torch's own functions."""
    if isinstance(head, Expected):
        each = nn.functional.smooth_l1_loss(outputs, target, reduction="none")[:, 0]
    elif isinstance(head, Categorical):
        each = nn.functional.cross_entropy(outputs, target, reduction="none")
    else:
        n = outputs.shape[1]
        taus = (torch.arange(n) + 0.5) / n
        each = 0
        for i in range(n):
            for j in range(n):
                u = target[:, j] - outputs[:, i]
                rho = (taus[i] - (u.detach() < 0).float()).abs()
                each = each + rho * nn.functional.huber_loss(u, torch.zeros_like(u), reduction="none") / n
    return (each if weights is None else each * weights).mean()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_the_gradient_is_that_of_the_loss(head, weighted):
    rng = torch.Generator().manual_seed(0)
    outputs = (2 * torch.randn(16, head.n_outputs, generator=rng)).requires_grad_()
    target = 2 * torch.randn(16, head.n_outputs, generator=rng)
    if isinstance(head, Categorical):
        target = target.softmax(1)
    weights = torch.rand(16, generator=rng) if weighted else None
    loss = loss_of(head, outputs, target, weights)
    loss.backward()
    gradient = head.gradient(outputs.detach(), target, weights)
    torch.testing.assert_close(gradient.by_outputs, outputs.grad)
    torch.testing.assert_close(gradient.losses.mean(), loss.detach())
    by_numpy = head.gradient(outputs.detach().numpy(), target.numpy(), None if weights is None else weights.numpy())
    for own, other in zip(by_numpy, gradient, strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_numpy_and_torch_agree_on_values_and_targets(head):
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((5, 3, head.n_outputs)).astype(np.float32)
    rewards, discounts = rng.standard_normal((2, 5)).astype(np.float32)
    by_numpy = head.q_values(outputs), head.target(rewards, discounts, head.bootstrap(outputs))
    outputs, rewards, discounts = map(torch.from_numpy, (outputs, rewards, discounts))
    by_torch = head.q_values(outputs), head.target(rewards, discounts, head.bootstrap(outputs))
    for own, other in zip(by_numpy, by_torch, strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-5, atol=1e-6)


def test_double_takes_the_target_networks_value_of_the_online_networks_choice():
    target, online = np.array([[[1.0], [5.0]]]), np.array([[[9.0], [2.0]]])
    assert Expected().bootstrap(target).tolist() == [[5.0]]
    assert Expected().bootstrap(target, online).tolist() == [[1.0]]


def test_dueling_takes_off_the_mean_advantage():
    values, advantages = np.array([[[2.0]]]), np.array([[[1.0], [4.0], [-2.0]]])
    assert dueling(values, advantages)[0, :, 0].tolist() == [2.0, 5.0, -1.0]  # the advantages' mean is 1


def test_c51_shares_a_probability_between_neighbours():
    head = Categorical(-1.0, 1.0, 5)  # -1, -0.5, 0, 0.5, 1
    certain = np.full((1, 5), -1e9)
    certain[0, 3] = 0.0  # 0.5 for sure
    # 0.2 + 0.5 * 0.5 = 0.45: a tenth of the way from 0.5 down to 0
    np.testing.assert_allclose(
        head.target(np.array([0.2]), np.array([0.5]), certain)[0], [0, 0, 0.1, 0.9, 0], atol=1e-7
    )
    # beyond the support it stays at the edge, and a terminated episode is worth its reward
    assert head.target(np.array([7.0]), np.array([0.5]), certain)[0].tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_allclose(head.target(np.array([-0.5]), np.array([0.0]), certain)[0], [0, 1, 0, 0, 0], atol=1e-7)


def test_c51_keeps_all_probability_and_the_mean_where_nothing_is_clipped():
    head, rng = Categorical(-10.0, 10.0, 51), np.random.default_rng(1)
    logits = rng.standard_normal((64, 51)) * 3
    rewards, discounts = rng.uniform(-0.5, 0.5, 64), np.full(64, 0.9)
    target = head.target(rewards, discounts, logits)
    np.testing.assert_allclose(target.sum(1), 1.0, atol=1e-5)
    means = target @ head.support(target)
    np.testing.assert_allclose(means, rewards + discounts * (softmax(logits) @ head.support(logits)), atol=1e-4)
    assert head.clipped(rewards, discounts, logits) == 0.0


def test_c51_tells_what_its_support_does_not_cover():
    head = Categorical(0.0, 1.0, 2)
    even = np.zeros((3, 2))
    # 0.9 z + 0.5: from z = 0 to 0.5, inside; from z = 1 to 1.4, outside
    assert head.clipped(np.full(3, 0.5), np.full(3, 0.9), even) == pytest.approx(0.5)


@pytest.mark.parametrize("arguments", [(1.0, 1.0, 51), (2.0, 1.0, 51), (0.0, 1.0, 1)])
def test_a_support_that_is_none(arguments):
    with pytest.raises(ValueError, match="c51's support is at least two values from v_min to v_max"):
        Categorical(*arguments)


def test_quantiles_come_to_those_of_the_returns():
    head, rng = Quantiles(5), np.random.default_rng(0)
    outputs = np.zeros((1, 5))
    for step in range(4000):
        returns = rng.uniform(0.0, 10.0, (1, 5))
        outputs -= 0.3 / (1 + step / 400) * head.gradient(outputs, returns).by_outputs
    np.testing.assert_allclose(outputs[0], [1, 3, 5, 7, 9], atol=0.5)


def test_the_huber_loss_is_a_parabola_that_goes_on_straight():
    np.testing.assert_allclose(huber(np.array([0.0, 0.5, 1.0, -2.0])), [0, 0.125, 0.5, 1.5])


def test_epsilon_greedy_counts_coins():
    rng = np.random.default_rng(0)
    actions = epsilon_greedy(np.zeros(10_000), np.ones(10_000), rng.random(10_000), epsilon=0.3)
    assert actions.mean() == pytest.approx(0.3, abs=0.02)


def test_words_that_are_no_head():
    with pytest.raises(ValueError, match="must be None, 'c51' or 'qr', got 'iqn'"):
        head_for("iqn")
    with pytest.raises(ValueError, match="'qr' has no settings v_min"):
        head_for("qr", v_min=0.0)
