from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

from rsa.data.order import Order, permutation


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 64, 65, 1437, 50_000])
def test_every_epoch_is_a_permutation(samples):
    for epoch in range(2):
        assert sorted(permutation(samples, 0, epoch)) == list(range(samples))


def test_it_is_numpys_permutation_of_seed_and_epoch_in_half_the_memory():
    want = np.random.Generator(np.random.Philox(key=[7, 3])).permutation(1000)
    got = permutation(1000, 7, 3)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int32


def test_all_orders_of_a_small_set_are_as_likely():
    orders = Counter(tuple(permutation(4, 0, epoch)) for epoch in range(2400))
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_no_trace_of_the_stored_order_or_of_the_epoch_before():
    stored = np.arange(20_000)
    first, second, other_seed = permutation(20_000, 0, 0), permutation(20_000, 0, 1), permutation(20_000, 1, 0)
    for a, b in [(stored, first), (first, second), (first, other_seed)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03  # four standard errors


def test_the_last_batch_of_an_epoch_is_smaller_where_it_is_not_dropped():
    order = Order(103, 50, seed=3, drop_last=False)
    batches = [order.batch(iteration) for iteration in range(4)]
    assert [(len(ids), epoch) for ids, epoch in batches] == [(50, 0), (50, 0), (3, 0), (50, 1)]
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in batches[:3]]), permutation(103, 3, 0))


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs whose permutations were drawn."""
    epochs: list[int] = []
    monkeypatch.setattr("rsa.data.order.permutation", lambda n, seed, epoch: epochs.append(epoch) or permutation(n, seed, epoch))
    return epochs


def test_each_epoch_is_drawn_once_and_two_are_held_at_most(drawn: list[int]):
    """Asked for some batches ahead, and for the same again behind, as the loader does."""
    order = Order(100, 10, seed=0)
    for iteration in range(50):
        order.batch(iteration + 4)
        order.batch(iteration)
        assert len(order._drawn) <= 2
    assert drawn == [0, 1, 2, 3, 4, 5]


def test_threads_that_ask_at_once_share_one_drawing(drawn: list[int]):
    order = Order(10**6, 1000, seed=0)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda rank: order.batch(3, rank, 4)[0], range(4)))
    np.testing.assert_array_equal(np.concatenate(batches), order.batch(3)[0])
    assert drawn == [0]


def test_from_any_iteration_on_and_back_again_the_ids_are_the_same():
    straight, order = Order(100, 10, seed=0), Order(100, 10, seed=0)
    want = [straight.batch(iteration)[0] for iteration in range(40)]
    for iteration in (35, 3, 4, 17, 39, 0, 12):
        np.testing.assert_array_equal(order.batch(iteration)[0], want[iteration])
        assert want[iteration].dtype == np.int64
