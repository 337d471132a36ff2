"""The arithmetic of replay: by hand, against its definition, and what must always hold of a sum tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agents.replay import SumTree, importance_weights, n_step_returns, stratified

PRIORITIES = st.floats(0, 1e6) | st.just(0.0) | st.floats(0, 1e-6)


def tree_of(priorities):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.asarray(priorities, float))
    return tree


# --- sum tree ---


def test_five_leaves_by_hand():
    tree = tree_of([1, 0, 2, 3, 4])
    assert len(tree) == 5
    assert tree.total == 10
    assert tree[np.arange(5)].tolist() == [1, 0, 2, 3, 4]
    # 0..1 is leaf 0, 1..3 leaf 2, 3..6 leaf 3, 6..10 leaf 4
    assert tree.find([0, 0.5, 1, 2.9, 3, 5.9, 6, 9.9, 10]).tolist() == [0, 0, 2, 2, 3, 3, 4, 4, 4]
    tree.set([4, 1], [0, 5])
    assert tree.total == 11
    assert tree.find([0.9, 1, 5.9, 6, 8, 11]).tolist() == [0, 1, 1, 2, 3, 3]


def test_a_tree_of_one_leaf():
    tree = SumTree(1)
    tree.set(0, 2.5)
    assert (tree.total, tree[0], tree.find(2.5).tolist()) == (2.5, 2.5, [0])


def test_of_a_leaf_named_twice_the_last_priority_counts():
    tree = SumTree(4)
    tree.set([2, 1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0, 0.5])
    assert tree[[0, 1, 2, 3]].tolist() == [0, 4, 0.5, 0]
    assert tree.total == 4.5


def test_one_priority_for_all_and_none_at_all():
    tree = SumTree(3)
    tree.set([0, 2], 1.5)
    tree.set([], [])
    assert tree.total == 3


def test_the_largest_priority_ever_set_is_remembered():
    tree = SumTree(3)
    assert tree.largest == 0
    tree.set([0, 1], [2.0, 7.0])
    tree.set(1, 1.0)
    assert tree.largest == 7


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1e-9])
def test_a_priority_that_is_none_names_its_index_and_changes_nothing(wrong):
    tree = tree_of([1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"index 3 is .*finite number, 0 or more"):
        tree.set([0, 3], [5.0, wrong])
    assert tree[[0, 1, 2, 3]].tolist() == [1, 1, 1, 1]
    assert (tree.total, tree.largest) == (4, 1)


@pytest.mark.parametrize("index", [-1, 5, 6, 8])
def test_a_leaf_that_is_not_there(index):
    tree = SumTree(5)
    with pytest.raises(IndexError, match=f"index {index}: the leaves are 0 to 4"):
        tree.set([0, index], 1.0)
    with pytest.raises(IndexError):
        tree[index]
    assert tree.total == 0


@pytest.mark.parametrize("mass", [-0.1, np.nan])
def test_a_mass_that_is_none(mass):
    with pytest.raises(ValueError, match="a mass is"):
        tree_of([1, 2]).find([0.5, mass])


def test_nothing_can_be_drawn_where_every_priority_is_0():
    with pytest.raises(ValueError, match="every priority is 0"):
        SumTree(4).find([0.0])
    with pytest.raises(ValueError, match="at least one leaf"):
        SumTree(0)


def test_find_leaves_its_argument_as_it_was():
    mass = np.array([1.5, 2.5])
    tree_of([1, 1, 1]).find(mass)
    assert mass.tolist() == [1.5, 2.5]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_total_is_the_sum_of_the_leaves_after_any_changes(data):
    n = data.draw(st.integers(1, 40))
    tree, leaves = SumTree(n), np.zeros(n)
    for _ in range(data.draw(st.integers(1, 5))):
        changes = data.draw(st.lists(st.tuples(st.integers(0, n - 1), PRIORITIES), max_size=12))
        tree.set([i for i, _ in changes], [p for _, p in changes])
        for i, p in changes:
            leaves[i] = p
    np.testing.assert_array_equal(tree[np.arange(n)], leaves)
    np.testing.assert_allclose(tree.total, leaves.sum(), rtol=1e-12)


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(float, st.integers(1, 70), elements=st.integers(0, 9)), st.integers(0, 2**32 - 1))
def test_find_is_a_search_in_the_cumulative_sum(leaves, seed):
    if not leaves.any():
        leaves[-1] = 1
    tree, cumulative = tree_of(leaves), leaves.cumsum()  # whole numbers: both are exact
    mass = np.r_[np.random.default_rng(seed).uniform(0, tree.total, 50), cumulative[cumulative < tree.total], 0.0]
    np.testing.assert_array_equal(tree.find(mass), np.searchsorted(cumulative, mass, side="right"))


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(float, st.integers(1, 70), elements=PRIORITIES), st.integers(0, 2**32 - 1))
def test_a_leaf_without_priority_is_never_found(leaves, seed):
    if not leaves.any():
        leaves[len(leaves) // 2] = 1e-300
    tree = tree_of(leaves)
    mass = np.random.default_rng(seed).uniform(0, 1, 50) * tree.total
    edges = np.minimum(leaves.cumsum(), tree.total)
    mass = np.r_[mass, edges, np.nextafter(edges, np.inf), 0.0, tree.total, 2 * tree.total]
    assert (tree[tree.find(mass)] > 0).all()


# --- draws and weights ---


def test_each_slice_of_the_total_gives_one_draw():
    tree = tree_of([1, 2, 0, 1])  # slices 0..1, 1..2, 2..3, 3..4
    assert stratified(tree, np.zeros(4)).tolist() == [0, 1, 1, 3]
    assert stratified(tree, np.full(4, 0.999)).tolist() == [0, 1, 1, 3]
    assert stratified(tree, np.ones(2)).tolist() == [1, 3]


def test_draws_are_in_proportion_to_priorities():
    tree = tree_of([1, 0, 3, 6])
    rng = np.random.default_rng(0)
    drawn = np.concatenate([stratified(tree, rng.random(32)) for _ in range(500)])
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), [0.1, 0, 0.3, 0.6], atol=0.005)


def test_weights_by_hand():
    # P = .1, .4 of 4 stored: N·P = .4, 1.6; to the power -1: 2.5, .625; over the largest: 1, .25
    weights = importance_weights(np.array([1.0, 4.0]), total=10.0, n_stored=4, beta=1.0)
    np.testing.assert_allclose(weights, [1, 0.25])
    np.testing.assert_allclose(importance_weights(np.array([1.0, 4.0]), 10.0, 4, beta=0.0), [1, 1])
    with pytest.raises(ValueError, match="above 0; the smallest is 0"):
        importance_weights(np.array([1.0, 0.0]), 10.0, 4, 0.5)


# --- n steps ---


def test_three_steps_by_hand():
    rewards = np.array([[1.0, 2.0, 4.0]] * 4)
    ended = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    returns, last, discounts = n_step_returns(rewards, ended, 0.5)
    assert returns.tolist() == [3.0, 1.0, 2.0, 3.0]  # 1 + .5·2 + .25·4; 1; 1 + .5·2; all three
    assert last.tolist() == [2, 0, 1, 2]
    assert discounts.tolist() == [0.125, 0.5, 0.25, 0.125]


def test_what_comes_after_the_end_does_not_matter():
    returns, _, _ = n_step_returns(np.array([[1.0, np.nan]]), np.array([[True, False]]), 0.9)
    assert returns.tolist() == [1.0]


def test_one_step_is_its_reward():
    rewards = np.array([[3.0], [4.0]], np.float32)
    returns, last, discounts = n_step_returns(rewards, np.array([[False], [True]]), 0.9)
    assert returns.tolist() == [3, 4]
    assert last.tolist() == [0, 0]
    assert returns.dtype == discounts.dtype == np.float32
    np.testing.assert_allclose(discounts, 0.9)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0, 1))
def test_n_steps_are_what_a_loop_adds_up(seed, n, gamma):
    rng = np.random.default_rng(seed)
    rewards, ended = rng.normal(size=(20, n)), rng.random((20, n)) < 0.3
    returns, last, discounts = n_step_returns(rewards, ended, gamma)
    for i in range(20):
        total = 0.0
        for j in range(n):
            total += gamma**j * rewards[i, j]
            if ended[i, j]:
                break
        assert last[i] == j
        np.testing.assert_allclose([returns[i], discounts[i]], [total, gamma ** (j + 1)], rtol=1e-12, atol=1e-12)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"both are \[N, n\]"):
        n_step_returns(np.ones((2, 3)), np.zeros((2, 2), bool), 0.9)
    with pytest.raises(ValueError, match=r"both are \[N, n\]"):
        n_step_returns(np.ones(3), np.zeros(3, bool), 0.9)
