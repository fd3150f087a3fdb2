"""Sizes and pads of convolutions and poolings, two spatial axes.

    out  = floor((size + begin + end - kernel) / stride) + 1
    same: total = max((ceil(size / stride) - 1) * stride + kernel - size, 0), the larger half at the end (Keras, TensorFlow)

Pads are top, left, bottom, right.
"""

from __future__ import annotations

import math

import numpy as np

from .blocks import Block, Pool

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]

VALID: Pads = (0, 0, 0, 0)


def same_pads(size: Pair, kernel: Pair, strides: Pair) -> Pads:
    """Pads under which the output has ceil(size / stride) pixels."""
    top, left = (max((-(-x // s) - 1) * s + k - x, 0) for x, k, s in zip(size, kernel, strides, strict=True))
    return (top // 2, left // 2, -(-top // 2), -(-left // 2))


def lower_pads(size: Pair, kernel: Pair, strides: Pair) -> Pads:
    """`same` with the larger half at the beginning."""
    top, left, bottom, right = same_pads(size, kernel, strides)
    return (bottom, right, top, left)


def symmetric_pads(size: Pair, kernel: Pair, strides: Pair) -> Pads:
    """The larger half of `same` on all sides."""
    _, _, bottom, right = same_pads(size, kernel, strides)
    return (bottom, right, bottom, right)


def output_size(size: Pair, kernel: Pair, strides: Pair, pads: Pads) -> Pair:
    """Height and width behind a sliding window."""
    high, wide = ((size[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1))
    return high, wide


def common_denominator(size: Pair, pool: Pool) -> tuple[int, np.ndarray]:
    """What an average divides by, once each window is brought to it: the denominator, and the factors (h, w) that do that.

        mean = sum / count = sum * factor / denominator         factor = denominator / count, a whole number

    Windows that count padded pixels have their area for a denominator and factors of one; the others the least common multiple of their counts, taken along
    each axis. ValueError where a window holds padding alone.
    """
    if pool.padded:
        return math.prod(pool.size), np.ones((1, 1), np.int64)
    (down, rows), (across, columns) = (_axis_factors(size[i], pool.size[i], pool.strides[i], pool.pads[i], pool.pads[i + 2]) for i in (0, 1))
    return down * across, rows[:, None] * columns


def _axis_factors(extent: int, window: int, stride: int, begin: int, end: int) -> tuple[int, np.ndarray]:
    first = np.arange(0, extent + begin + end - window + 1, stride) - begin
    counts = np.minimum(first + window, extent) - np.maximum(first, 0)
    if (counts < 1).any():
        raise ValueError("a window holds padding alone")
    common = math.lcm(*counts.tolist())
    return common, common // counts


def kernel_of(block: Block) -> Pair:
    """Height and width that a convolution's window spans: (taps - 1) * dilation + 1."""
    assert block.weight is not None
    high, wide = ((taps - 1) * apart + 1 for taps, apart in zip(block.weight.shape[2:], block.dilations, strict=True))
    return high, wide


def convolved_size(block: Block, size: Pair) -> Pair:
    """What a convolution block computes before its pooling."""
    return output_size(size, kernel_of(block), block.strides, block.pads)


def reads_alike(size: Pair, kernel: Pair, strides: Pair, one: Pads, other: Pads) -> bool:
    """Whether two paddings give the same windows: the same beginnings and the same number of them. Pixels behind the last window are never read."""
    return one[:2] == other[:2] and output_size(size, kernel, strides, one) == output_size(size, kernel, strides, other)
