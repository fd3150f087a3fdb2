"""The built-in rules: which lines of ONNX operations are one hardware block.

    conv2d, depthwise2d   Conv [MaxPool] [activation] in either order;  Conv [activation] [GlobalAveragePool]
    conv_transpose2d      ConvTranspose [activation]
    dense                 [Flatten] Gemm [activation]
    add                   Add [Relu | Clip]
    concat                Concat of two tensors
    attention, embed      Attention;  Tokens: functions that the rewrites find in what exporters spell out
    buffer                FrameBuffer: the frames of a convolution over time (`frames`)
    lookup                one of `TABLES` alone, where the target looks bytes up
    local_response        LRN of exponent 3/4 [Relu | Clip]
    softmax, matmul       Softmax over the channels, where something goes on behind it;  Product, TurnedProduct of two sequences [Relu | Clip]
    multiply              Mul of two tensors [Relu | Clip]
    normalize             LayerNormalization without weights between two transpositions: over the channels of each pixel [Relu | Clip]
    pool2d                AveragePool [Relu | Clip]; where the target has none, a depthwise2d of equal weights
    select                Gather of channels: what the rewrites make of splits, slices and shuffles
    upsample2d            Resize that repeats pixels
    identity              the lines of conv2d without their Conv, on images: a depthwise2d (or conv2d) whose 1x1 kernel is the identity
    quantized             what other tools' quantizers write: it is refused, with what to do

An activation is Relu, Clip(0, b), or one of `TABLES`. The graph is the sanitized one; what a node must look like stands in `guards`.
What only some targets run is asked from the target's capabilities. A block is called like its Conv, Gemm, Add or Concat; an identity
like the first node of its line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any

import numpy as np

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.match import Match, Miss, Node, P, Rule
from quantizeml_core.target import Target

from . import guards
from .view import OnnxView, ints, operand

SOURCE = "quantizeml-onnx"
PRIORITY = 10
"""Behind the default 0, so that a plugin's rule for the same line goes first."""

TABLES: Mapping[str, str] = {
    "Abs": "abs", "Celu": "celu", "Clamp": "clip", "Elu": "elu", "FastGelu": "gelu_tanh", "Gelu": "gelu", "HardSigmoid": "hard_sigmoid", "HardSwish": "hard_swish",
    "LeakyRelu": "leaky_relu", "Mish": "mish", "Selu": "selu", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign", "Swish": "swish", "Tanh": "tanh",
}
SLOPES: Mapping[str, float] = {"Celu": 1.0, "Elu": 1.0, "HardSigmoid": 0.2, "LeakyRelu": 0.01}
"""ONNX's default `alpha` of the functions that have one."""

INTEGERS = ("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear")

RELU = P("Relu") | P("Clip", guards.clip)
GUARDS = {"Celu": guards.celu, "Gelu": guards.gelu, "HardSigmoid": guards.hard_sigmoid, "Selu": guards.selu, "Swish": guards.swish}
TABLE = reduce(or_, (P(op, GUARDS.get(op)) for op in TABLES))
MAX_POOL = P("MaxPool", guards.max_pool)
GLOBAL_POOL = P("GlobalAveragePool", guards.global_pool)
POST = P.either_order(P.opt(MAX_POOL), P.opt(RELU | TABLE)) | (P.opt(RELU | TABLE) >> P.opt(GLOBAL_POOL))
ALONE = (MAX_POOL >> P.opt(RELU | TABLE)) | ((RELU | TABLE) >> P.opt(MAX_POOL | GLOBAL_POOL)) | GLOBAL_POOL

Build = Callable[[Match], "Block | Miss"]


def builtin_rules(target: Target) -> tuple[Rule, ...]:
    """The rules of this frontend for one target."""
    def rule(name: str, pattern: P, build: Callable[[Target, Match], Block | Miss]) -> Rule:
        return Rule(name, pattern, partial(build, target), SOURCE, PRIORITY)

    return (
        rule("add", P("Add") >> P.opt(RELU), _add),
        rule("attention", P("Attention") | P("MaskedAttention"), _attention),
        rule("concat", P("Concat"), _concat),
        rule("conv2d", P("Conv", guards.not_depthwise) >> POST, partial(_convolution, "conv2d")),
        rule("conv_transpose2d", P("ConvTranspose", guards.transposed) >> P.opt(RELU | TABLE), _transposed),
        rule("dense", P.opt(P("Flatten", guards.flatten)) >> P("Gemm") >> P.opt(RELU | TABLE), _dense),
        rule("depthwise2d", P("Conv", guards.depthwise) >> POST, partial(_convolution, "depthwise2d")),
        rule("embed", P("Tokens"), _embed),
        rule("identity", ALONE, _identity),
        rule("lookup", TABLE, _lookup),
        rule("local_response", P("LRN", guards.local_response) >> P.opt(RELU), _local_response),
        rule("multiply", P("Mul", guards.product) >> P.opt(RELU), _multiply),
        rule("normalize", P("Transpose", guards.to_last) >> P("LayerNormalization", guards.bare) >> P("Transpose", guards.to_first) >> P.opt(RELU), _normalize),
        rule("pool2d", P("AveragePool", guards.average_pool) >> P.opt(RELU), _average_pool),
        rule("buffer", P("FrameBuffer"), _buffer),
        rule("quantized", reduce(or_, map(P, INTEGERS)), _quantized),
        rule("softmax", P("Softmax", guards.softmax), _softmax),
        rule("matmul", (P("Product") | P("TurnedProduct")) >> P.opt(RELU), _matmul),
        rule("select", P("Gather", guards.gathers_channels), _select),
        rule("upsample2d", P("Resize", guards.repeats), _upsample),
    )


def _convolution(kind: str, target: Target, match: Match) -> Block | Miss:
    conv = match.nodes[0]
    if refusal := guards.convolution(match.view, conv) or _unfit(kind, target, match):
        return Miss(refusal)
    return Block(
        conv.name, kind, match.inputs, match.output, strides=ints(conv, "strides", (1, 1)), dilations=_dilations(match.view, conv), pads=ints(conv, "pads", (0, 0, 0, 0)),
        groups=conv.native.attributes.get_int("group", 1), arrays=_weights(match.view, conv), **_post(match),
    )


def _transposed(target: Target, match: Match) -> Block | Miss:
    conv, view, table = match.nodes[0], match.view, match.find(*TABLES) is not None
    if refusal := target.lacks({"conv_transpose2d": True, "activation.table": table}) or _looks_up(target, match):
        return Miss(refusal)
    arrays = _weights(view, conv, (1, 0, 2, 3))
    return Block(conv.name, "conv_transpose2d", match.inputs, match.output, strides=ints(conv, "strides", (1, 1)),
                 pads=guards.transposed_pads(view, conv), arrays=arrays, **_post(match))


def _lookup(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if not target.can("byte_table"):
        return Miss("the target applies tables to accumulators")
    return Block(node.name, "lookup", match.inputs, match.output, activation=_activation(match))


def _identity(target: Target, match: Match) -> Block | Miss:
    """Hardware pools and activates behind a convolution only: one that changes nothing stands in, depthwise where there is such."""
    node = match.nodes[0]
    if refusal := guards.image(match.view, node) or _unfit("conv2d", target, match):
        return Miss(refusal)
    channels = match.view.shape(node.inputs[0])[1]
    if channels > 1 and target.can("depthwise2d") and target.can("depthwise2d.pointwise") and (_pool(match) is None or target.can("depthwise2d.pool")):
        weight = np.ones((channels, 1, 1, 1), np.float32)
        return Block(node.name, "depthwise2d", match.inputs, match.output, groups=channels, arrays={"weight": weight}, **_post(match))
    weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    return Block(node.name, "conv2d", match.inputs, match.output, arrays={"weight": weight}, **_post(match))


def _dilations(view: OnnxView, conv: Node) -> tuple[int, ...]:
    """Distances of taps; one along an axis with a single tap."""
    taps = np.shape(operand(view, conv, 1))[2:]
    return tuple(d if n > 1 else 1 for d, n in zip(ints(conv, "dilations", (1,) * len(taps)), taps, strict=True))


def _unfit(kind: str, target: Target, match: Match) -> str | None:
    """What the target, or one block, cannot do behind a convolution."""
    pool, table = _pool(match), match.find(*TABLES)
    needed = {
        "dilation": match.nodes[0].op == "Conv" and _dilations(match.view, match.nodes[0]) != (1, 1),
        "depthwise2d": kind == "depthwise2d",
        "depthwise2d.pool": kind == "depthwise2d" and pool is not None,
        "activation.table": table is not None,
    }
    if table and pool and pool.kind == "max":
        return f"max pooling and a table activation ({table.op}) do not fit into one block"
    return target.lacks(needed) or _looks_up(target, match) or _averages(target, match)


def _looks_up(target: Target, match: Match) -> str | None:
    """A function gets a block of its own where bytes are looked up. That of a last dense layer stays with it, which keeps its accumulators."""
    return "the target looks bytes up, in a block of their own" if target.can("byte_table") and match.find(*TABLES) else None


def _averages(target: Target, match: Match) -> str | None:
    """A global average gets a block of its own where bytes are averaged; what stands in for a convolution is that block."""
    behind = match.nodes[0].op == "Conv" and match.find("GlobalAveragePool")
    return "the target averages bytes, in a block of their own" if target.can("byte_average") and behind else None


def _post(match: Match) -> dict[str, Any]:
    """Activation, pooling, and the tensor whose range sizes a table's index."""
    table = match.find(*TABLES)
    return {"activation": _activation(match), "pool": _pool(match), "probe": table.inputs[0] if table else ""}


def _dense(target: Target, match: Match) -> Block | Miss:
    gemm, table = match.find("Gemm"), match.find(*TABLES) is not None
    inside = match.output not in match.view.outputs()
    if refusal := guards.gemm(match.view, gemm) or target.lacks({"activation.table": table, "dense.table": table}) or inside and _looks_up(target, match):
        return Miss(refusal)
    rank = len(match.view.shape(match.inputs[0]) or (None, None))
    return Block(gemm.name, "dense", match.inputs, match.output, flatten=rank > 2, arrays=_weights(match.view, gemm), **_post(match))


def _add(target: Target, match: Match) -> Block | Miss:
    add, activation = match.nodes[0], _activation(match)
    refusal = guards.same_shapes(match.view, add) or target.lacks({"add": True, "add.activation": activation is not None})
    return Miss(refusal) if refusal else Block(add.name, "add", match.inputs, match.output, activation=activation)


def _concat(target: Target, match: Match) -> Block | Miss:
    concat = match.nodes[0]
    refusal = guards.channel_concat(match.view, concat) or target.lacks({"concat": True})
    return Miss(refusal) if refusal else Block(concat.name, "concat", match.inputs, match.output)


def _multiply(target: Target, match: Match) -> Block | Miss:
    refusal = target.lacks({"multiply": True})
    return Miss(refusal) if refusal else Block(match.nodes[0].name, "multiply", match.inputs, match.output, activation=_activation(match))


def _attention(target: Target, match: Match) -> Block | Miss:
    node, view = match.nodes[0], match.view
    heads, scale = operand(view, node, 3), operand(view, node, 4)
    if refusal := target.lacks({"attention": True}):
        return Miss(refusal)
    mask = operand(view, node, 6)
    arrays = {"scale": np.asarray(scale).reshape(1), **({} if mask is None else {"mask": mask})}
    return Block(node.name, "attention", match.inputs, match.output, groups=int(heads[1]), arrays=arrays)


def _buffer(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if refusal := target.lacks({"buffer": True}):
        return Miss(refusal)
    return Block(node.name, "buffer", match.inputs, match.output, frames=node.native.inputs[1].shape[2] + 1)


def _quantized(target: Target, match: Match) -> Miss:
    return Miss("another tool has quantized the network: give the float network it was made from")


def _softmax(target: Target, match: Match) -> Block | Miss:
    refusal = target.lacks({"softmax": True})
    return Miss(refusal) if refusal else Block(match.nodes[0].name, "softmax", match.inputs, match.output)


def _matmul(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal, perm = target.lacks({"matmul": True}), (0, 2, 1) if node.op == "TurnedProduct" else ()
    return Miss(refusal) if refusal else Block(node.name, "matmul", match.inputs, match.output, perm=perm, activation=_activation(match))


def _embed(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if refusal := target.lacks({"embed": True}):
        return Miss(refusal)
    return Block(node.name, "embed", match.inputs, match.output, arrays={"table": operand(match.view, node, 2)[0, :, 0]})


def _local_response(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if refusal := target.lacks({"local_response": True}):
        return Miss(refusal)
    (size, alpha, _, bias) = guards.response(node)
    arrays = {"strength": np.array([alpha / (size * bias)]), "gain": np.array([bias**-0.75])}
    return Block(node.name, "local_response", match.inputs, match.output, window=size, activation=_activation(match), arrays=arrays)


def _normalize(target: Target, match: Match) -> Block | Miss:
    node = match.find("LayerNormalization")
    if refusal := target.lacks({"normalize": True}):
        return Miss(refusal)
    epsilon = np.array([node.native.attributes.get_float("epsilon", 1e-5)])
    return Block(node.name, "normalize", match.inputs, match.output, activation=_activation(match), arrays={"epsilon": epsilon})


def _average_pool(target: Target, match: Match) -> Block | Miss:
    node, window = match.nodes[0], guards.average_window(match.view, match.nodes[0])
    if not target.can("pool2d") and target.can("depthwise2d") and window.padded:
        return _equal_weights(match)
    if refusal := target.lacks({"pool2d": True}):
        return Miss(refusal)
    return Block(node.name, "pool2d", match.inputs, match.output, activation=_activation(match), pool=window)


def _equal_weights(match: Match) -> Block:
    """A mean over windows as a depthwise convolution."""
    node, window = match.nodes[0], guards.average_window(match.view, match.nodes[0])
    channels = match.view.shape(node.inputs[0])[1]
    weight = np.full((channels, 1, *window.size), 1 / np.prod(window.size), np.float32)
    return Block(node.name, "depthwise2d", match.inputs, match.output, window.strides, window.pads, channels, activation=_activation(match),
                 arrays={"weight": weight})


def _select(target: Target, match: Match) -> Block | Miss:
    node, view = match.nodes[0], match.view
    if refusal := target.lacks({"select": True}):
        return Miss(refusal)
    channels = np.asarray(operand(view, node, 1), np.int64).reshape(-1) % view.shape(node.inputs[0])[1]
    return Block(node.name, "select", match.inputs, match.output, arrays={"channels": channels})


def _upsample(target: Target, match: Match) -> Block | Miss:
    resize = match.nodes[0]
    refusal = target.lacks({"upsample2d": True})
    factors = guards.resize_factors(match.view, resize)
    return Miss(refusal) if refusal else Block(resize.name, "upsample2d", match.inputs, match.output, strides=factors)


def _activation(match: Match) -> Activation | None:
    if match.find("Relu"):
        return Activation("relu")
    if clip := match.find("Clip"):
        bound = guards.clip_bounds(match.view, clip)[1]
        return Activation("relu", bound=None if np.isinf(bound) else bound)
    return _table(match.view, match.find(*TABLES))


def _table(view: OnnxView, node: Node | None) -> Activation | None:
    if node is None:
        return None
    attributes = node.native.attributes
    if node.op == "Clamp":
        return Activation("clip", *(float(operand(view, node, i).reshape(())) for i in (2, 1)))
    name = "gelu_tanh" if attributes.get_string("approximate", "none") == "tanh" else TABLES[node.op]
    alpha = attributes.get_float("alpha", SLOPES[node.op]) if node.op in SLOPES else None
    return Activation(name, alpha=None if node.op == "HardSigmoid" and guards.is_sixth(alpha) else alpha)


def _pool(match: Match) -> Pool | None:
    if match.find("GlobalAveragePool"):
        return Pool("gap")
    if (pool := match.find("MaxPool")) is None:
        return None
    return Pool("max", ints(pool, "kernel_shape", (1, 1)), ints(pool, "strides", (1, 1)), guards.pool_pads(match.view, pool))


def _weights(view: OnnxView, node: Node, order: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    """Weight, (F, C/groups, kh, kw) or (F, Cin) once its axes stand in `order` (None: as they are), and bias as (F,) when there is one."""
    weight, bias = operand(view, node, 1), operand(view, node, 2)
    weight = weight if order is None else weight.transpose(order)
    return {"weight": weight} if bias is None else {"weight": weight, "bias": np.broadcast_to(bias.reshape(-1), len(weight))}
