from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resnet_tl.evaluation.uncertainty.familiarity import KTH, Reference, p_values, strange_up_to
from resnet_tl.evaluation.uncertainty.nearest import nearest, unit


def images(count: int, generator: np.random.Generator, centre: float = 3.0) -> np.ndarray:
    return generator.normal(size=(count, 6)).astype(np.float32) + np.array([centre, 0, 0, 0, 0, 0], np.float32)


def reference(generator: np.random.Generator, train: int = 80, val: int = 200) -> Reference:
    rows = np.arange(train)
    return Reference.make(images(train, generator), rows % 3, rows, images(val, generator))


def test_of_ordinary_images_at_most_one_per_cent_are_called_strange() -> None:
    generator = np.random.default_rng(0)
    alarms = [float((reference(generator).familiarity(images(200, generator)) <= 0.01).mean()) for _ in range(150)]

    mean, error = np.mean(alarms), np.std(alarms) / np.sqrt(len(alarms))
    assert mean - 3 * error <= 0.01  # 2 of 201, by the theory 0.00995
    assert mean > 0.005


def test_images_from_elsewhere_are_strange() -> None:
    generator = np.random.default_rng(0)

    assert (reference(generator).familiarity(images(50, generator, centre=-30.0)) <= 1 / 201).all()


def test_familiarity_is_the_share_of_images_at_least_as_far() -> None:
    distances = np.array([0.1, 0.2, 0.2, 0.4])

    assert p_values(np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]), distances).tolist() == [1, 1, 0.8, 0.4, 0.4, 0.2]


def test_the_validation_images_themselves_are_spread_evenly() -> None:
    generator = np.random.default_rng(1)
    val = images(99, generator)
    known = Reference.make(images(50, generator), np.zeros(50), np.arange(50), val)

    assert sorted(known.familiarity(val)) == pytest.approx(np.arange(2, 101) / 100)


def test_the_distance_is_that_to_the_kth_nearest() -> None:
    generator = np.random.default_rng(2)
    known, new = reference(generator), images(10, generator)

    expected = nearest(unit(new), unit(known.features), KTH)[0][:, KTH - 1]
    assert known.distance(new).tolist() == expected.tolist()
    few = Reference.make(images(3, generator), np.zeros(3), np.arange(3), new)
    assert few.neighbours == 3


def test_it_is_read_back_as_it_was() -> None:
    known = reference(np.random.default_rng(3))

    again = Reference.of_arrays(known.arrays, known.neighbours)

    assert all((again.arrays[name] == array).all() for name, array in known.arrays.items())


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.full((80, 6), np.nan, np.float16)},
        {"features": np.zeros((80, 6), np.float32)},
        {"features": np.zeros((0, 6), np.float16)},
        {"labels": np.zeros(79, np.int64)},
        {"rows": np.zeros((80, 1), np.int64)},
        {"distances": np.array([0.2, 0.1], np.float32)},
        {"distances": np.array([], np.float32)},
        {"distances": np.array([np.inf], np.float32)},
        {"neighbours": 0},
        {"neighbours": 81},
        {"neighbours": "5"},
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"arrays|neighbours"):
        replace(reference(np.random.default_rng(4)), **change)


def test_further_arrays_or_fewer_are_refused() -> None:
    arrays = reference(np.random.default_rng(5)).arrays

    for wrong in ({**arrays, "more": arrays["rows"]}, {"rows": arrays["rows"]}, {}):
        with pytest.raises(ValueError, match="must hold"):
            Reference.of_arrays(wrong, 5)


def test_with_few_validation_images_only_the_strangest_are_called_so() -> None:
    assert strange_up_to([500]) == 0.01
    assert strange_up_to([500, 49]) == 0.02
    assert strange_up_to([18, 500]) is None
    assert strange_up_to([]) is None
