"""`model.head_solver lbfgs` trains a head in a fit like any other."""

from collections.abc import Callable

import pytest

from resnet_tl import ImageClassifier
from resnet_tl.errors import UserError

Fit = Callable[..., ImageClassifier]
SOLVED = {"mode": "head", "head_solver": "lbfgs"}


def test_each_epoch_solves_with_a_weaker_penalty(fit: Fit):
    import lightning as L

    class Watch(L.Callback):
        norms, losses, batches = (), (), 0

        def on_train_epoch_end(self, trainer, model):
            self.norms += (float(model.network.head.weight.detach().norm()),)
            self.losses += (float(trainer.callback_metrics["train_loss"]),)

        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
            self.batches += 1
            assert len(batch["row"]) == 24, "all training images at once"

    watch = Watch()
    model = fit(5, data={"augmentation": "none"}, trainer={"callbacks": [watch]}, **SOLVED)

    assert watch.batches == 5
    assert list(watch.norms) == sorted(watch.norms)
    assert list(watch.losses) == sorted(watch.losses, reverse=True)
    assert watch.losses[-1] < 0.1
    assert model.numbers["val"]["accuracy"] > 0.9


def test_it_is_the_same_twice(fit: Fit):
    first, second = (fit(3, data={"augmentation": "none"}, **SOLVED) for _ in range(2))
    assert first.metrics == second.metrics


@pytest.mark.parametrize(
    ("settings", "data", "sentence"),
    [
        ({"mode": "all"}, {}, "give model.mode head"),
        ({"head_dropout": 0.1}, {}, "leave out model.head_dropout"),
        ({"mixup": 0.1}, {}, "leave out model.mixup"),
        ({"activation_cache": "off"}, {}, "leave out model.activation_cache"),
        ({"head_solver": "sgd"}, {}, "model.head_solver is 'sgd'; it must be one of optimizer, lbfgs"),
        ({}, {"augmentation": "light"}, "give data.augmentation none"),
    ],
)
def test_what_does_not_go_with_it_is_refused(fit: Fit, settings: dict, data: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        fit(2, data={"augmentation": "none", **data}, **{**SOLVED, **settings})
