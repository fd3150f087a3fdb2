"""Bilinear enlargement by whole factors: repeated pixels, averaged over windows of the factor's size in which padding does not count.

    half_pixel, odd factor s        mean over s pixels around each
    half_pixel, even factor s       mean over s pixels between each two, then over each two neighbours of those
    asymmetric                      mean over each pixel and the s - 1 behind it

Beyond the border linear interpolation repeats the last pixel, and so does a mean that leaves padding out: all pixels of such a window are that one. A single
pixel is repeated. Other coordinates weigh each place differently and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .graph import Dims, attribute, dims, is_constant, operand, stored
from .model import Op, Proposal, Refusal, Rewrite

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
"""They differ where a single pixel is left, which no enlargement leaves."""
ASYMMETRIC = "asymmetric"
LARGEST = 10
"""Factor whose windows, which count from half of it or one pixel up, still have a common denominator of few bits."""


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Resize that repeats, and one or two AveragePool."""
    if attribute(node, "mode", "nearest") != "linear":
        return None
    coordinates, factors = attribute(node, "coordinate_transformation_mode", "half_pixel"), _factors(node)
    if factors is None:
        return Refusal("its factors are not whole numbers in height and width of images of a known size")
    if coordinates not in (*HALF_PIXEL, ASYMMETRIC):
        return Refusal(f"it interpolates by {coordinates}, only half_pixel and asymmetric can be quantized")
    if attribute(node, "antialias", 0) or any(is_constant(v) and v.const_value.size for v in node.inputs[1:2]):
        return Refusal("it smooths or crops")
    (batch, channels, *before), size = dims(node.inputs[0]), dims(node.outputs[0])[2:]
    wide = tuple(s if n > 1 else 1 for s, n in zip(factors, before, strict=True))
    if max(wide) > LARGEST:
        return Refusal(f"its factor is {max(wide)}, only up to {LARGEST} can be quantized")
    repeated: Op = Op("Resize", (node.inputs[0], None, np.array([1, 1, *factors], np.float32)),
                      {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, shape=(batch, channels, *size))
    for kernel, pads in _windows(wide, coordinates == ASYMMETRIC):
        size = tuple(n + before + after - k + 1 for n, k, before, after in zip(size, kernel, pads[:2], pads[2:], strict=True))
        repeated = Op("AveragePool", (repeated,), {"kernel_shape": kernel, "pads": pads, "strides": (1, 1)}, shape=(batch, channels, *size))
    return Proposal((node,), repeated, extent="true")


def _factors(node: ir.Node) -> tuple[int, int] | None:
    """Of height and width, one of them above 1."""
    before, after, scales = dims(node.inputs[0]), dims(node.outputs[0]), stored(operand(node, 2))
    if before is None or after is None or len(before) != 4 or None in (*before[1:], *after[1:]) or before[1] != after[1]:
        return None
    if scales is not None and scales.size and any(float(s) != int(s) for s in scales):
        return None
    ratios = [divmod(new, old) for old, new in zip(before[2:], after[2:], strict=True)]
    return (ratios[0][0], ratios[1][0]) if all(q >= 1 and not rest for q, rest in ratios) and max(r[0] for r in ratios) > 1 else None


def _windows(factors: Sequence[int], asymmetric: bool) -> list[tuple[Dims, Dims]]:
    """Kernel and pads (top, left, bottom, right) of each mean."""
    if max(factors) == 1:
        return []
    if asymmetric:
        return [(tuple(factors), (0, 0, *(s - 1 for s in factors)))]
    second = tuple(2 - s % 2 for s in factors)
    return [(tuple(factors), tuple(s // 2 for s in factors) * 2), *([(second, (0, 0, 0, 0))] if max(second) > 1 else [])]


REWRITE = Rewrite("bilinear_to_averages", rewrite, ("Resize",))
