"""What a user sets about network and training: names, defaults, and what is allowed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import lightning as L

from resnet_tl.finetuning.activation_cache import ActivationCacheMode
from resnet_tl.finetuning.modes import Mode, Phase, Schedule
from resnet_tl.networks import Network
from resnet_tl.training.settings import HeadSolver, check_settings
from resnet_tl.user_code import made, plain_values


class ClassifierOptions(L.LightningModule):
    """The section `model` of a recipe.

    Args:
        network: auto (resnet20 for images up to 64 pixels, resnet18 for photos), a name from `resnet-tl networks list`,
            another of timm's networks, or module.Name of one of your own; in Python a module or a factory too.
        network_args: further arguments of the network, such as {shortcut: projection} for a CIFAR ResNet or
            {drop_path_rate: 0.1} for one of timm's.
        weights: default (ImageNet for a timm network, built in for resnet20), none, a timm tag such as a1_in1k,
            hf-hub:OWNER/NAME, a .safetensors file or checkpoint, or a run or bundle to start from.
        mode: all trains everything, last_stages the last stages and the head, head a new head alone.
        trainable_stages: how many stages train in the mode last_stages.
        schedule: phases one after another, such as [{mode: head, epochs: 3}, {mode: all, lr: 0.0003}];
            overrides `mode`.
        head_hidden: widths of hidden layers in the new head; none make it linear.
        head_dropout: dropout probability in the head, 0 to 1.
        head_solver: optimizer trains the head in steps; lbfgs, in mode head, solves a linear head to its optimum on all
            images at once, in each epoch with a weaker penalty on the weights; the best epoch chooses the penalty.
        backbone_lr_factor: the backbone learns at the head's rate times this; default: 0.1 for pretrained weights,
            1 without.
        layer_decay: each stage learns at this factor of the rate of the stage above it.
        warmup: share of each phase's steps in which the learning rate rises; the cosine follows.
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
        optimizer: {class_path, init_args} of a torch optimizer; default: AdamW with the mode's learning rate.
        lr_scheduler: {class_path, init_args} of a torch scheduler; default: warm-up and cosine.
        seed: of the new head, dropout and mixup.

    Raises:
        UserError: a value that is not allowed, or not beside another one.
    """

    def __init__(
        self,
        # What a recipe can hold; in Python objects will do for network, loss and metrics, which no parser should make.
        network: str | dict[str, Any] = "auto",
        network_args: dict[str, Any] | None = None,
        weights: str = "default",
        mode: Mode = "all",
        trainable_stages: int = 1,
        schedule: list[Phase] | None = None,
        head_hidden: list[int] | None = None,
        head_dropout: float = 0.0,
        head_solver: HeadSolver = "optimizer",
        backbone_lr_factor: float | None = None,
        layer_decay: float = 1.0,
        warmup: float = 0.05,
        loss: str | dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        class_weights: Literal["equal", "balanced"] = "equal",
        metrics: str | list[str | dict[str, Any]] | None = None,
        monitor: str = "val_loss",
        activation_cache: ActivationCacheMode | bool = "auto",
        optimizer: dict | None = None,
        lr_scheduler: dict | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(activation_cache, bool):  # YAML reads a bare on or off so
            activation_cache = "on" if activation_cache else "off"
        phases = [Phase(**phase) if isinstance(phase, dict) else phase for phase in schedule or []]
        self.schedule = Schedule(tuple(phases) if phases else (Phase(mode, None, trainable_stages),))
        self.given_network: Network = network
        self.own_metrics: Any = metrics
        self.criterion: Any = made(loss, "model.loss") if isinstance(loss, str | dict) else loss
        self.lr_scheduler = lr_scheduler  # Lightning drops what cannot be pickled, such as a lambda, from hparams
        # A checkpoint is read without unpickling classes, so that hparams, which Lightning takes from the local
        # variables, hold plain values and names.
        schedule = [asdict(phase) for phase in phases] or None  # type: ignore[misc]
        network, loss, metrics = plain_values(network), plain_values(loss), plain_values(metrics)
        del phases
        self.save_hyperparameters()
        check_settings(self.hparams, self.schedule, self.lr_scheduler, self.own_metrics, self.criterion)
        self.begin()

    def begin(self) -> None:
        """Called once the options are set; so that a subclass needs no `__init__`, which would hide them."""
