"""An encoder as an agent's eyes: by name, file or module; trained or frozen; its weights its own."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from torch import nn

from agents import PPO, ZooFeatures
from agents.autograd import Autograd
from agents.policies import as_encoder
from sandbox import zoo

PIXELS = "sandbox/PixelCartPole-v0"
SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


def agent(env="CartPole-v1", cls=PPO, **kwargs):
    return cls("MlpPolicy", env, **{**SMALL, **kwargs})


def mlp(**kwargs):
    torch.manual_seed(11)
    return zoo.build("mlp", in_shape=(4,), widths=(16,), **kwargs)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module, other):
    other = other if isinstance(other, dict) else other.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in module.state_dict().items())


def eyes(model):
    return model.policy.features_extractor.encoder


@pytest.fixture
def path(tmp_path):
    zoo.save(mlp(), tmp_path / "eyes.safetensors")
    return tmp_path / "eyes.safetensors"


def test_by_name():
    model = agent(encoder="mlp")
    assert isinstance(model.policy.features_extractor, ZooFeatures)
    assert eyes(model).spec["name"] == "mlp"
    assert model.policy.features_dim == eyes(model).out_features
    model.learn(32)


@pytest.mark.parametrize("kind", ["file", "text", "module", "spec"])
def test_a_trained_encoder_keeps_its_weights_at_the_start(kind, path):
    encoder = zoo.load(path)
    given = {"file": path, "text": str(path), "module": encoder, "spec": encoder.spec}[kind]
    model = agent(encoder=given)
    assert same(eyes(model), encoder) == (kind != "spec")  # a specification has no weights
    before = state(eyes(model))
    model.learn(32)
    assert not same(eyes(model), before)  # and is trained


def test_two_agents_do_not_share_the_module():
    encoder = mlp()
    before = state(encoder)
    first, second = agent(encoder=encoder), agent(encoder=encoder)
    first.learn(32)
    assert same(encoder, before)
    assert same(eyes(second), before)


def test_two_agents_from_one_policy_kwargs_see_alike(path):
    kwargs = {"features_extractor_class": ZooFeatures, "features_extractor_kwargs": {"encoder": str(path)}}
    agents = [agent(policy_kwargs=kwargs) for _ in range(2)]
    assert kwargs["features_extractor_kwargs"] == {"encoder": str(path)}
    assert same(eyes(agents[1]), zoo.load(path))


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("share", [True, False])
def test_a_frozen_encoder_stays_as_it_is_and_in_evaluation_mode(norm, share):
    encoder = mlp(norm=norm)
    model = agent(encoder=encoder, freeze_encoder=True, policy_kwargs={"share_features_extractor": share})
    before = model.policy.mlp_extractor.policy_net[0].weight.detach().clone()
    model.learn(64)
    model.policy.set_training_mode(True)
    policy = model.policy
    for features in {policy.features_extractor, policy.pi_features_extractor, policy.vf_features_extractor}:
        assert same(features.encoder, encoder)  # running means of the batch norm included
        assert not any(module.training for module in features.encoder.modules())
        assert all(not p.requires_grad and p.grad is None for p in features.encoder.parameters())
    assert not torch.equal(model.policy.mlp_extractor.policy_net[0].weight, before)


@pytest.mark.parametrize("pixels", [False, True])
def test_frozen_eyes_look_at_a_rollout_once_and_nothing_else_changes(pixels, monkeypatch):
    def trained():
        if not pixels:
            return agent(encoder=mlp(norm="batch"), freeze_encoder=True, n_epochs=3, seed=0).learn(64)
        env = gym.make(f"envs:{PIXELS}")
        encoder = zoo.build("nature_cnn", in_shape=env.observation_space.shape, out_features=8)
        how = {**SMALL, "n_steps": 8, "batch_size": 4, "n_epochs": 3, "seed": 0}
        return PPO("CnnPolicy", env, encoder=encoder, freeze_encoder=True, **how).learn(16)

    seen = []
    forward = ZooFeatures.forward
    monkeypatch.setattr(ZooFeatures, "forward", lambda self, obs: (seen.append(len(obs)), forward(self, obs))[1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        once = trained()
    looked = sum(seen)
    seen.clear()
    monkeypatch.setattr(Autograd, "frozen", False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        each_epoch = trained()
    steps = once.num_timesteps
    assert sum(seen) - looked == 2 * steps  # three epochs, of which the first is the one that is needed
    assert once.policy.state_dict().keys() == each_epoch.policy.state_dict().keys()
    for ours, theirs in zip(once.policy.parameters(), each_epoch.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_encoder_that_is_not_frozen_does_train_its_batch_norm():
    encoder = mlp(norm="batch")
    model = agent(encoder=encoder)
    model.learn(32)
    assert not torch.equal(eyes(model)[1].running_mean, encoder[1].running_mean)


def test_a_frozen_resnet_on_pixels():
    env = gym.make(f"envs:{PIXELS}")
    encoder = zoo.build("resnet18", in_shape=env.observation_space.shape)
    sizes = {"n_steps": 4, "batch_size": 4, "n_epochs": 1}
    model = PPO("CnnPolicy", env, encoder=encoder, freeze_encoder=True, **{**SMALL, **sizes})
    model.learn(4)
    assert same(eyes(model), encoder)


@pytest.mark.parametrize("freeze", [False, True])
def test_inside_stock_stable_baselines3(freeze, path):
    kwargs = {"features_extractor_class": ZooFeatures, "features_extractor_kwargs": {"encoder": path, "freeze": freeze}}
    model = agent(cls=sb3.PPO, policy_kwargs=kwargs)
    assert same(eyes(model), zoo.load(path))  # SB3's orthogonal initialisation went by
    model.learn(32)
    assert same(eyes(model), zoo.load(path)) == freeze
    assert eyes(model).training != freeze


def test_frozen_batch_norm_inside_stock_stable_baselines3():
    encoder = mlp(norm="batch")
    kwargs = {
        "features_extractor_class": ZooFeatures,
        "features_extractor_kwargs": {"encoder": encoder, "freeze": True},
    }
    model = agent(cls=sb3.PPO, policy_kwargs=kwargs)
    model.learn(32)
    assert same(eyes(model), encoder)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_saved_agent_needs_the_file_no_more(freeze, path, tmp_path):
    model = agent(encoder=path, freeze_encoder=freeze)
    model.learn(32)
    model.save(tmp_path / "agent.zip")
    path.unlink()
    again = PPO.load(tmp_path / "agent.zip", env=gym.make("CartPole-v1"), device="cpu")
    assert same(eyes(again), eyes(model))
    assert again.policy.features_extractor.freeze == freeze
    before = state(eyes(again))
    again.learn(32)
    assert same(eyes(again), before) == freeze


def test_a_saved_agent_with_a_module_of_ones_own(tmp_path):
    model = agent(encoder=Own(), freeze_encoder=True)
    model.save(tmp_path / "agent.zip")
    assert same(eyes(PPO.load(tmp_path / "agent.zip")), eyes(model))


class Own(nn.Module):
    out_features = 3

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, obs):
        return self.net(obs)


def test_a_module_of_ones_own_needs_out_features():
    assert agent(encoder=Own()).policy.features_dim == 3
    with pytest.raises(ValueError, match="out_features"):
        agent(encoder=nn.Sequential(nn.Linear(4, 3)))


def test_the_body_is_shared_when_it_is_trained_and_has_towers_over_it_when_it_is_frozen():
    assert len(agent(encoder="mlp").policy.mlp_extractor.policy_net) == 0
    assert len(agent(encoder="mlp", freeze_encoder=True).policy.mlp_extractor.policy_net) == 4
    assert len(agent(encoder="mlp", policy_kwargs={"net_arch": [8]}).policy.mlp_extractor.policy_net) == 2


def test_another_shape_is_one_clear_error(path):
    with pytest.raises(ValueError, match=r"shape \(4,\).*shape \(3,\)"):
        agent("Pendulum-v1", encoder=path)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match=r"natur_cnn.*nearest: nature_cnn"):
        agent(encoder="natur_cnn")


@pytest.mark.parametrize("name", ["nature_cnn", "vit"])
def test_a_model_that_does_not_take_these_observations_is_one_clear_error(name):
    with pytest.raises(ValueError, match=r".") as caught:
        agent(encoder=name)
    assert "\n" not in str(caught.value)
    assert name.replace("_", "") in str(caught.value).lower()


@pytest.mark.parametrize("how", ["name", "spec", "module", "file"])
def test_a_decoder_is_one_clear_error(how, tmp_path):
    decoder = zoo.build("mlp_decoder", in_features=4, out_shape=(4,))
    zoo.save(decoder, tmp_path / "hand.safetensors")
    given = {"name": "mlp_decoder", "spec": decoder.spec, "module": decoder, "file": tmp_path / "hand.safetensors"}
    with pytest.raises(ValueError, match="encoder=MLPDecoder is a decoder: it goes from features to pictures"):
        agent(encoder=given[how])


def test_a_missing_or_damaged_file_is_one_clear_error(tmp_path, path):
    with pytest.raises(ValueError, match="no such file"):
        agent(encoder=tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"eyes\.safetensors"):
        agent(encoder=path)


def test_freezing_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to freeze"):
        agent(freeze_encoder=True)


def test_two_ways_at_once_are_an_error():
    with pytest.raises(ValueError, match="not both"):
        agent(encoder="mlp", policy_kwargs={"features_extractor_class": ZooFeatures})


def test_a_dictionary_of_observations_is_an_error():
    with pytest.raises(ValueError, match="dictionary"):
        as_encoder("mlp", spaces.Dict(a=spaces.Box(-1, 1, (2,))))


def test_numbers_are_seen_one_hot():
    assert as_encoder("mlp", spaces.Discrete(5)).in_shape == (5,)
    assert as_encoder("mlp", spaces.MultiDiscrete([2, 3])).in_shape == (5,)
    assert as_encoder("mlp", spaces.Box(-1, 1, (2, 3), np.float32)).in_shape == (2, 3)


def test_discrete_observations_train_through_an_encoder():
    class Numbers(gym.Env):
        observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return 0, {}

        def step(self, action):
            return 1, 0.0, False, False, {}

    agent(Numbers(), encoder="mlp").learn(16)
