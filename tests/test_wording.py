"""One sentence, in the words of the command line and of Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.wording import for_command_line, worded


@pytest.mark.parametrize(
    ("written", "in_python"),
    [
        ("leave them out with --data.on_bad_image skip:\n3.png", 'leave them out with on_bad_image="skip":\n3.png'),
        (
            "try --data.batch_size 4, or smaller ones by --data.image_size.",
            "try batch_size=4, or smaller ones by image_size.",
        ),
        ("give --data.workers 1 or more, or leave it out", "give workers=1 or more, or leave it out"),
        ("set it by --data.views or a recipe", "set it by views or a recipe"),
        ("give --trainer.devices 2.", "give Trainer(devices=2)."),
        ("give --trainer.check_val_every_n_epoch null, and", "give Trainer(check_val_every_n_epoch=None), and"),
        ("a tenth of it (--optimizer.lr), or less", "a tenth of it (lr), or less"),
        ("give --optimizer.lr 0.01.", "give lr=0.01."),
        ("give --data.value_range [0, 4095]", "give value_range=[0, 4095]"),
        ("data.views is 0; model.mode is head", "views is 0; mode is head"),
        ("did you mean --data.root photos/train?", 'did you mean root="photos/train"?'),
        ("take --data.root 'my photos' --data.layout flat.", 'take root="my photos", layout="flat".'),
        ("give --model.weights hf-hub:a/b: it", 'give weights="hf-hub:a/b": it'),
        ("leave them out with --on_bad_image skip", 'leave them out with on_bad_image="skip"'),
        ("`resnet-tl fit --data.root a` or --data.root b", '`resnet-tl fit --data.root a` or root="b"'),
        ("go on with: resnet-tl fit --resume a", "go on with: resnet-tl fit --resume a"),
        ("optimizer.fused is true", "optimizer.fused is true"),
    ],
)
def test_flags_and_options_become_arguments(written: str, in_python: str):
    assert worded(written) == written
    with for_command_line(False):
        assert worded(written) == in_python
        assert worded(in_python) == in_python


@pytest.mark.parametrize(
    "written",
    [
        "data.csv holds no image",
        "photos/data.views/a.png",
        "model.json is damaged",
        "model.zip and model.onnx are files",
        "trainer.fit(model, datamodule=data)",
    ],
)
def test_files_and_calls_are_no_options(written: str, in_python: None):
    assert worded(written) == written


def test_an_error_speaks_to_whoever_reads_it(tmp_path: Path):
    (tmp_path / "a").mkdir()
    with for_command_line(False), pytest.raises(UserError) as caught:
        ImageDataModule(tmp_path, batch_size=0)

    assert str(caught.value) == "data.batch_size is 0; it must be 1 or more."
    with for_command_line(False):
        assert str(caught.value) == "batch_size is 0; it must be 1 or more."


def test_python_gets_pythons_words_from_a_classifier(in_python: None):
    with pytest.raises(UserError, match=r'^head_solver="lbfgs" solves a head alone: give mode="head"\.$'):
        ImageClassifier(head_solver="lbfgs")
