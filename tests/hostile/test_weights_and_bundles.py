"""Weights and model bundles that are no pickles, but lie about sizes, kinds and numbers."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from resnet_tl.bundle import Bundle
from resnet_tl.errors import UserError
from resnet_tl.files import file_digest
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights

NAME = "conv1.weight"


def safetensors(header: Any, data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[Any], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


LIARS = {
    "a header of 2^63 bytes": safetensors({}, length=2**63),
    "a header of 2^64 - 1 bytes": safetensors({}, length=2**64 - 1),
    "a header of 99 GB": safetensors({}, length=99 * 10**9),
    "a header beyond the end": safetensors({NAME: entry([16], 0, 64)}, length=10**6),
    "an empty header": safetensors(b""),
    "a header that is no JSON": safetensors(b"{" * 100),
    "a header of deep lists": safetensors(b"[" * 100_000),
    "a header that is a list": safetensors([1, 2]),
    "a name twice": safetensors(b'{"a": {"dtype":"F32","shape":[16],"data_offsets":[0,64]}, "a": 3}'),
    "overlapping tensors": safetensors({NAME: entry([16], 0, 64), "b": entry([16], 0, 64)}),
    "a hole between tensors": safetensors({NAME: entry([4], 0, 16), "b": entry([4], 32, 48)}),
    "offsets backwards": safetensors({NAME: entry([16], 64, 0)}),
    "offsets beyond the end": safetensors({NAME: entry([1 << 20], 0, 1 << 22)}),
    "negative offsets": safetensors({NAME: entry([16], -64, 0)}),
    "negative shape": safetensors({NAME: entry([-16], 0, 64)}),
    "a product of shapes that overflows": safetensors({NAME: entry([2**32, 2**32], 0, 64)}),
    "a product that overflows to 16": safetensors({NAME: entry([2**62, 4, 16], 0, 64)}),
    "a shape of 2^64": safetensors({NAME: entry([2**64], 0, 64)}),
    "a shape of text": safetensors({NAME: entry(["16"], 0, 64)}),
    "an unknown type": safetensors({NAME: entry([16], 0, 64, "PICKLE")}),
    "more bytes than tensors": safetensors({NAME: entry([4], 0, 16)}),
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "HTML": b"<html>not found</html>",
}


@pytest.mark.parametrize("name", LIARS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_that_lies(name: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"liar{suffix}"
    file.write_bytes(LIARS[name])
    with pytest.raises(UserError) as caught:
        load_weights(create_network("resnet20", 3), str(file))
    assert "\n" not in str(caught.value)


def good_state() -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in create_network("resnet20", 3).body.state_dict().items()}


ODD = {
    "not a number": lambda tensor: tensor * float("nan"),
    "infinite": lambda tensor: tensor + float("inf"),
    "whole numbers": lambda tensor: (tensor * 100).to(torch.int32),
    "truth values": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "another shape": lambda tensor: tensor[..., :1],
    "one number for all": lambda tensor: tensor.new_zeros(()),
    "a terabyte of the same number": lambda tensor: tensor.new_zeros(1).expand(2**20, 2**20),
    "empty": lambda tensor: tensor[:0],
    "on no device": lambda tensor: tensor.to("meta"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_of_another_kind_change_nothing(name: str, channels: int, tmp_path: Path) -> None:
    state = good_state()
    state[NAME] = ODD[name](state[NAME])
    torch.save(state, tmp_path / "odd.pt")
    network = create_network("resnet20", 3, in_chans=channels)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(network, str(tmp_path / "odd.pt"))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "metadata",
    [{"mean": "[" * 10_000}, {"mean": '["a"]'}, {"mean": "7"}, {"std": "[0, 0, 0]"}, {"std": "[NaN, 1, 1]"},
     {"image_size": "1e99"}, {"image_size": "1000000000"}, {"image_size": "0"}, {"crop_ratio": "nan"},
     {"crop_ratio": "-1"}, {"crop_ratio": "9"}, {"interpolation": "\x1b[31mx"}, {"mean": "[Infinity, 0, 0]"}],
)  # fmt: skip
def test_metadata_that_make_no_sense(metadata: dict[str, str], tmp_path: Path) -> None:
    save_file(good_state(), tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="metadata that make no sense") as caught:
        load_weights(create_network("resnet20", 3), str(tmp_path / "w.safetensors"))
    assert "\n" not in str(caught.value)


def test_a_licence_cannot_steer_the_terminal(tmp_path: Path) -> None:
    save_file(good_state(), tmp_path / "w.safetensors", metadata={"licence": "MIT\x1b]0;owned\x07"})
    assert (
        load_weights(create_network("resnet20", 3), str(tmp_path / "w.safetensors")).licence == r"MIT\x1b]0;owned\x07"
    )


@pytest.fixture
def bundle(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run / "model", tmp_path / "model")


def edit(bundle: Path, path: str, value: Any) -> None:
    values = json.loads((bundle / "model.json").read_text())
    *above, last = path.split(".")
    section = values
    for key in above:
        section = section[key]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    (bundle / "model.json").write_text(json.dumps(values))


EDITS: list[tuple[str, Any]] = [
    *((f"preprocessing.{name}", value) for name in ("size", "storage_size", "crop_size")
      for value in (0, -1, 10**9, "16", 16.5, None, True, [], float("nan"))),
    *(("preprocessing.channels", value) for value in (0, 2, 10**9, "3", [])),
    *(("preprocessing.resize_rule", value) for value in ("crop", 3, None)),
    *(("preprocessing.interpolation", value) for value in ("lanczos", "../x", 1)),
    *((f"preprocessing.{name}", value) for name in ("mean", "std")
      for value in ([], [0.5], ["a"] * 3, None, [1e400] * 3, [float("nan")] * 3, 3, [[1]] * 3)),
    ("preprocessing.std", [0, 0, 0]),
    *(("preprocessing.value_range", value) for value in ([], [1], [5, 1], [1, 1], ["a", "b"], 7, [0, float("inf")],
                                                         [float("nan"), 1], [0, 1, 2], "ab", {"a": 1, "b": 2})),
    ("preprocessing.command", "rm -rf /"),
    *(("classes", value) for value in (None, [], ["a"], ["a", "a", "b"], [1, 2, 3], [["a"], "b", "c"], {"a": 1}, "abc",
                                       ["a", "b", "\x1b[2J"], ["a", "b", "c\nd"], ["a", "b", "\u202egpj"])),
    *(("network", value) for value in (None, [], "resnet20", {}, {"name": None}, {"name": ["resnet20"]},
                                       {"name": {"a": 1}}, {"name": "../../etc/passwd"}, {"name": "hf-hub:a/b"},
                                       {"name": "local-dir:/tmp"}, {"name": "resnet20", "weights": "x"})),
    *(("network.in_chans", value) for value in (10**9, -1, 0, "3", None, 1.5)),
    *(("network.head_hidden", value) for value in ([10**9], [9_999] * 9, [-1], ["a"], 7, [0], {"a": 1})),
    *(("network.head_dropout", value) for value in (-1, 7, "a", [])),
    ("network.num_classes", 3),
    *(("network.network_args", value) for value in ({"width": 10**9}, {"shortcut": "x"}, {"depth": 9}, "a",
                                                    {"checkpoint_path": "/etc/passwd"})),
    *((name, value) for name in ("weights", "metrics", "validation", "data") for value in (None, [], 3)),
    ("format", 99), ("format", ...), ("format", "1"), ("digest", ...), ("digest", None), ("preprocessing", ...),
    ("classes", ...), ("network", ...), ("path", "/etc"), ("weights_file", "../../etc/passwd"),
]  # fmt: skip


def test_a_model_file_with_any_one_thing_changed(bundle: Path) -> None:
    """Wrong types, missing keys, absurd numbers, paths: refused in one sentence, in no time and without memory."""
    text = (bundle / "model.json").read_text()
    survived = []
    for path, value in EDITS:
        edit(bundle, path, value)
        try:
            Bundle.open(bundle).load_network()
            survived.append((path, value))
        except UserError as error:
            assert "\n" not in str(error), (path, value)
        (bundle / "model.json").write_text(text)
    assert survived == []
    Bundle.open(bundle).load_network()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet50", {}), pytest.param("resnet9998", {}, marks=pytest.mark.slow), ("wide_resnet101_2", {}), ("resnet18", {"base_width": 9_999}),
     ("resnet50", {"layers": [10**6, 1, 1, 1]}), ("vit_base_patch16_224", {}), ("resnet18", {"cardinality": 10**12})],
)  # fmt: skip
def test_a_network_larger_than_its_weights_is_not_built(bundle: Path, name: str, arguments: dict) -> None:
    edit(bundle, "network", {"name": name, "network_args": arguments})
    with pytest.raises(UserError, match=r"(was changed|cannot be built)"):
        Bundle.open(bundle).load_network()


def test_weights_of_a_bundle_that_lie(bundle: Path) -> None:
    text, digest = (bundle / "model.json").read_text(), Bundle.open(bundle).digest
    state = load((bundle / "weights.safetensors").read_bytes())
    for content in LIARS.values():
        (bundle / "weights.safetensors").write_bytes(content)
        (bundle / "model.json").write_text(text.replace(digest, file_digest(bundle / "weights.safetensors")))
        with pytest.raises(UserError):
            Bundle.open(bundle).load_network()
    for key in [key for key in state if key.endswith("conv1.weight")][:3]:
        save_file({**state, key: state[key][..., :1].contiguous()}, bundle / "weights.safetensors")
        (bundle / "model.json").write_text(text.replace(digest, file_digest(bundle / "weights.safetensors")))
        with pytest.raises(UserError, match="was changed"):
            Bundle.open(bundle).load_network()


def test_model_files_that_are_bombs(bundle: Path) -> None:
    for content in (b"[" * 200_000, b'{"format": ' + b"9" * 10_000 + b"}", b'{"a":' * 50_000, b"\xff" * 100):
        (bundle / "model.json").write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            Bundle.open(bundle)
    with (bundle / "model.json").open("wb") as file:
        file.truncate(3 << 30)  # a file of zeros that takes no place
    with pytest.raises(UserError, match="more than 64 MB"):
        Bundle.open(bundle)
