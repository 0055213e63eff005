from collections import Counter

import numpy as np
import pytest
from scipy import stats

from rsa.data.order import Order, permute


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 64, 65, 1437, 50_000])
def test_every_epoch_is_a_permutation(samples):
    for epoch in range(2):
        assert sorted(permute(np.arange(samples), samples, 0, epoch)) == list(range(samples))


def test_all_orders_of_a_small_set_are_as_likely():
    orders = Counter(tuple(permute(np.arange(4), 4, 0, epoch)) for epoch in range(2400))
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_no_trace_of_the_stored_order_or_of_the_epoch_before():
    stored = np.arange(20_000)
    first, second = permute(stored, 20_000, 0, 0), permute(stored, 20_000, 0, 1)
    other_seed = permute(stored, 20_000, 1, 0)
    for a, b in [(stored, first), (first, second), (first, other_seed)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03  # four standard errors


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_each_epoch_covers_every_sample_once_at_any_world_size(world):
    order = Order(1003, 50, seed=3)
    assert order.steps_per_epoch == 20  # the incomplete 21st batch is dropped
    for epoch in range(2):
        ids = []
        for step in range(order.steps_per_epoch):
            for rank in range(world):
                block, of_epoch = order.batch(epoch * order.steps_per_epoch + step, rank, world)
                assert of_epoch == epoch
                ids += list(block)
        assert len(ids) == 1000
        assert len(set(ids)) == 1000


def test_ranks_cut_the_same_global_batch():
    order = Order(1003, 50, seed=3)
    whole, _ = order.batch(7)
    for world in (2, 3, 4):
        np.testing.assert_array_equal(np.concatenate([order.batch(7, rank, world)[0] for rank in range(world)]), whole)


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ValueError, match=r"batch_size must be at most the number of training images \(10\), got 64"):
        Order(10, 64, seed=0)


def test_a_billion_samples_need_no_start_up():
    ids, _ = Order(10**9, 4096, seed=0).batch(123_456)
    assert len(set(ids)) == 4096
    assert ids.max() < 10**9
