"""QFloat: integers with real scales, and the operations between whole tensors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantizeml.tensors import FixedPoint, QFloat, concat, matmul, maximum, reduce_sum
from quantizeml_core import numerics

SCALES = st.floats(1e-9, 1e9)


@given(st.floats(-100, 100), st.floats(1e-3, 10))
def test_quantize_is_within_half_a_step_in_range(x: float, scale: float) -> None:
    q = QFloat.quantize(x, 20, scale)
    assert q.saturated == 0
    # x / scale is rounded to float64 before it is rounded to an integer: a relative 2^-52 on top of the half step.
    assert abs(Fraction(int(q.fp.values)) * Fraction(scale) - Fraction(x)) <= Fraction(scale) / 2 + abs(Fraction(x)) * Fraction(2) ** -52


@given(SCALES, st.integers(2, 16))
def test_quantized_scales_are_the_nearest(scale: float, bits: int) -> None:
    q = QFloat.quantize_scales(scale, bits)
    mantissa = int(q.values)
    assert 2 ** (bits - 1) <= mantissa <= 2**bits - 1
    step = Fraction(2) ** -q.frac_bits
    assert abs(mantissa * step - Fraction(scale)) <= step / 2


@given(st.integers(-30, 30), st.integers(2, 16))
def test_powers_of_two_are_exact_scales(exponent: int, bits: int) -> None:
    assert float(QFloat.quantize_scales(2.0**exponent, bits).to_float()) == 2.0**exponent


@pytest.mark.parametrize(("value_bits", "signed_bits"), [(7, 8), (3, 4), (1, 2)])
def test_optimal_scales_are_symmetric_steps(value_bits: int, signed_bits: int) -> None:
    ranges = np.array([1.0, 0.3, 2.5])
    np.testing.assert_array_equal(QFloat.optimal_scales(ranges, value_bits), numerics.symmetric_step(ranges, signed_bits))


def test_max_frac_bits_counts_in_scales() -> None:
    assert QFloat.max_frac_bits(7, 3.0, 0.5) == FixedPoint.max_frac_bits(7, 6.0)


def test_to_fixed_point_is_the_exact_product() -> None:
    q = QFloat(FixedPoint([[100, -77]], 32, 2), [0.0123, 1.7])
    fp, scales = q.to_fixed_point()
    assert fp.values.tolist() == [[20200, -16786]] and scales.values.tolist() == [202, 218]
    np.testing.assert_array_equal(fp.to_float(), q.fp.to_float() * scales.to_float())


def test_a_narrow_product_says_that_it_saturates() -> None:
    fp, _ = QFloat(FixedPoint([100, 0], 7), 1.7).to_fixed_point()
    assert fp.values.tolist() == [127, 0] and fp.saturated == 1


def test_scales_multiply_in_products() -> None:
    a, b = QFloat(FixedPoint([3, 4], 20, 1), 0.5), QFloat(FixedPoint([5, 6], 7), [0.25, 2.0])
    product = a * b
    assert (product.fp.values.tolist(), product.fp.frac_bits, product.scales.tolist()) == ([15, 24], 1, [0.125, 1.0])
    assert (FixedPoint([2, 2], 9) * b).fp.value_bits == 9
    assert (a * 3).fp.values.tolist() == [9, 12]


def test_sums_keep_scales_and_division_divides_them() -> None:
    a = QFloat(FixedPoint([3, 4], 20), [0.5, 0.25])
    assert ((a + a).fp.values.tolist(), (a - a).fp.values.tolist()) == ([6, 8], [0, 0])
    assert (a / 2).scales.tolist() == [0.25, 0.125]


def test_upscale_promote_and_expand_leave_the_scales() -> None:
    a = QFloat(FixedPoint([3, 4], 7, [1, 3]), [0.5, 0.25])
    for moved, shift in (a.upscale([2, 3]), a.expand(20)):
        np.testing.assert_array_equal(moved.to_float(), a.to_float())
        np.testing.assert_array_equal(moved.fp.frac_bits - np.asarray(a.fp.frac_bits), shift)
    assert a.promote(9).fp.value_bits == 9
    assert not a.per_tensor and QFloat(FixedPoint([1], 7), 1.0).per_tensor


REFUSED = {
    "zero scale": (ValueError, lambda: QFloat(FixedPoint([1], 7), 0.0)),
    "negative scale": (ValueError, lambda: QFloat.quantize([1.0], 7, -1.0)),
    "infinite scale": (ValueError, lambda: QFloat.quantize_scales(np.inf, 8)),
    "scales in two axes": (ValueError, lambda: QFloat(FixedPoint(np.ones((2, 2), int), 7), np.ones((2, 2)))),
    "scales of another length": (ValueError, lambda: QFloat(FixedPoint([1, 2, 3], 7), [1.0, 2.0])),
    "sum of different scales": (ValueError, lambda: QFloat(FixedPoint([1], 7), 0.5) + QFloat(FixedPoint([1], 7), 0.25)),
    "sum with an integer": (TypeError, lambda: QFloat(FixedPoint([1], 7), 0.5) + 1),
    "division by a tensor": (TypeError, lambda: QFloat(FixedPoint([1], 7), 0.5) / FixedPoint([1], 7)),
    "product with a float": (TypeError, lambda: QFloat(FixedPoint([1], 7), 0.5) * 0.5),
    "per-axis left matrix": (ValueError, lambda: matmul(QFloat(FixedPoint([[1, 2]], 7), [1.0, 2.0]), FixedPoint([[1], [2]], 7))),
    "sum over scales": (ValueError, lambda: reduce_sum(QFloat(FixedPoint([[1, 2]], 7), [1.0, 2.0]))),
    "maximum of different scales": (ValueError, lambda: maximum(QFloat(FixedPoint([1], 7), 0.5), QFloat(FixedPoint([1], 7), 0.25))),
    "rows of different scales": (ValueError, lambda: concat([QFloat(FixedPoint([[1]], 7), s) for s in (0.5, 0.25)], 0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    error, action = REFUSED[name]
    with pytest.raises(error):
        action()


def test_matmul_counts_saturated_accumulators() -> None:
    product = matmul(FixedPoint([[100, 100], [1, 1]], 7), FixedPoint([[1], [1]], 7))
    assert product.values.tolist() == [[127], [2]] and product.saturated == 1


def test_concat_joins_any_number_of_tensors() -> None:
    joined = concat([QFloat(FixedPoint([[n]], 7), float(n)) for n in (1, 2, 3)])
    assert joined.fp.values.tolist() == [[1, 2, 3]] and joined.scales.tolist() == [1.0, 2.0, 3.0]


def test_reduce_sum_over_everything() -> None:
    assert int(reduce_sum(FixedPoint([[1, 2], [3, 4]], 7)).values) == 10
