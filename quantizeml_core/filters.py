"""A block's weights a few filters at a time. What is computed filter by filter needs no float64 copy of a whole layer, and stays in the processor's cache.

    for rows, folded in folded_filters(block, step): ...        folded = w * step of the input channel, float64
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .blocks import Block
from .entry import spread
from .numerics import Floats

PIECE = 1 << 16
"""Weights at a time: half a megabyte of float64."""


def pieces(weight: np.ndarray) -> Iterator[slice]:
    """Slices of axis 0 that together are all filters, at least one filter each."""
    step = max(1, PIECE // max(weight[0].size, 1))
    yield from (slice(start, start + step) for start in range(0, len(weight), step))


def of_filters(per_filter: np.ndarray, rows: slice) -> np.ndarray:
    """The part of an array (F, ...) that belongs to some filters; one that all of them share, (1, ...), as it is."""
    return per_filter if len(per_filter) == 1 else per_filter[rows]


def folded_filters(block: Block, step: Floats) -> Iterator[tuple[slice, Floats]]:
    """Which filters, and their weights in units of the input's integers, in the block's layout.

    Arguments:
        step: of the input channels, (C,) or (1,).
    """
    weight, wide = block.weight, spread(block, step)
    assert weight is not None
    for rows in pieces(weight):
        yield rows, weight[rows].astype(np.float64) * of_filters(wide, rows)


def column(per_filter: np.ndarray, rank: int) -> np.ndarray:
    """(F,) or (1,) shaped to broadcast against weights of this rank."""
    return per_filter.reshape(-1, *(1,) * (rank - 1))
