"""A kernel as part of a larger one, placed so that the pads become legal.

    out[i] = sum_t w[t] x[s i + t - p]   =   sum_t w'[t + o] x[s i + (t + o) - (p + o)],     w' zero elsewhere

Even kernels become odd ones, 1x1 with stride 2 becomes 3x3, uneven sides become square, pads that are off centre move the kernel off centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .. import geometry
from ..blocks import Block
from ..legality import Site, allowed_pads
from .driver import Legalization, Replacement


def propose(here: Site) -> Replacement | str | None:
    """The smallest legal kernel that holds this one."""
    block = here.block
    if block.kind not in ("conv2d", "depthwise2d") or 0 in here.size:
        return None
    size = geometry.convolved_size(block, here.size)
    for kernel, pads in _legal(here):
        if offset := placed(here.kernel, block.pads, kernel, pads):
            if geometry.output_size(here.size, kernel, block.strides, pads) == size:
                return Replacement((embedded(block, kernel, pads, offset),))
    return f"no legal kernel holds {here.kernel[0]}x{here.kernel[1]} with strides {block.strides} and pads {block.pads}"


def _legal(here: Site) -> Iterator[tuple[geometry.Pair, geometry.Pads]]:
    """Kernels and pads the target has for these strides, small ones first."""
    down, across = here.block.strides
    for size, strides in sorted(here.limit("kernel_strides", ())):
        if down == across and down in strides:
            yield from (((size, size), pads) for pads in allowed_pads(here, (size, size), here.block.strides).values())


def placed(kernel: geometry.Pair, pads: geometry.Pads, larger: geometry.Pair, wanted: geometry.Pads) -> geometry.Pair | None:
    """Where a kernel stands in a larger one, or None when it does not fit."""
    offset = (wanted[0] - pads[0], wanted[1] - pads[1])
    fits = all(0 <= o <= new - old for o, old, new in zip(offset, kernel, larger, strict=True))
    return offset if fits else None


def embedded(block: Block, kernel: geometry.Pair, pads: geometry.Pads, offset: geometry.Pair) -> Block:
    """The block with its kernel inside a larger one of zeros."""
    assert block.weight is not None
    weight = np.zeros((*block.weight.shape[:2], *kernel), block.weight.dtype)
    (y, x), (high, wide) = offset, block.weight.shape[2:]
    weight[:, :, y : y + high, x : x + wide] = block.weight
    return replace(block, pads=pads).with_arrays(weight=weight)


LEGALIZATION = Legalization("embed_kernel", ("kernel_strides", "padding"), propose)
