"""PQN: its returns are the paper's, its two networks agree, and it learns what is known."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv

from agents import PQN, NonFiniteError, evaluate, load_agent, save_agent

SMALL = {"n_envs": 4, "n_steps": 8, "batch_size": 16, "device": "cpu", "seed": 0}


def cartpole(**kwargs):
    return PQN("MlpPolicy", "sandbox/CartPole-v1", **{**SMALL, **kwargs})


def q_lambda_by_hand(rewards, next_best, terminated, cut, gamma, q_lambda):
    """The recursion of the paper (section 3, Q(lambda)), one environment, from the last step backwards."""
    returns, after = np.zeros_like(rewards), None
    for t in reversed(range(len(rewards))):
        last = after is None or cut[t]
        bootstrap = next_best[t] if last else (1 - q_lambda) * next_best[t] + q_lambda * after
        after = returns[t] = rewards[t] + gamma * (0.0 if terminated[t] else bootstrap)
    return returns


def test_the_targets_are_lambda_returns_of_the_best_action():
    model = cartpole(norm=None, n_envs=2, n_steps=30, gamma=0.9, q_lambda=0.7)
    seen = {}
    train = model.train

    def look():
        buffer = model.rollout_buffer
        seen.update(rewards=buffer.rewards.copy(), returns=buffer.returns.copy(), values=buffer.values.copy())
        seen.update(starts=buffer.episode_starts.copy(), last=model._last_obs, ended=model._last_episode_starts)
        seen["q_last"] = model._network.values(model._last_obs)
        train()

    model.train = look
    model.learn(60)
    for b in range(2):
        ended = np.append(seen["starts"][1:, b], seen["ended"][b]) > 0  # a pole that fell: always a termination here
        next_best = np.append(seen["values"][1:, b], seen["q_last"][b])
        expected = q_lambda_by_hand(seen["rewards"][:, b], next_best, ended, ended, 0.9, 0.7)
        np.testing.assert_allclose(seen["returns"][:, b], expected, rtol=1e-5)
        assert ended.any()


@pytest.mark.parametrize("dueling", [False, True])
def test_by_hand_and_by_autograd_learn_alike(dueling):
    models = [cartpole(norm=None, dueling=dueling, policy_kwargs={"optimizer_kwargs": {"eps": 0.1}}) for _ in range(2)]
    by_hand, autograd = models
    assert str(by_hand.fast_path) == "by hand"
    by_hand.set_random_seed(0)
    by_hand.learn(32)
    # The same rollout for the other one, driven by torch.
    from agents.pqn import Explorer
    from agents.q_autograd import QAutograd

    autograd._network = Explorer(QAutograd(autograd.policy, "fp32"), autograd)
    autograd._network.precision_name = "fp32"
    autograd.set_random_seed(0)
    autograd.learn(32)
    assert isinstance(autograd._network.network, QAutograd)
    np.testing.assert_array_equal(by_hand.rollout_buffer.actions, autograd.rollout_buffer.actions)
    for own, other in zip(by_hand.policy.parameters(), autograd.policy.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", [None, "layer"])
def test_the_probes_values_are_found(norm):
    for name, gamma in (
        ("Constant", 0.9),
        ("Observation", 0.9),
        ("Discount", 0.9),
        ("Policy", 0.9),
        ("Truncation", 0.5),
    ):
        model = PQN(
            "MlpPolicy",
            f"sandbox/Probe{name}-v0",
            learning_rate=1e-2,
            gamma=gamma,
            norm=norm,
            policy_kwargs={"net_arch": [16]},
            **SMALL,
        ).learn(3000)
        obs = np.array(
            {"Constant": [[0]], "Truncation": [[0]], "Discount": [[0], [1]]}.get(name, [[-1], [1]]), np.float32
        )
        values = model.policy.q_net(torch.from_numpy(obs)).max(1).values.detach().numpy()
        probe = gym.make(f"envs:sandbox/Probe{name}-v0").unwrapped.dynamics_type
        np.testing.assert_allclose(values, probe.value(obs, gamma)[:, 0], atol=0.1, err_msg=name)


def test_there_is_no_target_network_and_a_file_keeps_all(tmp_path):
    model = cartpole().learn(64)
    assert not hasattr(model.policy, "q_net_target")
    assert model.fast_path.kind == "autograd"  # for its layer norm
    model.save(tmp_path / "agent.zip")
    again = PQN.load(tmp_path / "agent.zip", env=model.env)
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    assert (model.predict(obs, deterministic=True)[0] == again.predict(obs, deterministic=True)[0]).all()
    again.learn(64)
    save_agent(model, tmp_path / "agent.safetensors")
    other = cartpole(seed=5)
    load_agent(other, tmp_path / "agent.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.policy.parameters(), other.policy.parameters(), strict=True))


def test_exploration_fades_and_each_environment_has_its_coin():
    model = cartpole(exploration_fraction=0.5, exploration_final_eps=0.1)
    assert model.exploration_rate == 1.0
    model.learn(320)
    assert model.exploration_rate == pytest.approx(0.1)
    obs = np.zeros((2000, 4), np.float32)
    greedy = model.predict(obs, deterministic=True)[0]
    assert (model.predict(obs)[0] != greedy).mean() == pytest.approx(0.05, abs=0.02)


def test_a_step_that_only_reset_is_not_learned_from():
    kwargs = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.NEXT_STEP}}
    envs = gym.make_vec("CartPole-v1", num_envs=2, **kwargs)
    model = PQN("MlpPolicy", envs, n_steps=60, batch_size=500, device="cpu", seed=0)
    model.learn(100)
    assert model._valid is not None
    assert model.num_timesteps == model._valid.sum() < 120


def test_pictures_and_dictionaries():
    model = PQN("CnnPolicy", FakeImageEnv(40, 40, n_channels=1, discrete=True), n_steps=8, batch_size=8, device="cpu")
    assert model.learn(16)._n_updates == 4
    model = PQN("MultiInputPolicy", SimpleMultiObsEnv(random_start=False), n_steps=8, batch_size=8, device="cpu")
    assert model.learn(16)._n_updates == 4


def test_numbers_that_are_none():
    class Bad(gym.Wrapper):
        def step(self, action):
            obs, _reward, *rest = super().step(action)
            return obs, float("inf"), *rest

    with pytest.raises(NonFiniteError, match="the reward of environment 0 is inf"):
        PQN("MlpPolicy", Bad(gym.make("CartPole-v1")), device="cpu").learn(64)


def test_what_it_does_not_take():
    with pytest.raises(ValueError, match="n_epochs must be at least 1"):
        cartpole(n_epochs=0)
    with pytest.raises(AssertionError, match="Discrete"):
        PQN("MlpPolicy", "sandbox/Pendulum-v1", device="cpu")
    with pytest.raises(ValueError, match="does not know action masks"):
        cartpole().predict(np.zeros(4, np.float32), action_masks=np.ones(2, bool))


def test_evaluation_takes_it():
    assert evaluate(cartpole().learn(64), "sandbox/CartPole-v1", 5, seed=1).mean > 5
