"""Stages as they compute when nothing in them trains: BatchNorm folded away, one copy of the weights in one type."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resnet_tl.errors import UserError
from resnet_tl.networks.stages import StagedNetwork

Activation: TypeAlias = Tensor | tuple[Tensor, ...]
WHOLE_ROWS = 16
"""Matrix products of fewer rows, or of a number that this does not divide, may round otherwise in float32."""
WHOLE_VECTORS = 64
"""Elements that a loop of vector instructions takes at once divide this; those that are left round otherwise."""
SHARED_OUT = 32768
"""Elements from which on torch shares an elementwise function out to one more thread."""
VERSIONED = ("torch", "torchvision", "timm", "resnet_tl")
"""Packages of networks whose versions tell what they compute."""
WITH_EXPONENTIAL = ("CELU", "ELU", "GELU", "GELUTanh", "Mish", "QuickGELU", "SELU", "Sigmoid", "SiLU", "Swish", "Tanh")


def compute_type(precision: str, device_type: str) -> torch.dtype:
    """The type in which stages compute under one of Lightning's words, such as `bf16-mixed` or `32-true`."""
    if precision == "16-mixed" and device_type == "cuda":  # other devices are not made for it
        return torch.float16
    return torch.bfloat16 if precision == "bf16-mixed" else torch.float32


def autocast(device_type: str, dtype: torch.dtype = torch.float32) -> AbstractContextManager:
    """Computing in one type, whatever surrounds it; float32 is without any cast. Nothing on a device that has none."""
    if not torch.amp.is_autocast_available(device_type):  # meta
        return nullcontext()
    is_half = dtype != torch.float32
    return torch.autocast(device_type, dtype if is_half else None, enabled=is_half)


class FrozenStages:
    """A copy of some stages for inference: faster than the stages themselves, and no part of any module.

    BatchNorm in eval mode is a multiplication and an addition for each channel: folded into the convolution in front
    of it, it costs nothing. Convolutions and linear layers are kept in the type that they compute in, so that nothing
    is cast in each call. The results are those of the stages in eval mode up to rounding. On a CPU they do not
    depend on which or how many images share a batch, to the bit, nor on the number of threads.
    """

    def __init__(
        self, network: StagedNetwork, start: int = 0, stop: int | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.names = network.stage_names[start:stop]
        self.description = network.description
        self.code = code_digest(network.body)
        self.dtype = dtype
        self.device = next(network.parameters()).device
        self.memory_format = network.memory_format
        copies: dict[int, nn.Module] = {}  # of each module inside, by the id of its original
        paths = [path for name in self.names for path in network.paths(name)]
        parts = {path: copy.deepcopy(network.body.get_submodule(path), copies) for path in paths}
        for convolution, norm in network.convolutions_with_norm:
            original = network.body.get_submodule(norm)
            if id(network.body.get_submodule(convolution)) in copies and id(original) in copies:
                _fold(copies[id(network.body.get_submodule(convolution))], copies[id(original)])
                rest = _without_norm(copies[id(original)])
                home, _, name = norm.rpartition(".")
                if norm in parts:
                    parts[norm] = rest
                else:
                    setattr(copies[id(network.body.get_submodule(home))], name, rest)
        for part in parts.values():
            part.eval().requires_grad_(False)
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.to(dtype=dtype)
                if self.device.type == "cpu":
                    _make_same_in_any_batch(module)
            part.to(memory_format=self.memory_format)
        self.modules = list(parts.values())
        # By the number of threads and the shapes of what is given: whether a single image is computed as several are.
        self.is_same_alone: dict[tuple[object, ...], bool | None] = {}
        counts = [len(network.paths(name)) for name in self.names]
        self.ends = dict(zip(self.names, accumulate(counts), strict=True))  # modules up to the end of each stage

    def __call__(self, x: Activation) -> Activation:
        """Normalised images (N, C, H, W), or what stage `start` takes, to what the last stage gives, in `dtype`."""
        return self._run(x, [len(self.modules)])[0]

    def at_depths(self, x: Activation, names: Sequence[str]) -> tuple[Tensor, ...]:
        """What some stages give, averaged over the image, (N, C) float32 each, and behind them what a call gives.

        All of it in one pass. UserError for a stage that gives no maps of channels.
        """
        *cuts, last = self._run(x, [*(self.ends[name] for name in names), len(self.modules)])
        assert isinstance(last, Tensor)
        return (*(_averaged(name, part) for name, part in zip(names, cuts, strict=True)), last)

    def _run(self, x: Activation, ends: Sequence[int]) -> list[Activation]:
        """What there is after so many modules, in one pass."""
        is_doubled = len(_as_tuple(x)[0]) == 1 and not self._is_same_alone(x)
        found = self._computed(_mapped(_twice, x) if is_doubled else x, ends)
        # A tensor that was made in inference mode can take no part in a backward pass; a copy of it can.
        return [_copied(found[end], 1 if is_doubled else None) for end in ends]

    def _computed(self, y: Activation, ends: Sequence[int]) -> dict[int, Activation]:
        """What there is after so many modules, by their number."""
        if self.memory_format == torch.contiguous_format:
            y = _mapped(Tensor.contiguous, y)
        found: dict[int, Activation] = {0: y}
        with torch.inference_mode(), autocast(self.device.type, self.dtype):
            for number, module in enumerate(self.modules, 1):
                y = module(y)
                if number in ends:  # a later module may change it in its place
                    found[number] = y if number == len(self.modules) else _copied(y)
        return found

    def _is_same_alone(self, x: Activation) -> bool:
        """Whether a single image of this size is computed to the bit as one of several is: mostly, but not a small one.

        Float32 kernels for small maps of one image may add up in another order. It is tried, on noise, when such an
        image comes for the second time: who judges one alone need not wait for it.
        """
        key = (torch.get_num_threads(), *(part.shape for part in _as_tuple(x)))
        if key not in self.is_same_alone:
            self.is_same_alone[key] = None
        elif self.is_same_alone[key] is None:
            generator, every = torch.Generator("cpu").manual_seed(0), range(1, len(self.modules) + 1)
            noise = _mapped(lambda part: torch.randn(part.shape, generator=generator, device="cpu").to(part), x)
            alone, of_two = self._computed(noise, every), self._computed(_mapped(_twice, noise), every)
            self.is_same_alone[key] = all(
                torch.equal(one, two[:1])
                for number in every
                for one, two in zip(_as_tuple(alone[number]), _as_tuple(of_two[number]), strict=True)
            )
        return bool(self.is_same_alone[key])


def _as_tuple(x: Activation) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else x


def _mapped(change: Callable[[Tensor], Tensor], x: Activation) -> Activation:
    return change(x) if isinstance(x, Tensor) else tuple(map(change, x))


def _twice(part: Tensor) -> Tensor:
    """A single image as two."""
    return part.expand(2, *part.shape[1:])


def _copied(y: Activation, count: int | None = None) -> Activation:
    """A copy of the first images."""
    return _mapped(lambda part: part[:count].clone(), y)


def _averaged(name: str, y: Activation) -> Tensor:
    """Over all places of an image."""
    if not isinstance(y, Tensor) or y.ndim not in (2, 4):
        raise UserError(f"{name} gives no maps of channels that could be averaged; choose another depth.")
    return (y.mean(dim=(2, 3), dtype=torch.float32) if y.ndim == 4 else y.float()).contiguous()


def code_digest(body: nn.Module) -> str | None:
    """One digest of the source files of a network's own classes; those of torch, torchvision, timm and ours are empty.

    What is kept of its outputs must not outlive a change of its code. None where a class has no source file, as one
    that was typed into a terminal.
    """
    total = hashlib.sha256()
    kinds = {kind for module in body.modules() for kind in type(module).__mro__ if issubclass(kind, nn.Module)}
    own = {kind for kind in kinds if kind.__module__.partition(".")[0] not in VERSIONED}
    try:
        for file in sorted({inspect.getsourcefile(kind) or "" for kind in own}):
            total.update(Path(file).read_bytes())
    except (OSError, TypeError):
        return None
    return total.hexdigest() if own else ""


def head_logits(head: nn.Module, features: Tensor) -> Tensor:
    """Logits (N, classes) float32 of a head in eval mode: the same for an image whoever its neighbours are."""
    with torch.inference_mode(), autocast(features.device.type):
        return head(_padded(features.float()))[: len(features)].clone()


def _make_same_in_any_batch(module: nn.Module) -> None:
    """Keeps torch from choosing, by the number of images, among kernels that add up in another order."""
    if isinstance(module, nn.Linear):
        module.forward = partial(_in_whole_rows, module.forward)  # type: ignore[method-assign]
    elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and torch.backends.mkldnn.is_available():
        # A single weight has no gaps to widen, but on one thread torch takes another kernel for fewer than 16 images
        # unless the convolution is strided or dilated.
        module.dilation = (2, 2)
    elif type(module).__name__ in WITH_EXPONENTIAL:
        module.forward = partial(_in_whole_vectors, module.forward)


def _in_whole_rows(linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    rows = x.flatten(0, -2)
    return linear(_padded(rows))[: len(rows)].unflatten(0, x.shape[:-1])


def _in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function without the elements that a thread's vectors would leave over."""
    threads = min(torch.get_num_threads(), max(1, -(-x.numel() // SHARED_OUT)))
    missing = -x.numel() % (WHOLE_VECTORS * threads)
    if not missing:
        return function(x)
    in_memory = x.movedim(1, -1) if x.ndim == 4 else x  # channels lie last
    y = function(F.pad(in_memory.flatten(), (0, missing)))[: x.numel()].view(in_memory.shape)
    return y.movedim(-1, 1) if x.ndim == 4 else y


def _padded(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, -len(rows) % WHOLE_ROWS))


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    """Puts the statistics and weights of a BatchNorm into the convolution in front of it."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)  # also the synchronised one
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _without_norm(norm: nn.Module) -> nn.Module:
    """What is left of a BatchNorm that was folded: timm's may hold an activation."""
    rest = [module for name in ("drop", "act") if (module := getattr(norm, name, None)) is not None]
    return nn.Sequential(*rest) if rest else nn.Identity()
