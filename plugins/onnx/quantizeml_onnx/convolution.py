"""Bodies of convolutions. Which one a block gets is decided by proof; see `functions` for what each is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import helper

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.geometry import convolved_size
from quantizeml_core.program import Program

from . import pairs, tables, tails
from .body import Body, activation, after_pool, attribute_names, biased, geometry, padded_range, partial_sums, reach, unsigned
from .unchanged import unchanged

LONGEST_TWIN = 1024
"""Inputs of a filter of one pixel up to which its products are made twice."""
END = 2**63 - 1


def conv(program: Program, block: Block) -> Body:
    if unchanged(program, block):
        return _moved(program, block)
    reason = _not_fast(program, block)
    if not reason or may_rise(program, block):
        return _fast_conv(program, block)
    if _twin_pays(block) and _halves_agree(program, block):
        return _twin_conv(program, block)
    if _is_product(block):
        return _product(program, block, reason)
    exact = "pad_value" not in block.arrays and partial_sums(program, block) < numerics.FLOAT32_EXACT
    in_float = exact and (block.kind == "depthwise2d" or "table" in block.arrays)
    return _float_conv(program, block, reason) if in_float else _integer_conv(program, block, reason)


def _moved(program: Program, block: Block) -> Body:
    """The input's integers, or the largest of each window: of floats, whose kernel is ten times as fast as that of bytes."""
    to = helper.np_dtype_to_tensor_dtype(program.formats[block.output].dtype)
    if block.pool is None:
        return Body(f"moved{to}", (f"Z = Cast <to = {to}> (X)",), attribute_names(block))
    return Body(f"largest{to}", ("x = Cast <to = 1> (X)", *_max_pool(block, "x", "y"), f"Z = Cast <to = {to}> (y)"), attribute_names(block))


def _not_fast(program: Program, block: Block) -> str:
    """Why QLinearConv would not give the same integers; empty when it is proven to."""
    if block.activation is None or block.activation.is_table:
        return "the output is signed: ties at acc = -2^(f-1) round the other way" if block.activation is None else "a table follows the accumulator"
    if block.pool and block.pool.kind == "gap":
        return "the accumulators are summed before they are requantized"
    low, high = reach(program, block)
    arrays = block.arrays
    if max(-int(low.min()), int(high.max())) >= 2**31:
        return "the accumulator may exceed 32 bits"
    top = program.formats[block.output].range[1]
    agrees = numerics.float32_agrees(tails.per_filter(arrays["multiplier"], low), tails.per_filter(arrays["shift"], low), 0, top, (low, high))
    return "" if agrees.all() else f"{int((~agrees).sum())} of {len(agrees)} multipliers leave float32's 24 bits"


def may_rise(program: Program, block: Block) -> bool:
    """Whether one QLinearConv of accumulators raised by 128 / r is proven to give a signed output plus 128."""
    if block.activation is not None or block.pool and block.pool.kind == "gap" or not {"multiplier", "shift"} <= block.arrays.keys():
        return False
    low, high = reach(program, block)
    m, f = (tails.per_filter(block.arrays[name], low) for name in ("multiplier", "shift"))
    return program.formats[block.output].range == (-128, 127) and bool(numerics.float32_raised_agree(m, f, (low, high)).all())


def _fast_conv(program: Program, block: Block) -> Body:
    """One QLinearConv, then the ends of the range that a byte does not have. A signed output is raised to bytes of zero point 128, and saturates by itself."""
    lines, zero, restore, pads, key = _conv_source(program, block)
    bias, rises = "shifted" if restore else "bias" if "bias" in block.arrays else "", block.activation is None
    lines += ["one = Constant <value_float = 1.0> ()", "yz = Constant <value = uint8 {0}> ()",
              f"xz = Constant <value = uint8 {{{zero}}}> ()", "m = Cast <to = 1> (Scale)", "ratio = Div (m, Shift)",
              "flat = Constant <value_ints = [-1]> ()", f"{'r' if rises else 'ws'} = Reshape (ratio, flat)"]
    if restore:
        lines += _shifted_bias(restore, "bias" in block.arrays)
    lines += _risen(bias) if rises else []
    product, moved = _quantized(program, block, "W", f"{geometry(block, pads)}, group = {block.groups}", "risen" if rises else bias)
    lines += [*product, *_max_pool(block, "q", "p"), *(LOWERED if rises else _clip_unsigned(program, block, "p"))]
    return Body(("raised" if rises else "fast") + key + moved + _range_key(program, block), tuple(lines), attribute_names(block))


def _risen(bias: str) -> list[str]:
    """`risen`: the bias and 128 / r; `ws`: the ratio that sends ties up."""
    lines = [f"lift = Constant <value_float = {float(numerics.LIFT)!r}> ()", "ws = Mul (r, lift)", "level = Constant <value_float = 128.0> ()", "gained = Div (level, r)"]
    return [*lines, "gain = Cast <to = 6> (gained)", f"risen = Add (gain, {bias})"] if bias else [*lines, "risen = Cast <to = 6> (gained)"]


LOWERED = ("middle = Constant <value = uint8 {128}> ()", "d = Sub (p, middle)", "Z = Cast <to = 3> (d)")


def _quantized(program: Program, block: Block, weights: str, attributes: str, bias: str) -> tuple[list[str], str]:
    """`q`: QLinearConv of `u`, in bytes."""
    last = f", {bias}" if bias else ""
    return pairs.product(block.arrays["weight"], block.groups, _top(program, block), weights, "q", "uint8[a, b, c, d]",
                         lambda w, zero: f"QLinearConv <{attributes}> (u, one, xz, {w}, ws, {zero}, one, yz{last})")


def _top(program: Program, block: Block) -> int:
    """The largest byte that `_conv_source` gives."""
    low, high = padded_range(program, block)
    return high + 128 if low < 0 or program.formats[block.inputs[0]].signed and "pad_value" in block.arrays else high


def _twin_pays(block: Block) -> bool:
    """Twice the products cost less than ConvInteger, and less than MatMulInteger and a tail in floats while a filter is short. The length was measured (benchmarks/deployment.py)."""
    signed = block.kind == "conv2d" and block.groups == 1 and block.activation is None and block.pool is None and "shift" in block.arrays
    return signed and (not _is_product(block) or block.arrays["weight"][0].size <= LONGEST_TWIN)


def _halves_agree(program: Program, block: Block) -> bool:
    low, high = reach(program, block)
    m, f = (tails.per_filter(block.arrays[name], low) for name in ("multiplier", "shift"))
    inside = max(-int(low.min()), int(high.max())) < 2**31
    return inside and bool(numerics.float32_halves_agree(m, f, *program.formats[block.output].range, (low, high)).all())


def _twin_conv(program: Program, block: Block) -> Body:
    """A signed output as the difference of two ReLU halves, max(acc, 0) and max(-acc, 0), in one QLinearConv with filters W and -W.

    Either half is rounded in the direction it needs by a ratio moved by units in its last place (`numerics.float32_halves_agree`).
    """
    lines, zero, restore, pads, key = _conv_source(program, block)
    bias = "shifted" if restore else "bias" if "bias" in block.arrays else ""
    if restore:
        lines += _shifted_bias(restore, "bias" in block.arrays)
    if bias:
        lines += [f"nb = Neg ({bias})", f"bb = Concat <axis = 0> ({bias}, nb)"]
    low, high = program.formats[block.output].range
    filters = len(block.arrays["weight"])
    product, moved = _quantized(program, block, "ww", geometry(block, pads), "bb" if bias else "")
    lines += [
        "nw = Neg (W)", "ww = Concat <axis = 0> (W, nw)", "m = Cast <to = 1> (Scale)", "ratio = Div (m, Shift)", "flat = Constant <value_ints = [-1]> ()",
        "r = Reshape (ratio, flat)", f"lift = Constant <value_float = {float(numerics.LIFT)!r}> ()",
        f"drop = Constant <value_float = {float(numerics.DROP)!r}> ()", "ru = Mul (r, lift)", "rd = Mul (r, drop)", "ws = Concat <axis = 0> (ru, rd)",
        "one = Constant <value_float = 1.0> ()", "yz = Constant <value = uint8 {0}> ()",
        f"xz = Constant <value = uint8 {{{zero}}}> ()", *product,
        f"halves = Constant <value_ints = [{filters}, {filters}]> ()", "up, down = Split <axis = 1> (q, halves)",
        f"hi = Constant <value = uint8 {{{high}}}> ()", f"lo = Constant <value = uint8 {{{-low}}}> ()", "cu = Clip (up, yz, hi)", "cd = Clip (down, yz, lo)",
        "d = Sub (cu, cd)", "Z = Cast <to = 3> (d)",
    ]
    return Body(f"twin{filters}{key}{moved}{_range_key(program, block)}", tuple(lines), attribute_names(block))


def _integer_conv(program: Program, block: Block, reason: str) -> Body:
    lines, zero, restore, pads, key = _conv_source(program, block)
    lines += ["wu = Cast <to = 2> (W)", "wz = Constant <value = uint8 {128}> ()", "w = Add (wu, wz)", f"xz = Constant <value = uint8 {{{zero}}}> ()"]
    lines += [f"raw = ConvInteger <{geometry(block, pads)}, group = {block.groups}> (u, w, xz, wz)"]
    lines += _restored(restore, "raw", "mac")
    return _finished(program, block, "integer" + key + f"p{'_'.join(map(str, pads))}g{block.groups}", lines, reason)


def _is_product(block: Block) -> bool:
    pooled = block.pool is not None and block.pool.kind != "gap"
    return block.arrays["weight"].shape[2:] == (1, 1) and block.groups == 1 and not any(block.pads) and not pooled and "table" not in block.arrays


def _product(program: Program, block: Block, reason: str) -> Body:
    """A convolution of single pixels: a product of bytes, channels last, which takes half the time of ConvInteger. So it stays until the integers are int8, or summed."""
    lines, zero, _, _, key = _conv_source(program, block)
    product, moved = pairs.product(block.arrays["weight"], 1, _top(program, block), "wt", "mac", "int32[a, b, c, d]", lambda w, wz: f"MatMulInteger (t, {w}, xz, {wz})")
    lines += [*_pixels(block), "wf = Flatten <axis = 1> (W)", "wt = Transpose <perm = [1, 0]> (wf)", f"xz = Constant <value = uint8 {{{zero}}}> ()", *product]
    averaged, biased_ = block.pool is not None, "bias" in block.arrays
    end = tails.tail(block, after_pool(block, program, reach(program, block)), may_take_bias=block.activation is None and not averaged)
    lines += ["sum = Add (mac, bias)" if biased_ and not end.biased else "sum = Identity (mac)", *_rectified(block, "sum", "act")]
    if averaged:
        lines += [*_wide(program, block), "axes = Constant <value_ints = [1, 2]> ()", "total = ReduceSum <keepdims = 1> (wide_act, axes)",
                  "acc = Transpose <perm = [0, 3, 1, 2]> (total)", *end.lines("acc", "Z")]
    else:
        lines += [*end.lines("act", "z", shape=tails.LAST), "Z = Transpose <perm = [0, 3, 1, 2]> (z)"]
    strided = "" if block.strides == (1, 1) else "strided"
    return Body("product" + strided + key + moved + end.key, tuple(lines), attribute_names(block), reason)


def _pixels(block: Block) -> list[str]:
    """`t`: the pixels that are read, (N, H, W, C)."""
    if block.strides == (1, 1):
        return ["t = Transpose <perm = [0, 2, 3, 1]> (u)"]
    return ["every = Transpose <perm = [0, 2, 3, 1]> (u)", "first = Constant <value_ints = [0, 0]> ()", f"stop = Constant <value_ints = [{END}, {END}]> ()",
            "plane = Constant <value_ints = [1, 2]> ()", "apart = Constant <value_ints: ints = @strides> ()", "t = Slice (every, first, stop, plane, apart)"]


def _rectified(block: Block, source: str, target: str) -> list[str]:
    """ReLU or clipped ReLU on int32 accumulators, channels last."""
    if block.activation is None:
        return [f"{target} = Identity ({source})"]
    if "bound" not in block.arrays:
        return [f"{target} = Relu ({source})"]
    return [f"{target}0 = Relu ({source})", f"across = Constant <value_ints = {tails.LAST}> ()", "most = Reshape (max_value, across)", f"{target} = Min ({target}0, most)"]


def _float_conv(program: Program, block: Block, reason: str) -> Body:
    lines = ["xf = Cast <to = 1> (X)", "wf = Cast <to = 1> (W)"]
    lines += [f"mac = Conv <{geometry(block, block.pads)}, group = {block.groups}> (xf, wf)"]
    return _finished(program, block, f"floatp{'_'.join(map(str, block.pads))}g{block.groups}", lines, reason, floating=True)


def transposed(program: Program, block: Block) -> Body:
    """float32 ConvTranspose while every partial sum stays below 2^24; else ConvInteger over pixels set apart by zeros, the kernel turned round."""
    if partial_sums(program, block) < numerics.FLOAT32_EXACT:
        top, left, bottom, right = block.pads
        grown = f"pads = [{top}, {left}, {max(bottom, 0)}, {max(right, 0)}], output_padding = [{max(-bottom, 0)}, {max(-right, 0)}]"
        lines = ["xf = Cast <to = 1> (X)", "wf = Cast <to = 1> (W)", "wt = Transpose <perm = [1, 0, 2, 3]> (wf)",
                 f"mac = ConvTranspose <strides: ints = @strides, {grown}> (xf, wt)"]
        return _finished(program, block, f"float{_pads_key(block.pads)}", lines, "", floating=True)
    lines = [*_set_apart(program, block), *_turned_round(), "mac = ConvInteger (spaced, wp, xz, wz)"]
    window = (*block.strides, *block.pads, *block.arrays["weight"].shape[2:])
    key = ("signed" if program.input_range(block)[0] < 0 else "integer") + "x".join(map(str, program.shapes[block.inputs[0]][1:])) + _pads_key(window)
    return _finished(program, block, key, lines, "the sums of products may leave float32's 24 bits")


def _set_apart(program: Program, block: Block) -> list[str]:
    """`spaced`, bytes whose zero is `xz`: stride - 1 zeros behind every pixel, and around them what a plain convolution needs to give the transposed one."""
    channels, height, width = (int(s or 0) for s in program.shapes[block.inputs[0]][1:])
    (down, across), (top, left, bottom, right), (kh, kw) = block.strides, block.pads, block.arrays["weight"].shape[2:]
    signed = program.input_range(block)[0] < 0
    around = (0, 0, kh - 1 - top, kw - 1 - left, 0, 0, kh - down - bottom, kw - across - right)
    return [
        *unsigned("X", "u", signed), f"xz = Constant <value = uint8 {{{128 if signed else 0}}}> ()", "sa = Constant <value_ints = [3, 5]> ()", "apart = Unsqueeze (u, sa)",
        f"sb = Constant <value_ints = [0, 0, 0, 0, 0, 0, 0, 0, 0, {down - 1}, 0, {across - 1}]> ()", "behind = Pad (apart, sb, xz)",
        f"sc = Constant <value_ints = [0, {channels}, {height * down}, {width * across}]> ()", "wide = Reshape (behind, sc)",
        f"sd = Constant <value_ints = [{', '.join(map(str, around))}]> ()", "spaced = Pad (wide, sd, xz)",
    ]


def _turned_round() -> list[str]:
    """`wp`: the kernel with rows and columns in the opposite order, as uint8 around 128."""
    return [
        "ends = Constant <value_ints = [-1, -1]> ()", "stops = Constant <value_ints = [-9223372036854775807, -9223372036854775807]> ()",
        "axes = Constant <value_ints = [2, 3]> ()", "turned = Slice (W, ends, stops, axes, ends)", "wu = Cast <to = 2> (turned)",
        "wz = Constant <value = uint8 {128}> ()", "wp = Add (wu, wz)",
    ]


def _pads_key(numbers: tuple[int, ...]) -> str:
    return "p" + "_".join(map(str, numbers)).replace("-", "m")


def _finished(program: Program, block: Block, key: str, lines: list[str], reason: str, floating: bool = False) -> Body:
    """Bias, post-operations and tail shared by the exact bodies. Max pooling commutes with a monotone function: it is on floats where there are some, else last."""
    span, largest = after_pool(block, program, reach(program, block)), block.pool is not None and block.pool.kind == "max"
    direct = block.activation is None and (block.pool is None or largest and floating)
    end = tails.tail(block, span, may_take_bias=direct)
    if direct and floating and block.kind != "conv_transpose2d" and not _folds_exactly(program, block, "multiplier", "shift"):
        end = replace(end, affine=False, biased=False)
    if direct and (end.biased or "bias" not in block.arrays):
        return Body(key + end.key, (*lines, *_max_pool(block, "mac", "top"), *end.lines("top", "Z", floating)), attribute_names(block), reason)
    if "table" in block.arrays:
        return _looked_up(program, block, key, lines, reason, floating)
    lines += ["whole = Cast <to = 6> (mac)"] if floating else ["whole = Identity (mac)"]
    lines += [*biased(block, "whole", "sum", rank=4), *activation(block, "sum", "act")]
    if block.pool and block.pool.kind == "gap":
        lines += _summed(program, block, end)
    elif block.pool:
        lines += [*end.lines("act", "q"), *_max_pool(block, "q", "Z")]
    else:
        lines += end.lines("act", "Z")
    return Body(key + end.key, tuple(lines), attribute_names(block), reason)


def _looked_up(program: Program, block: Block, key: str, lines: list[str], reason: str, floating: bool) -> Body:
    """Accumulators to the output through a table; what is averaged goes through its entries."""
    averaged, extent = block.pool is not None, program.shapes[block.inputs[0]][2:]
    found = tables.lookup(block, reach(program, block), "bias" in block.arrays, averaged)
    if floating and found.affine and not _folds_exactly(program, block, "table_multiplier", "table_shift", tables.HALF + 0.5):
        key += "u"
        lines += [f"{n} = Constant <value_float = {end * float(numerics.FLOAT32_EXACT)}> ()" for n, end in (("least", -1), ("most", 1))]
        lines += ["sums = Clip (mac, least, most)"]  # changes nothing, and keeps what follows out of the convolution
    else:
        lines += ["sums = Identity (mac)"]
    size = program.shapes[block.output][2:] if not averaged else extent if None in extent else convolved_size(block, extent)
    lines += found.lines("sums", "act" if averaged else "Z", floating, size)
    key += found.key + "x".join(map(str, size))
    if not averaged:
        return Body(key, tuple(lines), attribute_names(block), reason)
    end = tails.tail(block, after_pool(block, program, reach(program, block)))
    return Body(key + end.key, (*lines, *_summed(program, block, end)), attribute_names(block), reason)


def _summed(program: Program, block: Block, end: tails.Tail) -> list[str]:
    return [*_wide(program, block), "axes = Constant <value_ints = [2, 3]> ()", "acc = ReduceSum <keepdims = 1> (wide_act, axes)", *end.lines("acc", "Z")]


def _folds_exactly(program: Program, block: Block, multiplier: str, shift: str, half: float = 0.5) -> bool:
    """Whether a float32 Conv into which onnxruntime folds the ratio and the bias still sums exactly: whole multiples of M's last bit times 2^-f, below 2^24 of them."""
    weight = np.abs(block.arrays["weight"].astype(np.int64)).reshape(len(block.arrays["weight"]), -1).sum(axis=1)
    m, f = (tails.per_filter(block.arrays.get(name, np.ones(1)), weight) for name in (multiplier, shift))
    furthest = weight * max(map(abs, program.input_range(block))) + np.abs(block.arrays.get("bias", np.zeros(1)))
    units = np.maximum(np.exp2(f) / np.maximum(m & -m, 1), 2)  # the half that rounds up is one too
    return bool(((furthest * numerics.multiplier_value(m, f) + half) * units < numerics.FLOAT32_EXACT).all())


def _conv_source(program: Program, block: Block) -> tuple[list[str], int, int, tuple[int, ...], str]:
    """uint8 activations `u`, their zero point, the part of it that is real padding, the pads left to the convolution, and a key.

    A convolution pads with its zero point: a padding value shared by all channels becomes the zero point; different ones are padded explicitly.
    """
    fmt = program.formats[block.inputs[0]]
    pads = block.pads
    if "pad_value" not in block.arrays:
        signed = fmt.signed and program.input_range(block)[0] < 0
        return unsigned("X", "u", signed), 128 if signed else 0, 0, pads, f"{'s' if signed else 'u'}p{'_'.join(map(str, pads))}g{block.groups}"
    values, offset = np.unique(block.arrays["pad_value"]), 128 if fmt.signed else 0
    lines = unsigned("X", "v", True) if fmt.signed else ["v = Identity (X)"]
    if len(values) == 1 or not any(pads):
        value = int(values[0]) if any(pads) else 0
        return [*lines, "u = Identity (v)"], value + offset, value, pads, f"z{value + offset}p{'_'.join(map(str, pads))}g{block.groups}"
    return [*lines, *_explicit_pad(pads, offset)], offset, 0, (0, 0, 0, 0), f"x{offset}p{'_'.join(map(str, pads))}g{block.groups}"


def _explicit_pad(pads: tuple[int, ...], offset: int) -> list[str]:
    return [
        "vf = Cast <to = 1> (v)", "vp = Cast <to = 1> (x_pad_value)", f"vo = Constant <value_float = {float(offset)}> ()", "vq = Add (vp, vo)",
        "va = Constant <value_ints = [1, 2]> ()", "vv = Unsqueeze (vq, va)", "vs = Sub (vf, vv)", "vw = Pad (vs, pads)", "vx = Add (vw, vv)",
        "u = Cast <to = 2> (vx)",
    ]


def _shifted_bias(zero: int, biased: bool) -> list[str]:
    """QLinearConv subtracts its zero point; the contract's bias has it folded in already: give it back, zero * sum(W)."""
    lines = [*_weight_sum(zero)]
    return [*lines, "shifted = Add (bias, restore)"] if biased else [*lines, "shifted = Identity (restore)"]


def _weight_sum(zero: int) -> list[str]:
    return ["wi = Cast <to = 6> (W)", "wa = Constant <value_ints = [1, 2, 3]> ()", "total = ReduceSum <keepdims = 0> (wi, wa)",
            f"zero = Constant <value = int32 {{{zero}}}> ()", "restore = Mul (total, zero)"]


def _restored(zero: int, source: str, target: str) -> list[str]:
    if not zero:
        return [f"{target} = Identity ({source})"]
    return [*_weight_sum(zero), "column = Constant <value_ints = [1, -1, 1, 1]> ()", "wide = Reshape (restore, column)", f"{target} = Add ({source}, wide)"]


def _wide(program: Program, block: Block) -> list[str]:
    """A sum over the image may leave 32 bits: then it is taken in 64."""
    low, high = after_pool(block, program, reach(program, block))
    return [f"wide_act = Cast <to = {7 if max(int(high.max()), -int(low.min())) >= 2**31 else 6}> (act)"]


def _max_pool(block: Block, source: str, target: str) -> list[str]:
    if not (block.pool and block.pool.kind == "max"):
        return [f"{target} = Identity ({source})"]
    return [f"{target} = MaxPool <kernel_shape: ints = @pool_size, strides: ints = @pool_strides, pads: ints = @pool_pads> ({source})"]


def _clip_unsigned(program: Program, block: Block, source: str) -> list[str]:
    """uint8 -> the output's range -> int8. A clipped ReLU is clipped at its own requantized bound: min commutes with a monotone function."""
    top = program.formats[block.output].range[1]
    if "bound" not in block.arrays:
        limits = ["lo = Constant <value = uint8 {0}> ()", f"hi = Constant <value = uint8 {{{top}}}> ()"]
        return [*limits, f"c = Clip ({source}, lo, hi)", "Z = Cast <to = 3> (c)"]
    bound = tails.double("max_value", "hb", 0, top, "Scale", "Shift", 6, "b")
    return [*bound, "hi = Cast <to = 2> (hb)", f"c = Min ({source}, hi)", "Z = Cast <to = 3> (c)"]


def _range_key(program: Program, block: Block) -> str:
    low, high = program.formats[block.output].range
    return f"r{low}_{high}".replace("-", "m")
