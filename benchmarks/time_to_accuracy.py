"""How accurate a model is after some minutes of fine-tuning with fastai, timm, Lightning, a careful script and with us.

    python benchmarks/time_to_accuracy.py --photos plant_seedlings/train --weights weights --budgets 2,5,10 \
        --sizes 160,128 --symmetries mirror,dihedral --output runs/time_to_accuracy/seedlings

All get the same images (links, made first; every fifth of a class is for validation where there is no split), the same
ImageNet weights and the whole machine, one after another; nothing else should run meanwhile. A budget is the wall time
of the whole process. Ours is `resnet-tl fit` with an empty cache and `--ours`, where {budget} becomes 2m, 5m, 10m. A
peer, which plans no time, is given as many epochs as fit, at least one: a short run on some of the images, which is not
counted against it, says what an epoch takes, and its longest run so far corrects that. It runs at each of `--sizes` at
which one epoch fits (else at the smallest) with each of `--symmetries`; the best of these by validation accuracy is
shown, which is generous. No process is stopped; one that takes over 110 % of its budget is marked.

Accuracy with Wilson's 95 % interval, NLL, and the paired difference of ours to each peer with a bootstrap interval are
computed from everyone's predictions by the same code. All of it is kept in OUTPUT as it comes: the same command goes on
where it was stopped, and others may add budgets, sizes, seeds or contestants. Writes time_to_accuracy-ENVIRONMENT.csv
(a line for each run), table.md and plot.png there, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accuracy_table import OURS, OURS_TTA, Result, read_results, report
from contestants import IMPORT_COMMAND, PACKAGES, peer_python, versions
from machine import environment_name, machine
from photo_folders import link_photos
from processes import CommandFailed, measure
from speed import find_weights, keep_settings

CALIBRATION_IMAGES = 640
"""With so many at least, or a fifth of them, the time of an epoch is measured before the first run."""


@dataclass(frozen=True)
class Peer:
    """A script in `peers/`.

    Args:
        laps: how many of each kind of lap that it reports make a run of so many epochs.
        calibration_epochs: with so many epochs, it reports each kind, and the last of a kind is not its first.
    """

    script: str
    laps: Callable[[int], dict[str, int]]
    calibration_epochs: int = 2


PEERS = {
    "careful": Peer("careful.py", lambda epochs: {"decode": 1, "all": epochs, "predict": 1}),
    "fastai": Peer("fine_tune_fastai.py", lambda epochs: {"frozen": 1, "all": epochs, "predict": 1}),
    "timm": Peer("fine_tune_timm.py", lambda epochs: {"all": epochs}),
    "lightning": Peer(
        "fine_tune_lightning.py",
        lambda epochs: {"frozen": epochs // 3, "all": epochs - epochs // 3, "predict": 1},
        calibration_epochs=4,
    ),
}


@dataclass(frozen=True)
class Variant:
    """A peer at one size."""

    peer: str
    is_tuned: bool
    size: int

    @property
    def contestant(self) -> str:
        return f"{self.peer} tuned" if self.is_tuned else self.peer


def read_arguments() -> argparse.Namespace:
    def numbers(kind: type) -> Callable[[str], list[Any]]:
        return lambda text: [kind(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/CLASS, CLASS or flat cat.0.jpg")
    parser.add_argument("--weights", type=Path, required=True, help="folder with NETWORK*.safetensors, or such a file")
    parser.add_argument("--output", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--budgets", type=numbers(float), default=[2.0, 5.0, 10.0], help="minutes, such as 2,5,10")
    parser.add_argument("--network", choices=["resnet18", "resnet50"], default="resnet18")
    names = [OURS, *PEERS]
    parser.add_argument("--contestants", default=",".join(names), help="comma-separated (default: %(default)s)")
    parser.add_argument("--sizes", type=numbers(int), default=[224, 128], help="of the peers, in pixels")
    parser.add_argument("--symmetries", default="mirror", help="of the peers: mirror, dihedral, or both with a comma")
    parser.add_argument("--variants", nargs="+", choices=["plain", "tuned"], default=["plain"], help="of the peers")
    parser.add_argument("--ours", default="--recipe auto --budget {budget}", help="flags (default: %(default)s)")
    parser.add_argument(
        "--tta", choices=["mirror", "dihedral"], help="of ours, as a further line, its time counted too"
    )
    parser.add_argument("--seeds", type=numbers(int), default=[0])
    parser.add_argument("--remeasure", nargs="*", default=[], help="contestants, such as ours, to measure again")
    parser.add_argument("--limit", type=int, help="at most so many images of each split")
    parser.add_argument("--leave_out", nargs="*", default=["imageNotFound.gif"], help="file names that are no photos")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="loader processes of peers")
    parser.add_argument("--ours_python", type=Path, default=Path(sys.executable), help="of our environment")
    parser.add_argument("--environment", type=Path, default=Path("runs/peers_environment"), help="of the peers")
    arguments = parser.parse_args()
    arguments.contestants = arguments.contestants.split(",")
    arguments.symmetries = arguments.symmetries.split(",")
    if unknown := set(arguments.contestants) - set(names):
        parser.error(f"--contestants: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if unknown := set(arguments.symmetries) - {"mirror", "dihedral"}:
        parser.error(f"--symmetries: {', '.join(sorted(unknown))}; choose from mirror, dihedral")
    return arguments


def main() -> None:
    arguments = read_arguments()
    bench = Bench(arguments)
    runs = len(bench.ways) * len(arguments.sizes) * len(arguments.symmetries) + (OURS in arguments.contestants)
    minutes = sum(arguments.budgets) * len(arguments.seeds) * runs
    print(f"at most {minutes:.0f} minutes, calibration apart, less what was measured before", flush=True)
    failed = []
    for seed in arguments.seeds:
        for budget in sorted(arguments.budgets):
            for label, run in bench.turns(budget, seed):
                try:
                    run()
                except CommandFailed as error:
                    failed.append(label)
                    print(error, flush=True)
    report(bench.output, bench.title, bench.facts, bench.environment)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


class Bench:
    """The same images, weights and machine for all; what was measured is kept in `output`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.output = output = arguments.output.absolute()
        for folder in ("logs", "predictions", "runs"):
            (output / folder).mkdir(parents=True, exist_ok=True)
        self.ways = [
            (peer, kind == "tuned")
            for peer in PEERS
            if peer in arguments.contestants
            for kind in (["plain"] if peer == "careful" else arguments.variants)  # that one is tuned in any case
        ]
        self.photos = output / "photos"
        self.counts = link_photos(arguments.photos, self.photos, arguments.leave_out, arguments.limit)
        self.weights = find_weights(arguments.weights, arguments.network).absolute()
        self.ours, self.peers = arguments.ours_python, None
        self.facts = machine() | self._versions("ours", self.ours)
        settings = {"weights": self.weights, "network": arguments.network, "images": self.counts, "machine": self.facts}
        keep_settings(output / "settings.json", settings)
        if set(arguments.contestants) & set(PEERS):
            self.peers = peer_python(arguments.environment.absolute())
            self.facts |= (of_peers := self._versions("peers", self.peers))
            keep_settings(output / "settings_of_peers.json", of_peers)
        self.environment = environment_name(versions(self.peers or self.ours, ["torch"])["torch"])
        self.title = f"{arguments.network}, {self.counts['train']} + {self.counts['val']} images"
        if arguments.remeasure:
            again = {*arguments.remeasure, *([OURS_TTA] if OURS in arguments.remeasure else [])}
            kept = [result for result in read_results(output) if result.contestant not in again]
            text = "".join(json.dumps(asdict(result)) + "\n" for result in kept)
            (output / "measurements.jsonl").write_text(text, encoding="utf-8")
        for python in filter(None, (self.ours, self.peers)):  # what was never read would cost the first one more
            measure([python, "-c", IMPORT_COMMAND], output / "logs" / "warm_up.txt")

    def _versions(self, whose: str, python: Path) -> dict[str, Any]:
        return {f"versions, {whose}": versions(python, [*PACKAGES, "torch", "resnet-tl", "pillow"])}

    def turns(self, budget: float, seed: int) -> Iterator[tuple[str, Callable[[], None]]]:
        """Every process of one budget that was not measured yet, with a name for it."""
        done = {result.name for result in read_results(self.output)}
        if OURS in self.arguments.contestants and (name := f"ours-{budget:g}m-seed{seed}") not in done:
            yield name, lambda: self.run_ours(name, budget, seed)
        for peer, is_tuned in self.ways:
            yield from self._turns_of(peer, is_tuned, budget, seed, done)

    def _turns_of(
        self, peer: str, is_tuned: bool, budget: float, seed: int, done: set[str]
    ) -> Iterator[tuple[str, Callable[[], None]]]:
        variants = [Variant(peer, is_tuned, size) for size in sorted(self.arguments.sizes, reverse=True)]
        for variant in variants:
            name = f"{variant.contestant.replace(' ', '_')}-{variant.size}px"
            try:
                is_possible = self.forecast(variant, 1) <= 60 * budget or variant == variants[-1]
            except CommandFailed as error:
                raise SystemExit(f"{name}: its calibration failed.\n{error}") from error
            for symmetry in self.arguments.symmetries if is_possible else []:
                run = f"{name}-{symmetry}-{budget:g}m-seed{seed}"
                if run not in done:
                    yield run, lambda v=variant, s=symmetry, r=run: self.run_peer(r, v, s, budget, seed)

    def run_ours(self, name: str, budget: float, seed: int) -> None:
        """`resnet-tl fit`, as a user types it."""
        run, cache = self.output / "runs" / name, self.output / "cache"
        for folder in (run, cache):  # of a run that was stopped, or of the one before
            shutil.rmtree(folder, ignore_errors=True)
        spelled = f"{budget:g}m" if budget == int(budget) else f"{60 * budget:.0f}s"
        command = [
            self.ours.parent / "resnet-tl",
            "fit",
            *shlex.split(self.arguments.ours.replace("{budget}", spelled)),
        ]
        command += ["--run", run, "--data.root", self.photos, "--model.weights", self.weights]
        command += ["--model.network", self.arguments.network, "--seed", seed]
        cost = measure([str(part) for part in command], self._log(name), {"RESNET_TL_CACHE": str(cache)})
        shutil.copy(run / "predictions" / "val.csv", self.output / "predictions" / f"{name}.csv")
        with (run / "metrics.csv").open(encoding="utf-8") as lines:
            epochs = sum(1 for _ in lines) - 1
        self._keep(Result(name, OURS, _plan(run), budget, seed, epochs, **asdict(cost)))
        if tta := self.arguments.tta:
            name = f"{name}-tta"
            command = [self.ours.parent / "resnet-tl", "validate", run, "--tta", tta]
            more = measure([str(part) for part in command], self._log(name), {"RESNET_TL_CACHE": str(cache)})
            shutil.copy(run / "tta" / tta / "predictions" / "val.csv", self.output / "predictions" / f"{name}.csv")
            both = replace(cost, wall=cost.wall + more.wall, cpu=cost.cpu + more.cpu)
            self._keep(Result(name, OURS_TTA, f"{_plan(run)}; {tta}", budget, seed, epochs, **asdict(both)))

    def run_peer(self, name: str, variant: Variant, symmetry: str, budget: float, seed: int) -> None:
        """A peer's script, with as many epochs as fit."""
        epochs = 1
        while self.forecast(variant, epochs + 1) <= 60 * budget:
            epochs += 1
        predictions = self.output / "predictions" / f"{name}.csv"
        command = self._command(variant, epochs, self.photos, predictions, symmetry, seed)
        cost = measure(command, self._log(name))
        how = f"{variant.size} px, {symmetry}"
        self._keep(Result(name, variant.contestant, how, budget, seed, epochs, **asdict(cost)))

    def forecast(self, variant: Variant, epochs: int) -> float:
        """Seconds of a whole run: by the calibration, corrected by the longest run of the variant."""
        found = self.calibration(variant)

        def seconds(epochs: int) -> float:
            laps = PEERS[variant.peer].laps(epochs)
            return found["fixed"] + sum(number * found[kind] for kind, number in laps.items())

        own = [
            result
            for result in read_results(self.output)
            if result.contestant == variant.contestant and result.how.startswith(f"{variant.size} px")
        ]
        longest = max(own, key=lambda result: result.epochs, default=None)
        return seconds(epochs) * (longest.wall / seconds(longest.epochs) if longest else 1)

    def calibration(self, variant: Variant) -> dict[str, float]:
        """Seconds of each kind of lap on all images, and of all else; measured once, on some of the images."""
        name = f"calibration-{variant.contestant.replace(' ', '_')}-{variant.size}px"
        kept = self.output / f"{name}.json"
        if not kept.exists():
            limits = [max(CALIBRATION_IMAGES, self.counts["train"] // 5), max(100, self.counts["val"] // 5)]
            some = self.output / "calibration_photos"
            counts = link_photos(self.arguments.photos, some, self.arguments.leave_out, *limits)
            predictions = self.output / f"{name}.csv"
            peer = PEERS[variant.peer]
            command = self._command(variant, peer.calibration_epochs, some, predictions, "mirror", 0)
            wall = measure(command, self._log(name)).wall
            laps = json.loads(predictions.with_suffix(".json").read_text(encoding="utf-8"))["laps"]
            predictions.unlink()
            last = dict(laps)  # the first of a kind may take longer, once: that is part of `fixed`
            fixed = wall - sum(number * last[kind] for kind, number in peer.laps(peer.calibration_epochs).items())
            share = sum(counts.values()) / sum(self.counts.values())
            found = {kind: seconds / share for kind, seconds in last.items()} | {"fixed": fixed}
            kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
            print(f"{name}: {', '.join(f'{kind} {seconds:.1f} s' for kind, seconds in found.items())}", flush=True)
        return json.loads(kept.read_text(encoding="utf-8"))

    def _command(
        self, variant: Variant, epochs: int, photos: Path, predictions: Path, symmetry: str, seed: int
    ) -> list[str]:
        script = Path(__file__).parent / "peers" / PEERS[variant.peer].script
        command = [self.peers, script, "--photos", photos, "--weights", self.weights]
        command += ["--network", self.arguments.network, "--epochs", epochs, "--size", variant.size]
        command += ["--symmetry", symmetry, "--workers", self.arguments.workers, "--seed", seed]
        command += ["--predictions", predictions, *(["--tuned"] if variant.is_tuned else [])]
        return [str(part) for part in command]

    def _log(self, name: str) -> Path:
        return self.output / "logs" / f"{name}.txt"

    def _keep(self, result: Result) -> None:
        with (self.output / "measurements.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
        print(
            f"{result.name}: {result.wall:.0f} s, {result.epochs} epochs, load before it {result.load:.2f}", flush=True
        )


def _plan(run: Path) -> str:
    """What our run trained, by its resolved recipe: `head, 96 px; all, 128 px`."""
    from resnet_tl.run import Run

    recipe = Run(run).recipe
    phases = recipe["model"]["schedule"] or [recipe["model"]]
    sizes = [phase.get("image_size") or recipe["data"]["image_size"] for phase in phases]
    return "; ".join(f"{phase['mode']}, {size} px" for phase, size in zip(phases, sizes, strict=True))


if __name__ == "__main__":
    main()
