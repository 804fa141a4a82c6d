"""What an ingredient of a fine-tuning is worth: fits that differ in it alone, compared over seeds and images.

    python benchmarks/ablation.py --photos plant_seedlings --weights resnet18.safetensors --output runs/ablation \
        --base "--model.network resnet18 --model.mode all --data.image_size 96 --trainer.max_epochs 4" \
        --variants "smoothing=--model.label_smoothing 0.1" "mixup=--model.mixup 0.2" --seeds 0 1 2

Every fit is `resnet-tl fit` with the base's flags, then the variant's, in OUTPUT/VARIANT-seedN; the split is the same
for all. All variants of a seed come before the next seed; what is there already is not run again, so a command that was
stopped goes on, and more seeds or variants may be added. A fit that fails is reported and the others go on.

Prints for each variant the means over its seeds and the difference to the base with the same seeds: ± is the half of
its 95 % interval over seeds (Student's t of the paired differences), in brackets that over images (bootstrap). CPU
seconds are medians over seeds. OUTPUT/ablation-ENVIRONMENT.csv has the same numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from contestants import versions
from machine import environment_name
from processes import CommandFailed, measure

BASE = "base"
HEADER = ("variant", "seeds", "accuracy", "difference", "over images", "NLL", "difference", "over images", "CPU s")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="as for --data.root")
    parser.add_argument("--weights", required=True, help="as for --model.weights")
    parser.add_argument("--output", type=Path, required=True, help="folder for runs and table")
    parser.add_argument("--base", default="", help="flags of every fit, in one string")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME=FLAGS", help="flags that are added")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", default="val", help="whose prediction table is judged (default: %(default)s)")
    arguments = parser.parse_args()
    pairs = [variant.partition("=") for variant in [f"{BASE}=", *arguments.variants]]
    if len({name for name, *_ in pairs}) < len(pairs) or not all(name and equals for name, equals, _ in pairs):
        parser.error(f"--variants takes NAME=FLAGS, each name once and none of them {BASE}")
    arguments.variants = {name: shlex.split(flags) for name, _, flags in pairs}
    return arguments


def main() -> None:
    arguments = read_arguments()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    shared = ["--data.root", arguments.photos, "--model.weights", arguments.weights, "--data.split_seed", "0"]
    failed = []
    for seed in arguments.seeds:
        for name, flags in arguments.variants.items():
            run = output / f"{name}-seed{seed}"
            try:
                fit(run, [*shared, *shlex.split(arguments.base), *flags, "--seed", str(seed)])
            except CommandFailed as error:
                failed.append(run.name)
                print(error, flush=True)
    results = {
        name: {seed: run for seed in arguments.seeds if is_done(run := output / f"{name}-seed{seed}")}
        for name in arguments.variants
    }
    report([row for name in results if (row := compared(results, name, arguments.split))], output)
    if failed:
        raise SystemExit(f"{len(failed)} fits failed: {', '.join(failed)}")


def is_done(run: Path) -> bool:
    return (run / "summary.json").exists() and cost_file(run).exists()


def cost_file(run: Path) -> Path:
    return run.with_name(f"{run.name}.cost.json")


def fit(run: Path, flags: list[str]) -> None:
    """Trains, unless the run is there; what a stopped fit left is removed, so that its cost is that of a whole one."""
    command = ["resnet-tl", "fit", "--run", str(run), *flags]
    if is_done(run):
        made_by = json.loads((run / "environment.json").read_text(encoding="utf-8"))["command"]
        if made_by[4:] != command[4:]:  # the run's folder may be spelled in another way
            raise SystemExit(f"{run} was made by another command ({shlex.join(made_by)}); choose another name.")
        return
    shutil.rmtree(run, ignore_errors=True)
    cost = measure([Path(sys.executable).parent / command[0], *command[1:]], run.with_name(f"{run.name}.log"))
    cost_file(run).write_text(json.dumps(asdict(cost)) + "\n", encoding="utf-8")
    print(f"{run.name}: {cost.wall:.0f} s, {cost.cpu:.0f} CPU s, load before it {cost.load:.2f}", flush=True)


def compared(results: dict[str, dict[int, Path]], name: str, split: str) -> dict[str, Any] | None:
    """The numbers of a variant, and its differences to the base over the seeds that both have; None without a run."""
    import numpy as np

    from resnet_tl.run import Run

    runs, base = results[name], results[BASE]
    if not runs:
        return None
    own = {seed: judged(Run(run).predictions(split)) for seed, run in runs.items()}
    cpu = [json.loads(cost_file(run).read_text(encoding="utf-8"))["cpu"] for run in runs.values()]
    row: dict[str, Any] = {"variant": name, "seeds": len(own), "cpu_seconds": median(cpu)}
    for place, metric in enumerate(("accuracy", "nll")):
        row[metric] = float(np.mean([values[place] for values in own.values()]))
    paired = [own[seed] - judged(Run(base[seed]).predictions(split)) for seed in own if seed in base]
    if name != BASE and paired:
        row["paired_seeds"] = len(paired)
        for place, metric in enumerate(("accuracy", "nll")):
            row |= difference(np.stack([values[place] for values in paired]), metric)
    return row


def judged(table: Any) -> Any:
    """Of a prediction table, in the order of ids: whether each image is judged rightly, and its loss, (2, N)."""
    import numpy as np

    from resnet_tl.evaluation.predictions import label_numbers, probabilities

    table = table.sort_values("id")
    labels, values = label_numbers(table), probabilities(table)
    true = values[np.arange(len(labels)), labels]
    return np.stack([labels == values.argmax(axis=1), -np.log(np.maximum(true, np.finfo(np.float64).tiny))])


def difference(values: Any, metric: str) -> dict[str, float]:
    """Mean of paired differences (seeds, images), half of its interval over seeds, and its interval over images."""
    import numpy as np
    from scipy.stats import t

    from resnet_tl.evaluation.intervals import bootstrap_interval, image_resamples

    seeds, images = values.shape
    mean = float(values.mean())
    spread = values.mean(axis=1).std(ddof=1) / seeds**0.5 * t.ppf(0.975, seeds - 1) if seeds > 1 else float("nan")
    resampled = np.concatenate([weights @ values.mean(axis=0) / images for weights in image_resamples(images)])
    low, high = bootstrap_interval(mean, resampled)
    name = f"{metric}_difference"
    return {name: mean, f"{name}_seeds_95": float(spread), f"{name}_low": low, f"{name}_high": high}


def report(rows: list[dict[str, Any]], output: Path) -> None:
    """Prints the table, and writes it as CSV."""
    print(f"\n| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for row in rows:
        cells = [row["variant"], row["seeds"]]
        for metric in ("accuracy", "nll"):
            name = f"{metric}_difference"
            change = f"{row[name]:+.4f} ± {row[f'{name}_seeds_95']:.4f}" if name in row else ""
            interval = f"{row[f'{name}_low']:+.4f} to {row[f'{name}_high']:+.4f}" if name in row else ""
            cells += [f"{row[metric]:.4f}", change, interval]
        print(f"| {' | '.join(map(str, [*cells, round(row['cpu_seconds'])]))} |")
    version = versions(Path(sys.executable), ["torch"])["torch"]
    with (output / f"ablation-{environment_name(version)}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, max(rows, key=len, default={}))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
