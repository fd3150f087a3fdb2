"""What an approximation changes: the root mean square of the difference of a block's output, as a share of that of the output, on smooth random images.

Smooth like photographs: noise summed over neighbourhoods of 2, 4, 8 ... pixels, so that its power falls with frequency (about 1/f).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..blocks import Block
from ..kernels import accumulator, finish
from ..legality import Site

if TYPE_CHECKING:
    from .driver import Replacement

LARGEST = 128
"""Height and width of the images, at most; parity is kept, because pads hang on it."""
WEIGHT_BITS = 12


def effect(here: Site, made: Replacement) -> float:
    """0 for no change."""
    high, wide = (s if s <= LARGEST else LARGEST + s % 2 for s in here.size)
    x = _images(here.blueprint.channels(here.block.inputs[0]), high, wide)
    old, new = (finish(b, accumulator(b, x)).astype(np.float64) for b in map(_integers, (here.block, made.blocks[-1])))
    if old.shape != new.shape:
        return 1.0
    return float(np.sqrt(np.square(new - old).sum() / max(np.square(old).sum(), 1.0)))


def _integers(block: Block) -> Block:
    """The block with its weights on a fine grid; a table becomes a ReLU."""
    assert block.weight is not None
    scale = 2.0**WEIGHT_BITS / max(float(np.abs(block.weight).max()), 1e-30)
    weight = np.rint(block.weight * scale).astype(np.int64)
    activation = None if block.activation is None else replace(block.activation, name="relu", bound=None, alpha=None)
    return replace(block, activation=activation, arrays={"weight": weight})


def _images(channels: int, high: int, wide: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    total = np.zeros((1, channels, high, wide))
    for octave in range(7):
        size = 2**octave
        coarse = generator.normal(size=(1, channels, -(-high // size), -(-wide // size)))
        total += size * coarse.repeat(size, axis=2).repeat(size, axis=3)[:, :, :high, :wide]
    return np.rint(127 * total / np.abs(total).max()).astype(np.int64)
