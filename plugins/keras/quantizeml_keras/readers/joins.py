"""Operations on several tensors, and on a tensor and a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras.utils import is_keras_tensor

from ..graph import Shape
from .steps import Reader, Step


def _chain(op: str) -> Reader:
    """An operation of n operands as n - 1 operations of two."""

    def reader(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        if len(shapes) < 2:
            return _with_constant(op, call, shapes[0])
        if op == "Concatenate" and layer.axis not in (-1, len(shapes[0]) - 1):
            return _concatenated_pixels(layer.axis % len(shapes[0]), shapes)
        if op == "Add" and len(set(shapes)) > 1:
            return f"operands of different shapes ({', '.join(map(str, shapes))}) are not supported"
        steps, seen = [], shapes[0]
        for index, shape in enumerate(shapes[1:], 2):
            seen = (*seen[:-1], (seen[-1] or 0) + (shape[-1] or 0)) if op == "Concatenate" else _wider(seen, shape)
            steps.append(Step(op, {}, seen, "" if index == len(shapes) else f"first_{index}", binary=True))
        return steps

    return reader


def _concatenated_pixels(axis: int, shapes: Sequence[Shape]) -> list[Step] | str:
    """Images side by side: each padded with zeros to the whole size, and added."""
    if len(shapes[0]) != 4 or axis == 0 or any(shape[axis] is None for shape in shapes):
        return "a Concatenate on another axis than the channels takes images of a known size"
    place = axis - 1
    steps, size = [], shapes[0][axis] or 0
    for index, shape in enumerate(shapes[1:], 2):
        more = shape[axis] or 0
        first, second = ([0, 0, 0, 0] for _ in range(2))
        first[place + 2], second[place] = more, size
        size += more
        whole = (*shape[:axis], size, *shape[axis + 1:])
        attributes = {"first_pads": tuple(first), "second_pads": tuple(second)}
        steps.append(Step("Add", attributes, whole, "" if index == len(shapes) else f"first_{index}", binary=True))
    return steps


def _with_constant(op: str, call: Any, shape: Shape) -> list[Step] | str:
    """`x + 3`, `x * 0.5`: an affine operation, where the constant is a number or one for each channel."""
    constants = [a for a in call.arguments.args if not is_keras_tensor(a)]
    values = [np.asarray(c, np.float64).reshape(-1) for c in constants if isinstance(c, (int, float, np.ndarray, np.number))]
    if op not in ("Add", "Multiply") or len(values) != 1 or values[0].size not in (1, shape[-1]) or len(constants) != 1:
        return f"{op} with this constant is not supported, only with a number or one for each channel"
    one, zero = np.ones_like(values[0]), np.zeros_like(values[0])
    scale, offset = (one, values[0]) if op == "Add" else (values[0], zero)
    return [Step("Affine", {"scale": scale, "offset": offset}, shape)]


def _wider(a: Shape, b: Shape) -> Shape:
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


JOINS = {name: _chain(name) for name in ("Add", "Concatenate", "Multiply")}
