"""Mutated recipes through the real parser of `resnet-tl fit`: a sentence and exit code 2, never a stack trace."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path

import pytest

from resnet_tl.errors import UserError
from resnet_tl.recipe import list_recipes, load_recipe

WORDS = [
    "null", "true", "-1", "0", "1e309", ".inf", ".nan", "9" * 400, "''", "[]", "{}", "[1, 2]", "{a: 1}", "~", "!!int x",
    "!!binary '@'", "!!float x", "!!timestamp x", "!!set {a}", "!!omap [a: 1]", "2026-99-99", "0x", "0b2", "1:99:99",
    "*a", "&a [*a]", "<<: {a: 1}", "\"\\ud800\"", "\"\\x1b[31m\"", "\t", "%YAML 9.9", "--- ", "...", "? [a]", "? {a: b}",
    "{class_path: os.system}", "{class_path: 7}", "{class_path: torch.optim.SGD, init_args: 3}", "!!python/name:os.system",
    "{class_path: torch.nn.Linear}", "{init_args: {lr: 1}}", "[[[[[[", "}}}}", "|\n  text", ">-\n  text", "@", "`", "%",
    "data", "head", "AdamW", "auto", "\N{PILE OF POO}", "a: b: c", "- - - x", "\x00", "\x1b", "\r", "\u2028", "# x",
]  # fmt: skip


def mutate(text: str, chance: random.Random) -> str:
    """Lines removed, doubled, moved and indented; values and keys exchanged; characters and bytes changed."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(lines)) if lines else 0
        line = lines[place] if lines else ""
        way = chance.randrange(9)
        if way <= 2 and ":" in line:
            lines[place : place + 1] = [f"{line.split(':')[0]}: {chance.choice(WORDS)}"]
        elif way == 3:
            del lines[place : place + chance.randint(1, 3)]
        elif way == 4:
            lines.insert(place, chance.choice(lines) if lines else "a")
        elif way == 5:
            lines[place : place + 1] = [" " * chance.randint(0, 5) + line.lstrip()]
        elif way == 6:
            key, colon, value = line.partition(":")
            lines[place : place + 1] = [key + chance.choice("xyz_.-") + colon + value]
        elif way == 7:
            at = chance.randrange(len(line) + 1)
            lines[place : place + 1] = [line[:at] + chance.choice(WORDS) + line[at + chance.randint(0, 3) :]]
        else:
            lines.insert(
                place, chance.choice(["data", "model", "trainer", "optimizer", "x"]) + f": {chance.choice(WORDS)}"
            )
    return "\n".join(lines) + "\n"


def recipes() -> list[str]:
    bodies = [
        "\n".join(line for line in recipe.text.splitlines() if not line.startswith("#")) for recipe in list_recipes()
    ]
    return [*bodies, "data:\n  root: x\nmodel:\n  mode: head\nlr_scheduler:\n  class_path: torch.optim.lr_scheduler.StepLR\n"
            "  init_args:\n    step_size: 1\nseed: 3\ntrainer:\n  callbacks:\n  - class_path: EarlyStopping\n"
            "    init_args:\n      monitor: val_loss\n"]  # fmt: skip


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("count", "seed"), [(400, 0), pytest.param(30_000, 1, marks=pytest.mark.slow)])
def test_reading_mutated_recipes(count: int, seed: int, tmp_path: Path) -> None:
    chance, shipped, read = random.Random(seed), recipes(), 0
    for number in range(count):
        write(tmp_path / "a.yaml", mutate(shipped[number % len(shipped)], chance))
        try:
            load_recipe(tmp_path / "a.yaml")
            read += 1
        except UserError as error:
            assert "\x1b" not in str(error)
    assert read > count / 10


@pytest.mark.parametrize(("count", "seed"), [(16, 1), pytest.param(1_000, 2, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_parsing_mutated_recipes(count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own parser, up to where classes are made of what it has read."""
    from resnet_tl.cli.fit import split_recipes
    from resnet_tl.cli.fit_parser import FitCLI

    class Parsed(Exception):
        pass

    def stop(self: FitCLI) -> None:
        self.before_instantiate_classes()
        raise Parsed

    monkeypatch.setattr(FitCLI, "instantiate_classes", stop)
    monkeypatch.setattr(FitCLI, "_set_seed", lambda self: None)
    chance, shipped, parsed = random.Random(seed), recipes(), 0
    for number in range(count):
        text = mutate(shipped[number % len(shipped)], chance)
        write(tmp_path / "a.yaml", text)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
                FitCLI(*split_recipes(["--recipe", str(tmp_path / "a.yaml")])[:2])
        except Parsed:
            parsed += 1
        except UserError as error:
            assert "Traceback" not in str(error), text
        except SystemExit as end:
            assert end.code == 2, text
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n--- of this recipe:\n{text}") from error
        assert "Traceback" not in printed.getvalue(), text
    print(f"{count} recipes, {parsed} of them parsed")
    assert parsed >= count // 20


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "data: &a {x: *a}", "[" * 5_000, "data:\n  " + "{a: " * 3_000, "- " * 5_000, "\x00", "\ufeff", "",
     "x: &x [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1 or ''}, *x{n - 1 or ''}]\n" for n in range(1, 2)),
     "data: &x0 [x]\n" + "model:\n" + "".join(f"  k{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 12)),
     "data: 2026-99-99", "? [a]\n: b", "data: !!binary '@'", "data: !!int x", "1: 2", "null: 1", "[a]: b", "data: {1: 2}"],
)  # fmt: skip
def test_recipes_that_never_end_or_make_no_sense(text: str, tmp_path: Path, command, is_one_sentence) -> None:
    write(tmp_path / "a.yaml", text)
    done = command("fit", "--recipe", tmp_path / "a.yaml")
    assert done.code == 2
    assert is_one_sentence(done.err), done.err
