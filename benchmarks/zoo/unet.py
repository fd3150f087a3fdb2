"""A U-Net (arXiv 1505.04597) with normalizations, transposed convolutions on the way up, and skips that are joined."""

from __future__ import annotations

import onnx

from .builder import Builder, image_input

WIDTHS = (16, 32, 64, 128)


def model(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 2, size, size)."""
    b = Builder()
    x, skips = image_input(b), []
    for width in WIDTHS:
        x = _double(b, x, width)
        skips.append(x)
        x = b.pool(x, 2, 2)
    x = _double(b, x, 2 * WIDTHS[-1])
    for width, skip in zip(reversed(WIDTHS), reversed(skips), strict=True):
        x = _double(b, b.concat((skip, _up(b, x, width))), width)
    return b.model("unet", "input", (3, size, size), [(b.conv(x, 2, 1), (2, size, size))])


def _double(b: Builder, x: str, filters: int) -> str:
    for _ in range(2):
        x = b.node("Relu", b.normalization(b.conv(x, filters, 3, bias=False)))
    return x


def _up(b: Builder, x: str, filters: int) -> str:
    weight = b.weight(b.channels[x], filters, 2, 2, fan_in=b.channels[x])
    return b.node("ConvTranspose", x, weight, b.bias(filters), channels=filters, kernel_shape=[2, 2], strides=[2, 2])
