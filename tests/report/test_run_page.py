from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from resnet_tl.errors import UserError
from resnet_tl.evaluation.folds import averaged, out_of_fold
from resnet_tl.evaluation.metrics import compute_metrics, image_losses
from resnet_tl.evaluation.predictions import label_numbers, probabilities, write_predictions
from resnet_tl.evaluation.uncertainty.calibration import at_temperature
from resnet_tl.files import from_cell
from resnet_tl.report.probabilities import trust
from resnet_tl.report.run_page import write_report
from resnet_tl.run import Run
from tests.report.conftest import MakeRun, add_evidence, write_json

BEFORE_THE_MAP = ["numbers", "curves", "confusion", "classes", "trust", "mistakes"]
BEHIND_IT = ["data", "training", "time", "again", "next"]
SECTIONS = [*BEFORE_THE_MAP, *BEHIND_IT]


class Page(HTMLParser):
    """The tags, links and visible text of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._is_code = False
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._is_code = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._is_code = False

    def handle_data(self, data):
        self.text += "" if self._is_code else data

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.tags if tag == "section"]


def page_of(run: Run) -> Page:
    return Page(write_report(run))


def test_the_page_has_its_sections_in_their_order_and_the_files_beside_it(make_run: MakeRun):
    run = make_run()
    add_evidence(run)

    page = page_of(run)

    assert page.sections == [*BEFORE_THE_MAP, "map", *BEHIND_IT]
    assert "85.0 % [73.9, 91.9] of the 60 validation images are judged correctly" in page.text
    assert "a linear probe of pretrained features" in page.text
    assert "stem, stage1" in page.text
    assert "resnet-tl fit --recipe" in page.text
    assert len(pd.read_csv(run.path / "predictions" / "mistakes_val.csv")) == 9
    assert len(pd.read_csv(run.path / "predictions" / "least_certain_val.csv")) == 60
    charts = {file.stem for file in (run.path / "figures").glob("*.svg")}
    assert charts == {"loss_curve", "accuracy_curve", "accuracy_val", "confusion_val", "reliability_val", "map_val"}


def test_the_page_needs_nothing_else_and_nothing_else_may_run(make_run: MakeRun):
    page = page_of(make_run())

    policy = next(found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    addresses = [found[name] for _, found in page.tags for name in ("src", "href") if name in found]
    assert addresses
    assert all(address and address.startswith("#") for address in addresses)
    assert not re.search(r"url\((?!data:)|@import", page.source)
    ids = [found["id"] for _, found in page.tags if found.get("id")]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses if address} <= set(ids)


def test_an_image_is_in_the_page_once_however_often_it_is_shown(make_run: MakeRun):
    page = page_of(make_run(images=30, wrong=6))

    shown = re.findall(r'class="pic (p\d+)"', page.source)
    assert page.source.count("data:image/jpeg") == len(set(shown)) > 20
    assert len(shown) > 1.5 * len(set(shown))


def test_hostile_names_are_harmless(make_run: MakeRun):
    evil = "<script>alert(1)</script>"
    run = make_run(classes=(evil, "\"'><img src=x>", "=1+1", "a,b {{ 7 * 7 }}"), images=40, wrong=12)
    add_evidence(run)
    table = run.predictions()
    write_predictions(table.assign(id=[f"val/\"{name}'<b>.jpg" for name in table["id"]]), run.predictions_file("val"))

    page = page_of(run)

    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "b") and tag == "img"]
    assert evil in page.text
    assert "{{ 7 * 7 }}" in page.text
    for file in (run.path / "figures").glob("*.svg"):
        assert "<script" not in file.read_text(encoding="utf-8")
    written = pd.read_csv(run.path / "predictions" / "mistakes_val.csv", dtype=str, keep_default_na=False)
    assert "'=1+1" in written["label"].tolist()
    assert evil in written["label"].map(from_cell).tolist()


def test_no_torch_is_needed(make_run: MakeRun):
    run = make_run()
    add_evidence(run)
    code = (
        "import sys; from resnet_tl.cli.main import main\n"
        f"assert main(['report', {str(run.path)!r}]) == 0\n"
        "assert not {'torch', 'torchvision', 'lightning', 'matplotlib.pyplot'} & set(sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


def test_two_classes(make_run: MakeRun):
    page = page_of(make_run(classes=("cats", "dogs"), wrong=5))

    assert page.sections == SECTIONS
    assert "cats taken for dogs: 3" in page.source


def test_of_a_hundred_classes_the_most_confused_pairs_come_first(make_run: MakeRun):
    run = make_run(classes=[f"class {number:03}" for number in range(100)], images=400, wrong=150, drawn=400)

    page = page_of(run)

    assert "The most confused pairs" in page.text
    assert page.text.index("class 000 → class 001") < page.text.index("The matrix of all 100 classes")
    assert "50 further pairs" in page.text
    assert 'class="matrix"' not in page.source
    assert len(page.source.encode()) < 3_000_000


def test_images_that_are_gone_are_said_to_be(make_run: MakeRun):
    run = make_run()
    shutil.rmtree(Path(run.data_facts["root"]))

    page = page_of(run)

    assert "of the images could not be read, such as" in page.text
    assert "data:image/jpeg" not in page.source
    assert "val/0003.jpg" in page.text


def test_without_validation_images_the_page_says_what_is_missing(make_run: MakeRun):
    run = make_run(splits=(), images=0)

    page = page_of(run)

    assert "no validation and no test images" in page.text
    assert page.sections == ["curves", *BEHIND_IT]


def test_a_test_split_leads_the_verdict(make_run: MakeRun):
    page = page_of(make_run(splits=("val", "test")))

    assert "of the 60 test images, which had no part in training, are judged correctly;" in page.text
    assert "test: this model" in page.text


def test_a_final_run_has_the_numbers_of_the_run_that_it_repeats(make_run: MakeRun):
    parent = make_run("first")
    final = {"run": str(parent.path), **{name: parent.summary[name] for name in ("metrics", "accuracy")}}

    page = page_of(make_run("final", splits=(), images=0, final_of=final))
    tested = page_of(make_run("tested", splits=("test",), wrong=3, final_of=final))

    assert "has no numbers of its own" in page.text
    assert "85.0 % [73.9, 91.9]" in page.text
    assert "95.0 % [86.3, 98.3] of the 60 test images" in tested.text
    assert "85.0 % [73.9, 91.9]" in tested.text


def test_a_run_of_folds_has_the_evidence_of_all_of_them(make_run: MakeRun):
    folds = [make_run(f"folds/folds/{number}", images=30, wrong=number, seed=number) for number in (1, 2)]
    for fold in folds:
        add_evidence(fold)
    tables = [fold.predictions().assign(id=lambda table, n=n: f"{n}/" + table["id"]) for n, fold in enumerate(folds)]
    whole = make_run("folds", spread={"val": {"accuracy": {"mean": 0.9, "sd": 0.02}}})
    write_predictions(out_of_fold(tables), whole.predictions_file("val"))
    settings = yaml.safe_load(whole.recipe_file.read_text())
    whole.recipe_file.write_text(yaml.safe_dump(settings | {"data": {"folds": 2}}))
    shutil.rmtree(whole.path / "model")

    page = page_of(Run.open(whole.path))

    assert "A run of 2 folds" in page.text
    assert "90.0 ± 2.0 %" in page.text
    assert "map" not in page.sections


def test_what_the_check_of_the_images_found_is_listed_and_leaks_are_the_caution(make_run: MakeRun):
    run = make_run()
    rows = [
        ("train/0001.jpg", "near_leak", "96 % alike", "val/0001.jpg", "look"),
        ("", "tiny_class", "ants", "", "look"),
    ]
    columns = ["path", "finding", "detail", "partner", "suggestion"]
    pd.DataFrame(rows, columns=columns).to_csv(run.path / "data" / "findings.csv", index=False)
    skipped = [f"train/x{number}.jpg" for number in range(25)]
    pd.DataFrame({"path": skipped, "reason": "is empty"}).to_csv(run.path / "data" / "skipped.csv")

    page = page_of(run)

    assert "Careful: 1 finding says that images of one split are in another" in page.text
    assert "few images to train on: 1" in page.text
    assert "Images that were left out: 25" in page.text
    assert page.text.count("is empty") == 20
    assert "data/skipped.csv" in page.text


def test_a_map_of_some_images_says_so(make_run: MakeRun):
    run = make_run(drawn=0)
    add_evidence(run)
    assert "It has" not in page_of(run).text
    file = run.path / "evidence" / "val" / "map.csv"
    pd.read_csv(file).head(20).to_csv(file, index=False)

    assert "It has 20 of the\n60 images." in page_of(run).text


def test_evidence_that_cannot_be_read_is_left_out_and_said(make_run: MakeRun):
    run = make_run()
    add_evidence(run)
    folder = run.path / "evidence" / "val"
    for name in ("probe.csv", "map.csv", "neighbours.csv", "gradcam.npz"):
        (folder / name).write_bytes(b"PK no such thing")

    page = page_of(run)

    assert page.text.count("cannot be read, so that what it says is left out") == 4
    assert "map" not in page.sections
    assert "nearest neighbours" in page.text


def test_an_unfinished_run_says_how_it_goes_on(make_run: MakeRun):
    run = make_run()
    (run.path / "summary.json").unlink()

    with pytest.raises(UserError, match=r"fit --resume .* goes on with it"):
        write_report(Run.open(run.path))
    assert not (run.path / "report.html").exists()


def test_a_run_whose_predictions_are_gone_says_so(make_run: MakeRun):
    run = make_run()
    run.predictions_file("val").unlink()

    with pytest.raises(UserError, match=r"no predictions for the split 'val' any more; resnet-tl validate .*val\.csv"):
        write_report(run)


def test_a_class_without_images_has_dashes(make_run: MakeRun):
    run = make_run(classes=("ants", "bees", "wasps"))
    table = run.predictions()
    write_predictions(table[table["label"] != "wasps"], run.predictions_file("val"))

    page = page_of(run)

    assert "1 of the 3 classes has no image" in page.text
    assert "–" in page.text


def test_calibrated_probabilities_stand_beside_those_of_the_network(make_run: MakeRun):
    facts = {"temperature": 1.5, "images": 60, "loss_before": 0.5, "loss": 0.4, "low": -0.2, "high": -0.1}

    page = page_of(make_run(calibration=facts))

    assert "calibrated, as predict says" in page.text
    assert "divide the logits by 1.50" in page.text
    assert json.loads((make_run().path / "summary.json").read_text()).get("calibration") is None
    assert "calibrated, as predict says" not in page_of(make_run()).text


def test_what_is_said_of_a_temperature_is_what_was_done(make_run: MakeRun):
    facts = {"temperature": 1.5, "images": 60, "loss_before": 0.5, "loss": 0.4, "low": -0.2, "high": -0.1}

    assert "No temperature was fitted" in page_of(make_run("one", splits=("test",))).text
    assert "No temperature lowered the loss" in page_of(make_run("two", calibration=facts | {"temperature": 1})).text
    of_others = make_run("three", splits=("test",), calibration=facts)  # a final run has that of the run it repeats
    assert "These images had no part in that number" in page_of(of_others).text
    table = of_others.predictions("test")
    shares = at_temperature(probabilities(table), 1.5)
    first, plain = trust(table, 1.5, is_fitted_to_them=False)
    assert first.loss == pytest.approx(image_losses(label_numbers(table), shares).mean())
    assert plain.loss == pytest.approx(compute_metrics(table)["loss"])


def test_a_long_fit_has_its_last_epochs_in_the_table(make_run: MakeRun):
    run = make_run(drawn=0)
    history = pd.read_csv(run.metrics_file)
    pd.concat([history] * 100).assign(epoch=range(1, 301)).to_csv(run.metrics_file, index=False)

    assert "The last 200 of 300 epochs as a table" in page_of(Run.open(run.path)).text


def test_a_run_of_an_average_is_as_good_as_its_table(make_run: MakeRun):
    """Of tiny splits too."""
    run = make_run(classes=("cats", "dogs"), images=2, wrong=2)
    write_predictions(averaged([run.predictions()]), run.predictions_file("val"))
    write_json(run.path / "freezing.json", [])

    page = page_of(run)

    assert "2 images alone" in page.text
    assert "too few labelled images" in page.text


def test_a_run_whose_model_is_gone_has_a_page(make_run: MakeRun):
    run = make_run()
    add_evidence(run)
    shutil.rmtree(run.path / "model")

    page = page_of(run)

    assert "the model is gone" in page.text
    assert "Grad-CAM" not in page.text  # where it would lie is not known


def test_a_fit_that_diverged_has_a_page(make_run: MakeRun):
    run = make_run()
    table = run.predictions()
    numbers = [name for name in table.columns if name.startswith("prob_")]
    table.loc[:20, numbers] = float("nan")
    write_predictions(table.assign(predicted="ants").iloc[:21], run.predictions_file("val"))
    pd.read_csv(run.metrics_file).assign(val_loss=float("inf"), val_accuracy=float("nan")).to_csv(run.metrics_file)

    page = page_of(Run.open(run.path))

    assert "Learning curves" in page.text
    assert not re.search(r"\d nan|nan[ %\]]", page.text)


def test_a_table_that_lacks_a_column_is_told_by_its_name(make_run: MakeRun):
    run = make_run(drawn=0)
    run.metrics_file.write_text("x\n1\n")

    with pytest.raises(UserError, match=r"metrics\.csv is damaged: it has no column 'epoch'\."):
        write_report(Run.open(run.path))


@pytest.mark.parametrize(
    "name", ["freezing.json", "data/findings.csv", "data/skipped.csv", "metrics.csv", "data/facts.json"]
)
def test_a_damaged_file_is_named(make_run: MakeRun, name: str):
    run = make_run(drawn=0)
    (run.path / name).write_text("{ no such\nthing")

    with pytest.raises(UserError, match=rf"{Path(name).name} is damaged"):
        write_report(Run.open(run.path))
