"""Integer layer normalization over the channels of each pixel (Ba et al., arXiv 1607.06450), without floats and without a division by a float.

    d  = C x - sum(x)                            C (x - mean), exact
    V  = C sum(x^2) - sum(x)^2 + e               C^2 (variance + epsilon) in units of the input's step, exact; at least 1
    v  = floor(V 4^-j),  2^20 <= v < 2^22        j: how far V is from there
    r  = floor(sqrt(floor(2^44 / v)))            2^22 / sqrt(v), 11 to 12 bits
    z  = (d r + 2^(11 + j)) >> (12 + j)          (x - mean) / sqrt(variance + epsilon), 10 fractional bits

r is at most 2^-11 of its value too small, v at most 2^-20, so z is within 0.06 % of the real quotient and half of 2^-10; 8 bits of output hold 0.4 %.
The same steps are exact in float64, where onnxruntime and Keras do them: every number stays below 2^53, every quotient far enough from a whole one.
"""

from __future__ import annotations

import numpy as np

from .numerics import Ints

FRACTION = 10
"""Fractional bits of z."""
SMALLEST_J = -10
LEVELS = 31
"""V lies in [4^k, 4^(k+1)) for one k below LEVELS; j = SMALLEST_J + k."""


def normalize(x: Ints, epsilon: int) -> Ints:
    """z of (N, C, ...), normalized over axis 1. `epsilon`: e."""
    count = x.shape[1]
    total = x.sum(axis=1, keepdims=True)
    deviation = count * x - total
    variance = np.maximum(count * np.square(x).sum(axis=1, keepdims=True) - np.square(total) + epsilon, 1)
    j = SMALLEST_J + (variance[..., None] >= 4 ** np.arange(1, LEVELS, dtype=np.int64)).sum(axis=-1)
    scaled = np.where(j >= 0, variance >> np.maximum(2 * j, 0), variance << np.maximum(-2 * j, 0))
    root = np.floor(np.sqrt((2**44 // scaled).astype(np.float64))).astype(np.int64)
    return (deviation * root + (1 << (11 + j))) >> (12 + j)


def integer_epsilon(epsilon: float, channels: int, step: float) -> int:
    """e: epsilon in units of V."""
    return int(np.rint(epsilon * (channels / step) ** 2))


def reach(channels: int) -> int:
    """No |z| is larger: one channel against all others, rounding included."""
    return int(np.ceil(np.sqrt(channels) * 2**FRACTION * (1 + 2.0**-19))) + 1
