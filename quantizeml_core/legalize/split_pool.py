"""A max pooling of 3x3 as two of 2x2, behind convolutions that choose: what the stem of a ResNet (stride 2) and an Inception (stride 1) need, exactly.

    y[i] = max(x[si-p], x[si-p+1], x[si-p+2]) = max(z[si], z[si+1]),   z[j] = m[j-p],   m[j] = max(x[j], x[j+1])

p is 0 or 1 pixels of padding at the beginning. With p = 1 a 3x3 kernel moves the image by a pixel; the zero that comes in never wins, because a ReLU
stands before. The first convolution loses its pooling and may have the pads that a pooled one may not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import geometry
from ..blocks import Block, Pool, moves
from ..legality import Site
from .driver import Legalization, Replacement
from .selection import identity

TWO, THREE = (2, 2), (3, 3)


def propose(here: Site) -> Replacement | str | None:
    pool = here.block.pool
    if pool is None or pool.kind != "max" or here.block.kind not in ("conv2d", "depthwise2d"):
        return None
    if pool.size != THREE or pool.strides not in ((1, 1), TWO) or max(pool.pads[:2]) > 1:
        return f"only 3x3 with stride 1 or 2 and at most one pixel of padding is split, not {pool.size} with {pool.strides}"
    if any(pool.pads[:2]) and not _nonnegative(here):
        return "without a ReLU before it, a padding of zeros could win"
    size = geometry.convolved_size(here.block, here.size)
    for pads in (geometry.same_pads(size, TWO, pool.strides), geometry.VALID):
        if geometry.output_size(size, THREE, pool.strides, pool.pads) == geometry.output_size(size, TWO, pool.strides, pads):
            return _replacement(here, size, Pool("max", TWO, pool.strides, pads), pool.pads[:2])
    return f"pads {pool.pads} give another size than two poolings"


def _nonnegative(here: Site) -> bool:
    relu = here.block.activation is not None and not here.block.activation.is_table
    return relu or (moves(here.block) and here.nonnegative(here.block.inputs[0]))


def _replacement(here: Site, size: geometry.Pair, second: Pool, before: geometry.Pair) -> Replacement:
    block, channels = here.block, here.blueprint.channels(here.block.output)
    whole, paired = f"{block.output}/whole", f"{block.output}/paired"
    pairs = replace(identity(f"{block.name}/pairs", whole, paired, channels), pool=Pool("max", TWO, (1, 1), geometry.same_pads(size, TWO, (1, 1))))
    halves = replace(_moved(f"{block.name}/halves", paired, block.output, channels, before), pool=second)
    shape = (None, channels, *size)
    return Replacement((replace(block, pool=None, output=whole), pairs, halves), {whole: shape, paired: shape}, {whole: block.output, paired: block.output})


def _moved(name: str, source: str, output: str, channels: int, by: geometry.Pair) -> Block:
    """z[j] = x[j - by]."""
    if by == (0, 0):
        return identity(name, source, output, channels)
    weight = np.zeros((channels, channels, 3, 3), np.float32)
    weight[range(channels), range(channels), 1 - by[0], 1 - by[1]] = 1
    return Block(name, "conv2d", (source,), output, pads=(1, 1, 1, 1), arrays={"weight": weight})


LEGALIZATION = Legalization("split_pooling", ("max_pool", "max_pool_padding", "padding"), propose)
