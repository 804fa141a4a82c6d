"""`resnet-tl fit --help`: our own and the common options, read from the source so that torch is not imported."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
usage: resnet-tl fit [--recipe NAME|FILE] [--SECTION.OPTION VALUE ...]

Trains by a recipe, evaluates the best checkpoint, and writes a run directory with the model bundle, the prediction
tables, the metrics and the resolved recipe.

  --recipe NAME|FILE    a shipped recipe (`resnet-tl recipes list`) or a file; may be given again: later ones override
                        earlier ones key by key, a list replaces a list. Flags override recipes wherever they stand.
  --run FOLDER          the run's folder (default: runs/RECIPE-1, or the next free number)
  --folds N             deal the images into N parts and train N networks, each validated on another part; the run then
                        holds what each says of the images that it has not seen, and N models that predict together
  --final RUN           repeat a run on its train and validation images, to the epoch that its validation has chosen
  --resume RUN          go on with an interrupted run, to the numbers that it would have had
  --budget T            with --recipe auto: plan the best fit for so much time, such as 90s, 20m or 1.5h, start-up and
                        final evaluation included (default: 10m); show the plan with its reasons, and carry it out
  --checkpoint_every T  in a long epoch: 30s, 10m, 2h (default: 10m); each epoch's start is kept anyway
  --seed N              of the split, the order, the augmentation, the head, dropout and mixup (default: 0)
  --forecast            do the start-up and a few steps, then report how long the whole fit would take, by part,
                        and the memory it needs; makes no run folder
  --find_lr             take 100 real steps with growing learning rates, suggest one, write lr_finder.png and .csv;
                        makes no run folder
  --verbose             at the end, show where all of the time went
  --help_all            every option, with those of Lightning's Trainer, loggers, callbacks, optimizers, schedulers
  --import MODULE       import a module of yours first, which may register networks with timm; may be given again; a
                        resumed or repeated fit needs it too
  --debug               show the stack trace of an error

examples:
  resnet-tl fit --recipe freeze_backbone.yaml
  resnet-tl fit --recipe freeze_backbone.yaml --data.root photos
  resnet-tl fit --recipe auto --budget 20m --data.root photos
  resnet-tl fit --recipe last_stages --data.root photos --model.network resnet50 --trainer.precision bf16-mixed
  resnet-tl fit --recipe train_everything --data.root photos --forecast
  resnet-tl fit --recipe train_everything --data.root photos --find_lr
  resnet-tl fit --recipe train_everything --data.root photos --optimizer SGD --optimizer.lr 0.01
  resnet-tl fit --data.root photos --trainer.logger TensorBoardLogger --trainer.logger.save_dir logs
"""

# The common ones of Lightning's Trainer, and the torch classes; --help_all has the rest.
TRAINING = {
    "--trainer.max_epochs N": "epochs (default: by mode, docs/defaults.md)",
    "--trainer.accelerator NAME": "cpu, gpu, mps or auto (default: auto)",
    "--trainer.devices N": "processes, one for each device (default: auto); batch_size is for each of them",
    "--trainer.precision NAME": "32-true, bf16-mixed, 16-mixed, or auto: the fastest on this machine (default: auto)",
    "--trainer.accumulate_grad_batches N": "batches for each optimizer step (default: 1)",
    "--trainer.gradient_clip_val X": "largest norm of the gradient (default: none)",
    "--trainer.logger NAME": "TensorBoardLogger, CSVLogger, ... with --trainer.logger.save_dir (default: none)",
    "--trainer.callbacks NAME": "such as EarlyStopping with --trainer.callbacks.monitor val_loss (mode min)",
    "--optimizer NAME": "a torch optimizer (default: AdamW), then --optimizer.lr and its other arguments",
    "--lr_scheduler NAME": "a torch scheduler (default: warm-up and cosine); ReduceLROnPlateau takes .monitor",
}

BY_OTHER_NAMES = ("seed", "optimizer", "lr_scheduler", "lr", "classes")
"""Arguments of our classes that come from --seed, --optimizer, --lr_scheduler and the images."""


def print_help() -> None:
    """Our own options with their defaults, then the common ones of Lightning and torch."""
    print(INTRODUCTION)
    for title, prefix, file, name in (
        ("images", "data", "data/options.py", "DataOptions"),
        ("network and fine-tuning", "model", "training/options.py", "ClassifierOptions"),
    ):
        print(f"{title}:")
        for option, default, text in options(PACKAGE / file, name):
            _print_option(f"--{prefix}.{option}", f"{text} (default: {default})" if default != "None" else text)
        print()
    print("training:")
    for option, text in TRAINING.items():
        _print_option(option, text)


def options(file: Path, class_name: str) -> list[tuple[str, str, str]]:
    """(name, default, description) of each argument that a user sets on a class of a source file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    described = dict(described_arguments(ast.get_docstring(node) or ""))
    init = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    names = [argument.arg for argument in init.args.args[1:]]
    defaults = [_shown(default) for default in init.args.defaults]
    return [
        (name, default, described[name])
        for name, default in zip(names, defaults, strict=True)
        if name not in BY_OTHER_NAMES
    ]


def _shown(default: ast.expr) -> str:
    return str(default.value) if isinstance(default, ast.Constant) else ast.unparse(default)


def described_arguments(docstring: str) -> list[tuple[str, str]]:
    """Name and description of each entry of a docstring's Args section."""
    section = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", docstring, flags=re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return [(name, " ".join(text.split())) for name, text in entries]


def _print_option(option: str, text: str) -> None:
    lines = textwrap.wrap(text, 84)
    if len(option) > 31:
        print(f"  {option}")
        option = ""
    print(f"  {option:<32}  {lines[0]}")
    for line in lines[1:]:
        print(f"{'':<36}{line}")
