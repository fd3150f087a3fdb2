"""What is observed while the float network runs: per-channel extremes, the second largest sample and means, in constant memory, independent of batch size and order."""

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
        second: (C,) the largest |x| without the sample that holds the largest one.
        deviation: (C,) the standard deviation, zeros when it was not observed.
        samples, pixels: how many samples were seen, and the pixels of each; 0 when they were not counted.
    """

    low: np.ndarray
    high: np.ndarray
    integer: bool = False
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    second: np.ndarray = field(default_factory=lambda: np.zeros(1))
    samples: int = 0
    pixels: int = 0
    deviation: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @property
    def absmax(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))


def side_by_side(ranges: Sequence[Range]) -> Range:
    """The range of tensors of the same pixels, one after the other along their channels."""
    low, high, mean, second = (np.concatenate([getattr(r, name) for r in ranges]) for name in ("low", "high", "mean", "second"))
    return Range(low, high, False, mean, second, ranges[0].samples, ranges[0].pixels)


class RangeObserver:
    """Accumulates extremes and means of the arrays (N, C, ...) it is given."""

    def __init__(self, track_integers: bool = False, track_squares: bool = False) -> None:
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._two: np.ndarray | None = None
        self._sum: Floats = np.zeros(1)
        self._squares: Floats | None = np.zeros(1) if track_squares else None
        self._samples = self._pixels = 0
        self._integer = track_integers

    def update(self, x: np.ndarray) -> None:
        """Merge one batch (N, C, ...)."""
        pixels = tuple(range(2, x.ndim))
        lows, highs = x.min(axis=pixels), x.max(axis=pixels)
        low, high = lows.min(axis=0), highs.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._two = two_largest(np.maximum(np.abs(lows), np.abs(highs)), self._two)
        self._sum = self._sum + channel_sum(x)
        if self._squares is not None:
            self._squares = self._squares + channel_sum(np.square(x))
        self._samples, self._pixels = self._samples + len(x), x[0, 0].size
        self._integer = self._integer and bool(np.array_equal(x, np.rint(x)))

    @property
    def seen(self) -> Range:
        assert self._low is not None and self._high is not None and self._two is not None, "no batch was observed"
        seen = self._samples * self._pixels
        mean = numerics.round_significant(self._sum / seen, MEAN_BITS)
        ends = (self._low.astype(np.float64), self._high.astype(np.float64))
        deviation = np.zeros(1) if self._squares is None else numerics.round_significant(np.sqrt(np.maximum(self._squares / seen - np.square(self._sum / seen), 0.0)), MEAN_BITS)
        return Range(*ends, self._integer, mean, self._two[0].astype(np.float64), self._samples, self._pixels, deviation)


class Several:
    """Hands what it gets to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def update(self, x: np.ndarray) -> None:
        for observer in self.observers:
            observer.update(x)


def two_largest(rows: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Per column the second largest and the largest, (2, C), of rows (N, C) >= 0 and of an earlier result; zero stands for what is not there."""
    earlier = np.zeros((2, rows.shape[1]), rows.dtype) if before is None else before
    return np.partition(np.concatenate([earlier, rows]), -2, axis=0)[-2:]


def channel_sum(x: np.ndarray) -> Floats:
    """Sum over all axes but 1, in float64: rows first, in the array's own order."""
    rows = x.reshape(x.shape[0], x.shape[1], -1)
    return rows.sum(axis=2, dtype=np.float64).sum(axis=0)
