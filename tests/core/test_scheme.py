"""The choices of both schemes, on bare vectors: covered, exact, and without a preferred unit of measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantizeml_core import numerics
from quantizeml_core.scheme import CHANNEL_FLOOR, FAST_COST, SILENT, Exact, Reference

GRIDS = [numerics.ANY, numerics.RELU, numerics.SIGNED]
RANGES = arrays(np.float64, 4, elements=st.floats(0.03, 30))
NARROW = arrays(np.float64, 4, elements=st.floats(0.1, 10))
UNITS = [-90, -40, -24, 24, 60]


@pytest.mark.parametrize("grid", GRIDS)
@given(acc=RANGES, need=RANGES)
def test_a_free_output_covers_its_range_exactly(grid: str, acc: np.ndarray, need: np.ndarray) -> None:
    choice = Exact().free(acc * 2.0**-12, need, grid)
    assert (choice.step >= need * (1 - 1e-9)).all()  # the table is entered with that margin
    assert (choice.step <= need * FAST_COST * (1 + 1e-9)).all()  # as above
    np.testing.assert_allclose(choice.acc_step, choice.step * numerics.multiplier_value(choice.multiplier, choice.shift), rtol=1e-15)  # one division


@pytest.mark.parametrize("grid", GRIDS)
@given(acc=RANGES, step=RANGES)
def test_a_given_output_is_reached_exactly(grid: str, acc: np.ndarray, step: np.ndarray) -> None:
    choice = Exact().given(acc * 2.0**-12, step, grid)
    assert (choice.step == step).all()
    assert (choice.acc_step >= acc * 2.0**-12 * (1 - 1e-9)).all()  # the table is entered with that margin
    assert (choice.acc_step == step * numerics.multiplier_value(choice.multiplier, choice.shift)).all()


@pytest.mark.parametrize(("ratio", "multiplier", "shift"), [(47.25 * 2.0**-16, 55, 16), (47.25 * 2.0**-17, 33, 16)], ids=["within a sixth", "fine"])
def test_the_wanted_multipliers_may_be_far_apart(ratio: float, multiplier: int, shift: int) -> None:
    """Between 47 and 55 at a shift of 16 no ratio rounds as two halves, and none below 33: there an accumulator is fine, and may be two fifths coarser."""
    choice = Exact().given(np.array([ratio]), np.ones(1), numerics.SIGNED)
    assert (choice.multiplier.tolist(), choice.shift.tolist()) == ([multiplier], [shift])


@given(acc=NARROW, need=NARROW)
def test_where_multipliers_are_powers_of_two_weights_give_way(acc: np.ndarray, need: np.ndarray) -> None:
    """Up to the next power of two, whatever the step; the table is entered with a margin."""
    choice = Exact().given(acc * 2.0**-6, need, numerics.POWERS)
    assert (choice.step == need).all() and (choice.multiplier == 128).all()
    assert (choice.acc_step == need * numerics.multiplier_value(choice.multiplier, choice.shift)).all()
    assert (choice.acc_step >= acc * 2.0**-6 * (1 - 1e-9)).all() and (choice.acc_step < acc * 2.0**-5 * (1 + 1e-9)).all()


@pytest.mark.parametrize(("low", "high", "padded", "zero_points", "steps"), [
    ([-2.0, -2.1], [2.0, 2.0], True, 1, 1), ([-2.0, -1.0], [2.0, 1.05], True, 1, 2), ([-2.0, -1.0], [2.0, 3.5], True, 2, 2), ([0.0, 0.0], [1.0, 1.1], True, 1, 1),
    ([0.0, 0.0], [1.0, 1.2], True, 1, 2), ([-2.118, -2.036, -1.804], [2.249, 2.429, 2.640], True, 1, 1), ([-2.0, -2.1], [2.0, 2.0], False, 2, 2),
], ids=["alike", "one half as wide", "off centre", "never negative", "never negative, not alike", "ImageNet", "no padding"])
def test_padded_inputs_share_zero_point_and_step_where_that_is_cheap(low: list[float], high: list[float], padded: bool, zero_points: int, steps: int) -> None:
    ends = np.array(low), np.array(high)
    step, zero_point = Exact().affine(*ends, False, padded)
    assert (len(set(zero_point.tolist())), len(set(step.tolist()))) == (zero_points, steps)
    assert (-zero_point * step <= ends[0] + step / 2).all() and ((255 - zero_point) * step >= ends[1] - step / 2).all()  # a rounded zero point moves the range by half


@pytest.mark.parametrize("unit", UNITS)
def test_steps_follow_the_unit_of_measure(unit: int) -> None:
    """A signal in volts or in nanovolts gives the same integers: a power of two moves every step by just that."""
    absmax, scheme = np.array([1.0, 0.3, 1e-5, 0.0]), Exact()
    low, high = np.array([-1.0, 0.0, -3.0, 0.0]), np.array([0.5, 2.0, -1.0, 0.0])
    scale = 2.0**unit
    assert (scheme.need(absmax * scale, 8, True) == scheme.need(absmax, 8, True) * scale).all()
    (step, zero), (moved, same) = (scheme.affine(low * k, high * k, False) for k in (1.0, scale))
    assert (moved == step * scale).all() and (same == zero).all()


def test_a_tensor_that_never_left_zero_still_has_a_step() -> None:
    dead = np.zeros(2)
    assert Exact().need(dead, 8, True).tolist() == [SILENT / 127] * 2
    step, zero_point = Exact().affine(dead, dead, False)
    assert (step > 0).all() and zero_point.tolist() == [0, 0]


def test_a_quiet_channel_is_resolved_as_its_tensor_allows() -> None:
    need = Exact().need(np.array([1.0, 1e-6, 0.0]), 8, True)
    assert need.tolist() == [1 / 127, CHANNEL_FLOOR / 127, CHANNEL_FLOOR / 127]


@pytest.mark.parametrize(("low", "high", "integer", "step", "zero_point"), [
    (0.0, 255.0, True, 1.0, 0), (0.0, 200.0, True, 1.0, 0), (0.0, 200.0, False, 200 / 255, 0), (-3.0, -1.0, False, 3 / 255, 255),
    (-1.0, 1.0, False, 2 / 255, 128), (5.0, 10.0, False, 10 / 255, 0), (-100.0, 155.0, True, 1.0, 100), (0.0, 4096.0, True, 4096 / 255, 0),
])
def test_affine_input(low: float, high: float, integer: bool, step: float, zero_point: int) -> None:
    got = Exact().affine(np.array([low]), np.array([high]), integer)
    assert (got[0].item(), got[1].item()) == (pytest.approx(step, rel=1e-12), zero_point)  # one float64 quotient


@given(low=RANGES, high=RANGES)
def test_an_affine_input_holds_its_range_and_zero(low: np.ndarray, high: np.ndarray) -> None:
    step, zero_point = Exact().affine(-low, high, False)
    assert ((0 <= zero_point) & (zero_point <= 255)).all()
    assert (np.abs(numerics.quantize(-low, step, -255, 255) + zero_point - np.rint(zero_point - low / step)) == 0).all()
    assert ((-low >= (0 - zero_point - 0.5) * step * (1 + 1e-9)) & (high <= (255 - zero_point + 0.5) * step * (1 + 1e-9))).all()  # half a step at either end


def test_the_reference_rounds_multipliers_and_keeps_the_error() -> None:
    acc, need = np.array([0.0123]), np.array([1.0])
    choice = Reference().free(acc, need, numerics.ANY)
    assert (choice.multiplier.item(), choice.shift.item()) == (202, 14)
    assert choice.acc_step == acc and choice.step == need


def test_the_reference_gives_additions_absolute_powers_of_two() -> None:
    from quantizeml_core.blocks import Block
    needs = {t: np.array([v / 127]) for t, v in (("a", 1.0), ("b", 3.0), ("s", 4.0))}
    given_steps = Reference().tied([Block("sum", "add", ("a", "b"), "s")], needs, dict.fromkeys("abs", 1), frozenset())
    assert {t: s.item() for t, s in given_steps.items()} == {"a": 2.0**-6, "b": 2.0**-5, "s": 2.0**-4}
