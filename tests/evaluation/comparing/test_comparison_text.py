from __future__ import annotations

import numpy as np
import pandas as pd

from resnet_tl.evaluation.comparing.comparison import compare
from resnet_tl.evaluation.comparing.comparison_text import cells, markdown, method, notes, sentences, write_comparison

COST = {
    "network": {"name": "lenet", "parameters": 61_706, "multiply_adds": 1_814_000_000},
    "seconds": [133.2, 150.0, 150.0],
    "prediction_images_per_second": 1234.5,
}


def right(wrong, first=0, images=250):
    is_right = np.ones(images, dtype=bool)
    is_right[first : first + wrong] = False
    return is_right


def two(make_run, wrong=(75, 5), first=(0, 0), **options):
    return compare(
        {
            name: [make_run(name, right(count, start), **options)]
            for name, count, start in zip(("lenet", "resnet"), wrong, first, strict=True)
        }
    )


def test_a_clear_difference_is_one_plain_sentence(make_run):
    found = two(make_run)

    low, high = (f"{100 * share:.1f}" for share in found.pairs[0].difference[1:])
    assert sentences(found) == [f"resnet is better than lenet by 28.0 points [{low}, {high}]."]


def test_too_few_images_are_said_to_be_and_how_many_it_would_take(make_run):
    (sentence,) = sentences(two(make_run, wrong=(12, 11), first=(0, 100)))

    assert sentence.startswith("250 images cannot tell resnet and lenet apart: 0.4 points [-")
    assert sentence.endswith("p = 1; it would take roughly 45,000 images to see a difference of this size.")


def test_no_difference_at_all_takes_no_number_of_images(make_run):
    assert sentences(two(make_run, wrong=(9, 9))) == [
        "250 images cannot tell lenet and resnet apart: 0.0 points [0.0, 0.0], p = 1."
    ]


def test_the_table_shows_what_the_runs_know(make_run):
    header, rows = cells(two(make_run, cost=COST))

    assert header[:4] == ["run", "accuracy, %", "macro F1, %", "loss"]
    assert header[4:] == ["parameters", "multiply-adds", "epochs", "training", "images/s"]
    assert rows[1][:2] == ["lenet", "70.0 [64.1, 75.3]"]
    assert rows[1][4:] == ["61.7 k", "1.81 G", "3", "7 min 13 s", "1.23 k"]
    assert cells(compare({"a": [make_run("a", right(3))], "b": [make_run("b", right(4))]}))[0][4:] == ["epochs"]


def test_seeds_show_their_spread(make_run):
    seeds = [make_run(f"a-{seed}", right(25 + 5 * seed), seed=seed) for seed in range(3)]
    found = compare({"a": seeds, "b": [make_run("b", right(4))]})

    header, rows = cells(found)

    assert [row[header.index("of the seeds, %")] for row in rows] == ["", "3: 86.0 to 90.0"]
    assert "the same seed, the largest" in method(found)
    assert "draws the seeds again" in method(found)


def test_markdown_is_a_table_with_what_its_numbers_are(make_run):
    runs = {name: [make_run(name, right(wrong))] for name, wrong in (("a|b", 60), ("c", 20), ("d", 8))}

    lines = markdown(compare(runs)).splitlines()

    assert lines[0].startswith("| run | accuracy, % |")
    assert lines[1].startswith("| --- | ---: |")
    assert sum(line.startswith("| ") for line in lines) == 2 + 3 + 2 + 3
    assert "a\\|b" in lines[4]
    assert "| c − a\\|b | 16.0 [" in "\n".join(lines)
    assert any("McNemar's exact test" in line and "Holm for 3 pairs" in line for line in lines)


def test_what_the_numbers_do_not_cover_is_said(make_run):
    runs = [make_run("a", right(9), data="abc"), make_run("b", right(5), data="def")]

    found = notes(compare({"a": runs[:1], "b": runs[1:]}))

    assert "did not train on the same files" in found[0]
    assert "the interval of a single run" in found[1].lower()
    assert "best epoch" in found[2]
    assert len(notes(two(make_run))) == 2


def test_csv_files_hold_plain_numbers_and_blanks(make_run, tmp_path):
    with_cost, without = make_run("a", right(60), cost=COST), make_run("b", right(10))
    found = compare({"a": [with_cost], "b": [without]})

    write_comparison(found, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.csv",
        "comparison.md",
        "comparison_pairs.csv",
    ]
    groups = pd.read_csv(tmp_path / "out" / "comparison.csv", index_col="group")
    assert list(groups.index) == ["b", "a"]
    accuracy = groups.loc["a", ["accuracy", "accuracy_low", "accuracy_high"]].astype(float)
    assert tuple(accuracy) == found.groups[1].accuracy
    assert groups["parameters"].isna().tolist() == [True, False]
    assert groups.loc["a", "training_seconds"] == 433.2
    numbers = groups.drop(columns="split")
    assert all(pd.api.types.is_numeric_dtype(numbers[column]) for column in numbers)
    pairs = pd.read_csv(tmp_path / "out" / "comparison_pairs.csv")
    assert pairs.loc[0, ["first", "second", "is_decided"]].tolist() == ["b", "a", True]
    assert pairs.loc[0, "difference"] == found.pairs[0].difference.value
