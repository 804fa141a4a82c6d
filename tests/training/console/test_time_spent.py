from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from resnet_tl.training.console.time_spent import advice, time_table


@pytest.fixture
def say():
    """`say("input", device="cuda", pixel_cache="off")`: the advice when most of the time went into that part."""

    def told(part, device="cpu", mode="head", activation_cache="auto", pixel_cache="auto", views=None, **changes):
        trainer = SimpleNamespace(
            strategy=SimpleNamespace(root_device=torch.device(device)),
            max_epochs=changes.get("max_epochs", 10),
            check_val_every_n_epoch=changes.get("check_val_every_n_epoch", 1),
        )
        model = SimpleNamespace(hparams={"mode": mode, "schedule": None, "activation_cache": activation_cache})
        augmentation = changes.get("augmentation", "light")
        data = SimpleNamespace(pixel_cache=pixel_cache, views=views, augments=True, augmentation=augmentation)
        return advice({"rest": 1.0, part: 2.0}, trainer, model, data)

    return told


def test_the_largest_part_is_named_with_the_setting_that_shortens_it(say):
    assert "--data.pixel_cache auto" in say("input", pixel_cache="off")
    assert "--data.pixel_cache auto" in say("pixels", pixel_cache="off")
    assert "--data.workers" in say("input", device="cuda")
    assert "--data.augmentation light" in say("input", augmentation="standard")
    assert "--model.activation_cache auto" in say("activations", activation_cache="off")
    assert "--data.views 4" in say("activations")
    assert "--model.mode last_stages" in say("training", mode="all")
    assert "GPU" in say("training")
    assert "--trainer.check_val_every_n_epoch" in say("validation")


def test_where_nothing_would_help_only_the_part_is_named(say):
    assert say("files") == "Most of the time: checkpoints, tables, figures."
    assert say("input") == "Most of the time: waiting for batches."
    assert say("activations", views=1) == "Most of the time: frozen stages."
    assert say("activations", max_epochs=3) == "Most of the time: frozen stages."
    assert say("validation", check_val_every_n_epoch=2) == "Most of the time: validation."
    assert say("training", mode="all", device="cuda") != "Most of the time: forward, backward, step."


def test_the_table_has_the_parts_that_took_time_in_the_order_of_a_fit():
    console = Console(width=80)
    with console.capture() as capture:
        console.print(time_table({"training": 6.0, "start-up": 3.0, "files": 0.01, "input": 1.0}))

    lines = [line.split() for line in capture.get().splitlines()]
    assert lines[0] == ["time", "10.0", "s"]
    assert [(line[0], *line[-3:-1]) for line in lines[1:]] == [
        ("start-up", "3.0", "30"),
        ("waiting", "1.0", "10"),
        ("forward,", "6.0", "60"),
    ]
