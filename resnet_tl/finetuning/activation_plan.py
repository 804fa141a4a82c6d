"""Whether it pays to keep what the frozen stages give: the seconds saved against the bytes written and read."""

from __future__ import annotations

from dataclasses import dataclass

WRITING = 200e6
"""Bytes per second that any disk can be written at; a memory map is read at ten times that, mostly from memory."""
READING = 2e9


@dataclass(frozen=True)
class ActivationPlan:
    """A decision and its reason: a sentence for the user."""

    is_kept: bool
    reason: str


def plan_activations(
    stages: tuple[str, ...],
    images: int,
    asked: int,
    views: int | None,
    passes: int,
    nbytes: int,
    seconds: float,
    has_room: bool,
) -> ActivationPlan:
    """Decides by the arithmetic of one phase.

    Args:
        stages: the frozen ones.
        images: how many of them would be computed and kept.
        asked: how many of them a pass asks for: fewer where the trainer limits its batches.
        views: how many versions of an image there are; None: a new one in each pass.
        passes: how many passes there will be.
        nbytes: of one image's activations.
        seconds: that the frozen stages take for one image.
        has_room: whether the cache folder can take them all.
    """
    name = stages[0] if len(stages) == 1 else f"{stages[0]} to {stages[-1]}"
    computed = passes if views is None else min(views, passes)
    size = computed * images * nbytes
    saved = (passes * asked - computed * images) * seconds
    spent = size / WRITING + passes * asked * nbytes / READING

    def again(why: str) -> ActivationPlan:
        return ActivationPlan(False, f"{name}: computed again in each pass, since {why}")

    if computed == passes:
        many = views is None or views > 1
        return again("each epoch has a new view of each image" if many else "they are asked for once")
    if not has_room:
        return again(f"{_bytes(size)} do not fit in the cache")
    if spent >= saved:
        return again(f"to keep {_bytes(size)} would save {max(0.0, saved):.1f} s and take about {spent:.1f} s")
    return ActivationPlan(
        True,
        f"{name}: computed {_times(computed)} for {images:,} images instead of {_times(passes)}; "
        f"{_bytes(size)} kept, about {saved:.1f} s saved",
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
