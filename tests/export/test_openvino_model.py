from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.export.consumers.texts import openvino_text
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.exporting import export
from resnet_tl.export.facts import Facts
from resnet_tl.export.openvino_model import OpenVinoModel, write_openvino
from resnet_tl.inference.predictor import Predictor

pytest.importorskip("openvino", reason="OpenVINO is not installed")
CONNECTS = """\
import sys
def refuse(event, values):
    assert event not in ("socket.connect", "socket.getaddrinfo", "os.fork"), (event, values)
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """The bundle in OpenVINO's format, with features."""
    file = tmp_path_factory.mktemp("openvino") / "blobs.xml"
    write_openvino(Deployed(bundle, bundle.load_network(), with_features=True), Facts.of(bundle, "tensor"), file)
    return file


def test_openvino_says_what_the_model_says_of_any_number_of_images(written: Path, bundle: Bundle):
    draws = np.random.default_rng(0)  # noise on one colour each
    pixels = (draws.integers(0, 56, (35, 16, 16, 3)) + draws.integers(0, 200, (35, 1, 1, 3))).astype(np.uint8)
    model = OpenVinoModel(written)
    assert model.facts == Facts.of(bundle, "tensor")  # with markup, a comma and an umlaut in its classes
    wanted = Deployed(bundle, bundle.load_network())(torch.from_numpy(pixels)).numpy()
    for number in (35, 1, 2):
        np.testing.assert_allclose(model.probabilities(pixels[:number]), wanted[:number], atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 0.1


def test_weights_lie_beside_it_in_32_bits(written: Path, bundle: Bundle):
    assert {path.name for path in written.parent.iterdir()} == {"blobs.xml", "blobs.bin"}
    assert written.with_suffix(".bin").stat().st_size > 0.95 * bundle.weights_file.stat().st_size


def test_what_openvino_cannot_write_is_said_in_a_sentence(make_bundle, tmp_path: Path):
    bundle = make_bundle(tmp_path / "bundle", name="mnist_cnn", seen=Preprocessing(28, 32, 28))
    (tmp_path / "blobs.bin").mkdir()
    with pytest.raises(UserError, match=r"^blobs\.xml cannot be written by OpenVINO: "):
        write_openvino(Deployed(bundle, bundle.load_network()), Facts.of(bundle, "tensor"), tmp_path / "blobs.xml")


def run_without_connections(program: str, home: Path, *arguments: Path) -> str:
    """What a program prints; it fails where it connects, looks a name up or forks."""
    home.mkdir()
    environment = {"PATH": "", "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CONNECTS + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*"))  # nor an identity for its maker
    return done.stdout


def test_writing_and_opening_report_nothing_to_anyone(written: Path, tmp_path: Path):
    program = """
from pathlib import Path
from resnet_tl.export.openvino_model import OpenVinoModel, openvino
model = OpenVinoModel(Path(sys.argv[1]))
openvino().save_model(openvino().Core().read_model(sys.argv[1]), sys.argv[2])
print("openvino_telemetry" in sys.modules, len(model.facts.classes))
"""
    said = run_without_connections(program, tmp_path / "home", written, tmp_path / "again.xml")
    assert said == "False 3\n"


def test_the_check_finds_what_importing_openvino_does(tmp_path: Path):
    """Else the tests here would find nothing because there is nothing; should this fail, our care is not needed."""
    pytest.importorskip("openvino_telemetry")
    with pytest.raises(AssertionError):
        run_without_connections("import openvino", tmp_path / "home")


def test_the_consumer_says_what_predict_says_and_reports_nothing(written: Path, bundle: Bundle, tmp_path: Path):
    photos = []
    for number, size in enumerate(((60, 40), (33, 21))):
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(photos[-1])
    program = openvino_text(Facts.of(bundle, "tensor"), "blobs.xml").replace("__file__", repr(str(written)))
    lines = [line.split("\t") for line in run_without_connections(program, tmp_path / "home", *photos).splitlines()]
    table = Predictor(bundle.path, device="cpu").predict([str(path) for path in photos]).set_index("path")
    assert [line[0] for line in lines] == list(map(str, photos))
    for path, *answers in lines:
        for answer in answers:
            label, _, share = answer.rpartition(" ")
            assert float(share.rstrip("%")) / 100 == pytest.approx(table.loc[path, f"prob_{label}"], abs=0.02)


def test_an_export_is_both_files_or_none(tmp_path: Path, blobs: Path, make_run):
    run = make_run(tmp_path / "run", read_images(blobs), name="mnist_cnn", seen=Preprocessing(28, 32, 28))
    file = tmp_path / "out" / "blobs.xml"
    with pytest.raises(UserError, match="--input raw does not go with --to openvino: OpenVINO resizes"):
        export(run, file, to="openvino", kind="raw")
    file.parent.mkdir()
    other = file.with_suffix(".bin")
    other.write_text("mine")
    with pytest.raises(UserError, match=r"blobs.bin is to be a part of .*blobs.xml, but belongs to something else"):
        export(run, file, to="openvino")
    assert [path.name for path in file.parent.iterdir()] == ["blobs.bin"]
    assert other.read_text() == "mine"
    other.unlink()
    done = export(run, file, to="openvino")
    assert done.verification.same == done.verification.images == 13
    assert done.bytes == file.stat().st_size + other.stat().st_size
    assert {path.name for path in file.parent.iterdir()} == {
        "blobs.xml",
        "blobs.bin",
        "blobs.xml.verification.json",
        "blobs_openvino_predict.py",
    }
    export(run, file, to="openvino")  # over its own files
