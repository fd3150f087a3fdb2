"""Run the float network in onnxruntime and hand the tensors at block boundaries to observers, batch by batch.

Memory is that of one batch: nothing is kept between batches but what the observers keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime

from quantizeml_core.errors import ModelError
from quantizeml_core.hooks import Batch, Observer


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    """A CPU session that logs errors only."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def observe(model: ir.Model, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
    """Feed every observer its tensor, (N, C, ...) float32.

    Arguments:
        model: the sanitized float graph; it is only read.
        observers: by tensor name.
    """
    tensors = list(observers)
    run = session(_with_outputs(model, tensors))
    for batch in batches:
        try:
            values = run.run(tensors, dict(batch))
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise ModelError(f"onnxruntime cannot run the float network on the samples ({error})", do="Check the samples' shape") from error
        for tensor, value in zip(tensors, values, strict=True):
            observers[tensor].update(np.asarray(value))


def run_float(model: ir.Model, tensors: list[str], feeds: Batch) -> dict[str, np.ndarray]:
    """Some tensors of a float graph."""
    return dict(zip(tensors, session(_with_outputs(model, tensors)).run(tensors, dict(feeds)), strict=True))


def _with_outputs(model: ir.Model, tensors: Iterable[str]) -> bytes:
    """The serialized model with the given tensors as its outputs."""
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(type(proto.graph.input[0])(name=t) for t in tensors)
    return proto.SerializeToString()
