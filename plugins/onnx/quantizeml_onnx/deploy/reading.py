"""What a convolution of bytes reads: an image whose channels make whole words, and its pads.

QLinearConv pads with one number, its zero point. Where channels are padded with different values, the image gets a frame that is made when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.geometry import convolved_size

from . import neighbours
from .graph import Graph
from .neighbours import Neighbours

COLOURS = 3
"""Channels of an image that get a fourth."""


@dataclass(frozen=True)
class Reading:
    """What a convolution reads, and how.

    Arguments:
        x, zero: the bytes and their zero point.
        kernel: (F', C', H, W) whole numbers.
        gained: (F,) what padding adds to the bias.
        apart: what makes an image of F channels of the F' that are written.
    """

    x: str
    zero: str
    kernel: np.ndarray
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    gained: np.ndarray
    apart: Callable[[str], str]


def reading(g: Graph, block: Block) -> Reading | None:
    """None where channels are padded with different values around an image of unknown size."""
    size = g.program.shapes[block.inputs[0]][2:]
    values = np.broadcast_to(block.arrays["pad_value"].astype(np.int64), (_channels(block),)) if "pad_value" in block.arrays and any(block.pads) else np.zeros(1, np.int64)
    beside = neighbours.found(block, size)
    if len(np.unique(values)) == 1:
        return _padded(g, block, int(values[0]), beside)
    return None if None in size else _framed(g, block, values, size, beside)


def _padded(g: Graph, block: Block, value: int, beside: Neighbours | None) -> Reading:
    x, zero, weight = g.names[block.inputs[0]], g.scalar(g.zeros[block.inputs[0]] + value, np.uint8), block.arrays["weight"]
    gained = value * weight.astype(np.int64).reshape(len(weight), -1).sum(axis=1)
    if beside:
        return _joined(g, block, beside, x, zero, g.program.shapes[block.inputs[0]][3], beside.pads(block.pads), gained)
    more = _fourth(block)
    return Reading(_wider(g, x, more), zero, _kernel(weight, more), block.strides, block.pads, gained, lambda y: y)


def _framed(g: Graph, block: Block, values: np.ndarray, size: tuple[int, ...], beside: Neighbours | None) -> Reading:
    x, zero, more = g.names[block.inputs[0]], g.zeros[block.inputs[0]], 0 if beside else _fourth(block)
    pads = beside.around(block.pads) if beside else block.pads
    image = _frame(g, _wider(g, x, more), pads, np.pad(values + zero, (0, more)), size, last=bool(beside or more))
    if beside:
        return _joined(g, block, beside, image, g.scalar(zero, np.uint8), size[1] + pads[1] + pads[3], (0, 0, 0, 0), np.zeros(1, np.int64))
    return Reading(image, g.scalar(zero, np.uint8), _kernel(block.arrays["weight"], more), block.strides, (0, 0, 0, 0), np.zeros(1, np.int64), lambda y: y)


def _joined(g: Graph, block: Block, beside: Neighbours, x: str, zero: str, width: int, pads: tuple[int, ...], gained: np.ndarray) -> Reading:
    """Several pixels in one."""
    high, wide = g.program.shapes[block.inputs[0]][2:]
    columns = convolved_size(block, (high or block.arrays["weight"].shape[2], wide))[1]
    return Reading(beside.joined(g, x, _channels(block), width), zero, beside.filters(block.arrays["weight"]), (block.strides[0], 1), pads, gained,
                   lambda y: beside.apart(g, y, len(block.arrays["weight"]), columns))


def _channels(block: Block) -> int:
    return int(block.arrays["weight"].shape[1]) * block.groups


def _fourth(block: Block) -> int:
    """1 for a convolution of three channels, which gets a fourth whose weights are nil: words are read in place, threes are copied first."""
    return int(block.groups == 1 and _channels(block) == COLOURS)


def _wider(g: Graph, x: str, more: int) -> str:
    return g.node("Pad", x, g.ints((0, 0, 0, 0, 0, more, 0, 0))) if more else x


def _kernel(weight: np.ndarray, more: int) -> np.ndarray:
    return np.pad(weight, ((0, 0), (0, more), (0, 0), (0, 0)))


def _frame(g: Graph, x: str, pads: tuple[int, ...], values: np.ndarray, size: tuple[int, ...], last: bool) -> str:
    """Zeros around the image, on which comes each channel's value, with zeros inside.

    Arguments:
        last: whether the bytes are put into the order of the convolution, channels last, before the image grows: onnxruntime takes four times as long to
            transpose four channels of a number of pixels that eight does not divide. It moves a Transpose behind Pad and Add, but not across a Reshape.
    """
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    top, left, bottom, right = pads
    around = g.ints(tuple(np.take((0, 0, top, left), order)) + tuple(np.take((0, 0, bottom, right), order)))
    value = g.constant(f"{x}/outside", values.astype(np.uint8).reshape(1, -1, 1, 1).transpose(order))
    inside = g.node("Pad", g.node("Expand", value, g.ints(tuple(np.take((1, len(values), *size), order)))), around)
    framed = g.node("Add", g.node("Pad", _channels_last(g, x, len(values), size) if last else x, around), g.node("Sub", value, inside))
    return g.node("Transpose", framed, perm=[0, 3, 1, 2]) if last else framed


def _channels_last(g: Graph, x: str, channels: int, size: tuple[int, ...]) -> str:
    rows = g.node("Reshape", x, g.ints((0, channels, -1)))
    return g.node("Reshape", g.node("Transpose", rows, perm=[0, 2, 1]), g.ints((0, *size, channels)))
