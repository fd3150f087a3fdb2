"""How scales are chosen where there is freedom. Two schemes share one solver.

`Exact` (the default): multipliers carry no gain error. With a free output step, the step is the smallest one on the grid M * 2^-f that covers the
range; with a given step (an addition, a per-tensor scale) the filter's weight step is widened until the ratio is on the grid.

`Reference`: what the existing tool does (nearest 8-bit multiplier, absolute power-of-two steps before an addition). Only for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import numerics
from .align import align
from .blocks import Block
from .numerics import Floats, Ints

Needs = Mapping[str, Floats]

#: A channel is never resolved finer than this fraction of its tensor's widest channel, so dead channels keep a usable step.
CHANNEL_FLOOR = 2.0**-8
#: A zero point that all channels of an input share, or a zero point and a step, widens none by more than this.
ZERO_COST = 1.125
#: Range given to a tensor that was zero on every sample. What reads it counts its bias in its steps, so they are no finer than those of others.
SILENT = 1.0
#: As a fraction of the widest channel, the finest step of an affine input.
SMALLEST = 2.0**-24
#: A multiplier of the wanted grid is preferred while it costs at most this much of the range, else one of the next grid. Above 2^-11 no two that QLinearConv can carry are further apart.
FAST_COST = 1.18
#: By wanted grid, what is preferred to any multiplier, best first.
PREFERRED: Mapping[str, tuple[str, ...]] = {
    numerics.ANY: (), numerics.RELU: (numerics.RELU, numerics.TIED), numerics.SIGNED: (numerics.SIGNED, numerics.TIED), numerics.POWERS: (numerics.POWERS,),
    numerics.INDEX: (numerics.INDEX,),
}
#: Below this ratio a preferred multiplier may cost anything: an accumulator of so fine a step loses nothing that the output's rounding would show. From here on those of two
#: halves are no further apart than FAST_COST.
FINE = 2.0**-10.9
#: What else than FAST_COST a grid may cost: depthwise kernels, of few taps, have weights finer than they need, and in front of a
#: local response normalization a bit of the output is worth more (`blocks.may_saturate`).
COSTS: Mapping[str, float] = {numerics.POWERS: 2.0}
#: Up to this many bits, clipping a few large weights costs less than coarser steps for all.
SEARCHED = 4
#: Shares of the widest weight step that are tried.
CLIPPING_SHARES = np.linspace(1.0, 0.4, 31)


class Choice(NamedTuple):
    """acc_step * acc ~ step * y with y = (acc * multiplier) >> shift."""

    acc_step: Floats
    step: Floats
    multiplier: Ints
    shift: Ints


class Scheme(Protocol):
    """The choices that differ between schemes. `acc_step`: step of the accumulator, (F,)."""

    def need(self, absmax: Floats, bits: int, signed: bool) -> Floats: ...
    def symmetric(self, absmax: Floats) -> Floats: ...
    def affine(self, low: Floats, high: Floats, integer: bool, padded: bool = False) -> tuple[Floats, Ints]: ...
    def tied(self, blocks: Sequence[Block], needs: Needs, channels: Mapping[str, int], shared: frozenset[str]) -> dict[str, Floats]: ...
    def weight_step(self, weight: Floats, bits: int) -> Floats: ...
    def free(self, acc_step: Floats, need: Floats, grid: str) -> Choice: ...
    def given(self, acc_step: Floats, step: Floats, grid: str) -> Choice: ...


@dataclass(frozen=True)
class Exact:
    """No gain error anywhere.

    Arguments:
        patterned: as in `align`.
    """

    patterned: bool = False

    def need(self, absmax: Floats, bits: int, signed: bool) -> Floats:
        """The smallest step that covers the calibrated range; quiet channels keep CHANNEL_FLOOR of the widest one."""
        floor = float(absmax.max(initial=0.0)) * CHANNEL_FLOOR or SILENT
        return numerics.symmetric_step(np.maximum(absmax, floor), bits, signed)

    def symmetric(self, absmax: Floats) -> Floats:
        """int8 input: step = max|x| / 127."""
        return self.need(absmax, 8, True)

    def affine(self, low: Floats, high: Floats, integer: bool, padded: bool = False) -> tuple[Floats, Ints]:
        """uint8 input: step = (high - low) / 255, zero_point = round(-low / step), for a range that is first widened to hold zero.

        Whole-number samples within 256 levels get step 1, so that pixels pass unchanged. What a padded convolution reads has one zero point for all channels where
        that costs little, as QLinearConv pads with one number, and one step too, with which QuantizeLinear uses all threads.
        """
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        step = (high - low) / 255.0
        step = np.maximum(step, SMALLEST * (float(step.max()) or 1.0))
        step = np.ones_like(step) if integer and step.max() <= 1.0 else step
        zero_point = np.clip(numerics.round_half_even(-low / step), 0, 255)
        return common_zero(low, high, step, zero_point) if padded and np.any(step != 1) else (step, zero_point)

    def tied(self, blocks: Sequence[Block], needs: Needs, channels: Mapping[str, int], shared: frozenset[str]) -> dict[str, Floats]:
        """Additions bind ratios only; a tensor with one step for all channels has that step given."""
        given = align(blocks, needs, channels, shared, self.patterned)
        return given | {t: need for t, need in needs.items() if len(need) == 1 and t not in given}

    def weight_step(self, weight: Floats, bits: int) -> Floats:
        """At 8 bits the step that reaches the largest weight; below SEARCHED bits the one of least squared error, which clips a few."""
        widest = numerics.symmetric_step(np.abs(weight).max(axis=1), bits)
        return least_error_step(weight, widest, numerics.qmax(bits)) if bits <= SEARCHED else widest

    def free(self, acc_step: Floats, need: Floats, grid: str) -> Choice:
        """The smallest output step on the grid that is at least `need`; where accumulators are FINE, that step itself, and coarser ones."""
        m, f, _ = _preferred(numerics.multiplier_at_most, acc_step / need, grid, (1 / FAST_COST, 1 + 1e-9))
        up, down, quick = _preferred(numerics.multiplier_at_least, acc_step / need, grid, (1 - 1e-9, 0.0))
        wider = numerics.multiplier_value(up, down) * need
        return Choice(np.where(quick, wider, acc_step), np.where(quick, need, acc_step / numerics.multiplier_value(m, f)), np.where(quick, up, m), np.where(quick, down, f))

    def given(self, acc_step: Floats, step: Floats, grid: str) -> Choice:
        """The smallest accumulator step, at least `acc_step`, that reaches `step` exactly."""
        m, f, _ = _preferred(numerics.multiplier_at_least, acc_step / step, grid, (1 - 1e-9, COSTS.get(grid, FAST_COST)))
        value = numerics.multiplier_value(m, f)
        return Choice(step * value, np.broadcast_to(step, value.shape), m, f)


class Reference:
    """The existing tool's rounding, gain error included."""

    def need(self, absmax: Floats, bits: int, signed: bool) -> Floats:
        return numerics.symmetric_step(np.maximum(absmax, 1e-7), bits, signed)

    def symmetric(self, absmax: Floats) -> Floats:
        return 1.0 / (np.float32(127) / np.maximum(absmax, 1e-7).astype(np.float32)).astype(np.float64)

    def affine(self, low: Floats, high: Floats, integer: bool, padded: bool = False) -> tuple[Floats, Ints]:
        """scale = 255 / (high - low) in float32, zero point round(-low * scale); a positive range starts at zero."""
        low = np.minimum(low, 0.0).astype(np.float32)
        scale = (np.float32(255) / (high.astype(np.float32) - low)).astype(np.float64)
        return 1.0 / scale, numerics.round_half_even(-low * scale)

    def tied(self, blocks: Sequence[Block], needs: Needs, channels: Mapping[str, int], shared: frozenset[str]) -> dict[str, Floats]:
        """Every operand of an addition, and the sum, gets the absolute step 2^-f, f = min(7 - w, 7), w = ceil(log2 range) (+1 at powers of two)."""
        tensors = {t for b in blocks if b.kind == "add" for t in (*b.inputs, b.output)}
        return {t: np.exp2(-np.clip(np.minimum(7 - _exponent(needs[t] * 127.0), 7), -31, 32)) for t in sorted(tensors)}

    def weight_step(self, weight: Floats, bits: int) -> Floats:
        return numerics.symmetric_step(np.maximum(np.abs(weight).max(axis=1), 2.0**-16), bits)

    def free(self, acc_step: Floats, need: Floats, grid: str) -> Choice:
        m, f = numerics.multiplier_nearest(acc_step / need)
        return Choice(acc_step, np.broadcast_to(need, m.shape), m, f)

    def given(self, acc_step: Floats, step: Floats, grid: str) -> Choice:
        m, f = numerics.multiplier_nearest(acc_step)
        return Choice(acc_step, step, m, f + np.log2(step).astype(np.int64))


def _preferred(find: Callable[[Floats, str], tuple[Ints, Ints]], ratio: Floats, grid: str, cost: tuple[float, float]) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """M and f, each of the first preferred grid whose M 2^-f lies within the two ends of `cost`, as shares of the ratio, or under FINE; else the one that `find` gives
    among all. And which are preferred."""
    (m, f), found = find(ratio, numerics.ANY), np.zeros(np.shape(ratio), np.bool_)
    for wanted in reversed(PREFERRED[grid]):
        quick = find(ratio, wanted)
        value = numerics.multiplier_value(*quick)
        cheap = (value >= ratio * cost[0]) & (value <= np.maximum(ratio * cost[1], FINE))
        m, f, found = np.where(cheap, quick[0], m), np.where(cheap, quick[1], f), found | cheap
    return m, f, found


def common_zero(low: Floats, high: Floats, step: Floats, zero_point: Ints) -> tuple[Floats, Ints]:
    """One zero point for all channels, the one that widens least where it widens most, and the steps around it: one step where that costs no more than ZERO_COST,
    else those of the channels; what there was where that costs more too."""
    z = np.arange(256.0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.fmax(np.fmax(-low / z, high / (255 - z)), step)
    for steps in (np.broadcast_to(wide.max(axis=1, keepdims=True), wide.shape), wide):
        worst = (steps / step).max(axis=1)
        best = int(worst.argmin())
        if worst[best] <= ZERO_COST:
            return steps[best].copy(), np.full_like(zero_point, best)
    return step, zero_point


def least_error_step(weight: Floats, widest: Floats, limit: int) -> Floats:
    """Per filter, the share of the widest step with the least sum of (weight - step * clip(rint(weight / step), -limit, limit))^2.

    Arguments:
        weight: (F, K).
        widest: (F,) the step that clips nothing; the first of equally good shares wins, so an exactly representable filter keeps it.
    """
    best, least = widest, np.full(len(widest), np.inf)
    for share in CLIPPING_SHARES:
        step = np.where(widest > 0, widest * share, 1.0)[:, None]
        error = np.square(weight - step * np.clip(np.rint(weight / step), -limit, limit)).sum(axis=1)
        best, least = np.where(error < least, widest * share, best), np.minimum(error, least)
    return best


def _exponent(x: Floats) -> Floats:
    log = np.log2(x)
    return np.ceil(log) + (log == np.floor(log))
