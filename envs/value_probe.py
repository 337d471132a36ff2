"""Probe envs for value-based agents: on each, one idea of Rainbow (arXiv:1710.02298) does what plain DQN cannot.

============================ ======================= ==============================================================
probe                        idea                    its ``statistic``
============================ ======================= ==============================================================
:class:`ProbeOverestimation` double Q-learning       value of an unprofitable action, above the true one
:class:`ProbeManyActions`    dueling networks        root mean square error of all action values
:class:`ProbeDelay`          n-step returns          share of the true difference that has reached the first step
:class:`ProbeRare`           prioritised replay      root mean square error of all action values
:class:`ProbeChain`          noisy networks          return of the greedy policy
:class:`ProbeTwoValued`      distribution of returns distance between the learned distribution and the true one
============================ ======================= ==============================================================

All are walks between a few places. The observation is a one-hot code of the place, so that a small network can hold
any table of values, and what is measured is the algorithm and not the network. Rewards with a random part draw it when
the episode starts, hidden in the state: the same seed gives the same rewards whatever the actions.

Legend: ``B`` envs, ``P`` places, ``A`` actions, ``K`` atoms of a distribution. A table of action values is ``[P, A]``:
what the agent says about ``all_obs()``.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.draw import AMBER, CORAL, INK, STEEL, TEAL, Canvas, Colour
from envs.dynamics import Dynamics, Options
from envs.vector import DynamicsEnv, DynamicsVectorEnv

Array = np.ndarray


class ValueProbe(Dynamics):
    """What these probes share: row 0 of the state ``[S, B]`` is the place, its one-hot code the observation ``[B, P]``.

    Attributes
    ----------
    n_places, n_actions : int
        ``P`` and ``A``.
    """

    n_places: ClassVar[int]
    n_actions: ClassVar[int] = 2
    marks: ClassVar[dict[int, Colour]] = {}  # places that the picture shows in colour
    render_fps = 4

    def __init__(self) -> None:
        self.observation_space: Any = Box(0, 1, (self.n_places,), np.float32)
        self.action_space: Any = Discrete(self.n_actions)

    @staticmethod
    @abstractmethod
    def q_values(obs: Array, gamma: float) -> Array:
        """Expected discounted return ``[B, A]`` of every action in ``obs`` ``[B, P]``, the best policy following it.

        A time limit is no part of the task: these are the values of an agent that bootstraps truncated episodes.
        """

    @classmethod
    def value(cls, obs: Array, gamma: float) -> Array:
        """Expected discounted return ``[B]`` from ``obs`` ``[B, P]`` under the best policy."""
        return cls.q_values(obs, gamma).max(axis=1)

    @classmethod
    def best_action(cls, obs: Array, gamma: float = 0.99) -> Array:
        """Action of the best policy, ``[B]`` int64; the first of equally good ones."""
        return cls.q_values(obs, gamma).argmax(axis=1)

    @classmethod
    def all_obs(cls) -> Array:
        """Return every observation, in the order of the places: ``[P, P]`` float32."""
        return np.eye(cls.n_places, dtype=np.float32)

    @classmethod
    def error(cls, q_values: Array, gamma: float) -> float:
        """Root mean square error of a table of action values ``[P, A]``."""
        return float(np.sqrt(np.mean((q_values - cls.q_values(cls.all_obs(), gamma)) ** 2)))

    def initial(self, rng: np.random.Generator, num_envs: int, options: Options = None) -> Array:
        return np.zeros((1, num_envs))

    def observe(self, state: Array, previous: Array | None = None) -> Array:
        return (state[0][:, None] == np.arange(self.n_places)).astype(np.float32)  # [B, P]

    @classmethod
    def layout(cls) -> Array:
        """Where the picture has the places, ``[P, 2]``: in a row."""
        return np.stack([np.arange(cls.n_places), np.zeros(cls.n_places)], axis=1)

    def draw(self, state: Array) -> Array:
        spots = self.layout()
        low, high = spots.min(axis=0), spots.max(axis=0)
        scale = min(40.0, 640 / (high[0] - low[0] + 2))
        width, height = (int(scale * (side + 2)) for side in high - low)
        canvas = Canvas(height, width, scale, centre=(low + high) / 2)
        for place, spot in enumerate(spots):
            canvas.disc(spot, 0.2, self.marks.get(place, STEEL))
        canvas.disc(spots[int(state[0])], 0.4, INK)
        canvas.disc(spots[int(state[0])], 0.2, self.marks.get(int(state[0]), STEEL))
        return canvas.picture()


class ProbeOverestimation(ValueProbe):
    """Eight actions, two places: is the largest of several noisy estimates taken for their largest mean?

    In place 0 the actions 0 to 3 end the episode with reward 0; 4 to 7 lead to place 1 with reward 0. There, every
    action ends it with a reward from ``N(-0.1, 1)``. So ``Q(0, a) = 0`` for the first four, ``-0.1 gamma`` for the
    others, ``Q(1, a) = -0.1``: it is best to end at once. Q-learning finds the detour attractive, since it takes the
    largest of eight estimates for the value of place 1; double Q-learning (arXiv:1509.06461), which chooses with one
    estimate and values with another, does not, as far as the errors of the two are independent. (The largest estimate
    in place 1 itself is too large for both: it is what the two make of it in place 0 that differs.) Compare with random
    behaviour: a greedy agent soon takes no detour any more, and has few errors left to choose from.

    Examples
    --------
    >>> ProbeOverestimation.q_values(ProbeOverestimation.all_obs(), gamma=0.9)[:, [0, 3, 4, 7]]
    array([[ 0.  ,  0.  , -0.09, -0.09],
           [-0.1 , -0.1 , -0.1 , -0.1 ]])
    """

    n_places, n_actions = 2, 8
    mean: ClassVar[float] = -0.1
    marks: ClassVar = {1: CORAL}

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        detour = np.arange(8) >= 4
        return np.where(_places(obs)[:, None] == 0, detour * gamma, 1.0) * ProbeOverestimation.mean + 0.0  # no -0.0

    @staticmethod
    def statistic(q_values: Array, gamma: float) -> float:
        """By how much the table ``[2, 8]`` overestimates the detour: mean of ``Q(0, a) + 0.1 gamma`` over its actions.

        Examples
        --------
        >>> ProbeOverestimation.statistic(np.zeros((2, 8)), gamma=0.5)
        0.05
        """
        return float(np.mean(q_values[0, 4:]) - gamma * ProbeOverestimation.mean)

    def initial(self, rng: np.random.Generator, num_envs: int, options: Options = None) -> Array:
        # one number per env serves all actions: only one of them is ever taken
        return np.stack([np.zeros(num_envs), _hidden(rng).normal(self.mean, 1.0, num_envs)])

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place, reward = state
        rewards = np.where(place == 1, reward, 0.0)
        terminated = (place == 1) | (actions < 4)
        place[:] = np.where(terminated, place, 1)
        return rewards, terminated


class ProbeManyActions(ValueProbe):
    """Twenty actions in a corridor of ten places, nineteen of which do the same: is what they share learned once?

    Action 0 leaves the corridor: the episode ends with reward 0. The others do nothing at all, for it moves by itself:
    from place 0 to place 9, and from there to the end, with reward 1. ``Q(s, 0) = 0`` and, for all the others,
    ``Q(s, a) = V(s) = gamma^(9 - s)``. A network that learns a value and advantages (dueling, arXiv:1511.06581, whose
    corridor with redundant actions this follows) moves all the nineteen at every step, one without learns each by
    itself.

    Examples
    --------
    >>> ProbeManyActions.q_values(ProbeManyActions.all_obs(), gamma=0.5)[-2:, :4]
    array([[0. , 0.5, 0.5, 0.5],
           [0. , 1. , 1. , 1. ]])
    """

    n_places, n_actions = 10, 20
    marks: ClassVar = {9: TEAL}

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        return (np.arange(20) > 0) * gamma ** (9.0 - _places(obs)[:, None])

    @staticmethod
    def statistic(q_values: Array, gamma: float) -> float:
        """Root mean square error of the table ``[10, 20]``: 0.9 at first, for ``gamma`` near 1.

        Examples
        --------
        >>> round(ProbeManyActions.statistic(np.zeros((10, 20)), gamma=0.99), 2)
        0.93
        """
        return ProbeManyActions.error(q_values, gamma)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place = state[0]
        stay, last = actions > 0, place == 9
        place += stay & ~last
        return (stay & last).astype(np.float64), ~stay | last


class ProbeDelay(ValueProbe):
    """Two actions, 16 steps; the first decides the reward of the last: how fast does it come back?

    Action 0 at the start leads into one corridor, action 1 into another; whatever is done there, it ends after 16 steps
    in all, with reward -1 and 1. Step ``t`` of them (0 the first) is worth ``-gamma^(15 - t)`` or ``gamma^(15 - t)``.
    One-step targets carry the reward back by one step with each update of the target network, n-step targets (Sutton,
    *Learning to predict by the methods of temporal differences*, 1988) by ``n``.

    Examples
    --------
    >>> ProbeDelay.q_values(ProbeDelay.all_obs(), gamma=0.5)[[0, 14, 15, 29, 30]]
    array([[-3.05175781e-05,  3.05175781e-05],
           [-5.00000000e-01, -5.00000000e-01],
           [-1.00000000e+00, -1.00000000e+00],
           [ 5.00000000e-01,  5.00000000e-01],
           [ 1.00000000e+00,  1.00000000e+00]])
    """

    # the start, then two corridors of 15
    n_places = 31
    marks: ClassVar = {15: CORAL, 30: TEAL}

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        place = _places(obs)[:, None]
        sign = np.where(place == 0, [-1, 1], np.where(place > 15, 1, -1))
        steps = np.where(place == 0, 0, 1 + (place - 1) % 15)  # taken so far
        return sign * gamma ** (15.0 - steps)

    @staticmethod
    def statistic(q_values: Array, gamma: float) -> float:
        """Share of the true difference in the table ``[31, 2]``: ``(Q(start, 1) - Q(start, 0)) / (2 gamma^15)``.

        0 before anything has come back, 1 at the end.

        Examples
        --------
        >>> ProbeDelay.statistic(np.zeros((31, 2)), gamma=0.99)
        0.0
        """
        return float((q_values[0, 1] - q_values[0, 0]) / (2 * gamma**15))

    @classmethod
    def layout(cls) -> Array:
        step = np.concatenate([[0], np.tile(np.arange(1, 16), 2)])
        return np.stack([step, np.repeat([0, -0.5, 0.5], [1, 15, 15])], axis=1)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place = state[0]
        good, bad = place == 30, place == 15
        terminated = good | bad
        place[:] = np.where(place == 0, 1 + 15 * actions, place + ~terminated)
        return good * 1.0 - bad, terminated


class ProbeRare(ValueProbe):
    """Two actions, eight places; one way through, all else ends with nothing: is the rare reward replayed?

    The right action is 0 in even places and 1 in odd ones. It leads on, from the last place to reward 1; the wrong one
    ends the episode with 0. So ``Q(s, right) = gamma^(7 - s)`` and ``Q(s, wrong) = 0``. Random play gets the reward in
    one of ``2^8 = 256`` episodes, which last two steps each: nearly all transitions in memory say what is known
    already. Prioritised replay (arXiv:1511.05952, section 3.1) draws the others more often. Compare with random
    behaviour throughout, so that no exploration but the replay differs.

    Examples
    --------
    >>> ProbeRare.q_values(ProbeRare.all_obs(), gamma=0.5)[-3:]
    array([[0.  , 0.25],
           [0.5 , 0.  ],
           [0.  , 1.  ]])
    """

    n_places = 8
    marks: ClassVar = {7: TEAL}

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        place = _places(obs)[:, None]
        return (place % 2 == np.arange(2)) * gamma ** (7.0 - place)

    @staticmethod
    def statistic(q_values: Array, gamma: float) -> float:
        """Root mean square error of the table ``[8, 2]``: about 0.7 at first, for ``gamma`` near 1.

        Examples
        --------
        >>> round(ProbeRare.statistic(np.zeros((8, 2)), gamma=0.99), 3)
        0.683
        """
        return ProbeRare.error(q_values, gamma)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place = state[0]
        right = actions == place % 2
        end = place == 7
        place += right & ~end
        return (right & end).astype(np.float64), ~right | end


class ProbeChain(ValueProbe):
    """Two actions, a chain of 20 places: does the agent get to the far end, past a small reward at the near one?

    Action 0 goes left, action 1 right, from place 0. Going left in place 0 gives 0.001 and stays there; going right in
    place 19 gives 1 and ends the episode, which is otherwise truncated after 25 steps: best return 1, that of always
    going left 0.025. Random play reaches the end in one of 33,000 episodes. With
    ``V(s) = max(gamma^(19 - s), gamma^s 0.001 / (1 - gamma))``, of which the first is larger for ``gamma`` from 0.81
    to 0.998, ``Q(s, 0) = gamma V(s - 1)`` and ``Q(s, 1) = gamma V(s + 1)``, but for the two rewards.

    A walk that changes its mind at every step, as that of epsilon-greedy does, gets nowhere; a network with noise in
    its weights (arXiv:1706.10295) can keep to a direction, best if the noise stays the same for an episode. The chain
    is that of arXiv:1602.04621, ended at its goal. That paper's code of the places, in which neighbours look alike, is
    left out on purpose: with it a network is easily of one mind everywhere, and plain DQN gets through by accident.

    Examples
    --------
    >>> ProbeChain.q_values(ProbeChain.all_obs(), gamma=0.9)[-2:]
    array([[0.729, 0.9  ],
           [0.81 , 1.   ]])
    """

    n_places = 20
    small: ClassVar[float] = 0.001
    marks: ClassVar = {0: AMBER, 19: TEAL}
    max_episode_steps = 25
    reward_threshold = 1.0

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        place = np.arange(20)
        value = np.maximum(gamma ** (19.0 - place), gamma**place * ProbeChain.small / (1 - gamma))
        left = np.append(ProbeChain.small + gamma * value[0], gamma * value[:-1])
        right = np.append(gamma * value[1:], 1.0)
        return np.stack([left, right], axis=1)[_places(obs)]

    @staticmethod
    def statistic(q_values: Array, gamma: float) -> float:
        """Return, not discounted, of the policy that is greedy in the table ``[20, 2]``; ``gamma`` plays no part.

        Examples
        --------
        >>> ProbeChain.statistic(np.tile([0.0, 1.0], (20, 1)), gamma=0.99)
        1.0
        >>> round(ProbeChain.statistic(np.tile([1.0, 0.0], (20, 1)), gamma=0.99), 3)
        0.025
        """
        chain, state, total = ProbeChain(), np.zeros((1, 1)), 0.0
        for _ in range(ProbeChain.max_episode_steps):
            (reward,), (ended,) = chain.step(state, q_values[state[0].astype(np.int64)].argmax(axis=1))
            total += reward
            if ended:
                break
        return float(total)

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place = state[0]
        terminated = (place == 19) & (actions == 1)
        rewards = terminated + self.small * ((place == 0) & (actions == 0))
        place += 2.0 * actions - 1
        np.clip(place, 0, 19, out=place)
        return rewards, terminated


class ProbeTwoValued(ValueProbe):
    """Two actions, two steps, returns whose mean is none of them: is their distribution learned?

    The first action leads to place 1 (action 0, safe) or 2 (action 1, risky). Whatever is done there ends the episode:
    in place 1 with reward 0.1, in place 2 with 1 or -1, with probabilities 0.6 and 0.4. The risky way is the better
    one, ``V(start) = 0.2 gamma``, but never gives that. An agent that learns distributions (arXiv:1707.06887) holds two
    atoms where plain DQN holds one.

    Examples
    --------
    >>> start = ProbeTwoValued.all_obs()[[0, 0]]
    >>> ProbeTwoValued.q_values(start[:1], gamma=0.5)
    array([[0.05, 0.1 ]])
    >>> values, probabilities = ProbeTwoValued.return_distribution(start, np.array([0, 1]), gamma=0.5)
    >>> values
    array([[ 0.05,  0.05],
           [-0.5 ,  0.5 ]])
    >>> probabilities
    array([[0.4, 0.6],
           [0.4, 0.6]])
    """

    n_places = 3
    safe: ClassVar[float] = 0.1
    chance: ClassVar[float] = 0.6  # of the good outcome
    marks: ClassVar = {1: AMBER, 2: TEAL}

    @staticmethod
    def return_distribution(obs: Array, action: Array, gamma: float) -> tuple[Array, Array]:
        """Distribution of the discounted return after ``action`` ``[B]`` in ``obs`` ``[B, 3]``.

        Returns
        -------
        values, probabilities : numpy.ndarray
            ``[B, 2]`` each, the lower value first. A certain return is two equal values.
        """
        place, action = _places(obs)[:, None], np.asarray(action)[:, None]
        risky = np.where(place == 0, action == 1, place == 2)
        values = np.where(risky, [-1.0, 1.0], ProbeTwoValued.safe) * np.where(place == 0, gamma, 1.0)
        chance = ProbeTwoValued.chance
        return values, np.broadcast_to([1 - chance, chance], values.shape)

    @staticmethod
    def q_values(obs: Array, gamma: float) -> Array:
        columns = [np.full(len(obs), action) for action in range(2)]
        outcomes = [ProbeTwoValued.return_distribution(obs, action, gamma) for action in columns]
        return np.stack([(values * probabilities).sum(axis=1) for values, probabilities in outcomes], axis=1)

    @staticmethod
    def statistic(values: Array, probabilities: Array, gamma: float) -> float:
        """Wasserstein-1 distance of learned distributions to the true ones, averaged over the places and actions.

        Parameters
        ----------
        values, probabilities : numpy.ndarray
            Broadcast to ``[3, 2, K]``: ``values`` may be the ``[K]`` atoms that all share, and action values alone are
            ``q[..., None]`` with probability ``np.ones(1)``.
        gamma : float

        Examples
        --------
        What the best agent that only knows means is left with:

        >>> q = ProbeTwoValued.q_values(ProbeTwoValued.all_obs(), gamma=1.0)
        >>> round(ProbeTwoValued.statistic(q[..., None], np.ones(1), gamma=1.0), 3)
        0.48
        """
        atoms = np.broadcast_shapes(np.shape(values), np.shape(probabilities))[-1]
        values, probabilities = (np.broadcast_to(a, (3, 2, atoms)).reshape(6, atoms) for a in (values, probabilities))
        obs, actions = np.repeat(ProbeTwoValued.all_obs(), 2, axis=0), np.tile([0, 1], 3)
        truth = ProbeTwoValued.return_distribution(obs, actions, gamma)
        return float(wasserstein(values, probabilities, *truth).mean())

    @classmethod
    def layout(cls) -> Array:
        return np.array([[0.0, 0.0], [1.0, -0.5], [1.0, 0.5]])

    def initial(self, rng: np.random.Generator, num_envs: int, options: Options = None) -> Array:
        good = _hidden(rng).random(num_envs) < self.chance
        return np.stack([np.zeros(num_envs), np.where(good, 1.0, -1.0)])

    def step(self, state: Array, actions: Array) -> tuple[Array, Array]:
        place, outcome = state
        terminated = place > 0
        rewards = np.where(place == 2, outcome, self.safe) * terminated
        place[:] = np.where(terminated, place, 1 + actions)
        return rewards, terminated


def wasserstein(values: Array, probabilities: Array, other_values: Array, other_probabilities: Array) -> Array:
    """Wasserstein-1 distance ``[B]`` of distributions on ``[B, K]`` and ``[B, L]`` points: the area between their CDFs.

    Examples
    --------
    >>> wasserstein(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), np.array([[0.25]]), np.array([[1.0]]))
    array([0.5])
    """
    points = np.concatenate([values, other_values], axis=1)
    order = points.argsort(axis=1)
    masses = np.concatenate([probabilities, -other_probabilities], axis=1)
    between = np.take_along_axis(masses, order, axis=1).cumsum(axis=1)  # of the CDFs, from each point to the next
    gaps = np.diff(np.take_along_axis(points, order, axis=1), axis=1)
    return (np.abs(between[:, :-1]) * gaps).sum(axis=1)


def _hidden(rng: np.random.Generator) -> np.random.Generator:
    """Return a generator for random rewards, decided by ``rng`` but independent of what is drawn from it.

    ``action_space.seed(0)`` beside ``reset(seed=0)`` makes two equal generators. Rewards drawn from one of them and
    random actions from the other would go together, and the task would be another one.
    """
    return np.random.default_rng(rng.integers(2**63))


def _places(obs: Array) -> Array:
    return np.asarray(obs).argmax(axis=1)  # [B]


class ProbeOverestimationEnv(DynamicsEnv):
    """One :class:`ProbeOverestimation`."""

    dynamics_type = ProbeOverestimation


class ProbeOverestimationVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeOverestimation`."""

    dynamics_type = ProbeOverestimation


class ProbeManyActionsEnv(DynamicsEnv):
    """One :class:`ProbeManyActions`."""

    dynamics_type = ProbeManyActions


class ProbeManyActionsVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeManyActions`."""

    dynamics_type = ProbeManyActions


class ProbeDelayEnv(DynamicsEnv):
    """One :class:`ProbeDelay`."""

    dynamics_type = ProbeDelay


class ProbeDelayVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeDelay`."""

    dynamics_type = ProbeDelay


class ProbeRareEnv(DynamicsEnv):
    """One :class:`ProbeRare`."""

    dynamics_type = ProbeRare


class ProbeRareVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeRare`."""

    dynamics_type = ProbeRare


class ProbeChainEnv(DynamicsEnv):
    """One :class:`ProbeChain`."""

    dynamics_type = ProbeChain


class ProbeChainVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeChain`."""

    dynamics_type = ProbeChain


class ProbeTwoValuedEnv(DynamicsEnv):
    """One :class:`ProbeTwoValued`."""

    dynamics_type = ProbeTwoValued


class ProbeTwoValuedVectorEnv(DynamicsVectorEnv):
    """``B`` of :class:`ProbeTwoValued`."""

    dynamics_type = ProbeTwoValued
