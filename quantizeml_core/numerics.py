"""Every formula of the integer arithmetic, once. `docs/numerics.md` is the normative text; section numbers refer to it.

    float -> integer        q = sat(round_half_even(x / step))                                   (1)
    integer -> integer      y = sat((acc * M + 2^(f-1)) >> f)      M unsigned 8 bits, f a shift   (2)
    symmetric step          step = max|x| / (2^(b-1) - 1)                                        (3)

A tensor of integers q stands for the reals q * step (or (q - zero_point) * step at an unsigned model input).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MULTIPLIER_BITS = 8
SHIFT_MIN, SHIFT_MAX = -31, 32
#: Largest integer up to which float32 holds every integer exactly.
FLOAT32_EXACT = 2**24


def int_range(bits: int, signed: bool = True) -> tuple[int, int]:
    """Smallest and largest integer of a two's complement (signed) or unsigned number of `bits` bits."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def qmax(bits: int, signed: bool = True) -> int:
    """Largest integer of a symmetric range: 2^(b-1) - 1 signed, 2^b - 1 unsigned."""
    return int_range(bits, signed)[1]


def round_half_even(x: ArrayLike) -> Ints:
    """Nearest integer, ties to even (law 1)."""
    return np.rint(np.asarray(x, np.float64)).astype(np.int64)


def round_significant(x: Floats, bits: int) -> Floats:
    """The nearest number with `bits` significant bits."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)


def saturate(q: ArrayLike, bits: int, signed: bool = True) -> Ints:
    """Clip integers to the range of their type."""
    low, high = int_range(bits, signed)
    return np.clip(np.asarray(q, np.int64), low, high)


def quantize(x: ArrayLike, step: ArrayLike, low: int, high: int) -> Ints:
    """Law 1: float -> integer in [low, high]. `step` broadcasts against `x`."""
    return np.clip(round_half_even(np.asarray(x, np.float64) / step), low, high)


def symmetric_step(absmax: ArrayLike, bits: int, signed: bool = True) -> Floats:
    """Law 3. A zero range gives a zero step: the caller decides the floor."""
    return np.asarray(absmax, np.float64) / qmax(bits, signed)


def requantize(acc: Ints, multiplier: ArrayLike, shift: ArrayLike, low: int, high: int) -> Ints:
    """Law 2, exact in int64: y = clip((acc * M + 2^(f-1)) >> f, low, high); a negative f shifts left.

    Arguments:
        acc: accumulators, |acc| < 2^31 after which acc * M cannot overflow 64 bits.
        multiplier, shift: broadcast against `acc`.
    """
    product = np.asarray(acc, np.int64) * np.asarray(multiplier, np.int64)
    f = np.asarray(shift, np.int64)
    right, left = np.maximum(f, 0), np.maximum(-f, 0)
    half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
    return np.clip(np.right_shift(product + half, right) << left, low, high)


def multiplier_value(multiplier: ArrayLike, shift: ArrayLike) -> Floats:
    """The real number M * 2^-f."""
    return np.ldexp(np.asarray(multiplier, np.float64), -np.asarray(shift, np.int64))


def step_boundaries(multiplier: Ints, shift: Ints, low: int, high: int) -> Ints:
    """For every output y in (low, high] the smallest accumulator that law 2 maps to y or more: ceil((y * 2^f - 2^(f-1)) / M).

    Shape (..., high - low). Law 2 is monotone in the accumulator, so these boundaries describe it completely.
    """
    f = np.maximum(shift, 1)[..., None]
    y = np.arange(low + 1, high + 1, dtype=np.int64)
    return -((2 ** (f - 1) - (y << f)) // np.maximum(multiplier, 1)[..., None])


def float32_agrees(multiplier: Ints, shift: Ints, low: int, high: int, reach: tuple[ArrayLike, ArrayLike],
                   offset: NDArray[np.float32] | None = None, bias: Ints | None = None, level: int = 0) -> NDArray[np.bool_]:
    """Does clip(rint(float32(acc) * float32(M * 2^-f))) equal law 2 for every reachable accumulator?

    This is what onnxruntime's QLinearConv computes (ties to even, products rounded to 24 bits). With `offset`, the question is about
    floor(float32(acc - bias) * float32(M * 2^-f) + offset), the offset holding the bias and the half that rounds up.
    All are monotone steps, so it is enough to look at both sides of every boundary, at the end of the reach where one side lies beyond it (float32 may carry that
    end across a boundary that no accumulator reaches): a proof, not a sample.

    Arguments:
        multiplier, shift: (F,), f >= 1 (left shifts answer False).
        low, high: the output range after clipping.
        reach: smallest and largest accumulator that can occur, (F,) each.
        offset, bias: (F,).
        level: what the offset adds to the output.
    """
    at = step_boundaries(multiplier, shift, low, high)
    y = np.arange(low + 1, high + 1) + level
    scale = multiplier_value(multiplier, shift).astype(np.float32)[..., None]

    def rounded(acc: Ints) -> NDArray[np.float32]:
        product = (acc if bias is None else acc - bias[..., None]).astype(np.float32) * scale
        return np.rint(product) if offset is None else np.floor(product + offset[..., None])

    return _steps_at(at, y, reach, rounded) & (shift >= 1)


def _steps_at(at: Ints, y: Ints, reach: tuple[ArrayLike, ArrayLike], rounded: Callable[[Ints], NDArray[np.float32]], skipped: Ints | int = 0) -> NDArray[np.bool_]:
    """Does a monotone function reach y exactly at `at`, for every boundary, as far as accumulators occur?

    Arguments:
        at: (F, boundaries); y: (boundaries,).
        skipped: 1 where the accumulator at the boundary itself may stay below it.
    """
    low, high = (np.asarray(r, np.int64)[..., None] for r in reach)
    first, last = np.maximum(at + skipped, low), np.minimum(at - 1, high)
    return (((rounded(first) >= y) | (first > high)) & ((rounded(last) < y) | (last < low))).all(axis=-1)


def float32_ratios(multiplier: Ints, shift: Ints, low: int, high: int, reach: tuple[ArrayLike, ArrayLike]) -> NDArray[np.float32]:
    """The ratio per filter, (F,), whose clip(rint(float32(acc) * ratio)) is law 2 for every reachable accumulator but negative ties; NaN where none is.

    M 2^-f itself rounds ties to even; one or two units in its last place above it, positive ties go up, and products just below a tie may too: which of the three
    does neither depends on M and on the accumulators that occur, so each is proven, as in `float32_agrees`. Where acc M 2^-f is negative and halfway between two
    integers, the result may be one less.

    Arguments: as there.
    """
    exact = multiplier_value(multiplier, np.maximum(shift, 1)).astype(np.float32)
    above = np.nextafter(exact, np.float32(np.inf))
    found = np.full(exact.shape, np.nan, np.float32)
    for ratio in (np.nextafter(above, np.float32(np.inf)), above, exact):
        np.copyto(found, ratio, where=_agrees_but_ties(multiplier, shift, low, high, reach, ratio))
    return found


def _agrees_but_ties(multiplier: Ints, shift: Ints, low: int, high: int, reach: tuple[ArrayLike, ArrayLike], ratio: NDArray[np.float32]) -> NDArray[np.bool_]:
    at = step_boundaries(multiplier, shift, low, high)
    y = np.arange(low + 1, high + 1)
    m, f = np.asarray(multiplier)[:, None], np.maximum(shift, 1)[:, None]
    tie = (at * m == (2 * y - 1) << (f - 1)) & (at < 0)
    return _steps_at(at, y, reach, _nearest(ratio[:, None]), tie.astype(np.int64)) & (shift >= 1)


def _nearest(ratio: NDArray[np.float32]) -> Callable[[Ints], NDArray[np.float32]]:
    return lambda acc: np.rint(acc.astype(np.float32) * ratio)


#: Factors that move a float32 ratio by one or two units in its last place: ties go up, or down, nothing else changes.
LIFT, DROP = np.float32(1 + 2.0**-23), np.float32(1 - 2.0**-23)


def float32_halves_agree(multiplier: Ints, shift: Ints, low: int, high: int, reach: tuple[Ints, Ints]) -> NDArray[np.bool_]:
    """Is law 2 the difference of two ReLU halves rounded to even in float32: rint(acc r LIFT) for acc > 0 less rint(-acc r DROP) for acc < 0?

    The positive half needs ties up, the negative one, taken of -acc, ties down; each half may have its own factor, one signed rounding may not.

    Arguments:
        multiplier, shift: (F,), r = M 2^-f.
        low, high: the output range, low < 0 < high.
        reach: smallest and largest accumulator, (F,) each.
    """
    f, m = np.maximum(shift, 1)[:, None], np.maximum(multiplier, 1)[:, None]
    ratio = multiplier_value(multiplier, shift).astype(np.float32)[:, None]
    up, down = np.arange(1, high + 1), np.arange(1, -low + 1)
    rising = _steps_at(step_boundaries(multiplier, shift, 0, high), up, (0 * reach[1], reach[1]), _nearest(ratio * LIFT))
    falling = _steps_at(((2 * down - 1) << (f - 1)) // m + 1, down, (0 * reach[0], -reach[0]), _nearest(ratio * DROP))
    return rising & falling & (shift >= 1)


def raised(multiplier: ArrayLike, shift: ArrayLike) -> Ints:
    """What an accumulator gains so that law 2 gives 128 more, 128 * 2^f / M per filter; 0 where that is no integer."""
    m, whole = np.maximum(np.asarray(multiplier, np.int64), 1), np.left_shift(128, np.maximum(np.asarray(shift, np.int64), 0))
    return np.where(whole % m == 0, whole // m, 0)


def float32_raised_agree(multiplier: Ints, shift: Ints, reach: tuple[Ints, Ints]) -> NDArray[np.bool_]:
    """Is law 2 on signed bytes, plus 128, what one QLinearConv makes of raised accumulators: clip(rint(float32(acc + 128 / r) r LIFT), 0, 255)?

    What is raised is nowhere negative inside its range, so that every tie goes up; r = M 2^-f.

    Arguments:
        multiplier, shift: (F,).
        reach: smallest and largest accumulator, (F,) each, not raised.
    """
    gained = raised(multiplier, shift)
    ratio = multiplier_value(multiplier, np.maximum(shift, 1)).astype(np.float32) * LIFT
    higher = (reach[0] + gained, reach[1] + gained)
    inside = np.maximum(-higher[0], higher[1]) < 2**31
    return _agrees_but_ties(multiplier, shift, 0, 255, higher, ratio) & (gained > 0) & inside


#: Which multipliers a block may want: every one, or those that onnxruntime's QLinearConv reproduces on a ReLU output, on a signed one as two halves, or on a signed one
#: but for negative ties, or on a signed one in a single product, without exception; or those whose products float32 holds as far as the index of a table goes.
ANY, RELU, SIGNED, TIED, POWERS, INDEX = "any", "relu", "signed", "tied", "powers", "index"


@lru_cache(maxsize=6)
def multiplier_table(grid: str) -> tuple[Floats, Ints, Ints]:
    """Every M * 2^-f of a grid, ascending, with its M and f.

    `ANY`: M in 128..255, every hardware shift. `RELU`: those for which `float32_agrees` on outputs of up to 8 bits after a ReLU. For f <= 17 that holds
    for every M = 3 (mod 4): the only positive tie of law 2 is acc = 2^(f-1), and ties to even then rounds up as law 2 does; for larger f it thins out as
    products leave float32's 24 bits, and ends near 2^-15. `SIGNED`: the odd ones for which `float32_halves_agree`, every one up to f = 15, few behind f = 17; they have no tie
    but acc = 2^(f-1) and its negative. `TIED`: the odd ones with `float32_ratios`, somewhat more. `POWERS`: powers of two with `float32_raised_agree`. `INDEX`: whole
    numbers of 2^-13, whose products stay below 2^24 units while the index, of 11 bits, is not saturated.
    """
    proven = grid != ANY
    shifts = np.arange(1 if proven else SHIFT_MIN, 28 if proven else SHIFT_MAX + 1)
    f, m = (a.ravel() for a in np.meshgrid(shifts, np.arange(32 if proven else 128, 256), indexing="ij"))
    keep = _PROOFS[grid](m, f)
    value, first = np.unique(multiplier_value(m[keep], f[keep]), return_index=True)
    return value, m[keep][first], f[keep][first]


def _odd(m: Ints, f: Ints, proof: Callable[[Ints, Ints, tuple[Ints, Ints]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    odd = m % 2 == 1
    low, high = (np.full(odd.sum(), end) for end in _WHOLE)
    keep = np.zeros(len(m), np.bool_)
    keep[odd] = proof(m[odd], f[odd], (low, high))
    return keep


_WHOLE = (-(2**31), 2**31 - 1)


def _power(m: Ints, f: Ints) -> NDArray[np.bool_]:
    low, high = (np.full(len(m), end // 2) for end in _WHOLE)  # half of 32 bits, so that what is raised stays within them
    return (m == 2 ** (MULTIPLIER_BITS - 1)) & float32_raised_agree(m, f, (low, high))


_PROOFS: dict[str, Callable[[Ints, Ints], NDArray[np.bool_]]] = {
    ANY: lambda m, f: np.ones(len(m), np.bool_),
    RELU: lambda m, f: float32_agrees(m, f, 0, 127, _WHOLE),
    SIGNED: lambda m, f: _odd(m, f, lambda m, f, reach: float32_halves_agree(m, f, -128, 127, reach)),
    TIED: lambda m, f: _odd(m, f, lambda m, f, reach: ~np.isnan(float32_ratios(m, f, -128, 127, reach))),
    POWERS: _power,
    INDEX: lambda m, f: np.exp2(f) / (m & -m) <= FLOAT32_EXACT / 2**11,
}


def multiplier_at_most(ratio: ArrayLike, grid: str = ANY) -> tuple[Ints, Ints]:
    """M and f of the largest representable M * 2^-f <= ratio, element by element (the smallest of all for a smaller ratio)."""
    value, m, f = multiplier_table(grid)
    index = np.searchsorted(value, np.asarray(ratio, np.float64) * (1 + 1e-12), side="right") - 1
    return m[np.maximum(index, 0)], f[np.maximum(index, 0)]


def multiplier_at_least(ratio: ArrayLike, grid: str = ANY) -> tuple[Ints, Ints]:
    """M and f of the smallest representable M * 2^-f >= ratio, element by element (the largest of all for a larger ratio)."""
    value, m, f = multiplier_table(grid)
    index = np.searchsorted(value, np.asarray(ratio, np.float64) * (1 - 1e-12), side="left")
    return m[np.minimum(index, len(value) - 1)], f[np.minimum(index, len(value) - 1)]


def multiplier_closest(ratio: ArrayLike) -> tuple[Ints, Ints]:
    """M and f of the representable M * 2^-f closest to ratio, element by element: within ratio / 256 while the shift is in its range."""
    below, above = multiplier_at_most(ratio), multiplier_at_least(ratio)
    up = multiplier_value(*above) - ratio < ratio - multiplier_value(*below)
    return np.where(up, above[0], below[0]), np.where(up, above[1], below[1])


def multiplier_nearest(ratio: ArrayLike) -> tuple[Ints, Ints]:
    """The reference's choice: round(ratio * 2^f) on 8 unsigned bits, w = ceil(log2 ratio) (+1 at exact powers of two), f = 8 - w."""
    ratio = np.where(np.asarray(ratio, np.float64) > 0, ratio, 0.5)
    log = np.log2(ratio)
    w = np.ceil(log).astype(np.int64) + (log == np.floor(log))
    f = np.clip(MULTIPLIER_BITS - w, SHIFT_MIN, SHIFT_MAX)
    return np.clip(round_half_even(np.ldexp(ratio, f)), 0, 255), f


def align_mantissa(value: ArrayLike, bits: int | None) -> Ints:
    """An integer on the accumulator grid whose mantissa has `bits` bits (7 for a signed byte, 8 for an unsigned one): round(v / 2^e) * 2^e.

    e = max(0, ceil(log2 |v + 2^-8|) - bits). None keeps every bit: round(v).
    """
    v = np.asarray(value, np.float64)
    if bits is None:
        return round_half_even(v)
    e = np.maximum(0, np.ceil(np.log2(np.maximum(np.abs(v + 2.0**-8), 2.0**-8))) - bits)
    return round_half_even(np.ldexp(v, -e.astype(np.int64))) << e.astype(np.int64)


def power_of_two_at_least(x: ArrayLike) -> Ints:
    """The exponent e of the smallest 2^e >= x."""
    return np.ceil(np.log2(np.maximum(np.asarray(x, np.float64), 2.0**-126)) - 1e-12).astype(np.int64)


def accumulator_reach(weight: Ints, bias: Ints | None, low: ArrayLike, high: ArrayLike) -> tuple[Ints, Ints]:
    """Worst case of sum(w * x) + b over x in [low, high], per filter, proven from the actual weights.

    Arguments:
        weight: (F, ...) integers, of any width.
        bias: (F,) or None.
        low, high: range of the input integers, scalars.
    """
    flat = weight.reshape(len(weight), -1)
    positive = np.maximum(flat, 0).sum(axis=1, dtype=np.int64)
    negative = flat.sum(axis=1, dtype=np.int64) - positive
    b = 0 if bias is None else bias
    return positive * low + negative * high + b, positive * high + negative * low + b


def signed_bits(low: ArrayLike, high: ArrayLike) -> int:
    """Number of bits a two's complement accumulator needs to hold every value in [low, high]."""
    reach = max(int(np.max(high)), -int(np.min(low)) - 1, 0)
    return reach.bit_length() + 1
