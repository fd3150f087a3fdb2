"""Pads that no exact rewrite makes legal are replaced by the nearest legal ones: the network sees the image moved by a pixel. An approximation.

    out[i] = sum_t w[t] x[s i + t - p]   ~   sum_t w[t] x[s i + t - p']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .. import geometry
from ..blocks import Block
from ..legality import Site, allowed_pads
from .driver import Legalization, Replacement


def propose(here: Site) -> Replacement | str | None:
    """The pads that move the image least and keep the size of the output."""
    if here.block.kind not in ("conv2d", "depthwise2d") or 0 in here.size:
        return None
    found = min(_moved(here), key=lambda block: _distance(here.block, block), default=None)
    return Replacement((found,)) if found is not None else f"no legal pads give the same size as {here.block.pads}"


def _moved(here: Site) -> Iterator[Block]:
    block, size = here.block, geometry.convolved_size(here.block, here.size)
    for pads in allowed_pads(here, here.kernel, block.strides).values():
        if geometry.output_size(here.size, here.kernel, block.strides, pads) == size:
            yield from _pooled(replace(block, pads=pads), size)


def _pooled(block: Block, size: geometry.Pair) -> Iterator[Block]:
    """With the pads of its pooling moved too, where that keeps their size."""
    pool = block.pool
    if pool is None or pool.kind != "max":
        yield block
        return
    pads = geometry.same_pads(size, pool.size, pool.strides)
    if geometry.output_size(size, pool.size, pool.strides, pads) == geometry.output_size(size, pool.size, pool.strides, pool.pads):
        yield replace(block, pool=replace(pool, pads=pads))


def _distance(old: Block, new: Block) -> int:
    return sum(abs(a - b) for a, b in zip(old.pads[:2], new.pads[:2], strict=True))


LEGALIZATION = Legalization("shift_pads", ("padding", "max_pool_padding"), propose, exact=False)
