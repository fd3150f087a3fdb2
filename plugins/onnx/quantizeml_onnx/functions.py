"""Function bodies of quantized nodes: integer kernels of plain onnxruntime, as ONNX text.

One op_type may have several bodies (ONNX function overloads); which one a block gets is decided by proof, never by trial:

- `fast`      QLinearConv on uint8. It rounds ties to even in float32; the solver picks multipliers for which that equals the law on every reachable
              accumulator (`numerics.float32_agrees`). Only after a ReLU.
- `integer`   ConvInteger or MatMulInteger, then the exact tail. ConvInteger runs on int8 activations with weights moved to uint8 (zero point 128),
              the pairing x86 VNNI multiplies natively.
- `twin`      a signed output as the difference of two such halves, of W and of -W, each with its own direction of rounding.
- `float`     depthwise: float32 Conv whose every partial sum stays below 2^24, then the exact tail.

What follows the accumulator is in `tails`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import parser

from quantizeml_core import numerics
from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

from . import tails
from .contract import OWN, Call

INDEX_RANGE = (-1024, 1023)
LONGEST_TWIN = 1024


@dataclass(frozen=True)
class Body:
    """A function body: its overload key, its lines, the node attributes it refers to, and why a slower form was needed (empty for the fast one)."""

    overload: str
    lines: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    slow: str = ""


def body(program: Program, block: Block) -> Body:
    """The fastest body that is proven to give the program's integers."""
    return {"input": _input, "add": _add, "concat": _concat, "dense": _dense}.get(block.kind, _conv)(program, block)


def function(call: Call, body: Body, inputs: tuple[str, ...], opset: int) -> onnx.FunctionProto:
    """The FunctionProto of a body."""
    attributes = f"<{', '.join(body.attributes)}>" if body.attributes else ""
    imports = f'"" : {opset}' + (f', "{OWN}" : 1' if call.domain == OWN else "")
    text = f'<domain: "{call.domain}", overload: "{body.overload}", opset_import: [{imports}]>\n'
    text += f"{call.op_type} {attributes} ({', '.join(inputs)}) => (Z) {{\n" + "\n".join(body.lines) + "\n}"
    return parser.parse_function(text)


def dequantizer(count: int, opset: int) -> onnx.FunctionProto:
    """The Dequantizer of N tensors: DequantizeLinear of each, channel axis 1."""
    suffix = [""] if count == 1 else [str(i + 1) for i in range(count)]
    names = ["scale"] if count == 1 else [f"scale_{i + 1}" for i in range(count)]
    inputs = ", ".join(f"X{s}, {n}" for s, n in zip(suffix, names, strict=True))
    lines = [f"Y{s} = DequantizeLinear <axis = 1> (X{s}, {n})" for s, n in zip(suffix, names, strict=True)]
    outputs = ", ".join(f"Y{s}" for s in suffix)
    name = "Dequantizer" if count == 1 else f"Dequantizer{count}"
    text = f'<domain: "com.brainchip", opset_import: ["" : {opset}]>\n{name} ({inputs}) => ({outputs}) {{\n' + "\n".join(lines) + "\n}"
    return parser.parse_function(text)


def _input(program: Program, block: Block) -> Body:
    lines = ("f = Cast <to = 1> (X)", "t = Transpose <perm: ints = @perm> (f)", "Z = QuantizeLinear <axis = 1> (t, scale, zp)")
    return Body("", lines, ("perm",))


def _concat(program: Program, block: Block) -> Body:
    return Body("", ("Z = Concat <axis = 1> (X, Y)",))


def _add(program: Program, block: Block) -> Body:
    low, high = _add_reach(program, block)
    small = max(int(high.max()), -int(low.min())) < numerics.FLOAT32_EXACT // 4
    if "shift" in block.arrays and small and (block.arrays["shift"] >= 0).all() and "bound" not in block.arrays:
        return _float_add(block)
    lines = ["x = Cast <to = 6> (X)", "y = Cast <to = 6> (Y)", "xs = Mul (x, Xs)", "ys = Mul (y, Ys)", "sum = Add (xs, ys)"]
    return _ended(block, lines, (low, high), "")


def _float_add(block: Block) -> Body:
    """floor(x xs / 2^k + y ys / 2^k + 0.5): every step is exact in float32. A ReLU is the lower end of the clip."""
    low, high = (int(v) for v in block.arrays["range"])
    low = low if block.activation is None else 0
    lines = ["fx = Cast <to = 1> (Xs)", "fy = Cast <to = 1> (Ys)", "rx = Div (fx, Shift)", "ry = Div (fy, Shift)", "cx = Cast <to = 1> (X)",
             "cy = Cast <to = 1> (Y)", "mx = Mul (cx, rx)", "my = Mul (cy, ry)", "sum = Add (mx, my)", "half = Constant <value_float = 0.5> ()",
             "up = Add (sum, half)", *tails.floored("up", "Z", low, high)]
    return Body(f"f{low}_{high}".replace("-", "m"), tuple(lines))


def _dense(program: Program, block: Block) -> Body:
    low = program.input_range(block)[0]
    lines = ["flat = Flatten <axis = 1> (X)"] if block.flatten else ["flat = Identity (X)"]
    lines += _unsigned("flat", "u", low < 0)
    lines += [f"xz = Constant <value = uint8 {{{128 if low < 0 else 0}}}> ()", "wt = Transpose <perm = [1, 0]> (W)", "mac = MatMulInteger (u, wt, xz)"]
    lines += _biased(block, "mac", "sum", rank=2)
    return _ended(block, lines, _reach(program, block), "s" if low < 0 else "u")


def _conv(program: Program, block: Block) -> Body:
    reason = _not_fast(program, block)
    if not reason:
        return _fast_conv(program, block)
    if _twin_pays(block) and _halves_agree(program, block):
        return _twin_conv(program, block)
    in_float = block.kind == "depthwise2d" and "pad_value" not in block.arrays and _partial_sums(program, block) < numerics.FLOAT32_EXACT
    return _float_conv(program, block, reason) if in_float else _integer_conv(program, block, reason)


def _not_fast(program: Program, block: Block) -> str:
    """Why QLinearConv would not give the same integers; empty when it is proven to."""
    if block.activation is None or block.activation.is_table:
        return "the output is signed: ties at acc = -2^(f-1) round the other way" if block.activation is None else "a table follows the accumulator"
    if block.pool and block.pool.kind == "gap":
        return "the accumulators are summed before they are requantized"
    low, high = _reach(program, block)
    arrays = block.arrays
    if max(-int(low.min()), int(high.max())) >= 2**31:
        return "the accumulator may exceed 32 bits"
    top = program.formats[block.output].range[1]
    agrees = numerics.float32_agrees(tails.per_filter(arrays["multiplier"], low), tails.per_filter(arrays["shift"], low), 0, top, (low, high))
    return "" if agrees.all() else f"{int((~agrees).sum())} of {len(agrees)} multipliers leave float32's 24 bits"


def _fast_conv(program: Program, block: Block) -> Body:
    lines, zero, restore, pads, key = _conv_source(program, block)
    shift = "shifted" if restore else "bias" if "bias" in block.arrays else ""
    lines += ["one = Constant <value_float = 1.0> ()", "wz = Constant <value = int8 {0}> ()", "yz = Constant <value = uint8 {0}> ()",
              f"xz = Constant <value = uint8 {{{zero}}}> ()", "m = Cast <to = 1> (Scale)", "ratio = Div (m, Shift)",
              "flat = Constant <value_ints = [-1]> ()", "ws = Reshape (ratio, flat)"]
    if shift == "shifted":
        lines += _shifted_bias(restore, "bias" in block.arrays)
    attributes = f"strides: ints = @strides, pads = [{', '.join(map(str, pads))}], group = {block.groups}"
    lines += [f"q = QLinearConv <{attributes}> (u, one, xz, W, ws, wz, one, yz{', ' + shift if shift else ''})"]
    lines += _max_pool(block, "q", "p") + _clip_unsigned(program, block, "p")
    return Body("fast" + key + _range_key(program, block), tuple(lines), _attributes(block))


def _twin_pays(block: Block) -> bool:
    """Twice the products cost less than a tail in floats while a filter is short. The length was measured (benchmarks/speed.py)."""
    signed = block.kind == "conv2d" and block.activation is None and block.pool is None and "shift" in block.arrays
    return signed and block.arrays["weight"][0].size <= LONGEST_TWIN


def _halves_agree(program: Program, block: Block) -> bool:
    low, high = _reach(program, block)
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
    lines += [
        "nw = Neg (W)", "ww = Concat <axis = 0> (W, nw)", "m = Cast <to = 1> (Scale)", "ratio = Div (m, Shift)", "flat = Constant <value_ints = [-1]> ()",
        "r = Reshape (ratio, flat)", f"lift = Constant <value_float = {float(numerics.LIFT)!r}> ()",
        f"drop = Constant <value_float = {float(numerics.DROP)!r}> ()", "ru = Mul (r, lift)", "rd = Mul (r, drop)", "ws = Concat <axis = 0> (ru, rd)",
        "one = Constant <value_float = 1.0> ()", "wz = Constant <value = int8 {0}> ()", "yz = Constant <value = uint8 {0}> ()",
        f"xz = Constant <value = uint8 {{{zero}}}> ()",
        f"q = QLinearConv <strides: ints = @strides, pads = [{', '.join(map(str, pads))}]> (u, one, xz, ww, ws, wz, one, yz{', bb' if bias else ''})",
        f"halves = Constant <value_ints = [{filters}, {filters}]> ()", "up, down = Split <axis = 1> (q, halves)",
        f"hi = Constant <value = uint8 {{{high}}}> ()", f"lo = Constant <value = uint8 {{{-low}}}> ()", "cu = Clip (up, yz, hi)", "cd = Clip (down, yz, lo)",
        "d = Sub (cu, cd)", "Z = Cast <to = 3> (d)",
    ]
    return Body(f"twin{filters}{key}{_range_key(program, block)}", tuple(lines), _attributes(block))


def _integer_conv(program: Program, block: Block, reason: str) -> Body:
    plain = (["u = Identity (X)"], 0, 0, block.pads, "")
    lines, zero, restore, pads, key = _conv_source(program, block) if "pad_value" in block.arrays else plain
    kind = "uint8" if "pad_value" in block.arrays or program.formats[block.inputs[0]].dtype == np.uint8 else "int8"
    lines = [*lines, "wu = Cast <to = 2> (W)", "wz = Constant <value = uint8 {128}> ()", "wp = Add (wu, wz)", f"xz = Constant <value = {kind} {{{zero}}}> ()"]
    attributes = f"strides: ints = @strides, pads = [{', '.join(map(str, pads))}], group = {block.groups}"
    lines += [f"raw = ConvInteger <{attributes}> (u, wp, xz, wz)"]
    lines += _restored(restore, "raw", "mac")
    return _finished(program, block, "integer" + key + f"p{'_'.join(map(str, pads))}", lines, reason)


def _float_conv(program: Program, block: Block, reason: str) -> Body:
    lines = ["xf = Cast <to = 1> (X)", "wf = Cast <to = 1> (W)"]
    attributes = f"strides: ints = @strides, pads = [{', '.join(map(str, block.pads))}], group = {block.groups}"
    lines += [f"mac = Conv <{attributes}> (xf, wf)"]
    return _finished(program, block, f"floatp{'_'.join(map(str, block.pads))}g{block.groups}", lines, reason, floating=True)


def _finished(program: Program, block: Block, key: str, lines: list[str], reason: str, floating: bool = False) -> Body:
    """Bias, post-operations and tail shared by the exact bodies. Max pooling comes last: it commutes with a monotone function."""
    reach, direct = _after_pool(block, program, _reach(program, block)), block.activation is None and block.pool is None
    end = tails.tail(block, reach, may_take_bias=direct)
    if direct and (end.biased or "bias" not in block.arrays):
        return Body(key + end.key, (*lines, *end.lines("mac", "Z", floating)), _attributes(block), reason)
    lines += ["whole = Cast <to = 6> (mac)"] if floating else ["whole = Identity (mac)"]
    lines += [*_biased(block, "whole", "sum", rank=4), *_activation(block, "sum", "act")]
    if block.pool and block.pool.kind == "gap":
        lines += [*_wide(program, block), "axes = Constant <value_ints = [2, 3]> ()", "acc = ReduceSum <keepdims = 1> (wide_act, axes)",
                  *end.lines("acc", "Z")]
    elif block.pool:
        lines += [*end.lines("act", "q"), *_max_pool(block, "q", "Z")]
    else:
        lines += end.lines("act", "Z")
    return Body(key + end.key, tuple(lines), _attributes(block), reason)


def _ended(block: Block, lines: list[str], reach: tuple[np.ndarray, np.ndarray], key: str) -> Body:
    """Activation and tail of a block that may keep its raw accumulators."""
    lines += _activation(block, "sum", "acc")
    if "shift" not in block.arrays:
        return Body(key, (*lines, "Z = Identity (acc)"))
    low, high = reach
    end = tails.tail(block, (np.maximum(low, 0), np.maximum(high, 0)) if block.activation else reach)
    return Body(key + end.key, (*lines, *end.lines("acc", "Z")))


def _reach(program: Program, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Worst-case accumulators per filter, after bias, before post-operations."""
    weight = block.arrays["weight"].astype(np.int64)
    return numerics.accumulator_reach(weight, block.arrays.get("bias"), *_padded_range(program, block))


def _partial_sums(program: Program, block: Block) -> int:
    """No partial sum of products can exceed this, in whatever order they are added."""
    low, high = program.input_range(block)
    weight = np.abs(block.arrays["weight"].astype(np.int64)).reshape(len(block.arrays["weight"]), -1)
    return int(weight.sum(axis=1).max()) * max(-low, high)


def _padded_range(program: Program, block: Block) -> tuple[int, int]:
    low, high = program.input_range(block)
    pad = block.arrays.get("pad_value", np.zeros(1, np.int64)) if any(block.pads) else np.zeros(1, np.int64)
    return min(low, int(pad.min()), 0), max(high, int(pad.max()))


def _after_pool(block: Block, program: Program, reach: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Reach at the tail's input: a table's entries, non-negative after a ReLU, summed over the image by a global average."""
    low, high = reach
    if "table" in block.arrays:
        low, high = np.full_like(low, block.arrays["table"].min()), np.full_like(high, block.arrays["table"].max())
    elif block.activation:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    if block.pool and block.pool.kind == "gap":
        from quantizeml_core.solve import convolution_area

        area = convolution_area(block, program.shapes[block.inputs[0]])
        low, high = low * area, high * area
    return low, high


def _add_reach(program: Program, block: Block) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for tensor, name in zip(block.inputs, ("x_shift", "y_shift"), strict=True):
        low, high = program.formats[tensor].range
        parts.append((block.arrays[name].astype(np.int64) * low, block.arrays[name].astype(np.int64) * high))
    return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]


def _unsigned(source: str, target: str, signed: bool) -> list[str]:
    """int8 -> uint8: free for non-negative data; signed data moves by 128 (addition wraps), which becomes the zero point."""
    if not signed:
        return [f"{target} = Cast <to = 2> ({source})"]
    return [f"{target}0 = Cast <to = 2> ({source})", f"{target}8 = Constant <value = uint8 {{128}}> ()", f"{target} = Add ({target}0, {target}8)"]


def _conv_source(program: Program, block: Block) -> tuple[list[str], int, int, tuple[int, ...], str]:
    """uint8 activations `u`, their zero point, the part of it that is real padding, the pads left to the convolution, and a key.

    A convolution pads with its zero point: a padding value shared by all channels becomes the zero point; different ones are padded explicitly.
    """
    fmt = program.formats[block.inputs[0]]
    pads = block.pads
    if "pad_value" not in block.arrays:
        signed = fmt.signed and program.input_range(block)[0] < 0
        return _unsigned("X", "u", signed), 128 if signed else 0, 0, pads, f"{'s' if signed else 'u'}p{'_'.join(map(str, pads))}g{block.groups}"
    values, offset = np.unique(block.arrays["pad_value"]), 128 if fmt.signed else 0
    lines = _unsigned("X", "v", True) if fmt.signed else ["v = Identity (X)"]
    if len(values) == 1 or not any(pads):
        value = int(values[0]) if any(pads) else 0
        return [*lines, "u = Identity (v)"], value + offset, value, pads, f"z{value + offset}p{'_'.join(map(str, pads))}"
    return [*lines, *_explicit_pad(pads, offset)], offset, 0, (0, 0, 0, 0), f"x{offset}p{'_'.join(map(str, pads))}"


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


def _biased(block: Block, source: str, target: str, rank: int) -> list[str]:
    if "bias" not in block.arrays:
        return [f"{target} = Identity ({source})"]
    shape = "[1, -1, 1, 1]" if rank == 4 else "[1, -1]"
    return [f"bs = Constant <value_ints = {shape}> ()", "bw = Reshape (bias, bs)", f"{target} = Add ({source}, bw)"]


def _activation(block: Block, source: str, target: str) -> list[str]:
    """ReLU, clipped ReLU or table on int32 accumulators."""
    if "table" in block.arrays:
        return [*tails.double(source, "index", *INDEX_RANGE, "ActScale", "ActShift", 6, "i"), f"{target} = Gather (LUT_values, index)"]
    if block.activation is None:
        return [f"{target} = Identity ({source})"]
    if "bound" not in block.arrays:
        return [f"{target} = Relu ({source})"]
    return [f"{target}0 = Relu ({source})", f"{target} = Min ({target}0, max_value)"]


def _wide(program: Program, block: Block) -> list[str]:
    """A sum over the image may leave 32 bits: then it is taken in 64."""
    low, high = _after_pool(block, program, _reach(program, block))
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


def _attributes(block: Block) -> tuple[str, ...]:
    pooled = ("pool_size", "pool_strides", "pool_pads") if block.pool and block.pool.kind == "max" else ()
    return ("strides", *pooled)


def _range_key(program: Program, block: Block) -> str:
    low, high = program.formats[block.output].range
    return f"r{low}_{high}".replace("-", "m")
