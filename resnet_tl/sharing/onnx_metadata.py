"""What an ONNX file says of itself, read without onnx or a runtime, and without its graph.

An ONNX file is one Protocol Buffers message, `ModelProto` (onnx.proto): fields follow each other, each with its number
and, for texts and messages, its length. Its metadata are the fields 14, messages of a key (1) and a value (2); all
others, the network's numbers above all, are passed over by their lengths.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import IO

from resnet_tl.errors import UserError

METADATA = 14
KEY, VALUE = 1, 2
MAX_BYTES = 64_000_000
"""Of all entries; as much as a bundle's model.json may have."""
_VARINT, _EIGHT, _COUNTED, _FOUR = 0, 1, 2, 5
"""How the value of a field is written."""


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file by their keys; UserError where it is no such file, or damaged."""
    try:
        with path.open("rb") as file:
            found: dict[str, str] = {}
            for _, entry in _counted_fields(file, path.stat().st_size, {METADATA}):
                pair = dict(_counted_fields(BytesIO(entry), len(entry), {KEY, VALUE}))
                found[pair.get(KEY, b"").decode()] = pair.get(VALUE, b"").decode()
            return found
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is no sound ONNX file: {reason}.") from None


def _counted_fields(file: IO[bytes], size: int, wanted: set[int]) -> list[tuple[int, bytes]]:
    """Number and content of the texts and messages `wanted` in a message of `size` bytes; ValueError if damaged."""
    found, held = [], 0
    while file.tell() < size:
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("it has a field without a number")
        if kind == _VARINT:
            _varint(file)
            continue
        if kind not in (_EIGHT, _COUNTED, _FOUR):
            raise ValueError(f"it has a field of kind {kind}")
        length = _varint(file) if kind == _COUNTED else {_EIGHT: 8, _FOUR: 4}[kind]
        if file.tell() + length > size:
            raise ValueError("it ends too early")
        if kind == _COUNTED and number in wanted:
            held += length
            if held > MAX_BYTES:
                raise ValueError(f"its metadata have more than {MAX_BYTES / 1e6:.0f} MB")
            found.append((number, file.read(length)))
        else:
            file.seek(length, 1)
    return found


def _varint(file: IO[bytes]) -> int:
    """A whole number in groups of 7 bits, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("it has a number of more than 64 bits")
