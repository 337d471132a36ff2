"""PixelCartPole and Catch."""

import gymnasium
import numpy as np
import pytest

import envs


def picture(x=0.0, theta=0.0, size=42):
    state = np.array([[x], [0.0], [theta], [0.0]])
    return envs.PixelCartPole(size=size).picture(state)[0].astype(float)


@pytest.mark.parametrize("size", [42, 84])
def test_shapes_and_dynamics(size):
    pixels = gymnasium.make_vec("sandbox/PixelCartPole-v0", num_envs=5, size=size)
    plain = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=5)
    pixels.action_space.seed(0)
    pixels.reset(seed=0)
    plain.reset(seed=0)
    assert pixels.single_observation_space == gymnasium.spaces.Box(0, 255, (4, size, size), np.uint8)
    for _ in range(60):
        actions = pixels.action_space.sample()
        mine, other = pixels.step(actions), plain.step(actions)
        assert mine[0].shape == (5, 4, size, size)
        assert mine[0].dtype == np.uint8
        for a, b in zip(mine[1:4], other[1:4], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(pixels.state, plain.state)


def test_the_stack_holds_the_last_four_pictures():
    vec = gymnasium.make_vec("sandbox/PixelCartPole-v0", num_envs=3)
    vec.action_space.seed(0)
    obs, _ = vec.reset(seed=0)
    draw = envs.PixelCartPole().picture
    stacks = np.repeat(draw(vec.state)[:, None], 4, axis=1)
    np.testing.assert_array_equal(obs, stacks)
    ends = 0
    for _ in range(80):
        obs, _, terminated, _, infos = vec.step(vec.action_space.sample())
        new = draw(vec.state)
        for i in range(3):
            if terminated[i]:  # the old stack ends in final_obs, the new one starts full
                np.testing.assert_array_equal(infos["final_obs"][i][:-1], stacks[i, 1:])
                assert (infos["final_obs"][i][-1] != stacks[i, -1]).any()
                stacks[i] = new[i]
                ends += 1
            else:
                stacks[i] = np.concatenate([stacks[i, 1:], new[i : i + 1]])
        np.testing.assert_array_equal(obs, stacks)
    assert ends > 3


def test_setting_the_state_fills_the_stack():
    vec = gymnasium.make_vec("sandbox/PixelCartPole-v0", num_envs=1)
    vec.reset(seed=0)
    vec.state = np.array([[1.0], [0], [0], [0]])
    obs, *_ = vec.step(np.array([0]))
    np.testing.assert_array_equal(obs[0, 0], picture(x=1.0).astype(np.uint8))


@pytest.mark.parametrize("size", [42, 84])
def test_mirrored_state_mirrored_picture(size):
    for x, theta in [(0.3, 0.1), (-1.7, 0.2), (0.013, -0.007), (2.4, 0.0)]:
        np.testing.assert_array_equal(picture(x, theta, size), picture(-x, -theta, size)[:, ::-1])


@pytest.mark.parametrize("size", [42, 84])
def test_motion_below_a_pixel_shows(size):
    metres = 2 * 3.2 / size  # per pixel
    assert np.abs(picture(0.02 * metres, 0, size) - picture(0, 0, size)).max() >= 3
    assert np.abs(picture(0, 0.001, size) - picture(0, 0, size)).max() >= 3
    # the centre of gravity of the grey levels moves by as much as the cart
    image = picture(0.25 * metres, 0, size)
    assert (image.sum(axis=0) / image.sum()) @ (np.arange(size) + 0.5 - size / 2) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("size", [42, 84])
def test_position_and_angle_can_be_read_off(size):
    """The pole's rows lean by tan θ: a line through their centres of gravity gives the angle back, to 0.1 degrees."""
    for x, theta in [(0.0, 0.0), (0.5, 0.05), (-1.0, -0.12), (1.2, 0.2)]:
        image = picture(x, theta, size)
        rows = np.arange(int(0.26 * size), int(0.7 * size))
        middles = (image[rows] @ np.arange(size)) / image[rows].sum(axis=1)
        slope = np.polyfit(rows, middles, 1)[0]
        assert np.arctan(-slope) == pytest.approx(theta, abs=np.deg2rad(0.1))
        cart = image[int(0.85 * size)]
        middle = cart @ (np.arange(size) + 0.5) / cart.sum() - size / 2
        assert middle * 2 * 3.2 / size == pytest.approx(x, abs=0.01)


def test_black_and_white_are_used():
    image = picture()
    assert image.min() == 0
    assert image.max() == 255
    assert 0.05 < (image > 127).mean() < 0.25


def test_blocks_do_not_show():
    """Pictures drawn together equal pictures drawn alone."""
    dynamics = envs.PixelCartPole()
    state = np.random.default_rng(0).uniform(-0.3, 0.3, (4, 50))
    together = dynamics.picture(state)
    for i in range(50):
        np.testing.assert_array_equal(together[i], dynamics.picture(state[:, i : i + 1])[0])


def test_catch_by_hand():
    env = gymnasium.make("sandbox/Catch-v0").unwrapped
    obs, _ = env.reset(seed=0)
    assert obs.shape == (10, 5)
    assert obs.sum() == 2
    assert obs[9, 2] == 1
    for column, move, caught in [(0, 0, True), (4, 2, True), (2, 1, True), (0, 2, False), (3, 1, False)]:
        env.reset(seed=0)
        env.state = [0, column, 2]
        rewards, ends = [], []
        for step in range(9):
            obs, reward, terminated, truncated, _ = env.step(move)
            rewards.append(reward)
            ends.append(terminated)
            assert obs[min(step + 1, 9), column] == 1
            assert not truncated
        assert rewards == [0.0] * 8 + [1.0 if caught else -1.0]
        assert ends == [False] * 8 + [True]
        assert obs.sum() == (1 if caught else 2)


def test_catch_walls_sizes_and_start():
    vec = gymnasium.make_vec("sandbox/Catch-v0", num_envs=400, rows=6, columns=7)
    obs, _ = vec.reset(seed=0)
    assert obs.shape == (400, 6, 7)
    assert set(vec.state[1]) == set(range(7))
    assert (vec.state[2] == 3).all()
    for _ in range(4):
        vec.step(np.zeros(400, int))
    assert (vec.state[2] == 0).all()
    _, rewards, terminated, _, infos = vec.step(np.zeros(400, int))
    assert terminated.all()
    np.testing.assert_array_equal(rewards == 1, [o[5, 0] == 1 and o.sum() == 1 for o in infos["final_obs"]])
    assert (rewards == 1).mean() == pytest.approx(1 / 7, abs=0.06)
    with pytest.raises(ValueError, match="rows"):
        gymnasium.make_vec("sandbox/Catch-v0", rows=1)
