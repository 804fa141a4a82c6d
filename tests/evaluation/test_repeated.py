from __future__ import annotations

import numpy as np

from resnet_tl.evaluation.predictions import table_of
from resnet_tl.evaluation.repeated import answers, own_arrays, repeated

CLASSES = ("ant", "bee")
SHARES = np.array([[0.9, 0.1], [0.5005, 0.4995], [0.2, 0.8]])


def table(shares: np.ndarray = SHARES, labels: tuple[int, ...] = (0, 1, -1)):
    return table_of(["a", "b", "c"], ["", "", ""], np.array(labels), shares, CLASSES)


def test_the_same_table_is_the_same():
    made = answers(table())
    found = repeated(table(), "abc", "abc", made, 0.001)
    assert found is not None
    assert (found.images, found.of, found.largest, found.differing) == (3, 3, 0, ())
    assert found.words() == (
        "The same as when the model was made: 3 of 3 images, largest difference of a probability 0."
    )


def test_a_difference_up_to_the_tolerance_is_said_and_a_tie_may_turn():
    made = [*answers(table()), answers(table())[0]]
    now = SHARES + np.array([[0, 0], [-0.0008, 0.0008], [2.1e-6, -2.1e-6]])
    found = repeated(table(now), "abc", "abcd", made, 0.001)
    assert found is not None
    assert found.differing == ()
    assert found.words().endswith("3 of 4 images, largest difference of a probability 0.0008.")


def test_images_that_differ_are_named_and_those_of_another_class_counted():
    made = answers(table())
    now = np.array([[0.4, 0.6], [0.5005, 0.4995], [0.1, 0.9]])
    found = repeated(table(now), "abc", "abc", made, 0.001)
    assert found is not None
    assert found.words() == (
        "Not the same as when the model was made: 2 of 3 images differ by more than 0.001 in a probability (a, c), "
        "0.5000 at most; 1 of them get another class."
    )
    nothing = repeated(table(np.full((3, 2), np.nan)), "abc", "abc", made, 0.001)
    assert nothing is not None
    assert nothing.differing == ("a", "b", "c")


def test_other_images_are_not_compared():
    assert repeated(table(), "xyz", "a", answers(table())[:1], 0.001) is None


def test_copies_are_compared_as_often_as_the_image_was_judged():
    first = answers(table())[0]
    once, twice = (repeated(table(SHARES[[0, 0, 0]]), "aaa", "a" * times, [first] * times, 0.001) for times in (1, 2))
    assert once is not None
    assert twice is not None
    assert (once.images, once.of, twice.images, twice.of) == (1, 1, 2, 2)


def test_a_bundle_keeps_the_labelled_images_by_their_content():
    hashes = np.arange(96, dtype=np.uint8).reshape(3, 32)
    own = own_arrays(table(), hashes)
    assert own["content"].tolist() == hashes[:2, :16].tolist()  # the third one has no label
    assert own["own_probability"].tolist() == [0.9, 0.5005]
    assert set(own) == {"content", "own_probability"}
