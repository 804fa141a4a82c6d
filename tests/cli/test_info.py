from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


def test_a_run_says_what_it_is(command, tiny_run: Path):
    done = command("info", tiny_run)

    assert done.code == 0
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines["model"] == "tiny-1, a run"
    assert "parameters" in lines["network"]
    assert "% [" in lines["validation"]
    assert "torch" in done.out


def test_json_is_for_programs(command, tiny_run: Path):
    facts = json.loads(command("info", tiny_run / "model", "--json").out)

    assert facts["kind"] == "bundle"
    assert facts["accuracy"]["val"]["images"] == sum(facts["data"]["counts"]["val"].values())
    assert facts["damaged"] == []


def test_a_damaged_bundle_is_said_and_ends_in_2(command, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"cut off")

    done = command("info", "model")

    assert done.code == 2
    assert "weights.safetensors is not the file that model.json was written with" in done.out


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ('{"format": 1, "classes": ["a", "b"]}', "model.json is damaged: it has no 'preprocessing'"),
        ('{"format": 9}', "was written by another version of resnet-tl"),
        ("[", "model.json is damaged"),
    ],
)
def test_a_model_file_that_is_none_is_one_sentence(command, tmp_path: Path, values: str, said: str):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text(values)

    done = command("info", "m")

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["calibration", "weights", "metrics", "data", "network", "validation", "reference"])
@pytest.mark.parametrize(
    "value", [{"x": None}, {"val": 3}, {"temperature": 2, "loss": "low"}, {"digest": 4, "each": 3}]
)
def test_a_model_file_with_odd_values_never_ends_in_a_stack_trace(command, tiny_run: Path, tmp_path: Path, name, value):
    shutil.copytree(tiny_run / "model", tmp_path / "m")
    facts = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps({**facts, name: value}))

    for words in (["info"], ["card"]):
        done = command(*words, "m")
        assert done.code in (0, 2)
        assert "Traceback" not in done.err
