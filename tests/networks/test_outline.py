import pytest

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.outline import Row, outline


def texts(name, size, **options):
    found = outline(create_network(name, 10, **options), size)
    return {stage: [(row.labels[0], row.count) for row in rows] for stage, rows in found.items()}


def test_a_resnet_is_a_stem_and_runs_of_blocks():
    found = texts("resnet50", 64)
    assert found["stem"] == [("Conv2d 7×7, stride 2 + BatchNorm2d + ReLU", 1), ("MaxPool2d 3×3, stride 2", 1)]
    assert found["stage1"] == [("Bottleneck", 1), ("Bottleneck", 2)]  # the first widens 64 channels to 256
    assert found["stage3"] == [("Bottleneck, stride 2", 1), ("Bottleneck", 5)]
    assert found["stage4"] == [("Bottleneck, stride 2", 1), ("Bottleneck", 2), ("SelectAdaptivePool2d", 1)]
    assert found["head"] == [("Linear", 1)]


def test_the_norm_and_activation_behind_the_blocks_of_version_2_are_a_row():
    rows = outline(create_network("resnet29v2", 10), 32)["stage3"]
    assert rows[:3] == [
        Row(("PreActivationBottleneck, stride 2",), (128, 16, 16), (256, 8, 8)),
        Row(("PreActivationBottleneck",), (256, 8, 8), (256, 8, 8), count=2),
        Row(("BatchNorm2d + ReLU",), (256, 8, 8), (256, 8, 8)),
    ]


def test_two_branches_stand_side_by_side_and_join():
    found = outline(create_network("mnist_two_branch", 10, in_chans=1), 28)
    split, *branches = found["stem"]
    assert split == Row(("Split",), (1, 28, 28), (2, 1, 28, 28))
    assert branches[0] == Row(("Conv2d 3×3 + ReLU", "Conv2d 3×3, dilation 2 + ReLU"), (1, 28, 28), (32, 28, 28))
    assert [row.labels for row in branches[1:]] == [("Dropout 0.4",) * 2, ("MaxPool2d 2×2",) * 2]
    assert found["stage2"][3] == Row(("Concatenate",), (2, 128, 3, 3), (256, 3, 3))


def test_a_head_with_hidden_layers_is_opened():
    found = texts("resnet20", 32, head_hidden=[8], head_dropout=0.5)
    assert found["head"] == [("Linear + ReLU", 1), ("Dropout 0.5", 1), ("Linear", 1)]


def test_stages_of_timm_are_opened():
    assert texts("convnext_tiny", 64)["stage3"][-1] == ("ConvNeXtBlock", 9)
    assert texts("regnety_004", 64)["stage3"] == [("Bottleneck, stride 2", 1), ("Bottleneck", 5)]
    assert texts("resnetv2_50", 64)["stage2"][-1] == ("PreActBottleneck", 3)


def test_what_adds_or_concatenates_is_no_container():
    assert texts("densenet121", 64)["stage1"] == [("DenseBlock", 1)]


def test_a_size_that_the_network_does_not_take_is_refused():
    with pytest.raises(UserError, match="does not take images of 8 px"):
        outline(create_network("lenet5", 10), 8)
