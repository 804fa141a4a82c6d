"""What a user sets about network and training: names, defaults, and what is allowed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import lightning as L

from resnet_tl.data.draws import default_seed
from resnet_tl.errors import NamesArguments, UserError, check_arguments
from resnet_tl.finetuning.activation_cache import ActivationCacheMode
from resnet_tl.finetuning.defaults import defaults_for
from resnet_tl.finetuning.makers import maker_of
from resnet_tl.finetuning.modes import Mode, Phase, Schedule
from resnet_tl.finetuning.optimization import base_rate
from resnet_tl.networks import Network
from resnet_tl.training.settings import ClassWeights, HeadInit, HeadSolver, check_settings, side_by_side
from resnet_tl.user_code import made, plain_values
from resnet_tl.wording import names_arguments


class ClassifierOptions(NamesArguments, L.LightningModule):
    """The section `model` of a recipe.

    Args:
        network: auto (resnet20 for images up to 64 pixels, resnet18 for photos), a name from `resnet-tl networks list`,
            another of timm's networks, or module.Name of one of your own; in Python a module or a factory too. A list,
            [resnet18, resnet50], in mode head: their features side by side in front of one head.
        network_args: further arguments of the network, such as {shortcut: projection} for a CIFAR ResNet or
            {drop_path_rate: 0.1} for one of timm's.
        weights: default (ImageNet for a timm network, built in for resnet20), none, a timm tag such as a1_in1k,
            hf-hub:OWNER/NAME, a .safetensors file or checkpoint, or a run or bundle to start from; a list for a list
            of networks, in their order.
        mode: all trains everything, last_stages the last stages and the head, head a new head alone.
        trainable_stages: how many stages train in the mode last_stages.
        schedule: phases one after another, such as [{mode: head, epochs: 3}, {mode: all, lr: 0.0003}] or
            [{epochs: 6, image_size: 96}, {image_size: 128}]; overrides `mode`.
        stop_after: how many epochs of its schedule a fit takes before it ends, as `resnet-tl fit --final RUN` sets it;
            default: all.
        head_hidden: widths of hidden layers in the new head; none make it linear.
        head_dropout: dropout probability in the head, 0 to 1.
        head_solver: lbfgs, in mode head, solves a linear head to its optimum on all images at once, in each epoch with
            a weaker penalty on the weights; the best epoch chooses the penalty. optimizer trains it in steps. auto is
            lbfgs for `resnet-tl fit` in mode head unless something is given that goes with steps alone, such as
            trainer.max_epochs, an optimizer or an augmentation; a Trainer in Python takes steps.
        head_init: random draws the new head; solved, where stages train, begins with a linear head that was solved on
            the pretrained features, so that it does not distort them (Kumar et al. 2022, arXiv 2202.10054).
        backbone_lr_factor: the backbone learns at the head's rate times this; default: the mode's for pretrained
            weights (docs/defaults.md), 1 for built-in ones and without any.
        layer_decay: each stage learns at this factor of the rate of the stage above it.
        warmup: share of each phase's steps in which the learning rate rises; the cosine follows. Phases that differ in
            their image size alone share one curve.
        ema: decay of an exponential moving average of the weights, such as 0.999, which is validated and kept in their
            place; (1 + n) / (10 + n) after n steps of a phase while that is less. auto takes the mode's, null none.
        loss: module.Name of a loss of your own, such as torch.nn.MultiMarginLoss, or {class_path, init_args}; default:
            cross-entropy, as the next options shape it.
        label_smoothing: 0 to 1 (Szegedy et al. 2016, arXiv 1512.00567).
        focal_gamma: the focal loss's gamma, 0 for plain cross-entropy; 2 is usual (Lin et al. 2017, arXiv 1708.02002).
        mixup: alpha of mixup, 0 for none (Zhang et al. 2018, arXiv 1710.09412).
        cutmix: alpha of CutMix, 0 for none (Yun et al. 2019, arXiv 1905.04899).
        class_weights: balanced weighs the loss of a class by the inverse of its frequency.
        metrics: further metrics, of torchmetrics, such as [torchmetrics.classification.MulticlassCohenKappa]; they are
            logged as val_multiclass_cohen_kappa and the like.
        monitor: the metric of the best checkpoint: val_loss, val_accuracy, val_balanced_accuracy, val_macro_f1,
            val_auroc, or one of `metrics`.
        activation_cache: keep what the frozen stages give for each image and view instead of computing it in every
            epoch: auto where it pays (it says so), on, off. The results are the same.
        lr: the head's learning rate, from which the other groups' follow; default: the mode's, or the optimizer's own.
        optimizer: AdamW by default, with the mode's learning rate and weight decay; in Python a name (SGD), a class, a
            `functools.partial` of one, a function of the parameter groups, or {class_path, init_args}.
        lr_scheduler: warm-up and cosine by default; in Python likewise, a function of the optimizer.
        classes: names in the order of the outputs, with which a named network is built at once; they must be those of
            the images. Default: those of the images, when a fit begins.
        seed: of the new head, dropout and mixup; default: that of Lightning's `seed_everything` where it was called
            before, else 0.

    Raises:
        UserError: a value that is not allowed, or not beside another one.
    """

    def __init__(
        self,
        # What a recipe can hold; in Python objects will do for network, loss and metrics, which no parser should make.
        network: str | list[str] | dict[str, Any] = "auto",
        network_args: dict[str, Any] | None = None,
        weights: str | list[str] = "default",
        mode: Mode = "all",
        trainable_stages: int = 1,
        schedule: list[Phase] | None = None,
        stop_after: int | None = None,
        head_hidden: list[int] | None = None,
        head_dropout: float = 0.0,
        head_solver: HeadSolver = "auto",
        head_init: HeadInit = "random",
        backbone_lr_factor: float | None = None,
        layer_decay: float = 1.0,
        warmup: float = 0.05,
        ema: float | Literal["auto"] | None = "auto",
        loss: str | dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        class_weights: ClassWeights = "equal",
        metrics: str | list[str | dict[str, Any]] | None = None,
        monitor: str = "val_loss",
        activation_cache: ActivationCacheMode | bool = "auto",
        lr: float | None = None,
        optimizer: dict | None = None,
        lr_scheduler: dict | None = None,
        classes: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(activation_cache, bool):  # YAML reads a bare on or off so
            activation_cache = "on" if activation_cache else "off"
        if isinstance(network, list | tuple):
            network = side_by_side(network)
        phases = _phases(schedule or [])
        self.schedule = Schedule(tuple(phases) if phases else (Phase(mode, None, trainable_stages),))
        self.given_network: Network = network
        self.own_metrics: Any = metrics
        self.criterion: Any = made(loss, "model.loss") if isinstance(loss, str | dict) else loss
        self.given_optimizer = maker_of(optimizer, "optimizer")
        self.given_scheduler = maker_of(lr_scheduler, "lr_scheduler")
        self.given_classes = None if classes is None else _checked_classes(classes)
        # A checkpoint is read without unpickling classes, so that hparams, which Lightning takes from the local
        # variables, hold plain values and names.
        schedule = [asdict(phase) for phase in phases] or None  # type: ignore[misc]
        network, loss, metrics = plain_values(network), plain_values(loss), plain_values(metrics)
        optimizer = self.given_optimizer.plain() if self.given_optimizer else None
        lr_scheduler = self.given_scheduler.plain() if self.given_scheduler else None
        seed = default_seed() if seed is None else seed
        del phases
        # The classifier logs them when a fit begins, with what became of them. A checkpoint knows its classes.
        self.save_hyperparameters(ignore="classes", logger=False)
        self.hparams.update(seed=seed, activation_cache=activation_cache)  # a LightningCLI saves what it has parsed
        check_settings(self)
        self.begin()

    @property
    def lr(self) -> float:
        """The head's learning rate, which Lightning's LearningRateFinder reads and sets."""
        defaults = defaults_for(self.hparams["mode"], self.hparams["schedule"])
        return base_rate(self.given_optimizer, self.hparams["lr"], defaults)

    @lr.setter
    def lr(self, lr: float) -> None:
        if self.given_optimizer and not self.given_optimizer.is_class:
            raise UserError(
                f"lr cannot be set: the function {self.given_optimizer.name} makes the optimizer with an lr of its "
                "own; give a class or a partial of one."
            )
        self.hparams["lr"] = lr
        if self.given_optimizer:
            self.given_optimizer = self.given_optimizer.without("lr")
            self.hparams["optimizer"] = self.given_optimizer.plain()

    def begin(self) -> None:
        """Called once the options are set; so that a subclass needs no `__init__`, which would hide them."""


def _phases(given: Any) -> list[Phase]:
    if not isinstance(given, list | tuple) or not all(isinstance(phase, Phase | dict) for phase in given):
        raise UserError(f"model.schedule is {given!r}; it must be a list of phases, such as {{mode: head, epochs: 2}}.")
    for phase in given:
        if isinstance(phase, dict):
            check_arguments(Phase, phase)
    return [phase if isinstance(phase, Phase) else Phase(**phase) for phase in given]


def _checked_classes(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, str | int) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"classes is {classes!r}; it must be a list of names, such as ['ants', 'bees'].")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(f"classes is {list(classes)}; it must be two names or more, each of them once.")
    return tuple(classes)


names_arguments("model", ClassifierOptions)
