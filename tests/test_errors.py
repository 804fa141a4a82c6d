from __future__ import annotations

import pytest

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.errors import UserError, listed, nearest


def test_the_nearest_choice_is_offered() -> None:
    assert nearest("heads", ("all", "last_stages", "head")) == " Did you mean 'head'?"


def test_nothing_is_offered_when_nothing_is_close() -> None:
    assert nearest("zebra", ("all", "last_stages", "head")) == ""
    assert nearest("head", ()) == ""


@pytest.mark.parametrize(
    ("word", "choices", "match"),
    [
        ("--ouput", ("--output", "--top"), "--output"),
        ("--tta", ("--output", "--top", "--batch_size"), None),
        ("data.tta", ("data.root", "data.views", "model.mode"), None),
        ("model.tta", ("model.warmup", "data.root"), None),
        ("data.vieus", ("data.root", "data.views", "model.views"), "data.views"),
        ("modle.mode", ("data.root", "model.mode"), "model.mode"),
        ("fti", ("fit", "test"), "fit"),
        ("tta", ("beta", "data", "state"), None),
        ("model.", ("model.mode",), None),
    ],
)
def test_what_all_options_share_brings_a_word_no_closer(word, choices, match) -> None:
    assert nearest(word, choices) == (f" Did you mean '{match}'?" if match else "")


def test_words_and_choices_need_not_be_text() -> None:
    assert nearest(1000, (1001, 5)) == " Did you mean '1001'?"
    assert nearest(None, ("none",)) == " Did you mean 'none'?"


def test_a_user_error_is_its_sentence() -> None:
    assert str(UserError("photos does not exist.")) == "photos does not exist."
    assert issubclass(BadImage, UserError)


def test_a_long_list_of_names_is_cut_and_the_rest_counted() -> None:
    assert listed([]) == ""
    assert listed(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed(range(100)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more"
    assert listed(iter("abc"), most=2) == "a, b and 1 more"
    assert listed(["a\nb", "c"]) == "a\\nb, c"


def test_a_notebook_shows_one_line() -> None:
    assert UserError("photos\x1b does not exist.")._render_traceback_() == ["UserError: photos\\x1b does not exist."]
