from __future__ import annotations

import dataclasses
import json
import pickletools
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from resnet_tl import Predictor, user_code
from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.files import file_digest
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights

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


def test_a_number_that_is_not_defined_is_left_out(bundle: Bundle, network) -> None:
    """JSON has no word for it, and other programs would not read the file."""
    again = write_bundle(
        dataclasses.replace(bundle, metrics={"val": {"accuracy": 1.0, "auroc": float("nan")}}), network
    )

    assert again.metrics == {"val": {"accuracy": 1.0}}
    assert "NaN" not in (again.path / "model.json").read_text()


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


class Net(torch.nn.Sequential):
    """The user's own."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        layers = [torch.nn.Conv2d(1, width, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        super().__init__(*layers, torch.nn.Linear(width, num_classes))


def own_bundle(folder: Path, network: object) -> Bundle:
    built = create_network(network, 3, in_chans=1)
    unwritten = Bundle(
        folder, built.description, CLASSES, Preprocessing(32, 32, 32, mean=(0.1,), std=(0.3,), channels=1)
    )
    return write_bundle(unwritten, built)


def test_a_network_of_the_users_own_is_given_again(tmp_path: Path) -> None:
    made = Net(3)
    bundle = own_bundle(tmp_path, made)
    assert bundle.network["object"].endswith(".Net")
    with pytest.raises(
        UserError, match=f"{tmp_path} has a network of its maker's own, the object .*Net, which only Py"
    ):
        bundle.load_network()
    for network in (Net(3), Net(9), Net, lambda num_classes: Net(num_classes)):
        loaded = bundle.load_network(network)
        assert torch.equal(loaded.body[0].weight, made[0].weight)
        assert not loaded.training
    with pytest.raises(UserError, match="is not the one that"):
        bundle.load_network(Net(3, width=5))
    other = create_network(Net(3), 3, in_chans=1)
    load_weights(other, str(tmp_path), classes=CLASSES)
    assert torch.equal(other.head.weight, made[3].weight)
    with pytest.raises(UserError, match="is not the one that"):
        bundle.load_network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 3)))


def test_a_bundles_code_is_imported_where_that_is_allowed_alone(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tigers.py").write_text(
        "import pathlib, torch\npathlib.Path('imported').touch()\n"
        "class Net(torch.nn.Sequential):\n"
        "    def __init__(self, num_classes, width=4):\n"
        "        super().__init__(torch.nn.Conv2d(1, width, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),"
        " torch.nn.Linear(width, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(user_code, "_allowed", {})
    bundle = own_bundle(tmp_path / "model", {"class_path": "tigers.Net", "init_args": {"width": 6}})
    assert bundle.network["init_args"] == {"width": 6}
    sys.modules.pop("tigers")
    (tmp_path / "imported").unlink()
    with pytest.raises(UserError, match=r"the network tigers\.Net, code that is not run .* --import tigers"):
        bundle.load_network()
    edit(bundle, network={"name": "tigers.Net", "in_chans": 1})
    with pytest.raises(UserError):
        Bundle.open(bundle.path).load_network()
    assert not (tmp_path / "imported").exists()
    user_code.allow("tigers")
    assert bundle.load_network().body[0].out_channels == 6
    assert bundle.load_network(Net).body[0].out_channels == 6
    sys.modules.pop("tigers")


def test_model_json_holds_no_path_of_the_machine(bundle: Bundle, network, tmp_path: Path) -> None:
    weights = tmp_path / "someone" / "mine.safetensors"
    for source in (str(weights), "timm/resnet18.tv_in1k"):
        facts = dataclasses.replace(
            bundle,
            weights={"source": source, "licence": "MIT"},
            data={"root": str(tmp_path / "someone" / "pets"), "layout": "folders", "skipped": 0},
        )
        written = write_bundle(facts, network)
        assert written.data == {"root": "pets", "layout": "folders", "skipped": 0}
        assert written.weights["source"] == ("mine.safetensors" if source == str(weights) else source)
        assert "someone" not in (written.path / "model.json").read_text()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b'"text"', b"\xff\xfe", b"<html>"])
def test_a_damaged_model_file_is_said_in_one_sentence(bundle: Bundle, content: bytes) -> None:
    (bundle.path / "model.json").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.json is damaged: .*\.$") as caught:
        Bundle.open(bundle.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 3},
        {"classes": ...},
        {"preprocessing": {}},
        {"preprocessing": None},
        {"unheard": 1},
        {"calibration": 2.0},
        {"calibration": {"temperature": 0}},
        {"calibration": {"temperature": "hot"}},
        {"calibration": {"images": 30}},
        {"validation": "all"},
    ],
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


@pytest.fixture
def known() -> dict[str, np.ndarray]:
    features = np.random.default_rng(0).normal(size=(7, 64)).astype(np.float32)
    return Reference.make(features, np.zeros(7), np.arange(7), features).arrays


@pytest.fixture
def knowing(bundle: Bundle, network, known) -> Bundle:
    return write_bundle(dataclasses.replace(bundle, reference={"neighbours": 5}), network, reference=known)


def test_a_reference_is_read_back_as_it_was(knowing: Bundle, known) -> None:
    opened = Bundle.open(knowing.path)

    assert opened.reference == {"neighbours": 5, "digest": file_digest(opened.reference_file)}
    read = opened.load_reference()
    assert read.keys() == known.keys()
    assert all((read[name] == array).all() and read[name].dtype == array.dtype for name, array in known.items())


def test_a_bundle_without_a_reference_has_none_even_where_one_was(knowing: Bundle, network) -> None:
    again = write_bundle(knowing, network)

    assert (again.reference, again.load_reference()) == ({}, {})
    assert not again.reference_file.exists()
    edit(again, reference=...)  # an older one
    assert Bundle.open(again.path).load_reference() == {}


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "no digest", "huge"])
def test_a_damaged_reference_is_one_sentence(knowing: Bundle, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = knowing.reference_file
    content = file.read_bytes()
    if damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        file.unlink()
    elif damage == "huge":
        monkeypatch.setattr("resnet_tl.bundle.MAX_ARRAY_BYTES", len(content) - 1)
    else:
        edit(knowing, reference={"neighbours": 5})

    with pytest.raises(UserError, match=r"copy the whole folder|is damaged: it is not the file") as raised:
        Bundle.open(knowing.path).load_reference()
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"reference\.safetensors"):
        Predictor(knowing.path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"distances": np.array([np.nan], np.float32)}, "its arrays are not the numbers"),
        ({"distances": np.array([2, 1], np.float32)}, "do not fit together"),
        ({"features": np.ones((7, 9), np.float16)}, "it has 9 features, the network 64"),
        ({"labels": np.zeros(7, np.int32)}, "its arrays are not the numbers"),
        ({"rows": np.zeros(6, np.int64)}, "do not fit together"),
        ({"more": np.zeros(1)}, "it must hold features"),
    ],
)
def test_a_reference_of_another_shape_is_refused(bundle: Bundle, network, known, changes, why: str) -> None:
    odd = write_bundle(dataclasses.replace(bundle, reference={"neighbours": 5}), network, reference=known | changes)

    with pytest.raises(UserError, match=f"does not fit the model: .*{why}"):
        Predictor(odd.path, device="cpu")


@pytest.mark.parametrize("neighbours", [0, 8, -1, 1.5, "5", None, True])
def test_a_number_of_neighbours_that_is_none_is_refused(bundle: Bundle, network, known, neighbours) -> None:
    odd = write_bundle(dataclasses.replace(bundle, reference={"neighbours": neighbours}), network, reference=known)

    with pytest.raises(UserError, match="is no number of neighbours"):
        Predictor(odd.path, device="cpu")


def test_a_reference_that_is_no_safetensors_file_is_refused(knowing: Bundle) -> None:
    knowing.reference_file.write_bytes(b"no tensors")
    edit(knowing, reference={"neighbours": 5, "digest": file_digest(knowing.reference_file)})

    with pytest.raises(UserError, match="is not a safetensors file of numbers"):
        Bundle.open(knowing.path).load_reference()
    edit(knowing, reference=[])
    with pytest.raises(UserError, match="reference is no mapping"):
        Bundle.open(knowing.path)


def judged(images: int = 4) -> dict[str, np.ndarray]:
    """What is kept of so many validation images."""
    numbers = np.arange(images, dtype=np.int64) % 3
    shares = np.linspace(0.4, 1, images)
    return {"labels": numbers, "predicted": numbers, "probability": shares, "label_probability": shares}


def test_what_is_kept_of_validation_images_is_read_back_as_it_was_written(bundle: Bundle, network) -> None:
    written = write_bundle(dataclasses.replace(bundle, validation={"repeats": True}), network, judged())
    opened = Bundle.open(bundle.path)

    assert opened == written
    digest = file_digest(opened.path / "validation.safetensors")
    assert opened.validation == {"repeats": True, "images": 4, "digest": digest}
    found = opened.load_validation()
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in judged().items()
    }
    assert opened.load_network()


def test_which_images_they_were_is_kept_beside_how_they_were_judged(bundle: Bundle, network) -> None:
    own = {"content": np.arange(64, dtype=np.uint8).reshape(4, 16), "own_probability": np.linspace(0.4, 1, 4)}
    written = write_bundle(bundle, network, judged() | own)
    assert list(written.load_validation()) == list(judged())
    assert {name: array.tolist() for name, array in written.load_own().items()} == {
        name: array.tolist() for name, array in own.items()
    }
    assert write_bundle(bundle, network, judged()).load_own() == {}  # as older versions wrote it
    assert write_bundle(bundle, network).load_own() == {}


def test_a_bundle_that_keeps_nothing_of_them_says_so(bundle: Bundle, network) -> None:
    write_bundle(bundle, network, judged())
    again = write_bundle(bundle, network)

    assert sorted(path.name for path in again.path.iterdir()) == ["model.json", "weights.safetensors"]
    with pytest.raises(
        UserError, match="keeps nothing of validation images: give a run, or its model, that `resnet-tl fit`"
    ):
        again.load_validation()
    values = json.loads((bundle.path / "model.json").read_text())
    del values["validation"]  # as older versions wrote it
    (bundle.path / "model.json").write_text(json.dumps(values))
    assert Bundle.open(bundle.path).validation == {}


def test_a_file_of_validation_images_that_is_not_the_bundles_is_refused(bundle: Bundle, network) -> None:
    written = write_bundle(bundle, network, judged())
    file = written.path / "validation.safetensors"
    content = file.read_bytes()
    for damaged in (content[:-8], b"", content[:-1] + bytes([content[-1] ^ 1]), save(judged(5))):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged: it is not the file that model\.json was written with"):
            written.load_validation()
    file.unlink()
    with pytest.raises(UserError, match=r"has no validation\.safetensors, which belongs to its model\.json"):
        written.load_validation()


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": np.array([0.5, np.nan, 0.5, 0.5])},
        {"label_probability": np.array([0.5, np.inf, 0.5, 0.5])},
        {"probability": np.array([0.5, 1.5, 0.5, 0.5])},
        {"label_probability": np.array([0.5, -0.1, 0.5, 0.5])},
        {"labels": np.array([0, 1, 2, 3])},
        {"predicted": np.array([0, 1, 2, -1])},
        {"labels": np.array([0, 1, 2])},
        {"labels": np.array([[0, 1, 2, 0]])},
        {"labels": np.zeros(4, np.int32)},
        {"probability": np.zeros(4, np.float32)},
        {"labels": None},
        {"more": np.zeros(4)},
        {"content": np.zeros((4, 16), np.uint8)},
        {"content": np.zeros((4, 32), np.uint8), "own_probability": np.zeros(4)},
        {"content": np.zeros((4, 16), np.uint8), "own_probability": np.full(4, 1.1)},
        {name: array[:0] for name, array in judged().items()},
        judged(5),
    ],
)
def test_a_file_of_validation_images_that_makes_no_sense_is_refused(bundle: Bundle, network, changes: dict) -> None:
    """Its digest is that of model.json: whoever changed it has changed both."""
    written = write_bundle(bundle, network, judged())
    file = written.path / "validation.safetensors"
    file.write_bytes(save({name: found for name, found in {**judged(), **changes}.items() if found is not None}))
    edit(written, validation={**written.validation, "digest": file_digest(file)})
    with pytest.raises(UserError, match=r"validation\.safetensors was changed: it is not what validation images of 3"):
        Bundle.open(written.path).load_validation()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}"])
def test_a_file_of_validation_images_that_is_no_safetensors_file_is_refused(bundle: Bundle, network, content) -> None:
    written = write_bundle(bundle, network, judged())
    file = written.path / "validation.safetensors"
    file.write_bytes(content)
    edit(written, validation={**written.validation, "digest": file_digest(file)})
    with pytest.raises(UserError, match="is not a safetensors file") as caught:
        Bundle.open(written.path).load_validation()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("images", ["4", None, 3, True, [4]])
def test_a_number_of_validation_images_that_is_not_theirs_is_refused(bundle: Bundle, network, images) -> None:
    written = write_bundle(bundle, network, judged())
    edit(written, validation={**written.validation, "images": images})
    with pytest.raises(UserError, match="was changed"):
        Bundle.open(written.path).load_validation()
