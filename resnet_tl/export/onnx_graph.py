"""A network as an ONNX graph from 8-bit pixels to probabilities, in one piece with its weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

import torch

from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import KEY, NAMES, Facts

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The first with an antialiased Resize."""
MAX_BYTES = 2_000_000_000
"""Of a file: protobuf's limit is 2 GiB. Weights in further files would be left behind when it is copied."""


def tensor_graph(deployed: Deployed) -> ModelProto:
    """`pixels` (N, size, size, C) uint8 -> `probabilities` (N, classes), and `features` where they are asked for.

    N is dynamic. The same network gives the same bytes.

    Raises:
        UserError: the network is too large for one file, or does something that ONNX cannot express.
    """
    held = sum(tensor.numel() * tensor.element_size() for tensor in deployed.state_dict().values())
    if held > MAX_BYTES:
        raise UserError(
            f"The weights have {held / 1e9:.1f} GB, but an ONNX file holds at most 2; train a smaller network."
        )
    pixels = torch.zeros((2, *deployed.input_shape), dtype=torch.uint8)  # of 1, the exporter would keep 1 for good
    name = deployed.network.name
    try:
        with quiet():
            program = torch.onnx.export(
                deployed,
                (pixels,),
                dynamo=True,
                input_names=[NAMES["tensor"]],
                output_names=list(deployed.output_names),
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # of any kind: the network may be anyone's
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"The network '{name}' cannot be exported to ONNX: {reason_of(error.__cause__ or first)}."  # type: ignore[arg-type]
        ) from error
    assert program is not None
    return _without_traces(program.model_proto)


def with_facts(model: ModelProto, facts: Facts) -> ModelProto:
    """The same model with what it says of itself in its metadata."""
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=facts.to_json())
    model.producer_name, model.producer_version = facts.made_by.split(" ", 1)
    return model


def _without_traces(model: ModelProto) -> ModelProto:
    """Without where in which file of this machine each node came from."""
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    for output in model.graph.output:
        del output.metadata_props[:]
    del model.graph.metadata_props[:]
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch, onnxscript and onnxruntime print of their own work."""
    names = ("root", "torch", "torch.export", "torch.onnx", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)  # an error is raised as well
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
