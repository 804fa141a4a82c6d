"""What a network consists of, for people: the layers and blocks of each stage, with runs of equal ones as one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from resnet_tl.networks.cost import on_meta, refusing_size, shape_of
from resnet_tl.networks.mnist import Branches
from resnet_tl.networks.stages import StagedNetwork

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A layer or block, or a run of equal ones.

    Args:
        label: its type and what tells it from others of this type, such as `Conv2d 3×3, stride 2 + ReLU`.
        input_shape, output_shape: of each in the run, for one image.
        count: how many are in the run.
    """

    label: str
    input_shape: Shape
    output_shape: Shape
    count: int = 1


@dataclass(frozen=True)
class Columns:
    """Two branches side by side."""

    left: tuple[Row, ...]
    right: tuple[Row, ...]


Calls = dict[nn.Module, tuple[Any, Any]]
"""What each module was given and gave."""


def outline(network: StagedNetwork, image_size: int) -> dict[str, list[Row | Columns]]:
    """The rows of each stage, and of the head, in order, for one square image.

    Raises:
        UserError: the network does not take images of this size.
    """
    twin, image = on_meta(network, image_size)
    calls: Calls = {}
    for module in twin.modules():
        module.register_forward_hook(lambda module, args, output: calls.setdefault(module, (args[0], output)) and None)
    with torch.no_grad(), refusing_size(network, image_size):
        twin(image)
    parts: dict[str, nn.Module] = {name: twin.stage(name) for name in twin.stage_names} | {"head": twin.head}
    return {
        name: list(_joined(_found(part.children() if isinstance(part, nn.Sequential) else [part], calls)))
        for name, part in parts.items()
    }


def _found(modules: Iterable[nn.Module], calls: Calls) -> Iterator[tuple[nn.Module | None, Row | Columns]]:
    """The rows of modules that run one after the other, each with its module; containers are opened."""
    for module in modules:
        does_nothing = isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and not module.p)
        if does_nothing or module not in calls:
            continue
        if isinstance(module, Branches):
            left, right = (tuple(_joined(_found([side], calls))) for side in (module.left, module.right))
            yield None, Columns(left, right)  # type: ignore[arg-type]
        elif _is_container(module, calls):
            yield from _found(module.children(), calls)
        else:
            given, output = map(shape_of, calls[module])
            yield module, Row(_label(module, given, output), given, output)


def _joined(found: Iterable[tuple[nn.Module | None, Row | Columns]]) -> Iterator[Row | Columns]:
    """A norm or activation goes into the row of the layer before it; equal rows become one."""
    rows: list[Row | Columns] = []
    is_open = False  # whether a norm or activation may follow in the last row
    for module, row in found:
        is_small = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
        is_small |= type(module).__module__ == nn.ReLU.__module__
        last = rows[-1] if rows else None
        if is_small and is_open and isinstance(last, Row) and isinstance(row, Row):
            rows[-1] = replace(last, label=f"{last.label} + {row.label}", output_shape=row.output_shape)
        else:
            rows.append(row)
            is_open = is_small or isinstance(module, nn.Conv2d | nn.Linear)
    return _counted(rows)


def _counted(rows: Iterable[Row | Columns]) -> Iterator[Row | Columns]:
    last: Row | None = None
    for row in rows:
        if last and isinstance(row, Row) and replace(row, count=last.count) == last:
            last = replace(last, count=last.count + 1)
            continue
        if last:
            yield last
        last = row if isinstance(row, Row) else None
        if isinstance(row, Columns):
            yield row
    if last:
        yield last


def _is_container(module: nn.Module, calls: Calls) -> bool:
    """Whether it only runs its children one after the other: a Sequential, or a stage of timm (ConvNeXt, RegNet)."""
    children = [child for child in module.children() if child in calls]
    if isinstance(module, nn.Sequential) or not children:
        return isinstance(module, nn.Sequential)
    are_containers = all(isinstance(child, nn.Sequential | nn.Identity) for child in children)
    are_equal = len(children) > 1 and len({type(child) for child in children}) == 1
    return (are_containers or are_equal) and calls[children[-1]][1] is calls[module][1]


def _label(module: nn.Module, given: Shape, output: Shape) -> str:
    label = type(module).__name__
    details = []
    if isinstance(module, nn.Conv2d):
        label += " {}×{}".format(*module.kernel_size)
        details += [f"stride {module.stride[0]}"] if module.stride[0] > 1 else []
        details += [f"dilation {module.dilation[0]}"] if module.dilation[0] > 1 else []
        details += [f"{module.groups} groups"] if module.groups > 1 else []
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = (_side(size) for size in (module.kernel_size, module.stride))
        label += f" {kernel}×{kernel}"
        details += [f"stride {stride}"] if stride != kernel else []
    elif isinstance(module, nn.Dropout):
        label += f" {module.p:g}"
    elif len(given) == len(output) == 3 and 1 < output[1] < given[1] and any(True for _ in module.parameters()):
        details.append(f"stride {round(given[1] / output[1])}")
    return ", ".join([label, *details])


def _side(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
