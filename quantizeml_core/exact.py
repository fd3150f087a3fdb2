"""Integer arithmetic that cannot wrap: int64 while the worst case fits, Python integers beyond.

Every function takes int64 arrays and returns the exact mathematical result, as int64 when a bound computed from the operands proves that it
fits and as an object array of Python integers otherwise. `clip` brings either back to int64 and counts what it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numerics import Ints

#: Either int64 or an object array of Python integers.
Exact = NDArray[Any]

#: Shifts beyond this are refused: no real scale reaches them, and Python integers of that size would fill the memory.
MAX_SHIFT = 2048


def peak(x: Exact) -> int:
    """Largest magnitude in an array, 0 when it is empty."""
    return max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0


def add(a: Ints, b: Ints) -> Exact:
    """a + b."""
    return _within(peak(a) + peak(b), np.add, a, b)


def subtract(a: Ints, b: Ints) -> Exact:
    """a - b."""
    return _within(peak(a) + peak(b), np.subtract, a, b)


def multiply(a: Ints, b: Ints) -> Exact:
    """a * b."""
    return _within(peak(a) * peak(b), np.multiply, a, b)


def matmul(a: Ints, b: Ints) -> Exact:
    """a @ b, operands of rank 2 or more."""
    return _within(peak(a) * peak(b) * a.shape[-1], np.matmul, a, b)


def total(a: Ints, axis: int | tuple[int, ...] | None) -> Exact:
    """Sum over `axis`, which disappears."""
    return _within(peak(a) * a.size, lambda x: np.asarray(np.sum(x, axis=axis)), a)


def divide_towards_zero(a: Ints, b: Ints) -> Ints:
    """a / b without its fraction. ZeroDivisionError when a divisor is zero."""
    if np.any(b == 0):
        raise ZeroDivisionError("cannot divide a fixed point number by zero")
    return np.asarray(np.abs(a) // np.abs(b) * (np.sign(a) * np.sign(b)))


def shift_left(x: Ints, shift: Ints) -> Exact:
    """x * 2^shift, shift >= 0."""
    _check_shift(shift)
    return _within(peak(x) << peak(shift), np.left_shift, x, shift)


def shift_floor(x: Ints, shift: Ints) -> Exact:
    """floor(x * 2^shift), shift of any sign."""
    _check_shift(shift)
    # Beyond 63 places nothing but the sign is left, and numpy defines no larger shift of an int64.
    return shift_left(x >> np.minimum(np.maximum(-shift, 0), 63), np.maximum(shift, 0))


def shift_round(x: Ints, shift: Ints) -> Exact:
    """floor(x * 2^shift + 1/2), shift of any sign: law 2 of the arithmetic with a multiplier of one."""
    _check_shift(shift)
    right = np.minimum(np.maximum(-shift, 0), 64)
    # floor(x / 2^r + 1/2) = floor((floor(x / 2^(r-1)) + 1) / 2), which needs no room for the half.
    rounded = np.where(right > 0, ((x >> np.maximum(right - 1, 0)) + 1) >> 1, x)
    return shift_left(rounded, np.maximum(shift, 0))


def compare(op: Callable[..., Any], a: Ints, b: Ints, a_frac: Ints, b_frac: Ints) -> NDArray[np.bool_]:
    """op(a * 2^-a_frac, b * 2^-b_frac) on exact integers: both are shifted left to the finer grid."""
    finer = np.maximum(a_frac, b_frac)
    return np.asarray(op(shift_left(a, finer - a_frac), shift_left(b, finer - b_frac)), np.bool_)


def clip(x: Exact, low: int, high: int) -> tuple[Ints, int]:
    """x limited to [low, high], as int64, and the number of elements that were outside."""
    outside = int(np.count_nonzero((x < low) | (x > high)))
    return np.asarray(np.clip(x, low, high) if outside else x).astype(np.int64), outside


def _within(bound: int, op: Callable[..., Any], *operands: Ints) -> Exact:
    """Run `op` on int64 when no intermediate can exceed `bound` < 2^63, on Python integers otherwise."""
    if bound < 2**63:
        return np.asarray(op(*operands))
    return np.asarray(op(*(np.asarray(x).astype(object) for x in operands)), object)


def _check_shift(shift: Ints) -> None:
    if peak(shift) > MAX_SHIFT:
        raise OverflowError(f"a shift by {peak(shift)} bits is out of reach; allowed: at most {MAX_SHIFT}")
