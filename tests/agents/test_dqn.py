"""DQN is Stable-Baselines3's, and each switch does what its paper says."""

import warnings
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy as SB3Policy

from agents import DQN, NonFiniteError, vecenv
from agents.frames import FrameReplay
from agents.memory import draw, read
from agents.q_autograd import QAutograd
from agents.q_policies import DQNPolicy
from agents.q_step import QStep

SMALL = {"learning_starts": 50, "buffer_size": 500, "device": "cpu", "seed": 0}
SWITCHES = {
    "plain": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "n_steps": {"n_steps": 3},
    "prioritized": {"prioritized": True},
    "noisy": {"noisy": True},
    "c51": {"distributional": "c51", "n_atoms": 11, "v_min": 0.0, "v_max": 50.0},
    "qr": {"distributional": "qr", "n_quantiles": 8},
    "rainbow": {
        "double": True,
        "dueling": True,
        "n_steps": 3,
        "prioritized": True,
        "noisy": True,
        "distributional": "c51",
        "v_min": 0.0,
        "v_max": 100.0,
    },
}


def cartpole(**kwargs):
    return DQN("MlpPolicy", "sandbox/CartPole-v1", **{**SMALL, **kwargs})


# -- it is Stable-Baselines3's -----------------------------------------------------------------------------------------


def test_the_same_seed_gives_sb3s_weights_and_first_steps():
    # Random actions at first, then the network's and random ones in turn, and no gradient step yet.
    settings = {**SMALL, "learning_starts": 20, "exploration_fraction": 1.0, "train_freq": 400}
    ours = DQN("MlpPolicy", "CartPole-v1", **settings)
    before = {name: weights.clone() for name, weights in ours.policy.state_dict().items()}
    ours.learn(200)  # a model is seeded, globally, when it is made
    theirs = sb3.DQN("MlpPolicy", "CartPole-v1", **settings)
    for name, weights in theirs.policy.state_dict().items():
        assert torch.equal(before[name], weights)
    theirs.learn(200)
    np.testing.assert_array_equal(ours.replay_buffer.observations, theirs.replay_buffer.observations)
    np.testing.assert_array_equal(ours.replay_buffer.actions, theirs.replay_buffer.actions)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("by", ["hand", "autograd"])
def test_a_gradient_step_is_sb3s(by, n_steps):
    """One update from the same weights on the same minibatch, by an optimiser that blows up no rounding."""
    kwargs = {**SMALL, "learning_starts": 0, "train_freq": 400, "n_steps": n_steps}
    kwargs["policy_kwargs"] = {"net_arch": [32, 32], "optimizer_class": torch.optim.RMSprop}
    kwargs["policy_kwargs"]["optimizer_kwargs"] = {"eps": 1.0}
    ours = DQN("MlpPolicy", "CartPole-v1", learning_rate=0.1, **kwargs)
    if by == "autograd":
        ours._network = QAutograd(ours.policy, "fp32")
    ours.learn(400)  # one gradient step at the end
    theirs = sb3.DQN("MlpPolicy", "CartPole-v1", learning_rate=0.1, **kwargs).learn(400)
    assert ours._n_updates == theirs._n_updates == 1
    for name, weights in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[name], weights, rtol=1e-5, atol=1e-6)
    assert type(ours._network) is (QStep if by == "hand" else QAutograd)
    assert not torch.equal(ours.q_net.state_dict()["q_net.0.weight"], ours.q_net_target.state_dict()["q_net.0.weight"])


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_target_network_follows_as_in_sb3(tau):
    kwargs = {**SMALL, "target_update_interval": 100, "train_freq": 400, "tau": tau}
    ours, theirs = (cls("MlpPolicy", "CartPole-v1", **kwargs) for cls in (DQN, sb3.DQN))
    for model in (ours, theirs):
        with torch.no_grad():
            for parameter in model.q_net.parameters():
                parameter += 0.5
        model.learn(150)  # one target update
    for own, other in zip(ours.q_net_target.parameters(), theirs.q_net_target.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_what_is_logged_has_sb3s_names_and_more():
    seen = {}

    class Look(BaseCallback):
        def _on_step(self):
            seen.update(self.logger.name_to_value)
            return True

    cartpole().learn(300, callback=Look())
    expected = {"rollout/exploration_rate", "train/learning_rate", "train/loss", "train/n_updates"}
    assert expected <= seen.keys()


def test_callbacks_read_sb3s_locals_and_stop():
    names = set()

    class Look(BaseCallback):
        def _on_step(self):
            names.update(self.locals)
            return self.num_timesteps < 120

    model = cartpole().learn(300, callback=Look())
    assert model.num_timesteps == 120
    theirs = set()

    class LookThere(BaseCallback):
        def _on_step(self):
            theirs.update(self.locals)
            return self.num_timesteps < 120

    sb3.DQN("MlpPolicy", "CartPole-v1", **SMALL).learn(300, callback=LookThere())
    assert theirs - {"self", "truncate_last_traj", "idx", "done", "kwargs"} <= names


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_each_switch_learns_saves_and_goes_on(switches, tmp_path):
    model = cartpole(**switches).learn(200)
    assert model.fast_path.kind == ("autograd" if "noisy" in switches else "by hand")
    assert model._n_updates > 0
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    model.save(tmp_path / "agent.zip")
    again = DQN.load(tmp_path / "agent.zip", env=model.env)
    for own, other in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(own, other)
    assert (model.predict(obs, deterministic=True)[0] == again.predict(obs, deterministic=True)[0]).all()
    before = again.q_net.q_net[0].weight.clone()
    again.learn(200, reset_num_timesteps=False)
    assert not torch.equal(before, again.q_net.q_net[0].weight)


def test_sb3_reads_our_file(tmp_path):
    model = cartpole().learn(100)
    model.save(tmp_path / "agent.zip")
    theirs = sb3.DQN.load(tmp_path / "agent.zip")
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    assert (model.predict(obs, deterministic=True)[0] == theirs.predict(obs, deterministic=True)[0]).all()


def test_a_file_that_is_not_trusted_keeps_its_switches(tmp_path):
    model = cartpole(dueling=True, double=True, distributional="qr", n_quantiles=4).learn(100)
    model.save(tmp_path / "agent.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = DQN.load(tmp_path / "agent.zip", env=model.env, trust=False)
    assert again.double
    assert again.q_net.switches == model.q_net.switches
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    assert (model.predict(obs, deterministic=True)[0] == again.predict(obs, deterministic=True)[0]).all()


# -- the two ways to drive a network agree -----------------------------------------------------------------------------


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("distributional", [None, "c51", "qr"])
def test_by_hand_and_autograd_give_the_same_gradient(dueling, distributional):
    settings = {"v_min": -1.0, "v_max": 1.0, "n_outputs": 7} if distributional == "c51" else {"n_outputs": 7}
    policy = DQNPolicy(
        spaces.Box(-1, 1, (3,)),
        spaces.Discrete(4),
        lambda _: 1e-3,
        net_arch=[16, 8],
        dueling=dueling,
        distributional=distributional,
        head=settings if distributional else None,
    )
    with torch.no_grad():
        for parameter in policy.q_net_target.parameters():
            parameter += 0.1
    by_hand, autograd = QStep(policy, [(None, 3, False)]), QAutograd(policy, "fp32")
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((9, 3)).astype(np.float32)
    actions = rng.integers(4, size=9)
    by_outputs = rng.standard_normal((9, policy.q_net.head.n_outputs)).astype(np.float32)
    by_hand.begin_update(), autograd.begin_update()
    hand, auto = by_hand.inputs(obs), autograd.inputs(obs)
    for name in ("next_outputs", "choice", "forward"):
        own, other = getattr(by_hand, name)(hand), getattr(autograd, name)(auto)
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-4, atol=1e-6)
    by_hand.backward(actions, by_outputs)
    autograd.backward(torch.from_numpy(actions), torch.from_numpy(by_outputs))
    for (parameter, *_), gradient in zip(by_hand.places, by_hand._pieces(by_hand.grad), strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("policy_kwargs", "reason"),
    [
        ({"net_arch": [600, 600]}, "more than 200000 weights"),
        ({"activation_fn": torch.nn.GELU}, "not plain Linear"),
        ({"optimizer_class": torch.optim.SGD}, "not a plain Adam or RMSprop"),
    ],
)
def test_why_a_network_is_not_stepped_by_hand(policy_kwargs, reason):
    path = cartpole(policy_kwargs=policy_kwargs).fast_path
    assert path.kind == "autograd"
    assert reason in str(path)


def test_a_policy_of_the_users_own_is_honoured():
    class Mine(DQNPolicy):
        def _predict(self, observation, deterministic=True):
            return torch.ones(len(observation), dtype=torch.long)

    model = DQN(Mine, "sandbox/CartPole-v1", **{**SMALL, "exploration_final_eps": 0.0, "exploration_initial_eps": 0.0})
    assert "Mine._predict is overridden" in str(model.fast_path)
    model.learn(80)
    assert (model.replay_buffer.actions[50:80] == 1).all()


def test_sb3s_own_policy_class_is_driven_by_sb3():
    model = DQN(SB3Policy, "sandbox/CartPole-v1", **SMALL).learn(80)
    assert model.fast_path.kind == "inherited"
    assert model._n_updates > 0
    with pytest.raises(ValueError, match="double and prioritized need a loop of this project, and here is inherited"):
        DQN(SB3Policy, "sandbox/CartPole-v1", double=True, **SMALL)


def test_a_prediction_of_the_users_own_is_asked_in_training():
    class Mine(DQN):
        def predict(self, observation, *args, **kwargs):
            return np.ones(len(observation), int), None

    model = Mine("MlpPolicy", "sandbox/CartPole-v1", **SMALL).learn(80)
    assert (model.replay_buffer.actions[50:80] == 1).all()


# -- acting ------------------------------------------------------------------------------------------------------------


def test_several_environments_explore_as_sb3s_do():
    obs, seen = np.random.default_rng(0).standard_normal((40, 8, 4)).astype(np.float32), []
    for kind in (DQN, sb3.DQN):
        model = kind("MlpPolicy", "CartPole-v1", **SMALL)
        model.exploration_rate = 0.5
        seen.append(np.array([model.predict(eight)[0] for eight in obs]))
    np.testing.assert_array_equal(*seen)
    assert 5 < len({tuple(eight) for eight in seen[0]}) < 40


def test_an_action_is_an_array_as_sb3s_is():
    model = cartpole().learn(60)
    action = model.predict(np.zeros(4, np.float32), deterministic=True)[0]
    assert isinstance(action, np.ndarray)
    assert action.shape == ()


def test_asked_by_hand_it_trains_before_learning_starts():
    model = cartpole(learning_starts=50).learn(10)
    model.train(gradient_steps=1, batch_size=4)
    assert model._n_updates == 1


def test_predictions_of_one_and_of_many_and_of_what_is_new():
    model = cartpole().learn(100)
    obs = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    many = model.predict(obs, deterministic=True)[0]
    assert [int(model.predict(one, deterministic=True)[0]) for one in obs] == many.tolist()
    with torch.no_grad():
        model.q_net.q_net[-1].bias.copy_(torch.tensor([-100.0, 100.0]))
    assert model.predict(obs, deterministic=True)[0].tolist() == [1] * 5


def test_noise_explores_and_the_best_action_is_quiet():
    model = cartpole(noisy=True, learning_starts=0)
    assert model.learn(8).exploration_rate == 0.0
    obs = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    best = [model.predict(obs, deterministic=True)[0] for _ in range(3)]
    assert (best[0] == best[1]).all()
    assert (best[0] == best[2]).all()
    drawn = [model.predict(obs)[0] for _ in range(10)]
    assert any((one != drawn[0]).any() for one in drawn)
    layer = model.q_net.noisy_layers()[0]
    assert not layer.quiet
    model.predict(obs[0], deterministic=True)
    assert layer.quiet


@pytest.mark.parametrize(("noise_steps", "changes"), [(1, 11), (4, 2)])
def test_noise_stays_the_same_for_some_steps_though_learning_draws_others(noise_steps, changes):
    seen = []

    class Watch(DQN):
        def _explore(self, network, obs, n):
            actions = super()._explore(network, obs, n)
            seen.append(self.q_net.noisy_layers()[0].noise.clone())
            return actions

    settings = {**SMALL, "learning_starts": 0, "train_freq": 1, "batch_size": 2}
    Watch("MlpPolicy", "sandbox/CartPole-v1", noisy=True, noise_steps=noise_steps, **settings).learn(12)
    assert len(seen) == 12
    assert sum(not torch.equal(before, after) for before, after in pairwise(seen)) == changes
    with pytest.raises(ValueError, match="noise_steps must be at least 1"):
        DQN("MlpPolicy", "sandbox/CartPole-v1", noisy=True, noise_steps=0)


# -- storing -----------------------------------------------------------------------------------------------------------


def test_the_end_of_an_episode_is_stored_and_not_the_next_ones_start():
    model = DQN("MlpPolicy", "sandbox/ProbeTruncation-v0", **{**SMALL, "learning_starts": 1000}).learn(20)
    buffer = model.replay_buffer
    assert buffer.timeouts[:20, 0].nonzero()[0].tolist() == [7, 15]
    model = DQN("MlpPolicy", "sandbox/ProbeDiscount-v0", **{**SMALL, "learning_starts": 1000}).learn(4)
    buffer = model.replay_buffer
    assert buffer.observations[:4, 0, 0].tolist() == [0, 1, 0, 1]
    assert buffer.next_observations[:4, 0, 0].tolist() == [1, 1, 1, 1]
    assert buffer.dones[:4, 0].tolist() == [0, 1, 0, 1]
    assert not buffer.timeouts.any()


@pytest.mark.parametrize("double", [False, True])
def test_the_probes_values_are_found(double):
    for name, gamma in (
        ("Constant", 0.9),
        ("Observation", 0.9),
        ("Discount", 0.9),
        ("Policy", 0.9),
        ("Truncation", 0.5),
    ):
        model = DQN(
            "MlpPolicy",
            f"sandbox/Probe{name}-v0",
            learning_rate=1e-2,
            gamma=gamma,
            train_freq=4,
            gradient_steps=2,
            target_update_interval=20,
            double=double,
            policy_kwargs={"net_arch": [16]},
            exploration_final_eps=0.3,
            **SMALL,
        ).learn(1500)
        obs = np.array(
            [[0.0]]
            if name in ("Constant", "Truncation")
            else [[0.0], [1.0]]
            if name == "Discount"
            else [[-1.0], [1.0]],
            np.float32,
        )
        values = model.q_net(torch.from_numpy(obs)).max(1).values.detach().numpy()
        probe = type(gym.make(f"envs:sandbox/Probe{name}-v0").unwrapped).dynamics_type
        np.testing.assert_allclose(values, probe.value(obs, gamma)[:, 0], atol=0.1, err_msg=name)


def test_a_step_that_only_reset_is_no_transition():
    envs = gym.make_vec(
        "CartPole-v1", num_envs=3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP}
    )
    model = DQN("MlpPolicy", envs, **{**SMALL, "learning_starts": 10_000, "buffer_size": 3000}).learn(600)
    buffer = model.replay_buffer
    n = buffer.size()
    obs, next_obs = buffer.observations[:n], buffer.next_observations[:n]
    # a pole falls within a step by little; from an episode's end to the next one's start it is a leap
    assert np.abs(next_obs - obs)[..., 2].max() < 0.1
    assert (buffer.dones[:n].sum(0) > 3).all()
    again = (buffer.dones[: n - 1] > 0) & (buffer.dones[1:n] > 0)
    assert (obs[1:][again] == obs[:-1][again]).all()
    assert again.any()
    assert model.num_timesteps < n * 3


def test_vec_normalize_is_undone_for_the_replay():
    envs = VecNormalize(vecenv.make("sandbox/CartPole-v1", 2))
    model = DQN("MlpPolicy", envs, **SMALL).learn(300)
    buffer = model.replay_buffer
    n = buffer.size()
    assert (buffer.rewards[:n] == 1.0).all()
    assert np.abs(buffer.observations[:n, :, 2]).max() < 0.5
    batch = read(buffer, *draw(buffer, 16), 0.99, envs)
    assert np.abs(batch.obs).max() > 0.5
    assert not (batch.rewards == 1.0).any()


def test_dictionaries_of_observations():
    env = SimpleMultiObsEnv(random_start=False, discrete_actions=True)
    model = DQN("MultiInputPolicy", env, **SMALL)
    assert type(model.replay_buffer) is DictReplayBuffer
    assert model.fast_path
    assert model.learn(120)._n_updates > 0


@pytest.mark.parametrize("kind", [ReplayBuffer, NStepReplayBuffer])
def test_which_buffer_is_made(kind):
    assert type(cartpole(n_steps=1 if kind is ReplayBuffer else 4).replay_buffer) is kind


def test_a_buffer_of_the_users_own_is_asked_for_its_samples():
    class Mine(ReplayBuffer):
        asked = 0

        def sample(self, *args, **kwargs):
            Mine.asked += 1
            return super().sample(*args, **kwargs)

    model = cartpole(replay_buffer_class=Mine, gradient_steps=2).learn(100)
    assert Mine.asked == model._n_updates > 0


# -- pictures ----------------------------------------------------------------------------------------------------------


def stacked(n_envs=2):
    make = lambda: FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)  # noqa: E731
    return VecFrameStack(DummyVecEnv([make] * n_envs), 4)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_stacked_pictures_are_kept_once(n_steps):
    model = DQN("CnnPolicy", stacked(), n_steps=n_steps, **SMALL)
    buffer = model.replay_buffer
    assert type(buffer) is FrameReplay
    assert (buffer.stack, buffer.frame_channels) == (4, 1)
    assert (buffer.n_steps, buffer.gamma) == (n_steps, 0.99)
    assert model.learn(120)._n_updates > 0


def test_pictures_that_are_no_stack_are_kept_as_they_are():
    model = DQN("CnnPolicy", FakeImageEnv(40, 40, n_channels=3, discrete=True), **SMALL)
    assert type(model.replay_buffer) is ReplayBuffer


def test_frames_in_a_file(tmp_path):
    model = DQN("CnnPolicy", stacked(), replay_path=tmp_path / "replay", **SMALL).learn(80)
    assert (tmp_path / "replay" / "frames.npy").stat().st_size > 500 * 40 * 40
    assert model._n_updates > 0
    with pytest.raises(FileExistsError, match="delete it first"):
        DQN("CnnPolicy", stacked(), replay_path=tmp_path / "replay", **SMALL)


def test_observations_in_a_file(tmp_path):
    model = cartpole(replay_path=tmp_path).learn(80)
    stored = np.load(tmp_path / "observations.npy", mmap_mode="r")
    np.testing.assert_array_equal(stored, model.replay_buffer.observations)
    assert stored.dtype == np.float32
    assert stored[:80].any()


def test_a_replay_larger_than_memory_is_refused_with_the_ways_out(monkeypatch):
    monkeypatch.setattr("agents.frames.free_memory", lambda: 3_000_000_000)
    with pytest.raises(MemoryError, match=r"1,000,000 transitions would take 7\.4 GB, and 3\.0 GB .* replay_path="):
        DQN("CnnPolicy", "baselines/Pong-v0", device="cpu")


def test_a_large_replay_says_what_it_takes(capsys):
    DQN("CnnPolicy", "baselines/Pong-v0", buffer_size=200_000, device="cpu")
    assert "replay of 200,000 transitions: 1.48 GB of memory (each frame once)" in capsys.readouterr().out


def test_a_saved_replay_comes_back(tmp_path):
    model = DQN("CnnPolicy", stacked(), prioritized=True, **SMALL).learn(100)
    model.save_replay_buffer(tmp_path / "replay.pkl")
    again = DQN("CnnPolicy", stacked(), prioritized=True, **SMALL)
    again.load_replay_buffer(tmp_path / "replay.pkl")
    rows = np.arange(20)
    own, other = (one.replay_buffer.transitions(rows, rows % 2) for one in (model, again))
    np.testing.assert_array_equal(own.obs, other.obs)
    again.learn(100)
    assert again._n_updates > 0


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_support_that_does_not_cover_the_returns_is_told_with_the_fraction():
    model = cartpole(
        distributional="c51",
        v_max=2.0,
        v_min=-2.0,
        n_atoms=11,
        learning_rate=1e-2,
        gradient_steps=8,
        learning_starts=64,
    )
    with pytest.warns(UserWarning, match=r"\d+% of the returns' probability falls outside c51's support from -2 to 2"):
        model.learn(1500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(200, reset_num_timesteps=False)  # once is enough


def test_numbers_that_are_none_stop_before_the_weights():
    class Bad(gym.Wrapper):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            self.steps = getattr(self, "steps", 0) + 1
            return obs, float("nan") if self.steps == 60 else reward, terminated, truncated, info

    model = DQN("MlpPolicy", Bad(gym.make("CartPole-v1")), **SMALL)
    with pytest.raises(NonFiniteError, match="the reward of environment 0 is nan at step 60"):
        model.learn(200)
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


def test_actions_that_are_numbers():
    with pytest.raises(AssertionError, match="Discrete"):
        DQN("MlpPolicy", "sandbox/Pendulum-v1", **SMALL)


def test_an_encoder_sees_for_the_q_network(tmp_path):
    model = cartpole(encoder="mlp", dueling=True)
    assert model.learn(100)._n_updates > 0
    assert model.q_net.features_extractor.encoder.out_features == 64
    frozen = cartpole(encoder="mlp", freeze_encoder=True)
    before = [p.clone() for p in frozen.q_net.features_extractor.parameters()]
    frozen.learn(100)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.q_net.features_extractor.parameters(), strict=True))
    model.save(tmp_path / "agent.zip")
    again = DQN.load(tmp_path / "agent.zip", env=model.env)
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    assert (model.predict(obs, deterministic=True)[0] == again.predict(obs, deterministic=True)[0]).all()
