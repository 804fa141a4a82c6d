"""In a real kernel: the cells of docs/notebook.md, a cell that is stopped, and a mistake."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_readme import ROOT, blocks

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.slow

PARTS = """
import lightning as L
from resnet_tl import ImageClassifier, ImageDataModule

class Tells(L.Callback):
    def on_train_batch_end(self, trainer, *step):
        if trainer.global_step == 3 and stops:
            print("third step", flush=True)
            __import__("time").sleep(1)

def parts():
    trainer = L.Trainer(max_epochs=2, callbacks=[Tells()], accelerator="cpu", enable_progress_bar=False,
                        enable_model_summary=False, logger=False)
    return ImageClassifier(mode="last_stages"), ImageDataModule(source="seedlings_sample", workers=1), trainer
"""
REST = "import threading, multiprocessing; print(len(multiprocessing.active_children()), *threading.enumerate())"


class Kernel:
    """A kernel in a folder; `kernel(cell)` gives its outputs."""

    def __init__(self, folder: Path) -> None:
        self.manager = jupyter_client.KernelManager(kernel_name="python3")
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        commands = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # `!resnet-tl`
        self.manager.start_kernel(cwd=str(folder), env=os.environ | {"PYTHONPATH": path, "PATH": commands})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def __call__(self, cell: str, stop_at: str = "") -> list[dict[str, Any]]:
        """Runs a cell, and stops it once it has printed `stop_at`."""
        found: list[dict[str, Any]] = []
        places: dict[str, int] = {}

        def take(message: dict[str, Any]) -> None:
            name = message["content"].get("transient", {}).get("display_id")
            if message["msg_type"] == "update_display_data":
                found[places[name]] = message["content"]
            elif message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
                places[name] = len(found)
                found.append(message["content"])
                if stop_at and stop_at in message["content"].get("text", ""):
                    threading.Timer(0.1, self.manager.interrupt_kernel).start()

        self.client.execute_interactive(cell, output_hook=take, timeout=300, allow_stdin=False)
        return found

    def printed(self, cell: str) -> str:
        return "".join(output["text"] for output in self(cell) if output.get("name") == "stdout")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    started = Kernel(tmp_path_factory.mktemp("notebook"))
    yield started
    started.client.stop_channels()
    started.manager.shutdown_kernel(now=True)


def test_the_cells_of_the_page_run_and_show_what_it_says(kernel: Kernel):
    shown = [kernel(cell) for cell in blocks(ROOT / "docs" / "notebook.md", "python")]

    assert not [output for outputs in shown for output in outputs if "ename" in output]
    fit, figure, bundle, command, run, mistakes, _, comparison, pair = shown[1:]
    page = next(page for output in fit if "epoch  " in (page := output.get("data", {}).get("text/html", "")))
    assert page.count("\n") < 20  # one output: no wall of lines
    assert "  5/5  " in page
    assert "<progress" not in page  # the bar has gone
    assert [sorted(output["data"]) for output in (*figure, *pair)] == [["image/png", "text/plain"]] * 2
    assert "validation accuracy 82.5 %" in bundle[0]["data"]["text/plain"]
    assert "\x1b" not in "".join(output.get("text", "") for output in command)
    assert "Best epoch" in "".join(output.get("text", "") for output in command)
    assert "data:image/png;base64," in run[0]["data"]["text/html"]
    assert "probability" in mistakes[0]["data"]["text/html"]
    assert "| first |" in comparison[0]["data"]["text/markdown"]


def test_a_mistake_is_one_line(kernel: Kernel):
    kernel(PARTS)
    for cell in (
        "ImageClassifier(mode='haed')",
        "L.Trainer(logger=False).fit(ImageClassifier(), datamodule=ImageDataModule('photoz'))",
    ):
        (error,) = [output for output in kernel(cell) if "ename" in output]
        assert len(error["traceback"]) == 1
        assert "\n" not in error["traceback"][0]


def test_a_cell_that_is_stopped_leaves_what_goes_on_and_nothing_else(kernel: Kernel):
    weigh = "\nprint(sum(float(w.detach().double().sum()) for w in model.network.parameters()), model.numbers['val'])"
    kernel(PARTS)
    whole = kernel.printed(f"stops = False\nmodel, data, trainer = parts()\ntrainer.fit(model, datamodule=data){weigh}")
    before = kernel.printed(REST)

    stop = "stops = True\nmodel, data, trainer = parts()\ntrainer.fit(model, datamodule=data)"
    error = kernel(stop, stop_at="third step")[-1]

    assert error["traceback"] == [
        "stopped by Ctrl-C; go on with: trainer.fit(model, datamodule=data, ckpt_path='checkpoints/last.ckpt')"
    ]
    assert kernel.printed(REST) == before
    goes_on = error["traceback"][0].split("go on with: ")[1]
    assert kernel.printed(f"stops = False\n{goes_on}{weigh}").splitlines()[-1] == whole.splitlines()[-1]
    slept = kernel("print('asleep', flush=True); __import__('time').sleep(60)", stop_at="asleep")
    assert slept[-1]["ename"] == "KeyboardInterrupt"  # the kernel hears the next one
