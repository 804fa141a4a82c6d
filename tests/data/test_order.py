"""Which rows come next follows from seed, epoch and rank alone, and no row is lost or shown twice."""

from __future__ import annotations

import numpy as np

from resnet_tl.data.order import epoch_order, evaluation_batches, training_batches


def test_the_order_of_an_epoch_is_a_permutation_of_the_rows() -> None:
    rows = np.arange(100, 500, 3)
    order = epoch_order(rows, seed=0, epoch=0)
    assert sorted(order) == rows.tolist()
    assert order.tolist() != rows.tolist()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    rows = np.arange(50)
    order = epoch_order(rows, 1, 2)
    np.random.seed(7)  # noqa: NPY002
    assert (epoch_order(rows, 1, 2) == order).all()
    assert (epoch_order(rows, 1, 3) != order).any()
    assert (epoch_order(rows, 2, 2) != order).any()
    assert (epoch_order(rows, 2, 1) != order).any()


def test_the_balanced_order_draws_every_class_as_often_and_only_its_own_rows() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    rows = np.arange(1000) + 5
    order = np.concatenate([epoch_order(rows, 0, epoch, balanced_by=labels) for epoch in range(5)])
    drawn = np.bincount(labels[order - 5])
    assert len(order) == 5000
    assert (np.abs(drawn - 5000 / 3) < 150).all()  # 4.5 standard deviations
    assert set(order) >= set(rows[labels == 2])
    shuffled = epoch_order(rows, 0, 0)
    assert np.bincount(labels[shuffled - 5]).tolist() == [900, 90, 10]


# The share of each rank


SIZES = [(n, batch, world) for n in (*range(1, 26), 64, 97, 100) for batch in (1, 2, 3, 8) for world in (1, 2, 3, 8)]


def test_every_rank_trains_for_as_many_steps_and_no_row_comes_twice() -> None:
    for n, batch, world in SIZES:
        order = epoch_order(np.arange(n), 0, 0)
        shares = [training_batches(order, batch, rank, world) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1, (n, batch, world)
        rows = np.concatenate([rows for share in shares for rows in share])
        assert len(set(rows.tolist())) == len(rows), (n, batch, world)
        assert max(len(rows) for share in shares for rows in share) <= batch, (n, batch, world)
        # Only a last step too small for BatchNorm is left out.
        assert n - len(rows) < min(2, batch) * world, (n, batch, world)
        if len(shares[0]) > 1:
            assert min(len(rows) for share in shares for rows in share) >= min(2, batch), (n, batch, world)


def test_the_ranks_together_take_the_steps_of_one_process() -> None:
    order = epoch_order(np.arange(97), 0, 0)
    whole = training_batches(order, 12)
    shares = [training_batches(order, 4, rank, 3) for rank in range(3)]
    for step, together in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(step) == sorted(np.concatenate(together))


def test_a_last_single_image_is_left_out_but_not_with_batches_of_one() -> None:
    assert [len(rows) for rows in training_batches(np.arange(9), 4)] == [4, 4]
    assert [len(rows) for rows in training_batches(np.arange(10), 4)] == [4, 4, 2]
    assert [len(rows) for rows in training_batches(np.arange(3), 1)] == [1, 1, 1]
    assert [len(rows) for rows in training_batches(np.arange(1), 4)] == [1]


def test_evaluation_takes_every_row_once_in_as_many_batches_on_every_rank() -> None:
    for n, batch, world in [*SIZES, (0, 4, 2)]:
        rows = np.arange(n) * 2 + 1
        shares = [evaluation_batches(rows, batch, rank, world) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1, (n, batch, world)
        taken = [row for share in shares for part in share for row in part]
        assert sorted(taken) == rows.tolist(), (n, batch, world)
        assert all(len(part) <= batch for share in shares for part in share), (n, batch, world)
        for rank, share in enumerate(shares):
            assert [row for part in share for row in part] == rows[rank::world].tolist()
