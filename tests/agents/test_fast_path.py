"""Which loop trains an agent: the fast one wherever it bypasses nothing of the user's, else SB3's own."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from agents import PPO


def agent(policy="MlpPolicy", env="CartPole-v1", cls=PPO, **kwargs):
    return cls(policy, env, **{"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu", **kwargs})


class Small(BaseFeaturesExtractor):
    def __init__(self, space, width=5):
        super().__init__(space, width)
        self.net = nn.Linear(space.shape[0], width)

    def forward(self, obs):
        return torch.relu(self.net(obs))


COMMON = {
    "discrete": ("by hand", lambda: agent()),
    "box": ("by hand", lambda: agent(env="Pendulum-v1")),
    "vector env": ("by hand", lambda: agent(env="sandbox/CartPole-v1", n_envs=4)),
    "normalised": ("by hand", lambda: agent(env=VecNormalize(make_vec_env("CartPole-v1", 2)))),
    "relu": ("by hand", lambda: agent(policy_kwargs={"activation_fn": nn.ReLU, "net_arch": [32]})),
    "policy of SB3": ("by hand", lambda: agent(ActorCriticPolicy)),
    "pixels": ("autograd", lambda: agent("CnnPolicy", "sandbox/PixelCartPole-v0", n_envs=2)),
    "gSDE": ("by hand", lambda: agent(env="Pendulum-v1", use_sde=True)),
    "squashed": ("autograd", lambda: agent(env="Pendulum-v1", use_sde=True, policy_kwargs={"squash_output": True})),
    "elu": ("autograd", lambda: agent(policy_kwargs={"activation_fn": nn.ELU})),
    "wide": ("autograd", lambda: agent(policy_kwargs={"net_arch": [256, 256]})),
    "own features": ("autograd", lambda: agent(policy_kwargs={"features_extractor_class": Small})),
    "two features": (
        "autograd",
        lambda: agent(policy_kwargs={"features_extractor_class": Small, "share_features_extractor": False}),
    ),
    "one number": ("by hand", lambda: agent(env="FrozenLake-v1")),
    "memory": ("by hand", lambda: agent(encoder={"name": "gru", "kwargs": {"out_features": 8}})),
    "window": ("autograd", lambda: agent(encoder={"name": "transformer", "kwargs": {"dim": 8, "max_length": 4}})),
    "other optimiser": ("autograd", lambda: agent(policy_kwargs={"optimizer_class": torch.optim.AdamW})),
}


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.filterwarnings("ignore:.*render_fps")
def test_the_common_cases_are_fast_and_learn(name):
    kind, make = COMMON[name]
    model = make()
    assert model.fast_path.kind == kind
    assert model.fast_path
    assert bool(model.fast_path.reason) == (kind != "by hand")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(32)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True)]
    assert all(moved)
    assert model.policy.optimizer.state_dict()["state"]


def test_bf16_goes_by_autograd_and_learns():
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("no bf16 here")
    model = agent(precision="bf16")
    assert str(model.fast_path) == "autograd (precision is bf16)"
    model.learn(32)
    assert all(parameter.dtype == torch.float32 for parameter in model.policy.parameters())


def policy_with(**methods):
    return type("Own", (ActorCriticPolicy,), {"__module__": "user", **methods})


def counted(name):
    """A policy whose method counts its calls."""
    calls = []

    def method(self, *args, **kwargs):
        calls.append(name)
        return getattr(ActorCriticPolicy, name)(self, *args, **kwargs)

    method.__module__ = "user"
    return policy_with(**{name: method}), calls


@pytest.mark.parametrize(
    "name", ["forward", "evaluate_actions", "predict_values", "extract_features", "_get_action_dist_from_latent"]
)
def test_a_policy_that_overrides_a_method_is_trained_by_it(name):
    policy, calls = counted(name)
    model = agent(policy)
    assert model.fast_path.kind == "inherited"
    assert not model.fast_path
    assert f"Own.{name} is overridden" in model.fast_path.reason
    calls.clear()
    model.learn(16)
    assert calls


def test_a_method_patched_on_the_instance_is_honoured():
    model, calls = agent(), []
    original = model.policy.evaluate_actions

    def patched(obs, actions):
        calls.append(0)
        return original(obs, actions)

    model.policy.evaluate_actions = patched
    assert model.fast_path.kind == "inherited"
    model.learn(16)
    assert len(calls) == 2


def test_an_own_distribution_is_honoured():
    class Greedy(CategoricalDistribution):
        def sample(self):
            return self.mode()

    class Own(ActorCriticPolicy):
        def _build(self, lr_schedule):
            super()._build(lr_schedule)
            self.action_dist = Greedy(2)
            with torch.no_grad():
                self.action_net.bias[1] += 2.0  # the mode is always action 1, and a draw often is not

    model = agent(Own)
    model.learn(16)
    assert model.rollout_buffer.actions.min() == 1


def test_an_own_head_is_honoured():
    class Own(ActorCriticPolicy):
        def _build(self, lr_schedule):
            super()._build(lr_schedule)
            self.action_net = nn.Sequential(self.action_net, nn.Tanh())

    model = agent(Own)
    assert model.fast_path.kind == "autograd"
    model.learn(16)


def test_an_own_rollout_buffer_is_honoured():
    class Counting(RolloutBuffer):
        added = 0

        def add(self, *args, **kwargs):
            self.added += 1
            super().add(*args, **kwargs)

    model = agent(rollout_buffer_class=Counting)
    assert "Counting is not one of SB3's rollout buffers" in str(model.fast_path)
    model.learn(16)
    assert model.rollout_buffer.added == 16


def test_an_own_buffer_with_an_own_space_of_actions_and_dictionaries():
    class Mine(DictRolloutBuffer):
        pass

    class Env(gym.Env):
        observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32))
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    assert agent("MultiInputPolicy", Env()).fast_path.kind == "by hand"
    model = agent("MultiInputPolicy", Env(), rollout_buffer_class=Mine)
    assert model.fast_path.kind == "inherited"
    model.learn(16)


def test_a_subclass_that_trains_in_its_own_way_is_honoured():
    class Own(PPO):
        trained = 0

        def train(self):
            self.trained += 1
            sb3.PPO.train(self)

    model = agent(cls=Own)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(48)
    assert model.trained == 3
    assert not torch.equal(model.policy.action_net.weight, before)


def test_a_subclass_that_collects_in_its_own_way_is_honoured():
    class Own(PPO):
        def collect_rollouts(self, env, callback, rollout_buffer, n_rollout_steps):
            result = OnPolicyAlgorithm.collect_rollouts(self, env, callback, rollout_buffer, n_rollout_steps)
            rollout_buffer.advantages[:] = 0.0
            rollout_buffer.returns[:] = rollout_buffer.values
            return result

    model = agent(cls=Own, vf_coef=0.0)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(48)
    assert torch.equal(model.policy.action_net.weight, before)  # nothing to learn from


def test_changing_the_policy_after_training_changes_the_path():
    model = agent()
    model.learn(16)
    assert model.fast_path.kind == "by hand"
    model.policy.value_net.requires_grad_(False)
    before = model.policy.value_net.weight.detach().clone()
    assert model.fast_path.kind == "autograd"
    model.learn(16)
    assert torch.equal(model.policy.value_net.weight, before)


def test_a_new_optimiser_is_taken():
    model = agent()
    model.learn(16)
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), eps=1e-5)
    model.learn(16)
    assert model.fast_path.kind == "by hand"
    assert float(next(iter(model.policy.optimizer.state.values()))["step"]) == 2


def test_a_new_policy_is_taken():
    model = agent()
    model.learn(16)
    old = [parameter.clone() for parameter in model.policy.parameters()]
    previous, model.policy = model.policy, agent(seed=9).policy
    model.learn(16)
    assert all(torch.equal(a, b) for a, b in zip(old, previous.parameters(), strict=True))


# -- predict


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_batch_of_likeliest_actions_is_the_policys(env_id):
    model = agent(env=env_id)
    model.learn(32)
    obs = np.random.default_rng(0).normal(size=(50, *model.observation_space.shape)).astype(np.float32)
    got, want = model.predict(obs, deterministic=True)[0], model.policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(model.predict(obs[0], deterministic=True)[0], want[0], atol=1e-6)


def test_prediction_follows_weights_that_were_set_after_training():
    model, other = agent(), agent(seed=3)
    model.learn(32)
    other.learn(256)
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    model.set_parameters(other.get_parameters())
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], other.policy.predict(obs, deterministic=True)[0]
    )
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor([-50.0, 50.0]))
    assert model.predict(obs, deterministic=True)[0].tolist() == [1] * 50


@pytest.mark.parametrize("name", ["_predict", "get_distribution", "predict"])
def test_prediction_honours_an_own_method(name):
    policy, calls = counted(name)
    model = agent(policy)
    model.learn(16)
    calls.clear()
    model.predict(np.zeros((5, 4), np.float32), deterministic=True)
    assert calls


def test_prediction_honours_a_method_patched_after_training():
    model = agent()
    model.learn(16)
    model.policy._predict = lambda obs, deterministic=False: torch.full((len(obs),), 7)
    assert model.predict(np.zeros((5, 4), np.float32), deterministic=True)[0].tolist() == [7] * 5


def test_prediction_refuses_what_stable_baselines3_refuses():
    model = agent()
    model.learn(16)
    with pytest.raises(ValueError, match="shape"):
        model.predict(np.zeros((5, 3), np.float32), deterministic=True)


@pytest.mark.parametrize("where", ["optimizer", "parameter"])
def test_a_hook_of_the_optimiser_or_a_parameter_is_called(where):
    model = PPO("MlpPolicy", "sandbox/CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu")
    calls = []
    if where == "optimizer":
        model.policy.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    else:
        next(model.policy.parameters()).register_hook(lambda gradient: calls.append(1))
    assert model.fast_path.kind == "autograd"
    model.learn(32)
    assert calls


def test_the_inherited_loop_keeps_torchs_checks_of_distributions():
    class Own(ActorCriticPolicy):
        def forward(self, obs, deterministic=False):
            seen.append(torch.distributions.Distribution._validate_args)
            return super().forward(obs, deterministic)

    seen, before = [], torch.distributions.Distribution._validate_args
    model = PPO(Own, "sandbox/CartPole-v1", n_steps=4, batch_size=4, n_epochs=1, device="cpu").learn(4)
    assert not model.fast_path
    assert set(seen) == {before}
