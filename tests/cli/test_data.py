import shutil
import subprocess
import sys

import pytest
from PIL import Image

from resnet_tl.cli import data
from resnet_tl.cli.data import main
from resnet_tl.data.reading.catalog import SOURCES
from resnet_tl.errors import UserError


@pytest.fixture
def pets(tmp_path):
    """Two classes in split folders, of several sizes, with one file that is no picture."""
    sizes = {"train/cat/1.png": (10, 40), "train/cat/2.png": (20, 50), "train/dog/1.png": (30, 60)}
    sizes |= {"val/cat/1.png": (30, 60), "val/dog/1.png": (90, 70)}
    for name, size in sizes.items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(tmp_path / "pets" / name)
    (tmp_path / "pets" / "train" / "dog" / "broken.jpg").write_bytes(b"not a picture")
    return tmp_path / "pets"


def test_list_names_every_source_and_what_is_here(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path))
    (tmp_path / "data" / "hymenoptera" / "train").mkdir(parents=True)
    assert main(["list"]) == 0
    lines = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {name: lines[name] for name in SOURCES} == {
        "seedlings_sample": "no",
        "hymenoptera": "yes",
        "cats_and_dogs": "no",
        "plant_seedlings": "no",
        "cifar10": "no",
        "mnist": "no",
        "fashion_mnist": "no",
    }


def test_list_imports_nothing_heavy():
    code = (
        "import sys; from resnet_tl.cli.data import main; main(['list']); "
        "print([m for m in ('torch', 'numpy', 'pandas', 'PIL', 'matplotlib') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.endswith("[]\n")


def test_fetch_prints_the_root(capsys, tmp_path):
    assert main(["fetch", "seedlings_sample", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "seedlings_sample")
    assert (tmp_path / "seedlings_sample" / "train" / "violet" / "0001.jpg").is_file()


def test_show_counts_measures_and_names_bad_images(capsys, pets, tmp_path):
    assert main(["show", str(pets), "--output", str(tmp_path / "sheet.png")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["cat", "2", "1"] in rows
    assert ["dog", "2", "1"] in rows
    assert ["all", "4", "2"] in rows
    assert ["width", "10", "30", "90"] in rows
    assert ["height", "40", "60", "70"] in rows
    assert ["bad", "images:", "1"] in rows
    assert any(row[0] == "train/dog/broken.jpg:" for row in rows)


def test_show_writes_a_contact_sheet(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["show", str(pets)])
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 100


def test_show_looks_into_a_zip(capsys, pets, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path, "pets")
    assert main(["show", archive, "--output", str(tmp_path / "sheet.png")]) == 0
    assert "split folders: train/<class>, val/<class>; all in pets/; 6 images, 2 classes" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").is_file()


def test_show_of_a_missing_folder_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        main(["show", str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (".", "is a folder; name the file to write in it"),
        ("sheet.jpg", "is to be a .png file"),
        ("pets/train/cat/small.png", "is one of the images"),
    ],
)
def test_show_writes_over_nothing_else(pets, tmp_path, monkeypatch, output, sentence):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("pets/train/cat/small.png")
    with pytest.raises(UserError, match=sentence):
        main(["show", str(pets), "--output", output])


def test_show_takes_the_first_of_very_many_classes(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CLASSES", 2)
    for name in ("a", "b", "c"):
        (tmp_path / "many" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "many" / name / "1.png")
    heights = []
    for _ in range(2):
        assert main(["show", str(tmp_path / "many"), "--output", str(tmp_path / "sheet.png")]) == 0
        heights.append(Image.open(tmp_path / "sheet.png").height)
        monkeypatch.setattr(data, "CLASSES", 3)
    assert heights[0] < heights[1]
    assert "contact sheet of the first 2 classes: " in capsys.readouterr().out


def test_no_verb_is_the_users_mistake(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "list | fetch | show | check" in capsys.readouterr().err
