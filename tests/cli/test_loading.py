from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from resnet_tl import failures
from resnet_tl.cli.loading import LINE, loading


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


def test_a_log_says_at_once_what_takes_long(capsys, monkeypatch):
    with loading(is_log=True):
        assert capsys.readouterr() == (f"{LINE}\n", "")

    monkeypatch.setattr(failures, "rank", 1)
    with loading(is_log=True):
        assert capsys.readouterr() == ("", "")


def test_beside_another_output_it_shows_in_a_terminal_as_long_as_it_lasts(capsys, monkeypatch):
    with loading():
        assert capsys.readouterr() == ("", "")

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with loading():
        assert capsys.readouterr() == ("", LINE)
    assert capsys.readouterr() == ("", "\r\x1b[K")
