from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_tl import ImageClassifier, ImageDataModule, cache
from resnet_tl.data.index import ImageIndex
from resnet_tl.finetuning import symmetry as measuring
from resnet_tl.finetuning.symmetry import Drop, Seen, judge, plan

SEEN = Seen("the network's features", 266, 0.1, 0.8, Drop(0.0, 0.02), Drop(0.0, 0.03), 0.9)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "dihedral"),
        ({"mirrored": Drop(0.05, 0.02)}, "none"),
        ({"mirrored": Drop(0.05, 0.04)}, "mirror"),  # a drop that is not shown
        ({"turned": Drop(0.1, 0.03)}, "mirror"),
        ({"turned": Drop(0.1, 0.2)}, "mirror"),  # it may be large
        ({"judged": 20}, "mirror"),
        ({"plain": 0.15}, "mirror"),  # one that knows little says little
    ],
)
def test_mirroring_is_refused_and_turning_allowed_by_evidence(changes: dict[str, Any], expected: str) -> None:
    if "mirrored" in changes and expected == "mirror":
        changes = changes | {"turned": Drop(0.1, 0.03)}
    found, reason = judge([replace(SEEN, **changes)])
    assert found == expected
    assert "a probe of the network's features gives the true class of " in reason
    assert len(reason) < 170


def test_the_pixels_see_what_a_network_of_mirrored_photos_is_blind_to() -> None:
    pixels = replace(SEEN, features="their pixels", mirrored=Drop(0.4, 0.05))
    assert judge([pixels, SEEN])[0] == "none"


def letters(root: Path, symmetric: bool) -> Path:
    """Two classes, told apart by where a bright corner is (a mirror image is of the other), or by how bright it is."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 25)):
        for label in range(2):
            folder = root / split / "ab"[label]
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 60, (24, 24, 3), dtype=np.uint8)
                side = generator.integers(2) if symmetric else label
                bright = 190 if symmetric and label else 90
                pixels[:12, side * 12 : side * 12 + 12] += np.uint8(bright)
                turned = np.rot90(pixels, generator.integers(4)) if symmetric else pixels
                Image.fromarray(np.ascontiguousarray(turned)).save(folder / f"{number}.png")
    return root


def built(root: Path | None = None, data: ImageDataModule | None = None, **settings: Any) -> ImageClassifier:
    images = data or ImageDataModule(root, image_size=24, workers=0)
    images.setup()
    model = ImageClassifier(**{"network": "resnet20", "mode": "all", **settings})
    model.build(images)
    return model


@pytest.mark.parametrize("weights", ["default", "none"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_is_found_with_and_without_pretrained_weights(tmp_path: Path, weights: str, symmetric: bool) -> None:
    found, reason = built(letters(tmp_path, symmetric), weights=weights).resolved["data.symmetry"]
    assert found == ("dihedral" if symmetric else "none"), reason


def test_a_measurement_is_kept_by_what_it_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    root = letters(tmp_path / "images", False)
    first = built(root, weights="none").resolved["data.symmetry"]

    def kept() -> int:
        return len([entry for entry in cache.entries() if entry.kind == "symmetries"])

    assert kept() == 1
    assert built(root, weights="none", seed=3).resolved["data.symmetry"] == first  # nothing that was drawn has a say
    assert kept() == 1
    monkeypatch.setattr(measuring, "_measure", lambda *plan: pytest.fail("measured again"))
    assert built(root, weights="none").resolved["data.symmetry"] == first
    monkeypatch.undo()
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    (root / "train" / "a" / "0.png").write_bytes((root / "val" / "b" / "0.png").read_bytes())
    built(data=ImageDataModule(root, image_size=24, workers=0, on_leak="warn"), weights="none")
    assert kept() == 2


def test_what_is_kept_and_damaged_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    root = letters(tmp_path / "images", False)
    first = built(root, weights="none").resolved["data.symmetry"]
    (file,) = (tmp_path / "cache").glob("symmetries/*/seen.json")
    file.write_text("[{}]")
    assert built(root, weights="none").resolved["data.symmetry"] == first


def index(labels: np.ndarray) -> ImageIndex:
    """As many images as labels, every other one for validation."""
    rows = np.arange(len(labels))
    columns = {"path": [f"{row}.png" for row in rows], "label": labels, "split": np.where(rows % 2, "val", "train")}
    table = pd.DataFrame(columns).assign(group="")
    return ImageIndex(Path("/images"), table, tuple(map(str, range(labels.max() + 1))), "")


@pytest.mark.parametrize("passes", [1200, 100])
def test_a_measurement_is_bounded_however_many_images_and_classes_there_are(passes: int) -> None:
    images = index(np.arange(8000) // 100)
    learnt, judged, turns = plan(images, passes)
    assert passes - 3 <= len(learnt) + len(judged) * (2 + turns) <= passes
    assert len(set(images.labels[learnt])) == min(50, len(learnt))
    assert set(images.labels[judged]) <= set(images.labels[learnt])


def test_few_images_to_judge_by_are_turned_more_often() -> None:
    learnt, judged, turns = plan(index(np.arange(60) // 30), 1200)
    assert (len(learnt), len(judged), turns) == (30, 30, 6)


# Real images. A few of them, of which every pass of the network is small.


def real(frame: pd.DataFrame, root: Path, weights: Path, **options: Any) -> tuple[str, str]:
    data = ImageDataModule.from_dataframe(frame, root, image_size=64, on_leak="warn", workers=0, **options)
    model = built(data=data, network="resnet18", weights=str(weights / "resnet18_imagenet.safetensors"))
    return model.resolved["data.symmetry"]


def table(paths: list[Path], root: Path, train: int, val: int) -> pd.DataFrame:
    """So many images of each class, the parent folder, for training and validation."""
    frame = pd.DataFrame(
        {"path": [str(path.relative_to(root)) for path in paths], "label": [p.parent.name for p in paths]}
    )
    frame = frame[frame.groupby("label").cumcount() < train + val]
    place = frame.groupby("label").cumcount()
    return frame.assign(split=np.where(place < train, "train", "val"))


def test_digits_have_none(shared_data: Path, shared_weights: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "mnist10k.zip") as archive:
        names = pd.Series(sorted(name for name in archive.namelist() if "/train/" in f"/{name}" and name[-1] != "/"))
        chosen = names[names.groupby(names.map(lambda name: Path(name).parent.name)).cumcount() < 24]
        archive.extractall(tmp_path, chosen)
    found, reason = real(table([tmp_path / name for name in chosen], tmp_path, 14, 10), tmp_path, shared_weights)
    assert found == "none", reason


@pytest.mark.slow
def test_cats_and_dogs_may_be_mirrored_but_not_turned(shared_data: Path, shared_weights: Path) -> None:
    root = shared_data / "cats_dogs"
    found, reason = real(table(sorted(root.glob("train/*/*")), root, 70, 50), root, shared_weights)
    assert found == "mirror", reason


def test_seedlings_from_above_may_be_turned(shared_data: Path, shared_weights: Path) -> None:
    root = shared_data / "plant_seedlings"
    found, reason = real(table(sorted(root.glob("train/*/*")), root, 14, 10), root, shared_weights)
    assert found == "dihedral", reason
