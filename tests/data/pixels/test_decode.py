from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.pixels.decode import (
    DECODER,
    MAX_PIXELS,
    SPARE,
    BadImage,
    decode,
    decode_with_size,
    deep_values,
    header_facts,
)
from resnet_tl.data.pixels.deep import INTEGERS
from resnet_tl.data.pixels.formats import FORMAT_NAMES
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.reasons import foreign
from resnet_tl.errors import UserError

COLOURS = np.array([[[200, 30, 60], [10, 220, 90], [20, 40, 240]], [[0, 0, 0], [255, 255, 255], [128, 128, 128]]])
COLOURS = COLOURS.astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_back_every_pixel(kind: str, options: dict[str, object]) -> None:
    pixels = decode(encoded(Image.fromarray(COLOURS), kind, **options))
    np.testing.assert_array_equal(pixels, COLOURS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_jpeg_gives_what_pillow_gives(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.jpg", quality=90)
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    for source in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), (tmp_path / "a.jpg").read_bytes()):
        np.testing.assert_array_equal(decode(source), expected)
    assert DECODER.startswith("pillow ")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_gives_the_channels_asked_for(mode: str, channels: int) -> None:
    image = Image.new(mode, (5, 4))
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF" if mode in ("F", "I") else "PNG"
    assert decode(encoded(image, kind), channels).shape == (4, 5, channels)


def test_other_numbers_of_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="1, 3 or 4"):
        decode(b"", 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_upright_whatever_the_camera_noted(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 250  # one bright corner, top left, tells all eight ways apart by shape and place
    upright[:8, 8:16] = 120
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_make_a_photo_bad() -> None:
    pixels = decode(encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"))
    assert pixels.shape == (48, 64, 3)


def test_transparency_is_laid_on_white() -> None:
    image = Image.fromarray(np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [0, 0, 0, 128]]], np.uint8))
    assert decode(encoded(image))[0].tolist() == [[255, 255, 255], [200, 0, 0], [127, 127, 127]]
    assert decode(encoded(image), 1)[0, 0].tolist() == [255]
    assert decode(encoded(image), 4)[0, 2].tolist() == [0, 0, 0, 128]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert decode(encoded(image, kind, transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_a_transparent_colour_of_a_grey_png_is_white() -> None:
    image = Image.fromarray(np.array([[7, 99]], np.uint8))
    assert decode(encoded(image, transparency=7), 1)[0, :, 0].tolist() == [255, 99]


def test_cmyk_with_adobes_inverted_inks_has_the_right_colours() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    content = encoded(image, "JPEG", quality=95)
    assert b"Adobe" in content
    assert np.abs(decode(content)[8, 8].astype(int) - [255, 0, 0]).max() < 6


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 300, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(values), kind), 1)[0, :, 0].tolist() == [0, 1, 1, 128, 255]


def test_sixteen_bit_colour_is_scaled_not_clipped() -> None:
    values = np.array([[[0, 257, 65535], [32896, 51400, 771]]], ">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    assert decode(png(2, 1, lines, depth=16, colour=2))[0].tolist() == [[0, 1, 255], [128, 200, 3]]


def png(width: int, height: int, lines: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG file by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values: np.ndarray, order: str = "<", is_planar: bool = False, is_compressed: bool = False) -> bytes:
    """A TIFF file by hand, for what Pillow does not write: values (H, W, bands) of any type."""
    height, width, bands = values.shape
    stored = values.astype(values.dtype.newbyteorder(order))
    planes = [stored[..., band].tobytes() for band in range(bands)] if is_planar else [stored.tobytes()]
    planes = [zlib.compress(plane) for plane in planes] if is_compressed else planes
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: list[tuple[int, list[int]]] = [
        (256, [width]), (257, [height]), (258, [8 * values.dtype.itemsize] * bands), (259, [8 if is_compressed else 1]),
        (262, [2 if bands > 2 else 1]), (273, [0] * len(planes)), (277, [bands]), (278, [height]),
        (279, [len(plane) for plane in planes]), (284, [2 if is_planar else 1]), (338, [2] * (bands == 4)),
        (339, [kind] * bands),
    ]  # fmt: skip
    tags = [(tag, numbers) for tag, numbers in tags if numbers]
    start = 8 + 2 + 12 * len(tags) + 4
    end = start + sum(4 * len(numbers) for _, numbers in tags if len(numbers) > 1)
    starts = [end + sum(map(len, planes[:place])) for place in range(len(planes))]
    directory, outside = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}I", *(starts if tag == 273 else numbers))
        place = packed if len(packed) == 4 else struct.pack(f"{order}I", start + len(outside))
        outside += packed if len(packed) > 4 else b""
        directory += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + place
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return header + directory + bytes(4) + outside + b"".join(planes)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 99.6, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 257.0, 65535.0]], np.float32), [0, 1, 255]),
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
    ],
)
def test_pixels_of_32_bits_are_scaled_by_the_smallest_range_that_holds_them(
    values: np.ndarray, expected: list[int]
) -> None:
    assert decode(encoded(Image.fromarray(values), "TIFF"), 1)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value_range", [None, (0.0, 4095.0)])
def test_values_that_are_no_numbers_are_bad(value_range: tuple[float, float] | None) -> None:
    for odd in ("nan", "inf"):
        content = encoded(Image.fromarray(np.array([[0, float(odd)]], np.float32)), "TIFF")
        with pytest.raises(BadImage, match="no finite numbers"):
            decode(content, value_range=value_range)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_values_beyond_a_given_range_are_clipped_never_wrapped(kind: str) -> None:
    values = np.array([[0, 99, 100, 600, 1100, 1101, 65535]], np.uint16)
    found = decode(encoded(Image.fromarray(values), kind), 1, None, (100, 1100))
    assert found[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_a_range_may_lie_below_zero_and_leaves_images_of_8_bits_alone() -> None:
    values = np.array([[-1024, -512, 0]], np.int32)
    assert decode(encoded(Image.fromarray(values), "TIFF"), 1, None, (-1024, 0))[0, :, 0].tolist() == [0, 128, 255]
    content = encoded(Image.fromarray(COLOURS))
    np.testing.assert_array_equal(decode(content, 3, None, (0, 10)), COLOURS)


def deep_colours(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (7, 5, channels), np.uint16)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("layout", ["PNG", "TIFF", "big-endian TIFF", "compressed TIFF", "planar TIFF"])
def test_colours_of_16_bits_are_read_with_all_their_bits(layout: str, channels: int) -> None:
    values = deep_colours(channels)
    if layout == "PNG":
        lines = b"".join(b"\0" + line.tobytes() for line in values.astype(">u2"))
        content = png(5, 7, lines, depth=16, colour=2 if channels == 3 else 6)
    else:
        content = tiff(
            values, ">" if "big" in layout else "<", is_planar="planar" in layout, is_compressed="compr" in layout
        )
    assert header_facts(content) == (5, 7, INTEGERS)
    np.testing.assert_array_equal(deep_values(content), values)
    found = decode(content, channels, None, (0, 4095))
    expected = np.rint(np.clip(values / 4095, 0, 1) * 255)
    expected[..., 3:] = np.rint(values[..., 3:] / 257)
    np.testing.assert_array_equal(found, expected)


def test_grey_of_16_bits_with_alpha_is_read_with_all_its_bits() -> None:
    values = deep_colours(2)
    content = png(5, 7, b"".join(b"\0" + line.tobytes() for line in values.astype(">u2")), depth=16, colour=4)
    np.testing.assert_array_equal(deep_values(content)[..., [0, 3]], values)


def test_colours_whose_lower_byte_pillow_cannot_give_say_so() -> None:
    content = tiff(deep_colours(3), is_planar=True, is_compressed=True)
    with pytest.raises(BadImage, match="reads only 8 of the 16 bits of its colours; save it as a 16-bit PNG"):
        decode(content, 3, None, (0, 4095))


@pytest.mark.parametrize("values", [[-1.0, 5.0], [0.0, 1e6]])
def test_pixels_of_unknown_scale_are_bad(values: list[float]) -> None:
    with pytest.raises(BadImage, match="whose scale is unknown"):
        decode(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_counts(kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    content = encoded(red, kind, save_all=True, append_images=[blue])
    assert np.abs(decode(content)[4, 4].astype(int) - [255, 0, 0]).max() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_bad(kind: str, kept: float) -> None:
    content = encoded(photo(), kind)
    with pytest.raises(BadImage, match="truncated") as error:
        decode(content[: int(len(content) * kept)])
    assert error.value.path is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "is not an image (HTML?)"),
        (b"some text", f"is not an image ({FORMAT_NAMES})"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", f"is not an image ({FORMAT_NAMES})"),
        (bytes(100), f"is not an image ({FORMAT_NAMES})"),
    ],
)
def test_what_is_no_image_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImage) as error:
        decode(path)
    assert (error.value.path, error.value.reason) == (path, reason)
    assert str(error.value) == f"{path} {reason}."
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(128) + b"DICM" + bytes(200), "is not an image that can be read, but a DICOM file; convert"),
        (b"<?xml version='1.0'?>\n<!-- mine --><svg/>", "is not an image that can be read, but an SVG"),
        (b"<!DOCTYPE svg [ <!ENTITY a \"b\"> ]>\n<svg/>", "is not an image that can be read, but an SVG drawing"),
        (b"<html><svg></svg></html>", "is not an image (HTML?)"),
        (b"%PDF-1.4", "is not an image that can be read, but a PDF; convert"),
        (tiff(np.zeros((4, 4, 13), np.uint16)), "has 13 bands; an image of 1, 3 or 4 is needed: save three"),
        (tiff(np.zeros((4, 4, 6), np.uint8), is_planar=True), "has 6 bands; an image of 1, 3 or 4 is needed"),
        (tiff(np.zeros((4, 4, 3), np.float32)), "has 3 bands of 32-bit floating-point numbers in a layout that"),
        (tiff(np.zeros((4, 4, 1), np.float64)), "has 64-bit floating-point numbers in a layout that"),
        (tiff(np.zeros((4, 4, 3), np.uint8)).replace(*(struct.pack("<HHII", 259, 4, 1, n) for n in (1, 34887))),
         "is compressed by a method (number 34887) that Pillow does not know; save it as PNG"),
        (b"\x89PNG" + encoded(photo())[4:18] + b"\1" + encoded(photo())[19:], "is damaged: it begins as an image"),
        (encoded(photo())[:60] + b"\0\0\0" + encoded(photo())[63:], "cannot be decoded: broken data stream"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_the_true_cause(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as error:
        decode(content)
    assert error.value.reason.startswith(reason)
    assert "truncated" not in error.value.reason


def test_a_photo_of_an_iphone_says_what_reads_it() -> None:
    assert foreign(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == (
        "is not an image that can be read, but a HEIF photo; `pip install pillow-heif`, or convert it to PNG or JPEG"
    )


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(BadImage, match="cannot be read: Is a directory"):
        decode(tmp_path)


@pytest.mark.parametrize("side", [16000, 30000])
def test_a_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    with pytest.raises(BadImage, match=f"has more than {MAX_PIXELS // 10**6} megapixels"):
        decode(png(side, side, b""))


def test_a_bad_image_survives_the_way_out_of_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(BadImage("is empty", Path("a.jpg"))))
    assert (error.reason, error.path, str(error)) == ("is empty", Path("a.jpg"), "a.jpg is empty.")


def test_nothing_is_printed_whatever_pillow_thinks(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"  # the entry of a TIFF that says how many values a pixel has
    tiff = encoded(photo(), "TIFF")
    assert samples + b"\x03" in tiff
    files = {
        "exif.jpg": encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03"),
        "palette.png": encoded(palette, transparency=b"\0\x80"),
        "large.png": png(11200, 11200, b"\0" * 11201 * 11200),  # 125 megapixels: Pillow would warn of a bomb
        "cut.tif": encoded(photo(), "TIFF", compression="tiff_lzw")[:-3000],
        "many.tif": tiff.replace(samples + b"\x03", samples + b"\x57"),
        "cut.jpg": encoded(photo(), "JPEG")[:700],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    program = """
import sys
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.formats import FORMAT_NAMES
for name in sys.argv[1:]:
    try:
        print(decode(name, 1).shape)
    except BadImage as error:
        print("bad")
"""
    command = [sys.executable, "-W", "always", "-c", program, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["(48, 64, 1)", "(4, 4, 1)", "(11200, 11200, 1)", "bad", "bad", "bad", ""]


def test_many_threads_decode_as_one_does(tmp_path: Path) -> None:
    sources = [encoded(photo(40 + n, 30), kind) for n in range(20) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, sources))
    for source, pixels in zip(sources, together, strict=True):
        np.testing.assert_array_equal(pixels, decode(source))


# Large photos


def large(width: int, height: int, **options: object) -> bytes:
    """A JPEG with structure at all scales, as photos have: noise of 1, 2, 4 ... pixels, the coarser the stronger."""
    generator = np.random.default_rng(0)
    pixels = np.zeros((height, width, 3))
    for scale in (1, 2, 4, 8, 16, 32, 64):
        noise = generator.normal(size=(-(-height // scale), -(-width // scale), 3)) * scale**0.7
        pixels += noise.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    pixels = 127 + pixels * 45 / pixels.std()
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=92, **options)


@pytest.mark.parametrize(("factor", "part"), [(8, 8), (4, 4), (2, 2), (1, 1)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(factor: int, part: int, progressive: bool) -> None:
    short_side = 16
    width, height = 2 * SPARE * short_side * factor, SPARE * short_side * factor
    for smaller, expected in ((0, part), (8, max(1, part // 2))):
        content = large(width - 2 * smaller, height - smaller, progressive=progressive)
        pixels, size = decode_with_size(content, 3, short_side)
        assert size == (width - 2 * smaller, height - smaller)
        assert pixels.shape == (-(-size[1] // expected), -(-size[0] // expected), 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_shrunk_it_is_as_good_as_the_whole(channels: int, interpolation: str) -> None:
    planned = Preprocessing(64, 64, 64, interpolation=interpolation, channels=channels)
    content = large(1600, 1200)
    whole = planned.store(decode(content, channels)).numpy().astype(int)
    part = planned.store(decode(content, channels, 64)).numpy().astype(int)
    difference = np.abs(part - whole)
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_real_photos_made_large_are_as_good_as_whole_ones(shared_data: Path) -> None:
    planned = Preprocessing(64, 72, 64)
    for path in sorted((shared_data / "hymenoptera" / "train" / "bees").iterdir())[:4]:
        with Image.open(path) as image:
            content = encoded(image.convert("RGB").resize((1600, 1200), Image.Resampling.LANCZOS), "JPEG", quality=92)
        assert decode(content, 3, 72).shape == (300, 400, 3)
        whole, part = (planned.store(decode(content, 3, side)).numpy().astype(int) for side in (None, 72))
        difference = np.abs(part - whole)
        assert difference.mean() < 0.5
        assert difference.max() <= 8


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_large_photo_on_its_side_is_upright_and_has_its_whole_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = large(802, 801, exif=exif)  # 401 x 401 at half the size
    pixels, size = decode_with_size(content, 3, 400 // SPARE)
    assert pixels.shape == (401, 401, 3)
    assert size == ((801, 802) if orientation == 6 else (802, 801))
    smaller = np.asarray(Image.fromarray(decode(content)).resize((401, 401), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels - smaller).mean() < 8


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
def test_a_large_photo_that_is_truncated_is_bad(kept: float, progressive: bool) -> None:
    content = large(1600, 1200, progressive=progressive)
    with pytest.raises(BadImage, match="truncated"):
        decode(content[: int(len(content) * kept)], 3, 32)


def test_other_formats_and_small_photos_are_decoded_whole() -> None:
    for content in (encoded(photo(300, 200)), encoded(photo(90, 80), "JPEG")):
        np.testing.assert_array_equal(decode(content, 3, 16), decode(content))


def test_the_header_tells_the_size_without_decoding() -> None:
    assert header_facts(encoded(photo(), "JPEG")[:700]) == (64, 48, 0)
    assert header_facts(b"<html>") == header_facts(b"") == (0, 0, 0)
