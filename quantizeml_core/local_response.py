"""Integer local response normalization (Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, section 3.3), exponent 3/4.

    y = x (k + alpha / n sum x^2)^-3/4           the sum over n channels around each
      = x k^-3/4 (1 + strength sum x^2)^-3/4     strength = alpha / (n k)

    S = sum(q^2)                                 exact
    V = ((S M + 2^(f-1)) >> f) + 2^16            M 2^-f ~ 2^16 strength step^2, 2^14 <= M < 2^15
    v = V >> 4j,  2^16 <= v < 2^20               j: how far V is from there
    r = floor(sqrt(floor(2^44 / v)))             2^22 / sqrt(v), 12 to 14 bits
    t = floor(sqrt(2^12 r))                      2^17 / sqrt(sqrt(v)), 12 to 13 bits
    z = (q r t + 2^(12 + 3j)) >> (13 + 3j)       q (V / 2^16)^-3/4, 14 fractional bits

r and t are at most 2^-12 of their value too small, t by half of what r lacks too, V and v at most 2^-16: z is within 0.07 % of the real value and half of
2^-14. The same steps are exact in float64, where onnxruntime does them: every number stays below 2^53, every quotient far enough from a whole one.
"""

from __future__ import annotations

import numpy as np

from .attention import score_multiplier
from .errors import ModelError
from .numerics import Ints

BASE = 16
"""Fractional bits of V."""
FRACTION = 14
"""Fractional bits of z."""
LEVELS = 8
"""V stays below 2^16 16^LEVELS."""
STRONGEST = 2.0**14
"""No M 2^-f is larger."""


def respond(q: Ints, window: int, multiplier: int, shift: int) -> Ints:
    """z of (N, C, ...): each value normalized by `window` channels around it, the first half of them before it."""
    sums = ((square_sums(q, window) * multiplier + (1 << (shift - 1))) >> shift) + (1 << BASE)
    j = (sums[..., None] >= thresholds(LEVELS)).sum(axis=-1)
    root = np.floor(np.sqrt((2**44 // (sums >> 4 * j)).astype(np.float64))).astype(np.int64)
    fourth = np.floor(np.sqrt((root << 12).astype(np.float64))).astype(np.int64)
    return (q * root * fourth + (1 << (12 + 3 * j))) >> (13 + 3 * j)


def square_sums(q: Ints, window: int) -> Ints:
    """S."""
    widths = [(0, 0)] * q.ndim
    widths[1] = sides(window)
    return np.lib.stride_tricks.sliding_window_view(np.pad(np.square(q), widths), window, axis=1).sum(axis=-1)


def sides(window: int) -> tuple[int, int]:
    """Channels before and behind each one."""
    return (window - 1) // 2, window // 2


def thresholds(levels: int) -> Ints:
    """From each of these on, V is shifted by four bits more."""
    return (1 << BASE) * 16 ** np.arange(1, levels, dtype=np.int64)


def squares_multiplier(strength: float, step: float, where: str) -> tuple[int, int]:
    """M and f. ModelError when one unit of the input already drowns k."""
    ratio = 2.0**BASE * strength * step**2
    if ratio >= STRONGEST:
        raise ModelError(f"one unit of its input, {step:.3g}, is squared to {ratio / 2**BASE:.3g} times its bias", where=where,
                         allowed=f"less than {STRONGEST / 2**BASE}", do="Cut the network before it with -qu/--quantize_until")
    return score_multiplier(ratio)
