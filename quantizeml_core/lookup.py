"""Functions of a byte, as integers that are looked up: a kind of its own, for targets that need not apply them to accumulators.

    entries[i + 128] = clip(round_half_even((f(i step_in + offset) - middle) / step_out))          i = -128 .. 127

`offset` and `middle` are what `centre` moved the tensors by. The steps are not bound to each other. Where no entry lies near a tie (`clearance`), DequantizeLinear,
the function and QuantizeLinear are the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from . import numerics
from .blocks import Activation, Block
from .calibration import Range
from .clearance import WIDER, function_is_clear
from .numerics import Floats, Ints
from .tables import apply

HALF = 128
#: Bits behind the point of a zero's position.
FRACTION = 16
#: Share of the varying part of a range that is kept on either side. Measured: none costs up to 4 dB where the two steps come close, and roundings add up; all, 1 dB.
BEYOND = 0.3
#: Values of a normal distribution that stand for all.
QUANTILES = 1 << 9


@dataclass(frozen=True)
class Function:
    """f(x + offset) - middle of one tensor."""

    activation: Activation
    offset: float = 0.0
    middle: float = 0.0

    @classmethod
    def of(cls, block: Block) -> Function:
        """That of a block of a blueprint."""
        assert block.activation is not None
        return cls(block.activation, *(float(block.arrays[n][0]) if n in block.arrays else 0.0 for n in ("offset", "middle")))

    def real(self, step: float) -> Floats:
        """f(x + offset) at every integer of this step, (256,)."""
        return apply(self.activation, np.arange(-HALF, HALF) * float(step) + self.offset)


def entries(function: Function, step_in: Floats, step_out: Floats, low: int, high: int) -> Ints:
    """(C, 256), or (1, 256) where all channels share their steps, whole numbers between low and high."""
    values = np.stack([function.real(step) - function.middle for step in one_or_all(step_in)])
    return numerics.quantize(values, one_or_all(step_out)[:, None], low, high)


def zeros(function: Function, step_in: float, step_out: float) -> Ints:
    """Where zero lies before and behind the function, in 2^-`FRACTION` of a step, (2,)."""
    return numerics.round_half_even(-np.array([function.offset / step_in, function.middle / step_out]) * 2**FRACTION)


def look_up(table: Ints, x: Ints) -> Ints:
    """Entries (C or 1, 256) of integers (N, C, ...) in -128 .. 127."""
    channel = np.arange(x.shape[1]) if len(table) > 1 else np.zeros(x.shape[1], np.int64)
    return table[channel.reshape(1, -1, *(1,) * (x.ndim - 2)), x + HALF]


def is_clear(function: Function, step_in: float, step_out: float) -> bool:
    """Whether every entry is clear of ties (`clearance`)."""
    return function_is_clear(function.real(step_in), function.middle, step_out)


def clear_step(function: Function, step_in: Floats, need: Floats) -> Floats:
    """The smallest step tried, at least `need`, at which a table of one step for all channels is clear, and `middle` a whole number of steps; `need` itself where there is
    none, or where there are several."""
    if len(one_or_all(step_in)) > 1 or need.size > 1:
        return need
    most = int(abs(function.middle) / need[0] + 1e-9)
    tried = abs(function.middle) / np.arange(most, max(most - len(WIDER), 0), -1) if most else need[0] * WIDER
    return np.array(next(([step] for step in tried if is_clear(function, float(step_in.flat[0]), float(step))), need))


def mean_error(function: Function, step_in: Floats, step_out: Floats, seen: Range) -> Floats:
    """f less what its table gives, on average over each channel of normally distributed values within the range that was seen, (C,).

    Arguments:
        seen: of what the function reads, its mean moved already, its ends not.
    """
    spread = np.array([NormalDist().inv_cdf((k + 0.5) / QUANTILES) for k in range(QUANTILES)])
    low, high = (end[:, None] - function.offset for end in (seen.low, seen.high))
    x = np.clip(seen.mean[:, None] + seen.deviation[:, None] * spread, low, high)
    table = entries(function, step_in, step_out, -HALF, HALF - 1)
    integers = look_up(table, numerics.quantize(x.T, step_in, -HALF, HALF - 1)).T
    return (apply(function.activation, x + function.offset) - function.middle - integers * step_out[:, None]).mean(axis=1)


def varying(activation: Activation, low: float, high: float, unit: float) -> tuple[float, float]:
    """The part of a range beyond which, on either side, the function changes by no more than a quarter of a unit, less than rounding sees of a function that ends at zero;
    and `BEYOND` of it, as far as there is such."""
    x = np.linspace(low, high, 1 << 12)
    f = apply(activation, x)
    left, right = (int((np.maximum.accumulate(g) - np.minimum.accumulate(g) <= unit / 4).sum()) for g in (f, f[::-1]))
    if left + right > len(x):
        return low, high
    first, last = float(x[left - 1]), float(x[len(x) - right])
    return max(low, first - BEYOND * (last - first)), min(high, last + BEYOND * (last - first))


def one_or_all(step: Floats) -> Floats:
    return step[:1] if np.all(step == step[0]) else step
