"""Activation functions that ONNX has no operation for (or only since a recent opset), as model-local functions of domain `quantizeml`.

    Swish(x) = x * Sigmoid(x)     HardSwish(x) = x * max(0, min(1, x / 6 + 1 / 2))     Gelu(x) = x * (1 + erf(x / sqrt(2))) / 2

A sanitized model that holds one of them stays a valid model that runs anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

DOMAIN = "quantizeml"
VERSION = 1


def define_functions(model: ir.Model) -> None:
    """Adds to a model the definitions of the functions its nodes call."""
    for name in dict.fromkeys(n.op_type for n in model.graph if n.domain == DOMAIN and n.op_type in BODIES):
        if (DOMAIN, name, "") not in model.functions:
            model.functions[DOMAIN, name, ""] = _function(name, model.opset_imports[""])


def _function(name: str, opset: int) -> ir.Function:
    x = ir.Value(name="x")
    nodes = BODIES[name](x)
    nodes[-1].outputs[0].name = "y"
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": opset}, name=name)
    return ir.Function(DOMAIN, name, graph=graph, attributes=[])


def _number(value: float) -> ir.Node:
    return ir.node("Constant", [], {"value": ir.tensor(np.float32(value))})


def _swish(x: ir.Value) -> list[ir.Node]:
    gate = ir.node("Sigmoid", [x])
    return [gate, ir.node("Mul", [x, gate.outputs[0]])]


def _hard_swish(x: ir.Value) -> list[ir.Node]:
    gate = ir.node("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})
    return [gate, ir.node("Mul", [x, gate.outputs[0]])]


def _gelu(x: ir.Value) -> list[ir.Node]:
    root, one, half = _number(math.sqrt(2.0)), _number(1.0), _number(0.5)
    scaled = ir.node("Div", [x, root.outputs[0]])
    erf = ir.node("Erf", scaled.outputs)
    gate = ir.node("Add", [erf.outputs[0], one.outputs[0]])
    product = ir.node("Mul", [x, gate.outputs[0]])
    return [root, one, half, scaled, erf, gate, product, ir.node("Mul", [product.outputs[0], half.outputs[0]])]


BODIES: Mapping[str, Callable[[ir.Value], list[ir.Node]]] = {"Swish": _swish, "HardSwish": _hard_swish, "Gelu": _gelu}
