"""Reading a replay: the same transitions as Stable-Baselines3's own sampling, and priorities that count."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from agents.frames import FrameReplay
from agents.memory import Priorities, asked, draw, read, take

BOX, ACTIONS = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)


def filled(kind=ReplayBuffer, steps=70, rows=25, n_envs=2, space=BOX, **kwargs):
    """A replay that has gone round, with terminations and truncations."""
    buffer, rng = kind(rows * n_envs, space, ACTIONS, device="cpu", n_envs=n_envs, **kwargs), np.random.default_rng(0)

    def seen():
        if isinstance(space, spaces.Dict):
            return {key: rng.standard_normal((n_envs, *box.shape)).astype(np.float32) for key, box in space.items()}
        if space.dtype == np.uint8:
            return rng.integers(0, 256, (n_envs, *space.shape), np.uint8)
        return rng.standard_normal((n_envs, *space.shape)).astype(np.float32)

    for _ in range(steps):
        done = rng.random(n_envs) < 0.2
        cut = done & (rng.random(n_envs) < 0.5)
        infos = [{"TimeLimit.truncated": bool(one)} for one in cut]
        buffer.add(seen(), seen(), rng.integers(4, size=n_envs), rng.standard_normal(n_envs), done, infos)
    return buffer


PLAIN = [
    (ReplayBuffer, {}),
    (ReplayBuffer, {"steps": 10}),
    (ReplayBuffer, {"optimize_memory_usage": True, "handle_timeout_termination": False}),
    (ReplayBuffer, {"optimize_memory_usage": True, "handle_timeout_termination": False, "steps": 10}),
    (NStepReplayBuffer, {"n_steps": 3, "gamma": 0.9}),
    (NStepReplayBuffer, {"n_steps": 5, "gamma": 0.9, "steps": 12}),
    (DictReplayBuffer, {"space": spaces.Dict({"a": BOX, "b": BOX})}),
]


@pytest.mark.parametrize(("kind", "kwargs"), PLAIN)
def test_the_same_seed_reads_what_sb3_samples(kind, kwargs):
    buffer = filled(kind, **kwargs)
    np.random.seed(1)  # noqa: NPY002
    theirs = buffer.sample(40)
    np.random.seed(1)  # noqa: NPY002
    ours = read(buffer, *draw(buffer, 40), gamma=0.9, normalizer=None)
    for key in ours.obs if isinstance(ours.obs, dict) else [...]:
        np.testing.assert_array_equal(ours.obs[key], theirs.observations[key].numpy())
        np.testing.assert_array_equal(ours.next_obs[key], theirs.next_observations[key].numpy())
    np.testing.assert_array_equal(ours.actions, theirs.actions.numpy())
    np.testing.assert_allclose(ours.rewards, theirs.rewards.numpy()[:, 0], rtol=1e-6)
    discounts = 0.9 if theirs.discounts is None else theirs.discounts.numpy()[:, 0]
    np.testing.assert_allclose(ours.discounts, discounts * (1 - theirs.dones.numpy()[:, 0]), rtol=1e-6)
    assert ours.rewards.dtype == ours.discounts.dtype == np.float32


def test_a_foreign_buffer_is_asked():
    class Mine(ReplayBuffer):
        pass

    buffer = filled(Mine)
    np.random.seed(1)  # noqa: NPY002
    theirs = buffer.sample(8)
    np.random.seed(1)  # noqa: NPY002
    ours = asked(buffer, 8, 0.9, None)
    np.testing.assert_array_equal(ours.obs, theirs.observations.numpy())
    np.testing.assert_allclose(ours.discounts, 0.9 * (1 - theirs.dones.numpy()[:, 0]))


def test_rows_of_a_dictionary():
    buffer = filled(DictReplayBuffer, space=spaces.Dict({"a": BOX}))
    batch = read(buffer, *draw(buffer, 10), gamma=0.9, normalizer=None)
    np.testing.assert_array_equal(take(batch.obs, slice(2, 5))["a"], batch.obs["a"][2:5])


def test_what_is_new_has_the_largest_priority_so_far():
    buffer = filled(steps=5)
    priorities = Priorities(buffer, alpha=1.0)
    priorities.catch_up()
    assert priorities.tree[np.arange(10)].tolist() == [1.0] * 10
    assert priorities.tree.total == 10.0
    priorities.update(np.array([3]), np.array([7.0]))
    row = (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2), np.zeros(2), np.zeros(2), [{}, {}])
    buffer.add(*row)
    priorities.catch_up()
    assert priorities.tree[np.array([10, 11])] == pytest.approx([7.0, 7.0], abs=1e-5)


def test_draws_follow_the_priorities_and_weights_undo_them():
    buffer = filled(steps=5, n_envs=1)
    priorities = Priorities(buffer, alpha=0.5)
    priorities.catch_up()
    priorities.update(np.arange(5), np.array([0.0, 1.0, 4.0, 9.0, 16.0]))
    np.random.seed(0)  # noqa: NPY002
    leaves, weights = priorities.draw(40_000, batch_size=20_000, beta=1.0)
    drawn = np.bincount(leaves, minlength=5) / len(leaves)
    np.testing.assert_allclose(drawn, np.array([0, 1, 2, 3, 4]) / 10, atol=0.002)
    # with beta 1 each transition counts as if it were drawn uniformly; the largest weight is 1
    each = [weights[leaves == leaf] for leaf in range(1, 5)]
    np.testing.assert_allclose([one[0] / each[0][0] for one in each], 1.0 / np.arange(1, 5), rtol=0.01)
    assert weights.max() == 1.0
    assert weights.dtype == np.float32


def test_a_minibatch_is_not_in_order_of_age():
    buffer = filled(steps=25, n_envs=1)
    leaves, _ = Priorities(buffer, alpha=0.6).draw(24, 8, beta=0.4)
    assert (np.diff(leaves) < 0).any()


def test_rows_that_a_frame_replay_has_lost_are_not_drawn():
    pictures = spaces.Box(0, 255, (4, 8, 8), np.uint8)
    buffer = filled(FrameReplay, steps=0, rows=200, n_envs=1, space=pictures)
    priorities, rng = Priorities(buffer, alpha=1.0), np.random.default_rng(0)
    for step in range(900):  # pictures that are no stacks: each takes eight frames, and the ring is soon too short
        two = rng.integers(0, 256, (2, 1, 4, 8, 8), np.uint8)
        buffer.add(two[0], two[1], np.zeros(1), np.zeros(1), np.zeros(1), [{}])
        if step % 7 == 0:
            leaves, _ = priorities.draw(16, 16, beta=0.4)
            whole = (buffer.first + np.arange(buffer.size())) % 200
            assert np.isin(leaves, whole).all()
            assert (priorities.tree[np.setdiff1d(np.arange(200), whole)] == 0).all()
    assert buffer.size() < 200


def test_a_replay_that_was_full_before_is_known_at_once():
    buffer = filled(rows=25, steps=50)  # full, and its next row is the first one
    priorities = Priorities(buffer, alpha=0.6)
    priorities.catch_up()
    assert (priorities.tree[np.arange(50)] == 1.0).all()


def test_errors_that_are_no_numbers():
    priorities = Priorities(filled(steps=5), alpha=0.6)
    with pytest.raises(ValueError, match="nan"):
        priorities.update(np.array([1]), np.array([np.nan]))


def test_buffers_without_priorities():
    class Mine(ReplayBuffer):
        pass

    with pytest.raises(ValueError, match="not Mine"):
        Priorities(filled(Mine), alpha=0.6)
    with pytest.raises(ValueError, match="not optimize_memory_usage=True"):
        Priorities(filled(optimize_memory_usage=True, handle_timeout_termination=False), alpha=0.6)
    with pytest.raises(ValueError, match="priority_alpha must not be negative, got -1"):
        Priorities(filled(), alpha=-1)
