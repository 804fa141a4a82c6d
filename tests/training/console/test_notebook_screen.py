from __future__ import annotations

import re

import pytest

from resnet_tl.training.console.notebook_screen import NotebookScreen

pytest.importorskip("IPython")


def test_lines_and_bars_share_one_output_and_a_bar_leaves_nothing_behind():
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            screen = NotebookScreen()
            screen.print("weights: <b>mine</b>")
            training = screen.begin("training", 10)
            decoding = screen.begin("decoding <i>", None)
            screen.update(training, completed=5)
            screen.print("  1/2  0.5")
            screen.end(decoding)
            screen.end(training)
        pages = [output.data["text/html"] for output in captured.outputs]
    finally:
        InteractiveShell.clear_instance()

    assert len({output.transient["display_id"] for output in captured.outputs}) == 1
    assert [page.count("<progress") for page in pages] == [0, 1, 2, 2, 1, 0]
    assert re.findall(r"<progress ([^>]*?) ?style", pages[3]) == ['value="5" max="10"', ""]
    assert "decoding &lt;i&gt;" in pages[3]
    assert "<b>" not in "".join(pages)
    assert captured.outputs[-1].data["text/plain"] == "weights: <b>mine</b>\n  1/2  0.5"
