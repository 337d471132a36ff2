"""Agents with a memory: what they remember, when they forget, and that they learn what nobody without one can."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from agents import A2C, PPO, REINFORCE, ZooFeatures, evaluate, load_agent, save_agent
from agents.recurrent import Recollection, Remembering, as_memory, remembers
from sandbox import zoo

SMALL = {
    "lstm": {"name": "lstm", "kwargs": {"out_features": 6}},
    "two layers": {"name": "gru", "kwargs": {"out_features": 6, "layers": 2}},
    "gru": {"name": "gru", "kwargs": {"out_features": 6}},
    "rnn": {"name": "rnn", "kwargs": {"out_features": 6}},
    "transformer": {"name": "transformer", "kwargs": {"dim": 8, "depth": 2, "heads": 2, "max_length": 5}},
}


class Recall(gym.Env):
    """Shows -1 or 1 once, then nothing but the time; at the end pays for the action that matches what was shown."""

    def __init__(self, length=4, limit=None, space=None):
        self.length, self.limit = length, limit
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = space or spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown, self.t = self.np_random.integers(2), 0
        return np.array([2 * self.shown - 1, 0], np.float32), {}

    def step(self, action):
        self.t += 1
        terminated = self.t == self.length
        right = np.ravel(action)[0] == self.shown
        obs = np.array([0, self.t / self.length], np.float32)
        return obs, float(terminated and right), terminated, self.t == self.limit, {}


def envs(lengths=(4, 7, 4), **kwargs):
    return DummyVecEnv([lambda length=length: Recall(length, **kwargs) for length in lengths])


def agent(cls=PPO, encoder="lstm", env=None, **kwargs):
    settings = {"n_steps": 16, "batch_size": 24, "n_epochs": 2} if cls is PPO else {"n_steps": 16}
    encoder = SMALL.get(encoder, encoder) if isinstance(encoder, str) else encoder
    return cls("MlpPolicy", env or envs(), encoder=encoder, **{"seed": 0, "device": "cpu", **settings, **kwargs})


def collected(model):
    _, callback = model._setup_learn(1000, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("name", SMALL)
def test_in_the_update_it_remembers_what_it_remembered_in_the_rollout(name, share):
    """Before the first step along the gradient, the new policy is the old one: sequence by sequence, or in pieces."""
    kwargs = {"policy_kwargs": {"share_features_extractor": share}, "batch_size": 6, "n_steps": 32}
    model = collected(agent(encoder=name, **kwargs))
    # A second rollout: what is remembered from the first one goes on.
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, model.n_steps)
    network = model._choose_network()
    states, starts = np.asarray(network.states), model.rollout_buffer.episode_starts != 0
    assert not starts[0].all()
    held = np.abs(states).sum(axis=(2, 3)) > 0
    np.testing.assert_array_equal(held, ~starts)  # forgotten where an episode starts, and only there
    with model._update(network) as samples:
        assert samples.first.sum() > 3 * 32 / 7
        log_probs, values, _ = network.forward(samples)
    np.testing.assert_allclose(np.asarray(log_probs), np.asarray(samples.log_probs), atol=1e-5)
    np.testing.assert_allclose(np.asarray(values), np.asarray(samples.values), atol=1e-5)
    assert np.std(np.asarray(values)) > 1e-4


def test_sequences_begin_where_an_episode_does_or_one_is_full():
    model = collected(agent(env=envs((4, 7)), n_steps=10, batch_size=5))
    expected = np.zeros((10, 2), bool)
    expected[[0, 4, 5, 8], 0] = True  # episodes of 4 steps, pieces of 5
    expected[[0, 5, 7], 1] = True
    np.testing.assert_array_equal(model._sequence_starts(), expected)


def test_a_truncated_episode_is_worth_what_the_memory_says_at_its_end():
    model = collected(agent(env=envs((50,), limit=3), n_steps=4, batch_size=4, gamma=0.5))
    states, network = [model.policy.initial_state(1)], model._choose_network()
    episode = np.array([[2 * 0 - 1, 0], [0, 1 / 50], [0, 2 / 50], [0, 3 / 50]], np.float32)
    episode[0] = model.rollout_buffer.observations[0, 0]
    with torch.no_grad():
        for obs in episode[:-1]:
            states.append(model.policy.recall(torch.from_numpy(obs[None]), states[-1])[1])
    value = network.values(episode[-1:], torch.as_tensor(states[-1]))
    assert model.rollout_buffer.rewards[2, 0] == pytest.approx(0.5 * float(np.ravel(value)[0]), abs=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_predict_carries_the_state_and_forgets_at_an_episodes_start(name):
    model = agent(encoder=name, env=envs(space=spaces.Box(-1, 1, (1,), np.float32)))
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(6, 2, 2)).astype(np.float32)
    state, step_by_step = None, []
    for t in range(6):
        starts = np.array([t == 0, t in (0, 3)])
        actions, state = model.predict(obs[t], state=state, episode_start=starts, deterministic=True)
        step_by_step.append(actions)
    alone, own = [], None
    for t in range(3, 6):  # the second environment's second episode, by itself
        action, own = model.predict(obs[t, 1], state=own, episode_start=None, deterministic=True)
        alone.append(action)
    np.testing.assert_allclose(np.array(step_by_step)[3:, 1], alone, atol=1e-6)
    forgetful, _ = model.predict(obs[5], deterministic=True)
    assert not np.allclose(forgetful, step_by_step[5], atol=1e-6)
    with pytest.raises(ValueError, match="state is of 2 episodes, but there are 3"):
        model.predict(np.zeros((3, 2), np.float32), state=state)


@pytest.mark.parametrize("cls", [PPO, A2C, REINFORCE], ids=lambda cls: cls.__name__)
def test_every_algorithm_learns_with_a_memory(cls):
    model = agent(cls, env=envs((3, 3)))
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(200)
    assert model.fast_path
    moved = [name for name, weight in model.policy.state_dict().items() if not torch.equal(weight, before[name])]
    assert any("memories" in name for name in moved)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_it_solves_what_nobody_without_a_memory_can(name):
    settings = {"n_steps": 32, "batch_size": 128, "n_epochs": 8, "learning_rate": 1e-2, "ent_coef": 0.01}
    with_memory = agent(encoder=name, env=envs((4,) * 16), **settings).learn(16 * 32 * 16)
    without = agent(encoder="mlp", env=envs((4,) * 16), **settings).learn(16 * 32 * 16)
    assert evaluate(with_memory, envs((4,) * 20), 100).mean > 0.95
    assert evaluate(without, envs((4,) * 20), 100).mean < 0.7


def test_stable_baselines3s_own_evaluation_carries_the_state():
    settings = {"n_steps": 32, "batch_size": 128, "n_epochs": 8, "learning_rate": 1e-2}
    model = agent(env=envs((4,) * 16), **settings).learn(16 * 32 * 16)
    mean, _ = evaluate_policy(model, envs((4,) * 4), 40, warn=False)
    assert mean > 0.9


def test_a_step_that_only_resets_is_neither_learned_from_nor_remembered():
    def vector(mode):
        return SyncVectorEnv([lambda: Recall(3), lambda: Recall(5)], autoreset_mode=mode)

    model = collected(agent(env=vector(AutoresetMode.NEXT_STEP), n_steps=12, batch_size=24))
    with model._update(model._choose_network()) as samples:
        log_probs, _, _ = model._choose_network().forward(samples)
    assert len(samples.returns) == 12 * 2 - 3 - 2  # phantoms after each episode's end
    np.testing.assert_allclose(np.asarray(log_probs), np.asarray(samples.log_probs), atol=1e-5)
    begins = np.asarray(samples.obs["observations"] if isinstance(samples.obs, dict) else samples.obs)[samples.first]
    assert (np.abs(begins.reshape(len(begins), -1)[:, 0]) == 1).all()  # each with what an episode shows first


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_agent_remembers_as_before(name, tmp_path):
    model = agent(encoder=name).learn(64)
    again = PPO.load((model.save(tmp_path / "agent"), tmp_path / "agent.zip")[1], env=envs(), device="cpu")
    save_agent(model, tmp_path / "agent.safetensors")
    other = agent(encoder=name, seed=1)
    load_agent(other, tmp_path / "agent.safetensors")
    obs = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    for one in (again, other):
        states = [None, None]
        for t in range(5):
            mine, states[0] = model.predict(obs[t], states[0], deterministic=True)
            theirs, states[1] = one.predict(obs[t], states[1], deterministic=True)
            np.testing.assert_array_equal(mine, theirs)
            np.testing.assert_allclose(states[0][0], states[1][0], atol=1e-6)
    again.learn(64)


def test_a_zip_is_opened_without_running_what_is_in_it(tmp_path):
    model = agent().learn(48)
    model.save(tmp_path / "agent")
    again = PPO.load(tmp_path / "agent.zip", envs(), trust=False)
    obs = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(model.predict(obs)[1][0], again.predict(obs)[1][0], atol=1e-6)


def test_a_file_of_the_zoo_a_module_and_a_name_are_memories(tmp_path):
    lstm = zoo.build("lstm", in_features=2, out_features=5)
    zoo.save(lstm, tmp_path / "memory.safetensors")
    for encoder in (tmp_path / "memory.safetensors", lstm):
        model = agent(encoder=encoder, freeze_encoder=True)
        kept = copy.deepcopy(model.policy.memories.state_dict())
        for name, weight in lstm.state_dict().items():
            assert torch.equal(kept[f"0.{name}"], weight), name
        model.learn(48)
        assert all(torch.equal(kept[name], weight) for name, weight in model.policy.memories.state_dict().items())
        assert not model.policy.memories.training
    assert agent(encoder="gru").policy.memories[0].out_features == 6
    assert as_memory("rnn", 3).out_features == 256
    assert as_memory("transformer", 3).context == 32


def test_pictures_and_dictionaries_are_remembered():
    model = PPO("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=2, n_steps=8, batch_size=8, encoder=SMALL["gru"])
    assert isinstance(model.learn(16).policy, Remembering)

    class Dictionary(gym.ObservationWrapper):
        observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32), b=spaces.Discrete(2))

        def observation(self, obs):
            return {"a": obs, "b": 1}

    env = DummyVecEnv([lambda: Dictionary(Recall())])
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, encoder=SMALL["lstm"])
    model.learn(32)
    _, state = model.predict(env.reset())
    assert state[0].shape == (2, 1, 6)


def test_what_cannot_be_is_one_clear_error():
    with pytest.raises(ValueError, match=r"takes 3 features a step, but here a step has 2"):
        agent(encoder=zoo.build("gru", in_features=3))
    with pytest.raises(ValueError, match="LSTM is a network of sequences: it needs an agent that carries a memory"):
        sb3.DQN(
            "MlpPolicy",
            "CartPole-v1",
            policy_kwargs={"features_extractor_class": ZooFeatures, "features_extractor_kwargs": {"encoder": "lstm"}},
        )
    with pytest.raises(ValueError, match="LSTM is a network of sequences"):
        ZooFeatures(spaces.Box(-1, 1, (2,)), encoder=zoo.build("lstm", in_features=2))

    class Mine(sb3.ppo.MlpPolicy):
        pass

    with pytest.raises(ValueError, match="goes with the policies MlpPolicy"):
        PPO(Mine, envs(), encoder="lstm")
    with pytest.raises(TypeError, match="needs its state"):
        agent().policy(torch.zeros(1, 2))
    assert not remembers(nn.Linear(2, 3))
    assert isinstance(agent()._choose_network(), Recollection) or agent().fast_path.kind == "by hand"


CHANGES = {
    "optimiser": lambda model: setattr(model.policy, "optimizer", torch.optim.Adam(model.policy.parameters())),
    "another kind of optimiser": lambda model: setattr(
        model.policy, "optimizer", torch.optim.AdamW(model.policy.parameters())
    ),
    "frozen": lambda model: model.policy.memories.requires_grad_(False),
    "hook": lambda model: model.policy.value_net.register_forward_hook(lambda *_: None),
    "precision": lambda model: setattr(model, "precision", "bf16"),
    "policy": lambda model: setattr(model, "policy", copy.deepcopy(model.policy)),
}


class Changing(BaseCallback):
    """Changes something of the model once, when a rollout begins or ends, or between two calls of learn."""

    def __init__(self, change, when):
        super().__init__()
        self.change, self.when, self.done = change, when, False

    def _at(self, when):
        if when == self.when and not self.done and self.num_timesteps:
            self.done = True
            self.change(self.model)

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        self._at("start")

    def _on_rollout_end(self):
        self._at("end")


@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cls", [PPO, A2C], ids=lambda cls: cls.__name__)
def test_what_is_changed_while_it_learns_leaves_the_memory_as_it_was(cls, change, when):
    model = agent(cls, "rnn", env=envs((1000, 1000)))
    model.learn(32)
    held = np.asarray(model._network.state).copy()
    assert np.abs(held).sum() > 0
    CHANGES[change](model)
    np.testing.assert_array_equal(np.asarray(model._choose_network().state), held)
    callback = Changing(CHANGES[change], when)
    model.learn(96, callback, reset_num_timesteps=False)
    assert callback.done
