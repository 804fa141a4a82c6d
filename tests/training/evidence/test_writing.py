"""The evidence of real small fits: what is in it, that it tells of the run's own model, what is left out and why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from resnet_tl import ImageClassifier, ImageDataModule, Predictor, Run
from resnet_tl.bundle import Bundle
from resnet_tl.cli.main import main
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import probabilities, read_predictions
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.evaluation.uncertainty.nearest import knn_shares, nearest, unit
from resnet_tl.inference.embedding import Embedder
from resnet_tl.training.evidence import baselines, writing
from resnet_tl.training.evidence.baselines import check_baseline
from resnet_tl.training.evidence.cost import (
    LEAST,
    MOST,
    affords_baselines,
    images_in_bundle,
    reference_images,
    training_passes,
)
from resnet_tl.training.numbers.predictions import Predictions


def fitted(blobs: Path, folder: Path, *flags: str, recipe: str = "freeze_backbone") -> Run:
    words = ["--data.root", str(blobs), "--data.image_size", "16", "--data.batch_size", "8", "--run", str(folder)]
    assert main(["fit", "--recipe", recipe, *words, *flags]) == 0
    return Run.open(folder)


def facts(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "evidence" / "val" / "facts.json").read_text())


def features(network: str | Path, folder: Path) -> dict[str, np.ndarray]:
    """By the names of the files, as `resnet-tl embed` has them."""
    embedder = Embedder.of_model(network, "cpu")
    index = unlabelled(folder)
    return {
        str(index.path(row)): one
        for rows, found in embedder.features(index)
        for row, one in zip(rows, found, strict=True)
    }


@pytest.fixture(scope="module")
def solved(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(blobs, tmp_path_factory.mktemp("evidence") / "solved")


@pytest.fixture(scope="module")
def trained(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Long enough for baselines: 37 images are 5 % of 11 epochs of 24 images in three passes."""
    flags = ["--trainer.max_epochs", "11", "--data.augmentation", "none"]
    return fitted(blobs, tmp_path_factory.mktemp("evidence") / "trained", *flags, recipe="train_everything")


def test_a_solved_head_has_all_but_the_probe_which_it_is(solved: Run) -> None:
    folder = solved.path / "evidence" / "val"

    names = {file.name for file in folder.iterdir()}
    assert names == {"knn.csv", "neighbours.csv", "map.csv", "gradcam.npz", "facts.json"}
    assert "the model is this probe" in facts(solved)["probe"]["missing"]
    assert facts(solved)["reference"] == {"images": 24, "of": 24, "neighbours": 5}


def test_a_trained_network_is_set_beside_both_baselines(trained: Run) -> None:
    folder, table = trained.path / "evidence" / "val", trained.predictions("val")

    for name in ("knn", "probe"):
        baseline = read_predictions(folder / f"{name}.csv")
        assert baseline[["id", "path", "label"]].equals(table[["id", "path", "label"]])
        assert list(baseline) == list(table)
        assert (baseline["predicted"] == baseline["label"]).mean() > 0.5
    assert facts(trained)["probe"]["penalty"] > 0
    assert not any("missing" in fact for fact in facts(trained).values() if isinstance(fact, dict))


def test_the_neighbours_are_those_of_the_trained_network(trained: Run, blobs: Path) -> None:
    table = pd.read_csv(trained.path / "evidence" / "val" / "neighbours.csv")
    val, train = features(trained.path, blobs / "val"), features(trained.path, blobs / "train")
    predictions = trained.predictions("val").set_index("id")

    names = np.array(list(train))
    for id, rows in table.groupby("id"):
        distances, places = nearest(
            unit(val[predictions.loc[id, "path"]][None]), unit(np.stack(list(train.values()))), 3
        )
        assert rows["rank"].tolist() == [1, 2, 3]
        np.testing.assert_allclose(rows["distance"], distances[0], atol=2e-6)
        assert rows["path"].tolist() == names[places[0]].tolist()
        assert rows["label"].tolist() == [Path(path).parent.name for path in rows["path"]]
    assert set(table["id"]) == set(predictions.index)


def test_the_baseline_is_of_the_network_before_it_was_trained(trained: Run, solved: Run, blobs: Path) -> None:
    """The frozen network of the other run is the same one, on images of the same size."""
    val, train = features(solved.path, blobs / "val"), features(solved.path, blobs / "train")
    labels = np.array([("blue", "green", "red").index(Path(path).parent.name) for path in train])

    for run in (trained, solved):
        table = read_predictions(run.path / "evidence" / "val" / "knn.csv")
        judged = np.stack([val[path] for path in table["path"]])
        expected = knn_shares(judged, np.stack(list(train.values())), labels, 3)
        np.testing.assert_allclose(probabilities(table), expected, atol=1e-3)


def test_the_model_finds_its_validation_images_as_familiar_as_they_are(trained: Run, blobs: Path) -> None:
    table = Predictor(trained.path, device="cpu").predict(blobs / "val")

    # Each is at least as far as itself, so that of 13 the k-th has k + 1 of 14.
    assert sorted(table["familiarity"]) == pytest.approx(np.arange(2, 15) / 14)
    assert list(table)[:5] == ["id", "path", "label", "predicted", "familiarity"]


def test_the_reference_names_rows_of_the_run(trained: Run) -> None:
    bundle = Bundle.open(trained.path)
    known = Reference.of_arrays(bundle.load_reference(), bundle.reference["neighbours"])
    index = pd.read_csv(trained.path / "data" / "index.csv").set_index("row")

    assert set(index.loc[known.rows, "split"]) == {"train"}
    assert [bundle.classes[label] for label in known.labels] == index.loc[known.rows, "label"].tolist()
    np.testing.assert_allclose(np.linalg.norm(known.features.astype(np.float32), axis=1), 1, atol=2e-3)
    assert len(known.distances) == 13


def test_maps_and_places_are_of_the_runs_images(trained: Run) -> None:
    folder, ids = trained.path / "evidence" / "val", trained.predictions("val")["id"].tolist()
    places, content = pd.read_csv(folder / "map.csv"), np.load(folder / "gradcam.npz", allow_pickle=False)

    assert places["id"].tolist() == ids
    assert np.isfinite(places[["x", "y"]]).all(axis=None)
    assert content["id"].tolist() == ids  # 24 least certain ones are all
    assert content["map"].dtype == np.float16
    assert content["map"].shape == (13, 4, 4)
    assert ((content["map"] >= 0) & (content["map"] <= 1)).all()


def test_a_short_fit_says_what_it_lacks_and_why(blobs: Path, tmp_path: Path) -> None:
    flags = ["--trainer.max_epochs", "1", "--model.activation_cache", "off"]
    run = fitted(blobs, tmp_path / "short", *flags, recipe="train_everything")

    assert "would cost 51% of the training, more than 5%" in facts(run)["baselines"]["missing"]
    assert "knn" not in facts(run)
    assert run.bundle.reference["neighbours"] == 5


def test_a_network_with_random_weights_has_no_pretrained_features(blobs: Path, tmp_path: Path) -> None:
    flags = ["--model.network", "mnist_two_branch", "--model.weights", "none", "--trainer.max_epochs", "1"]
    run = fitted(blobs, tmp_path / "lenet", *flags, recipe="train_everything")

    assert facts(run)["baselines"] == {"missing": "the network began with random weights"}
    assert facts(run)["gradcam"] == {"images": 13}


def test_what_fails_is_a_warning_and_the_fit_goes_on(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: Any) -> np.ndarray:
        raise MemoryError("no room")

    monkeypatch.setattr(writing, "map_of", broken)
    monkeypatch.setattr(writing, "gallery_of", broken)
    run = fitted(blobs, tmp_path / "broken", "--trainer.max_epochs", "1")

    assert run.is_complete
    assert "no room" in facts(run)["map"]["missing"]
    assert f"The map in {run.path}/evidence/val could not be made: no room.\n" in capsys.readouterr().out
    assert run.bundle.reference == {}
    assert "familiarity" not in Predictor(run.path, device="cpu").predict(blobs / "val")


def test_a_final_run_has_no_evidence_and_no_reference(solved: Run, tmp_path: Path) -> None:
    assert main(["fit", "--final", str(solved.path), "--run", str(tmp_path / "final")]) == 0

    assert not (tmp_path / "final" / "evidence").exists()
    assert Run.open(tmp_path / "final").bundle.reference == {}


def test_the_same_fit_leaves_the_same_files(solved: Run, blobs: Path, tmp_path: Path) -> None:
    again = fitted(blobs, tmp_path / "again")

    files = ["model/reference.safetensors", *(f"evidence/val/{name}" for name in ("knn.csv", "map.csv", "facts.json"))]
    assert all((again.path / name).read_bytes() == (solved.path / name).read_bytes() for name in files)


def test_the_evidence_costs_a_share_of_the_training(blobs: Path) -> None:
    model, data = ImageClassifier("resnet20", weights="none", mode="all"), ImageDataModule(blobs, image_size=16)
    data.setup("fit")
    model.build(data)

    assert training_passes(model, data, epochs=10) == pytest.approx(10 * 3 * 24)
    head = ImageClassifier("resnet20", weights="none", mode="head", lr=0.1)
    head.build(data)
    assert training_passes(head, data, epochs=10) == pytest.approx(24, rel=0.01)
    assert not affords_baselines(data, passes=700)
    assert affords_baselines(data, passes=740)
    assert reference_images(data, passes=0) == LEAST
    assert reference_images(data, passes=10_000) == 500 - 37
    assert reference_images(data, passes=10**6) == MOST


def test_of_several_processes_evidence_takes_a_share_of_what_one_has_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}

    class Evidence:
        def __init__(self, *given: Any) -> None:
            found["passes"] = given[-1]

        def write(self) -> None:
            pass

    monkeypatch.setattr(writing, "training_passes", lambda *given: 1000.0)
    monkeypatch.setattr(writing, "_Evidence", Evidence)
    model: Any = torch.nn.Module()
    none = np.zeros((1, 2), np.float32)
    model.network, model.predictions = torch.nn.Module(), {"val": Predictions(np.zeros(1), np.zeros(1), none, none)}
    trainer: Any = SimpleNamespace(world_size=4, strategy=SimpleNamespace(root_device="cpu"))
    writing.write_evidence(SimpleNamespace(evidence=None), model, None, trainer, epochs=1)  # type: ignore[arg-type]

    assert found == {"passes": 250.0}
    assert model.predictions["val"].features is None  # their memory is free again


@pytest.mark.parametrize(
    ("name", "images", "judged", "features", "classes", "sentence"),
    [
        ("knn", 100_000, 10_000, 512, 10, "comparing 10,000 images with 100,000 would take too long"),
        ("knn", 1_000_000, 100, 512, 2, "comparing 100 images with 1,000,000 would take too much memory"),
        ("probe", 50_000, 100, 512, 100, "a probe of 50,000 images and 100 classes would take too long"),
        ("probe", 600_000, 100, 512, 2, "a probe of 600,000 images and 2 classes would take too much memory"),
    ],
)
def test_a_baseline_that_costs_too_much_is_refused(
    name: str, images: int, judged: int, features: int, classes: int, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_baseline(name, images, judged, features, classes)
    assert str(caught.value) == sentence
    check_baseline(name, images // 100, judged, features, classes)


def test_no_features_are_made_for_baselines_that_are_refused(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(rows: np.ndarray) -> np.ndarray:
        raise AssertionError("features were made")

    monkeypatch.setattr(baselines, "MOST_PRODUCTS", 0)
    monkeypatch.setattr(baselines, "MOST_IN_PROBE", 0)
    monkeypatch.setattr(writing, "pretrained_features", lambda *given: computed)
    run = fitted(blobs, tmp_path / "many", "--trainer.max_epochs", "1", recipe="train_everything")

    for name in ("knn", "probe"):
        assert facts(run)[name]["missing"].endswith("would take too long")


def test_a_bundle_keeps_fewer_images_of_very_wide_features() -> None:
    assert images_in_bundle(512) == images_in_bundle(16_384) == MOST
    assert images_in_bundle(25_088) == 1337
    assert images_in_bundle(100_000_000) == 1


def test_without_room_for_the_features_there_is_no_evidence(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_tl.training.evidence.cost.MOST_NUMBERS", 13 * 64 - 1)
    run = fitted(blobs, tmp_path / "large")

    assert not run.evidence.exists()
    assert run.bundle.reference == {}
