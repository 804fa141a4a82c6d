from __future__ import annotations

import dataclasses
import json
import pickletools
import zipfile
from pathlib import Path

import pytest
import torch

from resnet_tl.bundle import Bundle, file_digest, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.networks import create_network

CLASSES = ("zebra", "ant", "Übung")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = create_network("resnet20", num_classes=3, in_chans=1, head_hidden=[8], head_dropout=0.1)
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 1, 32, 32))  # running statistics of its own
    return network


@pytest.fixture
def bundle(tmp_path: Path, network) -> Bundle:
    unwritten = Bundle(
        path=tmp_path / "run" / "model",
        network={"name": "resnet20", "in_chans": 1, "head_hidden": [8], "head_dropout": 0.1},
        classes=CLASSES,
        preprocessing=Preprocessing(32, 36, 32, mean=(0.1,), std=(1 / 3,), channels=1, decoder="pillow 12.0.0"),
        weights={"source": "none", "digest": "", "licence": ""},
        precision="bf16-mixed",
        metrics={"val": {"accuracy": 0.1 + 0.2}},
        data={"fingerprint": "abc", "counts": {"train": {"zebra": 3}}},
    )
    return write_bundle(unwritten, network)


def test_a_bundle_is_read_back_as_it_was_written(bundle: Bundle, network) -> None:
    opened = Bundle.open(bundle.path)
    assert opened == bundle
    assert opened.classes == CLASSES
    assert opened.metrics["val"]["accuracy"] == 0.1 + 0.2
    assert opened.preprocessing.std == (1 / 3,)
    assert opened.made_by.startswith("resnet-tl ")
    assert opened.digest == file_digest(opened.weights_file)
    loaded = opened.load_network()
    assert not loaded.training
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), network.eval()(images))


def test_a_run_is_as_good_as_its_bundle(bundle: Bundle) -> None:
    assert Bundle.open(bundle.path.parent) == Bundle.open(str(bundle.path)) == bundle


def test_a_bundle_is_two_files_and_no_pickle(bundle: Bundle) -> None:
    assert sorted(path.name for path in bundle.path.iterdir()) == ["model.json", "weights.safetensors"]
    for path in bundle.path.iterdir():
        assert not zipfile.is_zipfile(path)
        content = path.read_bytes()
        with pytest.raises(ValueError):  # noqa: PT011 -- pickletools says of each kind of byte that it is no opcode
            list(pickletools.genops(content))


def test_a_moved_bundle_still_opens(bundle: Bundle, tmp_path: Path) -> None:
    moved = bundle.path.rename(tmp_path / "elsewhere")
    assert Bundle.open(moved) == dataclasses.replace(bundle, path=moved)
    assert Bundle.open(moved).load_network()
    assert str(tmp_path) not in (moved / "model.json").read_text()


def test_writing_over_a_bundle_replaces_it(bundle: Bundle, network) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    again = write_bundle(dataclasses.replace(bundle, metrics={}), network)
    assert again.digest != bundle.digest
    assert Bundle.open(bundle.path).metrics == {}
    assert all((parameter == 0).all() for parameter in again.load_network().parameters())


def edit(bundle: Bundle, **changes: object) -> None:
    file = bundle.path / "model.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({key: value for key, value in {**values, **changes}.items() if value is not ...}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b'"text"', b"\xff\xfe", b"<html>"])
def test_a_damaged_model_file_is_said_in_one_sentence(bundle: Bundle, content: bytes) -> None:
    (bundle.path / "model.json").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.json is damaged: .*\.$") as caught:
        Bundle.open(bundle.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"classes": 3}, {"classes": ...}, {"preprocessing": {}}, {"preprocessing": None}, {"unheard": 1}]
)
def test_missing_or_unknown_fields_are_said_in_one_sentence(bundle: Bundle, changes: dict) -> None:
    edit(bundle, **changes)
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        Bundle.open(bundle.path)


def test_a_bundle_of_another_format_is_said_to_be_one(bundle: Bundle) -> None:
    edit(bundle, format=99, unheard=1)
    with pytest.raises(UserError, match="written by another version of resnet-tl; this one reads format 1"):
        Bundle.open(bundle.path)


def test_weights_that_are_not_those_of_the_bundle_are_refused(bundle: Bundle) -> None:
    content = bytearray(bundle.weights_file.read_bytes())
    content[-1] ^= 1
    bundle.weights_file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged: it is not the file that model\.json was"):
        Bundle.open(bundle.path).load_network()
    bundle.weights_file.write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        Bundle.open(bundle.path).load_network()
    bundle.weights_file.unlink()
    with pytest.raises(UserError, match=r"has no weights\.safetensors"):
        Bundle.open(bundle.path).load_network()


@pytest.mark.parametrize(
    "changes",
    [{"classes": ["ant", "bee"]}, {"network": {"name": "resnet32", "in_chans": 1}}, {"network": {"name": "resnet20"}},
     {"network": {}}, {"network": {"name": "resnet20", "depth": 3}}],
)  # fmt: skip
def test_a_model_file_that_does_not_fit_its_weights_is_said_to_be_changed(bundle: Bundle, changes: dict) -> None:
    edit(bundle, **changes)
    with pytest.raises(UserError, match=r"model\.json was changed: its network or classes do not fit its weights\.$"):
        Bundle.open(bundle.path).load_network()


def test_a_network_that_nobody_knows_is_said_so(bundle: Bundle) -> None:
    edit(bundle, network={"name": "resnet21"})
    with pytest.raises(UserError, match="resnet21"):
        Bundle.open(bundle.path).load_network()


def test_a_folder_without_a_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is neither a run nor a model bundle: it has no model\.json\.$"):
        Bundle.open(tmp_path)
    with pytest.raises(UserError, match="missing does not exist; give a run such as"):
        Bundle.open(tmp_path / "missing")


def test_a_bundle_that_could_not_be_written_whole_is_none(
    bundle: Bundle, tmp_path: Path, network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the weights: without `model.json` the folder is no bundle."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_tl.bundle.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(dataclasses.replace(bundle, path=tmp_path / "other"), network)
    with pytest.raises(UserError, match="is neither a run nor a model bundle"):
        Bundle.open(tmp_path / "other")
