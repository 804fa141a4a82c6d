"""Which files are read as images: by their suffix in a folder, by their first bytes when they are opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec

from PIL import AvifImagePlugin, Jpeg2KImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin, features

_READ: list[tuple[str, str, str, bytes]] = [  # name, Pillow's format, suffixes, how a file begins
    ("JPEG", "JPEG", ".jpg .jpeg .jpe .jfif .jfi .jif .mpo", rb"\xff\xd8\xff"),
    ("PNG", "PNG", ".png .apng", rb"\x89PNG"),
    ("WebP", WebPImagePlugin.WebPImageFile.format, ".webp", rb"RIFF....WEBP"),
    ("BMP", "BMP", ".bmp", rb"BM"),
    ("GIF", "GIF", ".gif", rb"GIF8"),
    ("TIFF", TiffImagePlugin.TiffImageFile.format, ".tif .tiff", rb"II[*+]\0|MM\0[*+]"),
    ("PPM", PpmImagePlugin.PpmImageFile.format, ".ppm .pgm .pbm .pnm", rb"P[1-6][\s#]"),
]
if features.check("jpg_2000"):
    _JP2 = rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"
    _READ.append(("JPEG 2000", Jpeg2KImagePlugin.Jpeg2KImageFile.format, ".jp2 .j2k .jpf .jpx", _JP2))
if features.check("avif"):
    _READ.append(("AVIF", AvifImagePlugin.AvifImageFile.format, ".avif", rb"....ftypavi[fs]"))
HEIF_READER = ""
"""The reader of HEIC photos and its version, where the extra `heic` is installed."""
if find_spec("pillow_heif"):
    import pillow_heif

    pillow_heif.register_heif_opener()
    HEIF_READER = f"pillow_heif {pillow_heif.__version__}"
    _READ.append(("HEIC", "HEIF", ".heic .heif .hif", rb"....ftyp(he[a-z]{2}|m[is]f1)"))

FORMATS = tuple(pillow for _, pillow, _, _ in _READ)
"""As Pillow calls them. Files are opened by these names, so that none reaches a rarer, less tested reader."""
FORMAT_NAMES = ", ".join(name for name, *_ in _READ[:-1]) + f" or {_READ[-1][0]}"
SIGNATURES = re.compile(rb"|".join(begins for *_, begins in _READ), re.DOTALL)
IMAGE_SUFFIXES = frozenset(suffix for _, _, suffixes, _ in _READ for suffix in suffixes.split())

_HEIC = frozenset({".heic", ".heif", ".hif"})
_OTHER_IMAGES = (
    ".heic .heif .hif .avif .jp2 .j2k .jpf .jpx .jxl .jxr .tga .psd .psb .svg .eps .ico .icns .pfm .hdr .exr .dds .qoi "
    ".pcx .sgi .xbm .xpm .ras .jng .dcm .dicom .nii .mha .mhd .nrrd .fits .svs .ndpi .czi .lif .raw .dng .cr2 .cr3 "
    ".crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr .npy .npz .mat .h5 .hdf5 .tfrecord .tfrecords "
    ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .3gp"
)
UNREAD_SUFFIXES = frozenset(_OTHER_IMAGES.split()) - IMAGE_SUFFIXES
"""Of files that hold pictures as well, but that are not read: they are counted wherever images are."""


def suffix_of(name: str) -> str:
    """The suffix of a file's name in small letters; by text, for there may be a million of them."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def count_unread(paths: Iterable[str]) -> str:
    """How many files of each kind are not read, with the way out: `12 .heic (…)`."""
    counts = Counter(map(suffix_of, paths))
    ways = []
    if _HEIC & counts.keys():
        ways.append("`pip install pillow-heif` and .heic is read")
    if counts.keys() - _HEIC:
        ways.append(f"convert {'the others' if ways else 'them'} to PNG or JPEG")
    return f"{', '.join(f'{number} {suffix}' for suffix, number in sorted(counts.items()))} ({'; '.join(ways)})"
