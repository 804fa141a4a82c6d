"""What a forecast reckons up from a few steps, and that nothing remains of them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from resnet_tl import ImageClassifier, ImageDataModule, cache, timing
from resnet_tl.errors import UserError
from resnet_tl.training.console.forecast import Forecast, Pace, print_forecast
from resnet_tl.training.console.time_spent import TimeKeeper
from resnet_tl.training.fit import train

FIT: dict[str, Any] = {
    "max_epochs": 10,
    "max_steps": -1,
    "fast_dev_run": False,
    "limit_train_batches": None,
    "limit_val_batches": None,
    "limit_test_batches": None,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
}
QUIET = {"accelerator": "cpu", "devices": 1, "enable_model_summary": False}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forecast(blobs: Path):
    """`forecast({"max_epochs": 3}, {"views": 2}, mode="head")`: of a fit to the blobs, three steps an epoch."""

    def run(settings=None, data=None, **model: Any) -> Forecast:
        timing.begin("start-up")
        classifier = ImageClassifier(**{"network": "resnet20", "weights": "none", **model})
        images = ImageDataModule(**{"root": blobs, "batch_size": 8, "image_size": 16, "workers": 0, **(data or {})})
        made = Forecast(len(classifier.schedule.phases), FIT | (settings or {}))
        trainer = L.Trainer(callbacks=[TimeKeeper(), made], **QUIET | made.trainer_settings)
        train(classifier, images, trainer)
        return made

    return run


def kept() -> set[str]:
    return {entry.kind for entry in cache.entries()}


def epochs(forecast: Forecast) -> list[int]:
    return [phase.epochs for phase in forecast.phases]


def pace(*marks: tuple[int, float]) -> Pace:
    return Pace([(images, defaultdict(float, {"training": seconds})) for images, seconds in marks])


def test_a_pass_goes_at_the_pace_of_all_batches_but_the_first():
    measured = pace((0, 10.0), (8, 15.0), (8, 16.0), (4, 16.5))

    assert measured.seconds(24) == {"training": 3.0}


def test_a_pass_of_one_batch_goes_at_its_pace():
    assert pace((0, 1.0), (10, 3.0)).seconds(20) == {"training": 4.0}


def test_a_pass_over_nothing_takes_no_time():
    assert pace((0, 1.0)).seconds(0) == {}


def test_the_activation_cache_is_reckoned_with_but_not_filled(forecast, root: Path):
    made = forecast(mode="head", activation_cache="on", data={"augmentation": "none"})

    phase = made.phases[0]
    assert phase.kept == {"train": 24 + 20, "val": 0}  # they share a table
    assert made.seconds()["activations"] == pytest.approx(phase.training.seconds(24 + 20)["activations"])
    assert kept() == {"audits", "pixels"}
    assert {path.name for path in root.iterdir()} == {"cache"}


def test_each_view_is_computed_once(forecast):
    """In 100 epochs of 2 views: 24 training images twice, and the 20 that are only evaluated once."""
    made = forecast({"max_epochs": 100}, {"augmentation": "light", "views": 2}, mode="head", activation_cache="on")

    assert made.phases[0].kept == {"train": 2 * 24, "val": 20}


def test_activations_that_are_kept_are_used(forecast, fit):
    settings = {"mode": "head", "activation_cache": "on"}
    fit(1, data={"augmentation": "none"}, **settings)
    assert "activations" in kept()

    made = forecast(data={"augmentation": "none"}, **settings)

    assert made.phases[0].kept == {"train": 0, "val": 0}
    assert made.seconds()["activations"] == 0


def test_without_the_activation_cache_every_epoch_computes_the_frozen_stages(forecast):
    made = forecast({"max_epochs": 100}, mode="head", activation_cache="off")

    assert made.phases[0].kept == {}
    assert made.seconds()["activations"] > 99 * made.phases[0].training.seconds(24)["activations"]


def test_images_that_are_mixed_are_not_kept_those_of_the_validation_are(forecast):
    made = forecast(mode="head", mixup=0.2, activation_cache="auto", data={"augmentation": "light"})

    assert list(made.phases[0].kept) == ["val"]
    assert made.phases[0].training.seconds(24)["activations"] > 0


def test_each_phase_is_measured_for_itself(forecast):
    schedule = [{"mode": "head", "epochs": 2}, {"mode": "last_stages", "epochs": 3}, {"mode": "all"}]
    made = forecast(schedule=schedule)

    assert epochs(made) == [2, 3, 5]
    assert all(phase.training.seconds(24)["training"] > 0 for phase in made.phases)
    assert not made.phases[2].kept


def test_each_phase_is_measured_at_its_size(forecast):
    made = forecast(schedule=[{"epochs": 5, "image_size": 16}, {"image_size": 96}], data={"test_size": 32})

    small, large = (phase.training.seconds(24)["training"] for phase in made.phases)
    assert large > 3 * small


def test_a_fit_that_counts_steps_has_as_many_epochs_as_they_fill(forecast):
    assert epochs(forecast({"max_epochs": -1, "max_steps": 8})) == [3]
    assert epochs(forecast({"max_epochs": 2, "max_steps": 8, "accumulate_grad_batches": 3})) == [2]


def test_validations_and_batches_are_counted_as_the_trainer_would(forecast):
    made = forecast({"check_val_every_n_epoch": 3, "limit_train_batches": 2, "limit_val_batches": 0.5})

    assert made.images == {"train": 16, "val": 7, "test": 7}
    validation = made.phases[0].validation
    total = 3 * validation.seconds(7)["validation"] + 2 * validation.seconds(7)["validation"]
    assert made.seconds()["validation"] == pytest.approx(total)


def test_a_fit_without_an_end_has_no_forecast(forecast):
    with pytest.raises(UserError, match="give trainer"):
        forecast({"max_epochs": -1})


def test_a_schedule_that_is_not_reached_is_refused_as_by_the_fit(forecast):
    with pytest.raises(UserError, match="begins after 10 epochs"):
        forecast(schedule=[{"mode": "head", "epochs": 10}, {"mode": "all"}])


def test_it_says_the_time_and_the_memory(forecast, capsys):
    print_forecast(forecast())

    out = capsys.readouterr().out
    assert "an estimate" in out
    assert "forward, backward, step" in out
    assert "GB of this process" in out
