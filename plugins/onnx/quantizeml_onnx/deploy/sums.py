"""A sum of two tensors of bytes: QLinearAdd where all channels have one pair of factors, else a depthwise QLinearConv over both, as in `quantizeml_onnx.addition`.

QLinearAdd has a ratio for each operand and rounds to even. With bytes u, v and w, and the zero point of w chosen to be 0, law 2 wants of

    t = (a u + b v - z) / 2^k           floor(t + 1/2), ends at 0 and 255; z = a zero_u + b zero_v - 2^k zero_w

what is exact in float32, as it has few bits; so is (1 + 2^-12) t, which lies above a tie where t does not come before 0, and beyond no other: t is a multiple of 2^-k. Zero points
p and q of the operands with a p + b q = z make it so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block

from .. import addition
from .graph import Graph

RAISED = 1 + 2.0**-12
SHIFTS, FACTORS = 4, 16
"""The largest shift, and sum of the factors, for which that holds: 255 FACTORS (2^12 + 1) < 2^24, and 256 / 2^12 <= 2^-SHIFTS."""


@dataclass(frozen=True)
class _Sum:
    """Ratios of the operands, their zero points, and that of the result."""

    ratios: tuple[float, float]
    zeros: tuple[int, int]
    zero: int


def form(g: Graph, block: Block) -> bool:
    """Both operands one above the other under a depthwise kernel, where one QLinearAdd does not do."""
    if not addition.fits(block):
        return False
    if found := _of_one_pair(g, block):
        _added(g, block, found)
    else:
        _paired(g, block)
    return True


def _of_one_pair(g: Graph, block: Block) -> _Sum | None:
    """The operands of QLinearAdd. Without a shift nothing is rounded."""
    triple = addition.uniform(block)
    if triple is None:
        return None
    *factors, shift = triple
    zeros, zero = tuple(g.zeros[t] for t in block.inputs), g.zeros[block.output]
    if shift == 0:
        return _Sum((factors[0], factors[1]), (zeros[0], zeros[1]), zero)
    points = _split(factors[0], factors[1], factors[0] * zeros[0] + factors[1] * zeros[1] - zero * 2**shift)
    if points is None or shift > SHIFTS or sum(factors) > FACTORS:
        return None
    return _Sum((factors[0] * RAISED / 2**shift, factors[1] * RAISED / 2**shift), points, 0)


def _split(a: int, b: int, total: int) -> tuple[int, int] | None:
    """Bytes p and q with a p + b q = total."""
    return next(((p, (total - a * p) // b) for p in range(256) if (total - a * p) % b == 0 and 0 <= total - a * p <= 255 * b), None)


def _added(g: Graph, block: Block, found: _Sum) -> None:
    operands = [v for t, r, z in zip(block.inputs, found.ratios, found.zeros, strict=True) for v in (g.names[t], g.scalar(r, np.float32), g.scalar(z, np.uint8))]
    y = g.node("QLinearAdd", *operands, g.scalar(1, np.float32), g.scalar(found.zero, np.uint8), domain="com.microsoft")
    low, high = _ends(g, block)
    clipped(g, block, y, low, high)


def _ends(g: Graph, block: Block) -> tuple[int, int]:
    """The bytes that the result lies between."""
    low, high = (int(v) + g.zeros[block.output] for v in block.arrays["range"])
    return low if block.activation is None else g.zeros[block.output], high


def _paired(g: Graph, block: Block) -> None:
    channels, rows = int(g.program.shapes[block.output][1] or 0), addition.rows(g.program, block)
    low, high = _ends(g, block)
    x, y = (g.names[t] if rows else g.node("Reshape", g.names[t], g.ints((0, channels, 1, -1))) for t in block.inputs)
    factors = np.stack([np.broadcast_to(block.arrays[n], (channels,)) for n in ("x_shift", "y_shift")], axis=1).reshape(channels, 1, 2, 1)
    weight = g.constant(f"{block.name}/weight", factors.astype(np.int8))
    power = np.exp2(np.broadcast_to(block.arrays["shift"], (channels,)).astype(np.float32))
    ratio, one = g.constant(f"{block.name}/ratio", numerics.LIFT / power), g.scalar(1, np.float32)
    raised = g.zeros[block.output]
    bias = [g.constant(f"{block.name}/bias", (raised * power).astype(np.int32))] if raised else []
    sums = g.node("QLinearConv", g.node("Concat", x, y, axis=2), one, g.zero(block.inputs[0]), weight, ratio, g.nil(block.name), one, g.scalar(0, np.uint8), *bias,
                  group=channels, kernel_shape=[2, 1], dilations=[rows or 1, 1])
    if rows:
        clipped(g, block, sums, low, high)
    else:
        kept = g.node("Clip", sums, *(g.scalar(end, np.uint8) for end in (low, high)))
        g.node("Reshape", kept, g.node("Shape", g.names[block.inputs[0]]), output=g.names[block.output])


def clipped(g: Graph, block: Block, y: str, low: int, high: int) -> None:
    """The bytes of a block, between the two that its range ends at."""
    if (low, high) == (0, 255):
        g.node("Identity", y, output=g.names[block.output])
    else:
        g.node("Clip", y, *(g.scalar(end, np.uint8) for end in (low, high)), output=g.names[block.output])
