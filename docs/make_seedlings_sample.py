"""Draws the sample data set `seedlings_sample`, five species of small plants on soil, into the zip that is shipped.

It lets a newcomer train a first network in a minute, without a download or a licence. The species differ in the shape
and the order of their leaves only: soil, stones, greens, light, size and place are drawn alike for all of them.
The shipped files were drawn with Pillow 13.0; another version may write other bytes, which changes every number that
was measured on them.

A leaf is drawn in its own coordinates, as complex numbers: the real part runs along the midrib from 0 (base) to 1
(tip), the imaginary part across it. `_bent` puts it on the picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ARCHIVE = Path(__file__).resolve().parents[1] / "resnet_tl" / "data" / "reading" / "seedlings_sample.zip"
SPECIES = ("clover", "dandelion", "grass", "mayweed", "violet")
TRAIN_COUNTS = (72, 64, 68, 56, 60)
"""Training images of each species: uneven, as collections are."""
VAL_COUNT = 16
"""Validation images of each species."""
TEST_COUNT = 12
"""Test images of each species; their file names do not tell which."""

SEED = 20
SIZE = 64
SCALE = 4
CANVAS = SIZE * SCALE
"""Drawn at four times the size and reduced, so that edges are smooth."""

CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 10, endpoint=False))

Colour = np.ndarray
"""Red, green, blue in 0..1."""
Detail = tuple[np.ndarray, int, Colour]
"""Points, line width in canvas pixels (0 fills the polygon), colour."""
PALE: Colour = np.array([0.22, 0.26, 0.2])
RED: Colour = np.array([0.55, 0.22, 0.2])


def write_sample(archive: Path) -> None:
    """Draws the whole data set into a zip, whose bytes follow from the drawn files alone."""
    with ZipFile(archive, "w") as packed:
        for name, content in sorted(draw_sample().items()):
            packed.writestr(ZipInfo(name), content)  # stored, of 1980: JPEG files hardly shrink


def draw_sample() -> dict[str, bytes]:
    """Every file of the data set by its path in it."""
    files = {}
    for name, train_count in zip(SPECIES, TRAIN_COUNTS, strict=True):
        for split, count in (("train", train_count), ("val", VAL_COUNT)):
            for number in range(1, count + 1):
                files[f"{split}/{name}/{number:04d}.jpg"] = _jpeg(draw_seedling(split, name, number))
    truth = test_labels()
    for number, (file, name) in enumerate(truth.items(), start=1):
        files[f"test/{file}"] = _jpeg(draw_seedling("test", name, number))
    rows = ["file,species", *(f"{file},{SPECIES[0]}" for file in truth)]
    files["sample_submission.csv"] = ("\n".join(rows) + "\n").encode()
    return files


def test_labels() -> dict[str, str]:
    """The species of each file in `test/`: held back from users, as a competition does."""
    order = np.random.default_rng([SEED, 3]).permutation(np.repeat(np.arange(len(SPECIES)), TEST_COUNT))
    return {f"{number:04d}.jpg": SPECIES[label] for number, label in enumerate(order, start=1)}


def draw_seedling(split: str, species: str, number: int) -> Image.Image:
    """One picture, (64, 64) RGB: a pure function of its split, species and number."""
    rng = np.random.default_rng([SEED, ("train", "val", "test").index(split), SPECIES.index(species), number])
    scene = _Scene(rng)
    plant = _Plant(scene, rng)
    GROW[species](plant, rng)
    return scene.photograph()


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


# The scene: light, soil, stones, and the camera.


class _Scene:
    """A canvas of soil under a light from one side, on which things are laid that cast shadows."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.towards_light = np.exp(1j * rng.uniform(0, 2 * np.pi))
        self.hardness = rng.uniform(0.35, 0.6)
        self.image = self._soil()
        self._scatter_stones()

    def _soil(self) -> Image.Image:
        """Noise of several grain sizes is a height map; its slope towards the light shades it."""
        rng, half = self.rng, CANVAS // 2
        height = np.zeros((half, half), np.float32)
        for grain, weight in ((5, 0.5), (14, 0.5), (32, 0.6), (64, 0.4)):
            noise = Image.fromarray(rng.normal(0, weight, (grain, grain)).astype(np.float32))
            height += np.asarray(noise.resize((half, half), Image.Resampling.BICUBIC))
        down, right = np.gradient(height)
        relief = right * self.towards_light.real + down * self.towards_light.imag
        self.earth = _from_hsv(rng.uniform((0.04, 0.25, 0.26), (0.09, 0.5, 0.46)))
        shade = 1 + 0.08 * height - rng.uniform(0.15, 0.3) * relief
        return _picture(self.earth * shade[..., None]).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)

    def _scatter_stones(self) -> None:
        """Pebbles of any grey or brown."""
        rng = self.rng
        for _ in range(rng.integers(0, 6)):
            colour = _from_hsv(rng.uniform((0.02, 0.0, 0.35), (0.14, 0.35, 0.8)))
            centre = complex(*rng.uniform(0, CANVAS, 2))
            pebble = (CIRCLE.real + 1j * rng.uniform(0.6, 1) * CIRCLE.imag) * rng.uniform(0.85, 1.15, len(CIRCLE))
            shape = (rng.gamma(2.0, 2.2) + 2) * pebble * np.exp(1j * rng.uniform(0, 2 * np.pi))
            lit_side = 0.7 * abs(shape).mean() * self.towards_light
            details: list[Detail] = [
                (centre + part * shape + (1 - part) * lit_side, 0, colour * brightness)
                for part, brightness in ((0.7, 1.15), (0.35, 1.3))
            ]
            self.lay([centre + shape], colour * 0.85, details, lift=4)

    def lay(self, outlines: Sequence[np.ndarray], colour: Colour, details: Sequence[Detail], lift: float) -> None:
        """Lays a thing of one or more outlines on the canvas; it casts its shadow `lift` canvas pixels away."""
        points = np.concatenate(outlines)
        margin = 3 * lift + 6
        left, top = int(points.real.min() - margin), int(points.imag.min() - margin)
        size = (int(points.real.max() + margin) - left, int(points.imag.max() + margin) - top)
        corner = complex(left, top)

        mask = Image.new("L", size)
        shadow = Image.new("L", size)
        mask_brush, shadow_brush = ImageDraw.Draw(mask), ImageDraw.Draw(shadow)
        for outline in outlines:
            mask_brush.polygon(_flat(outline - corner), fill=255)
            fallen = outline - corner - lift * self.towards_light
            shadow_brush.polygon(_flat(fallen), fill=int(255 * self.hardness))
        shadow = shadow.filter(ImageFilter.BoxBlur(0.45 * lift + 1))
        self.image.paste(_rgb(self.earth * 0.2), (left, top), shadow)

        paint = Image.new("RGB", size, _rgb(colour))
        brush = ImageDraw.Draw(paint)
        for line, width, ink in details:
            if width:
                brush.line(_flat(line - corner), fill=_rgb(ink), width=width, joint="curve")
            else:
                brush.polygon(_flat(line - corner), fill=_rgb(ink))
        self.image.paste(paint, (left, top), mask)

    def photograph(self) -> Image.Image:
        """The canvas through a lens: reduced, unevenly lit, tinted, with a little blur and noise."""
        rng = self.rng
        picture = self.image.reduce(SCALE).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.35)))
        across, down = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2)
        towards = across * self.towards_light.real + down * self.towards_light.imag
        light = 1 + rng.uniform(0, 0.2) * towards - rng.uniform(0, 0.14) * (across**2 + down**2)
        warmth = rng.normal(0, 0.03)
        tint = np.array([1 + warmth, 1, 1 - warmth]) * rng.uniform(0.88, 1.15)
        pixels = np.asarray(picture) / 255 * light[..., None] * tint
        return _picture(pixels + rng.normal(0, rng.uniform(0.004, 0.012), pixels.shape))


# The plant: its greens and its parts.


class _Plant:
    """What the leaves of one plant have in common: place, size, greens, and how they are painted."""

    def __init__(self, scene: _Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.centre = complex(*rng.uniform(0.43 * CANVAS, 0.57 * CANVAS, 2))
        self.turn = rng.uniform(0, 2 * np.pi)
        self.radius = rng.uniform(0.36, 0.46) * CANVAS
        self.hsv = rng.uniform((0.21, 0.42, 0.42), (0.34, 0.68, 0.64))
        redness = max(0.0, rng.uniform(-0.8, 1.0))
        self.stem = (1 - redness) * self.green(0.95) + redness * RED

    def green(self, brightness: float = 1.0) -> Colour:
        """The plant's green with the small differences from leaf to leaf."""
        return _from_hsv((self.hsv + self.rng.normal(0, (0.012, 0.04, 0.04))) * (1, 1, brightness))

    def blade(
        self,
        outline: np.ndarray,
        base: complex,
        heading: float,
        length: float,
        curl: float = 0.0,
        veins: int = 4,
        mark: np.ndarray | None = None,
    ) -> None:
        """Lays one leaf blade: the half that faces the light is lighter, the midrib and veins are pale."""
        colour = self.green()
        facing = np.real(1j * np.exp(1j * (heading + curl / 2)) * np.conj(self.scene.towards_light))
        half = np.where(outline.imag * facing > 0, outline, outline.real)

        def place(points: np.ndarray) -> np.ndarray:
            return _bent(points, base, heading, length, curl)

        details: list[Detail] = [
            (place(half), 0, colour * (1 + 0.3 * abs(facing))),
            (place(0.5 + (half - 0.5) * 0.7), 0, colour * (1 + 0.4 * abs(facing))),
            (place(0.5 + (outline - 0.5) * 0.62), 0, colour * 1.12),
        ]
        for start in np.linspace(0.12, 0.7, veins):
            reach = 0.75 * np.abs(outline.imag).max() * (1.15 - start)
            for side in (1j, -1j):
                vein = np.array([start, start + 0.55 * reach + side * reach])
                details.append((place(vein), 1, colour * 1.35 + 0.06))
        if mark is not None:
            details.append((place(mark), max(3, round(0.11 * length)), 0.65 * colour + PALE))
        details.append((place(np.linspace(0, 0.93, 8) + 0j), 2, colour * 1.3 + 0.1))
        self.scene.lay([place(outline)], colour * 0.88, details, lift=self.rng.uniform(4, 9))

    def stalk(self, base: complex, heading: float, length: float, curl: float = 0.0) -> complex:
        """Lays a leaf's stalk and gives the point where it ends."""
        strip = _bent(_strip(2.2 / length), base, heading, length, curl)
        line = _bent(np.linspace(0, 1, 6) + 0j, base, heading, length, curl)
        self.scene.lay([strip], self.stem * 0.9, [(line, 2, self.stem * 1.2)], lift=3)
        return complex(line[-1])

    def headings(self, count: int) -> np.ndarray:
        """Directions all around, roughly even, in any order."""
        even = np.arange(count) / count * 2 * np.pi
        return self.turn + self.rng.permutation(even) + self.rng.normal(0, 0.12, count)


# The species.


def _clover(plant: _Plant, rng: np.random.Generator) -> None:
    """Leaves of three round leaflets with a pale mark."""
    notch, wide = rng.uniform(0.2, 0.6), rng.uniform(0.95, 1.1)
    leaflet = notch * _heart(wide, at_tip=True) + (1 - notch) * _heart_like_oval(wide)
    mark = np.array([0.36 - 0.34j, 0.5 - 0.22j, 0.62, 0.5 + 0.22j, 0.36 + 0.34j])
    count = int(rng.integers(1, 4))
    for heading in plant.headings(count):
        reach, size = (0.5, 0.52) if count > 1 else (0.1, 0.8)
        top = plant.stalk(plant.centre, heading, reach * plant.radius, rng.normal(0, 0.3))
        turn = heading + rng.normal(0, 0.3)
        for angle in (-2.05, 2.05, 0.0):
            length = size * plant.radius * rng.uniform(0.94, 1.04)
            plant.blade(leaflet, top, turn + angle + rng.normal(0, 0.08), length, rng.normal(0, 0.1), 3, mark)


def _dandelion(plant: _Plant, rng: np.random.Generator) -> None:
    """A rosette of leaves with teeth that point back to the middle."""
    depth, lobes, width = rng.uniform(0.6, 0.85), int(rng.integers(3, 5)), rng.uniform(0.19, 0.26)
    count = int(rng.integers(5, 9))
    lengths = np.sort(rng.uniform(0.7, 1.1, count))[::-1]
    for heading, length in zip(plant.headings(count), lengths, strict=True):
        plant.blade(_toothed(width, depth, lobes), plant.centre, heading, length * plant.radius, rng.normal(0, 0.25), 0)


def _grass(plant: _Plant, rng: np.random.Generator) -> None:
    """A tuft of long bare blades that lean to one side."""
    count = int(rng.integers(6, 11))
    root = plant.centre - 0.75 * plant.radius * np.exp(1j * plant.turn)
    for lean in rng.permutation(np.linspace(-0.65, 0.65, count)):
        length = rng.uniform(1.1, 1.9) * plant.radius
        outline = _lance(rng.uniform(7, 11) / length)
        base = root + complex(*rng.normal(0, 4, 2))
        plant.blade(outline, base, plant.turn + lean + rng.normal(0, 0.08), length, lean + rng.normal(0, 0.3), veins=0)


def _mayweed(plant: _Plant, rng: np.random.Generator) -> None:
    """Feathery leaves, twice divided into needles."""
    count = int(rng.integers(5, 8))
    feather = _feather(pairs=int(rng.integers(6, 8)), breadth=rng.uniform(0.26, 0.34))
    lengths = np.sort(rng.uniform(0.8, 1.15, count))[::-1]
    for heading, length in zip(plant.headings(count), lengths, strict=True):
        colour = plant.green()
        needles = _bent(feather, plant.centre, heading, length * plant.radius, rng.normal(0, 0.3))
        lit: list[Detail] = [(needle[: len(needle) // 2], 2, colour * 1.25) for needle in needles]
        plant.scene.lay(list(needles), colour, lit, lift=rng.uniform(3, 6))


def _violet(plant: _Plant, rng: np.random.Generator) -> None:
    """Broad hearts on stalks."""
    wide = rng.uniform(0.9, 1.1)
    count = int(rng.integers(2, 6))
    sizes = np.sort(rng.uniform(0.55, 0.75, count))[::-1] * plant.radius
    for heading, length in zip(plant.headings(count), sizes, strict=True):
        top = plant.stalk(plant.centre, heading, rng.uniform(0.3, 0.5) * plant.radius, rng.normal(0, 0.2))
        plant.blade(_heart(wide), top, heading + rng.normal(0, 0.15), length, rng.normal(0, 0.2), 3)


GROW: dict[str, Callable[[_Plant, np.random.Generator], None]] = {
    "clover": _clover,
    "dandelion": _dandelion,
    "grass": _grass,
    "mayweed": _mayweed,
    "violet": _violet,
}


# Outlines in leaf coordinates.


def _bent(points: np.ndarray, base: complex, heading: float, length: float, curl: float) -> np.ndarray:
    """Leaf coordinates to canvas pixels; the midrib becomes an arc that turns by `curl` radians."""
    curl = curl or 1e-6
    arc = np.exp(1j * curl * points.real)
    return base + length * np.exp(1j * heading) * ((arc - 1) / (1j * curl) + 1j * points.imag * arc)


def _both_sides(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return np.concatenate([along + 1j * across, (along - 1j * across)[::-1]])


def _strip(half_width: float) -> np.ndarray:
    along = np.linspace(0, 1, 7)
    return _both_sides(along, half_width * (1.3 - 0.6 * along))


def _lance(half_width: float) -> np.ndarray:
    along = np.linspace(0, 1, 14)
    return _both_sides(along, half_width * 1.25 * (along + 0.12) ** 0.35 * (1 - along) ** 0.7)


def _feather(pairs: int, breadth: float) -> np.ndarray:
    """A midrib with pairs of forked twigs: (needles, points), the outline of one needle in each row."""
    needle = _lance(0.13)
    needles = [_lance(0.025)]
    for along in np.linspace(0.25, 0.95, pairs):
        size = breadth * (1.15 - 0.95 * along)
        for side in (-1, 1):
            middle = along + 0.45 * size * np.exp(0.9j * side)
            needles.append(_bent(needle, along, 0.9 * side, size, -0.4 * side))
            needles.append(_bent(needle, middle, 1.7 * side, 0.5 * size, 0.0))
    return np.stack(needles)


def _toothed(half_width: float, depth: float, lobes: int) -> np.ndarray:
    """Lobes that point back to the base, as a dandelion's; the last one is the broad tip."""
    along = np.linspace(0, 1, 12 * lobes + 1)
    envelope = half_width * 2.1 * (along + 0.03) ** 0.9 * (1 - along) ** 0.45
    saw = (along * lobes) % 1.0
    return _both_sides(along - 0.12 * depth * (1 - saw) * (along < 0.98), envelope * (1 - depth * saw))


def _heart(aspect: float, at_tip: bool = False) -> np.ndarray:
    """A heart with its notch at the base, or at the tip."""
    angle = np.linspace(0, 2 * np.pi, 40)
    up = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    along = (up + 17) / 29 if at_tip else (5 - up) / 22
    return along + 1j * aspect * 16 * np.sin(angle) ** 3 / 26


def _heart_like_oval(aspect: float) -> np.ndarray:
    """An egg with its broad end at the tip, point by point comparable to `_heart(aspect, at_tip=True)`."""
    angle = np.linspace(0, 2 * np.pi, 40)
    along = (1 + np.cos(angle)) / 2
    return along + 1j * aspect * 0.55 * np.sin(angle) * along**0.35


def _flat(points: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(points.real.tolist(), points.imag.tolist(), strict=True))


def _from_hsv(hsv: np.ndarray) -> Colour:
    return np.array(colorsys.hsv_to_rgb(*np.clip(hsv, 0, 1)))


def _rgb(colour: Colour) -> tuple[int, ...]:
    return tuple(round(255 * min(1.0, max(0.0, value))) for value in colour.tolist())


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))


if __name__ == "__main__":
    write_sample(ARCHIVE)
