from __future__ import annotations

import errno
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.training.resuming.deferred_checkpoints import DeferredCheckpointIO


def epoch_of(file: Path) -> int:
    return torch.load(file, weights_only=True)["epoch"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "best.ckpt", tmp_path / "last.ckpt"


def test_the_first_is_written_at_once_and_later_ones_at_the_end(files):
    best, last = files
    keeper = DeferredCheckpointIO(seconds=60)

    for epoch in range(3):
        keeper.save_checkpoint({"epoch": epoch}, best)
        keeper.save_checkpoint({"epoch": epoch}, last)
    assert [epoch_of(file) for file in files] == [0, 0]

    keeper.teardown()
    assert [epoch_of(file) for file in files] == [2, 2]


def test_each_is_written_when_it_is_due(files):
    keeper = DeferredCheckpointIO(seconds=0)

    keeper.save_checkpoint({"epoch": 0}, files[0])
    keeper.save_checkpoint({"epoch": 1}, files[0])

    assert epoch_of(files[0]) == 1


def test_the_best_one_is_on_disk_before_a_last_one_that_speaks_of_it(files, monkeypatch):
    best, last = files
    keeper = DeferredCheckpointIO(seconds=60)
    keeper.save_checkpoint({"epoch": 0}, best)
    keeper.save_checkpoint({"epoch": 0}, last)
    keeper.save_checkpoint({"epoch": 1}, best)
    keeper._written[str(last)] -= 61  # its time has come

    keeper.save_checkpoint({"epoch": 1}, last)

    assert [epoch_of(file) for file in files] == [1, 1]


def test_after_one_that_cannot_be_written_none_is_that_speaks_of_it(files, monkeypatch):
    best, last = files
    keeper = DeferredCheckpointIO(seconds=60)
    for epoch in range(2):
        keeper.save_checkpoint({"epoch": epoch}, best)
        keeper.save_checkpoint({"epoch": epoch}, last)
    save, calls = torch.save, []

    def full_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(torch, "save", full_once)
    with pytest.raises(UserError, match="No space left"):
        keeper.teardown()

    keeper.teardown()  # Lightning's, after the error
    assert [epoch_of(file) for file in files] == [0, 0]


def test_what_waits_is_what_the_weights_were_then(files):
    weights = torch.zeros(2)
    keeper = DeferredCheckpointIO(seconds=60)
    keeper.save_checkpoint({"epoch": 0, "weights": weights}, files[0])
    keeper.save_checkpoint({"epoch": 1, "weights": weights}, files[0])
    weights += 1

    assert keeper.load_checkpoint(files[0], weights_only=True)["weights"].tolist() == [0, 0]


def test_a_removed_one_is_not_written_later(files):
    keeper = DeferredCheckpointIO(seconds=60)
    keeper.save_checkpoint({"epoch": 0}, files[0])
    keeper.save_checkpoint({"epoch": 1}, files[0])
    keeper.remove_checkpoint(files[0])
    keeper.teardown()

    assert not files[0].exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_fit_that_breaks_off_leaves_its_newest_checkpoints(tmp_path: Path, error: type[BaseException]):
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

    class Small(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            return self.layer(batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    class Breaks(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 3:
                raise error

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=5,
        callbacks=[ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False), Breaks()],
        plugins=[DeferredCheckpointIO(seconds=60)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises((error, SystemExit)):
        trainer.fit(Small(), torch.utils.data.DataLoader(torch.ones(2, 1)))

    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 2


def test_on_a_full_disk_the_one_before_stays(files):
    keeper = DeferredCheckpointIO(seconds=0)
    keeper.save_checkpoint({"epoch": 0}, files[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))

    try:
        with pytest.raises(UserError, match=r"cannot be written .*; the one before is as it was") as error:
            keeper.save_checkpoint({"epoch": 1, "weights": torch.zeros(100_000)}, files[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert "\n" not in str(error.value)
    assert epoch_of(files[0]) == 0
    assert [file.name for file in files[0].parent.iterdir()] == ["best.ckpt"]


def test_a_folder_that_has_gone_is_made_again_and_one_that_cannot_be_is_told(tmp_path: Path):
    keeper = DeferredCheckpointIO(seconds=0)
    keeper.save_checkpoint({"epoch": 0}, tmp_path / "new" / "last.ckpt")
    assert epoch_of(tmp_path / "new" / "last.ckpt") == 0

    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/last.ckpt cannot be written"):
        keeper.save_checkpoint({"epoch": 0}, tmp_path / "file" / "last.ckpt")


WRITER = """
import sys, torch
from resnet_tl.training.resuming.deferred_checkpoints import DeferredCheckpointIO
keeper, weights = DeferredCheckpointIO(seconds=0), torch.zeros(2_000_000)
print("ready", flush=True)
for epoch in range(100_000):
    keeper.save_checkpoint({"epoch": epoch, "weights": weights + epoch}, sys.argv[1])
"""


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_kill_in_the_middle_of_a_checkpoint_leaves_a_whole_one(tmp_path: Path, kills: int):
    file, moments = tmp_path / "last.ckpt", random.Random(0)
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not file.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        writer.kill()
        writer.wait()

        kept = torch.load(file, weights_only=True)
        assert (kept["weights"] == kept["epoch"]).all()
