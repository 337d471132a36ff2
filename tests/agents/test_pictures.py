"""Pictures on their way to the network: bytes, channels last, rounded as the precision says, and the same numbers."""

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.torch_layers import NatureCNN as TheirNatureCNN
from torch import nn

from agents import A2C, PPO, vecenv
from agents.autograd import Autograd
from agents.policies import Bytes
from agents.rollout import Samples
from sandbox.training.device import has_bf16

ENV = "sandbox/PixelCartPole-v0"
BF16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="a processor without bfloat16")


def agent(algorithm=PPO, policy="CnnPolicy", size=42, **kwargs):
    return algorithm(policy, vecenv.make(ENV, 4, size=size), n_steps=8, seed=0, device="cpu", **kwargs)


def pictures(n, seed=0, size=42):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, size, size), np.uint8)


def everything(n, obs):
    rng = np.random.default_rng(1)
    floats = [torch.as_tensor(rng.standard_normal(n), dtype=torch.float32) for _ in range(4)]
    return Samples(obs, torch.as_tensor(rng.integers(0, 2, n)), *floats)


def test_inputs_are_bytes_channels_last():
    network = Autograd(agent().policy, "fp32")
    obs = pictures(3)
    inputs = network.inputs(obs)
    assert inputs.dtype == np.uint8
    np.testing.assert_array_equal(inputs, obs.transpose(0, 2, 3, 1))


def test_inputs_are_blocks_where_they_fit():
    network = Autograd(agent(size=44).policy, "fp32")
    obs = pictures(3, size=44)
    inputs = network.inputs(obs)
    assert inputs.shape == (3, 11, 11, 64)
    assert inputs.dtype == np.uint8
    block = obs[2, :, 8:12, 40:44]  # [C, 4, 4]
    np.testing.assert_array_equal(inputs[2, 2, 10], block.transpose(1, 2, 0).reshape(-1))


@pytest.mark.parametrize("size", [42, 44])  # the latter can be cut into blocks
@pytest.mark.parametrize("encoder", [None, "nature_cnn", "impala_cnn", "resnet18", "vit"])
def test_actions_values_and_log_probs_are_those_of_stable_baselines3s_own_forward(encoder, size):
    kwargs = {"name": "vit", "kwargs": {"patch": size // 2}} if encoder == "vit" else encoder
    policy = agent(encoder=kwargs, size=size).policy
    policy.set_training_mode(False)
    obs = pictures(6, size=size)
    torch.manual_seed(3)
    network = Autograd(policy, "fp32")
    network.begin_rollout(1, 6)
    _, actions, values, log_probs = network.act(obs)
    torch.manual_seed(3)
    with torch.no_grad():  # from floats, as SB3 makes them
        features = policy.features_extractor(torch.as_tensor(obs).float() / 255)
        distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(features))
        expected = distribution.get_actions()
        expected_values = policy.value_net(policy.mlp_extractor.forward_critic(features))
    np.testing.assert_array_equal(actions, expected.numpy())
    torch.testing.assert_close(values, expected_values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_probs, distribution.log_prob(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.values(obs), expected_values.flatten().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [42, 44])
def test_a_minibatch_is_judged_as_by_evaluate_actions(size):
    policy = agent(size=size).policy
    network, obs = Autograd(policy, "fp32"), pictures(10, size=size)
    batch = everything(10, network.inputs(obs)).take(np.array([7, 1, 1, 4]))
    log_probs, values, entropy = network.forward(batch)
    expected = policy.evaluate_actions(torch.as_tensor(obs[[7, 1, 1, 4]]), batch.actions)
    for mine, theirs in zip((values, log_probs, entropy), expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach().flatten(), rtol=1e-4, atol=1e-5)


@BF16
@pytest.mark.parametrize("size", [42, 44])
def test_what_acts_is_rounded_as_what_learns_and_follows_its_weights(size):
    model = agent(precision="bf16", size=size)
    network, obs = Autograd(model.policy, "bf16"), pictures(5, size=size)
    for _ in range(2):
        network.begin_rollout(1, 5)
        acting, learning = (network._features(network.inputs(obs), eyes) for eyes in (network.eyes, None))
        assert torch.equal(acting, learning)
        with torch.no_grad():
            for weights in model.policy.parameters():
                weights.mul_(1.5)
    assert not torch.equal(acting, network._features(network.inputs(obs)))  # of the weights as they are since
    assert all(weights.dtype == torch.float32 for weights in model.policy.parameters())


@BF16
def test_features_are_rounded_and_all_after_them_is_not():
    model = agent(precision="bf16")
    seen = {}
    model.policy.features_extractor.linear[0].register_forward_hook(lambda m, i, out: seen.update(features=out.dtype))
    model.policy.action_net.register_forward_hook(lambda m, i, out: seen.update(logits=out.dtype))
    network = Autograd(model.policy, "bf16")
    network.forward(everything(4, network.inputs(pictures(4))))
    assert seen == {"features": torch.bfloat16, "logits": torch.float32}


@pytest.mark.parametrize("size", [42, 44])
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_training_on_pictures_stays_beside_stable_baselines3s(algorithm, size):
    """The same seed: the same first rollout, and after some updates the same weights but for rounding."""
    theirs = getattr(stable_baselines3, algorithm.__name__)
    models = []
    for cls in (algorithm, theirs):
        env = vecenv.make(ENV, 4, size=size)
        kwargs = {"batch_size": 16, "n_epochs": 2} if algorithm is PPO else {}
        model = cls("CnnPolicy", env, n_steps=8, seed=0, device="cpu", **kwargs)
        model.learn(32)
        models.append(model)
    mine, their = (dict(model.policy.named_parameters()) for model in models)
    assert mine.keys() == their.keys()
    for name, weights in mine.items():
        torch.testing.assert_close(weights, their[name], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("deterministic", [True, False])
def test_predict_is_that_of_stable_baselines3(deterministic):
    model, obs = agent(), pictures(6)
    torch.manual_seed(1)
    mine, _ = model.predict(obs, deterministic=deterministic)
    torch.manual_seed(1)
    theirs, _ = model.policy.predict(obs, deterministic=deterministic)
    np.testing.assert_array_equal(mine, theirs)
    assert mine.dtype == theirs.dtype
    one, _ = model.predict(obs[0], deterministic=True)
    assert one.shape == ()


def test_predict_leaves_evaluation_mode_and_takes_the_weights_as_they_are():
    model, obs = agent(precision="auto"), pictures(32)
    for likeliest in (1, 0):
        model.policy.train()
        with torch.no_grad():
            model.policy.action_net.bias.copy_(100.0 * (torch.arange(2) == likeliest))
        actions, _ = model.predict(obs, deterministic=True)
        assert (actions == likeliest).all()
        assert not model.policy.training


class Flat(nn.Module):
    """A module of a user's own that relies on rows in memory, as SB3 would hand them over."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4 * 42 * 42, 8)

    def forward(self, x):
        assert x.dtype == torch.float32
        assert x.max() <= 1.0
        return self.linear(x.view(len(x), -1))


def test_a_module_of_the_users_own_gets_what_stable_baselines3_gives():
    model = agent(encoder=Flat())
    assert not model.policy.takes_bytes()
    model.learn(64)


def test_stable_baselines3s_own_cnn_and_unscaled_images_are_left_to_it():
    theirs = agent(policy_kwargs={"features_extractor_class": type("Mine", (TheirNatureCNN,), {})})
    assert isinstance(theirs.policy, Bytes)
    assert not theirs.policy.takes_bytes()
    unscaled = agent(encoder="nature_cnn", policy_kwargs={"normalize_images": False})
    assert not unscaled.policy.takes_bytes()
    assert Autograd(unscaled.policy, "fp32").inputs(pictures(2)).shape == (2, 4, 42, 42)
    bright = unscaled.policy.extract_features(torch.full((1, 4, 42, 42), 255, dtype=torch.uint8))
    expected = unscaled.policy.features_extractor.encoder(torch.full((1, 4, 42, 42), 255.0))
    torch.testing.assert_close(bright, expected)
