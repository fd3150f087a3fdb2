"""ResNet50 as torch.onnx writes it (normalizations folded): symmetric pads, 1x1 with stride 2, ReLU behind Add."""

from __future__ import annotations

import onnx

from .builder import Builder, image_input

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and stride of the first block."""


def model(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 1000)."""
    b = Builder()
    x = b.node("Relu", b.conv(image_input(b), 64, 7, 2))
    x = b.pool(x, 3, 2, (1, 1, 1, 1))
    for width, blocks, stride in STAGES:
        for i in range(blocks):
            x = _bottleneck(b, x, width, stride if i == 0 else 1)
    return b.model("resnet50", "input", (3, size, size), [(b.classifier(x), (1000,))])


def _bottleneck(b: Builder, x: str, width: int, stride: int) -> str:
    y = b.node("Relu", b.conv(x, width, 1))
    y = b.node("Relu", b.conv(y, width, 3, stride))
    y = b.conv(y, 4 * width, 1)
    x = b.conv(x, 4 * width, 1, stride) if b.channels[x] != 4 * width else x
    return b.node("Relu", b.node("Add", y, x))
