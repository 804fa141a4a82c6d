"""What a GPU makes of resnet-tl: tests that need one, fits of each mode, exactness, training speed, peak memory.

    python benchmarks/gpu.py --minutes 6 --output runs/gpu

The parts come in the order of what tells most, and each result is printed as soon as it is known. A part has a share of
the minutes; what does not fit is listed as left out, and an error is printed with its traceback, recorded, and the next
case runs. OUTPUT.json and OUTPUT.md hold the results; the Markdown table is for docs/performance.md. It draws its own
photos, begins with random weights and needs neither network nor installation: a checkout and the packages of
pyproject.toml are enough (pytest for the first part). Without a GPU it tries itself out on small images in a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from machine import machine
from photo_folders import draw_photos

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.02
"""Of a probability, with kept activations and without: a GPU chooses its kernels, thus the rounding, by batch size."""
Result = dict[str, Any]
Cases = dict[str, Callable[[], Result]]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        photos, some_photos: files to draw for the speed of training, and for a fit.
        image_size: side in pixels of what the networks see.
        batch_size, tiny_batch_size: images in a step, of photos and of CIFAR's size.
        steps: of a measured epoch at most.
        epochs: of a fit.
        modes: those that are fitted.
        peak: batch size, widths and side of the convolutions that find the device's peak.
    """

    photos: int = 16384
    some_photos: int = 2048
    image_size: int = 224
    batch_size: int = 256
    tiny_batch_size: int = 128
    steps: int = 100
    epochs: int = 3
    modes: tuple[str, ...] = ("head", "last_stages", "all")
    peak: tuple[int, tuple[int, ...], int] = (256, (128, 256, 512), 28)


SMALL = Scale(48, 32, 64, 4, 8, 2, 1, ("last_stages",), (2, (32,), 14))


@dataclass
class Bench:
    """What all parts share."""

    folder: Path
    scale: Scale
    accelerator: str  # gpu or cpu
    precision: str = "32-true"
    peak: float | None = None
    results: list[Result] = field(default_factory=list)

    def fit(self, name: str, cache: str, *flags: str) -> tuple[float, Path]:
        """Wall seconds and run directory of a whole `resnet-tl fit` in a process of its own."""
        scale, run = self.scale, self.folder / "runs" / name
        photos = draw_photos(self.folder / "some", scale.some_photos, scale.image_size)
        command = [sys.executable, "-m", "resnet_tl", "fit", "--run", str(run), "--data.root", str(photos)]
        command += ["--model.network", "resnet18", "--model.weights", "none"]
        command += ["--data.image_size", str(scale.image_size), "--trainer.accelerator", self.accelerator]
        started = time.perf_counter()
        call([*command, *flags], self.folder / cache, self.folder / f"{name}.txt")
        return time.perf_counter() - started, run

    def train(self, photos: Path, network: str, **options: Any) -> Result:
        """Training images/s in this process."""
        from training_rate import training_rate

        options |= {"accelerator": self.accelerator, "precision": self.precision, "steps": self.scale.steps}
        return training_rate(photos, network, **options)


class TimeIsUp(BaseException):
    """The minutes of a part are over; no Exception, so that nothing on the way takes it for one of its own."""


def time_is_up(*_: Any) -> None:
    """Raises it; called by the alarm."""
    raise TimeIsUp


def environment(cache: Path) -> dict[str, str]:
    """Of a process that uses this checkout, a cache of its own and no network."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    settings = {"PYTHONPATH": paths, "RESNET_TL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return os.environ | settings | {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}  # as in `resnet-tl`


def call(command: list[str], cache: Path, log: Path, is_shown: bool = False) -> str:
    """What a command prints; RuntimeError with it when it does not end with 0."""
    try:
        with log.open("w") as file:
            done = subprocess.run(command, env=environment(cache), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    finally:  # also when the time was up
        if is_shown:
            print(log.read_text("utf-8", "replace")[-20000:], flush=True)
    text = log.read_text("utf-8", "replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{text[-6000:]}")
    return text


def device_tests(bench: Bench) -> Cases:
    """The suite's tests with the marker `gpu`."""

    def run() -> Result:
        if bench.accelerator == "cpu":
            return {"left out": "there is no GPU"}
        if subprocess.run([sys.executable, "-c", "import pytest"], capture_output=True).returncode:
            return {"left out": "pytest is not installed"}
        files = [str(file) for file in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8")]
        # Without the options of pyproject.toml, some of which need further packages.
        command = [sys.executable, "-u", "-m", "pytest", "-o", "addopts=", "--import-mode=importlib", "-m", "gpu"]
        command += ["-p", "no:cacheprovider", "-v", "--tb=short", *files]
        try:
            text = call(command, bench.folder / "cache", bench.folder / "pytest.txt", is_shown=True)
        except RuntimeError as error:
            failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", str(error), flags=re.MULTILINE)
            return {"error": f"failed: {', '.join(failed) or error}"}
        return {"pytest": text.strip().rpartition("\n")[2].strip("= ")}

    return {"tests": run}


def fits(bench: Bench) -> Cases:
    """A fit of each mode with an empty cache, and again."""

    def run(mode: str, state: str) -> Result:
        flags = ("--model.mode", mode, "--trainer.max_epochs", str(bench.scale.epochs))
        seconds, folder = bench.fit(f"{mode}-{state}", f"cache-{mode}", *flags)
        facts = json.loads((folder / "environment.json").read_text("utf-8"))
        metrics = json.loads((folder / "summary.json").read_text("utf-8"))["metrics"]["val"]
        spent = {f"{part} s": value for part, value in facts["seconds"].items() if value >= 0.05}
        return {"wall s": seconds, **spent, "val accuracy": metrics["accuracy"], "precision": facts["precision"]}

    states = ("cold", "warm")
    return {f"{mode}, {state} cache": partial(run, mode, state) for mode in bench.scale.modes for state in states}


def kept_activations(bench: Bench) -> Cases:
    """Whether a fit that keeps the activations of its frozen stages predicts what one without the cache predicts."""

    def run() -> Result:
        import pandas as pd

        tables = []
        for cache in ("on", "off"):
            flags = ("--model.mode", "last_stages", "--trainer.max_epochs", "1", "--trainer.precision", "32-true")
            _, folder = bench.fit(f"kept-{cache}", "cache-last_stages", *flags, "--model.activation_cache", cache)
            tables.append(pd.read_csv(folder / "predictions" / "val.csv").sort_values("path"))
        kept, computed = tables
        difference = float(abs(kept.filter(like="prob_").to_numpy() - computed.filter(like="prob_").to_numpy()).max())
        same = float((kept["predicted"].to_numpy() == computed["predicted"].to_numpy()).mean())
        found: Result = {"largest difference of a probability": difference, "same class": same, "tolerance": TOLERANCE}
        return found | ({} if difference <= TOLERANCE else {"error": "the difference is above the tolerance"})

    return {"last_stages, 32-true, on against off": run}


def automatic_precision(bench: Bench) -> Cases:
    """What `trainer.precision: auto` becomes."""

    def run() -> Result:
        from resnet_tl.training.trainer.precision import choose_precision

        bench.precision, why = choose_precision(bench.accelerator)
        return {"chosen": bench.precision, "why": why}

    return {"auto": run}


def training(bench: Bench) -> Cases:
    """Training images/s of mode `all` on photos, beside the same step alone and the device's peak."""

    def peak() -> Result:
        from training_rate import convolution_peak

        bench.peak = convolution_peak(bench.accelerator, bench.precision, *bench.scale.peak)
        return {"TFLOP/s": bench.peak / 1e12, "precision": bench.precision}

    def run(network: str, is_compiled: bool) -> Result:
        if is_compiled and bench.accelerator == "cpu":
            return {"left out": "torch.compile is tried on a GPU only"}
        photos = draw_photos(bench.folder / "many", bench.scale.photos, bench.scale.image_size)
        sizes = {"image_size": bench.scale.image_size, "batch_size": bench.scale.batch_size}
        return bench.train(photos, network, is_compiled=is_compiled, peak=bench.peak, **sizes)

    cases: Cases = {"peak of convolutions": peak}
    for ending, is_compiled in (("channels_last", False), ("channels_last, compiled", True)):
        cases |= {f"{name}, {ending}": partial(run, name, is_compiled) for name in ("resnet18", "resnet50")}
    return cases


def tiny_images(bench: Bench) -> Cases:
    """Training images/s of ResNet-20 on pictures of CIFAR's size."""

    def run() -> Result:
        photos = draw_photos(bench.folder / "tiny", bench.scale.photos, 32, classes=10)
        sizes = {"image_size": 32, "batch_size": bench.scale.tiny_batch_size}
        return bench.train(photos, "resnet20", augmentation="shift", **sizes)

    return {"resnet20, 32 px": run}


PARTS: dict[str, tuple[Callable[[Bench], Cases], float]] = {
    "tests": (device_tests, 0.2),
    "fits": (fits, 0.27),
    "kept activations": (kept_activations, 0.1),
    "precision": (automatic_precision, 0.02),
    "training": (training, 0.35),
    "tiny images": (tiny_images, 0.06),
}
"""Each gives its cases by name, and has a share of the minutes; what it leaves goes to the next ones."""


def run_part(bench: Bench, name: str, part: Callable[[Bench], Cases], end: float) -> None:
    """Runs the cases of a part until their time is up, and records what became of each."""
    is_up = False
    for case, run in part(bench).items():
        started = time.perf_counter()
        try:
            if is_up or started >= end:
                raise TimeIsUp
            signal.setitimer(signal.ITIMER_REAL, end - started)
            found = run()
        except TimeIsUp:
            is_up = True
            found = {"left out": f"the time of this part was up, {time.perf_counter() - started:.0f} s into this case"}
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:4000], "traceback": traceback.format_exc()[-8000:]}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        bench.results.append({"part": name, "case": case, "seconds": time.perf_counter() - started, **found})
        print(table(bench.results[-1:]), flush=True)


def table(results: list[Result]) -> str:
    """The rows of a Markdown table."""

    def cell(key: str, value: Any) -> str:
        if isinstance(value, float):
            value = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{key}: {str(value).strip().splitlines()[0]}".replace("|", "/")

    rows = []
    for result in results:
        cells = (cell(*item) for item in result.items() if item[0] not in ("part", "case", "seconds", "traceback"))
        rows.append(f"| {result['part']} | {result['case']} | {'; '.join(cells)} |")
    return "\n".join(rows)


def device_facts() -> Result:
    """What the numbers depend on."""
    import lightning
    import torch

    facts = machine() | {"torch": torch.__version__, "lightning": lightning.__version__, "gpu": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gpu memory, GiB": properties.total_memory // 2**30}
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="for everything (default: 6)")
    parser.add_argument("--output", default="runs/gpu", help="the results, without .json and .md (default: runs/gpu)")
    arguments = parser.parse_args()
    start, share = time.perf_counter(), 0.0
    output = Path(arguments.output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="resnet_tl_gpu_"))
    os.environ.update(environment(folder / "cache"))
    sys.path.insert(0, str(ROOT))
    facts = device_facts()
    print(json.dumps(facts), flush=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, time_is_up)
    scale = SMALL if not facts["gpu"] else Scale() if facts["gpu memory, GiB"] > 39 else Scale(batch_size=64)
    bench = Bench(folder, scale, "gpu" if facts["gpu"] else "cpu")
    try:
        for name, (part, own) in PARTS.items():
            share += own
            print(f"\n== {name}", flush=True)
            run_part(bench, name, part, start + 60 * arguments.minutes * share)
            text = json.dumps({"machine": facts, "minutes": arguments.minutes, "results": bench.results}, indent=1)
            output.with_name(f"{output.name}.json").write_text(text, encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    markdown = "; ".join(f"{name} {value}" for name, value in facts.items())
    markdown += f"\n\n| part | case | found |\n|---|---|---|\n{table(bench.results)}\n"
    output.with_name(f"{output.name}.md").write_text(markdown, encoding="utf-8")
    print(f"\n{text}\n\n{markdown}", flush=True)
    return int(any("error" in result for result in bench.results))


if __name__ == "__main__":
    sys.exit(main())
