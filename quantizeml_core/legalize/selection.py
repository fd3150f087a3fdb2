"""Convolutions that choose: each output is one input, so the integers pass unchanged.

    identity   y[i] = x[i]                        one pixel, the unit matrix
    every other pixel   y[i] = x[2 i + u - q]     3x3, stride 2, one tap u of 1, pads `same` with q pixels at the beginning
"""

from __future__ import annotations

import numpy as np

from .. import geometry
from ..blocks import Block


def identity(name: str, source: str, output: str, channels: int) -> Block:
    weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    return Block(name, "conv2d", (source,), output, arrays={"weight": weight})


def every_other(name: str, kind: str, source: str, output: str, channels: int, size: geometry.Pair, tap: geometry.Pair) -> Block:
    """Arguments: kind: `depthwise2d` or `conv2d`; tap: row and column of the 1."""
    single = np.zeros((3, 3), np.float32)
    single[tap] = 1
    weight = np.tile(single, (channels, 1, 1, 1)) if kind == "depthwise2d" else np.eye(channels, dtype=np.float32)[:, :, None, None] * single
    return Block(name, kind, (source,), output, strides=(2, 2), pads=geometry.same_pads(size, (3, 3), (2, 2)),
                 groups=channels if kind == "depthwise2d" else 1, arrays={"weight": weight})
