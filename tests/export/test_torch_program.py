from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.export.consumers.texts import torch_text
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts
from resnet_tl.export.torch_program import Program, TorchProgram, write_program
from resnet_tl.inference.predictor import Predictor

GUARD = """\
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("resnet_tl", "timm", "lightning"):
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Guard())
"""
SIZES = ((40, 60), (20, 20), (20, 33), (33, 20), (3, 3), (1, 1), (1, 90), (90, 1), (16, 256), (16, 259), (23, 17))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """The bundle as a program for raw images that gives features too."""
    file = tmp_path_factory.mktemp("pt2") / "blobs.pt2"
    write_program(Deployed(bundle, bundle.load_network(), with_features=True), Facts.of(bundle, "raw"), file)
    return file


def ours(bundle: Bundle, image: np.ndarray) -> np.ndarray:
    """The probabilities of one image, step by step."""
    seen = bundle.preprocessing.centre(bundle.preprocessing.store(image)).permute(1, 2, 0)
    return Deployed(bundle, bundle.load_network())(seen[None]).double().numpy()[0]


def test_a_program_says_of_images_of_any_size_what_the_model_says(written: Path, bundle: Bundle):
    draws = np.random.default_rng(0)
    images = [draws.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    program = TorchProgram(written)
    assert program.facts == Facts.of(bundle, "raw")
    found = program.probabilities(images)
    np.testing.assert_allclose(found, [ours(bundle, image) for image in images], atol=2e-6)
    assert np.ptp(found, axis=0).max() > 0.1  # or the comparison would say nothing


def test_a_batch_may_have_any_number_of_images(written: Path):
    images = np.random.default_rng(0).integers(0, 256, (5, 30, 21, 3), dtype=np.uint8)
    program = TorchProgram(written)
    alone = np.concatenate([program.probabilities(image[None]) for image in images])
    np.testing.assert_allclose(program.probabilities(images), alone, atol=2e-6)


@pytest.mark.parametrize("rule", ["short_side", "squash"])
@pytest.mark.parametrize("channels", [1, 4])
def test_the_pixels_are_the_very_same(rule, channels: int, bundle: Bundle):
    numbers = (1.0,) * channels
    planned = Preprocessing(24, 31, 28, rule, "bicubic", numbers, numbers, channels)
    program = Program(Deployed(bundle, bundle.load_network()), replace(Facts.of(bundle, "raw"), preprocessing=planned))
    draws = np.random.default_rng(0)
    for size in (*SIZES, (31, 62), (200, 301)):
        image = draws.integers(0, 256, (*size, channels), dtype=np.uint8)
        seen = program._prepared(torch.from_numpy(image)[None])[0]
        np.testing.assert_array_equal(seen, planned.centre(planned.store(image)).permute(1, 2, 0), str(size))


def test_features_are_given_by_their_name(written: Path, bundle: Bundle):
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    module = torch.export.load(written).module()
    assert set(module(image)) == {"probabilities", "features"}
    assert module(image)["features"].shape == (2, bundle.load_network().num_features)


def test_a_program_for_the_networks_inputs(bundle: Bundle, tmp_path: Path):
    file = tmp_path / "tensor.pt2"
    deployed = Deployed(bundle, bundle.load_network())
    write_program(deployed, Facts.of(bundle, "tensor"), file)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    found = TorchProgram(file).probabilities(pixels)
    np.testing.assert_allclose(found, deployed(torch.from_numpy(pixels)).numpy(), atol=2e-6)


def test_the_same_model_gives_the_same_bytes_and_nothing_of_where_it_was_made(written: Path, bundle: Bundle):
    again = written.with_name("another name.pt2")
    write_program(Deployed(bundle, bundle.load_network(), with_features=True), Facts.of(bundle, "raw"), again)
    assert again.read_bytes() == written.read_bytes()
    for place in (written.parent, bundle.path, Path(__file__).parents[2]):
        assert str(place).encode() not in again.read_bytes()


def test_a_network_that_cannot_be_traced_is_refused_and_named(bundle: Bundle, tmp_path: Path):
    class Asks(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    network = bundle.load_network()
    network.body.set_submodule(network.head_path, Asks(network.num_features, 3))
    with pytest.raises(UserError, match=r"^The network 'resnet20' cannot be traced by torch.export: .+\.$"):
        write_program(Deployed(bundle, network), Facts.of(bundle, "raw"), tmp_path / "new.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "tensor"])
def test_the_consumer_needs_torch_alone_and_says_what_predict_says(kind, written: Path, bundle: Bundle, tmp_path: Path):
    photos = []
    for number, size in enumerate(((60, 40), (33, 21))):
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(photos[-1])
    name = 'a "quoted" näme.pt2'
    if kind == "raw":
        shutil.copy(written, tmp_path / name)
    else:
        write_program(Deployed(bundle, bundle.load_network()), Facts.of(bundle, kind), tmp_path / name)
    program = tmp_path / "use.py"
    program.write_text(GUARD + torch_text(Facts.of(bundle, kind), name), encoding="utf-8")
    done = subprocess.run([sys.executable, program, *photos], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    table = Predictor(bundle.path, device="cpu").predict([str(path) for path in photos]).set_index("path")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(map(str, photos))
    for path, *answers in lines:
        for answer in answers:
            label, _, share = answer.rpartition(" ")
            assert float(share.rstrip("%")) / 100 == pytest.approx(table.loc[path, f"prob_{label}"], abs=0.01)
