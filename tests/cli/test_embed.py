from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import decode


def test_features_are_what_the_head_of_a_run_is_given(command, tiny_run, blobs, tmp_path):
    code, out, err = command("embed", tiny_run, blobs / "test", "-o", "f.npz")

    assert (code, out, err) == (0, "f.npz: 7 images, 64 features each\n", "")
    content, bundle = np.load(tmp_path / "f.npz"), Bundle.open(tiny_run)
    seen, network = bundle.preprocessing, bundle.load_network()
    for path, features in zip(content["path"], content["features"], strict=True):
        image = seen.centre(seen.store(decode(Path(path), 3)))[None]
        with torch.no_grad():
            expected = network.forward_stages(seen.normalise(image))[0].numpy()
        np.testing.assert_allclose(features, expected, rtol=0.03, atol=0.03)  # perhaps in half precision
    assert content["label"].tolist() == [Path(path).parent.name for path in content["path"]]


def test_a_network_is_named_with_its_weights(command, blobs, tmp_path):
    images = [blobs / "test" / "red" / "0.png", blobs / "val" / "blue"]

    outcome = command("embed", "resnet20", *images, "-o", "f.csv", "--batch_size", 2)
    assert outcome.out == "f.csv: 6 images, 64 features each\n"
    assert command("embed", "lenet5", *images, "-o", "g.csv", "--weights", "none").code == 0

    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert len(lines) == 7
    assert all(line.split(",")[2] == "" for line in lines[1:])  # no folder says what they are


def test_images_without_labels_and_bad_ones(command, blobs, tmp_path):
    shutil.copytree(blobs / "test" / "red", tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")

    code, _, err = command("embed", "resnet20", "photos", "-o", "f.npz")
    assert code == 2
    assert "1 of 3 files cannot be used as images; remove them, or leave them out with --on_bad_image skip" in err
    assert not (tmp_path / "f.npz").exists()

    outcome = command("embed", "resnet20", "photos", "-o", "f.npz", "--on_bad_image", "skip")
    assert outcome.out.endswith("f.npz: 2 images, 64 features each\n")
    assert np.load(tmp_path / "f.npz")["label"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["resnet20", "PHOTOS", "-o", "f.txt"], "must end with .parquet, .csv or .npz"),
        (["resnet20", "nothing", "-o", "f.csv"], "nothing does not exist"),
        (["resnet20", "PHOTOS"], "-o"),
        (["resnet21", "PHOTOS", "-o", "f.csv"], "There is no network 'resnet21'"),
        (["lenet5", "PHOTOS", "-o", "f.csv"], "There are no pretrained weights of lenet5; use --weights none"),
        (["PHOTOS", "PHOTOS", "-o", "f.csv"], "is neither a run nor a model bundle"),
        (["RUN", "PHOTOS", "-o", "f.csv", "--weights", "none"], "--weights are those of a network"),
        (["RUN", "list.csv", "-o", "list.csv"], "is the list of the images"),
        (["resnet20", "PHOTOS", "-o", "f.csv", "--device", "tpu"], "The device is 'tpu'"),
    ],
)
def test_a_mistake_is_one_sentence(command, tiny_run, blobs, words, sentence):
    given = {"PHOTOS": blobs / "test", "RUN": tiny_run}

    code, _, err = command("embed", *(given.get(word, word) for word in words))

    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
