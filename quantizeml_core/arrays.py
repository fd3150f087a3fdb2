"""The array protocol `xp`: the few float operations with which the quantizers turn floats into integers.

A formula written on `xp` runs on numpy (`NUMPY`, the specification, in float64) and on any framework that brings an `Arrays`. A training
framework gives three of the operations a straight-through gradient, so that integers can be trained:

    round, clip     gradient 1 everywhere, also where values are clipped
    ceil_log2       gradient 0: a power of two is a constant of the step

Everything else is written with the operators + - * / and comparisons of the arrays themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import numerics

#: An array of the framework behind `xp`.
Array = Any


@runtime_checkable
class Arrays(Protocol):
    """What a framework provides. Integers are whole numbers in the framework's float type."""

    def asarray(self, x: Any) -> Array: ...
    def abs(self, x: Array) -> Array: ...
    def max(self, x: Array, axis: tuple[int, ...] | None, keepdims: bool = False) -> Array: ...
    def maximum(self, x: Array, y: Array) -> Array: ...
    def minimum(self, x: Array, y: Array) -> Array: ...
    def where(self, condition: Array, x: Array, y: Array) -> Array: ...
    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array: ...
    def round(self, x: Array) -> Array: ...
    def clip(self, x: Array, low: float, high: float) -> Array: ...
    def ceil_log2(self, x: Array) -> Array: ...
    def exp2(self, n: Array) -> Array: ...


@dataclass(frozen=True)
class NumpyArrays:
    """`Arrays` on numpy. float64 is the specification; float32 shows what a training framework computes."""

    dtype: DTypeLike = np.float64

    def asarray(self, x: ArrayLike) -> NDArray[Any]:
        return np.asarray(x, self.dtype)

    def abs(self, x: Array) -> Array:
        return np.abs(x)

    def max(self, x: Array, axis: tuple[int, ...] | None, keepdims: bool = False) -> Array:
        return np.max(x, axis=axis, keepdims=keepdims)

    def maximum(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return np.reshape(x, shape)

    def round(self, x: Array) -> Array:
        """Half to even (law 1)."""
        return np.rint(x)

    def clip(self, x: Array, low: float, high: float) -> Array:
        return np.clip(x, low, high)

    def ceil_log2(self, x: Array) -> Array:
        """Exponent of the smallest power of two >= x; zero counts as 2^-126."""
        return self.asarray(numerics.power_of_two_at_least(x))

    def exp2(self, n: Array) -> Array:
        return np.exp2(self.asarray(n))


#: The specification.
NUMPY = NumpyArrays()
