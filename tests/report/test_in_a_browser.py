"""What is clicked and pressed on the page, in a real browser without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resnet_tl.report.run_page import write_report
from tests.report.conftest import MakeRun, add_evidence

playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture
def page(browser: Any, make_run: MakeRun) -> Iterator[Any]:
    """The report of a run with evidence; at the end nothing was asked of a network and nothing had failed."""
    run = make_run(images=40, wrong=9, classes=("ants", "bees <b>", "wasps"))
    add_evidence(run)
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    asked, errors = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: errors.append(message.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(write_report(run).as_uri())
    yield opened
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert errors == []
    opened.close()


def test_a_cell_of_the_matrix_opens_the_images_behind_it(page):
    page.click("a[aria-label='ants taken for bees <b>: 3']")

    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == "ants → bees <b>: 3 of 14 images"
    assert dialog.locator(".card").count() == 3
    assert dialog.locator(".pic").first.bounding_box()["width"] > 60
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_table_of_classes_is_sorted_by_keyboard(page):
    head = page.locator("#classes thead th").nth(2)
    first = page.locator("#classes tbody th").first
    recalls = [float(cell) for cell in page.eval_on_selector_all(
        "#classes tbody td:nth-child(3)", "cells => cells.map(cell => cell.dataset.value)")]  # fmt: skip
    assert len(set(recalls)) > 1

    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    worst = ("ants", "bees <b>", "wasps")[recalls.index(min(recalls))]
    assert first.inner_text() == worst


def test_grad_cam_is_shown_on_request(page):
    heat = page.locator("#mistakes .heat").first
    assert heat.evaluate("one => getComputedStyle(one).opacity") == "0"

    page.get_by_label("Grad-CAM").check()

    assert heat.evaluate("one => getComputedStyle(one).opacity") == "1"
    box, picture = heat.bounding_box(), page.locator("#mistakes .pic").first.bounding_box()
    assert box["width"] < picture["width"]  # the crop is a part of the image
    assert box["x"] > picture["x"]


def test_a_class_of_the_legend_stands_out_on_the_map(page):
    page.get_by_role("button", name="wasps").click()

    shown = page.eval_on_selector_all(
        "#points .class", "groups => groups.map(group => +getComputedStyle(group).opacity)"
    )
    assert shown == pytest.approx([0.12, 0.12, 1])


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_over_the_edge(page, width: int):
    page.set_viewport_size({"width": width, "height": 800})

    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_dark_page_is_dark_and_the_printed_one_light_with_everything_open(page):
    def ground() -> int:
        text = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(text.removeprefix("rgb(").split(",")[0])

    page.emulate_media(color_scheme="dark")
    assert ground() < 60
    page.emulate_media(color_scheme="dark", media="print")
    assert ground() == 255
    page.emulate_media(color_scheme="dark", media="screen")
    count = "window.closed_ones = document.querySelectorAll('details:not([open])').length"
    page.evaluate(f"addEventListener('beforeprint', () => {{ {count} }})")
    assert page.evaluate(count) > 5
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("window.closed_ones") == 0
    assert page.evaluate(count) > 5


def test_a_link_into_what_is_closed_opens_it(page):
    page.evaluate("location.hash = 'cell-0-1'")

    page.wait_for_selector("#cell-0-1[open] .card", state="visible")


def test_without_a_script_a_cell_leads_to_its_images(browser, make_run: MakeRun):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(write_report(make_run(images=40, wrong=9)).as_uri())

    page.click("#confusion .matrix a >> nth=1")
    page.click("#cell-0-1 > summary")

    assert page.locator("#cell-0-1 .pic").first.is_visible()
