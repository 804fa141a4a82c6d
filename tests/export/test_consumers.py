from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.export.consumers import texts
from resnet_tl.export.consumers.texts import consumer_text
from resnet_tl.inference.predictor import Predictor

GUARD = """\
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "resnet_tl", "onnx", "timm", "pandas"):
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Guard())
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What people have: a large photo, one that lies on its side, transparent, grey, a palette, 16 bits, a line."""
    folder = tmp_path_factory.mktemp("pictures with a space")
    draws = np.random.default_rng(0)
    smooth = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((600, 500))
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth.save(folder / "large.jpg", quality=95)
    smooth.resize((70, 50)).save(folder / "turned.jpg", exif=exif, quality=95)
    clear = smooth.resize((50, 60)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((50, 60)))
    clear.save(folder / "clear.png")
    smooth.convert("L").resize((33, 40)).save(folder / "grey.png")
    smooth.resize((40, 41)).quantize(16).save(folder / "palette.png")
    Image.fromarray(draws.integers(0, 65536, (30, 40), dtype=np.uint16)).save(folder / "sixteen.png")
    smooth.resize((90, 1)).save(folder / "line.png")
    return sorted(folder.iterdir())


def run_consumer(folder: Path, name: str, pictures: list[Path]) -> list[list[str]]:
    program = folder / "use.py"
    program.write_text(GUARD + consumer_text(name, "model.onnx"), encoding="utf-8")
    done = subprocess.run([sys.executable, program, *pictures], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["raw", "tensor"])
def test_the_consumer_says_what_predict_says(kind: str, files, bundle: Bundle, pictures: list[Path], tmp_path: Path):
    shutil.copy(files[kind], tmp_path / "model.onnx")
    lines = run_consumer(tmp_path, f"onnx_{kind}.py", pictures)
    table = Predictor(bundle.path, device="cpu").predict([str(path) for path in pictures]).set_index("path")
    assert len(lines) == len(pictures) == 7
    for path, *answers in lines:
        wanted = table.loc[path]
        assert answers[0].rpartition(" ")[0] == wanted["predicted"]
        assert len(answers) == 3
        for answer in answers:
            name, _, share = answer.rpartition(" ")
            assert float(share.rstrip("%")) / 100 == pytest.approx(wanted[f"prob_{name}"], abs=0.01)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_consumer_reads_as_many_channels_as_the_model_has(channels, tmp_path, pictures, make_bundle: Callable):
    """The part of the consumer that decodes and prepares, against ours."""
    from resnet_tl.data.pixels.decode import decode
    from resnet_tl.data.pixels.preprocessing import Preprocessing

    numbers = (1.0,) * channels
    for rule in ("short_side", "squash"):
        planned = Preprocessing(24, 30, 28, rule, "bicubic", numbers, numbers, channels)  # type: ignore[arg-type]
        text = (Path(texts.__file__).parent / "onnx_tensor.py").read_text()
        start, end = text.index("def decoded"), text.index("for path in")
        program = text[: text.index("session =")].replace("import onnxruntime\n", "") + text[start:end]
        names = {"planned": planned.to_dict()}
        exec(compile(program, "consumer", "exec"), names)
        for path in pictures:
            pixels = decode(path, channels, planned.storage_size)
            np.testing.assert_array_equal(names["decoded"](str(path)), pixels)  # type: ignore[operator]
            ours = planned.centre(planned.store(pixels)).permute(1, 2, 0).numpy()
            theirs = names["prepared"](pixels)  # type: ignore[operator]
            assert np.abs(ours.astype(int) - theirs).max() <= 2, path.name


def test_both_consumers_decode_alike():
    raw, tensor = ((Path(texts.__file__).parent / f"onnx_{kind}.py").read_text() for kind in ("raw", "tensor"))
    decoding = raw[: raw.index("for path in")].rstrip()
    assert tensor.startswith(decoding)


def test_the_name_of_the_file_is_a_text_whatever_it_holds():
    text = consumer_text("onnx_raw.py", 'a "quoted"\\ näme.onnx')
    names: dict = {}
    line = next(line for line in text.splitlines() if line.startswith("session"))
    exec(f"name = {line.partition('with_name(')[2].removesuffix('))')}", names)
    assert names["name"] == 'a "quoted"\\ näme.onnx'
