from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.sharing.test_card import hub_reads


def test_the_card_of_a_run_says_the_reports_verdict_and_the_recipe(command, tiny_run: Path):
    done = command("card", tiny_run)

    assert done.code == 0
    assert "validation images are judged correctly" in done.out
    assert "Careful" in done.out
    assert "| what trained | the head alone |" in done.out
    assert hub_reads(done.out).pipeline_tag == "image-classification"


def test_the_card_of_a_bundle_alone_says_what_there_is(command, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run / "model", tmp_path / "m")

    done = command("card", "m")

    assert done.code == 0
    assert "| recipe | not kept in a bundle; a card of the whole run has it |" in done.out
    assert "a card of the whole run says it" in done.out


def test_nothing_of_this_machine_is_in_the_card(command, tiny_run: Path, tmp_path: Path):
    text = command("card", tiny_run).out
    root = json.loads((tiny_run / "data" / "facts.json").read_text())["root"]

    for place in (root, str(tiny_run.parent), str(Path.home()), str(tmp_path)):
        assert place not in text


def test_licences_are_those_that_were_stated(command, tiny_run: Path, tmp_path: Path):
    done = command("card", tiny_run, "--license", "mit", "--data_license", "CC-BY-4.0", "-o", "out/README.md")

    text = (tmp_path / "out" / "README.md").read_text()
    assert (done.code, done.out) == (0, f"out/README.md: the card of {tiny_run}\n")
    assert hub_reads(text).license == "mit"
    assert "The images that it was trained on: CC-BY-4.0." in text


def test_a_licence_that_the_hub_does_not_know_is_said_to_be_none_of_its_own(command, tiny_run: Path):
    done = command("card", tiny_run, "--license", "apache2.0")

    assert (hub_reads(done.out).license, hub_reads(done.out).license_name) == ("other", "apache2.0")
    assert "The hub has no licence 'apache2.0'; its filters will show `other`. Did you mean 'apache-2.0'?" in done.err


def test_a_run_without_its_predictions_still_has_a_card(command, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "predictions")

    done = command("card", "run")

    assert done.code == 0
    assert "| accuracy |" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "nothing does not exist"),
        (["{run}", "-o", "card.html"], "card.html is to be a .md file"),
        (["{run}/data"], "it has no model.json"),
    ],
)
def test_a_mistake_is_one_sentence(command, tiny_run: Path, words: list[str], said: str):
    done = command("card", *(word.format(run=tiny_run) for word in words))

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_test_images_have_intervals_too(command, tiny_run: Path):
    text = command("card", tiny_run).out.split("test images, which had no part in training or choosing:")[1]

    rows = dict(
        re.findall(r"^\| (accuracy|macro F1|balanced accuracy) \| (.*) \|$", text.split("\n- ")[0], re.MULTILINE)
    )
    assert len(rows) == 3
    assert re.fullmatch(r"[\d.]+ % \[[\d.]+, [\d.]+\]", rows["accuracy"])
    # A bootstrap of images without a mistake has no interval.
    assert all(re.fullmatch(r"[\d.]+ % \[[\d.]+, [\d.]+\]|100.0 %", value) for value in rows.values())


def test_a_run_on_all_images_whose_numbers_are_another_runs_has_a_card(command, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    for name in ("summary.json", "model/model.json"):
        facts = json.loads((tmp_path / "run" / name).read_text())
        (tmp_path / "run" / name).write_text(json.dumps(facts | {"metrics": {}}))

    done = command("card", "run")

    assert (done.code, done.err) == (0, "")
    assert "a card of the whole run" not in done.out


def test_what_a_recipe_sets_to_one_is_said(command, tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("cutmix: 0.0", "cutmix: 1.0"))
    assert recipe.read_text() != text

    assert "| cutmix | 1 |" in command("card", "run").out
