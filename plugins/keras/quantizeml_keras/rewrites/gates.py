"""Activations that were spelled out.

    Affine(1, 3) -> ReLU(6) -> Affine(1/6, 0)      the table hard_sigmoid
    Multiply(x, sigmoid(x))                        the table swish
    Multiply(x, hard_sigmoid(x))                   the table hard_swish
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from quantizeml_core.match import Node

from ..graph import Graph, changed
from .driver import Edit, Rewrite

GATED: Mapping[str, str] = {"sigmoid": "swish", "hard_sigmoid": "hard_swish"}


def _hard_sigmoid(graph: Graph, node: Node) -> Edit | str | None:
    relu = graph.only_reader(node.outputs[0])
    sixth = graph.only_reader(relu.outputs[0]) if relu is not None else None
    if not _is_affine(node, 1.0, 3.0) or relu is None or relu.op != "ReLU" or relu.native["bound"] != 6.0 or sixth is None:
        return None
    if not _is_affine(sixth, 1 / 6, 0.0):
        return None
    table = Node(sixth.name, "Table", node.inputs, sixth.outputs, {"function": "hard_sigmoid", "alpha": None, "layer": "hard_sigmoid"})
    return Edit((node, relu, sixth), (table,))


def _is_affine(node: Node, scale: float, offset: float) -> bool:
    """To the precision in which frameworks write such constants."""
    return node.op == "Affine" and np.allclose(node.native["scale"], scale, rtol=1e-12) and np.allclose(node.native["offset"], offset, rtol=1e-12)


def _gate(graph: Graph, node: Node) -> Edit | str | None:
    gated = graph.only_reader(node.outputs[0])
    if node.op != "Table" or node.native["function"] not in GATED or gated is None or gated.op != "Multiply":
        return None
    if set(gated.inputs) != {node.inputs[0], node.outputs[0]}:
        return None
    table = replace(changed(node, function=GATED[node.native["function"]]), name=gated.name, outputs=gated.outputs)
    return Edit((node, gated), (table,))


GATES = (Rewrite("hard_sigmoid", _hard_sigmoid), Rewrite("gate", _gate))
