"""How a module may be cut into stages and a head: as it declares, as its layers suggest, or as one stage.

A network of the user's own may declare its parts by two attributes:

    class Net(nn.Module):
        stages = {"stem": ["conv", "norm", "act"], "blocks": ["blocks"], "top": ["pool", "flatten"]}
        head = "classifier"

`stages` is a mapping from names to lists of paths. `head` is the path of the classifier, or the submodule itself, which
takes features (N, F) and returns logits (N, classes). What is not declared is found; a network that is no chain is one
stage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from resnet_tl.errors import UserError, nearest

WHOLE = "backbone"
"""The one stage of a network that is no chain: all but its head."""


@dataclass(frozen=True)
class Cut:
    """One way to cut a module: the path of the classifier, and for each stage the paths of its modules in order."""

    head: str
    stages: Mapping[str, tuple[str, ...]]

    @property
    def is_chain(self) -> bool:
        """Whether the stages are submodules that run one after the other."""
        return self.stages != {WHOLE: ("",)}


def possible_cuts(body: nn.Module, reads_declaration: bool) -> Iterator[Cut]:
    """The ways to cut a module, best first, for the caller to try; UserError for a declared part that is not there."""
    head = getattr(body, "head", None) if reads_declaration else None
    stages = getattr(body, "stages", None) if reads_declaration else None
    declared_stages = {}
    if isinstance(stages, dict):
        declared_stages = {name: tuple(_path(body, path, "stages") for path in paths) for name, paths in stages.items()}
    if isinstance(head, str):
        heads = [_path(body, head, "head")]
    else:  # a submodule of that name need not be the classifier
        linear = [path for path, module in body.named_modules() if isinstance(module, nn.Linear)]
        heads = list(dict.fromkeys((*(["head"] if isinstance(head, nn.Module) else []), *linear[-1:])))
    for head in heads:
        if chain := declared_stages or _find_stages(body, head):
            yield Cut(head, chain)
    if not declared_stages:
        for head in heads:
            yield Cut(head, {WHOLE: ("",)})


def make_head_linear(body: nn.Module) -> None:
    """Makes a linear layer of a 1x1 convolution of pooled features, with which a ResNet v2 ends."""
    layers = [(path, module) for path, module in body.named_modules() if any(True for _ in module.parameters(False))]
    path, last = layers[-1] if layers else ("", body)
    if path and type(last) is nn.Conv2d and last.kernel_size == (1, 1) and last.groups == 1:
        linear = nn.Linear(last.in_channels, last.out_channels, bias=last.bias is not None)
        linear.load_state_dict({key: tensor.reshape(tensor.shape[:2]) for key, tensor in last.state_dict().items()})
        body.set_submodule(path, nn.Sequential(nn.Flatten(), linear))


def _path(body: nn.Module, path: str, attribute: str) -> str:
    """A declared path that is there."""
    paths = [found for found, _ in body.named_modules(remove_duplicate=False)]
    if path not in paths:
        raise UserError(
            f"The network {type(body).__name__} declares '{path}' among its `{attribute}`, but has no such submodule."
            + nearest(path, paths)
        )
    return path


def _find_stages(body: nn.Module, head: str) -> dict[str, tuple[str, ...]]:
    """The stages' names and the paths of their modules, in order; none where the head is not one of the parts.

    They are the body's children in order, opened wherever a boundary or the head lies inside. Boundaries are the
    modules that `body.feature_info` names (timm's table of where the resolution changes); without it each child with
    weights is a stage, or, where there is but one, each of its children.
    """
    boundaries = {info["module"] for info in getattr(body, "feature_info", None) or ()}
    if not boundaries:
        boundaries = {name for name, child in body.named_children() if _has_matrices(child)}
        inner = [name for name in boundaries if not f"{head}.".startswith(f"{name}.")]
        if len(inner) == 1 and isinstance(only := body.get_submodule(inner[0]), nn.Sequential):  # of torchvision's
            boundaries = {f"{inner[0]}.{name}" for name, child in only.named_children() if _has_matrices(child)}
    parts = list(_open(body, boundaries | {head}))
    if head not in parts:
        return {}
    stages: list[list[str]] = [[]]
    is_ended = False
    for path in parts[: parts.index(head)]:
        # A norm, an activation or a pool behind a boundary still belongs to the stage that ends there.
        if is_ended and _has_matrices(body.get_submodule(path)):
            stages.append([])
            is_ended = False
        stages[-1].append(path)
        is_ended = is_ended or path in boundaries
    if not is_ended and len(stages) > 1:  # what follows the last boundary
        stages[-2:] = [stages[-2] + stages[-1]]
    stem, rest = _split_stem(body, stages[0], boundaries)
    stages[:1] = [stem, rest] if rest else [stem]
    names = ["stem", *(f"stage{number}" for number in range(1, len(stages)))]
    return dict(zip(names, map(tuple, stages), strict=True))


def _split_stem(body: nn.Module, paths: list[str], boundaries: set[str]) -> tuple[list[str], list[str]]:
    """Cuts before a first boundary that is a stage of blocks (ConvNeXt's `stages.0`) with layers in front of it."""
    for i, path in enumerate(paths):
        if path in boundaries:
            is_block = any(map(_has_matrices, body.get_submodule(path).children()))
            if is_block and any(_has_matrices(body.get_submodule(before)) for before in paths[:i]):
                return paths[:i], paths[i:]
            break
    return paths, []


def _open(module: nn.Module, targets: Collection[str], prefix: str = "") -> Iterator[str]:
    """Paths of the children in order; a child that holds a target is replaced by its own children."""
    for name, child in module.named_children():
        path = prefix + name
        if any(target.startswith(path + ".") for target in targets):
            yield from _open(child, targets, path + ".")
        else:
            yield path


def _has_matrices(module: nn.Module) -> bool:
    """Whether it holds convolutions or linear layers, unlike a norm, an activation or a pool."""
    return any(parameter.ndim > 1 for parameter in module.parameters())
