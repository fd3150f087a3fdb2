"""An activation after Add, for hardware whose addition has none: an identity convolution between them takes the activation in.

    Relu(a + b) = Relu(Conv(a + b, I))        I: 1x1 kernel, (C, C, 1, 1)

Only for targets without capability `add.activation`; 4-D tensors only.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import dims, is_constant, producer
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import unpadded


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The activation on an identity convolution."""
    x = node.inputs[0]
    add, shape = producer(x, "Add"), dims(x)
    if add is None or any(is_constant(v) for v in add.inputs):
        return None
    if shape is None or len(shape) != 4 or shape[1] is None:
        return Refusal("it follows an addition that is not 4-D or has an unknown number of channels")
    weight = np.eye(shape[1], dtype=np.float32).reshape(shape[1], shape[1], 1, 1)
    identity = Op("Conv", (x, weight), unpadded(), name=f"{node.name}/identity", shape=shape)
    return Proposal((node,), Op(node.op_type, (identity, *node.inputs[1:])))


REWRITE = Rewrite("identity_convolution", rewrite, ("Relu", "Clip"))
