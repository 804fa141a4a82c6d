"""What a run and a model bundle show of themselves in a notebook, and in the line of their `repr`.

Text has the notebook's own colours, so that it can be read on a dark page as well; what comes from files is escaped.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from io import BytesIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError, listed, printable
from resnet_tl.evaluation.accuracy import Accuracy, number_rows, warning_lines
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.words import SPLITS

if TYPE_CHECKING:
    from resnet_tl.bundle import Bundle
    from resnet_tl.run import Run

DAMAGED = (UserError, LookupError, TypeError, ValueError, AttributeError)
"""What a damaged file ends in; a `repr` says what it can, and whoever reads the file is told of it."""
PICTURE_SIDE = 560
"""Pixels of the longer side of a picture: a notebook keeps what it shows."""


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows HTML."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def run_line(run: Run) -> str:
    """`Run('runs/cats-1': resnet18, mode head, validation accuracy 94.2 % [90.4, 96.5] of 240 images)`."""
    facts: list[str] = []
    with suppress(*DAMAGED):
        facts = [*_made_by(run), *_accuracies(run.accuracies)] if run.is_complete else [_ended(run)]
    return _line("Run", run.path, facts)


def bundle_line(bundle: Bundle) -> str:
    """`Bundle('runs/cats-1/model': resnet18, 2 classes, validation accuracy 94.2 % [90.4, 96.5] of 240 images)`."""
    facts = [network_name(bundle.network), f"{len(bundle.classes):,} classes"]
    with suppress(*DAMAGED):
        facts += _accuracies(kept_accuracies(bundle))
    return _line("Bundle", bundle.path, facts)


def run_page(run: Run) -> str:
    """HTML of a run: how good it is, its pictures, where it lies, how it is used; UserError where it is damaged."""
    place = str(run.path)
    if not run.is_complete:
        is_begun = run.recipe_file.is_file()
        go_on = f"# unless it is still being trained\n!resnet-tl fit --resume {quote(place)}" if is_begun else ""
        return _page(run.path.name, [_ended(run)], _pictures(run.figure("learning_curves")), place, go_on)
    epoch = run.summary["best_epoch"]
    facts = [*_made_by(run), *([f"best epoch {epoch} of {len(run.history)}"] if epoch else [])]
    body = _numbers(run.summary["metrics"], run.accuracies)
    body += _pictures(run.figure("learning_curves"), run.figure("confusion_val"))
    mistakes = f"Run.open({place!r}).mistakes()  # the surest ones first"
    return _page(run.path.name, facts, body, place, f"from resnet_tl import Predictor, Run\n{mistakes}\n{_use(place)}")


def bundle_page(bundle: Bundle) -> str:
    """HTML of a bundle: what it tells apart, how well, what it was made from, how it is used."""
    seen, weights, data = bundle.preprocessing, bundle.weights, bundle.data
    colours = {1: "grey", 3: "colour"}.get(seen.channels, f"{seen.channels} channels")
    facts = {
        "classes": f"{len(bundle.classes):,}: {listed(bundle.classes)}",
        "input": f"{seen.size} × {seen.size} pixels, {colours}",
        "first weights": ", ".join(str(weights[key]) for key in ("source", "licence") if weights.get(key)),
        "made by": bundle.made_by,
    }
    body = ""
    with suppress(*DAMAGED):
        facts["trained on"] = f"{sum(data['counts']['train'].values()):,} images of {data['root']}"
        body = _numbers(bundle.metrics, kept_accuracies(bundle))
    body += _table([[name, text] for name, text in facts.items() if text])
    use = _use(str(bundle.path), None if "name" in bundle.network else network_name(bundle.network))
    commands = f"from resnet_tl import Predictor\n{use}"
    return _page(network_name(bundle.network), ["model bundle"], body, str(bundle.path), commands)


def _line(kind: str, path: Path, facts: Sequence[str]) -> str:
    return printable(f"{kind}({str(path)!r}{': ' if facts else ''}{', '.join(facts)})")


def _ended(run: Run) -> str:
    """How far an unfinished run has come."""
    if not run.recipe_file.is_file():
        return "no run yet"
    epochs = len(run.history) if run.metrics_file.is_file() else 0
    return f"not finished, {epochs} epoch{'' if epochs == 1 else 's'} so far"


def _made_by(run: Run) -> list[str]:
    model = run.recipe["model"]
    modes = [phase["mode"] for phase in model["schedule"] or [model]]
    known = run.summary.get("network", {"name": model.get("network")})  # which an older run does not hold
    facts = [str(known["name"]), f"mode {', then '.join(modes)}"]
    facts += [f"{len(run.folds)} folds"] if run.folds else []
    return [*facts, "trained on train and validation images"] if run.final_of else facts


def network_name(network: Mapping[str, Any]) -> str:
    """The name that a bundle says of its network: one of ours or timm's, or that of the user's own class."""
    return str(next((network[key] for key in ("name", "import", "object") if key in network), "network"))


def _use(place: str, own_network: str | None = None) -> str:
    network = f", network={own_network.rpartition('.')[2]}" if own_network else ""
    return f'Predictor({place!r}{network}).predict("new_photos")'


def kept_accuracies(bundle: Bundle) -> dict[str, Accuracy]:
    """What a bundle knows of its accuracies, without the predictions: the counts of the images and the share."""
    found = {}
    for split, numbers in bundle.metrics.items():
        counts = bundle.data["counts"][split]
        images, common = sum(counts.values()), max(counts, key=counts.get)
        correct = round(numbers["accuracy"] * images)
        unseen = tuple(name for name in bundle.classes if not counts.get(name))
        interval = wilson(correct, images)
        found[split] = Accuracy(images, correct, *interval, common, counts[common], len(bundle.classes), unseen)
    return found


def _accuracies(accuracies: Mapping[str, Accuracy]) -> list[str]:
    return [
        f"{SPLITS[split]} accuracy {accuracy} of {accuracy.images:,} images" for split, accuracy in accuracies.items()
    ]


def _numbers(metrics: Mapping[str, Mapping[str, float]], accuracies: Mapping[str, Accuracy]) -> str:
    """A column for each split, and what must be said beside its numbers."""
    if not metrics:
        return ""
    header, rows = number_rows(metrics, accuracies)
    careful = "".join(f"<div>{escape(line)}</div>" for line in warning_lines(accuracies))
    return _table([header, *rows], has_header=True) + careful


def _table(rows: Sequence[Sequence[Any]], has_header: bool = False) -> str:
    """HTML of a table, its first column the names of the rows."""
    style = "text-align:left;padding:0.15em 1.2em 0.15em 0;background:none;border:none;"
    lines = []
    for place, row in enumerate(rows):
        tag, look = ("th", "font-weight:normal;opacity:0.7;") if has_header and not place else ("td", "")
        first, *others = (escape(str(cell)) for cell in row)
        cells = [f'<th style="{style}font-weight:normal;opacity:0.7">{first}</th>']
        cells += [f'<{tag} style="{style}{look}">{cell}</{tag}>' for cell in others]
        lines.append(f'<tr style="background:none">{"".join(cells)}</tr>')
    return f'<table style="margin:0.6em 0;border:none">{"".join(lines)}</table>'


def _pictures(*files: Path) -> str:
    """Those that there are, side by side where the page is wide enough."""
    style = "max-width:100%;height:auto;max-height:26em;border-radius:4px"
    images = [
        f'<img style="{style}" alt="{escape(file.stem.replace("_", " "))}" src="data:image/png;base64,{small}">'
        for file in files
        if (small := _small(file))
    ]
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px;margin:0.6em 0">{"".join(images)}</div>' if images else ""


def _small(file: Path) -> str:
    """A picture as base64; empty where there is none, or it is damaged."""
    from PIL import Image

    picture = BytesIO()
    try:
        with Image.open(file) as image:
            image.thumbnail((2 * PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
            image.convert("RGB").quantize(64).save(picture, format="PNG", optimize=True)
    except OSError:
        return ""
    return b64encode(picture.getvalue()).decode()


def _page(title: str, facts: Sequence[str], body: str, place: str, commands: str) -> str:
    below = (
        f'<pre style="margin:0.6em 0 0 0;font-family:monospace">{escape(printable(commands))}</pre>' if commands else ""
    )
    return (
        f'<div><div><strong style="font-size:1.15em">{escape(printable(title))}</strong> '
        f'<span style="opacity:0.7">{escape(printable(", ".join(facts)))}</span></div>{body}'
        f'<div><span style="opacity:0.7">lies in</span> <code>{escape(printable(place))}</code></div>{below}</div>'
    )
