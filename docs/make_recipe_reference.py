"""Writes docs/recipe_reference.md from the signatures and docstrings of what a recipe sets."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_type_hints

from resnet_tl.cli.fit_help import BY_OTHER_NAMES, TRAINING, described_arguments
from resnet_tl.cli.signatures import describe
from resnet_tl.data.options import DataOptions
from resnet_tl.finetuning.learning_rate import PiecewiseConstantLR
from resnet_tl.finetuning.modes import Phase
from resnet_tl.training.options import ClassifierOptions

PAGE = Path(__file__).with_name("recipe_reference.md")
HEAD = """\
# Every setting of a recipe

<!-- Made by `python docs/make_recipe_reference.py`; a test keeps it equal to the code. -->

A recipe is a YAML file. Each setting can also be given as a flag, such as `--data.batch_size 64`, which then wins.
Recipes apply in their order, key by key; a list replaces a list.

```yaml
data:
  root: photos
model:
  mode: head
optimizer:
  class_path: SGD
  init_args: {lr: 0.1, momentum: 0.9}
trainer:
  max_epochs: 5
seed: 0
```
"""
TAIL = """\
## Other schedulers, callbacks and loggers

`optimizer`, `lr_scheduler`, `trainer.callbacks` and `trainer.logger` take any class of torch or Lightning by its name,
or any class of yours by its path, with its arguments under `init_args`. `resnet-tl fit --help_all` lists what ships
with Lightning.

| logger | install | flags, each with `--trainer.logger` in front |
|---|---|---|
| CSV | | `CSVLogger --trainer.logger.save_dir logs` |
| TensorBoard | `pip install "resnet-tl[tensorboard]"` | `TensorBoardLogger --trainer.logger.save_dir logs` |
| Weights & Biases | `pip install "resnet-tl[wandb]"` | `WandbLogger`; offline: `--trainer.logger.offline true` |
| MLflow | `pip install "resnet-tl[mlflow]"` | `MLFlowLogger`; `mlruns` or `.tracking_uri ADDRESS` |

A run writes its own `metrics.csv` and figures whether there is a logger or not.
"""


def table(kind: Any, prefix: str = "", without: tuple[str, ...] = ()) -> str:
    """A Markdown table of the arguments of a class: name, what it takes, default, meaning."""
    hints = get_type_hints(kind.__init__)
    texts = dict(described_arguments(inspect.getdoc(kind) or ""))
    lines = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    for name, parameter in inspect.signature(kind).parameters.items():
        if name not in without:
            default = "" if parameter.default in (None, parameter.empty) else f"`{parameter.default}`"
            lines.append(f"| `{prefix}{name}` | {describe(hints[name])} | {default} | {texts[name]} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page as Markdown."""
    training = "\n".join(f"| `{option.lstrip('-')}` | {text} |" for option, text in TRAINING.items())
    return "\n".join(
        [
            HEAD,
            "## Images: `data`\n",
            table(DataOptions, "data.", BY_OTHER_NAMES),
            "## Network and fine-tuning: `model`\n",
            table(ClassifierOptions, "model.", BY_OTHER_NAMES),
            "### A phase of `model.schedule`\n",
            table(Phase),
            "## Training: `trainer`, `optimizer`, `lr_scheduler`\n",
            f"| setting | meaning |\n|---|---|\n{training}\n",
            "### `resnet_tl.finetuning.learning_rate.PiecewiseConstantLR`\n",
            "A scheduler for `lr_scheduler.class_path`: rates that fall, or rise, to given ones.\n",
            table(PiecewiseConstantLR, without=("optimizer",)),
            TAIL,
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
