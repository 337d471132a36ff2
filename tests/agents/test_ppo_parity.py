"""PPO and A2C are Stable-Baselines3's: the same class, the same start, the same update, the same words."""

import copy
import inspect
import io

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import A2C, PPO


class Random(gym.Env):
    """Draws its observations, pays by chance, ends at times in either way."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        terminated, truncated = self.np_random.random(2) < 0.1
        return self.observation_space.sample(), float(self.np_random.normal()), bool(terminated), bool(truncated), {}


VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
MIXED = spaces.Dict(image=IMAGE, vector=VECTOR, number=spaces.Discrete(3))
TASKS = {
    "discrete": ("MlpPolicy", VECTOR, spaces.Discrete(3), {}),
    "box": ("MlpPolicy", VECTOR, spaces.Box(-1, 1, (2,), np.float32), {}),
    "box of two dimensions": ("MlpPolicy", VECTOR, spaces.Box(-1, 1, (2, 2), np.float32), {}),
    "multi-discrete": ("MlpPolicy", VECTOR, spaces.MultiDiscrete([2, 3]), {}),
    "multi-binary": ("MlpPolicy", VECTOR, spaces.MultiBinary(3), {}),
    "gSDE": ("MlpPolicy", VECTOR, spaces.Box(-1, 1, (2,), np.float32), {"use_sde": True}),
    "image": ("CnnPolicy", IMAGE, spaces.Discrete(3), {}),
    "dict": ("MultiInputPolicy", MIXED, spaces.Discrete(3), {}),
    "matrix": ("MlpPolicy", spaces.Box(-1, 1, (2, 3), np.float32), spaces.Discrete(2), {}),
    "float64": ("MlpPolicy", spaces.Box(-1, 1, (3,), np.float64), spaces.Box(-1, 1, (2,), np.float64), {}),
    "number": ("MlpPolicy", spaces.Discrete(4), spaces.Discrete(2), {}),
    "elu": ("MlpPolicy", VECTOR, spaces.Discrete(3), {"policy_kwargs": {"activation_fn": torch.nn.ELU}}),
    "two widths": (
        "MlpPolicy",
        VECTOR,
        spaces.Discrete(3),
        {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16, 4]}}},
    ),
    "every term": (
        "MlpPolicy",
        VECTOR,
        spaces.Box(-1, 1, (2,), np.float32),
        {"clip_range_vf": 0.1, "ent_coef": 0.05, "vf_coef": 0.9, "max_grad_norm": 0.1, "clip_range": 0.05},
    ),
    "raw advantages": ("MlpPolicy", VECTOR, spaces.Discrete(3), {"normalize_advantage": False}),
    "normalised advantages": ("MlpPolicy", VECTOR, spaces.Discrete(3), {"normalize_advantage": True}),
    "dict of numbers": (
        "MultiInputPolicy",
        spaces.Dict(b=VECTOR, a=spaces.Discrete(3), c=spaces.Box(0, 9, (2, 2), np.int32)),
        spaces.MultiDiscrete([2, 3, 4]),
        {"ent_coef": 0.05},
    ),
    "every term of multi-binary": ("MlpPolicy", VECTOR, spaces.MultiBinary(3), {"ent_coef": 0.05}),
    "every term of gSDE": (
        "MlpPolicy",
        VECTOR,
        spaces.Box(-1, 1, (2,), np.float32),
        {"ent_coef": 0.05, "use_sde": True, "sde_sample_freq": 4, "policy_kwargs": {"net_arch": [8]}},
    ),
}
BY_HAND = {
    "multi-discrete",
    "multi-binary",
    "gSDE",
    "number",
    "normalised advantages",
    "dict of numbers",
    "every term of multi-binary",
    "every term of gSDE",
    "discrete",
    "box",
    "box of two dimensions",
    "matrix",
    "float64",
    "two widths",
    "every term",
    "raw advantages",
}
ARRAYS = ("actions", "rewards", "advantages", "returns", "episode_starts", "log_probs", "values")


def make(cls, task, n_envs=2, **kwargs):
    policy, obs, action, options = TASKS[task]
    env = DummyVecEnv([lambda: Random(obs, action)] * n_envs)
    settings = {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "seed": 0, "device": "cpu", **options, **kwargs}
    known = inspect.signature(cls).parameters
    return cls(policy, env, **{key: value for key, value in settings.items() if key in known})


def with_log(model):
    model.set_logger(configure(None, []))
    return model


def logged(model):
    return {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")}


BOTH = pytest.mark.parametrize("cls", [PPO, A2C], ids=lambda cls: cls.__name__)


def parent(cls):
    return getattr(sb3, cls.__name__)


@BOTH
def test_it_is_stable_baselines3s(cls):
    assert issubclass(cls, parent(cls))


@BOTH
@pytest.mark.parametrize(
    "method", ["__init__", "learn", "train", "collect_rollouts", "predict", "save", "load", "set_env"]
)
def test_signatures_begin_as_stable_baselines3s(cls, method):
    theirs = list(inspect.signature(getattr(parent(cls), method)).parameters.values())
    ours = list(inspect.signature(getattr(cls, method)).parameters.values())[: len(theirs)]
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


@BOTH
def test_what_is_added_has_defaults_that_change_nothing(cls):
    added = list(inspect.signature(cls).parameters.values())[len(inspect.signature(parent(cls)).parameters) :]
    beside = {"augment": None, "aux_loss": None, "aux_coef": 1.0} if cls is PPO else {}
    assert {p.name: p.default for p in added} == {
        "encoder": None,
        "freeze_encoder": False,
        "encoder_learning_rate": None,
        **beside,
        "n_envs": None,
        "precision": "fp32",
        "mask_actions": False,
    }


@BOTH
@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_the_initial_weights_of_stable_baselines3(cls, task):
    ours, theirs = make(cls, task).policy.state_dict(), make(parent(cls), task).policy.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def rollout_of(cls, task):
    """Stable-Baselines3's agent with a collected rollout."""
    theirs = with_log(make(parent(cls), task))
    _, callback = theirs._setup_learn(32, None)
    theirs.collect_rollouts(theirs.env, callback, theirs.rollout_buffer, 16)
    return theirs


def copy_rollout(theirs, ours):
    buffer, mine = theirs.rollout_buffer, ours.rollout_buffer
    for name in ARRAYS:
        getattr(mine, name)[...] = getattr(buffer, name)
    if isinstance(mine, DictRolloutBuffer):
        for key, array in buffer.observations.items():
            mine.observations[key][...] = array
    else:
        mine.observations[...] = buffer.observations
    mine.pos, mine.full = buffer.pos, True


@BOTH
@pytest.mark.parametrize("task", TASKS)
def test_one_rollout_gives_the_weights_and_the_log_of_stable_baselines3(cls, task):
    theirs, ours = rollout_of(cls, task), with_log(make(cls, task))
    assert ours.fast_path.kind == ("by hand" if task in BY_HAND else "autograd")
    copy_rollout(theirs, ours)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    start = [parameter.detach().clone() for parameter in theirs.policy.parameters()]
    for model in (theirs, ours):
        torch.manual_seed(5)
        model._update_current_progress_remaining(0, 100)
        model.train()
    moved = 0.0
    both = zip(theirs.policy.named_parameters(), ours.policy.parameters(), strict=True)
    for ((name, a), b), before in zip(both, start, strict=True):
        a, b = a.detach(), b.detach()
        np.testing.assert_allclose(b, a, atol=2e-5, err_msg=name)
        moved = max(moved, float((a - before).abs().max()))
    assert moved > 5e-4  # three steps of 3e-4 each
    want, got = logged(theirs), logged(ours)
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert got[key] == pytest.approx(value, rel=2e-3, abs=2e-5), key
    assert ours._n_updates == theirs._n_updates == (3 if cls is PPO else 1)


@pytest.mark.parametrize("task", sorted({*BY_HAND, "image", "dict"} - {"gSDE", "every term of gSDE"}))
def test_the_buffer_holds_what_stable_baselines3s_own_policy_says_of_it(task):
    model = with_log(make(PPO, task))
    _, callback = model._setup_learn(32, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    buffer = model.rollout_buffer
    assert type(buffer) is (DictRolloutBuffer if task.startswith("dict") else RolloutBuffer)
    assert buffer.full
    assert buffer.pos == 16
    assert np.isfinite(buffer.advantages).all()
    # Advantages and returns from the buffer's own rewards, as Stable-Baselines3 computes them.
    advantages, returns = buffer.advantages.copy(), buffer.returns.copy()
    last = model.policy.predict_values(model.policy.obs_to_tensor(model._last_obs)[0])
    buffer.compute_returns_and_advantage(last.detach(), model._last_episode_starts)
    np.testing.assert_allclose(advantages, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(returns, buffer.returns, atol=1e-5)
    # Values and log-probabilities from its observations and actions.
    samples = next(buffer.get(None))
    actions = samples.actions.long().flatten() if isinstance(model.action_space, spaces.Discrete) else samples.actions
    values, log_probs, _ = model.policy.evaluate_actions(samples.observations, actions)
    np.testing.assert_allclose(values.flatten().detach(), samples.old_values, atol=1e-5)
    np.testing.assert_allclose(log_probs.detach(), samples.old_log_prob, atol=1e-5)


def test_a_truncated_episode_is_bootstrapped_in_the_buffer_and_a_terminated_one_is_not():
    class Ends(gym.Env):
        observation_space, action_space = VECTOR, spaces.Discrete(2)

        def __init__(self, truncates):
            self.truncates = truncates

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return np.zeros(3, np.float32), {}

        def step(self, action):
            self.t += 1
            end = self.t == 4
            return np.full(3, self.t / 4, np.float32), 1.0, end and not self.truncates, end and self.truncates, {}

    model = with_log(
        PPO(
            "MlpPolicy",
            DummyVecEnv([lambda: Ends(False), lambda: Ends(True)]),
            n_steps=8,
            batch_size=16,
            seed=0,
            gamma=0.5,
        )
    )
    _, callback = model._setup_learn(16, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 8)
    final = model.policy.predict_values(torch.ones(1, 3)).item()
    assert final != 0
    want = np.ones((8, 2))
    want[[3, 7], 1] += 0.5 * final
    np.testing.assert_allclose(model.rollout_buffer.rewards, want, atol=1e-6)
    np.testing.assert_array_equal(model.rollout_buffer.episode_starts[:, 1], [1, 0, 0, 0, 1, 0, 0, 0])


def trained(cls, task, steps=64, **kwargs):
    return make(cls, task, batch_size=8, **kwargs).learn(steps)


@pytest.mark.parametrize("task", ["discrete", "box", "image", "dict"])
def test_our_zip_is_our_agent_again_and_goes_on(task, tmp_path):
    model = trained(PPO, task)
    model.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip", env=model.get_env(), device="cpu")
    assert again.fast_path == model.fast_path
    obs = model.get_env().reset()
    np.testing.assert_allclose(
        again.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0], atol=1e-6
    )
    for a, b in zip(
        again.policy.optimizer.state_dict()["state"].values(),
        model.policy.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(a[key], b[key]) for key in a)
    again.learn(64, reset_num_timesteps=False)
    assert again.num_timesteps == 128
    assert again._n_updates == 2 * model._n_updates


@pytest.mark.parametrize("task", ["discrete", "box", "image", "dict"])
def test_a_zip_of_stable_baselines3_is_our_agent_and_goes_on(task, tmp_path):
    theirs = trained(sb3.PPO, task)
    theirs.save(tmp_path / "agent.zip")
    model = PPO.load(tmp_path / "agent.zip", env=theirs.get_env(), device="cpu")
    assert type(model) is PPO
    assert model.fast_path.kind == ("by hand" if task in BY_HAND else "autograd")
    obs = theirs.get_env().reset()
    np.testing.assert_allclose(
        model.predict(obs, deterministic=True)[0], theirs.predict(obs, deterministic=True)[0], atol=1e-6
    )
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps == 128
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_stable_baselines3_loads_our_zip(tmp_path):
    model = trained(PPO, "discrete")
    model.save(tmp_path / "agent.zip")
    theirs = sb3.PPO.load(tmp_path / "agent.zip", env=model.get_env())
    assert all(torch.equal(a, b) for a, b in zip(theirs.policy.parameters(), model.policy.parameters(), strict=True))
    theirs.learn(32)


def test_saving_to_a_stream_and_without_an_environment():
    model, stream = trained(PPO, "discrete"), io.BytesIO()
    model.save(stream)
    stream.seek(0)
    again = PPO.load(stream)
    assert again.env is None
    assert (
        again.predict(np.zeros(3, np.float32), deterministic=True)[0]
        == model.predict(np.zeros(3, np.float32), deterministic=True)[0]
    )


def test_parameters_go_from_one_agent_to_another_and_reach_the_hand_written_network():
    first, second = trained(PPO, "discrete"), trained(PPO, "discrete", seed=1)
    second.set_parameters(first.get_parameters())
    _, callback = second._setup_learn(32, None)
    second.collect_rollouts(second.env, callback, second.rollout_buffer, 16)
    samples = next(second.rollout_buffer.get(None))
    values = first.policy.predict_values(samples.observations).flatten().detach()
    np.testing.assert_allclose(samples.old_values, values, atol=1e-6)


def test_a_copied_agent_learns_as_the_first_does():
    model = trained(PPO, "discrete")
    twin = copy.deepcopy(model)
    before = [p.clone() for p in model.policy.parameters()]
    for one in (model, twin):
        one.learn(64)
    for a, b, start in zip(model.policy.parameters(), twin.policy.parameters(), before, strict=True):
        assert not torch.equal(a, start)
        assert not torch.equal(b, start)


def test_an_error_inside_the_update_leaves_the_torch_policy_as_it_was(monkeypatch):
    model = trained(PPO, "discrete")
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    calls = []

    step = type(model._network).step

    def fails(self, max_grad_norm):
        calls.append(0)
        if len(calls) == 5:
            raise RuntimeError("in the middle")
        return step(self, max_grad_norm)

    monkeypatch.setattr(type(model._network), "step", fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        model.learn(64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())


@pytest.mark.parametrize(
    ("env_id", "activation"), [("CartPole-v1", "Tanh"), ("CartPole-v1", "ELU"), ("Pendulum-v1", "Tanh")]
)
def test_the_same_seed_gives_the_run_of_stable_baselines3(env_id, activation):
    def run(algorithm):
        envs = make_vec_env(env_id, 4, seed=0)
        kwargs = {"activation_fn": getattr(torch.nn, activation)}
        model = algorithm("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=4, seed=0, policy_kwargs=kwargs)
        return model.learn(4 * 64 * 4)

    ours, theirs = run(PPO), run(sb3.PPO)
    assert ours.fast_path.kind == ("by hand" if activation == "Tanh" else "autograd")
    assert [episode["l"] for episode in ours.ep_info_buffer] == [episode["l"] for episode in theirs.ep_info_buffer]
    for parameter, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, atol=2e-4, rtol=1e-3)
