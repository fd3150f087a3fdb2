"""The quantizer protocols and their defaults: law by law, and as configuration."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantizeml.tensors import FixedPoint, QFloat
from quantizeml_core import numerics, quantizers
from quantizeml_core.arrays import NUMPY, Arrays, NumpyArrays
from quantizeml_core.errors import UsageError
from quantizeml_core.quantizers import (
    MantissaShiftQuantizer,
    PowerOfTwoInputQuantizer,
    PowerOfTwoOutputQuantizer,
    SymmetricWeightQuantizer,
    moving_range,
)

DEFAULTS = {
    SymmetricWeightQuantizer: (quantizers.WeightQuantizer, {"bitwidth": 4, "signed": True, "axis": -1, "fp_quantizer": False}),
    MantissaShiftQuantizer: (quantizers.AlignedWeightQuantizer, {"bitwidth": 8, "signed": True}),
    PowerOfTwoInputQuantizer: (quantizers.InputQuantizer, {"bitwidth": 8, "signed": True, "axis": "per-tensor"}),
    PowerOfTwoOutputQuantizer: (
        quantizers.OutputQuantizer,
        {"bitwidth": 8, "signed": True, "axis": "per-tensor", "scale_bits": 8, "buffer_bitwidth": 32},
    ),
}
WEIGHTS = hnp.arrays(np.float64, (5, 3), elements=st.floats(-10, 10, width=32))


@pytest.mark.parametrize("kind", DEFAULTS)
def test_defaults_implement_their_protocol(kind: type) -> None:
    protocol, _ = DEFAULTS[kind]
    assert isinstance(kind(), protocol)
    assert not isinstance(object(), protocol)


def test_numpy_implements_the_array_protocol() -> None:
    assert isinstance(NUMPY, Arrays) and NUMPY == NumpyArrays()


@pytest.mark.parametrize("kind", DEFAULTS)
def test_configurations_round_trip_through_json(kind: type) -> None:
    _, fields = DEFAULTS[kind]
    assert kind().to_json() == fields
    changed = kind.from_json({"bitwidth": 6})
    assert kind.from_json(json.loads(json.dumps(changed.to_json()))) == changed != kind()
    with pytest.raises(FrozenInstanceError):
        changed.bitwidth = 3


@pytest.mark.parametrize(("kind", "data"), [
    (SymmetricWeightQuantizer, {"bitwidth": 1}),
    (SymmetricWeightQuantizer, {"bitwidth": 4.0}),
    (SymmetricWeightQuantizer, {"bitwidth": True}),
    (SymmetricWeightQuantizer, {"bits": 4}),
    (SymmetricWeightQuantizer, {"axis": "per-axis"}),
    (MantissaShiftQuantizer, {"bitwidth": 0, "signed": False}),
    (PowerOfTwoInputQuantizer, {"axis": -1}),
    (PowerOfTwoOutputQuantizer, {"axis": "per-channel"}),
    (PowerOfTwoOutputQuantizer, {"scale_bits": 0}),
    (PowerOfTwoOutputQuantizer, {"buffer_bitwidth": None}),
])
def test_bad_configurations_are_refused_by_name(kind: type, data: dict) -> None:
    with pytest.raises(UsageError) as caught:
        kind.from_json(data)
    assert next(iter(data)) in str(caught.value) and kind.__name__ in str(caught.value) and caught.value.allowed


# --- weights ---

@given(WEIGHTS, st.sampled_from([2, 4, 8]))
def test_weights_follow_laws_1_and_3(weights: np.ndarray, bits: int) -> None:
    largest = numerics.qmax(bits)
    step = np.maximum(numerics.symmetric_step(np.abs(weights).max(axis=0), bits), quantizers.SMALLEST_STEP)
    ours = SymmetricWeightQuantizer(bits)(weights)
    np.testing.assert_array_equal(ours.scales, step)
    np.testing.assert_array_equal(ours.fp.values, numerics.quantize(weights, step, -largest, largest))
    assert ours.saturated == 0


@pytest.mark.parametrize(("axis", "shape"), [(0, (4, 1, 1)), (1, (3, 1)), (2, (2,)), (-3, (4, 1, 1)), (None, ())])
def test_any_axis_can_carry_the_scales(axis: int | None, shape: tuple[int, ...]) -> None:
    weights = np.arange(24.0).reshape(4, 3, 2) - 11
    ours = SymmetricWeightQuantizer(8, axis=axis)(weights)
    assert ours.scales.shape == shape
    # Within half a step: the largest error of a weight in range.
    assert np.all(np.abs(ours.to_float() - weights) <= ours.scales / 2 * (1 + 1e-12))


def test_a_wider_step_is_taken_as_given() -> None:
    quantizer, weights = SymmetricWeightQuantizer(8), np.array([[1.0, -2.0], [0.5, 1.0]])
    assert quantizer.integers(weights, np.array([0.01, 0.03])).tolist() == [[100, -67], [50, 33]]
    assert quantizer.integers(weights, np.array([0.001, 0.001])).tolist() == [[127, -127], [127, 127]]


def test_power_of_two_weights_are_fixed_point() -> None:
    ours = SymmetricWeightQuantizer(8, fp_quantizer=True)(np.array([[0.3, -1.0], [0.2, 0.5]]))
    assert isinstance(ours, FixedPoint)
    assert (ours.values.tolist(), ours.frac_bits.tolist()) == ([[38, -128], [26, 64]], [7, 7])


def test_an_axis_that_weights_do_not_have() -> None:
    with pytest.raises(UsageError, match="axis is 5"):
        SymmetricWeightQuantizer(8, axis=5)(np.ones((2, 2)))


# --- aligned weights ---

@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6), st.sampled_from([2, 4, 8, 16]), st.integers(0, 8))
def test_aligned_weights_are_a_mantissa_and_a_shift(values: list[float], bits: int, frac_bits: int) -> None:
    quantizer = MantissaShiftQuantizer(bits)
    units = np.array(values) / 0.01 * 2.0**frac_bits
    mantissa, shift = quantizer.mantissa(np.array(values), np.asarray(0.01), frac_bits)
    assert np.all(shift >= 0) and np.all(mantissa >= -(2 ** (bits - 1))) and np.all(mantissa <= 2 ** (bits - 1) - 1)
    # Half a unit of the mantissa, or of the last shift where it was rounded up to the next; float64 noise of the two scalings.
    assert np.all(np.abs(mantissa * 2.0**shift - units) <= 2.0**shift / 2 * (1 + 1e-9))


@pytest.mark.parametrize("bits", [4, 8])
def test_bias_alignment_is_the_solvers_formula(bits: int) -> None:
    units = np.array([30.0, 128.0, 127.4, 1000.3, 5e5, 1.5e6, 0.0])
    target = QFloat(FixedPoint(np.zeros(7, np.int64), 27), 1.0)
    np.testing.assert_array_equal(MantissaShiftQuantizer(bits)(units, target).fp.values, numerics.align_mantissa(units, bits - 1))


def test_a_power_of_two_does_not_saturate() -> None:
    target = QFloat(FixedPoint([0], 27), 1.0)
    assert MantissaShiftQuantizer(8)(np.array([128.0]), target).fp.values.tolist() == [128]


def test_an_aligned_weight_can_be_added() -> None:
    accumulator = QFloat(FixedPoint([[1000, -5]], 27, 3), [0.01, 0.02])
    total = accumulator + MantissaShiftQuantizer(8)(np.array([0.3, -12.7]), accumulator)
    assert total.fp.values.tolist() == [[1240, -5 - 5056]] and total.saturated == 0


def test_a_weight_out_of_the_accumulators_reach() -> None:
    with pytest.raises(ValueError, match="left shift"):
        MantissaShiftQuantizer(8)(np.array([1e9]), QFloat(FixedPoint([0], 10), 1e-6))


# --- inputs ---

def test_signed_inputs_are_symmetric() -> None:
    quantizer = PowerOfTwoInputQuantizer()
    ours = quantizer(np.array([[0.5, -2.0, 3.0]]), -2.6, 3.5)
    assert (ours.values.tolist(), ours.frac_bits, ours.value_bits) == ([[16, -64, 96]], 5, 7)
    assert int(quantizer.zero_point(-2.6, 3.5)) == 0


def test_unsigned_inputs_have_a_zero_point() -> None:
    quantizer = PowerOfTwoInputQuantizer(signed=False)
    x = np.array([-2.628, 0.0, 3.5, -9.0])
    ours, zero = quantizer(x, -2.628, 3.523), quantizer.zero_point(-2.628, 3.523)
    assert (int(zero), ours.frac_bits, ours.value_bits) == (84, 5, 8)
    assert ours.values.tolist() == [0, 84, 196, 0] and ours.saturated == 1


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=8))
def test_unsigned_inputs_are_bytes(values: list[float]) -> None:
    ours = PowerOfTwoInputQuantizer(signed=False)(np.array(values), min(values), max(values))
    assert ours.values.min() >= 0 and ours.values.max() <= 255


def test_per_axis_inputs() -> None:
    x = np.ones((1, 2, 2))
    ours = PowerOfTwoInputQuantizer(axis="per-axis")(x, np.zeros(2), np.array([1.5, 100.0]))
    assert ours.frac_bits.tolist() == [6, 0]


@pytest.mark.parametrize(("axis", "shape", "high"), [
    ("per-axis", (1, 2), np.ones(2)),
    ("per-axis", (1, 2, 3), np.ones(2)),
    ("per-tensor", (1, 2, 3), np.ones(3)),
])
def test_ranges_must_fit_the_axis(axis: str, shape: tuple[int, ...], high: np.ndarray) -> None:
    with pytest.raises(ValueError, match="per-"):
        PowerOfTwoInputQuantizer(axis=axis)(np.ones(shape), 0.0, high)


# --- outputs ---

@given(st.lists(st.integers(-(2**20), 2**20), min_size=3, max_size=3), hnp.arrays(np.float64, 3, elements=st.floats(1e-5, 1e-3)),
       st.floats(0.1, 100))
def test_outputs_follow_law_2(acc: list[int], scales: np.ndarray, reach: float) -> None:
    quantizer = PowerOfTwoOutputQuantizer()
    x = QFloat(FixedPoint(acc, 27), scales)
    multiplier, shift, _ = quantizer.requantization(x, reach)
    expected = numerics.requantize(x.fp.values, multiplier.values, -shift, -128, 127)
    np.testing.assert_array_equal(quantizer(x, reach).values, expected)


def test_output_saturation_is_counted() -> None:
    x = QFloat(FixedPoint([1000, 10], 27), 0.01)
    assert PowerOfTwoOutputQuantizer()(x, 1.0).saturated == 1


def test_a_qfloat_needs_scale_bits() -> None:
    quantizer = PowerOfTwoOutputQuantizer(scale_bits=None)
    assert quantizer(FixedPoint([640], 20, 6), 10.0).values.tolist() == [80]
    with pytest.raises(ValueError, match="scale_bits"):
        quantizer(QFloat(FixedPoint([1], 20), 0.5), 1.0)


def test_moving_range_has_no_sentinel() -> None:
    """A first maximum of exactly 1.0 is a range like any other."""
    assert float(moving_range(moving_range(None, 1.0), 2.0)) == pytest.approx(1.1, rel=1e-15)  # one float64 rounding
