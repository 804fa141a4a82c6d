"""What a model cannot do and should not be used for: sentences that follow from what is known of it."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_tl.bundle import Bundle
from resnet_tl.errors import listed
from resnet_tl.evaluation.accuracy import HANDFUL
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.uncertainty.abstention import confidence_reaching, reaching_words, selective_words
from resnet_tl.evaluation.uncertainty.conformal import guarantee, images_for_coverage
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import percent, points
from resnet_tl.sharing.info import COLOURS
from resnet_tl.sharing.measured import per_class, weakest

FEW = 50
"""Training images of a class below which the card says so."""
UNEVEN = 10
"""Times as many training images of one class as of another, from which the card says so."""
COVERAGE = 0.9
"""Of the prediction sets that a card speaks of."""


def limits_of(bundle: Bundle, judged: Judged | None, trained: Mapping[str, int]) -> list[str]:
    """What to expect of it, each a sentence."""
    seen, data = bundle.preprocessing, bundle.data
    names = listed(bundle.classes, 5)
    found = [
        f"It knows {len(bundle.classes):,} classes ({names}) and gives every image one of them, whatever it shows."
    ]
    counts = {name: number for name, number in trained.items() if number}
    if few := [f"{name} ({number})" for name, number in counts.items() if number < FEW]:
        found.append(f"Few training images: {listed(few, 5)} of {sum(counts.values()):,}.")
    if counts and max(counts.values()) >= UNEVEN * min(counts.values()):
        most, least = (choose(counts, key=lambda name: counts[name]) for choose in (max, min))
        found.append(
            f"The classes are uneven: {counts[most]:,} training images of {most}, {counts[least]:,} of {least}. "
            "Where new images are divided otherwise, its probabilities are off."
        )
    part = "" if seen.resize_rule == "squash" and seen.crop_size == seen.storage_size else "the middle of "
    found.append(
        f"It sees {part}{COLOURS[seen.channels]} in {seen.size} × {seen.size} pixels: what cannot be told at that size "
        f"{'or lies outside of the middle ' * bool(part)}plays no part."
    )
    side = data.get("short_side_median")
    if isinstance(side, int | float) and side < seen.storage_size:
        found.append(
            f"The training images were small, {side:g} pixels on the short side at the median, and were enlarged to "
            f"{seen.storage_size}: sharp, large photos are another kind of image to it."
        )
    if judged is None:
        return [*found, "How often it is wrong is not known from what lies here."]
    if len(judged) < HANDFUL:
        found.append(f"So few validation images ({len(judged)}) say little of new ones.")
    for one in weakest(per_class(judged, bundle.classes)):
        if wilson(one.correct, one.images)[1] < judged.is_correct.mean():  # surely worse than the whole
            taken = f", mostly taken for {one.taken_for}" if one.taken_for else ""
            found.append(f"Weak: {one.name}, of which {one.text} of {one.images:,} images are judged correctly{taken}.")
    found.append(
        "Its numbers hold for images that come about as these did. How it does on images of other places, seasons, "
        "cameras or people was not measured."
    )
    return found


def not_for(judged: Judged | None, has_reference: bool) -> list[str]:
    """What it should not be used for, each a sentence."""
    found = ["Images of anything else than its classes"]
    found[0] += (
        ", unless their familiarity is looked at: it names a class all the same."
        if has_reference
        else (": it names a class all the same, and keeps nothing to tell them by.")
    )
    if judged is None:
        return [*found, "Anything where a mistake matters: no image has shown how many it makes."]
    low, high = (points(1 - share) for share in reversed(wilson(int(judged.is_correct.sum()), len(judged))))
    wrong = points(1 - float(judged.is_correct.mean()))
    found.append(
        f"Decisions where {wrong} wrong answers in 100 (between {low} and {high} by these images) would do harm, "
        "such as on health, safety, money or people's rights, without a person who checks each answer."
    )
    found.append("Images unlike those that it was trained on, before it has been measured on some of them with labels.")
    return found


def answering(judged: Judged, repeats: bool) -> list[str]:
    """What abstaining, and sets of classes, are worth, each a sentence of Markdown without a name in it."""
    found = []
    if words := reaching_words(judged):
        found.append(f"It may say nothing where it is not sure (`--min_confidence`). {words}")
    elif reached := confidence_reaching(judged, 0.9):
        found.append(f"From {reached[0]} on it {selective_words(judged, float(reached[0]))}.")
    if len(judged) >= images_for_coverage(COVERAGE):
        found.append(
            f"It may name several classes (`--coverage {COVERAGE:g}`). {guarantee(judged, COVERAGE, False, repeats)}"
        )
    else:
        found.append(f"Sets with a coverage of {percent(COVERAGE)} take more validation images than {len(judged)}.")
    return found
