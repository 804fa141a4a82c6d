from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.report.charts import (
    STYLE,
    Line,
    bar_chart,
    difference_chart,
    heat_map,
    interval_chart,
    line_chart,
    mark_of,
    point_map,
    reliability_diagram,
    write_svg,
)

EVIL = "<script>&\"'\x1b[2J"


def every_chart() -> dict[str, Markup]:
    places, points = np.array([0.0, 1.0, 2.0]), ((1, 0.5), (2, 0.4))
    return {
        "lines": line_chart(EVIL, [Line(EVIL, points)], "{:g}".format, marked=(2, EVIL), phases=[(1, EVIL)]),
        "intervals": interval_chart(EVIL, [(EVIL, Estimate(0.9, 0.8, 0.95))]),
        "differences": difference_chart([(EVIL, Estimate(0.1, -0.1, 0.3))]),
        "bars": bar_chart(EVIL, [(EVIL, 2.0, EVIL)]),
        "reliability": reliability_diagram([(EVIL, np.array([[10, 0.6, 0.5], [10, 0.9, 1.0]]))]),
        "map": point_map(places, places, np.array([0, 1, 0]), (EVIL, "b"), [EVIL] * 3, np.array([True, False, False])),
        "heat": heat_map(np.array([[3, 1], [0, 2]]), (EVIL, "b"), lambda row, column: "cell-0-1"),
    }


@pytest.mark.parametrize("name", every_chart())
def test_a_chart_is_well_formed_says_what_it_is_and_escapes_every_name(name: str, tmp_path: Path):
    chart = every_chart()[name]

    root = ElementTree.fromstring(str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert root.attrib["aria-label"]
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert "\x1b" not in chart
    assert "nan" not in chart
    write_svg(chart, tmp_path / "chart.svg")
    written = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert "var(" not in written
    ElementTree.fromstring(written)


def marks(chart: Markup, kind: str) -> list[tuple[float, float]]:
    found = re.findall(rf'class="mark {kind}" transform="translate\(([\d.]+) ([\d.]+)\)"', chart)
    return [(float(x), float(y)) for x, y in found]


def test_points_of_a_curve_stand_where_their_values_are():
    chart = line_chart("Loss", [Line("val", ((1, 2.0), (2, 1.0), (3, 0.0)))], "{:g}".format)

    (x1, y1), (x2, y2), (x3, y3) = marks(chart, "main")
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.11)
    assert y3 > y1


def test_two_curves_that_end_at_one_place_keep_their_names_apart():
    chart = line_chart("Loss", [Line("a", ((1, 2.0), (2, 1.0))), Line("b", ((1, 1.0), (2, 1.0)), False)], "{:g}".format)

    heights = [float(y) for y in re.findall(r'class="small (?:main|other)" x="[\d.]+" y="([\d.]+)"', chart)]
    assert abs(heights[0] - heights[1]) >= 12


def test_a_difference_whose_interval_holds_0_does_not_stand_out():
    chart = difference_chart([("a − b", Estimate(0.1, 0.05, 0.15)), ("a − c", Estimate(0.1, -0.01, 0.2))])

    assert len(marks(chart, "main")) == len(marks(chart, "other")) == 1


def test_a_single_epoch_and_equal_values_can_be_drawn():
    assert marks(line_chart("Loss", [Line("val", ((1, 0.5),))], "{:g}".format), "main")
    assert marks(interval_chart("Accuracy", [("model", Estimate(1.0, 1.0, 1.0))]), "main")


def test_forty_classes_have_forty_marks():
    assert len({mark_of(number) for number in range(40)}) == 40


def test_of_a_heat_map_only_what_is_not_0_is_drawn():
    chart = heat_map(np.diag([2, 3, 4]), ("a", "b", "c"))

    assert chart.count('class="cell right"') == 3
    assert 'class="cell wrong"' not in chart


def test_the_style_of_the_page_does_not_reach_into_the_charts():
    styles = [(STYLE.parent / name).read_text(encoding="utf-8") for name in ("charts.css", "page.css")]
    charts, page = (set(re.findall(r"\.([a-z][\w-]*)", re.sub(r"\{.*?\}", "", style))) for style in styles)

    assert charts
    assert not charts & page


def test_a_thousand_classes_fit_into_a_small_chart():
    generator = np.random.default_rng(0)
    counts = np.diag(np.full(1000, 40))
    np.add.at(counts, tuple(generator.integers(0, 1000, (2, 10_000))), 1)

    chart = heat_map(counts, [f"class {number}" for number in range(1000)])

    assert len(chart) < 500_000
    assert sum(len(path.split("M")) - 1 for path in re.findall(r' d="([^"]+)"', chart)) == np.count_nonzero(counts)
