"""Pixels in other places: convolutions whose kernels hold a single one.

    Pad(x; p)               a depthwise convolution of one pixel, pads p
    x[:, :, a::s, b::t]     a depthwise convolution, strides (s, t), the one at (a, b)
    SpaceToDepth(x; b)      a grouped one with a filter for each place of a b x b square, strides (b, b), then the channels in the operation's order
    DepthToSpace(x; b)      a transposed one, strides (b, b), each channel to its place

They come last: what ends a network stays the movement it is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import pad
from .graph import Dims, attribute, dims, ints
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import unpadded

WIDEST = 8
"""Edge of the largest kernel that stands for a slice: it multiplies by zeros."""


def padded(node: ir.Node) -> Proposal | Refusal | None:
    """The depthwise convolution of zeros around an image that no reader takes in."""
    shape, found = _image(node.inputs[0]), pad.spatial(node)
    if isinstance(found, Refusal) or pad.value(node) != 0:
        return found if isinstance(found, Refusal) else Refusal(f"it pads with {pad.value(node)}, a convolution pads with 0")
    if shape is None or not _read(node):
        return None
    return Proposal((node,), Op("Conv", (node.inputs[0], np.ones((shape[1], 1, 1, 1))), unpadded(groups=shape[1]) | {"pads": found}))


def sliced(node: ir.Node) -> Proposal | Refusal | None:
    """The depthwise convolution of a slice along height and width."""
    shape, after = _image(node.inputs[0]), _image(node.outputs[0])
    places = None if shape is None or after is None or not _read(node) else _places(node, shape)
    if places is None:
        return None
    kernel = tuple(size - (len(p) - 1) * p.step for size, p in zip(shape[2:], places, strict=True))
    if min(p.step for p in places) < 1 or max(kernel) > WIDEST:
        return Refusal(f"it takes pixels backwards or leaves out more than {WIDEST - 1} at an end")
    weight = np.zeros((shape[1], 1, *kernel))
    weight[:, :, places[0].start, places[1].start] = 1.0
    form = unpadded(kernel, [p.step for p in places], shape[1])
    return Proposal((node,), Op("Conv", (node.inputs[0], weight), form, name=node.name or "", shape=after), extent="true")


def _places(node: ir.Node, shape: Dims) -> tuple[range, range] | None:
    """The rows and the columns that a slice takes; None for one of other axes, or one that is computed."""
    starts, ends, axes, steps = (ints(node, name, i) for i, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None:
        return None
    places = [axis % 4 for axis in axes or range(len(starts))]
    if not {2, 3}.issuperset(places):
        return None
    taken = {axis: range(shape[axis])[slice(*bounds)] for axis, *bounds in zip(places, starts, ends, steps or (1,) * len(starts), strict=True)}
    return taken.get(2, range(shape[2])), taken.get(3, range(shape[3]))


def gathered(node: ir.Node) -> Proposal | None:
    """The convolution of SpaceToDepth."""
    shape, block = _image(node.inputs[0]), attribute(node, "blocksize")
    if shape is None or not _read(node):
        return None
    places, channels, (height, width) = block**2, shape[1], (n // block for n in shape[2:])
    weight = np.tile(np.eye(places).reshape(places, 1, block, block), (channels, 1, 1, 1))
    conv = Op("Conv", (node.inputs[0], weight), unpadded((block, block), (block, block), channels), shape=(shape[0], places * channels, height, width))
    order = np.arange(places * channels).reshape(channels, places).T.ravel()
    return Proposal((node,), Op("Gather", (conv, order), {"axis": 1}, shape=conv.shape), extent="true")


def spread(node: ir.Node) -> Proposal | None:
    """The transposed convolution of DepthToSpace."""
    shape, block = _image(node.inputs[0]), attribute(node, "blocksize")
    if shape is None or not _read(node):
        return None
    places, channels = block**2, shape[1] // block**2
    sources = np.arange(shape[1])
    sources = sources.reshape(channels, places).T if attribute(node, "mode", "DCR") == "CRD" else sources.reshape(places, channels)
    weight = np.zeros((shape[1], channels, places))
    weight[sources, np.arange(channels), np.arange(places)[:, None]] = 1.0
    weight = weight.reshape(shape[1], channels, block, block)
    return Proposal((node,), Op("ConvTranspose", (node.inputs[0], weight), unpadded((block, block), (block, block))), extent="true")


def _image(value: ir.Value) -> Dims | None:
    """The shape of an image of known size."""
    shape = dims(value)
    return shape if shape is not None and len(shape) == 4 and None not in shape[1:] else None


def _read(node: ir.Node) -> bool:
    """Whether the network goes on."""
    return bool(node.outputs[0].consumers())


PAD = Rewrite("pad_to_convolution", padded, ("Pad",), last=True)
SLICE = Rewrite("slice_to_convolution", sliced, ("Slice",), last=True)
SPACE_TO_DEPTH = Rewrite("space_to_depth_to_convolution", gathered, ("SpaceToDepth",), last=True)
DEPTH_TO_SPACE = Rewrite("depth_to_space_to_convolution", spread, ("DepthToSpace",), last=True)
