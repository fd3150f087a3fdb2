"""Fold the rescaling found at a model's entry into the layers that read it.

The region sees z = raw * scale + offset. A linear consumer of z becomes the same consumer of raw:

    W z + b = (W scale) raw + (b + sum W offset)        zero padding of z is padding raw with -offset / scale

For any other reader z is made by a convolution of one pixel with a diagonal kernel. Where z is looked at, as the input of a function, or made, raw goes by another name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .blocks import LINEAR, WHOLE, Block
from .blueprint import Blueprint
from .errors import ModelError


def fold_entry(blueprint: Blueprint) -> Blueprint:
    """The same blueprint with no `scale` or `offset` left on its input blocks."""
    entries = {b.output: b for b in blueprint.blocks if b.kind == "input" and ("scale" in b.arrays or "offset" in b.arrays)}
    for entry in entries.values():
        blueprint = _without(blueprint, entry)
    return blueprint


def _without(blueprint: Blueprint, entry: Block) -> Blueprint:
    scale, offset, bare = _array(entry, "scale", 1.0), _array(entry, "offset", 0.0), entry.with_arrays(scale=None, offset=None)
    takes = WHOLE if np.any(offset) else LINEAR
    others = [b for b in blueprint.consumers(entry.output) if b.kind not in takes]
    shapes = dict(blueprint.shapes)
    if others or any(b.probe == entry.output for b in blueprint.blocks):
        bare = replace(bare, output=entry.name)
        shapes[bare.output] = shapes[entry.output]
    first = (bare, *(_rescaling(entry, bare, other, len(shapes[entry.output]), blueprint.channels(entry.output)) for other in others[:1]))

    def folded(block: Block) -> tuple[Block, ...]:
        if block.name == entry.name:
            return first
        if entry.output not in block.inputs or block.kind not in takes:
            return (block,)
        return (replace(absorb(block, scale, offset), inputs=(bare.output,)),)

    return replace(blueprint, blocks=tuple(made for b in blueprint.blocks for made in folded(b)), shapes=shapes)


def _rescaling(entry: Block, bare: Block, reader: Block, rank: int, channels: int) -> Block:
    """The convolution that writes what the rescaling wrote."""
    if entry.output == entry.name or rank not in (2, 4):
        raise ModelError(f"`{reader.kind}` reads a rescaled model input", where=f"`{reader.name}`", do="Move the rescaling out of the model")
    weight = np.diag(np.broadcast_to(_array(entry, "scale", 1.0), channels)).reshape(channels, channels, *(1,) * (rank - 2))
    bias = np.broadcast_to(_array(entry, "offset", 0.0), channels)
    return Block(f"{entry.name}/rescale", "conv2d" if rank == 4 else "dense", (bare.output,), entry.output, arrays={"weight": weight, "bias": bias})


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
