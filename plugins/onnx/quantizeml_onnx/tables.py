"""Tables of accumulators in function bodies: index, entry and, where the output is a byte, the output's integer at once.

    index  = clip(floor(acc r + o), 0, 2047)       r = M 2^-f of the index, o = bias r + 1024.5
    output = clip(round(LUT[index] m 2^-g))        the table is requantized when the model is loaded, once for each ratio among the channels

The index is in float32 where `numerics.float32_agrees` proves it for every accumulator, else in float64, always exact. One row of numbers is looked up by GatherElements
in a quarter of Gather's time; the rows of several ratios lie one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.numerics import Ints

from . import tails
from .tails import Reach

HALF = 1024


@dataclass(frozen=True)
class Lookup:
    """How one block's table is read.

    Arguments:
        affine: the float32 index is proven; otherwise float64.
        biased: the index adds the block's bias too.
        rows: how many tables of outputs there are, one for all channels or one for each; 0 where entries are wanted.
        low, high: the output's range.
        multiplied: the block has a multiplier beside its shift.
    """

    affine: bool
    biased: bool
    rows: int
    low: int
    high: int
    multiplied: bool

    @property
    def key(self) -> str:
        ends = f"r{self.rows}_{self.low}_{self.high}{'' if self.multiplied else 's'}".replace("-", "m") if self.rows else ""
        return f"l{'a' if self.affine else 'd'}{'b' if self.biased else ''}{ends}"

    def lines(self, source: str, target: str, floating: bool, rank: int = 4) -> list[str]:
        """ONNX text: entries as int32, or outputs as int8.

        Arguments:
            source: int32, or float32 whole numbers when `floating`.
        """
        shape = f"[1, -1{', 1' * (rank - 2)}]"
        to, kind = (1, "float") if self.affine else (11, "double")
        lines = [f"ia = {'Identity' if floating and self.affine else f'Cast <to = {to}>'} ({source})", f"im = Cast <to = {to}> (ActScale)", f"is = Cast <to = {to}> (ActShift)",
                 "ir = Div (im, is)", "ix = Mul (ia, ir)", f"ih = Constant <value = {kind} {{{HALF}.5}}> ()"]
        if self.biased:
            lines += [f"ib = Cast <to = {to}> (bias)", f"iw = Constant <value_ints = {shape}> ()", "ibw = Reshape (ib, iw)", "it = Mul (ibw, ir)", "io = Add (it, ih)"]
        return [*lines, f"iy = Add (ix, {'io' if self.biased else 'ih'})", f"ilo = Constant <value = {kind} {{0.0}}> ()", f"ihi = Constant <value = {kind} {{{2 * HALF - 1}.0}}> ()",
                "ic = Clip (iy, ilo, ihi)", "id = Cast <to = 6> (ic)", *self._placed(shape), *self._entries(), "irow = Constant <value_ints = [-1]> ()",
                "irows = Reshape (entries, irow)", "iflat = Reshape (index, irow)", "found = GatherElements (irows, iflat)", "ishape = Shape (index)",
                f"{target} = Reshape (found, ishape)"]

    def _placed(self, shape: str) -> list[str]:
        """`index`, of a channel in its own row."""
        if self.rows <= 1:
            return ["index = Identity (id)"]
        return ["j0 = Constant <value_int = 0> ()", "j1 = Constant <value_int = 1> ()", f"jn = Constant <value_int = {self.rows}> ()", "jr = Range (j0, jn, j1)",
                f"jw = Constant <value_int = {2 * HALF}> ()", "jp = Mul (jr, jw)", "jf = Cast <to = 6> (jp)", f"js = Constant <value_ints = {shape}> ()",
                "jb = Reshape (jf, js)", "index = Add (id, jb)"]

    def _entries(self) -> list[str]:
        """`entries`: the table, or what the block gives for it, a row for each ratio. Its halves change places: the index begins at nothing, so that a Cast rounds it down."""
        return [*(self._outputs() if self.rows else ["levels = Identity (LUT_values)"]),
                "e0 = Constant <value_ints = [0]> ()", f"e1 = Constant <value_ints = [{HALF}]> ()", f"e2 = Constant <value_ints = [{2 * HALF}]> ()",
                "ea = Constant <value_ints = [-1]> ()", "ineg = Slice (levels, e1, e2, ea)", "ipos = Slice (levels, e0, e1, ea)", "entries = Concat <axis = -1> (ineg, ipos)"]

    def _outputs(self) -> list[str]:
        """`levels`: the outputs, (rows, 2048)."""
        names = ["Scale", "Shift"] if self.multiplied else ["Shift"]
        lines = ["lcolumn = Constant <value_ints = [-1, 1]> ()", "l0 = Constant <value_ints = [0]> ()", f"l1 = Constant <value_ints = [{self.rows}]> ()"]
        for name in names:
            lines += [f"All{name} = Reshape ({name}, lcolumn)", f"Row{name} = Slice (All{name}, l0, l1)"]
        return [*lines, *tails.double("LUT_values", "levels", self.low, self.high, "RowScale" if self.multiplied else "", "RowShift", p="l")]


def lookup(block: Block, reach: Reach, biased: bool, wide: bool) -> Lookup:
    """The fastest proven way to read a block's table.

    Arguments:
        reach: smallest and largest accumulator, bias included, (F,) each.
        biased: the bias is added here.
        wide: entries are wanted, not outputs.
    """
    m, f = (tails.per_filter(block.arrays[name], reach[0]) for name in ("table_multiplier", "table_shift"))
    bias = tails.per_filter(block.arrays["bias"], reach[0]) if biased else None
    rows = 0 if wide else _rows(block)
    affine = numerics.float32_agrees(m, f, -HALF, HALF - 1, reach, tails.offset(m, f, bias, HALF + 0.5), bias, HALF).all()
    low, high = (0, 0) if wide else (int(v) for v in block.arrays["range"])
    return Lookup(bool(affine), biased, rows, low, high, "multiplier" in block.arrays)


def _rows(block: Block) -> int:
    """One where all channels share their ratio."""
    given: list[Ints] = [block.arrays[name].ravel() for name in ("multiplier", "shift") if name in block.arrays]
    return 1 if all((v == v[0]).all() for v in given) else max(map(len, given))
