"""A complex number for each channel that turns and shrinks from frame to frame, and takes in what comes: s <- A s + x, without floats.

    r <- clip(((a r - b i + 2^19) >> 20) + 2^10 x)          i <- clip((a i + b r + 2^19) >> 20)          A ~ (a + b sqrt(-1)) 2^-20, |a|, |b| <= 2^20

s = (r + i sqrt(-1)) 2^-10 in units of x; it saturates at 2^31 - 1. Every step is exact in float64 as well: sums of products stay below 2^53.
"""

from __future__ import annotations

import numpy as np

from .numerics import Floats, Ints

FRACTION = 10
"""Fractional bits of the state, in units of x."""
COEFFICIENT = 20
"""Fractional bits of A."""
LIMIT = 2**31 - 1


def integer_coefficients(coefficients: Floats) -> Ints:
    """round_half_even(A 2^20), the real parts and the imaginary ones, (2, C)."""
    return np.rint(np.clip(coefficients, -1.0, 1.0) * 2.0**COEFFICIENT).astype(np.int64)


def advance(x: Ints, state: Ints, coefficients: Ints) -> Ints:
    """The state behind a frame.

    Arguments:
        x: (N, C, ...).
        state: (N, C, 2, ...), the real part first.
        coefficients: (2, C).
    """
    a, b = (c.astype(np.int64).reshape(1, -1, *(1,) * (x.ndim - 2)) for c in coefficients)
    r, i = state[:, :, 0], state[:, :, 1]
    half = 1 << (COEFFICIENT - 1)
    real, imaginary = ((a * r - b * i + half) >> COEFFICIENT) + (x << FRACTION), (a * i + b * r + half) >> COEFFICIENT
    return np.clip(np.stack([real, imaginary], axis=2), -LIMIT, LIMIT)
