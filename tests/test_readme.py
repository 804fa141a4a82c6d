"""The README is true: its commands and its Python are run as they stand, and its tables and links are checked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_tl.cli.main import main
from resnet_tl.data.reading.catalog import SAMPLE, fetch
from resnet_tl.finetuning.defaults import DEFAULTS
from resnet_tl.recipe import list_recipes

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of every shell command of a page, in order."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines for part in line.split(" && ") if (words := shlex.split(part, comments=True))]


@pytest.fixture
def newcomer(tmp_path: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a few photos of one's own, as the README supposes them."""
    for label in ("blue", "green", "red"):
        shutil.copytree(blobs / "train" / label, tmp_path / "photos" / label)
    shutil.copytree(blobs / "test" / "red", tmp_path / "new_photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_sample(newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built-in sample has been fetched before, and has a tenth of its labelled images: for speed."""
    sample = newcomer / "cache" / "data" / SAMPLE
    shutil.copytree(fetch(SAMPLE), sample)
    for number, image in enumerate(sorted(sample.glob("*/*/*.jpg"))):
        if number % 10:
            image.unlink()
    shutil.copytree(sample, newcomer / "data" / SAMPLE)
    monkeypatch.setenv("RESNET_TL_CACHE", str(newcomer / "cache"))
    return sample


def run_python(page: Path) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {})


def check_results(folder: Path) -> None:
    """What the README promises is there."""
    for name in ("freeze_backbone-1", "freeze_backbone-2", "freeze_backbone-3", "seedlings", "my_recipe-1", "again"):
        run = folder / "runs" / name
        promised = re.findall(r"^[├└]── (\S+)", "".join(blocks(README, "text")), flags=re.MULTILINE)
        assert len(promised) == 12
        is_solved = "head_solver: lbfgs" in (run / "recipe.yaml").read_text()
        for part in promised:
            if part == "checkpoints/" and is_solved:
                continue
            assert (run / part).exists(), f"{name} has no {part}"
    first, again = (folder / "runs" / name / "predictions" / "val.csv" for name in ("freeze_backbone-2", "again"))
    assert first.read_bytes() == again.read_bytes()
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + len(
        list((folder / "new_photos").iterdir())
    )
    ids = [line.split(",")[0] for line in (folder / "submission.csv").read_text().splitlines()]
    sample = folder / "data" / SAMPLE / "sample_submission.csv"
    assert ids == [line.split(",")[0] for line in sample.read_text().splitlines()]


def test_the_commands_and_the_python_of_the_readme_run_as_they_stand(newcomer: Path, small_sample: Path):
    for words in commands(README):
        if words[0] == "resnet-tl":
            assert main(words[1:]) == 0, shlex.join(words)
    check_results(newcomer)
    run_python(README)
    assert json.loads((newcomer / "my_model" / "model.json").read_text())["classes"] == ["blue", "green", "red"]


@pytest.mark.slow
def test_the_readme_runs_in_a_shell_on_the_whole_sample(newcomer: Path, monkeypatch: pytest.MonkeyPatch):
    programs = newcomer / "bin"
    programs.mkdir()
    (programs / "resnet-tl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnet_tl "$@"\n')
    # What installs and tests is done already.
    for name in ("pip", "pytest"):
        (programs / name).write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RESNET_TL_CACHE", str(newcomer / "cache"))
    script = "set -euo pipefail\n" + "".join(blocks(README, "sh"))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    check_results(newcomer)


def test_no_other_command_is_in_the_readme():
    assert {words[0] for words in commands(README)} == {"resnet-tl", "pip", "pytest"}
    assert sum(words[0] == "resnet-tl" for words in commands(README)) > 10


def test_two_commands_do_all_the_setting_up():
    shell = [line for block in blocks(README, "sh") for line in block.splitlines()]
    assert "pip install . && resnet-tl fit --recipe freeze_backbone.yaml" in shell
    assert 'pip install -e ".[dev]" && pytest' in shell
    assert 'pip install -e ".[dev]" && pytest' in (ROOT / ".ci" / "run").read_text()


def test_the_python_of_the_other_pages_runs(newcomer: Path, capsys: pytest.CaptureFixture[str]):
    run_python(ROOT / "docs" / "weights.md")
    assert "licence: Apache-2.0" in capsys.readouterr().out


@every_page
def test_nothing_is_left_to_be_filled_in(page: Path):
    assert not re.findall(r"@@|\b[A-Z0-9]+_TABLE\b|\bTODO\b|\bTBD\b", page.read_text(encoding="utf-8"))


@every_page
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


@every_page
def test_recipes_that_are_named_ship(page: Path):
    named = set(re.findall(r"--recipe (\w+)(?:\.yaml)?\b(?!/)", page.read_text(encoding="utf-8"))) - {"my_recipe"}
    assert named <= {recipe.name for recipe in list_recipes()}


@every_page
def test_flags_that_are_named_exist(page: Path, capsys: pytest.CaptureFixture[str]):
    """Our own settings; those of Lightning's Trainer are its own to name."""
    named = set(re.findall(r"--(?:data|model)\.\w+", page.read_text(encoding="utf-8")))
    main(["fit", "--help"])
    assert named <= set(re.findall(r"--(?:data|model)\.\w+", capsys.readouterr().out))


def test_the_modes_of_the_readme_have_their_recipes():
    modes = dict(re.findall(r"^\| `(\w+)` \| .*? \| `(\w+)` \|", README.read_text(), re.M))
    assert set(modes) == set(DEFAULTS)
    assert set(modes.values()) <= {recipe.name for recipe in list_recipes()}


def test_the_table_of_defaults_is_that_of_the_program():
    rows = re.findall(r"^\| ([^|]+) \| (.+) \| `--[\w.]+` \|$", (ROOT / "docs" / "defaults.md").read_text(), re.M)
    table = {name: [cell.strip(" `") for cell in cells.split("|")] for name, cells in rows}
    modes = [DEFAULTS[mode] for mode in ("head", "last_stages", "all")]
    for name, field in (
        ("learning rate of the head", "lr"),
        ("pretrained stages learn at this times it", "backbone_lr_factor"),
        ("weight decay", "weight_decay"),
        ("epochs", "epochs"),
    ):
        assert [float(cell) for cell in table[name]] == [getattr(mode, field) for mode in modes], name
    assert table["augmentation"] == [mode.augmentation for mode in modes]
    views = [str(mode.views or "one each epoch") for mode in modes]
    assert table["augmented views of each image"] == views
    averages = [str(mode.ema or "none") for mode in modes]
    assert table["decay of the average of the weights that is kept"] == averages


def test_the_reference_of_recipes_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from make_recipe_reference import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run `python docs/make_recipe_reference.py`"


def test_the_numbers_of_the_built_in_weights_are_those_in_the_file():
    from safetensors import safe_open

    from resnet_tl.networks.weights import BUILT_IN

    with safe_open(BUILT_IN / "resnet20_cifar10.safetensors", framework="pt") as file:
        metadata = file.metadata()
    table = dict(re.findall(r"^\| ([\w ]+) \| (.+) \|$", (ROOT / "docs" / "weights.md").read_text(), re.M))
    for name in ("seed", "epochs", "date", "validation accuracy", "test accuracy"):
        assert table[name] == metadata[name.replace("validation", "val").replace(" ", "_")], name
    assert table["licence"] == metadata["licence"]
