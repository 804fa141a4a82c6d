"""What a command imports in a process of its own: each needless package is time that everyone waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRAINING = ("lightning", "torchmetrics", "jsonargparse", "optuna", "sklearn", "matplotlib", "jinja2", "cleanlab")
SLOW = (*TRAINING, "scipy", "torchvision", "timm", "torch._dynamo")


def imported(folder: Path, names: tuple[str, ...], *commands: list[str]) -> str:
    """Which of some packages a process has imported once it has run the commands."""
    code = (
        "import sys\nfrom resnet_tl.cli.main import main\n"
        f"codes = [main(words) for words in {commands!r}]\n"
        f"print(codes, [name for name in {names!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def test_predicting_and_embedding_import_torch_and_pandas_alone(tiny_run: Path, blobs: Path, tmp_path: Path):
    image = str(blobs / "val" / "red" / "0.png")
    commands = ["predict", str(tiny_run), image], ["embed", str(tiny_run), image, "-o", "features.npz"]
    assert imported(tmp_path, SLOW, *commands) == "[0, 0] []"


def test_a_model_is_validated_and_a_submission_written_without_what_trains(tiny_run: Path, blobs: Path, tmp_path: Path):
    (tmp_path / "sample.csv").write_text("id,label\n" + "".join(f"{number},\n" for number in range(3)))
    images = str(blobs / "val" / "red")
    submit = ["submit", str(tiny_run), "--images", images, "--sample", "sample.csv", "-o", "submission.csv"]
    validate = ["validate", str(tiny_run / "model"), "--root", str(blobs)]
    assert imported(tmp_path, TRAINING, validate, submit) == "[0, 0] []"
