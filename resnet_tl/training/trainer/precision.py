"""What `trainer.precision: auto` becomes: the fast half precision of this machine where it has one, else 32-true."""

from __future__ import annotations

import os
import time

import torch
from torch.nn.functional import conv2d

FASTER = 1.3  # bf16 must be this many times as fast: machines are at about 2 or, where it is emulated, at 0.2 to 0.4
# Processes that a fit starts take the measurement of the first, so that all of them compute alike.
_MEASURED = "RESNET_TL_BF16_FACTOR"


def choose_precision(accelerator: str) -> tuple[str, str]:
    """Lightning's word for the arithmetic on an accelerator (auto, cpu, gpu, cuda, mps, tpu), and why."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{name} computes in bf16"
        # Volta and Turing have tensor cores for float16 alone; on Pascal it still halves what is read and written.
        return "16-mixed", f"{name} does not compute in bf16, but in float16, for which the loss is scaled"
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        factor = bf16_factor()
        why = f"on this CPU a convolution in bf16 is {factor:.1f} times as fast as in float32"
        return ("bf16-mixed" if factor >= FASTER else "32-true"), why
    return "32-true", f"half precision is not tried on '{accelerator}'"


def bf16_factor() -> float:
    """How many times as fast as in float32 a 3x3 convolution of a ResNet is in bf16 on this CPU; measured once.

    Processors name what they can do in many ways, and emulate the rest: a measurement is surer than a list. The best of
    many short calls on one thread is correct even beside other programs that keep all cores busy.
    """
    if _MEASURED not in os.environ:
        seconds = {dtype: float("inf") for dtype in (torch.float32, torch.bfloat16)}
        cases = {dtype: _images_and_weight(dtype) for dtype in seconds}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(12):
                for dtype, (images, weight) in cases.items():
                    started = time.perf_counter()
                    conv2d(images, weight, padding=1)
                    seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
        torch.set_num_threads(threads)
        os.environ[_MEASURED] = repr(seconds[torch.float32] / seconds[torch.bfloat16])
    return float(os.environ[_MEASURED])


def _images_and_weight(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    images, weight = torch.ones(2, 64, 28, 28, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
    return images.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)
