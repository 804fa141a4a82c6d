"""What a server answers about images: its shape, for OpenAPI, and how it is made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.queue import Answer


class Share(BaseModel):
    """A class and its probability."""

    name: str = Field(alias="class")
    probability: float


class Prediction(BaseModel):
    """What the model says of one image."""

    name: str = Field(description="The file name that was sent.")
    predicted: str = Field(description="The most probable class.")
    probability: float = Field(description="Its calibrated probability.")
    top: list[Share] = Field(description="The most probable classes, the first one first.")
    familiarity: float | None = Field(description="Share of validation images that look no more familiar, or null.")
    looks_like_nothing_known: bool | None = Field(description="Whether the familiarity is under the model's limit.")
    not_sure: bool | None = Field(
        description="Whether the probability is below the one from which answers are sure; null where none is known."
    )


class NoPrediction(BaseModel):
    """An image among several that cannot be used."""

    name: str
    error: str = Field(description="Why, in one sentence.")


class Model(BaseModel):
    """Which model has answered."""

    name: str
    network: str
    digest: str = Field(description="SHA-256 of its weights.")


class Predictions(BaseModel):
    """The answer to a request, one entry for each image, in order."""

    model: Model
    predictions: list[Prediction | NoPrediction]


class Failure(BaseModel):
    """The answer to a request that was refused."""

    error: str = Field(description="Why, in one sentence.")


_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "array", "items": _IMAGE["schema"]}}}}
BODY = {"requestBody": {"required": True, "content": {"image/*": _IMAGE, "multipart/form-data": _FORM}}}
"""What OpenAPI says of a body with images."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The body is empty or not well-formed."},
    401: {"model": Failure, "description": "The token is missing or wrong."},
    408: {"model": Failure, "description": "The body did not arrive in time."},
    413: {"model": Failure, "description": "A size or number is above its limit."},
    415: {"model": Failure, "description": "The content type is not one of an image or a form."},
    422: {"model": Failure, "description": "The one image cannot be used, or `top` is no number."},
    503: {"model": Failure, "description": "The server is busy; `Retry-After` says when to try again."},
    504: {"model": Failure, "description": "The answer was not there in time."},
}


def entry(engine: Engine, name: str, answer: Answer | BadImage, top: int) -> dict[str, Any]:
    """What is said of one image: a `Prediction`, or a `NoPrediction`."""
    if isinstance(answer, BadImage):
        return {"name": name, "error": str(answer)}
    best = np.argsort(-answer.shares, kind="stable")[:top].tolist()
    shares = [{"class": engine.classes[place], "probability": float(answer.shares[place])} for place in best]
    familiarity = None if math.isnan(answer.familiarity) else answer.familiarity
    is_strange = None
    if familiarity is not None and engine.strange_up_to is not None:
        is_strange = familiarity <= engine.strange_up_to
    probability = shares[0]["probability"]
    return {
        "name": name,
        "predicted": shares[0]["class"],
        "probability": probability,
        "top": shares,
        "familiarity": familiarity,
        "looks_like_nothing_known": is_strange,
        "not_sure": None if engine.is_sure_from is None else probability < engine.is_sure_from,
    }
