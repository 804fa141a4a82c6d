"""A disk that is full, a limit on the size of files, a folder that is gone: the old file stays, and nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table, write_predictions
from resnet_tl.files import replacing, write_text
from resnet_tl.inference.submission import build_submission, write_submission

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits and mounts are those of POSIX")

ON_A_SMALL_DISK = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && cd "$0" && exec "$@"']


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a disk of a megabyte where nobody else sees it."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*ON_A_SMALL_DISK, folder, "true"], capture_output=True).returncode == 0


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a folder that is a disk of one megabyte."""
    (tmp_path / "disk").mkdir()
    if not can_mount(tmp_path / "disk"):
        pytest.skip("this user may not mount a file system")

    def run(code: str, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*ON_A_SMALL_DISK, tmp_path / "disk", sys.executable, "-c", code, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True)

    return run


CODE = """
import os, sys
from pathlib import Path
from resnet_tl.errors import UserError
import numpy as np
Path("{name}").{old}
try:
    {write}
except UserError as error:
    print(error)
print(sorted(os.listdir()), Path("{name}").stat().st_size)
"""
WRITERS = {
    "text": ("a.txt", "from resnet_tl.files import write_text; write_text('a.txt', 'x' * 3_000_000)"),
    "predictions": (
        "p.csv",
        "from resnet_tl.evaluation.predictions import *; ids = [str(n) * 9 for n in range(20_000)]; "
        "write_predictions(prediction_table(ids, ids, None, np.random.rand(20_000, 3), 'abc'), 'p.csv')",
    ),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_no_litter(what: str, on_a_small_disk) -> None:
    name, write = WRITERS[what]
    done = on_a_small_disk(CODE.format(name=name, old="write_text('old')", write=write))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines == [
        f"{name} cannot be written: No space left on device; make room, or choose another place.",
        f"['{name}'] 3",
    ]


def test_a_bundle_on_a_full_disk_is_none(on_a_small_disk) -> None:
    code = (
        "import os; from pathlib import Path; from resnet_tl.bundle import *; from resnet_tl.networks import *\n"
        "from resnet_tl.data.pixels.preprocessing import Preprocessing\n"
        "bundle = Bundle(Path('m'), {'name': 'resnet20'}, ('a', 'b'), Preprocessing(32, 32, 32))\n"
        "try: write_bundle(bundle, create_network('resnet20', 2))\n"
        "except UserError as error: print(error)\n"
        "print(os.listdir('m'))"
    )
    done = on_a_small_disk(code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "cannot be written" in first
    assert second == "[]"


@pytest.mark.slow
def test_the_commands_on_a_full_disk(on_a_small_disk, finished_run: Path, blobs: Path, tmp_path: Path) -> None:
    """`predict`, `submit` and `data show` end in one sentence and leave the disk as it was."""
    main = "import sys; from resnet_tl.cli.main import main; open('fill', 'wb').write(bytes(1_048_576)); "
    main += "code = main(sys.argv[1:]); import os; print(sorted(os.listdir())); sys.exit(code)"
    table = tmp_path / "p.csv"
    subprocess.run(
        [sys.executable, "-m", "resnet_tl", "predict", finished_run, blobs / "val", "-o", table],
        check=True,
        cwd=tmp_path,
    )
    big = prediction_table(ids := [f"{n}.jpg" for n in range(2_000)], ids, None, np.zeros((2_000, 2)), "ab")
    write_predictions(big, tmp_path / "big.csv")
    (tmp_path / "sample.csv").write_text("id,label\n" + "".join(f"{name},a\n" for name in ids))
    for words in (
        ("predict", finished_run, *[blobs / "train"], "-o", "out.csv"),
        ("submit", "--predictions", tmp_path / "big.csv", "--sample", tmp_path / "sample.csv", "-o", "out.csv"),
        ("data", "show", blobs, "--output", "out.png"),
    ):
        done = on_a_small_disk(main, *words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert "No space left on device" in done.stderr
        assert done.stdout.splitlines()[-1] == "['fill']"


def limited(write: Callable[[], None], size: int) -> str:
    """What a process that may write files of `size` bytes only says of it."""
    import resource
    import signal

    reader, writer = os.pipe()
    if not (child := os.fork()):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            write()
            os.write(writer, b"written")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        return told.read()


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    ids = [f"{number}.jpg" for number in range(500)]
    table = prediction_table(ids, ids, None, np.random.default_rng(0).random((500, 2)), ("a", "b"))
    (tmp_path / "sample.csv").write_text("id,label\n" + "".join(f"{name},a\n" for name in ids))
    submission = build_submission(table, tmp_path / "sample.csv")
    for name, write in (
        ("p.csv", lambda: write_predictions(table, tmp_path / "p.csv")),
        ("s.csv", lambda: write_submission(submission, tmp_path / "s.csv")),
        ("t.txt", lambda: write_text(tmp_path / "t.txt", "x" * 10_000)),
    ):
        (tmp_path / name).write_text("old")
        assert limited(write, 2_000).startswith("UserError: ")
        assert (tmp_path / name).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "s.csv", "sample.csv", "t.txt"]


def test_a_folder_that_is_gone_or_has_become_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "run" / "a.txt", "x")
    shutil.rmtree(tmp_path / "run")
    write_text(tmp_path / "run" / "a.txt", "y")  # it is made again
    assert (tmp_path / "run" / "a.txt").read_text() == "y"
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a file now")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "run" / "a.txt", "z")
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / ("x" * 300)):
        pass


@pytest.mark.slow
def test_a_run_directory_that_disappears_during_the_fit(blobs: Path, tmp_path: Path) -> None:
    """The fit ends with a sentence; what it could still write does not look like a run."""
    code = (
        "import shutil, sys; from resnet_tl.training.recorder import RunRecorder; from resnet_tl.cli.main import main\n"
        "before = RunRecorder.on_train_epoch_end\n"
        "def after(self, trainer, module):\n"
        "    before(self, trainer, module); shutil.rmtree(self.run.path)\n"
        "RunRecorder.on_train_epoch_end = after\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [
        "fit",
        "--data.root",
        blobs,
        "--model.network",
        "resnet20",
        "--model.weights",
        "none",
        "--run",
        tmp_path / "run",
    ]
    words += ["--data.image_size", 16, "--trainer.max_epochs", 2, "--trainer.accelerator", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()
