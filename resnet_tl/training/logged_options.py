"""The options of model and data module with what became of them, as loggers get them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier


def log_options(model: ImageClassifier) -> None:
    """Gives them to the Trainer's loggers, once, under their own names; `seed` is the model's, where the two differ."""
    data, trainer = model.data, model.trainer
    if not trainer.loggers or not trainer.enable_autolog_hparams:
        return
    optimizer = trainer.optimizers[0]
    resolved = {setting.partition(".")[2]: value for setting, (value, _) in model.resolved.items()}
    values = {
        **data.hparams,
        **model.hparams,
        **resolved,
        "lr": model.lr,
        "optimizer": model.hparams.get("optimizer") or type(optimizer).__name__,
        "weight_decay": optimizer.defaults.get("weight_decay"),
        "batch_size": data.batch_size,
        "max_epochs": trainer.max_epochs,
        "precision": str(trainer.precision),
    }
    if data.seed != model.hparams["seed"]:
        values["data_seed"] = data.seed
    for logger in trainer.loggers:
        logger.log_hyperparams(values)
