"""EfficientNet-Lite0: inverted bottlenecks with ReLU6, kernels of 3 and 5, padded at the end alone where the stride is 2, as TensorFlow does."""

from __future__ import annotations

import onnx

from .builder import Builder, image_input

ROWS = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))
"""Expansion, kernel, filters, blocks, stride of the first block."""


def model(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 1000)."""
    b = Builder()
    x = b.clip(_conv(b, image_input(b), 32, 3, 2))
    for expansion, kernel, filters, blocks, stride in ROWS:
        for i in range(blocks):
            x = _inverted(b, x, expansion, kernel, filters, stride if i == 0 else 1)
    x = b.clip(_conv(b, x, 1280, 1))
    return b.model("efficientnet_lite0", "input", (3, size, size), [(b.classifier(x), (1000,))])


def _conv(b: Builder, x: str, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
    total = kernel - stride
    pads = [total // 2] * 2 + [total - total // 2] * 2
    return b.conv(x, filters, kernel, stride, groups=groups, pads=pads if stride > 1 else None)


def _inverted(b: Builder, x: str, expansion: int, kernel: int, filters: int, stride: int) -> str:
    wide = b.channels[x] * expansion
    y = b.clip(_conv(b, x, wide, 1)) if expansion > 1 else x
    y = b.clip(_conv(b, y, wide, kernel, stride, groups=wide))
    y = _conv(b, y, filters, 1)
    return b.node("Add", x, y) if stride == 1 and b.channels[x] == filters else y
