"""An addition as a depthwise QLinearConv: the operands lie one above the other, and the kernel (2, 1) of each channel, dilated by their height, holds their factors.

    y = sat((x x_shift + y y_shift + 2^(k-1)) >> k)

A sum times 2^-k is exact in float32, and QLinearConv rounds it to the nearest, ties to even. Two things make that law 2: the ratio is lifted by one unit in its last place, so
that positive ties go up and nothing else changes, and 128 * 2^k is added where sums may be negative, so that every result that does not saturate is positive. It takes a
twelfth of the time of the same steps as float operations.
"""

from __future__ import annotations

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

from .body import Body, unsigned

LARGEST = 64
"""The largest power of two that is an int8 weight."""
SHIFTS = 8
"""The largest shift for which 128 * 2^k and every sum are far from float32's 24 bits."""


def fits(block: Block) -> bool:
    """Whether the factors are weights, nothing bounds the sum but its range, and the shift goes to the right."""
    arrays = block.arrays
    if "shift" not in arrays or "bound" in arrays:
        return False
    factors = max(int(arrays[name].max()) for name in ("x_shift", "y_shift"))
    return factors <= LARGEST and 0 <= int(arrays["shift"].min()) and int(arrays["shift"].max()) <= SHIFTS


def uniform(block: Block) -> tuple[int, int, int] | None:
    """The factors and the shift that all channels have; None where they differ."""
    found = [np.unique(block.arrays[name]) for name in ("x_shift", "y_shift", "shift")] if "shift" in block.arrays else []
    return (int(found[0][0]), int(found[1][0]), int(found[2][0])) if found and all(len(values) == 1 for values in found) else None


def plain(block: Block) -> bool:
    """Whether operands and sum share their step, channel by channel."""
    return uniform(block) == (1, 1, 0)


def rows(program: Program, block: Block) -> int:
    """Height of the operands where they are images of a known one; else 0, and they are laid out as two rows first."""
    shape = program.shapes[block.output]
    return int(shape[2] or 0) if len(shape) == 4 else 0


def paired(program: Program, block: Block) -> Body:
    """The body on int8 operands."""
    channels, height = program.shapes[block.output][1], rows(program, block)
    low, high = (int(v) for v in block.arrays["range"])
    low = low if block.activation is None else 0
    signed = any(program.input_range(block, i)[0] < 0 for i in (0, 1))
    lines = [
        *unsigned("X", "u", signed), *unsigned("Y", "v", signed), *_as_rows(channels, height), "pair = Concat <axis = 2> (a, b)", "column = Constant <value_ints = [-1, 1, 1, 1]> ()", f"each = Constant <value_ints = [{channels}, 1, 1, 1]> ()",
        *(line for x in "xy" for line in (f"{x}i = Cast <to = 3> ({x.upper()}s)", f"{x}c = Reshape ({x}i, column)", f"{x}w = Expand ({x}c, each)")),
        "w = Concat <axis = 2> (xw, yw)", "flat = Constant <value_ints = [-1]> ()", "one_power = Reshape (Shift, flat)",
        f"filters = Constant <value_ints = [{channels}]> ()", "power = Expand (one_power, filters)", "unit = Reciprocal (power)",
        f"lift = Constant <value_float = {float(numerics.LIFT)!r}> ()", "ratio = Mul (unit, lift)", "one = Constant <value_float = 1.0> ()",
        f"xz = Constant <value = uint8 {{{128 if signed else 0}}}> ()", "wz = Constant <value = int8 {0}> ()", "yz = Constant <value = uint8 {0}> ()",
        *_raised(low), f"q = QLinearConv <kernel_shape = [2, 1], dilations = [{height or 1}, 1], group = {channels}> (pair, one, xz, w, ratio, wz, one, yz{', raised' if low < 0 else ''})",
        *_lowered(low, high), *(["Z = Identity (z)"] if height else ["size = Shape (X)", "Z = Reshape (z, size)"]),
    ]
    return Body(f"paired{channels}h{height}{'s' if signed else 'u'}r{low}_{high}".replace("-", "m"), tuple(lines))


def _as_rows(channels: int | None, height: int) -> list[str]:
    if height:
        return ["a = Identity (u)", "b = Identity (v)"]
    return [f"rows = Constant <value_ints = [0, {channels}, 1, -1]> ()", "a = Reshape (u, rows)", "b = Reshape (v, rows)"]


def _raised(low: int) -> list[str]:
    """What lifts every sum that does not saturate above zero."""
    return ["whole = Cast <to = 6> (power)", "middle = Constant <value = int32 {128}> ()", "raised = Mul (whole, middle)"] if low < 0 else []


def _lowered(low: int, high: int) -> list[str]:
    """uint8 results, 128 too high where they are signed, clipped to the output's range as int8."""
    if (low, high) == (-128, 127):
        return ["down = Constant <value = uint8 {128}> ()", "c = Sub (q, down)", "z = Cast <to = 3> (c)"]
    offset = 128 if low < 0 else 0
    limits = [f"lo = Constant <value = uint8 {{{low + offset}}}> ()", f"hi = Constant <value = uint8 {{{high + offset}}}> ()", "c = Clip (q, lo, hi)"]
    moved = ["down = Constant <value = uint8 {128}> ()", "m = Sub (c, down)", "z = Cast <to = 3> (m)"] if offset else ["z = Cast <to = 3> (c)"]
    return limits + moved
