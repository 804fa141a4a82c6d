"""What is the matter with a file that cannot be read as an image: true of it, with the cause, in half a sentence."""

from __future__ import annotations

import re
from io import BytesIO

from PIL import TiffImagePlugin, UnidentifiedImageError

from resnet_tl.data.pixels.formats import FORMAT_NAMES
from resnet_tl.errors import reason_of

# Files that are taken for images again and again, by how they begin.
_FOREIGN = {
    "a DICOM file": rb".{128}DICM",
    "a HEIF photo": rb"....ftyp(hei|hev|mif|msf)",
    "an AVIF image": rb"....ftypavi",
    "a JPEG 2000 image": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "a JPEG XL image": rb"\0\0\0\x0cJXL |\xff\x0a",
    "a PDF": rb"%PDF",
    "an SVG drawing": rb"(\xef\xbb\xbf)?\s*(<[?!][^>]*>[\]>\s]*)*<svg\b",
    "a Photoshop file": rb"8BPS",
    "an OpenEXR image": rb"v/1\x01",
    "a NumPy array": rb"\x93NUMPY",
}
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<")
_STARTS = {name: re.compile(start, re.DOTALL) for name, start in _FOREIGN.items()}
_NUMBERS = {1: "whole numbers", 2: "signed whole numbers", 3: "floating-point numbers"}


def foreign(content: bytes) -> str:
    """What a file is that does not begin as an image, as the end of a sentence "The image ..."."""
    kind = next((name for name, start in _STARTS.items() if start.match(content)), "")
    if kind:
        extra = "`pip install pillow-heif`, or " if "HEIF" in kind else ""
        return f"is not an image that can be read, but {kind}; {extra}convert it to PNG or JPEG"
    return "is not an image (HTML?)" if _MARKUP.match(content) else f"is not an image ({FORMAT_NAMES})"


def cause(content: bytes, error: Exception) -> str:
    """Why Pillow refused a file that begins as one of its images, as the end of a sentence "The image ..."."""
    said = reason_of(error)
    tags = _tiff_tags(content)
    if isinstance(error, EOFError) or "truncated" in said.lower() or _lacks_its_end(content, tags):
        return "is truncated"
    if tags and (strange := _strange_tiff(tags, isinstance(error, UnidentifiedImageError))):
        return strange
    if isinstance(error, UnidentifiedImageError):  # whose text is about the stream that it was given
        return "is damaged: it begins as an image, but has no header that can be read"
    if "decompressed data too large" in said.lower():
        return "has a text or colour profile that unpacks to megabytes"
    if isinstance(error, ValueError) and "conversion" in said:
        return f"has colours that cannot be read as RGB ({said})"
    codec = TiffImagePlugin.COMPRESSION_INFO[tags.get(259, 1)] if tags else "raw"
    if codec != "raw":
        return f"cannot be decoded: it is damaged, or Pillow was built without the compression {codec} ({said})"
    return f"cannot be decoded: {said}"


def _tiff_tags(content: bytes) -> TiffImagePlugin.ImageFileDirectory_v2 | None:
    """The first directory of a TIFF; None where there is none that can be read."""
    if content[:4] not in TiffImagePlugin.PREFIXES:
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2:4] in (b"+\0", b"\0+") else 8])
        file = BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        tags.get(277)  # which is unpacked only now
    except Exception:  # whatever a strange file leads to
        return None
    return tags


def _lacks_its_end(content: bytes, tiff: TiffImagePlugin.ImageFileDirectory_v2 | None) -> bool:
    """Whether bytes are missing that the format says must be there."""
    if content.startswith(b"\x89PNG"):
        return b"IEND" not in content
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in content
    if content.startswith(b"GIF8"):
        return not content.rstrip(b"\0").endswith(b";")
    if content.startswith((b"RIFF", b"BM")):
        says = content[4:8] if content[:1] == b"R" else content[2:6]
        return len(content) < int.from_bytes(says, "little")
    if content[:4] in TiffImagePlugin.PREFIXES and tiff is None:
        order = "little" if content[:2] == b"II" else "big"
        return len(content) < int.from_bytes(content[4:8], order) + 2 + 12  # type: ignore[arg-type]
    try:
        parts = [] if tiff is None else zip(_many(tiff, 273, 324), _many(tiff, 279, 325), strict=False)
        return any(start + length > len(content) for start, length in parts)
    except (TypeError, ValueError, KeyError):
        return False


def _many(tags: TiffImagePlugin.ImageFileDirectory_v2, *numbers: int) -> tuple[int, ...]:
    found = next((tags[number] for number in numbers if number in tags), ())
    return found if isinstance(found, tuple) else (found,)


def _strange_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2, is_unknown: bool) -> str:
    """What is in a TIFF that cannot be read; "" where nothing strange is seen. `is_unknown`: Pillow knows no such."""
    bands, compression = tags.get(277, 1), tags.get(259, 1)
    bits, kind = (max(_many(tags, number), default=1) for number in (258, 339))
    if is_unknown and bands not in (1, 3, 4):
        return f"has {bands} bands; an image of 1, 3 or 4 is needed: save three of them as RGB"
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"is compressed by a method (number {compression}) that Pillow does not know; save it as PNG"
    if is_unknown:
        of = f"{bands} bands of " if bands > 1 else ""
        return (
            f"has {of}{bits}-bit {_NUMBERS.get(kind, 'values of another type')} in a layout that Pillow cannot read; "
            "save it as a PNG of 8 or 16 bits"
        )
    return ""
