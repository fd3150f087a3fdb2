"""Byte forms: a block as a few operators on uint8. A form answers False, having emitted nothing, where it cannot give the block's integers.

    conv2d, depthwise2d     QLinearConv [MaxPool] [Clip]       one float32 product, rounded to even: proven equal, but for ties of signed outputs
    conv_transpose2d        QLinearConv of its phases, which are put side by side (`transposed`)
    pool2d                  QLinearConv with ones where all windows count the same pixels
                            MatMulInteger [MatMul] ...         a global average, alone or behind one pixel: int32 sums, requantized in float64
    dense                   QGemm; in floats where accumulators leave the network
    multiply                QLinearMul where one ratio for all channels is clear of ties
    add                     QLinearAdd where all channels are scaled alike, else QLinearConv over both operands (`sums`)
    lookup                  DequantizeLinear, the function, QuantizeLinear where no entry is near a tie; GatherElements
    concat, select, upsample2d, and convolutions that change nothing: bytes are moved
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.clearance import products_are_clear
from quantizeml_core.geometry import common_denominator
from quantizeml_core.program import Program
from quantizeml_core.solve import convolution_area

from .. import body
from ..unchanged import unchanged
from . import convolution, functions, sums, transposed
from .convolution import convolved, finish, pooled, ratios, top
from .graph import MIDDLE, Graph

Form = Callable[[Graph, Block], bool]
ONE = np.ones(1)


def conv(g: Graph, block: Block) -> bool:
    """A convolution without table."""
    if unchanged(g.program, block):
        return _moved(g, block)
    if not convolution.requantizes(block):
        return False
    if block.pool is not None and block.pool.kind == "gap":
        return averaged(g, block)
    if (reader := convolution.shuffle(g.program, block)) and convolved(g, convolution.reordered(block, reader.arrays["channels"]), g.names[reader.output]):
        g.written.add(reader.output)
        return True
    return convolved(g, block, g.names[block.output]) or _one_pixel(g, block, body.reach(g.program, block))


def averaged(g: Graph, block: Block) -> bool:
    """The average of an image, or a convolution of one pixel and the average behind it: a product over channels, summed before it is requantized."""
    reach = body.reach(g.program, block)
    weight = block.arrays["weight"]
    if _is_mean(block):
        _divided(g, block, _image_sums(g, block), weight.reshape(-1).astype(np.float64))
        return True
    if not _is_product(block, reach):
        return False
    pixels = g.node("Reshape", g.node("Transpose", g.names[block.inputs[0]], perm=[0, 2, 3, 1]), g.ints((0, -1, weight.shape[1])))
    sums = _held(g, block, _sums(g, block, pixels, weight[:, :, 0, 0]))
    _divided(g, block, _total(g, block, sums, wide=_leaves_int32(g, block, reach)))
    return True


def _one_pixel(g: Graph, block: Block, reach: tuple[np.ndarray, np.ndarray]) -> bool:
    """A convolution of an image of one pixel, as behind an average, whose ratios float32 does not hold: it is small, and requantized in float64."""
    if g.program.shapes[block.inputs[0]][2:] != (1, 1) or block.pool is not None or not _is_product(block, reach):
        return False
    rows = g.node("Flatten", g.names[block.inputs[0]], axis=1)
    _divided(g, block, _held(g, block, _sums(g, block, rows, block.arrays["weight"][:, :, 0, 0])))
    return True


def _is_product(block: Block, reach: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a convolution is a product over channels, in 32 bits with and without its bias."""
    plain = block.arrays["weight"].shape[2:] == (1, 1) and block.groups == 1 and block.strides == (1, 1) and not any(block.pads)
    return plain and max(-int(reach[0].min()), int(reach[1].max())) + int(np.abs(_bias(block)).max()) < 2**31


def _is_mean(block: Block) -> bool:
    """Whether nothing but one weight of each channel comes before the average."""
    alone = block.kind == "depthwise2d" and block.arrays["weight"].shape[1:] == (1, 1, 1) and block.activation is None
    return alone and block.strides == (1, 1) and not any(block.pads)


def _image_sums(g: Graph, block: Block) -> str:
    """The integers of each image summed, (N, C), by a product with ones; channels last, as a QLinearConv leaves them, ones with pixels."""
    x, channels, area = g.names[block.inputs[0]], len(block.arrays["weight"]), _area(g, block)
    first, zero = _channels_first(g.program, block.inputs[0]), g.zero(block.inputs[0])
    ones = g.constant(f"{block.name}/ones", np.ones((area, 1), np.int8) if first else np.ones((1, area), np.uint8))
    images = g.node("Reshape", x if first else g.node("Transpose", x, perm=[0, 2, 3, 1]), g.ints((0, channels, -1) if first else (0, -1, channels)))
    given = (images, ones, zero, g.nil(block.name)) if first else (ones, images, g.scalar(0, np.uint8), zero)
    return g.node("Squeeze", g.node("MatMulInteger", *given), g.ints((2 if first else 1,)))


def _total(g: Graph, block: Block, sums: str, wide: bool) -> str:
    """Sums (N, pixels, C) over the pixels, (N, C): a product with ones, which takes half the time of ReduceSum."""
    ones = np.ones(_area(g, block), np.int64 if wide else np.int32)
    return g.node("MatMul", g.constant(f"{block.name}/ones", ones), g.node("Cast", sums, to=onnx.TensorProto.INT64) if wide else sums)


def _sums(g: Graph, block: Block, x: str, weight: np.ndarray) -> str:
    return g.product("MatMulInteger", block.name, weight.T, top(g, block), lambda w, wz: (x, w, g.zero(block.inputs[0]), wz),
                     onnx.TensorProto.INT32)


def _bias(block: Block) -> np.ndarray:
    return np.broadcast_to(block.arrays.get("bias", np.zeros(1)), (len(block.arrays["weight"]),)).astype(np.int64)


def _held(g: Graph, block: Block, sums: str) -> str:
    """Sums without their bias between the ends of the activation, moved by the bias: clip(acc + b, 0, t) is clip(acc, -b, t - b) + b."""
    bias = _bias(block)
    if block.activation is not None:
        sums = g.node("Max", sums, g.constant(f"{block.name}/bottom", (-bias).astype(np.int32)))
    if "bound" in block.arrays:
        sums = g.node("Min", sums, g.constant(f"{block.name}/top", (block.arrays["bound"] - bias).astype(np.int32)))
    return sums


def _leaves_int32(g: Graph, block: Block, reach: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether sums over the image do, without the biases of its pixels."""
    low, high = body.after_pool(block, g.program, reach)
    without = _area(g, block) * _bias(block)
    return max(int((high - without).max()), -int((low - without).min())) >= 2**31


def _area(g: Graph, block: Block) -> int:
    return convolution_area(block, g.program.shapes[block.inputs[0]])


def _divided(g: Graph, block: Block, total: str, weight: np.ndarray = ONE) -> None:
    """Law 2 on sums (N, C), to which each channel's weight and each pixel's bias are still to come, in float64, which holds every product exactly, to bytes
    (N, C, 1, 1), or (N, C) where no more is read. A Cast drops the fraction of what is not negative."""
    low, high = (int(v) for v in block.arrays["range"])
    ratio = numerics.multiplier_value(block.arrays["multiplier"], block.arrays["shift"])
    scaled = g.node("Mul", g.node("Cast", total, to=onnx.TensorProto.DOUBLE), g.constant(f"{block.name}/ratio", ratio * weight))
    zero = g.zeros[block.output]
    offset = _area(g, block) * _bias(block) * ratio + zero + 0.5
    moved = g.node("Add", scaled, g.constant(f"{block.name}/offset", offset))
    ends = (g.scalar(end + zero, np.float64) for end in (low, high))
    kept, target = g.node("Clip", moved, *ends), g.names[block.output]
    if g.only_flattened(block.output):
        g.flat.add(block.output)
        g.node("Cast", kept, to=onnx.TensorProto.UINT8, output=target)
    else:
        g.node("Unsqueeze", g.node("Cast", kept, to=onnx.TensorProto.UINT8), g.ints((2, 3)), output=target)


def _moved(g: Graph, block: Block) -> bool:
    x, target = g.names[block.inputs[0]], g.names[block.output]
    if block.pool is None:
        g.node("Identity", x, output=target)
    elif _channels_first(g.program, block.inputs[0]):
        g.node("Cast", pooled(g, block, g.node("Cast", x, to=onnx.TensorProto.FLOAT)), to=onnx.TensorProto.UINT8, output=target)
    else:
        g.node("Identity", pooled(g, block, x), output=target)
    return True


def _channels_first(program: Program, tensor: str) -> bool:
    """Whether bytes come from an exact body, not from a QLinearConv, which leaves channels last: there onnxruntime's MaxPool of bytes takes ten times as long as one of floats."""
    return any(b.output == tensor and (b.kind not in FORMS or "table" in b.arrays) for b in program.blocks)


def dense(g: Graph, block: Block) -> bool:
    """A dense layer; the last one keeps its accumulators, which its Dequantizer writes as floats."""
    tensor = block.inputs[0]
    if "table" in block.arrays or block.activation is not None and "shift" not in block.arrays:
        return False
    reach = body.reach(g.program, block)
    scale = ratios(g.program, block, reach) if {"shift", "multiplier"} <= block.arrays.keys() and "bound" not in block.arrays else None
    if "shift" in block.arrays and scale is None:
        return False
    x = g.node("Flatten", g.names[tensor], axis=1) if block.flatten and tensor not in g.flat else g.names[tensor]
    bias = np.broadcast_to(block.arrays.get("bias", np.zeros(1, np.int64)), (len(block.arrays["weight"]),)).astype(np.int32)
    if scale is not None:
        _requantized(g, block, x, bias, reach, scale)
    else:
        g.sums[block.output] = lambda step, name: _scaled(g, block, x, bias, step, name)
    return True


def _scaled(g: Graph, block: Block, x: str, bias: np.ndarray, step: np.ndarray, name: str) -> None:
    """The accumulators of a dense layer as float32 times a step, (F,) or (1,)."""
    ratio, added, one = g.constant(f"{block.name}/step", np.broadcast_to(step.astype(np.float32), bias.shape)), g.constant(f"{block.name}/bias", bias), g.scalar(1, np.float32)
    y = g.product("QGemm", block.name, block.arrays["weight"].T, top(g, block), lambda w, wz: (
        x, one, g.zero(block.inputs[0]), w, ratio, g.repeated(wz, len(bias)), added), onnx.TensorProto.FLOAT, domain="com.microsoft")
    g.node("Identity", y, output=name)


def _requantized(g: Graph, block: Block, x: str, bias: np.ndarray, reach: tuple[np.ndarray, np.ndarray], scale: np.ndarray) -> None:
    ratio, added, one = g.constant(f"{block.name}/ratio", scale), g.constant(f"{block.name}/bias", bias), g.scalar(1, np.float32)
    y = g.product("QGemm", block.name, block.arrays["weight"].T, top(g, block), lambda w, wz: (
        x, one, g.zero(block.inputs[0]), w, ratio, g.repeated(wz, len(bias)), added, one, g.zero(block.output)), domain="com.microsoft")
    finish(g, block, y, reach, g.names[block.output])


def multiply(g: Graph, block: Block) -> bool:
    """QLinearMul, which has one ratio for all channels and adds the zero point before it rounds."""
    if not {"multiplier", "shift"} <= block.arrays.keys() or "bound" in block.arrays:
        return False
    low, high = (int(v) for v in block.arrays["range"])
    low = low if block.activation is None else 0
    multiplier, shift = (block.arrays[n].astype(np.int64) for n in ("multiplier", "shift"))
    if not products_are_clear(multiplier, shift, g.program.input_range(block), g.program.input_range(block, 1), low, high):
        return False
    (x, y), one, zero = block.inputs, g.scalar(1, np.float32), g.zeros[block.output]
    ratio = numerics.multiplier_value(multiplier, shift).astype(np.float32).flat[0]
    y = g.node("QLinearMul", g.names[x], g.constant(f"{block.name}/ratio", ratio), g.zero(x), g.names[y], one, g.zero(y), one, g.zero(block.output), domain="com.microsoft")
    sums.clipped(g, block, y, low + zero, high + zero)
    return True


def concat(g: Graph, block: Block) -> bool:
    g.node("Concat", *(g.names[t] for t in block.inputs), output=g.names[block.output], axis=1)
    return True


def select(g: Graph, block: Block) -> bool:
    """A Slice where the channels are neighbours: onnxruntime moves Transposes behind it, but not behind a Gather. Nothing where a convolution has that order already."""
    channels = block.arrays["channels"]
    if block.output in g.written:
        return True
    if np.array_equal(channels, np.arange(channels[0], channels[0] + len(channels))):
        g.node("Slice", g.names[block.inputs[0]], *(g.ints((int(n),)) for n in (channels[0], channels[0] + len(channels), 1)), output=g.names[block.output])
        return True
    g.node("Gather", g.names[block.inputs[0]], g.constant(f"{block.name}/channels", block.arrays["channels"]), output=g.names[block.output], axis=1)
    return True


def upsample(g: Graph, block: Block) -> bool:
    """Channels last, where they are so already, copies of pixels are rows of channels: Tile takes a tenth of the time of Resize."""
    channels, high, wide = g.program.shapes[block.inputs[0]][1:]
    x, (down, across) = g.names[block.inputs[0]], block.strides
    if None in (channels, high, wide) or _channels_first(g.program, block.inputs[0]):
        scales = g.constant(f"{block.name}/scales", np.array([1, 1, down, across], np.float32))
        g.node("Resize", x, "", scales, output=g.names[block.output], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        return True
    pixels = g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 3, 1]), g.ints((0, high, 1, wide, 1, channels)))
    image = g.node("Reshape", g.node("Tile", pixels, g.ints((1, 1, down, 1, across, 1))), g.ints((0, down * high, across * wide, channels)))
    g.node("Transpose", image, perm=[0, 3, 1, 2], output=g.names[block.output])
    return True


def average(g: Graph, block: Block) -> bool:
    """Averages of windows that all count the same pixels: a depthwise convolution with ones. No negative tie may occur: among sums of few bytes it would be frequent."""
    assert block.pool is not None
    channels, *size = g.program.shapes[block.inputs[0]][1:]
    if None in (channels, *size) or not convolution.requantizes(block) or (common_denominator(tuple(size), block.pool)[1] != 1).any():
        return False
    summed = replace(block, kind="depthwise2d", groups=channels, strides=block.pool.strides, pads=block.pool.pads, pool=None)
    summed = summed.with_arrays(weight=np.ones((channels, 1, *block.pool.size), np.int8))
    ties = block.activation is None and not convolution.rises(g, summed) and body.reach(g.program, summed)[0].min() < 0
    return not ties and convolved(g, summed, g.names[block.output])


def entry(g: Graph, block: Block) -> bool:
    """A model input: channel-first, then one QuantizeLinear; int8 integers become bytes by their zero point."""
    x, fmt = g.names[block.inputs[0]], g.program.formats[block.output]
    if len(g.program.shapes.get(block.inputs[0], block.perm)) < len(block.perm):
        x = g.node("Unsqueeze", x, g.ints((1,)))
    x = x if block.perm in ((), tuple(range(len(block.perm)))) else g.node("Transpose", x, perm=list(block.perm))
    scale, zero = block.arrays["scale"].astype(np.float32), block.arrays["zero_point"].astype(np.int64) + (MIDDLE if fmt.signed else 0)
    scale, zero = np.broadcast_arrays(scale, zero)
    alike = len(np.unique(scale)) == len(np.unique(zero)) == 1
    scale, zero = (scale[0], zero[0]) if alike else (scale, zero)
    g.node("QuantizeLinear", x, g.constant(f"{block.name}/scale", scale), g.constant(f"{block.name}/zero", zero.astype(np.uint8)), output=g.names[block.output],
           **({} if alike else {"axis": 1}))
    return True


FORMS: Mapping[str, Form] = {
    "input": entry, "lookup": functions.form, "multiply": multiply, "conv2d": conv, "depthwise2d": conv, "conv_transpose2d": transposed.form, "pool2d": average, "dense": dense, "add": sums.form, "concat": concat, "select": select, "upsample2d": upsample,
}
