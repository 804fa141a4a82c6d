"""What happens inside a module while it runs: what each of its modules is given, and where results go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Given: TypeAlias = dict[nn.Module, list[Any]]
"""For each call of a module its first argument: rows (N, F) as they are, else what kind of thing it was."""


def observed(body: nn.Module, run: Callable[[], Any]) -> tuple[Any, Given]:
    """What `run` gives, and what each module of the body is given."""
    given: Given = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        first = args[0] if args else None
        seen = first.clone() if isinstance(first, Tensor) and first.ndim == 2 else kind_of(first)
        given.setdefault(module, []).append(seen)

    handles = [module.register_forward_pre_hook(note) for module in body.modules()]
    try:
        return run(), given
    finally:
        for handle in handles:
            handle.remove()


def kind_of(value: Any) -> str:
    """For messages: `a tensor of shape (2, 10)`, `a tuple`."""
    if isinstance(value, str):  # a kind already
        return value
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def is_same(a: Any, b: Any) -> bool:
    """Whether two results are equal up to rounding."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def trace(body: nn.Module, x: Tensor) -> tuple[tuple[tuple[str, str], ...], Tensor]:
    """Paths of each convolution whose output goes into a BatchNorm and nowhere else, with that BatchNorm's; the output.

    Autograd's graph knows where a result goes, whatever lies between two modules.
    """
    outputs: dict[str, Any] = {}  # path -> what autograd knows of the convolution's output
    inputs: dict[str, Any] = {}
    calls: Counter[str] = Counter()
    hooks = []

    def note(path: str, module: nn.Module) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            calls[path] += 1
            outputs[path] = output.grad_fn

        def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[path] += 1
            inputs[path] = args[0].grad_fn

        is_norm = isinstance(module, nn.BatchNorm2d)
        hooks.append(module.register_forward_pre_hook(before) if is_norm else module.register_forward_hook(hook))

    for path, module in body.named_modules():
        if type(module) is nn.Conv2d or (isinstance(module, nn.BatchNorm2d) and module.running_var is not None):
            note(path, module)
    try:
        with torch.enable_grad():
            output = body(x)
    finally:
        for handle in hooks:
            handle.remove()
    uses: Counter[Any] = Counter()
    todo, seen = [output.grad_fn], {output.grad_fn}
    while todo:
        for following, _ in todo.pop().next_functions:
            uses[following] += 1
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    producers = {node: path for path, node in outputs.items() if calls[path] == 1 and uses[node] == 1}
    pairs = tuple((producers[node], path) for path, node in inputs.items() if calls[path] == 1 and node in producers)
    return pairs, output.detach()
