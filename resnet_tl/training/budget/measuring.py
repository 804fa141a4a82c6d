"""What a plan needs, measured in seconds: how fast a network trains here, and what its frozen features are worth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.optim import AdamW

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.order import epoch_order
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.finetuning.symmetry import PASSES, SIDE, Seen, judge
from resnet_tl.networks.frozen import FrozenStages, autocast, compute_type
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.training.budget.plan import SMALLEST, STEP, SURE_OF_FEW, Facts, Plan, Speed, make_plan
from resnet_tl.training.building import SMALL, BuiltNetwork, build
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.data_choices import look_at

PROBED = {"train": 1500, "val": 500}
"""Images of each split that the probe looks at, at most."""
SHARE_OF_MEASURES = 0.06
"""Of the budget, which the probe may take, and what finds the symmetry."""
FAR_FROM_SURE = SURE_OF_FEW - 0.1
"""Where the probe of the symmetry, of fewer and smaller images, has no more right, no other one need be asked."""
FEW_SECONDS = 0.3
"""How long a step is measured at least, in all its calls."""
SHARE_OF_STEP = 1 / 1200
"""Of the budget; where a step takes longer, larger sizes are not measured, but taken in proportion to their area.

That is too long: ResNet-18, plant seedlings, an epoch at 192 px 150 s from the speed at 96 px, and it took 129.
"""


def plan_fit(
    model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer, budget: float, clock: Callable[[], float]
) -> Plan:
    """A plan for a fit in `budget` seconds, of which `clock` tells those that are spent; reads and decodes the images.

    Speeds are measured before that, so that images are stored for the largest size for which there can be time.
    """
    started = clock()
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    with torch.device("cpu"):
        built = build(model.given_network, model.hparams, model.schedule, data)
    again = clock() - started  # by the fit itself
    device = trainer.strategy.root_device
    network, dtype = deepcopy(built.network).to(device), compute_type(str(trainer.precision), device.type)
    sizes, costs = _sizes(built), [cost.multiply_adds for cost in built.costs]
    is_any_size = len(sizes) > 1
    measured = [sizes[0] - STEP, *sizes] if is_any_size else sizes
    longest = max(FEW_SECONDS, SHARE_OF_STEP * budget)
    step, forward = measure_speed(network, measured, max(2, data.batch_size), dtype, longest)
    if device.type != "cpu":  # processes on a CPU share its cores
        step, forward = step / trainer.world_size, forward / trainer.world_size
    facts = Facts(
        budget=budget,
        spent=clock() + again,
        end=started / 2,  # writing figures and tables takes about half as long as the imports of the start
        images=_expected(data),
        sizes=sizes,
        own_size=sizes[-1],
        is_any_size=is_any_size,
        step=step,
        forward=forward,
        last_stage=sum(costs[-2:]) / sum(costs),
        batch_size=data.batch_size * trainer.world_size,
        processes=trainer.world_size,
    )
    drafts = [make_plan(replace(facts, probe=accuracy)) for accuracy in (0.0, 1.0)]
    largest = max(draft.image_size for draft in drafts)
    data.use(_at(built.preprocessing, largest, largest))
    storage = data.preprocessing.storage_size
    loading = seconds_of_loading(data)
    fixed = step.fixed + loading if device.type == "cpu" else max(step.fixed, loading)
    facts = replace(
        facts,
        images={split: len(data.index.rows(split)) for split in ("train", "val", "test")},
        sizes=[size for size in sizes if size <= largest],
        step=replace(step, fixed=fixed),
    )
    modes = {draft.mode for draft in drafts}
    seen: list[Seen] = []
    if modes != {"head"} and data.asks_for_symmetry:
        if PASSES * facts.forward(min(data.preprocessing.size, SIDE)) <= SHARE_OF_MEASURES * budget:
            seen = look_at(built, data)
            facts = replace(facts, symmetry=judge(seen))
        else:
            facts = replace(facts, symmetry=("mirror", "true of most images, and there was no time to measure it"))
    if len(seen) > 1 and seen[-1].accuracy < FAR_FROM_SURE:  # of the pixels, and of pretrained features
        facts = replace(facts, probe=seen[-1].accuracy)
    elif len(modes) > 1:  # else it makes no difference
        facts = replace(facts, probe=probe(network, data, built.preprocessing, facts, dtype))
    data.teardown("fit")
    plan = make_plan(replace(facts, spent=clock() + again))
    plan.settings["data.storage_size"] = storage, "for the largest image size that was considered"
    return plan


def measure_speed(
    network: StagedNetwork, sizes: Sequence[int], batch_size: int, dtype: torch.dtype, longest: float = FEW_SECONDS
) -> tuple[Speed, Speed]:
    """Of a training step of all stages, and of a pass through frozen ones; the network remains as it is.

    On batches of noise, of one size after another until a step takes `longest` seconds.
    """
    frozen, trained = FrozenStages(network, dtype=dtype), deepcopy(network).train().requires_grad_()
    optimizer = AdamW(trained.parameters(), fused=True)
    device = next(network.parameters()).device
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    steps: dict[int, float] = {}
    passes: dict[int, float] = {}
    for size in sizes:
        images = torch.randn(batch_size, network.in_chans, size, size, device=device)
        images = images.to(memory_format=network.memory_format)

        def step(images: Tensor = images) -> None:
            with autocast(device.type, dtype):
                features = trained.forward_stages(images)
            cross_entropy(trained.head(features.float()), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        steps[size] = _seconds(step, device) / batch_size
        passes[size] = _seconds(lambda images=images: frozen(images), device) / batch_size  # type: ignore[misc]
        if steps[size] * batch_size > longest:
            break
    return Speed(steps), Speed(passes)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call: the least of some, after a first one, which finds kernels and memory.

    What disturbs a call makes it longer; a fit whose plan is too long is shortened, but none is made longer.
    """
    call()
    calls: list[float] = []
    while len(calls) < 3 or (sum(calls) < FEW_SECONDS and len(calls) < 20):
        began = time.perf_counter()
        call()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        calls.append(time.perf_counter() - began)
    return min(calls)


def seconds_of_loading(data: ImageDataModule, batches: int = 4) -> float:
    """Of a training image, until it is in a batch; the first batch, which has to be waited for, does not count."""
    loader = data.train_dataloader()
    rows = loader.batches(0)[: batches + 1]
    began, images = time.perf_counter(), 0
    for number, batch in enumerate(loader.over(rows, 0)):
        if not number:
            began = time.perf_counter()
        else:
            images += len(batch["row"])
    return (time.perf_counter() - began) / images if images else 0.0


def probe(
    network: StagedNetwork, data: ImageDataModule, preprocessing: Preprocessing, facts: Facts, dtype: torch.dtype
) -> float | None:
    """The accuracy of logistic regression on frozen features, on validation images that it has not learnt from.

    Of some images, at the largest size for which there is time; None where there is not even for the smallest.
    """
    rows = {split: epoch_order(data.index.rows(split), data.seed or 0, 0)[:most] for split, most in PROBED.items()}
    time_for_one = SHARE_OF_MEASURES * facts.budget / sum(map(len, rows.values()))
    fits = [size for size in facts.sizes if facts.forward(size) <= time_for_one]
    if not fits:
        return None
    data.use(_at(preprocessing, fits[-1], max(facts.sizes)))
    frozen = FrozenStages(network, dtype=dtype)
    features, labels = {}, {}
    for split, chosen in rows.items():
        batches = np.array_split(chosen, math.ceil(len(chosen) / 64))
        found = []
        for batch in data.loader(split).over(batches, 0):
            x = data.preprocessing.normalise(batch["image"].to(frozen.device))
            made = frozen(x)
            assert isinstance(made, Tensor)
            found.append(made.float())
        features[split] = torch.cat(found)
        labels[split] = torch.from_numpy(data.index.labels[chosen]).to(frozen.device)
    classes = len(data.classes)
    path = solve_path(features["train"], labels["train"], penalty_path(7), classes=classes)
    logits = (linear(features["val"], found.weight, found.bias) for found in path)
    return max(float((each.argmax(dim=1) == labels["val"]).float().mean()) for each in logits)


def _sizes(built: BuiltNetwork) -> list[int]:
    """The sizes of images that a plan may choose from: up to that of the weights, but one for small images."""
    size = built.preprocessing.size
    if built.origin.is_fixed_size or size <= max(SMALL, SMALLEST):
        return [size]
    return [*range(SMALLEST, size, STEP), size]


def _at(preprocessing: Preprocessing, size: int, largest: int) -> Preprocessing:
    """The same for images that are seen at one size and stored for the largest."""
    ratio = preprocessing.crop_size / preprocessing.storage_size
    storage = round(largest / ratio)
    return replace(preprocessing, size=size, storage_size=storage, crop_size=min(storage, round(storage * ratio)))


def _expected(data: ImageDataModule) -> dict[str, int]:
    """How many images each split will have; splits that were not given are made when all are decoded."""
    counts = {split: len(data.index.rows(split)) for split in ("train", "val", "test")}
    counts["train"] += len(data.index.rows(""))
    for split, share in (("val", data.val_fraction), ("test", data.test_fraction)):
        if not counts[split]:
            counts[split] = round(counts["train"] * share)
            counts["train"] -= counts[split]
    return counts
