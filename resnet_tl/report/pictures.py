"""Thumbnails of images, each in the page once: a class of its style sheet whose background is the picture.

So an image that is shown in several places costs its bytes once, and no script is needed to show it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.threads import usable_cores

SIDE, SMALL = 176, 104
"""Longest side of a thumbnail, in pixels: of an image that is judged, and of one beside it."""
HEAT_SIDE = 28
QUALITY = 72
BUDGET = 2_000_000
"""Bytes of all pictures of a page together, as text."""
AT_ONCE = 64


@dataclass(frozen=True)
class Wanted:
    """An image to show, and the heat map to lay over it where there is one."""

    path: Path
    side: int = SIDE
    heat: np.ndarray | None = None


class Pictures:
    """Gives the class of the style sheet that shows an image, "" for one that is gone or that there was no room for."""

    def __init__(self, wanted: Sequence[Wanted], bundle: Bundle | None = None) -> None:
        self.preprocessing = bundle.preprocessing if bundle else None  # which part of an image the network sees
        self.gone: list[Path] = []
        self.with_heat: set[Path] = set()
        self._class: dict[Path, str] = {}
        self._rules: list[str] = []
        self._fill(wanted)

    def of(self, path: Path) -> str:
        """The class that shows an image."""
        return self._class.get(path, "")

    @property
    def css(self) -> str:
        """The rules of all classes."""
        return "\n".join(self._rules)

    def _fill(self, wanted: Sequence[Wanted]) -> None:
        """In their order, until there is no more room."""
        once: dict[Path, Wanted] = {}
        for one in wanted:
            known = once.setdefault(one.path, one)
            if known.side < one.side or known.heat is None:
                heat = known.heat if known.heat is not None else one.heat
                once[one.path] = Wanted(one.path, max(one.side, known.side), heat)
        left, spent = iter(once.values()), 0
        with ThreadPoolExecutor(usable_cores()) as pool:
            while some := list(islice(left, AT_ONCE)):
                for one, rules in zip(some, pool.map(self._rules_of, some), strict=True):
                    if not rules:
                        self.gone.append(one.path)
                        continue
                    spent += sum(map(len, rules))
                    if spent > BUDGET:  # the others, of which there may be thousands, are not even decoded
                        return
                    name = f"p{len(self._class)}"
                    self._class[one.path] = name
                    if len(rules) > 1:
                        self.with_heat.add(one.path)
                    self._rules += [rule.replace("NAME", name) for rule in rules]

    def _rules_of(self, wanted: Wanted) -> list[str]:
        """The rule of the picture, and that of its heat map; none for an image that cannot be read."""
        try:
            value_range = self.preprocessing.value_range if self.preprocessing else None
            image = Image.fromarray(decode(wanted.path, 3, wanted.side, value_range))
        except BadImage:
            return []
        whole = image.size
        image.thumbnail((wanted.side, wanted.side))
        fit = "height:100%" if whole[1] > whole[0] else "width:100%"
        pixelated = ";image-rendering:pixelated" if max(whole) <= SIDE // 2 else ""
        address = _address(image, "JPEG", quality=QUALITY)
        rules = [f".NAME{{{fit};aspect-ratio:{whole[0]}/{whole[1]};background-image:{address}{pixelated}}}"]
        if wanted.heat is not None and self.preprocessing:
            left, top, width, height = seen_part(self.preprocessing, whole)
            place = f"left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"
            rules.append(f".NAME .heat{{{place};background-image:{_address(heat_image(wanted.heat), 'PNG')}}}")
        return rules


def seen_part(preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Which part of an upright image (width, height) the centre crop is: left, top, width and height, as shares."""
    share = preprocessing.crop_size / preprocessing.storage_size
    if preprocessing.resize_rule == "squash":
        return (1 - share) / 2, (1 - share) / 2, share, share
    width, height = (share * min(size) / side for side in size)
    return (1 - width) / 2, (1 - height) / 2, width, height


def heat_image(heat: np.ndarray) -> Image.Image:
    """A heat map (h, w) from 0 to 1 as a picture to lay over another: the more, the redder and the less clear."""
    grey = Image.fromarray((255 * np.asarray(heat, np.float32)).astype(np.uint8))
    strength = np.asarray(grey.resize((HEAT_SIDE, HEAT_SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    shape = strength.shape
    colour = [np.full(shape, 255), 220 * (1 - strength), np.zeros(shape), 190 * strength]
    return Image.fromarray(np.stack(colour, axis=2).astype(np.uint8), "RGBA")


def _address(image: Image.Image, kind: str, **settings: int) -> str:
    """The picture as a data address; it is encoded again, so that nothing of the file itself gets into the page."""
    file = BytesIO()
    image.save(file, kind, optimize=True, **settings)
    return f"url(data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()})"
