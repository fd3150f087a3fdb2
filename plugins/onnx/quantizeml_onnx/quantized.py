"""What stands in a quantized ONNX model: its quantized nodes, the Dequantizers between integers and floats, and the value of any tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from quantizeml_core.blocks import ENTRIES
from quantizeml_core.hooks import Batch

from . import contract, states
from .large import apart
from .observe import session

DEQUANTIZER = "Dequantizer"
BLOCKS = tuple(contract.BASES.values())


def is_block(node: onnx.NodeProto) -> bool:
    """Whether a node of a quantized graph is a block of its program, and no function of the float part."""
    return node.domain in (contract.CONVERTIBLE, contract.OWN) and node.op_type.startswith(BLOCKS)


def quantized_nodes(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """One node for each block of the program, in its order; none in a float model."""
    own = [n for n in model.graph.node if is_block(n)]
    return tuple(own) if any(n.op_type in {contract.BASES[kind] for kind in ENTRIES} for n in own) else ()


def dequantizers(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    return tuple(n for n in model.graph.node if n.domain == contract.CONVERTIBLE and n.op_type.startswith(DEQUANTIZER))


def dequantized(model: onnx.ModelProto) -> dict[str, str]:
    """By integer tensor, the float one that a Dequantizer makes of it: the name of the program's tensor."""
    return {integer: real for node in dequantizers(model) for integer, real in zip(node.input[::2], node.output, strict=True)}


def resumed(model: onnx.ModelProto) -> tuple[str, ...]:
    """The float tensors inside the model at which quantization goes on."""
    return tuple(n.input[0] for n in quantized_nodes(model) if n.op_type == contract.BASES["resume"])


def tensors(model: onnx.ModelProto, names: Sequence[str], feeds: Batch) -> dict[str, np.ndarray]:
    """The value of some tensors in onnxruntime. States that are not fed are those before the first frame."""
    exposed, large = apart(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in names)
    start = states.initial(model, len(next(iter(feeds.values()))))
    values = session(exposed.SerializeToString(), large).run(list(names), {**start, **feeds})
    return dict(zip(names, values, strict=True))
