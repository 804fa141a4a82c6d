from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from resnet_tl.errors import UserError
from resnet_tl.export.facts import KEY, Facts
from resnet_tl.sharing.info import lines_of, model_facts
from resnet_tl.sharing.onnx_metadata import onnx_metadata


def model(metadata: dict[str, str]) -> bytes:
    """A graph with some weights, so that there is something to pass over."""
    weights = onnx.numpy_helper.from_array(np.arange(5000, dtype=np.float32), "w")
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [5000])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [5000])]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    made = onnx.helper.make_model(graph, producer_name="p" * 300)
    onnx.helper.set_model_props(made, metadata)
    return made.SerializeToString()


def test_metadata_are_read_as_onnx_reads_them(tmp_path: Path):
    said = {"résumé": "Übung 😀", "empty": "", "long": "x" * 100_000}
    (tmp_path / "m.onnx").write_bytes(model(said))

    assert onnx_metadata(tmp_path / "m.onnx") == said
    assert {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props} == said


def test_a_file_cut_off_or_changed_is_read_or_refused(tmp_path: Path):
    whole, file = model({"a": "b" * 50}), tmp_path / "m.onnx"
    refused = 0
    for end in range(1, len(whole), 997):
        file.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"m.onnx is no sound ONNX file: it ends too early"):
            onnx_metadata(file)
    for place in [*range(330), *range(len(whole) - 60, len(whole))]:
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        file.write_bytes(changed)
        try:
            onnx_metadata(file)
        except UserError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("content", [b"\xff" * 30, b"\x00", b"\x72\xff\xff\xff\xff\x0f", b"PK\x03\x04", b"<html>"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)

    with pytest.raises(UserError, match=r"m.onnx is no sound ONNX file"):
        onnx_metadata(tmp_path / "m.onnx")


def test_an_exported_file_says_what_it_is(tmp_path: Path, make_bundle):
    facts = Facts.of(make_bundle(), "raw")
    (tmp_path / "leaves.onnx").write_bytes(model({KEY: facts.to_json()}))

    found = model_facts(tmp_path / "leaves.onnx")

    assert (found["kind"], found["classes"], found["digest"]) == ("onnx", ("beech", "oak", "pine"), facts.digest)
    assert ("model", "leaves, an ONNX file for images of any size") in lines_of(found)
    assert json.dumps(found)


def test_a_flipped_bit_is_found_by_the_digest_beside_the_file(tmp_path: Path, make_bundle):
    file = tmp_path / "m.onnx"
    content = bytearray(model({KEY: Facts.of(make_bundle(), "raw").to_json()}))
    file.write_bytes(content)
    assert "nothing says whether it is whole" in dict(lines_of(model_facts(file)))["checked"]

    (tmp_path / "m.onnx.verification.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    assert (
        dict(lines_of(model_facts(file)))["checked"] == "it is the file that m.onnx.verification.json was written with"
    )

    content[len(content) // 2] ^= 1  # in a weight
    file.write_bytes(content)
    assert model_facts(file)["damaged"] == ["it is not the file that m.onnx.verification.json was written with"]


def test_an_onnx_file_of_somebody_else_is_one_sentence(tmp_path: Path):
    (tmp_path / "theirs.onnx").write_bytes(model({"author": "x"}))

    with pytest.raises(UserError, match=r"theirs.onnx says nothing of its classes: it was not written by"):
        model_facts(tmp_path / "theirs.onnx")


def test_no_runtime_is_needed(tmp_path: Path, make_bundle, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "m.onnx").write_bytes(model({KEY: Facts.of(make_bundle(), "raw").to_json()}))
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)

    assert model_facts(tmp_path / "m.onnx")["name"] == "m"
