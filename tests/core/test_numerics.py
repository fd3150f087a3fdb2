"""The formulas of docs/numerics.md, against Python integers and fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantizeml_core import numerics

FULL = (-(2**31), 2**31 - 1)


@given(st.integers(*FULL), st.integers(0, 255), st.integers(-8, 32))
def test_requantize_is_the_exact_half_up_law(acc: int, multiplier: int, shift: int) -> None:
    exact = floor(Fraction(acc * multiplier) / Fraction(2) ** shift + Fraction(1, 2))
    got = numerics.requantize(np.array([acc]), multiplier, shift, -128, 127)
    assert int(got[0]) == min(max(exact, -128), 127)


@pytest.mark.parametrize(("x", "q"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.6, 127), (1e9, 127), (-1e9, -128)])
def test_float_to_integer_rounds_half_to_even_and_saturates(x: float, q: int) -> None:
    assert numerics.quantize(x, 1.0, -128, 127) == q


@given(st.integers(32, 255), st.integers(1, 20), st.integers(-(2**22), 2**22))
def test_float32_agrees_is_a_proof(multiplier: int, shift: int, acc: int) -> None:
    """Wherever it says yes, what QLinearConv computes equals the law on any accumulator."""
    m, f = np.array([multiplier]), np.array([shift])
    if not numerics.float32_agrees(m, f, 0, 127, FULL)[0]:
        return
    law = numerics.requantize(np.array([acc]), m, f, 0, 127)
    float32 = np.clip(np.rint(np.float32(acc) * np.float32(multiplier * 2.0**-shift)), 0, 127)
    assert int(law[0]) == int(float32)


@given(st.integers(128, 255), st.integers(18, 28), st.integers(-128, 127), st.integers(-9, 9), st.integers(0, 8), st.booleans())
@example(253, 27, 127, -2, 0, True).via("a filter of a bias alone, beside a boundary that it never crosses")
@example(253, 27, 127, 4, 0, False)
def test_the_proofs_hold_at_the_ends_of_the_reach(multiplier: int, shift: int, output: int, near: int, width: int, affine: bool) -> None:
    """Accumulators beyond 2^24 are rounded themselves. Exhaustive: a proof says yes only where float32 gives the law on all that is reached."""
    m, f, half = np.array([multiplier]), np.array([shift]), np.array([0.5], np.float32)
    low = ((2 * output - 1) << shift - 1) // multiplier + near
    acc, reach = np.arange(low, low + width + 1), (np.array([low]), np.array([low + width]))
    law, scaled = numerics.requantize(acc, m, f, -128, 127), acc.astype(np.float32) * np.float32(multiplier * 2.0**-shift)
    rounded = np.floor(scaled + half) if affine else np.rint(scaled)
    if numerics.float32_agrees(m, f, -128, 127, reach, half if affine else None)[0]:
        assert np.array_equal(law, np.clip(rounded, -128, 127))
    ratio = numerics.float32_ratios(m, f, -128, 127, reach)[0]
    if not np.isnan(ratio):
        tie = (acc < 0) & (acc * multiplier % 2**shift == 2 ** (shift - 1))
        assert np.array_equal(law[~tie], np.clip(np.rint(acc.astype(np.float32) * ratio), -128, 127)[~tie])


def test_float32_differs_where_the_proof_says_no() -> None:
    """M = 1 (mod 4): the tie acc = 2^(f-1) goes down in float32 and up by the law."""
    m, f, tie = np.array([129]), np.array([10]), 2**9
    assert not numerics.float32_agrees(m, f, 0, 127, FULL)[0]
    assert numerics.requantize(np.array([tie]), m, f, 0, 127)[0] == 65
    assert np.rint(np.float32(tie) * np.float32(129 * 2.0**-10)) == 64


def test_signed_outputs_never_agree_because_of_the_negative_tie() -> None:
    m = np.arange(129, 256, 2)
    assert not numerics.float32_agrees(m, np.full(len(m), 12), -128, 127, FULL).any()


@pytest.mark.parametrize(
    ("multiplier", "shift", "end", "ulps"), [(195, 12, 2**15, 0), (193, 12, 2**15, 1), (129, 12, 2**15, 1), (193, 17, 2**20, 1), (189, 18, 2**20, None)]
)
def test_ratios_round_every_accumulator_but_negative_ties(multiplier: int, shift: int, end: int, ulps: int | None) -> None:
    """Exhaustive: where a ratio is found, it gives the law; where none is, none of the three does."""
    m, f, acc = np.array([multiplier]), np.array([shift]), np.arange(-end, end + 1)
    exact = np.float32(multiplier * 2.0**-shift)
    candidates = [exact, above := np.nextafter(exact, np.float32(1)), np.nextafter(above, np.float32(1))]
    tie = (acc < 0) & (acc * multiplier % 2**shift == 2 ** (shift - 1))
    law = numerics.requantize(acc, m, f, -128, 127)
    right = [bool((np.clip(np.rint(acc.astype(np.float32) * c), -128, 127) == law)[~tie].all()) for c in candidates]
    found = numerics.float32_ratios(m, f, -128, 127, (np.array([-end]), np.array([end])))[0]
    assert right == [False] * 3 if ulps is None else found == candidates[ulps] and right[ulps]


@pytest.mark.parametrize("grid", [numerics.ANY, numerics.RELU, numerics.SIGNED, numerics.TIED, numerics.POWERS])
@given(ratio=st.floats(2.0**-10, 0.9))
def test_multipliers_bracket_the_ratio(grid: str, ratio: float) -> None:
    below = numerics.multiplier_value(*numerics.multiplier_at_most(ratio, grid))
    above = numerics.multiplier_value(*numerics.multiplier_at_least(ratio, grid))
    assert below <= ratio * (1 + 1e-9) and above >= ratio * (1 - 1e-9)  # the margin lets a ratio that was computed in float64 hit its own value


@given(st.integers(32, 255), st.integers(1, 18), st.integers(-(2**22), 2**22))
def test_two_halves_are_a_proof_for_signed_outputs(multiplier: int, shift: int, acc: int) -> None:
    m, f = np.array([multiplier]), np.array([shift])
    if not numerics.float32_halves_agree(m, f, -128, 127, (np.array([FULL[0]]), np.array([FULL[1]])))[0]:
        return
    ratio = np.float32(multiplier * 2.0**-shift)
    up, down = (np.clip(np.rint(np.float32(a) * (ratio * k)), 0, top) for a, k, top in ((acc, numerics.LIFT, 127), (-acc, numerics.DROP, 128)))
    assert int(up - down) == int(numerics.requantize(np.array([acc]), m, f, -128, 127)[0])


@given(st.sampled_from([1, 2, 32, 64, 96, 128, 131]), st.integers(1, 24), st.integers(-300, 300), st.integers(-2, 2))
def test_raised_accumulators_are_a_proof_for_signed_outputs(multiplier: int, shift: int, value: int, near: int) -> None:
    """Around every place where the output steps, in float32 as QLinearConv computes it."""
    m, f = np.array([multiplier]), np.array([shift])
    acc = (value * 2**shift + 2 ** (shift - 1)) // multiplier + near
    if not numerics.float32_raised_agree(m, f, (np.array([-abs(acc)]), np.array([abs(acc)])))[0]:
        return
    ratio = np.float32(multiplier * 2.0**-shift) * numerics.LIFT
    got = np.clip(np.rint(np.float32(acc + numerics.raised(m, f)[0]) * ratio), 0, 255) - 128
    assert int(got) == int(numerics.requantize(np.array([acc]), m, f, -128, 127)[0])


@pytest.mark.parametrize(("multiplier", "shift", "agrees"), [(128, 12, True), (1, 14, True), (128, 23, False), (96, 12, False), (131, 12, False)])
def test_only_powers_of_two_raise_by_whole_accumulators(multiplier: int, shift: int, agrees: bool) -> None:
    ends = (np.array([-(2**26)]), np.array([2**26]))
    assert numerics.float32_raised_agree(np.array([multiplier]), np.array([shift]), ends)[0] == agrees


@pytest.mark.parametrize(
    ("value", "bits", "aligned"), [(127.4, 7, 127), (300.0, 7, 300), (301.0, 7, 300), (-1000.0, 7, -1000), (12345.0, 7, 12288), (12345.6, None, 12346), (0.0, 7, 0)]
)
def test_bias_mantissa(value: float, bits: int | None, aligned: int) -> None:
    assert numerics.align_mantissa(value, bits) == aligned


@given(st.integers(0, 2**32 - 1))
def test_the_accumulator_bound_is_sound_and_reached(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-127, 128, (3, 5)), rng.integers(-99, 99, 3)
    low, high = numerics.accumulator_reach(weight, bias, -128, 127)
    worst = np.where(weight > 0, 127, -128)
    best = (weight * worst).sum(axis=1) + bias
    assert (best == high).all()
    assert ((weight * np.where(weight > 0, -128, 127)).sum(axis=1) + bias == low).all()


@pytest.mark.parametrize(("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (-128, 127, 8), (-129, 0, 9), (0, 128, 9)])
def test_signed_bits(low: int, high: int, bits: int) -> None:
    assert numerics.signed_bits(low, high) == bits
