"""Steps equal to Gymnasium's own.

Equal to the bit where both do the same arithmetic: CartPole, Pendulum, and MountainCarContinuous, whose float32 hides
the last bit of a float64. MountainCar (Gymnasium takes
``math.cos``) and Acrobot (``pow(x, 2)``, and float32 cosines at a reset) may differ by the last bit of a float64, so
their observations are held to one float32 ulp (of 4, since components pass through zero). Pendulum's rewards may differ
by the last bit of a float32, in which Gymnasium takes ``pow(u, 2)`` of a float32 torque: by less than 1e-9.
"""

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 (registers the ids)

NAMES = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
TO_THE_BIT = {"CartPole-v1", "MountainCarContinuous-v0", "Pendulum-v1"}


def assert_same(name, ours, theirs):
    if name in TO_THE_BIT:
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_array_max_ulp(ours + np.float32(4), theirs + np.float32(4), maxulp=1)


def assert_same_reward(name, ours, theirs):
    if name == "Pendulum-v1":
        assert abs(ours - theirs) < 1e-9
    else:
        assert ours == theirs


def their_state(name, env):
    return np.array(env.unwrapped.state, np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_scalar_face(name):
    """From the same seed, several episodes, never put right in between, through TimeLimit."""
    ours, theirs = gymnasium.make(f"sandbox/{name}"), gymnasium.make(name)
    theirs.action_space.seed(0)
    seed, lengths, steps = 0, [], 0
    while steps < 2500 or len(lengths) < 5:
        obs, _ = ours.reset(seed=seed)
        expected, _ = theirs.reset(seed=seed)
        assert_same(name, obs, expected)
        assert obs.dtype == expected.dtype
        np.testing.assert_array_equal(ours.unwrapped.state, their_state(name, theirs))
        ended, length = False, 0
        while not ended:
            action = theirs.action_space.sample()
            obs, reward, terminated, truncated, _ = ours.step(action)
            expected, *outcome, _ = theirs.step(action)
            assert_same(name, obs, expected)
            assert [terminated, truncated] == outcome[1:]
            assert_same_reward(name, reward, outcome[0])
            ended, length = terminated or truncated, length + 1
        lengths.append(length)
        steps, seed = steps + length, seed + 1
    assert len(lengths) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_vector_face(name):
    """Each of our envs beside one of Gymnasium's, which gets our state whenever we start an episode."""
    num_envs = 4
    ours = gymnasium.make_vec(f"sandbox/{name}", num_envs=num_envs, max_episode_steps=90)
    theirs = [gymnasium.make(name, max_episode_steps=90) for _ in range(num_envs)]
    ours.action_space.seed(1)
    ours.reset(seed=1)
    for i, env in enumerate(theirs):
        env.reset(seed=i)
        env.unwrapped.state = ours.state[:, i]
    ends = 0
    for _ in range(1000):
        actions = ours.action_space.sample()
        obs, rewards, terminated, truncated, infos = ours.step(actions)
        for i, env in enumerate(theirs):
            expected, *outcome, _ = env.step(actions[i])
            ended = outcome[1] or outcome[2]
            assert_same(name, infos["final_obs"][i] if ended else obs[i], expected)
            assert_same_reward(name, rewards[i], outcome[0])
            assert [terminated[i], truncated[i]] == outcome[1:]
            if ended:
                ends += 1
                env.reset()
                env.unwrapped.state = ours.state[:, i]
    assert ends >= 4 * 1000 // 90


@pytest.mark.parametrize("name", NAMES)
def test_from_states_all_over_the_space(name):
    """One step from random states, also where no random episode comes: fast, far, at the walls."""
    ours, theirs = gymnasium.make_vec(f"sandbox/{name}", num_envs=1000), gymnasium.make(name).unwrapped
    rng = np.random.default_rng(2)
    reach = {"CartPole-v1": [2.5, 3, 0.25, 3], "Acrobot-v1": [3.1, 3.1, 12, 28], "Pendulum-v1": [9, 8]}
    reach = np.array(reach.get(name, [0.9, 0.07]))[:, None]
    ours.action_space.seed(2)
    actions = ours.action_space.sample()
    ours.reset(seed=0)
    states = rng.uniform(-reach, reach, (len(reach), 1000))
    if name.startswith("MountainCar"):
        states[0] -= 0.3
    dtype = np.float32 if name == "MountainCarContinuous-v0" else np.float64  # what it lives in after the first step
    states = states.astype(dtype)
    ours.state = states
    obs, rewards, terminated, _, infos = ours.step(actions)
    assert 0 < terminated.sum() < 1000 or name == "Pendulum-v1"
    for i in range(1000):
        theirs.reset(seed=0)
        theirs.state = states[:, i]
        expected, reward, ended, _, _ = theirs.step(actions[i])
        assert_same(name, infos["final_obs"][i] if terminated[i] else obs[i], expected)
        assert_same_reward(name, rewards[i], reward)
        assert ended == terminated[i]
        if not ended:  # angles are also wrapped and speeds clipped as there
            np.testing.assert_allclose(ours.state[:, i], their_state(name, theirs), rtol=0, atol=1e-9)


def test_vector_cartpole_is_gymnasiums_vector_cartpole():
    """The same int seed, the same first states; the same steps until the first end (their autoreset differs)."""
    ours = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=16)
    theirs = gymnasium.make_vec("CartPole-v1", num_envs=16, vectorization_mode="vector_entry_point")
    ours.action_space.seed(0)
    np.testing.assert_array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    for _ in range(8):
        actions = ours.action_space.sample()
        for mine, other in zip(ours.step(actions)[:4], theirs.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, other)


def test_mountain_car_continuous_by_the_wall_to_the_goal():
    """Pushed as it goes, the car climbs out; the goal's velocity counts."""
    ours, theirs = (gymnasium.make(f"{room}MountainCarContinuous-v0", goal_velocity=0.065) for room in ("sandbox/", ""))
    obs, _ = ours.reset(seed=3)
    theirs.reset(seed=3)
    terminated, walls = False, 0
    while not terminated:
        push = np.array([1.0 if obs[1] >= 0 else -1.0], np.float32)
        obs, reward, terminated, *_ = ours.step(push)
        expected, *outcome, _ = theirs.step(push)
        np.testing.assert_array_equal(obs, expected)
        assert [reward, terminated] == outcome[:2]
        walls += obs[0] == np.float32(-1.2)
    assert (walls, reward) == (1, 99.9)
    assert obs[0] > 0.55  # too slow when it passed 0.45


def test_mountain_car_continuous_clips_the_force_but_not_its_cost():
    ours, theirs = gymnasium.make("sandbox/MountainCarContinuous-v0"), gymnasium.make("MountainCarContinuous-v0")
    push = np.array([-2.5], np.float32)
    ours.reset(seed=0)
    obs, reward, *_ = ours.step(push)
    ours.reset(seed=0)
    np.testing.assert_array_equal(obs, ours.step(np.array([-1.0], np.float32))[0])
    theirs.reset(seed=0)
    expected, *outcome, _ = theirs.step(push)
    np.testing.assert_allclose(obs, expected, rtol=1e-6)
    assert reward == outcome[0] == -0.625


def test_cartpole_without_velocities():
    """The same episode as CartPole's, half of it seen."""
    ours, whole = gymnasium.make("sandbox/CartPoleNoVel-v1"), gymnasium.make("CartPole-v1")
    np.testing.assert_array_equal(ours.reset(seed=0)[0], whole.reset(seed=0)[0][::2])
    ended = False
    while not ended:
        obs, reward, ended, _, _ = ours.step(0)
        expected, *outcome, _ = whole.step(0)
        np.testing.assert_array_equal(obs, expected[::2])
        assert [reward, ended] == outcome[:2]
    assert ours.spec.max_episode_steps == 500


def test_sutton_barto_reward():
    ours = gymnasium.make("sandbox/CartPole-v1", sutton_barto_reward=True)
    theirs = gymnasium.make("CartPole-v1", sutton_barto_reward=True)
    ours.reset(seed=0), theirs.reset(seed=0)
    rewards = []
    terminated = False
    while not terminated:
        _, reward, terminated, _, _ = ours.step(1)
        rewards.append(reward)
        assert reward == theirs.step(1)[1]
    assert rewards == [0.0] * (len(rewards) - 1) + [-1.0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CartPole-v1", {"low": -0.2, "high": 0.1}),
        ("Acrobot-v1", {"low": 0.5}),
        ("MountainCar-v0", {"low": -1.0, "high": 0.2}),
        ("MountainCarContinuous-v0", {"low": -1.0, "high": 0.2}),
        ("Pendulum-v1", {"x_init": 0.3, "y_init": 4.0}),
    ],
)
def test_reset_options(name, options):
    if name == "Acrobot-v1":
        options = {**options, "high": 0.6}
    ours, theirs = gymnasium.make(f"sandbox/{name}"), gymnasium.make(name)
    assert_same(name, ours.reset(seed=0, options=options)[0], theirs.reset(seed=0, options=options)[0])
    vec = gymnasium.make_vec(f"sandbox/{name}", num_envs=500)
    vec.reset(seed=0, options=options)
    moving = vec.state[0]
    default = gymnasium.make_vec(f"sandbox/{name}", num_envs=500)
    default.reset(seed=0)
    assert np.ptp(moving) != pytest.approx(np.ptp(default.state[0]), rel=0.01) or name == "Acrobot-v1"
    key = next(iter(options))
    with pytest.raises(ValueError, match="number"):
        vec.reset(options={key: "wide"})


def test_reset_bounds_the_wrong_way_round():
    with pytest.raises(ValueError, match="exceeds"):
        gymnasium.make("sandbox/CartPole-v1").reset(options={"low": 1, "high": -1})


def test_one_cartpole_step_by_hand():
    """F = +10 N from rest, upright: u = 10/1.1; θ̈ = -u / (0.5 (4/3 - 0.1/1.1)); ẍ = u - 0.05 θ̈ / 1.1; times 0.02 s."""
    env = gymnasium.make("sandbox/CartPole-v1").unwrapped
    env.reset(seed=0)
    env.state = [0, 0, 0, 0]
    obs, *_ = env.step(1)
    u = 10 / 1.1
    theta_acc = -u / (0.5 * (4 / 3 - 0.1 / 1.1))
    x_acc = u - 0.05 * theta_acc / 1.1
    np.testing.assert_allclose(obs, [0, 0.02 * x_acc, 0, 0.02 * theta_acc], rtol=1e-6)
    np.testing.assert_allclose(obs, [0, 0.195122, 0, -0.292683], rtol=1e-5)
