"""`model.head_solver: lbfgs` solves the head of a run, through the ordinary run directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from resnet_tl import ImageClassifier, ImageDataModule, Predictor, Run
from resnet_tl.errors import UserError
from resnet_tl.finetuning.defaults import DEFAULTS
from resnet_tl.recipe import resolved_text
from resnet_tl.training.fit import fit
from resnet_tl.training.recorder import RunRecorder

Solve = Callable[..., Run]


class Deep(nn.Module):
    """A network of the user's own whose head has two layers."""

    head = "classifier"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


@pytest.fixture
def solve(blobs: Path, tmp_path: Path) -> Solve:
    """`solve("name", epochs, data={...}, trainer={...}, **settings)` gives the run."""

    def run(
        name: str,
        epochs: int = 9,
        data: dict | None = None,
        trainer: dict | None = None,
        is_auto: bool = False,
        **settings: Any,
    ) -> Run:
        images = ImageDataModule(blobs, **{"augmentation": "none", "image_size": 16, "workers": 0, **(data or {})})
        model = ImageClassifier(
            **{"network": "resnet20", "weights": "none", "mode": "head", "head_solver": "lbfgs", **settings}
        )
        if is_auto:
            model.resolved["model.head_solver"] = ("lbfgs", "it is the default")
        sections: dict[str, Any] = {"model": {}, "data": {}, "trainer": {}}
        recorder = RunRecorder(name, str(tmp_path / name), lambda model: resolved_text(sections, model.resolved, ""))
        quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
        made = L.Trainer(max_epochs=epochs, callbacks=[recorder], **quiet | (trainer or {}))
        return fit(model, images, made, recorder)

    return run


def test_each_epoch_solves_with_a_weaker_penalty_and_the_best_is_kept(solve: Solve, blobs: Path):
    run = solve("run")

    history = run.history
    assert history["epoch"].tolist() == list(range(1, 10))
    assert history["train_loss"].is_monotonic_decreasing
    assert history["train_loss"].iloc[-1] < 0.1
    assert run.summary["best_epoch"] == history["epoch"][history["val_loss"].argmin()]
    assert run.summary["metrics"]["val"]["loss"] == pytest.approx(history["val_loss"].min(), rel=1e-5)
    assert run.summary["metrics"]["val"]["accuracy"] > 0.9
    assert json.loads((run.path / "freezing.json").read_text())[0]["mode"] == "head"
    predicted = Predictor(run.path, device="cpu").predict(blobs / "val")
    assert predicted["predicted"].tolist() == run.predictions("val")["predicted"].tolist()


def test_the_time_of_solving_is_counted(solve: Solve):
    run = solve("run")
    spent = run.environment["seconds"]["training"]
    assert 0 < spent < run.history["seconds"].sum() + 0.1  # without the files that are written on the way


def test_the_head_of_a_network_without_a_source_file_is_solved_too(solve: Solve):
    names: dict[str, Any] = {}
    exec(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))",
        names,
    )
    history = solve("run", network=names["Net"]()).history
    assert history["train_loss"].is_monotonic_decreasing


def test_it_is_the_same_twice(solve: Solve):
    one, two = (load_file(solve(name, 3).path / "model" / "weights.safetensors") for name in ("one", "two"))

    assert all(torch.equal(one[key], two[key]) for key in one)


def test_without_a_validation_the_path_ends_at_the_penalty_that_was_chosen(solve: Solve):
    run = solve("run", 5, data={"final": True}, stop_after=3)

    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert not [name for name in run.history if name.startswith("val_")]
    assert run.summary["best_epoch"] is None
    assert run.summary["metrics"].keys() == {"test"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "all"}, "give --model.mode head"),
        ({"head_dropout": 0.1}, "leave out model.head_dropout"),
        ({"mixup": 0.1}, "leave out model.mixup"),
        ({"activation_cache": "off"}, "leave out model.activation_cache"),
        ({"head_solver": "sgd"}, "model.head_solver is 'sgd'; it must be one of auto, lbfgs, optimizer"),
        ({"data": {"augmentation": "light"}}, "give --data.augmentation none"),
        ({"trainer": {"gradient_clip_val": 1.0}}, "leave out trainer.gradient_clip_val"),
        ({"epochs": -1}, "give trainer.max_epochs"),
    ],
)
def test_what_does_not_go_with_it_is_refused(solve: Solve, settings: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        solve("run", **settings)


@pytest.mark.parametrize(
    ("settings", "most", "why"),
    [
        ({}, 1, "24 images of 64 features and 3 classes are too many at once"),
        ({"network": Deep}, 10**9, "the network's head is not one linear layer"),
    ],
)
def test_what_auto_cannot_solve_is_trained_in_steps(
    solve: Solve, monkeypatch: pytest.MonkeyPatch, settings: dict, most: int, why: str
):
    monkeypatch.setattr("resnet_tl.training.solve_head.MOST", most)
    monkeypatch.setattr(
        "resnet_tl.finetuning.defaults.DEFAULTS", DEFAULTS | {"head": replace(DEFAULTS["head"], epochs=2)}
    )

    run = solve("run", is_auto=True, **settings)

    assert run.history["step"].tolist() == [1, 2]
    recipe = run.recipe_file.read_text()
    assert f"chose optimizer: {why}" in recipe
    assert yaml.safe_load(recipe)["trainer"]["max_epochs"] == 2
    assert yaml.safe_load(recipe)["optimizer"]["init_args"]["lr"] == DEFAULTS["head"].lr


def test_a_head_of_several_layers_is_refused_where_it_was_to_be_solved(solve: Solve):
    with pytest.raises(UserError, match="solves one linear layer, and the network's head is another"):
        solve("run", network=Deep)


def test_the_path_ends_when_three_weaker_penalties_are_no_better(solve: Solve, blobs: Path):
    run = solve("run", 30, label_smoothing=0.5)
    best, tried = run.summary["best_epoch"], len(run.history)
    assert tried == min(30, best + 3)


def test_a_plain_trainer_says_that_it_cannot_solve(blobs: Path):
    model = ImageClassifier("resnet20", weights="none", mode="head", head_solver="lbfgs")
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)

    with pytest.raises(UserError, match="use `resnet-tl fit`"):
        trainer.fit(model, datamodule=ImageDataModule(blobs, image_size=16, workers=0))
