"""Function bodies of quantized nodes: integer kernels of plain onnxruntime, as ONNX text.

One op_type may have several bodies (ONNX function overloads); which one a block gets is decided by proof, never by trial:

- `fast`      QLinearConv on uint8. It rounds ties to even in float32; the solver picks multipliers for which that equals the law on every reachable
              accumulator (`numerics.float32_agrees`). Only after a ReLU.
- `raised`    the same of a signed output, raised by 128 where ratios are powers of two (`numerics.float32_raised_agree`).
- `integer`   ConvInteger, then the exact tail; `product`: MatMulInteger, for convolutions of single pixels.
- `moved`, `largest`   a convolution that is proven to change nothing.
- `twin`      a signed output as the difference of two such halves, of W and of -W, each with its own direction of rounding.
- `float`     depthwise: float32 Conv whose every partial sum stays below 2^24, then the exact tail.
- `paired`    an addition as a depthwise QLinearConv over its two operands, one above the other (`addition`).

Each is exact on every processor: where products of signed weights could saturate, a body has two ways (`pairs`). What follows the accumulator is in `tails`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx import parser

from quantizeml_core import attention, embedding, hardware_forms, layernorm, numerics, recurrence
from quantizeml_core.blocks import Block
from quantizeml_core.geometry import common_denominator
from quantizeml_core.program import Program

from . import addition, pairs, response, tables, tails
from .body import POOL_ATTRIBUTES, Body, activation, after_pool, biased, is_dilated, reach, unsigned
from .contract import OWN, Call
from .convolution import conv, transposed


def body(program: Program, block: Block) -> Body:
    """The fastest body that is proven to give the program's integers, proven once: for the file, and for what is found to say of it."""
    known = _PROVEN.setdefault(program, {})
    if block.name not in known:
        made = BODIES[block.kind](program, block)
        known[block.name] = replace(made, overload=f"{made.overload}dilated") if is_dilated(block) else made
    return known[block.name]


_PROVEN: WeakKeyDictionary[Program, dict[str, Body]] = WeakKeyDictionary()


def function(call: Call, body: Body, inputs: tuple[str, ...], opset: int) -> onnx.FunctionProto:
    """The FunctionProto of a body."""
    attributes = f"<{', '.join(body.attributes)}>" if body.attributes else ""
    imports = f'"" : {opset}' + (f', "{OWN}" : 1' if call.domain == OWN else "")
    text = f'<domain: "{call.domain}", overload: "{body.overload}", opset_import: [{imports}]>\n'
    text += f"{call.op_type} {attributes} ({', '.join(inputs)}) => ({', '.join(body.outputs)}) {{\n" + "\n".join(body.lines) + "\n}"
    return parser.parse_function(text if opset >= AXES_ARE_INPUTS else _AXES.sub(_as_attribute, text))


AXES_ARE_INPUTS = 18
"""The opset from which on ReduceMax takes its axes as an input, as the bodies write it: `last` is [-1], `axes` [1]."""
_AXES = re.compile(r"ReduceMax \((\w+), (last|axes)\)")


def _as_attribute(found: re.Match[str]) -> str:
    return f"ReduceMax <axes = [{-1 if found[2] == 'last' else 1}]> ({found[1]})"


def dequantizer(kinds: str, opset: int) -> onnx.FunctionProto:
    """The Dequantizer of N tensors: DequantizeLinear of each, channel axis 1.

    onnxruntime carries a DequantizeLinear of one scale behind a Transpose or a Reshape, and puts a QuantizeLinear there: of bytes it knows the type by the zero point only, and there
    is none to integers of 32 bits, which are multiplied instead.

    Arguments:
        kinds: for each tensor `b` (bytes), `a` (accumulators of a step for each channel) or `s` (of one step).
    """
    suffix = [""] if len(kinds) == 1 else [str(i + 1) for i in range(len(kinds))]
    names = ["scale"] if len(kinds) == 1 else [f"scale_{i + 1}" for i in range(len(kinds))]
    inputs = ", ".join(f"X{s}, {n}" for s, n in zip(suffix, names, strict=True))
    lines = [line.format(s=s, n=n) for kind, s, n in zip(kinds, suffix, names, strict=True) for line in _REAL[kind]]
    outputs = ", ".join(f"Y{s}" for s in suffix)
    name = "Dequantizer" if len(kinds) == 1 else f"Dequantizer{len(kinds)}"
    text = f'<domain: "com.brainchip", overload: "{dequantizer_overload(kinds)}", opset_import: ["" : {opset}]>\n{name} ({inputs}) => ({outputs}) {{\n' + "\n".join(lines) + "\n}"
    return parser.parse_function(text)


def dequantizer_overload(kinds: str) -> str:
    return kinds.strip("b") and kinds


_REAL = {
    "b": ("c{s} = Shape ({n})", "z{s} = ConstantOfShape <value = int8[1] {{0}}> (c{s})", "Y{s} = DequantizeLinear <axis = 1> (X{s}, {n}, z{s})"),
    "a": ("Y{s} = DequantizeLinear <axis = 1> (X{s}, {n})",),
    "s": ("f{s} = Cast <to = 1> (X{s})", "Y{s} = Mul (f{s}, {n})"),
}


def _input(program: Program, block: Block) -> Body:
    """Transposed to channel-first and quantized; of a series, the second axis is new. What is channel-first is left as it is: onnxruntime copies it even then."""
    series = is_series(program, block)
    if not series and block.perm in ((), tuple(range(len(block.perm)))):
        return Body("first", ("f = Cast <to = 1> (X)", "Z = QuantizeLinear <axis = 1> (f, scale, zp)"), ("perm",))
    first = ["one = Constant <value_ints = [1]> ()", "g = Cast <to = 1> (X)", "f = Unsqueeze (g, one)"] if series else ["f = Cast <to = 1> (X)"]
    lines = (*first, "t = Transpose <perm: ints = @perm> (f)", "Z = QuantizeLinear <axis = 1> (t, scale, zp)")
    return Body("series" if series else "", lines, ("perm",))


def is_series(program: Program, block: Block) -> bool:
    """Whether a model input has one axis less than its block, which takes images."""
    return len(program.shapes.get(block.inputs[0], block.perm)) < len(block.perm)


def _resume(program: Program, block: Block) -> Body:
    """The law of QuantizeLinear without it: onnxruntime's optimiser would fuse it with the Dequantizer before the float operations, and round otherwise."""
    fmt, rank = program.formats[block.output], len(program.shapes[block.output])
    low, high = fmt.range
    lines = (f"s = Constant <value_ints = [{', '.join(['1', '-1', *['1'] * (rank - 2)])}]> ()", "w = Reshape (scale, s)", "z0 = Cast <to = 1> (zp)",
             "z1 = Reshape (z0, s)", "q = Div (X, w)", "r = Round (q)", "u = Add (r, z1)", f"lo = Constant <value_float = {float(low)}> ()",
             f"hi = Constant <value_float = {float(high)}> ()", "c = Clip (u, lo, hi)", f"Z = Cast <to = {3 if fmt.signed else 2}> (c)")
    return Body(f"{'s' if fmt.signed else 'u'}{rank}", lines)


def _concat(program: Program, block: Block) -> Body:
    return Body("", ("Z = Concat <axis = 1> (X, Y)",))


def _select(program: Program, block: Block) -> Body:
    return Body("", ("Z = Gather <axis = 1> (X, Channels)",))


def _upsample(program: Program, block: Block) -> Body:
    lines = ["f = Constant <value_ints: ints = @strides> ()", "ff = Cast <to = 1> (f)", "ones = Constant <value_floats = [1.0, 1.0]> ()",
             "scales = Concat <axis = 0> (ones, ff)",
             'Z = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (X, , scales)']
    return Body("", tuple(lines), ("strides",))


def _buffer(program: Program, block: Block) -> Body:
    """The window of the older frames (N, C, frames - 1, H, W) and this one; without the oldest it is the next state."""
    lines = ("axis = Constant <value_ints = [2]> ()", "frame = Unsqueeze (X, axis)", "window = Concat <axis = 2> (State, frame)",
             "size = Shape <start = 2> (X)", "head = Constant <value_ints = [0, -1]> ()", "shape = Concat <axis = 0> (head, size)",
             "Z = Reshape (window, shape)", "one = Constant <value_ints = [1]> ()", f"end = Constant <value_ints = [{block.frames}]> ()",
             "Next = Slice (window, one, end, axis)")
    return Body(f"t{block.frames}", lines, outputs=("Z", "Next"))


def _recurrent(program: Program, block: Block) -> Body:
    """`quantizeml_core.recurrence` in float64, where each of its steps is exact. Axis 2 of the state holds the two parts; turned by a quarter it is (-i, r)."""
    channels, *size = program.shapes[block.inputs[0]][1:]
    ones, top = [1] * len(size), float(recurrence.LIMIT)
    lines = [
        "s = Cast <to = 11> (State)", "x0 = Cast <to = 11> (X)", "axis = Constant <value_ints = [2]> ()", "x1 = Unsqueeze (x0, axis)",
        f"parts = Constant <value_ints = {[1, 1, 2, *ones]}> ()", f"unit = Constant <value = double[2] {{{2.0**recurrence.FRACTION}, 0.0}}> ()",
        "into = Reshape (unit, parts)", "x2 = Mul (x1, into)", "sides = Constant <value_ints = [1, 0]> ()", "swapped = Gather <axis = 2> (s, sides)",
        "sign = Constant <value = double[2] {-1.0, 1.0}> ()", "signs = Reshape (sign, parts)", "quarter = Mul (swapped, signs)",
        "a0 = Cast <to = 11> (Turn)", f"wide = Constant <value_ints = {[2, 1, channels, 1, *ones]}> ()", "a1 = Reshape (a0, wide)",
        "zero = Constant <value_int = 0> ()", "one = Constant <value_int = 1> ()", "a = Gather <axis = 0> (a1, zero)", "b = Gather <axis = 0> (a1, one)",
        "p0 = Mul (s, a)", "p1 = Mul (quarter, b)", "p2 = Add (p0, p1)", f"down = Constant <value = double {{{2.0**-recurrence.COEFFICIENT!r}}}> ()",
        "p3 = Mul (p2, down)", "half = Constant <value = double {0.5}> ()", "p4 = Add (p3, half)", "p5 = Floor (p4)", "p6 = Add (p5, x2)",
        f"low = Constant <value = double {{{-top}}}> ()", f"high = Constant <value = double {{{top}}}> ()", "p7 = Clip (p6, low, high)",
        "Next = Cast <to = 6> (p7)", f"whole = Constant <value_ints = {[0, 2 * channels, *(s or -1 for s in size)]}> ()", "sum = Reshape (Next, whole)",
    ]
    reach = np.full(2 * channels, recurrence.LIMIT, np.int64)
    made = _ended(program, block, lines, (-reach, reach), f"c{channels}_{'x'.join(str(s or '') for s in size)}")
    return replace(made, outputs=("Z", "Next"))


def _add(program: Program, block: Block) -> Body:
    if addition.fits(block):
        return addition.paired(program, block)
    lines = ["x = Cast <to = 6> (X)", "y = Cast <to = 6> (Y)", "xs = Mul (x, Xs)", "ys = Mul (y, Ys)", "sum = Add (xs, ys)"]
    return _ended(program, block, lines, _add_reach(program, block), "")


def _multiply(program: Program, block: Block) -> Body:
    (a, b), (c, d) = (program.input_range(block, i) for i in (0, 1))
    corners = [x * y for x in (a, b) for y in (c, d)]
    like = np.zeros_like(block.arrays.get("shift", np.zeros(1)), np.int64)
    lines = ["x = Cast <to = 6> (X)", "y = Cast <to = 6> (Y)", "sum = Mul (x, y)"]
    return _ended(program, block, lines, (like + min(corners), like + max(corners)), "")


def _attention(program: Program, block: Block) -> Body:
    """`quantizeml_core.attention` in float64, where each of its steps is exact."""
    _, channels, height, width = program.shapes[block.output]
    inner = program.shapes[block.inputs[0]][1]
    size = f"[0, {channels}, {height}, {width}]" if height and width else f"[0, {channels}, 1, -1]"

    def heads(name: str, source: str, count: int) -> list[str]:
        return [f"{name}c = Cast <to = 11> ({source})", f"{name}s = Constant <value_ints = [0, {block.groups}, {count // block.groups}, -1]> ()",
                f"{name}h = Reshape ({name}c, {name}s)"]

    masked = "mask" in block.arrays
    added = ["mask = Cast <to = 11> (Mask)", "a = Add (a0, mask)", f"hidden = Constant <value = double {{{float(attention.HIDDEN)}}}> ()",
             "seen = Greater (mask, hidden)", "none = Constant <value = double {0.0}> ()"]
    lines = [
        *heads("q", "X", inner), *heads("k", "Y", inner), *heads("v", "V", channels), "qt = Transpose <perm = [0, 1, 3, 2]> (qh)", "a0 = MatMul (qt, kh)",
        *(added if masked else ["a = Identity (a0)"]),
        "last = Constant <value_ints = [-1]> ()", "top = ReduceMax (a, last)", "below = Sub (top, a)", "m = Cast <to = 11> (ScoreScale)",
        "f0 = Cast <to = 11> (ScoreShift)", "r = Div (m, f0)", "x0 = Mul (below, r)", "half = Constant <value = double {0.5}> ()", "x1 = Add (x0, half)",
        "x2 = Floor (x1)", "most = Constant <value = double {4095.0}> ()", "x3 = Min (x2, most)", "u = Cast <to = 7> (x3)",
        f"table = Constant <value = double[{attention.ENTRIES}] {{{', '.join(f'{e}.0' for e in attention.TABLE)}}}> ()", "e0 = Gather (table, u)",
        "e = Where (seen, e0, none)" if masked else "e = Identity (e0)",
        "total = ReduceSum (e, last)", "vt = Transpose <perm = [0, 1, 3, 2]> (vh)", "n = MatMul (e, vt)", "big = Constant <value = double {512.0}> ()",
        "n0 = Mul (n, big)", "n1 = Add (n0, total)", "two = Constant <value = double {2.0}> ()", "tt = Mul (total, two)", "y0 = Div (n1, tt)", "y1 = Floor (y0)",
        "y2 = Transpose <perm = [0, 1, 3, 2]> (y1)", f"ys = Constant <value_ints = {size}> ()", "y3 = Reshape (y2, ys)", "sum = Cast <to = 6> (y3)",
    ]
    low, high = (end << attention.FRACTION for end in program.formats[block.inputs[2]].range)
    return _ended(program, block, lines, (np.full(channels, low, np.int64), np.full(channels, high, np.int64)), f"h{block.groups}c{channels}_{inner}_{height}_{width}{'m' if masked else ''}")


def _softmax(program: Program, block: Block) -> Body:
    """`quantizeml_core.attention.softmax` in float64, where each of its steps is exact."""
    channels = program.shapes[block.output][1]
    lines = [
        "x = Cast <to = 11> (X)", "axes = Constant <value_ints = [1]> ()", "top = ReduceMax (x, axes)", "below = Sub (top, x)",
        "m = Cast <to = 11> (ScoreScale)", "f0 = Cast <to = 11> (ScoreShift)", "r = Div (m, f0)", "x0 = Mul (below, r)",
        "half = Constant <value = double {0.5}> ()", "x1 = Add (x0, half)", "x2 = Floor (x1)",
        f"most = Constant <value = double {{{attention.ENTRIES - 1}.0}}> ()", "x3 = Min (x2, most)", "u = Cast <to = 7> (x3)",
        f"table = Constant <value = double[{attention.ENTRIES}] {{{', '.join(f'{e}.0' for e in attention.TABLE)}}}> ()", "e = Gather (table, u)",
        f"unit = Constant <value = double {{{2.0 ** (attention.SOFTMAX_FRACTION + 1)}}}> ()", "total = ReduceSum (e, axes)", "n0 = Mul (e, unit)",
        "n1 = Add (n0, total)", "tt = Add (total, total)", "y0 = Div (n1, tt)", "y1 = Floor (y0)", "sum = Cast <to = 6> (y1)",
    ]
    reach = np.full(channels, 1 << attention.SOFTMAX_FRACTION, np.int64)
    return _ended(program, block, lines, (np.zeros_like(reach), reach), "")


def _matmul(program: Program, block: Block) -> Body:
    """`quantizeml_core.attention.product` in float32 where no sum of products reaches 2^24, in float64 beyond."""
    inner, channels = program.shapes[block.inputs[0]][1], program.shapes[block.output][1]
    peak = inner * int(np.prod([max(map(abs, program.input_range(block, i))) for i in (0, 1)]))
    to = 1 if peak < numerics.FLOAT32_EXACT else 11
    lines = [
        f"x0 = Cast <to = {to}> (X)", f"y0 = Cast <to = {to}> (Y)", "flat = Constant <value_ints = [0, 0, -1]> ()", "x = Reshape (x0, flat)",
        "y1 = Reshape (y0, flat)", f"y = {'Transpose <perm = [0, 2, 1]>' if block.perm else 'Identity'} (y1)", "p = MatMul (y, x)",
        "size = Shape <start = 2> (X)", f"head = Constant <value_ints = [0, {channels}]> ()", "whole = Concat <axis = 0> (head, size)",
        "q = Reshape (p, whole)", "sum = Cast <to = 6> (q)",
    ]
    reach = np.full(channels, peak, np.int64)
    return _ended(program, block, lines, (-reach, reach), f"{'d' if to == 11 else 'f'}c{channels}{'t' if block.perm else ''}")


def _shift_attention(program: Program, block: Block) -> Body:
    """`quantizeml_core.hardware_forms` in float64, where each of its steps is exact; powers of two come from a table."""
    _, channels, height, width = program.shapes[block.output]
    split = f"[0, {block.groups}, -1, {height * width}]"
    thresholds = ", ".join(repr(float(t)) for t in hardware_forms.HALF_POWERS)
    powers, top = ", ".join(f"{2.0**n:.1f}" for n in range(41)), hardware_forms.EXPONENTS
    lines = [
        f"split = Constant <value_ints = {split}> ()", *(f"{n}c = Cast <to = 11> ({x})" for n, x in zip("qkv", "XYV", strict=True)),
        *(f"{n}h = Reshape ({n}c, split)" for n in "qkv"), "qt = Transpose <perm = [0, 1, 3, 2]> (qh)", "a = MatMul (qt, kh)",
        "m = Cast <to = 11> (ScoreScale)", "f0 = Cast <to = 11> (ScoreShift)", "r = Div (m, f0)", "x0 = Mul (a, r)", "z = Floor (x0)",
        "last = Constant <value_ints = [-1]> ()", "top = ReduceMax (z, last)", f"e0 = Constant <value = double {{{float(top)}}}> ()", "l = Sub (z, top)",
        "below = Add (l, e0)", "zero = Constant <value = double {0.0}> ()", "most = Constant <value = double {40.0}> ()",
        f"powers = Constant <value = double[41] {{{powers}}}> ()", "alive = GreaterOrEqual (below, zero)", "b0 = Clip (below, zero, most)",
        "b1 = Cast <to = 7> (b0)", "p0 = Gather (powers, b1)", "p1 = Where (alive, p0, zero)", "total = ReduceSum (p1, last)",
        f"limits = Constant <value = double[{len(hardware_forms.HALF_POWERS)}] {{{thresholds}}}> ()", "wide = Unsqueeze (total, last)",
        "above = GreaterOrEqual (wide, limits)", "counted = Cast <to = 11> (above)", "log = ReduceSum <keepdims = 0> (counted, last)",
        f"ten = Constant <value = double {{{float(hardware_forms.FRACTION)}}}> ()", "n0 = Sub (below, log)", "n = Add (n0, ten)",
        "some = GreaterOrEqual (n, zero)", "both = And (alive, some)", "n1 = Clip (n, zero, most)", "n2 = Cast <to = 7> (n1)", "w0 = Gather (powers, n2)",
        "w = Where (both, w0, zero)", "vt = Transpose <perm = [0, 1, 3, 2]> (vh)", "y = MatMul (w, vt)", "y0 = Transpose <perm = [0, 1, 3, 2]> (y)",
        f"ys = Constant <value_ints = [0, {channels}, {height}, {width}]> ()", "y1 = Reshape (y0, ys)", "sum = Cast <to = 6> (y1)",
    ]
    low, high = (height * width * end << hardware_forms.FRACTION for end in program.formats[block.inputs[2]].range)
    reach = (np.full(channels, low, np.int64), np.full(channels, high, np.int64))
    return _ended(program, block, lines, reach, f"s{block.groups}c{channels}_{height}_{width}")


def _mad_normalize(program: Program, block: Block) -> Body:
    """`quantizeml_core.hardware_forms` in float64."""
    channels = program.shapes[block.inputs[0]][1]
    lines = ["x = Cast <to = 11> (X)", "axes = Constant <value_ints = [1]> ()", "size = Abs (x)", "s0 = ReduceSum (size, axes)",
             "one = Constant <value = double {1.0}> ()", "s = Max (s0, one)", f"c = Constant <value = double {{{channels * 2.0**11}}}> ()", "cx = Mul (x, c)",
             "n = Add (cx, s)", "ss = Add (s, s)", "q = Div (n, ss)", "z = Floor (q)", "sum = Cast <to = 6> (z)"]
    reach = np.full(channels, channels << hardware_forms.FRACTION, np.int64)
    return _ended(program, block, lines, (-reach, reach), f"c{channels}")


def _embed(program: Program, block: Block) -> Body:
    """`quantizeml_core.embedding` in int32; the table arrives as (1, C, 1, T)."""
    entries = block.arrays["entries"].astype(np.int64)
    channels, length = entries.shape
    pixels = int(np.prod(program.shapes[block.inputs[0]][2:]))
    lines = ["x = Cast <to = 6> (X)", f"rs = Constant <value_ints = [0, {channels}, 1, {pixels}]> ()", "row = Reshape (x, rs)",
             f"ps = Constant <value_ints = [0, 0, 0, {length - pixels}, 0, 0, 0, 0]> ()", "zero = Constant <value = int32 {0}> ()", "all = Pad (row, ps, zero)",
             f"one = Constant <value = int32 {{{1 << embedding.FRACTION}}}> ()", "scaled = Mul (all, one)", "sum = Add (scaled, Table)"]
    low, high = (end << embedding.FRACTION for end in program.input_range(block))
    reach = (entries.min(axis=1) + min(low, 0), entries.max(axis=1) + max(high, 0))
    return _ended(program, block, lines, reach, f"c{channels}p{pixels}t{length}")


def _lookup(program: Program, block: Block) -> Body:
    """One row of integers is looked up by GatherElements; where each channel has its own entries, they lie one behind the other."""
    channels, rank = len(block.arrays["entries"]), len(program.shapes[block.output])
    several = [f"first = Constant <value_ints = {[256 * c for c in range(channels)]}> ()", f"fs = Constant <value_ints = {[-1, *[1] * (rank - 2)]}> ()",
               "f0 = Cast <to = 6> (first)", "f1 = Reshape (f0, fs)", "i = Add (b, f1)"]
    lines = ["x = Cast <to = 6> (X)", "half = Constant <value = int32 {128}> ()", "b = Add (x, half)", *(several if channels > 1 else ["i = Identity (b)"]),
             "row = Constant <value_ints = [-1]> ()", "flat = Reshape (i, row)", "all = Reshape (Entries, row)", "found = GatherElements (all, flat)",
             "size = Shape (X)", "Z = Reshape (found, size)"]
    return Body(f"c{channels}_{rank}" if channels > 1 else "", tuple(lines))


def _local_response(program: Program, block: Block) -> Body:
    return _ended(program, block, *response.lines(program, block))


def _normalize(program: Program, block: Block) -> Body:
    """`quantizeml_core.layernorm` in float64, where each of its steps is exact."""
    channels = program.shapes[block.inputs[0]][1]
    levels = ", ".join(f"{4.0**k:.1f}" for k in range(1, layernorm.LEVELS))
    js = range(layernorm.SMALLEST_J, layernorm.SMALLEST_J + layernorm.LEVELS)
    lines = [
        f"flat = {'Flatten <axis = 1>' if block.flatten else 'Identity'} (X)", "x = Cast <to = 11> (flat)",
        "axes = Constant <value_ints = [1]> ()", "last = Constant <value_ints = [-1]> ()",
        f"n = Constant <value = double {{{channels}.0}}> ()", "s1 = ReduceSum (x, axes)", "xx = Mul (x, x)", "s2 = ReduceSum (xx, axes)",
        "nx = Mul (n, x)", "d = Sub (nx, s1)", "ns = Mul (n, s2)", "ss = Mul (s1, s1)", "v0 = Sub (ns, ss)", "e = Cast <to = 11> (Epsilon)",
        "v1 = Add (v0, e)", "one = Constant <value = double {1.0}> ()", "v = Max (v1, one)",
        f"levels = Constant <value = double[{layernorm.LEVELS - 1}] {{{levels}}}> ()", "wide = Unsqueeze (v, last)", "above = GreaterOrEqual (wide, levels)",
        "counted = Cast <to = 7> (above)", "k = ReduceSum <keepdims = 0> (counted, last)",
        f"quarters = Constant <value = double[{layernorm.LEVELS}] {{{', '.join(repr(4.0**-j) for j in js)}}}> ()",
        f"halves = Constant <value = double[{layernorm.LEVELS}] {{{', '.join(repr(2.0 ** -(12 + j)) for j in js)}}}> ()",
        "quarter = Gather (quarters, k)", "half_step = Gather (halves, k)", "vq = Mul (v, quarter)", "vf = Floor (vq)",
        "big = Constant <value = double {17592186044416.0}> ()", "quotient = Div (big, vf)", "whole = Floor (quotient)", "root = Sqrt (whole)", "r = Floor (root)",
        "dr = Mul (d, r)", "z0 = Mul (dr, half_step)", "half = Constant <value = double {0.5}> ()", "z1 = Add (z0, half)", "z = Floor (z1)",
        "sum = Cast <to = 6> (z)",
    ]
    reach = np.full(channels, layernorm.reach(channels), np.int64)
    return _ended(program, block, lines, (-reach, reach), f"c{channels}{'f' if block.flatten else ''}")


def _average_pool(program: Program, block: Block) -> Body:
    """Windows are summed by a depthwise convolution with ones: in float32, exact below 2^24, or by ConvInteger."""
    assert block.pool is not None
    channels, height, width = (int(s or 0) for s in program.shapes[block.inputs[0]][1:])
    denominator, factors = common_denominator((height, width), block.pool)
    low, high = (denominator * end for end in program.input_range(block))
    like = np.zeros_like(block.arrays.get("shift", np.zeros(1)), np.int64)
    attributes = f"strides: ints = @pool_strides, pads: ints = @pool_pads, group = {channels}"
    lines = [f"ws = Constant <value_ints = [{channels}, 1, {', '.join(map(str, block.pool.size))}]> ()"]
    floating = max(-low, high) < numerics.FLOAT32_EXACT
    if floating:
        lines += ["x = Cast <to = 1> (X)", "w = ConstantOfShape <value = float[1] {1.0}> (ws)",
                  f"mac = Conv <{attributes}> (x, w)", "whole = Cast <to = 6> (mac)"]
    else:
        lines += ["w = ConstantOfShape <value = uint8[1] {1}> (ws)", f"whole = ConvInteger <{attributes}> (X, w)"]
    key = f"{'f' if floating else 'i'}{channels}w{'_'.join(map(str, block.pool.size))}"
    if block.pool.padded:
        lines += ["sum = Identity (whole)"]
    else:
        values = ", ".join(map(str, factors.ravel()))
        lines += [f"factors = Constant <value = int32[{len(factors)}, {factors.shape[1]}] {{{values}}}> ()", "sum = Mul (whole, factors)"]
        key += "n" + "_".join(map(str, (height, width, *block.pool.strides, *block.pool.pads)))
    return _ended(program, block, lines, (like + min(low, 0), like + high), key)


def _dense(program: Program, block: Block) -> Body:
    low, high = program.input_range(block)
    lines = ["flat = Flatten <axis = 1> (X)"] if block.flatten else ["flat = Identity (X)"]
    lines += unsigned("flat", "u", low < 0)
    zero = 128 if low < 0 else 0
    product, moved = pairs.product(block.arrays["weight"], 1, zero + high, "wt", "mac", "int32[a, b]", lambda w, wz: f"MatMulInteger (u, {w}, xz, {wz})")
    lines += [f"xz = Constant <value = uint8 {{{zero}}}> ()", "wt = Transpose <perm = [1, 0]> (W)", *product]
    lines += biased(block, "mac", "sum", rank=2)
    return _ended(program, block, lines, reach(program, block), ("s" if low < 0 else "u") + moved)


def _ended(program: Program, block: Block, lines: list[str], reach: tuple[np.ndarray, np.ndarray], key: str) -> Body:
    """Activation and tail of a block that may keep its raw accumulators."""
    attributes = POOL_ATTRIBUTES if block.pool else ()
    if "table" in block.arrays:
        found = tables.lookup(block, reach, biased=False, raw="shift" not in block.arrays)
        return Body(key + found.key, (*lines, *found.lines("sum", "Z", False, ())), attributes)
    lines += activation(block, "sum", "acc")
    if "shift" not in block.arrays:
        return Body(key, (*lines, "Z = Identity (acc)"), attributes)
    end = tails.tail(block, after_pool(block, program, reach))
    return Body(key + end.key, (*lines, *end.lines("acc", "Z")), attributes)


def _add_reach(program: Program, block: Block) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for tensor, name in zip(block.inputs, ("x_shift", "y_shift"), strict=True):
        low, high = program.formats[tensor].range
        parts.append((block.arrays[name].astype(np.int64) * low, block.arrays[name].astype(np.int64) * high))
    return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]


BODIES: Mapping[str, Callable[[Program, Block], Body]] = {
    "input": _input, "resume": _resume, "conv2d": conv, "conv_transpose2d": transposed, "depthwise2d": conv, "dense": _dense, "add": _add,
    "concat": _concat, "multiply": _multiply, "attention": _attention, "shift_attention": _shift_attention,
    "mad_normalize": _mad_normalize, "embed": _embed, "lookup": _lookup, "normalize": _normalize, "pool2d": _average_pool, "select": _select, "upsample2d": _upsample,
    "local_response": _local_response, "buffer": _buffer, "recurrent": _recurrent, "softmax": _softmax,
    "matmul": _matmul,
}
