"""Functions that ONNX has no operation for (or only since a recent opset), as model-local functions of domain `quantizeml`.

    Swish(x) = x * Sigmoid(x)     HardSwish(x) = x * max(0, min(1, x / 6 + 1 / 2))     Gelu(x) = x * (1 + erf(x / sqrt(2))) / 2
    Mish(x) = x * Tanh(Softplus(x))     FastGelu(x) = x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2     Clamp(x, low, high) = Clip(x, low, high)
    Tokens(x, pads, table) = Pad(Reshape(x; N, C, 1, H W), pads) + table
    Attention(q, k, v, heads, scale, whole) = softmax(q k^T scale) v, head by head; heads [0, h, C / h, -1], whole [0, C, 1, -1]
    Product(x, y) = y x, TurnedProduct(x, y) = y^T x of x (N, K, 1, T) and y (N, S, 1, K) or (N, K, 1, S), without the axis of size 1
    MaskedAttention(q, k, v, heads, scale, whole, mask) = softmax(q k^T scale + mask) v

A sanitized model that holds one of them stays a valid model that runs anywhere.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

DOMAIN = "quantizeml"
VERSION = 1

ACTIVATIONS = ("Abs", "Celu", "Clip", "Elu", "Erf", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu", "Sigmoid", "Softplus",
               "Softsign", "Swish", "Tanh")
"""Operations on each element of one tensor alone, standard ones and those below: how it is laid out does not matter to them."""


def define_functions(model: ir.Model) -> None:
    """Adds to a model the definitions of the functions its nodes call."""
    for name in dict.fromkeys(n.op_type for n in model.graph if n.domain == DOMAIN and n.op_type in BODIES):
        if (DOMAIN, name, "") not in model.functions:
            model.functions[DOMAIN, name, ""] = _function(name, model.opset_imports[""])


def _function(name: str, opset: int) -> ir.Function:
    body = BODIES[name]
    inputs = [ir.Value(name=n) for n in inspect.signature(body).parameters]
    nodes = body(*inputs)
    nodes[-1].outputs[0].name = "y"
    graph = ir.Graph(inputs, [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": opset}, name=name)
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


def _mish(x: ir.Value) -> list[ir.Node]:
    plus = ir.node("Softplus", [x])
    gate = ir.node("Tanh", plus.outputs)
    return [plus, gate, ir.node("Mul", [x, gate.outputs[0]])]


def _fast_gelu(x: ir.Value) -> list[ir.Node]:
    three, cubic, root, one, half = (_number(v) for v in (3.0, 0.044715, math.sqrt(2.0 / math.pi), 1.0, 0.5))
    cube = ir.node("Pow", [x, three.outputs[0]])
    small = ir.node("Mul", [cube.outputs[0], cubic.outputs[0]])
    total = ir.node("Add", [x, small.outputs[0]])
    scaled = ir.node("Mul", [total.outputs[0], root.outputs[0]])
    tanh = ir.node("Tanh", scaled.outputs)
    gate = ir.node("Add", [tanh.outputs[0], one.outputs[0]])
    product = ir.node("Mul", [x, gate.outputs[0]])
    return [three, cubic, root, one, half, cube, small, total, scaled, tanh, gate, product, ir.node("Mul", [product.outputs[0], half.outputs[0]])]


def _clamp(x: ir.Value, low: ir.Value, high: ir.Value) -> list[ir.Node]:
    return [ir.node("Clip", [x, low, high])]


def _tokens(x: ir.Value, pads: ir.Value, table: ir.Value) -> list[ir.Node]:
    shape = ir.node("Constant", [], {"value": ir.tensor(np.array([0, 0, 1, -1]))})
    row = ir.node("Reshape", [x, shape.outputs[0]])
    padded = ir.node("Pad", [row.outputs[0], pads])
    return [shape, row, padded, ir.node("Add", [padded.outputs[0], table])]


def _attention(q: ir.Value, k: ir.Value, v: ir.Value, heads: ir.Value, scale: ir.Value, whole: ir.Value) -> list[ir.Node]:
    return _attended(q, k, v, heads, scale, whole, None)


def _masked(q: ir.Value, k: ir.Value, v: ir.Value, heads: ir.Value, scale: ir.Value, whole: ir.Value, mask: ir.Value) -> list[ir.Node]:
    return _attended(q, k, v, heads, scale, whole, mask)


def _attended(q: ir.Value, k: ir.Value, v: ir.Value, heads: ir.Value, scale: ir.Value, whole: ir.Value, mask: ir.Value | None) -> list[ir.Node]:
    split = [ir.node("Reshape", [t, heads]) for t in (q, k, v)]
    by_token = [ir.node("Transpose", s.outputs, {"perm": (0, 1, 3, 2)}) for s in (split[0], split[2])]
    scores = ir.node("MatMul", [by_token[0].outputs[0], split[1].outputs[0]])
    scaled = [ir.node("Mul", [scores.outputs[0], scale])]
    scaled += [] if mask is None else [ir.node("Add", [scaled[0].outputs[0], mask])]
    weights = ir.node("Softmax", scaled[-1].outputs, {"axis": -1})
    mean = ir.node("MatMul", [weights.outputs[0], by_token[1].outputs[0]])
    back = ir.node("Transpose", mean.outputs, {"perm": (0, 1, 3, 2)})
    return [*split, *by_token, scores, *scaled, weights, mean, back, ir.node("Reshape", [back.outputs[0], whole])]


def _product(x: ir.Value, other: ir.Value) -> list[ir.Node]:
    return _multiplied(x, other, ())


def _turned_product(x: ir.Value, other: ir.Value) -> list[ir.Node]:
    return _multiplied(x, other, (0, 2, 1))


def _multiplied(x: ir.Value, other: ir.Value, perm: tuple[int, ...]) -> list[ir.Node]:
    axis = ir.node("Constant", [], {"value": ir.tensor(np.array([2]))})
    rows = [ir.node("Squeeze", [v, axis.outputs[0]]) for v in (x, other)]
    turned = ir.node("Transpose", rows[1].outputs, {"perm": perm}) if perm else rows[1]
    sums = ir.node("MatMul", [turned.outputs[0], rows[0].outputs[0]])
    return [axis, *rows, *([turned] if perm else []), sums, ir.node("Unsqueeze", [sums.outputs[0], axis.outputs[0]])]


BODIES: Mapping[str, Callable[..., list[ir.Node]]] = {
    "Swish": _swish, "HardSwish": _hard_swish, "Gelu": _gelu, "Mish": _mish, "FastGelu": _fast_gelu, "Clamp": _clamp, "Tokens": _tokens, "Attention": _attention, "MaskedAttention": _masked,
    "Product": _product, "TurnedProduct": _turned_product,
}
