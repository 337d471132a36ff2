"""Minibatches: every sample once, its fields together."""

import numpy as np
import pytest
import torch

from agents.rollout import Samples, minibatches


def samples_of(n, kind=np.asarray):
    obs = {"a": kind(np.arange(n)), "b": kind(np.arange(n)[:, None])}
    return Samples(obs, *(kind(100.0 * i + np.arange(n)) for i in range(5)))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"), [(10, 5, [5, 5]), (10, 4, [4, 4, 2]), (10, 10, [10]), (10, 64, [10])]
)
def test_every_sample_comes_once_with_its_own_fields(kind, n, batch_size, sizes):
    batches = list(minibatches(samples_of(n, kind), batch_size))
    assert [len(batch.returns) for batch in batches] == sizes
    for batch in batches:
        index = np.asarray(batch.obs["a"])
        np.testing.assert_array_equal(np.asarray(batch.obs["b"])[:, 0], index)
        for i, field in enumerate((batch.actions, batch.values, batch.log_probs, batch.advantages, batch.returns)):
            np.testing.assert_array_equal(np.asarray(field), 100.0 * i + index)
    assert sorted(np.concatenate([np.asarray(batch.obs["a"]) for batch in batches])) == list(range(n))


def test_the_order_is_the_generators():
    def order(seed):
        np.random.seed(seed)  # noqa: NPY002 - the generator of SB3's buffers
        return [batch.obs["a"].tolist() for batch in minibatches(samples_of(50), 10)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != [list(range(i, i + 10)) for i in range(0, 50, 10)]
