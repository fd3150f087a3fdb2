"""Fold the rescaling found at a model's entry into the layers that read it.

The region sees z = raw * scale + offset. A linear consumer of z becomes the same consumer of raw:

    W z + b = (W scale) raw + (b + sum W offset)        zero padding of z is padding raw with -offset / scale
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .blocks import LINEAR, WHOLE, Block
from .blueprint import Blueprint
from .errors import ModelError


def fold_entry(blueprint: Blueprint) -> Blueprint:
    """The same blueprint with no `scale` or `offset` left on its input blocks.

    ModelError when a consumer is not linear (an Add or a Concat of the raw input cannot absorb a rescaling).
    """
    entries = {b.output: b for b in blueprint.blocks if b.kind == "input" and ("scale" in b.arrays or "offset" in b.arrays)}
    blocks = tuple(_folded(b, entries) for b in blueprint.blocks)
    return replace(blueprint, blocks=blocks) if entries else blueprint


def _folded(block: Block, entries: dict[str, Block]) -> Block:
    if block.output in entries:
        return block.with_arrays(scale=None, offset=None)
    entry = next((entries[t] for t in block.inputs if t in entries), None)
    if entry is None:
        return block
    takes = WHOLE if np.any(_array(entry, "offset", 0.0)) else LINEAR
    if block.kind not in takes:
        raise ModelError(f"`{block.kind}` reads a rescaled model input", where=f"`{block.name}`", allowed=", ".join(sorted(takes)),
                         do="Move the rescaling out of the model")
    return absorb(block, _array(entry, "scale", 1.0), _array(entry, "offset", 0.0))


def absorb(block: Block, scale: np.ndarray, offset: np.ndarray) -> Block:
    """A linear block of z = raw * scale + offset, as a block of raw. `scale`, `offset`: (C,) or (1,)."""
    assert block.weight is not None
    weight = block.weight.astype(np.float64)
    wide = [spread(block, v) for v in (scale, offset)]
    bias = block.arrays.get("bias", np.zeros(len(weight))) + (weight * wide[1]).reshape(len(weight), -1).sum(axis=1)
    pad = block.arrays.get("pad_value", np.zeros(1))
    pad = (pad - offset) / scale if any(block.pads) and np.any(offset) else block.arrays.get("pad_value")
    return block.with_arrays(weight=weight * wide[0], bias=bias, pad_value=pad)


def spread(block: Block, per_channel: np.ndarray) -> np.ndarray:
    """A vector over input channels, (C,) or (1,), shaped to multiply the block's weight."""
    weight = block.weight
    assert weight is not None
    if per_channel.size == 1:
        return per_channel.reshape((1,) * weight.ndim)
    if block.kind == "dense":
        return np.repeat(per_channel, weight.shape[1] // per_channel.size)[None]
    if block.groups == 1:
        return per_channel.reshape(1, -1, 1, 1)
    filters = len(weight) // block.groups
    by_group = per_channel.reshape(block.groups, 1, -1, 1, 1).repeat(filters, axis=1)
    return by_group.reshape(len(weight), -1, 1, 1)


def _array(block: Block, name: str, default: float) -> np.ndarray:
    return np.atleast_1d(np.asarray(block.arrays.get(name, default), np.float64))
