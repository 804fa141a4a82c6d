import pytest

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.outline import outline


def texts(name, size, **options):
    found = outline(create_network(name, 10, **options), size)
    return {stage: [(row.label, row.count) for row in rows] for stage, rows in found.items()}


def test_a_resnet_is_a_stem_and_runs_of_blocks():
    found = texts("resnet50", 64)
    assert found["stem"] == [("Conv2d 7×7", 1), ("MaxPool2d 3×3", 1)]
    assert found["stage1"] == [("Bottleneck", 3)]
    assert found["stage3"] == [("Bottleneck", 6)]
    assert found["head"] == [("Linear", 1)]
    rows = outline(create_network("resnet50", 10), 64)["stage3"]
    assert rows[0].output_shape == (1024, 4, 4)


def test_a_head_with_hidden_layers_is_opened():
    found = texts("resnet20", 32, head_hidden=[8], head_dropout=0.5)
    assert found["head"] == [("Linear", 1), ("Dropout", 1), ("Linear", 1)]


def test_what_adds_or_concatenates_is_no_container():
    assert texts("densenet121", 64)["stage1"][0] == ("DenseBlock", 1)
    assert ("Branches", 1) in texts("mnist_two_branch", 28, in_chans=1)["stem"]


def test_a_size_that_the_network_does_not_take_is_refused():
    with pytest.raises(UserError, match="does not take images of 8 px"):
        outline(create_network("lenet5", 10), 8)
