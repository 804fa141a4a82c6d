"""The weights of one network among all that a checkpoint holds, however other programs have wrapped them."""

from __future__ import annotations

import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from resnet_tl.errors import UserError, listed

Tensors: TypeAlias = dict[str, Tensor]

DEPTH = 6
"""Of dictionaries inside each other."""
LEGACY = ("argparse.Namespace", "collections.defaultdict", "numpy.dtype", "numpy.core.multiarray.scalar")
"""What files of torch before 1.6 hold beside tensors; those of later ones say it themselves."""

# Of several networks in one file the one to use: averages are better, and what follows another by momentum is its copy.
_PREFERRED = (
    re.compile(r"(^|[._])(ema|averaged|swa|teacher)([._]|$)", re.IGNORECASE),
    re.compile(r"(encoder_q|query|online|base_encoder|student)([._]|$)", re.IGNORECASE),
    re.compile(r"^(?!.*(encoder_k|momentum|target|key([._]|$))).*$", re.IGNORECASE),
)
_NUMBER = re.compile(r"(?<![^.])\d+\.")


class _Unread(list):
    """Stands for a Python object in a checkpoint: whatever it is made with is dropped, and no code of its own runs."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


class _UnreadMapping:
    """Stands for a kind of dictionary, of which the items are kept: torch fills plain ones alone."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


@dataclass(frozen=True)
class Part:
    """Tensors that have the names of a network's."""

    where: str  # in the checkpoint, such as `state_dict.module.encoder_q`; "" at the top
    tensors: Tensors  # by the names that they have in the network, and whatever else stands beside them

    @property
    def rank(self) -> int:
        """Less is better among several of the same network."""
        matches = [place for place, word in enumerate(_PREFERRED) if word.search(self.where)]
        return matches[0] if matches else len(_PREFERRED)


def read_content(path: Path) -> Any:
    """What torch has saved in a file, on the CPU, nothing in place of Python objects; UserError where it is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):  # on unusual pickles, which end in the error below
            try:
                names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
            except Exception:  # an old format, or a strange file, as torch says in its own way below
                names = list(LEGACY)
            kinds = [(_UnreadMapping if re.search("(dict|CfgNode)$", name, re.I) else _Unread, name) for name in names]
            with torch.serialization.safe_globals(kinds):  # type: ignore[arg-type]
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, EOFError, RuntimeError, ...: whatever a strange file leads to
        raise UserError(
            f"{path} could not be read as a file of tensors: torch has not saved it, it is damaged, or it holds Python "
            "objects, which are never unpickled here; save its state_dict() as .safetensors and give that."
        ) from error


def tables(content: Any, where: str = "", seen: set[int] | None = None) -> Iterator[Part]:
    """Every dictionary with tensors that is somewhere in the content of a file, once: one may contain itself."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or id(content) in seen or where.count(".") >= DEPTH:
        return
    seen.add(id(content))
    items = {key: value for key, value in content.items() if isinstance(key, str)}
    if tensors := {key: value for key, value in items.items() if isinstance(value, Tensor)}:
        yield Part(where, tensors)
    for key, value in items.items():
        yield from tables(value, f"{where}.{key}".lstrip("."), seen)


def parts(found: list[Part], expected: Collection[str]) -> Iterator[Part]:
    """Each part of the tables in which names of a network's body appear, with one prefix or without one.

    Also with numbers in the place of its children's names, as `nn.Sequential(*network.children())` gives them.
    """
    names = [name for name in expected if not name.endswith("num_batches_tracked")]
    anchors = {names[0], names[len(names) // 2], names[-1]} if names else set()
    for table in found:
        prefixes = {
            key.removesuffix(anchor)
            for anchor in anchors
            for key in table.tensors
            if key == anchor or key.endswith(f".{anchor}")
        }
        for prefix in sorted(prefixes):
            yield _below(table, prefix)
        numbered = {key[: match.start()] for key in table.tensors for match in _NUMBER.finditer(key)}
        for prefix in sorted(numbered):
            part = _below(table, prefix)
            if renamed := _by_order(part.tensors, expected):
                yield Part(part.where, renamed)


def choose(good: list[Part], names: Collection[str], source: str, network: str) -> Part:
    """Of several parts that are all this network's the one that is meant, by its name; equal ones are one.

    `names` are the tensors that matter; UserError, of this `source` and `network`, where no name says which is meant.
    """
    best, *others = sorted(good, key=lambda part: (part.rank, part.where))
    rivals = [part.where for part in others if part.rank == best.rank and not _is_equal(part, best, names)]
    if rivals:
        raise UserError(
            f"{source} holds weights of {network} more than once ({listed([best.where, *rivals])}); save one of them "
            "as .safetensors and give that."
        )
    return best


def beside(chosen: Part, found: list[Part], own: Collection[str]) -> list[str]:
    """What else a file holds that is none of the network's: names with numbers of tensors, such as `queue (1)`.

    Single numbers, such as an accuracy, are left out; `own` is how the names of the network's tensors begin.
    """
    counts: Counter[str] = Counter()
    for name, tensor in chosen.tensors.items():
        if tensor.ndim and not name.startswith(tuple(own)):
            counts[f"{chosen.where}.{name.partition('.')[0]}".lstrip(".")] += 1
    for table in found:
        above = f"{table.where}." if table.where else ""
        if f"{chosen.where}.".startswith(above):
            prefix = f"{chosen.where}.".removeprefix(above).lstrip(".")
            others = [key for key, tensor in table.tensors.items() if tensor.ndim and not key.startswith(prefix)]
            counts.update(f"{above}{_first_other(key, prefix)}" for key in others)
        elif len(table.tensors) * 2 > len(chosen.tensors):  # a network, not a row of an optimizer's state
            counts[table.where] += sum(tensor.ndim > 0 for tensor in table.tensors.values())
    return [f"{name} ({count})" for name, count in counts.items()]


def _first_other(key: str, prefix: str) -> str:
    """`module.encoder_k` of `module.encoder_k.conv1.weight`, where the prefix is `module.encoder_q.`."""
    words = key.split(".")
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(words, prefix.split("."), strict=False)))
    return ".".join(words[: len(same) + 1])


def _below(table: Part, prefix: str) -> Part:
    where = ".".join(part for part in (table.where, prefix.rstrip(".")) if part)
    return Part(where, {key.removeprefix(prefix): t for key, t in table.tensors.items() if key.startswith(prefix)})


def _by_order(tensors: Tensors, expected: Collection[str]) -> Tensors | None:
    """Tensors of numbered children under the names that the same children have in the network; None if they differ."""
    theirs, ours = _children(tensors), _children(expected)
    numbers = sorted((name for name in theirs if name.isdecimal()), key=int)
    if not ours or len(numbers) < len(ours):
        return None
    renamed: Tensors = {}
    for number, name in zip(numbers, ours, strict=False):
        if (theirs[number] ^ ours[name]) - {"num_batches_tracked"}:
            return None
        renamed |= {f"{name}.{rest}": tensors[f"{number}.{rest}"] for rest in theirs[number]}
    return renamed


def _children(names: Collection[str]) -> dict[str, set[str]]:
    """What the tensors of each child are called in it, by the child's name."""
    children: dict[str, set[str]] = {}
    for name in names:
        child, _, rest = name.partition(".")
        children.setdefault(child, set()).add(rest)
    return children


def _is_equal(one: Part, other: Part, names: Collection[str]) -> bool:
    held = [name for name in names if name in one.tensors and name in other.tensors]
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in held)
