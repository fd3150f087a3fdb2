"""How finely the quiet channels of a tensor may be resolved: the maximum of few samples is exceeded by the next one.

A channel of maximum a is given the range max(a, phi A), A the widest channel's maximum. phi is the one of `FLOORS` with the least expected error

    mean over channels of   p max(a - max(b, phi A), 0)^2  +  max(a, phi A)^2 / (12 qmax^2)

b is the largest maximum without the sample that holds a: each channel's largest sample is judged as if it had not been seen. It is one of n, and
`OUTLIERS` of its pixels reach that far: p = min(1, OUTLIERS / pixels) / n.
"""

from __future__ import annotations

import numpy as np

from .calibration import Range

FLOORS = tuple(i / 16 for i in range(17))
#: Pixels that lie far beyond the range of the other samples in one that exceeds it: 1 to 4.5 on the activations of a trained EfficientNet-Lite0.
OUTLIERS = 4


def channel_floor(seen: Range, qmax: int) -> float:
    """phi, 0 when the samples leave nothing to fear or were not counted.

    Arguments:
        qmax: the largest integer of the tensor.
    """
    widest = float(seen.absmax.max(initial=0.0))
    if not seen.samples or not widest:
        return 0.0
    a, b = seen.absmax / widest, seen.second / widest
    share = min(1.0, OUTLIERS / seen.pixels) / seen.samples

    def risk(phi: float) -> float:
        beyond = np.maximum(a - np.maximum(b, phi), 0.0)
        return float(share * np.mean(beyond**2) + np.mean(np.maximum(a, phi) ** 2) / (12 * qmax**2))

    return min(FLOORS, key=risk)
