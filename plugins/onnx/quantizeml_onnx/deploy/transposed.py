"""A transposed convolution of bytes: a convolution whose filters are its phases, and the phases side by side.

    y[f, o] = sum over c, k of x[c, (o + lead - k) / s] w[f, c, k]          over the k for which s divides: those of one phase, o + a = s m + p
            = sum over c, e of x[c, m + e] W[p, f, c, e]                    W[p, f, c, e] = w[f, c, p + lead - a - s e], or nothing

for each axis; a of 0 and lead mod s is the one that gives the shorter kernel. That is how sub-pixel convolutions are made (Shi et al., arXiv 1609.05158, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quantizeml_core.blocks import Block

from .convolution import PER_FILTER, convolved, requantizes
from .graph import Graph


@dataclass(frozen=True)
class Phases:
    """One axis.

    Arguments:
        taps: (s, K) the tap of the kernel that each phase has at each place, or the kernel's length where it has none.
        begin, end: pads of the convolution.
        count: its pixels.
        start: pixels of the phases that come before the output.
    """

    taps: np.ndarray
    begin: int
    end: int
    count: int
    start: int


def form(g: Graph, block: Block) -> bool:
    """The phases of a transposed convolution without table, on an image of known size."""
    size, out = g.program.shapes[block.inputs[0]][2:], g.program.shapes[block.output][2:]
    if not requantizes(block) or None in (*size, *out):
        return False
    axes = [shortest(h, k, s, lead, length) for h, k, s, lead, length in zip(size, block.arrays["weight"].shape[2:], block.strides, block.pads, out)]
    if min(pad for axis in axes for pad in (axis.begin, axis.end)) < 0:
        return False
    side = g.free(f"{g.names[block.output]}/phases")
    if not convolved(g, filters(block, *axes), side):
        return False
    _side_by_side(g, block, side, axes, out)
    return True


def shortest(size: int, kernel: int, stride: int, lead: int, length: int) -> Phases:
    """The phases with the shorter kernel; those that begin with the output, if equal."""
    return min((phases(size, kernel, stride, lead, length, start) for start in (0, lead % stride)), key=lambda found: found.taps.shape[1])


def phases(size: int, kernel: int, stride: int, lead: int, length: int, start: int) -> Phases:
    """The phases of which `start` pixels come before the output.

    Arguments:
        lead: what is cropped at the beginning.
        length: of the output.
    """
    offsets = lead - start + np.arange(stride)[:, None] - np.arange(kernel)
    reached = offsets[offsets % stride == 0] // stride
    first, last, count = int(reached.min()), int(reached.max()), -(-(length + start) // stride)
    taps = lead - start + np.arange(stride)[:, None] - stride * np.arange(first, last + 1)
    return Phases(np.where((taps >= 0) & (taps < kernel), taps, kernel), -first, count - size + last, count, start)


def filters(block: Block, high: Phases, wide: Phases) -> Block:
    """The convolution of all phases, each with all filters."""
    weight = np.pad(block.arrays["weight"], ((0, 0), (0, 0), (0, 1), (0, 1)))
    several = weight[:, :, high.taps][..., wide.taps].transpose(2, 4, 0, 1, 3, 5)
    copies, count = several.shape[0] * several.shape[1], len(weight)
    tiled = {name: np.tile(np.broadcast_to(block.arrays[name], (count,)), copies) for name in PER_FILTER if name in block.arrays}
    return replace(block, kind="conv2d", strides=(1, 1), pads=(high.begin, wide.begin, high.end, wide.end)).with_arrays(
        weight=several.reshape(copies * count, *several.shape[3:]), **tiled)


def _side_by_side(g: Graph, block: Block, phased: str, axes: list[Phases], out: tuple[int, ...]) -> None:
    """(N, s s F, H, W) as (N, F, s H, s W), channels last meanwhile, so that onnxruntime copies rows of channels, and moves its own Transposes away."""
    count, (down, across), (high, wide) = len(block.arrays["weight"]), block.strides, (axis.count for axis in axes)
    rows = g.node("Reshape", g.node("Transpose", phased, perm=[0, 2, 3, 1]), g.ints((0, high, wide, down, across * count)))
    image = g.node("Reshape", g.node("Transpose", rows, perm=[0, 1, 3, 2, 4]), g.ints((0, high * down, wide * across, count)))
    if any(axis.start for axis in axes) or (high * down, wide * across) != out:
        starts = tuple(axis.start for axis in axes)
        image = g.node("Slice", image, g.ints(starts), g.ints(tuple(np.add(starts, out))), g.ints((1, 2)))
    g.node("Transpose", image, perm=[0, 3, 1, 2], output=g.names[block.output])
