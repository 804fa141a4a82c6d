"""A network of the user's own, by a name, a class, a factory or as a module."""

import copy
import json
import sys
from functools import partial
from typing import ClassVar

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from resnet_tl import user_code
from resnet_tl.errors import UserError
from resnet_tl.networks import create_network, rebuild_network
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.user_network import describe
from resnet_tl.networks.weights import load_weights


class Tutorial(nn.Module):
    """As people write it: functions between the layers, `view`, images of one size alone."""

    def __init__(self, num_classes: int = 4, width: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 5)
        self.conv2 = nn.Conv2d(width, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 32)
        self.fc2 = nn.Linear(32, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5, self.training))


class Declared(nn.Module):
    """Registers its layers in an order of its own."""

    stages: ClassVar = {"stem": ["conv", "norm"], "top": ["pool", "flatten"]}
    head = "classifier"

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classifier, self.flatten = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, classes)), nn.Flatten()
        self.pool, self.norm, self.conv = nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.classifier(self.flatten(self.pool(self.norm(self.conv(x)))))


def tutorial(num_classes: int) -> Tutorial:
    return Tutorial(num_classes)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file `lions.py` in the current folder that holds `Net`, a conv net of one stage."""
    (tmp_path / "lions.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, in_chans=3, width=4):\n"
        "        super().__init__(nn.Conv2d(in_chans, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
        "NUMBER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(user_code, "_allowed", {})
    yield "lions"
    sys.modules.pop("lions", None)


def x_of(network, count=2):
    return torch.randn(
        count, network.in_chans, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize(
    ("spec", "description"),
    [
        ("lions.Net", {"import": "lions.Net", "init_args": {}}),
        (
            {"class_path": "lions.Net", "init_args": {"width": 5}},
            {"import": "lions.Net", "init_args": {"width": 5}},
        ),
    ],
)
def test_a_name_in_a_recipe_is_called_with_the_classes_and_channels_and_keeps_its_head(module, spec, description):
    network = create_network(spec, 7, in_chans=1)
    assert (network.num_outputs, network.body[0].in_channels, network.name) == (7, 1, "lions.Net")
    assert network.head.weight.std() > 0.05  # a fresh head of ours would begin near zero
    assert network.description == {**description, "in_chans": 1, "head_hidden": [], "head_dropout": 0.0}
    assert create_network("lions.Net", 2, network_args={"width": 9}).description["init_args"] == {"width": 9}


def test_a_class_a_factory_and_a_module_are_taken_too():
    for network, name in (
        (Tutorial, "Tutorial"),
        (tutorial, "tutorial"),
        (lambda num_classes: Tutorial(num_classes), "<lambda>"),
        (partial(Tutorial, width=4), "Tutorial"),
        (Tutorial(5), "Tutorial"),
    ):
        staged = create_network(network, 5)
        assert staged.name.endswith(name)
        assert (staged.num_outputs, staged.image_size, staged.is_chain) == (5, 32, False)


@torch.no_grad()
def test_what_is_no_chain_is_one_stage_with_the_modules_own_function_and_keys():
    module = Tutorial(5).eval()
    network = create_network(module, 5).eval()
    x = x_of(network)
    assert torch.equal(network(x), module(x))
    assert network.forward_stages(x).shape == (2, 32)
    assert network.state_dict().keys() == {f"body.{key}" for key in module.state_dict()}
    assert (network.num_features, network.head_path) == (32, "fc2")
    torch.testing.assert_close(FrozenStages(network)(x), network.forward_stages(x))
    # What its forward does to maps needs them in the order in which they are not fastest.
    assert network.memory_format == torch.contiguous_format
    assert network(x.contiguous(memory_format=torch.channels_last)).equal(module(x))


def test_what_a_forward_does_in_training_alone_is_not_lost_between_stages():
    plain, dropping = (timm.create_model("resnet18", num_classes=3, drop_rate=rate) for rate in (0.0, 0.3))
    assert create_network(plain, 3).stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    network = create_network(dropping, 3).train()
    assert not network.is_chain
    assert not torch.equal(
        network.forward_stages(torch.ones(2, 3, 32, 32)), network.forward_stages(torch.ones(2, 3, 32, 32))
    )


def test_a_chain_is_found_though_a_function_flattens_before_the_head():
    network = create_network(torchvision.models.resnet18, 3)
    assert network.stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert network.description["import"] == "torchvision.models.resnet.resnet18"
    assert network.state_dict().keys() == {f"body.{key}" for key in torchvision.models.resnet18().state_dict()}


def test_stages_and_head_are_those_that_are_declared():
    network = create_network(Declared(), 3)
    assert {name: network.paths(name) for name in network.stage_names} == {
        "stem": ("conv", "norm"),
        "top": ("pool", "flatten"),
    }
    assert isinstance(network.head, nn.Sequential)
    with pytest.raises(UserError, match="one after the other"):
        create_network(Skipping(), 3)


class Skipping(Declared):
    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.classifier(self.flatten(self.pool(x + x.relu())))


def test_a_given_module_is_neither_trained_nor_changed_and_each_copy_begins_where_it_stands():
    module = Tutorial(3)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    for make in (module, lambda: module):
        network = create_network(make, 3)
        assert all(parameter.requires_grad for parameter in network.parameters())
        network(x_of(network)).sum().backward()
        torch.optim.SGD(network.parameters(), lr=1.0).step()
        assert not torch.equal(network.body.conv1.weight, before["conv1.weight"])
        assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_a_declared_head_of_another_width_is_made_new_and_so_is_the_last_layer_where_that_is_asked_for():
    assert create_network(Declared(10), 3).head.weight.shape == (3, 8)
    undeclared = Tutorial(10)
    with pytest.raises(UserError, match=r"Tutorial has 10 outputs for 3 classes; build it .* network\.head = 'fc2'\."):
        create_network(undeclared, 3)
    assert create_network(undeclared, 3, new_head=True)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    undeclared.head = "fc2"
    assert create_network(undeclared, 3).head.out_features == 3
    assert create_network(Tutorial(3), 3, head_hidden=[6]).head[0].weight.shape == (6, 32)


class Odd(nn.Module):
    """A forward of any kind behind a small network."""

    def __init__(self, change, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc, self.change = nn.Linear(4, num_classes), change

    def forward(self, x):
        return self.change(self.fc(self.features(x)))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (lambda: Odd(lambda y: y.log_softmax(1)), "cannot be cut .* name its classifier: `head = "),
        (lambda: Odd(lambda y: (y, y)), r"must give logits \(N, classes\), but for 2 images it gives a tuple"),
        (lambda: Odd(lambda y: y[:, :, None]), r"gives a tensor of shape \(2, 3, 1\)"),
        (lambda: Odd(lambda y: {"logits": y}), "gives a dict"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no linear layer"),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()), "takes images of 1 channels, but these have 3"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 3)), "fails on images of 3 channels: mat1 and mat2"),
        (lambda: Tutorial(width="a"), r"<lambda> cannot be made: .*\."),
        (lambda: 3, "gives a int, not a torch.nn.Module"),
        (lambda num_classes: Tutorial(9), "has 9 outputs for 3 classes, though it was called with num_classes=3"),
        ("lions.NUMBER", "lions.NUMBER cannot be made: .*not callable"),
        ("lions.Nett", "lions has no 'Nett'. Did you mean 'Net'"),
        ("tigers.Net", "there is no module 'tigers'"),
        (
            {"class_path": "lions.Net", "init_args": {"num_classes": 3}},
            "cannot be made: .*multiple values for keyword argument 'num_classes'",
        ),
        ({"class_path": "lions.Net", "init_args": {"depth": 3}}, "lions.Net cannot be made: .*depth"),
        ({"class_path": "lions.Net", "args": 3}, "it must be module.Name, or {class_path"),
        ("resnet18.a1_in1k", "names weights; give the network as 'resnet18' and the weights as 'a1_in1k'"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(module, network, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        create_network(network, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        ("head", "classifyer", "declares 'classifyer' among its `head`.* Did you mean 'classifier'"),
        ("stages", {"a": ["conv", "normal"]}, "declares 'normal' among its `stages`"),
        ("stages", {"a": ["conv"]}, "its parts|some of its weights"),
        ("stages", {"a": ["norm", "conv"], "b": ["pool", "flatten"]}, "its parts"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(attribute, value, sentence):
    module = Declared()
    setattr(module, attribute, value)
    with pytest.raises(UserError, match=sentence):
        create_network(module, 3)


def test_arguments_that_cannot_be_stored_or_used_are_refused(module):
    with pytest.raises(UserError, match=r"arguments of lions\.Net must be plain values"):
        create_network({"class_path": "lions.Net", "init_args": {"width": 4.0 + 1j}}, 3)
    with pytest.raises(UserError, match=r"give model\.network_args to its class"):
        create_network(Tutorial(3), 3, network_args={"width": 3})


def test_what_is_stored_is_plain_and_builds_the_network_again(module):
    for spec in ("lions.Net", {"class_path": "lions.Net", "init_args": {"width": 5}}, "resnet20"):
        network = create_network(spec, 3, in_chans=1, head_hidden=[4])
        stored = json.loads(json.dumps(network.description))
        if "import" in stored:
            user_code._allowed.clear()
            with pytest.raises(UserError, match=r"code that is not run unless you allow it: give --import lions, or"):
                rebuild_network(stored, 3)
            assert rebuild_network(stored, 3, network=spec).description == stored
            user_code.allow("lions")
        again = rebuild_network(stored, 3)
        again.load_state_dict(network.state_dict())
        assert again.description == stored
    assert describe(Tutorial(3)) == {"object": f"{Tutorial.__module__}.Tutorial"}
    with pytest.raises(UserError, match=r"the object .*Tutorial, which only Python can give"):
        rebuild_network(describe(Tutorial(3)), 3)


def test_the_description_of_a_stranger_imports_nothing(module):
    for kind in ("name", "import", "object"):
        with pytest.raises((UserError, TypeError)):
            rebuild_network({kind: "lions.Net"}, 3)
    assert "lions" not in sys.modules


def test_its_weights_are_its_own_or_those_of_a_file(tmp_path):
    network, donor = create_network(Tutorial(3), 3), Tutorial(3)
    before = network.body.conv1.weight.clone()
    for word in ("default", "none"):
        origin = load_weights(network, word)
        assert (origin.source, origin.digest, origin.image_size) == ("as given", "", 32)
    assert torch.equal(network.body.conv1.weight, before)
    torch.save(donor.state_dict(), tmp_path / "mine.pth")
    load_weights(network, str(tmp_path / "mine.pth"))
    assert torch.equal(network.body.fc1.weight, donor.fc1.weight)
    for word in ("a1_in1k", "hf-hub:me/mine"):
        with pytest.raises(UserError, match="Tutorial is a network of your own: give a file, a run, or default"):
            load_weights(network, word)
