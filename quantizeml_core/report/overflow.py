"""The overflow proof of each block: can its accumulator ever leave its width?

    worst     bits that hold every sum, proven from the integer weights, the bias and the range of the input integers
    observed  bits that held every sum on some samples
    margin    budget - worst: never negative in a network that is free of overflow
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import numerics
from ..blocks import ENTRIES, LINEAR
from ..kernels import IN_ORDER, accumulator, finish
from ..program import Program
from ..target import Target
from .inspect import accumulator_bits, accumulator_budget

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Accumulator:
    """Widths in bits of the accumulator of one block; `observed` is None when no sample was run."""

    block: str
    worst: int
    observed: int | None
    budget: int

    @property
    def margin(self) -> int:
        return self.budget - self.worst

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "margin": self.margin}


def accumulators(program: Program, target: Target, feeds: Mapping[str, np.ndarray] | None = None) -> tuple[Accumulator, ...]:
    """One record for each block with weights, in the order of the program.

    Arguments:
        feeds: float samples by the name of what the entries read, in the native layout.
    """
    seen = {} if feeds is None else observed_bits(program, feeds)
    return tuple(Accumulator(b.name, accumulator_bits(program, b), seen.get(b.name), accumulator_budget(program, b, target))
                 for b in program.blocks if b.kind in LINEAR)


def observed_bits(program: Program, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Bits that hold every accumulator of the samples, by block. Rows are frames in order where the program has a memory."""
    values: dict[str, np.ndarray] = dict(feeds)
    bits: dict[str, int] = {}
    for block in program.blocks:
        inputs = [values[t] if block.kind in ENTRIES else values[t].astype(np.int64) for t in block.inputs]
        if block.kind in LINEAR:
            sums = accumulator(block, *inputs)
            bits[block.name] = numerics.signed_bits(sums.min(), sums.max())
            values[block.output] = finish(block, sums).astype(program.formats[block.output].dtype)
        else:
            values[block.output] = IN_ORDER[block.kind](block, *inputs).astype(program.formats[block.output].dtype)
    return bits


def table(proofs: tuple[Accumulator, ...]) -> Table:
    """For a terminal, the narrowest margin first."""
    from rich.table import Table
    view = Table("block", "worst case", "observed", "accumulator", "margin", box=None, pad_edge=False, title="accumulator bits", title_justify="left")
    for proof in sorted(proofs, key=lambda p: p.margin):
        view.add_row(proof.block, str(proof.worst), "-" if proof.observed is None else str(proof.observed), str(proof.budget), str(proof.margin))
    return view
