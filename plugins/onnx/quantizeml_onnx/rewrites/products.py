"""The product of two sequences becomes one operation on their images of one row.

    S x @ S y = S Product(x, y)          S x @ Transpose(S y; 0, 2, 1) = S TurnedProduct(x, y)

Scores of an attention are left to it (`attention`).
"""

from __future__ import annotations

import onnx_ir as ir

from .functions import DOMAIN
from .graph import dims, private, producer
from .model import Op, Proposal, Refusal, Rewrite
from .rows import SWAP, as_sequence, perm_of, sequence


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """A MatMul of two computed tensors of three axes."""
    turned = producer(node.inputs[1], "Transpose")
    swapped = perm_of(turned) == SWAP and sequence(node.inputs[1]) is None
    x, y = sequence(node.inputs[0]), sequence(turned.inputs[0] if swapped else node.inputs[1])
    if x is None or y is None or _attends(node):
        return None
    (batch, _, _, length), other = dims(x.image), dims(y.image)
    shape = (batch, other[3 if swapped else 1], 1, length)
    made = Op("TurnedProduct" if swapped else "Product", (x.image, y.image), domain=DOMAIN, shape=shape)
    context = tuple(dict.fromkeys((*x.nodes, *y.nodes, *([turned] if swapped else []))))
    return Proposal((node,), as_sequence(made), context, "true")


def _attends(node: ir.Node) -> bool:
    """Whether a product makes the scores of a softmax that weighs something, or is weighed by one that reads such scores."""
    softmax = producer(node.inputs[0], "Softmax")
    if softmax is not None:
        return _scored(softmax.inputs[0])
    value = node.outputs[0]
    while private(value) and value.consumers()[0].op_type in BETWEEN:
        value = value.consumers()[0].outputs[0]
    return any(n.op_type == "Softmax" and any(m.op_type == "MatMul" for m in n.outputs[0].consumers()) for n in value.consumers())


def _scored(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in BETWEEN:
        node = next((v.producer() for v in node.inputs if v is not None and v.producer() is not None), None)
    return node is not None and node.op_type == "MatMul"


BETWEEN = ("Mul", "Div", "Add", "Where")
REWRITE = Rewrite("product_of_sequences", rewrite, ("MatMul",))
