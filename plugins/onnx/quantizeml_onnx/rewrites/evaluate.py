"""A small float64 evaluator of ONNX operations, the judge of every rewrite. It shares no code with the rewrites it judges.

Next to every array runs `peak`, a bound of the absolute values met on the way (operands, products and partial sums included), from which
`proof` derives how far two float64 evaluations of equal formulas may differ, and `work`, the number of roundings on the longest path. Data has
one peak per row of its batch, so that large rows do not excuse errors in small ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from quantizeml_core.filters import pieces

from . import kernels
from .kernels import Unprovable

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
Peak = float | np.ndarray
Growth = Callable[[Sequence[Peak], Arrays], tuple[Peak, int]]


@dataclass(frozen=True, eq=False)
class Traced:
    """A value, a bound of everything that went into it, and the roundings on its longest path."""

    array: np.ndarray
    peak: Peak
    work: int = 0


def trace(array: np.ndarray) -> Traced:
    """A constant; infinities (open bounds) do not count."""
    kept = array[np.isfinite(array)] if array.dtype.kind == "f" and not np.isfinite(array).all() else array
    return Traced(array, float(max(np.max(kept), -np.min(kept))) if kept.size and kept.dtype.kind == "f" else 0.0)


def trace_rows(array: np.ndarray) -> Traced:
    """An input, axis 0 its batch."""
    return Traced(array, np.abs(array).max(axis=tuple(range(1, array.ndim)), initial=0.0)) if array.ndim else trace(array)


def evaluate(op: str, inputs: Sequence[Traced | None], attributes: Attributes) -> Traced:
    """One operation. Raises Unprovable for what is not known here."""
    if op not in OPS:
        raise Unprovable(f"operation {op}")
    arrays = [None if t is None else t.array for t in inputs]
    y = np.asarray(OPS[op](arrays, attributes))
    peaks, work = [t.peak for t in inputs if t is not None], max((t.work for t in inputs if t is not None), default=0)
    peak, added = GROWTH.get(op, _keep)(peaks, arrays)
    return Traced(y, peak, work + added)


# ---- growth: (peaks of the inputs, inputs) -> (peak of everything met, roundings added)

def _top(peaks: Sequence[Peak]) -> Peak:
    return reduce(np.maximum, peaks, 0.0)


def _keep(peaks: Sequence[Peak], _: Arrays) -> tuple[Peak, int]:
    return _top(peaks), 4


def _sum(peaks: Sequence[Peak], _: Arrays) -> tuple[Peak, int]:
    return sum(peaks), 2 * len(peaks)


def _product(peaks: Sequence[Peak], _: Arrays) -> tuple[Peak, int]:
    return _top((peaks[0] * peaks[1], *peaks)), 2


def _quotient(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    smallest = float(np.min(np.abs(arrays[1].astype(np.float64)), initial=math.inf))
    return _top((peaks[0] / smallest if smallest else math.inf, *peaks)), 2


def _linear(axis: int) -> Growth:
    """sum |w| of the heaviest filter times the data, plus the bias; `axis` holds the filters."""
    def grow(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
        weight = np.moveaxis(arrays[1], axis, 0)
        heaviest = max((float(np.abs(weight[rows].reshape(-1, weight[0].size)).sum(axis=1, dtype=np.float64).max()) for rows in pieces(weight)), default=0.0)
        return max(heaviest, 1.0) * peaks[0] + _top(peaks[2:]), weight[0].size + 4
    return grow


def _gemm_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    weight = np.abs(arrays[1])
    heaviest = float(max(weight.sum(axis=a, dtype=np.float64).max(initial=1.0) for a in (0, 1)))
    return heaviest * peaks[0] + _top(peaks[2:]), max(weight.shape) + 8


def _normalized(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    deviation = math.sqrt(max(float(np.min(arrays[4], initial=math.inf)), 0.0) + 1e-12)
    return max(float(peaks[1]) / deviation, 1.0) * (peaks[0] + peaks[3]) + peaks[2], 12


def _mean_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    return _top(peaks), 2 + math.prod(arrays[0].shape[1:])


def _layer_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    smallest = math.sqrt(max(float(arrays[0].astype(np.float64).var(axis=-1).min()), 0.0) + 1e-12)
    return max(float(np.abs(arrays[1]).max()), 1.0) * peaks[0] / min(smallest, 1.0) + _top(peaks[2:]), 2 * arrays[0].shape[-1] + 12


def _attention_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    """A softmax errs by the error of its scores, which grow with both operands, times what it weighs."""
    scores = peaks[0] * peaks[1] * arrays[0].shape[1]
    return np.maximum(scores, 1.0) * np.maximum(peaks[2], 1.0), 64 + 4 * math.prod(arrays[0].shape[1:])


def _power_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    return _top((np.square(peaks[0]), *peaks)), 8


def _softmax_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    return np.maximum(_top(peaks), 1.0), 8 + arrays[0].shape[-1]


def _einsum_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    longest = max(d for a in arrays for d in a.shape)
    return _top((peaks[0] * peaks[1] * longest, *peaks)), longest + 4


def _product_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    return _top((peaks[0] * peaks[1] * arrays[0].shape[1], *peaks)), arrays[0].shape[1] + 4


def _matmul_growth(peaks: Sequence[Peak], arrays: Arrays) -> tuple[Peak, int]:
    if arrays[1].ndim == 2:
        return _linear(-1)(peaks, arrays)
    return _top((peaks[0] * peaks[1] * arrays[0].shape[-1], *peaks)), arrays[0].shape[-1] + 4


GROWTH: Mapping[str, Growth] = {
    "Add": _sum, "Sub": _sum, "Sum": _sum, "Mul": _product, "Div": _quotient, "PRelu": _product, "Conv": _linear(0), "ConvTranspose": _linear(1), "MatMul": _matmul_growth,
    "Product": _product_growth, "TurnedProduct": _product_growth,
    "Softmax": _softmax_growth, "Pow": _power_growth, "LRN": _power_growth,
    "Gemm": _gemm_growth, "Einsum": _einsum_growth, "BatchNormalization": _normalized, "ReduceMean": _mean_growth, "GlobalAveragePool": _mean_growth,
    "AveragePool": _mean_growth, "LayerNormalization": _layer_growth, "Attention": _attention_growth, "MaskedAttention": _attention_growth, "Tokens": _sum,
}


# ---- operations: (inputs, attributes) -> output

def _clip(x: Arrays, a: Attributes) -> np.ndarray:
    low = a.get("min", x[1] if len(x) > 1 and x[1] is not None else -np.inf)
    high = a.get("max", x[2] if len(x) > 2 and x[2] is not None else np.inf)
    return np.minimum(np.maximum(x[0], low), high)


def _gemm(x: Arrays, a: Attributes) -> np.ndarray:
    left = x[0].T if a.get("transA", 0) else x[0]
    y = kernels.matmul(left, x[1].T if a.get("transB", 0) else x[1]) * a.get("alpha", 1.0)
    return y if len(x) < 3 or x[2] is None else y + a.get("beta", 1.0) * x[2]


def _layer_normalization(x: Arrays, a: Attributes) -> np.ndarray:
    if a.get("axis", -1) not in (-1, x[0].ndim - 1):
        raise Unprovable("LayerNormalization of several axes")
    deviation = x[0] - x[0].mean(axis=-1, keepdims=True)
    y = deviation / np.sqrt(np.square(deviation).mean(axis=-1, keepdims=True) + a.get("epsilon", 1e-5)) * x[1]
    return y if len(x) < 3 or x[2] is None else y + x[2]


def _batch_normalization(x: Arrays, a: Attributes) -> np.ndarray:
    others = tuple(i for i in range(x[0].ndim) if i != 1)
    measured = (x[0].mean(others, np.float64), x[0].var(others, np.float64)) if a.get("training_mode", 0) else x[3:5]
    gamma, beta, mean, variance = (v.reshape(1, -1, *(1,) * (x[0].ndim - 2)) for v in (*x[1:3], *measured))
    return gamma * (x[0] - mean) / np.sqrt(variance + a.get("epsilon", 1e-5)) + beta


def _reshape(x: Arrays, a: Attributes) -> np.ndarray:
    target = [int(d) for d in x[1].reshape(-1)]
    if not a.get("allowzero", 0):
        target = [x[0].shape[i] if d == 0 else d for i, d in enumerate(target)]
    return x[0].reshape(target)


def _flatten(x: Arrays, a: Attributes) -> np.ndarray:
    axis = a.get("axis", 1) + (x[0].ndim if a.get("axis", 1) < 0 else 0)
    return x[0].reshape(math.prod(x[0].shape[:axis]), -1)


def _axes(x: Arrays, a: Attributes, default: tuple[int, ...]) -> tuple[int, ...]:
    given = a.get("axes", x[1] if len(x) > 1 and x[1] is not None else ())
    return tuple(int(v) for v in np.asarray(given).reshape(-1)) or default


def _squeeze(x: Arrays, a: Attributes) -> np.ndarray:
    return np.squeeze(x[0], _axes(x, a, tuple(i for i, d in enumerate(x[0].shape) if d == 1)))


def _reduction(function: Callable[..., np.ndarray]) -> Callable[[Arrays, Attributes], np.ndarray]:
    def run(x: Arrays, a: Attributes) -> np.ndarray:
        axes = _axes(x, a, () if a.get("noop_with_empty_axes", 0) else tuple(range(x[0].ndim)))
        return function(x[0], axis=axes, keepdims=bool(a.get("keepdims", 1)))
    return run


def _wide(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """In float64: large constants are kept in float32."""
    return lambda x, **given: function(x, dtype=np.float64 if x.dtype.kind == "f" else None, **given)


def _pad(x: Arrays, a: Attributes) -> np.ndarray:
    if a.get("mode", "constant") != "constant":
        raise Unprovable(f"Pad mode {a['mode']}")
    pads = np.asarray(a.get("pads", x[1] if len(x) > 1 else ())).reshape(2, -1)
    axes = x[3].reshape(-1) if len(x) > 3 and x[3] is not None else np.arange(x[0].ndim)
    full = np.zeros((2, x[0].ndim), np.int64)
    full[:, axes] = pads
    fill = float(x[2].reshape(-1)[0]) if len(x) > 2 and x[2] is not None else a.get("value", 0.0)
    return kernels.pad(x[0], tuple(int(p) for p in full.reshape(-1)), fill)


def _slice(x: Arrays, a: Attributes) -> np.ndarray:
    names = ("starts", "ends", "axes", "steps")
    given = [a.get(n, x[i] if i < len(x) else None) for i, n in enumerate(names, 1)]
    starts, ends = (np.asarray(v).reshape(-1) for v in given[:2])
    axes = range(len(starts)) if given[2] is None else np.asarray(given[2]).reshape(-1)
    steps = np.ones(len(starts), np.int64) if given[3] is None else np.asarray(given[3]).reshape(-1)
    index = [slice(None)] * x[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(int(start), None if step < 0 and end < -x[0].shape[axis] else int(end), int(step))
    return x[0][tuple(index)]


def _shape(x: Arrays, a: Attributes) -> np.ndarray:
    return np.array(x[0].shape[a.get("start", 0): a.get("end", None)], np.int64)


ELEMENT_TYPES = {1: np.float64, 10: np.float64, 11: np.float64, 6: np.int32, 7: np.int64, 9: np.bool_}
"""ONNX element types that the evaluator casts to; all floating-point types are float64 here."""


def _cast(x: Arrays, a: Attributes) -> np.ndarray:
    if int(a["to"]) not in ELEMENT_TYPES:
        raise Unprovable(f"Cast to element type {int(a['to'])}")
    return x[0].astype(ELEMENT_TYPES[int(a["to"])])


def _divide(x: Arrays, _: Attributes) -> np.ndarray:
    if x[0].dtype.kind != "f":
        return (np.abs(x[0]) // np.abs(x[1])) * np.sign(x[0]) * np.sign(x[1])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return x[0] / x[1]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""ONNX's defaults."""


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


_erf = np.frompyfunc(math.erf, 1, 1)


def _hard_sigmoid(x: np.ndarray, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: Arrays, a: Attributes) -> np.ndarray:
    if a.get("approximate", "none") != "none":
        raise Unprovable("the tanh form of Gelu")
    return 0.5 * x[0] * (1 + _erf(x[0] / math.sqrt(2.0)).astype(np.float64))


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _split(x: Arrays, a: Attributes) -> np.ndarray:
    sizes = np.asarray(a.get("split", x[1] if len(x) > 1 else ())).reshape(-1)
    ends = np.cumsum(sizes)[:-1] if len(sizes) else a["outputs"]
    return np.split(x[0], ends, axis=a.get("axis", 0))[a["output"]]


def _tokens(x: Arrays, a: Attributes) -> np.ndarray:
    row = x[0].reshape(*x[0].shape[:2], 1, -1)
    return kernels.pad(row, tuple(int(p) for p in x[1]), 0.0) + x[2]


def _attention(x: Arrays, a: Attributes) -> np.ndarray:
    q, k, v = (t.reshape(len(t), int(x[3][1]), -1, t.shape[2] * t.shape[3]) for t in x[:3])
    weights = _softmax(np.swapaxes(q, 2, 3) @ k * x[4] + (x[6] if len(x) > 6 else 0.0))
    return np.swapaxes(weights @ np.swapaxes(v, 2, 3), 2, 3).reshape(x[2].shape)


OPS: Mapping[str, Callable[[Arrays, Attributes], np.ndarray]] = {
    "Identity": lambda x, a: x[0],
    "Dropout": lambda x, a: x[0],
    "Cast": _cast,
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": _divide,
    "Neg": lambda x, a: -x[0],
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Ceil": lambda x, a: np.ceil(x[0]),
    "Exp": lambda x, a: np.exp(x[0]),
    "Floor": lambda x, a: np.floor(x[0]),
    "Log": lambda x, a: np.log(x[0]),
    "Round": lambda x, a: np.rint(x[0]),
    "Reciprocal": lambda x, a: _divide([np.ones(()), x[0]], a),
    "Sum": lambda x, a: sum(x[1:], start=x[0]),
    "Min": lambda x, a: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Max": lambda x, a: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Relu": lambda x, a: np.maximum(x[0], 0),
    "Clip": _clip,
    "Clamp": _clip,
    "LeakyRelu": lambda x, a: np.where(x[0] < 0, a.get("alpha", 0.01) * x[0], x[0]),
    "PRelu": lambda x, a: np.where(x[0] < 0, x[1] * x[0], x[0]),
    "Sigmoid": lambda x, a: _sigmoid(x[0]),
    "HardSigmoid": lambda x, a: _hard_sigmoid(x[0], a.get("alpha", 0.2), a.get("beta", 0.5)),
    "HardSwish": lambda x, a: x[0] * _hard_sigmoid(x[0], 1 / 6, 0.5),
    "Swish": lambda x, a: x[0] * _sigmoid(a.get("alpha", 1.0) * x[0]),
    "Abs": lambda x, a: np.abs(x[0]),
    "Celu": lambda x, a: np.where(x[0] < 0, a.get("alpha", 1.0) * np.expm1(x[0] / a.get("alpha", 1.0)), x[0]),
    "Elu": lambda x, a: np.where(x[0] < 0, a.get("alpha", 1.0) * np.expm1(x[0]), x[0]),
    "Selu": lambda x, a: a.get("gamma", SELU_GAMMA) * np.where(x[0] < 0, a.get("alpha", SELU_ALPHA) * np.expm1(x[0]), x[0]),
    "Softsign": lambda x, a: x[0] / (1 + np.abs(x[0])),
    "Tanh": lambda x, a: np.tanh(x[0]),
    "Softplus": lambda x, a: _softplus(x[0]),
    "Mish": lambda x, a: x[0] * np.tanh(_softplus(x[0])),
    "FastGelu": lambda x, a: 0.5 * x[0] * (1 + np.tanh(math.sqrt(2 / math.pi) * (x[0] + 0.044715 * x[0] ** 3))),
    "Erf": lambda x, a: _erf(x[0]).astype(np.float64),
    "Gelu": _gelu,
    "Conv": lambda x, a: kernels.conv(x[0], x[1], x[2] if len(x) > 2 else None, a),
    "ConvTranspose": lambda x, a: kernels.conv_transpose(x[0], x[1], x[2] if len(x) > 2 else None, a),
    "SpaceToDepth": lambda x, a: kernels.space_to_depth(x[0], a["blocksize"]),
    "DepthToSpace": lambda x, a: kernels.depth_to_space(x[0], a["blocksize"], a.get("mode", "DCR") == "CRD"),
    "Gemm": _gemm,
    "MatMul": lambda x, a: kernels.matmul(x[0], x[1]),
    "Einsum": lambda x, a: np.einsum(a["equation"], *x),
    "LRN": lambda x, a: kernels.local_response(x[0], a),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "MaxPool": lambda x, a: kernels.max_pool(x[0], a),
    "AveragePool": lambda x, a: kernels.average_pool(x[0], a),
    "GlobalAveragePool": lambda x, a: x[0].mean(axis=tuple(range(2, x[0].ndim)), keepdims=True),
    "GlobalMaxPool": lambda x, a: x[0].max(axis=tuple(range(2, x[0].ndim)), keepdims=True),
    "ReduceMax": _reduction(np.max),
    "ReduceMean": _reduction(_wide(np.mean)),
    "ReduceMin": _reduction(np.min),
    "ReduceProd": _reduction(np.prod),
    "ReduceSum": _reduction(_wide(np.sum)),
    "Pad": _pad,
    "Resize": lambda x, a: kernels.resize(x[0], x[2] if len(x) > 2 else None, a),
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm", tuple(reversed(range(x[0].ndim))))),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda x, a: np.expand_dims(x[0], _axes(x, a, ())),
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "Gather": lambda x, a: np.take(x[0], x[1], axis=a.get("axis", 0)),
    "Slice": _slice,
    "Shape": _shape,
    "Split": _split,
    "Softmax": lambda x, a: _softmax(x[0], a.get("axis", -1)),
    "Pow": lambda x, a: x[0] ** x[1],
    "Expand": lambda x, a: np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, tuple(int(d) for d in x[1]))),
    "Equal": lambda x, a: x[0] == x[1],
    "Greater": lambda x, a: x[0] > x[1],
    "Less": lambda x, a: x[0] < x[1],
    "Not": lambda x, a: ~x[0],
    "And": lambda x, a: x[0] & x[1],
    "Or": lambda x, a: x[0] | x[1],
    "Range": lambda x, a: np.arange(x[0].item(), x[1].item(), x[2].item(), x[0].dtype),
    "Tile": lambda x, a: np.tile(x[0], x[1]),
    "Mod": lambda x, a: np.fmod(x[0], x[1]) if a.get("fmod", 0) else np.mod(x[0], x[1]),
    "Trilu": lambda x, a: (np.triu if a.get("upper", 1) else np.tril)(x[0], int(x[1]) if len(x) > 1 and x[1] is not None else 0),
    "Where": lambda x, a: np.where(x[0], x[1], x[2]),
    "ConstantOfShape": lambda x, a: np.full(tuple(int(d) for d in x[0]), a["value"].numpy().item() if "value" in a else 0.0),
    "Tokens": _tokens,
    "Product": lambda x, a: (x[1][:, :, 0] @ x[0][:, :, 0])[:, :, None],
    "TurnedProduct": lambda x, a: (np.swapaxes(x[1][:, :, 0], 1, 2) @ x[0][:, :, 0])[:, :, None],
    "Attention": _attention, "MaskedAttention": _attention,
}
