"""Tails: accumulators to int8 in operators of plain onnxruntime, exact by proof.

    affine     clip(floor(acc * r + o)), r = M 2^-f, o = bias * r + 0.5, in float32 where `numerics.float32_agrees` proves it for every accumulator
    double     clip(floor(acc * r + 0.5)) in float64, always exact

QuantizeLinear would be shorter, but onnxruntime's optimiser takes it, with a DequantizeLinear before it, for a pattern of its own and fuses both into
kernels that round otherwise. No tail uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.numerics import Ints

Reach = tuple[Ints, Ints]
LAST = "[-1]"
"""The shape of a vector of channels where they are the last axis."""


@dataclass(frozen=True)
class Tail:
    """How one block's accumulators are requantized.

    Arguments:
        low, high: the output's range.
        affine: the float32 form is proven; otherwise float64.
        biased: the tail adds the block's bias too (affine only).
        multiplied: the block has a multiplier beside its shift.
    """

    low: int
    high: int
    affine: bool
    biased: bool
    multiplied: bool

    @property
    def key(self) -> str:
        return f"{'a' if self.affine else 'd'}{'b' if self.biased else ''}{self.low}_{self.high}".replace("-", "m")

    def lines(self, source: str, target: str, floating: bool = False, shape: str = "[1, -1, 1, 1]") -> list[str]:
        """ONNX text.

        Arguments:
            source: int32, or float32 whole numbers when `floating`.
            shape: of a vector of channels that goes with the source.
        """
        scale, shift = "Scale" if self.multiplied else "", "Shift"
        lines = []
        if shape == LAST:
            lines = [f"flat = Constant <value_ints = {LAST}> ()", *(f"Flat{name} = Reshape ({name}, flat)" for name in (scale, shift) if name)]
            scale, shift = scale and f"Flat{scale}", f"Flat{shift}"
        ends = self._affine(source, target, floating, shape, scale, shift) if self.affine else double(source, target, self.low, self.high, scale, shift)
        return lines + ends

    def _affine(self, source: str, target: str, floating: bool, shape: str, scale: str, shift: str) -> list[str]:
        ratio = [f"tm = Cast <to = 1> ({scale})", f"tr = Div (tm, {shift})"] if scale else [f"tr = Reciprocal ({shift})"]
        lines = [f"ta = {'Identity' if floating else 'Cast <to = 1>'} ({source})", *ratio, "tl = Constant <value_float = 0.5> ()"]
        if self.biased:
            lines += ["tb = Cast <to = 1> (bias)", f"tw = Constant <value_ints = {shape}> ()", "tc = Reshape (tb, tw)", "td = Mul (tc, tr)", "to = Add (td, tl)"]
        else:
            lines += ["to = Identity (tl)"]
        return [*lines, "tx = Mul (ta, tr)", "ty = Add (tx, to)", *floored("ty", target, self.low, self.high)]


def tail(block: Block, reach: Reach, may_take_bias: bool = False) -> Tail:
    """The fastest proven tail of a block that has a shift.

    Arguments:
        reach: smallest and largest accumulator at the tail, bias included, (F,) each.
        may_take_bias: nothing stands between the bias and the tail.
    """
    low, high = (int(v) for v in block.arrays["range"])
    multiplied = "multiplier" in block.arrays
    multiplier = per_filter(block.arrays.get("multiplier", np.ones(1, np.int64)), reach[0])
    shift = per_filter(block.arrays["shift"], reach[0])
    for biased in (True, False) if may_take_bias and "bias" in block.arrays else (False,):
        bias = per_filter(block.arrays["bias"], reach[0]) if biased else None
        if numerics.float32_agrees(multiplier, shift, low, high, reach, offset(multiplier, shift, bias), bias).all():
            return Tail(low, high, True, biased, multiplied)
    return Tail(low, high, False, False, multiplied)


def offset(multiplier: Ints, shift: Ints, bias: Ints | None, half: float = 0.5) -> np.ndarray:
    """float32(bias) * r + half, every operation in float32 as onnxruntime does it."""
    power = np.exp2(shift.astype(np.float64)).astype(np.float32)
    ratio = multiplier.astype(np.float32) / power
    added = np.full(shift.shape, half, np.float32)
    return added if bias is None else bias.astype(np.float32) * ratio + added


def double(source: str, target: str, low: int, high: int, scale: str, shift: str = "Shift", to: int = 3, p: str = "t") -> list[str]:
    """clip(floor(source * scale / shift + 0.5), low, high) in float64. `to`: ONNX type of the result (3 int8, 6 int32); `p`: prefix of inner names."""
    ratio = f"{p}m = Cast <to = 11> ({scale})" if scale else f"{p}m = Constant <value = double {{1.0}}> ()"
    return [
        f"{p}a = Cast <to = 11> ({source})", ratio, f"{p}s = Cast <to = 11> ({shift})", f"{p}r = Div ({p}m, {p}s)", f"{p}x = Mul ({p}a, {p}r)",
        f"{p}h = Constant <value = double {{0.5}}> ()", f"{p}y = Add ({p}x, {p}h)", f"{p}f = Floor ({p}y)",
        f"{p}lo = Constant <value = double {{{low}}}> ()", f"{p}hi = Constant <value = double {{{high}}}> ()", f"{p}c = Clip ({p}f, {p}lo, {p}hi)",
        f"{target} = Cast <to = {to}> ({p}c)",
    ]


def floored(source: str, target: str, low: int, high: int) -> list[str]:
    """float32 -> int8 by rounding down, clipped to the output's range."""
    limits = [f"lo_ = Constant <value_float = {float(low)}> ()", f"hi_ = Constant <value_float = {float(high)}> ()"]
    return [*limits, f"tf = Floor ({source})", "tz = Clip (tf, lo_, hi_)", f"{target} = Cast <to = 3> (tz)"]


def per_filter(vector: np.ndarray, like: np.ndarray) -> Ints:
    """A vector of one value, or one per filter, as one per filter."""
    return np.broadcast_to(vector.astype(np.int64), like.shape)
