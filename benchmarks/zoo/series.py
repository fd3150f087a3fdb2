"""A network over time series, (N, channels, samples): 1-D convolutions with normalizations, a strided stem, causal dilated residual stages, a mean over time."""

from __future__ import annotations

import onnx

from .builder import Builder

CHANNELS = 6
DILATIONS = (1, 2, 4)


def model(size: int) -> onnx.ModelProto:
    """(N, 6, size) -> (N, 12)."""
    b = Builder()
    b.channels["input"] = CHANNELS
    x = b.node("Relu", b.normalization(b.conv("input", 32, 7, 2, bias=False, dims=1)))
    x = b.pool(x, 2, 2, (0, 0))
    for dilation in DILATIONS:
        x = _causal(b, x, 32, dilation)
    x = b.node("Relu", b.conv(b.node("Relu", b.conv(x, 32, 5, groups=32, dims=1)), 64, 1, dims=1))
    mean = b.node("ReduceMean", x, axes=[2], keepdims=0)
    return b.model("time_series", "input", (CHANNELS, size), [(b.gemm(mean, 12, 64), (12,))])


def _causal(b: Builder, x: str, filters: int, dilation: int) -> str:
    """Padded at the front: no output sees what comes later."""
    y = b.node("Relu", b.conv(x, filters, 3, pads=(2 * dilation, 0), dilation=dilation, dims=1))
    y = b.conv(y, filters, 3, pads=(2 * dilation, 0), dilation=dilation, dims=1)
    return b.node("Relu", b.node("Add", x, y))
