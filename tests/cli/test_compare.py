from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

RECIPES = {"head": {"network": "resnet20", "mode": "head"}, "all": {"network": "resnet20", "mode": "all"}}
WRITTEN = [
    "comparison.csv",
    "comparison.html",
    "comparison.md",
    "comparison.png",
    "comparison_disagreements.csv",
    "comparison_pairs.csv",
]


def by_recipes(blobs: Path, *more: str) -> list[str]:
    flags = ["--data.root", str(blobs), "--data.image_size", "16", "--trainer.max_epochs", "1"]
    return ["compare", "--recipe", "head.yaml", "--recipe", "all.yaml", *flags, *more]


@pytest.fixture(scope="module")
def trained(blobs: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes in a folder, and runs that look as if they had been trained by them."""
    folder = tmp_path_factory.mktemp("compared")
    flags = by_recipes(blobs)[5:]
    for name, model in RECIPES.items():
        recipe, run = folder / f"{name}.yaml", folder / "runs" / f"{name}-seed0"
        recipe.write_text(yaml.safe_dump({"model": model}))
        shutil.copytree(tiny_run, run)
        settings = yaml.safe_load((run / "recipe.yaml").read_text())
        change(run / "recipe.yaml", model=settings["model"] | model, seed=0)
        own = ["--recipe", recipe.name, "--seed", "0", "--run", f"runs/{name}-seed0", "--data.split_seed", "0"]
        recipes = {name: hashlib.sha256(recipe.read_bytes()).hexdigest()}
        change(run / "environment.json", command=["resnet-tl", "fit", *own, *flags], recipes=recipes)
    return folder


@pytest.fixture
def again(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, where the commands of this test run."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(file: Path, **changes) -> None:
    read, write = (json.loads, json.dumps) if file.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    file.write_text(write(read(file.read_text()) | changes))


@pytest.mark.slow
def test_recipes_are_trained_and_compared_and_what_was_interrupted_goes_on(blobs, tmp_path):
    def compare():
        words = [sys.executable, "-m", "resnet_tl", *by_recipes(blobs)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name, model in RECIPES.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"model": model}))
    head, both = tmp_path / "runs" / "head-seed0", tmp_path / "runs" / "all-seed0"

    printed = compare()

    assert "runs/head-seed0 is trained now (1 of 2)" in printed
    assert "Best epoch: 1" in printed  # what the fits say passes through
    assert "Written to runs/comparison-1" in printed
    table = pd.read_csv(
        tmp_path / "runs" / "comparison-1" / "comparison.csv", index_col="group", float_precision="round_trip"
    )
    assert sorted(table.index) == ["all", "head"]
    summary = json.loads((head / "summary.json").read_text())
    assert table.loc["head", "accuracy"] == summary["metrics"]["val"]["accuracy"]

    predictions = (both / "predictions/val.csv").read_bytes()
    (both / "summary.json").unlink()
    (both / "predictions/val.csv").unlink()
    printed = compare()

    assert "runs/head-seed0 is trained already (1 of 2)" in printed
    assert "runs/all-seed0 goes on now (2 of 2)" in printed
    assert (both / "predictions/val.csv").read_bytes() == predictions


def test_what_is_trained_is_used_again(command, again, blobs):
    times = [path.stat().st_mtime_ns for path in sorted(again.glob("runs/*/summary.json"))]

    words = [word.replace("head.yaml", "./head.yaml") for word in by_recipes(blobs, "--split", "test")]
    code, out, err = command(*words)

    assert (code, err) == (0, "")
    assert "runs/head-seed0 is trained already (1 of 2)" in out
    assert "7 test images of 3 classes" in out
    assert "Written to runs/comparison-1" in out
    assert [path.stat().st_mtime_ns for path in sorted(again.glob("runs/*/summary.json"))] == times


@pytest.mark.parametrize(
    ("spoil", "more", "sentence"),
    [
        (
            lambda here: (here / "all.yaml").write_text("model: {network: resnet20}"),
            [],
            "version of the recipe all.yaml",
        ),
        (lambda here: None, ["--optimizer.lr", "0.1"], "runs/head-seed0 was trained by another command (`fit --recipe"),
        (lambda here: (here / "runs/all-seed0/recipe.yaml").unlink(), [], "runs/all-seed0 holds no run"),
        (lambda here: (here / "runs/all-seed0/environment.json").unlink(), [], "runs/all-seed0 holds no run"),
        (lambda here: change(here / "runs/all-seed0/environment.json", recipes={}), [], "version of the recipe"),
    ],
    ids=["recipe", "command", "no run", "unknown", "no recipes"],
)
def test_other_work_is_not_taken_for_it(command, again, blobs, spoil, more, sentence):
    spoil(again)

    code, out, err = command(*by_recipes(blobs, *more))

    assert (code, out) == (2, "")
    assert sentence in err
    assert err.endswith("remove it, or train elsewhere with --runs FOLDER.\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("recipe", "flags", "sentence"),
    [
        ({"network": "resnet20", "weights": "nowhere.safetensors"}, [], "nowhere.safetensors"),
        ({"network": "resnet20"}, ["--data.exclude", "nowhere.csv"], "nowhere.csv"),
        (
            {},
            ["--model.weights", "nowhere.pth"],
            "Here an option counts for every recipe: what one alone needs belongs",
        ),
    ],
    ids=["weights", "images", "weights for all"],
)
def test_all_can_be_had_before_the_first_is_trained(command, again, blobs, recipe, flags, sentence):
    shutil.rmtree(again / "runs")
    (again / "all.yaml").write_text(yaml.safe_dump({"model": recipe}))

    code, out, err = command(*by_recipes(blobs, *flags))

    assert code == 2
    assert "is trained" not in out
    assert re.match(r"resnet-tl: (head|all) cannot be trained, so nothing was: .*" + sentence, err)
    assert err.count("\n") == 1
    assert not list(again.glob("runs/*-seed0"))


@pytest.mark.slow
def test_a_fit_that_fails_ends_the_comparison_with_its_exit_code(command, again, blobs):
    shutil.rmtree(again / "runs" / "all-seed0")
    diverges = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e30}}
    (again / "all.yaml").write_text(yaml.safe_dump({"model": {"network": "resnet20"}, "optimizer": diverges}))

    code, out, err = command(*by_recipes(blobs))

    assert code == 2
    assert out.splitlines()[-1] == "runs/all-seed0 is trained now (2 of 2)"
    assert err == (
        "resnet-tl: the fit of runs/all-seed0 ended with exit code 2, so nothing is compared; "
        "what was trained before it is kept.\n"
    )
    assert not (again / "runs" / "comparison-1").exists()


def test_runs_are_compared_where_one_says(command, again):
    code, out, err = command("compare", "runs/head-seed0", "runs/all-seed0", "--output", "report/first")

    assert (code, err) == (0, "")
    assert re.search(r"^run +accuracy, % +macro F1, % +loss$", out, re.MULTILINE)
    assert re.search(r"^run +parameters +multiply-adds +epochs +training +images/s$", out, re.MULTILINE)
    assert "13 images cannot tell all-seed0 and head-seed0 apart" in out
    assert "Written to report/first" in out
    assert sorted(path.name for path in (again / "report" / "first").iterdir()) == WRITTEN
    assert not (again / "runs" / "comparison-1").exists()
    first = (again / "report" / "first" / "comparison.md").read_bytes()
    assert command("compare", "runs/all-seed0", "runs/head-seed0", "--output", "report/first").code == 0
    assert (again / "report" / "first" / "comparison.md").read_bytes() == first


def test_a_page_alone_is_written_where_its_name_is_given(command, again: Path):
    done = command("compare", "runs/all-seed0", "runs/head-seed0", "-o", "pages/both.html")

    assert done.code == 0
    assert "Written to pages/both.html" in done.out
    assert sorted(path.name for path in (again / "pages").iterdir()) == ["both.html", "both_disagreements.csv"]
    assert "cannot tell all-seed0 and head-seed0 apart" in (again / "pages" / "both.html").read_text(encoding="utf-8")


def test_runs_that_differ_in_the_seed_are_one_group(command, again):
    shutil.copytree(again / "runs" / "head-seed0", again / "runs" / "head-seed1")
    recipe = yaml.safe_load((again / "runs/head-seed1/recipe.yaml").read_text())
    sections = {name: recipe[name] | {"seed": 1} for name in ("data", "model")}
    change(again / "runs" / "head-seed1" / "recipe.yaml", seed=1, **sections)

    code, out, _ = command("compare", "runs/head-seed0", "runs/all-seed0", "runs/head-seed1")

    assert code == 0
    assert re.search(r"^head +\d+\.\d \[.*\] +2: ", out, re.MULTILINE)
    code, _, err = command("compare", "runs/head-seed0", "runs/head-seed1")
    assert code == 2
    assert "runs/head-seed0 and runs/head-seed1 differ in nothing but the seed" in err


def test_other_images_are_refused_before_anything_is_written(command, again):
    file = again / "runs" / "all-seed0" / "predictions" / "val.csv"
    table = pd.read_csv(file)
    table[1:].to_csv(file, index=False)

    code, out, err = command("compare", "runs/head-seed0", "runs/all-seed0")

    assert (code, out) == (2, "")
    assert (
        f"not judged on the same images: 1 ids of the split 'val' are in only one of them, such as '{table['id'][0]}'"
        in err
    )
    assert not (again / "runs" / "comparison-1").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "resnet-tl: A comparison needs two or more of RUN or of --recipe, but 0 is given."),
        (["runs/head-seed0"], "needs two or more of RUN or of --recipe, but 1 is given."),
        (["runs/head-seed0", "runs/../runs/head-seed0"], "is given twice; a run cannot be compared with itself."),
        (["runs/head-seed0", "runs"], "resnet-tl: runs is not a run: it has no recipe.yaml."),
        (["runs/head-seed0", "runs/al-seed0"], "there is no such folder. Did you mean 'all-seed0'?"),
        (["runs/head-seed0", "runs/all-seed0", "--split", "train"], "--split: invalid choice: 'train' (choose from "),
        (["runs/head-seed0", "runs/all-seed0", "--seeds", "2"], "--seeds is for recipes that are to be trained;"),
        (["runs/head-seed0", "runs/all-seed0", "--data.root", "x"], "unrecognized arguments: --data.root"),
        (
            ["runs/head-seed0", "runs/all-seed0", "-o", "head.yaml"],
            "it must be a folder, or a page whose name ends in .html",
        ),
        (
            ["runs/head-seed0", "runs/all-seed0", "-o", "page.txt"],
            "--output is page.txt; it must be a folder, or a page",
        ),
        (
            ["--recipe", "head.yaml", "--recipe", "all.yaml", "--seeds", "0"],
            "--seeds: '0' is no whole number of 1 or more",
        ),
        (["--recipe", "head.yaml"], "A comparison needs two or more recipes, but only 'head.yaml' is given."),
        (["--recipe", "head.yaml", "--recipe", "runs/../head.yaml"], "Two recipes are called head, and so would"),
        (["--recipe", "head.yaml", "--recipe", "hed.yaml"], "There is no recipe 'hed.yaml'"),
        (["runs/all-seed0", "--recipe", "head.yaml"], "'runs/all-seed0' belongs to no option; give runs or --recipe,"),
        (["--recipe", "head.yaml", "--seed", "1"], "--seed is chosen by compare for each fit; give --seeds N for"),
        (["--recipe", "head.yaml", "--run=x"], "--run is chosen by compare for each fit; give --runs FOLDER for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(command, again, words, sentence):
    code, out, err = command("compare", *words)

    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_an_unfinished_run_is_refused(command, again):
    (again / "runs" / "all-seed0" / "summary.json").unlink()

    code, _, err = command("compare", "runs/head-seed0", "runs/all-seed0")

    go_on = "resnet-tl fit --resume runs/all-seed0 goes on with it"
    assert (code, err) == (2, f"resnet-tl: runs/all-seed0 has no summary.json: its training did not end ({go_on}).\n")


def test_comparing_loads_no_torch(again):
    code = "import sys; from resnet_tl.cli.compare import main; main(sys.argv[1:]); print('torch' in sys.modules)"

    words = [sys.executable, "-c", code, "runs/head-seed0", "runs/all-seed0"]
    assert subprocess.check_output(words, text=True, cwd=again).splitlines()[-1] == "False"
