"""The integer laws of `quantizeml_core.numerics` on keras.ops, with straight-through gradients. Tensors hold integers in float32 or float64.

    law 2       y = clip((acc * M + 2^(f-1)) >> f, low, high)

is computed as rint(acc * s) or floor(acc * s + 1/2), s = M * 2^-f, in float32 where a proof shows that it gives the same integers for every
accumulator that can occur, in float64 (always exact) elsewhere.

Gradients, by choice: rounding counts as the identity. A weight has gradient 1 even where it saturates, so that it can come back from the end of its
lattice. A requantized activation has the gradient s inside its range and 0 where it saturates, which below zero is the gradient of a ReLU. A table has
the slope between its neighbouring entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from quantizeml_core import numerics
from quantizeml_core.numerics import FLOAT32_EXACT, Ints

from .backend import floor, maximum, minimum

Tensor = Any


@dataclass(frozen=True)
class Requantization:
    """Law 2 with its numbers and the arithmetic that was proven for them.

    Arguments:
        scale: M * 2^-f, (C,) or (1,), float32 or float64: the precision in which it is computed.
        low, high: the ends of the output, (C,) or (1,).
        half_up: floor(x + 1/2) instead of rint(x).
    """

    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    half_up: bool

    @property
    def dtype(self) -> str:
        return self.scale.dtype.name


def requantization(multiplier: Ints, shift: Ints, low: int, high: Ints, reach: int) -> Requantization:
    """The cheapest arithmetic that gives law 2 exactly for every |accumulator| <= reach.

    Arguments:
        multiplier, shift: (C,) or (1,).
        high: (C,) or (1,), the lower of the range's end and what a clipped ReLU lets through.
    """
    m, f = (np.atleast_1d(a).astype(np.int64) for a in np.broadcast_arrays(multiplier, shift))
    exact = numerics.multiplier_value(m, f)
    ends = np.full(1, low, np.float32), _compact(np.asarray(high, np.float32))
    single = exact.astype(np.float32)
    for half_up, candidates in ((False, (single, single * numerics.LIFT)), (True, (single,))):
        good = [_proven(c, half_up, m, f, low, int(np.max(high)), reach) for c in candidates]
        if reach < FLOAT32_EXACT and np.logical_or.reduce(good).all():
            return Requantization(_compact(np.where(good[0], candidates[0], candidates[-1])), *ends, half_up)
    return Requantization(_compact(exact), *ends, True)


def _proven(scale: np.ndarray, half_up: bool, m: Ints, f: Ints, low: int, high: int, reach: int) -> np.ndarray:
    """Does the float32 arithmetic step where law 2 steps? Both are monotone, so looking at both sides of every step decides for every accumulator."""
    at = numerics.step_boundaries(m, f, low, high)
    y = np.arange(low + 1, high + 1)
    above = _rounded(np.maximum(at, -reach), scale, half_up, np.min) >= y
    below = _rounded(np.minimum(at - 1, reach), scale, half_up, np.max) < y
    steps = (above | (at > reach)) & (below | (at - 1 < -reach))
    return np.where(f >= 1, steps.all(axis=-1), ~np.bool_(half_up))


def _rounded(acc: Ints, scale: np.ndarray, half_up: bool, worst: Callable[..., np.ndarray]) -> np.ndarray:
    """The float32 arithmetic on numpy; with an addition, the worst of multiplying and adding in one rounding (as fused instructions do) or in two."""
    single, factor = acc.astype(np.float32), scale[:, None]
    if not half_up:
        return np.rint(single * factor)
    fused = (single.astype(np.float64) * factor + 0.5).astype(np.float32)
    return np.floor(worst([single * factor + np.float32(0.5), fused], axis=0))


def _compact(vector: np.ndarray) -> np.ndarray:
    """One value when all are equal: it broadcasts faster."""
    return vector[:1] if (vector == vector[:1]).all() else vector


def requantize(acc: Tensor, law: Requantization) -> Tensor:
    """Accumulators (channels last) -> integers in float32."""

    @ops.custom_gradient
    def forward(acc: Tensor) -> Any:
        scaled = ops.multiply(ops.cast(acc, law.dtype), law.scale)
        y = ops.cast(_clip(_round(scaled, law.half_up), law), "float32")

        def gradient(*saved: Tensor, upstream: Tensor = None) -> Tensor:
            return _passed(acc, law, saved[0] if upstream is None else upstream)

        return y, gradient

    return forward(acc)


def lookup(acc: Tensor, law: Requantization, table: np.ndarray, slope: np.ndarray) -> Tensor:
    """Accumulators -> table entries in float32. `table` and `slope` in ascending order of the index, the middle at index 0."""

    @ops.custom_gradient
    def forward(acc: Tensor) -> Any:
        scaled = _round(ops.multiply(ops.cast(acc, law.dtype), law.scale), law.half_up)
        index = ops.cast(ops.add(_clip(scaled, law), len(table) // 2), "int32")
        y = ops.take(ops.convert_to_tensor(table, "float32"), index, axis=0)

        def gradient(*saved: Tensor, upstream: Tensor = None) -> Tensor:
            through = ops.multiply(saved[0] if upstream is None else upstream, ops.take(ops.convert_to_tensor(slope, "float32"), index, axis=0))
            return _passed(acc, law, through)

        return y, gradient

    return forward(acc)


def entries_of(x: Tensor, table: np.ndarray, slope: np.ndarray) -> Tensor:
    """The entry of each integer in -128 .. 127, in float32. `table` and `slope`: (C or 1, 256); x is channels last."""
    first = 256 * np.arange(len(table)) + 128

    @ops.custom_gradient
    def forward(x: Tensor) -> Any:
        index = ops.add(ops.cast(x, "int32"), ops.convert_to_tensor(first, "int32"))
        y = ops.take(ops.convert_to_tensor(table.ravel(), "float32"), index, axis=0)

        def gradient(*saved: Tensor, upstream: Tensor = None) -> Tensor:
            through = saved[0] if upstream is None else upstream
            return ops.multiply(through, ops.take(ops.convert_to_tensor(slope.ravel(), "float32"), index, axis=0))

        return y, gradient

    return forward(x)


def round_through(x: Tensor) -> Tensor:
    """rint(x), gradient 1."""
    return straight(x, ops.round)


def lattice(x: Tensor, limit: int) -> Tensor:
    """clip(rint(x), -limit, limit), gradient 1 everywhere."""
    return straight(x, lambda v: ops.clip(ops.round(v), -limit, limit))


def align_mantissa(value: Tensor, bits: int) -> Tensor:
    """`numerics.align_mantissa` of integers below 2^31: round_half_even(v / 2^e) * 2^e with |v| <= 2^(bits + e); gradient 1."""

    def aligned(v: Tensor) -> Tensor:
        powers = ops.cast(np.exp2(np.arange(bits, 31)), v.dtype)
        column = ops.expand_dims(v, -1)
        wider = ops.logical_or(ops.greater_equal(column, powers), ops.less(column, -powers))
        unit = ops.take(ops.cast(np.exp2(np.arange(32 - bits)), v.dtype), ops.sum(ops.cast(wider, "int32"), axis=-1))
        return ops.multiply(ops.round(ops.divide(v, unit)), unit)

    return straight(value, aligned)


def straight(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """function(x), gradient 1."""

    @ops.custom_gradient
    def forward(x: Tensor) -> Any:
        return function(x), lambda *saved, upstream=None: saved[0] if upstream is None else upstream

    return forward(x)


def _round(x: Tensor, half_up: bool) -> Tensor:
    return floor(ops.add(x, 0.5)) if half_up else ops.round(x)


def _clip(x: Tensor, law: Requantization) -> Tensor:
    low, high = (ops.cast(end, law.dtype) for end in (law.low, law.high))
    return minimum(maximum(x, low), high)


def _passed(acc: Tensor, law: Requantization, upstream: Tensor) -> Tensor:
    """The upstream gradient times the scale, where the accumulator lies inside the range."""
    scaled = ops.multiply(ops.cast(acc, law.dtype), law.scale)
    inside = ops.logical_and(scaled >= ops.cast(law.low, law.dtype), scaled <= ops.cast(law.high, law.dtype))
    factor = ops.where(inside, ops.cast(law.scale, law.dtype), ops.cast(0.0, law.dtype))
    return ops.cast(ops.multiply(ops.cast(upstream, law.dtype), factor), acc.dtype)
