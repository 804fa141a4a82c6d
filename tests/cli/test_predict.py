from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.evaluation.predictions import read_predictions

PROBABILITIES = ["prob_blue", "prob_green", "prob_red"]


@pytest.fixture
def photos(blobs, tmp_path):
    """Two red pictures and a green one, without labels."""
    (tmp_path / "photos").mkdir()
    for name, source in (("a.png", "red/0.png"), ("b.png", "red/1.png"), ("c.png", "green/0.png")):
        shutil.copy(blobs / "test" / source, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["photos/b.png"], ["b.png"]),
        (["photos"], ["a.png", "b.png", "c.png"]),
        (["photos/[ab].png"], ["a.png", "b.png"]),
        (["photos/c.png", "photos/a.png"], ["a.png", "c.png"]),
        (["list.csv"], ["photos/a.png", "photos/c.png"]),
    ],
    ids=["file", "folder", "glob", "files", "csv"],
)
def test_files_folders_globs_and_a_csv(command, tiny_run, photos, tmp_path, images, names):
    (tmp_path / "list.csv").write_text("path\nphotos/a.png\nphotos/c.png\n")

    code, out, err = command("predict", tiny_run, *images, "--output", "predictions.csv")

    assert (code, err) == (0, "")
    assert out == f"predictions.csv: {len(names)} images\n"
    table = read_predictions(tmp_path / "predictions.csv")
    assert [path.rsplit("/", 1)[-1] for path in table["path"]] == [name.rsplit("/", 1)[-1] for name in names]
    assert list(table.columns) == ["id", "path", "label", "predicted", "familiarity", *PROBABILITIES]
    assert table[["prob_blue", "prob_green", "prob_red"]].sum(axis=1).to_numpy() == pytest.approx(1)


def test_a_refusal_of_a_table_shows_the_options_of_predict(command, tiny_run, photos, tmp_path):
    lines = ["left,right", *(f"photos/{name}.png,photos/{other}.png" for name, other in ("ab", "bc"))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    code, _, err = command("predict", tiny_run, "pairs.csv")
    assert code == 2
    typed = shlex.split(err.partition("say which: ")[2])
    assert typed[1:] == ["--path_column", "left"]
    code, out, _ = command("predict", tiny_run, *typed)
    assert code == 0
    assert "photos/a.png" in out

    (tmp_path / "list.csv").write_text("id\na\nb\nx\n")
    code, _, err = command("predict", tiny_run, "list.csv", "--image_folder", "photos")
    assert (code, "(x); correct them, or leave them out with --on_bad_image skip" in err) == (2, True)
    code, out, err = command("predict", tiny_run, "list.csv", "--image_folder", "photos", "--on_bad_image", "skip")
    assert code == 0
    assert "photos/b.png" in out

    code, _, err = command("predict", tiny_run, "photos", "--path_column", "id")
    assert (code, "is for tables that name images" in err) == (2, True)


@pytest.mark.parametrize("images", ["photos", "photos/*"])
def test_files_beside_images_that_are_not_read_are_counted(command, tiny_run, photos, images, caplog):
    for name in ("scan.dcm", "IMG_1.NEF", "notes.txt"):
        (photos / name).touch()
    shutil.copy(photos / "a.png", photos / "d.jfif")

    done = command("predict", tiny_run, images, "--output", "predictions.csv")

    assert done.code == 0
    assert done.out.endswith("predictions.csv: 4 images\n")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "2 files not read, beside 4 images: 1 .dcm, 1 .nef (convert them to PNG or JPEG)"
    ]


@pytest.mark.parametrize("images", ["scans", "scans/*"])
def test_only_files_that_are_not_read_are_a_mistake(command, tiny_run, tmp_path, images):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/1.dcm").touch()

    done = command("predict", tiny_run, images)

    assert done.code == 2
    assert "only 1 .dcm (convert them to PNG or JPEG)." in done.err


def test_the_table_shows_the_likeliest_classes_first(command, tiny_run, photos, tmp_path):
    code, out, _ = command("predict", tiny_run, "photos", "--top", 2)
    command("predict", tiny_run, "photos", "-o", "predictions.csv")

    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == ["image", "top", "1", "top", "2"]
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert [line.split()[:2] for line in lines] == [list(row) for row in table[["id", "predicted"]].to_numpy()]
    for line in lines:
        first, second = (float(share) for share in re.findall(r"([\d.]+) %", line))
        assert first >= second


def test_a_bundle_that_was_moved_predicts_the_same(command, tiny_run, photos, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "elsewhere")

    assert command("predict", "elsewhere", "photos").out == command("predict", tiny_run, "photos").out


def test_bad_images_stop_or_are_skipped(command, tiny_run, photos):
    (photos / "b.png").write_bytes(b"not a picture")

    code, _, err = command("predict", tiny_run, "photos")
    assert code == 2
    assert err.startswith(
        "resnet-tl: 1 of 3 files cannot be used as images; remove them, or leave them out with "
        "--on_bad_image skip:\n  b.png"
    )

    code, out, _ = command("predict", tiny_run, "photos", "--on_bad_image", "skip")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "%" in line] == ["a.png", "c.png"]


def test_a_long_name_is_not_cut_without_a_terminal(command, tiny_run, photos, monkeypatch):
    long = "a_very_long_name_" * 8 + ".png"
    (photos / "a.png").rename(photos / long)

    assert long in command("predict", tiny_run, "photos").out


def test_sets_and_abstentions_are_written_printed_and_said(command, tiny_run, photos, tmp_path):
    asked = ("--coverage", 0.9, "--min_confidence", 0.99)
    code, out, err = command("predict", tiny_run, "photos", *asked)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["image", "answer", "set", "top", "1", "top", "2", "top", "3"]
    assert "no answer for 3 of 3 images: no class has 0.99 or more" in out
    assert "of new images like the 13 of validation at least 90.0 % have their class in the set" in out
    assert "On validation it answers" in out

    code, out, _ = command("predict", tiny_run, "photos", *asked, "-o", "predictions.csv")
    assert (code, out.splitlines()[0]) == (0, "predictions.csv: 3 images")
    table = read_predictions(tmp_path / "predictions.csv")
    assert list(table)[3:6] == ["predicted", "set", "set_size"]
    assert set(table["predicted"]) == {""}
    for text, size in zip(table["set"], table["set_size"], strict=True):
        assert len(json.loads(text)) == size
        assert set(json.loads(text)) <= {"blue", "green", "red"}


def test_a_name_with_a_comma_is_told_from_two_in_a_set(command, tiny_run, photos, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "classes": ["blue, dark", "green, <b>", "red"]}))

    out = command("predict", "model", "photos", "--coverage", 0.92).out
    assert command("predict", "model", "photos", "--coverage", 0.92, "-o", "p.csv").code == 0

    sets = [json.loads(text) for text in read_predictions(tmp_path / "p.csv")["set"]]
    assert ["green, <b>"] in sets
    for line, names in zip(out.splitlines()[1:4], sets, strict=True):
        assert f" {', '.join(json.dumps(name) if ',' in name else name for name in names)} " in line


def test_what_cannot_be_had_of_the_validation_images_is_refused(command, tiny_run, photos):
    code, out, err = command("predict", tiny_run, "photos", "--coverage", 0.95)
    assert (code, out) == (2, "")
    assert err == (
        "resnet-tl: --coverage 0.95 takes 19 validation images, and the model has 13; give --coverage 0.928 or less, "
        "or validate on more images.\n"
    )
    code, _, err = command("predict", tiny_run, "photos", "--coverage", 0.9, "--per_class")
    assert code == 2
    assert "these have fewer: blue (5), green (4), red (4); give --coverage 0.8 or less, or do without" in err
    assert command("predict", tiny_run, "photos", "--coverage", 0.8, "--per_class").code == 0
    assert "give both." in command("predict", tiny_run, "photos", "--per_class").err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "resnet-tl predict: the following arguments are required: RUN, IMAGES; see `resnet-tl predict --help`."),
        (["{run}"], "resnet-tl predict: the following arguments are required: IMAGES; see `resnet-tl predict --help`."),
        (
            ["nowhere", "photos"],
            "resnet-tl: nowhere does not exist; give a run such as runs/freeze_backbone-1, or a model bundle.",
        ),
        (["photos", "photos"], "resnet-tl: photos is neither a run nor a model bundle: it has no model.json."),
        (["{run}", "nowhere"], "resnet-tl: nowhere does not exist."),
        (["{run}", "photos/*.jpg"], "resnet-tl: No image matches photos/*.jpg."),
        (["{run}", "empty"], "resnet-tl: {folder}/empty holds no images"),
        (["{run}", "photos", "--batch_size", "0"], "--batch_size: '0' is no whole number of 1 or more"),
        (["{run}", "photos", "--top", "few"], "--top: 'few' is no whole number of 1 or more"),
        (["{run}", "photos", "--on_bad_image", "skp"], "invalid choice: 'skp' (choose from "),
        (
            ["{run}", "photos", "--outptu", "x"],
            "unrecognized arguments: --outptu x. Did you mean '--output'? See `resnet-tl predict --help`.",
        ),
        (["{run}", "photos", "--out", "x"], "unrecognized arguments: --out x. Did you mean '--output'? See"),
        (["{run}", "photos", "--output"], "resnet-tl predict: -o/--output: expected one argument"),
        (["{run}", "photos", "-o", "photos"], "photos is a folder; name the file to write in it."),
        (["{run}", "photos", "-o", "photos/a.png/x.csv"], "photos/a.png is a file."),
        (["{run}", "photos", "-o", "photos/a.png"], "photos/a.png is to be a .csv file; give it a name that ends so."),
        (["{run}", "list.csv", "-o", "./list.csv"], "list.csv is the list of the images; choose another --output."),
        (
            ["{run}", "photos", "--coverage", "95"],
            "--coverage is 95; it must be over 0 and under 1. Did you mean 0.95",
        ),
        (["{run}", "photos", "--coverage", "most"], "--coverage: invalid float value: 'most'"),
        (["{run}", "photos", "--min_confidence", "0"], "--min_confidence is 0; it must be over 0 and under 1."),
        (["{run}", "photos", "--device", "quantum"], "resnet-tl: The device is 'quantum'; on this machine it must be "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(command, tiny_run, photos, tmp_path, words, sentence):
    (tmp_path / "empty").mkdir()

    code, out, err = command("predict", *(word.format(run=tiny_run) for word in words))

    assert (code, out) == (2, "")
    assert sentence.format(folder=tmp_path) in err
    assert err.count("\n") == 1


def test_an_image_like_nothing_in_training_is_marked(command, tiny_run, photos, tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(photos / "night.png")
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    # 13 validation images are too few to call any image strange: the same ones again make 26.
    bundle = Bundle.open(run)
    arrays = bundle.load_reference()
    arrays["distances"] = np.sort(np.tile(arrays["distances"], 2))
    write_bundle(bundle, bundle.load_network(), reference=arrays)

    code, out, err = command("predict", run, "photos")

    assert (code, err) == (0, "")
    assert re.findall(r"^(\S+) \(\?\) ", out, flags=re.MULTILINE) == ["night.png"]
    said = "One image looks like nothing the model was trained on (familiarity up to 0.037): night.png."
    assert out.endswith(f"(?) {said}\n")
    assert "(?)" not in command("predict", tiny_run, "photos").out


def test_familiarity_goes_with_the_table(command, tiny_run, photos, tmp_path):
    assert command("predict", tiny_run, "photos", "--output", "p.csv").code == 0
    (tmp_path / "sample.csv").write_text("id,label\na.png,red\nb.png,red\nc.png,red\n")

    code, _, err = command("submit", "--predictions", "p.csv", "--sample", "sample.csv", "-o", "out.csv")

    assert (code, err) == (0, "")
    assert list(pd.read_csv(tmp_path / "out.csv")) == ["id", "label"]
    assert read_predictions(tmp_path / "p.csv")["familiarity"].between(0, 1).all()
