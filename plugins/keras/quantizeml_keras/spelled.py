"""Attention spelled out with Keras operations, followed call by call: matmul or einsum, factors, softmax, matmul or einsum.

Each tensor may be a picture of a sequence (`quantizeml_core.pictures`), the scores of two pictures, or their softmax. Where a softmax meets values that fit,
there is an attention; what follows is a picture of its result, until it is a sequence again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from keras.utils import is_keras_tensor

from quantizeml_core.pictures import Axes, regroup


@dataclass(frozen=True)
class Picture:
    """What a tensor shows of an image of one row, times a factor."""

    image: str
    axes: Axes
    scale: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Products of queries and keys; `weights` behind the softmax."""

    queries: Picture
    keys: Picture
    scale: float = 1.0
    weights: bool = False


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
    if ranks != [4, 4]:
        return None
    if kind == "Matmul":
        return _met(given[0], given[1], (0, 1, 2, 3))
    return _einsum(str(call.operation.subscripts), given) if kind == "Einsum" else None


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
        return Scores(left, right) if order == (0, 1, 2, 3) else None
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
    plain = isinstance(value, Scores) and not value.weights and axis in (-1, 3) and len(call.arguments.args) == 1
    return replace(value, weights=True) if plain else None


def _activated(call: Any, value: Value) -> Value | None:
    return _softmax(call, value) if getattr(call.operation.activation, "__name__", "") == "softmax" else None


def _times(call: Any, value: Value) -> Value | None:
    factor = _number(call)
    return None if factor is None or isinstance(value, Scores) and value.weights else replace(value, scale=value.scale * factor)


def _over(call: Any, value: Value) -> Value | None:
    factor = _number(call) if is_keras_tensor(call.arguments.args[0]) else None
    return None if not factor or isinstance(value, Scores) and value.weights else replace(value, scale=value.scale / factor)


def _rescaled(call: Any, value: Value) -> Value | None:
    layer = call.operation
    plain = isinstance(layer.scale, (int, float)) and layer.offset == 0 and not (isinstance(value, Scores) and value.weights)
    return replace(value, scale=value.scale * layer.scale) if plain else None


def _number(call: Any) -> float | None:
    """The only constant operand when it is one number."""
    found = [a for a in (*call.arguments.args, *call.arguments.kwargs.values()) if not is_keras_tensor(a)]
    try:
        return float(found[0]) if len(found) == 1 else None
    except (TypeError, ValueError):
        return None


CHANGES = {
    "Reshape": _reshaped, "Permute": _turned, "Transpose": _turned, "Swapaxes": _swapped, "Softmax": _softmax, "Activation": _activated,
    "Multiply": _times, "Divide": _over, "TrueDivide": _over, "Rescaling": _rescaled,
}
