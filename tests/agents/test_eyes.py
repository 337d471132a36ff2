"""What an encoder brings, what it learns beside the reward, and the way back."""

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from torch.nn import functional as F

from agents import A2C, DQN, PPO, ZooFeatures, encoder_of
from agents.auxiliary import Contrast, Reconstruction
from agents.policies import as_encoder
from sandbox import zoo
from sandbox.training.checkpoint import FileError
from sandbox.training.schedules import Linear
from unsupervised.evaluate import frozen_features

PIXELS = "sandbox/PixelCartPole-v0"
SMALL = {"seed": 0, "device": "cpu"}
ON_POLICY = {"n_steps": 8, "n_envs": 2}
OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, "n_envs": 2}


def eyes(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return zoo.build("nature_cnn", **{"in_shape": (4, 42, 42), "out_features": 16, **kwargs})


def agent(cls, env=PIXELS, policy="CnnPolicy", **kwargs):
    sizes = OFF_POLICY if cls is DQN else ON_POLICY
    return cls(policy, env, **{**SMALL, **sizes, **({"batch_size": 8} if cls is PPO else {}), **kwargs})


def stripes():
    pictures = torch.zeros(16, 4, 42, 42, dtype=torch.uint8)
    for i in range(16):
        pictures[i, :, 2 * i : 2 * i + 8] = 200
    return pictures


def encoder_in(model):
    return model._eyes().encoder


# -- its own learning rate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [PPO, A2C, DQN])
def test_an_encoder_has_its_own_learning_rate(cls):
    encoder = eyes()
    model = agent(cls, encoder=encoder, encoder_learning_rate=1e-12, learning_rate=1e-2)
    heads = [p for group in model.policy.optimizer.param_groups[:1] for p in group["params"]]
    before = [p.detach().clone() for p in heads]
    model.learn(32)
    for ours, given in zip(encoder_in(model).parameters(), encoder.parameters(), strict=True):
        assert (ours - given).abs().max() < 1e-8
    assert max((p - q).abs().max().item() for p, q in zip(heads, before, strict=True)) > 1e-3
    learned = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    net = model.q_net if cls is DQN else model.policy
    assert learned == {id(p) for p in net.parameters()}  # each in one group


def test_it_may_be_a_schedule_and_is_read_anew():
    model = agent(PPO, encoder=eyes(), encoder_learning_rate=Linear(1e-3), learning_rate=1e-2)
    model.learn(16)
    model._current_progress_remaining = 0.5
    model._update_learning_rate(model.policy.optimizer)
    assert [group["lr"] for group in model.policy.optimizer.param_groups] == pytest.approx([1e-2, 5e-4])


def test_a_saved_agent_knows_of_it(tmp_path):
    model = agent(PPO, encoder=eyes(), encoder_learning_rate=1e-4).learn(16)
    model.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip", env=model.env)
    assert [group["lr"] for group in again.policy.optimizer.param_groups] == [3e-4, 1e-4]
    again.learn(16)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"encoder_learning_rate": 1e-4}, "encoder_learning_rate= needs encoder="),
        ({"encoder": "mlp", "freeze_encoder": True, "encoder_learning_rate": 1e-4}, "encoder_learning_rate= goes with"),
        ({"encoder": "mlp", "freeze_encoder": True, "augment": "shift"}, "augment= goes with"),
        ({"encoder": "mlp", "aux_loss": "contrastive"}, "is of pictures"),
        ({"aux_loss": "colour"}, "aux_loss must be one of None, contrastive, reconstruction, got 'colour'"),
        ({"augment": "flip"}, "augment must be one of None, shift, got 'flip'"),
        ({"augment": "shift"}, "is of pictures"),
        ({"encoder": "lstm", "aux_loss": "contrastive"}, "is a memory"),
    ],
)
def test_what_does_not_go_together_is_refused(kwargs, says):
    with pytest.raises(ValueError, match=says):
        agent(PPO, "CartPole-v1", "MlpPolicy", **kwargs)


# -- random shift ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [PPO, DQN])
def test_pictures_are_moved_when_they_are_learned_from_and_not_when_acted_on(cls, monkeypatch):
    from agents import auxiliary

    moved = []
    monkeypatch.setitem(auxiliary.AUGMENTATIONS, "shift", lambda x: (moved.append(x.clone()), x.flip(3))[1])
    looked = []
    forward = ZooFeatures.forward

    def watch(self, obs):
        looked.append(obs.clone())
        return forward(self, obs)

    monkeypatch.setattr(ZooFeatures, "forward", watch)
    model = agent(cls, encoder=eyes(), augment="shift", **({"n_epochs": 1} if cls is PPO else {}))
    model.learn(16)
    assert moved
    assert all(x.shape[1:] == (4, 42, 42) and x.dtype == torch.uint8 for x in moved)
    seen = [x for x in looked if x.shape[0] == len(moved[0]) and torch.equal(x, moved[0].flip(3))]
    assert seen
    acted = looked[0]
    assert not any(torch.equal(acted, x.flip(3)) for x in moved)


@pytest.mark.parametrize("cls", [PPO, DQN])
def test_moving_pictures_by_nothing_changes_nothing(cls, monkeypatch):
    from agents import auxiliary

    plain = agent(cls, encoder=eyes()).learn(32)
    monkeypatch.setitem(auxiliary.AUGMENTATIONS, "shift", lambda x: x)
    still = agent(cls, encoder=eyes(), augment="shift").learn(32)
    for ours, theirs in zip(plain.policy.parameters(), still.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


# -- an auxiliary loss -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [PPO, DQN])
@pytest.mark.parametrize("kind", ["contrastive", "reconstruction"])
def test_an_auxiliary_loss_alone_teaches_the_encoder(cls, kind):
    """With a learning rate for the encoder alone and a weight of zero on all else, it falls."""
    model = agent(cls, encoder=eyes(), aux_loss=kind, learning_rate=1e-3, **({"n_epochs": 2} if cls is PPO else {}))
    own = list(model._eyes().auxiliary.parameters())
    before = [p.detach().clone() for p in own]
    model.learn(64)
    assert "train/aux_loss" in model.logger.name_to_value or model.logger.name_to_value == {}
    learned = [p for p in own if p.requires_grad]
    assert any((p - q).abs().max() > 0 for p, q in zip(own, before, strict=True))
    in_optimizer = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in learned} <= in_optimizer


def test_reconstruction_learns_to_draw():
    torch.manual_seed(0)
    encoder = eyes(out_features=32)
    task = Reconstruction(encoder)
    pictures = stripes()
    optimizer = torch.optim.Adam([*encoder.parameters(), *task.parameters()], 1e-3)
    first = task(encoder, pictures).item()
    by_hand = F.mse_loss(task.decoder(encoder(pictures)), pictures / 255).item()
    assert first == pytest.approx(by_hand, rel=1e-5)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task(encoder, pictures)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def test_contrast_is_chance_at_first_and_is_learned():
    torch.manual_seed(0)
    encoder = eyes(out_features=32)
    task = Contrast(encoder)
    with torch.no_grad():
        task.bilinear.weight.zero_()
    pictures = stripes()
    assert task(encoder, pictures).item() == pytest.approx(np.log(16), rel=1e-5)
    torch.nn.init.orthogonal_(task.bilinear.weight)
    optimizer = torch.optim.Adam([*encoder.parameters(), *task.bilinear.parameters()], 1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = task(encoder, pictures)
        loss.backward()
        optimizer.step()
        task.after_step(encoder)
    assert loss.item() < np.log(16) - 0.4  # stripes next to each other look alike, once they are moved
    slow = task.target.module.state_dict()
    assert any(not torch.equal(slow[name], weights) for name, weights in encoder.state_dict().items())


def test_an_agent_with_one_is_saved_with_it(tmp_path):
    model = agent(PPO, aux_loss="contrastive").learn(16)  # by default the zoo's nature_cnn
    assert encoder_in(model).spec["name"] == "nature_cnn"
    model.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip", env=model.env)
    for ours, theirs in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    again.learn(16)


def test_off_by_default():
    model = agent(PPO, encoder=eyes())
    assert model.augment is None
    assert not hasattr(model._eyes(), "auxiliary")


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_frozen_eyes_that_are_loaded_anew_see_by_their_new_weights(precision):
    model = agent(PPO, encoder=eyes(), freeze_encoder=True, precision=precision).learn(16)
    obs = model.env.reset()
    network = model._choose_network()
    network.begin_rollout(1, 2)
    before = network.look(obs)
    with torch.no_grad():
        encoder_in(model).load_state_dict({name: 2 * w for name, w in encoder_in(model).state_dict().items()})
    network.begin_rollout(1, 2)
    after = network.look(obs)
    expected = network._features(network.inputs(obs))
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, expected)


# -- what an encoder says of itself ------------------------------------------------------------------------------------


def test_an_encoder_that_learned_from_other_numbers_is_refused():
    pixels, floats = spaces.Box(0, 255, (4, 42, 42), np.uint8), spaces.Box(-np.inf, np.inf, (4, 42, 42))
    shares = spaces.Box(0, 1, (4, 42, 42))
    encoder = eyes()
    for space in (pixels, floats, shares):
        as_encoder(encoder, space)  # says nothing
    encoder.preprocessing = {"dtype": "uint8"}
    for space in (pixels, shares):
        as_encoder(encoder, space)
    with pytest.raises(ValueError, match=r"learned from pixels .* observations are float32 from -inf to inf"):
        as_encoder(encoder, floats)
    encoder.preprocessing = {"dtype": "float32"}
    as_encoder(encoder, floats)
    with pytest.raises(ValueError, match="learned from floats as they are, but the observations are pixels"):
        as_encoder(encoder, pixels)


def test_an_estimators_encoder_says_what_it_learned_from(tmp_path):
    from unsupervised import SimCLR

    X = np.random.default_rng(0).integers(0, 255, (32, 4, 42, 42), np.uint8)
    fitted = SimCLR(n_features=8, max_iter=1, random_state=0).fit(X)
    zoo.save(fitted.encoder_, tmp_path / "eyes.safetensors")
    assert zoo.load(tmp_path / "eyes.safetensors").preprocessing == {"dtype": "uint8"}
    fitted.save(tmp_path / "all.safetensors")
    assert SimCLR.load(tmp_path / "all.safetensors").encoder_.preprocessing == {"dtype": "uint8"}
    assert SimCLR(n_features=8, max_iter=1, random_state=0).fit(X / 255).encoder_.preprocessing["dtype"] == "float32"


def test_the_folder_of_a_run_stands_for_its_encoder(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(FileError, match="no run with an encoder"):
        agent(PPO, encoder=tmp_path / "run")
    zoo.save(eyes(), tmp_path / "run" / "model" / "encoder.safetensors")
    model = agent(PPO, encoder=tmp_path / "run", freeze_encoder=True)
    assert all(torch.equal(p, q) for p, q in zip(encoder_in(model).parameters(), eyes().parameters(), strict=True))


# -- the way back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["encoder", "ours", "stock", "DQN", "stock DQN", "MLP"])
def test_what_an_agent_sees_by_is_an_encoder_again(kind, tmp_path):
    from agents.vecenv import make

    if kind == "MLP":
        model = agent(PPO, "CartPole-v1", "MlpPolicy").learn(16)
    elif kind.startswith("stock"):
        sizes = {"learning_starts": 4, "buffer_size": 50} if "DQN" in kind else {"n_steps": 8, "batch_size": 8}
        stock = getattr(sb3, "DQN" if "DQN" in kind else "PPO")
        model = stock("CnnPolicy", make(PIXELS), seed=0, **sizes).learn(8)
    else:
        model = agent(DQN if kind == "DQN" else PPO, **({"encoder": eyes()} if kind == "encoder" else {})).learn(16)
    encoder = encoder_of(model)
    zoo.save(encoder, tmp_path / "eyes.safetensors")
    obs = model.env.reset()
    net = model.q_net if "DQN" in kind else model.policy
    with torch.no_grad():
        tensor = net.obs_to_tensor(obs)[0]
        expected = net.extract_features(tensor, net.features_extractor)
        expected = net.mlp_extractor.policy_net(expected) if kind == "MLP" else expected
    np.testing.assert_allclose(
        frozen_features(zoo.load(tmp_path / "eyes.safetensors"), obs), expected, rtol=1e-4, atol=1e-5
    )
    another = agent(PPO, model.env, "MlpPolicy" if kind == "MLP" else "CnnPolicy", n_envs=None, encoder=encoder)
    another.learn(8)


def test_an_agent_that_sees_by_something_else_has_no_encoder():
    model = DQN("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(ValueError, match="give the agent an encoder="):
        encoder_of(model)
