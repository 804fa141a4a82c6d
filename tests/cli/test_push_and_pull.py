"""The commands themselves; tests/sharing/test_hub.py has what the hub may answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.test_card import hub_reads


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_comes_back(running_hub: Any, command, tiny_run: Path, tmp_path: Path):
    settings = {"HF_ENDPOINT": running_hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    environment = {**os.environ, **settings, "HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1"}

    def run(*words: object) -> str:
        line = [sys.executable, "-m", "resnet_tl", *map(str, words)]
        done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    pushed = run("push", tiny_run, "anna/tiny", "--private", "--data_license", "CC0-1.0")
    pulled = run("pull", "anna/tiny")
    on_a_branch = run("push", tiny_run, "anna/tiny", "--revision", "v2")

    assert pushed == f"{tiny_run} is at {running_hub.url}/anna/tiny; to fetch it: resnet-tl pull anna/tiny\n"
    assert on_a_branch.endswith("/tree/v2; to fetch it: resnet-tl pull anna/tiny --revision v2\n")
    assert pulled == (
        "anna/tiny is in tiny: resnet20, 3 classes, each file as model.json has it\n"
        "to use it: resnet-tl predict tiny IMAGES\n"
    )
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert "resnet-tl pull anna/tiny" in card
    assert "CC0-1.0" in card
    assert hub_reads(card).eval_results
    assert command("info", "tiny").code == 0


def test_pushed_is_nothing_before_the_names_are_right(command, tiny_run: Path):
    assert "'tiny' is no repository of the Hugging Face hub" in command("push", tiny_run, "tiny").err
    assert "nothing does not exist" in command("push", "nothing", "anna/tiny").err
    assert "'../x' is no repository" in command("pull", "../x").err


def test_options_that_a_card_of_ones_own_would_ignore_are_refused(command, tiny_run: Path, tmp_path: Path):
    (tmp_path / "m").mkdir()
    for name in ("model.json", "weights.safetensors", "validation.safetensors", "reference.safetensors"):
        (tmp_path / "m" / name).write_bytes((tiny_run / "model" / name).read_bytes())
    (tmp_path / "m" / "README.md").write_text("# Mine")

    done = command("push", "m", "anna/tiny", "--license", "mit")

    assert "m has a README.md of its own, which is pushed as it is" in done.err
