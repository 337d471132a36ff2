"""An encoder as an agent's eyes: by name, file or module; trained or frozen; its weights its own."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from agents import A2C, DQN, PPO, PQN, ZooFeatures
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


def looks(monkeypatch):
    """How many observations encoders have looked at, one number for each call."""
    seen = []
    forward = ZooFeatures.forward
    monkeypatch.setattr(ZooFeatures, "forward", lambda self, obs: (seen.append(len(obs)), forward(self, obs))[1])
    return seen


def assert_alike(model, other):
    assert model.policy.state_dict().keys() == other.policy.state_dict().keys()
    for ours, theirs in zip(model.policy.parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cls", [PPO, A2C, PQN])
@pytest.mark.parametrize("pixels", [False, True])
def test_frozen_eyes_look_at_a_rollout_once_and_nothing_else_changes(cls, pixels, monkeypatch):
    def trained():
        sizes = {"n_steps": 8, "seed": 0, "device": "cpu", "freeze_encoder": True}
        sizes |= {"batch_size": 4, "n_epochs": 3} if cls is not A2C else {}
        torch.manual_seed(0)
        if not pixels:
            return cls("MlpPolicy", "CartPole-v1", encoder=mlp(norm="batch"), **sizes).learn(64)
        env = gym.make(f"envs:{PIXELS}")
        encoder = zoo.build("nature_cnn", in_shape=env.observation_space.shape, out_features=8)
        return cls("CnnPolicy", env, encoder=encoder, **sizes).learn(32)

    seen = looks(monkeypatch)
    with torch.random.fork_rng():
        once = trained()
    looked, steps = sum(seen), once.num_timesteps
    assert looked == steps + 1  # what the last rollout ends in, too, for its value
    assert once.rollout_buffer.observations.shape == (8, 1, once._eyes().features_dim)
    assert once.fast_path.kind == "autograd"

    seen.clear()
    monkeypatch.setattr(Autograd, "frozen", False)
    with torch.random.fork_rng():
        each_time = trained()
    assert sum(seen) == (1 if cls is A2C else 3) * steps + steps + steps // 8
    assert each_time.rollout_buffer.observations.shape[2:] == each_time.observation_space.shape
    assert_alike(once, each_time)


@pytest.mark.parametrize("switches", [{}, {"n_steps": 3, "double": True}, {"prioritized": True, "dueling": True}])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_replay_keeps_what_frozen_eyes_see_and_nothing_else_changes(switches, pixels, monkeypatch):
    def trained():
        torch.manual_seed(0)
        sizes = {"learning_starts": 8, "batch_size": 8, "train_freq": 2, "seed": 0, "device": "cpu", **switches}
        sizes |= {"n_envs": 2, "freeze_encoder": True, "buffer_size": 40, "target_update_interval": 10}
        encoder = mlp(norm="batch")
        if pixels:
            encoder = zoo.build("nature_cnn", in_shape=(4, 42, 42), out_features=8)
        env_id = PIXELS if pixels else "sandbox/CartPole-v1"
        return DQN("CnnPolicy" if pixels else "MlpPolicy", env_id, encoder=encoder, **sizes).learn(80)

    seen = looks(monkeypatch)
    with torch.random.fork_rng():
        once = trained()
    looked = sum(seen)
    replay = once.replay_buffer
    assert replay.observations.shape == (20, 2, once.q_net.features_extractor.features_dim)
    ends = int(replay.dones.sum()) if not replay.full else None
    assert looked <= 80 + 2 + (8 if ends is None else ends)  # each observation once, an episode's last one, too

    seen.clear()
    monkeypatch.setattr(DQN, "_seen_by_frozen_eyes", lambda self: None)
    with torch.random.fork_rng():
        each_time = trained()
    assert sum(seen) > 3 * looked
    assert_alike(once, each_time)


def test_what_is_kept_is_what_the_eyes_see():
    model = DQN("MlpPolicy", "CartPole-v1", encoder=mlp(), freeze_encoder=True, learning_starts=90, seed=0)
    seen = []

    class Watch(BaseCallback):
        def _on_step(self):
            seen.append(self.locals["new_obs"])
            return True

    model.learn(60, callback=Watch())
    replay = model.replay_buffer
    with torch.no_grad():
        for i in np.flatnonzero(replay.dones[:59, 0] == 0):
            expected = model.q_net.features_extractor(torch.as_tensor(seen[i]))
            np.testing.assert_allclose(replay.next_observations[i], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(replay.observations[i + 1], expected, rtol=1e-5, atol=1e-6)
    ended = np.flatnonzero(replay.dones[:59, 0])
    assert len(ended)
    assert all(np.abs(replay.next_observations[i] - replay.observations[i + 1]).max() > 1e-3 for i in ended)


def test_a_replay_of_what_is_seen_is_never_learned_from_by_a_loop_that_expects_observations():
    model = DQN("MlpPolicy", "CartPole-v1", encoder=mlp(), freeze_encoder=True, learning_starts=8, seed=0)
    model.policy.predict = lambda *args, **kwargs: None  # a user's own: Stable-Baselines3's loop would honour it
    with pytest.raises(ValueError, match="what frozen eyes see needs a loop of this project, and here is inherited"):
        model.learn(20)


@pytest.mark.parametrize("why", ["a buffer of one's own", "a normaliser", "a policy of one's own", "eyes that learn"])
def test_a_replay_keeps_observations_where_it_must(why):
    class Buffer(ReplayBuffer):
        pass

    class Policy(DQN.policy_aliases["MlpPolicy"]):
        pass

    env = make_vec_env("CartPole-v1")
    env = VecNormalize(env) if why == "a normaliser" else env
    own = {"replay_buffer_class": Buffer} if why == "a buffer of one's own" else {}
    policy = Policy if why == "a policy of one's own" else "MlpPolicy"
    freeze = why != "eyes that learn"
    model = DQN(policy, env, encoder=mlp(), freeze_encoder=freeze, learning_starts=8, seed=0, **own).learn(40)
    assert model.replay_buffer.observations.shape[2:] == (4,)


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
