"""Networks with squeeze-and-excite gates and hard swishes: MobileNetV3-Small (arXiv 1905.02244) and PP-LCNet (arXiv 2109.15099).

The one writes HardSwish as an operation, the other as x * clip(x + 3; 0, 6) / 6; gates are HardSigmoid, or clip(x + 3; 0, 6) / 6.
"""

from __future__ import annotations

import onnx

from .builder import Builder, image_input

V3_ROWS = ((3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1),
           (5, 120, 48, True, True, 1), (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1))
"""Kernel, expanded channels, filters, gated, hard swish (ReLU otherwise), stride."""

LC_ROWS = ((3, 32, 1, False), (3, 64, 2, False), (3, 64, 1, False), (3, 128, 2, False), (3, 128, 1, False), (5, 256, 2, False), (5, 256, 1, False),
           (5, 512, 2, True), (5, 512, 1, True))
"""Kernel, filters, stride, gated."""


def mobilenet(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 1000), HardSwish and HardSigmoid as operations."""
    b = Builder()
    x = b.node("HardSwish", b.normalization(b.conv(image_input(b), 16, 3, 2, bias=False)))
    for kernel, wide, filters, gated, swish, stride in V3_ROWS:
        x = _inverted(b, x, kernel, wide, filters, gated, "HardSwish" if swish else "Relu", stride)
    x = b.node("HardSwish", b.normalization(b.conv(x, 576, 1, bias=False)))
    x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
    x = b.node("HardSwish", b.gemm(x, 1024, 576))
    return b.model("mobilenet_v3", "input", (3, size, size), [(b.gemm(x, 1000, 1024), (1000,))])


def _inverted(b: Builder, x: str, kernel: int, wide: int, filters: int, gated: bool, activation: str, stride: int) -> str:
    y = b.node(activation, b.normalization(b.conv(x, wide, 1, bias=False))) if wide != b.channels[x] else x
    y = b.node(activation, b.normalization(b.conv(y, wide, kernel, stride, groups=wide, bias=False)))
    y = _gate(b, y, b.node("HardSigmoid", _squeezed(b, y), alpha=1 / 6, beta=0.5)) if gated else y
    y = b.normalization(b.conv(y, filters, 1, bias=False))
    return b.node("Add", x, y) if stride == 1 and b.channels[x] == filters else y


def _squeezed(b: Builder, x: str) -> str:
    channels = b.channels[x]
    return b.conv(b.node("Relu", b.conv(b.node("GlobalAveragePool", x), channels // 4, 1)), channels, 1)


def _gate(b: Builder, x: str, gate: str) -> str:
    return b.node("Mul", x, gate)


def pp_lcnet(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 1000), everything spelled out, as paddle2onnx does."""
    b = Builder(1)
    x = _swish(b, b.normalization(b.conv(image_input(b), 16, 3, 2, bias=False)))
    for kernel, filters, stride, gated in LC_ROWS:
        x = _swish(b, b.normalization(b.conv(x, b.channels[x], kernel, stride, groups=b.channels[x], bias=False)))
        x = _gate(b, x, _hard_sigmoid(b, _squeezed(b, x))) if gated else x
        x = _swish(b, b.normalization(b.conv(x, filters, 1, bias=False)))
    x = _swish(b, b.conv(b.node("GlobalAveragePool", x), 1280, 1, bias=False))
    return b.model("pp_lcnet", "input", (3, size, size), [(b.gemm(b.node("Flatten", x), 1000, 1280), (1000,))])


def _hard_sigmoid(b: Builder, x: str) -> str:
    return b.node("Div", b.clip(b.node("Add", x, b.constant(3.0))), b.constant(6.0))


def _swish(b: Builder, x: str) -> str:
    return b.node("Div", b.node("Mul", x, b.clip(b.node("Add", x, b.constant(3.0)))), b.constant(6.0))
