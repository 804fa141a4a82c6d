"""Which solver the head of a fit gets where nobody says: what is given may ask for steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_tl.cli.parse_errors import Given, last_given

SOLVED = "the optimum of a linear head on frozen features, in seconds"
# Settings that go with training in steps alone, and the values at which they go with a head that is solved as well.
STEPS: dict[str, tuple[Any, ...]] = {
    "data.augmentation": (None, "auto", "none"),
    "data.random_erasing": (None, 0),
    "data.sampler": (None, "shuffled"),
    "data.symmetry": (None, "auto", "none"),
    "data.test_size": (None,),
    "data.transform": (None,),
    "lr_scheduler": (None,),
    "model.activation_cache": (None, "auto", "on", True),
    "model.cutmix": (None, 0),
    "model.ema": (None, "auto"),
    "model.head_dropout": (None, 0),
    "model.head_hidden": (None, []),
    "model.loss": (None,),
    "model.mixup": (None, 0),
    "model.schedule": (None, []),
    "model.warmup": (None,),
    "optimizer": (None,),
    "trainer.accumulate_grad_batches": (None, 1),
    "trainer.callbacks": (None, []),
    "trainer.check_val_every_n_epoch": (None, 1),
    "trainer.gradient_clip_val": (None, 0),
    "trainer.limit_train_batches": (None, 1.0),
    "trainer.limit_val_batches": (None, 1.0),
    "trainer.logger": (None, False),
    "trainer.max_epochs": (),
    "trainer.max_steps": (-1,),
    "trainer.max_time": (None,),
    "trainer.min_epochs": (None,),
    "trainer.min_steps": (None,),
    "trainer.overfit_batches": (None, 0),
    "trainer.precision": (None, "auto", "32-true", "32", 32, "bf16-mixed", "bf16"),
    "trainer.profiler": (None,),
    "trainer.val_check_interval": (None, 1.0),
}


def choose_head_solver(given: Sequence[Given]) -> tuple[str, str]:
    """`lbfgs` or `optimizer`, and why, for what recipes and flags say."""
    mode = last_given(given, "model.mode") or "all"
    if mode != "head":
        return "optimizer", f"the mode {mode} trains more than a head"
    for key, without in STEPS.items():
        last = [item for item in given if item.key == key or item.key.startswith(f"{key}.")][-1:]
        if last and (last[0].key != key or not _is_one_of(last[0].loaded, without)):
            return "optimizer", f"{last[0].key} is given, which goes with steps alone"
    return "lbfgs", SOLVED


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Of batches 1.0 are all of them, and 1 is a single one."""
    return any(value == one and (type(one) is not float or type(value) is float) for one in values)
