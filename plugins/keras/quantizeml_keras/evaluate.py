"""The float meaning of every operation of a `Graph`, on keras.ops, in any precision: observers run it in float32, proofs in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

from quantizeml_core.match import Node

from .layers.frames import beginning, windowed
from .layers.windows import LOWEST, pad
from .temporal import turned
from .transformer_layers import SMALLEST, shiftmax

Tensor = Any


def evaluate(nodes: Iterable[Node], feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that the nodes write, and the feeds; the feeds' type is kept."""
    values = dict(feeds)
    for node in nodes:
        operands = [values[t] for t in node.inputs]
        values[node.outputs[0]] = OPERATIONS[node.op](node.native, *operands)
    return values


def _conv2d(at: Mapping[str, Any], x: Tensor) -> Tensor:
    groups = at["groups"]
    kernel = _as(at["kernel"], x)
    parts = [(x, kernel)] if groups == 1 else zip(ops.split(x, groups, axis=-1), ops.split(kernel, groups, axis=-1), strict=True)
    sums = [ops.conv(_padded(at, p), k, strides=at["strides"], padding="valid", data_format="channels_last") for p, k in parts]
    return _biased(at, sums[0] if groups == 1 else ops.concatenate(sums, axis=-1))


def _depthwise(at: Mapping[str, Any], x: Tensor) -> Tensor:
    down, across = at["strides"]
    step = down if down == across else 1
    y = ops.depthwise_conv(_padded(at, x), _as(at["kernel"], x), strides=step, padding="valid", data_format="channels_last")
    return _biased(at, y if down == across else y[:, ::down, ::across])


def _transposed(at: Mapping[str, Any], x: Tensor) -> Tensor:
    y = ops.conv_transpose(x, _as(at["kernel"], x), strides=at["strides"], padding=at["padding"], data_format="channels_last")
    return _biased(at, y)


def _dense(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return _biased(at, ops.matmul(x, _as(at["kernel"], x)))


def _affine(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.add(ops.multiply(x, _as(at["scale"], x)), _as(at["offset"], x))


def _normalize(at: Mapping[str, Any], x: Tensor) -> Tensor:
    deviation = ops.subtract(x, ops.mean(x, axis=-1, keepdims=True))
    return ops.divide(deviation, ops.sqrt(ops.add(ops.mean(ops.square(deviation), axis=-1, keepdims=True), at["epsilon"])))


def _embed(at: Mapping[str, Any], x: Tensor) -> Tensor:
    length, channels = at["table"].shape
    row = ops.reshape(x, (-1, 1, x.shape[1] * x.shape[2], channels))
    return ops.add(ops.pad(row, ((0, 0), (0, 0), (length - row.shape[2], 0), (0, 0))), _as(at["table"], x))


def _mad_normalize(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.divide(x, ops.maximum(ops.mean(ops.abs(x), axis=-1, keepdims=True), SMALLEST))


def _attention(at: Mapping[str, Any], *inputs: Tensor) -> Tensor:
    def tokens(x: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(x, (-1, x.shape[1] * x.shape[2], at["heads"], x.shape[3] // at["heads"])), (0, 2, 1, 3))

    q, k, v = map(tokens, inputs)
    scores = ops.multiply(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), at["scale"])
    scores = scores if at.get("mask") is None else ops.add(scores, _as(at["mask"], scores))
    weights = at.get("weights", ops.softmax)(scores)
    return ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (-1, *inputs[2].shape[1:]))


def _relu(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.relu(x) if at["bound"] is None else ops.clip(x, 0, at["bound"])


def _table(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return FUNCTIONS[at["function"]](x, at.get("alpha") or 0.0)


def _max_pool(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.max_pool(pad(x, at["pads"], LOWEST), at["size"], at["strides"], padding="valid", data_format="channels_last")


def _average_pool(at: Mapping[str, Any], x: Tensor) -> Tensor:
    """Padded pixels do not count."""
    return ops.average_pool(x, at["size"], at["strides"], padding="same" if any(at["pads"]) else "valid", data_format="channels_last")


def _up_sampling(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.repeat(ops.repeat(x, at["size"][0], axis=1), at["size"][1], axis=2)


def _buffer(at: Mapping[str, Any], x: Tensor) -> Tensor:
    """Rows are consecutive frames of one sequence. `before`: a list of the frames before them, empty for zeros, brought up to date."""
    before, older = at.get("before", []), at["frames"] - 1
    rows = ops.concatenate([*(before or [ops.zeros((older, *x.shape[1:]), x.dtype)]), x], axis=0)
    before[:] = [rows[-older:]]
    return windowed([rows[t : t + x.shape[0]] for t in range(at["frames"])])


def _matmul(at: Mapping[str, Any], x: Tensor, y: Tensor) -> Tensor:
    rows, other = (ops.reshape(t, (-1, t.shape[1] * t.shape[2], t.shape[3])) for t in (x, y))
    product = ops.matmul(rows, ops.transpose(other, (0, 2, 1)) if at["turned"] else other)
    return ops.reshape(product, (-1, *x.shape[1:3], product.shape[-1]))


def _recurrent(at: Mapping[str, Any], x: Tensor) -> Tensor:
    """Rows are consecutive frames of one sequence. `before`: a list of the state before them, empty for zeros, brought up to date."""
    before, found = at.get("before", []), []
    state = before[0] if before else beginning(x[0])
    for frame in ops.unstack(x, axis=0):
        state = turned([_as(c, x) for c in at["coefficients"]], state, frame)
        found.append(state)
    before[:] = [state]
    return ops.reshape(ops.stack(found), (-1, *x.shape[1:-1], 2 * x.shape[-1]))


def _reshape(at: Mapping[str, Any], x: Tensor) -> Tensor:
    return ops.reshape(x, (-1, *at["shape"]))


def _padded(at: Mapping[str, Any], x: Tensor) -> Tensor:
    """The image with its padding: zero, or `pad_value`, one number for each channel."""
    value = at.get("pad_value")
    if value is None or not any(at["pads"]):
        return pad(x, at["pads"], 0.0)
    value = _as(value, x)
    return ops.add(pad(ops.subtract(x, value), at["pads"], 0.0), value)


def _biased(at: Mapping[str, Any], y: Tensor) -> Tensor:
    return y if at["bias"] is None else ops.add(y, _as(at["bias"], y))


def _as(array: np.ndarray, x: Tensor) -> Tensor:
    return ops.cast(ops.convert_to_tensor(array), x.dtype)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "Conv2D": _conv2d, "DepthwiseConv2D": _depthwise, "Conv2DTranspose": _transposed, "Dense": _dense, "Affine": _affine,
    "Normalize": _normalize, "Attention": _attention, "MadNormalize": _mad_normalize, "ShiftAttention": lambda at, *x: _attention({**at, "weights": shiftmax}, *x),
    "Embed": _embed, "ReLU": _relu, "Table": _table,
    "MaxPool": _max_pool, "AveragePool": _average_pool, "UpSampling2D": _up_sampling, "Reshape": _reshape, "Flatten": _reshape,
    "Softmax": lambda at, x: ops.softmax(x, axis=-1),
    "MatMul": _matmul,
    "Buffer": _buffer, "Recurrent": _recurrent,
    "Permute": lambda at, x: ops.transpose(x, (0, *at["dims"])),
    "Pad": lambda at, x: pad(x, at["pads"], 0.0),
    "GlobalAveragePool": lambda at, x: ops.mean(x, axis=(1, 2), keepdims=True),
    "Add": lambda at, x, y: ops.add(x, y),
    "Multiply": lambda at, x, y: ops.multiply(x, y),
    "Concatenate": lambda at, x, y: ops.concatenate([x, y], axis=-1),
}

FUNCTIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "gelu": lambda x, alpha: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x, alpha: ops.gelu(x, approximate=True),
    "swish": lambda x, alpha: ops.silu(x),
    "hard_sigmoid": lambda x, alpha: ops.hard_sigmoid(x),
    "hard_swish": lambda x, alpha: ops.hard_silu(x),
    "leaky_relu": lambda x, alpha: ops.where(x < 0, x * alpha, x),
    "sigmoid": lambda x, alpha: ops.sigmoid(x),
    "tanh": lambda x, alpha: ops.tanh(x),
    "elu": lambda x, alpha: ops.elu(x, alpha),
    "abs": lambda x, alpha: ops.abs(x),
    "celu": lambda x, alpha: ops.celu(x, alpha),
    "mish": lambda x, alpha: x * ops.tanh(ops.softplus(x)),
    "selu": lambda x, alpha: ops.selu(x),
    "softplus": lambda x, alpha: ops.softplus(x),
    "softsign": lambda x, alpha: ops.divide(x, 1 + ops.abs(x)),
}
