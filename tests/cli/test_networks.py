import subprocess
import sys

import pytest
from PIL import Image

from resnet_tl.networks import network_names


def cells(out):
    """The words of each line of a table, by the first."""
    return {words[0]: words[1:] for line in out.splitlines() if (words := line.split())}


def test_list_names_every_network_with_one_line(command):
    code, out, err = command("networks", "list")
    assert (code, err) == (0, "")
    lines = cells(out)
    assert all(lines[name] for name in network_names())
    assert max(map(len, out.splitlines())) <= 100


def test_list_imports_nothing_heavy():
    code = (
        "import sys; from resnet_tl.cli.networks import main; main(['list']); "
        "print([m for m in ('torch', 'timm', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.endswith("[]\n")


def test_show_counts_each_stage_and_draws(command, tmp_path):
    code, out, err = command("networks", "show", "resnet18")
    assert (code, err) == (0, "")
    assert out.startswith("resnet18: images of 3 × 224 × 224, 1000 classes\n")
    rows = cells(out)
    assert rows["stage1"] == ["64", "×", "56", "×", "56", "147,968", "462", "M"]
    assert rows["head"] == ["1000", "513,000", "512", "k"]
    assert rows["all"] == ["11,689,512", "1.81", "G"]
    assert out.endswith("diagram: resnet18.png\n")
    with Image.open(tmp_path / "resnet18.png") as diagram:
        assert diagram.format == "PNG"


def test_show_takes_a_size_a_number_of_classes_and_a_file(command, tmp_path):
    code, out, _ = command(
        "networks", "show", "resnet20", "--image_size", 64, "--num_classes", 5, "--output", "pictures/net.svg"
    )
    assert code == 0
    assert cells(out)["stage1"][:5] == ["16", "×", "64", "×", "64"]
    assert cells(out)["head"][0] == "5"
    assert "16 × 64 × 64" in (tmp_path / "pictures" / "net.svg").read_text(encoding="utf-8")


def test_networks_for_digits_are_shown_with_grey_images(command):
    out = command("networks", "show", "mnist_two_branch", "--num_classes", 10).out
    assert out.startswith("mnist_two_branch: images of 1 × 28 × 28, 10 classes")
    assert cells(out)["all"][0] == "208,394"


@pytest.mark.parametrize("name", ["resnet20v2", "regnety_004"])
def test_other_depths_and_networks_of_timm_are_shown(command, name):
    assert command("networks", "show", name, "--image_size", 64).code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["lenet"], "There is no network 'lenet', neither here nor in timm"),
        (["lenet"], "Did you mean 'lenet5'?"),
        (["resnet21"], "There is no network 'resnet21': ResNets for small images have 6n + 2 layers"),
        (["lenet5", "--image_size", "8"], "'lenet5' does not take images of 8 px; it was designed for 32."),
        (["lenet5", "--output", "net.gif"], "A diagram is a .png or .svg file, but net.gif was given."),
        (["lenet5", "--image_size", "0"], "--image_size: '0' is no whole number of 1 or more"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(command, tmp_path, words, sentence):
    code, out, err = command("networks", "show", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not any(tmp_path.iterdir())
