"""The user's own transform of a training image, made a pure function of (seed, view, row)."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import random
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch

from resnet_tl.data.draws import image_seed
from resnet_tl.errors import UserError
from resnet_tl.user_code import made, object_at, split

SETTING = "data.transform"


class UserTransform:
    """Calls a transform with a stored image (C, h, w) uint8, from which it makes another one of any size.

    Before each image the global generators of torch, numpy and random are seeded, which is not safe beside other
    threads that draw: it belongs into a worker process.

    It is a callable, or in the words of a recipe `module.Name` or `{class_path, init_args}`: of a class, of a function
    that makes the transform, or of a function that is the transform.

    Raises:
        UserError: there is no such thing, or it cannot be called.
    """

    def __init__(self, transform: str | dict[str, Any] | Callable[[torch.Tensor], torch.Tensor], seed: int) -> None:
        self.spec = split(transform, SETTING) if isinstance(transform, str | dict) else None
        self.seed = seed
        self.transform: Any = transform
        if self.spec:
            self.transform = _function_of(*self.spec) or made(transform, SETTING)  # type: ignore[arg-type]
        self.name = self.spec[0] if self.spec else getattr(transform, "__name__", type(transform).__name__)
        if not callable(self.transform) or inspect.isclass(self.transform):
            raise UserError(f"{SETTING} is {self.transform!r}; it must be something that is called with an image.")

    def facts(self) -> tuple[Any, ...] | None:
        """Name, arguments and version, all plain values; None where they do not say all that the transform does."""
        if self.spec is None:
            return None
        package = self.spec[0].partition(".")[0]
        try:
            number: str | None = version(package)
        except PackageNotFoundError:  # the user's own file, or a package with another name than its module
            number = getattr(sys.modules[package], "__version__", None)
        try:
            json.dumps(self.spec[1])
        except TypeError:  # an object among them
            return None
        return (*self.spec, number) if number else None

    def check_start(self) -> None:
        """Raises UserError where worker processes are started so that the transform cannot be sent to them."""
        if multiprocessing.get_context().get_start_method() == "fork":
            return
        try:
            sent = bytes(ForkingPickler.dumps(self.transform))
        except Exception as error:  # of any kind: the code may be anyone's
            raise UserError(
                f"{SETTING}: {self.name} cannot be sent to the worker processes ({error}); give a function or class of "
                "a module instead, by its name."
            ) from error
        if b"__main__" in sent and not hasattr(sys.modules["__main__"], "__file__"):
            raise UserError(
                f"{SETTING}: {self.name} is defined in a notebook's cell, where the worker processes cannot find it; "
                "write it into a file beside the notebook (%%writefile my_transforms.py), and import it from there."
            )

    def __call__(self, image: torch.Tensor, view: int, row: int) -> torch.Tensor:
        """The transformed image (C, H, W) uint8 of a row; a UserError where it fails or gives another thing."""
        seed = image_seed(self.seed, view, row)
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 -- what others draw from
        random.seed(seed)
        try:  # a copy, since what is kept on disk cannot be written to
            made = self.transform(image.clone(memory_format=torch.contiguous_format))
        except Exception as error:  # of any kind: the code may be anyone's
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{SETTING}: {self.name} fails: {type(error).__name__}: {reason}.") from error
        if not _is_image(made, len(image)):
            facts = f" {tuple(made.shape)} {made.dtype}" if hasattr(made, "shape") else ""
            raise UserError(
                f"{SETTING}: {self.name} gave {type(made).__name__}{facts}; it must give a tensor "
                f"({len(image)}, height, width) torch.uint8 on the CPU."
            )
        return made.as_subclass(torch.Tensor)


def _function_of(path: str, arguments: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The function of this name where it needs an image beside these arguments; None for what makes a transform."""
    function = object_at(path, SETTING)
    if not inspect.isfunction(function):
        return None
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError:
        return partial(function, **arguments)
    return None


def _is_image(value: Any, channels: int) -> bool:
    is_bytes = isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.device.type == "cpu"
    return is_bytes and value.ndim == 3 and len(value) == channels and value.numel() > 0
