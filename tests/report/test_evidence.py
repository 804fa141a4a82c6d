from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.report.evidence import Evidence
from resnet_tl.report.run_page import write_report
from tests.report.conftest import MakeRun, add_evidence, write_json


def test_what_is_there_is_read(make_run: MakeRun):
    run = make_run(drawn=0)
    add_evidence(run)

    found = Evidence.of(run, "val")

    assert set(found.baselines) == {"knn", "probe"}
    first = found.neighbours["val/0000.jpg"]
    assert [near.path for near in first] == [Path(run.data_facts["root"], f"train/{n:04}.jpg") for n in (1, 2, 3)]
    assert found.map is not None
    assert len(found.map) == 60
    assert all(heat.shape == (4, 4) for heat in found.heat.values())
    assert not found.notes


def test_a_run_of_before_has_none(make_run: MakeRun):
    assert Evidence.of(make_run(drawn=0), "val") == Evidence()


def test_places_that_are_no_numbers_are_left_out(make_run: MakeRun):
    run = make_run(drawn=0)
    add_evidence(run)
    file = run.path / "evidence" / "val" / "map.csv"
    table = pd.read_csv(file)
    table.loc[3, "x"] = np.nan
    table.to_csv(file, index=False)

    places = Evidence.of(run, "val").map

    assert places is not None
    assert "val/0003.jpg" not in places["id"].tolist()
    assert len(places) == 59


def test_why_something_is_missing_is_said(make_run: MakeRun):
    run = make_run(drawn=0)
    facts = {"images": 60, "map": {"images": 60}, "knn": {"missing": "there are no pretrained features"}}
    write_json(run.path / "evidence" / "val" / "facts.json", facts)

    assert Evidence.of(run, "val").missing == {"knn": "there are no pretrained features"}
    assert "No nearest neighbours: there are no pretrained features." in write_report(run).read_text(encoding="utf-8")


def test_nothing_is_unpickled(make_run: MakeRun):
    run = make_run(drawn=0)
    add_evidence(run)
    np.savez(run.path / "evidence" / "val" / "gradcam.npz", id=np.array([{}], object), map=np.zeros((1, 2, 2)))

    found = Evidence.of(run, "val")

    assert not found.heat
    assert "gradcam.npz cannot be read" in found.notes[0]
