"""A predictor that many threads use at once, as a server does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import probabilities
from resnet_tl.inference.given_images import stored_image
from resnet_tl.inference.predictor import Predictor
from resnet_tl.inference.preparing import prepare
from resnet_tl.inference.tta import Tta
from resnet_tl.networks import create_network

THREADS = 8
KINDS: tuple[Tta | None, ...] = (None, *get_args(Tta))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two that see images in the same size, and one that sees them in another."""
    paths = []
    for number, size in enumerate((32, 32, 48)):
        torch.manual_seed(number)
        path = tmp_path_factory.mktemp("models") / str(number)
        planned = Preprocessing(size=size, storage_size=size + 8, crop_size=size)
        bundle = Bundle(path, {"name": "resnet8"}, ("ant", "bee", "cow"), planned)
        write_bundle(bundle, create_network("resnet8", num_classes=3))
        paths.append(path)
    return paths


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Noise of several shapes, one of them decoded at a part of its size."""
    generator = np.random.default_rng(0)
    found = []
    for number, (height, width) in enumerate([(40, 70), (90, 33), (600, 800), (32, 32), (41, 41), (500, 64)]):
        noise = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        found.append(tmp_path / f"{number}.{'jpg' if number % 2 == 0 else 'png'}")
        Image.fromarray(noise).resize((width, height)).save(found[-1])
    return found


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Python gives another thread its turn 25 times as often as it would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("tta", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_prepare_and_judge_give_the_numbers_of_predict(
    models: list[Path], files: list[Path], tta: Tta | None, count: int
) -> None:
    predictor = Predictor(models[:count], device="cpu", tta=tta)
    prepared = [predictor.prepare(file) for file in files]
    judged = predictor.judge(prepared)
    assert (judged.shares == probabilities(predictor.predict(files))).all()
    assert judged.shares.dtype == np.float64
    assert np.isnan(judged.familiarity).all()  # the models have nothing to compare with
    for number, one in enumerate(prepared):
        assert (predictor.judge([one]).shares == judged.shares[number]).all()
    assert predictor.judge([]).shares.shape == (0, 3)
    for part, planned in zip(prepared[-1].seen, predictor.ensemble.groups, strict=True):
        assert part.shape == (5 if tta == "crops" else 1, 3, planned.size, planned.size)
        assert part.untyped_storage().nbytes() == part.numel()  # nothing of the rest of a long image


def test_prepare_says_what_is_no_image(models: list[Path], files: list[Path], tmp_path: Path) -> None:
    predictor = Predictor(models[0], device="cpu")
    (tmp_path / "torn.jpg").write_bytes(files[2].read_bytes()[:900])
    with pytest.raises(BadImage, match=r"torn\.jpg is truncated"):
        predictor.prepare(tmp_path / "torn.jpg")
    with pytest.raises(BadImage, match="The image is empty"):
        predictor.prepare(b"")
    with pytest.raises(UserError, match="images are paths, PIL images"):
        predictor.prepare(np.zeros((4, 5)))
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    assert predictor.prepare(tmp_path / "deep.png").has_unknown_range
    assert not predictor.prepare(files[0]).has_unknown_range


def test_a_range_that_one_of_several_models_does_not_know_is_unknown(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    grey = {"mean": (0.5,), "std": (0.5,), "channels": 1}
    groups = [Preprocessing(32, 36, 32, **grey), Preprocessing(32, 36, 32, **grey, value_range=(0, 9))]

    for order in (groups, groups[::-1]):
        assert prepare(tmp_path / "deep.png", order).has_unknown_range


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("tta", ["mirror", pytest.param("crops", marks=pytest.mark.slow)])
def test_threads_get_the_tables_that_one_after_another_would(
    models: list[Path], files: list[Path], tta: Tta | None
) -> None:
    predictor = Predictor(models, device="cpu", tta=tta)
    shared = [Image.open(file) for file in files]  # read by all threads, some of them for the first time
    loaded = [Image.open(file) for file in files]
    for image in loaded:
        image.load()
    asked: list[Any] = [files, files[2], [file.read_bytes() for file in files], shared, loaded, files[0].parent]
    asked += [shared[2], [loaded[2], shared[2], np.asarray(loaded[3])], [files[1], shared[1]]]
    alone = [Predictor(models, device="cpu", tta=tta).predict(images) for images in asked]

    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [(number, pool.submit(predictor.predict, asked[number], batch_size=2)) for number in [*range(9)] * 2]
        for number, job in jobs:
            assert job.result().equals(alone[number]), number


@pytest.mark.usefixtures("often_switched")
def test_threads_that_prepare_and_judge_get_each_its_own_images(models: list[Path], files: list[Path]) -> None:
    predictor = Predictor(models, device="cpu", tta="mirror")
    alone = [predictor.judge([predictor.prepare(file)]).shares[0] for file in files]

    def work(number: int) -> bool:
        order = np.random.default_rng(number).permutation(len(files))
        judged = predictor.judge([predictor.prepare(files[place]) for place in order])
        return bool((judged.shares == [alone[place] for place in order]).all())

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(32)))


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("is_in_part", [False, True])
def test_threads_read_one_pil_image_that_nobody_has_read_yet(tmp_path: Path, is_in_part: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    planned = Preprocessing(size=32, storage_size=36, crop_size=32)

    def opened() -> Image.Image:
        image = Image.open(tmp_path / "a.jpg")
        if is_in_part:
            image.draft("RGB", (200, 150))
        return image

    want = stored_image(opened(), planned)[0]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(12):
            shared = opened()
            for one, _ in pool.map(lambda _, image=shared: stored_image(image, planned), range(THREADS)):
                assert torch.equal(one, want)
