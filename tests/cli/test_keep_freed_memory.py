from __future__ import annotations

import subprocess
import sys

import pytest

from resnet_tl.cli.keep_freed_memory import keep_freed_memory

# Touches 64 MB twice, and says how often the kernel had to give a page for the second time.
CODE = """
import resource, sys
from resnet_tl.cli.keep_freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
block = bytearray(b"x" * (64 << 20))
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytearray(b"x" * (64 << 20))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of glibc")
def test_a_freed_block_is_taken_again_without_the_kernel():
    assert faults("keep") < 1000 < faults("leave")


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", None)

    keep_freed_memory()
