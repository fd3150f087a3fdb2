"""The four quantizer protocols, and the default implementation of each.

    weights   step = max|w| / (2^(b-1) - 1), at least 1e-6; q = sat(round_half_even(w / step))         per output channel
    aligned   v / scales = mantissa * 2^shift on the accumulator's grid, a mantissa of b bits          bias, bounds, pad values
    input     q = sat(round_half_even(x * 2^f) + zero_point)                                           f from the range
    output    y = sat((acc * M + 2^(f-1)) >> f), M of `scale_bits`, f leads to the output's frac_bits  from calibrated ranges

A plugin brings its own by providing an object with the same members. The defaults are frozen records that are their own configuration:
they round-trip through JSON with the keys of configuration files. Float formulas take `xp` (see `arrays`), so training runs the same lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, NoReturn, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from . import numerics
from .arrays import NUMPY, Array, Arrays
from .errors import UsageError
from .fixedpoint import FixedPoint, FracBits
from .numerics import Floats, Ints
from .qfloat import QFloat

#: Smallest weight step: a channel of zeros keeps a finite scale.
SMALLEST_STEP = 1e-6
AXES = ("per-tensor", "per-axis")
_ADVICE = "Correct the configuration"


@runtime_checkable
class Quantizer(Protocol):
    """What every quantizer says of its integers."""

    @property
    def bitwidth(self) -> int: ...
    @property
    def signed(self) -> bool: ...


@runtime_checkable
class WeightQuantizer(Quantizer, Protocol):
    """Floats to integers on a scale of their own."""

    def step(self, weights: Array, xp: Arrays = NUMPY) -> Array: ...
    def integers(self, weights: Array, step: Array, xp: Arrays = NUMPY) -> Array: ...
    def __call__(self, weights: Array, xp: Arrays = NUMPY) -> QFloat | FixedPoint: ...


@runtime_checkable
class AlignedWeightQuantizer(Quantizer, Protocol):
    """Floats to integers on the grid of the accumulator they are added to or compared with."""

    def mantissa(self, values: Array, scales: Array, frac_bits: Array, xp: Arrays = NUMPY) -> tuple[Array, Array]: ...
    def __call__(self, values: Array, other: QFloat, xp: Arrays = NUMPY) -> QFloat: ...


@runtime_checkable
class InputQuantizer(Quantizer, Protocol):
    """Model inputs to integers, from the range [low, high] seen in calibration."""

    @property
    def axis(self) -> str: ...
    def frac_bits(self, low: ArrayLike, high: ArrayLike) -> FracBits: ...
    def zero_point(self, low: ArrayLike, high: ArrayLike) -> Ints: ...
    def __call__(self, x: ArrayLike, low: ArrayLike, high: ArrayLike) -> FixedPoint: ...


@runtime_checkable
class OutputQuantizer(Quantizer, Protocol):
    """Accumulators to activations of fewer bits, from calibrated magnitudes."""

    @property
    def axis(self) -> str: ...
    def requantization(self, x: QFloat | FixedPoint, ranges: ArrayLike, rates: ArrayLike = 1.0) -> Requantization: ...
    def __call__(self, x: QFloat | FixedPoint, ranges: ArrayLike, rates: ArrayLike = 1.0) -> FixedPoint: ...


class Requantization(NamedTuple):
    """Multipliers (None when only a shift is needed), shifts (negative to the right) and the output's grid."""

    multiplier: FixedPoint | None
    shift: Ints
    frac_bits: FracBits


@dataclass(frozen=True)
class _Config:
    """Fields shared by the defaults, checked when they are made."""

    bitwidth: int = 8
    signed: bool = True

    def __post_init__(self) -> None:
        smallest = 2 if self.signed else 1
        if not _is_int(self.bitwidth) or self.bitwidth < smallest:
            self._refuse("bitwidth", f"integers from {smallest} when {'signed' if self.signed else 'unsigned'}")

    @property
    def value_bits(self) -> int:
        """Bits without the sign."""
        return self.bitwidth - self.signed

    def to_json(self) -> dict[str, Any]:
        """Every field, by the key that configuration files use."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; absent keys take their default, unknown ones are a UsageError."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise UsageError(f"unknown key {', '.join(unknown)}", where=cls.__name__, allowed=", ".join(known), do=_ADVICE)
        return cls(**data)

    def _refuse(self, name: str, allowed: str) -> NoReturn:
        raise UsageError(f"{name} is {getattr(self, name)!r}", where=type(self).__name__, allowed=allowed, do=_ADVICE)


@dataclass(frozen=True)
class SymmetricWeightQuantizer(_Config):
    """Symmetric weights, centred on zero.

    Arguments:
        bitwidth, signed: of the integers.
        axis: the channel axis; None for one scale. A vector always has one scale.
        fp_quantizer: the step is a power of two and the result a FixedPoint, whose grid may let -2^value_bits appear.
    """

    bitwidth: int = 4
    axis: int | None = -1
    fp_quantizer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis is not None and not _is_int(self.axis):
            self._refuse("axis", "an integer or None")

    def step(self, weights: Array, xp: Arrays = NUMPY) -> Array:
        """The real value of one unit: a scalar, or shaped to broadcast against the weights along `axis`. Differentiable."""
        absmax = self._absmax(xp.asarray(weights), xp)
        if self.fp_quantizer:
            return xp.exp2(-_clamped_frac_bits(absmax, self.value_bits, xp))
        return xp.maximum(absmax / _largest(self.value_bits), xp.asarray(SMALLEST_STEP))

    def integers(self, weights: Array, step: Array, xp: Arrays = NUMPY) -> Array:
        """Law 1 on a given step (a solver may have widened it)."""
        largest = _largest(self.value_bits)
        return xp.clip(xp.round(xp.asarray(weights) / step), -largest - self.fp_quantizer, largest)

    def __call__(self, weights: Array, xp: Arrays = NUMPY) -> QFloat | FixedPoint:
        step = self.step(weights, xp)
        q, scales = _ints(self.integers(weights, step, xp)), np.asarray(step, np.float64)
        if self.fp_quantizer:
            return FixedPoint(q, self.value_bits, -numerics.power_of_two_at_least(scales))
        return QFloat(FixedPoint(q, self.value_bits), scales)

    def _absmax(self, weights: Array, xp: Arrays) -> Array:
        rank = len(weights.shape)
        if self.axis is None or rank < 2:
            return xp.max(xp.abs(weights), None)
        if not -rank <= self.axis < rank:
            self._refuse("axis", f"-{rank} to {rank - 1} for weights of rank {rank}")
        axis = self.axis % rank
        others = tuple(i for i in range(rank) if i != axis)
        return xp.reshape(xp.max(xp.abs(weights), others), (-1, *(1,) * (rank - 1 - axis)))


@dataclass(frozen=True)
class MantissaShiftQuantizer(_Config):
    """Integers of the accumulator's width that fit a mantissa of `bitwidth` bits and a left shift, one pair per channel.

    Two differences from the existing tool, both improvements of the value only: a value that rounds up to 2^value_bits takes the next shift
    instead of saturating, and narrow mantissas (4 bits and less) keep one shift per channel, where a shared one made small biases vanish.
    """

    def mantissa(self, values: Array, scales: Array, frac_bits: Array, xp: Arrays = NUMPY) -> tuple[Array, Array]:
        """(q, shift): q * 2^shift units of an accumulator with these scales and frac_bits; the range is over all axes but the last."""
        ratio = xp.asarray(values) / xp.asarray(scales)
        grid = xp.asarray(frac_bits)
        bits = xp.minimum(_clamped_frac_bits(_per_channel_absmax(ratio, xp), self.value_bits, xp), grid)
        q = xp.round(ratio * xp.exp2(bits))
        full = q > _largest(self.value_bits)
        return xp.where(full, q / 2, q), xp.where(full, grid - bits + 1, grid - bits)

    def __call__(self, values: Array, other: QFloat, xp: Arrays = NUMPY) -> QFloat:
        """A tensor that can be added to `other`: same scales, frac_bits and value_bits. ValueError when its shift exceeds these bits."""
        fp = other.fp
        q, shift = (_ints(a) for a in self.mantissa(values, other.scales, fp.frac_bits, xp))
        if np.any(shift >= fp.value_bits):
            raise ValueError(f"an aligned weight needs a left shift of {int(shift.max())}, the accumulator has {fp.value_bits} value bits")
        aligned = FixedPoint(q, fp.value_bits, 0) << shift
        return QFloat(replace(aligned, frac_bits=fp.frac_bits), other.scales)


@dataclass(frozen=True)
class PowerOfTwoInputQuantizer(_Config):
    """Inputs as FixedPoint. Signed: symmetric. Unsigned: integers in [0, 2^b - 1] that stand for (q - zero_point) * 2^-frac_bits."""

    axis: str = "per-tensor"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in AXES:
            self._refuse("axis", ", ".join(AXES))

    def frac_bits(self, low: ArrayLike, high: ArrayLike) -> FracBits:
        """From max(|low|, |high|) when signed, from the width of the range, zero included, when unsigned."""
        bottom, top = _with_zero(low, high)
        return FixedPoint.max_frac_bits(self.value_bits, np.maximum(-bottom, top) if self.signed else top - bottom)

    def zero_point(self, low: ArrayLike, high: ArrayLike) -> Ints:
        """The integer that stands for 0."""
        bottom, _ = _with_zero(low, high)
        grid = self.frac_bits(low, high)
        return np.zeros_like(grid) if self.signed else FixedPoint.quantize(-bottom, self.value_bits, grid).values

    def __call__(self, x: ArrayLike, low: ArrayLike, high: ArrayLike) -> FixedPoint:
        _check_ranges(self.axis, np.ndim(x), np.shape(x)[-1:], low, high)
        # The wide intermediate counts nothing: saturation is decided once, after the zero point is added.
        q = FixedPoint.quantize(np.asarray(x, np.float64), _WIDE, self.frac_bits(low, high))
        q = replace(q, values=q.values + self.zero_point(low, high))
        if self.signed:
            return replace(q, value_bits=self.value_bits)
        below = int(np.count_nonzero(q.values < 0))
        return replace(q, values=np.maximum(q.values, 0), value_bits=self.value_bits, saturated=below)


@dataclass(frozen=True)
class PowerOfTwoOutputQuantizer(_Config):
    """Activations as FixedPoint: the scales of a QFloat become 8-bit multipliers, a shift leads to the calibrated grid.

    Arguments:
        bitwidth, signed: of the output. As in the configuration files, an unsigned output has one more value bit; it follows a ReLU.
        axis: one range for the tensor, or one per channel (inputs of rank 3 or more).
        scale_bits: of the multipliers, unsigned.
        buffer_bitwidth: value bits in which the accumulator is multiplied.
    """

    axis: str = "per-tensor"
    scale_bits: int | None = 8
    buffer_bitwidth: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in AXES:
            self._refuse("axis", ", ".join(AXES))
        for name in ("scale_bits", "buffer_bitwidth"):
            value = getattr(self, name)
            if not (_is_int(value) and value >= 1 or (name == "scale_bits" and value is None)):
                self._refuse(name, "integers from 1")

    def requantization(self, x: QFloat | FixedPoint, ranges: ArrayLike, rates: ArrayLike = 1.0) -> Requantization:
        """Multipliers, shifts and output frac_bits.

        Arguments:
            x: the accumulator.
            ranges: calibrated max|x|, scalar (per-tensor) or (C,) (per-axis).
            rates: factors on the output scales, moved to the next layer's weights by an equalization.
        """
        self._check(x, ranges)
        multiplier = self._multiplier(x, rates)
        grid = FixedPoint.max_frac_bits(self.value_bits, ranges)
        entry = x.frac_bits if isinstance(x, FixedPoint) else np.asarray(x.fp.frac_bits)
        return Requantization(multiplier, np.asarray(grid - (entry if multiplier is None else entry + multiplier.frac_bits)), grid)

    def __call__(self, x: QFloat | FixedPoint, ranges: ArrayLike, rates: ArrayLike = 1.0) -> FixedPoint:
        """The accumulator on the output's grid: product in the buffer, rounded shift (law 2), saturation; both counted."""
        multiplier, _, frac_bits = self.requantization(x, ranges, rates)
        fp = x.fp if isinstance(x, QFloat) else x
        wide = fp if multiplier is None else fp.promote(self.buffer_bitwidth) * multiplier
        return wide.rescale(frac_bits, self.value_bits)[0]

    def _multiplier(self, x: QFloat | FixedPoint, rates: ArrayLike) -> FixedPoint | None:
        if isinstance(x, FixedPoint):
            return None
        if self.scale_bits is None:
            raise ValueError("a QFloat can only be requantized with scale_bits")
        return QFloat.quantize_scales(x.scales * np.asarray(rates, np.float64), self.scale_bits)

    def _check(self, x: QFloat | FixedPoint, ranges: ArrayLike) -> None:
        value_bits = (x.fp if isinstance(x, QFloat) else x).value_bits
        if value_bits <= self.value_bits:
            raise ValueError(f"an input of {value_bits} value bits has none to lose to an output of {self.value_bits}")
        _check_ranges(self.axis, len(x.shape), x.shape[-1:], ranges)


def moving_range(previous: Floats | None, batch: ArrayLike, momentum: float = 0.9) -> Floats:
    """The existing tool's calibration: an exponential average of batch maxima, the first one taken as it is (no sentinel value).

        r <- r - (r - max|x|) * (1 - momentum)

    It depends on the order and size of batches; `calibration.RangeObserver` does not.
    """
    seen = np.asarray(batch, np.float64)
    return seen if previous is None else previous - (previous - seen) * (1 - momentum)


#: Value bits that no calibrated input exceeds before its saturation.
_WIDE = 61


def _largest(value_bits: int) -> int:
    """2^value_bits - 1."""
    return numerics.qmax(value_bits, signed=False)


def _clamped_frac_bits(ranges: Array, value_bits: int, xp: Arrays) -> Array:
    """`FixedPoint.max_frac_bits`, clamped, on the arrays of a framework."""
    return xp.minimum(value_bits - xp.ceil_log2(ranges), xp.asarray(value_bits))


def _per_channel_absmax(x: Array, xp: Arrays) -> Array:
    return xp.max(xp.abs(x), tuple(range(len(x.shape) - 1)))


def _with_zero(low: ArrayLike, high: ArrayLike) -> tuple[Floats, Floats]:
    """The range, extended to hold zero."""
    return np.minimum(np.asarray(low, np.float64), 0.0), np.maximum(np.asarray(high, np.float64), 0.0)


def _ints(x: Array) -> Ints:
    return np.asarray(x).astype(np.int64)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_ranges(axis: str, rank: int, channels: tuple[int, ...], *ranges: ArrayLike) -> None:
    """ValueError unless the ranges are one number (per-tensor), or one per channel of a tensor of rank 3 or more."""
    if axis == "per-axis" and rank < 3:
        raise ValueError(f"per-axis quantization needs a tensor of rank 3 or more, received rank {rank}")
    allowed: tuple[tuple[int, ...], ...] = ((), (1,)) if axis == "per-tensor" else ((), (1,), channels)
    wrong = [np.shape(r) for r in ranges if np.shape(r) not in allowed]
    if wrong:
        raise ValueError(f"{axis} ranges of shape {wrong[0]} do not fit {channels[0] if channels else 1} channels")
