"""The MLP by hand against the same policy with torch's autograd, Adam and gradient clipping."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy as SB3Policy
from torch import nn

from agents.by_hand import MAX_WEIGHTS, refusal
from agents.by_hand import network as by_hand_network
from agents.policies import ActorCriticPolicy
from agents.rollout import Samples

ACTIONS = {"discrete": spaces.Discrete(3), "box": spaces.Box(-1, 1, (2,), np.float32)}
OBS = spaces.Box(-1, 1, (4,), np.float32)


def policy_of(actions="discrete", cls=ActorCriticPolicy, obs=OBS, **kwargs):
    torch.manual_seed(0)
    return cls(obs, ACTIONS[actions], lambda _: 3e-3, **kwargs)


def data(policy, n, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(n, 4)).astype(np.float32)
    if isinstance(policy.action_space, spaces.Discrete):
        actions = rng.integers(3, size=n)
    else:
        actions = rng.normal(size=(n, 2)).astype(np.float32)
    return obs, actions, *rng.normal(size=(2, n)).astype(np.float32) / n


def batch_of(inputs, actions):
    return Samples(inputs, actions, None, None, None, None)


def by_torch(policy, obs, actions, by_log_probs, by_values, by_entropy, max_grad_norm):
    values, log_probs, entropy = policy.evaluate_actions(torch.as_tensor(obs), torch.as_tensor(actions))
    policy.optimizer.zero_grad()
    loss = torch.as_tensor(by_log_probs) @ log_probs + torch.as_tensor(by_values) @ values.flatten()
    (loss + by_entropy * entropy.sum()).backward()
    norm = nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm)
    policy.optimizer.step()
    return [t.detach().numpy() for t in (log_probs, values.flatten(), entropy)], float(norm)


def by_hand(network, obs, actions, by_log_probs, by_values, by_entropy, max_grad_norm):
    outputs = network.forward(batch_of(network.inputs(obs), actions))
    outputs = [np.array(output) for output in outputs]
    network.backward(by_log_probs, by_values, by_entropy)
    return outputs, network.step(max_grad_norm)


def assert_same_weights(policy, other, atol=1e-5):
    for (name, a), b in zip(policy.named_parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=atol, err_msg=name)


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("net_arch", [[64, 64], {"pi": [8], "vf": [16, 12, 4]}, {"pi": [], "vf": [5]}, []])
def test_thirty_updates_equal_those_of_torch(actions, activation, net_arch):
    policy = policy_of(actions, activation_fn=activation, net_arch=net_arch)
    assert refusal(policy) is None
    other, network = copy.deepcopy(policy), None
    other.optimizer = torch.optim.Adam(other.parameters(), lr=3e-3, eps=1e-5)
    network = by_hand_network(policy)
    network.begin_update()
    for i in range(30):
        n = (32, 7, 1, 50)[i % 4]  # sizes in turn: memory of one must not be read by another
        rows, by_entropy, max_grad_norm = data(policy, n, seed=i), -0.01 / n, (0.5, 0.05)[i % 2]
        want, want_norm = by_torch(other, *rows, by_entropy, max_grad_norm)
        got, norm = by_hand(network, *rows, by_entropy, max_grad_norm)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)
        assert norm == pytest.approx(want_norm, rel=2e-3)
    network.end_update()
    # Adam divides by small gradients' roots: a rounding error is worth up to a share of the learning rate.
    assert_same_weights(policy, other, atol=2e-4)
    mine, theirs = policy.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    for index, state in theirs.items():
        assert float(mine[index]["step"]) == float(state["step"]) == 30
        np.testing.assert_allclose(mine[index]["exp_avg"], state["exp_avg"], atol=1e-4)
        np.testing.assert_allclose(mine[index]["exp_avg_sq"], state["exp_avg_sq"], atol=1e-5)


@pytest.mark.parametrize("actions", ACTIONS)
def test_one_gradient_is_that_of_autograd_to_the_last_digits(actions):
    policy = policy_of(actions)
    network = by_hand_network(policy)
    network.begin_update()
    rows = data(policy, 20)
    network.forward(batch_of(network.inputs(rows[0]), rows[1]))
    network.backward(*rows[2:], -0.05)
    by_torch(policy, *rows, -0.05, 1e9)
    for parameter, place, _, _ in network.places:
        offset = (place.__array_interface__["data"][0] - network.flat.__array_interface__["data"][0]) // 4
        gradient = np.lib.stride_tricks.as_strided(network.grad[offset:], place.shape, place.strides)
        np.testing.assert_allclose(gradient, parameter.grad, atol=2e-7)


def test_without_the_entropy_term_its_gradient_is_absent():
    policy = policy_of("box")
    network = by_hand_network(policy)
    network.begin_update()
    rows = data(policy, 5)
    network.forward(batch_of(network.inputs(rows[0]), rows[1]))
    network.backward(0 * rows[2], 0 * rows[3], 0.0)
    assert not network.grad.any()
    network.backward(0 * rows[2], 0 * rows[3], -0.1)
    np.testing.assert_allclose(network.distribution.log_std_grad, -0.5)  # N * by_entropy


def test_a_torch_adam_goes_on_where_the_hand_left_off_and_back():
    policy = policy_of()
    other = copy.deepcopy(policy)
    other.optimizer = torch.optim.Adam(other.parameters(), lr=3e-3, eps=1e-5)
    for i in range(6):
        rows = data(policy, 16, seed=i)
        by_torch(other, *rows, -0.01, 0.5)
        if i % 2:
            by_torch(policy, *rows, -0.01, 0.5)
        else:
            network = by_hand_network(policy)
            network.begin_update()
            by_hand(network, *rows, -0.01, 0.5)
            network.end_update()
    assert_same_weights(policy, other, atol=1e-4)


@pytest.mark.parametrize("actions", ACTIONS)
def test_pull_and_push_change_nothing(actions):
    policy = policy_of(actions)
    by_torch(policy, *data(policy, 16), 0.0, 0.5)
    weights, optimizer = copy.deepcopy(policy.state_dict()), copy.deepcopy(policy.optimizer.state_dict())
    network = by_hand_network(policy)
    network.begin_update()
    network.flat += 0  # nothing learned
    network.end_update()
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), policy.state_dict().values(), strict=True))
    after = policy.optimizer.state_dict()
    assert after["param_groups"] == optimizer["param_groups"]
    for index, state in optimizer["state"].items():
        assert all(torch.equal(state[key], after["state"][index][key]) for key in state)


def test_the_learning_rate_and_betas_are_read_at_each_update():
    policy = policy_of()
    network = by_hand_network(policy)
    policy.optimizer.param_groups[0].update(lr=0.125, betas=(0.5, 0.75), eps=0.25)
    network.begin_update()
    adam = network.adapt
    assert (adam.lr, adam.beta1, adam.beta2, adam.eps) == (0.125, 0.5, 0.75, 0.25)


def test_a_not_finite_gradient_is_returned_and_not_taken():
    policy = policy_of()
    network = by_hand_network(policy)
    network.begin_update()
    before = network.flat.copy()
    rows = data(policy, 4)
    rows[2][1] = np.nan
    assert np.isnan(by_hand(network, *rows, 0.0, 0.5)[1])
    np.testing.assert_array_equal(network.flat, before)


@pytest.mark.parametrize("actions", ACTIONS)
def test_values_and_log_probs_of_acting_are_the_policys(actions):
    policy = policy_of(actions)
    network, obs = by_hand_network(policy), data(policy, 11)[0]
    network.begin_rollout(1, 1)
    for _ in range(3):
        seen, taken, values, log_probs = network.act(obs)
        want_values, want, _ = policy.evaluate_actions(torch.as_tensor(obs), torch.as_tensor(taken))
        assert values.shape == (11, 1)
        assert log_probs.shape == (11,)
        np.testing.assert_array_equal(seen, obs)
        np.testing.assert_allclose(values, want_values.detach(), atol=1e-6)
        np.testing.assert_allclose(log_probs, want.detach(), atol=1e-5)
    np.testing.assert_allclose(
        network.values(obs), policy.predict_values(torch.as_tensor(obs))[:, 0].detach(), atol=1e-6
    )


def test_discrete_actions_come_with_their_probabilities():
    policy = policy_of()
    with torch.no_grad():
        policy.action_net.weight.mul_(100.0)  # far from uniform
    network, obs, T = by_hand_network(policy), data(policy, 3)[0], 20_000
    network.begin_rollout(1, 1)
    drawn = np.stack([network.act(obs)[1] for _ in range(T)])
    with torch.no_grad():
        want = policy.get_distribution(torch.as_tensor(obs)).distribution.probs.numpy()
    got = np.stack([(drawn == a).mean(axis=0) for a in range(3)], axis=1)
    assert want.max() > 0.5
    np.testing.assert_allclose(got, want, atol=0.015)


def test_box_actions_come_with_their_mean_and_spread():
    policy = policy_of("box", log_std_init=-0.7)
    network, obs, T = by_hand_network(policy), data(policy, 2)[0], 20_000
    network.begin_rollout(1, 1)
    drawn = np.stack([network.act(obs)[1] for _ in range(T)])
    with torch.no_grad():
        mean = policy.get_distribution(torch.as_tensor(obs)).distribution.mean.numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(drawn.std(axis=0), np.exp(-0.7), atol=0.01)


def test_extreme_logits_stay_finite():
    policy = policy_of()
    with torch.no_grad():
        policy.action_net.bias.copy_(torch.tensor([0.0, 1000.0, -1000.0]))
    network, obs = by_hand_network(policy), data(policy, 2)[0]
    network.begin_rollout(1, 1)
    _, actions, _, log_probs = network.act(obs)
    assert actions.tolist() == [1, 1]
    assert log_probs.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("actions", ACTIONS)
def test_the_same_seed_draws_the_actions_that_the_torch_policy_draws(actions):
    policy = policy_of(actions)
    network, obs = by_hand_network(policy), data(policy, 7)[0]
    network.begin_rollout(1, 1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        ours = [network.act(obs)[1] for _ in range(50)]
        torch.manual_seed(5)
        theirs = [policy(torch.as_tensor(obs))[0].numpy() for _ in range(50)]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_outputs_of_one_step_are_not_overwritten_by_the_next():
    policy = policy_of("box")
    network, obs = by_hand_network(policy), data(policy, 4)[0]
    network.begin_rollout(1, 1)
    first = network.act(obs)
    kept = [np.array(output.tolist()) for output in first]
    network.act(obs + 1)
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a.tolist(), b)


def test_a_policy_of_stable_baselines3_will_do():
    policy = policy_of(cls=SB3Policy)
    assert refusal(policy) is None
    network, obs = by_hand_network(policy), data(policy, 4)[0]
    network.pull()
    np.testing.assert_allclose(
        network.values(obs), policy.predict_values(torch.as_tensor(obs))[:, 0].detach(), atol=1e-6
    )


def with_head(policy, **heads):
    for name, head in heads.items():
        setattr(policy, name, head)
    policy.optimizer = torch.optim.Adam(policy.parameters())
    return policy


def frozen(policy):
    policy.value_net.requires_grad_(False)
    return policy


def hooked(policy):
    policy.action_net.register_forward_hook(lambda *_: None)
    return policy


def test_a_hook_on_the_features_is_seen_too():
    policy = policy_of()
    policy.features_extractor.register_forward_hook(lambda *_: None)
    assert "hooks" in refusal(policy)


def with_partial_optimizer(policy):
    policy.optimizer = torch.optim.Adam(policy.action_net.parameters())
    return policy


def with_mixed_activations(policy):
    policy.mlp_extractor.value_net[1] = nn.ReLU()
    return policy


REFUSED = {
    "Tanh/ReLU layers": lambda: policy_of(activation_fn=nn.ELU),
    "mix activations": lambda: with_mixed_activations(policy_of()),
    f"more than {MAX_WEIGHTS}": lambda: policy_of(net_arch=[256, 256]),
    "trainable": lambda: frozen(policy_of()),
    "float32": lambda: policy_of().double(),
    "not a plain Adam": lambda: policy_of(optimizer_class=torch.optim.AdamW, optimizer_kwargs={}),
    "momentum": lambda: policy_of(optimizer_class=torch.optim.RMSprop, optimizer_kwargs={"momentum": 0.9}),
    "weight decay": lambda: policy_of(optimizer_kwargs={"weight_decay": 0.1}),
    "amsgrad": lambda: policy_of(optimizer_kwargs={"amsgrad": True}),
    "all parameters": lambda: with_partial_optimizer(policy_of()),
    "hooks": lambda: hooked(policy_of()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_hand_cannot_do_is_refused_with_the_reason(reason):
    assert reason in refusal(REFUSED[reason]())


@pytest.mark.parametrize(
    "heads",
    [
        {"action_net": nn.Sequential(nn.Linear(64, 3), nn.Tanh())},
        {"action_net": nn.Linear(64, 3, bias=False)},
        {"value_net": nn.Sequential(nn.Linear(64, 1))},
    ],
    ids=["tanh over the logits", "no bias", "wrapped value"],
)
def test_heads_that_are_no_plain_linear_layers_are_refused(heads):
    assert refusal(with_head(policy_of(), **heads))


def test_a_tower_without_bias_is_refused():
    policy = policy_of()
    policy.mlp_extractor.policy_net[0] = nn.Linear(4, 64, bias=False)
    policy.optimizer = torch.optim.Adam(policy.parameters())
    assert refusal(policy)


def test_a_copy_of_the_network_still_learns():
    policy = policy_of()
    network = by_hand_network(policy)
    network.begin_update()
    twin = copy.deepcopy({"policy": policy, "network": network})["network"]
    if twin is None or not hasattr(twin, "pi"):
        return  # dropping it is as good: it is made anew from the policy
    twin.begin_update()
    before = np.array(twin.pi.weights[0])
    by_hand(twin, *data(policy, 8), 0.0, 0.5)
    assert not np.array_equal(twin.pi.weights[0], before)
