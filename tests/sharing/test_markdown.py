from __future__ import annotations

import html
import re

import pytest

from resnet_tl.sharing.markdown import plain, table, without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Small-flowered Cranesbill", "Small-flowered Cranesbill"),
        ("81.0 % [78.1, 83.5] of 3: a (b), c's", "81.0 % [78.1, 83.5] of 3: a (b), c's"),
        ("resnet20_cifar10", "resnet20_cifar10"),
        ("_never_ __bold__", "&#95;never&#95; &#95;&#95;bold&#95;&#95;"),
        ("<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"),
        ("a|b", "a&#124;b"),
        ("a\nb\u2028c\r", r"a&#92;nb&#92;u2028c&#92;r"),
        ("[x](javascript:alert)", "[x&#93;(javascript&#58;alert)"),
        ("https://evil.example www.evil.example", "https&#58;//evil.example www&#46;evil.example"),
        ("`code` *b* ~s~ $m$ # h @me :smile:", None),
    ],
)
def test_every_character_stands_for_itself(text: str, shown: str | None):
    assert plain(text) == shown if shown else not set("`*~$@<>|") & set(plain(text))


def test_a_name_cannot_make_a_new_row_or_column():
    made = table(["class", "n"], [[plain("a | b\n| c | d |"), "1"]], [1])

    assert len(made.splitlines()) == 3
    assert made.splitlines()[-1].count("|") == 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/anna/photos", "photos"),
        ("~/photos/a", "a"),
        (r"C:\Users\anna\photos", "photos"),
        (r"\\server\share\photos", "photos"),
        ("table /home/anna/labels.csv; images in /mnt/x", "table labels.csv; images in x"),
        ("class folders: train/<class>; test/ left out", "class folders: train/<class>; test/ left out"),
        ("timm/resnet18.tv_in1k", "timm/resnet18.tv_in1k"),
        ("hf-hub:anna/plants", "hf-hub:anna/plants"),
    ],
)
def test_of_a_path_of_this_machine_the_last_part_is_kept(text: str, kept: str):
    assert without_folders(text) == kept


def test_a_reader_of_markdown_shows_the_very_names():
    from markdown_it import MarkdownIt  # which rich needs

    names = [
        "a | b",
        "<b onclick=x>bold</b>",
        "![x](http://evil/y.png)",
        "*oak*",
        "`rm -rf`",
        "_x_ __y__",
        "[a]: http://b",
    ]
    names += [
        "a&amp;b &lt;i&gt;",
        r"\*z\*",
        "~~s~~",
        "<!-- c -->",
        "# C#",
        "1. x",
        "- y",
        "x_y_z",
        "_a b_c_",
        "**a**b*",
    ]
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    page = reader.render(table(["class", "n"], [[plain(name), "1"] for name in names]))

    assert [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)[::2]] == names
    assert set(re.findall(r"</?(\w+)", page)) == {"table", "thead", "tbody", "tr", "th", "td"}
