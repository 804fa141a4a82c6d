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
import platform
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.02
"""Of a probability, between a fit with kept activations and one without: kernels differ by the size of the batch."""
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


SMALL = Scale(64, 32, 64, 8, 8, 3, 1, ("last_stages",), (2, (32,), 14))


@dataclass
class Bench:
    """What all parts share."""

    folder: Path
    scale: Scale
    has_gpu: bool
    precision: str = "32-true"
    peak: float | None = None
    results: list[Result] = field(default_factory=list)

    @property
    def accelerator(self) -> str:
        return "gpu" if self.has_gpu else "cpu"

    def fit(self, name: str, cache: str, *flags: str) -> tuple[float, Path]:
        """Wall seconds and run directory of a whole `resnet-tl fit` in a process of its own."""
        scale, run = self.scale, self.folder / "runs" / name
        photos = draw_photos(self.folder / "some", scale.some_photos, scale.image_size)
        command = [sys.executable, "-m", "resnet_tl", "fit", "--run", str(run), "--data.root", str(photos)]
        command += [
            "--model.network",
            "resnet18",
            "--model.weights",
            "none",
            "--data.image_size",
            str(scale.image_size),
        ]
        command += ["--trainer.accelerator", self.accelerator, "--trainer.max_epochs", str(scale.epochs), *flags]
        started = time.perf_counter()
        done = subprocess.run(command, env=environment(self.folder / cache), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-6000:]}"
            )
        return time.perf_counter() - started, run


class TimeIsUp(BaseException):
    """The minutes of a part are over; no Exception, so that nothing on the way takes it for one of its own."""


def environment(cache: Path) -> dict[str, str]:
    """Of a process that uses this checkout, a cache of its own and no network."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": paths, "RESNET_TL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def draw_photos(root: Path, number: int, side: int, classes: int = 4, seconds: float = 20.0) -> Path:
    """Random JPEGs with soft shapes and a tint for each class, as many as the seconds allow; a second call draws none."""
    import numpy as np
    from PIL import Image

    end = time.perf_counter() + seconds

    def draw(one: int) -> None:
        if time.perf_counter() > end and one >= 8 * classes:
            return
        generator = np.random.default_rng(one)
        shapes = generator.integers(20, 200, (8, 8, 3))
        shapes[..., one % 3] += 20 * (one % classes)
        pixels = Image.fromarray(shapes.astype(np.uint8)).resize(
            (side * 3 // 2, side * 9 // 8), Image.Resampling.BICUBIC
        )
        pixels.save(root / f"class_{one % classes}" / f"{one}.jpg", quality=90)

    if not root.is_dir():
        for label in range(classes):
            (root / f"class_{label}").mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(draw, range(number)))
    return root


# The parts: each gives its cases by name; a case returns what it has found.


def device_tests(bench: Bench) -> Cases:
    """The suite's tests with the marker `gpu`."""

    def run() -> Result:
        if not bench.has_gpu:
            return {"left out": "there is no GPU"}
        if subprocess.run([sys.executable, "-c", "import pytest"], capture_output=True).returncode:
            return {"left out": "pytest is not installed"}
        files = [str(file) for file in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8")]
        # Without the options of pyproject.toml, some of which need further packages.
        options = ["-o", "addopts=", "--import-mode=importlib", "-m", "gpu", "-q", "-rfEs", "--tb=short"]
        options += ["-p", "no:cacheprovider"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files],
            env=environment(bench.folder / "cache"),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        print(done.stdout[-12000:] + done.stderr[-2000:], flush=True)
        failed = re.findall(r"^(?:FAILED|ERROR) \S+", done.stdout, flags=re.MULTILINE)
        found: Result = {"pytest": done.stdout.strip().rpartition("\n")[2].strip("= ")}
        return found | (
            {"error": "; ".join(failed) or f"pytest ended with {done.returncode}"} if done.returncode else {}
        )

    return {"tests": run}


def fits(bench: Bench) -> Cases:
    """A fit of each mode with an empty cache, and again."""

    def run(mode: str, state: str) -> Result:
        seconds, folder = bench.fit(f"{mode}-{state}", f"cache-{mode}", "--model.mode", mode)
        facts = json.loads((folder / "environment.json").read_text("utf-8"))
        metrics = json.loads((folder / "summary.json").read_text("utf-8"))["metrics"]["val"]
        spent = {f"{part} s": value for part, value in facts["seconds"].items() if value >= 0.05}
        return {"wall s": seconds, **spent, "val accuracy": metrics["accuracy"], "precision": facts["precision"]}

    return {
        f"{mode}, {state} cache": partial(run, mode, state) for mode in bench.scale.modes for state in ("cold", "warm")
    }


def kept_activations(bench: Bench) -> Cases:
    """Whether a fit that keeps the activations of its frozen stages predicts what one without the cache predicts."""

    def run() -> Result:
        import pandas as pd

        tables = []
        for cache in ("on", "off"):
            flags = ("--model.mode", "last_stages", "--trainer.precision", "32-true", "--model.activation_cache", cache)
            _, folder = bench.fit(f"activations-{cache}", "cache-last_stages", *flags)
            tables.append(pd.read_csv(folder / "predictions" / "val.csv").sort_values("path"))
        names = [name for name in tables[0] if name.startswith("prob_")]
        difference = float(abs(tables[0][names].to_numpy() - tables[1][names].to_numpy()).max())
        same = float((tables[0]["predicted"].to_numpy() == tables[1]["predicted"].to_numpy()).mean())
        found: Result = {"largest difference of a probability": difference, "same class": same, "tolerance": TOLERANCE}
        return found | ({} if difference <= TOLERANCE else {"error": "the difference is above the tolerance"})

    return {"last_stages, 32-true, on against off": run}


def automatic_precision(bench: Bench) -> Cases:
    """What `trainer.precision: auto` becomes."""

    def run() -> Result:
        from resnet_tl.training.precision import choose_precision

        bench.precision, why = choose_precision(bench.accelerator)
        return {"chosen": bench.precision, "why": why}

    return {"auto": run}


def training(bench: Bench) -> Cases:
    """Training images/s of mode `all` on photos, beside the same step alone and the device's peak."""
    import torch
    from training_rate import convolution_peak, training_rate

    scale = bench.scale
    dtype = (
        torch.float32
        if bench.precision == "32-true"
        else torch.float16
        if bench.precision == "16-mixed"
        else torch.bfloat16
    )
    device = torch.device("cuda" if bench.has_gpu else "cpu")
    batch_size = scale.batch_size
    if bench.has_gpu and torch.cuda.get_device_properties(device).total_memory < 40e9:
        batch_size //= 4

    def peak() -> Result:
        bench.peak = convolution_peak(device, *scale.peak, dtype)
        return {"TFLOP/s": bench.peak / 1e12, "type": str(dtype).removeprefix("torch.")}

    def run(network: str, is_compiled: bool) -> Result:
        if is_compiled and not bench.has_gpu:
            return {"left out": "torch.compile is tried on a GPU only"}
        photos = draw_photos(bench.folder / "many", scale.photos, scale.image_size)
        options = {"accelerator": bench.accelerator, "precision": bench.precision, "peak": bench.peak}
        sizes = {"batch_size": batch_size, "image_size": scale.image_size, "steps": scale.steps}
        return training_rate(photos, network, is_compiled=is_compiled, **options, **sizes)  # type: ignore[arg-type]

    networks = ("resnet18", "resnet50")
    cases: Cases = {"peak of convolutions": peak}
    cases |= {f"{network}, channels_last": partial(run, network, False) for network in networks}
    return cases | {f"{network}, channels_last, compiled": partial(run, network, True) for network in networks}


def tiny_images(bench: Bench) -> Cases:
    """Training images/s of ResNet-20 on pictures of CIFAR's size."""
    from training_rate import training_rate

    def run() -> Result:
        scale = bench.scale
        photos = draw_photos(bench.folder / "tiny", scale.photos, 32, classes=10)
        options = {"accelerator": bench.accelerator, "precision": bench.precision, "augmentation": "shift_flip"}
        return training_rate(
            photos, "resnet20", batch_size=scale.tiny_batch_size, image_size=32, steps=scale.steps, **options
        )  # type: ignore[arg-type]

    return {"resnet20, 32 px": run}


PARTS: dict[str, tuple[Callable[[Bench], Cases], float]] = {
    "tests": (device_tests, 0.2),
    "fits": (fits, 0.27),
    "kept activations": (kept_activations, 0.1),
    "precision": (automatic_precision, 0.02),
    "training": (training, 0.35),
    "tiny images": (tiny_images, 0.06),
}
"""Each with its share of the minutes; what a part leaves goes to the next ones."""


def run_part(bench: Bench, name: str, part: Callable[[Bench], Cases], end: float) -> None:
    """Runs the cases of a part until their time is up, and records what became of each."""
    try:
        cases = part(bench)
    except Exception as error:
        cases = {"preparation": partial(_raise, error)}
    is_up = False
    for case, run in cases.items():
        started = time.perf_counter()
        try:
            if is_up or started >= end:
                raise TimeIsUp
            signal.setitimer(signal.ITIMER_REAL, max(0.01, end - started))
            found = run()
        except TimeIsUp:
            is_up = True
            found = {
                "left out": f"the time of this part was up after {time.perf_counter() - started:.0f} s of this case"
            }
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:4000], "traceback": traceback.format_exc()[-8000:]}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        bench.results.append({"part": name, "case": case, "seconds": time.perf_counter() - started, **found})
        print(table([bench.results[-1]]), flush=True)


def _raise(error: Exception) -> Result:
    raise error


def table(results: list[Result]) -> str:
    """The rows of a Markdown table."""

    def cell(key: str, value: Any) -> str:
        text = (
            f"{value:,.0f}"
            if isinstance(value, float) and abs(value) >= 1000
            else f"{value:.3g}"
            if isinstance(value, float)
            else str(value)
        )
        return f"{key}: {text}".splitlines()[0].replace("|", "/")

    left_out = ("part", "case", "seconds", "traceback")
    rows = []
    for result in results:
        cells = "; ".join(cell(key, value) for key, value in result.items() if key not in left_out)
        rows.append(f"| {result['part']} | {result['case']} | {cells} |")
    return "\n".join(rows)


def machine(has_gpu: bool) -> Result:
    """What the numbers depend on."""
    import lightning
    import torch

    facts: Result = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }
    facts |= {"cores": os.cpu_count(), "device": platform.processor() or platform.machine()}
    if has_gpu:
        properties = torch.cuda.get_device_properties(0)
        facts |= {"device": properties.name, "memory GB": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="for everything (default: 6)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu"), help="results without suffix (default: runs/gpu)"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="resnet_tl_gpu_"))
    os.environ.update(environment(folder / "cache"))
    import torch

    warnings.filterwarnings("ignore", category=UserWarning)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    has_gpu = torch.cuda.is_available()
    bench = Bench(folder, Scale() if has_gpu else SMALL, has_gpu)
    facts = machine(has_gpu)
    print(json.dumps(facts), flush=True)

    def time_is_up(*_: Any) -> None:
        raise TimeIsUp

    signal.signal(signal.SIGALRM, time_is_up)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    share = 0.0
    try:
        for name, (part, own) in PARTS.items():
            share += own
            print(f"\n== {name}", flush=True)
            run_part(bench, name, part, start + 60 * arguments.minutes * share)
            text = json.dumps({"machine": facts, "minutes": arguments.minutes, "results": bench.results}, indent=1)
            arguments.output.with_suffix(".json").write_text(text, encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    head = "; ".join(f"{key} {value}" for key, value in facts.items())
    markdown = f"{head}\n\n| part | case | found |\n|---|---|---|\n{table(bench.results)}\n"
    arguments.output.with_suffix(".md").write_text(markdown, encoding="utf-8")
    print(f"\n{text}\n\n{markdown}", flush=True)
    return int(any("error" in result for result in bench.results))


if __name__ == "__main__":
    sys.exit(main())
