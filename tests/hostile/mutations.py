"""Decodes mutated images with little memory and time: `python mutations.py COUNT SEED`, run by test_fuzz_decode.py."""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_tl.data.pixels.decode import BadImage, decode

MEMORY = 3 << 30


def peak_megabytes() -> float:
    """Of this program: Linux's `ru_maxrss` begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seeds() -> list[bytes]:
    """Small real files of every format and of their rarer kinds."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (24, 31, 4), dtype=np.uint8)
    smooth = np.linspace(0, 255, 24 * 31 * 4).astype(np.uint8).reshape(24, 31, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, object]]] = [
        *(("JPEG", mode, {"progressive": True, "exif": exif}) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", "RGB", {"quality": 30, "subsampling": 2, "icc_profile": b"x" * 200}),
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("PNG", "RGB", {"exif": exif, "icc_profile": b"x" * 200}),
        *(("GIF", mode, {"interlace": place}) for place, mode in enumerate(("L", "P"))),
        *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB")),
        *(("TIFF", mode, {"compression": how}) for mode in ("L", "RGB", "CMYK", "I;16", "F")
          for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "RGB", {"compression": "jpeg"}),
        ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("WEBP", "RGB", {"exif": exif, "quality": 10}),
    ]  # fmt: skip
    made = []
    for kind, mode, options in kinds:
        for pixels in (noise, smooth):
            image = Image.fromarray(pixels).convert("RGB" if mode in ("CMYK", "P", "1") else "RGBA")
            image = image.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            made.append(buffer.getvalue())
    made += [deep_png(noise[..., :3], 2), deep_png(noise[..., :2], 4), deep_png(noise, 6)]
    frames = [Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        made.append(buffer.getvalue())
    return made


def deep_png(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits for each colour, which Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def mutate(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    """Bit flips, numbers at the limits, cuts, pieces removed, doubled and moved, and pieces of other files."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        if len(data) < 4:
            break
        # Half of the changes hit the first 120 bytes, where the headers are.
        place = int(generator.integers(0, min(len(data), 120) if generator.random() < 0.5 else len(data)))
        length = int(generator.integers(1, 40))
        way = generator.integers(0, 8)
        if way <= 1:
            data[place] ^= 1 << int(generator.integers(0, 8))
        elif way == 2:
            numbers = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\1\0\0", b"\xff\x7f", b"\x80\0")
            number = numbers[int(generator.integers(0, len(numbers)))]
            data[place : place + len(number)] = number
        elif way == 3:
            del data[place:]
        elif way == 4:
            del data[place : place + length]
        elif way == 5:
            data[place:place] = data[place : place + length] * int(generator.integers(1, 20))
        elif way == 6:
            other = others[int(generator.integers(0, len(others)))]
            start = int(generator.integers(0, len(other)))
            data[place : place + length] = other[start : start + length]
        else:
            data[place : place + length] = generator.bytes(length)
    return bytes(data)


def main(count: int, seed: int) -> None:
    files, generator = seeds(), np.random.default_rng(seed)
    for content in files:
        decode(content)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: Counter[str] = Counter()
    slowest, worst, largest = 0.0, "", 0
    for number in range(count):
        content = mutate(files[number % len(files)], files, generator)
        start = time.perf_counter()
        try:
            value_range = (None, (0.0, 4095.0))[number // 6 % 2]
            pixels = decode(content, (1, 3, 4)[number % 3], (None, 8)[number % 2], value_range)
            assert pixels.dtype == np.uint8
            assert pixels.flags["C_CONTIGUOUS"]
            outcomes["decoded"] += 1
            largest = max(largest, pixels.size)
        except BadImage as error:
            assert "\n" not in str(error), error
            outcomes["refused"] += 1
        except MemoryError:
            outcomes["memory"] += 1
            worst = content.hex()
        except Exception as error:
            outcomes[type(error).__name__] += 1
            worst = content.hex()
        slowest = max(slowest, time.perf_counter() - start)
    peak = peak_megabytes()
    print(json.dumps({**outcomes, "slowest": slowest, "peak_mb": peak, "largest": largest, "worst": worst[:4000]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
