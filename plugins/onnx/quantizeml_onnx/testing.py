"""The parity kit on ONNX: the integers of every block boundary in plain onnxruntime, and the verdict on a model, for `quantizeml_core.testing`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from quantizeml_core.api import quantize_model
from quantizeml_core.match import stop_message
from quantizeml_core.testing import Feeds, Verdict
from quantizeml_core.testing import judge as judged

from . import contract, states
from .normalize import prepare
from .observe import run_float, session


def boundaries(model: onnx.ModelProto, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """Integers by tensor name of the program: an integer tensor `<name>/int` behind a graph output is returned as `<name>`.
    States that are not fed are those before the first frame."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    dequantizer = next(n for n in model.graph.node if n.op_type.startswith("Dequantizer") and n.domain == contract.CONVERTIBLE)
    renamed = dict(zip(dequantizer.input[::2], dequantizer.output, strict=True))
    tensors = [n.output[0] for n in model.graph.node if n.domain in (contract.CONVERTIBLE, contract.OWN) and not n.op_type.startswith("Dequantizer")]
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors)
    start = states.initial(model, len(next(iter(feeds.values()))))
    values = session(exposed.SerializeToString()).run(tensors, {**start, **feeds})
    return {renamed.get(t, t): v for t, v in zip(tensors, values, strict=True)}


def judge(model: onnx.ModelProto, samples: np.ndarray, target: str = "generic", count: int = 8) -> Verdict:
    """Quantize a model of one input to 8 bits, compare integers in onnxruntime, and every block with the float network.

    Arguments:
        samples: float32 (N, ...); all calibrate, `count` are compared.
    """
    result = quantize_model(model, samples=samples, target=target)
    feeds = {model.graph.input[0].name: np.asarray(samples[:count], np.float32)}
    original = prepare(model)
    written = {v.name for node in original.graph for v in node.outputs}
    tensors = [b.output for b in result.program.blocks if b.output in written]
    floats = run_float(original, tensors, feeds)
    return judged(result.program, feeds, lambda given: boundaries(result.model, given), floats, tuple(map(stop_message, result.blueprint.stops)))
