"""What a network consists of, for people: the layers and blocks of each stage, with runs of equal ones as one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import nn

from resnet_tl.networks.articles.mnist import Branches
from resnet_tl.networks.cost import on_meta, refusing_size, shape_of
from resnet_tl.networks.stages import StagedNetwork

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A layer or block, or a run of equal ones; of two branches, what stands side by side in them."""

    # Type and what sets it apart from others of its type, such as `Conv2d 3×3, stride 2 + ReLU`; one for each branch.
    labels: tuple[str, ...]
    input_shape: Shape  # as the next one, of each in the run and in each branch, for one image
    output_shape: Shape
    count: int = 1  # how many are in the run


Calls = dict[nn.Module, tuple[Any, Any]]
"""What each module was given and gave."""


def outline(network: StagedNetwork, image_size: int) -> dict[str, list[Row]]:
    """The rows of each stage, and of the head, for one square image; UserError for a size that it does not take."""
    copy, image = on_meta(network, image_size)
    calls: Calls = {}
    for module in copy.modules():
        module.register_forward_hook(lambda module, args, output: calls.setdefault(module, (args[0], output)) and None)
    with torch.no_grad(), refusing_size(network, image_size):
        copy(image)
    parts: dict[str, nn.Module] = {name: copy.stage(name) for name in copy.stage_names} | {"head": copy.head}
    return {name: _rows(part, calls) for name, part in parts.items()}


def _rows(part: nn.Module, calls: Calls) -> list[Row]:
    rows: list[Row] = []
    is_open = False  # whether a norm or activation may follow in the last row
    for module in _opened(part, calls):
        if isinstance(module, Branches):
            sides = (_rows(side, calls) for side in (module.left, module.right))
            rows += [replace(left, labels=left.labels + right.labels) for left, right in zip(*sides, strict=True)]
            is_open = False
            continue
        given, output = map(shape_of, calls[module])
        label = _label(module, given, output)
        is_small = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
        is_small |= type(module).__module__ == nn.ReLU.__module__
        if is_small and is_open:
            rows[-1] = replace(rows[-1], labels=(f"{rows[-1].labels[0]} + {label}",), output_shape=output)
        else:
            rows.append(Row((label,), given, output))
            is_open = is_small or isinstance(module, nn.Conv2d | nn.Linear)
    return [replace(row, count=sum(each.count for each in run)) for row, run in groupby(rows)]


def _opened(module: nn.Module, calls: Calls) -> Iterator[nn.Module]:
    """The modules that run one after the other; containers are opened, and what does nothing is left out."""
    does_nothing = isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and not module.p)
    if isinstance(module, nn.Sequential) or (module in calls and _is_chain(module, calls)):
        for child in module.children():
            yield from _opened(child, calls)
    elif module in calls and not does_nothing:
        yield module


def _is_chain(module: nn.Module, calls: Calls) -> bool:
    """Whether it only runs its children one after the other, as a stage of timm (ConvNeXt, RegNet) does."""
    children = [child for child in module.children() if child in calls]
    are_containers = all(isinstance(child, nn.Sequential | nn.Identity) for child in children)
    are_equal = len(children) > 1 and len({type(child) for child in children}) == 1
    return bool(children) and (are_containers or are_equal) and calls[children[-1]][1] is calls[module][1]


def _label(module: nn.Module, given: Shape, output: Shape) -> str:
    label = type(module).__name__
    details = []
    if isinstance(module, nn.Conv2d):
        label += " {}×{}".format(*module.kernel_size)
        details += [f"stride {module.stride[0]}"] if module.stride[0] > 1 else []
        details += [f"dilation {module.dilation[0]}"] if module.dilation[0] > 1 else []
        details += [f"{module.groups} groups"] if module.groups > 1 else []
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = (size if isinstance(size, int) else size[0] for size in (module.kernel_size, module.stride))
        label += f" {kernel}×{kernel}"
        details += [f"stride {stride}"] if stride != kernel else []
    elif isinstance(module, nn.Dropout):
        label += f" {module.p:g}"
    elif len(given) == len(output) == 3 and 1 < output[1] < given[1] and any(True for _ in module.parameters()):
        details.append(f"stride {round(given[1] / output[1])}")
    return ", ".join([label, *details])
