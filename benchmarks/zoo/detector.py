"""A detector of the YOLOv8 family, nano width: SiLU as Sigmoid and Mul, split and joined stages, pooled pyramids, nearest upsampling, boxes and scores at
three scales. Both heads leave the network, and, as exporters do, once more side by side in one tensor: boxes in pixels, scores between 0 and 1.
"""

from __future__ import annotations

import onnx

from .builder import Builder, image_input

CLASSES = 80
SIDES = 4
STRIDES = (8, 16, 32)


def model(size: int) -> onnx.ModelProto:
    """(N, 3, size, size) -> boxes (N, 4, A), scores (N, 80, A), both (N, 84, A); A anchors of three scales."""
    b = Builder()
    fine, middle, coarse = _backbone(b, image_input(b))
    up = _stage(b, b.concat((_upsampled(b, coarse), middle)), 128, 1, False)
    small = _stage(b, b.concat((_upsampled(b, up), fine)), 64, 1, False)
    medium = _stage(b, b.concat((_conv(b, small, 64, 3, 2), up)), 128, 1, False)
    large = _stage(b, b.concat((_conv(b, medium, 128, 3, 2), coarse)), 256, 1, False)
    scales = tuple(zip((small, medium, large), STRIDES, strict=True))
    boxes = b.concat((_boxes(b, x, stride) for x, stride in scales), axis=2)
    scores = b.node("Sigmoid", b.concat((_flat(b, _head(b, x, 80, CLASSES), CLASSES) for x, _ in scales), axis=2))
    both = b.concat((boxes, scores))
    anchors = sum((size // s) ** 2 for s in STRIDES)
    outputs = [(boxes, (SIDES, anchors)), (scores, (CLASSES, anchors)), (both, (SIDES + CLASSES, anchors))]
    return b.model("detector", "input", (3, size, size), outputs)


def _conv(b: Builder, x: str, filters: int, kernel: int, stride: int = 1) -> str:
    y = b.conv(x, filters, kernel, stride)
    return b.node("Mul", y, b.node("Sigmoid", y))


def _stage(b: Builder, x: str, filters: int, depth: int, shortcut: bool) -> str:
    """Halves: one goes on through bottlenecks, and everything made on the way is joined."""
    half = filters // 2
    both = _conv(b, x, filters, 1)
    first = b.node("Split", both, b.constant([half, half], int), axis=1, outputs=2, channels=half)
    parts = [first, f"{first}_1"]
    for _ in range(depth):
        y = _conv(b, _conv(b, parts[-1], half, 3), half, 3)
        parts.append(b.node("Add", parts[-1], y) if shortcut else y)
    return _conv(b, b.concat(parts), filters, 1)


def _backbone(b: Builder, x: str) -> tuple[str, str, str]:
    x = _stage(b, _conv(b, _conv(b, x, 16, 3, 2), 32, 3, 2), 32, 1, True)
    fine = _stage(b, _conv(b, x, 64, 3, 2), 64, 2, True)
    middle = _stage(b, _conv(b, fine, 128, 3, 2), 128, 2, True)
    coarse = _stage(b, _conv(b, middle, 256, 3, 2), 256, 1, True)
    return fine, middle, _pyramid(b, coarse)


def _pyramid(b: Builder, x: str) -> str:
    pools = [_conv(b, x, 128, 1)]
    for _ in range(3):
        pools.append(b.pool(pools[-1], 5, 1, (2, 2, 2, 2)))
    return _conv(b, b.concat(pools), 256, 1)


def _upsampled(b: Builder, x: str) -> str:
    return b.node("Resize", x, "", b.constant([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _head(b: Builder, x: str, width: int, filters: int) -> str:
    return b.conv(_conv(b, _conv(b, x, width, 3), width, 3), filters, 1)


def _boxes(b: Builder, x: str, stride: int) -> str:
    """Distances in pixels."""
    return b.node("Mul", _flat(b, b.node("Relu", _head(b, x, 64, SIDES)), SIDES), b.constant(float(stride)))


def _flat(b: Builder, x: str, filters: int) -> str:
    return b.node("Reshape", x, b.constant([0, filters, -1], int))
