"""Tables: targets by hand, what they reach where the best is known, and that they are agents like the others."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import SARSA, QLearning, evaluate, load_agent, save_agent
from agents.loop import NonFiniteError
from agents.tabular import TablePolicy, q_learning_target, sarsa_target
from sandbox.training.checkpoint import FileError
from sandbox.training.schedules import parse

BOTH = pytest.mark.parametrize("algorithm", [QLearning, SARSA])
CLIFF = {"learning_rate": 0.5, "gamma": 1.0, "exploration_initial_eps": 0.1, "exploration_final_eps": 0.1}
NEVER = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}


class Line(gym.Env):
    """Walk from 0; each step pays its number, beginning with 1. Ends at `length`, or is cut off after `limit` steps."""

    def __init__(self, length=3, limit=1000, start=(0, 0), pays=None):
        self.length, self.limit, self.first, self.pays = length, limit, start, pays
        self.observation_space = spaces.Discrete(length + 1, start=start[0])
        self.action_space = spaces.Discrete(2, start=start[1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.first[0], {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        reward = float(self.t) if self.pays is None else self.pays
        return self.first[0] + self.t, reward, self.t == self.length, self.t == self.limit, {}


def line(algorithm, *tasks, **settings):
    envs = DummyVecEnv([lambda task=task: Monitor(Line(**task)) for task in tasks or ({},)])
    return algorithm("TablePolicy", envs, **{"learning_rate": 0.5, "gamma": 0.5, "seed": 0, **NEVER, **settings})


def optimal_return(env_id, n_steps):
    """What the best policy earns in `n_steps` steps, by value iteration over the task's own probabilities."""
    task = gym.make(env_id).unwrapped
    values = np.zeros(len(task.P))
    for _ in range(n_steps):
        values = np.array(
            [
                max(
                    sum(p * (r + values[after] * (not end)) for p, after, r, end in outcomes)
                    for outcomes in row.values()
                )
                for row in task.P.values()
            ]
        )
    return float(values @ task.initial_state_distrib)


def chance_to_arrive(model, n_steps=100):
    """The probability that the greedy policy of a table for FrozenLake arrives, without drawing anything."""
    task = gym.make("FrozenLake-v1").unwrapped
    actions, arrived = model.policy.table.argmax(axis=1), np.zeros(16)
    for _ in range(n_steps):
        arrived = np.array(
            [
                sum(p * (r + arrived[after] * (not end)) for p, after, r, end in task.P[s][int(actions[s])])
                for s in range(16)
            ]
        )
    return float(arrived[0])


# -- the equations -----------------------------------------------------------------------------------------------------


def test_q_learning_expects_the_best_action_and_nothing_after_the_end():
    rewards, next_q = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2, 3), [10.0, -2.0, 6.0])
    ended = np.array([[False, True], [False, False]])
    np.testing.assert_array_equal(q_learning_target(rewards, ended, next_q, 0.5), [[6.0, 2.0], [8.0, 9.0]])


def test_sarsa_expects_the_action_that_is_taken_and_nothing_after_the_end():
    next_q, taken = np.array([[10.0, -2.0, 6.0]] * 3), np.array([1, 2, 0])
    targets = sarsa_target(np.array([1.0, 2.0, 3.0]), np.array([False, False, True]), next_q, taken, 0.5)
    np.testing.assert_array_equal(targets, [0.0, 5.0, 3.0])


def test_with_the_best_action_taken_the_two_are_equal():
    rng = np.random.default_rng(0)
    rewards, ended, next_q = rng.normal(size=(5, 4)), rng.random((5, 4)) < 0.5, rng.normal(size=(5, 4, 3))
    np.testing.assert_array_equal(
        sarsa_target(rewards, ended, next_q, next_q.argmax(-1), 0.9), q_learning_target(rewards, ended, next_q, 0.9)
    )


@pytest.mark.parametrize(
    "shapes",
    [((2,), (3,), (2, 4), (2,)), ((2,), (2,), (2,), (2,)), ((2,), (2,), (3, 4), (2,)), ((2,), (2,), (2, 4), (1,))],
)
def test_shapes_that_do_not_belong_together_are_refused(shapes):
    rewards, ended, next_q, taken = shapes
    rewards, ended, next_q = np.zeros(rewards), np.zeros(ended, bool), np.zeros(next_q)
    with pytest.raises(ValueError, match="expected"):
        sarsa_target(rewards, ended, next_q, np.zeros(taken, int), 0.9)
    if taken == (2,):
        with pytest.raises(ValueError, match="expected"):
            q_learning_target(rewards, ended, next_q, 0.9)


# -- one step at a time ------------------------------------------------------------------------------------------------


@BOTH
def test_two_walks_by_hand(algorithm):
    table = line(algorithm).learn(6).policy.table
    # First walk: 0.5 · (1, 2, 3). Second: Q += 0.5 · (r + 0.5 · Q' - Q), from the front; action 0 is the best.
    first = 0.5, 1.0, 1.5
    second = [q + 0.5 * (r + 0.5 * after - q) for q, r, after in zip(first, (1, 2, 3), (1.0, 1.5, 0.0), strict=True)]
    np.testing.assert_allclose(table[:3, 0], second)
    np.testing.assert_array_equal(table[:, 1], 0)
    np.testing.assert_array_equal(table[3], 0)


@BOTH
def test_a_time_limit_counts_what_the_table_says_and_an_end_does_not(algorithm):
    cut_off, ended = line(algorithm, {"length": 3, "limit": 2}), line(algorithm, {"length": 2})
    for model in (cut_off, ended):
        model.policy.table[2] = 8.0
        model.learn(2)
    assert cut_off.policy.table[1, 0] == 0.5 * (2 + 0.5 * 8)  # the state it was cut off in, not the first of the next
    assert ended.policy.table[1, 0] == 0.5 * 2


@BOTH
def test_the_numbers_of_states_and_actions_may_begin_anywhere(algorithm):
    plain = line(algorithm, {}, exploration_initial_eps=1.0, exploration_final_eps=1.0).learn(60)
    moved = line(algorithm, {"start": (5, -1)}, exploration_initial_eps=1.0, exploration_final_eps=1.0).learn(60)
    np.testing.assert_array_equal(plain.policy.table, moved.policy.table)
    moved.policy.table[1] = 0.0, 1.0
    assert moved.predict(np.array([5, 6]), deterministic=True)[0].tolist() == [-1 + moved.policy.table[0].argmax(), 0]
    assert set(moved.predict(np.full(50, 6))[0].tolist()) == {-1, 0}


@BOTH
def test_environments_in_the_same_place_move_its_entry_one_after_the_other(algorithm):
    model = line(algorithm, *[{"pays": reward} for reward in (1.0, 2.0, 4.0)]).learn(3)
    expected = 0.0
    for reward in (1.0, 2.0, 4.0):
        expected += 0.5 * (reward - expected)
    assert model.policy.table[0, 0] == expected
    many = line(algorithm, *[{"pays": 1.0}] * 64, learning_rate=0.9).learn(64 * 30)
    assert np.abs(many.policy.table).max() <= 1.75 + 1e-9  # a sum over 64 would run away


def test_sarsa_takes_the_action_that_it_counted_on():
    seen = []

    class Watching(SARSA):
        def act(self, q, starts):
            actions = super().act(q, starts)
            seen.append((starts.copy(), np.array(self._next_actions), actions.copy()))
            return actions

    exploring = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
    line(Watching, {"length": 3}, {"length": 4, "limit": 2}, **exploring).learn(200)
    assert not all(starts.all() for starts, _, _ in seen)
    for starts, counted_on, actions in seen[1:]:
        np.testing.assert_array_equal(actions[~starts], counted_on[~starts])
    begun = [(actions[starts] != counted_on[starts]) for starts, counted_on, actions in seen[1:] if starts.any()]
    assert np.concatenate(begun).any()  # a new episode chooses anew


@BOTH
def test_steps_that_only_reset_are_not_learned_from(algorithm):
    made = []

    class Marked(algorithm):
        def train(self, states, actions, targets):
            made.append(states.tolist())
            return super().train(states, actions, targets)

    Marked.train.__module__ = "agents.test"
    venv = SyncVectorEnv([lambda: Line(4, limit=3), lambda: Line(4)], autoreset_mode=AutoresetMode.NEXT_STEP)
    model = Marked("TablePolicy", venv, learning_rate=0.5, gamma=0.5, **NEVER)
    model.learn(2 * 12)
    assert made[:6] == [[0, 0], [1, 1], [2, 2], [3], [0], [1, 0]]
    assert model.num_timesteps == model._n_updates == sum(map(len, made)) >= 24
    assert model.policy.table[3, 0] == pytest.approx(4.0, abs=1.0)  # of the longer one alone: it pays 4 and ends


@BOTH
def test_a_next_step_environment_gives_the_table_of_a_same_step_one(algorithm):
    tables = []
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        venv = SyncVectorEnv([lambda: Line(3, limit=2)], autoreset_mode=mode)
        tables.append(algorithm("TablePolicy", venv, learning_rate=0.5, gamma=0.5, **NEVER).learn(20).policy.table)
    np.testing.assert_array_equal(*tables)


def test_exploration_goes_in_a_line_and_then_stays():
    model = line(QLearning, exploration_initial_eps=0.8, exploration_final_eps=0.2, exploration_fraction=0.5)
    rates = []
    for left in (1.0, 0.75, 0.5, 0.0):
        model._current_progress_remaining = left
        rates.append(model.exploration_rate)
    np.testing.assert_allclose(rates, [0.8, 0.5, 0.2, 0.2])
    model.exploration_fraction = 0.0
    model._current_progress_remaining = 1.0
    assert model.exploration_rate == 0.2


def test_exploring_draws_every_action_alike_and_the_best_one_otherwise():
    model = QLearning("TablePolicy", "FrozenLake-v1", exploration_initial_eps=0.4, seed=0)
    actions = model.explore(np.full((40_000, 4), [0.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose(np.bincount(actions) / 40_000, [0.1, 0.1, 0.7, 0.1], atol=0.01)


# -- what they reach ---------------------------------------------------------------------------------------------------


def test_value_iteration_finds_the_known_optimum_of_the_frozen_lake():
    assert optimal_return("FrozenLake-v1", 100) == pytest.approx(0.744, abs=5e-4)


def test_q_learning_comes_near_the_best_on_the_frozen_lake():
    settings = {"learning_rate": parse("lin_0.3"), "initial_value": 1.0, "exploration_final_eps": 0.1}
    model = QLearning("TablePolicy", "FrozenLake-v1", seed=0, **settings)
    assert chance_to_arrive(model) < 0.1
    assert chance_to_arrive(model.learn(30_000)) > 0.68


def test_q_learning_walks_along_the_cliff_and_sarsa_keeps_away():
    along = QLearning("TablePolicy", "CliffWalking-v1", seed=0, **CLIFF).learn(6_000)
    away = SARSA("TablePolicy", "CliffWalking-v1", seed=0, **{**CLIFF, "learning_rate": parse("lin_0.5")}).learn(20_000)
    assert evaluate(along, "CliffWalking-v1", 1).mean == -13
    assert -19 <= evaluate(away, "CliffWalking-v1", 1).mean <= -15
    while_exploring = [np.mean([episode["r"] for episode in model.ep_info_buffer]) for model in (along, away)]
    assert while_exploring[0] < while_exploring[1]
    np.testing.assert_allclose(along.policy.table[24:36].max(axis=1), -np.arange(12, 0, -1), atol=0.05)


# -- an agent like the others ------------------------------------------------------------------------------------------


@BOTH
def test_the_same_seed_gives_the_same_run_and_another_seed_another(algorithm):
    tables = [algorithm("TablePolicy", "Taxi-v4", n_envs=2, seed=seed).learn(400).policy.table for seed in (3, 3, 4)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


@BOTH
def test_it_is_saved_and_loaded_as_in_stable_baselines3(algorithm, tmp_path):
    model = algorithm("TablePolicy", "FrozenLake-v1", seed=0, gamma=0.9, learning_rate=0.25, initial_value=1.0).learn(
        500
    )
    model.save(tmp_path / "agent.zip")
    again = algorithm.load(tmp_path / "agent.zip", gym.make("FrozenLake-v1"))
    np.testing.assert_array_equal(again.policy.table, model.policy.table)
    assert (again.gamma, again.learning_rate, again.num_timesteps) == (0.9, 0.25, 500)
    assert again.exploration_rate == model.exploration_rate
    again.learn(100, reset_num_timesteps=False)
    assert again.num_timesteps == 600
    assert (again.policy.table != model.policy.table).any()
    alone = algorithm.load(tmp_path / "agent.zip")
    assert alone.predict(np.int64(0), deterministic=True)[0] == model.policy.table[0].argmax()
    without_pickles = algorithm.load(tmp_path / "agent.zip", "FrozenLake-v1", trust=False)
    np.testing.assert_array_equal(without_pickles.policy.table, model.policy.table)
    assert without_pickles.gamma == 0.9


@BOTH
def test_its_checkpoint_goes_on_where_it_was(algorithm, tmp_path):
    path = tmp_path / "agent.safetensors"
    model = algorithm("TablePolicy", "FrozenLake-v1", seed=0).learn(500)
    save_agent(model, path)
    expected = np.random.random(3)  # noqa: NPY002
    other = algorithm("TablePolicy", "FrozenLake-v1", seed=1)
    load_agent(other, path)
    np.testing.assert_array_equal(other.policy.table, model.policy.table)
    assert (other.num_timesteps, other._n_updates, other.exploration_rate) == (500, 500, model.exploration_rate)
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    with pytest.raises(FileError, match="weights do not fit"):
        load_agent(algorithm("TablePolicy", "Taxi-v4"), path)
    with pytest.raises(FileError, match=f"holds {algorithm.__name__}"):
        load_agent((SARSA if algorithm is QLearning else QLearning)("TablePolicy", "FrozenLake-v1"), path)


def test_the_policy_alone_can_be_saved_and_is_a_torch_module(tmp_path):
    policy = TablePolicy(spaces.Discrete(3, start=2), spaces.Discrete(2), initial_value=1.5)
    policy.table[1] = 0.0, 2.0
    policy.save(tmp_path / "policy.pth")
    again = TablePolicy.load(tmp_path / "policy.pth")
    assert torch.equal(again(torch.tensor([2, 3])), torch.tensor([[1.5, 1.5], [0.0, 2.0]], dtype=torch.float64))
    assert again.predict(np.array([2, 3, 4]))[0].tolist() == [0, 1, 0]  # of equal ones the first
    assert [name for name, _ in policy.named_parameters()] == ["q_table"]


@BOTH
def test_predict_takes_one_or_many_and_explores_unless_it_shall_not(algorithm):
    model = algorithm("MlpPolicy", "FrozenLake-v1", seed=0)
    model.policy.table[:, 2] = 1.0
    action, state = model.predict(5, deterministic=True)
    assert (action, action.shape, state) == (2, (), None)
    assert model.predict(np.arange(16), deterministic=True)[0].tolist() == [2] * 16
    assert set(model.predict(np.zeros(200, int))[0].tolist()) == {0, 1, 2, 3}
    model.exploration_initial_eps = 0.0
    assert set(model.predict(np.zeros(200, int))[0].tolist()) == {2}
    assert evaluate(model, "FrozenLake-v1", 5).lengths.shape == (5,)


@BOTH
def test_a_callback_sees_each_step_and_can_stop_the_training(algorithm):
    class Looking(BaseCallback):
        rollouts = 0

        def _on_step(self):
            assert self.locals["rewards"].shape == self.locals["dones"].shape == self.locals["actions"].shape == (2,)
            assert len(self.locals["infos"]) == 2
            return self.num_timesteps < 14

        def _on_rollout_end(self):
            self.rollouts += 1

    callback = Looking()
    model = line(algorithm, {}, {}).learn(1000, callback)
    assert (model.num_timesteps, callback.n_calls, callback.rollouts) == (14, 7, 0)
    model.learn(400, callback=None, reset_num_timesteps=False)
    assert model.num_timesteps == 414
    assert line(algorithm).learn(1000, StopTrainingOnMaxEpisodes(4)).num_timesteps == 12


@BOTH
def test_it_logs_by_the_usual_names(algorithm):
    class Last(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            self.errors = self.logger.name_to_value["train/td_error"]

    last = Last()
    model = line(algorithm, learning_rate=parse("lin_0.5")).learn(400, last, log_interval=2)
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean"} <= (logged := recorded(model)).keys()
    assert (logged["rollout/ep_rew_mean"], logged["rollout/ep_len_mean"]) == (6, 3)
    assert logged["time/total_timesteps"] == logged["train/n_updates"] == 400
    assert logged["time/iterations"] == 4
    assert logged["time/fps"] > 0
    assert logged["rollout/exploration_rate"] == 0
    assert logged["train/learning_rate"] == pytest.approx(0.5 * (1 - 399 / 400))
    assert 0 <= last.errors < 0.1  # the walk is learned


def recorded(model):
    """What the next entry of the log will hold."""
    held = {}
    model.logger.dump = lambda step=0: held.update(model.logger.name_to_value)
    model.logger.record("time/iterations", 4)
    model.dump_logs()
    return held


def test_the_logged_error_is_the_mean_distance_from_the_targets():
    seen = []

    class Last(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            seen.append(self.logger.name_to_value["train/td_error"])

    line(QLearning, {"pays": 1.0}, {"pays": -2.0}).learn(2, Last())
    assert seen == [(1.0 + 2.5) / 2]  # the first moves the entry to 0.5


@BOTH
def test_training_again_begins_with_new_episodes_and_keeps_the_table(algorithm):
    model = line(algorithm).learn(4)
    before = model.policy.table.copy()
    model.learn(2)
    assert model.num_timesteps == 2
    assert model._last_obs.tolist() == [2]
    np.testing.assert_array_equal(model.policy.table[2], before[2])
    model.set_env(DummyVecEnv([lambda: Monitor(Line(limit=2))]))
    model.learn(3, reset_num_timesteps=False)
    assert model.num_timesteps == 5
    with pytest.raises(ValueError, match="spaces do not match"):
        model.set_env(gym.make("FrozenLake-v1"))


@BOTH
@pytest.mark.parametrize(
    ("env", "words"), [("CartPole-v1", "Discrete observations, not Box"), ("Blackjack-v1", "Discrete observations")]
)
def test_what_is_not_discrete_is_refused_with_advice(algorithm, env, words):
    with pytest.raises(ValueError, match=words) as caught:
        algorithm("TablePolicy", env)
    assert "numbered cells, or take an agent with a network" in str(caught.value)


def test_actions_that_are_not_discrete_are_refused():
    with pytest.raises(ValueError, match="Discrete actions, not Box"):
        TablePolicy(spaces.Discrete(3), spaces.Box(-1, 1, (1,)))


@BOTH
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_stops_the_training_before_it_reaches_the_table(algorithm, bad):
    model = line(algorithm, {"pays": bad})
    with pytest.raises(NonFiniteError, match="the target of state 0 and action 0 is"):
        model.learn(10)
    assert np.isfinite(model.policy.table).all()
