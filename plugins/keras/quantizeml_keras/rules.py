"""The built-in rules: which lines of operations of a Keras graph are one hardware block.

    conv2d, depthwise2d   Conv2D | DepthwiseConv2D, [MaxPool] [activation] in either order;  or [activation] [GlobalAveragePool]
    conv_transpose2d      Conv2DTranspose [activation]
    dense                 [Flatten] Dense [activation]
    add, concat           Add [ReLU];  Concatenate
    affine                a BatchNormalization or Rescaling alone: a depthwise2d of one pixel
    pool2d                AveragePool [ReLU]; where the target has none, a depthwise2d of equal weights
    attention, embed      Attention;  Embed;  with powers of two: ShiftAttention
    mad_normalize         MadNormalize [ReLU]: a LayerMadNormalization without its weights
    lookup                a table alone, where the target looks bytes up
    multiply, upsample2d  Multiply [ReLU];  UpSampling2D
    buffer, recurrent     Buffer: the frames of a convolution over time, which is a conv2d behind it;  Recurrent
    softmax, matmul       Softmax, where something goes on behind it;  MatMul [ReLU] of two sequences
    normalize             [Flatten] Normalize [ReLU]: a LayerNormalization without its weights, which go into a neighbour
    pad                   ZeroPadding2D that no neighbour could take: a depthwise2d of one pixel, padded
    identity              the lines of conv2d without their convolution: a depthwise2d, or a conv2d, of one pixel that changes nothing

An activation is a ReLU with or without a bound, or a table. What only some targets run is asked from the target's capabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.match import Match, Miss, Node, P, Rule
from quantizeml_core.target import Target

from .activations import SOFTMAX_ALONE
from .layouts import to_canonical

SOURCE = "quantizeml-keras"
PRIORITY = 10
"""Behind the default 0, so that a plugin's rule for the same line goes first."""

ACTIVATION = P("ReLU") | P("Table")
MAX_POOL = P("MaxPool")
GLOBAL_POOL = P("GlobalAveragePool")
POST = P.either_order(P.opt(MAX_POOL), P.opt(ACTIVATION)) | (P.opt(ACTIVATION) >> P.opt(GLOBAL_POOL))
ALONE = (MAX_POOL >> P.opt(ACTIVATION)) | (ACTIVATION >> P.opt(MAX_POOL | GLOBAL_POOL)) | GLOBAL_POOL

WEIGHING = frozenset({"Add", "Concatenate", "Conv2D", "Dense", "DepthwiseConv2D", "Flatten", "MatMul", "Multiply"})
"""Operations that go on with the output of a softmax."""

Build = Callable[[Target, Match], "Block | Miss"]


def builtin_rules(target: Target) -> tuple[Rule, ...]:
    """The rules of this frontend for one target."""
    lines: Mapping[str, tuple[P, Build]] = {
        "add": (P("Add") >> P.opt(P("ReLU")), _add),
        "attention": (P("Attention"), partial(_attention, "attention")),
        "shift_attention": (P("ShiftAttention"), partial(_attention, "shift_attention")),
        "affine": (P("Affine") >> POST, _affine),
        "buffer": (P("Buffer"), _buffer),
        "concat": (P("Concatenate"), _concat),
        "conv2d": (P("Conv2D") >> POST, _conv2d),
        "conv_transpose2d": (P("Conv2DTranspose") >> P.opt(ACTIVATION), _transposed),
        "dense": (P.opt(P("Flatten")) >> P("Dense") >> P.opt(ACTIVATION), _dense),
        "depthwise2d": (P("DepthwiseConv2D") >> POST, _depthwise2d),
        "embed": (P("Embed"), _embed),
        "identity": (ALONE, _identity),
        "lookup": (P("Table"), _lookup),
        "mad_normalize": (P("MadNormalize") >> P.opt(P("ReLU")), _mad_normalize),
        "multiply": (P("Multiply") >> P.opt(P("ReLU")), _multiply),
        "normalize": (P.opt(P("Flatten")) >> P("Normalize") >> P.opt(P("ReLU")), _normalize),
        "pad": (P("Pad") >> POST, _pad),
        "pool2d": (P("AveragePool") >> P.opt(P("ReLU")), _average_pool),
        "recurrent": (P("Recurrent"), _recurrent),
        "softmax": (P("Softmax"), _softmax),
        "matmul": (P("MatMul") >> P.opt(P("ReLU")), _matmul),
        "upsample2d": (P("UpSampling2D"), _upsample),
    }
    return tuple(Rule(name, pattern, partial(build, target), SOURCE, PRIORITY) for name, (pattern, build) in lines.items())


def _conv2d(target: Target, match: Match) -> Block | Miss:
    conv = match.nodes[0].native
    block = _window(target, match, "conv2d", conv["kernel"], conv["bias"], conv["strides"], conv["pads"], conv["groups"])
    return block if isinstance(block, Miss) else block.with_arrays(pad_value=conv.get("pad_value"))


def _depthwise2d(target: Target, match: Match) -> Block | Miss:
    conv = match.nodes[0].native
    return _window(target, match, "depthwise2d", conv["kernel"], conv["bias"], conv["strides"], conv["pads"])


def _transposed(target: Target, match: Match) -> Block | Miss:
    conv = match.nodes[0]
    if refusal := target.lacks({"conv_transpose2d": True, "activation.table": match.find("Table") is not None}) or _looks_up(target, match):
        return Miss(refusal)
    block = Block(conv.name, "conv_transpose2d", match.inputs, match.output, strides=conv.native["strides"], pads=conv.native["crops"], **_post(match))
    return block.with_arrays(weight=conv.native["kernel"].transpose(2, 3, 0, 1), bias=conv.native["bias"])


def _affine(target: Target, match: Match) -> Block | Miss:
    if refusal := _image(match):
        return Miss(refusal)
    affine = match.nodes[0].native
    scale, offset = (np.broadcast_to(affine[k], (_channels(match),)) for k in ("scale", "offset"))
    return _pointwise(target, match, scale, offset)


def _pad(target: Target, match: Match) -> Block | Miss:
    return _pointwise(target, match, np.ones(_channels(match), np.float32), None, match.nodes[0].native["pads"])


def _average_pool(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    size, strides, pads = (node.native[name] for name in ("size", "strides", "pads"))
    if target.can("pool2d"):
        return Block(node.name, "pool2d", match.inputs, match.output, activation=_activation(match), pool=Pool("avg", size, strides, pads, padded=not any(pads)))
    if any(pads):
        return Miss("windows at the border have fewer pixels, and the target has no average pooling but by equal weights")
    kernel = np.full((*size, _channels(match), 1), 1.0 / np.prod(size))
    return _window(target, match, "depthwise2d", kernel, None, strides)


def _multiply(target: Target, match: Match) -> Block | Miss:
    refusal = target.lacks({"multiply": True})
    return Miss(refusal) if refusal else Block(match.nodes[0].name, "multiply", match.inputs, match.output, activation=_activation(match))


def _attention(kind: str, target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if refusal := target.lacks({kind: True}):
        return Miss(refusal)
    block = Block(node.name, kind, match.inputs, match.output, groups=node.native["heads"])
    return block.with_arrays(scale=np.array([node.native["scale"]]), mask=node.native.get("mask"))


def _mad_normalize(target: Target, match: Match) -> Block | Miss:
    if refusal := target.lacks({"mad_normalize": True}):
        return Miss(refusal)
    return Block(match.nodes[0].name, "mad_normalize", match.inputs, match.output, activation=_activation(match))


def _embed(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal = target.lacks({"embed": True})
    return Miss(refusal) if refusal else Block(node.name, "embed", match.inputs, match.output).with_arrays(table=np.asarray(node.native["table"]).T)


def _normalize(target: Target, match: Match) -> Block | Miss:
    node, source = match.find("Normalize"), match.view.shapes[match.inputs[0]]
    if match.find("Flatten") and (len(source) != 4 or source[1:3] != (1, 1)):
        return Miss(f"a normalization over the flattened shape {source} is not supported, only of one pixel")
    if refusal := target.lacks({"normalize": True}):
        return Miss(refusal)
    block = Block(node.name, "normalize", match.inputs, match.output, flatten=match.find("Flatten") is not None, activation=_activation(match))
    return block.with_arrays(epsilon=np.array([node.native["epsilon"]]))


def _upsample(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal = target.lacks({"upsample2d": True})
    return Miss(refusal) if refusal else Block(node.name, "upsample2d", match.inputs, match.output, strides=node.native["size"])


def _buffer(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal = target.lacks({"buffer": True})
    return Miss(refusal) if refusal else Block(node.name, "buffer", match.inputs, match.output, frames=node.native["frames"])


def _softmax(target: Target, match: Match) -> Block | Miss:
    """At the end of a network a softmax says what a float reads; within, its output is multiplied, added or weighed."""
    node = match.nodes[0]
    if not any(n.op in WEIGHING for n in match.view.consumers(match.output)):
        return Miss(SOFTMAX_ALONE)
    refusal = target.lacks({"softmax": True})
    return Miss(refusal) if refusal else Block(node.name, "softmax", match.inputs, match.output)


def _matmul(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal = target.lacks({"matmul": True})
    perm = (0, 2, 1) if node.native["turned"] else ()
    return Miss(refusal) if refusal else Block(node.name, "matmul", match.inputs, match.output, perm=perm, activation=_activation(match))


def _recurrent(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    refusal = target.lacks({"recurrent": True})
    return Miss(refusal) if refusal else Block(node.name, "recurrent", match.inputs, match.output).with_arrays(coefficients=node.native["coefficients"])


def _lookup(target: Target, match: Match) -> Block | Miss:
    node = match.nodes[0]
    if not target.can("byte_table"):
        return Miss("the target applies tables to accumulators")
    return Block(node.name, "lookup", match.inputs, match.output, activation=_table(node))


def _identity(target: Target, match: Match) -> Block | Miss:
    """Hardware pools and activates behind a convolution only: one that changes nothing stands in."""
    refusal = _image(match)
    return Miss(refusal) if refusal else _pointwise(target, match, np.ones(_channels(match), np.float32), None)


def _pointwise(target: Target, match: Match, scale: np.ndarray, offset: np.ndarray | None, pads: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Block | Miss:
    """Each channel times a number: a depthwise convolution of one pixel, or, where the target has none, a convolution whose kernel is a diagonal."""
    if target.can("depthwise2d.pointwise") and not _unfit("depthwise2d", target, match):
        return _window(target, match, "depthwise2d", scale[None, None, :, None], offset, pads=pads)
    return _window(target, match, "conv2d", np.diag(scale)[None, None], offset, pads=pads)


def _window(target: Target, match: Match, kind: str, kernel: np.ndarray, bias: np.ndarray | None, strides: tuple[int, int] = (1, 1),
            pads: tuple[int, int, int, int] = (0, 0, 0, 0), groups: int = 1) -> Block | Miss:
    """A block that slides over an image, with what follows it."""
    if refusal := _unfit(kind, target, match):
        return Miss(refusal)
    node, source = match.nodes[0], match.view.shapes[match.inputs[0]]
    block = Block(node.name, kind, match.inputs, match.output, strides=strides, pads=pads,
                  groups=kernel.shape[2] if kind == "depthwise2d" else groups, **_post(match))
    weight = to_canonical(block, kernel, (source[0], source[3], source[1], source[2]))
    return block.with_arrays(weight=weight, bias=bias)


def _dense(target: Target, match: Match) -> Block | Miss:
    dense, source = match.find("Dense"), match.view.shapes[match.inputs[0]]
    if len(source) not in (2, 4) or None in source[1:]:
        return Miss(f"a flatten of the shape {source} is not supported, only of images of a known size")
    table = match.find("Table")
    inside = match.output not in match.view.outputs()
    if refusal := target.lacks({"activation.table": table is not None, "dense.table": table is not None}) or inside and _looks_up(target, match):
        return Miss(refusal)
    block = Block(dense.name, "dense", match.inputs, match.output, flatten=len(source) > 2, **_post(match))
    first = source if len(source) == 2 else (source[0], source[3], source[1], source[2])
    return block.with_arrays(weight=to_canonical(block, dense.native["kernel"], first), bias=dense.native["bias"])


def _add(target: Target, match: Match) -> Block | Miss:
    add, activation = match.nodes[0], _activation(match)
    refusal = target.lacks({"add": True, "add.activation": activation is not None})
    return Miss(refusal) if refusal else Block(add.name, "add", match.inputs, match.output, activation=activation)


def _concat(target: Target, match: Match) -> Block | Miss:
    concat = match.nodes[0]
    refusal = target.lacks({"concat": True})
    return Miss(refusal) if refusal else Block(concat.name, "concat", match.inputs, match.output)


def _unfit(kind: str, target: Target, match: Match) -> str | None:
    """What the target, or one block, cannot do behind a convolution."""
    pool, table = _pool(match), match.find("Table")
    if table and pool and pool.kind == "max":
        return f"max pooling and a table activation ({table.native['function']}) do not fit into one block"
    return target.lacks({
        "depthwise2d": kind == "depthwise2d",
        "depthwise2d.pool": kind == "depthwise2d" and pool is not None,
        "activation.table": table is not None,
    }) or _looks_up(target, match) or _averages(target, match)


def _looks_up(target: Target, match: Match) -> str | None:
    """A function gets a block of its own where bytes are looked up. That of a last dense layer stays with it, which keeps its accumulators."""
    return "the target looks bytes up, in a block of their own" if target.can("byte_table") and match.find("Table") else None


def _averages(target: Target, match: Match) -> str | None:
    """A global average gets a block of its own where bytes are averaged; what stands in for a convolution is that block."""
    behind = match.nodes[0].op in ("Conv2D", "DepthwiseConv2D") and match.find("GlobalAveragePool")
    return "the target averages bytes, in a block of their own" if target.can("byte_average") and behind else None


def _image(match: Match) -> str | None:
    shape = match.view.shapes[match.inputs[0]]
    return None if len(shape) == 4 else f"the operation is run on images only, not on the shape {shape}"


def _channels(match: Match) -> int:
    return int(match.view.shapes[match.inputs[0]][-1])


def _post(match: Match) -> dict[str, Any]:
    """Activation, pooling, and the tensor whose range sizes a table's index."""
    table = match.find("Table")
    return {"activation": _activation(match), "pool": _pool(match), "probe": table.inputs[0] if table else ""}


def _activation(match: Match) -> Activation | None:
    relu, table = match.find("ReLU"), match.find("Table")
    if relu:
        return Activation("relu", bound=relu.native["bound"])
    return _table(table) if table else None


def _table(node: Node) -> Activation:
    return Activation(node.native["function"], alpha=node.native.get("alpha"))


def _pool(match: Match) -> Pool | None:
    if match.find("GlobalAveragePool"):
        return Pool("gap")
    pool = match.find("MaxPool")
    return None if pool is None else Pool("max", pool.native["size"], pool.native["strides"], pool.native["pads"])
