from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from resnet_tl import terminal
from resnet_tl.terminal import Screen, counted, shown


@pytest.fixture
def make_screen(monkeypatch) -> Callable[..., Screen]:
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    monkeypatch.setattr(terminal, "REDRAWN_EVERY", 0.0)

    def make(is_terminal: bool, width: int = 80) -> Screen:
        return Screen(Console(file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None))

    return make


def text(screen: Screen) -> str:
    file = screen.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_work_in_a_pipe_is_one_line_once_it_lasts(make_screen):
    screen = make_screen(False)

    with shown(screen), counted("decoding", 4027) as advance:
        for _ in range(4027):
            advance(1)

    assert text(screen) == "decoding: 1 of 4,027 images after 0 s\n"


def test_short_work_is_not_shown(make_screen, monkeypatch):
    monkeypatch.setattr(terminal, "PATIENCE", 1.5)
    screen = make_screen(True)

    with shown(screen), counted("decoding", 100) as advance:
        advance(99)

    assert text(screen) == ""


def test_work_in_a_terminal_is_a_bar_that_leaves_no_trace(make_screen):
    screen = make_screen(True)

    with shown(screen), counted("decoding", 100) as advance:
        advance(50)
        screen.print("a line")
        assert screen._bars is not None
        screen._bars.refresh()

    assert "decoding" in text(screen)
    assert "50 of 100 images" in text(screen)
    assert "a line\n" in text(screen)
    assert "\x1b[?25h" in text(screen).rpartition("50 of 100")[2]  # the cursor shows again
    assert screen._bars is None


def test_a_bar_goes_with_the_error_that_ends_its_work(make_screen):
    screen = make_screen(True)

    def stopped() -> None:
        with shown(screen), counted("decoding", 100) as advance:
            advance(50)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()

    assert "\x1b[?25h" in text(screen)


def test_two_bars_stand_below_each_other(make_screen):
    screen = make_screen(True)
    task = screen.begin("epoch 1/3", 30)

    with screen.counted("frozen stages", 100) as advance:
        advance(10)
        assert screen._bars is not None
        assert len(screen._bars.tasks) == 2
    assert len(screen._bars.tasks) == 1
    screen.end(task)

    assert screen._bars is None


def test_a_program_that_asked_for_nothing_sees_nothing(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)

    with counted("decoding", 10) as advance:
        advance(5)

    assert capsys.readouterr() == ("", "")


def test_a_name_cannot_steer_the_terminal_and_is_no_markup(make_screen):
    screen = make_screen(True)

    screen.print("[bold]photos[/bold] \x1b[2J :smile:")

    assert text(screen) == "[bold]photos[/bold] \\x1b[2J :smile:\n"


def test_text_is_folded_in_a_terminal_and_a_command_is_not(make_screen):
    screen, words = make_screen(True, width=20), "resnet-tl predict runs/a photos"

    screen.print(words)
    screen.print(words, is_command=True)

    assert text(screen) == f"resnet-tl predict \nruns/a photos\n{words}\n"
