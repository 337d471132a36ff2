"""The bicycle against mechanics: pendulum, circles, mirrors, eigenvalues, the road's resistance."""

import gymnasium
import numpy as np
import pytest

import envs
from envs.bicycle import DT, SUBSTEPS, H, L, M

STEP = DT * SUBSTEPS
THETA, THETA_DOT, OMEGA, OMEGA_DOT, PSI, X, Y, V, RIDDEN, D = range(10)


def upright(num_envs=1, v=10 / 3.6):
    state = np.zeros((10, num_envs))
    state[V] = v
    return state


def ride(state, action=(0, 0, 0), steps=1):
    dynamics = envs.Bicycle()
    for _ in range(steps):
        outcome = dynamics.step(state, np.tile(np.array(action, np.float64), (state.shape[1], 1)))
    return outcome


def until_the_fall(actions):
    """Mean time upright in s of 1,000 rides; ``actions`` is a function of the number of envs."""
    dynamics, num_envs = envs.Bicycle(), 1000
    state = dynamics.initial(np.random.default_rng(0), num_envs)
    times, fallen = np.zeros(num_envs), np.zeros(num_envs, bool)
    for _ in range(400):
        times += STEP * ~fallen
        fallen |= dynamics.step(state, actions(num_envs))[1]
    assert fallen.all()
    return times.mean()


def test_nobody_stays_up_without_control():
    rng = np.random.default_rng(1)
    assert until_the_fall(lambda n: np.zeros((n, 3))) == pytest.approx(1.19, abs=0.03)
    assert until_the_fall(lambda n: rng.uniform(-1, 1, (n, 3))) == pytest.approx(0.93, abs=0.03)


def test_standing_it_falls_as_a_pendulum():
    """M g h / I = 75 · 9.82 · 0.94 / (13/3 · 15 · 0.94² + 60 · 1.24²) = 692.31 / 149.69 = 2.1506²: from rest a cosh."""
    state = upright(v=0.0)
    state[OMEGA] = 1e-3
    ride(state, steps=50)
    assert state[OMEGA, 0] == pytest.approx(1e-3 * np.cosh(2.1506 * 1.0), rel=0.03)
    assert state[OMEGA_DOT, 0] == pytest.approx(1e-3 * 2.1506 * np.sinh(2.1506 * 1.0), rel=0.03)
    assert state[THETA, 0] == state[X, 0] == 0


def test_first_accelerations_by_hand():
    """At 10 km/h the tyres turn at 8.1699/s. T = 2 N m: θ̈ = 2 / 0.09826 = 20.354. With θ = 0.1 rad, all still: the
    radii are 1.11/0.09983, 1.11/0.10033, 11.072: ω̈ = -7.7160 (1.7 · 0.34 · 0.18033 + 70.5 / 11.072) / 149.69 = -0.3336.
    """
    assert pytest.approx(20.354, abs=1e-3) == 2 / (0.5 * 1.7 * 0.34**2)
    dynamics, state = envs.Bicycle(), upright(2)
    state[THETA, 1] = 0.1
    dynamics.step(state, np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    # two Euler steps: θ̇ grows twice, but θ̈ feels the tilt's rate of the first
    assert state[THETA_DOT, 0] == pytest.approx(2 * 20.354 * DT, rel=1e-3)
    radius = np.hypot(0.45, 1.11 / np.tan(0.1))
    assert radius == pytest.approx(11.072, abs=1e-3)
    assert state[OMEGA_DOT, 1] == pytest.approx(-0.3336 * STEP, rel=0.02)


def test_steering_into_the_fall_rights_it_and_the_body_tips_it():
    state = upright(3)
    state[OMEGA] = 0.03  # falling to the left
    state[THETA] = [0.1, 0.0, -0.1]
    ride(state)
    assert state[OMEGA_DOT, 0] < 0 < state[OMEGA_DOT, 1] < state[OMEGA_DOT, 2]
    right = upright()
    ride(right, (0.0, -1.0, 0.0))
    # as a tilt by arctan(0.02 / 0.94) would
    assert right[OMEGA_DOT, 0] == pytest.approx(-(2.1506**2) * 0.02 / 0.94 * STEP, rel=0.01)
    assert right[D, 0] == -0.02


def test_the_mirror_image_rides_the_mirror_image():
    """To the bit: left for right in the state and in the actions, from riding to rolling over."""
    rng, dynamics = np.random.default_rng(0), envs.BicycleGoal()
    state = dynamics.initial(rng, 500)
    state[:4] *= 20
    state[PSI] = rng.uniform(-3, 3, 500)
    mirror = np.ones((12, 1))
    mirror[[THETA, THETA_DOT, OMEGA, OMEGA_DOT, PSI, Y, D, 11]] = -1
    other = state * mirror
    for _ in range(60):
        actions = rng.uniform(-1.5, 1.5, (500, 3))
        one, two = dynamics.step(state, actions), dynamics.step(other, actions * [-1, -1, 1])
        np.testing.assert_array_equal(other, state * mirror)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(
            dynamics.observe(other), dynamics.observe(state) * np.float32([-1, -1, -1, -1, 1, -1, 1, 1])
        )


@pytest.mark.parametrize("theta", [0.05, -0.3, 1.2])
def test_a_held_handlebar_leads_round_a_circle(theta):
    """The back tyre at l / tan θ from the middle, the front one at l / sin θ; once round is 2 π of heading."""
    dynamics, state = envs.Bicycle(), upright()
    middle = np.array([0.0, L / np.tan(theta)])
    track = []
    while abs(state[PSI, 0]) < 2 * np.pi:
        state[:5, 0] = [theta, 0, 0, 0, state[PSI, 0]]  # as if held
        state[V] = 2.0
        dynamics.step(state, np.zeros((1, 3)))
        track.append(state[[X, Y, PSI], 0])
    # the handlebar moves a little between two substeps
    x, y, psi = np.array(track).T
    back = np.hypot(x - middle[0], y - middle[1])
    front = np.hypot(x + L * np.cos(psi) - middle[0], y + L * np.sin(psi) - middle[1])
    np.testing.assert_allclose(back, L / np.tan(abs(theta)), rtol=0.02)
    np.testing.assert_allclose(front, L / np.sin(abs(theta)), rtol=0.02)
    assert state[RIDDEN, 0] == pytest.approx(2 * np.pi * L / np.tan(abs(theta)), rel=0.03)


def test_straight_on_and_the_heading_integrates():
    state = upright()
    state[PSI] = 0.5
    ride(state, steps=100)
    assert state[PSI, 0] == 0.5
    assert np.hypot(state[X, 0], state[Y, 0]) == pytest.approx(state[RIDDEN, 0])
    assert np.arctan2(state[Y, 0], state[X, 0]) == pytest.approx(0.5)
    state = upright()
    state[THETA] = 0.2
    expected, before = 0.0, state.copy()
    for _ in range(20):
        expected += before[V, 0] / L * np.tan(before[THETA, 0]) * STEP
        ride(state)
        before = state.copy()
    assert state[PSI, 0] == pytest.approx(expected, rel=0.1)


def test_the_handlebar_stops_at_80_degrees():
    state = upright(v=1.0)
    ride(state, (1.0, 0.0, 0.0), steps=100)
    assert state[THETA, 0] == pytest.approx(np.radians(80))
    assert state[THETA_DOT, 0] <= 0


def test_speed():
    """100 W: 0.3 v³ + 3.6825 v = 100 at v = 6.345; coasting slows by (3.6825 + 0.3 v²) / 75, the brake by 2 m/s²."""
    fast = upright(2)
    fast[V] = [1.0, 9.0]
    ride(fast, (0, 0, 1), steps=5000)
    np.testing.assert_allclose(fast[V], 6.345, atol=0.002)
    slow = upright(v=5.0)
    ride(slow)
    assert (5.0 - slow[V, 0]) / STEP == pytest.approx((3.6825 + 0.3 * 25) / 75, rel=1e-3)
    off = upright(v=1.2)
    ride(off, (0, 0, 0.5))
    assert (off[V, 0] - 1.2) / STEP == pytest.approx((30 - 3.6825 - 0.3 * 1.44) / M, rel=1e-3)  # half of 60 N
    brake = upright(v=5.0)
    steps = 0
    while not ride(brake, (0, 0, -1))[1][0]:
        steps += 1
    assert brake[V, 0] < 1.0
    assert steps * STEP == pytest.approx(4.0 / (2 + (3.6825 + 0.3 * 10) / 75), rel=0.02)
    ride(brake, (0, 0, -1), steps=100)
    assert brake[V, 0] == 0.0


def eigenvalues(v):
    """Of the continuous system, from a numerical Jacobian of one step at the upright ride."""
    jacobian = np.empty((4, 4))
    for i in range(4):
        state = upright(2, v)
        state[i] = [1e-6, -1e-6]
        ride(state)
        jacobian[:, i] = (state[:4, 0] - state[:4, 1]) / 2e-6
    return np.log(np.linalg.eigvals(jacobian).astype(complex)) / STEP


def test_it_does_not_ride_by_itself_at_any_speed():
    """One real eigenvalue is positive throughout, as the characteristic cubic says; one is 0, the others decay."""
    worst = []
    for v in np.arange(1.0, 10.1, 0.25):
        k, gyroscope, centripetal = 3 * v / 0.34, 1.7 * 0.34 * v, v**2 * (2 * 1.7 * 0.34 + M * H) / L
        roots = np.roots([1, 0, -(692.31 + gyroscope * k) / 149.69, -centripetal * k / 149.69])
        found = np.sort(eigenvalues(v).real)
        assert found[-1] == pytest.approx(roots.real.max(), rel=0.05), v
        assert np.abs(found).min() < 1e-3
        assert (found[:2] < 0).all()
        worst.append(found[-1])
    assert (np.diff(worst) > 0).all()  # the faster, the sooner it falls
    assert worst[0] == pytest.approx(2.5, abs=0.1)
    assert max(eigenvalues(10 / 3.6).real) == pytest.approx(4.7, abs=0.1)
    assert max(eigenvalues(6.0).real) == pytest.approx(9.5, abs=0.3)


def test_a_rider_who_steers_into_the_fall_stays_up():
    """By hand: a damped spring turns the handlebar to 4 ω + 1.2 ω̇. It can be done with the torque allowed."""
    dynamics = envs.Bicycle()
    state = dynamics.initial(np.random.default_rng(0), 100)
    for _ in range(1500):
        theta, theta_dot, omega, omega_dot = state[:4]
        torque = 12 * (4 * omega + 1.2 * omega_dot - theta) - 1.5 * theta_dot + 2 * omega_dot
        actions = np.stack((torque / 2, -omega * 20, np.full(100, 0.15)), axis=1)
        _, terminated = dynamics.step(state, actions)
        assert not terminated.any()


def test_observation_and_ends():
    dynamics, state = envs.Bicycle(), upright(4)
    state[:4, 0] = [0.25, 2.5, np.pi / 15, 0.5]
    state[V, 0] = 5.0
    np.testing.assert_allclose(dynamics.observe(state)[0], 1.0)
    state[OMEGA] = [0.0, 0.2095, -0.2095, 0.2]
    state[:2] = 0
    state[OMEGA_DOT] = 0
    state[V, 3] = 0.99
    rewards, terminated = dynamics.step(state, np.zeros((4, 3)))
    assert terminated.tolist() == [False, True, True, True]
    assert rewards.tolist() == [1.0] * 4


def test_the_goal():
    dynamics = envs.BicycleGoal()
    state = dynamics.initial(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(np.hypot(*state[10:]), 60.0)
    bearing = np.arctan2(state[11], state[10])
    assert np.histogram(bearing, 8, (-np.pi, np.pi))[0].min() > 400  # all around
    obs = dynamics.observe(state)
    np.testing.assert_allclose(obs[:, 5:], np.stack((np.sin(bearing), np.cos(bearing), np.ones(4000)), 1), atol=1e-6)
    state = np.concatenate((upright(3, v=5.0), [[50.0, -50.0, 10.05], [0.0, 0.0, 0.0]]))
    rewards, terminated = dynamics.step(state, np.zeros((3, 3)))
    np.testing.assert_allclose(rewards, [0.01, -0.01, 1.01], atol=1e-4)
    assert terminated.tolist() == [False, False, True]
    state[[X, V]] = [[5.0], [0.9]]  # a foot goes down; at the goal it may
    state[10, 2] = 14.0
    rewards, terminated = dynamics.step(state, np.zeros((3, 3)))
    np.testing.assert_allclose(rewards, [-1.0, -1.0, 1.0], atol=2e-3)
    assert terminated.all()
    state[X] = 0.0
    state[PSI] = np.pi / 2  # northwards, the goal in the east: to the right
    np.testing.assert_allclose(dynamics.observe(state)[0, 5:7], [-1.0, 0.0], atol=1e-6)
    near = envs.BicycleGoal(distance=20.0).initial(np.random.default_rng(0), 2)
    np.testing.assert_allclose(np.hypot(*near[10:]), 20.0)


def test_the_pieces_of_the_potential_add_up():
    """The undiscounted return of a ride that ends in a fall is the way made good, whatever the detour, and -1."""
    env = gymnasium.make("sandbox/BicycleGoal-v0")
    env.action_space.seed(0)
    env.reset(seed=0)
    total, ended = 0.0, False
    while not ended:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        total, ended = total + reward, terminated or truncated
    state = env.unwrapped.state
    assert terminated
    assert total == pytest.approx((60 - np.hypot(*(state[10:] - state[5:7]))) / 10 - 1)


def test_the_picture_tilts_and_mirrors():
    env = gymnasium.make("sandbox/Bicycle-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    state = upright()[:, 0]
    state[[THETA, OMEGA]] = [0.3, 0.15]
    env.state = state
    left = env.render()
    env.state = state * [-1, 1, -1, 1, 1, 1, 1, 1, 1, 1]
    right = env.render()
    assert left.shape == (400, 600, 3)
    helmet = np.array([66, 146, 151])
    for picture, side in ((left, -1), (right, 1)):
        columns = (np.abs(picture[:80, :300].astype(int) - helmet).sum(axis=2) < 30).nonzero()[1]
        assert side * (columns.mean() - 150) > 20
    far = state.copy()
    far[[X, Y]] = [1e5 + 0.5, -3e4]
    env.state = far
    assert (env.render()[:, :300] == left[:, :300]).all()  # the camera follows
