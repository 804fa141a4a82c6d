from __future__ import annotations

from pathlib import Path

import pandas as pd

from resnet_tl.evaluation.comparing.comparison import compare
from resnet_tl.report.comparison_page import write_comparison_page
from resnet_tl.run import Run
from tests.report.conftest import MakeRun
from tests.report.test_run_page import Page


def page_of(groups: dict[str, list[Run]], folder: Path) -> tuple[Page, pd.DataFrame]:
    write_comparison_page(compare(groups), folder / "page.html")
    return Page(folder / "page.html"), pd.read_csv(folder / "page_disagreements.csv")


def test_two_runs_are_told_apart_and_what_they_disagree_on_is_shown(make_run: MakeRun, tmp_path: Path):
    groups = {"good": [make_run("good", wrong=2)], "bad": [make_run("bad", wrong=30)]}

    page, table = page_of(groups, tmp_path)

    assert "good is better than bad by 46.7 points" in page.text
    assert len(table) == 28
    assert table.columns.tolist()[3:] == ["predicted: good", "probability: good", "predicted: bad", "probability: bad"]
    assert "good alone is right: 28 images" in page.text
    assert "bad alone is right" not in page.text
    assert page.source.count('class="card"') == 24
    assert page.source.count("data:image/jpeg") == 24


def test_of_three_runs_each_image_stands_with_every_answer(make_run: MakeRun, tmp_path: Path):
    groups = {name: [make_run(name, wrong=wrong)] for name, wrong in (("a", 2), ("b", 9), ("c", 20))}

    page, table = page_of(groups, tmp_path)

    assert "a alone is right: 7 images" in page.text
    assert "Other disagreements: 11 images" in page.text
    assert len(table) == 18
    assert page.text.count("a − b") >= 1


def test_a_group_of_seeds_answers_by_the_mean_of_its_runs(make_run: MakeRun, tmp_path: Path):
    seeds = [make_run(f"seeds-seed{seed}", wrong=0, seed=seed) for seed in range(2)]

    page, table = page_of({"seeds": seeds, "other": [make_run("other", wrong=6)]}, tmp_path)

    means = [run.predictions().filter(like="prob_").to_numpy() for run in seeds]
    expected = ((means[0] + means[1]) / 2).max(axis=1)[:6]
    assert sorted(table["probability: seeds"]) == sorted(expected.tolist())
    assert "seeds alone is right: 6 images" in page.text


def test_runs_that_agree_have_a_page_too(make_run: MakeRun, tmp_path: Path):
    page, table = page_of({"one": [make_run("one")], "same": [make_run("same")]}, tmp_path)

    assert table.empty
    assert "0 of 60 validation images" in page.text


def test_a_run_called_like_a_tag_is_harmless(make_run: MakeRun, tmp_path: Path):
    evil = "<script>alert(1)<"

    page, _ = page_of({evil: [make_run("one", wrong=3)], "b": [make_run("same")]}, tmp_path)

    assert [tag for tag, _ in page.tags].count("script") == 1
    assert evil in page.text
