"""Several models as one: the mean of their probabilities, each seeing the images by its own preprocessing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import nn

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import check_no_other_file, is_bundle_zip
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, nearest
from resnet_tl.evaluation.predictions import softmax
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.inference.tta import Tta, views
from resnet_tl.networks.checkpoint import read_content
from resnet_tl.networks.frozen import FrozenStages, compute_type, head_logits
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.run import bundles_of

Average: TypeAlias = Literal["arithmetic", "geometric"]
AVERAGES: tuple[str, ...] = get_args(Average)


class Member:
    """One model: what its bundle says, and a copy of its network for inference."""

    def __init__(
        self, path: Path, device: torch.device, network: nn.Module | None = None, calibrated: bool = True
    ) -> None:
        self.bundle, loaded = open_model(path, network)
        self.temperature = self.bundle.temperature if calibrated else 1.0
        self.device = device
        loaded.to(device)
        self.stages = FrozenStages(loaded, dtype=compute_type(self.bundle.precision, device.type))
        self.head = loaded.head
        self.width = loaded.num_features
        self.reference = _reference_of(self.bundle, self.width)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) uint8, cropped to the network's size, to what the head is given, (N, F)."""
        features = self.stages(self.bundle.preprocessing.normalise(images.to(self.device)))
        assert isinstance(features, torch.Tensor)
        return features

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """What the head is given to logits (N, classes) float32."""
        return head_logits(self.head, features)

    def judge(self, images: torch.Tensor, tta: Tta | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Calibrated probabilities (N, classes) float64 of a batch, and how familiar its images look (N,), if known.

        The probabilities are those of the mean of the logits over the views; what is familiar is the image as it is.
        """
        features = [self.features(view) for view in views(images, tta)]
        logits = torch.stack([self.logits(of_view) for of_view in features]).cpu().numpy()
        shares = softmax(logits.mean(axis=0, dtype=np.float64) / self.temperature)
        known = self.reference.familiarity(features[0].float().cpu().numpy()) if self.reference else None
        return shares, known


class Ensemble:
    """The models of some runs, bundles or checkpoints; a run of folds has several.

    Args:
        paths: where they are, one or more; each model counts alike.
        device: where they compute.
        network: the user's own network, for bundles of one.
        average: `arithmetic`, the mean of the probabilities (default), or `geometric`, that of their logarithms; None
            for a single one.
        calibrated: whether each one's logits are divided by the temperature of its bundle.

    Raises:
        UserError: one is missing, damaged, given twice, or knows other classes than the first.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        device: torch.device,
        network: nn.Module | None = None,
        average: Average | None = None,
        calibrated: bool = True,
    ) -> None:
        if average is not None and average not in AVERAGES:
            raise UserError(
                f"--average is '{average}'; it must be {' or '.join(AVERAGES)}.{nearest(average, AVERAGES)}"
            )
        found = [bundle for path in paths for bundle in bundles_of(path)]
        if not found:
            raise UserError("No model is given; name a run such as runs/freeze_backbone-1, or a model bundle.")
        if len(found) == 1 and average:
            raise UserError("--average is for several models, and there is one alone; leave it out.")
        self.is_geometric = average == "geometric"
        places = [path.resolve() for path in found]
        for path, place in zip(found, places, strict=True):
            if places.count(place) > 1:
                raise UserError(f"{path} is given twice; name each model once.")
        is_shared = isinstance(network, nn.Module) and len(found) > 1  # each needs weights of its own
        own = [copy.deepcopy(network) if is_shared else network for _ in found]
        self.members = [Member(path, device, one, calibrated) for path, one in zip(found, own, strict=True)]
        self.classes = self.members[0].bundle.classes
        self.groups: dict[Preprocessing, list[Member]] = {}  # those that are shown the same pixels
        for path, member in zip(found, self.members, strict=True):
            if odd := sorted(set(self.classes) ^ set(member.bundle.classes)):
                raise UserError(
                    f"{found[0]} and {path} do not know the same classes: only one of them knows '{odd[0]}'; "
                    "only models of the same classes can be averaged."
                )
            self.groups.setdefault(_pixels(member.bundle.preprocessing), []).append(member)

    @property
    def references(self) -> list[Reference]:
        """Of the models that have one."""
        return [member.reference for member in self.members if member.reference]

    def judge(self, batches: Sequence[torch.Tensor], tta: Tta | None) -> tuple[np.ndarray, np.ndarray]:
        """Of a batch as each of the `groups` sees it: mean probabilities (N, classes) float64, and familiarity (N,).

        That is the largest over the models: an image is strange where it is to all of them, so that as few are called
        so by chance as by one of them. It is nan where no model has a reference.
        """
        shares, familiar = [], []
        for images, members in zip(batches, self.groups.values(), strict=True):
            for member in members:
                own, known = member.judge(images, tta)
                shares.append(own[:, [member.bundle.classes.index(name) for name in self.classes]])
                familiar += [] if known is None else [known]
        largest = np.max(familiar, axis=0) if familiar else np.full(len(shares[0]), np.nan)
        if self.is_geometric:
            return softmax(np.mean(np.log(np.maximum(shares, np.finfo(np.float64).tiny)), axis=0)), largest
        return np.mean(shares, axis=0), largest


def _pixels(preprocessing: Preprocessing) -> Preprocessing:
    """What decides which pixels a network is shown; normalising comes later, and the decoder is the one at hand."""
    channels = preprocessing.channels
    return replace(preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels, decoder="")


def _reference_of(bundle: Bundle, width: int) -> Reference | None:
    """What a model compares images with; UserError where that is damaged, or of a network of another width."""
    if not (arrays := bundle.load_reference()):
        return None
    try:
        reference = Reference.of_arrays(arrays, bundle.reference.get("neighbours", 0))
        if reference.features.shape[1] != width:
            raise ValueError(f"it has {reference.features.shape[1]} features, the network {width}")
    except ValueError as error:
        raise UserError(f"{bundle.reference_file} does not fit the model: {error}.") from error
    return reference


def open_model(path: Path, network: nn.Module | None = None) -> tuple[Bundle, StagedNetwork]:
    """What is known of a run, bundle or checkpoint, and its network in eval mode on the CPU.

    `network` is one of the user's own that it names. UserError where there is no model, or it is damaged.
    """
    own: dict[str, Any] = {} if network is None else {"network": network}
    if not path.is_file() or is_bundle_zip(path):
        bundle = Bundle.open(path)
        return bundle, bundle.load_network(**own)
    check_no_other_file(path)
    is_none = (path.parent / "model.json").is_file() or path.suffix == ".zip"  # a file within a bundle, or photos
    content = None if is_none else read_content(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict) or "resnet_tl" not in content:
        raise UserError(
            f"{path} is no checkpoint of a fit with resnet-tl; give a run, a model bundle or such a "
            "checkpoint. To train from the weights of another program, give them as model.weights."
        )
    bundle = Bundle.of_checkpoint(path, content["resnet_tl"])
    ours = {key: tensor for key, tensor in content["state_dict"].items() if key.startswith("network.")}
    return bundle, bundle.with_weights({key.removeprefix("network."): tensor for key, tensor in ours.items()}, **own)
