"""Attention spelled out with Keras operations, followed call by call: matmul or einsum, factors, softmax, matmul or einsum.

Each tensor may be a picture of a sequence (`quantizeml_core.pictures`), the scores of two pictures, or their softmax. Where a softmax meets values that fit,
there is an attention; what follows is a picture of its result, until it is a sequence again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops
from keras.utils import is_keras_tensor

from quantizeml_core.attention import LOWEST
from quantizeml_core.pictures import Axes, regroup

from .multi_head import hidden


@dataclass(frozen=True)
class Picture:
    """What a tensor shows of an image of one row, times a factor."""

    image: str
    axes: Axes
    scale: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Products of queries and keys, times a factor, plus a mask; `weights` behind the softmax."""

    queries: Picture
    keys: Picture
    scale: float = 1.0
    weights: bool = False
    mask: np.ndarray | None = field(default=None, compare=False)

    def times(self, factor: float) -> Scores:
        return replace(self, scale=self.scale * factor, mask=None if self.mask is None else self.mask * factor)

    def plus(self, mask: np.ndarray) -> Scores:
        return replace(self, mask=mask if self.mask is None else self.mask + mask)


@dataclass(frozen=True)
class Met:
    """A softmax that meets values: axes of both as a matrix product wants them, and the order of the result's axes."""

    scores: Scores
    values: Picture
    order: tuple[int, ...]


Value = Picture | Scores


def followed(call: Any, given: list[Value | None]) -> Value | Met | None:
    """What a call makes of its inputs; None when it is nothing known here."""
    kind, known = type(call.operation).__name__, [v for v in given if v is not None]
    if len(known) != len(given) or not given:
        return None
    if len(given) == 2:
        return _product(kind, call, given)
    change = CHANGES.get(kind)
    return change(call, given[0]) if change else None


def _product(kind: str, call: Any, given: list[Value]) -> Value | Met | None:
    ranks = [len(t.shape) for t in call.input_tensors]
    if ranks == [3, 3] and kind == "Matmul":
        return _met(*(_of_one_head(v) for v in given), (0, 1, 2))
    if ranks != [4, 4]:
        return None
    if kind == "Matmul":
        return _met(given[0], given[1], (0, 1, 2, 3))
    return _einsum(str(call.operation.subscripts), given) if kind == "Einsum" else None


def _of_one_head(value: Value) -> Value:
    """A picture of three axes with one head between batch and tokens."""
    return replace(value, axes=(value.axes[0], (), *value.axes[1:])) if isinstance(value, Picture) else value


def is_transposition(call: Any) -> bool:
    """Whether a call swaps the axes of a sequence."""
    given = getattr(call.operation, "dims", None)
    order = getattr(call.operation, "axes", None) if given is None else (0, *given)
    return type(call.operation).__name__ in ("Permute", "Transpose") and order is not None and tuple(order) == (0, 2, 1)


def multiplied(call: Any) -> bool | None:
    """Whether a call multiplies the rows of two sequences (True), or a sequence and another's columns (False); None for anything else."""
    kind = type(call.operation).__name__
    if len(call.input_tensors) != 2 or any(len(t.shape) != 3 or None in t.shape[1:] for t in call.input_tensors):
        return None
    if kind == "Matmul":
        return False
    if kind == "Dot" and not call.operation.normalize:
        return {2: True, (2, 2): True, (2, 1): False}.get(call.operation.axes if isinstance(call.operation.axes, int) else tuple(call.operation.axes))
    return _rows(str(call.operation.subscripts)) if kind == "Einsum" else None


def _rows(equation: str) -> bool | None:
    inputs, _, out = equation.replace(" ", "").partition("->")
    x, y = inputs.split(",")
    if len(set(x)) != 3 or len(set(y)) != 3 or len(out) != 3 or x[0] != y[0] or x[0] != out[0] or x[1] != out[1]:
        return None
    return {(y[1], y[2]): True, (y[2], y[1]): False}.get((out[2], x[2]))


def _einsum(equation: str, given: list[Value]) -> Value | Met | None:
    """As a matrix product: batch letters first, then rows, then what is summed."""
    inputs, _, out = equation.replace(" ", "").partition("->")
    letters = inputs.split(",")
    summed = [c for c in letters[0] if c in letters[1] and c not in out]
    shared = [c for c in out if all(c in word for word in letters)]
    if len(summed) != 1 or len(shared) != 2 or len(out) != 4:
        return None
    free = [next((c for c in word if c not in shared and c != summed[0]), "") for word in letters]
    first = 0 if isinstance(given[0], Scores) or isinstance(given[1], Picture) and out.find(free[0]) < out.find(free[1]) else 1
    (x, word), (y, other) = ((given[i], letters[i]) for i in (first, 1 - first))
    left, right = (_picked(x, word, [*shared, free[first], summed[0]]), _picked(y, other, [*shared, summed[0], free[1 - first]]))
    plain = [*shared, free[first], free[1 - first]]
    return None if left is None or right is None else _met(left, right, tuple(plain.index(c) for c in out))


def _picked(value: Value, word: str, wanted: list[str]) -> Value | None:
    order = [word.index(c) for c in wanted]
    if isinstance(value, Scores):
        return value if order == [0, 1, 2, 3] else None
    return replace(value, axes=tuple(value.axes[i] for i in order))


def _met(left: Value, right: Value, order: tuple[int, ...]) -> Value | Met | None:
    if isinstance(left, Picture) and isinstance(right, Picture):
        return Scores(left, right) if order in ((0, 1, 2), (0, 1, 2, 3)) else None
    if isinstance(left, Scores) and left.weights and isinstance(right, Picture):
        return Met(left, right, order)
    return None


def _reshaped(call: Any, value: Value) -> Value | None:
    axes = regroup(value.axes, tuple(call.output_tensors[0].shape)) if isinstance(value, Picture) else None
    return None if axes is None else replace(value, axes=axes)


def _turned(call: Any, value: Value) -> Value | None:
    given = getattr(call.operation, "dims", None)
    order = getattr(call.operation, "axes", None) if given is None else (0, *given)
    return replace(value, axes=tuple(value.axes[i] for i in order)) if isinstance(value, Picture) and order is not None else None


def _swapped(call: Any, value: Value) -> Value | None:
    if not isinstance(value, Picture):
        return None
    axes, (i, j) = list(value.axes), (call.operation.axis1, call.operation.axis2)
    axes[i], axes[j] = axes[j], axes[i]
    return replace(value, axes=tuple(axes))


def _softmax(call: Any, value: Value) -> Value | None:
    axis = getattr(call.operation, "axis", -1)
    mask = [m for m in (*call.arguments.args[1:], call.arguments.kwargs.get("mask")) if m is not None]
    if not isinstance(value, Scores) or value.weights or axis not in (-1, len(call.output_tensors[0].shape) - 1) or any(is_keras_tensor(m) for m in mask):
        return None
    return replace(value.plus(hidden(ops.convert_to_numpy(mask[0]).astype(bool))) if mask else value, weights=True)


def _activated(call: Any, value: Value) -> Value | None:
    return _softmax(call, value) if getattr(call.operation.activation, "__name__", "") == "softmax" else None


def _times(call: Any, value: Value) -> Value | None:
    return _scaled(value, _number(call))


def _over(call: Any, value: Value) -> Value | None:
    factor = _number(call) if is_keras_tensor(call.arguments.args[0]) else None
    return _scaled(value, 1 / factor) if factor else None


def _rescaled(call: Any, value: Value) -> Value | None:
    layer = call.operation
    return _scaled(value, layer.scale) if isinstance(layer.scale, (int, float)) and layer.offset == 0 else None


def _scaled(value: Value, factor: float | None) -> Value | None:
    if factor is None or isinstance(value, Scores) and value.weights:
        return None
    return value.times(factor) if isinstance(value, Scores) else replace(value, scale=value.scale * factor)


def _added(call: Any, value: Value) -> Value | None:
    """A constant mask on scores."""
    found = [a for a in (*call.arguments.args, *call.arguments.kwargs.values()) if not is_keras_tensor(a)]
    plain = isinstance(value, Scores) and not value.weights and len(found) == 1
    return value.plus(ops.convert_to_numpy(found[0]).astype(np.float64)) if plain else None


def _chosen(call: Any, value: Value) -> Value | None:
    """where(seen, scores, lowest), or with the two in the other order."""
    seen, *parts = (*call.arguments.args, *call.arguments.kwargs.values())
    if not isinstance(value, Scores) or value.weights or len(parts) != 2 or is_keras_tensor(seen):
        return None
    first = is_keras_tensor(parts[0])
    lowest = np.asarray(ops.convert_to_numpy(parts[first]))
    shown = ops.convert_to_numpy(seen).astype(bool)
    return value.plus(hidden(shown if first else ~shown)) if lowest.size == 1 and lowest.max() <= LOWEST else None


def _number(call: Any) -> float | None:
    """The only constant operand when it is one number."""
    found = [a for a in (*call.arguments.args, *call.arguments.kwargs.values()) if not is_keras_tensor(a)]
    try:
        return float(found[0]) if len(found) == 1 else None
    except (TypeError, ValueError):
        return None


CHANGES = {
    "Reshape": _reshaped, "Permute": _turned, "Transpose": _turned, "Swapaxes": _swapped, "Softmax": _softmax, "Activation": _activated,
    "Add": _added, "Where": _chosen, "Multiply": _times, "Divide": _over, "TrueDivide": _over, "Rescaling": _rescaled,
}
