"""The rasteriser and the pictures made with it."""

import gymnasium
import numpy as np
import pytest

import envs
from envs.draw import Canvas, capsule, coverage, disc, polygon

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def ink(canvas):
    """Area painted black, in pixels."""
    return (1 - canvas.picture()[..., 0] / 255.0).sum()


def paper(scale=10.0):
    return Canvas(100, 100, scale, (0.0, 0.0), WHITE)


def test_areas():
    canvas = paper()
    canvas.disc((0.3, -0.2), 3.0, BLACK)
    assert ink(canvas) == pytest.approx(np.pi * 30**2, rel=2e-3)
    canvas = paper()
    canvas.capsule((-2, -1), (2, 1), 1.0, BLACK)
    assert ink(canvas) == pytest.approx(np.hypot(40, 20) * 20 + np.pi * 10**2, rel=3e-3)
    for angle in (0.0, 0.3, -1.2, 3.0):
        canvas = paper()
        canvas.box((0.5, 0.5), 4.0, 2.0, BLACK, angle)
        assert ink(canvas) == pytest.approx(40 * 20, rel=5e-3)
    canvas = paper()
    canvas.below(np.full(100, 1.23), np.zeros(100), BLACK)
    assert ink(canvas) == pytest.approx(100 * (50 + 12.3), rel=1e-3)


def test_corners_may_go_round_either_way():
    corners = np.array([[10.0, 10.0], [30.0, 12.0], [20.0, 40.0]])
    x, y = np.arange(50)[None] + 0.5, np.arange(50)[:, None] + 0.5
    there, back = polygon(x, y, corners), polygon(x, y, corners[::-1])
    np.testing.assert_allclose(there, back, atol=1e-9)
    assert there[20, 20] < 0 < there[45, 45]


def test_distances_by_hand():
    x, y = np.array([[3.0]]), np.array([[4.0]])
    assert disc(x, y, (0, 0), 2.0) == 3.0
    assert capsule(x, y, (0, 0), (3, 0), 1.0) == 3.0
    assert coverage(np.array([0.0])) == 0.5


def test_y_points_up_and_shapes_outside_are_harmless():
    canvas = paper()
    canvas.disc((0.0, 3.0), 1.0, BLACK)
    assert canvas.picture()[:50].min() == 0
    assert canvas.picture()[50:].min() == 255
    canvas = paper()
    canvas.disc((99.0, 99.0), 1.0, BLACK)
    canvas.disc((np.nan, 0.0), 1.0, BLACK)
    canvas.box((-99.0, 0.0), 1.0, 1.0, BLACK)
    assert ink(canvas) == 0


def test_shapes_are_smooth():
    """A tenth of a pixel moves the grey levels, not the outline."""
    first, second = paper(), paper()
    first.disc((0.0, 0.0), 2.0, BLACK)
    second.disc((0.01, 0.0), 2.0, BLACK)
    difference = np.abs(first.picture().astype(int) - second.picture())
    assert 10 < difference.max() < 40


@pytest.mark.parametrize("env_id", envs.IDS)
def test_the_picture_follows_the_state(env_id):
    vec = gymnasium.make_vec(env_id, num_envs=2, render_mode="rgb_array")
    one = gymnasium.make(env_id, render_mode="rgb_array")
    vec.reset(seed=[7, 8])
    one.reset(seed=8)
    frames = vec.render()
    np.testing.assert_array_equal(frames[1], one.render())
    assert np.ptp(frames[0]) > 100
    if "Probe" not in env_id:
        for _ in range(8):
            one.step(one.action_space.sample())
        assert (one.render() != frames[1]).any()


def test_cartpole_picture():
    env = gymnasium.make("sandbox/CartPole-v1", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.state = [0.7, 0, 0.1, 0]
    right = env.render()
    env.state = [-0.7, 0, -0.1, 0]
    assert right.shape == (400, 600, 3)
    assert np.abs(right.astype(int) - env.render()[:, ::-1]).max() <= 1
