"""How much wider than its samples a channel's range is: the maximum of few samples is exceeded by the next one.

A channel of maximum a is given the range h max(a, phi A), A the widest channel's maximum. First phi of `FLOORS`, then h of `HEADROOMS` is the one with
the least expected error

    mean over channels of   p max(a - h max(b, phi A), 0)^2  +  (h max(a, phi A))^2 / (12 qmax^2)

b is the largest maximum without the sample that holds a: each channel's largest sample is judged as if it had not been seen. It is one of n, and
`OUTLIERS` of its pixels reach that far: p = min(1, OUTLIERS / pixels) / n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .calibration import Range

FLOORS = tuple(i / 16 for i in range(17))
HEADROOMS = (1.0, 1.125, 1.25)
#: Pixels far beyond the range of the other samples in one that exceeds it: 1 to 4.5 on a trained EfficientNet-Lite0, more where samples are alike.
OUTLIERS = 6


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

    def risk(floor: float, headroom: float) -> float:
        beyond = np.maximum(a - headroom * np.maximum(b, floor), 0.0)
        step = headroom * np.maximum(a, floor) / qmax
        return float(share * np.mean(beyond**2) + np.mean(step**2) / 12)

    floor = min(FLOORS, key=lambda phi: risk(phi, 1.0))
    return Margin(floor, min(HEADROOMS, key=lambda h: risk(floor, h)))
