import numpy as np

from resnet_tl.data.quality.union import united


def test_pairs_join_to_the_smallest_of_all():
    assert united(np.array([[4, 5], [1, 4], [2, 3], [5, 1]]), 7).tolist() == [0, 1, 2, 2, 1, 1, 6]


def test_without_pairs_each_is_alone():
    assert united(np.empty((0, 2), np.int64), 3).tolist() == [0, 1, 2]


def test_a_long_chain_is_one():
    chain = np.stack([np.arange(4999), np.arange(1, 5000)], axis=1)
    for pairs in (chain, chain[::-1]):
        assert not united(pairs, 5000).any()
