"""What older and stranger exporters write: normalizations as Sub, Mul and Add (one with negative and zero factors), Min and Max for a Clip, a pooling that rounds
its size up, an average that leaves padded pixels out, slopes per channel, a sum of three, a product with a constant, dilations, even kernels, a
shuffle of channels.
"""

from __future__ import annotations

import numpy as np
import onnx

from .builder import Builder, image_input


def model(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 10)."""
    b = Builder()
    x = b.node("Relu", _normalization(b, b.conv(image_input(b), 16, 4, 2, pads=(1, 1, 2, 2), bias=False)))
    x = b.pool(x, 3, 2, ceil_mode=1)
    x = _clipped(b, b.conv(x, 32, 3, dilation=2))
    x = b.node("PRelu", b.conv(x, 32, 2, pads=(0, 0, 1, 1)), b.constant(b.rng.uniform(0.05, 0.4, (32, 1, 1))))
    branches = [b.conv(x, 32, 1), b.conv(x, 32, 3, groups=4), b.pool(x, 3, 1, (1, 1, 1, 1), "AveragePool")]
    x = b.node("Relu", _normalization(b, b.node("Sum", *branches)))
    x = _shuffled(b, x, 4, size)
    x = b.node("Mul", b.clip(b.conv(x, 32, 3, groups=32), -1.0, 1.0), b.constant(0.5))
    return b.model("spelled_normalization", "input", (3, size, size), [(b.classifier(x, 10), (10,))])


def _normalization(b: Builder, x: str) -> str:
    """(x - mean) * factor + shift; a dead channel has the factor 0, and some are negative."""
    channels = b.channels[x]
    factor = b.rng.choice([-1.0, 1.0], channels) * b.rng.uniform(0.5, 1.5, channels)
    factor[0] = 0.0
    mean, factor, shift = (b.constant(np.reshape(v, (1, channels, 1, 1))) for v in (0.1 * b.rng.normal(size=channels), factor, 0.2 * b.rng.normal(size=channels)))
    return b.node("Add", b.node("Mul", b.node("Sub", x, mean), factor), shift)


def _clipped(b: Builder, x: str) -> str:
    return b.node("Min", b.node("Max", x, b.constant(0.0)), b.constant(4.0))


def _shuffled(b: Builder, x: str, groups: int, size: int) -> str:
    channels, side = b.channels[x], _pooled(size)
    apart = b.node("Reshape", x, b.constant([0, groups, channels // groups, side, side], int))
    turned = b.node("Transpose", apart, perm=[0, 2, 1, 3, 4])
    return b.node("Reshape", turned, b.constant([0, channels, side, side], int), channels=channels)


def _pooled(size: int) -> int:
    """Side of the image behind the pooling whose size is rounded up."""
    return -(-(size // 2 - 3) // 2) + 1
