"""Files as an attacker would make them, and the trap that shows whether one of them came to life."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that every exploit tries to make; a test that finds it has lost."""
    return tmp_path_factory.mktemp("trap") / "sprung"


@pytest.fixture(scope="session")
def exploits(trap: Path) -> dict[str, bytes]:
    """Pickles that make the trap when they are loaded, by the shape of the exploit."""
    command = f"touch {trap}"

    class System:
        def __reduce__(self):
            import os

            return os.system, (command,)

    class Eval:
        def __reduce__(self):
            return eval, (f"__import__('os').system({command!r})",)

    class Exec:
        def __reduce__(self):
            return exec, (f"import pathlib; pathlib.Path({str(trap)!r}).touch()",)

    class Popen:
        def __reduce__(self):
            return subprocess.Popen, (["touch", str(trap)],)

    class Getattr:
        """builtins.getattr on a module, a common way round a list of forbidden names."""

        def __reduce__(self):
            return _call_through_getattr, (command,)

    text = command.encode()
    short = bytes([len(text)]) + text
    call = b"\x8c" + short + b"\x85R"  # SHORT_BINUNICODE, TUPLE1, REDUCE
    state = {"conv1.weight": np.zeros(3), "": System()}
    found = {
        **{f"os.system, protocol {protocol}": pickle.dumps(System(), protocol) for protocol in range(6)},
        "eval": pickle.dumps(Eval()),
        "exec": pickle.dumps(Exec()),
        "Popen": pickle.dumps(Popen()),
        "GLOBAL": b"cposix\nsystem\n(V" + text + b"\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + call + b".",
        "nested names": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + call + b".",
        "INST": b"(V" + text + b"\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nV" + text + b"\no.",
        "hidden in a state_dict": pickle.dumps(state),
        "hidden in a list of dicts": pickle.dumps([{"a": [{"b": (1, Eval())}]}]),
        "after a harmless one": pickle.dumps({"a": 1})[:-1] + b"0" + pickle.dumps(System(), 2)[2:],
        "a pickle in a pickle": b"c_pickle\nloads\n(B" + _long_bytes(pickle.dumps(System())) + b"tR.",
    }
    for name, content in found.items():
        assert b"touch" in content or b"trap" in content, name
    return found


def _call_through_getattr(command: str) -> None:  # pragma: no cover -- a name that no unpickler may find
    raise AssertionError(command)


def _long_bytes(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


@pytest.fixture(scope="session")
def wrappers() -> dict[str, Callable[[bytes], bytes]]:
    """The files that pickles come in: bare, torch's three formats, numpy's two, compressed as joblib does."""

    def torch_zip(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/version", "3\n")
        return buffer.getvalue()

    def torch_script(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in ("data.pkl", "constants.pkl"):
                archive.writestr(f"archive/{name}", content)
            archive.writestr("archive/version", "3\n")
        return buffer.getvalue()

    def torch_legacy(content: bytes) -> bytes:
        header = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
        return b"".join(pickle.dumps(part, 2) for part in header) + content + pickle.dumps([], 2)

    def torch_tar(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    def npy(content: bytes) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        return buffer.getvalue() + content

    def npz(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("arr_0.npy", npy(content))
        return buffer.getvalue()

    return {
        "bare": bytes,
        "torch zip": torch_zip,
        "torch script": torch_script,
        "torch legacy": torch_legacy,
        "torch tar": torch_tar,
        "npy": npy,
        "npz": npz,
        "zlib, as joblib": zlib.compress,
    }


@pytest.fixture(scope="session")
def poisoned(exploits: dict[str, bytes], wrappers: dict[str, Callable[[bytes], bytes]]) -> dict[str, bytes]:
    """Every exploit in every kind of file."""
    return {f"{name} in {kind}": wrap(content) for name, content in exploits.items() for kind, wrap in wrappers.items()}


@pytest.fixture(scope="session")
def poison(exploits: dict[str, bytes], wrappers: dict[str, Callable[[bytes], bytes]]) -> bytes:
    """One torch file that calls os.system: what a malicious checkpoint looks like."""
    return wrappers["torch zip"](exploits["os.system, protocol 2"])


@pytest.fixture
def untouched(trap: Path):
    """The trap must not be sprung by the test that asks for this."""
    trap.unlink(missing_ok=True)
    yield
    assert not trap.exists(), "code from a file was run"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """`command("predict", RUN, ...)` in this process: its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["resnet-tl"])

    def run(*words: object) -> SimpleNamespace:
        from resnet_tl.cli.main import main

        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def finished_run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of one epoch, to be copied and spoilt; made by the real command."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    words = ["--data.root", blobs, "--model.network", "resnet20", "--model.weights", "none", "--model.mode", "all"]
    words += ["--data.image_size", "16", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--run", folder]
    made = subprocess.run(
        [sys.executable, "-m", "resnet_tl", "fit", *map(str, words)], capture_output=True, text=True, cwd=folder.parent
    )
    assert made.returncode == 0, made.stderr
    return folder


def said_in_one_sentence(text: str) -> bool:
    """Whether an error is one line without a stack trace."""
    return "Traceback" not in text and len(text.strip().splitlines()) == 1


@pytest.fixture(scope="session")
def is_one_sentence() -> Callable[[str], bool]:
    return said_in_one_sentence
