"""Classifies images with an exported model; needs only onnxruntime, numpy and pillow."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
facts = json.loads(session.get_modelmeta().custom_metadata_map["resnet_tl"])
planned = facts["preprocessing"]


def decoded(path: str) -> np.ndarray:
    """The upright pixels of an image file, (H, W, C) uint8, decoded as in training."""
    image: Image.Image = Image.open(path)
    image.draft(image.mode, (3 * planned["storage_size"],) * 2)  # a large JPEG is decoded at a fraction of its size
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # more than 8 bits
        low, high = planned["value_range"] or (0, 65535)
        values = (np.asarray(image, np.float64) - low) * (255 / (high - low))
        image = Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[planned["channels"]]
    if image.has_transparency_data and mode != "RGBA":  # which is laid on white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert(mode)).reshape(image.height, image.width, -1)


def middle(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image."""
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each channel by itself, since Pillow would weigh colours by their opacity."""
    how = Image.Resampling[planned["interpolation"].upper()]
    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(channel.resize((width, height), how)) for channel in channels], axis=2)


def prepared(pixels: np.ndarray) -> np.ndarray:
    """What the network sees of an image, (size, size, C) uint8."""
    side, crop, size = planned["storage_size"], planned["crop_size"], planned["size"]
    if planned["resize_rule"] == "squash":
        stored = resized(pixels, side, side)
    else:
        short = min(pixels.shape[:2])
        pixels = middle(pixels, min(pixels.shape[0], 16 * short), min(pixels.shape[1], 16 * short))
        stored = resized(pixels, side * pixels.shape[0] // short, side * pixels.shape[1] // short)
    return resized(middle(stored, crop, crop), size, size)


for path in sys.argv[1:]:
    probabilities = session.run(["probabilities"], {"pixels": prepared(decoded(path))[None]})[0][0]
    best = probabilities.argsort()[::-1][:3]
    print(path, *(f"{facts['classes'][number]} {probabilities[number]:.1%}" for number in best), sep="\t")
