"""The two generic faces: autoreset, limits, seeds, memory, errors."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs


def same_step(env_id, num_envs, **kwargs):
    """Gymnasium's own way to the vector face: our scalar face in a SyncVectorEnv."""
    return SyncVectorEnv(
        [lambda: gymnasium.make(env_id, **kwargs) for _ in range(num_envs)], autoreset_mode=AutoresetMode.SAME_STEP
    )


def assert_same_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    if theirs:
        np.testing.assert_array_equal(ours["_final_obs"], theirs["_final_obs"])
        np.testing.assert_array_equal(ours["_final_info"], theirs["_final_info"])
        assert ours["final_info"].keys() <= theirs["final_info"].keys()  # TimeLimit adds nothing that we lack
        assert ours["final_obs"].dtype == theirs["final_obs"].dtype == object
        assert ours["final_obs"].shape == theirs["final_obs"].shape
        for mine, other in zip(ours["final_obs"], theirs["final_obs"], strict=True):
            assert (mine is None) == (other is None)
            if mine is not None:
                np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("env_id", envs.IDS)
def test_vector_face_equals_sync_of_the_scalar_face(env_id):
    """With one seed per env the two agree for good: states, ends, final observations and the episodes after them."""
    limit = 30 if gymnasium.spec(env_id).max_episode_steps != 8 else 8
    ours = gymnasium.make_vec(env_id, num_envs=3, max_episode_steps=limit)
    theirs = same_step(env_id, 3, max_episode_steps=limit)
    ours.action_space.seed(0)
    np.testing.assert_array_equal(ours.reset(seed=[4, 5, 6])[0], theirs.reset(seed=[4, 5, 6])[0])
    ends = 0
    for _ in range(70):
        actions = ours.action_space.sample()
        obs, rewards, terminated, truncated, infos = ours.step(actions)
        expected, *outcome, expected_infos = theirs.step(actions)
        np.testing.assert_array_equal(obs, expected)
        for mine, other in zip((rewards, terminated, truncated), outcome, strict=True):
            np.testing.assert_array_equal(mine, other)
        assert_same_infos(infos, expected_infos)
        ends += (terminated | truncated).sum()
    assert ends >= 6


def test_final_obs_and_the_next_episode():
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=3)
    vec.reset(seed=0)
    state = vec.state
    state[:, 1] = [2.39, 5.0, 0.0, 0.0]  # leaves the track at the next step
    vec.state = state
    obs, rewards, terminated, truncated, infos = vec.step(np.array([1, 1, 0]))
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert rewards.tolist() == [1.0, 1.0, 1.0]
    assert infos["final_obs"][1][0] == pytest.approx(2.39 + 0.02 * 5)
    assert infos["final_obs"][0] is None
    assert np.abs(obs[1]).max() <= 0.05
    assert vec.step(np.array([1, 1, 0]))[4] == {}


def test_truncation_at_exactly_the_limit_counted_from_each_reset():
    vec = gymnasium.make_vec("sandbox/Pendulum-v1", num_envs=2)
    vec.reset(seed=0)
    for episode in range(2):
        for step in range(1, 201):
            _, _, terminated, truncated, infos = vec.step(vec.action_space.sample())
            assert not terminated.any()
            assert truncated.all() == truncated.any() == (step == 200), (episode, step)
            assert bool(infos) == (step == 200)


def test_limits_of_single_envs():
    """An env that ended early gets its full time again."""
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2, max_episode_steps=5)
    vec.reset(seed=0)
    push = np.array([0, 1])
    vec.step(push)
    state = vec.state
    state[2, 0] = 1.0
    vec.state = state
    assert vec.step(push)[2].tolist() == [True, False]  # t = 2
    ends = [vec.step(push)[3].tolist() for _ in range(5)]  # t = 3 ... 7
    assert ends == [[False, False], [False, False], [False, True], [False, False], [True, False]]


def test_terminated_and_truncated_at_once():
    for env in (
        gymnasium.make_vec("sandbox/CartPole-v1", num_envs=1, max_episode_steps=1),
        gymnasium.make("sandbox/CartPole-v1", max_episode_steps=1),
    ):
        env.reset(seed=0)
        one = isinstance(env, gymnasium.Env)
        env.unwrapped.state = [2.5, 5, 0, 0] if one else [[2.5], [5], [0], [0]]
        _, _, terminated, truncated, _ = env.step(1 if one else np.array([1]))
        assert np.all(terminated)
        assert np.all(truncated)


@pytest.mark.parametrize("env_id", envs.IDS)
def test_the_seed_decides_everything(env_id):
    def play(seed):
        vec = gymnasium.make_vec(env_id, num_envs=4)
        vec.action_space.seed(0)
        trace = [vec.reset(seed=seed)[0]]
        trace += [vec.step(vec.action_space.sample())[0] for _ in range(40)]
        return np.stack(trace)

    first = play(0)
    np.testing.assert_array_equal(first, play(0))
    random_start = "Probe" not in env_id or env_id.endswith(("Observation-v0", "Policy-v0"))
    assert (first != play(1)).any() == random_start


def test_no_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (that it is left alone is the point)
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=4)
    vec.reset()
    for _ in range(30):
        vec.step(vec.action_space.sample())
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_numpy_seeds():
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2)
    np.testing.assert_array_equal(vec.reset(seed=np.int64(3))[0], vec.reset(seed=3)[0])
    np.testing.assert_array_equal(vec.reset(seed=np.arange(2))[0], vec.reset(seed=[0, 1])[0])


def test_reset_without_a_seed_goes_on_with_the_generators():
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2)
    first, _ = vec.reset(seed=0)
    second, _ = vec.reset()
    assert (first != second).all()
    vec.reset(seed=[0, 1])
    third, _ = vec.reset()
    scalar = gymnasium.make("sandbox/CartPole-v1")
    scalar.reset(seed=1)
    np.testing.assert_array_equal(third[1], scalar.reset()[0])
    np.testing.assert_array_equal(vec.reset(seed=0)[0], first)  # an int after a list: one generator again


@pytest.mark.parametrize("env_id", envs.IDS)
def test_returned_arrays_are_never_touched_again(env_id):
    vec = gymnasium.make_vec(env_id, num_envs=4, max_episode_steps=6)
    vec.action_space.seed(0)
    kept = [(vec.reset(seed=0)[0],)]
    for _ in range(20):
        obs, rewards, terminated, truncated, infos = vec.step(vec.action_space.sample())
        finals = [o for o in infos.get("final_obs", []) if o is not None]
        kept.append((obs, rewards, terminated, truncated, *finals))
    state = vec.state
    copies = [[a.copy() for a in arrays] for arrays in kept]
    for _ in range(10):
        vec.step(vec.action_space.sample())
    for arrays, saved in zip(kept, copies, strict=True):
        for array, copy in zip(arrays, saved, strict=True):
            np.testing.assert_array_equal(array, copy)
    state[:] = 7  # a copy: the env does not notice
    assert (vec.state != 7).any()


@pytest.mark.parametrize("env_id", envs.IDS)
def test_what_the_user_does_to_an_array_does_not_come_back(env_id):
    vecs = [gymnasium.make_vec(env_id, num_envs=2) for _ in range(2)]
    vecs[0].action_space.seed(0)
    spoilt, clean = ([vec.reset(seed=0)[0]] for vec in vecs)
    for _ in range(12):
        for array in spoilt:
            array[:] = 1 - array
        actions = vecs[0].action_space.sample()
        spoilt, clean = (vec.step(actions)[:4] for vec in vecs)
        for mine, other in zip(spoilt, clean, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_reset_starts_the_clock_again():
    vec = gymnasium.make_vec("sandbox/Pendulum-v1", num_envs=2, max_episode_steps=3)
    for _ in range(2):
        vec.reset(seed=0)
        assert [vec.step(vec.action_space.sample())[3].any() for _ in range(2)] == [False, False]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_integer_actions_of_any_width(dtype):
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=3)
    vec.reset(seed=0)
    obs = vec.step(np.array([0, 1, 1], dtype))[0]
    vec.reset(seed=0)
    np.testing.assert_array_equal(obs, vec.step([0, 1, 1])[0])


@pytest.mark.parametrize(
    ("env_id", "actions", "error", "message"),
    [
        ("CartPole-v1", [0, 1, 2], ValueError, "invalid action 2 for env 2"),
        ("CartPole-v1", [0, -1, 0], ValueError, "invalid action -1 for env 1"),
        ("CartPole-v1", [0, 1], ValueError, r"shape \(3,\), got \(2,\)"),
        ("CartPole-v1", [0.0, 1.0, 1.0], TypeError, "integer actions, got float64"),
        ("CartPole-v1", [True, False, True], TypeError, "integer actions, got bool"),
        ("Catch-v0", [0, 3, 1], ValueError, "invalid action 3 for env 1"),
        ("Pendulum-v1", [[0.0], [np.nan], [0.0]], ValueError, r"invalid action \[nan\] for env 1"),
        ("Pendulum-v1", [0.0, 0.0, 0.0], ValueError, r"shape \(3, 1\), got \(3,\)"),
    ],
)
def test_invalid_actions(env_id, actions, error, message):
    vec = gymnasium.make_vec(f"sandbox/{env_id}", num_envs=3)
    vec.reset(seed=0)
    before = vec.state
    with pytest.raises(error, match=message):
        vec.step(np.array(actions))
    np.testing.assert_array_equal(vec.state, before)


def test_invalid_action_of_the_scalar_face():
    env = gymnasium.make("sandbox/CartPole-v1").unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="invalid action 2"):
        env.step(2)
    env.step(np.int64(1))
    env.step(np.array(1))


def test_torque_beyond_the_limit_is_clipped():
    env = gymnasium.make("sandbox/Pendulum-v1").unwrapped
    env.reset(seed=0)
    obs, *_ = env.step(np.array([2.0], np.float32))
    env.reset(seed=0)
    np.testing.assert_array_equal(obs, env.step(np.array([5.0], np.float32))[0])


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1"])
def test_nan_is_passed_on_and_stays_in_its_env(name):
    """An agent must be able to see it: it is neither hidden nor reset, and harms no other env."""
    vecs = [gymnasium.make_vec(f"sandbox/{name}", num_envs=3) for _ in range(2)]
    for vec in vecs:
        vec.reset(seed=0)
    state = vecs[0].state
    state[:, 1] = np.nan
    vecs[0].state = state
    actions = vecs[0].action_space.sample()
    (obs, _, terminated, _, _), (expected, *_) = (vec.step(actions) for vec in vecs)
    assert np.isnan(obs[1]).all()
    assert not terminated[1]
    np.testing.assert_array_equal(obs[[0, 2]], expected[[0, 2]])


def test_errors_of_order_and_shape():
    vec = envs.CartPoleVectorEnv(num_envs=2, render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded):
        vec.step(np.array([0, 0]))
    with pytest.raises(gymnasium.error.ResetNeeded):
        vec.render()
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.CartPoleEnv().step(0)
    vec.reset(seed=0)
    with pytest.raises(ValueError, match=r"state of shape \(4, 2\), got \(4, 3\)"):
        vec.state = np.zeros((4, 3))
    with pytest.raises(ValueError, match="one seed for each of 2 envs, got 3"):
        vec.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask"):
        vec.reset(options={"reset_mask": np.array([True, False])})


def test_options_hold_for_the_autoresets_too():
    vec = gymnasium.make_vec("sandbox/CartPole-v1", num_envs=2, max_episode_steps=1)
    vec.reset(seed=0, options={"low": 0.1, "high": 0.15})
    assert (vec.step(np.array([0, 0]))[0] >= 0.1).all()
    vec.reset(seed=0)
    assert (vec.step(np.array([0, 0]))[0] <= 0.05).all()


def test_render_without_a_mode_warns():
    env = envs.CartPoleEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
