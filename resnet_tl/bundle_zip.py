"""A model bundle as one zip, which is read in place: nothing is unpacked.

Only the names in `FILES` are ever looked for, whatever else a zip holds makes it no bundle, and what comes of one is
bounded before it is read. What is written is the same byte for byte for the same bundle: fixed times and permissions,
one order, and nothing compressed, since the last bits of trained weights are as good as random.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from resnet_tl.data.reading.archive import entries_of, in_one_sentence, opened_zip
from resnet_tl.errors import UserError, listed
from resnet_tl.files import replacing

NEEDED = ("model.json", "weights.safetensors")
FILES = (*NEEDED, "validation.safetensors", "reference.safetensors", "README.md")
"""All that a bundle may hold, in the order in which they are written; the last one is its model card."""
EXPORTED = (".onnx", ".pt2", ".xml")
ALLOWANCE, MAX_RATIO = 100_000_000, 20
"""Bytes that a zip may become whatever its size, and for each byte of it; weights hardly get smaller by compression."""
_SIGNATURE = b"PK\x03\x04"


def is_bundle_zip(path: str | Path) -> bool:
    """Whether a file is a zip with a model in it, at its top or in its only folder, by the names in it alone."""
    path = Path(path)
    try:
        if not path.is_file():  # to open a pipe would wait, and take from it
            return False
        with path.open("rb") as file:
            if file.read(4) != _SIGNATURE:
                return False
        with opened_zip(path) as opened:
            names = {PurePosixPath(name) for name in opened.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False
    places = [name.parent for name in names if name.name == NEEDED[0] and len(name.parts) <= 2]
    return any(place / NEEDED[1] in names for place in places)


def check_no_other_file(path: Path) -> None:
    """UserError for a file that is no model to go on with: an exported one, or a zip that is damaged."""
    if not path.is_file():
        return
    if path.suffix.lower() in EXPORTED:
        raise UserError(
            f"{path} is an exported file: give the run or the model bundle that it was made of. The program beside it "
            "predicts with it; an .onnx can be served by: resnet-tl serve"
        )
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise UserError(f"{path} is a damaged zip; copy it again.")


def members(path: Path) -> dict[str, int]:
    """Size of each file of the bundle in a zip, by its name; UserError for a zip that is no bundle and nothing else."""
    with in_one_sentence(path.name), opened_zip(path) as opened:
        return {name: entry.file_size for name, entry in _members(opened, path).items()}


def read_member(path: Path, name: str) -> bytes:
    """One file of the bundle in a zip; UserError where there is none, or the zip is damaged or no bundle."""
    with in_one_sentence(path.name), opened_zip(path) as opened:
        found = _members(opened, path)
        if name not in found:
            raise UserError(f"{path} has no {name}.")
        return opened.read(found[name])


def write_bundle_zip(files: Mapping[str, bytes], path: str | Path) -> None:
    """Writes the files of a bundle, by their names in `FILES`, as one zip, which is read back before it is kept."""
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as written:
            for name in FILES:
                if name in files:
                    entry = zipfile.ZipInfo(name)  # whose time is the first that a zip can hold
                    entry.create_system, entry.external_attr = 3, 0o100644 << 16
                    written.writestr(entry, files[name])
        if any(read_member(temporary, name) != content for name, content in files.items()):
            raise UserError(f"{path} was written, but reads back as something else: the disk may be failing.")


def _members(opened: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by the names of the bundle's files, all found to be harmless."""
    files = entries_of(opened, path.name)
    folders = {place.parent for place in files}
    prefix = folders.pop() if len(folders) == 1 else PurePosixPath()
    found = {str(place.relative_to(prefix)): entry for place, entry in files.items()}
    if odd := [name for name in found if name not in FILES]:
        raise UserError(
            f"{path} holds {listed(odd, 3)}, which is no part of a model bundle; write the bundle alone, with: "
            "resnet-tl export RUN --to zip -o model.zip"
        )
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in found.values()):
        # Of other methods `zipfile` unpacks whatever comes, and looks at the size that was promised only then.
        raise UserError(f"{path} is compressed by another method than deflate; unpack it yourself and name the folder.")
    declared = sum(entry.file_size for entry in found.values())
    if declared > ALLOWANCE + MAX_RATIO * path.stat().st_size:
        raise UserError(f"{path} unpacks to more than {MAX_RATIO} times its size, as no model does, and was refused.")
    return found
