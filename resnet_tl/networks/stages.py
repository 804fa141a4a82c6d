"""A network as an ordered list of stages and a head: the units that are frozen, trained and cached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError, nearest


class StagedNetwork(nn.Module):
    """A network as an ordered list of stages and a head.

    The stages are found, not declared: the body's children in order, opened wherever a boundary or the classifier lies
    inside. Boundaries are the modules that `body.feature_info` names (timm's table of where the resolution changes);
    without it each child with weights is a stage. The last linear layer is the head; whatever lies between the last
    boundary and the head, the global pool included, belongs to the last stage.

    The body is registered once and under its own key names; a stage is a list of paths into it, looked up at each
    use, so that copying, moving and loading weights need no care.

    Args:
        name: how the network is called in recipes and messages.
        body: takes images (N, in_chans, H, W) and returns logits (N, classes).
        in_chans: channels of the images.
        check_size: side in pixels of the random image on which the stages are compared with the body; chosen by what
            the body says of itself where it is not given.

    Raises:
        UserError: the body is not a chain of stages (HRNet, Inception, ViT).
    """

    def __init__(self, name: str, body: nn.Module, in_chans: int = 3, check_size: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.in_chans = in_chans
        self.body = body
        self.frozen: frozenset[str] = frozenset()
        self.convolutions_with_norm: tuple[tuple[str, str], ...] = ()
        self.head_path, self.num_features = _find_head(body, name)
        self._paths = _find_stages(body, self.head_path)
        self.stage_names = tuple(self._paths)
        # Most networks are the same function at any size; 96 is cheap and more than the deepest of them needs.
        is_fixed = _facts(body).get("fixed_input_size", False)
        self._check(check_size or (self.image_size if is_fixed else min(self.image_size, 96)))

    @property
    def head(self) -> nn.Module:
        """The classifier, (N, F) -> (N, classes)."""
        return self.body.get_submodule(self.head_path)

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the network was designed for."""
        return _facts(self.body).get("input_size", (3, 224, 224))[-1]

    def stage(self, name: str) -> nn.Sequential:
        """The modules of one stage in order: a view on the body, not a copy."""
        return nn.Sequential(*(self.body.get_submodule(path) for path in self.paths(name)))

    def paths(self, name: str) -> tuple[str, ...]:
        """Where in the body the modules of a stage are, in order."""
        if name not in self._paths:
            raise UserError(
                f"The network '{self.name}' has no stage '{name}'; its stages are {', '.join(self.stage_names)}."
                + nearest(name, self.stage_names)
            )
        return self._paths[name]

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, H, W) -> logits (N, classes)."""
        return self.head(self.forward_stages(x))

    def forward_stages(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Runs `stages[start:stop]` on what stage `start` takes; all of them give features (N, F)."""
        for name in self.stage_names[start:stop]:
            for path in self._paths[name]:
                x = self.body.get_submodule(path)(x)
        return x

    def freeze(self, names: Collection[str]) -> None:
        """Freezes exactly these stages (no gradient, always in eval); all others train. The head is not touched."""
        wanted = frozenset(names)
        stages = {name: self.stage(name) for name in (*self.stage_names, *wanted)}
        for name, stage in stages.items():
            stage.requires_grad_(name not in wanted)
        self.frozen = wanted
        self.train(self.training)

    def train(self, mode: bool = True) -> StagedNetwork:
        """As in torch, but a frozen stage stays in eval: its BatchNorm and dropout do not move."""
        super().train(mode)
        for name in self.frozen:
            self.stage(name).eval()
        return self

    def replace_head(self, num_classes: int, hidden: Sequence[int] = (), dropout: float = 0.0) -> None:
        """Puts a fresh head in place: (Linear, ReLU, Dropout) per hidden width, then Linear to the classes.

        Without hidden layers the dropout acts on the features. The last layer starts near zero, so that the first
        loss is close to log(classes) and its gradient does not shake a pretrained backbone.
        """
        if num_classes < 1 or any(width < 1 for width in hidden):
            raise UserError(f"A head needs positive widths, but got {num_classes} classes and hidden {list(hidden)}.")
        if not 0 <= dropout < 1:
            raise UserError(f"The head's dropout is {dropout}; it must be at least 0 and below 1.")
        layers: list[nn.Module] = []
        width = self.num_features
        for following in hidden:
            linear = nn.Linear(width, following)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU(inplace=True)] + ([nn.Dropout(dropout)] if dropout else [])
            width = following
        if dropout and not hidden:
            layers.append(nn.Dropout(dropout))
        last = nn.Linear(width, num_classes)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        head = nn.Sequential(*layers, last) if layers else last
        like = next(self.head.parameters())
        self.body.set_submodule(self.head_path, head.to(like.device, like.dtype).train(self.training))

    @torch.no_grad()
    def _check(self, size: int) -> None:
        """Proves that stages and head are the whole body and nothing else, on a random image."""
        parts = [self.stage(name) for name in self.stage_names] + [self.head]
        owners = Counter(id(tensor) for part in parts for tensor in _tensors(part))
        if set(owners.values()) != {1} or owners.keys() != {id(tensor) for tensor in _tensors(self.body)}:
            raise _not_a_chain(self.name, "some of its weights lie in no stage or in several")
        x = torch.randn(1, self.in_chans, size, size, generator=torch.Generator().manual_seed(0))
        # The head's input is compared too: a head that starts at zero gives the same logits for any features.
        inputs: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        self.eval()
        try:
            self.convolutions_with_norm, of_body = _trace(self.body, x)
            of_stages = self(x)
            if not of_body.isfinite().all():
                # Before training a BatchNorm in eval mode holds nothing back: over hundreds of blocks the values grow.
                inputs.clear()
                self.double()
                of_body, of_stages = self.body(x.double()), self(x.double())
        except Exception as error:  # a wrong order of modules can raise anything
            raise _not_a_chain(self.name, "its parts cannot be run one after the other") from error
        finally:
            hook.remove()
            self.train().float()
        if not of_body.isfinite().all():
            raise UserError(f"The network '{self.name}' has too many layers: before training its outputs overflow.")
        if len(inputs) != 2 or not (_same(*inputs) and _same(of_body, of_stages)):
            raise _not_a_chain(self.name, "its parts run one after the other do not give its output")


def _facts(body: nn.Module) -> Mapping[str, Any]:
    """What images the body takes, in timm's words."""
    return getattr(body, "pretrained_cfg", None) or {}


def _find_head(body: nn.Module, name: str) -> tuple[str, int]:
    """Path of the linear classifier and the width of its input."""
    layers = [(path, module) for path, module in body.named_modules() if any(True for _ in module.parameters(False))]
    path, last = layers[-1] if layers else ("", body)
    if isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1) and last.groups == 1:
        # ResNet v2 ends in a 1x1 convolution of the pooled features, which is a linear layer.
        linear = nn.Linear(last.in_channels, last.out_channels, bias=last.bias is not None)
        linear.load_state_dict({key: tensor.reshape(tensor.shape[:2]) for key, tensor in last.state_dict().items()})
        body.set_submodule(path, nn.Sequential(nn.Flatten(), linear))
        return f"{path}.1", linear.in_features
    if not isinstance(last, nn.Linear):
        raise _not_a_chain(name, "it does not end in a linear layer")
    return path, last.in_features


def _find_stages(body: nn.Module, head_path: str) -> dict[str, tuple[str, ...]]:
    """The stages' names and the paths of their modules, in order."""
    boundaries = {info["module"] for info in getattr(body, "feature_info", ())}
    if not boundaries:
        boundaries = {name for name, child in body.named_children() if _has_matrices(child)}
    parts = list(_open(body, boundaries | {head_path}))
    stages: list[list[str]] = [[]]
    is_ended = False
    for path in parts[: parts.index(head_path)]:
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
    return {f"stage{i}" if i else "stem": tuple(paths) for i, paths in enumerate(stages)}


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


def _trace(body: nn.Module, x: Tensor) -> tuple[tuple[tuple[str, str], ...], Tensor]:
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


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def _not_a_chain(name: str, reason: str) -> UserError:
    return UserError(
        f"The network '{name}' cannot be cut into stages, since {reason}; "
        "choose one that is a chain of stages, such as resnet50 or convnext_tiny."
    )
