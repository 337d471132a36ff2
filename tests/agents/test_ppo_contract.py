"""What users of Stable-Baselines3 rely on: callbacks, counters, logs, wrappers, attributes read at each call."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from agents import PPO, GymVecEnv

BY_HAND, AUTOGRAD = {}, {"policy_kwargs": {"activation_fn": torch.nn.ELU}}
PATHS = pytest.mark.parametrize("path", [BY_HAND, AUTOGRAD], ids=["by hand", "autograd"])


def agent(env="CartPole-v1", cls=PPO, **kwargs):
    return cls(
        "MlpPolicy", env, **{"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu", **kwargs}
    )


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()]).clone()


class Spy(BaseCallback):
    """Keeps the local names and chosen values of every call."""

    def __init__(self, *keep, stop_at=None):
        super().__init__()
        self.keep, self.stop_at, self.seen, self.names, self.order = keep, stop_at, [], set(), []

    def _on_training_start(self):
        self.order.append("training start")

    def _on_rollout_start(self):
        self.order.append("rollout start")

    def _on_step(self):
        self.names |= set(self.locals)
        self.seen.append([np.array(self.locals[name]) for name in self.keep])
        return self.n_calls != self.stop_at

    def _on_rollout_end(self):
        self.order.append("rollout end")
        self.names_at_end = set(self.locals)

    def _on_training_end(self):
        self.order.append("training end")


@PATHS
def test_a_callback_sees_the_locals_of_stable_baselines3(path):
    spies = {}
    for cls in (sb3.PPO, PPO):
        spies[cls] = Spy()
        agent(make_vec_env("CartPole-v1", 2), cls=cls, **path).learn(64, callback=spies[cls])
    # Names that only its own truncation branch makes are left out.
    inside = {"idx", "done", "terminal_obs", "terminal_value", "__class__"}
    assert spies[sb3.PPO].names - inside <= spies[PPO].names
    assert spies[sb3.PPO].names_at_end - inside <= spies[PPO].names_at_end
    assert spies[PPO].order == spies[sb3.PPO].order


@PATHS
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_locals_have_the_types_and_shapes_of_stable_baselines3(path, env_id):
    class Look(BaseCallback):
        def _on_step(self):
            names = ("obs_tensor", "actions", "values", "log_probs", "clipped_actions", "new_obs", "rewards", "dones")
            self.look = {
                name: (type(self.locals[name]), tuple(self.locals[name].shape), self.locals[name].dtype)
                for name in names
            }
            self.look["infos"] = [type(info) for info in self.locals["infos"]]
            return True

    looks = []
    for cls in (sb3.PPO, PPO):
        look = Look()
        agent(make_vec_env(env_id, 3), cls=cls, **path).learn(1, callback=look)
        looks.append(look.look)
    assert looks[0] == looks[1]


def test_the_values_a_callback_keeps_are_not_overwritten_later():
    class Keep(BaseCallback):
        def __init__(self):
            super().__init__()
            self.live, self.copies = [], []

        def _on_step(self):
            arrays = [
                self.locals[name]
                for name in ("obs_tensor", "actions", "values", "log_probs", "new_obs", "rewards", "dones")
            ]
            self.live.append(arrays)
            self.copies.append([array.tolist() for array in arrays])
            return True

    for env in (make_vec_env("CartPole-v1", 2), GymVecEnv(gym.make_vec("envs:sandbox/CartPole-v1", num_envs=2))):
        keep = Keep()
        agent(env).learn(64, callback=keep)
        assert [[array.tolist() for array in arrays] for arrays in keep.live] == keep.copies


def test_a_callback_may_change_the_rewards_in_place():
    class Bonus(BaseCallback):
        def _on_step(self):
            self.locals["rewards"] += 10
            return True

    model = agent()
    model.learn(32, callback=Bonus())
    assert model.rollout_buffer.rewards.min() >= 11


@PATHS
def test_a_callback_may_read_the_rollout_as_stable_baselines3_gives_it(path):
    class Read(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            self.n = sum(len(batch.returns) for batch in self.model.rollout_buffer.get(8))

    read = Read()
    models = [agent(make_vec_env("CartPole-v1", 2), batch_size=64, **path).learn(64, callback=c) for c in (None, read)]
    assert read.n == 64
    np.testing.assert_allclose(*(weights(model) for model in models), atol=1e-4)


@PATHS
def test_a_callback_that_says_no_stops_at_once(path):
    model = agent(**path)
    before = weights(model)
    model.learn(1000, callback=Spy(stop_at=7))
    assert model.num_timesteps == 7
    assert torch.equal(weights(model), before)
    model.learn(32)
    assert model.num_timesteps == 32


def test_callbacks_of_stable_baselines3(tmp_path):
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", 1),
        eval_freq=16,
        n_eval_episodes=2,
        best_model_save_path=tmp_path,
        log_path=tmp_path,
        verbose=0,
    )
    checkpoint = CheckpointCallback(20, tmp_path, name_prefix="mine")
    agent().learn(64, callback=CallbackList([evaluation, checkpoint]))
    assert evaluation.n_calls == 64
    assert len(np.load(tmp_path / "evaluations.npz")["results"]) == 4
    assert {path.name for path in tmp_path.glob("mine*")} == {f"mine_{n}_steps.zip" for n in (20, 40, 60)}
    assert isinstance(PPO.load(tmp_path / "best_model.zip"), PPO)


def test_training_stops_at_a_reward_threshold():
    stop = EvalCallback(
        make_vec_env("CartPole-v1", 1),
        callback_on_new_best=StopTrainingOnRewardThreshold(1.0),
        eval_freq=10,
        n_eval_episodes=1,
        verbose=0,
    )
    assert agent().learn(1000, callback=stop).num_timesteps == 10


def test_a_function_is_a_callback():
    calls = []
    agent().learn(32, callback=lambda local, _: calls.append(local["n_steps"]) or True)
    assert calls == list(range(32))


@PATHS
def test_counters_are_those_of_stable_baselines3(path):
    for cls in (sb3.PPO, PPO):
        model = agent(make_vec_env("CartPole-v1", 2), cls=cls, **path)
        model.learn(100)
        assert (model.num_timesteps, model._n_updates) == (128, 4)
        model.learn(64, reset_num_timesteps=False)
        assert (model.num_timesteps, model._n_updates) == (192, 6)
        model.learn(64)
        assert (model.num_timesteps, model._n_updates) == (64, 8)
        assert model._total_timesteps == 64


class Rows(KVWriter):
    """A logger's output that keeps every dump."""

    def __init__(self):
        self.rows = []

    def write(self, values, excluded, step=0):
        self.rows.append((step, dict(values)))

    def close(self):
        pass


def logged(cls, steps=128, log_interval=1, **kwargs):
    model, rows = agent(make_vec_env("CartPole-v1", 2), cls=cls, **kwargs), Rows()
    logger = configure(None, [])
    logger.output_formats = [rows]
    model.set_logger(logger)
    model.learn(steps, log_interval=log_interval)
    return rows.rows


@PATHS
def test_log_keys_are_those_of_stable_baselines3(path):
    theirs, ours = logged(sb3.PPO, clip_range_vf=0.2, **path), logged(PPO, clip_range_vf=0.2, **path)
    assert [step for step, _ in ours] == [step for step, _ in theirs] == [64, 128]
    for (_, mine), (_, want) in zip(ours, theirs, strict=True):
        assert mine.keys() == want.keys()
        assert all(isinstance(value, (int, float, np.number, str)) for value in mine.values())


def test_log_keys_of_continuous_actions_have_the_spread():
    model = agent("Pendulum-v1", policy_kwargs={"log_std_init": -1.0}, learning_rate=0.0)
    model.learn(32)
    assert model.logger.name_to_value["train/std"] == pytest.approx(np.exp(-1.0))


def test_log_interval():
    assert [step for step, _ in logged(PPO, 64 * 5, log_interval=2)] == [128, 256]
    assert logged(PPO, 128, log_interval=None) == []


def test_verbose_prints_the_table(capsys):
    agent(verbose=1).learn(64)
    printed = capsys.readouterr().out
    assert "ep_rew_mean" in printed
    assert "approx_kl" in printed


def test_tensorboard_log(tmp_path):
    pytest.importorskip("tensorboard")
    model = agent(tensorboard_log=str(tmp_path))
    model.learn(64)
    model.learn(64, tb_log_name="other")
    model.learn(64, tb_log_name="other", reset_num_timesteps=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PPO_1", "other_1"]
    assert all(any(folder.glob("events*")) for folder in tmp_path.iterdir())


@PATHS
def test_target_kl_stops_the_epochs_before_the_step(path, capsys):
    model = agent(learning_rate=0.05, n_epochs=10, target_kl=0.01, verbose=1, **path)
    model.learn(32)
    assert model._n_updates < 10
    assert "Early stopping at step" in capsys.readouterr().out
    # The first minibatch is always taken: its divergence is zero.
    assert torch.isfinite(weights(model)).all()


@PATHS
def test_target_kl_stops_where_stable_baselines3_does(path):
    # With the whole rollout as the only minibatch, both see the same divergences.
    rows = []
    for cls in (sb3.PPO, PPO):
        model = agent(cls=cls, learning_rate=0.02, n_epochs=10, batch_size=32, target_kl=0.01, **path)
        _, callback = model._setup_learn(32, None)
        torch.manual_seed(0)
        sb3.PPO.collect_rollouts(model, model.env, callback, model.rollout_buffer, 32) if cls is sb3.PPO else None
        rows.append(model)
    theirs, ours = rows
    for name in (
        "observations",
        "actions",
        "rewards",
        "advantages",
        "returns",
        "episode_starts",
        "log_probs",
        "values",
    ):
        setattr(ours.rollout_buffer, name, getattr(theirs.rollout_buffer, name).copy())
    ours.rollout_buffer.full = True
    theirs.train(), ours.train()
    assert 1 < theirs._n_updates < 10
    assert ours._n_updates == theirs._n_updates
    np.testing.assert_allclose(weights(ours), weights(theirs), atol=1e-4)


ATTRIBUTES = {
    "ent_coef": 0.5,
    "vf_coef": 0.01,
    "max_grad_norm": 0.001,
    "clip_range": lambda _: 0.001,
    "clip_range_vf": lambda _: 0.001,
    "normalize_advantage": False,
    "n_epochs": 1,
    "batch_size": 4,
    "gamma": 0.1,
    "gae_lambda": 0.1,
    "target_kl": 1e-9,
    "lr_schedule": lambda _: 1e-5,
}


@PATHS
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_read_at_each_call(path, name):
    after = []
    for change in (False, True):
        model = agent(**path)
        model.learn(32)
        if change:
            setattr(model, name, ATTRIBUTES[name])
        model.learn(64, reset_num_timesteps=False)
        after.append(weights(model))
    assert not torch.equal(*after)


@pytest.mark.parametrize("path", [BY_HAND, AUTOGRAD], ids=["by hand", "autograd"])
def test_the_same_seed_gives_the_same_agent(path):
    runs = [weights(agent(make_vec_env("CartPole-v1", 2, seed=0), seed=seed, **path).learn(128)) for seed in (3, 3, 4)]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-5)
    assert not np.allclose(runs[0], runs[2], atol=1e-5)


@pytest.mark.parametrize(
    "wrap", [VecNormalize, VecMonitor, lambda env: VecFrameStack(env, 3)], ids=["normalize", "monitor", "stack"]
)
@pytest.mark.parametrize(
    "make",
    [lambda: make_vec_env("CartPole-v1", 2), lambda: GymVecEnv(gym.make_vec("envs:sandbox/CartPole-v1", num_envs=2))],
    ids=["dummy", "gym"],
)
@pytest.mark.filterwarnings("ignore:The environment is already wrapped")
def test_wrappers_of_stable_baselines3(wrap, make):
    env = wrap(make())
    model = agent(env)
    assert model.fast_path.kind == "by hand"
    model.learn(256)
    assert model.observation_space == env.observation_space
    assert len(model.ep_info_buffer) > 3
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    np.testing.assert_allclose([episode["r"] for episode in model.ep_info_buffer], lengths)


def test_normalised_observations_and_rewards_reach_the_buffer():
    env = VecNormalize(make_vec_env("Pendulum-v1", 2), clip_obs=0.5)
    model = agent(env)
    model.learn(64)
    assert np.abs(model.rollout_buffer.observations).max() == 0.5
    assert np.abs(model.rollout_buffer.rewards).max() <= 10 * 2


def test_predict_is_the_policys():
    model = agent()
    model.learn(64)
    obs = model.get_env().reset()
    assert model.predict(obs, deterministic=True)[0].shape == (1,)
    assert model.predict(obs[0])[0].shape == ()
    want = model.policy.get_distribution(torch.as_tensor(obs)).distribution.probs.argmax().item()
    assert model.predict(obs, deterministic=True)[0][0] == want


def test_evaluate_policy_takes_it():
    assert evaluate_policy(agent(), make_vec_env("CartPole-v1", 2), n_eval_episodes=3)[0] > 5


def test_another_environment_of_the_same_kind():
    model = agent(make_vec_env("CartPole-v1", 2))
    model.learn(64)
    other = make_vec_env("CartPole-v1", 2)
    model.set_env(other)
    model.learn(64)
    assert model.get_env() is other
    with pytest.raises(AssertionError):
        model.set_env(make_vec_env("CartPole-v1", 3))


def test_success_rates_are_logged():
    class Succeeds(gym.Wrapper):
        def step(self, action):
            *rest, info = self.env.step(action)
            return *rest, {**info, "is_success": True}

    envs = {
        "dummy": DummyVecEnv([lambda: Succeeds(gym.make("CartPole-v1"))] * 2),
        "same step": gym.vector.SyncVectorEnv(
            [lambda: Succeeds(gym.make("CartPole-v1"))] * 2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
        ),
        "next step": gym.vector.SyncVectorEnv([lambda: Succeeds(gym.make("CartPole-v1"))] * 2),
    }
    for name, env in envs.items():
        model = agent(env)
        model.learn(256)
        assert len(model.ep_success_buffer) > 3, name
        assert set(model.ep_success_buffer) == {True}, name


def test_n_envs_makes_them_by_id_and_needs_an_id():
    assert agent("CartPole-v1", n_envs=3).n_envs == 3
    assert isinstance(agent("CartPole-v1", n_envs=3).env, DummyVecEnv)
    assert isinstance(agent("sandbox/CartPole-v1", n_envs=3).env, GymVecEnv)
    assert agent("sandbox/CartPole-v1").n_envs == 1
    with pytest.raises(ValueError, match="n_envs=2 goes with the id"):
        agent(gym.make("CartPole-v1"), n_envs=2)
    with pytest.raises(gym.error.Error):
        agent("CartPol-v1", n_envs=2)


def test_a_space_no_ppo_can_take_is_stable_baselines3s_error():
    class Odd(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gym.spaces.Dict(a=gym.spaces.Discrete(2))

        def reset(self, *, seed=None, options=None):
            return np.zeros(3, np.float32), {}

    errors = []
    for cls in (sb3.PPO, PPO):
        with pytest.raises(AssertionError) as caught:
            agent(Odd(), cls=cls)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_an_unknown_precision_is_refused_at_once():
    with pytest.raises(ValueError, match="fp17"):
        agent(precision="fp17")
