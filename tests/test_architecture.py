"""The house stands as docs/how_a_fit_flows.md draws it: imports run downwards, and every room says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "resnet_tl"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"cache", "errors", "failures", "files", "stopping", "terminal", "timing", "user_code", "wording", "__init__"}
# Room -> the rooms that it may import, at the top of a file or inside a function. Its own is always allowed.
MAY_IMPORT = {
    **dict.fromkeys(
        (*sorted(GROUND - {"__init__"}), "recipe", "data", "evaluation"),
        GROUND,
    ),
    "notebook": GROUND | {"evaluation"},
    "bundle_zip": GROUND | {"data"},
    "bundle": GROUND | {"bundle_zip", "data", "networks", "notebook"},
    "run": GROUND | {"bundle", "bundle_zip", "evaluation", "notebook", "recipe"},
    "networks": GROUND | {"bundle", "bundle_zip"},
    "finetuning": GROUND | {"data", "networks"},
    "inference": GROUND | {"data", "evaluation", "bundle", "bundle_zip", "run", "networks"},
    "export": GROUND | {"data", "evaluation", "bundle", "bundle_zip", "run", "networks", "inference"},
    "serving": GROUND
    | {"data", "evaluation", "bundle", "bundle_zip", "run", "networks", "inference", "export", "notebook", "report"},
    "sharing": GROUND | {"data", "evaluation", "bundle", "bundle_zip", "notebook", "run", "report", "export"},
    "report": GROUND | {"data", "evaluation", "bundle", "run"},
    "training": GROUND | {"data", "evaluation", "bundle", "notebook", "report", "run", "networks", "finetuning"},
    "cli": {path.stem for path in PACKAGE.iterdir()},
    "__main__": {"cli"},
    "__init__": {"data", "inference", "run", "training"},  # the public names, on demand
}
TORCH = {"torch", "torchvision", "torchmetrics", "timm", "lightning"}


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


def room_of(module: str) -> str:
    """`resnet_tl.data.index` -> `data`."""
    return [*module.split("."), "__init__"][1]


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports when it is run, wherever the import stands."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            assert node.module is not None
            yield node.module


def test_the_package_is_found():
    assert {"cli", "data", "evaluation", "finetuning", "inference", "networks", "training"} <= {
        file.parent.name for file in FILES
    }


@every_file
def test_imports_run_downwards(file: Path):
    room = name_of(file).split("/")[0].removesuffix(".py")
    allowed = MAY_IMPORT[room] | {room}
    used = {room_of(module) for module in imports(ast.parse(file.read_text())) if module.split(".")[0] == "resnet_tl"}
    assert used <= allowed, f"{name_of(file)} reaches up into {sorted(used - allowed)}"


@pytest.mark.parametrize(
    ("room", "foreign"),
    [
        *((room, TORCH) for room in ("evaluation", "report", "sharing")),
        *((room, {"lightning"}) for room in ("networks", "inference", "export", "serving")),
    ],
)
def test_a_room_does_without(room: str, foreign: set[str]):
    files = [file for file in FILES if name_of(file).startswith(f"{room}/")]
    assert files
    for file in files:
        used = {module.split(".")[0] for module in imports(ast.parse(file.read_text()))}
        assert not used & foreign, f"{name_of(file)} imports {sorted(used & foreign)}"


def test_only_the_parser_of_fit_needs_torch_to_be_imported():
    """Run, since a module at the top of a module may bring torch in by the back door."""
    light = [
        "recipe",
        "run",
        "bundle",
        "evaluation.metrics",
        "evaluation.figures",
        "report.run_page",
        "sharing.card",
        "sharing.hub",
        "sharing.info",
        "data.reading.layouts",
        "data.pixels.decode",
    ]
    light += [f"cli.{file.stem}" for file in FILES if file.parent.name == "cli" and file.stem != "fit_parser"]
    code = "import sys\n" + "".join(
        f"import resnet_tl.{module}\nfound = {TORCH} & set(sys.modules)\nassert not found, ('{module}', found)\n"
        for module in light
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@every_file
def test_a_module_begins_with_one_sentence(file: Path):
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = docstring.split("\n\n")[0]
    assert first.endswith("."), f"{name_of(file)} begins with {first!r}"


@every_file
def test_public_classes_and_functions_say_what_they_do(file: Path):
    silent = [
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent, f"{name_of(file)}: no docstring in {', '.join(silent)}"


@every_file
def test_a_file_is_named_after_its_concept(file: Path):
    assert not {"utils", "util", "helpers", "helper", "misc", "common", "manager", "handler"} & set(
        file.stem.lower().split("_")
    )


@every_file
def test_nothing_is_pickled(file: Path):
    assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(imports(ast.parse(file.read_text())))


def test_tests_mirror_the_package():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders <= rooms | {"hostile"}, f"tests/{folders - rooms} mirror nothing"  # hostile input enters anywhere
