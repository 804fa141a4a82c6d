from __future__ import annotations

import pytest

from resnet_tl.sharing.licences import base_models, licence_of_model, licence_sentences


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("Our Own 2", {"license": "other", "license_name": "our-own-2"}),
        (None, {}),
    ],
)
def test_the_licence_is_one_that_the_hub_knows_or_other_and_none_that_nobody_stated(given, expected):
    assert licence_of_model(given) == expected


def test_weights_that_forbid_commerce_are_called_so():
    weights = {"source": "timm/resnet18.fb_swsl_ig1b_ft_in1k", "licence": "cc-by-nc-4.0"}

    said = " ".join(licence_sentences(weights, None, None))

    assert "cc-by-nc-4.0, which forbids commercial use" in said
    assert "The images that it was trained on: not stated." in said


def test_weights_with_a_name_and_no_licence_are_not_called_random():
    said = licence_sentences({"source": "theirs.safetensors", "licence": ""}, None, None)

    assert said[1] == "The weights that it began with, theirs.safetensors: their licence is not known."


def test_what_its_maker_has_stated_is_said():
    said = licence_sentences({"source": "none", "licence": ""}, "MIT", "CC-BY-4.0")

    assert said == [
        "This model: MIT.",
        "The weights that it began with: random ones, which have no licence.",
        "The images that it was trained on: CC-BY-4.0.",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("timm/resnet18.tv_in1k", ["timm/resnet18.tv_in1k"]),
        ("hf-hub:anna/plants@v2", ["anna/plants"]),
        ("runs/plants-1", []),  # a folder, and no repository of that name
        ("resnet18.safetensors", []),
        ("built-in resnet20_cifar10", []),
        ("none", []),
    ],
)
def test_a_base_model_is_named_only_where_it_is_on_the_hub(source: str, expected: list[str]):
    assert base_models({"source": source}) == expected
