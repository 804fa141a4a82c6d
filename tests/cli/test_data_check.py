from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_tl.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`{train,val}/{cat,dog}/*.png`: 11 + 2 pictures of each class, one of train in val as well."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 11), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{number}.png")
    shutil.copy(tmp_path / "photos/train/cat/3.png", tmp_path / "photos/val/cat/copy.png")
    return tmp_path / "photos"


def test_a_leak_is_shown_written_and_told_by_the_exit_code(photos: Path, command) -> None:
    done = command("data", "check", photos, "--output", "out")
    assert done.code == 1
    assert "split folders: train/<class>, val/<class>; 27 images, 2 classes" in done.out
    line = next(line for line in done.out.splitlines() if "the same picture in two splits" in line)
    assert line.split()[0] == "stop"
    assert "train/cat/3.png and val/cat/copy.png" in line
    assert "exclude the copy that is trained on" in line
    table = pd.read_csv("out/findings.csv", keep_default_na=False)
    assert table.to_numpy().tolist() == [
        ["train/cat/3.png", "leak", "the same file, in train and val", "val/cat/copy.png", "exclude"]
    ]
    assert "val/cat/copy.png" in Path("out/findings.html").read_text()


def test_what_it_wrote_cleans_the_data_for_the_next_check_and_for_a_fit(photos: Path, command) -> None:
    fit = ["fit", "--recipe", "freeze_backbone", "--data.root", photos, "--trainer.max_epochs", 1, "--run", "run"]
    refused = command(*fit)
    assert refused.code == 2
    assert refused.err.strip().count("\n") == 0
    assert (
        "one image is in two splits, such as train/cat/3.png and val/cat/copy.png (the same file, in tra" in refused.err
    )
    command("data", "check", photos, "--output", "out")
    again = command("data", "check", photos, "--exclude", "out/findings.csv", "--output", "again")
    assert again.code == 0
    assert "nothing was found" in again.out
    assert command(*fit, "--data.exclude", "out/findings.csv").code == 0
    assert "train/cat/3.png" not in Path("run/data/index.csv").read_text()


def test_what_leaves_nothing_to_validate_with_stops_as_in_a_fit(photos: Path, command) -> None:
    shutil.rmtree(photos / "val")
    for name in ("cat", "dog"):
        for number in range(1, 11):
            (photos / f"train/{name}/{number}.png").unlink()

    done = command("data", "check", photos)

    assert done.code == 1
    assert command("fit", "--recipe", "freeze_backbone", "--data.root", photos).code == 2
    assert "no class has two images" in Path("findings.csv").read_text()


def test_broken_images_do_not_count_as_some_to_train_on(photos: Path, command) -> None:
    for number in range(1, 11):
        (photos / f"train/dog/{number}.png").write_bytes(b"")

    command("data", "check", photos)

    assert "'dog' has 1 to train on" in Path("findings.csv").read_text()


def test_a_table_is_written_again_unless_it_was_edited(photos: Path, command) -> None:
    first = command("data", "check", photos)
    assert command("data", "check", photos) == first
    table = Path("findings.csv")
    table.write_text("path,suggestion\n")
    os.utime(table, ns=(0, Path("findings.html").stat().st_mtime_ns + 1))
    again = command("data", "check", photos)
    assert again.code == 2
    assert "findings.csv has been edited since it was written; name another place by --output." in again.err
    assert table.read_text() == "path,suggestion\n"


@pytest.mark.parametrize("layout", ["zip", "csv", "flat names"])
def test_other_layouts_are_read_as_fit_reads_them(photos: Path, tmp_path: Path, command, layout: str) -> None:
    if layout == "zip":
        root = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    elif layout == "csv":
        files = sorted(photos.rglob("*.png"))
        rows = [(file.relative_to(photos).as_posix(), file.parent.name, file.parts[-3]) for file in files]
        root = photos / "list.csv"
        pd.DataFrame(rows, columns=["path", "label", "split"]).to_csv(root, index=False)
    else:
        root = tmp_path / "flat"
        root.mkdir()
        for file in photos.rglob("*.png"):
            number = f"{len(list(root.iterdir()))}"
            shutil.copy(file, root / f"{file.parent.name}.{number}.png")
    done = command("data", "check", root, "--output", "out")
    assert done.code == (0 if layout == "flat names" else 1)
    (row,) = pd.read_csv("out/findings.csv").itertuples()
    assert row.finding == ("duplicate" if layout == "flat names" else "leak")


def test_files_that_are_not_read_are_findings_and_a_lost_class_stops_as_in_a_fit(photos: Path, command) -> None:
    (photos / "val/cat/copy.png").unlink()
    for path in ("train/bird/1.dcm", "train/cat/scan.nef", "val/cat/clip.mov"):
        (photos / path).parent.mkdir(exist_ok=True)
        (photos / path).touch()
    done = command("data", "check", photos, "--output", "lost")
    assert done.code == 1
    assert "3 files not read: 1 .dcm, 1 .mov, 1 .nef (convert them to PNG or JPEG)" in done.out
    found = pd.read_csv("lost/findings.csv")
    assert found["finding"].tolist() == ["lost_class", "unread", "unread", "unread"]
    assert found["detail"].tolist()[1:] == ["train/bird/1.dcm", "train/cat/scan.nef", "val/cat/clip.mov"]
    refused = command("fit", "--data.root", photos)
    assert refused.code == 2
    assert "no image of the class 'bird' can be read, only 1 .dcm" in refused.err
    shutil.rmtree(photos / "train/bird")
    assert command("data", "check", photos, "--output", "without").code == 0


def test_a_fit_finds_by_the_way_what_the_check_finds(photos: Path, command, caplog: pytest.LogCaptureFixture) -> None:
    from resnet_tl import ImageDataModule
    from resnet_tl.data.pixels.preprocessing import Preprocessing

    shutil.rmtree(photos / "val")
    shutil.copy(photos / "train/cat/3.png", photos / "train/cat/again.png")
    (photos / "train/dog/1.png").unlink()
    (photos / "train/dog/2.png").unlink()
    (photos / "train/dog/scan.dcm").touch()
    command("data", "check", photos, "--output", "out")
    caplog.set_level("INFO", "resnet_tl")
    data = ImageDataModule(photos)
    data.use(Preprocessing(size=16, storage_size=16, crop_size=16))
    found = pd.read_csv("out/findings.csv")["finding"].tolist()
    assert data.findings["finding"].tolist() == found == ["unread", "tiny_class", "duplicate"]
    words = "pictures that are not read: 1, few images to train on: 1, the same picture twice in a split: 1"
    assert [line for line in caplog.messages if words in line]


def test_what_a_refusal_says_to_type_works(photos: Path, tmp_path: Path, command) -> None:
    shutil.rmtree(photos / "val")
    shutil.move(photos / "train", tmp_path / "sites/north")
    shutil.copytree(tmp_path / "sites/north", tmp_path / "sites/south")
    for file in (tmp_path / "sites/south").rglob("*.png"):
        Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file)
    refused = command("data", "check", "sites")
    assert refused.code == 2
    assert f"did you mean {tmp_path}/sites/north? If they are classes, insist by --layout class_folders." in refused.err
    assert "cat  " in command("data", "show", tmp_path / "sites/north").out
    insisted = command("data", "show", "sites", "--layout", "class_folders")
    assert "class folders: <class>; 44 images, 2 classes" in insisted.out
    assert "north  " in insisted.out


def test_show_prints_what_is_doubtful(photos: Path, command) -> None:
    (photos / "train").rename(photos / "control")
    shutil.rmtree(photos / "val")
    (photos / "control/cat").rename(photos / "test")
    (photos / "control/dog").rename(photos / "images")
    (photos / "control").rmdir()
    (photos / "images").rename(photos / "control")
    assert "note: called like parts of the data, not like what is seen: test" in command("data", "show", photos).out


def test_a_missing_folder_is_the_users_mistake(command) -> None:
    done = command("data", "check", "nowhere")
    assert done.code == 2
    assert "nowhere does not exist" in done.err
    assert not Path("findings.csv").exists()


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "check", "--help"])
    assert "The exit code is 0 when a fit would start" in " ".join(capsys.readouterr().out.split())


def test_what_a_table_names_in_vain_is_a_finding_and_shown(photos: Path, tmp_path: Path, command) -> None:
    paths = [file.relative_to(photos) for file in sorted(photos.rglob("*.*"))]
    rows = "".join(f"{path},{path.parent.name}\n" for path in paths)
    (photos / "images.csv").write_text(f"path,label\n{rows}gone.png,{paths[0].parent.name}\n")
    checked = command("data", "check", photos / "images.csv", "--output", tmp_path / "checked")
    assert checked.code == 1
    assert "1 image that it names is not there" in checked.out
    assert "named in a table, but not there" in checked.out
    assert ",missing,gone.png," in (tmp_path / "checked" / "findings.csv").read_text()
    shown = command("data", "show", photos / "images.csv", "--output", tmp_path / "sheet.png")
    assert "gone.png: there is no such file" in shown.out


def test_a_refusal_of_a_table_shows_the_options_of_data(photos: Path, tmp_path: Path, command) -> None:
    paths = [file.relative_to(photos) for file in sorted(photos.rglob("*.*"))]
    rows = "".join(f"{path},{'ab'[n % 2]},{'xyz'[n % 3]}\n" for n, path in enumerate(paths))
    (photos / "images.csv").write_text(f"path,species,breed\n{rows}")
    refused = command("data", "check", photos / "images.csv", "--output", tmp_path)
    assert refused.code == 2
    typed = shlex.split(refused.err.partition("say which: ")[2])
    assert "3 classes" in command("data", "check", *typed, "--output", tmp_path).out
