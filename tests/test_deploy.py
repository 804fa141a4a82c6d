"""The Dockerfile's steps: it copies what is there, and what it starts serves, is healthy and ends."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving.running import model, photo

__all__ = ["model"]

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
LINES = (DEPLOY / "Dockerfile").read_text().splitlines()
TOKEN = "0123456789abcdef"


def test_the_dockerfile_copies_what_is_there_and_runs_what_is_tested():
    copied = [
        word for line in LINES if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    assert {"resnet_tl", "recipes", "pyproject.toml", "deploy/start.sh", "deploy/healthy.py"} <= set(copied)
    users = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")
    last = "\n".join(LINES)
    assert 'CMD ["python", "/opt/deploy/healthy.py"]' in last
    assert 'ENTRYPOINT ["sh", "/opt/deploy/start.sh"]' in last
    assert (ROOT / ".ci" / "run").read_text().count("deploy/check.sh") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_what_the_image_starts_serves_is_healthy_and_ends(model: Path, tmp_path: Path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "resnet-tl"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m resnet_tl "$@"\n')
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "RESNET_TL_CACHE": str(tmp_path / "home" / "cache"),
        "MODEL": str(model),
        "PORT": str(port),
        "RESNET_TL_TOKEN": TOKEN,
    }

    def is_healthy() -> bool:
        return subprocess.run([sys.executable, DEPLOY / "healthy.py"], env=environment).returncode == 0

    def status(**headers: str) -> int:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("POST", "/predict", photo(), headers)
        return client.getresponse().status

    assert not is_healthy()
    with subprocess.Popen(
        ["sh", DEPLOY / "start.sh", "--max_images", "4"], cwd=tmp_path / "work", env=environment
    ) as it:
        try:
            end = time.monotonic() + 60
            while not is_healthy() and time.monotonic() < end:
                time.sleep(0.2)
            assert status(Authorization=f"Bearer {TOKEN}") == 200
            assert status() == 401
            it.terminate()
            assert it.wait(30) == 0  # the server itself, not a shell around it, was told
        finally:
            it.kill()
    assert not is_healthy()
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == {"bin", "resnet-tl", "work"}  # nothing is written: the image may be read-only
