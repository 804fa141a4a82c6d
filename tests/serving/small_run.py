"""A run on disk without a training: drawn photos, a network as it was initialised, and what it compares images with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.networks import create_network
from resnet_tl.run import Run

CLASSES = ("<b>ants</b>", 'bees, "wild"', "wasps")
SEEN = Preprocessing(size=32, storage_size=36, crop_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
EACH = 12


def drawn(colour: int, number: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A photo of a class: a disc of its colour on noise."""
    generator = np.random.default_rng(100 * colour + number)
    pixels = generator.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
    rows, columns = np.ogrid[: size[1], : size[0]]
    disc = (rows - size[1] / 2) ** 2 + (columns - size[0] / 2) ** 2 < (min(size) / 3 + number % 4) ** 2
    pixels[disc, colour] = 240
    return Image.fromarray(pixels)


def make_run(folder: Path, classes: Sequence[str] = CLASSES) -> Run:
    """The run `folder/photos-1` and its images in `folder/photos`, whose names are as odd as those of the classes."""
    root, run = folder / "photos", Run(folder / "photos-1")
    names = [f"train/{colour}/<i>{number} 'x'&.png" for colour in range(len(classes)) for number in range(EACH)]
    labels = np.repeat(np.arange(len(classes)), EACH)
    images = [drawn(colour, number) for colour in range(len(classes)) for number in range(EACH)]
    for name, image in zip(names, images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    new = [drawn(colour, 50 + number) for colour in range(len(classes)) for number in range(EACH)]
    torch.manual_seed(0)
    network = create_network("resnet20", len(classes)).eval()
    learnt, judged = _features(network, images), _features(network, new)
    means = np.stack([learnt[labels == label].mean(axis=0) for label in range(len(classes))])
    spread = (judged @ (2 * means.T) - (means**2).sum(axis=1)).std()
    with torch.no_grad():  # the class whose mean is nearest, not too surely
        linear = network.head[-1] if isinstance(network.head, torch.nn.Sequential) else network.head
        linear.weight.copy_(torch.from_numpy(2 * means / spread))
        linear.bias.copy_(torch.from_numpy(-(means**2).sum(axis=1) / spread))
        logits = network.head(torch.from_numpy(judged)).numpy()
    known = Reference.make(learnt, labels, np.arange(len(labels)), judged)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    said = {"labels": labels, "predicted": shares.argmax(axis=1), "probability": shares.max(axis=1)}
    said["label_probability"] = shares[np.arange(len(labels)), labels]
    facts = Bundle(run.path / "model", network.description, tuple(classes), SEEN, reference={"neighbours": 5})
    write_bundle(facts, network, said, known.arrays)
    (run.path / "data").mkdir()
    named = enumerate(zip(names, labels, strict=True))
    lines = [f'{row},"{name}","{_quoted(classes[label])}",train,' for row, (name, label) in named]
    (run.path / "data" / "index.csv").write_text("\n".join(["row,path,label,split,group", *lines]) + "\n")
    about = {"root": str(root), "classes": sorted(classes), "layout": "class folders"}
    (run.path / "data" / "facts.json").write_text(json.dumps(about))
    (run.path / "recipe.yaml").write_text("seed: 0\n")
    return run


def _quoted(text: str) -> str:
    return text.replace('"', '""')


@torch.inference_mode()
def _features(network: torch.nn.Module, images: Sequence[Image.Image]) -> np.ndarray:
    pixels = torch.stack([SEEN.centre(SEEN.store(np.array(image))) for image in images])
    found = SEEN.normalise(pixels)
    for name in network.stage_names:
        for module in network.stage(name):
            found = module(found)
    return found.flatten(1).numpy()
