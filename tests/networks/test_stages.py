import copy
import math

import pytest
import timm
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.stages import StagedNetwork

QUICK = ["resnet20", "resnet18", "resnet50", "resnetv2_50", "convnext_tiny", "regnety_004", "mobilenetv3_small_100"]
SLOW = ["resnet110", "resnet34", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2", "seresnet50"]
SLOW += ["resnet50d", "efficientnet_b0", "densenet121", "vgg11_bn", "swin_tiny_patch4_window7_224"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_network("resnet20", num_classes=5)


def images(network, count=2):
    size = 224 if "224" in network.name else 64
    return torch.randn(count, network.in_chans, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@torch.no_grad()
def test_stages_one_after_the_other_are_the_network(name):
    network = create_network(name, num_classes=5).eval()
    x = images(network)
    expected = network.body(x)
    features = network.forward_stages(x)
    assert network.stage_names[0] == "stem"
    assert network.stage_names[1:] == tuple(f"stage{i}" for i in range(1, len(network.stage_names)))
    assert len(network.stage_names) >= 4
    assert features.shape == (2, network.num_features)
    assert torch.equal(network(x), expected)
    assert torch.equal(network.head(features), expected)
    for cut in range(len(network.stage_names) + 1):
        assert torch.equal(network.forward_stages(network.forward_stages(x, stop=cut), start=cut), features)
    parts = [*map(network.stage, network.stage_names), network.head]
    owned = [id(tensor) for part in parts for tensor in (*part.parameters(), *part.buffers())]
    assert sorted(owned) == sorted(id(tensor) for tensor in (*network.parameters(), *network.buffers()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv2_50"])
def test_a_resnet_has_a_stem_four_stages_and_a_pool_in_the_last(name):
    network = create_network(name, num_classes=5)
    assert network.stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert any(isinstance(module, nn.MaxPool2d) for module in network.stage("stem").modules())
    sizes = [network.forward_stages(images(network), stop=stop).shape[-1] for stop in (1, 2, 3, 4)]
    assert sizes == [16, 16, 8, 4]


TRANSFORMERS = {
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 1},
    "vit_small_patch14_dinov2": {"img_size": 56, "depth": 1},
    "vit_small_patch14_reg4_dinov2": {"img_size": 28, "depth": 1, "embed_dim": 48, "num_heads": 3},
    "mixer_s32_224": {"img_size": 64},
    "beit_base_patch16_224": {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 3},
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_of_another_size_takes_images_of_that_size_alone(name):
    arguments = TRANSFORMERS[name]
    network = create_network(name, num_classes=5, network_args=arguments)
    side = arguments["img_size"]
    assert (network.stage_names, network.image_size, network.has_fixed_size) == (("backbone",), side, True)
    network.freeze(network.stage_names)
    logits = network.train()(torch.randn(2, 3, side, side))
    logits.sum().backward()
    assert logits.shape == (2, 5)
    assert all((parameter.grad is not None) == key.startswith("body.head") or key.startswith("detached")
               for key, parameter in network.named_parameters())  # fmt: skip


def test_a_network_of_several_heads_is_refused_with_the_reason():
    with pytest.raises(UserError, match=r"several layers that could be its head \(head\.0, head\.1\)"):
        create_network("crossvit_tiny_240", num_classes=5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", pytest.param("hrnet_w18_small", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_network_that_is_no_chain_is_one_stage_under_its_own_keys(name):
    network = create_network(name, num_classes=5).eval()
    theirs = timm.create_model(name, num_classes=5).eval()
    assert network.state_dict().keys() == {f"body.{key}" for key in theirs.state_dict()}
    network.load_state_dict({f"body.{key}": tensor for key, tensor in theirs.state_dict().items()})
    x = images(network)
    features = network.forward_stages(x)
    assert (network.stage_names, network.is_chain) == (("backbone",), False)
    assert features.shape == (2, network.num_features)
    torch.testing.assert_close(network.head(features), theirs(x))
    # A copy keeps its keys, and its head is its own.
    other = copy.deepcopy(network)
    other.replace_head(7)
    assert other(x).shape == (2, 7)
    assert network(x).shape == (2, 5)
    assert other.state_dict().keys() == network.state_dict().keys()
    network.freeze(network.stage_names)
    assert {key for key, tensor in network.named_parameters() if tensor.requires_grad} == {
        f"detached_head.{key}" for key, _ in network.head.named_parameters()
    }


class Skipping(nn.Module):
    """Its forward does more than its children one after the other; its head starts at zero."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.pool, self.fc = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.LazyLinear(2)
        self(torch.randn(1, 3, 96, 96))
        nn.init.zeros_(self.fc.weight)

    def forward(self, x):
        x = self.one(x)
        return self.fc(self.pool(x + self.two(x)))


def test_a_skip_around_stages_is_found_even_when_the_head_is_zero():
    assert not StagedNetwork("skipping", Skipping()).is_chain


class Positioned(nn.Sequential):
    """A weight that is its own, in no child."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        self.position = nn.Parameter(torch.zeros(1))


def shared():
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(nn.Sequential(conv), nn.Sequential(conv), nn.Flatten(), nn.Linear(3 * 96 * 96, 2))


@pytest.mark.parametrize("make", [Positioned, shared])
def test_weights_outside_all_stages_or_in_two_make_it_one_stage(make):
    network = StagedNetwork("odd", make())
    assert network.stage_names == ("backbone",)
    assert len(list(network.stage("backbone").parameters())) == len(list(network.body.parameters()))


def test_what_has_no_linear_layer_is_refused():
    layers = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    with pytest.raises(UserError, match="it has no linear layer that could be its head"):
        StagedNetwork("convolutional", nn.Sequential(*layers))


def test_without_feature_info_each_child_with_weights_is_a_stage():
    layers = [nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 5), nn.ReLU(), nn.Flatten()]
    body = nn.Sequential(*layers, nn.Linear(384, 10))
    body.pretrained_cfg = {"input_size": (1, 28, 28)}
    network = StagedNetwork("small", body, in_chans=1)
    assert {name: len(network.stage(name)) for name in network.stage_names} == {"stem": 3, "stage1": 3}


def test_the_body_is_registered_once_under_its_own_keys(network):
    keys = list(network.state_dict())
    assert keys == [f"body.{key}" for key in network.body.state_dict()]
    assert "body.layer1.0.conv1.weight" in keys


def test_a_stage_is_a_view_and_sees_weights_that_are_loaded_later(network):
    view = network.stage("stem")
    other = create_network("resnet20", num_classes=5)
    network.load_state_dict(other.state_dict())
    assert torch.equal(view[0].weight, other.body.conv1.weight)
    assert view[0].weight is network.body.conv1.weight


def test_an_unknown_stage_is_refused_with_the_nearest_name(network):
    with pytest.raises(UserError, match=r"no stage 'stage_2'; its stages are stem, .* Did you mean 'stage2'\?"):
        network.stage("stage_2")


def test_freezing_is_exact_and_goes_both_ways(network):
    network.freeze({"stem", "stage1"})
    network.freeze({"stage1"})
    trains = {name: any(p.requires_grad for p in network.stage(name).parameters()) for name in network.stage_names}
    assert trains == {"stem": True, "stage1": False, "stage2": True, "stage3": True}
    assert network.frozen == {"stage1"}
    network.freeze(())
    assert all(p.requires_grad for p in network.parameters())
    assert all(module.training for module in network.modules())


def test_freezing_an_unknown_stage_changes_nothing(network):
    with pytest.raises(UserError, match="no stage 'body'"):
        network.freeze({"stem", "body"})
    assert network.frozen == frozenset()
    assert all(p.requires_grad for p in network.parameters())


def test_freezing_does_not_touch_the_head(network):
    network.head.requires_grad_(False)
    network.freeze(network.stage_names)
    network.freeze(())
    assert not any(p.requires_grad for p in network.head.parameters())


def test_a_frozen_stage_stays_in_eval_whoever_calls_train(network):
    network.freeze({"stem", "stage1"})
    nn.Sequential(network).train()
    assert not any(module.training for name in ("stem", "stage1") for module in list(network.stage(name).modules())[1:])
    assert network.stage("stage2")[0].training
    assert network.head.training


def test_freezing_in_eval_leaves_the_network_in_eval(network):
    network.eval().freeze({"stem"})
    assert not any(module.training for module in network.modules())


def test_a_training_step_moves_all_but_the_frozen_stages_and_their_statistics(network):
    network.freeze({"stem", "stage1"})
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    network(images(network, 4)).square().sum().backward()
    optimizer.step()
    changed = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    frozen = {key for key in before if key.startswith(("body.conv1.", "body.bn1.", "body.layer1."))}
    assert changed.isdisjoint(frozen)
    assert {"body.layer2.0.conv1.weight", "body.layer2.0.bn1.running_mean", "body.fc.bias"} <= changed


def test_a_copy_is_independent_and_keeps_its_frozen_stages(network):
    network.freeze({"stem"})
    other = copy.deepcopy(network)
    nn.init.zeros_(other.body.conv1.weight)
    assert network.body.conv1.weight.any()
    assert not other.stage("stem")[0].weight.any()
    assert other.frozen == {"stem"}
    assert not other.train().stage("stem")[1].training


@torch.no_grad()
def test_stages_follow_the_network_to_another_type_and_memory_format(network):
    x = images(network).double()
    network.eval().double().to(memory_format=torch.channels_last)
    features = network.forward_stages(x.contiguous(memory_format=torch.channels_last))
    assert features.dtype == torch.float64
    assert torch.allclose(network.head(features), network(x))


def test_it_runs_under_distributed_data_parallel(network, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        network.freeze({"stem"})
        wrapped = nn.parallel.DistributedDataParallel(network)
        wrapped(images(network)).sum().backward()
        assert network.head.weight.grad is not None
        assert network.body.conv1.weight.grad is None
        assert not wrapped.train().module.stage("stem")[1].training
    finally:
        torch.distributed.destroy_process_group()


def test_a_new_head_is_linear_and_starts_without_a_preference(network):
    network.replace_head(7)
    assert isinstance(network.head, nn.Linear)
    logits = network(images(network, 7))
    loss = nn.functional.cross_entropy(logits, torch.arange(7))
    assert loss.item() == pytest.approx(math.log(7), abs=0.05)
    assert logits.std() > 0


@pytest.mark.parametrize("name", ["resnet20", "convnext_tiny", "resnetv2_50"])
def test_a_head_with_hidden_layers_can_be_put_in_and_taken_out(name):
    network = create_network(name, 4, head_hidden=[16, 8], head_dropout=0.5)
    kinds = [type(layer).__name__ for layer in network.head]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [layer.out_features for layer in network.head if isinstance(layer, nn.Linear)] == [16, 8, 4]
    assert network(images(network)).shape == (2, 4)
    network.replace_head(3)
    assert network(images(network)).shape == (2, 3)


def test_dropout_without_hidden_layers_acts_on_the_features():
    network = create_network("resnet20", 4, head_dropout=0.3)
    assert [type(layer).__name__ for layer in network.head] == ["Dropout", "Linear"]


def test_a_new_head_keeps_mode_and_type(network):
    network.double().eval().replace_head(3, hidden=[4])
    assert network.head[0].weight.dtype == torch.float64
    assert not network.head.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"hidden": [0]}, "positive widths"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_a_senseless_head_is_refused(network, options, message):
    with pytest.raises(UserError, match=message):
        network.replace_head(3, **options)


def test_building_a_network_draws_nothing_for_its_check(network):
    torch.manual_seed(3)
    body = copy.deepcopy(network.body)
    state = torch.get_rng_state()
    StagedNetwork("resnet20", body)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet1202", "resnet1001v2"])
def test_a_network_of_a_thousand_layers_is_checked_too_and_stays_in_single_precision(name: str):
    network = create_network(name, num_classes=2)

    assert network.stage_names == ("stem", "stage1", "stage2", "stage3")
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    assert network(torch.randn(2, 3, 8, 8)).isfinite().all()


@pytest.mark.slow
def test_a_network_whose_outputs_overflow_is_refused():
    with pytest.raises(UserError, match="'resnet6002' has too many layers"):
        create_network("resnet6002", num_classes=2)
