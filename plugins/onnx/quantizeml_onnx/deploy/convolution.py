"""A convolution of bytes: [Pad] QLinearConv [MaxPool] [Clip], where one float32 product for each filter, rounded to even, is proven to give the block's integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

from .. import body
from ..convolution import may_rise
from .graph import MIDDLE, Graph
from .reading import Reading, reading

PER_FILTER = ("bias", "bound", "multiplier", "shift")
SPARED = 512
"""Products of zeros for each output that cost less than to shuffle channels: two transpositions and a Gather."""
GROUP = 32
"""Filters of a group, or its inputs, up to which groups are merged: onnxruntime takes them one by one, small ones at a hundredth of a plain convolution's speed."""


def requantizes(block: Block) -> bool:
    """Whether accumulators become bytes by a multiplier."""
    return "table" not in block.arrays and {"multiplier", "shift"} <= block.arrays.keys()


def rises(g: Graph, block: Block) -> bool:
    """Whether accumulators are raised by 128 steps, so that ties go up whatever their sign."""
    return may_rise(g.program, block) and g.zeros[block.output] == MIDDLE


def convolved(g: Graph, block: Block, output: str) -> bool:
    """A convolution whose bytes get the name `output`; False where that is not proven."""
    block = _merged(block)
    reach = body.reach(g.program, block)
    scale = _lifted(block) if rises(g, block) else ratios(g.program, block, reach)
    found = None if scale is None else reading(g, block)
    if scale is None or found is None:
        return False
    y = found.apart(_product(g, block, found, scale))
    finish(g, block, pooled(g, block, y), reach, output)
    return True


def _product(g: Graph, block: Block, read: Reading, scale: np.ndarray) -> str:
    """Bytes of all filters, of every output that they have in one pixel."""
    raised, copies = rises(g, block), len(read.kernel) // len(scale)
    bias = block.arrays.get("bias", np.zeros(1, np.int64)) + read.gained + (numerics.raised(block.arrays["multiplier"], block.arrays["shift"]) if raised else 0)
    ratio, one, zero = g.constant(f"{block.name}/ratio", np.tile(scale, copies)), g.scalar(1, np.float32), g.scalar(0, np.uint8) if raised else g.zero(block.output)
    last = [g.constant(f"{block.name}/bias", np.tile(np.broadcast_to(bias, scale.shape), copies).astype(np.int32))] if np.any(bias) else []
    return g.product("QLinearConv", block.name, read.kernel, top(g, block), lambda w, wz: (read.x, one, read.zero, w, ratio, wz, one, zero, *last), groups=block.groups,
                     group=block.groups, strides=list(read.strides), pads=list(read.pads), **({"dilations": list(block.dilations)} if body.is_dilated(block) else {}))


def shuffle(program: Program, block: Block) -> Block | None:
    """What reorders all channels of a convolution, and is all that reads it, where its filters are cheaper to reorder."""
    readers, weight = [b for b in program.blocks if block.output in b.inputs], block.arrays["weight"]
    if len(readers) != 1 or readers[0].kind != "select" or block.output in program.outputs or _is_depthwise(block):
        return None
    all_of_them = np.array_equal(np.sort(readers[0].arrays["channels"]), np.arange(len(weight)))
    return readers[0] if all_of_them and (block.groups - 1) * weight[0].size <= SPARED else None


def reordered(block: Block, channels: np.ndarray) -> Block:
    """A convolution whose filters stand in another order, without groups."""
    whole = _joined(block, block.groups)
    each = {n: np.broadcast_to(block.arrays[n], (len(channels),))[channels] for n in PER_FILTER if n in block.arrays}
    return whole.with_arrays(weight=whole.arrays["weight"][channels], **each)


def _is_depthwise(block: Block) -> bool:
    """Whether each group is one channel and one filter: such convolutions have a kernel of their own."""
    return len(block.arrays["weight"]) == block.groups and block.arrays["weight"].shape[1] == 1


def _merged(block: Block) -> Block:
    """Small groups as larger ones."""
    groups, weight = block.groups, block.arrays["weight"]
    smaller = min(len(weight) // groups, weight.shape[1])
    return block if _is_depthwise(block) else _joined(block, max(n for n in range(1, groups + 1) if groups % n == 0 and (n == 1 or n * smaller <= GROUP)))


def _joined(block: Block, several: int) -> Block:
    """Each of `several` groups one, with zeros between."""
    groups, weight = block.groups, block.arrays["weight"]
    filters, inputs = len(weight) // groups, weight.shape[1]
    wide = np.zeros((groups, filters, several, *weight.shape[1:]), weight.dtype)
    wide[np.arange(groups), :, np.arange(groups) % several] = weight.reshape(groups, filters, *weight.shape[1:])
    return replace(block, groups=groups // several).with_arrays(weight=wide.reshape(len(weight), several * inputs, *weight.shape[2:]))


def ratios(program: Program, block: Block, reach: tuple[np.ndarray, np.ndarray]) -> np.ndarray | None:
    """A float32 per filter that rounds, ties to even, to the block's integers for every reachable accumulator: after a ReLU all of them, else all but negative ties."""
    low, high = (int(v) for v in block.arrays["range"])
    like = np.zeros(len(block.arrays["weight"]), np.int64)
    m, f = (np.broadcast_to(block.arrays[n].astype(np.int64), like.shape) for n in ("multiplier", "shift"))
    if max(-int(reach[0].min()), int(reach[1].max())) >= 2**31:
        return None
    found = numerics.float32_ratios(m, f, low if block.activation is None else max(low, 0), high, reach)
    return None if np.isnan(found).any() else found


def _lifted(block: Block) -> np.ndarray:
    """The ratio of each filter that sends ties up, where no result is negative."""
    value = numerics.multiplier_value(block.arrays["multiplier"], block.arrays["shift"]).astype(np.float32) * numerics.LIFT
    return np.broadcast_to(value, (len(block.arrays["weight"]),))


def top(g: Graph, block: Block) -> int:
    """The largest byte that a convolution or dense layer reads."""
    return body.padded_range(g.program, block)[1] + g.zeros[block.inputs[0]]


def pooled(g: Graph, block: Block, y: str) -> str:
    if block.pool is None:
        return y
    return g.node("MaxPool", y, kernel_shape=list(block.pool.size), strides=list(block.pool.strides), pads=list(block.pool.pads))


def finish(g: Graph, block: Block, y: str, reach: tuple[np.ndarray, np.ndarray], output: str) -> None:
    """The ends of the output's range that a byte does not have by itself. Max pooling commutes with them."""
    zero, relu = g.zeros[block.output], block.activation is not None
    low, high = (int(v) for v in block.arrays["range"])
    low = max(low, 0) if relu else low
    m, f = block.arrays["multiplier"].astype(np.int64), block.arrays["shift"].astype(np.int64)
    lowest, highest = (numerics.requantize(end, m, f, -(2**31), 2**31) for end in reach)
    under, over = low + zero > 0 and lowest.min() < low, high + zero < 255 and highest.max() > high
    bottom, top = (g.scalar(end + zero, np.uint8) for end in (low, high))
    if "bound" in block.arrays:
        bound = numerics.requantize(block.arrays["bound"], m, f, low, high) + zero
        y = g.node("Min", y, g.constant(f"{block.name}/top", np.broadcast_to(bound, m.shape).astype(np.uint8).reshape(1, -1, 1, 1)))
    if under or over:
        g.node("Clip", y, bottom if under else "", *([top] if over else []), output=output)
    else:
        g.node("Identity", y, output=output)
