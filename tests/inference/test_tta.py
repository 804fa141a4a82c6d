from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.indexing import without_labels
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import probabilities
from resnet_tl.inference.predictor import Predictor
from resnet_tl.inference.preparing import batches_of, prepare
from resnet_tl.inference.tta import KINDS, views
from tests.inference.test_predictor import bundle_at

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that sees a crop of 32 pixels of images of 36."""
    return bundle_at(tmp_path_factory.mktemp("tta") / "bundle").path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Five pictures that are stored as they are, one of them wider than high."""
    generator = np.random.default_rng(0)
    for number, width in enumerate((36, 36, 36, 36, 48)):
        pixels = generator.integers(0, 256, (36, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.glob("*.png"))


def changed(photos: list[Path], folder: Path, *changes: Image.Transpose | None) -> Path:
    folder.mkdir()
    for file in photos:
        with Image.open(file) as image:
            for change in changes:
                image = image if change is None else image.transpose(change)
            image.save(folder / file.name)
    return folder


def test_mirror_is_the_mean_of_the_files_and_their_mirror_images(bundle: Path, photos: list[Path], tmp_path: Path):
    plain, both = Predictor(bundle, "cpu"), Predictor(bundle, "cpu", tta="mirror").predict(photos, batch_size=2)
    mirrored = plain.predict(changed(photos, tmp_path / "mirrored", MIRROR))

    expected = mean_of_logits([probabilities(plain.predict(photos)), probabilities(mirrored)])

    np.testing.assert_allclose(probabilities(both), expected, rtol=1e-10)
    assert both["predicted"].tolist() == [plain.classes[number] for number in expected.argmax(axis=1)]
    assert (both["id"] == plain.predict(photos)["id"]).all()


def test_dihedral_is_the_mean_over_the_eight_flips_and_quarter_turns(bundle: Path, photos: list[Path], tmp_path: Path):
    plain = Predictor(bundle, "cpu")
    eight = [
        probabilities(plain.predict(changed(photos, tmp_path / f"{number}{flip}", turn, flip)))
        for number, turn in enumerate(TURNS)
        for flip in (None, MIRROR)
    ]

    found = probabilities(Predictor(bundle, "cpu", tta="dihedral").predict(photos))

    assert len({share.tobytes() for share in eight}) == 8
    np.testing.assert_allclose(found, mean_of_logits(eight), rtol=1e-10)


def test_crops_are_the_mean_over_centre_and_corners(bundle: Path, photos: list[Path], tmp_path: Path):
    plain, expected = Predictor(bundle, "cpu"), []
    for file in photos:
        with Image.open(file) as image:
            right, bottom = image.width - 32, image.height - 32
            middle = (round(right / 2), round(bottom / 2))
            corners = [middle, (0, 0), (right, 0), (0, bottom), (right, bottom)]
            parts = [np.asarray(image.crop((x, y, x + 32, y + 32))) for x, y in corners]
        # Each part with a border, so that it is the centre crop of a file of its own.
        files = [np.pad(part, ((2, 2), (2, 2), (0, 0))) for part in parts]
        expected.append(mean_of_logits(probabilities(plain.predict(files))[:, None])[0])

    found = Predictor(bundle, "cpu", tta="crops").predict(photos, batch_size=2)

    np.testing.assert_allclose(probabilities(found), expected, rtol=1e-10)


def test_the_first_view_is_the_image_as_it_is_judged_without(photos: list[Path]):
    groups = [Preprocessing(32, 36, 32)]
    (plain,) = batches_of([prepare(photo, groups) for photo in photos])
    for kind, number in (("mirror", 2), ("dihedral", 8), ("crops", 5)):
        (batch,) = batches_of([prepare(photo, groups, kind) for photo in photos], kind)
        found = list(views(batch, kind))
        assert torch.equal(found[0], plain)
        assert len(found) == number
        assert all(view.shape == plain.shape and view.dtype == torch.uint8 for view in found)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_in_any_batch_and_each_time(bundle: Path, photos: list[Path], kind: str):
    predictor = Predictor(bundle, "cpu", tta=kind)
    whole = predictor.predict(photos)
    for batch_size in (1, 3):
        assert predictor.predict(photos, batch_size=batch_size).equals(whole)
    index = index_of(photos)
    assert (probabilities(predictor.predict_rows(index, np.array([4, 1]))) == probabilities(whole)[[4, 1]]).all()
    assert (probabilities(Predictor(bundle, "cpu").predict(photos)) != probabilities(whole)).any()


def test_bad_images_are_left_out_as_without(bundle: Path, photos: list[Path]):
    photos[1].write_bytes(b"")
    predictor = Predictor(bundle, "cpu", tta="crops")
    table = predictor.predict(photos, on_bad_image="skip")
    assert table["path"].tolist() == [str(file) for file in photos if file != photos[1]]
    with pytest.raises(UserError, match="1 of 5 files cannot be used as images"):
        predictor.predict(photos)


def test_crops_that_would_all_be_the_same_are_refused(tmp_path: Path):
    bundle_at(tmp_path / "model", Preprocessing(32, 32, 32))
    with pytest.raises(UserError, match="--tta crops has no effect, for a model sees the whole of each square image"):
        Predictor(tmp_path / "model", tta="crops")


def test_another_word_is_refused(bundle: Path):
    with pytest.raises(UserError, match=r"--tta is 'mirorr'; it must be mirror, dihedral or crops\. Did you mean 'mi"):
        Predictor(bundle, tta="mirorr")


def mean_of_logits(views: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities (images, classes) of the mean of the logits, by the probabilities of each view."""
    products = np.exp(np.mean(np.log(views), axis=0))
    return products / products.sum(axis=1, keepdims=True)


def index_of(photos: list[Path]) -> ImageIndex:
    return without_labels(photos[0].parent, [file.name for file in photos], "photos")
