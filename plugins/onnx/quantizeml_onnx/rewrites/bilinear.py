"""Bilinear enlargement by whole factors: repeated pixels, averaged over windows of the factor's size in which padding does not count.

    half_pixel, odd factor s        mean over s pixels around each
    half_pixel, even factor s       mean over s pixels between each two, then over each two neighbours of those
    asymmetric                      mean over each pixel and the s - 1 behind it

Beyond the border linear interpolation repeats the last pixel, and so does a mean that leaves padding out: all pixels of such a window are that one. A single
pixel is repeated. Other coordinates weigh each place differently and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .graph import Dims, attribute, dims, is_constant, operand, stored
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import repeated

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
    windows = tuple(factor if size > 1 else 1 for factor, size in zip(factors, dims(node.inputs[0])[2:], strict=True))
    if reason := _obstacle(node, coordinates, max(windows)):
        return Refusal(reason)
    return Proposal((node,), _averaged(node, factors, _means(windows, coordinates == ASYMMETRIC)), extent="true")


def _factors(node: ir.Node) -> tuple[int, int] | None:
    """Of height and width, one of them above 1."""
    before, after, scales = dims(node.inputs[0]), dims(node.outputs[0]), stored(operand(node, 2))
    if before is None or after is None or len(before) != 4 or None in (*before[1:], *after[1:]) or before[1] != after[1]:
        return None
    if scales is not None and scales.size and any(float(s) != int(s) for s in scales):
        return None
    (down, over), (across, beyond) = (divmod(new, old) for old, new in zip(before[2:], after[2:], strict=True))
    return (down, across) if min(down, across) >= 1 < max(down, across) and not over and not beyond else None


def _obstacle(node: ir.Node, coordinates: str, largest: int) -> str:
    if coordinates not in (*HALF_PIXEL, ASYMMETRIC):
        return f"it interpolates by {coordinates}, only half_pixel and asymmetric can be quantized"
    if attribute(node, "antialias", 0) or any(is_constant(v) and v.const_value.size for v in node.inputs[1:2]):
        return "it smooths or crops"
    return f"its factor is {largest}, only up to {LARGEST} can be quantized" if largest > LARGEST else ""


def _averaged(node: ir.Node, factors: Sequence[int], means: Sequence[tuple[Dims, Dims]]) -> Op:
    """Pixels repeated, then each mean."""
    batch, channels, *size = dims(node.outputs[0])
    made = repeated(node.inputs[0], factors, (batch, channels, *size))
    for kernel, pads in means:
        size = [n + before + after - k + 1 for n, k, before, after in zip(size, kernel, pads[:2], pads[2:], strict=True)]
        made = Op("AveragePool", (made,), {"kernel_shape": kernel, "pads": pads, "strides": (1, 1)}, shape=(batch, channels, *size))
    return made


def _means(factors: Sequence[int], asymmetric: bool) -> list[tuple[Dims, Dims]]:
    """Kernel and pads (top, left, bottom, right) of each mean."""
    if max(factors) == 1:
        return []
    if asymmetric:
        return [(tuple(factors), (0, 0, *(s - 1 for s in factors)))]
    second = tuple(2 - s % 2 for s in factors)
    return [(tuple(factors), tuple(s // 2 for s in factors) * 2), *([(second, (0, 0, 0, 0))] if max(second) > 1 else [])]


REWRITE = Rewrite("bilinear_to_averages", rewrite, ("Resize",))
