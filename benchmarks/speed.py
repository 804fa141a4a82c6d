"""How long a fine-tuning takes with fastai, timm, torchvision, Lightning and with us, side by side.

    python benchmarks/speed.py --photos cats_dogs --weights weights --work head --output runs/speed/head_r18

Each contestant is a whole fresh process on the same images (links, made first), the same ImageNet weights, batch size,
epochs and cores; repeats are interleaved, and nothing else should run meanwhile. The peers are installed in an
environment of their own and train as their tutorials do (the first lines of each script in `peers/` say how), or with
`--variants tuned` as fast as their documentation allows on the machine. Ours is `resnet-tl fit` with an empty cache
folder; for the work `head` it then runs once more with another learning rate on the warm cache.

Measurements are kept in OUTPUT/measurements.jsonl as they come: the same command goes on where it was stopped. Writes
table.md, table.csv and plot.png there, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contestants import (
    AGAIN,
    IMPORT,
    IMPORT_COMMAND,
    OURS,
    PACKAGES,
    PEERS,
    Work,
    our_command,
    our_result,
    peer_command,
    peer_python,
    versions,
)
from machine import machine
from photo_folders import link_photos
from processes import measure
from speed_table import Measurement, draw, read_measurements, write_table


@dataclass(frozen=True)
class Turn:
    """One process to be measured.

    Args:
        contestant: such as `fastai`, `fastai tuned`, `ours`, `ours again`, `import`.
    """

    contestant: str
    epochs: int
    repeat: int


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/CLASS, CLASS or flat cat.0.jpg, see peers")
    parser.add_argument("--weights", type=Path, required=True, help="folder with NETWORK*.safetensors, or such a file")
    parser.add_argument("--output", type=Path, required=True, help="folder for measurements, table and plot")
    parser.add_argument("--work", choices=["head", "stage4", "stages34", "all"], default="head", help="what trains")
    parser.add_argument("--network", choices=["resnet18", "resnet50"], default="resnet18")
    parser.add_argument("--peers", default=",".join([*PEERS, OURS]), help="comma-separated (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", choices=["plain", "tuned"], default=["plain"], help="of the peers")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--extrapolate", metavar="1,2", help="run peers for these two numbers of epochs only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="loader processes of peers (default: cores)"
    )
    parser.add_argument("--limit", type=int, help="at most so many images of each split")
    parser.add_argument("--leave_out", nargs="*", default=["imageNotFound.gif"], help="file names that are no photos")
    parser.add_argument("--lr", type=float, default=0.001, help="of our second run, on the warm cache")
    parser.add_argument("--ours", default="", help="further options of resnet-tl fit, in one string")
    parser.add_argument("--ours_python", default=sys.executable, help="Python of our environment (default: this one)")
    parser.add_argument("--remeasure", nargs="*", default=[], help="contestants, such as `ours`, to measure again")
    parser.add_argument("--environment", type=Path, default=Path("runs/peers_environment"), help="of the peers")
    arguments = parser.parse_args()
    arguments.peers = arguments.peers.split(",")
    if unknown := set(arguments.peers) - {*PEERS, OURS}:
        parser.error(f"--peers: {', '.join(sorted(unknown))}; choose from {', '.join([*PEERS, OURS])}")
    arguments.extrapolate = [int(part) for part in (arguments.extrapolate or "").split(",") if part]
    if len(arguments.extrapolate) not in (0, 2) or len(set(arguments.extrapolate)) != len(arguments.extrapolate):
        parser.error("--extrapolate takes two different numbers of epochs, such as 1,2")
    return arguments


def main() -> None:
    arguments = read_arguments()
    output: Path = arguments.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    counts = link_photos(arguments.photos, output / "photos", arguments.leave_out, arguments.limit)
    work = Work(
        photos=output / "photos",
        weights=find_weights(arguments.weights, arguments.network).absolute(),
        network=arguments.network,
        kind=arguments.work,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        lr=arguments.lr,
        options=tuple(shlex.split(arguments.ours)),
    )
    pythons = {OURS: Path(arguments.ours_python)}
    if set(arguments.peers) - {OURS}:
        pythons["peers"] = peer_python(arguments.environment.absolute())
    facts = machine() | {
        f"versions, {whose}": versions(python, [*PACKAGES, "torch", "resnet-tl", "pillow"])
        for whose, python in pythons.items()
    }
    keep_settings(output / "settings.json", {"work": asdict(work), "images": counts, "machine": facts})

    for python in pythons.values():  # what was never read from the disk would cost the first one more
        measure([python, "-c", IMPORT_COMMAND], output / "warm_up.txt")
    file = output / "measurements.jsonl"
    if arguments.remeasure:
        kept = [one for one in read_measurements(file) if one.contestant not in arguments.remeasure]
        file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in kept), encoding="utf-8")
    done = {(one.contestant, one.epochs, one.repeat) for one in read_measurements(file)}
    for turn in turns(arguments):
        if (turn.contestant, turn.epochs, turn.repeat) not in done:
            measurement = take(turn, work, pythons, output)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(measurement)) + "\n")
            print(f"{turn}: {measurement.wall:.1f} s, load before it {measurement.load:.2f}", flush=True)
    wanted = {(turn.contestant, turn.epochs, turn.repeat) for turn in turns(arguments)}
    measurements = [one for one in read_measurements(file) if (one.contestant, one.epochs, one.repeat) in wanted]
    title = (
        f"{arguments.work}, {arguments.network}, {counts['train']} + {counts['val']} images, {arguments.epochs} epochs"
    )
    rows = write_table(measurements, output, title, arguments.epochs, counts["train"], facts)
    draw(rows, output / "plot.png", title)


def turns(arguments: argparse.Namespace) -> Iterator[Turn]:
    """Every process in order: all contestants, then all of them again."""
    peers = [peer for peer in arguments.peers if peer != OURS]
    names = [peer if variant == "plain" else f"{peer} {variant}" for variant in arguments.variants for peer in peers]
    for repeat in range(arguments.repeats):
        if OURS in arguments.peers:
            yield Turn(OURS, arguments.epochs, repeat)
            if arguments.work == "head":
                yield Turn(AGAIN, arguments.epochs, repeat)
                yield Turn(IMPORT, arguments.epochs, repeat)
        for name in names:
            for epochs in arguments.extrapolate or [arguments.epochs]:
                yield Turn(name, epochs, repeat)


def take(turn: Turn, work: Work, pythons: dict[str, Path], output: Path) -> Measurement:
    """Runs one contestant and asks it for its result."""
    logs = output / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{turn.contestant.replace(' ', '_')}-{turn.epochs}-{turn.repeat}.txt"
    result: dict[str, Any] = {}
    if turn.contestant == IMPORT:
        cost = measure([pythons[OURS], "-c", IMPORT_COMMAND], log)
    elif turn.contestant in (OURS, AGAIN):
        cache, run = output / "cache", output / "run"
        shutil.rmtree(run, ignore_errors=True)  # of a run that was stopped
        if turn.contestant == OURS:
            shutil.rmtree(cache, ignore_errors=True)
        command = our_command(pythons[OURS], work, turn.epochs, run, again=turn.contestant == AGAIN)
        cost = measure(command, log, {"RESNET_TL_CACHE": str(cache)})
        result = our_result(run, work.weights)
    else:
        peer, _, variant = turn.contestant.partition(" ")
        with tempfile.TemporaryDirectory(dir=output) as folder:
            file = Path(folder) / "result.json"
            cost = measure(peer_command(pythons["peers"], peer, variant == "tuned", work, turn.epochs, file), log)
            result = json.loads(file.read_text(encoding="utf-8"))
    return Measurement(turn.contestant, turn.epochs, turn.repeat, **asdict(cost), result=result)


def find_weights(path: Path, network: str) -> Path:
    """The weights file of a network."""
    found = [path] if path.is_file() else sorted(path.glob(f"{network}*.safetensors"))
    if not found:
        raise SystemExit(f"{path} has no file {network}*.safetensors.")
    return found[0]


def keep_settings(file: Path, settings: dict[str, Any]) -> None:
    """Writes what shapes the measurements; refuses to add to measurements of something else."""
    text = json.dumps(settings, indent=2, default=str) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{file.parent} holds measurements with other settings or versions; choose another --output.")
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
