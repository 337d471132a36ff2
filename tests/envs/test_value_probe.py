"""The value probes: numbers by hand, value iteration over their own steps, and how seldom what is rare is."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs.value_probe import wasserstein

NAMES = ("Overestimation", "ManyActions", "Delay", "Rare", "Chain", "TwoValued")
LENGTHS = {"Overestimation": 2, "ManyActions": 10, "Delay": 16, "Rare": 8, "Chain": 20, "TwoValued": 2}
MEANS = {"Overestimation": -0.1, "TwoValued": 0.2}  # of the random reward, the last row of the state

every_probe = pytest.mark.parametrize("name", NAMES)


def probe(name):
    return getattr(envs, f"Probe{name}")()


def model(name):
    """Mean rewards, terminations and next places ``[P, A]``, by taking every action in every place once."""
    dynamics = probe(name)
    places, actions = np.indices((dynamics.n_places, dynamics.n_actions)).reshape(2, -1)
    state = np.stack([places.astype(float)] + [np.full(places.shape, MEANS[n]) for n in MEANS if n == name])
    rewards, terminated = dynamics.step(state, actions)
    return (x.reshape(dynamics.n_places, -1) for x in (rewards, terminated, state[0].astype(int)))


def vec_of(name, num_envs, seed=0, **kwargs):
    vec = gymnasium.make_vec(f"sandbox/Probe{name}-v0", num_envs=num_envs, **kwargs)
    obs, _ = vec.reset(seed=seed)
    return vec, obs


def first_episodes(name, num_envs, policy, gamma=1.0, seed=0):
    """Discounted return and length of one episode per env, to its end or its limit."""
    vec, obs = vec_of(name, num_envs, seed)
    returns, lengths, alive = np.zeros(num_envs), np.zeros(num_envs, int), np.ones(num_envs, bool)
    for t in range(30):
        obs, rewards, terminated, truncated, _ = vec.step(policy(vec, obs))
        returns += gamma**t * rewards * alive
        lengths += alive
        alive &= ~(terminated | truncated)
    assert not alive.any()
    return returns, lengths


def at_random(seed=0):
    rng = np.random.default_rng(seed)
    return lambda vec, obs: rng.integers(vec.single_action_space.n, size=vec.num_envs)


@every_probe
@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
def test_q_values_are_the_fixed_point_of_value_iteration(name, gamma):
    rewards, terminated, after = model(name)
    q = np.zeros(rewards.shape)
    for _ in range(4000):
        q = rewards + gamma * ~terminated * q.max(axis=1)[after]
    dynamics, obs = probe(name), probe(name).all_obs()
    np.testing.assert_allclose(dynamics.q_values(obs, gamma), q, atol=1e-12)
    np.testing.assert_allclose(dynamics.value(obs, gamma), q.max(axis=1), atol=1e-12)
    chosen = np.take_along_axis(q, dynamics.best_action(obs, gamma)[:, None], axis=1)
    np.testing.assert_allclose(chosen[:, 0], q.max(axis=1), atol=1e-12)
    assert dynamics.error(q, gamma) == pytest.approx(0, abs=1e-12)
    assert dynamics.error(q + 0.25, gamma) == pytest.approx(0.25)


@every_probe
def test_value_is_the_average_return_of_the_best_policy(name):
    gamma, num_envs = 0.9, 4000
    returns, lengths = first_episodes(name, num_envs, lambda vec, obs: vec.dynamics.best_action(obs, gamma), gamma)
    start = probe(name).all_obs()[:1]
    assert returns.mean() == pytest.approx(probe(name).value(start, gamma)[0], abs=4 * returns.std() / 63 + 1e-9)
    assert lengths.max() == (1 if name == "Overestimation" else LENGTHS[name])


def test_values_by_hand():
    def q(name, place, gamma):
        return probe(name).q_values(probe(name).all_obs()[[place]], gamma)[0].tolist()

    assert q("Overestimation", 0, 0.5) == [0, 0, 0, 0, -0.05, -0.05, -0.05, -0.05]
    assert q("Overestimation", 1, 0.5) == [-0.1] * 8
    assert q("ManyActions", 9, 0.5) == [0.0] + [1.0] * 19
    assert q("ManyActions", 7, 0.5) == [0.0] + [0.25] * 19
    assert q("Delay", 0, 0.5) == [-(2.0**-15), 2.0**-15]
    assert q("Delay", 14, 0.5) == [-0.5, -0.5]
    assert q("Delay", 30, 0.5) == [1, 1]
    assert q("Rare", 0, 0.5) == [2.0**-7, 0]
    assert q("Rare", 7, 0.5) == [0, 1]
    assert q("Chain", 19, 0.9) == pytest.approx([0.81, 1])
    assert q("Chain", 0, 0.9) == pytest.approx([0.001 + 0.9**20, 0.9**19])
    assert q("Chain", 0, 0.5) == pytest.approx([0.002, 0.0005])  # who thinks of tomorrow alone stays
    assert q("TwoValued", 0, 0.5) == pytest.approx([0.05, 0.1])
    assert q("TwoValued", 1, 0.5) == pytest.approx([0.1, 0.1])
    assert q("TwoValued", 2, 0.5) == pytest.approx([0.2, 0.2])


def test_statistics_by_hand():
    q = np.zeros((2, 8))
    q[0, 4:] = [0.1, 0.2, 0.3, 0.4]
    assert envs.ProbeOverestimation.statistic(q, 0.9) == pytest.approx(0.25 + 0.09)
    q = envs.ProbeManyActions.q_values(np.eye(10), 0.9)
    q[3, 7] += 2
    assert envs.ProbeManyActions.statistic(q, 0.9) == pytest.approx(np.sqrt(4 / 200))
    q = envs.ProbeDelay.q_values(np.eye(31), 0.9)
    assert envs.ProbeDelay.statistic(q, 0.9) == pytest.approx(1)
    assert envs.ProbeDelay.statistic(q / 4, 0.9) == pytest.approx(0.25)
    q = envs.ProbeRare.q_values(np.eye(8), 0.9)
    q[:, 0] += 0.5
    assert envs.ProbeRare.statistic(q, 0.9) == pytest.approx(0.5 * np.sqrt(0.5))
    q = envs.ProbeChain.q_values(np.eye(20), 0.9)
    assert envs.ProbeChain.statistic(q, 0.9) == 1
    q[10] = [1, 0]  # turns back half-way, and again
    assert envs.ProbeChain.statistic(q, 0.9) == 0
    q[0] = [1, 0]
    assert envs.ProbeChain.statistic(q, 0.9) == pytest.approx(0.025)


def test_distance_of_return_distributions():
    gamma, distance = 0.5, envs.ProbeTwoValued.statistic
    obs, actions = np.repeat(np.eye(3), 2, axis=0), np.tile([0, 1], 3)
    values, probabilities = envs.ProbeTwoValued.return_distribution(obs, actions, gamma)
    np.testing.assert_array_equal(values[:2], [[0.05, 0.05], [-0.5, 0.5]])
    np.testing.assert_array_equal(values[2:], [[0.1, 0.1]] * 2 + [[-1, 1]] * 2)
    np.testing.assert_allclose(probabilities, [[0.4, 0.6]] * 6)
    values, probabilities = values.reshape(3, 2, 2), probabilities.reshape(3, 2, 2)
    assert distance(values, probabilities, gamma) == pytest.approx(0, abs=1e-12)
    assert distance(values + 0.3, probabilities, gamma) == pytest.approx(0.3)
    # all mass at 0, on atoms that all share: 0.05, 0.5, twice 0.1 and twice 1 away
    assert distance(np.array([-1.0, 0, 1]), np.array([0.0, 1, 0]), gamma) == pytest.approx(2.75 / 6)
    means = envs.ProbeTwoValued.q_values(np.eye(3), gamma)
    assert distance(means[..., None], np.ones(1), gamma) == pytest.approx((0.48 + 2 * 0.96) / 6)


def test_wasserstein_against_sorted_samples():
    """Of two samples of equal size it is the mean distance of their sorted values."""
    x, y = np.random.default_rng(0).normal(size=(2, 5, 40))
    mass = np.full((5, 40), 1 / 40)
    expected = np.abs(np.sort(x) - np.sort(y)).mean(axis=1)
    np.testing.assert_allclose(wasserstein(x, mass, y, mass), expected)
    np.testing.assert_allclose(wasserstein(x, mass, x[:, ::-1], mass), 0, atol=1e-15)


@every_probe
def test_gymnasium_accepts_it(name):
    check_env(gymnasium.make(f"sandbox/Probe{name}-v0", render_mode="rgb_array").unwrapped)


@every_probe
def test_both_faces_are_equal_and_the_seed_decides_the_rewards(name):
    def scalar():
        return gymnasium.make(f"sandbox/Probe{name}-v0")

    vec, obs = vec_of(name, 3, seed=[4, 5, 6])
    again, _ = vec_of(name, 3, seed=[4, 5, 6])
    other, _ = vec_of(name, 3, seed=[7, 8, 9])
    sync = SyncVectorEnv([scalar] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    np.testing.assert_array_equal(obs, sync.reset(seed=[4, 5, 6])[0])
    act, differ = at_random(), False
    for _ in range(60):
        actions = act(vec, obs)
        ours, *others = (e.step(actions) for e in (vec, sync, again, other))
        for theirs in others[:2]:
            for mine, expected in zip(ours[:4], theirs[:4], strict=True):
                np.testing.assert_array_equal(mine, expected)
        differ |= (ours[1] != others[2][1]).any()
    assert differ == (name in MEANS)


@every_probe
def test_observations_are_the_places(name):
    vec, obs = vec_of(name, 30)
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, np.eye(vec.dynamics.n_places)[[0] * 30])
    np.testing.assert_array_equal(vec.dynamics.all_obs(), np.eye(vec.dynamics.n_places))
    seen, act = np.zeros(vec.dynamics.n_places), at_random()
    for _ in range(500):
        obs = vec.step(act(vec, obs))[0]
        assert (obs.sum(axis=1) == 1).all()
        seen += obs.sum(axis=0)
    assert seen[: 6 if name == "Chain" else None].all()


@pytest.mark.parametrize("name", MEANS)
def test_random_rewards(name):
    vec, obs = vec_of(name, 400)
    rewards, act = [], at_random()
    for _ in range(150):
        random = obs[:, -1] == 1
        obs, reward, *_ = vec.step(act(vec, obs))
        rewards.append(reward[random])
    rewards = np.concatenate(rewards)
    assert rewards.mean() == pytest.approx(MEANS[name], abs=0.03)
    assert rewards.std() == pytest.approx(1.0 if name == "Overestimation" else np.sqrt(0.96), abs=0.03)
    if name == "TwoValued":
        assert set(rewards) == {-1.0, 1.0}


@pytest.mark.parametrize("name", MEANS)
def test_equal_seeds_of_env_and_actions_do_not_make_luck(name):
    """The same seed for both is what most scripts do; actions and rewards are independent all the same."""
    env = gymnasium.make(f"sandbox/Probe{name}-v0")
    random_place = 1 if name == "Overestimation" else 2
    env.reset(seed=0)
    env.action_space.seed(0)
    sums = np.zeros((2, env.action_space.n))
    obs, _ = env.reset(seed=0)
    for _ in range(4000):
        action, place = env.action_space.sample(), obs.argmax()
        obs, reward, terminated, *_ = env.step(action)
        if place == random_place:
            sums[:, action] += reward, 1
        if terminated:
            obs, _ = env.reset()
    means = sums[0] / sums[1]
    np.testing.assert_allclose(means, MEANS[name], atol=4 / np.sqrt(sums[1].min()))


def test_how_seldom_the_rare_reward_is():
    returns, lengths = first_episodes("Rare", 40_000, at_random())
    assert set(returns) == {0.0, 1.0}
    assert returns.sum() == pytest.approx(40_000 / 256, abs=4 * np.sqrt(40_000 / 256))
    assert lengths.mean() == pytest.approx(2, abs=0.02)


def test_how_seldom_random_play_walks_the_chain():
    """Exactly, by powers of the transition matrix."""
    _, terminated, after = model("Chain")
    step = np.zeros((21, 21))  # the last row is the end
    step[20, 20] = 1
    for place in range(20):
        for action in range(2):
            step[place, 20 if terminated[place, action] else after[place, action]] += 0.5
    reached = np.linalg.matrix_power(step, 25)[0, 20]
    assert reached < 1e-4
    assert 1 / reached == pytest.approx(33_000, rel=0.02)
    returns, lengths = first_episodes("Chain", 2000, at_random())
    assert returns.max() < 0.025
    assert (lengths == 25).all()


def test_best_and_second_best_of_the_chain():
    for action, expected, steps in ((1, 1.0, 20), (0, 0.025, 25)):
        returns, lengths = first_episodes("Chain", 2, lambda vec, obs, a=action: np.full(2, a))
        np.testing.assert_allclose(returns, expected)
        np.testing.assert_array_equal(lengths, steps)
    assert gymnasium.spec("sandbox/ProbeChain-v0").reward_threshold == 1.0


def test_the_first_action_alone_decides_the_delayed_reward():
    rng = np.random.default_rng(0)

    def policy(vec, obs):
        return np.where(obs[:, 0] == 1, np.arange(200) % 2, rng.integers(2, size=200))

    returns, lengths = first_episodes("Delay", 200, policy)
    np.testing.assert_array_equal(returns, np.tile([-1, 1], 100))
    assert (lengths == 16).all()


@every_probe
def test_narrow_action_types(name):
    """An unsigned action of 0 must not become 255 on its way."""
    wide, obs = vec_of(name, 8)
    narrow, _ = vec_of(name, 8)
    act = at_random()
    for _ in range(40):
        actions = act(wide, obs)
        for mine, other in zip(wide.step(actions)[:4], narrow.step(actions.astype(np.uint8))[:4], strict=True):
            np.testing.assert_array_equal(mine, other)


@every_probe
def test_every_place_has_a_picture_of_its_own(name):
    dynamics = probe(name)
    rows = 2 if name in MEANS else 1
    pictures = [dynamics.draw(np.array([place, 0.0][:rows])).tobytes() for place in range(dynamics.n_places)]
    assert len(set(pictures)) == dynamics.n_places
