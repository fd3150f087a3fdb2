"""Vision transformers as exporters spell them, with seeded weights.

    timm      one dense layer for queries, keys and values, reshaped to five axes, gathered; a class token spread by Expand
    split     the same projection, split along its channels
    apart     three dense layers, scores divided by sqrt(d), no class token, the mean of all tokens
    tensorflow    einsums taken apart by tf2onnx: batch and heads as one axis for each product, put apart for the softmax by sizes asked from tensors
    torch     torch.nn.MultiheadAttention: the batch second, heads beside it, rows of a matrix behind; sizes asked from tensors, or known with a fixed batch
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper


Mask = Callable[["Writer", str, int], str]


class Writer:
    """Nodes and initializers, named as they come."""

    def __init__(self, seed: int) -> None:
        self.rng, self.nodes, self.initializers = np.random.default_rng(seed), [], []

    def constant(self, value: object, dtype: type = np.int64) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.initializers)}"))
        return self.initializers[-1].name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        return self.constant(self.rng.normal(size=shape) * (shape[0] ** -0.5 if scale is None else scale), np.float32)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str | list[str]:
        names = [f"{kind}_{len(self.nodes)}{suffix}" for suffix in (["", *"abcdefg"][:outputs])]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.op("Add", self.weight(outputs, scale=0.1), self.op("MatMul", x, self.weight(inputs, outputs)))

    def model(self, inputs: Sequence[int | str], output: str, classes: int, opset: int) -> onnx.ModelProto:
        self.op("Identity", output)
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "vit", [info("x", 1, inputs)], [info(self.nodes[-1].output[0], 1, [inputs[0], classes])], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def vit(style: str, *, elementary: bool = False, batch: int | str = "N", size: int = 28, patch: int = 4, width: int = 32, depth: int = 2, heads: int = 4,
        classes: int = 10, mask: Mask | None = None) -> onnx.ModelProto:
    """`elementary`: layer normalizations in nine nodes, opset 13. `mask`: what is done to the scores, (writer, scores, tokens) -> scores."""
    w, tokens = Writer(0), (size // patch) ** 2
    patches = w.op("Conv", "x", w.weight(width, 1, patch, patch, scale=0.3), w.weight(width, scale=0.1), strides=[patch, patch])
    x = w.op("Transpose", w.op("Reshape", patches, w.constant([0, width, -1])), perm=[0, 2, 1])
    if style != "apart":
        x = w.op("Concat", _class_token(w, width, batch), x, axis=1)
        tokens += 1
    x = w.op("Add", x, w.weight(1, tokens, width, scale=0.5))
    for _ in range(depth):
        x = w.op("Add", x, _attention(w, _norm(w, x, width, elementary), style, tokens, width, heads, mask, batch))
        x = w.op("Add", x, w.dense(_gelu(w, w.dense(_norm(w, x, width, elementary), width, 2 * width)), 2 * width, width))
    x = _norm(w, x, width, elementary)
    x = w.op("ReduceMean", x, axes=[1], keepdims=0) if style == "apart" else w.op("Gather", x, w.constant(0), axis=1)
    return w.model([batch, 1, size, size], w.op("Gemm", x, w.weight(classes, width, scale=0.2), w.weight(classes), transB=1), classes, 13 if elementary else 17)


def _class_token(w: Writer, width: int, batch: int | str) -> str:
    if batch == 1:
        return w.weight(1, 1, width, scale=0.5)
    batch = w.op("Unsqueeze", w.op("Gather", w.op("Shape", "x"), w.constant(0)), w.constant([0]))
    return w.op("Expand", w.weight(1, 1, width, scale=0.5), w.op("Concat", batch, w.constant([1]), w.constant([width]), axis=0))


def _norm(w: Writer, x: str, width: int, elementary: bool) -> str:
    gamma, beta = w.constant(w.rng.uniform(0.5, 1.5, width), np.float32), w.weight(width, scale=0.1)
    if not elementary:
        return w.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-6)
    d = w.op("Sub", x, w.op("ReduceMean", x, axes=[-1]))
    variance = w.op("ReduceMean", w.op("Pow", d, w.constant(2, np.float32)), axes=[-1])
    y = w.op("Div", d, w.op("Sqrt", w.op("Add", variance, w.constant(1e-6, np.float32))))
    return w.op("Add", w.op("Mul", y, gamma), beta)


def _gelu(w: Writer, x: str) -> str:
    gate = w.op("Add", w.op("Erf", w.op("Div", x, w.constant(2**0.5, np.float32))), w.constant(1, np.float32))
    return w.op("Mul", w.op("Mul", x, gate), w.constant(0.5, np.float32))


def _attention(w: Writer, x: str, style: str, tokens: int, width: int, heads: int, mask: Mask | None, batch: int | str) -> str:
    if style == "torch":
        return _batch_second(w, x, tokens, width, heads, batch)
    if style == "tensorflow":
        return _taken_apart(w, x, tokens, width, heads)
    size = width // heads
    q, k, v = PROJECTIONS[style](w, x, tokens, width, heads)
    if style == "apart":
        scores = w.op("Div", w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2])), w.constant(size**0.5, np.float32))
    else:
        scores = w.op("MatMul", w.op("Mul", q, w.constant(size**-0.5, np.float32)), w.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = scores if mask is None else mask(w, scores, tokens)
    mixed = w.op("Transpose", w.op("MatMul", w.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return w.dense(w.op("Reshape", mixed, w.constant([0, tokens, width])), width, width)


def _taken_apart(w: Writer, x: str, tokens: int, width: int, heads: int) -> str:
    size = width // heads
    q, k, v = (w.op("Transpose", w.op("Reshape", w.dense(x, width, width), w.constant([-1, tokens, heads, size])), perm=[0, 2, 1, 3]) for _ in range(3))

    def joined(value: str) -> str:
        """Batch and heads as one axis, the rest by its size."""
        sizes = w.op("Shape", value)
        lead = w.op("ReduceProd", w.op("Gather", sizes, w.constant([0, 1])), keepdims=1)
        return w.op("Reshape", value, w.op("Concat", lead, w.constant([-1]), w.op("Gather", sizes, w.constant([3])), axis=0))

    def multiplied(a: str, b: str, columns: int) -> str:
        lead = w.op("Max", *(w.op("Gather", w.op("Shape", t), w.constant([0, 1])) for t in (a, b)))
        apart = w.op("Concat", lead, w.constant([tokens, columns, 1]), axis=0)
        return w.op("Squeeze", w.op("Reshape", w.op("MatMul", joined(a), joined(b)), apart), w.constant([4]))

    scores = w.op("Mul", multiplied(q, w.op("Transpose", k, perm=[0, 1, 3, 2]), tokens), w.constant(size**-0.5, np.float32))
    mixed = w.op("Transpose", multiplied(w.op("Softmax", scores, axis=-1), v, size), perm=[0, 2, 1, 3])
    return w.dense(w.op("Reshape", mixed, w.constant([-1, tokens, width])), width, width)


def _batch_second(w: Writer, x: str, tokens: int, width: int, heads: int, batch: int | str) -> str:
    count = 1 if batch == 1 else w.op("Gather", w.op("Shape", x), w.constant([0]))

    def reshaped(value: str, *sizes: int | str) -> str:
        """`N` stands for the batch, `M` for the batch times heads."""
        if count == 1:
            return w.op("Reshape", value, w.constant([{"N": 1, "M": heads}.get(s, s) for s in sizes]), allowzero=1)
        computed = {"N": count, "M": w.op("Mul", count, w.constant(heads))}
        return w.op("Reshape", value, w.op("Concat", *(computed[s] if s in computed else w.constant([s]) for s in sizes), axis=0))

    size, second = width // heads, w.op("Transpose", x, perm=[1, 0, 2])
    three = w.op("Unsqueeze", reshaped(w.dense(second, width, 3 * width), tokens, "N", 3, width), w.constant([0]))
    three = w.op("Squeeze", w.op("Transpose", three, perm=[3, 1, 2, 0, 4]), w.constant([3]))
    parts = [reshaped(w.op("Gather", three, w.constant(i), axis=0), tokens, "M", size) for i in range(3)]
    q, k, v = (reshaped(w.op("Transpose", p, perm=[1, 0, 2]), "N", heads, tokens, size) for p in parts)
    factor = w.constant(size**-0.25, np.float32)
    scores = w.op("MatMul", w.op("Mul", q, factor), w.op("Mul", w.op("Transpose", k, perm=[0, 1, 3, 2]), factor))
    mixed = w.op("Transpose", w.op("MatMul", w.op("Softmax", scores, axis=-1), v), perm=[2, 0, 1, 3])
    rows = w.op("Reshape", mixed, w.constant([tokens if batch == 1 else -1, width]))
    y = w.op("Gemm", rows, w.weight(width, width, scale=width**-0.5), w.weight(width, scale=0.1), transB=1)
    return w.op("Transpose", reshaped(y, tokens, "N", width), perm=[1, 0, 2])


def _fused(w: Writer, x: str, tokens: int, width: int, heads: int) -> list[str]:
    shape = w.constant([0, tokens, 3, heads, width // heads])
    five = w.op("Transpose", w.op("Reshape", w.dense(x, width, 3 * width), shape), perm=[2, 0, 3, 1, 4])
    return [w.op("Gather", five, w.constant(i), axis=0) for i in range(3)]


def _split(w: Writer, x: str, tokens: int, width: int, heads: int) -> list[str]:
    parts = w.op("Split", w.dense(x, width, 3 * width), w.constant([width] * 3), outputs=3, axis=2)
    return [_heads(w, p, tokens, width, heads) for p in parts]


def _apart(w: Writer, x: str, tokens: int, width: int, heads: int) -> list[str]:
    return [_heads(w, w.dense(x, width, width), tokens, width, heads) for _ in range(3)]


def _heads(w: Writer, x: str, tokens: int, width: int, heads: int) -> str:
    return w.op("Transpose", w.op("Reshape", x, w.constant([0, tokens, heads, width // heads])), perm=[0, 2, 1, 3])


PROJECTIONS = {"timm": _fused, "split": _split, "apart": _apart}
