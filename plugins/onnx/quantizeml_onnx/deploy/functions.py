"""Functions of bytes: DequantizeLinear, the function in float32, QuantizeLinear where that is proven to be the table, else GatherElements in the table itself.

It is proven where no entry is near a tie (`quantizeml_core.clearance`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from quantizeml_core import lookup
from quantizeml_core.blocks import Activation, Block
from quantizeml_core.tables import ALPHA

from .graph import Graph

MICROSOFT = "com.microsoft"
Nodes = Callable[[Graph, Activation, str], str]


def _clip(g: Graph, activation: Activation, x: str) -> str:
    return g.node("Clip", x, *(g.constant(f"{x}/end", np.float32(end)) for end in (activation.alpha, activation.bound)))


NODES: Mapping[str, Nodes] = {
    "abs": lambda g, a, x: g.node("Abs", x),
    "clip": _clip,
    "elu": lambda g, a, x: g.node("Elu", x, alpha=a.alpha),
    "gelu": lambda g, a, x: g.node("Gelu", x, domain=MICROSOFT),
    "gelu_tanh": lambda g, a, x: g.node("FastGelu", x, domain=MICROSOFT),
    "hard_sigmoid": lambda g, a, x: g.node("HardSigmoid", x, alpha=ALPHA if a.alpha is None else a.alpha, beta=0.5),
    "hard_swish": lambda g, a, x: g.node("HardSwish", x),
    "leaky_relu": lambda g, a, x: g.node("LeakyRelu", x, alpha=a.alpha),
    "sigmoid": lambda g, a, x: g.node("Sigmoid", x),
    "softsign": lambda g, a, x: g.node("Softsign", x),
    "swish": lambda g, a, x: g.node("QuickGelu", x, domain=MICROSOFT, alpha=1.0),
    "tanh": lambda g, a, x: g.node("Tanh", x),
}
"""Without those that take onnxruntime longer than a table: Celu, Mish, Selu and Softplus."""


def form(g: Graph, block: Block) -> bool:
    """The byte form of a lookup; there always is one."""
    table = _of_bytes(g, block)
    (_in_floats if _fits(g, block, table) else _gathered)(g, block, table)
    return True


def _of_bytes(g: Graph, block: Block) -> np.ndarray:
    """The byte that each byte becomes, (C or 1, 256); those that the input does not have become the last that is known."""
    positions = np.clip(np.arange(256) - g.zeros[block.inputs[0]] + lookup.HALF, 0, 255)
    return (block.arrays["entries"][:, positions].astype(np.int64) + g.zeros[block.output]).astype(np.uint8)


def _fits(g: Graph, block: Block, table: np.ndarray) -> bool:
    """Whether the function in float32 is proven to give the table."""
    activation, (source, target) = block.activation, (g.program.formats[t] for t in (block.inputs[0], block.output))
    if activation is None or activation.name not in NODES or "zeros" not in block.arrays or len(table) > 1:
        return False
    step, unit = float(source.step[0]), float(target.step[0])
    function = lookup.Function(activation, *(-block.arrays["zeros"] * 2.0**-lookup.FRACTION * (step, unit)))
    if not all(0 <= byte <= 255 for byte, _ in _zeros(g, block)) or not lookup.is_clear(function, step, unit):
        return False
    raised, (low, high) = g.zeros[block.output], g.program.input_range(block)
    found = lookup.entries(function, source.step[:1], target.step[:1], -raised, 255 - raised) + raised
    integers = np.arange(low, high + 1)
    return bool(np.array_equal(found[0, integers + lookup.HALF], table[0, integers + g.zeros[block.inputs[0]]]))


def _zeros(g: Graph, block: Block) -> list[tuple[int, float]]:
    """Before and behind the function, the byte of zero and how many real units are left of it."""
    whole, rest = np.divmod(block.arrays["zeros"], 2**lookup.FRACTION)
    tensors = (block.inputs[0], block.output)
    return [(int(w) + g.zeros[t], float(r * 2.0**-lookup.FRACTION * g.program.formats[t].step[0])) for w, r, t in zip(whole, rest, tensors, strict=True)]


def _in_floats(g: Graph, block: Block, _: np.ndarray) -> None:
    """Zeros between two integers are reached by additions."""
    assert block.activation is not None
    (x, y), (before, behind) = (block.inputs[0], block.output), _zeros(g, block)
    scales = (g.constant(f"{t}/scale", np.float32(g.program.formats[t].step[0])) for t in (x, y))
    real = g.node("DequantizeLinear", g.names[x], next(scales), g.scalar(before[0], np.uint8))
    result = _moved(g, NODES[block.activation.name](g, block.activation, _moved(g, real, -before[1])), behind[1])
    g.node("QuantizeLinear", result, next(scales), g.scalar(behind[0], np.uint8), output=g.names[y])


def _moved(g: Graph, x: str, by: float) -> str:
    return g.node("Add", x, g.constant(f"{x}/by", np.float32(by))) if by else x


def _gathered(g: Graph, block: Block, table: np.ndarray) -> None:
    """The entries of the channels lie one behind the other."""
    x = block.inputs[0]
    index = g.node("Cast", g.names[x], to=onnx.TensorProto.INT32)
    if len(table) > 1:
        first = (256 * np.arange(len(table), dtype=np.int32)).reshape(-1, *(1,) * (len(g.program.shapes[x]) - 2))
        index = g.node("Add", index, g.constant(f"{block.name}/first", first))
    found = g.node("GatherElements", g.constant(f"{block.name}/entries", table.ravel()), g.node("Reshape", index, g.ints((-1,))))
    g.node("Reshape", found, g.node("Shape", index), output=g.names[block.output])
