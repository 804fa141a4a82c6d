"""`model.network: [a, b]`: frozen networks side by side, from the command line to a prediction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import resnet_tl

FILE = Path(resnet_tl.__file__).parent / "networks" / "pretrained" / "resnet20_cifar10.safetensors"
TWO = ("--model.mode", "head", "--model.network", "[resnet20, resnet20]", "--model.weights", "[default, none]")


def test_a_head_on_two_networks_is_solved_kept_and_predicts(command, blobs: Path):
    code, out, err = command("fit", "--data.root", blobs, *TWO, "--run", "two")

    assert (code, err) == (0, "")
    assert "resnet20+resnet20, weights: built-in resnet20_cifar10 + none" in out
    facts = json.loads(Path("two/model/model.json").read_text())
    assert facts["network"]["name"] == "resnet20+resnet20"
    assert [one["source"] for one in facts["weights"]["each"]] == ["built-in resnet20_cifar10", "none"]
    assert yaml.safe_load(Path("two/recipe.yaml").read_text())["model"]["network"] == ["resnet20", "resnet20"]
    assert json.loads(Path("two/freezing.json").read_text())[0]["frozen"] == ["backbone"]
    code, out, _ = command("validate", "two")
    assert code == 0
    assert command("fit", "--recipe", "two/recipe.yaml", "--run", "again").code == 0
    assert Path("two/predictions/val.csv").read_bytes() == Path("again/predictions/val.csv").read_bytes()


@pytest.mark.slow
def test_it_is_trained_in_steps_and_goes_on_from_its_checkpoint(command, blobs: Path):
    from resnet_tl import ImageClassifier

    assert command("fit", "--data.root", blobs, *TWO, "--trainer.max_epochs", 1, "--run", "steps").code == 0

    model = ImageClassifier.load_from_checkpoint("steps/checkpoints/best.ckpt", weights_only=True)
    assert model.network.name == "resnet20+resnet20"
    words = ("--model.mode", "head", "--model.network", "[resnet20, resnet20]", "--model.weights", "steps")
    assert command("fit", "--data.root", blobs, *words, "--run", "from").code == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--model.mode", "all"), "Networks side by side stay as they are: take mode head (--recipe freeze_backbone"),
        (("--model.weights", "[none]"), "model.weights is a list of 1, and model.network names 2"),
        (("--model.weights", FILE), "For networks side by side give --model.weights a list of 2, one for each"),
        (("--model.network_args", "{shortcut: projection}"), "model.network_args go with one network"),
        (("--model.network", "[resnet20, mine.Net]"), "give networks of ours or timm's by name, not mine.Net"),
        (("--model.network", "[resnet20, auto]"), "give networks of ours or timm's by name, not auto"),
        (("--model.network", "resnet20"), "model.weights is a list of 2, and model.network names 1"),
        (("--model.network", "[]"), "it must be a list of names such as [resnet18, resnet50]"),
        (("--model.network", "[resnet20, resnt18]"), "There is no network 'resnt18'"),
    ],
)
def test_what_does_not_go_with_it_ends_in_a_sentence(command, blobs: Path, flags: tuple[str, ...], sentence: str):
    code, _, err = command("fit", "--data.root", blobs, *TWO, *flags)

    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
