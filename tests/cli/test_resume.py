"""`fit --resume`: an interrupted run goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from resnet_tl import run as runs
from resnet_tl.finetuning.prefix import FrozenPrefix
from resnet_tl.training.classifier import ImageClassifier

FLAGS = ("--recipe", "train_everything", "--trainer.max_epochs", 3, "--data.batch_size", 6, "--model.mixup", 0.4)
EXACT = (
    "summary.json",
    "freezing.json",
    "recipe.yaml",
    "predictions/val.csv",
    "model/weights.safetensors",
    "model/reference.safetensors",
    "model/validation.safetensors",
)


def remains(run: Path) -> dict[str, object]:
    """What of a run must not depend on an interruption: all but times and the command."""
    recipe = (run / "recipe.yaml").read_text().splitlines()[1:]
    files = {name: (run / name).read_bytes() for name in EXACT if name != "recipe.yaml"}
    metrics = pd.read_csv(run / "metrics.csv").drop(columns="seconds").to_csv()
    return files | {"recipe": recipe, "metrics": metrics}


@pytest.fixture(scope="module")
def whole(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A run that nothing interrupts."""
    from resnet_tl.cli.main import main

    run = tmp_path_factory.mktemp("whole") / "run"
    assert main([str(word) for word in ("fit", *FLAGS, "--data.root", blobs, "--run", run)]) == 0
    return remains(run)


def signal_in(
    monkeypatch: pytest.MonkeyPatch, name: str, after: int, number: int, owner: type = ImageClassifier
) -> None:
    """The call of a method that follows `after` others gets a real signal, once."""
    real, calls = getattr(owner, name), []

    def method(self, *arguments, **options):
        calls.append(1)
        if len(calls) == after + 1:
            signal.raise_signal(number)
        return real(self, *arguments, **options)

    monkeypatch.setattr(owner, name, method)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`interrupt("training_step", 5, signal.SIGTERM)`: the sixth call of that method gets a real signal, once."""
    return partial(signal_in, monkeypatch)


def resumed(command, err: str) -> Path:
    """Types what the error says."""
    words = shlex.split(err.strip().split("go on with: resnet-tl ")[1])
    assert command(*words).code == 0
    return Path(words[-1])


@pytest.mark.parametrize(
    ("method", "after", "number", "code", "name"),
    [
        pytest.param("training_step", 0, signal.SIGINT, 130, "Ctrl-C", marks=pytest.mark.slow),
        ("training_step", 5, signal.SIGTERM, 143, "SIGTERM"),
        pytest.param("training_step", 11, signal.SIGINT, 130, "Ctrl-C", marks=pytest.mark.slow),
        pytest.param("validation_step", 1, signal.SIGTERM, 143, "SIGTERM", marks=pytest.mark.slow),
        ("validation_step", 8, signal.SIGINT, 130, "Ctrl-C"),
    ],
)
def test_a_signal_ends_the_fit_with_the_command_that_goes_on(
    command, blobs, whole, interrupt, method: str, after: int, number: int, code: int, name: str
):
    interrupt(method, after, number)

    outcome = command("fit", *FLAGS, "--data.root", blobs)

    assert outcome.code == code
    assert outcome.err == (
        f"resnet-tl: stopped by {name}; go on with: resnet-tl fit --resume runs/train_everything-1\n"
    )
    assert remains(resumed(command, outcome.err)) == whole


@pytest.mark.slow
def test_a_run_may_be_stopped_many_times(command, blobs, whole, interrupt):
    interrupt("training_step", 3, signal.SIGTERM)
    err = command("fit", *FLAGS, "--data.root", blobs).err
    for after in (2, 1, 0):
        interrupt("training_step", after, signal.SIGTERM)
        outcome = command("fit", "--resume", "runs/train_everything-1")
        assert outcome.code == 143

    assert remains(resumed(command, err)) == whole


def test_a_signal_at_the_very_end_leaves_the_evaluation_to_the_resume(command, blobs, whole, interrupt):
    interrupt("on_train_end", 0, signal.SIGTERM)
    outcome = command("fit", *FLAGS, "--data.root", blobs)

    assert outcome.code == 143
    assert remains(resumed(command, outcome.err)) == whole


def test_a_run_that_was_killed_while_it_wrote_its_results_writes_them_again(command, blobs, whole):
    command("fit", *FLAGS, "--data.root", blobs)
    run = Path("runs/train_everything-1")
    (run / "summary.json").unlink()
    (run / "model/weights.safetensors").rename(run / "model/.abcd_123.part.safetensors")

    code, out, _ = command("fit", "--resume", run)

    assert (code, "epoch" in out.split("Best")[0]) == (0, False)  # nothing is trained again
    assert remains(run) == whole
    assert sorted(file.name for file in (run / "model").iterdir()) == [
        "model.json",
        "reference.safetensors",
        "validation.safetensors",
        "weights.safetensors",
    ]


def test_a_second_ctrl_c_means_now(command, blobs, interrupt, monkeypatch):
    from resnet_tl import stopping

    monkeypatch.setattr(stopping, "AT_ONCE", 0.0)
    interrupt("training_step", 1, signal.SIGINT)
    step = ImageClassifier.training_step

    def impatient(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        if batch_idx == 1:
            signal.raise_signal(signal.SIGINT)
        return loss

    monkeypatch.setattr(ImageClassifier, "training_step", impatient)

    assert command("fit", *FLAGS, "--data.root", blobs).code == 130
    assert not Path("runs/train_everything-1/checkpoints").exists()


def test_a_signal_before_the_training_leaves_nothing(command, blobs, interrupt):
    interrupt("configure_model", 0, signal.SIGTERM)

    code, _, err = command("fit", *FLAGS, "--data.root", blobs)

    assert (code, err) == (143, "resnet-tl: stopped by SIGTERM before the training began\n")
    assert not list(Path("runs").iterdir())


def test_a_signal_while_features_are_computed_is_not_kept_waiting(command, blobs, interrupt, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    flags = ("--recipe", "freeze_backbone", "--model.activation_cache", "on", "--trainer.max_epochs", 2)
    interrupt("_rows_and_key", 0, signal.SIGTERM, FrozenPrefix)

    code, out, err = command("fit", *flags, "--data.root", blobs)

    assert code == 143
    assert "epoch" not in out
    assert resumed(command, err).name == "freeze_backbone-1"


def test_a_run_that_has_no_checkpoint_yet_begins_again_in_its_folder(command, blobs, whole):
    command("fit", *FLAGS, "--data.root", blobs)
    run = Path("runs/train_everything-1")
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()

    assert command("fit", "--resume", run).code == 0
    assert remains(run) == whole


def test_a_complete_run_is_left_alone(command, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}

    code, out, _ = command("fit", "--resume", tiny_run)

    assert (code, out) == (0, f"{tiny_run} is complete: there is nothing to resume.\n")
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def test_a_moved_run_goes_on_in_its_new_place(command, blobs, whole, interrupt):
    interrupt("training_step", 9, signal.SIGTERM)
    err = command("fit", *FLAGS, "--data.root", blobs, "--run", "my run").err
    assert err.endswith("resnet-tl fit --resume 'my run'\n")  # which can be pasted
    shutil.move("my run", "moved")

    assert command("fit", "--resume", "moved").code == 0
    assert remains(Path("moved")) == whole
    assert not Path("my run").exists()


@pytest.fixture(scope="module")
def stopped(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a run on them that was stopped in its second epoch; and `copy` of it."""
    from resnet_tl.cli.main import main

    folder = tmp_path_factory.mktemp("stopped") / "work"
    shutil.copytree(blobs, folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        signal_in(patch, "training_step", 5, signal.SIGTERM)
        words = ("fit", *FLAGS, "--data.root", "images", "--run", "run")
        assert main([str(word) for word in words]) == 143
    shutil.copytree(folder, folder.with_name("copy"))
    return folder


@pytest.fixture
def interrupted(command, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That run in its folder, as if no other test had touched it."""
    shutil.rmtree(stopped)
    shutil.copytree(stopped.with_name("copy"), stopped)
    monkeypatch.chdir(stopped)
    return Path("run")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--optimizer.lr", 1), "--optimizer.lr cannot be given with --resume: a run goes on by its own recipe"),
        (("--trainer.max_epochs=9",), "--trainer.max_epochs cannot be given with --resume"),
        (("--recipe", "freeze_backbone"), "--recipe cannot be given with --resume"),
        (("--run", "other"), "--run cannot be given with --resume"),
        (("--checkpoint_every", "soon"), "checkpoint_every is 'soon'; it must be a time such as 30s, 10m or 1.5h."),
    ],
)
def test_what_would_change_the_run_is_refused(command, interrupted, flags, sentence):
    code, _, err = command("fit", "--resume", interrupted, *flags)

    assert code == 2
    assert err.startswith(f"resnet-tl: {sentence}")


def test_what_says_where_it_runs_may_be_changed(command, interrupted, whole):
    shutil.move("images", "pictures")

    assert command("fit", "--resume", interrupted, "--data.root", "pictures", "--data.workers", 1).code == 0
    assert pd.read_csv(interrupted / "metrics.csv")["epoch"].tolist() == [1, 2, 3]


def another_training_image(images: Path) -> None:
    Image.new("RGB", (32, 32)).save(images / "train/red/0.png")


def one_validation_image_less(images: Path) -> None:
    next((images / "val/red").iterdir()).unlink()


def another_label(images: Path) -> None:
    """In the same place of the index: the last of one class becomes the first of the next."""
    first, second = sorted((images / "train").iterdir())[:2]
    max(first.iterdir()).rename(second / "+.png")


@pytest.mark.parametrize("change", [another_training_image, one_validation_image_less, another_label])
@pytest.mark.parametrize("trains", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_other_images_are_refused(command, interrupted, change, trains):
    if not trains:  # what remains are the tables and the bundle
        assert command("fit", "--resume", interrupted).code == 0
        (interrupted / "summary.json").unlink()
    change(Path("images"))

    code, _, err = command("fit", "--resume", interrupted)

    assert code == 2
    assert re.match(r"resnet-tl: The images in .*, their classes or splits are not those that the run began with", err)


def test_another_number_of_processes_is_refused(command, interrupted):
    file = interrupted / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["resnet_tl"]["processes"] = 2
    torch.save(checkpoint, file)

    code, _, err = command("fit", "--resume", interrupted)

    assert code == 2
    assert err.startswith("resnet-tl: The run was begun by 2 processes, and 1 would learn in other batches")


def test_another_recipe_is_refused(command, interrupted):
    recipe = interrupted / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 3", "max_epochs: 5"))

    code, _, err = command("fit", "--resume", interrupted)

    assert code == 2
    assert "is not what the run was begun by" in err


def test_a_run_that_another_process_trains_is_left_alone(command, interrupted, monkeypatch):
    monkeypatch.setattr(runs, "LOCK_PATIENCE", 0.1)
    lock = runs.Run(interrupted).lock()
    code, _, err = command("fit", "--resume", interrupted)
    assert code == 2
    assert err.startswith(f"resnet-tl: {interrupted.resolve()} is being trained by another process; wait for its end,")
    assert err.count("\n") == 1

    lock.release()
    assert command("fit", "--resume", interrupted).code == 0
    assert not (interrupted / ".lock").exists()


def test_a_folder_that_is_no_run_is_refused(command, tmp_path):
    assert command("fit", "--resume", "runz") == (2, "", "resnet-tl: runz is not a run: there is no such folder.\n")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def flipped(file: Path) -> None:
    """One bit, in the middle of a weight."""
    content = bytearray(file.read_bytes())
    weight = max(torch.load(file, weights_only=True)["state_dict"].values(), key=torch.numel)
    content[content.index(bytes(weight.untyped_storage())) + 1000] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["last", "best"])
@pytest.mark.parametrize("damage", [truncated, flipped, Path.unlink])
def test_a_broken_checkpoint_is_reported_in_one_sentence(command, interrupted, name, damage):
    if (name, damage) == ("last", Path.unlink):
        pytest.skip("such a run begins again")
    damage(interrupted / "checkpoints" / f"{name}.ckpt")

    code, out, err = command("fit", "--resume", interrupted)

    assert (code, "epoch" in out) == (2, False)
    assert err.startswith(f"resnet-tl: run/checkpoints/{name}.ckpt cannot be read as a checkpoint")
    assert err.count("\n") == 1


class Exploit:
    def __reduce__(self):
        return os.system, ("touch was_run",)


@pytest.mark.parametrize("write", [lambda file: torch.save({"state_dict": Exploit()}, file), None])
def test_a_checkpoint_runs_no_code(command, interrupted, write):
    file = interrupted / "checkpoints" / "last.ckpt"
    if write:
        write(file)
    else:
        file.write_bytes(pickle.dumps(Exploit()))

    assert command("fit", "--resume", interrupted).code == 2
    assert not Path("was_run").exists()


# Batch systems, which start the same command again.


def test_a_job_that_slurm_starts_again_goes_on_by_itself(command, blobs, whole, interrupt, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=":")
    interrupt("training_step", 6, signal.SIGUSR1)  # what `#SBATCH --signal=USR1@90` sends

    assert command("fit", *FLAGS, "--data.root", blobs).code == 128 + signal.SIGUSR1
    assert Path("asked").read_text() == "requeue 4711\n"

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert command("fit", *FLAGS, "--data.root", blobs).code == 0
    assert [run.name for run in Path("runs").iterdir()] == ["train_everything-1"]
    assert remains(Path("runs/train_everything-1")) == whole


@pytest.mark.slow
def test_another_job_begins_a_run_of_its_own(command, blobs, interrupt, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    interrupt("training_step", 6, signal.SIGTERM)
    assert command("fit", *FLAGS, "--data.root", blobs).code == 143

    monkeypatch.setenv("SLURM_JOB_ID", "2")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert command("fit", *FLAGS, "--data.root", blobs).code == 0
    assert sorted(run.name for run in Path("runs").iterdir()) == ["train_everything-1", "train_everything-2"]


@pytest.mark.slow
def test_another_command_of_the_same_job_begins_a_run_of_its_own(command, blobs, whole, interrupt, monkeypatch):
    other = ("--seed", 1)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    flags = (*FLAGS, "--data.root", blobs)
    interrupt("training_step", 6, signal.SIGTERM)
    assert command("fit", *flags).code == 143
    assert command("fit", *flags, *other, "--trainer.max_epochs", 1).code == 0

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert command("fit", *flags).code == 0
    assert remains(Path("runs/train_everything-1")) == whole
    code, out, _ = command("fit", *flags, *other, "--trainer.max_epochs", 1)
    assert (code, out) == (0, "runs/train_everything-2 is complete: there is nothing to resume.\n")
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.slow
def test_a_recipe_that_has_changed_begins_a_run_of_its_own(command, blobs, interrupt, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    recipe = Path("mine.yaml")
    recipe.write_text("model: {mode: head}\ntrainer: {max_epochs: 2}\n")
    flags = ("--recipe", recipe, "--data.root", blobs)
    interrupt("training_step", 0, signal.SIGTERM)
    assert command("fit", *flags).code == 143

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    recipe.write_text("model: {mode: all}\ntrainer: {max_epochs: 2}\n")
    assert command("fit", *flags).code == 0
    assert sorted(run.name for run in Path("runs").iterdir()) == ["mine-1", "mine-2"]


@pytest.mark.slow
def test_a_job_may_be_killed_in_its_first_moments_again_and_again(command, blobs, whole, interrupt, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    flags = (*FLAGS, "--data.root", blobs, "--run", "run")
    for start in range(3):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(start))
        if start < 2:
            interrupt("training_step", 4, signal.SIGTERM)
            assert command("fit", *flags).code == 143
            Path("run/checkpoints/last.ckpt").unlink()
        else:
            assert command("fit", *flags).code == 0
    assert remains(Path("run")) == whole


@pytest.mark.parametrize(
    "written",
    [["environment.json"], *[pytest.param(left, marks=pytest.mark.slow) for left in ([], [".abcd_123.part.json"])]],
)
def test_a_job_that_was_killed_in_its_first_moments_begins_again_in_its_folder(
    command, blobs, whole, monkeypatch, written
):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    flags = (*FLAGS, "--data.root", blobs, "--run", "run")
    command("fit", *flags)
    for path in Path("run").iterdir():
        if path.name not in written:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in written:
        Path("run", name).touch()

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert command("fit", *flags).code == 0
    assert remains(Path("run")) == whole
