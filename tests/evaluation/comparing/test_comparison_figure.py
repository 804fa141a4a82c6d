from __future__ import annotations

import numpy as np
from PIL import Image

from resnet_tl.evaluation.comparing.comparison import compare
from resnet_tl.evaluation.comparing.comparison_figure import COLORS, comparison_figure


def groups(make_run, names, seeds):
    made = {}
    for place, name in enumerate(names):
        is_right = np.arange(100) >= 4 + 9 * place
        made[name] = [make_run(f"{name}-{seed}", is_right, seed=seed, network=name) for seed in range(seeds)]
    return made


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has(picture, color):
    rgb = tuple(int(color[place : place + 2], 16) for place in (1, 3, 5))
    return (picture == np.array(rgb)).all(axis=2).any()


def test_each_group_has_its_colour(make_run, tmp_path):
    comparison_figure(compare(groups(make_run, ["$lenet_5", "resnet"], 3)), tmp_path / "two.png")

    picture = pixels(tmp_path / "two.png")
    assert has(picture, COLORS[0])
    assert has(picture, COLORS[1])
    assert not has(picture, COLORS[2])


def test_more_groups_make_it_higher_and_long_names_no_wider(make_run, tmp_path):
    short = compare(groups(make_run, ["a", "b"], 1))
    comparison_figure(short, tmp_path / "short.png")
    long = groups(make_run, [f"resnet50_with_a_very_long_name_that_never_ends_{place}" for place in range(5)], 1)
    comparison_figure(compare(long), tmp_path / "long.png")

    before, after = pixels(tmp_path / "short.png"), pixels(tmp_path / "long.png")
    assert after.shape[1] == before.shape[1]
    assert after.shape[0] > 1.2 * before.shape[0]


def test_a_single_epoch_is_drawn(make_run, tmp_path):
    made = groups(make_run, ["a", "b"], 2)
    for runs in made.values():
        for run in runs:
            run.history = run.history[:1]

    comparison_figure(compare(made), tmp_path / "one.png")

    curves = pixels(tmp_path / "one.png")[-400:]  # the lower part
    assert has(curves, COLORS[0])
