"""The network of a fit with all that belongs to it: chosen for the data set, built, and loaded with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.pixels.decode import DECODER
from resnet_tl.data.pixels.preprocessing import Preprocessing, plan_preprocessing
from resnet_tl.errors import UserError, listed
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.networks import Network, create_network, rebuild_network
from resnet_tl.networks.cost import StageCost, stage_costs
from resnet_tl.networks.side_by_side import SideBySide, names_of
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import WeightsOrigin, load_weights

SMALL = 64  # pixels: up to this short side the built-in network for small images is the suitable one


@dataclass(frozen=True)
class BuiltNetwork:
    """A network and what must be known to use it."""

    network: StagedNetwork  # on the CPU; its `description` says how it is built again
    classes: tuple[str, ...]  # class names in the order of the outputs
    preprocessing: Preprocessing  # of the images that it is given in evaluation
    image_size: int  # side in pixels of training images, where a phase has none of its own
    origin: WeightsOrigin  # of the weights that it began with
    costs: list[StageCost]  # of each stage and the head, for one image
    resolved: dict[str, tuple[Any, str]] = field(default_factory=dict)  # setting -> what `auto` became, and why

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `rebuild` makes a network of the same shape."""
        return {
            "network": self.network.description,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "image_size": self.image_size,
            "weights": asdict(self.origin),
        }


def build(network: Network, settings: Mapping[str, Any], schedule: Schedule, data: ImageDataModule) -> BuiltNetwork:
    """The network for a data set's classes and sizes, with pretrained weights; UserError where it cannot be had so."""
    chosen, why = choose_network(network, data.short_side)
    resolved = {"model.network": (chosen, why)} if network == "auto" else {}
    made, origin = _with_weights(chosen, settings, data.classes, data.channels)
    preprocessing, image_size, choices = choose_preprocessing(data, origin, schedule)
    costs = _costs(made, preprocessing.size, schedule, image_size)
    return BuiltNetwork(made, data.classes, preprocessing, image_size, origin, costs, resolved | choices)


def build_without_images(network: Network, settings: Mapping[str, Any], classes: tuple[str, ...]) -> BuiltNetwork:
    """The network for some classes, with pretrained weights, for RGB images of their size; UserError as of `build`."""
    made, origin = _with_weights(network, settings, classes, channels=3)
    size = origin.image_size
    planned = _planned(size, origin, _choose_crop_ratio(size, origin)[0])
    return BuiltNetwork(made, classes, planned, size, origin, stage_costs(made, size))


def adapted(built: BuiltNetwork, schedule: Schedule, data: ImageDataModule) -> BuiltNetwork:
    """A network built without images, with the preprocessing for those of a data set; UserError for other channels."""
    if data.channels != built.preprocessing.channels:
        raise UserError(
            f"data.channels is {data.channels}, but a network that is built for `classes` alone takes 3: leave out one "
            "of them."
        )
    preprocessing, image_size, choices = choose_preprocessing(data, built.origin, schedule)
    costs = _costs(built.network, preprocessing.size, schedule, image_size)
    resolved = built.resolved | choices
    return replace(built, preprocessing=preprocessing, image_size=image_size, costs=costs, resolved=resolved)


def _costs(network: StagedNetwork, size: int, schedule: Schedule, image_size: int) -> list[StageCost]:
    """In evaluation; UserError for a size of any phase that the network does not take."""
    for other in set(schedule.train_sizes(image_size, size).values()) - {size}:
        stage_costs(network, other)
    return stage_costs(network, size)


def _with_weights(
    network: Network, settings: Mapping[str, Any], classes: tuple[str, ...], channels: int
) -> tuple[StagedNetwork, WeightsOrigin]:
    with _drawing(settings["seed"]):
        made = create_network(
            network,
            len(classes),
            channels,
            settings["head_hidden"] or (),
            settings["head_dropout"],
            settings["network_args"],
            new_head=settings["mode"] == "head",
        )
        made.to(memory_format=made.memory_format)
        names, weights = names_of(network), settings["weights"]
        if names and weights in ("default", "none"):
            weights = [weights] * len(names)
        if isinstance(weights, str):
            return made, load_weights(made, weights, classes=classes)
        return made, _load_each(made, names, weights)


def _load_each(network: StagedNetwork, names: Sequence[str], weights: Sequence[str]) -> WeightsOrigin:
    """Loads weights into networks that stand side by side, each its own; their images are those of the first.

    Raises:
        UserError: as of `load_weights`, or they take images of different sizes alone.
    """
    made = [create_network(name, 1, network.in_chans) for name in names]
    origins = [load_weights(one, of) for one, of in zip(made, weights, strict=True)]
    assert isinstance(network.body, SideBySide)
    network.body.take([one.body for one in made], [one.mean for one in origins], [one.std for one in origins])
    fixed = [one for one in origins if one.is_fixed_size]
    if len({one.image_size for one in fixed}) > 1:
        sizes = listed(f"{name} {one.image_size} px" for name, one in zip(names, origins, strict=True))
        raise UserError(f"These networks take images of one size alone, and not of the same: {sizes}.")
    sources, licences = (list(dict.fromkeys(getattr(one, name) for one in origins)) for name in ("source", "licence"))
    return replace(
        (fixed or origins)[0],
        mean=origins[0].mean,
        std=origins[0].std,
        source=" + ".join(sources),
        licence=" + ".join(filter(None, licences)),
        digest=" + ".join(one.digest for one in origins if one.digest),
        part="",
        each=tuple(asdict(one) for one in origins),
    )


def rebuild(saved: Mapping[str, Any], seed: int, own: Network | None = None) -> BuiltNetwork:
    """The network that a checkpoint describes, without data or a weights file; `saved` by `BuiltNetwork.to_dict`.

    `own` is a network of the user's own, which the checkpoint only names.
    """
    classes, preprocessing = tuple(saved["classes"]), Preprocessing.from_dict(saved["preprocessing"])
    with _drawing(seed):
        made = rebuild_network(saved["network"], len(classes), own, "The checkpoint")
        made.to(memory_format=made.memory_format)
    costs, origin = stage_costs(made, preprocessing.size), WeightsOrigin(**saved["weights"])
    return BuiltNetwork(made, classes, preprocessing, saved.get("image_size", preprocessing.size), origin, costs)


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Lightning configures a model under the device that trains; weights are drawn on the CPU all the same."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def choose_network(name: Any, short_side: int) -> tuple[Any, str]:
    """What `auto` becomes for images of a median short side in pixels, and why."""
    if name != "auto":
        return name, "as given"
    if short_side <= SMALL:
        why = f"the images' short side is {short_side} px (median), and up to {SMALL} px it has weights built in"
        return "resnet20", why
    return "resnet18", f"the images' short side is {short_side} px (median): photos"


def choose_preprocessing(
    data: ImageDataModule, origin: WeightsOrigin, schedule: Schedule
) -> tuple[Preprocessing, int, dict[str, tuple[Any, str]]]:
    """The preprocessing for some weights and images, the size of training images, and what was chosen, with reasons.

    Images are stored for the largest size that any phase or the evaluation has, so that one pixel cache serves all;
    UserError for a `data.storage_size` that is too small for it, unless the images are as small themselves.
    """
    choices: dict[str, tuple[Any, str]] = {}
    size = data.image_size
    if size is None:
        size, why = _choose_size(data.short_side, origin)
        choices["data.image_size"] = (size, why)
    test_size = data.test_size
    if test_size is None:
        test_size = size
        choices["data.test_size"] = (size, "image_size")
    largest = max(test_size, *schedule.train_sizes(size, test_size).values())
    ratio = data.crop_ratio
    if ratio is None:
        ratio, why = _choose_crop_ratio(test_size, origin)
        choices["data.crop_ratio"] = (ratio, why)
    if data.storage_size is not None and data.storage_size < min(largest, data.short_side):
        raise UserError(
            f"data.storage_size is {data.storage_size}, but the images, of {data.short_side} px (median), are seen at "
            f"{largest} px: leave out data.storage_size, or give {round(largest / ratio)}."
        )
    value_range = data.value_range
    if value_range is None and (value_range := data.dataset.value_range):
        choices["data.value_range"] = (list(value_range), "found in the images of more than 8 bits")
    planned = _planned(
        test_size,
        origin,
        ratio,
        storage_size=data.storage_size,
        largest=largest,
        channels=data.channels,
        resize_rule=data.resize_rule,
        value_range=value_range,
    )
    if data.storage_size is None:
        whose = "image_size" if largest == size else "test_size" if largest == test_size else "a phase's image_size"
        choices["data.storage_size"] = (planned.storage_size, f"{whose} / {ratio:g}")
    return planned, size, choices


def _planned(size: int, origin: WeightsOrigin, crop_ratio: float, **of_data: Any) -> Preprocessing:
    look: dict[str, Any] = {"mean": origin.mean, "std": origin.std, "interpolation": origin.interpolation}
    return plan_preprocessing(size, crop_ratio=crop_ratio, decoder=DECODER, **look, **of_data)


def _choose_crop_ratio(size: int, origin: WeightsOrigin) -> tuple[float, str]:
    if size <= SMALL:
        return 1.0, "nothing to spare at the border of small images"
    return origin.crop_ratio, "what the weights were evaluated with"


def _choose_size(short_side: int, origin: WeightsOrigin) -> tuple[int, str]:
    if origin.is_fixed_size:
        return origin.image_size, "the only size that the network takes"
    if origin.source == "none" and short_side <= SMALL:
        return short_side, "the images' short side (median)"
    if origin.source.startswith("built-in"):
        # Features for small images are bound to a scale: the built-in resnet20 has 78 % accuracy on CIFAR-10 at its
        # size, 80 % at 1.5 times that and 74 % at twice; its features of MNIST's digits of 28 px are better at 32 px.
        why = "the images' short side, but 1 to 1.5 times the weights' size"
        return min(max(short_side, origin.image_size), origin.image_size * 3 // 2), why
    return origin.image_size, "the size that the weights were trained at"
