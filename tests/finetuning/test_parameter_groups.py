"""The optimizer's groups: complete, named, each with its rate and decay."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from resnet_tl.finetuning.parameter_groups import parameter_groups
from resnet_tl.networks import create_network
from resnet_tl.networks.stages import StagedNetwork

STAGES = ("stem", "stage1", "stage2", "stage3")


@pytest.fixture(scope="module")
def network() -> StagedNetwork:
    return create_network("resnet20", num_classes=3)


def test_every_parameter_is_in_exactly_one_group(network: StagedNetwork):
    groups = parameter_groups(network, STAGES, lr=0.1)

    times = Counter(id(parameter) for group in groups for parameter in group["params"])
    assert times == {id(parameter): 1 for parameter in network.parameters()}


def test_a_parameter_that_equals_another_in_value_is_not_dropped():
    """Lightning's BackboneFinetuning compares by value, and so loses every second fresh BatchNorm."""
    network = create_network("resnet20", num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()

    groups = parameter_groups(network, STAGES, lr=0.1)

    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_groups_come_in_the_order_of_the_network_and_are_named(network: StagedNetwork):
    names = [group["name"] for group in parameter_groups(network, STAGES, lr=0.1)]

    assert names == [f"{part}{kind}" for part in (*STAGES, "head") for kind in ("", ", no decay")]


def test_a_stage_that_never_trains_is_in_no_group(network: StagedNetwork):
    groups = parameter_groups(network, ("stage3",), lr=0.1)

    assert [group["name"] for group in groups] == ["stage3", "stage3, no decay", "head", "head, no decay"]
    kept = {id(parameter) for group in groups for parameter in group["params"]}
    assert not kept & {id(parameter) for parameter in network.stage("stage2").parameters()}


def test_biases_and_norms_have_no_weight_decay(network: StagedNetwork):
    optimizer = torch.optim.AdamW(parameter_groups(network, STAGES, lr=0.1), lr=0.1, weight_decay=0.5)

    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in network.named_parameters():
        is_weight = parameter.ndim > 1
        assert decays[id(parameter)] == (0.5 if is_weight else 0.0), name
    assert set(decays.values()) == {0.0, 0.5}


def test_each_stage_learns_slower_than_the_one_above_it(network: StagedNetwork):
    groups = parameter_groups(network, STAGES, lr=1.0, backbone_lr_factor=0.1, layer_decay=0.5)

    rates = {group["name"]: group["lr"] for group in groups}
    expected = {"head": 1.0, "stage3": 0.1, "stage2": 0.05, "stage1": 0.025, "stem": 0.0125}
    for name, rate in expected.items():
        assert rates[name] == rates[f"{name}, no decay"] == pytest.approx(rate)


def test_layer_decay_counts_the_stages_of_the_network_not_those_that_train(network: StagedNetwork):
    groups = parameter_groups(network, ("stage2",), lr=1.0, layer_decay=0.5)

    assert {group["lr"] for group in groups if group["name"].startswith("stage2")} == {0.5}
