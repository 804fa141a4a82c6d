"""Every command that the pages, the recipes and the help show runs in a real shell as it is typed, or is listed here.

Those of the README's `sh` blocks build on one another: test_readme.py runs them in their order.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.cli.main import COMMANDS, main
from resnet_tl.data.reading.catalog import SAMPLE, fetch
from resnet_tl.recipe import find_recipe, list_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         ROOT / "data" / "README.md", ROOT / "benchmarks" / "README.md"]  # fmt: skip
PAGES.remove(ROOT / "docs" / "your_own_parts.md")  # test_your_own_parts.py runs its blocks
PROGRAMS = (
    r"(?:resnet-tl|kaggle|unzip|hf|pip|pytest|python3?|torchrun|srun|sbatch|git|ruff|mypy|bash|docker|curl|cd|\.)"
)

# What a command begins with, and why it does not run here.
NOT_RUN = {
    "resnet-tl COMMAND": "COMMAND stands for any of them",
    "resnet-tl data fetch hymenoptera": "downloads",
    "resnet-tl push": "cli/test_push_and_pull.py does, to a stand-in of the hub",
    "resnet-tl pull": "likewise",
    "resnet-tl fit --final": "cli/test_final_run.py repeats runs",
    "resnet-tl serve": "goes on until a signal comes; serving/test_server.py starts and ends it",
    "resnet-tl sweep --resume": "cli/test_sweep.py goes on with sweeps",
    "hf download": "downloads",
    "curl": "asks a server; serving/test_server.py types it",
    "docker": "is not at hand; test_deploy.py runs what the image runs",
    "kaggle": "asks for a login",
    "unzip": "unpacks what kaggle has fetched",
    "git clone": "the checkout is here",
    "python3 -m venv": ".ci/run makes an environment",
    "pip install": ".ci/run installs",
    ". .venv/bin/activate": "of that environment",
    "cd resnet-tl": "the checkout is here",
    "pytest": "these tests are running",
    "ruff": ".ci/run runs it",
    "mypy": ".ci/run runs it",
    "bash .ci/": "runs these tests",
    "python benchmarks/": "minutes to hours on real photos; test_benchmarks.py runs their parts",
    "python flowers_onnx_predict.py": "export/test_consumers.py runs it",
    "torchrun": "training/test_two_nodes.py starts several processes",
    "srun": "needs a batch system",
    "sbatch": "needs a batch system",
}


def blocks(text: str) -> str:
    """The lines of all fenced blocks of a page that are for a shell."""
    return "\n".join(re.findall(r"^```(?:sh|text)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))


def commands_in(text: str) -> list[str]:
    """The commands among some lines, each on one line, without its comment; lines of other things are left out."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    shown = [part.strip() for line in lines for part in line.split(" && ")]
    shown = [re.sub(r"\s+(#|     ).*$", "", line) for line in shown]
    return [line for line in shown if re.match(rf"{PROGRAMS} ", f"{line} ")]


def epilog(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        main([command, "--help"] if command else ["--help"])
    return capsys.readouterr().out.partition("examples:")[2]


def page_commands() -> dict[str, str]:
    """Command -> where it stands, for the pages and the headers of the recipes."""
    found: dict[str, str] = {}
    for page in PAGES:
        for command in commands_in(blocks(page.read_text(encoding="utf-8"))):
            found.setdefault(command, page.relative_to(ROOT).as_posix())
    for recipe in list_recipes():
        header = "\n".join(line.removeprefix("#") for line in recipe.text.splitlines() if line.startswith("#  "))
        for command in commands_in(header):
            found.setdefault(command, recipe.path.name)
    in_order = re.findall(r"^```sh\n(.*?)^```$", PAGES[0].read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for command in commands_in("\n".join(in_order)):
        found.pop(command, None)
    return found


def help_commands(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {
        command: f"resnet-tl {name} --help".replace("  ", " ")
        for name in ("", *COMMANDS)
        for command in commands_in(epilog(name, capsys))
    }


def why_not(command: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), None)


def with_substitutions(command: str) -> str:
    """The command as typed, and flags behind it: small images in place of a data set, no weights from a network."""
    words = shlex.split(command)
    if words[:2] == ["resnet-tl", "probe"]:
        names = words[words.index("--networks") + 1 :] if "--networks" in words else []
        names = list(itertools.takewhile(lambda word: not word.startswith("--"), names))
        extra = ["--weights", *(["none"] * len(names))] if names and "--weights" not in words else []
        root = str(fetch(SAMPLE)) if "--learning_curve" in words else words[2]  # a curve takes more images
        return shlex.join([*words[:2], root, *words[3:], *extra, "--image_size", "32"])
    trains = words[1] in ("fit", "sweep") or (words[1] == "compare" and "--recipe" in words)
    if words[0] != "resnet-tl" or not trains or "--resume" in words:
        return command
    names = [words[place + 1] for place, word in enumerate(words) if word == "--recipe"]
    names += [words[2]] if words[1] == "sweep" else []
    models = [load_recipe(find_recipe(name)).get("model", {}) for name in names]
    epochs = 1 + sum(phase.get("epochs", 0) for model in models for phase in model.get("schedule", []))
    size = "28" if "patch14" in command else "32"
    extra = ["--data.image_size", size, "--trainer.max_epochs", str(epochs)]
    if any(name.startswith("auto") for name in names):  # which plans both
        extra = ["--budget", "1s"]
    if "--data.root" not in words:
        extra += ["--data.root", "photos"]
    is_fetched = "--model.network" in words or any(model.get("network", "auto") != "auto" for model in models)
    if is_fetched and "--model.weights" not in words:
        extra += ["--model.weights", "none"]
    if words[1] == "sweep":
        varied = [word.partition("=")[0] for word in words]
        extra = [
            word for pair in zip(extra[::2], extra[1::2], strict=True) for word in pair if pair[0][2:] not in varied
        ]
        extra += ["--trials", "2"]
    return f"{command} {shlex.join(extra)}"


@pytest.fixture(scope="module")
def example(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands name: photos, runs, samples of submissions, weights."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("commands") / "example"
    for name in (
        "photos",
        "data/my_images",
        "plant_seedlings",
        "data/plant_seedlings",
        "data/hymenoptera",
        "more_photos",
    ):
        shutil.copytree(blobs / "train", folder / name)
    seedlings = ("plants/test", "data/plants/test", "plant_seedlings/test", "data/plant_seedlings/test")
    for name in ("test", "new_photos", "more", "data/pets/test", *seedlings):
        shutil.copytree(blobs / "test" / "red", folder / name)
    for name in ("plant_seedlings", "data/plant_seedlings"):  # as Kaggle gives it
        (folder / name / "train").mkdir()
        for label in ("blue", "green", "red"):
            (folder / name / label).rename(folder / name / "train" / label)
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")
    shutil.copy(folder / "test" / "0.png", folder / "photo.jpg")
    pd.DataFrame({"path": ["photo.jpg"]}).to_csv(folder / "list.csv", index=False)
    ids = sorted(path.name for path in (folder / "test").iterdir())
    labels = pd.DataFrame({"id": ids, "label": "red"})
    for name in ("plants", "data/plants", "plant_seedlings", "data/plant_seedlings"):
        labels.to_csv(folder / name / "sample_submission.csv", index=False)
    for name in (".", "data/pets"):
        pd.DataFrame({"id": ids, "label": 0.5}).to_csv(folder / name / "sample_submission.csv", index=False)
    (folder / "weights").mkdir()
    save_file(timm.create_model("resnet18").state_dict(), folder / "weights" / "model.safetensors")
    first = folder / "runs" / "freeze_backbone-1"
    flags = ["--data.root", str(blobs), "--trainer.max_epochs", "1"]
    assert main(["fit", "--recipe", "freeze_backbone", *flags, "--run", str(first)]) == 0
    for name in ("last_stages-1", "seedlings", "plants", "plants-resnet18", "plant_seedlings_resnet50-1", "a", "b"):
        shutil.copytree(first, first.parent / name)
    other = str(first.parent / "plants-resnet50")
    assert main(["fit", "--recipe", "freeze_backbone", *flags, "--seed", "1", "--run", other]) == 0
    shutil.copytree(first, first.parent / "last_stages-sweep-1" / "trials" / "1")
    shutil.copytree(other, first.parent / "last_stages-sweep-1" / "trials" / "7")
    pets = pd.DataFrame({"path": [str(path) for path in sorted(blobs.glob("train/*/*.png"))]})
    pets["label"] = ["dogs" if "red" in path else "cats" for path in pets["path"]]
    pets.to_csv(folder / "pets.csv", index=False)
    flags = ["--data.root", str(folder / "pets.csv"), "--trainer.max_epochs", "1"]
    assert main(["fit", "--recipe", "freeze_backbone", *flags, "--run", str(first.parent / "pets")]) == 0
    for name in ("cats_and_dogs_lenet-1", "cats_and_dogs_resnet18-1"):
        shutil.copytree(first.parent / "pets", first.parent / name)
    os.chdir(folder)
    assert main(["predict", "runs/seedlings", "data/plants/test", "--output", "averaged.csv"]) == 0
    assert main(["export", "runs/seedlings", "--to", "zip", "-o", "model.zip"]) == 0
    return folder


def run_in_a_shell(command: str, example: Path, folder: Path) -> None:
    shutil.copytree(example, folder / "here")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "resnet-tl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnet_tl "$@"\n')
    (programs / "resnet-tl").chmod(0o755)
    words = shlex.split(command)
    if "findings.csv" in words:  # of the command before it, which is run with another folder
        assert main(["data", "check", str(folder / "here" / "photos"), "--output", str(folder / "here")]) == 0
    if "suspects.csv" in words:  # likewise
        photos, table = folder / "here" / "photos", folder / "here" / "suspects.csv"
        assert main(["data", "suspects", str(photos), "--output", str(table)]) == 0
    if words[1] in ("fit", "compare") and "--run" in words:  # which another command made
        shutil.rmtree(folder / "here" / words[words.index("--run") + 1], ignore_errors=True)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RESNET_TL_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder / "here",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr


def test_a_command_is_one_line_without_its_comment():
    text = "resnet-tl data list   # all\nresnet-tl submit run \\\n    -o out.csv\n├── model\npip install . && pytest\n"

    assert commands_in(text) == [
        "resnet-tl data list",
        "resnet-tl submit run -o out.csv",
        "pip install .",
        "pytest",
    ]


def test_there_are_commands_everywhere(capsys: pytest.CaptureFixture[str]):
    places = set(page_commands().values()) | set(help_commands(capsys).values())

    assert {"README.md", "CONTRIBUTING.md", "docs/weights.md", "data/README.md"} <= places
    assert {recipe.path.name for recipe in list_recipes()} <= places | {"freeze_backbone.yaml"}
    assert {f"resnet-tl {name} --help" for name in ("fit", "predict", "submit", "compare")} <= places


def test_every_command_of_another_program_says_why_it_does_not_run(capsys: pytest.CaptureFixture[str]):
    for command, place in {**page_commands(), **help_commands(capsys)}.items():
        assert command.startswith("resnet-tl ") or why_not(command), f"{place}: {command}"


def test_nothing_is_listed_in_vain(capsys: pytest.CaptureFixture[str]):
    shown = [*page_commands(), *help_commands(capsys)]
    shown += commands_in(blocks(PAGES[0].read_text(encoding="utf-8")))

    planned = ("torchrun", "srun", "sbatch")  # of a page that may come
    vain = [start for start in NOT_RUN if start not in planned and not any(c.startswith(start) for c in shown)]
    assert not vain


def test_the_settings_of_every_fit_that_is_shown_are_right(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Not of those that are recipes alone: test_recipes_run.py has them."""
    from resnet_tl.cli.fit import split_recipes
    from resnet_tl.cli.fit_budget import take_budget
    from resnet_tl.cli.fit_parser import FitCLI

    monkeypatch.chdir(example)
    shown = [command for command in {**page_commands(), **help_commands(capsys)} if command.startswith("resnet-tl fit")]
    shown = [command for command in shown if not why_not(command)]
    fits = [command for command in shown if "--" in re.sub(r"--recipe \S+|--resume \S+", "", command)]
    assert len(fits) > 10
    for command in fits:
        recipes, flags, resumed = split_recipes(shlex.split(with_substitutions(command))[2:])
        _, flags = take_budget(recipes, flags)
        assert FitCLI(recipes, flags, resumed).config.model.mode


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in page_commands() if not why_not(command)])
def test_a_command_of_the_pages_and_the_recipes_runs(command: str, example: Path, tmp_path: Path):
    run_in_a_shell(with_substitutions(command), example, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_the_commands_of_the_help_run(name: str, example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number, command in enumerate(commands_in(epilog(name, capsys))):
        if not why_not(command):
            (tmp_path / str(number)).mkdir()
            run_in_a_shell(with_substitutions(command), example, tmp_path / str(number))
