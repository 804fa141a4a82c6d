from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from resnet_tl import cache
from resnet_tl.data import samples as samples_module
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.quality import audit as audit_module
from resnet_tl.errors import UserError

SMALL = Preprocessing(size=16, storage_size=16, crop_size=16)


def ready(data: ImageDataModule, preprocessing: Preprocessing = SMALL) -> ImageDataModule:
    data.use(preprocessing)
    return data


def rows_of(loader) -> list[int]:
    return [row for batch in loader for row in batch["row"].tolist()]


def save(path: Path, colour: str = "red", size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def table(blobs: Path, split: str = "train") -> pd.DataFrame:
    files = sorted((blobs / split).rglob("*.png"))
    return pd.DataFrame(
        {"path": [file.relative_to(blobs).as_posix() for file in files], "label": [file.parent.name for file in files]}
    )


@pytest.fixture
def damaged(blobs: Path, tmp_path: Path) -> Path:
    """A copy of the pictures with two bad files."""
    root = tmp_path / "damaged"
    shutil.copytree(blobs, root)
    (root / "train" / "red" / "0.png").write_bytes(b"")
    (root / "val" / "blue" / "1.png").write_bytes(b"<html>404</html>")
    return root


# Layouts


def test_split_folders_become_the_batches_of_each_split(blobs: Path) -> None:
    data = ready(ImageDataModule(blobs, batch_size=5))
    assert data.classes == ("blue", "green", "red")
    assert data.short_side == 32
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    for split, loader in loaders.items():
        rows = rows_of(loader)
        assert sorted(rows) == data.index.rows(split).tolist()
        assert all(data.index.id(row).startswith(f"{split}/") for row in rows)
    assert rows_of(loaders["val"]) == data.index.rows("val").tolist()
    assert rows_of(loaders["train"]) != data.index.rows("train").tolist()
    for batch in loaders["val"]:
        for label, row in zip(batch["label"], batch["row"], strict=True):
            assert data.index.path(int(row)).parent.name == data.classes[int(label)]


@pytest.mark.parametrize("layout", ["class folders", "flat names", "csv", "csv with splits", "data frame"])
def test_every_layout_gives_the_same_classes_and_all_images(blobs: Path, tmp_path: Path, layout: str) -> None:
    train = blobs / "train"
    if layout == "class folders":
        data = ImageDataModule(train)
    elif layout == "flat names":
        for file in train.rglob("*.png"):
            shutil.copy(file, tmp_path / f"{file.parent.name}.{file.name}")
        data = ImageDataModule(tmp_path)
    elif layout == "data frame":
        data = ImageDataModule.from_dataframe(table(blobs), root=blobs, batch_size=7)
    else:
        frame = table(blobs)
        frame["path"] = [str(blobs / path) for path in frame["path"]]
        if layout == "csv with splits":
            frame["split"] = np.where(np.arange(24) % 8 < 2, "val", "train")
        frame.to_csv(tmp_path / "images.csv", index=False)
        data = ImageDataModule(tmp_path / "images.csv")
    ready(data)
    assert data.classes == ("blue", "green", "red")
    assert data.index.counts().to_numpy().tolist() == [[6, 2]] * 3
    assert sorted(rows_of(data.train_dataloader()) + rows_of(data.val_dataloader())) == list(range(24))


def test_a_table_may_say_split_and_group(blobs: Path) -> None:
    frame = table(blobs).assign(group=[f"plant {row // 2}" for row in range(24)])
    data = ready(ImageDataModule.from_dataframe(frame, root=blobs, val_fraction=0.25))
    groups = data.index.table.groupby("group")["split"].nunique()
    assert (groups == 1).all()
    assert len(data.index.rows("val")) == 6


def test_a_class_missing_in_val_and_test_shifts_nothing(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs, tmp_path / "blobs")
    shutil.rmtree(tmp_path / "blobs" / "val" / "green")
    shutil.rmtree(tmp_path / "blobs" / "test" / "blue")
    data = ready(ImageDataModule(tmp_path / "blobs"))
    assert data.classes == ("blue", "green", "red")
    labels = {split: {int(n) for batch in data.loader(split) for n in batch["label"]} for split in ("val", "test")}
    assert labels == {"val": {0, 2}, "test": {1, 2}}


def test_a_test_split_is_held_out_on_request(blobs: Path) -> None:
    data = ready(ImageDataModule(blobs / "train", test_fraction=0.25))
    assert data.index.counts().to_numpy().tolist() == [[4, 2, 2]] * 3
    assert sorted(rows_of(data.test_dataloader())) == data.index.rows("test").tolist()


def test_a_known_data_set_is_read_by_its_name() -> None:
    data = ImageDataModule(source="seedlings_sample")
    data.prepare_data()
    ready(data)
    assert len(data.classes) >= 4
    assert len(data.index.rows("train")) >= 200


def test_root_overrides_source(blobs: Path) -> None:
    assert len(ready(ImageDataModule(blobs, source="seedlings_sample")).index) == 44


# Order, views, processes


def test_the_same_seed_gives_the_same_split_and_batches_and_another_does_not(blobs: Path) -> None:
    def first_batch(seed: int) -> dict[str, torch.Tensor]:
        return next(iter(ready(ImageDataModule(blobs / "train", seed=seed)).train_dataloader()))

    one, again, other = first_batch(1), first_batch(1), first_batch(2)
    assert torch.equal(one["row"], again["row"])
    assert torch.equal(one["image"], again["image"])
    assert not torch.equal(one["row"], other["row"])


def test_a_split_seed_keeps_the_split_whatever_the_seed(blobs: Path) -> None:
    def held_out(**seeds: int) -> list[int]:
        module = ready(ImageDataModule(blobs / "train", **seeds))
        assert module.index is not None
        return module.index.rows("val").tolist()

    assert held_out(seed=1, split_seed=7) == held_out(seed=2, split_seed=7) == held_out(seed=7)
    assert held_out(seed=1) != held_out(seed=7)


def test_validation_is_never_augmented(blobs: Path) -> None:
    plain, strong = (ready(ImageDataModule(blobs, augmentation=name)) for name in ("none", "trivial_augment"))
    for one, other in zip(plain.val_dataloader(), strong.val_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])
    assert not torch.equal(
        next(iter(plain.train_dataloader()))["image"], next(iter(strong.train_dataloader()))["image"]
    )


def test_the_balanced_sampler_shows_a_rare_class_as_often(tmp_path: Path) -> None:
    for name, count in (("common", 60), ("rare", 4)):
        for number in range(count):
            save(tmp_path / name / f"{number}.png")
    data = ready(ImageDataModule(tmp_path, sampler="balanced", val_fraction=0.25))
    labels = torch.cat([batch["label"] for batch in data.train_dataloader()])
    assert len(labels) == 48
    assert 12 <= int((labels == data.classes.index("rare")).sum()) <= 36
    shuffled = ready(ImageDataModule(tmp_path, val_fraction=0.25))
    assert sum(int(batch["label"].sum()) for batch in shuffled.train_dataloader()) == 3


class Watching(L.LightningModule):
    """A module that only notes the rows and pixels of each step."""

    def __init__(self, preprocessing: Preprocessing = SMALL) -> None:
        super().__init__()
        self.own_preprocessing = preprocessing
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[tuple[int, int]]] = {}
        self.validated: list[int] = []
        self.side = 0

    def setup(self, stage):
        self.trainer.datamodule.use(self.own_preprocessing)

    def training_step(self, batch, batch_index):
        self.side = batch["image"].shape[-1]
        pixels = batch["image"].sum(dim=(1, 2, 3)).tolist()
        self.seen.setdefault(self.current_epoch, []).extend(zip(batch["row"].tolist(), pixels, strict=True))
        return self.weight * 1.0

    def validation_step(self, batch, batch_index):
        self.validated.extend(batch["row"].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer(tmp_path: Path):
    def trainer(**options) -> L.Trainer:
        return L.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **options,
        )

    return trainer


def test_a_number_of_views_that_are_all_the_same_is_refused(blobs: Path):
    with pytest.raises(UserError, match=r"data\.views is 4, but with data\.augmentation none every view .* leave out"):
        ready(ImageDataModule(blobs, augmentation="none", views=4))


def test_views_that_are_auto_are_none_where_nothing_is_augmented(blobs: Path):
    assert ready(ImageDataModule(blobs, augmentation="none")).views is None


def test_under_a_trainer_each_epoch_has_its_own_order_and_views(blobs: Path, trainer) -> None:
    data, model = ImageDataModule(blobs, batch_size=10), Watching()
    trainer(max_epochs=2, num_sanity_val_steps=0).fit(model, data)
    first, second = model.seen[0], model.seen[1]
    assert sorted(row for row, _ in first) == sorted(row for row, _ in second) == data.index.rows("train").tolist()
    assert [row for row, _ in first] != [row for row, _ in second]
    assert sum(dict(first)[row] != dict(second)[row] for row in dict(first)) > 20
    assert model.validated == data.index.rows("val").tolist() * 2


def test_each_epoch_shows_the_next_of_so_many_views(blobs: Path, trainer) -> None:
    data, model = ImageDataModule(blobs, batch_size=10, views=2), Watching()
    trainer(max_epochs=4, num_sanity_val_steps=0).fit(model, data)
    shown = [dict(model.seen[epoch]) for epoch in range(4)]
    assert shown[0] == shown[2]
    assert shown[1] == shown[3]
    assert sum(shown[0][row] != shown[1][row] for row in shown[0]) > 20
    assert [row for row, _ in model.seen[0]] != [row for row, _ in model.seen[2]]


def test_activations_stand_in_for_images_once_they_are_set(blobs: Path) -> None:
    class Table:
        def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(rows) * 10

    data = ready(ImageDataModule(blobs, batch_size=8, views=3))
    loader = data.val_dataloader()
    assert "image" in next(iter(loader))
    asked: list[tuple[object, int]] = []

    def activations(loader, view: int) -> Table:
        asked.append((loader, view))
        return Table()

    data.serve(activations)
    for batch in loader:
        assert "image" not in batch
        assert torch.equal(batch["activation"], batch["row"] * 10)
    assert asked == [(loader, 0)]
    data.serve(None)
    assert "image" in next(iter(loader))


@pytest.mark.parametrize(
    ("options", "augments"),
    [
        ({"augmentation": "light"}, True),
        ({"augmentation": "none"}, False),
        ({"augmentation": "none", "random_erasing": 0.5}, True),
        ({"augmentation": "none", "symmetry": "auto"}, False),
        ({"augmentation": "none", "symmetry": "mirror"}, True),
    ],
)
def test_it_says_whether_it_augments(blobs: Path, options: dict, augments: bool) -> None:
    assert ImageDataModule(blobs, **options).augments is augments


def test_one_data_module_serves_models_with_other_input_sizes(blobs: Path, trainer) -> None:
    data = ImageDataModule(blobs)
    for size in (16, 24):
        model = Watching(Preprocessing(size=size, storage_size=size, crop_size=size))
        trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, data)
        assert model.side == size


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_training_and_evaluation_without_overlap(blobs: Path, world: int) -> None:
    taken: dict[str, list[list[int]]] = {"train": [], "val": []}
    for rank in range(world):
        data = ready(ImageDataModule(blobs, batch_size=4))
        data._rank_and_world = lambda rank=rank: (rank, world)  # as a trainer of several processes would say
        for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
            taken[split].append([len(batch["row"]) for batch in loader])
            taken.setdefault(f"{split} rows", []).append(rows_of(loader))
    for split in ("train", "val"):
        rows = [row for part in taken[f"{split} rows"] for row in part]
        assert len({len(part) for part in taken[split]}) == 1
        assert sorted(rows) == data.index.rows(split).tolist()


def test_another_preprocessing_changes_the_pixels_and_not_the_split(blobs: Path) -> None:
    data = ready(ImageDataModule(blobs / "train"))
    before = data.dataset
    data.use(SMALL)
    assert data.dataset is before
    data.use(Preprocessing(size=24, storage_size=28, crop_size=24))
    assert data.index is before.index
    assert next(iter(data.val_dataloader()))["image"].shape[-1] == 24


def test_it_is_the_same_under_any_default_device(blobs: Path, own_cache: Path) -> None:
    with torch.device("meta"):
        data = ready(ImageDataModule(blobs, augmentation="standard"))
        found = next(iter(data.train_dataloader()))
    expected = next(iter(ready(ImageDataModule(blobs, augmentation="standard", pixel_cache="off")).train_dataloader()))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_more_processes_than_images_are_refused(blobs: Path) -> None:
    data = ready(ImageDataModule(blobs))
    data._rank_and_world = lambda: (3, 13)
    with pytest.raises(UserError, match=r"24 training images are too few for 13 processes; lower trainer\.devices\."):
        data.train_dataloader()


# Somebody else's module, and images without labels


class Plain(Watching):
    """Knows nothing of our data module."""

    def setup(self, stage):
        pass

    def predict_step(self, batch, batch_index):
        return batch


def test_somebody_elses_module_trains_once_it_is_said_what_it_sees(blobs: Path, trainer) -> None:
    data, model = ImageDataModule(blobs), Plain()
    with pytest.raises(
        UserError, match=r"call data\.use\(model\.preprocessing\) before; .* data.use\(plan_preprocessing"
    ):
        trainer(max_epochs=1).fit(model, data)
    data.use(SMALL)
    trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, data)
    assert len(model.seen[0]) == 24


def test_images_without_labels_are_predicted_in_the_order_of_their_rows(blobs: Path, tmp_path: Path, trainer) -> None:
    for number in (10, 2, 1):
        save(tmp_path / "new" / f"{number}.png")
    for options in ({}, {"root": blobs}):
        data = ImageDataModule(**options, predict_root=str(tmp_path / "new"), batch_size=2)
        data.use(SMALL)
        batches = trainer().predict(Plain(), datamodule=data)
        assert data.predict_index.ids() == ["1.png", "2.png", "10.png"]
        assert [batch["row"].tolist() for batch in batches] == [[0, 1], [2]]
        assert torch.cat([batch["label"] for batch in batches]).tolist() == [-1, -1, -1]
        assert (batches[0]["image"].shape, batches[0]["image"][0, :, 0, 0].tolist()) == ((2, 3, 16, 16), [255, 0, 0])


def test_bad_images_to_predict_stop_or_are_left_out(blobs: Path, tmp_path: Path) -> None:
    save(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "b.png").write_bytes(b"")
    for action in ("stop", "skip"):
        data = ImageDataModule(predict_root=[str(tmp_path / "new")], on_bad_image=action)
        data.use(SMALL)
        if action == "stop":
            with pytest.raises(UserError, match=r"1 of 2 files in .* cannot be used as images.*\n  b\.png: is empty"):
                data.predict_dataloader()
        else:
            assert rows_of(data.predict_dataloader()) == [0]
            assert data.predict_index.ids() == ["a.png"]
    with pytest.raises(UserError, match=r"give data\.predict_root files, folders or a table"):
        ready(ImageDataModule(blobs)).predict_dataloader()
    with pytest.raises(UserError, match="No images were named"):
        ImageDataModule(predict_root=str(tmp_path / "new")).setup("fit")


def test_what_a_table_names_in_vain_stops_or_is_left_out_and_remembered(blobs: Path, tmp_path: Path) -> None:
    frame = pd.concat([table(blobs), pd.DataFrame({"path": ["gone.png"], "label": ["red"]})])
    with pytest.raises(UserError, match=r'not exist \(gone\.png\); .* out with on_bad_image="skip"'):
        ImageDataModule.from_dataframe(frame, blobs).setup()
    data = ready(ImageDataModule.from_dataframe(frame, blobs, on_bad_image="skip"))
    assert data.skipped == {"gone.png": "there is no such file"}
    assert len(data.index) == 24

    save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("id\na\ngone\n")
    data = ready(ImageDataModule(predict_root=str(tmp_path / "list.csv"), on_bad_image="skip"))
    assert rows_of(data.predict_dataloader()) == rows_of(data.predict_dataloader()) == [0]


def test_columns_of_a_table_are_named_by_options(blobs: Path) -> None:
    frame = table(blobs).rename(columns={"path": "one", "label": "kind"}).assign(two="x", place=range(24))
    options = {"path_column": "one", "label_column": "kind", "group_column": "place"}
    data = ready(ImageDataModule.from_dataframe(frame, blobs, **options))
    assert data.classes == ("blue", "green", "red")
    assert data.index.table["group"].nunique() == 24


# What is kept for later runs


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of the module that asked, whenever an image is decoded."""
    calls: list[str] = []
    for module, name in ((audit_module, "decode_with_size"), (samples_module, "decode")):
        whole = getattr(module, name)

        def counted(*words, whole=whole, module=module):
            calls.append(module.__name__.rpartition(".")[2])
            return whole(*words)

        monkeypatch.setattr(module, name, counted)
    return calls


def kinds() -> list[str]:
    return sorted({entry.kind for entry in cache.entries()})


def images_of(data: ImageDataModule) -> list[torch.Tensor]:
    return [batch["image"] for made in (data.train_dataloader(), data.val_dataloader()) for batch in made]


@pytest.mark.usefixtures("own_cache")
def test_each_image_is_decoded_once_ever(blobs: Path, decoded: list[str]) -> None:
    first = images_of(ready(ImageDataModule(blobs)))
    assert decoded == ["audit"] * 44
    assert kinds() == ["audits", "pixels"]
    second = images_of(ready(ImageDataModule(blobs)))
    assert len(decoded) == 44
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.usefixtures("own_cache")
def test_several_processes_decode_each_image_once_together(blobs: Path, decoded: list[str]) -> None:
    modules = [ImageDataModule(blobs) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:  # the lock of a file holds between threads as well
        first, *others = [images_of(module) for module in pool.map(ready, modules)]
    assert len(decoded) == 44
    assert kinds() == ["audits", "pixels"]
    for images in others:
        assert all(torch.equal(one, other) for one, other in zip(first, images, strict=True))


@pytest.mark.usefixtures("own_cache")
def test_the_batches_are_the_same_without_it(blobs: Path, decoded: list[str]) -> None:
    plain = images_of(ready(ImageDataModule(blobs, pixel_cache="off")))
    assert kinds() == ["audits"]
    assert decoded.count("samples") == 24 + 13
    for mode in ("auto", "on"):
        for _ in range(2):
            images = images_of(ready(ImageDataModule(blobs, pixel_cache=mode)))
            assert all(torch.equal(one, other) for one, other in zip(images, plain, strict=True))
    assert decoded.count("samples") == 24 + 13
    assert kinds() == ["audits", "pixels"]


@pytest.mark.usefixtures("own_cache")
def test_a_fit_an_evaluation_and_another_split_share_what_is_kept(blobs: Path, trainer, decoded: list[str]) -> None:
    model = Watching()
    fitting = trainer(max_epochs=2, num_sanity_val_steps=0)
    fitting.fit(model, ImageDataModule(blobs / "train", batch_size=8))
    assert len(decoded) == 24
    fitting.validate(model, ImageDataModule(blobs / "train", batch_size=8, split_seed=3), verbose=False)
    assert len(decoded) == 24


class Planning(Watching):
    """Plans by the images' size, as a classifier does whose network is chosen by it."""

    def setup(self, stage):
        side = self.trainer.datamodule.short_side
        self.trainer.datamodule.use(Preprocessing(side, side, side))


@pytest.mark.usefixtures("own_cache")
def test_a_network_may_be_chosen_by_the_images_before_they_are_decoded(
    blobs: Path, trainer, decoded: list[str]
) -> None:
    for _ in range(2):
        model = Planning()
        trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, ImageDataModule(blobs))
        assert model.side == 32
        assert decoded == ["audit"] * 44


@pytest.mark.usefixtures("own_cache")
def test_bad_images_do_not_move_the_short_side_between_runs(tmp_path: Path) -> None:
    for number in range(12):
        for name in ("a", "b"):
            save(tmp_path / "odd" / name / f"{number}.png", size=(20, 16))
            save(tmp_path / "odd" / name / f"broken {number}.png", size=(40, 40))
            save(tmp_path / "odd" / name / f"broken again {number}.png", size=(40, 40))
            for broken in (tmp_path / "odd" / name).glob(f"broken* {number}.png"):
                broken.write_bytes(broken.read_bytes()[:-40])
    for _ in range(2):
        data = ImageDataModule(tmp_path / "odd", on_bad_image="skip")
        data.setup()
        before = data.short_side
        data.use(SMALL)
        assert before == data.short_side == 40
        assert len(data.index) == 24


@pytest.mark.usefixtures("own_cache")
def test_without_room_large_photos_are_checked_at_a_fraction_of_their_size(tmp_path: Path, monkeypatch) -> None:
    for name in ("a", "b"):
        for number in range(3):
            save(tmp_path / "large" / name / f"{number}.jpg", size=(2000, 1600))
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "0")
    sides = []
    thumbnail = audit_module.thumbnail
    monkeypatch.setattr(audit_module, "thumbnail", lambda pixels: sides.append(pixels.shape[0]) or thumbnail(pixels))
    for mode in ("auto", "off"):
        ready(ImageDataModule(tmp_path / "large", pixel_cache=mode))
    assert sides == [800] * 12


@pytest.mark.usefixtures("own_cache")
def test_bad_images_are_found_on_the_way_and_again_by_the_next_run(damaged: Path, decoded: list[str]) -> None:
    for _ in range(2):
        data = ImageDataModule(damaged, on_bad_image="skip")
        images_of(ready(data))
        assert data.skipped == {"train/red/0.png": "is empty", "val/blue/1.png": "is not an image (HTML?)"}
        assert len(decoded) == 44
        assert kinds() == ["audits", "pixels"]


def test_without_room_every_epoch_decodes(blobs: Path, own_cache: Path, monkeypatch, caplog) -> None:
    expected = images_of(ready(ImageDataModule(blobs, pixel_cache="off")))
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "0")
    with caplog.at_level("INFO"):
        images = images_of(ready(ImageDataModule(blobs)))
    assert all(torch.equal(one, other) for one, other in zip(images, expected, strict=True))
    assert f"0.0 GiB of decoded images cannot be kept in {own_cache}: every epoch decodes them again" in caplog.text
    with pytest.raises(UserError, match=r"data.pixel_cache is on, but 0.0 GiB of decoded images cannot be kept in"):
        ready(ImageDataModule(blobs, pixel_cache="on")).train_dataloader()


def test_a_bare_on_or_off_in_a_recipe_is_understood(blobs: Path) -> None:
    assert ImageDataModule(blobs, pixel_cache=True).pixel_cache == "on"
    assert ImageDataModule(blobs, pixel_cache=False).pixel_cache == "off"


def test_the_digest_of_some_rows_is_that_of_their_contents(blobs: Path, tmp_path: Path, damaged: Path) -> None:
    data = ready(ImageDataModule(blobs))
    moved = ready(ImageDataModule(shutil.copytree(blobs, tmp_path / "moved")))
    rows = data.index.rows("val")
    assert data.contents_digest(rows) == moved.contents_digest(rows)
    assert data.contents_digest(rows) != data.contents_digest(rows[::-1])
    assert data.contents_digest(rows) != data.contents_digest(rows[1:])
    fewer = ready(ImageDataModule(damaged, on_bad_image="skip"))
    shared = [path for path in data.index.ids() if path in set(fewer.index.ids())]
    one, other = ([module.index.ids().index(path) for path in shared] for module in (data, fewer))
    assert data.contents_digest(np.array(one)) == fewer.contents_digest(np.array(other))


# Bad images


def test_bad_images_stop_before_training_with_the_list_of_files(damaged: Path) -> None:
    with pytest.raises(UserError) as caught:
        ready(ImageDataModule(damaged))
    assert str(caught.value) == (
        f"2 of 44 files in {damaged} cannot be used as images; remove them, or leave them out with "
        "--data.on_bad_image skip:\n  train/red/0.png: is empty\n  val/blue/1.png: is not an image (HTML?)"
    )


def test_bad_images_are_left_out_on_request_and_remembered(damaged: Path) -> None:
    data = ready(ImageDataModule(damaged, on_bad_image="skip"))
    assert data.skipped == {"train/red/0.png": "is empty", "val/blue/1.png": "is not an image (HTML?)"}
    assert len(data.index) == len(data.dataset.sizes) == 42
    assert (data.dataset.sizes == 32).all()
    assert not set(data.index.ids()) & data.skipped.keys()
    assert len(rows_of(data.train_dataloader())) == 23


def test_a_class_whose_images_are_all_bad_is_no_class_to_skip(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs, tmp_path / "blobs")
    for file in (tmp_path / "blobs" / "train" / "green").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no usable training image of class 'green' is left"):
        ImageDataModule(tmp_path / "blobs", on_bad_image="skip").use(SMALL)


def test_a_long_list_of_bad_files_is_cut(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / "a" / f"{number}.png")
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / f"{number}.png").write_bytes(b"no")
    with pytest.raises(UserError, match="30 of 60 files") as caught:
        ready(ImageDataModule(tmp_path))
    assert str(caught.value).endswith("  and 10 more")
    assert len(str(caught.value).splitlines()) == 22


def test_the_real_placeholder_among_the_ants_is_found(shared_data: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 398 files .*\n  train/ants/imageNotFound.gif: is a placeholder"):
        ready(ImageDataModule(shared_data / "hymenoptera"))


# Mistakes


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be 1 or more."),
        ({"val_fraction": 1.1}, "data.val_fraction is 1.1; it must be from 0 to 1."),
        ({"test_fraction": -0.1}, "data.test_fraction is -0.1; it must be from 0 to 1."),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on.",
        ),
        ({"image_size": 4}, "data.image_size is 4; it must be 8 or more."),
        ({"storage_size": 0}, "data.storage_size is 0; it must be 8 or more."),
        ({"crop_ratio": 0}, "data.crop_ratio is 0; it must be above 0, and 1 at most."),
        ({"crop_ratio": 1.5}, "data.crop_ratio is 1.5; it must be above 0, and 1 at most."),
        ({"crop_ratio": "all"}, "data.crop_ratio is 'all'; it must be a number."),
        ({"views": 0}, "data.views is 0; it must be 1 or more."),
        ({"pixel_cache": "of"}, "data.pixel_cache is 'of'; it must be one of auto, on, off. Did you mean 'off'?"),
        ({"workers": -1}, "data.workers is -1; it must be 0 or more."),
        ({"seed": -1}, "data.seed is -1; it must be 0 or more."),
        ({"split_seed": -1}, "data.split_seed is -1; it must be 0 or more."),
        ({"random_erasing": 1.5}, "data.random_erasing is 1.5; it must be from 0 to 1."),
        ({"channels": 2}, "data.channels is '2'; it must be one of 1, 3, 4."),
        (
            {"augmentation": "standart"},
            "data.augmentation is 'standart'; it must be one of auto, none, light, standard, trivial_augment, shift. "
            "Did you mean 'standard'?",
        ),
        (
            {"symmetry": "dihedrall"},
            "data.symmetry is 'dihedrall'; it must be one of auto, none, mirror, dihedral. Did you mean 'dihedral'?",
        ),
        (
            {"sampler": "ballanced"},
            "data.sampler is 'ballanced'; it must be one of shuffled, balanced. Did you mean 'balanced'?",
        ),
        (
            {"resize_rule": "squeeze"},
            "data.resize_rule is 'squeeze'; it must be one of short_side, squash.",
        ),
        ({"on_bad_image": "ignore"}, "data.on_bad_image is 'ignore'; it must be one of stop, skip."),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_read(options: dict, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        ImageDataModule("no such folder", **options)
    assert str(caught.value) == sentence


def test_nothing_to_validate_on_is_said_in_one_sentence(blobs: Path) -> None:
    with pytest.raises(UserError, match=r"val_fraction is 0.0; it must be above 0 and below 1, for there is no val"):
        ImageDataModule(blobs / "train", val_fraction=0.0).use(SMALL)


def test_no_images_named_at_all_is_said_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"give data.root a folder or zip of images, or data.source a name"):
        ImageDataModule().setup()


def test_a_missing_folder_is_said_with_the_nearest_name(blobs: Path) -> None:
    with pytest.raises(UserError, match=r"trian does not exist. Did you mean 'train'\?"):
        ImageDataModule(blobs / "trian").setup()


def test_no_test_images_is_said_when_they_are_asked_for(blobs: Path) -> None:
    with pytest.raises(UserError, match=r"has no labelled test images; give data.test_fraction"):
        ready(ImageDataModule(blobs / "train")).test_dataloader()


def test_batches_need_the_networks_preprocessing(blobs: Path) -> None:
    data = ImageDataModule(blobs)
    data.setup()
    with pytest.raises(UserError, match="does not know how the network's images are prepared"):
        data.train_dataloader()


def test_what_needs_setup_says_so(blobs: Path) -> None:
    with pytest.raises(UserError, match=r"call data\.setup"):
        _ = ImageDataModule(blobs).classes


def test_setup_reads_the_images_once(damaged: Path) -> None:
    data = ready(ImageDataModule(damaged, on_bad_image="skip"))
    index = data.index
    shutil.rmtree(damaged)
    data.setup("validate")
    assert data.index is index


def test_a_file_that_changes_after_the_check_is_refused(blobs: Path, tmp_path: Path) -> None:
    root = shutil.copytree(blobs, tmp_path / "copy")
    data = ready(ImageDataModule(root, pixel_cache="off", batch_size=5))
    save(root / "train" / "red" / "0.png", "blue")
    with pytest.raises(UserError, match=r"0\.png has changed since the images were checked"):
        rows_of(data.train_dataloader())


def test_pixels_that_are_removed_while_they_are_opened_are_decoded(blobs: Path) -> None:
    expected = rows_of(ready(ImageDataModule(blobs, batch_size=5)).loader("val"))
    kept = [entry.path for entry in cache.entries() if entry.kind == "pixels"]
    assert kept
    for folder in kept:
        (folder / "places.npy").unlink()
    data = ready(ImageDataModule(blobs, batch_size=5))
    assert rows_of(data.loader("val")) == expected


# What the check of the images finds


@pytest.fixture
def leaking(blobs: Path, tmp_path: Path) -> Path:
    """A copy of the pictures with one of train in val as well, and one twice in train."""
    root = shutil.copytree(blobs, tmp_path / "leaking")
    shutil.copy(root / "train" / "red" / "0.png", root / "val" / "red" / "copy.png")
    shutil.copy(root / "train" / "blue" / "1.png", root / "train" / "blue" / "copy.png")
    return root


def test_given_splits_that_share_an_image_stop_in_one_sentence(leaking: Path) -> None:
    with pytest.raises(UserError) as caught:
        ready(ImageDataModule(leaking))
    assert str(caught.value) == (
        f"{leaking}: one image is in two splits, such as train/red/0.png and val/red/copy.png (the same file, in train "
        "and val), so that validation would look at what was trained on; list all with "
        f"`resnet-tl data check {leaking}` and leave the copies out by --data.exclude findings.csv, or allow it with "
        "--data.on_leak warn."
    )


def test_a_leak_may_be_allowed_and_is_told_in_one_line(leaking: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = ready(ImageDataModule(leaking, on_leak="warn"))
    lines = [line for line in caplog.messages if "found in the images" in line]
    (line,) = lines
    found = "the same picture in two splits: 1, few images to train on: 3, the same picture twice in a split: 1"
    assert line.startswith(f"found in the images: {found}; to see them: resnet-tl data check /")
    assert data.findings["finding"].tolist() == ["leak", "tiny_class", "tiny_class", "tiny_class", "duplicate"]
    assert len(data.index) == 46


def test_near_duplicates_across_given_splits_do_not_stop(blobs: Path, tmp_path: Path, photo) -> None:
    root = shutil.copytree(blobs, tmp_path / "near")
    photo(1, 48).save(root / "train" / "red" / "x.png")
    photo(1, 48).save(root / "val" / "red" / "y.jpg", quality=60)
    data = ready(ImageDataModule(root))
    assert data.findings["finding"].tolist()[0] == "near_leak"


@pytest.mark.parametrize("seed", range(4))
def test_our_own_split_never_leaks(leaking: Path, photo, seed: int) -> None:
    root = leaking / "train"
    for number in range(6):
        photo(number, 48).save(root / "red" / f"photo {number}.png")
        photo(number, 48).save(root / "red" / f"other {number}.jpg", quality=60)
    data = ready(ImageDataModule(root, seed=seed, test_fraction=0.2))
    assert set(data.findings["finding"]) <= {"tiny_class", "duplicate", "near_duplicate"}
    assert (data.findings["finding"] == "near_duplicate").sum() == 6
    split = dict(zip(data.index.ids(), data.index.table["split"], strict=True))
    assert all(split[f"red/photo {number}.png"] == split[f"red/other {number}.jpg"] for number in range(6))


def test_images_are_left_out_on_request_before_they_are_looked_at(leaking: Path, tmp_path: Path) -> None:
    (leaking / "train" / "red" / "broken.jpg").write_bytes(b"")
    (tmp_path / "out.csv").write_text("path\nval/red/copy.png\ntrain/red/broken.jpg\n")
    data = ready(ImageDataModule(leaking, exclude=tmp_path / "out.csv"))
    assert len(data.index) == 45
    assert data.skipped == {}
    assert not {"val/red/copy.png", "train/red/broken.jpg"} & set(data.index.ids())


def test_a_group_in_two_splits_stops_unless_it_is_allowed(blobs: Path) -> None:
    frame = table(blobs).assign(split=["train", "val"] * 12, group=["scene", "scene", *[""] * 22])
    with pytest.raises(UserError, match="the group 'scene' has images in train, val"):
        ready(ImageDataModule.from_dataframe(frame, root=blobs))
    data = ready(ImageDataModule.from_dataframe(frame, root=blobs, on_leak="warn"))
    assert data.findings["finding"].tolist()[0] == "group_in_two_splits"


@pytest.mark.slow
def test_plants_photographed_twice_stay_on_one_side(shared_data: Path) -> None:
    data = ready(ImageDataModule(shared_data / "plant_seedlings"))
    numbers = data.findings["finding"].value_counts()
    assert numbers["duplicate"] == 3
    assert 15 <= numbers["near_duplicate"] <= 35
    assert set(numbers.index) == {"duplicate", "near_duplicate"}
