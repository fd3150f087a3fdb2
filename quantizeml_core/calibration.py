"""What is observed while the float network runs: per-channel extremes and means, in constant memory, independent of batch size and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import numerics
from .hooks import Observer
from .numerics import Floats

#: Significant bits kept of a mean: the order of summation shows in the last ones of 53 only.
MEAN_BITS = 20


@dataclass(frozen=True)
class Range:
    """Per-channel extremes of a tensor, channel-first axis 1.

    Arguments:
        low, high: (C,).
        integer: every value seen was a whole number.
        mean: (C,), zeros when it was not observed.
    """

    low: np.ndarray
    high: np.ndarray
    integer: bool = False
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @property
    def absmax(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))


class RangeObserver:
    """Accumulates extremes and means of the arrays (N, C, ...) it is given."""

    def __init__(self, track_integers: bool = False) -> None:
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._sum: Floats = np.zeros(1)
        self._count = 0
        self._integer = track_integers

    def update(self, x: np.ndarray) -> None:
        """Merge one batch (N, C, ...)."""
        axes = (0, *range(2, x.ndim))
        low, high = x.min(axis=axes), x.max(axis=axes)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._sum = self._sum + channel_sum(x)
        self._count += x.size // x.shape[1]
        self._integer = self._integer and bool(np.array_equal(x, np.rint(x)))

    @property
    def seen(self) -> Range:
        assert self._low is not None and self._high is not None, "no batch was observed"
        mean = numerics.round_significant(self._sum / self._count, MEAN_BITS)
        return Range(self._low.astype(np.float64), self._high.astype(np.float64), self._integer, mean)


class Several:
    """Hands what it gets to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def update(self, x: np.ndarray) -> None:
        for observer in self.observers:
            observer.update(x)


def channel_sum(x: np.ndarray) -> Floats:
    """Sum over all axes but 1, in float64: rows first, in the array's own order."""
    rows = x.reshape(x.shape[0], x.shape[1], -1)
    return rows.sum(axis=2, dtype=np.float64).sum(axis=0)
