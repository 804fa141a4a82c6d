from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels import decode as decode_module
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import classes_of, probabilities
from resnet_tl.inference.predictor import Predictor
from resnet_tl.networks import create_network

CLASSES = ("zebra", "ant", "mouse")
SMALL, LARGE = Preprocessing(32, 36, 32), Preprocessing(40, 44, 40, resize_rule="squash")


def bundle_at(
    path: Path,
    seed: int,
    preprocessing: Preprocessing = SMALL,
    classes: tuple[str, ...] = CLASSES,
    name: str = "resnet20",
) -> Path:
    torch.manual_seed(seed)
    network = create_network(name, num_classes=len(classes))
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(20)  # so that the models disagree
    return write_bundle(Bundle(path, {"name": name}, classes, preprocessing), network).path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the same network, which differ in how they normalise, and another network that sees larger images."""
    root = tmp_path_factory.mktemp("models")
    brighter = Preprocessing(32, 36, 32, mean=(0.2, 0.3, 0.4), decoder="pillow 1")
    return [
        bundle_at(root / "a", 0),
        bundle_at(root / "b", 1, brighter, ("mouse", "zebra", "ant")),
        bundle_at(root / "c", 2, LARGE, name="resnet32"),
    ]


def of_each(models: list[Path], images: Path, **options) -> np.ndarray:
    """The probabilities of each model alone, in the order of the first one's classes: (models, images, classes)."""
    tables = [Predictor(path, "cpu", **options).predict(images) for path in models]
    return np.array([table[[f"prob_{name}" for name in CLASSES]].to_numpy() for table in tables])


def test_the_average_is_the_mean_of_the_models_tables(models: list[Path], blobs: Path):
    alone, table = of_each(models, blobs / "val"), Predictor(models, "cpu").predict(blobs / "val", batch_size=5)

    assert classes_of(table) == CLASSES
    np.testing.assert_allclose(probabilities(table), alone.mean(axis=0), rtol=1e-12)
    assert table["predicted"].tolist() == [CLASSES[number] for number in alone.mean(axis=0).argmax(axis=1)]
    assert table["id"].equals(Predictor(models[0], "cpu").predict(blobs / "val")["id"])
    assert Predictor(models, "cpu").predict(blobs / "val").equals(table)


def test_a_geometric_average_is_that_of_the_logarithms(models: list[Path], blobs: Path):
    alone = of_each(models, blobs / "val")
    geometric = probabilities(Predictor(models, "cpu", average="geometric").predict(blobs / "val"))

    expected = alone.prod(axis=0) ** (1 / 3)

    np.testing.assert_allclose(geometric, expected / expected.sum(axis=1, keepdims=True), rtol=1e-10)
    assert np.abs(geometric - alone.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("kind", ["dihedral", "crops"])
def test_each_model_is_averaged_over_its_views_first(models: list[Path], blobs: Path, kind: str):
    table = Predictor(models, "cpu", tta=kind).predict(blobs / "val")
    np.testing.assert_allclose(probabilities(table), of_each(models, blobs / "val", tta=kind).mean(axis=0), rtol=1e-12)


def test_models_that_see_the_same_pixels_share_the_decoding(
    models: list[Path], blobs: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded = []
    whole = decode_module.upright_pixels
    monkeypatch.setattr(decode_module, "upright_pixels", lambda *given: decoded.append(given) or whole(*given))
    Predictor(models[:2], "cpu", tta="crops").predict(blobs / "val")
    assert len(decoded) == 13
    Predictor(models, "cpu").predict(blobs / "val")
    assert len(decoded) == 3 * 13


def test_images_in_memory_and_bad_ones_are_treated_as_with_a_single_model(models: list[Path], blobs: Path):
    files = sorted((blobs / "val" / "red").iterdir())
    memory = [Image.open(files[0]), b"", Image.open(files[1]), np.asarray(Image.open(files[2]))]
    ensemble = Predictor(models, "cpu")
    table = ensemble.predict(memory, on_bad_image="skip")
    assert table["id"].tolist() == ["0", "2", "3"]
    assert (probabilities(table) == probabilities(ensemble.predict(files[:3]))).all()
    with pytest.raises(UserError, match="1 of 4 images cannot be used as images"):
        ensemble.predict(memory)


def test_one_of_several_is_itself(models: list[Path], blobs: Path):
    assert (
        Predictor(models[:1], "cpu").predict(blobs / "val").equals(Predictor(models[0], "cpu").predict(blobs / "val"))
    )


def test_the_users_own_network_is_given_each_models_weights(tmp_path: Path, blobs: Path):
    from resnet_tl.networks.articles.lenet import LeNet5

    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = create_network(LeNet5(3, in_chans=3), num_classes=3)
        paths.append(write_bundle(Bundle(tmp_path / f"{seed}", network.description, CLASSES, SMALL), network).path)
    own = LeNet5(3, in_chans=3)
    alone = of_each(paths, blobs / "val", network=own)
    np.testing.assert_allclose(
        probabilities(Predictor(paths, "cpu", network=own).predict(blobs / "val")), alone.mean(axis=0), rtol=1e-12
    )


def test_a_run_of_folds_is_the_average_of_its_models(tmp_path: Path, blobs: Path):
    folds = [bundle_at(tmp_path / "run" / "folds" / str(number) / "model", number) for number in (2, 10, 1)]
    with pytest.raises(UserError, match="has no model yet, for not all of its folds are trained"):
        Predictor(tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("{}")
    predictor = Predictor(tmp_path / "run", "cpu")
    order = [member.bundle.path.parent.name for member in predictor.ensemble.members]
    assert order == ["1", "2", "10"]
    np.testing.assert_allclose(
        probabilities(predictor.predict(blobs / "val")), of_each(folds, blobs / "val").mean(axis=0), rtol=1e-12
    )


def test_models_that_cannot_be_averaged_are_refused_in_one_sentence(models: list[Path], tmp_path: Path):
    other = bundle_at(tmp_path / "other", 0, classes=("ant", "bee", "zebra"))
    for given, options, sentence in (
        ([models[0], other], {}, "do not know the same classes: only one of them knows 'bee'; only models of the same"),
        ([models[0], models[0]], {}, f"{models[0]} is given twice; name each model once"),
        ([], {}, "No model is given; name a run"),
        (models, {"average": "harmonic"}, r"--average is 'harmonic'; it must be arithmetic or geometric\."),
        (models[0], {"average": "geometric"}, "--average is for several models, and there is one alone; leave it out"),
        ([models[0], tmp_path / "nowhere"], {}, "nowhere does not exist; give a run"),
    ):
        with pytest.raises(UserError, match=sentence) as caught:
            Predictor(given, **options)
        assert "\n" not in str(caught.value)
