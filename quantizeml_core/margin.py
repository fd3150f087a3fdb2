"""How much wider than its samples a channel's range is: the maximum of few samples is exceeded by the next one.

A channel of maximum a is given the range h max(a, phi A), A the widest channel's maximum. phi of `FLOORS` and h of `HEADROOMS` are the two with the least
expected logarithm of a sample's error, its decibels:

    (1 - q) log R + q log(R + T / (n q))                 q = 1 - (1 - 1/n)^channels
    R = mean over channels of (h max(a, phi A))^2 / (12 qmax^2)                                     rounding, of every sample
    T = mean over channels of min(1, OUTLIERS / pixels) 2 d^2 exp(-(h max(b, phi A) - b) / d)       clipping, of those that go beyond: d = a - b

b is the largest maximum without the sample that holds a: each channel's largest sample is judged as if it had not been seen, and goes beyond b by an
amount that falls off exponentially, as the tails of most distributions do (Pickands, Statistical Inference Using Extreme Order Statistics, 1975), with the
mean that was seen. It is one of n for each channel, so that a share q of the samples goes beyond in some channel, and `OUTLIERS` of its pixels reach that far.

A channel that comes near the bound of its clipped ReLU ends there (`to_bound`): whole regions of an image reach it together, more than `OUTLIERS` pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .calibration import Range
from .numerics import Floats

FLOORS = tuple(i / 16 for i in range(17))
HEADROOMS = (1.0, 1.125, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
#: Pixels far beyond the range of the other samples in one that exceeds it: 1 to 4.5 on a trained EfficientNet-Lite0.
OUTLIERS = 3
#: A clipped ReLU's bound is near where it is at most this many times the range: what that costs a channel is less than 2 dB.
NEAR = 1.25
#: Samples that reach the same are taken to go beyond each other by this share of the widest channel.
ALIKE = 2.0**-30


class Margin(NamedTuple):
    """phi and h."""

    floor: float = 0.0
    headroom: float = 1.0


def margin(seen: Range, qmax: int) -> Margin:
    """The margin of least expected error; none where samples were not counted.

    Arguments:
        qmax: the largest integer of the tensor.
    """
    widest = float(seen.absmax.max(initial=0.0))
    if not seen.samples or not widest:
        return Margin()
    a, b, n = seen.absmax / widest, seen.second / widest, seen.samples
    exceeded = 1 - (1 - 1 / n) ** a.size
    reach = min(1.0, OUTLIERS / seen.pixels)
    beyond = np.maximum(a - b, ALIKE)
    floors, factors = np.array(FLOORS)[:, None, None], np.array(HEADROOMS)[:, None]
    rounding = np.square(factors * np.maximum(a, floors) / qmax).mean(axis=2) / 12
    clipping = reach * (2 * np.square(beyond) * np.exp((b - factors * np.maximum(b, floors)) / beyond)).mean(axis=2)
    risk = (1 - exceeded) * np.log(rounding) + exceeded * np.log(rounding + clipping / (n * exceeded))
    floor, headroom = np.unravel_index(risk.argmin(), risk.shape)
    return Margin(FLOORS[floor], HEADROOMS[headroom])


def to_bound(high: Floats, extra: Margin, bound: float) -> Floats:
    """What was seen of each channel, (C,), or the bound of a clipped ReLU where that is `NEAR` the channel's range."""
    ranges = extra.headroom * np.maximum(high, extra.floor * high.max(initial=0.0))
    return np.where((ranges * NEAR >= bound) & (high < bound), bound, high)
