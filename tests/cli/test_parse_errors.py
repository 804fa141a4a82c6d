"""Every mistake ends with exit code 2 and one plain sentence: what is wrong, what is allowed, what is near."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from resnet_tl.cli.parse_errors import plain
from resnet_tl.cli.signatures import describe
from resnet_tl.finetuning.modes import Mode, Phase

JARGON = (
    "Traceback",
    "Namespace",
    "Union",
    "jsonargparse",
    "NoneType",
    "class_path",
    "<class",
    "typing.",
    "torch.optim.",
)


@pytest.fixture
def mistake(command, blobs: Path):
    """`mistake("--data.batch_size", "0")`: the sentence that `fit` on good images ends with."""

    def run(*flags: object, recipes: tuple[str, ...] = ("freeze_backbone",), root: Path | None = None) -> str:
        named = [word for recipe in recipes for word in ("--recipe", recipe)]
        images = ["--data.root", root or blobs, "--trainer.max_epochs", 1]
        code, out, err = command("fit", *named, *images, *flags)
        assert code == 2, (code, out, err)
        assert err.startswith("resnet-tl")
        assert not any(word in err for word in JARGON), err
        return err.split(": ", 1)[1].rstrip("\n")

    return run


FLAGS = [
    # Names.
    ("--model.mod head", "There is no setting '--model.mod'. Did you mean '--model.mode'? `resnet-tl fit --help`"),
    ("--batch_size 3", "There is no setting '--batch_size'. Did you mean '--data.batch_size'?"),
    ("--data.rooot=x", "There is no setting '--data.rooot'. Did you mean '--data.root'?"),
    ("--data 3", "There is no setting '--data'. Did you mean '--data.root'?"),
    ("--data.seed 3", "There is no setting '--data.seed'. Did you mean '--seed'?"),
    ("--model.optimizer SGD", "There is no setting '--model.optimizer'. Did you mean '--optimizer'?"),
    ("stray", "'stray' is no option of fit; they look like --data.root photos."),
    ("--data.batch_size", "--data.batch_size has no value."),
    ("--recipe", "--recipe: expected one argument"),
    # Types.
    ("--data.batch_size abc", "--data.batch_size is 'abc'; it must be a whole number."),
    ("--optimizer.betas 0.9", "--optimizer: betas of AdamW is '0.9'; it must be a list of 2 values."),
    (f"--model.warmup {'9' * 400}", f"--model.warmup is '{'9' * 60}…'; it must be a number."),
    ("--data.val_fraction lots", "--data.val_fraction is 'lots'; it must be a number."),
    ("--trainer.detect_anomaly perhaps", "--trainer.detect_anomaly is 'perhaps'; it must be true or false."),
    ("--model.head_hidden lots", "--model.head_hidden is 'lots'; it must be a list of whole numbers."),
    ("--model.head_hidden [1,a]", "--model.head_hidden is [1,a]; it must be a list of whole numbers."),
    ("--model.mode heads", "--model.mode is 'heads'; it must be one of all, last_stages, head. Did you mean 'head'?"),
    ("--data.channels 2", "--data.channels is '2'; it must be one of 1, 3, 4."),
    (
        "--trainer.precision bf16-true",
        "--trainer.precision is 'bf16-true'; it must be one of auto, 32-true, bf16-mixed, 16-mixed, 32, 16, bf16. "
        "Did you mean 'bf16-mixed'?",
    ),
    # Values.
    ("--data.batch_size 0", "data.batch_size is 0; it must be 1 or more."),
    ("--data.val_fraction 2", "data.val_fraction is 2.0; it must be from 0 to 1."),
    ("--data.image_size 4", "data.image_size is 4; it must be 8 or more."),
    ("--seed -1", "seed is -1; it must be "),
    ("--model.head_dropout 2", "model.head_dropout is 2.0; it must be at least 0 and below 1."),
    (
        "--trainer.accelerator gpuu",
        "You selected an invalid accelerator name: accelerator='gpuu'. Available names are: ",
    ),
    (
        "--model.mode last_stages --model.trainable_stages 9",
        "model.trainable_stages is 9; this network has the stages stem, stage1, stage2, stage3, so it must be 1 to 3",
    ),
    (
        "--model.network resnet19 --model.weights none",
        "There is no network 'resnet19': ResNets for small images have 6n + 2 layers (resnet20, resnet32,",
    ),
    (
        "--model.network resnet18e --model.weights none",
        "There is no network 'resnet18e', neither here nor in timm",
    ),
    (
        "--model.monitor val_acc",
        "model.monitor is 'val_acc'; it must be one of val_loss, val_accuracy, val_balanced_accuracy, val_macro_f1, "
        "val_auroc. Did you mean 'val_accuracy'?",
    ),
    # Classes: optimizers, schedulers, callbacks, loggers, phases.
    ("--optimizer SDG", "--optimizer is 'SDG', which is no optimizer of torch. Did you mean 'SGD'?"),
    ("--optimizer null", "optimizer is null; it must be an optimizer of torch such as AdamW or SGD."),
    ("--optimizer SGD --optimizer.lrr 0.1", "--optimizer: SGD has no setting 'lrr'; it has lr, momentum, "),
    ("--optimizer.lrr 0.1", "Did you mean 'lr'?"),
    ("--optimizer.lr abc", "--optimizer: lr of AdamW is 'abc'; it must be a number."),
    ("--lr_scheduler StepLRR", "which is no learning-rate scheduler of torch. Did you mean 'StepLR'?"),
    (
        "--lr_scheduler StepLR",
        "--lr_scheduler: StepLR needs step_size: add --lr_scheduler.step_size VALUE.",
    ),
    (
        "--lr_scheduler StepLR --lr_scheduler.step_size few",
        "--lr_scheduler: step_size of StepLR is 'few'; it must be a whole number.",
    ),
    (
        "--lr_scheduler.step_size 3",
        "--lr_scheduler.step_size was given without a name; put --lr_scheduler NAME before it.",
    ),
    ("--lr_scheduler LambdaLR", "--lr_scheduler: LambdaLR cannot be used in a fit: a recipe cannot hold a function; "),
    ("--lr_scheduler my_module.Slow", "--lr_scheduler is 'my_module.Slow': there is no module 'my_module', here or "),
    ("--lr_scheduler ReduceLROnPlateau", "ReduceLROnPlateau needs monitor: add --lr_scheduler.monitor VALUE."),
    (
        "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val_los",
        "lr_scheduler.monitor is 'val_los'; it must be one of val_loss, ",
    ),
    (
        "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val_accuracy",
        "lr_scheduler.monitor is val_accuracy, of which larger is better, but its mode is min: "
        "add --lr_scheduler.mode max.",
    ),
    ("--trainer.callbacks EarlyStoping", "which is no callback of Lightning. Did you mean 'EarlyStopping'?"),
    ("--trainer.callbacks EarlyStopping", "EarlyStopping needs monitor: add --trainer.callbacks.monitor VALUE."),
    (
        "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_acc",
        "trainer.callbacks.monitor of EarlyStopping is 'val_acc'; it must be one of val_loss, val_accuracy, ",
    ),
    (
        "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_accuracy",
        "add --trainer.callbacks.mode max.",
    ),
    ("--trainer.logger CSVLoger", "which is no logger of Lightning. Did you mean 'CSVLogger'?"),
    ("--trainer.logger CSVLogger", "--trainer.logger: CSVLogger needs save_dir: add --trainer.logger.save_dir VALUE."),
    ("--model.schedule head", "--model.schedule is 'head'; it must be a list of phases."),
]


@pytest.mark.parametrize(("flags", "sentence"), FLAGS, ids=[flags for flags, _ in FLAGS])
def test_a_wrong_flag_is_one_sentence(mistake, flags, sentence):
    said = mistake(*flags.split())

    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ("[{mode: head, epoch: 2}]", "a phase has no setting 'epoch'; it has mode, epochs, trainable_stages, lr, "),
        (
            "[{mode: heads}]",
            "mode of a phase is 'heads'; it must be one of all, last_stages, head. Did you mean 'head'?",
        ),
        ("[{mode: head, epochs: x}]", "epochs of a phase is 'x'; it must be a whole number."),
        (
            "[{mode: head}, {mode: all}]",
            "Phase 1 of model.schedule has no epochs; only the last one may leave them out.",
        ),
    ],
)
def test_a_wrong_phase_is_one_sentence(mistake, schedule, sentence):
    said = mistake("--model.schedule", schedule)

    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model:\n  mode: [head\n", "mine.yaml is not a YAML file (line 3): "),
        ("just text\n", "mine.yaml is not a recipe; it must have sections such as data, model, trainer."),
        ("", "mine.yaml is not a recipe; it must have sections such as data, model, trainer."),
        ("modle:\n  mode: head\n", "mine.yaml: 'modle' is not a section of a recipe; they are data, model, trainer,"),
        ("model: head\n", "mine.yaml: model is 'head'; it must hold settings, one on each line."),
        ("model:\n  mod: head\n", "mine.yaml: there is no setting 'model.mod'. Did you mean 'model.mode'?"),
        ("data:\n  seed: 3\n", "mine.yaml: there is no setting 'data.seed'. Did you mean 'seed'?"),
        ("data:\n  batch_size: many\n", "mine.yaml: data.batch_size is 'many'; it must be a whole number."),
        ("model:\n  mode: heads\n", "mine.yaml: model.mode is 'heads'; it must be one of all, last_stages, head."),
        (
            "model:\n  schedule:\n  - {mode: head, epoch: 3}\n",
            "mine.yaml: model.schedule: a phase has no setting 'epoch'",
        ),
        ("optimizer: {class_path: SDG}\n", "Did you mean 'SGD'?"),
        ("optimizer: {class_path: SGD, init_args: {lrr: 1}}\n", "mine.yaml: optimizer: SGD has no setting 'lrr'"),
        ("trainer: {callbacks: [{class_path: EarlyStoping}]}\n", "Did you mean 'EarlyStopping'?"),
    ],
)
def test_a_wrong_recipe_is_named(mistake, tmp_path, text, sentence):
    (tmp_path / "mine.yaml").write_text(text)

    said = mistake(recipes=("mine.yaml",))

    assert sentence in said
    assert "\n" not in said


def test_of_two_recipes_the_wrong_one_is_named(mistake, tmp_path):
    (tmp_path / "good.yaml").write_text("data: {batch_size: 4}\n")
    (tmp_path / "bad.yaml").write_text("data: {batch_size: many}\n")

    assert mistake(recipes=("good.yaml", "bad.yaml")).startswith("bad.yaml: data.batch_size")


def test_recipes_are_not_abbreviated(command):
    code, _, err = command("fit", "--rec", "freeze_backbone")

    assert code == 2
    assert "There is no setting '--rec'" in err


def test_no_images_named_says_what_to_give(command):
    code, _, err = command("fit")

    assert code == 2
    assert err == (
        "resnet-tl: No images were named: give data.root a folder or zip of images, or data.source a name from "
        "`resnet-tl data list`.\n"
    )


def test_an_unknown_data_set_is_named_with_the_nearest(command):
    code, _, err = command("fit", "--data.source", "hymenopterra")

    assert code == 2
    assert "There is no data set 'hymenopterra'" in err
    assert "Did you mean 'hymenoptera'?" in err


# Folders of images.


def test_a_missing_folder(mistake):
    assert "nowhere does not exist" in mistake(root=Path("nowhere"))


def test_a_folder_without_images(mistake, tmp_path):
    (tmp_path / "photos").mkdir()
    assert f"{tmp_path / 'photos'} holds no images" in mistake(root=tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    assert f"{tmp_path / 'photos'} holds no images" in mistake(root=tmp_path / "photos")


def test_one_class_only(mistake, tmp_path, blobs):
    shutil.copytree(blobs / "train" / "red", tmp_path / "photos" / "red")

    assert "has one class only, 'red'; a classifier needs two or more." in mistake(root=tmp_path / "photos")


def test_a_class_in_val_but_not_in_train(mistake, tmp_path, blobs):
    shutil.copytree(blobs, tmp_path / "photos")
    (tmp_path / "photos" / "val" / "green").rename(tmp_path / "photos" / "val" / "grene")

    assert "class 'grene' is in val but not in train. Did you mean 'green'?" in mistake(root=tmp_path / "photos")


def test_broken_images_are_listed_with_the_option_to_skip_them(mistake, tmp_path, blobs):
    shutil.copytree(blobs, tmp_path / "photos")
    broken = tmp_path / "photos" / "train" / "red" / "0.png"
    broken.write_bytes(broken.read_bytes()[:300])

    first, listed = mistake(root=tmp_path / "photos").splitlines()

    assert first.startswith("1 of 44 files in ")
    assert first.endswith("remove them, or leave them out with --data.on_bad_image skip:")
    assert "train/red/0.png" in listed
    assert not (tmp_path / "runs" / "freeze_backbone-1").exists()


# Weights.


def test_text_is_no_safetensors_file(mistake, tmp_path):
    (tmp_path / "mine.safetensors").write_text("not weights")

    assert "mine.safetensors is not a safetensors file" in mistake("--model.weights", "mine.safetensors")


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_weights_file_is_not_run(mistake, tmp_path, zipped):
    if zipped:
        torch.save(Evil(), tmp_path / "mine.pth")
    else:
        (tmp_path / "mine.pth").write_bytes(pickle.dumps(Evil()))

    said = mistake("--model.weights", "mine.pth")

    assert "holds Python objects, which are never unpickled here" in said
    assert "\n" not in said
    assert not (tmp_path / "owned").exists()


def test_a_missing_weights_file(mistake):
    assert mistake("--model.weights", "nowhere.pth") == "There is no weights file, run or bundle nowhere.pth."


def test_weights_of_another_network_are_refused(mistake, tmp_path):
    from safetensors.torch import save_file

    from resnet_tl.networks import create_network

    save_file(create_network("resnet32", 10).body.state_dict(), tmp_path / "mine.safetensors")

    said = mistake("--model.network", "resnet20", "--model.weights", "mine.safetensors")
    assert "are not those of resnet20" in said
    assert said.endswith("They look like resnet32: use --model.network resnet32.")


# The run's folder and the machine.


def test_a_run_needs_a_folder_of_its_own(mistake, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")

    assert "used is not empty; a run needs a folder of its own: choose another --run." in mistake("--run", "used")
    assert "choose another --run" in mistake("--run", "file")
    assert mistake("--run", "file/run") == "Runs cannot be written to file: it is a file; choose another --run."


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_for_the_run(mistake, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)

    assert "permission denied" in mistake("--run", "closed/run")


@pytest.mark.parametrize("devices", ["99999", "-2", "0"])
def test_more_processes_than_cores_are_never_started(mistake, monkeypatch, devices):
    def forbidden(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)

    said = mistake("--trainer.devices", devices, "--trainer.accelerator", "cpu")

    assert said.startswith(f"trainer.devices is {devices}; on this CPU it must be auto, or 1 to ")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(mistake):
    assert mistake("--trainer.accelerator", "gpu") == (
        "trainer.accelerator is gpu, but torch finds no GPU here; use cpu or auto."
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--model.schedule", "[{mode: head, epochs: 3}, {mode: all}]"],
            "the last phase of model.schedule begins after 3 epochs",
        ),
        (
            ["--model.schedule", "[{mode: head, epochs: 1}]", "--trainer.max_epochs", "2"],
            "the phases of model.schedule have 1 epochs in all",
        ),
    ],
)
def test_settings_that_do_not_go_together(mistake, tmp_path, flags, words):
    assert words in mistake(*flags)
    assert not list((tmp_path / "runs").glob("*"))  # a fit that could not begin leaves nothing behind


def test_too_little_memory_suggests_a_batch_size(mistake, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99999 bytes")

    monkeypatch.setattr("resnet_tl.training.classifier.ImageClassifier.training_step", full)

    assert mistake("--data.batch_size", 8) == (
        "The memory is too small for batches of 8 images: try --data.batch_size 4, or smaller images by "
        "--data.image_size."
    )


# The words.


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float | None, "a number"),
        (int | float, "a number"),
        (bool | int, "true or false or a whole number"),
        (Mode | None, "one of all, last_stages, head"),
        (float | Literal["auto"] | None, "auto or a number"),
        (list[int] | None, "a list of whole numbers"),
        (list[Phase] | None, "a list of phases"),
        (str | list[str | dict[str, Any]] | None, "a text or a list of texts or mappings"),
        (str | dict[str, Any] | Callable[..., Any], "a text or a mapping"),
        (torch.nn.Module, ""),
    ],
)
def test_types_are_described_in_words(hint, words):
    assert describe(hint) == words


def test_another_programs_message_loses_what_it_says_to_programmers():
    assert plain("`Trainer(x=1)` was\n given. HINT: Did you call `log`?") == "Trainer(x=1) was given."
    assert plain('Parser key "x":\n  Does not\n  Errors:\n    - Expected a list\n    - Expected null\n') == (
        'The setting "x": Expected a list'
    )
