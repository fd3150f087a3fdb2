"""FixedPoint: exact integers, explicit growth, known overflow."""

from __future__ import annotations

import doctest
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantizeml.tensors import FixedPoint
from quantizeml_core import exact, fixedpoint, numerics

BITS = st.integers(0, fixedpoint.MAX_VALUE_BITS)
FRAC = st.integers(-80, 80)
SHIFTS = st.integers(-130, 130)


def clipped(value: int, value_bits: int) -> int:
    low, high = FixedPoint.int_range(value_bits)
    return min(max(value, low), high)


@st.composite
def numbers(draw: st.DrawFn, frac: st.SearchStrategy[int] = FRAC) -> FixedPoint:
    bits = draw(BITS)
    return FixedPoint(np.asarray(draw(st.integers(*FixedPoint.int_range(bits)))), bits, draw(frac))


def real(x: FixedPoint) -> Fraction:
    return Fraction(int(x.values)) * Fraction(2) ** -x.frac_bits


def test_the_guides_table() -> None:
    assert doctest.testmod(fixedpoint, raise_on_error=True).attempted == 1


@given(st.floats(-1e6, 1e6), st.integers(1, 52), st.integers(-20, 40))
def test_quantize_is_within_half_a_step_in_range(x: float, value_bits: int, frac_bits: int) -> None:
    q = FixedPoint.quantize(x, value_bits, frac_bits)
    if q.saturated:
        assert abs(Fraction(x) * Fraction(2) ** frac_bits) >= 2**value_bits - Fraction(1, 2)
    else:
        assert abs(real(q) - Fraction(x)) <= Fraction(2) ** -frac_bits / 2


@given(st.floats(1e-30, 1e30), st.integers(1, 52))
def test_the_natural_grid_costs_at_most_one_step(x: float, value_bits: int) -> None:
    q = FixedPoint.quantize([x, 0.5], value_bits)
    step = Fraction(2) ** -q.frac_bits
    # Half a step by rounding; up to one where the largest magnitude rounds to 2^value_bits (documented convention).
    if x >= 0.5 and x != round(x):
        assert abs(Fraction(int(q.values[0])) * step - Fraction(x)) <= step


@pytest.mark.parametrize(("op", "exactly"), [(operator.add, operator.add), (operator.sub, operator.sub)])
@given(data=st.data())
def test_sums_are_exact_then_saturated(op, exactly, data: st.DataObject) -> None:
    a = data.draw(numbers())
    b = data.draw(numbers(st.just(a.frac_bits)))
    wanted = exactly(int(a.values), int(b.values))
    result = op(a, b)
    assert int(result.values) == clipped(wanted, a.value_bits)
    assert result.saturated == (wanted != clipped(wanted, a.value_bits))
    assert (result.value_bits, result.frac_bits) == (a.value_bits, a.frac_bits)


@given(numbers(), numbers())
def test_products_are_exact_then_saturated(a: FixedPoint, b: FixedPoint) -> None:
    wanted, result = int(a.values) * int(b.values), a * b
    assert int(result.values) == clipped(wanted, a.value_bits)
    assert result.saturated == (wanted != clipped(wanted, a.value_bits))
    assert result.frac_bits == a.frac_bits + b.frac_bits


@given(numbers(), numbers())
def test_quotients_lose_their_fraction(a: FixedPoint, b: FixedPoint) -> None:
    if int(b.values):
        quotient = math.trunc(Fraction(int(a.values), int(b.values)))
        assert int((a / b).values) == clipped(quotient, a.value_bits)


@pytest.mark.parametrize("op", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
@given(a=numbers(), b=numbers())
def test_comparisons_are_those_of_the_reals(op, a: FixedPoint, b: FixedPoint) -> None:
    assert bool(op(a, b)) == op(real(a), real(b))


@given(numbers(), SHIFTS)
def test_shift_rounds_down(x: FixedPoint, s: int) -> None:
    assert int(x.shift(s).values) == clipped(math.floor(int(x.values) * Fraction(2) ** s), x.value_bits)


@given(numbers(), FRAC, BITS)
def test_rescale_rounds_half_up(x: FixedPoint, frac_bits: int, value_bits: int) -> None:
    shift = frac_bits - x.frac_bits
    if shift >= value_bits:
        with pytest.raises(ValueError, match="saturates"):
            x.rescale(frac_bits, value_bits)
        return
    result, moved = x.rescale(frac_bits, value_bits)
    assert moved == shift
    assert int(result.values) == clipped(math.floor(int(x.values) * Fraction(2) ** shift + Fraction(1, 2)), value_bits)


@given(st.integers(-(2**30), 2**30), st.integers(-20, 30))
def test_rescale_is_law_2_with_a_multiplier_of_one(acc: int, f: int) -> None:
    low, high = FixedPoint.int_range(40)
    ours, _ = FixedPoint(np.asarray(acc), 40, f).rescale(0)
    assert int(ours.values) == int(numerics.requantize(np.asarray(acc), 1, f, low, high))


@given(numbers(), numbers(), SHIFTS)
def test_values_are_always_allowed(a: FixedPoint, b: FixedPoint, s: int) -> None:
    results = [a * b, a.shift(s), abs(a), a << abs(s), a + a, a.sign, a.floor()[0]]
    for r in results:
        low, high = FixedPoint.int_range(r.value_bits)
        assert r.values.dtype == np.int64 and low <= int(r.values) <= high and r.saturated >= a.saturated


@given(numbers())
def test_to_float_is_exact_while_float64_is(x: FixedPoint) -> None:
    if abs(int(x.values)) <= 2**53:
        assert Fraction(float(x.to_float())) == real(x)


def test_growth_is_explicit() -> None:
    narrow = FixedPoint([100, 1], 7)
    assert ((narrow + narrow).values.tolist(), (narrow + narrow).saturated) == ([127, 2], 1)
    wide = narrow.promote(8)
    assert ((wide + narrow).values.tolist(), (wide + narrow).saturated) == ([200, 2], 0)


def test_saturation_is_counted_along_the_way() -> None:
    x = FixedPoint([100, 1], 7)
    assert ((x + x) + (x + x)).saturated == 3


def test_int64_never_wraps() -> None:
    big = FixedPoint([2**62 - 1, -(2**62)], 62)
    assert (big * big).values.tolist() == [2**62 - 1, 2**62 - 1]
    assert (big * big).saturated == 2
    assert (big + 1).values.tolist() == [2**62 - 1, 1 - 2**62]


@pytest.mark.parametrize("x", [2**63, 2**64 - 1, -(2**63), 2**90])
def test_integers_beyond_int64_saturate(x: int) -> None:
    assert int(FixedPoint.quantize(x, 30).values) == clipped(x, 30)
    assert FixedPoint([x], 30).saturated == 1


@pytest.mark.parametrize(("x", "expected"), [(np.inf, 127), (-np.inf, -128), (1e300, 127)])
def test_infinite_values_saturate(x: float, expected: int) -> None:
    q = FixedPoint.quantize(x, 7, 900)
    assert (int(q.values), q.saturated) == (expected, 1)


def test_per_axis_is_the_last_axis() -> None:
    x = FixedPoint([[3, -3, 5], [100, -128, 7]], 7, [4, 2, 6])
    assert not x.per_tensor
    np.testing.assert_array_equal(x.to_float()[1], [6.25, -32.0, 0.109375])
    together, shifts = x.expand(27)
    assert together.per_tensor and shifts.tolist() == [2, 4, 0]
    np.testing.assert_array_equal(together.to_float(), x.to_float())


def test_rshift_is_a_free_division() -> None:
    x = FixedPoint([3, -3], 7, 4)
    assert (x >> 2).values.tolist() == [3, -3] and (x >> 2).frac_bits == 6


@pytest.mark.parametrize(("frac_bits", "whole"), [(2, [1, -2]), (-1, [10, -12]), (70, [0, -1])])
def test_floor(frac_bits: int, whole: list[int]) -> None:
    result, shift = FixedPoint([5, -6], 20, frac_bits).floor()
    assert (result.values.tolist(), result.frac_bits, shift) == (whole, 0, frac_bits)


def test_a_record_cannot_be_changed() -> None:
    source = np.array([1, 2])
    x = FixedPoint(source, 7, np.array([1, 2]))
    source[0] = 9
    assert x.values.tolist() == [1, 2]
    for array in (x.values, x.frac_bits):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


REFUSED = {
    "float values": (TypeError, lambda: FixedPoint([1.0], 7)),
    "float values in objects": (TypeError, lambda: FixedPoint(np.array([1.5], object), 7)),
    "float frac_bits": (TypeError, lambda: FixedPoint([1], 7, 1.0)),
    "float value_bits": (TypeError, lambda: FixedPoint([1], 7).promote(8.0)),
    "negative value_bits": (ValueError, lambda: FixedPoint([1], -1)),
    "too many value_bits": (ValueError, lambda: FixedPoint([1], 63)),
    "narrower promotion": (ValueError, lambda: FixedPoint([1], 7).promote(6)),
    "frac_bits of another length": (ValueError, lambda: FixedPoint([[1, 2, 3]], 7, [1, 2])),
    "frac_bits wider than the values": (ValueError, lambda: FixedPoint(1, 7, [1, 2])),
    "frac_bits out of reach": (OverflowError, lambda: FixedPoint([1], 7, 5000)),
    "shift out of reach": (OverflowError, lambda: FixedPoint([1], 7) << 10**9),
    "negative shift": (ValueError, lambda: FixedPoint([1], 7) >> -1),
    "float shift": (TypeError, lambda: FixedPoint([1], 7).shift(0.5)),
    "NaN": (ValueError, lambda: FixedPoint.quantize(np.nan, 7, 0)),
    "NaN without frac_bits": (ValueError, lambda: FixedPoint.quantize([0.5, np.nan], 7)),
    "negative range": (ValueError, lambda: FixedPoint.max_frac_bits(7, -1.0)),
    "grids that differ": (ValueError, lambda: FixedPoint([1], 7, 1) + FixedPoint([1], 7, 2)),
    "integer that no grid holds": (OverflowError, lambda: FixedPoint([1], 7, 40) + 2**40),
    "float operand": (TypeError, lambda: FixedPoint([1], 7) + 0.5),
    "numpy operand": (TypeError, lambda: np.array([1]) + FixedPoint([1], 7)),
    "division by zero": (ZeroDivisionError, lambda: FixedPoint([1], 7) / 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    error, action = REFUSED[name]
    with pytest.raises(error):
        action()


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5))
def test_total_and_matmul_are_exact(values: list[int]) -> None:
    x = np.asarray(values, np.int64)
    assert int(exact.total(x, None)) == sum(values)
    assert int(exact.matmul(x[None], x[:, None])[0, 0]) == sum(v * v for v in values)


@given(numbers(st.integers(0, 20)), st.integers(-(2**40), 2**40))
def test_plain_integers_are_exact_operands(x: FixedPoint, n: int) -> None:
    assert bool(x < n) == (real(x) < n)
    assert int((x + n).values) == clipped(int(x.values) + n * 2**x.frac_bits, x.value_bits)
    assert int((x * n).values) == clipped(int(x.values) * n, x.value_bits)
