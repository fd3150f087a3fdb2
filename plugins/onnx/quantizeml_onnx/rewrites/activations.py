"""Activation functions spelled with elementary operations, recognised by what they compute, whatever the spelling.

    Swish(x) = x * Sigmoid(x)     Swish(c x) / c = x * Sigmoid(c x)     HardSwish(x) = x * clip(x / 6 + 1/2; 0, 1)     Gelu(x) = x * (1 + erf(x / sqrt(2))) / 2
    Mish(x) = x * tanh(softplus(x))     FastGelu(x) = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2

The group of element-wise operations with scalar constants that ends in a node and reads one tensor is compared with the function that its
marker operation suggests. sqrt(2), its inverse, 1/6, sqrt(2 / pi) and 0.044715 are meant exactly where the file holds their float32 roundings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .functions import DOMAIN
from .graph import dims, is_constant, scalar
from .model import Op, Proposal, Refusal, Rewrite

ANCHORS = ("Mul", "Div")
ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub", "Sigmoid", "HardSigmoid", "Erf", "Clip", "Min", "Max", "Relu", "Pow", "Softplus", "Tanh"})
LARGEST = 9
CUBIC = 0.044715
"""Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2."""


@dataclass(frozen=True)
class Activation:
    """A function, the operation that betrays it, and the real numbers its spelling rounds to float32."""

    name: str
    marker: str
    snap: tuple[float, ...] = ()


TABLE = (
    Activation("Swish", "Sigmoid"),
    Activation("HardSwish", "HardSigmoid", (1 / 6,)),
    Activation("HardSwish", "Clip", (1 / 6,)),
    Activation("Gelu", "Erf", (math.sqrt(2.0), math.sqrt(0.5))),
    Activation("Mish", "Softplus"),
    Activation("FastGelu", "Tanh", (math.sqrt(2.0 / math.pi), CUBIC, CUBIC * math.sqrt(2.0 / math.pi))),
)


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """One node of domain `quantizeml`."""
    found = _group(node)
    if found is None:
        return None
    x, group, activation = found
    if activation.name == "Swish" and (factor := _factor(group)):
        within = Op("Swish", (Op("Mul", (x, np.asarray(factor)), shape=dims(x)),), domain=DOMAIN, shape=dims(x))
        return Proposal(group, Op("Mul", (within, np.asarray(1 / factor))), extent="element")
    return Proposal(group, Op(activation.name, (x,), domain=DOMAIN), extent="element", snap=activation.snap)


def _factor(group: tuple[ir.Node, ...]) -> float | None:
    """The positive number by which a tensor is multiplied in front of its sigmoid, None where it is one or there is none."""
    sigmoid = next(n for n in group if n.op_type == "Sigmoid")
    scaled = sigmoid.inputs[0].producer()
    if len(group) != 3 or scaled not in group or scaled.op_type != "Mul":
        return None
    factor = next((f for v in scaled.inputs if (f := scalar(v)) is not None), 1.0)
    return factor if factor > 0 and factor != 1 else None


def _group(node: ir.Node) -> tuple[ir.Value, tuple[ir.Node, ...], Activation] | None:
    """The tensor read, the nodes in topological order, and the function they may be."""
    group: list[ir.Node] = [node]
    while len(group) <= LARGEST and _scalar_constants(group[-1]):
        free = _free(group)
        ops = {n.op_type for n in group}
        marked = next((a for a in TABLE if a.marker in ops), None)
        if len(free) == 1 and marked:
            return free[0], tuple(_sorted(group)), marked
        following = next((v.producer() for v in free if _inside(v, group)), None)
        if following is None:
            return None
        group.append(following)
    return None


def _free(group: list[ir.Node]) -> list[ir.Value]:
    inner = {v for n in group for v in n.outputs}
    return list(dict.fromkeys(v for n in group for v in n.inputs if v is not None and v not in inner and not is_constant(v)))


def _inside(value: ir.Value, group: list[ir.Node]) -> bool:
    """Whether a value is made by an element-wise operation and read by the group alone."""
    made = value.producer()
    return made is not None and made.op_type in ELEMENTWISE and not made.domain and not value.is_graph_output() \
        and all(n in group for n in value.consumers())


def _scalar_constants(node: ir.Node) -> bool:
    return node.op_type in ELEMENTWISE and not node.domain and all(scalar(v) is not None for v in node.inputs if is_constant(v))


def _sorted(group: list[ir.Node]) -> list[ir.Node]:
    """Producers before consumers."""
    ordered: list[ir.Node] = []

    def visit(node: ir.Node) -> None:
        for before in node.predecessors():
            if before in group and before not in ordered:
                visit(before)
        if node not in ordered:
            ordered.append(node)

    visit(group[0])
    return ordered


REWRITE = Rewrite("recognize_activation", rewrite, ANCHORS)
