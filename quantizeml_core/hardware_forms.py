"""The forms of normalization and softmax that hardware computes without a square root or an exponential, in integers.

    Mad normalization   z = floor((2^11 C x + S) / 2S), S = max(sum|x|, 1): x divided by the mean absolute value of its C channels, 10 fractional bits
    shiftmax            y = floor(2^(l + 20 - s)), l = z - max z >= -20, s = round(log2 sum 2^(l + 20)): powers of two, 10 fractional bits

The shiftmax is that of quantizeml 0.9: its integers are replayed by the tests. Every step is exact in float64 as well.
"""

from __future__ import annotations

import numpy as np

from .attention import split_heads
from .numerics import Ints

FRACTION = 10
"""Fractional bits of a normalized channel, and of a weight of the shiftmax."""
EXPONENTS = 2 * FRACTION
"""Scores that are further below the largest one weigh nothing."""
HALF_POWERS = np.sqrt(2.0) * 2.0 ** np.arange(52)
"""2^(j + 1/2): log2 of a whole number rounds to how many of them it reaches."""


def mad_normalize(x: Ints) -> Ints:
    """Over axis 1; |z| <= 2^10 C."""
    total = np.maximum(np.abs(x).sum(axis=1, keepdims=True), 1)
    return ((x * x.shape[1] << (FRACTION + 1)) + total) // (2 * total)


def shiftmax(z: Ints) -> Ints:
    """Over the last axis, of whole scores; 10 fractional bits."""
    below = z - z.max(axis=-1, keepdims=True) + EXPONENTS
    total = np.where(below >= 0, 1 << np.maximum(below, 0), 0).sum(axis=-1, keepdims=True)
    exponent = below - (np.searchsorted(HALF_POWERS, total, side="right") - FRACTION)
    return np.where((below >= 0) & (exponent >= 0), 1 << np.clip(exponent, 0, EXPONENTS), 0)


def shift_attend(q: Ints, k: Ints, v: Ints, heads: int, multiplier: int, shift: int) -> Ints:
    """y of (N, C, H, W) each, in units of 2^-10 step_v; multiplier 2^-shift ~ scale step_q step_k turns scores into powers of two."""
    scores = split_heads(q, heads) @ split_heads(k, heads).swapaxes(-1, -2)
    mean = shiftmax((scores * multiplier) >> shift) @ split_heads(v, heads)
    return mean.swapaxes(-1, -2).reshape(len(q), v.shape[1], *q.shape[2:])
