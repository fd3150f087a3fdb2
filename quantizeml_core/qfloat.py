"""QFloat: a FixedPoint and the real scales that map it to a quantization range.

    x = values * 2^-frac_bits * scales     scales > 0, float64

The scales of inputs and weights multiply along a network until an output quantizer turns their product into integers (`to_fixed_point`).
The integers follow `fixedpoint`: exact, left operand's `value_bits`, saturation counted.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from . import numerics
from .fixedpoint import FixedPoint, FracBits, check_axis
from .numerics import Floats


@dataclass(frozen=True, eq=False)
class QFloat:
    """Integers with real scales.

    Arguments:
        fp: the integers.
        scales: positive float64, scalar or one per element of a single axis (normally the last) that broadcasts against the values.
    """

    fp: FixedPoint
    scales: Floats

    __array_ufunc__ = None

    def __post_init__(self) -> None:
        scales = np.array(self.scales, np.float64)
        _check_scales(scales)
        check_axis("scales", scales, self.fp.shape)
        scales.setflags(write=False)
        object.__setattr__(self, "scales", scales)

    @staticmethod
    def optimal_scales(ranges: ArrayLike, value_bits: int) -> Floats:
        """range / (2^value_bits - 1): the guide's formula, the sign not being one of the bits (law 3)."""
        return numerics.symmetric_step(ranges, value_bits, signed=False)

    @staticmethod
    def max_frac_bits(value_bits: int, ranges: ArrayLike, scales: ArrayLike, clamp: bool = True) -> FracBits:
        """`FixedPoint.max_frac_bits` of the ranges in units of the scales."""
        return FixedPoint.max_frac_bits(value_bits, np.asarray(ranges, np.float64) / np.asarray(scales, np.float64), clamp)

    @classmethod
    def quantize(cls, x: ArrayLike, value_bits: int, scales: ArrayLike, frac_bits: FracBits = 0) -> QFloat:
        """The nearest integers to x / scales * 2^frac_bits, ties to even."""
        s = np.asarray(scales, np.float64)
        _check_scales(s)
        return cls(FixedPoint.quantize(np.asarray(x, np.float64) / s, value_bits, frac_bits), s)

    @staticmethod
    def quantize_scales(scales: ArrayLike, scale_bits: int) -> FixedPoint:
        """The nearest unsigned mantissas of `scale_bits` bits: s ~ q * 2^-f, q in [2^(scale_bits - 1), 2^scale_bits - 1].

        The existing tool takes f = scale_bits - ceil(log2 s) and clips q, which shrinks scales at and just below a power of two by up to
        2^-scale_bits; here such a scale moves to the next f, with no error at a power of two.
        """
        s = np.asarray(scales, np.float64)
        _check_scales(s)
        mantissa, exponent = np.frexp(s)
        q = numerics.round_half_even(np.ldexp(mantissa, scale_bits))
        full = q == 2**scale_bits
        return FixedPoint(np.where(full, q >> 1, q), scale_bits, scale_bits - exponent.astype(np.int64) - full)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.fp.shape

    @property
    def saturated(self) -> int:
        """Elements clipped on the way here."""
        return self.fp.saturated

    @property
    def per_tensor(self) -> bool:
        """One scale and one number of fractional bits for the whole tensor."""
        return self.fp.per_tensor and self.scales.ndim == 0

    def to_float(self) -> Floats:
        return self.fp.to_float() * self.scales

    def to_fixed_point(self, scale_bits: int = 8) -> tuple[FixedPoint, FixedPoint]:
        """The tensor with its scales as integers multiplied in, in the same value bits, and these integers."""
        scales = self.quantize_scales(self.scales, scale_bits)
        return self.fp * scales, scales

    def promote(self, value_bits: int) -> QFloat:
        return replace(self, fp=self.fp.promote(value_bits))

    def upscale(self, frac_bits: FracBits, value_bits: int | None = None) -> tuple[QFloat, FracBits]:
        return self._with(self.fp.upscale(frac_bits, value_bits))

    def expand(self, value_bits: int) -> tuple[QFloat, FracBits]:
        """Per-tensor frac_bits; the scales stay as they are."""
        return self._with(self.fp.expand(value_bits))

    def __add__(self, other: QFloat) -> QFloat:
        return self._same_scales(other, operator.add)

    def __sub__(self, other: QFloat) -> QFloat:
        return self._same_scales(other, operator.sub)

    def __mul__(self, other: QFloat | FixedPoint | int) -> QFloat:
        """Integers multiply exactly, scales multiply."""
        if isinstance(other, QFloat):
            return QFloat(self.fp * other.fp, self.scales * other.scales)
        return replace(self, fp=self.fp * other) if isinstance(other, (FixedPoint, Integral)) else NotImplemented

    def __rmul__(self, other: FixedPoint) -> QFloat:
        return QFloat(other * self.fp, self.scales) if isinstance(other, FixedPoint) else NotImplemented

    def __truediv__(self, divisor: Real) -> QFloat:
        """Only the scales are divided."""
        return replace(self, scales=self.scales / float(divisor)) if isinstance(divisor, Real) else NotImplemented

    def _same_scales(self, other: object, op: Callable[[FixedPoint, FixedPoint], FixedPoint]) -> QFloat:
        if not isinstance(other, QFloat):
            return NotImplemented
        if np.any(self.scales != other.scales):
            raise ValueError(f"operands have scales {self.scales} and {other.scales}; quantize both with the same ones first")
        return replace(self, fp=op(self.fp, other.fp))

    def _with(self, moved: tuple[FixedPoint, FracBits]) -> tuple[QFloat, FracBits]:
        return replace(self, fp=moved[0]), moved[1]


def _check_scales(scales: Floats) -> None:
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise ValueError(f"scales must be finite and positive, received {scales}")
