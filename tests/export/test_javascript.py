"""The consumer in JavaScript, run by node and in Chromium where onnxruntime-web is at hand."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.export.consumers.texts import javascript_text
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts
from resnet_tl.export.onnx_graph import tensor_graph, with_facts
from resnet_tl.export.raw_images import raw_graph
from resnet_tl.inference.predictor import Predictor

MODULES = Path(os.environ.get("RESNET_TL_NODE_MODULES", Path(__file__).parents[2] / "node_modules"))
DOCS = Path(__file__).parents[2] / "docs" / "export_targets.md"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
needs_web = pytest.mark.skipif(
    not (MODULES / "onnxruntime-web").is_dir(), reason="npm install --no-save onnxruntime-web puts what is missing here"
)
NAME = 'a "quoted" näme.onnx'


def write_model(folder: Path, bundle: Bundle) -> Path:
    """The model for raw images and its consumer."""
    facts = Facts.of(bundle, "raw")
    graph = raw_graph(tensor_graph(Deployed(bundle, bundle.load_network())), bundle.preprocessing)
    (folder / NAME).write_bytes(with_facts(graph, facts).SerializeToString())
    (folder / "use.mjs").write_text(javascript_text(facts, NAME), encoding="utf-8")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Of several sizes; one is transparent in part."""
    draws, paths = np.random.default_rng(0), []
    for number, size in enumerate(((40, 60, 3), (33, 21, 3), (3, 3, 3), (1, 90, 3), (20, 30, 4))):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(draws.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


@needs_node
def test_the_module_is_javascript_and_holds_the_classes_whatever_they_hold(tmp_path: Path, bundle: Bundle):
    odd = ("</script>\u2028`${1}`", "\"'\\", "CHANNELS, grün")
    program = tmp_path / "use.mjs"
    program.write_text(javascript_text(Facts(**{**vars(Facts.of(bundle, "raw")), "classes": odd}), NAME))
    subprocess.run(["node", "--check", program], check=True)
    (tmp_path / "node_modules" / "onnxruntime-web").mkdir(parents=True)
    (tmp_path / "node_modules" / "onnxruntime-web" / "index.js").write_text("")
    asks = "import('./use.mjs').then((used) => console.log(JSON.stringify(used.classes)))"
    said = subprocess.run(["node", "-e", asks], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == list(odd)


@needs_node
@needs_web
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_under_node_it_says_what_predict_says(channels: int, photos: list[Path], tmp_path: Path, make_bundle):
    numbers = (0.4,) * channels
    planned = Preprocessing(16, 20, 16, mean=numbers, std=numbers, channels=channels)
    bundle = make_bundle(tmp_path / "bundle", seen=planned)
    write_model(tmp_path, bundle)
    (tmp_path / "node_modules").symlink_to(MODULES)
    pixels = [np.asarray(Image.open(path).convert("RGBA")) for path in photos]
    if channels != 4:
        photos, pixels = photos[:-1], pixels[:-1]
    for path, values in zip(photos, pixels, strict=True):
        path.with_suffix(".bin").write_bytes(values.tobytes())
    shapes = [[f"{path.stem}.bin", *values.shape[:2]] for path, values in zip(photos, pixels, strict=True)]
    (tmp_path / "run.mjs").write_text(f"""
import fs from "node:fs";
import {{ classes, classify, load }} from "./use.mjs";
const session = await load();
const found = [];
for (const [file, height, width] of {json.dumps(shapes)}) {{
  const data = new Uint8ClampedArray(fs.readFileSync(file));
  found.push(Array.from(await classify(session, {{ data, width, height }})));
}}
console.log(JSON.stringify([classes, found]));
""")
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    classes, found = json.loads(done.stdout)
    assert tuple(classes) == bundle.classes
    wanted = Predictor(bundle.path, device="cpu").predict(photos).filter(like="prob_")
    np.testing.assert_allclose(found, wanted, atol=0.01)
    assert np.ptp(found, axis=0).max() > 0.03


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The folder by HTTP on this machine, as a page needs it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@needs_web
def test_in_a_browser_it_says_what_predict_says(bundle: Bundle, photos: list[Path], tmp_path: Path, address: str):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    write_model(tmp_path, bundle)
    (tmp_path / "web").symlink_to(MODULES / "onnxruntime-web" / "dist")
    images = "".join(f'<img src="{path.name}">' for path in photos)
    (tmp_path / "page.html").write_text(f"""<!doctype html>
<script type="importmap">{{"imports": {{"onnxruntime-web": "./web/ort.wasm.bundle.min.mjs"}}}}</script>
{images}
<script type="module">
import {{ classes, classify, load, pixelsOf }} from "./use.mjs";
const session = await load();
const found = [];
for (const image of document.images) {{
  await image.decode();
  found.push(Array.from(await classify(session, pixelsOf(image))));
}}
window.found = [classes, found];
</script>""")
    documented = re.search(r"```html\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert documented is not None
    (tmp_path / "documented.html").write_text(documented[1].replace("flowers_onnx_predict.mjs", "use.mjs"))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/page.html")
        page.wait_for_function("window.found", timeout=60_000)
        classes, found = page.evaluate("window.found")
        page.goto(f"{address}/documented.html")
        page.set_input_files("input", photos[0])
        said = page.wait_for_function("document.body.innerText.trim()", timeout=60_000).json_value()
        browser.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert tuple(classes) == bundle.classes
    table = Predictor(bundle.path, device="cpu").predict(photos)
    np.testing.assert_allclose(found, table.filter(like="prob_"), atol=0.01)
    assert np.ptp(found, axis=0).max() > 0.03
    assert said == table["predicted"][0]
