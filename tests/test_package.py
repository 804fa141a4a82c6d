from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import resnet_tl


def test_the_public_names_show_before_any_of_them_is_imported() -> None:
    code = "import sys, resnet_tl; print(*set(resnet_tl.__all__) - set(dir(resnet_tl)), 'torch' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False"]


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    assert (files(resnet_tl) / "py.typed").is_file()
