from __future__ import annotations

import warnings

import numpy as np
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import compute_metrics, confusion, per_class
from resnet_tl.evaluation.predictions import prediction_table, probabilities

NAMES = tuple("abcdefghijkl")


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def table_of(labels, logits, classes=NAMES):
    ids = [str(row) for row in range(len(labels))]
    logits = np.asarray(logits, dtype=float)
    return prediction_table(ids, ids, np.asarray(labels), logits, classes[: logits.shape[1]])


def random_table(classes, rows=400, present=None):
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, present or classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += 1.5
    return table_of(labels, logits), labels, logits


@pytest.mark.parametrize("classes", [3, 12])
def test_the_numbers_are_those_of_torchmetrics(classes):
    torch = pytest.importorskip("torch")
    from torchmetrics import classification as oracle

    table, labels, _ = random_table(classes)
    scores, truth = torch.tensor(probabilities(table)), torch.tensor(labels)

    def expected(metric, **options):
        return metric(num_classes=classes, **options)(scores, truth).item()

    numbers = compute_metrics(table)

    assert numbers["accuracy"] == pytest.approx(expected(oracle.MulticlassAccuracy, average="micro"))
    assert numbers["balanced_accuracy"] == pytest.approx(expected(oracle.MulticlassAccuracy, average="macro"))
    assert numbers["macro_f1"] == pytest.approx(expected(oracle.MulticlassF1Score, average="macro"))
    assert numbers["auroc"] == pytest.approx(expected(oracle.MulticlassAUROC, average="macro"), abs=1e-6)
    if classes > 5:
        assert numbers["top5_accuracy"] == pytest.approx(expected(oracle.MulticlassAccuracy, average="micro", top_k=5))
    nll = torch.nn.functional.nll_loss(scores.log(), truth).item()
    assert numbers["loss"] == pytest.approx(nll)


@pytest.mark.parametrize(("classes", "present"), [(2, 2), (5, 5), (12, 12), (12, 7)])
def test_the_scores_of_each_class_are_those_of_scikit_learn(classes, present):
    """Also for classes that have no images, or are never predicted."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    labels, logits = (part for part in random_table(classes, rows=60, present=present)[1:])
    logits[:, 1] -= 9
    table = table_of(labels, logits)
    predicted, numbers = logits.argmax(axis=1), np.arange(classes)

    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=np.nan
    )
    scores = per_class(table)

    assert (confusion(table) == confusion_matrix(labels, predicted, labels=numbers)).all()
    assert scores["images"].tolist() == images.tolist()
    np.testing.assert_allclose(scores["precision"], precision, rtol=1e-14)
    np.testing.assert_allclose(scores["recall"], recall, rtol=1e-14)
    np.testing.assert_allclose(scores["f1"], np.where(images > 0, f1, np.nan), rtol=1e-14)
    for number in range(present):
        expected = roc_auc_score(labels == number, probabilities(table)[:, number])
        assert scores["auroc"][number] == pytest.approx(expected, rel=1e-14)


def test_the_binary_auroc_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.classification import BinaryAUROC

    table, labels, _ = random_table(2)

    expected = BinaryAUROC()(torch.tensor(probabilities(table)[:, 1]), torch.tensor(labels)).item()
    assert 0.6 < expected < 0.95
    assert compute_metrics(table)["auroc"] == pytest.approx(expected, abs=1e-6)


def test_ties_count_half_in_the_auroc_as_in_scikit_learn():
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 200), generator.integers(0, 5, 200).astype(float)
    logits = np.stack([np.zeros(200), scores], axis=1)

    assert compute_metrics(table_of(labels, logits))["auroc"] == pytest.approx(roc_auc_score(labels, scores))


def test_a_case_by_hand():
    # label a a a b; predicted a a b b
    table = table_of([0, 0, 0, 1], np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]]))

    numbers = compute_metrics(table)

    assert numbers["loss"] == pytest.approx(-np.log([0.9, 0.6, 0.2, 0.7]).mean())
    assert numbers["accuracy"] == 0.75
    assert numbers["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert numbers["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert numbers["auroc"] == pytest.approx(2 / 3)
    assert "top5_accuracy" not in numbers


def test_a_class_missing_in_val_shifts_nothing():
    # The middle class has no images; one image of the last class is taken for it.
    labels = [0, 0, 2, 2]
    logits = [[4, 0, 1], [3, 1, 0], [0, 5, 4], [0, 1, 3]]

    scores = per_class(table_of(labels, logits)).set_index("class")
    numbers = compute_metrics(table_of(labels, logits))

    assert scores["images"].tolist() == [2, 0, 2]
    assert scores["recall"].tolist() == pytest.approx([1, np.nan, 0.5], nan_ok=True)
    assert scores["f1"].tolist() == pytest.approx([1, np.nan, 2 / 3], nan_ok=True)
    assert scores["auroc"].tolist() == pytest.approx([1, np.nan, 1], nan_ok=True)
    assert scores["most_confused_with"].tolist() == ["", "", "b"]
    assert (numbers["balanced_accuracy"], numbers["auroc"]) == (0.75, 1)
    assert numbers["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert confusion(table_of(labels, logits)).tolist() == [[2, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_a_class_that_is_never_predicted_has_f1_zero_and_no_precision():
    scores = per_class(table_of([0, 1], [[1, 0], [1, 0]]))

    assert scores["f1"].tolist() == pytest.approx([2 / 3, 0])
    assert np.isnan(scores["precision"][1])


def test_with_one_class_present_there_is_no_auroc():
    for classes in (2, 4):
        assert np.isnan(compute_metrics(table_of([1, 1], np.eye(classes)[:2]))["auroc"])


def test_means_over_classes_are_means_of_the_table_per_class():
    table, _, _ = random_table(12, present=9)

    numbers, scores = compute_metrics(table), per_class(table)

    assert scores["images"].sum() == 400
    assert numbers["balanced_accuracy"] == pytest.approx(scores["recall"].mean())
    assert numbers["macro_f1"] == pytest.approx(scores["f1"].mean())
    assert numbers["auroc"] == pytest.approx(scores["auroc"].mean())


def test_unlabelled_rows_do_not_count():
    table, labels, logits = random_table(6)
    labels[::2] = -1

    assert compute_metrics(table_of(labels, logits)) == compute_metrics(table[1::2])


def test_a_probability_of_zero_costs_much_but_not_everything():
    numbers = compute_metrics(table_of([0, 1], [[0, 2000], [0, 2000]]))

    assert 300 < numbers["loss"] < 400


def test_a_uniform_model_has_no_better_top5_than_its_order_gives():
    labels = np.repeat(np.arange(12), 3)

    assert compute_metrics(table_of(labels, np.zeros((36, 12))))["top5_accuracy"] == pytest.approx(5 / 12)


def test_a_diverged_model_has_loss_and_auroc_nan():
    numbers = compute_metrics(table_of([0, 1], [[np.nan, 1], [0, 1]]))

    assert np.isnan(numbers["loss"])
    assert np.isnan(numbers["auroc"])


def test_a_table_without_labels_is_refused():
    with pytest.raises(UserError, match="no labelled image"):
        compute_metrics(table_of([-1, -1], np.eye(2)))


def test_a_label_that_is_no_class_is_refused_by_name():
    table = table_of([0, 1], np.eye(2), ("cats", "dogs"))
    table.loc[1, "label"] = "dog"

    with pytest.raises(UserError, match=r"label 'dog' .* Did you mean 'dogs'\?"):
        compute_metrics(table)
