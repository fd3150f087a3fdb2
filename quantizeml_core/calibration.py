"""Ranges observed while the float network runs: constant memory, independent of batch size and order.

One `RangeObserver` per block boundary keeps per-channel minimum and maximum (exactly mergeable) and, at a model input, whether every sample was an
integer and how far it is from its rounding on a lattice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Range:
    """Per-channel extremes of a tensor, channel-first axis 1. `integer`: every value seen was a whole number."""

    low: np.ndarray
    high: np.ndarray
    integer: bool = False

    @property
    def absmax(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))


class RangeObserver:
    """Accumulates per-channel extremes of the arrays (N, C, ...) it is given."""

    def __init__(self, track_integers: bool = False) -> None:
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._integer = track_integers

    def update(self, x: np.ndarray) -> None:
        """Merge one batch (N, C, ...)."""
        axes = (0, *range(2, x.ndim))
        self.merge(x.min(axis=axes), x.max(axis=axes))
        self._integer = self._integer and bool(np.array_equal(x, np.rint(x)))

    def merge(self, low: np.ndarray, high: np.ndarray) -> None:
        """Merge extremes that a native graph has reduced already, (C,) each."""
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)

    @property
    def seen(self) -> Range:
        assert self._low is not None and self._high is not None, "no batch was observed"
        return Range(self._low.astype(np.float64), self._high.astype(np.float64), self._integer)
