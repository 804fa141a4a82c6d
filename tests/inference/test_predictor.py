from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels import decode as decode_module
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.preprocessing import Preprocessing, plan_preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import classes_of, probabilities
from resnet_tl.evaluation.uncertainty.calibration import at_temperature
from resnet_tl.inference.predictor import Predictor
from resnet_tl.networks import create_network

CLASSES = ("zebra", "ant", "mouse")  # in no alphabetical order: the bundle's order counts
PREPROCESSING = Preprocessing(size=32, storage_size=36, crop_size=32)


def bundle_at(path: Path, preprocessing: Preprocessing = PREPROCESSING, **options) -> Bundle:
    torch.manual_seed(0)
    network = create_network("resnet20", num_classes=3, in_chans=preprocessing.channels)
    return write_bundle(
        Bundle(
            path=path,
            network={"name": "resnet20", "in_chans": preprocessing.channels},
            classes=CLASSES,
            preprocessing=preprocessing,
            **options,
        ),
        network,
    )


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(bundle_at(tmp_path_factory.mktemp("bundle")).path, device="cpu")


def expected(predictor: Predictor, path: Path) -> np.ndarray:
    """The probabilities of one image, step by step."""
    bundle = predictor.ensemble.members[0].bundle
    preprocessing = bundle.preprocessing
    image = preprocessing.centre(preprocessing.store(decode(path, preprocessing.channels)))
    with torch.no_grad():
        return bundle.load_network()(preprocessing.normalise(image[None])).softmax(dim=1)[0].numpy()


def test_every_image_gets_its_own_prediction(predictor: Predictor, blobs: Path) -> None:
    table = predictor.predict(blobs / "val", batch_size=5)
    files = sorted((blobs / "val").rglob("*.png"))
    assert table["id"].tolist() == [file.relative_to(blobs / "val").as_posix() for file in files]
    assert table["path"].tolist() == [str(file) for file in files]
    assert set(table["label"]) == {""}
    assert classes_of(table) == predictor.classes == CLASSES
    by_hand = np.array([expected(predictor, file) for file in files])
    np.testing.assert_allclose(probabilities(table), by_hand, atol=1e-5)
    assert table["predicted"].tolist() == [CLASSES[n] for n in probabilities(table).argmax(axis=1)]
    assert len(np.unique(by_hand.round(6), axis=0)) == len(files)


def test_the_batch_size_changes_nothing(predictor: Predictor, blobs: Path) -> None:
    whole = predictor.predict(blobs / "val")
    for batch_size in (1, 3, 13):
        assert predictor.predict(blobs / "val", batch_size=batch_size).equals(whole)


def test_images_are_given_as_files_folders_patterns_or_a_table(
    predictor: Predictor, blobs: Path, tmp_path: Path
) -> None:
    red = blobs / "val" / "red"
    files = sorted(red.iterdir())
    pd.DataFrame({"path": map(str, files)}).to_csv(tmp_path / "images.csv", index=False)
    given = (red, str(red), [red], files, [str(file) for file in reversed(files)], f"{red}/*.png")
    for images in (*given, np.array(list(map(str, files))), tmp_path / "images.csv"):
        table = predictor.predict(images)
        assert table["path"].tolist() == [str(file) for file in files]
    assert predictor.predict(files[0])["path"].tolist() == [str(files[0])]


def test_a_run_serves_as_well_as_its_bundle(tmp_path: Path, blobs: Path) -> None:
    bundle_at(tmp_path / "run" / "model")
    tables = [
        Predictor(path, device="cpu").predict(blobs / "val") for path in (tmp_path / "run", tmp_path / "run/model")
    ]
    assert tables[0].equals(tables[1])


def test_grey_networks_see_grey_images(tmp_path: Path, blobs: Path) -> None:
    grey = Preprocessing(32, 36, 32, mean=(0.5,), std=(0.25,), channels=1)
    predictor = Predictor(bundle_at(tmp_path, grey).path, device="cpu")
    file = blobs / "val" / "red" / "0.png"
    np.testing.assert_allclose(probabilities(predictor.predict(file))[0], expected(predictor, file), atol=1e-5)


def test_odd_images_are_predicted_too(predictor: Predictor, tmp_path: Path) -> None:
    Image.new("L", (1, 400), 50).save(tmp_path / "line.png")
    Image.new("RGBA", (5, 3), (10, 20, 30, 0)).save(tmp_path / "tiny.png")
    Image.new("CMYK", (50, 40)).save(tmp_path / "print.jpg")
    table = predictor.predict(tmp_path)
    np.testing.assert_allclose(probabilities(table).sum(axis=1), 1)
    assert len(table) == 3


@pytest.fixture
def photos(blobs: Path, tmp_path: Path) -> Path:
    """Four good images among three that cannot be used, each for another reason."""
    folder = Path(shutil.copytree(blobs / "val" / "red", tmp_path / "photos"))
    for name in ("0.png", "image_not_found.png"):
        shutil.copy(blobs / "val" / "blue" / "0.png", folder / name)
    (folder / "0.png").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>")
    return folder


def test_all_bad_images_are_listed_or_left_out_on_request(
    predictor: Predictor, blobs: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = (
        "{}3 of 6 files{} cannot be used as images{}:\n"
        "  0.png: is empty\n"
        "  image_not_found.png: is a placeholder for a missing photo, by its name\n"
        "  page.jpg: is not an image (HTML?)"
    )
    with pytest.raises(UserError) as caught:
        predictor.predict(photos, batch_size=1)
    assert str(caught.value) == said.format("", "", "; remove them, or leave them out with --on_bad_image skip")

    table = predictor.predict(photos, on_bad_image="skip")
    good = predictor.predict([blobs / "val" / "red" / f"{number}.png" for number in (1, 2, 3)])
    assert caplog.messages == [said.format("Left out ", ", which", "")]
    assert table["id"].tolist() == ["1.png", "2.png", "3.png"]
    assert (probabilities(table) == probabilities(good)).all()
    (photos / "1.png").unlink()
    assert len(predictor.predict([photos / "0.png"], on_bad_image="skip")) == 0


def test_each_file_is_decoded_once(predictor: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    whole = decode_module.upright_pixels
    monkeypatch.setattr(decode_module, "upright_pixels", lambda *given: decoded.append(given) or whole(*given))
    predictor.predict(photos, on_bad_image="skip")
    assert len(decoded) == 3  # the good ones


ODD = {  # what it is in the file, by the file's name
    "turned.jpg": lambda image: (image.convert("RGB"), {"exif": _turned(), "quality": 95}),
    "transparent.png": lambda image: (image.convert("RGBA"), {}),
    "palette.gif": lambda image: (image.convert("P"), {}),
    "grey.png": lambda image: (image.convert("L"), {}),
    "print.tif": lambda image: (image.convert("CMYK"), {}),
}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_gets_the_same_numbers_as_path_bytes_image_and_array(
    blobs: Path, tmp_path: Path, predictor: Predictor, channels: int
) -> None:
    if channels == 1:
        grey = Preprocessing(32, 36, 32, mean=(0.5,), std=(0.25,), channels=1)
        predictor = Predictor(bundle_at(tmp_path / "grey", grey).path, device="cpu")
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 70, 4), dtype=np.uint8)
    for name, change in ODD.items():
        image, options = change(Image.fromarray(pixels))
        image.save(tmp_path / name, **options)
    Image.fromarray(generator.integers(0, 1 << 16, (40, 50), dtype=np.uint16)).save(tmp_path / "deep.png")

    for name in (*ODD, "deep.png"):
        file = tmp_path / name
        memory: list = [file.read_bytes(), Image.open(file), Image.open(file)]
        if name not in ("palette.gif", "deep.png", "print.tif", "turned.jpg"):
            memory.append(np.asarray(Image.open(file)))
        memory.append(decode(file, channels))
        table = predictor.predict(memory, batch_size=2)
        assert table["id"].tolist() == [str(number) for number in range(len(memory))]
        assert set(table["path"]) == {""}
        assert (probabilities(table) == probabilities(predictor.predict(file))).all(), name
        assert (probabilities(predictor.predict(memory[0])) == probabilities(table)[:1]).all()
        batch = np.stack([memory[-1], memory[-1]])
        assert (probabilities(predictor.predict(batch)) == probabilities(table)[-1]).all()
    image = Image.open(tmp_path / "turned.jpg")
    assert (probabilities(predictor.predict([image, image])) == probabilities(predictor.predict(image))).all()
    assert image.size == (70, 40)


def test_a_large_photo_that_pillow_has_only_opened_gets_the_numbers_of_its_file(
    predictor: Predictor, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1600, 1200)).save(tmp_path / "large.jpg", exif=_turned())
    content = (tmp_path / "large.jpg").read_bytes()
    opened = Image.open(tmp_path / "large.jpg")
    with (tmp_path / "large.jpg").open("rb") as file:
        memory = [content, opened, bytearray(content), memoryview(content), io.BytesIO(content), file]
        table = predictor.predict(memory)
    assert (probabilities(table) == probabilities(predictor.predict(tmp_path / "large.jpg"))).all()
    assert np.asarray(opened).shape == (1200, 1600, 3)
    in_part = Image.open(io.BytesIO(content))
    in_part.draft("RGB", (200, 150))
    assert len(predictor.predict(in_part)) == 1


def test_paths_and_images_in_memory_can_be_mixed(predictor: Predictor, blobs: Path, tmp_path: Path) -> None:
    files = sorted((blobs / "val" / "red").iterdir())
    (tmp_path / "bad.png").write_bytes(b"")
    given = [files[3], np.asarray(Image.open(files[0])), str(files[1]), Image.open(files[2]), tmp_path / "bad.png"]
    table = predictor.predict((image for image in given), on_bad_image="skip")
    assert table["id"].tolist() == [str(files[3]), "1", str(files[1]), "3"]
    assert table["path"].tolist() == [str(files[3]), "", str(files[1]), ""]
    alone = predictor.predict(files)
    assert (probabilities(table) == probabilities(alone)[[3, 0, 1, 2]]).all()
    with pytest.raises(UserError, match="1 of 5 images cannot be used"):
        predictor.predict(given)


def test_values_of_more_than_8_bits_are_taken_where_the_model_knows_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = Preprocessing(size=32, storage_size=36, crop_size=32, value_range=(1000, 2000))
    predictor = Predictor(bundle_at(tmp_path / "model", planned).path, device="cpu")
    values = np.random.default_rng(0).integers(900, 2100, (40, 50), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    loaded = Image.open(tmp_path / "a.png")
    loaded.load()
    memory = [values, values.astype(np.float32), values[..., None], Image.open(tmp_path / "a.png"), loaded]
    table = predictor.predict(memory)
    assert (probabilities(table) == probabilities(predictor.predict(tmp_path / "a.png"))).all()
    assert caplog.messages == []
    other = Predictor(bundle_at(tmp_path / "other").path, device="cpu").predict(
        [tmp_path / "a.png", b""], on_bad_image="skip"
    )
    assert caplog.messages[-1].startswith(
        "1 of 2 images have more than 8 bits, but the model was trained on images of 8"
    )
    assert (probabilities(other) != probabilities(table)[:1]).any()


def test_a_checkpoint_predicts_as_its_bundle_does(fit, blobs: Path, tmp_path: Path) -> None:
    model = fit()
    model.trainer.save_checkpoint(tmp_path / "a.ckpt")
    model.save(tmp_path / "model")
    one, other = Predictor(tmp_path / "a.ckpt", device="cpu"), Predictor(tmp_path / "model", device="cpu")
    assert one.classes == other.classes == ("blue", "green", "red")
    assert one.predict(blobs / "val").equals(other.predict(blobs / "val"))
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["resnet_tl"]["network"]["name"] = "resnet32"
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match=r"changed\.ckpt was changed: its network or classes do not fit its weights"):
        Predictor(tmp_path / "changed.ckpt")
    torch.save(content["state_dict"], tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth is no checkpoint of a fit with resnet-tl; give a run"):
        Predictor(tmp_path / "weights.pth")


def test_images_in_memory_that_cannot_be_used_are_said_by_number(predictor: Predictor, blobs: Path) -> None:
    good, content = np.zeros((4, 5), np.uint8), (blobs / "val" / "red" / "0.png").read_bytes()
    torn = Image.open(io.BytesIO(content[:900]))
    with pytest.raises(UserError) as caught:
        predictor.predict([good, b"", torn])
    assert "2 of 3 images cannot be used" in str(caught.value)
    assert "\n  1: is empty\n  2: is truncated" in str(caught.value)
    images = [b"", good, content]
    assert predictor.predict(images, on_bad_image="skip")["id"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 5, 3)), r"Image 0 is an array \(4, 5, 3\) of float64; images are .* of uint8"),
        (np.zeros((1, 2, 4, 5, 3), np.uint8), r"an array \(1, 2, 4, 5, 3\) of uint8; images are .* arrays \(H, W\) or"),
        ({"a": b""}, r"The images are a dict; give a list"),
        (pd.DataFrame({"path": ["a.png"]}), r'The images are a DataFrame; give .* frame\["path"\]'),
        (np.zeros((4, 5, 2), np.uint8), r"with 1, 3 or 4 channels"),
        (np.zeros((0, 5), np.uint8), r"an array \(0, 5\)"),
        (
            torch.zeros(3, 4, 5),
            r"Image 0 is of type Tensor; images are paths, PIL images, the bytes of files, or arrays",
        ),
        (7, "Image 0 is of type int; images are paths"),
        ([b"", Path(__file__).parent], "Image 1 is the folder .*, which can only be given among files"),
        (io.StringIO("text"), "Image 0 is of type StringIO that was opened for text; images are"),
        (np.zeros((4, 5), np.uint16), r"Image 0 is an array \(4, 5\) of uint16; images are .* of uint8"),
        ([], "No images were given"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(predictor: Predictor, image: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        predictor.predict(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"batch_size": "8"}, "batch_size is '8'; it must be a whole number"),
        ({"on_bad_image": "ignore"}, "on_bad_image is 'ignore'; it must be stop or skip"),
    ],
)
def test_options_that_cannot_be_are_refused(predictor: Predictor, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        predictor.predict(b"", **options)


def test_a_closed_file_is_said_in_one_sentence(predictor: Predictor, tmp_path: Path) -> None:
    file = io.BytesIO()
    file.close()
    with pytest.raises(UserError, match="Image 0 cannot be read: I/O operation on closed file"):
        predictor.predict(file)


def test_a_file_of_a_bundle_says_that_its_folder_is_to_be_given(predictor: Predictor) -> None:
    with pytest.raises(UserError, match="is no checkpoint of a fit with resnet-tl; give a run, a model bundle"):
        Predictor(predictor.ensemble.members[0].bundle.path / "model.json")


def test_no_images_are_said_in_one_sentence(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        predictor.predict(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        predictor.predict(tmp_path / "missing.png")


def test_chosen_rows_keep_their_ids_order_and_labels(predictor: Predictor, blobs: Path) -> None:
    index: ImageIndex = read_images(blobs)
    whole = predictor.predict_rows(index, np.arange(len(index)))
    rows = np.array([30, 2, 17, 43, 5])
    table = predictor.predict_rows(index, rows, batch_size=2)
    assert table["id"].tolist() == [index.id(row) for row in rows]
    assert table["label"].tolist() == [CLASSES[index.labels[row]] for row in rows]
    np.testing.assert_allclose(probabilities(table), probabilities(whole)[rows], atol=1e-5)
    assert len(predictor.predict_rows(index, rows[:0])) == 0


def test_a_bundle_of_half_precision_is_evaluated_in_it(tmp_path: Path, predictor: Predictor) -> None:
    half = Predictor(bundle_at(tmp_path, precision="bf16-mixed").path, device="cpu")
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        members = [one.ensemble.members[0] for one in (predictor, half)]
        full, rounded = (member.logits(member.features(images)) for member in members)
    assert full.dtype == rounded.dtype == torch.float32
    assert not torch.equal(full, rounded)
    torch.testing.assert_close(full, rounded, rtol=0.1, atol=0.1)


def test_prediction_leaves_the_generator_and_the_network_as_they_were(predictor: Predictor, blobs: Path) -> None:
    random = torch.get_rng_state()
    before = predictor.predict(blobs / "val")
    after = predictor.predict(blobs / "val")
    assert torch.equal(torch.get_rng_state(), random)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    stages = predictor.ensemble.members[0].stages
    assert not any(module.training for stage in stages.modules for module in stage.modules())


def test_real_photos_get_the_logits_of_timms_own_network(
    shared_data: Path, shared_weights: Path, tmp_path: Path
) -> None:
    import timm
    from safetensors.torch import load_file
    from timm.data import create_transform

    state = load_file(shared_weights / "resnet18_imagenet.safetensors")
    theirs = timm.create_model("resnet18", num_classes=1000)
    theirs.load_state_dict(state)
    theirs.eval()
    transform = create_transform(
        (3, 224, 224), interpolation="bilinear", crop_pct=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    ours = create_network("resnet18", num_classes=1000)
    ours.body.load_state_dict(state)
    bundle = Bundle(
        path=tmp_path,
        network={"name": "resnet18"},
        classes=tuple(f"class {n}" for n in range(1000)),
        preprocessing=plan_preprocessing(224, crop_ratio=0.875),
    )
    predictor = Predictor(write_bundle(bundle, ours).path, device="cpu")

    folder = shared_data / "cats_dogs"
    files = [*sorted(folder.rglob("cat*.jpg"))[:3], *sorted(folder.rglob("dog*.jpg"))[:3]]
    assert len(files) == 6
    table = predictor.predict(files)
    order = [table["path"].tolist().index(str(file)) for file in files]
    with torch.no_grad():
        logits = theirs(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    log_odds = np.log(probabilities(table))[order]
    np.testing.assert_allclose(log_odds, logits.log_softmax(dim=1).numpy(), atol=0.02)
    assert (probabilities(table)[order].argmax(axis=1) == logits.argmax(dim=1).numpy()).all()
    assert ((logits.argmax(dim=1) >= 151) & (logits.argmax(dim=1) <= 293)).all()  # dogs, foxes, cats of ImageNet


def test_probabilities_are_calibrated_unless_the_networks_own_are_asked_for(tmp_path: Path, blobs: Path) -> None:
    plain = Predictor(bundle_at(tmp_path / "plain").path, device="cpu").predict(blobs / "val")
    path = bundle_at(tmp_path / "hot", calibration={"temperature": 2.0}).path
    hot, own = (Predictor(path, device="cpu", calibrated=way).predict(blobs / "val") for way in (True, False))

    assert probabilities(own) == pytest.approx(probabilities(plain))
    assert probabilities(hot) == pytest.approx(at_temperature(probabilities(plain), 2.0))
    assert hot["predicted"].tolist() == plain["predicted"].tolist()
