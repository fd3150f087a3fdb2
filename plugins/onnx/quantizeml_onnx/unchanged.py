"""Blocks that give back their input's integers, at most the largest of a window: identities that stand where hardware pools behind a convolution only."""

from __future__ import annotations

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.program import Program


def unchanged(program: Program, block: Block) -> bool:
    """Proven on every integer that can come in."""
    weight = block.weight
    if block.kind not in ("conv2d", "depthwise2d") or weight is None or weight.shape[2:] != (1, 1) or not _plain(block):
        return False
    own = _own(weight[..., 0, 0], block.groups)
    if own is None or any(program.formats[t].bits > 8 for t in (block.inputs[0], block.output)):
        return False
    low, high = program.input_range(block)
    q = np.arange(low, high + 1)
    m, f = (np.broadcast_to(block.arrays.get(n, np.ones(1)).astype(np.int64), own.shape)[:, None] for n in ("multiplier", "shift"))
    return bool((numerics.requantize(q * own[:, None], m, f, *program.formats[block.output].range) == q).all())


def _plain(block: Block) -> bool:
    pooled = block.pool is None or block.pool.kind == "max"
    return pooled and block.activation is None and "shift" in block.arrays and block.strides == (1, 1) and not any(block.pads) \
        and not np.any(block.arrays.get("bias", 0)) and "pad_value" not in block.arrays


def _own(weight: np.ndarray, groups: int) -> np.ndarray | None:
    """(C,) the weight of each filter's own channel, None where it has others."""
    if weight.shape[1] == 1 and groups == len(weight):
        return weight[:, 0].astype(np.int64)
    square = groups == 1 and weight.shape[0] == weight.shape[1] and np.count_nonzero(weight) == np.count_nonzero(np.diag(weight))
    return np.diag(weight).astype(np.int64) if square else None
