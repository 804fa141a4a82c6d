from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from resnet_tl import Predictor
from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.bundle_zip import is_bundle_zip, write_bundle_zip
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights
from resnet_tl.run import bundles_of
from resnet_tl.sharing.zipping import zip_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    torch.manual_seed(0)
    unwritten = Bundle(tmp_path / "model", {"name": "resnet8"}, ("ant", "bee"), Preprocessing(32, 36, 32))
    return write_bundle(unwritten, create_network("resnet8", num_classes=2))


@pytest.fixture
def file(bundle: Bundle, tmp_path: Path) -> Path:
    zip_bundle(bundle.path, tmp_path / "m.zip")
    return tmp_path / "m.zip"


def test_a_zip_is_the_bundle_that_was_put_into_it(bundle: Bundle, file: Path):
    opened = Bundle.open(file)

    assert opened.path == file
    assert (opened.classes, opened.digest, opened.sizes()) == (bundle.classes, bundle.digest, bundle.sizes())
    weights, kept = opened.load_network().state_dict(), bundle.load_network().state_dict()
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, file: Path, tmp_path: Path):
    for name in ("weights.safetensors", "model.json"):  # a copy has other times and permissions
        (bundle.path / name).touch()
        (bundle.path / name).chmod(0o600)
    zip_bundle(bundle.path, tmp_path / "again.zip")
    zip_bundle(file, tmp_path / "of_a_zip.zip")

    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()
    assert (tmp_path / "of_a_zip.zip").read_bytes() == file.read_bytes()


def test_a_predictor_takes_a_zip_for_the_folder(bundle: Bundle, file: Path):
    photo = Image.effect_noise((50, 40), 90).convert("RGB")

    assert bundles_of(file) == [file]
    table = Predictor(file).predict(photo)
    assert table.equals(Predictor(bundle.path).predict(photo))


def test_weights_to_start_from_may_be_in_a_zip(bundle: Bundle, file: Path):
    network = create_network("resnet8", num_classes=2)
    origin = load_weights(network, str(file), bundle.classes)

    assert origin.digest == bundle.digest
    assert all(torch.equal(own, kept) for own, kept in zip(
        network.state_dict().values(), bundle.load_network().state_dict().values(), strict=True
    ))  # fmt: skip


def test_what_a_zip_is_shows_inside_and_not_by_its_name(file: Path, tmp_path: Path):
    file.rename(tmp_path / "model.dat")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as photos:
        photos.writestr("model.json", "{}")  # a data set may well hold one
        photos.writestr("photo.jpg", b"")

    assert is_bundle_zip(tmp_path / "model.dat")
    assert not is_bundle_zip(tmp_path / "photos.zip")
    assert not is_bundle_zip(tmp_path / "nothing.zip")
    assert not is_bundle_zip(tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_a_person_has_made_of_the_folder_is_taken_too(bundle: Bundle, tmp_path: Path, compression: int):
    with zipfile.ZipFile(tmp_path / "by_hand.zip", "w", compression) as made:
        for name in bundle.sizes():
            made.write(bundle.path / name, f"my model/{name}")
        made.writestr("__MACOSX/my model/._model.json", b"of the Finder")

    assert Bundle.open(tmp_path / "by_hand.zip").load_network()


def test_a_zip_with_more_in_it_than_a_bundle_is_none(bundle: Bundle, tmp_path: Path):
    files = {name: bundle.read(name) for name in bundle.sizes()}
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as made:
        for name, content in {**files, "recipe.yaml": b"seed: 0\n"}.items():
            made.writestr(name, content)

    with pytest.raises(UserError, match=r"run.zip holds recipe.yaml, which is no part of a model bundle"):
        Bundle.open(tmp_path / "run.zip")


def test_a_damaged_file_in_a_zip_is_found_by_its_digest(bundle: Bundle, tmp_path: Path):
    files = {name: bundle.read(name) for name in bundle.sizes()}
    weights = bytearray(files["weights.safetensors"])
    weights[-1] ^= 1
    write_bundle_zip({**files, "weights.safetensors": bytes(weights)}, tmp_path / "bad.zip")

    with pytest.raises(UserError, match=r"bad.zip/weights.safetensors is damaged"):
        Bundle.open(tmp_path / "bad.zip").load_network()


def test_nothing_is_zipped_of_a_damaged_bundle(bundle: Bundle, tmp_path: Path):
    bundle.weights_file.write_bytes(b"x")

    with pytest.raises(UserError, match=r"was not written: weights.safetensors is not the file"):
        zip_bundle(bundle.path, tmp_path / "m.zip")
    assert not (tmp_path / "m.zip").exists()
