"""Tables of accumulators in function bodies: index, entry and, where the output is a byte, the output's integer at once.

    index  = clip(floor(acc r + o), 0, 2047)       r = M 2^-f of the index, o = bias r + 1024.5
    output = clip(round(LUT[index] m 2^-g))        the table is requantized when the model is loaded, once for each ratio among the channels

The index is in float32 where `numerics.float32_agrees` proves it for every accumulator, else in float64, always exact. GatherElements takes a quarter of Gather's time, and its
threads share rows: a row for each channel, or a few equal ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quantizeml_core import numerics
from quantizeml_core.blocks import Block

from . import tails
from .tails import Reach

HALF = 1024
EQUAL_ROWS = 8
"""Into so many rows, or a divisor, the numbers of a table that all channels share are cut."""


@dataclass(frozen=True)
class Lookup:
    """How one block's table is read.

    Arguments:
        affine: the float32 index is proven; otherwise float64.
        biased: the index adds the block's bias too.
        channels: how many there are.
        raw: entries are wanted, not outputs.
        several: the channels have several ratios.
        low, high: the output's range.
        multiplied: the block has a multiplier beside its shift.
    """

    affine: bool
    biased: bool
    channels: int
    raw: bool
    several: bool
    low: int
    high: int
    multiplied: bool

    @property
    def rows(self) -> int:
        return self.channels if self.several else math.gcd(self.channels, EQUAL_ROWS)

    @property
    def key(self) -> str:
        ends = "" if self.raw else f"{'v' if self.several else 's'}{'m' if self.multiplied else ''}{self.low}_{self.high}".replace("-", "m")
        return f"l{'a' if self.affine else 'd'}{'b' if self.biased else ''}r{self.rows}c{self.channels}{ends}"

    def lines(self, source: str, target: str, floating: bool, size: Sequence[int | None]) -> list[str]:
        """ONNX text: entries as int32, or outputs as int8.

        Arguments:
            source: int32, or float32 whole numbers when `floating`.
            size: height and width, None where they are open; of vectors ().
        """
        perm, space = f"perm = {[1, 0, *range(2, 2 + len(size))]}", [1] * len(size)
        if self.several:
            first, shape, last = f"turned = Transpose <{perm}> (index)", [self.channels, -1, *size], f"{target} = Transpose <{perm}> (placed)"
        else:
            first, shape, last = "turned = Identity (index)", [-1, self.channels, *size], f"{target} = Identity (placed)"
        return [*self._index(source, floating, [1, -1, *space]), *self._entries(), first, f"iw = Constant <value_ints = [{self.rows}, -1]> ()", "iflat = Reshape (turned, iw)",
                "found = GatherElements <axis = 1> (entries, iflat)", "ishape = Shape (turned)" if None in size else f"ishape = Constant <value_ints = {shape}> ()", "placed = Reshape (found, ishape)", last]

    def _index(self, source: str, floating: bool, shape: list[int]) -> list[str]:
        """`index`: it begins at nothing rather than at -1024, so that a Cast rounds it down."""
        to, kind = (1, "float") if self.affine else (11, "double")
        lines = [f"ia = {'Identity' if floating and self.affine else f'Cast <to = {to}>'} ({source})", f"im = Cast <to = {to}> (ActScale)", f"is = Cast <to = {to}> (ActShift)",
                 "ir = Div (im, is)", "ix = Mul (ia, ir)", f"ih = Constant <value = {kind} {{{HALF}.5}}> ()"]
        if self.biased:
            lines += [f"ib = Cast <to = {to}> (bias)", f"ic = Constant <value_ints = {shape}> ()", "ie = Reshape (ib, ic)", "it = Mul (ie, ir)", "io = Add (it, ih)"]
        return [*lines, f"iy = Add (ix, {'io' if self.biased else 'ih'})", f"ilo = Constant <value = {kind} {{0.0}}> ()", f"ihi = Constant <value = {kind} {{{2 * HALF - 1}.0}}> ()",
                "inside = Clip (iy, ilo, ihi)", "index = Cast <to = 6> (inside)"]

    def _entries(self) -> list[str]:
        """`entries`: the table, or what the block gives for it, (rows, 2048), its halves in the index's order."""
        lines = ["levels = Identity (LUT_values)"] if self.raw else self._outputs()
        return [*lines, "e0 = Constant <value_ints = [0]> ()", f"e1 = Constant <value_ints = [{HALF}]> ()", f"e2 = Constant <value_ints = [{2 * HALF}]> ()",
                "ea = Constant <value_ints = [-1]> ()", "ineg = Slice (levels, e1, e2, ea)", "ipos = Slice (levels, e0, e1, ea)", "ordered = Concat <axis = -1> (ineg, ipos)",
                f"er = Constant <value_ints = [{self.rows}, {2 * HALF}]> ()", "entries = Expand (ordered, er)"]

    def _outputs(self) -> list[str]:
        """`levels`: the outputs, a row for each ratio."""
        names = ["Scale", "Shift"] if self.multiplied else ["Shift"]
        lines = ["lcolumn = Constant <value_ints = [-1, 1]> ()", "l0 = Constant <value_ints = [0]> ()", f"l1 = Constant <value_ints = [{self.channels if self.several else 1}]> ()"]
        for name in names:
            lines += [f"All{name} = Reshape ({name}, lcolumn)", f"Row{name} = Slice (All{name}, l0, l1)"]
        return [*lines, *tails.double("LUT_values", "levels", self.low, self.high, "RowScale" if self.multiplied else "", "RowShift", p="l")]


def lookup(block: Block, reach: Reach, biased: bool, raw: bool) -> Lookup:
    """The fastest proven way to read a block's table.

    Arguments:
        reach: smallest and largest accumulator, bias included, (F,) each.
        biased: the bias is added here.
        raw: entries are wanted, not outputs.
    """
    m, f = (tails.per_filter(block.arrays[name], reach[0]) for name in ("table_multiplier", "table_shift"))
    bias = tails.per_filter(block.arrays["bias"], reach[0]) if biased else None
    affine = numerics.float32_agrees(m, f, -HALF, HALF - 1, reach, tails.offset(m, f, bias, HALF + 0.5), bias, HALF).all()
    low, high = (0, 0) if raw else (int(v) for v in block.arrays["range"])
    ratios = [block.arrays[name].ravel() for name in ("multiplier", "shift") if name in block.arrays and not raw]
    return Lookup(bool(affine), biased, len(reach[0]), raw, any((v != v[0]).any() for v in ratios), low, high, "multiplier" in block.arrays)
