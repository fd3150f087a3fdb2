"""How much wider than its samples a channel's range is: the maximum of few samples is exceeded by the next one.

A channel of maximum a is given the range h max(a, phi A), A the widest channel's maximum. phi of `FLOORS` and h of `HEADROOMS` are the two with the least
expected error

    mean over channels of   p 2 d^2 exp(-g / d)  +  (h max(a, phi A))^2 / (12 qmax^2),    d = a - b,    g = h max(b, phi A) - b

b is the largest maximum without the sample that holds a: each channel's largest sample is judged as if it had not been seen, and goes beyond b by an
amount that falls off exponentially, as the tails of most distributions do (Pickands, Statistical Inference Using Extreme Order Statistics, 1975), with the
mean that was seen. It is one of n, and `OUTLIERS` of its pixels reach that far: p = min(1, OUTLIERS / pixels) / n.
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
    a, b = seen.absmax / widest, seen.second / widest
    share = min(1.0, OUTLIERS / seen.pixels) / seen.samples
    beyond = np.maximum(a - b, ALIKE)
    factors = np.array(HEADROOMS)[:, None]

    def risks(floor: float) -> Floats:
        tail = 2 * np.square(beyond) * np.exp((b - factors * np.maximum(b, floor)) / beyond)
        step = factors * np.maximum(a, floor) / qmax
        return (share * tail + np.square(step) / 12).mean(axis=1)

    risk = np.stack([risks(floor) for floor in FLOORS])
    floor, headroom = np.unravel_index(risk.argmin(), risk.shape)
    return Margin(FLOORS[floor], HEADROOMS[headroom])
