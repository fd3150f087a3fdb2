"""Run a quantized ONNX model in plain onnxruntime and return the integers of every block boundary, for `quantizeml_core.testing`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from quantizeml_core.testing import Feeds

from . import contract
from .observe import session


def boundaries(model: onnx.ModelProto, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """Integers by tensor name of the program: an integer tensor `<name>/int` behind a graph output is returned as `<name>`."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    dequantizer = next(n for n in model.graph.node if n.op_type.startswith("Dequantizer") and n.domain == contract.CONVERTIBLE)
    renamed = dict(zip(dequantizer.input[::2], dequantizer.output, strict=True))
    tensors = [n.output[0] for n in model.graph.node if n.domain in (contract.CONVERTIBLE, contract.OWN) and not n.op_type.startswith("Dequantizer")]
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors)
    values = session(exposed.SerializeToString()).run(tensors, dict(feeds))
    return {renamed.get(t, t): v for t, v in zip(tensors, values, strict=True)}
