from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from resnet_tl.cli.loading import loading


def test_the_collector_rests_for_the_block_alone():
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_import_that_fails():
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_a_process_ends_without_a_search():
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"  # the last that is registered runs first
        "from resnet_tl.cli.loading import loading\n"
        "with loading():\n    import json\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "True", done.stderr
