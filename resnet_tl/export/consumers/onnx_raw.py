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


for path in sys.argv[1:]:
    probabilities = session.run(["probabilities"], {"images": decoded(path)[None]})[0][0]
    best = probabilities.argsort()[::-1][:3]
    print(path, *(f"{facts['classes'][number]} {probabilities[number]:.1%}" for number in best), sep="\t")
