"""What is dropped, pressed and read on the page of a real server, in a real browser; nothing leaves the host."""

from __future__ import annotations

import base64
import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_tl import Predictor
from resnet_tl.run import Run
from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import Running, running
from tests.serving.small_run import CLASSES, drawn, make_run

playwright = pytest.importorskip("playwright.sync_api")

playwright.expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each class, with odd names."""
    folder = tmp_path_factory.mktemp("new")
    paths = [folder / name for name in ("=1+1 <img src=x>.png", "b.jpg", 'c, "d".png')]
    for colour, path in enumerate(paths):
        drawn(colour, 70, (90, 60)).save(path)
    return paths


@pytest.fixture(scope="module")
def engine(run: Run) -> PredictorEngine:
    return PredictorEngine(run.path, "cpu")


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visit(server)` gives its page; at the end nothing was asked of another host, and no policy was broken."""
    opened, asked, said = [], [], list[str]()

    def open_page(server: Running, **context: Any) -> Any:
        address = f"http://127.0.0.1:{server.port}/"
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        opened.append((page, address))
        return page

    yield open_page
    for page, address in opened:
        page.context.close()
        assert asked
        assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    assert [text for text in said if not text.startswith("Failed to load resource")] == []  # a status that is no 200


def card(page: Any, number: int = 0) -> Any:
    return page.locator("#list > li").nth(number)


def answer(page: Any, number: int = 0) -> str:
    return card(page, number).locator(".answer").inner_text().replace("\xa0", " ")


GIVE = """async ([kind, name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: given, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true });
  document.querySelector("h1").dispatchEvent(event);
}"""


def given(page: Any, kind: str, path: Path) -> None:
    """Drops a file on the page, drags it over it, or pastes it."""
    page.evaluate(GIVE, [kind, path.name, base64.b64encode(path.read_bytes()).decode()])


def test_images_that_are_picked_get_the_numbers_of_predict_in_words_bars_and_a_table(visit, server, run, photos):
    page = visit(server)
    page.set_input_files("#files", [*photos, photos[1]])

    playwright.expect(page.locator("#status")).to_contain_text("4 of 4 images judged.")
    assert "%. 4 of 4" in page.locator("#status[role=status]").inner_text()  # the last one is read out
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [f"prob_{name}" for name in CLASSES]
    assert list(rows[0]) == ["id", "predicted", "familiarity", *columns]
    assert [row["id"] for row in rows] == ["'=1+1 <img src=x>.png", "b.jpg", 'c, "d".png', "b.jpg (2)"]
    assert [row["predicted"] for row in rows] == [*CLASSES, CLASSES[1]]
    table = Predictor(run.path, "cpu").predict(photos).set_index("path")
    for number, path in enumerate(photos):
        shares = table.loc[str(path), columns].to_numpy(float)
        assert [float(rows[number][name]) for name in columns] == pytest.approx(shares, abs=1e-9)
        assert float(rows[number]["familiarity"]) == pytest.approx(table.loc[str(path), "familiarity"])
        assert card(page, number).locator(".file").inner_text() == path.name
        assert answer(page, number) == f"{CLASSES[number]} {100 * shares[number]:.1f} %"
        bar, track = (card(page, number).locator(kind).first.bounding_box() for kind in (".bar", ".track"))
        assert bar["width"] / track["width"] == pytest.approx(shares[number], abs=0.02)
        assert card(page, number).locator("canvas").is_visible()
    assert page.locator("#list b b, #list img").count() == 0  # names are text


def test_images_are_dropped_and_pasted(visit, server, photos):
    page = visit(server)
    playwright.expect(page.locator("#about")).to_contain_text("photos-1")
    given(page, "dragover", photos[1])
    assert page.locator("body.over").count() == 1
    for number, kind in enumerate(("drop", "paste")):
        given(page, kind, photos[1])
        playwright.expect(card(page, number).locator(".answer")).to_contain_text(CLASSES[1])
        assert page.locator("body.over").count() == 0


def test_all_of_it_goes_by_keyboard(visit, server, photos):
    page, choosers = visit(server), list[Any]()
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # now, since it takes effect some time later

    def focused() -> str:
        return page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")

    playwright.expect(page.locator("#classes")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#classes p").is_visible()
    page.keyboard.press("Tab")
    assert focused() == "Choose images"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(20)
    choosers[0].set_files(photos[:1])
    playwright.expect(card(page).locator(".answer")).to_be_visible()
    for wanted in ("Download CSV", "Remove all", f"Why? {photos[0].name}"):
        page.keyboard.press("Tab")
        assert focused() == wanted
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".why")).to_be_visible()
    assert focused() == f"Why? {photos[0].name}"
    assert card(page).locator("button[aria-expanded=true]").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    heat = page.locator(".why .heat")
    assert heat.is_visible()
    page.keyboard.press("Space")
    assert not heat.is_visible()
    page.keyboard.press("Shift+Tab")
    assert focused() == f"Remove {photos[0].name}"
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#results")).to_be_hidden()
    assert focused() == "Choose images"


def test_why_shows_the_overlay_and_the_nearest_training_images_with_their_names_as_text(visit, server, run):
    own = run.path.parent / "photos" / "train" / "0" / "<i>3 'x'&.png"
    page = visit(server)
    page.set_input_files("#files", own)

    card(page).get_by_role("button", name="Why?").click()

    near = page.locator(".near li").first
    playwright.expect(near).to_contain_text("<b>ants</b>")
    assert "train/0/<i>3 'x'&.png" in near.inner_text()
    assert "distance 0.000" in near.inner_text()
    assert page.locator(".near li").count() == 6
    seen, heat = page.locator(".seen img").first, page.locator(".seen .heat")
    assert seen.evaluate("one => one.naturalWidth") == 32
    assert seen.bounding_box() == heat.bounding_box()
    assert near.locator("img").evaluate("one => one.naturalWidth") == 48


def test_a_bad_image_is_said_beside_it_and_the_others_go_on(visit, server, photos, tmp_path: Path):
    (tmp_path / "notes.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(20_000_001)
    page = visit(server)

    page.set_input_files("#files", [tmp_path / "notes.png", tmp_path / "empty.png", tmp_path / "large.png", photos[0]])

    playwright.expect(page.locator("#status")).to_contain_text("1 of 4 images judged, 3 cannot be used.")
    said = [card(page, number).locator(".state").inner_text() for number in range(3)]
    assert said[0].startswith("✗ The file is not an image")
    assert said[1] == "✗ This file is empty."
    assert said[2] == "✗ This file has 20 MB; the server takes up to 20 MB."
    assert CLASSES[0] in answer(page, 3)
    assert card(page).locator(".thumb").inner_text() == "no preview in this browser"


def test_the_token_is_asked_for_and_kept_in_the_tab(visit, serve, engine, photos):
    page = visit(serve(engine, token="open sesame"))
    field = page.get_by_label("Token")
    assert field.is_visible()
    assert "Whoever has started it knows it" in page.locator("#token").inner_text()
    page.set_input_files("#files", photos[:1])

    field.fill("wrong ☺")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#token .note")).to_have_text("The server does not take this token.")
    assert card(page).locator(".state").inner_text() == "waiting"
    field.fill("open sesame")
    page.keyboard.press("Enter")

    playwright.expect(card(page).locator(".answer")).to_contain_text(CLASSES[0])
    assert not field.is_visible()
    page.reload()
    playwright.expect(page.locator("#about")).to_contain_text("photos-1")
    assert not page.get_by_label("Token").is_visible()


def test_a_busy_server_is_waited_for_visibly(visit, serve, engine, photos):
    page, statuses = visit(serve(engine, max_requests=1)), list[int]()
    page.on("response", lambda response: statuses.append(response.status))

    page.set_input_files("#files", photos)

    playwright.expect(page.locator("#status")).to_contain_text("The server is busy; trying again in 1 s.")
    playwright.expect(page.locator("#status")).to_contain_text("3 of 3 images judged.")
    assert 503 in statuses


@pytest.mark.slow
def test_images_wait_until_a_server_that_is_away_comes_back(visit, engine, photos, tmp_path: Path):
    gone = shutil.copy(photos[0], tmp_path / "gone.png")
    with running(engine) as server:
        page = visit(server)
        playwright.expect(page.locator("#about")).to_contain_text("photos-1")
    page.set_input_files("#files", [gone, photos[1]])
    playwright.expect(page.locator("#away")).to_have_text("The server does not answer. Images wait here until it does.")
    assert "0 of 2 images judged, 2 to go." in page.locator("#status").inner_text()
    gone.unlink()

    with running(engine, server.port):
        playwright.expect(page.locator("#status")).to_contain_text("1 of 2 images judged, 1 cannot be used.")

    assert not page.locator("#away").is_visible()
    assert CLASSES[1] in answer(page, 1)
    assert card(page).locator(".state").inner_text() == "✗ It cannot be read: it is a folder, or the file is gone."


def test_what_looks_like_nothing_known_and_what_is_not_sure_is_said_in_words(visit, serve, run, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    engine = PredictorEngine(run.path, "cpu", min_confidence=0.9999)
    page = visit(serve(engine))

    page.set_input_files("#files", tmp_path / "noise.png")

    playwright.expect(card(page).locator(".mark").first).to_contain_text("Looks like nothing I know.")
    assert "at most 2.7 %" in card(page).locator(".mark").first.inner_text()  # 1 of 37
    assert card(page).locator(".mark").nth(1).inner_text() == "Not sure. No class reaches 99.99 %."


def test_nothing_runs_over_the_edge_of_a_phone_that_is_dark_and_wants_nothing_to_move(visit, server, photos):
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True}
    page = visit(server, color_scheme="dark", reduced_motion="reduce", **phone)
    page.set_input_files("#files", photos)
    card(page).get_by_role("button", name="Why?").click()
    playwright.expect(page.locator(".why")).to_be_visible()

    assert page.get_by_role("button", name="Take a photo").is_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert int(ground.removeprefix("rgb(").split(",")[0]) < 60
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).transitionDuration") == "0s"
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow
def test_a_model_without_its_run_says_so(visit, serve, run, photos, tmp_path: Path):
    page = visit(serve(PredictorEngine(shutil.copytree(run.path / "model", tmp_path / "model"), "cpu")))
    page.set_input_files("#files", photos[:1])

    card(page).get_by_role("button", name="Why?").click()

    playwright.expect(page.locator(".why")).to_contain_text("The model is served without its run")
    assert page.locator(".near img").count() == 0
    assert page.locator(".heat").is_visible()


@pytest.mark.slow
def test_a_large_photo_is_sent_as_it_is(visit, server, run, tmp_path: Path):
    large = tmp_path / "large.jpg"
    drawn(2, 70, (4000, 3000)).save(large, quality=90)
    page = visit(server)

    page.set_input_files("#files", large)

    playwright.expect(card(page).locator(".answer")).to_be_visible(timeout=30_000)
    share = Predictor(run.path, "cpu").predict(large)[[f"prob_{name}" for name in CLASSES]].max(axis=1).item()
    assert answer(page).endswith(f"{100 * share:.1f} %")


@pytest.mark.slow
def test_an_image_that_the_browser_cannot_show_is_judged(visit, server, tmp_path: Path):
    drawn(1, 70).save(tmp_path / "scan.tiff")
    page = visit(server)

    page.set_input_files("#files", tmp_path / "scan.tiff")

    playwright.expect(card(page).locator(".answer")).to_contain_text(CLASSES[1])
    assert card(page).locator(".thumb").inner_text() == "no preview in this browser"


@pytest.mark.slow
def test_fifty_real_photos_are_judged_as_by_predict(visit, server, run, shared_data: Path):
    photos = sorted((shared_data / "cats_dogs" / "test").glob("*.jpg"))[:50]
    page = visit(server)

    page.set_input_files("#files", photos)

    playwright.expect(page.locator("#status")).to_contain_text("50 of 50 images judged.", timeout=60_000)
    table = Predictor(run.path, "cpu").predict(photos).set_index("path")
    for number, path in enumerate(photos):
        assert answer(page, number).startswith(table.loc[str(path), "predicted"])
