"""Where pretrained weights come from: found, verified and put into a network."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import is_bundle_zip
from resnet_tl.errors import UserError, listed, nearest, printable
from resnet_tl.files import file_digest
from resnet_tl.networks import IMAGENET_RESNETS, network_names
from resnet_tl.networks.body import create_body
from resnet_tl.networks.catalog import find_own
from resnet_tl.networks.checkpoint import Part, beside, choose, parts, read_content, tables
from resnet_tl.networks.side_by_side import names_of
from resnet_tl.networks.stages import StagedNetwork

log = logging.getLogger(__name__)

BUILT_IN = Path(__file__).parent / "pretrained"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
IN_REPOSITORIES = ("model.safetensors", "pytorch_model.bin")
MAX_SIDE = 10_000
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NotFetched(UserError):
    """Weights exist, but their place could not be reached."""


@dataclass(frozen=True)
class WeightsOrigin:
    """Where weights came from and what images they expect."""

    # The repository, the file as its user named it, `built-in NAME`, `none`, or `as given` of the user's own network.
    source: str
    digest: str  # SHA-256 of the file; empty when there is none
    licence: str  # as its source states it, or `unknown`
    mean: tuple[float, ...]  # as the next one, per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    image_size: int  # side in pixels of the images that it was trained on
    crop_ratio: float  # side of the centre crop over the short side of the resized image
    interpolation: str  # of that resize
    is_fixed_size: bool = False  # the network takes images of that size alone
    part: str = ""  # of a file with more than these weights, such as `state_dict_ema`; "" where it holds nothing else
    each: tuple[Mapping[str, Any], ...] = ()  # the origins of several networks side by side, in their order


@dataclass(frozen=True)
class _Found:
    """A weights file, with what is known about it in the words of timm's `pretrained_cfg`."""

    path: Path
    source: str
    facts: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    network_args: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None  # of the file, where it has been read, since it may be in a zip

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.path) if self.content is None else hashlib.sha256(self.content).hexdigest()


def load_weights(
    network: StagedNetwork, weights: str = "default", classes: Sequence[str] | None = None
) -> WeightsOrigin:
    """Finds weights, checks that they are this network's, and loads them in place.

    Args:
        network: gets the weights; its head stays as it is, unless the weights are those of a run or bundle with the
            same classes and the same head.
        weights: `default` (the built-in file or torchvision's first ImageNet weights where there are such, otherwise
            timm's choice), `none`, a tag of timm (`a1_in1k`), `hf-hub:ORGANISATION/NAME`, a `.safetensors` file or a
            checkpoint of any program in which the key names of timm or torchvision appear, or a run or bundle.
        classes: the class names of the head, in order.

    Raises:
        UserError: there are no such weights, they cannot be fetched, or they belong to another network.
    """
    known = _facts_of(network)
    if weights == "none" or (network.is_users and weights == "default"):
        return _origin("as given" if network.is_users else "none", "", known, network)
    with torch.device("cpu"):  # whatever the device that trains
        found, content, metadata = _read(_find(network, weights, known), network.name)
        facts = {**found.facts, **_facts_in(metadata, found.source)}
        keeps_head = classes is not None and tuple(classes) == found.classes
        part = _fill(network, content, found, keeps_head)
    return replace(_origin(found.source, found.digest, facts, network), part=part)


def _find(network: StagedNetwork, weights: str, known: Mapping[str, Any]) -> _Found:
    name = network.name
    if weights == "default":
        built_in = BUILT_IN / f"{name}_cifar10.safetensors"
        if built_in.is_file():
            return _Found(built_in, f"built-in {built_in.stem}", known)
        if find_own(name):
            raise UserError(f"There are no pretrained weights of {name}; use --model.weights none or give a file.")
        return _in_timm(name, str(known.get("tag", "")))
    path = Path(weights).expanduser()
    if path.is_dir() or is_bundle_zip(path):
        return _in_bundle(name, path, weights)
    if path.is_file():
        return _Found(path, weights, {**known, "license": "unknown"})
    is_on_hub = weights.startswith("hf-hub:")
    if not is_on_hub and (path.suffix in SUFFIXES or len(path.parts) > 1):
        raise UserError(f"There is no weights file, run or bundle {weights}.")
    if network.is_users:
        raise UserError(
            f"model.weights is '{weights}', but {name} is a network of your own: give a file, a run, or default for "
            "the weights that it was made with."
        )
    return _on_hub(name, weights.removeprefix("hf-hub:")) if is_on_hub else _in_timm(name, weights)


def _facts_of(network: StagedNetwork) -> dict[str, Any]:
    """What images the network's default weights expect; for ResNets these are torchvision's first ImageNet weights.

    Later recipes regularise more, which raises the accuracy on ImageNet but makes the frozen features worse for
    other data (Kornblith et al. 2018, arXiv 1805.08974).
    """
    if network.name in IMAGENET_RESNETS:
        from timm.models import get_pretrained_cfg

        if cfg := get_pretrained_cfg(f"{network.name}.tv_in1k"):
            return cfg.to_dict()
    return {"input_size": (network.image_size,), **network.facts}


def _in_timm(name: str, tag: str) -> _Found:
    import timm
    from timm.models import get_pretrained_cfg

    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag not in tags:
        raise UserError(
            f"'{tag}' is neither a file, a run nor a tag of timm's weights of {name} (those are: "
            f"{listed(tags) or 'none'})." + nearest(tag, tags)
        )
    cfg = get_pretrained_cfg(f"{name}.{tag}")
    assert cfg is not None
    if not cfg.hf_hub_id:
        raise UserError(f"timm keeps {name}.{tag} at {cfg.url} only; fetch it and use --model.weights PATH.")
    names = [cfg.hf_hub_filename] if cfg.hf_hub_filename else IN_REPOSITORIES
    return _Found(_fetch(cfg.hf_hub_id, *names), cfg.hf_hub_id, cfg.to_dict())


def _on_hub(name: str, repository: str) -> _Found:
    config = json.loads(_fetch(repository, "config.json").read_text(encoding="utf-8"))
    architecture = config.get("architecture")
    if architecture != name:
        raise UserError(f"hf-hub:{repository} holds weights of '{architecture}', but model.network is '{name}'.")
    return _Found(_fetch(repository, *IN_REPOSITORIES), f"hf-hub:{repository}", config.get("pretrained_cfg", config))


def _in_bundle(name: str, path: Path, weights: str) -> _Found:
    bundle = Bundle.open(path)
    content = bundle.read(bundle.weights_file.name)
    return replace(_of_ours(name, bundle, bundle.weights_file, weights), content=content)


def _of_ours(name: str, bundle: Bundle, path: Path, source: str) -> _Found:
    """The weights of a bundle or of a checkpoint of ours, which must be of this network."""
    network, seen = bundle.network, bundle.preprocessing
    own = next((network[kind] for kind in ("name", "import", "object") if kind in network), None)
    if own != name:
        raise UserError(f"{source} holds weights of '{own}', but model.network is '{name}'.")
    facts = {
        "license": bundle.weights.get("licence", "unknown"),
        "mean": seen.mean,
        "std": seen.std,
        "input_size": (seen.channels, seen.size, seen.size),
        "crop_pct": seen.crop_size / seen.storage_size,
        "interpolation": seen.interpolation,
    }
    arguments = network.get("network_args") or network.get("init_args") or {}
    return _Found(path, source, facts, bundle.classes, arguments)


def _fetch(repository: str, *filenames: str) -> Path:
    """The first of these files that a repository of the Hugging Face hub has, from its cache where it is there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging as hub_logging

    repository, _, revision = repository.partition("@")
    for filename in filenames:
        is_kept = isinstance(try_to_load_from_cache(repository, filename, revision=revision or None), str)
        if not is_kept:
            log.info(printable(f"fetching {filename} of {repository} from the Hugging Face hub"))
        verbosity = hub_logging.get_verbosity()
        hub_logging.set_verbosity_error()  # without a network it warns twice for each of its six tries
        try:
            if not is_kept:
                _reach(repository, filename, revision)
            return Path(hf_hub_download(repository, filename, revision=revision or None))
        except Exception as error:  # the hub's own errors, those of its HTTP client, of the proxy and of the disk
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue
            raise NotFetched(
                f"The weights {repository} could not be fetched from the Hugging Face hub ({type(error).__name__}): "
                "fetch them on another machine and use --model.weights PATH, start from random weights with "
                "--model.weights none, or take the network whose weights are built in (for small images), "
                "--model.network resnet20."
            ) from error
        finally:
            hub_logging.set_verbosity(verbosity)
    raise UserError(f"The repository {repository} on the Hugging Face hub has no {' or '.join(filenames)}.")


def _reach(repository: str, filename: str, revision: str) -> None:
    """Raises what the network says against it, at once: the download itself would try for two minutes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, filename, revision=revision or None))
    except Exception as error:
        if getattr(error, "response", None) is None:  # an answer, whichever, is the download's to judge
            raise


def _read(found: _Found, name: str) -> tuple[_Found, Any, dict[str, str]]:
    """The content of a file, a mapping, and its metadata; a checkpoint of ours says more about itself."""
    path = found.path
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load

        try:
            if found.content is not None:
                return found, load(found.content), {}
            with safe_open(path, framework="pt") as file:
                return found, {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is not a safetensors file, or is cut off: {error}.") from error
    content = read_content(path)
    if isinstance(content, dict) and "resnet_tl" in content:
        found = _of_ours(name, Bundle.of_checkpoint(path, content["resnet_tl"]), path, found.source)
    return found, content, {}


def _fill(network: StagedNetwork, content: Any, found: _Found, keeps_head: bool) -> str:
    """Loads the network's tensors of a file into its body, all or nothing; gives the part of the file that they are."""
    own = {key.removeprefix("body."): tensor for key, tensor in network.state_dict().items()}
    # The convolution that ends a ResNet v2 is `head.fc` in files, and `head.fc.1` since it was made linear.
    in_file = network.head_path if network.is_users else network.head_path.removesuffix(".1")
    heads = (f"{network.head_path}.", f"{in_file}.")
    own_head = {key: tensor.shape for key, tensor in own.items() if key.startswith(heads)}
    expected = {key: tensor for key, tensor in own.items() if key not in own_head}
    begins = {key.partition(".")[0] for key in expected}

    def body_of(part: Part) -> dict[str, Tensor]:
        """The tensors that belong to the body, by how their names begin."""
        own_names = [key for key in part.tensors if key.partition(".")[0] in begins and not key.startswith(heads)]
        body = {key: part.tensors[key] for key in own_names}
        _adapt_first_convolution(network, body)
        return body

    saved = list(tables(content))
    if not saved:
        raise UserError(
            f"{found.path} holds no state_dict, a mapping from names such as conv1.weight to tensors, or has it within "
            "Python objects, which are never unpickled here; save its state_dict() as .safetensors and give that."
        )
    candidates = list(parts(saved, expected)) or [max(saved, key=lambda table: len(table.tensors))]
    wrong = [_wrong(body_of(part), expected) for part in candidates]
    good = [part for part, names in zip(candidates, wrong, strict=True) if not names]
    if not good:
        names = min(wrong, key=len)
        of = f"; they were trained with model.network_args {dict(found.network_args)}" if found.network_args else ""
        raise UserError(
            f"The weights {found.source} are not those of {network.name}: {len(names)} are missing, unexpected, or of "
            f"another shape or type ({listed(names, most=3)}){of}.{_suggestion(saved, network)}"
        )
    chosen = choose(good, expected, found.source, network.name)
    body = body_of(chosen)
    head = {key: tensor for key, tensor in chosen.tensors.items() if key.startswith(heads)}
    if keeps_head and own_head == {key: tensor.shape for key, tensor in head.items()}:
        body |= head
    if odd := [key for key, tensor in body.items() if not tensor.float().isfinite().all()]:
        raise UserError(
            f"The weights {found.source} hold values that are not finite numbers ({', '.join(odd[:3])}); "
            "they come from a training that went wrong: use others."
        )
    network.load_state_dict({f"body.{key}": tensor for key, tensor in body.items()}, strict=False)
    if others := beside(chosen, saved, [*(f"{name}." for name in begins), *begins & expected.keys(), *heads]):
        where = chosen.where or "the network"
        log.info(printable(f"{found.source}: the weights are those of {where}; not used: {listed(others)}"))
    return printable(chosen.where)


def _wrong(body: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are missing, unexpected, or not of the kind that a network has."""
    # `model.half()` and other programs make the counters numbers of any kind, or leave them out.
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in body and key not in counters]
    return missing + [
        key
        for key, tensor in body.items()
        if key not in expected
        or tensor.shape != expected[key].shape
        or not _holds_plain_numbers(tensor)
        or (tensor.is_floating_point() != expected[key].is_floating_point() and key not in counters)
    ]


def _suggestion(saved: list[Part], network: StagedNetwork) -> str:
    """The known network whose names and shapes are these, as a sentence, or nothing."""
    if names := names_of(network.name):
        return f" For networks side by side give --model.weights a list of {len(names)}, one for each, in their order."
    for name in network_names():
        shapes = _shapes_of(name, network.in_chans)
        begins = {key.partition(".")[0] for key in shapes}
        for part in parts(saved, shapes):
            found = _shapes(part.tensors)
            if shapes == {key: shape for key, shape in found.items() if key.partition(".")[0] in begins}:
                return f" They look like {name}: use --model.network {name}."
    return ""


@cache
def _shapes_of(name: str, in_chans: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(create_body(name, num_classes=1, in_chans=in_chans).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    kept = [key for key in state if not key.startswith("fc.") and not key.endswith("num_batches_tracked")]
    return {key: state[key].shape for key in kept}


def _holds_plain_numbers(tensor: Tensor) -> bool:
    """Not those of a sparse, quantised or complex tensor, or of one without data."""
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_plain and not tensor.is_quantized and not tensor.is_complex()


def _adapt_first_convolution(network: StagedNetwork, body: dict[str, Tensor]) -> None:
    """Sums or repeats the colour channels of the first convolution, as timm does, where the images have others.

    It is the one that takes images; a network of two branches has two.
    """
    for path, module in network.body.named_modules():
        weight = body.get(key := f"{path}.weight")
        if not isinstance(module, nn.Conv2d) or not module.in_channels == network.in_chans != 3:
            continue
        filters, _, *window = module.weight.shape
        if weight is None or weight.shape != (filters, 3, *window):
            continue
        if _holds_plain_numbers(weight) and weight.is_floating_point():
            from timm.models import adapt_input_conv

            body[key] = adapt_input_conv(network.in_chans, weight.float())


def _facts_in(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """The metadata of a safetensors file, whose values are all strings, in timm's words."""
    facts: dict[str, Any] = {}
    try:
        for name in ("mean", "std"):
            if name in metadata:
                facts[name] = [float(value) for value in json.loads(metadata[name])]
        if "image_size" in metadata:
            facts["input_size"] = (int(metadata["image_size"]),)
        if "crop_ratio" in metadata:
            facts["crop_pct"] = float(metadata["crop_ratio"])
        is_sound = (
            all(abs(value) <= 1e6 for value in facts.get("mean", ()))
            and all(0 < value <= 1e6 for value in facts.get("std", ()))
            and 1 <= facts.get("input_size", (1,))[0] <= MAX_SIDE
            and 0 < facts.get("crop_pct", 1) <= 1
            and metadata.get("interpolation", "bilinear") in ("bilinear", "bicubic")
        )
    except (ValueError, TypeError, RecursionError, OverflowError):
        is_sound = False
    if not is_sound:  # they may say anything, like a file that was written by hand
        raise UserError(f"{source} has metadata that make no sense; save its tensors without them.")
    if "interpolation" in metadata:
        facts["interpolation"] = metadata["interpolation"]
    if licence := metadata.get("licence", metadata.get("license")):
        facts["license"] = printable(licence)
    return facts


def _origin(source: str, digest: str, facts: Mapping[str, Any], network: StagedNetwork) -> WeightsOrigin:
    in_chans, is_fixed_size = network.in_chans, network.has_fixed_size
    mean, std = (tuple(facts.get(key, usual)) for key, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
    if len(mean) != in_chans:  # the first convolution was adapted in the same way
        mean, std = ((sum(values) / len(values),) * in_chans for values in (mean, std))
    return WeightsOrigin(
        source=source,
        digest=digest,
        licence=(facts.get("license") or "unknown") if digest else "",
        mean=mean,
        std=std,
        image_size=network.image_size if is_fixed_size else facts.get("input_size", (224,))[-1],
        crop_ratio=facts.get("crop_pct", 0.875),
        interpolation=facts.get("interpolation", "bilinear"),
        is_fixed_size=is_fixed_size,
    )
