"""FixedPoint: integers with a static number of fractional bits.

    x = values * 2^-frac_bits              values in [-2^value_bits, 2^value_bits - 1]

`value_bits` excludes the sign; `frac_bits` is a scalar or a vector over the last axis. The guide's table for pi:

    >>> [int(FixedPoint.quantize(3.14159265, value_bits=8, frac_bits=f).values) for f in (1, 3, 6)]
    [6, 25, 201]

Every operation computes its exact integer result, then keeps the bits its record declares: an operator keeps the `value_bits` of its left
operand, so growth is explicit (`promote` first). What does not fit saturates; `saturated` counts the elements that did, operands included.
Rounding: float -> integer half to even; integer -> integer half up (`rescale`) or down (`shift`, `floor`); division towards zero.

Differences from the existing tool, which keeps integers in float32: values and bounds above 2^24 are exact, `*` is an operator, comparisons
take a plain integer, and a plain integer that no FixedPoint holds is an OverflowError instead of saturating.
Misuse raises the exceptions that Python numbers raise: TypeError, ValueError, OverflowError, ZeroDivisionError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import exact, numerics
from .numerics import Floats, Ints

#: One less than int64 holds, so that a value just outside is still representable and can be counted.
MAX_VALUE_BITS = 62
#: Beyond it 2^-frac_bits leaves float64.
MAX_FRAC_BITS = 1000
#: Largest float64 that is also an int64.
_LARGEST = 2.0**63 - 1024

#: numpy kinds of exact integers; object arrays hold Python's.
_WHOLE = "iuO"

FracBits = int | Ints


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Integers with a static number of fractional bits.

    Arguments:
        values: integers of any shape; what lies outside `value_bits` is saturated and counted.
        value_bits: 0 to 62, sign excluded.
        frac_bits: scalar, or one per element of a single axis (normally the last) that broadcasts against `values`.
        saturated: elements clipped before this record; the ones clipped here are added.
    """

    values: Ints
    value_bits: int
    frac_bits: FracBits = 0
    saturated: int = 0

    __array_ufunc__ = None  # numpy arrays leave mixed operators to this class, which refuses them

    def __post_init__(self) -> None:
        _check_value_bits(self.value_bits)
        ints, outside = exact.clip(_integers(self.values), *self.int_range(self.value_bits))
        frac_bits = _frac_bits(self.frac_bits)
        check_axis("frac_bits", np.asarray(frac_bits), ints.shape)
        ints.setflags(write=False)
        for name, value in (("values", ints), ("frac_bits", frac_bits), ("saturated", self.saturated + outside)):
            object.__setattr__(self, name, value)

    @staticmethod
    def int_range(value_bits: int) -> tuple[int, int]:
        """Smallest and largest integer: -2^value_bits, 2^value_bits - 1."""
        return numerics.int_range(value_bits + 1)

    @staticmethod
    def max_frac_bits(value_bits: int, ranges: ArrayLike, clamp: bool = True) -> FracBits:
        """value_bits - ceil(log2(range)), at most `value_bits` when clamped; element by element.

        A range of exactly 2^k takes the grid on which 2^k itself is one step too large, as the existing tool does: resolution for every
        other value is worth more than that one step, which is counted in `saturated`. A zero range counts as 2^-126.
        """
        r = np.asarray(ranges, np.float64)
        if not np.all(np.isfinite(r) & (r >= 0)):
            raise ValueError(f"a range is a finite number >= 0, received {ranges!r}")
        bits = value_bits - numerics.power_of_two_at_least(r)
        return _frac_bits(np.minimum(bits, value_bits) if clamp else bits)

    @classmethod
    def quantize(cls, x: ArrayLike, value_bits: int, frac_bits: FracBits | None = None) -> FixedPoint:
        """The nearest integers to x * 2^frac_bits, ties to even.

        Without `frac_bits`: 0 when every element of x is whole, else the most that its largest magnitude allows (one for the whole tensor).
        Integers with frac_bits >= 0 are converted exactly; anything else passes through float64, which is exact up to 2^53.
        """
        array = np.asarray(x)
        if frac_bits is None:
            frac_bits = _natural_frac_bits(array, value_bits)
        bits = np.asarray(_frac_bits(frac_bits))
        if array.dtype.kind in _WHOLE and np.all(bits >= 0):
            return cls(exact.shift_left(_integers(array), bits), value_bits, bits)
        return cls(_scaled(array, bits), value_bits, bits)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def per_tensor(self) -> bool:
        """One number of fractional bits for the whole tensor."""
        return np.size(self.frac_bits) == 1

    @property
    def sign(self) -> FixedPoint:
        """-1, 0 or 1."""
        return replace(self, values=np.sign(self.values), frac_bits=0)

    def to_float(self) -> Floats:
        """values * 2^-frac_bits, exact below 2^53."""
        return np.ldexp(self.values.astype(np.float64), -np.asarray(self.frac_bits))

    def promote(self, value_bits: int) -> FixedPoint:
        """The same number with room for larger values."""
        _check_value_bits(value_bits)
        if value_bits < self.value_bits:
            raise ValueError(f"promote cannot reduce {self.value_bits} value bits to {value_bits}; use rescale or a quantizer")
        return replace(self, value_bits=value_bits)

    def rescale(self, frac_bits: FracBits, value_bits: int | None = None) -> tuple[FixedPoint, FracBits]:
        """Another grid, rounded half up, and the shift that leads to it (negative to the right).

        ValueError when a left shift reaches `value_bits`: nothing but saturation would be left.
        """
        bits = self.value_bits if value_bits is None else value_bits
        target = _frac_bits(frac_bits)
        shift = np.asarray(target, np.int64) - self.frac_bits
        if np.any(shift >= bits):
            raise ValueError(f"rescaling from {self.frac_bits} to {target} fractional bits saturates {bits} value bits")
        return replace(self, values=exact.shift_round(self.values, shift), value_bits=bits, frac_bits=target), _frac_bits(shift)

    def upscale(self, frac_bits: FracBits, value_bits: int | None = None) -> tuple[FixedPoint, FracBits]:
        """`rescale` to at least as many fractional bits, else ValueError."""
        if np.any(np.asarray(frac_bits) < self.frac_bits):
            raise ValueError(f"upscale cannot go from {self.frac_bits} down to {frac_bits} fractional bits")
        return self.rescale(frac_bits, value_bits)

    def downscale(self, frac_bits: FracBits, value_bits: int | None = None) -> tuple[FixedPoint, FracBits]:
        """`rescale` to at most as many fractional bits, else ValueError."""
        if np.any(np.asarray(frac_bits) > self.frac_bits):
            raise ValueError(f"downscale cannot go from {self.frac_bits} up to {frac_bits} fractional bits")
        return self.rescale(frac_bits, value_bits)

    def align(self, other: FixedPoint, value_bits: int | None = None) -> tuple[FixedPoint, FracBits]:
        """This tensor on the finer of the two grids, element by element, and the left shift applied."""
        return self.upscale(np.maximum(self.frac_bits, other.frac_bits), value_bits)

    def expand(self, value_bits: int) -> tuple[FixedPoint, FracBits]:
        """A per-axis tensor as a per-tensor one: every channel on the finest grid, and the left shifts applied."""
        return self.promote(value_bits).upscale(int(np.max(self.frac_bits)))

    def shift(self, s: ArrayLike) -> FixedPoint:
        """floor(values * 2^s) on the same grid, s of any sign."""
        return replace(self, values=exact.shift_floor(self.values, _integers(s)))

    def floor(self) -> tuple[FixedPoint, FracBits]:
        """The whole part (towards minus infinity) with no fractional bits, and the right shift applied."""
        whole = exact.shift_floor(self.values, -np.asarray(self.frac_bits))
        return replace(self, values=whole, frac_bits=0), self.frac_bits

    def __rshift__(self, s: FracBits) -> FixedPoint:
        """A division by 2^s that costs nothing: the integers stay, frac_bits grow."""
        return replace(self, frac_bits=_frac_bits(np.asarray(self.frac_bits) + _not_negative(s)))

    def __lshift__(self, s: FracBits) -> FixedPoint:
        """values * 2^s on the same grid."""
        return replace(self, values=exact.shift_left(self.values, _not_negative(s)))

    def __add__(self, other: FixedPoint | int) -> FixedPoint:
        return self._aligned(other, exact.add)

    def __sub__(self, other: FixedPoint | int) -> FixedPoint:
        return self._aligned(other, exact.subtract)

    def __mul__(self, other: FixedPoint | int) -> FixedPoint:
        return self._combined(other, exact.multiply, operator.add)

    def __truediv__(self, other: FixedPoint | int) -> FixedPoint:
        return self._combined(other, exact.divide_towards_zero, operator.sub)

    def __abs__(self) -> FixedPoint:
        return replace(self, values=np.abs(self.values))

    def __lt__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return self._compared(other, operator.lt)

    def __le__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return self._compared(other, operator.le)

    def __gt__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return self._compared(other, operator.gt)

    def __ge__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return self._compared(other, operator.ge)

    def __eq__(self, other: object) -> Any:
        return self._compared(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._compared(other, operator.ne)

    def _aligned(self, other: object, op: Callable[[Ints, Ints], exact.Exact]) -> FixedPoint:
        right = _operand(other, self.frac_bits)
        if right is None:
            return NotImplemented
        if np.any(np.asarray(self.frac_bits) != right.frac_bits):
            raise ValueError(f"operands have {self.frac_bits} and {right.frac_bits} fractional bits; align one to the other first")
        return self._result(op(self.values, right.values), right, self.frac_bits)

    def _combined(self, other: object, op: Callable[[Ints, Ints], exact.Exact], on_bits: Callable[[Any, Any], Any]) -> FixedPoint:
        right = _operand(other, 0)
        if right is None:
            return NotImplemented
        return self._result(op(self.values, right.values), right, on_bits(np.asarray(self.frac_bits), right.frac_bits))

    def _compared(self, other: object, op: Callable[[Any, Any], Any]) -> Any:
        right = _operand(other, 0)
        if right is None:
            return NotImplemented
        return exact.compare(op, self.values, right.values, np.asarray(self.frac_bits), np.asarray(right.frac_bits))

    def _result(self, values: exact.Exact, right: FixedPoint, frac_bits: FracBits) -> FixedPoint:
        return FixedPoint(values, self.value_bits, frac_bits, self.saturated + right.saturated)


def _operand(other: object, frac_bits: FracBits) -> FixedPoint | None:
    """A FixedPoint, or a plain integer on the given grid; None for anything else. OverflowError when the grid cannot hold the integer."""
    if not isinstance(other, Integral):
        return other if isinstance(other, FixedPoint) else None
    number = FixedPoint.quantize(np.asarray(int(other)), MAX_VALUE_BITS, frac_bits)
    if number.saturated:
        raise OverflowError(f"{other} with {frac_bits} fractional bits needs more than {MAX_VALUE_BITS} value bits")
    return number


def _natural_frac_bits(x: NDArray[Any], value_bits: int) -> FracBits:
    if x.dtype.kind in _WHOLE or np.array_equal(x, np.rint(x)):
        return 0
    return FixedPoint.max_frac_bits(value_bits, np.max(np.abs(x), initial=0.0))


def _scaled(x: NDArray[Any], frac_bits: Ints) -> Ints:
    """round(x * 2^frac_bits); what exceeds int64 stops at its end, still outside every FixedPoint."""
    if np.any(np.isnan(x)):
        raise ValueError("NaN has no fixed point value")
    with np.errstate(over="ignore"):
        scaled = np.ldexp(x.astype(np.float64), frac_bits)
    return numerics.round_half_even(np.clip(scaled, -_LARGEST, _LARGEST))


def _integers(values: Any) -> exact.Exact:
    """int64, or Python integers where int64 may be too small. TypeError for anything that is not an integer."""
    array = np.asarray(values)
    wide = array.dtype == object and all(isinstance(v, Integral) for v in array.flat)
    if not wide and array.dtype.kind not in "iu":
        raise TypeError(f"integers are needed here, received {array.dtype}; use quantize for floats")
    return array.astype(object if wide or array.dtype == np.uint64 else np.int64)


def _frac_bits(value: ArrayLike) -> FracBits:
    """A Python int, or a read-only vector."""
    array = np.array(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"frac_bits must be integers, received {array.dtype}")
    if exact.peak(array) > MAX_FRAC_BITS:
        raise OverflowError(f"frac_bits {value!r} are out of reach; allowed: -{MAX_FRAC_BITS} to {MAX_FRAC_BITS}")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return int(array) if array.ndim == 0 else array


def _not_negative(s: ArrayLike) -> Ints:
    array = _integers(s)
    if np.any(array < 0):
        raise ValueError(f"a shift must be >= 0, received {s!r}; use shift for both directions")
    return array


def _check_value_bits(value_bits: object) -> None:
    if not isinstance(value_bits, Integral):
        raise TypeError(f"value_bits must be an integer, received {value_bits!r}")
    if not 0 <= int(value_bits) <= MAX_VALUE_BITS:
        raise ValueError(f"value_bits must be between 0 and {MAX_VALUE_BITS}, received {value_bits}")


def check_axis(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """ValueError unless `array` is one number, or one per element of a single axis of values of this shape."""
    if sum(n > 1 for n in array.shape) > 1:
        raise ValueError(f"{name} must be a scalar or run along one axis, received shape {array.shape}")
    if array.size > 1 and np.broadcast_shapes(array.shape, shape) != shape:
        raise ValueError(f"{name} of shape {array.shape} do not fit values of shape {shape}")
