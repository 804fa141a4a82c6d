"""`resnet-tl probe`: what networks are worth on some images, what to take, and what more images would bring."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ROOT/<class>/*.png`: 60 pictures of 32 pixels in two classes with names that are hard to write down."""
    root = tmp_path_factory.mktemp("shades")
    generator = np.random.default_rng(0)
    for shift, name in enumerate(("<b>dark</b>", "light, grey")):
        (root / name.replace("/", "_")).mkdir()
        for number in range(30):
            pixels = generator.integers(0, 150, (32, 32, 3), dtype=np.uint8) + np.uint8(60 * shift)
            Image.fromarray(pixels).save(root / name.replace("/", "_") / f"{number}.png")
    return root


def test_networks_stand_side_by_side_and_one_is_to_be_taken(command, blobs: Path, tmp_path: Path):
    words = ("--networks", "resnet20", "resnet20", "--weights", "default", "none", "--depths", "--output", "found")
    code, out, _ = command("probe", blobs, *words)

    assert code == 0
    assert "3 classes; judged on 13 validation images" in out
    assert "Take resnet20" in out
    table = pd.read_csv("found/probe.csv")
    assert table["depth"].value_counts().to_dict() == {"stage2": 2, "stage3": 2}
    assert set(table["weights"]) == {"built-in resnet20_cifar10", "none"}
    assert table["accuracy"].is_monotonic_decreasing
    assert (table["images"] == 13).all()
    assert table["images_per_second"].min() > 0
    assert table.loc[table["depth"] == "stage2", "features"].tolist() == [32, 32]


def test_by_folds_every_image_judges(command, blobs: Path):
    code, out, _ = command("probe", blobs, "--networks", "resnet20", "--folds", "4")

    assert code == 0
    assert "judged on all 37, by 4 folds" in out


def test_weights_that_are_not_at_hand_are_named_and_counted(command, blobs: Path):
    code, out, _ = command("probe", blobs)

    assert code == 0
    assert "2 of 3 networks left out, since their weights could not be fetched: resnet18, resnet50" in out
    assert "no other was probed" in out


def test_without_any_weights_it_is_an_error(command, blobs: Path):
    code, _, err = command("probe", blobs, "--networks", "resnet18")

    assert code == 2
    assert "No network has weights that are at hand. The weights timm/resnet18.tv_in1k could not be fetched" in err


def test_what_is_saved_is_an_ordinary_run(command, shades: Path):
    code, out, _ = command("probe", shades, "--networks", "resnet20", "--save", "chosen", "--val_fraction", "0.4")

    assert code == 0
    assert "resnet-tl predict chosen" in out  # the end of a fit, where a fit writes it
    assert json.loads(Path("chosen/summary.json").read_text())["accuracy"]["val"]["images"] == 24
    assert "judged on 24 validation images" in out
    assert Path("chosen/model/weights.safetensors").is_file()
    assert command("validate", "chosen").code == 0


def test_the_learning_curve_says_what_twice_the_images_would_bring(command, shades: Path):
    code, out, _ = command("probe", shades, "--learning_curve", "--output", "curve")

    assert code == 0
    assert "Twice the training images (96 in place of 48) would bring about " in out
    table = pd.read_csv("curve/learning_curve.csv")
    assert table["images"].tolist()[-3:] == [48, 68, 96]
    assert Path("curve/learning_curve.png").is_file()


def one_class(root: Path, blobs: Path) -> Path:
    shutil.copytree(blobs / "train" / "red", root / "photos" / "red")
    return root / "photos"


def six_images(root: Path, blobs: Path) -> Path:
    for name in ("red", "blue"):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(3):
            shutil.copy(blobs / "train" / name / f"{number}.png", root / "photos" / name)
    return root / "photos"


def test_six_images_are_probed_and_are_too_few_for_a_curve(command, blobs: Path, tmp_path: Path):
    photos = six_images(tmp_path, blobs)

    code, out, _ = command("probe", photos, "--networks", "resnet20")
    assert code == 0
    assert "judged on 2 validation images" in out
    code, _, err = command("probe", photos, "--learning_curve")
    assert code == 2
    assert "4 training images of 2 classes are too few for a learning curve: it takes 30 at least" in err
    code, _, err = command("probe", photos, "--networks", "resnet20", "--folds", "4")
    assert code == 2
    assert "--folds is 4, but the class 'blue' has 3 images: give 3 or fewer" in err


def test_one_class_cannot_be_probed(command, blobs: Path, tmp_path: Path):
    code, _, err = command("probe", one_class(tmp_path, blobs), "--networks", "resnet20")

    assert code == 2
    assert "class" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--networks", "resnet19"), "There is no network 'resnet19'"),
        (("--networks", "resnext50_32x4"), "Did you mean 'resnext50_32x4d'?"),
        (("--networks", "resnet20", "resnet20"), "--networks names resnet20 twice with the same weights"),
        (("--networks", "resnet20", "--depths", "stage7"), "its stages are stem, stage1, stage2, stage3"),
        (("--networks", "resnet20", "--weights", "default", "none"), "--weights names 2 and --networks 1"),
        (("--weights", "none"), "--weights names 1 and --networks 0"),
        (("--networks", "resnet20", "--weights", "lost.safetensors"), "There is no weights file, run or bundle lost."),
        (("--networks", "resnet20", "--save", "run", "--depths"), "leave out --depths, or --save"),
        (("--learning_curve", "--folds", "5"), "--learning_curve does not go with --folds"),
        (("--learning_curve", "--networks", "resnet20", "resnet32"), "--learning_curve is of one network"),
        (("--folds", "1"), "--folds is 1; it must be 2 or more"),
        (("--network", "resnet20"), "Did you mean '--networks'?"),
        (("--val_fraction", "1.5"), "--val_fraction is 1.5; it must be from 0 to 1"),
    ],
)
def test_a_mistake_is_one_sentence(command, blobs: Path, tmp_path: Path, words: tuple[str, ...], sentence: str):
    code, out, err = command("probe", blobs, *words)

    assert code == 2
    assert sentence in err.splitlines()[-1]
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_told_of_in_the_options_of_the_probe(command, blobs: Path, shades: Path):
    assert command("probe", shades, "--networks", "resnet20", "--save", "run").code == 0
    code, _, err = command("probe", blobs, "--networks", "resnet32", "--weights", "run/model/weights.safetensors")

    assert code == 2
    assert "They look like resnet20: use --networks resnet20" in err


def test_a_folder_that_is_not_there_is_named(command):
    code, _, err = command("probe", "photso", "--networks", "resnet20")

    assert code == 2
    assert "photso" in err
    assert "--data.root" not in err


def test_no_validation_images_are_told_of(command, shades: Path):
    code, _, err = command("probe", shades, "--networks", "resnet20", "--val_fraction", "0")

    assert code == 2
    assert "val_fraction is 0" in err
