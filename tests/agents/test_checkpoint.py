"""Checkpoints: training goes on exactly where it was; every wrong file is refused and changes nothing."""

import base64
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents import PPO, load_agent, save_agent
from agents.checkpoint import MOMENTS, NORMALIZER, statistics
from sandbox import zoo
from sandbox.training.checkpoint import FileError, load_tensors, save_tensors

PATHS = {"by hand": {}, "autograd": {"activation_fn": torch.nn.ELU}}


class Walk(gym.Env):
    """No chance in it: the observation says how far the 8 steps of an episode have gone, and where the actions led."""

    observation_space = spaces.Box(-8, 8, (2,), np.float32)

    def __init__(self, actions):
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        self.t = self.x = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        self.x += float(np.sum(action)) - 0.5
        return (
            np.array([self.t, np.clip(self.x, -8, 8)], np.float32),
            -abs(self.x),
            False,
            self.t == 8,
            {"level": "hard"},
        )


ACTIONS = {"discrete": spaces.Discrete(2), "box": spaces.Box(-1, 1, (2,), np.float32)}


class Keys(gym.ObservationWrapper):
    """The same observation under two keys."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"time": spaces.Box(-8, 8, (1,)), "place": spaces.Box(-8, 8, (1,))})

    def observation(self, observation):
        return {"time": observation[:1], "place": observation[1:]}


def agent(path="by hand", actions="discrete", seed=0, normalize=None, keys=False, **kwargs):
    def make():
        env = Monitor(Walk(ACTIONS[actions]), info_keywords=("level",))
        return Keys(env) if keys else env

    env = DummyVecEnv([make] * 2)
    env = env if normalize is None else VecNormalize(env, **normalize)
    policy_kwargs = {**PATHS[path], **kwargs.pop("policy_kwargs", {})}
    kwargs = {"n_steps": 16, "batch_size": 8, "n_epochs": 3, "device": "cpu", **kwargs}
    return PPO("MultiInputPolicy" if keys else "MlpPolicy", env, seed=seed, policy_kwargs=policy_kwargs, **kwargs)


def everything(model):
    optimizer = model.policy.optimizer.state_dict()["state"]
    return [
        *(tensor.clone() for tensor in model.policy.state_dict().values()),
        *(torch.as_tensor(optimizer[i][key]).clone() for i in sorted(optimizer) for key in sorted(optimizer[i])),
    ]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_two_rollouts_are_one_saved_loaded_and_one_more(path, actions, tmp_path):
    straight = agent(path, actions)
    straight.learn(32)
    straight.learn(32, reset_num_timesteps=False)

    first = agent(path, actions)
    first.learn(32)
    save_agent(first, tmp_path / "agent.safetensors")
    second = agent(path, actions, seed=5)
    torch.manual_seed(99)
    load_agent(second, tmp_path / "agent.safetensors")
    second.learn(32, reset_num_timesteps=False)

    assert second.num_timesteps == straight.num_timesteps == 64
    assert second._n_updates == straight._n_updates
    # Not to the last bit: how memory is aligned decides the order in which a matrix product is summed.
    np.testing.assert_allclose(second.rollout_buffer.actions, straight.rollout_buffer.actions, atol=1e-5)
    for a, b in zip(everything(second), everything(straight), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_running_return_goes_on(tmp_path):
    first, second = agent(), agent()
    first.learn(64)
    save_agent(first, tmp_path / "agent.safetensors")
    load_agent(second, tmp_path / "agent.safetensors")
    second.learn(32, reset_num_timesteps=False)
    kept = [episode["r"] for episode in first.ep_info_buffer]
    assert len(kept) == 8
    assert [episode["r"] for episode in second.ep_info_buffer][:8] == kept


def test_an_agent_that_never_trained_can_be_saved(tmp_path):
    first, second = agent(seed=1), agent(seed=2)
    save_agent(first, tmp_path / "agent.safetensors")
    load_agent(second, tmp_path / "agent.safetensors")
    assert same(everything(first), everything(second))
    second.learn(32)


def test_an_encoder_travels_with_its_agent(tmp_path):
    torch.manual_seed(4)
    encoder = zoo.build("mlp", in_shape=(2,), norm="batch")
    first, second = agent(encoder=encoder), agent(encoder=encoder, seed=3)
    first.learn(32)
    save_agent(first, tmp_path / "agent.safetensors")
    load_agent(second, tmp_path / "agent.safetensors")
    assert same(everything(first), everything(second))


def test_saving_again_replaces_the_file_whole(tmp_path):
    model, path = agent(), tmp_path / "agent.safetensors"
    for _ in range(2):
        model.learn(32)
        save_agent(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["agent.safetensors"]
    other = agent(seed=9)
    load_agent(other, path)
    assert same(everything(other), everything(model))


def refused(model, path, match):
    before, rng, counters = everything(model), torch.get_rng_state(), (model.num_timesteps, model._n_updates)
    own, normalizer = np.random.get_state()[1].tolist(), seen(model)  # noqa: NPY002
    with pytest.raises(FileError, match=match) as caught:
        load_agent(model, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(everything(model), before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert (model.num_timesteps, model._n_updates) == counters
    assert np.random.get_state()[1].tolist() == own  # noqa: NPY002
    assert seen(model) == normalizer


def seen(model):
    """All that the agent's normaliser has counted, and its settings."""
    normalizer = model.get_vec_normalize_env()
    moments = {
        f"{name} {moment}": np.asarray(getattr(rms, moment)).tolist()
        for name, rms in statistics(normalizer).items()
        for moment in MOMENTS
    }
    return moments, {name: getattr(normalizer, name, None) for name in NORMALIZER}


NORMALIZERS = {
    "all": ({}, False),
    "observations": ({"norm_reward": False, "clip_obs": 3.0, "epsilon": 1e-4}, False),
    "rewards": ({"norm_obs": False, "clip_reward": 3.0, "gamma": 0.5}, False),
    "two keys": ({}, True),
    "one key": ({"norm_obs_keys": ["place"]}, True),
}


@pytest.mark.parametrize(("settings", "keys"), NORMALIZERS.values(), ids=NORMALIZERS)
def test_what_the_normaliser_has_seen_travels_with_its_agent(settings, keys, tmp_path):
    first = agent(normalize=settings, keys=keys)
    first.learn(32)
    save_agent(first, tmp_path / "agent.safetensors")
    same_keys = {name: settings[name] for name in ("norm_obs", "norm_obs_keys") if name in settings}
    second = agent(normalize=same_keys, keys=keys, seed=1)
    load_agent(second, tmp_path / "agent.safetensors")
    assert seen(second) == seen(first)  # to the last bit, and the settings of the first
    assert seen(second)[0]["returns count"] == pytest.approx(32, abs=1e-3)
    obs = first.get_vec_normalize_env().get_original_obs()
    a, b = (np.concatenate([*_arrays(model.get_vec_normalize_env().normalize_obs(obs))]) for model in (first, second))
    np.testing.assert_array_equal(a, b)
    second.learn(32, reset_num_timesteps=False)


def _arrays(obs):
    return obs.values() if isinstance(obs, dict) else [obs]


def test_the_normaliser_goes_on_from_where_it_was(tmp_path):
    first, second = agent(normalize={}), agent(normalize={})
    first.learn(32)
    save_agent(first, tmp_path / "agent.safetensors")
    load_agent(second, tmp_path / "agent.safetensors")
    mean, count = (getattr(first.get_vec_normalize_env().obs_rms, name) for name in ("mean", "count"))
    assert count == pytest.approx(2 + 32, abs=1e-3)  # the observations of one reset and 16 steps, of 2 environments
    second.learn(32, reset_num_timesteps=False)
    rms = second.get_vec_normalize_env().obs_rms
    assert rms.count == pytest.approx(2 * (2 + 32), abs=1e-3)
    # The time of an episode is known: 0 at the reset, then 1 ... 7, and 0 again where it begins anew.
    assert mean[0] == pytest.approx(4 * 28 / 34, abs=1e-3)
    assert rms.mean[0] == pytest.approx(8 * 28 / 68, abs=1e-3)


def test_a_normaliser_on_one_side_only(tmp_path):
    plain, under = agent(), agent(normalize={})
    for model in (plain, under):
        model.learn(32)
    save_agent(plain, tmp_path / "plain.safetensors")
    save_agent(under, tmp_path / "under.safetensors")
    refused(under, tmp_path / "plain.safetensors", "trained without VecNormalize")
    refused(plain, tmp_path / "under.safetensors", "trained under VecNormalize")


@pytest.mark.parametrize("other", [{"norm_obs": False}, {"norm_obs_keys": ["time"]}], ids=str)
def test_another_normaliser(other, tmp_path):
    first = agent(normalize={}, keys=True)
    save_agent(first, tmp_path / "agent.safetensors")
    refused(agent(normalize=other, keys=True), tmp_path / "agent.safetensors", "another VecNormalize")
    record, tensors = load_tensors(tmp_path / "agent.safetensors", "sandbox.agent")
    wide = {name: torch.zeros(2, dtype=torch.float64) if "obs.time" in name else t for name, t in tensors.items()}
    save_tensors(tmp_path / "agent.safetensors", "sandbox.agent", record, wide)
    refused(first, tmp_path / "agent.safetensors", "another VecNormalize")
    record["normalizer"].pop("clip_obs")
    save_tensors(tmp_path / "agent.safetensors", "sandbox.agent", record, tensors)
    refused(first, tmp_path / "agent.safetensors", "another VecNormalize")


def test_a_file_from_before_normalisers_were_kept(saved):
    record, tensors = load_tensors(saved, "sandbox.agent")
    del record["normalizer"]
    save_tensors(saved, "sandbox.agent", record, tensors)
    load_agent(agent(), saved)
    refused(agent(normalize={}), saved, "trained without VecNormalize")


@pytest.fixture
def saved(tmp_path):
    model = agent()
    model.learn(32)
    save_agent(model, tmp_path / "agent.safetensors")
    return tmp_path / "agent.safetensors"


def test_a_missing_file(tmp_path):
    refused(agent(), tmp_path / "none.safetensors", "no such file")


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_truncated_file(saved, cut):
    saved.write_bytes(saved.read_bytes()[:cut])
    refused(agent(), saved, "agent")


@pytest.mark.parametrize("at", [9, 200, -3])
def test_a_damaged_file(saved, at):
    data = bytearray(saved.read_bytes())
    data[at] ^= 0xFF
    saved.write_bytes(data)
    refused(agent(), saved, "agent")


def test_a_file_of_another_kind(tmp_path):
    zoo.save(zoo.build("mlp", in_shape=(2,)), tmp_path / "eyes.safetensors")
    refused(agent(), tmp_path / "eyes.safetensors", "kind")


def test_a_pickle_is_not_opened(tmp_path):
    torch.save({"x": 1}, tmp_path / "agent.safetensors")
    refused(agent(), tmp_path / "agent.safetensors", "agent")


def test_another_policy(saved):
    refused(agent(policy_kwargs={"net_arch": [32]}), saved, "another policy")
    refused(agent(actions="box"), saved, "another policy")


def test_another_algorithm(saved):
    class Other(PPO):
        pass

    model = Other("MlpPolicy", agent().get_env(), device="cpu", n_steps=16, batch_size=8)
    refused(model, saved, "PPO, not Other")


def test_another_optimiser(saved):
    model = agent(policy_kwargs={"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {}})
    refused(model, saved, "optimi[sz]er")


def test_a_record_without_what_it_must_hold(saved):
    record, tensors = load_tensors(saved, "sandbox.agent")
    for key in ("counters", "random", "episodes"):
        save_tensors(saved, "sandbox.agent", {name: value for name, value in record.items() if name != key}, tensors)
        refused(agent(), saved, key)


def test_a_zip_of_stable_baselines3_loads_without_trust(tmp_path):
    env = gym.make("CartPole-v1")
    theirs = sb3.PPO("MlpPolicy", env, n_steps=32, batch_size=16, gamma=0.9, seed=0, device="cpu").learn(64)
    theirs.save(tmp_path / "agent.zip")
    with pytest.warns(UserWarning, match="clip_range"):
        ours = PPO.load(tmp_path / "agent.zip", env, trust=False, device="cpu")
    assert (ours.gamma, ours.n_steps, ours.num_timesteps, ours._n_updates) == (0.9, 32, 64, theirs._n_updates)
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    states = zip(ours.policy.optimizer.state.values(), theirs.policy.optimizer.state.values(), strict=True)
    assert all(torch.equal(a["exp_avg"], b["exp_avg"]) for a, b in states)
    ours.learn(64, reset_num_timesteps=False)


def test_nothing_in_an_untrusted_zip_is_run(tmp_path):
    env = gym.make("CartPole-v1")
    PPO("MlpPolicy", env, n_steps=32, batch_size=16, device="cpu").save(tmp_path / "good.zip")
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        data = json.loads(good.read("data"))
        data["policy_class"][":serialized:"] = base64.b64encode(bomb).decode()
        bad.writestr("data", json.dumps(data))
        for name in set(good.namelist()) - {"data"}:
            bad.writestr(name, good.read(name))
    PPO.load(tmp_path / "bad.zip", env, trust=False, clip_range=0.2, device="cpu")
    assert not (tmp_path / "ran").exists()
    with zipfile.ZipFile(tmp_path / "worse.zip", "w") as worse:
        worse.writestr("data", json.dumps(data))
        worse.writestr("policy.pth", bomb)
    with pytest.raises(FileError, match=r"worse\.zip"):
        PPO.load(tmp_path / "worse.zip", env, trust=False, device="cpu")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TypeError):  # trusted, it runs: the bomb is a real one, and no policy's class
        PPO.load(tmp_path / "bad.zip", env)
    assert (tmp_path / "ran").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_an_untrusted_load_needs_an_environment_and_a_fitting_file(tmp_path):
    with pytest.raises(ValueError, match="needs env="):
        PPO.load(tmp_path / "none.zip", trust=False)
    with pytest.raises(FileError, match=r"none\.zip"):
        PPO.load(tmp_path / "none.zip", gym.make("CartPole-v1"), trust=False)
    PPO("MlpPolicy", gym.make("Pendulum-v1"), n_steps=32, batch_size=16, device="cpu").save(tmp_path / "other.zip")
    with pytest.raises(FileError, match=r"other\.zip"):
        PPO.load(tmp_path / "other.zip", gym.make("CartPole-v1"), trust=False, clip_range=0.2, device="cpu")
