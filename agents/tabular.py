"""Q-learning and SARSA with a table: one number for each state and action, and no network.

For tasks whose states can be counted, such as FrozenLake, CliffWalking and Taxi. The two differ in one line, the target
that an entry moves towards: the best action of the next state, or the action that is really taken there.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from agents import vecenv
from agents.loop import FastPath, Loop
from agents.vecenv import lean_step


def q_learning_target(rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray, gamma: float) -> np.ndarray:
    r"""What Q-learning moves an entry towards, whatever is really done next.

    .. math:: y = r + \gamma \max_a Q(s', a), \quad \text{or } r \text{ where the episode terminated}

    Parameters
    ----------
    rewards : [...] floats
        Of the step from s.
    terminated : [...] booleans
        Whether s' ended the episode for good: then nothing comes after it. A time limit is no such end.
    next_q : [..., A] floats
        The table's row of s', of a truncated episode that of its final observation.
    gamma : float
        Discount.

    Returns
    -------
    [...] floats

    Raises
    ------
    ValueError
        If the shapes do not belong together.

    References
    ----------
    Watkins, "Learning from delayed rewards", PhD thesis, Cambridge (1989).

    Examples
    --------
    >>> next_q = np.array([[4.0, 8.0], [4.0, 8.0]])
    >>> q_learning_target(np.array([1.0, 1.0]), np.array([False, True]), next_q, gamma=0.5)  # 1 + 8 / 2, and 1 alone
    array([5., 1.])
    """
    _check(rewards, terminated, next_q)
    return rewards + gamma * next_q.max(axis=-1) * ~terminated


def sarsa_target(
    rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray, next_actions: np.ndarray, gamma: float
) -> np.ndarray:
    r"""What SARSA moves an entry towards: it counts on the action that the agent will take, exploration included.

    .. math:: y = r + \gamma Q(s', a'), \quad \text{or } r \text{ where the episode terminated}

    Parameters
    ----------
    rewards, terminated, next_q, gamma : as for `q_learning_target`
    next_actions : [...] integers
        a', the action that is chosen in s'.

    Returns
    -------
    [...] floats

    Raises
    ------
    ValueError
        If the shapes do not belong together.

    References
    ----------
    Rummery and Niranjan, "On-line Q-learning using connectionist systems", Cambridge (1994); Sutton and Barto,
    "Reinforcement learning: an introduction" (2018), section 6.4.

    Examples
    --------
    >>> next_q = np.array([[4.0, 8.0], [4.0, 8.0]])
    >>> none_ended = np.array([False, False])
    >>> sarsa_target(np.array([1.0, 1.0]), none_ended, next_q, np.array([0, 1]), gamma=0.5)  # 1 + 4 / 2, 1 + 8 / 2
    array([3., 5.])
    """
    _check(rewards, terminated, next_q, next_actions)
    taken = np.take_along_axis(next_q, next_actions[..., None], axis=-1)[..., 0]
    return rewards + gamma * taken * ~terminated


def _check(rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray, *others: np.ndarray) -> None:
    if any(array.shape != rewards.shape for array in (terminated, *others)) or next_q.shape[:-1] != rewards.shape:
        shapes = ", ".join(str(list(array.shape)) for array in (rewards, terminated, *others))
        raise ValueError(f"expected [...] thrice or more and [..., A], got {shapes} and {list(next_q.shape)}")


class TablePolicy(BasePolicy):
    """The greedy policy of a table ``[S, A]``: the action with the largest value, the first of equal ones.

    Parameters
    ----------
    observation_space, action_space : gymnasium.spaces.Discrete
        Of `S` and `A` numbers; they may begin at another number than 0.
    initial_value : float
        Of all entries.

    Attributes
    ----------
    q_table : [S, A] float64 parameter
    table : [S, A] float64
        The same memory as a numpy array.

    Raises
    ------
    ValueError
        For any other space.

    Examples
    --------
    >>> policy = TablePolicy(spaces.Discrete(2), spaces.Discrete(3))
    >>> policy.table[1] = 0.0, 5.0, 5.0
    >>> policy.predict(np.array([0, 1]))[0]
    array([0, 1])
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, initial_value: float = 0.0):
        for what, space in (("observations", observation_space), ("actions", action_space)):
            if not isinstance(space, spaces.Discrete):
                raise ValueError(
                    f"a table needs Discrete {what}, not {space}: make them so with a wrapper that sorts them into "
                    "numbered cells, or take an agent with a network, such as PPO"
                )
        super().__init__(observation_space, action_space)
        self.initial_value = initial_value
        shape = int(observation_space.n), int(action_space.n)  # type: ignore[attr-defined]
        self.first = int(observation_space.start), int(action_space.start)  # type: ignore[attr-defined]
        self.q_table = nn.Parameter(torch.full(shape, float(initial_value), dtype=torch.float64), requires_grad=False)

    @property
    def table(self) -> np.ndarray:
        return self.q_table.numpy()

    def forward(self, observation: Tensor) -> Tensor:
        """The values ``[N, A]`` of the actions for observations ``[N]``."""
        return self.q_table[observation.long() - self.first[0]]

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return self(observation).argmax(dim=1) + self.first[1]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces_ = {"observation_space": self.observation_space, "action_space": self.action_space}
        return {**spaces_, "initial_value": self.initial_value}


class Tabular(Loop):
    """A table learned step by step; what it learns towards is the subclass's `targets`.

    It is a Stable-Baselines3 algorithm: `learn`, `predict`, `save`, `load`, callbacks and logger keys as there. The
    table stays on the processor.

    Parameters
    ----------
    policy : str or type
        ``"TablePolicy"``, for which ``"MlpPolicy"`` stands, too, so that it can take another agent's place; or a
        subclass of `TablePolicy`.
    env : str, gymnasium.Env, VecEnv or gymnasium.vector.VectorEnv
        An id, or one or many environments, with Discrete observations and actions. What many environments bring in one
        step is learned one after the other, each with the target that it had before the step: eight of them that stand
        in the same place move its entry as eight steps would, and no further.
    learning_rate : float or schedule
        How far an entry moves towards its target, 0 to 1.
    gamma : float
        Discount. Where an episode terminates, nothing is expected; where it is truncated, what the table says.
    exploration_initial_eps, exploration_final_eps, exploration_fraction : float
        The probability of a random action goes in a line from the first to the second during that fraction of the
        training, and then stays.
    initial_value : float
        Of all entries: one above what there is to gain makes the agent try everything.
    stats_window_size, tensorboard_log, policy_kwargs, verbose, seed, device
        As in Stable-Baselines3; of the device nothing follows.
    n_envs : int
        With an id, how many environments.

    Attributes
    ----------
    exploration_rate : float
        The probability of a random action now.

    Raises
    ------
    ValueError
        For observations or actions that are not Discrete.
    NonFiniteError
        By `learn`, when a reward, or what an entry moves towards, becomes NaN or infinite.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TablePolicy": TablePolicy, "MlpPolicy": TablePolicy}
    policy: TablePolicy
    n_steps = 100  # from one entry of the log, and one call of `on_rollout_end`, to the next
    whole_episodes = False

    def __init__(
        self,
        policy: str | type[TablePolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 0.1,
        gamma: float = 0.99,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        exploration_fraction: float = 0.5,
        initial_value: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        n_envs: int | None = None,
    ):
        self.gamma, self.initial_value = gamma, initial_value
        self.exploration_initial_eps, self.exploration_final_eps = exploration_initial_eps, exploration_final_eps
        self.exploration_fraction = exploration_fraction
        super().__init__(
            policy,
            vecenv.by_id(env, n_envs),
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device="cpu",
            support_multi_env=True,
            seed=seed,
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        kwargs = {"initial_value": self.initial_value, **self.policy_kwargs}
        self.policy = self.policy_class(self.observation_space, self.action_space, **kwargs)  # type: ignore[assignment]

    @property
    def fast_path(self) -> FastPath:
        """How this agent is trained: in numpy."""
        return FastPath("by hand")

    @property
    def exploration_rate(self) -> float:
        first, last = self.exploration_initial_eps, self.exploration_final_eps
        done = 1.0 - self._current_progress_remaining
        return last if done >= self.exploration_fraction else first + done / self.exploration_fraction * (last - first)

    # -- act ----------------------------------------------------------------------------------------------------------

    def explore(self, q: np.ndarray) -> np.ndarray:
        """The best actions ``[B]`` by rows of the table ``[B, A]``, or with probability `exploration_rate` any."""
        rate = self.exploration_rate
        actions = q.argmax(axis=1)
        # The generator that Stable-Baselines3 seeds and a checkpoint keeps. A draw below the rate, blown up to 0 ... 1,
        # is uniform again, and says which action.
        draws = np.random.random(len(q))  # noqa: NPY002
        random = draws < rate
        if np.count_nonzero(random):
            actions[random] = draws[random] / rate * q.shape[1]
        return actions

    def act(self, q: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The actions ``[B]`` to take by rows of the table ``[B, A]``; `starts` ``[B]``: where an episode begins."""
        return self.explore(q)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The table's best action for an observation, or each of a batch; not `deterministic`, with exploration.

        Parameters
        ----------
        observation : int or [N] integers
        state, episode_start : ignored
        deterministic : bool
        """
        actions, state = self.policy.predict(observation, state, episode_start, True)
        if not deterministic:
            first_state, first_action = self.policy.first
            q = self.policy.table[np.asarray(observation).reshape(-1) - first_state]
            actions = (self.explore(q) + first_action).reshape(actions.shape)
        return actions, state

    # -- learn --------------------------------------------------------------------------------------------------------

    def targets(self, rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray) -> np.ndarray:
        """What the entries just used move towards, ``[B]``, by the rows of what came next, ``[B, A]``."""
        raise NotImplementedError

    def train(self, states: np.ndarray, actions: np.ndarray, targets: np.ndarray) -> float:
        """Move the entries of `states` and `actions` towards `targets`, all ``[N]``; how far off they were in all."""
        table, rate, off = self.policy.table, self.lr_schedule(self._current_progress_remaining), 0.0
        for s, a, target in zip(states.tolist(), actions.tolist(), targets.tolist(), strict=True):
            if not math.isfinite(target):
                self._stop("the target", f"of state {s} and action {a}", target)
            error = target - table.item(s, a)
            table[s, a] += rate * error
            off += abs(error)
        self._n_updates += len(states)
        return off

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """Train for `total_timesteps` steps of the environments, with an entry of the log all `log_interval` · 100."""
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        callback.on_training_start(locals(), globals())
        assert self.env is not None
        iteration = 0
        while self.num_timesteps < total_timesteps and self._collect(self.env, callback, total_timesteps):
            iteration += 1
            if log_interval is not None and iteration % log_interval == 0:
                self.logger.record("time/iterations", iteration, exclude="tensorboard")
                self.dump_logs()
        callback.on_training_end()
        return self

    def _collect(self, env: VecEnv, callback: BaseCallback, total_timesteps: int) -> bool:
        """Act and learn for `n_steps` steps; False if the callback asked to stop. It reads SB3's local names."""
        next_step = self._next_step_envs(env)
        step: Any = lean_step(env)
        table, (first_state, first_action) = self.policy.table, self.policy.first
        n_steps, off, learned = 0, 0.0, 0
        callback.on_rollout_start()
        while n_steps < self.n_steps and self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            states: Any = self._last_obs - first_state  # type: ignore[operator]
            actions = self.act(table[states], self._last_episode_starts)  # type: ignore[arg-type]
            new_obs, rewards, dones, infos = step(actions + first_action)
            next_states, terminated = new_obs - first_state, dones
            if np.count_nonzero(dones):  # s' is then the episode's own last observation, not the first of the next one
                terminated = dones.copy()
                for i in np.flatnonzero(dones):
                    next_states[i] = infos[i]["terminal_observation"] - first_state
                    terminated[i] = not infos[i].get("TimeLimit.truncated", False)
            used: Any = states, actions, self.targets(rewards, terminated, table[next_states])
            if next_step is not None:
                used = [rows[~next_step.phantom] for rows in used]
            off += self.train(*used)
            learned += len(used[0])
            self.num_timesteps += len(used[0])
            n_steps += 1
            self._update_info_buffer(infos, dones)
            self._last_obs = new_obs
            self._last_episode_starts = dones
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        self.logger.record_mean("train/td_error", off / max(learned, 1))
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def dump_logs(self) -> None:
        """Write what there is to log, by Stable-Baselines3's names."""
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if self.ep_info_buffer:
            for name, key in (("rollout/ep_rew_mean", "r"), ("rollout/ep_len_mean", "l")):
                self.logger.record(name, safe_mean([episode[key] for episode in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)


class QLearning(Tabular):
    """Q-learning with a table: it learns what the best policy earns, while it follows another one.

    Beside a cliff it walks along the edge, for that is shortest, and falls now and then while it explores.

    Parameters
    ----------
    policy, env, ..., n_envs : as for `agents.tabular.Tabular`

    References
    ----------
    Watkins, "Learning from delayed rewards", PhD thesis, Cambridge (1989); Watkins and Dayan, "Q-learning", Machine
    Learning 8 (1992).

    Examples
    --------
    >>> model = QLearning("TablePolicy", "CliffWalking-v1", learning_rate=0.5, seed=0).learn(10_000)
    >>> model.policy.table.shape, round(float(model.policy.table[36].max()), 1)  # 13 steps: -(1 - 0.99 ** 13) / 0.01
    ((48, 4), -12.2)
    """

    def targets(self, rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray) -> np.ndarray:
        return q_learning_target(rewards, terminated, next_q, self.gamma)


class SARSA(Tabular):
    """SARSA with a table: it learns what its own policy earns, exploration included.

    Beside a cliff it keeps away from the edge, for as long as it explores.

    Parameters
    ----------
    policy, env, ..., n_envs : as for `agents.tabular.Tabular`

    References
    ----------
    Rummery and Niranjan, "On-line Q-learning using connectionist systems", Cambridge (1994).

    Examples
    --------
    >>> model = SARSA("TablePolicy", "FrozenLake-v1", n_envs=2, seed=0)
    >>> model.learn(1_000).num_timesteps
    1000
    """

    _next_actions: np.ndarray | int = 0  # [B], chosen for the target: where the episode goes on, they are then taken

    def act(self, q: np.ndarray, starts: np.ndarray) -> np.ndarray:
        if not np.count_nonzero(starts):
            return self._next_actions  # type: ignore[return-value]
        return np.where(starts, self.explore(q), self._next_actions)

    def targets(self, rewards: np.ndarray, terminated: np.ndarray, next_q: np.ndarray) -> np.ndarray:
        self._next_actions = self.explore(next_q)
        return sarsa_target(rewards, terminated, next_q, self._next_actions, self.gamma)
