"""What people do with our two classes under a plain Trainer: it works, or one sentence says why not."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader, TensorDataset

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.errors import UserError

Fit = Callable[..., ImageClassifier]
CLASSES = ["blue", "green", "red"]
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
IMAGES = torch.arange(4 * 3 * 32 * 32).remainder(251).to(torch.uint8).view(4, 3, 32, 32)

pytestmark = pytest.mark.usefixtures("in_python")


@pytest.fixture
def data(blobs: Path) -> Callable[..., ImageDataModule]:
    def make(**options: Any) -> ImageDataModule:
        return ImageDataModule(**{"root": blobs, "batch_size": 8, "image_size": 16, "workers": 0, **options})

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    return lambda epochs=1, **options: L.Trainer(max_epochs=epochs, default_root_dir=tmp_path, **QUIET | options)


def small(**settings: Any) -> ImageClassifier:
    return ImageClassifier(**{"network": "resnet20", "weights": "none", "mode": "head", **settings})


# Seeds.


def test_everything_follows_lightnings_seed_where_none_is_given(monkeypatch: pytest.MonkeyPatch, fit: Fit):
    def loss(everything: int, **settings: Any) -> tuple[float, Any, Any]:
        monkeypatch.setenv("PL_GLOBAL_SEED", "")  # so that it is put back
        L.seed_everything(everything)
        model = fit(data={"augmentation": "light"}, **settings)
        return model.numbers["val"]["loss"], model.hparams["seed"], model.data.hparams["seed"]

    first, second, again, given = loss(1), loss(2), loss(1), loss(2, seed=1)

    assert first == again != second
    assert (first[1:], second[1:], given[1:]) == ((1, 1), (2, 2), (1, 2))


# Finders.


@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.SGD, lr=0.5)])
def test_lr_find_sets_the_rate_that_the_next_fit_takes(data: Any, trainer: Any, optimizer: Any):
    model, its_trainer = small(optimizer=optimizer, mode="last_stages", backbone_lr_factor=0.5), trainer(10)

    found = Tuner(its_trainer).lr_find(model, datamodule=data(), num_training=24)
    its_trainer.fit(model, datamodule=data())

    assert model.lr == found.suggestion() not in (0.5, 0.003)
    rates = [group["initial_lr"] for group in its_trainer.optimizers[0].param_groups[1:3]]
    assert rates == pytest.approx([model.lr / 2, model.lr])
    assert its_trainer.current_epoch == 10


@pytest.mark.slow
def test_the_callbacks_find_a_rate_and_a_size_for_the_fit_that_they_are_in(data: Any, trainer: Any):
    model, images = small(mode="last_stages", backbone_lr_factor=0.5), data(batch_size=2)
    finders = [BatchSizeFinder(max_trials=2, steps_per_trial=1), LearningRateFinder(num_training_steps=24)]
    its_trainer = trainer(5, callbacks=finders)

    its_trainer.fit(model, datamodule=images)

    assert images.batch_size == 4
    assert its_trainer.global_step == 5 * 6
    groups = its_trainer.optimizers[0].param_groups
    assert [group["initial_lr"] for group in groups[1:3]] == pytest.approx([model.lr / 2, model.lr])
    assert groups[-1]["lr"] == pytest.approx(0)  # the cosine is as long as the fit with the size that was found


@pytest.mark.parametrize(
    ("settings", "steps", "sentence"),
    [
        ({}, 100, r"wants 100 steps, but 1 epochs have 3.*num_training"),
        ({"head_solver": "lbfgs"}, 100, r'head_solver="lbfgs" does not train in steps'),
        ({"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.1)}, 13, r"lr cannot be set: the function"),
    ],
)
def test_what_no_finder_can_find_is_refused(data: Any, trainer: Any, settings: Any, steps: int, sentence: str):
    tuner = Tuner(trainer(5 if steps == 13 else 1))
    with pytest.raises(UserError, match=sentence):
        tuner.lr_find(small(**settings), datamodule=data(), num_training=steps)


# A model that is called.


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return ImageClassifier(network="resnet20", classes=CLASSES).eval()


def test_uint8_and_floats_give_the_same_logits(model: ImageClassifier):
    torch.testing.assert_close(model(IMAGES), model(IMAGES / 255), rtol=0, atol=1e-4)


def test_gradients_come_back_to_the_pixels(model: ImageClassifier):
    pixels = (IMAGES / 255).requires_grad_()

    model(pixels).sum().backward()

    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (IMAGES.float(), r"values from 0 to 250; .* x / 255"),
        (torch.linspace(-2, 2, 3 * 64).view(1, 3, 8, 8), r"values from -2 to 2; the model normalises them itself"),
        (torch.full((1, 3, 8, 8), torch.nan), r"values that are no numbers"),
        (IMAGES.long(), r"x is torch.int64"),
        (IMAGES[0], r"a single image needs a batch around it, x\[None\]"),
        (IMAGES.permute(0, 2, 3, 1), r"give x.permute\(0, 3, 1, 2\)"),
        (IMAGES[0].permute(1, 2, 0), r"give x.permute\(2, 0, 1\)\[None\]"),
        (IMAGES[:, :1], r"images \(N, 3, H, W\), but x has the shape \(4, 1, 32, 32\)"),
        (IMAGES.numpy(), r"x is ndarray; .* Predictor"),
    ],
    ids=["0-255", "normalised", "nan", "int64", "single", "NHWC", "HWC", "grey", "array"],
)
def test_other_inputs_are_refused_in_one_sentence(model: ImageClassifier, images: Any, sentence: str):
    with pytest.raises(UserError, match=sentence):
        model(images)


# Before a fit.


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model(IMAGES),
        lambda model: sum(parameter.numel() for parameter in model.parameters()),
        lambda model: model.freeze(),
        lambda model: model.state_dict(),
        lambda model: model.save("nowhere"),
    ],
)
def test_without_a_network_one_sentence_says_how_to_have_one(use: Callable):
    with pytest.raises(UserError, match=r"no network yet.*fit or load it first, or name the network and the classes"):
        use(ImageClassifier(network="resnet20"))


def test_a_model_without_a_network_can_be_shown_copied_and_fitted(data: Any, trainer: Any):
    model = small()

    assert "network=resnet20, mode=head; built when a fit begins" in str(model)
    trainer().fit(copy.deepcopy(model), datamodule=data())


def test_with_classes_the_network_is_there_at_once(model: ImageClassifier, tmp_path: Path):
    assert sum(parameter.numel() for parameter in model.parameters()) == 269_267
    assert torch.equal(copy.deepcopy(model)(IMAGES), model(IMAGES))
    assert torch.equal(torch.compile(model, backend="eager")(IMAGES), model(IMAGES))
    assert model.save(tmp_path / "bundle").classes == tuple(CLASSES)


def test_a_model_with_classes_takes_the_images_sizes_in_a_fit(data: Any, trainer: Any):
    model = small(classes=CLASSES, mode="all")
    model.freeze()

    trainer().fit(model, datamodule=data(image_size=24))

    assert model.preprocessing.size == 24
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    ("settings", "options", "sentence"),
    [
        *(
            (
                {"classes": ["a", "b"], "network": network},
                {},
                r"classes of the images are blue, green, red, .* are a, b; leave out `classes`, or give these",
            )
            for network in ("resnet20", "auto")
        ),
        (
            {"classes": CLASSES},
            {"channels": 1},
            r"channels is 1, but a network that is built for `classes` alone takes 3",
        ),
    ],
)
def test_classes_that_are_not_the_images_are_refused(
    data: Any, trainer: Any, settings: Any, options: Any, sentence: str
):
    with pytest.raises(UserError, match=sentence):
        trainer().fit(small(**settings), datamodule=data(**options))


@pytest.mark.parametrize("classes", ["abc", 5, ["a"], ["a", "a"], [0, 1]])
def test_classes_are_names(classes: Any):
    with pytest.raises(UserError, match=r"^classes is .*; it must be"):
        small(classes=classes)


# What a callback sees.


class Sees(L.Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.training, self.batch = outputs, batch

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.validation = outputs


@pytest.mark.parametrize("cache", ["off", "on"])
def test_batches_and_outputs_have_their_keys(fit: Fit, cache: str):
    seen = Sees()

    fit(trainer={"callbacks": [seen]}, mode="head", activation_cache=cache)

    for outputs in (seen.training, seen.validation):
        assert outputs["loss"].ndim == 0
        assert outputs["logits"].shape == (len(outputs["target"]), 3)
        assert not outputs["logits"].requires_grad
    assert seen.batch["label"].shape == seen.batch["row"].shape
    if cache == "off":
        assert seen.batch["image"].dtype == torch.uint8
        return
    assert seen.batch["activation"].shape[0] == len(seen.batch["label"])
    with pytest.raises(UserError, match=r"for images give activation_cache=\"off\"\.$") as caught:
        seen.batch["image"]
    assert isinstance(caught.value, KeyError)
    with pytest.raises(KeyError, match=r"^'images'$"):
        seen.batch["images"]
    assert "image" not in seen.batch


# Loggers.


def test_loggers_get_what_became_of_the_options(data: Any, trainer: Any, tmp_path: Path):
    logger, images = CSVLogger(tmp_path), data(image_size=None)

    trainer(2, logger=logger).fit(ImageClassifier(mode="head", seed=3), datamodule=images)

    import yaml

    logged = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    expected = {"network": "resnet20", "lr": 0.003, "max_epochs": 2, "augmentation": "none", "image_size": 32}
    expected |= {"seed": 3, "data_seed": 0, "batch_size": 8, "optimizer": "AdamW", "weight_decay": 0.01}
    assert {name: logged[name] for name in expected} == expected
    assert images.hparams["root"] == str(images.root)


# The command's defaults.


class Spoils(L.Callback):
    """From its second epoch on nothing is learned any more."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch:
            with torch.no_grad():
                pl_module.network.head.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))


def test_the_model_ends_with_its_best_weights_and_their_numbers(data: Any, trainer: Any):
    model, its_trainer, images = small(mode="head"), trainer(3, callbacks=[Spoils()]), data()

    its_trainer.fit(model, datamodule=images)

    best, table = model.numbers["val"]["loss"], model.prediction_table("val")
    assert best == pytest.approx(float(its_trainer.checkpoint_callback.best_model_score), rel=1e-5)
    assert "epoch=0" in its_trainer.checkpoint_callback.best_model_path
    assert its_trainer.validate(model, datamodule=images, verbose=False)[0]["val_loss"] == pytest.approx(best, rel=1e-5)
    assert model.prediction_table("val").equals(table)
    its_trainer.test(datamodule=images, ckpt_path="best", verbose=False, weights_only=True)


def test_who_goes_on_in_the_same_session_keeps_the_numbers_of_an_earlier_best_epoch(data: Any, trainer: Any):
    model, its_trainer, images = small(mode="head"), trainer(2, callbacks=[Spoils()]), data()
    its_trainer.fit(model, datamodule=images)
    best, last = model.numbers["val"], Path(its_trainer.checkpoint_callback.dirpath) / "last.ckpt"

    its_trainer.fit_loop.max_epochs = 3
    its_trainer.fit(model, datamodule=images, ckpt_path=last, weights_only=True)

    assert its_trainer.current_epoch == 3
    assert model.numbers["val"] == best
    assert model.network.head.bias.max() < 40


def test_a_saved_model_says_what_it_was_trained_on_and_how_good_it_is(data: Any, trainer: Any, tmp_path: Path):
    model, images = small(mode="head"), data()
    trainer().fit(model, datamodule=images)

    bundle = model.save(tmp_path / "model")

    assert bundle.metrics == {"val": pytest.approx(model.numbers["val"])}
    assert bundle.data["counts"]["val"] == {"blue": 5, "green": 4, "red": 4}
    assert "validation accuracy" in repr(bundle)


def test_a_fit_says_once_why_it_stopped(data: Any, trainer: Any, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        trainer().fit(small(), datamodule=data())

    assert caplog.text.count("`max_epochs=1` reached") == 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ImageClassifier(mod="head"), "ImageClassifier has no argument 'mod'. Did you mean 'mode'?"),
        (lambda: ImageDataModule("x", batch_sise=2), "ImageDataModule has no argument 'batch_sise'. .*'batch_size'?"),
        (lambda: ImageClassifier(schedule=[{"epoch": 2}]), "Phase has no argument 'epoch'. Did you mean 'epochs'?"),
        (lambda: ImageClassifier(schedule=["head"]), "schedule is ['head']; it must be a list of phases"),
        (lambda: ImageClassifier(lr="high"), "lr is 'high'; it must be a number."),
        (lambda: ImageClassifier(head_hidden=5), "head_hidden is 5; it must be a list of whole numbers"),
        (lambda: ImageClassifier(class_weights="ballanced"), "it must be one of equal, balanced. Did you mean"),
        (lambda: ImageDataModule("x", batch_size="2"), "batch_size is '2'; it must be a whole number."),
        (lambda: ImageDataModule("x", image_size=(24, 24)), "image_size is (24, 24); it must be a whole number."),
        (lambda: ImageDataModule("x", val_fraction="0.2"), "val_fraction is '0.2'; it must be a number."),
        (lambda: small().network, "The model has no network yet"),
        (lambda: small().prediction_table(), "no predictions of the split 'val': trainer.validate(model, "),
    ],
)
def test_a_slip_of_the_pen_is_one_sentence(make: Callable, sentence: str):
    with pytest.raises(UserError) as caught:
        make()
    pattern = re.escape(sentence).replace(re.escape(".*"), ".*")
    assert re.match(f".*{pattern}", str(caught.value))


def test_a_data_module_shows_itself_without_reading(data: Any):
    module = data()
    assert re.fullmatch(r"ImageDataModule\('.*blobs\d*': not read yet\)", repr(module))
    module.setup("fit")
    assert ": 3 classes; " in str(module)


@pytest.mark.parametrize("own", [{"enable_checkpointing": False}, {"callbacks": ModelCheckpoint(save_last=True)}])
def test_who_says_what_is_kept_has_the_last_weights(data: Any, trainer: Any, own: Any):
    callbacks = [Spoils(), *([own.pop("callbacks")] if "callbacks" in own else [])]
    model, its_trainer = small(mode="head"), trainer(2, callbacks=callbacks, **own)

    its_trainer.fit(model, datamodule=data())

    assert model.best is None
    assert model.network.head.bias.max() > 40


def test_without_a_validation_the_last_weights_stay_and_there_are_no_numbers(data: Any, trainer: Any):
    images, model = data(final=True), ImageClassifier("resnet20", weights="none")
    own = trainer(2)
    own.fit(model, datamodule=images)

    assert model.numbers == {}
    assert own.checkpoint_callback.monitor is None
    assert len(images.index.rows("train")) == 37


def test_a_fit_that_stops_within_its_schedule_has_the_weights_of_that_epoch(fit: Fit):
    class Keep(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                self.weights = {key: tensor.clone() for key, tensor in pl_module.state_dict().items()}

    keep = Keep()
    fit(4, trainer={"callbacks": [keep]})
    stopped = fit(4, stop_after=2).state_dict()

    assert all(torch.equal(stopped[key], tensor) for key, tensor in keep.weights.items())


def test_the_bar_shows_loss_and_accuracy_of_validation(fit: Fit):
    shown = fit().trainer.progress_bar_metrics

    assert {"val_loss", "val_accuracy"} <= set(shown)
    assert "val_macro_f1" not in shown


@pytest.mark.parametrize(
    ("settings", "options", "augmentation", "views"),
    [
        ({"mode": "head"}, {}, "none", None),
        ({"mode": "last_stages"}, {}, "light", 4),
        ({"mode": "all"}, {}, "light", None),
        ({"schedule": [{"mode": "head"}]}, {}, "light", None),
        ({"mode": "head"}, {"augmentation": "light", "views": None}, "light", None),
        ({"mode": "head"}, {"augmentation": "shift"}, "shift", 8),
    ],
)
def test_augmentation_follows_the_mode_unless_it_is_given(data, trainer, settings, options, augmentation, views):
    images, model = data(**options), small(**settings)

    trainer(1, fast_dev_run=True).fit(model, datamodule=images)

    assert (images.augmentation, images.views) == (augmentation, views)
    assert ("data.augmentation" in model.resolved) == ("augmentation" not in options)


def test_a_data_module_that_served_one_mode_serves_another(data: Any, trainer: Any):
    images = data()
    for mode, augmentation in (("head", "none"), ("all", "light"), ("head", "none")):
        trainer(1, fast_dev_run=True).fit(small(mode=mode), datamodule=images)
        assert images.augmentation == augmentation
    images.augmentation = "shift"
    trainer(1, fast_dev_run=True).fit(small(mode="all"), datamodule=images)
    assert images.augmentation == "shift"


# Loaders in place of the data module.


@pytest.fixture
def fitted(data: Any, trainer: Any) -> tuple[ImageClassifier, ImageDataModule]:
    model, images = small(), data()
    trainer().fit(model, datamodule=images)
    return model, images


def test_our_loaders_can_be_evaluated_and_predicted(fitted: Any, trainer: Any, tmp_path: Path, data: Any):
    model, images = fitted
    expected = model.prediction_table("val")["prob_blue"].tolist()

    batches = trainer().predict(model, dataloaders=images.val_dataloader())
    both = trainer().predict(model, dataloaders=[images.val_dataloader(), images.test_dataloader()])

    assert torch.cat([batch["probabilities"] for batch in batches])[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert [sum(len(batch["row"]) for batch in of_loader) for of_loader in both] == [13, 7]
    numbers = trainer().validate(model, dataloaders=images.val_dataloader(), verbose=False)[0]
    assert numbers["val_loss"] == pytest.approx(model.numbers["val"]["loss"])

    model.trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert trainer().validate(loaded, datamodule=data(), verbose=False)[0]["val_loss"] == numbers["val_loss"]


FOREIGN = DataLoader(TensorDataset(IMAGES, torch.tensor([0, 1, 2, 0])), 2)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, images, trainer: trainer.fit(small(), FOREIGN, FOREIGN),
        lambda model, images, trainer: trainer.fit(model, images.train_dataloader(), images.val_dataloader()),
        lambda model, images, trainer: trainer.validate(model, FOREIGN),
        lambda model, images, trainer: trainer.predict(model, FOREIGN),
        lambda model, images, trainer: trainer.validate(model, [images.val_dataloader(), images.test_dataloader()]),
    ],
)
def test_other_loaders_are_refused_in_one_sentence(fitted: Any, trainer: Any, use: Callable):
    with pytest.raises(UserError, match=r"needs an ImageDataModule.*datamodule=Image"):
        use(*fitted, trainer())


def test_a_data_module_without_images_says_how_to_read_them(data: Any, fitted: Any):
    with pytest.raises(UserError, match=r"has not read its images yet: .* data.setup\(\)"):
        data().val_dataloader()
    images = data()
    images.setup()
    with pytest.raises(UserError, match=r"call data.use\(model.preprocessing\) before"):
        images.val_dataloader()
    images.use(fitted[0].preprocessing)
    assert sum(len(batch["row"]) for batch in images.val_dataloader()) == 13


@pytest.mark.parametrize("mode", ["head", "all"])
def test_a_model_that_was_never_fitted_can_be_validated(data, trainer, mode: str):
    model = ImageClassifier("resnet20", weights="none", mode=mode)

    (numbers,) = trainer(1).validate(model, datamodule=data(), verbose=False)

    assert numbers["val_loss"] == pytest.approx(model.numbers["val"]["loss"])
