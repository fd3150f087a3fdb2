"""What follows the sum of a block: table or ReLU, bound, global sum, requantization. `quantizeml_core.kernels` is the specification.

A ReLU and its bound pass through the requantization, which is monotone: they become the ends of the output range, at no cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.numerics import FLOAT32_EXACT

from ..backend import minimum
from ..quantize_ops import Requantization, lookup, requantization, requantize
from .learned import LearnedStep

Tensor = Any


class Tail:
    """The tail of one block.

    Arguments:
        reach: the largest |accumulator| that can come in.
        extent: (H, W) of the accumulator, for a global sum.
    """

    def __init__(self, block: Block, reach: int, extent: tuple[int, ...] = ()) -> None:
        self.block, self.reach, self.extent = block, reach, extent
        self.gap = block.pool is not None and block.pool.kind == "gap"
        self.relu = block.activation is not None and "table" not in block.arrays
        self.index = self._index() if "table" in block.arrays else None
        if self.index:
            self.table, self.slope = _ascending(block.arrays["table"])
        peak = reach if self.index is None else int(np.abs(self.table).max())
        self.law = self._law(peak * int(np.prod(extent)) if self.gap else peak) if "shift" in block.arrays else None
        self.peak = peak

    @property
    def dtype(self) -> str:
        """Of the output: float32, but for raw accumulators that need more."""
        widest = self.peak * int(np.prod(self.extent)) if self.gap else self.peak
        return "float32" if self.law is not None or widest < FLOAT32_EXACT else "float64"

    def _index(self) -> Requantization:
        arrays = self.block.arrays
        half = len(arrays["table"]) // 2
        return requantization(arrays["table_multiplier"], arrays["table_shift"], -half, np.array([half - 1]), self.reach)

    def _law(self, reach: int) -> Requantization:
        arrays = self.block.arrays
        multiplier, shift = arrays.get("multiplier", np.ones(1, np.int64)), arrays["shift"]
        low, high = (int(end) for end in arrays["range"])
        ends = np.array([high])
        if self.relu and not self.gap:
            low = max(low, 0)
            ends = numerics.requantize(arrays["bound"], multiplier, shift, low, high) if "bound" in arrays else ends
        return requantization(multiplier, shift, low, ends, reach)

    def __call__(self, acc: Tensor, learned: LearnedStep | None = None) -> Tensor:
        if self.index is not None:
            acc = lookup(acc, self.index, self.table, self.slope)
        if self.gap or self.law is None:
            acc = self._sum(self._clipped(acc))
        if learned is not None and self.law is not None:
            return learned.requantize(acc, self.law)
        return acc if self.law is None else requantize(acc, self.law)

    def _clipped(self, acc: Tensor) -> Tensor:
        acc = ops.relu(acc) if self.relu else acc
        return minimum(acc, ops.cast(self.block.arrays["bound"], acc.dtype)) if "bound" in self.block.arrays else acc

    def _sum(self, acc: Tensor) -> Tensor:
        """Sums over W first: they may still fit float32 when the whole image does not."""
        if not self.gap:
            return acc
        height, width = self.extent
        for axis, reach in ((2, self.peak * width), (1, self.peak * width * height)):
            acc = ops.cast(acc, "float64") if reach >= FLOAT32_EXACT else acc
            acc = ops.sum(acc, axis=axis, keepdims=True)
        return acc


def _ascending(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries from the most negative index to the largest, and the slope there."""
    half = len(table) // 2
    entries = np.concatenate([table[half:], table[:half]]).astype(np.float32)
    return entries, np.gradient(entries).astype(np.float32)
