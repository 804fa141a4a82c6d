"""Metrics of torchmetrics: by name or as objects, on the gathered predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCohenKappa, MulticlassConfusionMatrix, MulticlassF1Score

from resnet_tl import ImageClassifier
from resnet_tl.errors import UserError
from resnet_tl.training.numbers.metrics import compute, named, snake_case
from resnet_tl.training.numbers.monitor import monitor_mode
from resnet_tl.training.numbers.predictions import Predictions

Fit = Callable[..., ImageClassifier]
KAPPA = "torchmetrics.classification.MulticlassCohenKappa"


@pytest.fixture
def predictions() -> Predictions:
    """Six images of three classes, one of them unlabelled; four of the others are judged correctly."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]] * 3
    return Predictions(np.arange(6), np.array([0, 0, 1, 2, 2, -1]), logits)


@pytest.mark.parametrize(
    ("name", "written"),
    [("MulticlassCohenKappa", "multiclass_cohen_kappa"), ("F1Score", "f1_score"), ("AUROC", "auroc")],
)
def test_a_metric_is_written_in_snake_case(name: str, written: str):
    assert snake_case(name) == written


def test_a_name_an_object_and_arguments_give_the_same(predictions: Predictions):
    given = {"class_path": KAPPA, "init_args": {"weights": None}}
    values = [compute([spec], predictions) for spec in (KAPPA, given, MulticlassCohenKappa(3))]

    assert values[0] == values[1] == values[2]
    assert values[0]["multiclass_cohen_kappa"] == pytest.approx(0.7059, abs=1e-4)  # of the labelled ones


def test_a_metric_of_many_tasks_is_told_which(predictions: Predictions):
    assert compute("torchmetrics.Accuracy", predictions) == {"accuracy": pytest.approx(0.8)}


def test_the_second_of_a_name_gets_a_number(predictions: Predictions):
    twice = [MulticlassF1Score(3, average="macro"), MulticlassF1Score(3, average="micro")]

    assert list(named(twice)) == ["multiclass_f1_score", "multiclass_f1_score_2"]
    assert compute(twice, predictions)["multiclass_f1_score_2"] == pytest.approx(0.8)


class NoOrder(Metric):
    """Says not whether higher is better."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("images", __import__("torch").tensor(0.0))

    def update(self, probabilities, labels) -> None:
        self.images += len(labels)

    def compute(self):
        return self.images


def test_a_fit_logs_it_and_may_watch_it(fit: Fit):
    model = fit(2, mode="head", metrics=[KAPPA, NoOrder()], monitor="val_multiclass_cohen_kappa")

    assert model.numbers["val"]["no_order"] == 13
    logged = model.trainer.callback_metrics["val_multiclass_cohen_kappa"]
    assert float(logged) == pytest.approx(model.numbers["val"]["multiclass_cohen_kappa"])
    assert model.monitor_mode == monitor_mode("val_multiclass_cohen_kappa", KAPPA) == "max"
    assert monitor_mode("val_multiclass_hinge_loss", "torchmetrics.classification.MulticlassHingeLoss") == "min"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metrics": "torchmetrics.classification.Kappa"}, "has no 'Kappa'"),
        ({"metrics": "no_such_module.Kappa"}, "there is no module 'no_such_module'"),
        ({"metrics": [3]}, "model.metrics has 3; it must be a metric"),
        ({"metrics": ["torch.nn.Linear"]}, "cannot be made|is no metric of torchmetrics"),
        ({"metrics": [NoOrder()], "monitor": "val_no_order"}, "does not say whether higher is better"),
        ({"metrics": [KAPPA], "monitor": "val_cohen_kappa"}, "must be one of .*val_multiclass_cohen_kappa"),
        ({"metrics": [MulticlassConfusionMatrix(3)]}, "multiclass_confusion_matrix gives no single number"),
        ({"metrics": [{"class_path": KAPPA, "init_args": {"weight": 1}}]}, "MulticlassCohenKappa cannot be made"),
    ],
)
def test_what_is_no_such_metric_is_said_in_one_sentence(fit: Fit, settings: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        fit(1, mode="head", **settings)


def test_a_subclass_computes_numbers_of_its_own(fit: Fit):
    class Mine(ImageClassifier):
        def metrics(self, predictions: Predictions) -> dict[str, float]:
            return {"images": len(predictions.rows)}

    assert fit(1, model=Mine("resnet20", weights="none", mode="head")).numbers["val"]["images"] == 13


def test_hyperparameters_hold_names_alone():
    assert ImageClassifier(metrics=[KAPPA, NoOrder()]).hparams["metrics"] == [KAPPA, f"{__name__}.NoOrder"]
