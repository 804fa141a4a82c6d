from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_tl import __version__, user_code
from resnet_tl.cli import main as main_module
from resnet_tl.cli.main import COMMANDS

LIGHT = [
    ["--help"],
    ["--version"],
    [],
    ["recipes", "list"],
    ["recipes", "show", "freeze_backbone"],
    ["data", "list"],
    ["fit", "--help"],
    ["fit", "-h"],
    ["predict", "--help"],
    ["validate", "--help"],
    ["test", "--help"],
    ["submit", "--help"],
    ["compare", "--help"],
    ["sweep", "--help"],
    ["networks", "--help"],
    ["networks", "list"],
    ["networks", "list", "--import", "json"],
    ["cache", "--help"],
    ["cache", "list"],
]


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_help_and_lists_answer_without_torch(words):
    code = (
        "import sys\nfrom resnet_tl.cli.main import main\n"
        f"try: code = main({words!r})\n"
        "except SystemExit as stopped: code = stopped.code\n"
        "heavy = {'torch', 'lightning', 'timm', 'sklearn', 'matplotlib', 'pandas', 'jsonargparse'} & set(sys.modules)\n"
        "print(code, heavy, file=sys.stderr)"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stderr in ("0 set()\n", "None set()\n")
    assert ran.stdout


def test_help_takes_a_fraction_of_the_import_of_torch():
    def seconds(*words: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        return time.perf_counter() - started

    bare = min(seconds("-c", "pass") for _ in range(3))
    assert min(seconds("-m", "resnet_tl", "--help") for _ in range(3)) < bare + 0.3
    assert min(seconds("-m", "resnet_tl", "fit", "--help") for _ in range(3)) < bare + 0.4


@pytest.mark.parametrize(("given", "spins"), [(None, "5000"), ("active", None)])
def test_threads_wait_as_the_user_says(command, monkeypatch, given, spins):
    for name, value in (("OMP_WAIT_POLICY", given), ("GOMP_SPINCOUNT", None)):
        monkeypatch.setenv(name, value or "")  # so that it is put back
        if value is None:
            monkeypatch.delenv(name)

    command("recipes", "list")

    assert os.environ["OMP_WAIT_POLICY"] == (given or "passive")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_version_is_that_of_the_package(command):
    assert command("--version") == (0, f"resnet-tl {__version__}\n", "")


def test_help_names_every_command_in_short_lines(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    code, out, _ = command("--help")

    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 100  # examples are not wrapped


def test_no_command_shows_the_help(command):
    assert command() == command("--help")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(command, name):
    code, out, _ = command(name, "--help")

    assert code == 0
    assert out.startswith(f"usage: resnet-tl {name}")
    assert f"examples:\n  resnet-tl {name}" in out


def test_an_unknown_command_is_named_with_the_nearest(command):
    code, out, err = command("predcit")

    assert (code, out) == (2, "")
    assert err == (f"resnet-tl: 'predcit' is not a command; they are {', '.join(COMMANDS)}. Did you mean 'predict'?\n")


@pytest.mark.parametrize(
    "words", [["--debug", "fit", "--recipe", "nowhere"], ["fit", "--recipe", "nowhere", "--debug"]]
)
def test_debug_shows_the_stack_trace_wherever_it_stands(command, words):
    code, _, err = command(*words)

    assert code == 2
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("resnet-tl: There is no recipe 'nowhere'")


MY_NETWORKS = """
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet

@register_model
def narrow_resnet(pretrained=False, num_classes=1000, in_chans=3, **options):
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes, in_chans, channels=(8, 8, 8, 8))
"""


@pytest.fixture
def nothing_imported(monkeypatch):
    """What other tests have imported is forgotten, and this test's afterwards."""
    monkeypatch.setattr(user_code, "_allowed", {})


def test_a_network_that_an_imported_module_registers_is_trained_and_trained_again(
    command, blobs, tmp_path, nothing_imported
):
    (tmp_path / "my_networks.py").write_text(MY_NETWORKS)
    network = ["--model.network", "narrow_resnet", "--model.weights", "none", "--data.image_size", 32]

    done = command("fit", "--data.root", blobs, *network, "--trainer.max_epochs", 1, "--import", "my_networks")
    again = command("--import=my_networks", "fit", "--recipe", "runs/fit-1/recipe.yaml", "--run", "again")

    assert (done.code, done.err) == (again.code, again.err) == (0, "")
    assert "--import my_networks" in (tmp_path / "runs" / "fit-1" / "recipe.yaml").read_text().splitlines()[0]
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in (tmp_path / "runs/fit-1", Path("again"))]
    assert weights[0] == weights[1]


def test_what_was_imported_is_passed_on_to_the_fits_of_a_comparison(command, nothing_imported):
    from resnet_tl.cli.compare import _Fit

    assert command("recipes", "list", "--import", "json", "--import", "csv").code == 0
    assert _Fit(Path("last_stages"), 0, Path("runs"), []).words[-4:] == ["--import", "json", "--import", "csv"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["recipes", "--import", "my_modul", "list"], "--import: there is no module 'my_modul', here or installed.\n"),
        (["recipes", "list", "--import"], "--import: expected one argument; see `resnet-tl --help`.\n"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_sentence(command, words, sentence):
    assert command(*words)[::2] == (2, f"resnet-tl: {sentence}")


def test_a_mistake_shows_no_stack_trace_without_debug(command):
    code, _, err = command("fit", "--recipe", "nowhere")

    assert code == 2
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_failure_that_is_no_mistake_of_the_user_ends_with_1(tmp_path):
    code = (
        "import sys\nfrom resnet_tl.cli import recipes, main\n"
        "def broken(argv): raise RuntimeError('a bug')\n"
        "recipes.main = broken\nsys.exit(main.main(['recipes', 'list']))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert "a bug" in ran.stderr


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch):
    class Closed:
        def close(self) -> None:
            pass

    def full(argv: list[str]) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(main_module.sys, "stderr", Closed())
    monkeypatch.setattr("resnet_tl.cli.recipes.main", full)
    assert main_module.main(["recipes", "list"]) == 0


def test_ctrl_c_before_the_command_is_imported_is_quiet(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "resnet_tl.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "resnet_tl.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("resnet_tl")
    assert (caught.value.code, capsys.readouterr().err) == (130, "resnet-tl: stopped\n")


def test_a_fit_says_something_before_it_imports_torch(tmp_path):
    """Within two seconds, however long the imports take; a recipe that is not there is said before them."""
    words = [sys.executable, "-u", "-m", "resnet_tl", "fit", "--data.root", str(tmp_path / "nowhere")]
    started = time.perf_counter()
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as fit:
        assert fit.stdout is not None
        line, seconds = fit.stdout.readline(), time.perf_counter() - started
        fit.kill()

    assert line == f"resnet-tl {__version__}: loading PyTorch\n"
    assert seconds < 2
