from __future__ import annotations

import pytest

from resnet_tl.recipe import list_recipes


def test_list_names_every_recipe_with_its_purpose(command):
    code, out, _ = command("recipes", "list")

    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown == {recipe.name: recipe.summary for recipe in list_recipes()}
    assert "freeze_backbone" in shown


@pytest.mark.parametrize("name", ["freeze_backbone", "freeze_backbone.yaml"])
def test_show_prints_the_file(command, name):
    recipe = next(recipe for recipe in list_recipes() if recipe.name == "freeze_backbone")

    assert command("recipes", "show", name) == (0, recipe.text, "")


def test_copy_takes_a_name_a_folder_or_nothing(command, tmp_path):
    (tmp_path / "mine").mkdir()

    for words, made in (([], "lp_ft.yaml"), (["mine"], "mine/lp_ft.yaml"), (["other.yaml"], "other.yaml")):
        code, out, _ = command("recipes", "copy", "lp_ft", *words)
        assert code == 0
        assert out == f"{made}: run it with `resnet-tl fit --recipe {made}`\n"
        assert (tmp_path / made).read_text() == command("recipes", "show", "lp_ft").out


def test_copy_overwrites_nothing(command, tmp_path):
    (tmp_path / "lp_ft.yaml").write_text("mine")

    code, _, err = command("recipes", "copy", "lp_ft")

    assert code == 2
    assert err == "resnet-tl: lp_ft.yaml exists already; give another name.\n"
    assert (tmp_path / "lp_ft.yaml").read_text() == "mine"


def test_copy_makes_no_folder(command):
    code, _, err = command("recipes", "copy", "lp_ft", "nowhere/mine.yaml")

    assert code == 2
    assert err == "resnet-tl: The folder nowhere does not exist.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            [],
            "resnet-tl recipes: the following arguments are required: list | show | copy",
        ),
        (["lst"], "resnet-tl recipes: list | show | copy: invalid choice: 'lst' (choose from "),
        (
            ["show"],
            "resnet-tl recipes show: the following arguments are required: name",
        ),
        (["list", "--all"], "resnet-tl recipes: unrecognized arguments: --all"),
    ],
)
def test_a_mistake_is_one_sentence(command, words, sentence):
    code, out, err = command("recipes", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_an_unknown_recipe_is_named_with_the_nearest(command):
    code, _, err = command("recipes", "show", "freezebackbone")

    assert code == 2
    assert "There is no recipe 'freezebackbone'" in err
    assert err.endswith("Did you mean 'freeze_backbone'?\n")
