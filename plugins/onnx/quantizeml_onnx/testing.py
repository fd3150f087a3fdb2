"""The parity kit on ONNX: the integers of every block boundary in plain onnxruntime, and the verdict on a model, for `quantizeml_core.testing`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from quantizeml_core.api import quantize_model, survey_model
from quantizeml_core.match import stop_message
from quantizeml_core.testing import Feeds, Verdict
from quantizeml_core.testing import judge as judged

from .normalize import prepare
from .observe import run_float
from .quantized import dequantized, quantized_nodes, resumed, tensors


def boundaries(model: onnx.ModelProto, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """By tensor name of the program its integers, and the reals that regions behind float operations read. An integer tensor `<name>/int` behind
    a graph output is returned as `<name>`. States that are not fed are those before the first frame."""
    renamed = dequantized(model)
    wanted = [*(n.output[0] for n in quantized_nodes(model)), *resumed(model)]
    return {renamed.get(t, t): v for t, v in tensors(model, wanted, feeds).items()}


def _floats(graph: ir.Model, tensors: list[str], feeds: Feeds) -> dict[str, np.ndarray]:
    """Those of the tensors that a float graph computes."""
    written = {v.name for node in graph.graph for v in node.outputs}
    found = [t for t in tensors if t in written]
    return run_float(graph, found, feeds) if found else {}


def judge(model: onnx.ModelProto, samples: np.ndarray, target: str = "generic", count: int = 8, islands: bool = False) -> Verdict:
    """Quantize a model of one input to 8 bits, compare integers in onnxruntime, and every block with the float network.

    Arguments:
        samples: float32 (N, ...); all calibrate, `count` are compared.
    """
    result = quantize_model(model, samples=samples, target=target, islands=islands)
    feeds = {model.graph.input[0].name: np.asarray(samples[:count], np.float32)}
    tensors = [b.output for b in result.program.blocks if b.kind != "input"]  # a rescaling of the samples is in the layers behind
    floats = _floats(prepare(model), tensors, feeds)
    floats |= _floats(survey_model(model, target=target).state.sanitized, [t for t in tensors if t not in floats], feeds)
    return judged(result.program, feeds, lambda given: boundaries(result.model, given), floats, tuple(map(stop_message, result.blueprint.stops)))
