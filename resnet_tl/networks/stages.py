"""A network as an ordered list of stages and a head: the units that are frozen, trained and cached."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError, listed, nearest, reason_of
from resnet_tl.networks.decomposition import make_head_linear, possible_cuts
from resnet_tl.networks.tracing import Given, is_same, kind_of, observed, trace

SIDES = (96, 224, 32, 28, 64, 128, 256, 299, 384, 512)
"""Images on which a network is tried that does not say what it takes: most take any, and 96 px are cheap."""


NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


class StagedNetwork(nn.Module):
    """A network as an ordered list of stages and a head.

    The stages are declared by the body or found in it (see `decomposition`): modules that run one after the other. A
    body that is no chain is a single stage, `backbone`: its own forward, in which the identity takes the head's place.
    That stages and head compute what the body computes is proved on a random image.

    The body is registered once and under its own key names; a stage is a list of paths into it, looked up at each
    use, so that copying, moving and loading weights need no care.

    Args:
        name: how the network is called in recipes and messages.
        body: takes images (N, in_chans, H, W) and returns logits (N, classes).
        in_chans: channels of the images.
        is_users: the body is the user's own: it may declare its parts, and nothing of it is known before it has run.

    Raises:
        UserError: the body does not take such images, gives no logits (N, classes), or has no head to be trained.
    """

    def __init__(self, name: str, body: nn.Module, in_chans: int = 3, is_users: bool = False) -> None:
        super().__init__()
        self.name = name
        self.in_chans = in_chans
        self.is_users = is_users
        self.body = body
        self.detached_head: nn.Module | None = None  # of a body that is a single stage
        self.description: dict[str, Any] = {"name": name, "in_chans": in_chans}  # how to build it again
        self.is_channels_last = True  # as it runs: fastest, unless its forward cannot
        self.frozen: frozenset[str] = frozenset()
        self.norms_only = False  # whether of the stages that are not frozen only the norms train
        self.convolutions_with_norm: tuple[tuple[str, str], ...] = ()
        facts = getattr(body, "pretrained_cfg", None)
        self.facts: Mapping[str, Any] = facts if isinstance(facts, Mapping) else {}  # on images, in timm's words
        if side := _side_of_patches(body):  # which the network's arguments may have changed
            self.facts = {**self.facts, "input_size": (in_chans, side, side)}
        self.register_state_dict_post_hook(_head_into_body)
        self.register_load_state_dict_pre_hook(_head_out_of_body)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            self._decompose()

    @property
    def memory_format(self) -> torch.memory_format:
        """In which it runs; no attribute, since torch could not pickle it."""
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self._cut.stages)

    @property
    def is_chain(self) -> bool:
        """Whether the stages can be frozen one by one; else there is a single one."""
        return self._cut.is_chain

    @property
    def head_path(self) -> str:
        """Where in the body the head is, or was."""
        return self._cut.head

    @property
    def head(self) -> nn.Module:
        """The classifier, (N, F) -> (N, classes)."""
        return self.body.get_submodule(self.head_path) if self.detached_head is None else self.detached_head

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the network was designed for."""
        return self.facts.get("input_size", (3, self._side))[-1]

    @property
    def has_fixed_size(self) -> bool:
        """Whether it takes images of `image_size` alone."""
        return bool(self.facts.get("fixed_input_size")) and not getattr(self.body, "dynamic_img_size", False)

    def stage(self, name: str) -> nn.Sequential:
        """The modules of one stage in order: a view on the body, not a copy."""
        return nn.Sequential(*(self.body.get_submodule(path) for path in self.paths(name)))

    def paths(self, name: str) -> tuple[str, ...]:
        """Where in the body the modules of a stage are, in order."""
        if name not in self._cut.stages:
            raise UserError(
                f"The network '{self.name}' has no stage '{name}'; its stages are {', '.join(self.stage_names)}."
                + nearest(name, self.stage_names)
            )
        return self._cut.stages[name]

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, H, W) -> logits (N, classes)."""
        return self.head(self.forward_stages(x))

    def forward_stages(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Runs `stages[start:stop]` on what stage `start` takes; all of them give features (N, F)."""
        if not self.is_channels_last:
            x = x.contiguous()
        for name in self.stage_names[start:stop]:
            for path in self._cut.stages[name]:
                x = self.body.get_submodule(path)(x)
        return x

    def norms(self, name: str) -> dict[str, nn.Module]:
        """The layers of a stage that normalise, by their path in `stage(name)`."""
        return {path: module for path, module in self.stage(name).named_modules() if isinstance(module, NORMS)}

    def freeze(self, names: Collection[str], norms_only: bool = False) -> None:
        """Freezes exactly these stages (no gradient, always in eval); all others train. The head is not touched.

        `norms_only`: of the others only the norms train, and move their statistics.
        """
        stages = {name: self.stage(name) for name in (*self.stage_names, *names)}
        for name, stage in stages.items():
            stage.requires_grad_(name not in names and not norms_only)
            for norm in self.norms(name).values() if name not in names else ():
                norm.requires_grad_()
        self.frozen, self.norms_only = frozenset(names), norms_only
        self.train(self.training)

    def frozen_state(self, name: str) -> dict[str, Tensor]:
        """What training leaves alone of a stage's parameters and buffers, by their keys in `stage(name)`."""
        state, norms = self.stage(name).state_dict(), self.norms(name)
        if name in self.frozen:
            return state
        return {key: state[key] for key in state if self.norms_only and key.rpartition(".")[0] not in norms}

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
        like = next(self.parameters(), last.weight)
        head.to(like.device, like.dtype).train(self.training)
        if self.detached_head is None:
            self.body.set_submodule(self.head_path, head)
        else:
            self.detached_head = head
        self.num_outputs = num_classes

    # How it is cut, and the proof that stages and head are the whole body and nothing else.

    def _decompose(self) -> None:
        self.eval()
        if not self.is_users:
            make_head_linear(self.body)
        x, logits, given = self._run()
        self.num_outputs = logits.shape[1]
        reason = "it has no linear layer that could be its head"
        for cut in possible_cuts(self.body, self.is_users):
            self._cut = cut
            if not (reason := self._refute(x, logits, given.get(self.head, ["nothing"]))):
                break
        if reason:
            layers = self.body.named_modules()
            alike = [path for path, one in layers if getattr(one, "out_features", 0) == self.num_outputs]
            if not self.is_users and len(alike) > 1:
                reason = f"it has several layers that could be its head ({listed(alike, most=3)})"
            way_out = (
                "let it return logits (N, classes), and name its classifier: `head = 'path.of.the.last.layer'`"
                if self.is_users
                else "choose another, such as resnet50 or convnext_tiny"
            )
            raise UserError(
                f"The network '{self.name}' cannot be cut into stages and a head, since {reason}; {way_out}."
            )
        self.float().train()
        for parameter in self.parameters():  # what trains follows from the mode alone
            parameter.requires_grad_(parameter.is_floating_point())
        if self.is_users and not _runs_in_channels_last(self, x.float()):
            self.is_channels_last = False

    def _run(self) -> tuple[Tensor, Tensor, Given]:
        """Random images, the body's logits of them, and what each of its modules was given."""
        count = 2 if self.is_users else 1  # what drops the axis of a single image works in training
        usual = self.facts.get("input_size", (3, 224))[-1]
        first = usual if self.has_fixed_size else min(usual, 96)
        others = (usual, *SIDES) if self.is_users else (usual,)
        error: Exception | None = None
        for side in dict.fromkeys((first, *others)):
            x = torch.randn(count, self.in_chans, side, side, generator=torch.Generator().manual_seed(0))
            try:
                logits, given = self._observe(x)
            except Exception as caught:  # of any kind: the module may be anyone's
                error = error or caught
                continue
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count:
                raise UserError(
                    f"The network '{self.name}' must give logits (N, classes), but for {count} images it gives "
                    f"{kind_of(logits)}."
                )
            if not logits.isfinite().all():
                # Before training a BatchNorm in eval mode holds nothing back: over hundreds of blocks the values grow.
                self.double()
                x = x.double()
                logits, given = self._observe(x)
            if not logits.isfinite().all():
                raise UserError(f"The network '{self.name}' has too many layers: before training its outputs overflow.")
            self._side = usual if side == first else side
            return x, logits, given
        conv = next((module for module in self.body.modules() if isinstance(module, nn.Conv2d)), None)
        if conv is not None and conv.in_channels != self.in_chans:
            raise UserError(
                f"The network '{self.name}' takes images of {conv.in_channels} channels, but these have "
                f"{self.in_chans}; give --data.channels {conv.in_channels}, or build it for {self.in_chans}."
            ) from error
        raise UserError(
            f"The network '{self.name}' fails on images of {self.in_chans} channels: {reason_of(error)}."
        ) from error

    def _observe(self, x: Tensor) -> tuple[Any, Given]:
        if self.is_users:
            return observed(self.body, lambda: self.body(x.clone()))
        (self.convolutions_with_norm, logits), given = observed(self.body, lambda: trace(self.body, x.clone()))
        return logits, given

    def _refute(self, x: Tensor, logits: Tensor, given: list[Any]) -> str:
        """Why the present cut does not give what the body gives, or nothing."""
        if len(given) != 1 or not isinstance(given[0], Tensor):
            times = f", {len(given)} times" if len(given) > 1 else ""
            return f"its head {self.head_path} takes {kind_of(given[0])}{times}, not features (N, F)"
        self.num_features = given[0].shape[1]
        whole = copy.deepcopy(self.body).train() if self.is_users and self.is_chain else None
        if not self.is_chain:
            self.detached_head = self.head  # its keys stay those that it has inside the body
            self.body.set_submodule(self.head_path, nn.Identity())
        try:
            reason = self._refute_parts(x, logits, given[0]) or self._refute_training(x, whole)
        except Exception as error:  # a wrong order of modules can raise anything
            reason = "its parts cannot be run one after the other" if self.is_chain else f"it fails: {reason_of(error)}"
        if reason and self.detached_head is not None:
            self.body.set_submodule(self.head_path, self.detached_head)
            self.detached_head = None
        return reason

    def _refute_parts(self, x: Tensor, logits: Tensor, features: Tensor) -> str:
        parts = [*map(self.stage, self.stage_names), self.head]
        owners = Counter(id(tensor) for part in parts for tensor in _tensors(part))
        if set(owners.values()) != {1} or owners.keys() != {id(tensor) for tensor in _tensors(self)}:
            return "some of its weights lie in no stage or in several"
        of_stages = self.forward_stages(x.clone())
        last = self.stage(self.stage_names[-1])
        if self.is_users and not any(True for _ in _tensors(last[-1])) and is_same(features, of_stages.flatten(1)):
            # Many flatten by a function between the pool and the head; a second time it changes nothing.
            self.body.set_submodule(self._cut.stages[self.stage_names[-1]][-1], nn.Sequential(last[-1], nn.Flatten()))
            of_stages = of_stages.flatten(1)
        if not (is_same(features, of_stages) and is_same(logits, self.head(of_stages))):
            return "its parts run one after the other do not give its output"
        return ""

    def _refute_training(self, x: Tensor, whole: nn.Module | None) -> str:
        """The same in training mode, in which a forward may do more: drop out by a function, give further outputs."""
        if not self.is_users:
            return ""
        trial = copy.deepcopy(self).train()
        features = _seeded(lambda: trial.forward_stages(x.clone()))
        if kind_of(features) != f"a tensor of shape {(len(x), self.num_features)}":
            return f"in training its head is given {kind_of(features)}, not features (N, F)"
        if whole is not None:
            _, given = _seeded(lambda: observed(whole, lambda: whole(x.clone())))
            if not is_same(features, given[whole.get_submodule(self.head_path)][0]):
                return "in training its parts run one after the other do not give its output"
        return ""


def _side_of_patches(body: nn.Module) -> int | None:
    """Side in pixels of the images that a network of timm cuts into patches, where that was fixed when it was made."""
    sizes = (getattr(module, "img_size", None) for module in body.modules())
    return next((size[0] for size in sizes if isinstance(size, tuple) and size and isinstance(size[0], int)), None)


def _seeded(run: Callable[[], Any]) -> Any:
    torch.default_generator.manual_seed(0)
    return run()


def _runs_in_channels_last(network: StagedNetwork, x: Tensor) -> bool:
    """Not where a forward calls `view` on feature maps, which have another order in memory then."""
    trial = copy.deepcopy(network).eval()
    try:
        logits = trial.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    except Exception:  # of any kind: the module may be anyone's
        return False
    return is_same(trial.to(memory_format=torch.contiguous_format)(x), logits)


def _head_into_body(network: nn.Module, state: MutableMapping[str, Any], prefix: str, _: Any) -> None:
    """The keys of a head that was taken out of the body stay those that it had in it."""
    assert isinstance(network, StagedNetwork)
    if network.detached_head is not None:
        _rename(state, f"{prefix}detached_head.", f"{prefix}body.{network.head_path}.")


def _head_out_of_body(network: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(network, StagedNetwork)
    if network.detached_head is not None:
        _rename(state, f"{prefix}body.{network.head_path}.", f"{prefix}detached_head.")


def _rename(state: MutableMapping[str, Any], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
