"""How fast the frozen forward of a ResNet is, and what share of the machine's convolution peak it reaches.

    python benchmarks/frozen_forward.py --networks resnet18 resnet50

The peak is the best GFLOP/s over the 3x3 and 1x1 convolutions that ResNet-18 and ResNet-50 consist of, alone,
channels_last, in fp32 and in bf16, at the same batch size and on the same threads. Variants take turns, each first made
warm; medians of the rounds. All of them, the peak too, have the memory and thread settings of `resnet-tl`. With other
work on the machine use `--threads 1` and the column of CPU seconds. Weights are random: they do not change the speed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Inputs, outputs, kernel, side: one of each kind in stages 1 to 4.
SHAPES = [(width, width, 3, side) for width, side in ((64, 56), (128, 28), (256, 14), (512, 7))]
SHAPES += [(4 * width, width, 1, side) for width, side in ((64, 56), (128, 28), (256, 14), (512, 7))]
SHAPES += [(width, 4 * width, 1, side) for width, side in ((64, 56), (128, 28), (256, 14), (512, 7))]


@dataclass(frozen=True)
class Speed:
    """Calls in a second, by the clock and of CPU time."""

    wall: float
    cpu: float


def speed(call: Callable[[], object], seconds: float) -> Speed:
    """How often a call can be made; it runs for about so many seconds."""
    calls, started, busy = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds or not calls:
        call()
        calls += 1
    elapsed = time.perf_counter() - started
    return Speed(calls / elapsed, calls / (time.process_time() - busy))


def medians(calls: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, Speed]:
    """The median speed of each over rounds in which they take turns."""
    for call in calls.values():
        speed(call, seconds / 2)
    measured: dict[str, list[Speed]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            measured[name].append(speed(call, seconds))
    return {
        name: Speed(median(one.wall for one in rates), median(one.cpu for one in rates))
        for name, rates in measured.items()
    }


def convolution(shape: tuple[int, int, int, int], batch: int, dtype: torch.dtype) -> Callable[[], object]:
    import torch
    import torch.nn.functional as F

    inputs, outputs, kernel, side = shape
    x = torch.randn(batch, inputs, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs, kernel, kernel, dtype=dtype).contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight, padding=kernel // 2)


def peak(batch: int, dtype: torch.dtype, rounds: int) -> tuple[Speed, str]:
    """FLOP/s of the fastest convolution, and which it was."""
    calls = {str(shape): convolution(shape, batch, dtype) for shape in SHAPES}
    rates = medians(calls, rounds, 0.2)
    flops = {str(shape): 2 * batch * shape[0] * shape[1] * shape[2] ** 2 * shape[3] ** 2 for shape in SHAPES}
    name = max(rates, key=lambda name: rates[name].wall * flops[name])
    best = Speed(*(max(getattr(rates[one], clock) * flops[one] for one in rates) for clock in ("wall", "cpu")))
    inputs, outputs, kernel, side = next(shape for shape in SHAPES if str(shape) == name)
    return best, f"{kernel}x{kernel}, {inputs} to {outputs} at {side} px"


def forwards(name: str, batch: int) -> tuple[dict[str, Callable[[], object]], int]:
    """The variants of a network's forward up to its features, and their FLOP for one batch."""
    import torch

    from resnet_tl.networks import create_network
    from resnet_tl.networks.cost import stage_costs
    from resnet_tl.networks.frozen import FrozenStages

    network = create_network(name, num_classes=2).eval()
    flop = 2 * batch * sum(cost.multiply_adds for cost in stage_costs(network, 224) if cost.name != "head")
    images = torch.randn(batch, 3, 224, 224)
    last = images.contiguous(memory_format=torch.channels_last)
    network_last = create_network(name, num_classes=2).eval().to(memory_format=torch.channels_last)

    def plain() -> object:
        with torch.inference_mode():
            return network.forward_stages(images)

    def channels_last() -> object:
        with torch.inference_mode():
            return network_last.forward_stages(last)

    def autocast() -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return network_last.forward_stages(last)

    # Ours: what a fit runs below the first trained stage.
    folded, folded_half = (FrozenStages(network, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    variants: dict[str, Callable[[], object]] = {
        "fp32": plain,
        "fp32 channels_last": channels_last,
        "fp32 folded (ours)": lambda: folded(last),
        "bf16 autocast channels_last": autocast,
        "bf16 folded (ours)": lambda: folded_half(last),
    }
    return variants, flop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each variant in each round")
    arguments = parser.parse_args()
    for name, value in (("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "5000")):
        os.environ.setdefault(name, value)  # as `resnet-tl` does, before torch is imported
    import torch
    from machine import machine

    from resnet_tl.cli.keep_freed_memory import keep_freed_memory

    keep_freed_memory()

    torch.set_num_threads(arguments.threads)
    peaks = {}
    facts = machine()
    print(
        f"{facts['processor']}, {arguments.threads} threads, torch {torch.__version__}, batch {arguments.batch_size}\n"
    )
    for word, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peaks[word], shape = peak(arguments.batch_size, dtype, arguments.rounds)
        wall, cpu = peaks[word].wall / 1e9, peaks[word].cpu / 1e9
        print(f"convolution peak, {word}: {wall:.0f} GFLOP/s, {cpu:.0f} GFLOP in a CPU second ({shape})")
    print("\n| network | forward | images/s | share of peak | images in a CPU second | share of peak |")
    print("|---|---|---|---|---|---|")
    for name in arguments.networks:
        variants, flop = forwards(name, arguments.batch_size)
        for variant, rate in medians(variants, arguments.rounds, arguments.seconds).items():
            top = peaks[variant.split()[0]]
            cells = [
                f"{arguments.batch_size * rate.wall:.1f}",
                f"{rate.wall * flop / top.wall:.2f}",
                f"{arguments.batch_size * rate.cpu:.1f}",
                f"{rate.cpu * flop / top.cpu:.2f}",
            ]
            print(f"| {name} | {variant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
