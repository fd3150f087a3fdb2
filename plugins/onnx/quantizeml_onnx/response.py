"""`quantizeml_core.local_response` in float64, where each of its steps is exact; the squares are summed by a product with a band of ones in float32.

All is computed on the channels of rows of pixels, (N, 1, C, H W): onnxruntime moves its transposes, to channels last and back, over anything but a Reshape, and a transpose
of bytes takes an eighth of the time of one of float64.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.local_response import BASE, FRACTION, LEVELS, sides, thresholds
from quantizeml_core.numerics import FLOAT32_EXACT, Ints
from quantizeml_core.program import Program

WIDEST = FLOAT32_EXACT // 2**16 - 1
"""Channels whose squares a float32 can sum exactly."""


def lines(program: Program, block: Block) -> tuple[list[str], tuple[Ints, Ints], str]:
    """ONNX text up to the accumulator `sum`, its reach, and the key of this body."""
    channels, levels = int(program.shapes[block.inputs[0]][1] or 0), _levels(program, block)
    before, behind = sides(block.window)
    reach = np.full(channels, _furthest(program, block) << FRACTION, np.int64)
    text = [
        "size = Shape (X)", f"rs = Constant <value_ints = [0, 1, {channels}, -1]> ()", "row = Reshape (X, rs)", *_moved(block), "xx = Mul (x0, x0)",
        f"ws = Constant <value_ints = [{channels}, {channels}]> ()", "ones = ConstantOfShape <value = float[1] {1.0}> (ws)",
        f"first = Constant <value_int = {-before}> ()", f"final = Constant <value_int = {behind}> ()", "upper = Trilu (ones, first)",
        "band = Trilu <upper = 0> (upper, final)", "s0 = MatMul (band, xx)", "s = Cast <to = 11> (s0)",
        "m = Cast <to = 11> (SquareScale)", "f = Cast <to = 11> (SquareShift)", "ratio = Div (m, f)", "half = Constant <value = double {0.5}> ()",
        "v0 = Mul (s, ratio)", "v1 = Add (v0, half)", "v2 = Floor (v1)", f"base = Constant <value = double {{{2.0**BASE}}}> ()", "v3 = Add (v2, base)",
        *_levelled(levels), f"big = Constant <value = double {{{2.0**44}}}> ()", "q = Div (big, v)", "q0 = Floor (q)", "q1 = Sqrt (q0)", "r = Floor (q1)",
        "four = Constant <value = double {4096.0}> ()", "t0 = Mul (r, four)", "t1 = Sqrt (t0)", "t = Floor (t1)", "x = Cast <to = 11> (x0)",
        "xr = Mul (x, r)", "xrt = Mul (xr, t)", "z0 = Mul (xrt, last)", "z1 = Add (z0, half)", "z = Floor (z1)", "sums = Cast <to = 6> (z)",
        "sum = Reshape (sums, size)",
    ]
    return text, (-reach, reach), f"c{channels}w{block.window}l{levels}{'moved' if 'offset' in block.arrays else ''}"


def _moved(block: Block) -> list[str]:
    """`x0`: the integers as floats, from zero."""
    return ["xs = Cast <to = 1> (row)", "fo = Cast <to = 1> (Offset)", "x0 = Add (xs, fo)"] if "offset" in block.arrays else ["x0 = Cast <to = 1> (row)"]


def _furthest(program: Program, block: Block) -> int:
    offset = int(block.arrays.get("offset", np.zeros(1, np.int64))[0])
    return max(abs(end + offset) for end in program.input_range(block))


def _levels(program: Program, block: Block) -> int:
    """How many values j can have."""
    multiplier, shift = (int(block.arrays[name][0]) for name in ("square_multiplier", "square_shift"))
    most = ((block.window * _furthest(program, block) ** 2 * multiplier) >> shift) + (1 << BASE) + 1
    return 1 + int((thresholds(LEVELS) <= most).sum())


def _levelled(levels: int) -> list[str]:
    """v = floor(V 16^-j), and the last factor, 2^-(13 + 3j)."""
    if levels == 1:
        return ["v = Identity (v3)", f"last = Constant <value = double {{{2.0**-13!r}}}> ()"]
    return [
        _table("limits", thresholds(levels).astype(float).tolist()), _table("parts", [16.0**-j for j in range(levels)]),
        _table("lasts", [2.0 ** -(13 + 3 * j) for j in range(levels)]), "end = Constant <value_ints = [-1]> ()", "wide = Unsqueeze (v3, end)",
        "above = GreaterOrEqual (wide, limits)", "counted = Cast <to = 7> (above)", "j = ReduceSum <keepdims = 0> (counted, end)",
        "part = Gather (parts, j)", "last = Gather (lasts, j)", "v4 = Mul (v3, part)", "v = Floor (v4)",
    ]


def _table(name: str, values: Iterable[float]) -> str:
    numbers = [*map(repr, values)]
    return f"{name} = Constant <value = double[{len(numbers)}] {{{', '.join(numbers)}}}> ()"
