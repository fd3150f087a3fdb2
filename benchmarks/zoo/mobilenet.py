"""MobileNetV2 1.0 (arXiv 1801.04381) in three spellings: torch.onnx with its normalizations folded and with them, and tf2onnx from a channels-last network."""

from __future__ import annotations

import onnx

from .builder import Builder, Pads, image_input

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, filters, blocks, stride of the first block."""


class _Spelling:
    """How an exporter writes a convolution and what follows it."""

    def __init__(self, normalized: bool = False, same: bool = False) -> None:
        self.normalized, self.same = normalized, same

    def conv(self, b: Builder, x: str, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        y = b.conv(x, filters, kernel, stride, groups=groups, pads=self._pads(kernel, stride), bias=not self.normalized)
        return b.normalization(y) if self.normalized else y

    def _pads(self, kernel: int, stride: int) -> Pads | None:
        """TensorFlow pads an even image for stride 2 at its end only."""
        total = kernel - stride
        return [total // 2, total // 2, total - total // 2, total - total // 2] if self.same and stride > 1 else None


def folded(size: int) -> onnx.ModelProto:
    """torch.onnx in evaluation mode."""
    b = Builder()
    x = _features(b, image_input(b), _Spelling())
    return b.model("mobilenet_v2", "input", (3, size, size), [(b.classifier(x), (1000,))])


def unfolded(size: int) -> onnx.ModelProto:
    """torch.onnx with BatchNormalization nodes kept, and a mean over the pixels for a pooling."""
    b = Builder()
    x = _features(b, image_input(b), _Spelling(normalized=True))
    mean = b.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    return b.model("mobilenet_v2_bn", "input", (3, size, size), [(b.gemm(mean, 1000, b.channels[x]), (1000,))])


def channels_last(size: int) -> onnx.ModelProto:
    """tf2onnx: the input channels last, transposed once; mean, Squeeze, MatMul and Add for the head."""
    b = Builder()
    b.channels["input"] = 3
    x = _features(b, b.node("Transpose", "input", perm=[0, 3, 1, 2]), _Spelling(same=True))
    mean = b.node("Squeeze", b.node("ReduceMean", x, axes=[2, 3], keepdims=1), b.constant([2, 3], int))
    scores = b.node("Add", b.node("MatMul", mean, b.weight(b.channels[x], 1000, fan_in=b.channels[x])), b.bias(1000))
    return b.model("mobilenet_v2_tf", "input", (size, size, 3), [(scores, (1000,))])


def _features(b: Builder, x: str, spelling: _Spelling) -> str:
    x = b.clip(spelling.conv(b, x, 32, 3, 2))
    for expansion, filters, blocks, stride in ROWS:
        for i in range(blocks):
            x = _inverted(b, x, expansion, filters, stride if i == 0 else 1, spelling)
    return b.clip(spelling.conv(b, x, 1280, 1))


def _inverted(b: Builder, x: str, expansion: int, filters: int, stride: int, spelling: _Spelling) -> str:
    wide = b.channels[x] * expansion
    y = b.clip(spelling.conv(b, x, wide, 1)) if expansion > 1 else x
    y = b.clip(spelling.conv(b, y, wide, 3, stride, groups=wide))
    y = spelling.conv(b, y, filters, 1)
    return b.node("Add", x, y) if stride == 1 and b.channels[x] == filters else y
