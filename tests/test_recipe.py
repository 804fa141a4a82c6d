from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from resnet_tl.errors import UserError
from resnet_tl.recipe import find_recipe, list_recipes, load_recipe, recipes_folder, resolved_text


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_shipped_recipe_has_a_name_a_summary_and_known_sections() -> None:
    recipes = list_recipes()
    assert "freeze_backbone" in [recipe.name for recipe in recipes]
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        assert recipe.path.is_relative_to(recipes_folder())
        assert recipe.text.startswith(f"# {recipe.summary}\n")
        assert len(recipe.summary) > 20
        assert load_recipe(recipe.path)


@pytest.mark.parametrize("name", ["freeze_backbone", "freeze_backbone.yaml", "freeze_backbone.yml"])
def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == recipes_folder() / "freeze_backbone.yaml"


def test_an_own_file_comes_before_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "freeze_backbone.yaml").write_text("model:\n  mode: head\n")
    assert find_recipe("freeze_backbone.yaml").resolve() == (tmp_path / "freeze_backbone.yaml").resolve()
    assert find_recipe("freeze_backbone") == recipes_folder() / "freeze_backbone.yaml"


def test_an_unknown_recipe_is_said_with_the_choices_and_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        find_recipe("freeze_backbon.yaml")
    message = str(caught.value)
    assert message.startswith("There is no recipe 'freeze_backbon.yaml': neither a file nor one of ")
    assert message.endswith("Did you mean 'freeze_backbone'?")


def test_the_folder_of_an_installed_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "resnet_tl"
    (package / "recipes").mkdir(parents=True)
    monkeypatch.setattr("resnet_tl.recipe.__file__", str(package / "recipe.py"))
    assert recipes_folder() == package.resolve() / "recipes"
    (package / "recipes").rmdir()
    assert recipes_folder() == package.resolve().parent / "recipes"


def test_a_recipe_is_read_as_it_stands(tmp_path: Path) -> None:
    text = "# Süßes Rezept\nmodel:\n  mode: head\ndata:\n  root: é\nseed: 3\n"
    assert load_recipe(write(tmp_path, text)) == {"model": {"mode": "head"}, "data": {"root": "é"}, "seed": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "own.yaml is not a recipe; it must have sections such as data, model, trainer."),
        (b"- a\n- b\n", "own.yaml is not a recipe; it must have sections such as data, model, trainer."),
        (b"just words", "own.yaml is not a recipe; it must have sections such as data, model, trainer."),
        (b"model:\n  mode: head\n bad\n", "own.yaml is not a YAML file (line 3): "),
        (b"\xff\xfe\x00\x80", "own.yaml is not a YAML file"),
        (b"data: !!python/object/apply:os.system ['true']\n", "own.yaml is not a YAML file (line 1): "),
        (
            b"modle:\n  mode: head\n",
            "own.yaml: 'modle' is not a section of a recipe; they are data, model, trainer, optimizer, lr_scheduler, "
            "seed. Did you mean 'model'?",
        ),
        (b"12: 3\n", "own.yaml: '12' is not a section of a recipe"),
    ],
)
def test_what_is_no_recipe_is_said_in_one_sentence(tmp_path: Path, text: bytes, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path) + os.sep + sentence)
    assert "\n" not in str(caught.value)


def test_the_resolved_recipe_says_what_was_chosen_and_why_and_reads_back(tmp_path: Path) -> None:
    settings = {
        "data": {"root": "/photos/é", "image_size": None},
        "model": {"network": "auto", "lr": 1e-5},
        "trainer": {"max_epochs": 3},
        "seed": 0,
    }
    resolved = {
        "model.network": ("resnet18", "photos"),
        "data.image_size": (224, "the size that the weights were trained at"),
    }
    text = resolved_text(settings, resolved, "Resolved by resnet-tl fit\nin two lines")
    lines = text.splitlines()
    assert lines[:4] == [
        "# Resolved by resnet-tl fit",
        "# in two lines",
        "# data.image_size was left to the program, which chose 224: the size that the weights were trained at.",
        "# model.network was left to the program, which chose resnet18: photos.",
    ]
    assert load_recipe(write(tmp_path, text)) == {
        "data": {"root": "/photos/é", "image_size": 224},
        "model": {"network": "resnet18", "lr": 1e-5},
        "trainer": {"max_epochs": 3},
        "seed": 0,
    }
    assert list(yaml.safe_load(text)) == ["data", "model", "trainer", "seed"]


def test_resolving_changes_no_settings_of_the_caller() -> None:
    settings = {"model": {"network": "auto"}}
    resolved_text(settings, {"model.network": ("resnet18", "photos")}, "header")
    assert settings == {"model": {"network": "auto"}}


@pytest.mark.parametrize(
    ("text", "name"),
    [("model: {mode: head}\nmodel: {mode: all}\n", "model"), ("model:\n  mode: head\n  mode: all\n", "mode")],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"names {name} twice \(line [23]\); leave one of them out"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("depth", [4, 9])
def test_aliases_of_aliases_are_refused_before_anything_unfolds_them(depth: int, tmp_path: Path) -> None:
    lines = ["  network_args:", f"    a0: &a0 [{', '.join('x' * 20)}]"]
    lines += [f"    a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 20)}]" for i in range(1, depth)]
    with pytest.raises(UserError, match=r"unfolds to more than 100,000 values"):
        load_recipe(write(tmp_path, "model:\n" + "\n".join(lines) + "\n"))


def test_an_alias_of_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own\.yaml unfolds to more"):
        load_recipe(write(tmp_path, "model:\n  network_args: &all {inner: *all}\n"))
