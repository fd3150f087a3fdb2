"""Functions of bytes: the entries are the formula, steps keep clear of ties, and what a function does not hear is left out of its range."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from quantizeml_core import lookup
from quantizeml_core.blocks import Activation, Block
from quantizeml_core.calibration import Range
from quantizeml_core.clearance import products_are_clear
from quantizeml_core.kernels import KERNELS
from quantizeml_core.lookup import Function
from quantizeml_core.tables import FUNCTIONS

SWISH, HARD = Activation("swish"), Activation("hard_swish")
NAMES = sorted(FUNCTIONS)


def test_entries_are_the_formula() -> None:
    table = lookup.entries(Function(Activation("leaky_relu", alpha=0.25), 1.0, 0.5), np.array([0.5]), np.array([0.125]), -128, 127)
    reals = [i * Fraction(1, 2) + 1 for i in range(-128, 128)]
    expected = [round(((r if r > 0 else r / 4) - Fraction(1, 2)) / Fraction(1, 8)) for r in reals]
    assert table.tolist() == [[min(max(e, -128), 127) for e in expected]]


def test_each_channel_has_its_own_where_steps_differ() -> None:
    table = lookup.entries(Function(HARD), np.array([0.1, 0.2, 0.1]), np.array([0.05]), -128, 127)
    assert table.shape == (3, 256) and np.array_equal(table[0], table[2]) and not np.array_equal(table[0], table[1])


def test_a_value_finds_the_entry_of_its_channel() -> None:
    x = np.array([[[[-128, 0]], [[127, 1]]]])
    entries = np.stack([np.arange(-128, 128), np.arange(127, -129, -1)])
    block = Block("f", "lookup", ("x",), "y", arrays={"entries": entries.astype(np.int8)})
    assert KERNELS["lookup"](block, x).tolist() == [[[[-128, 0]], [[-128, -2]]]]
    assert KERNELS["lookup"](block.with_arrays(entries=entries[:1]), x[..., 0, :]).tolist() == [[[-128, 0], [127, 1]]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("middle", [0.0, 1.7, -0.9])
def test_a_step_is_clear_of_ties_and_hardly_wider(name: str, middle: float) -> None:
    function, need = Function(Activation(name, alpha=0.1), 0.3, middle), np.array([0.0173])
    step = lookup.clear_step(function, np.array([0.06]), need)
    assert lookup.is_clear(function, 0.06, step[0]) and need[0] <= step[0] * (1 + 1e-12) and step[0] < 1.07 * need[0]
    assert abs(middle / step[0] - round(middle / step[0])) < 1e-9


def test_several_steps_stay_as_they_are() -> None:
    need = np.array([0.1, 0.2])
    assert lookup.clear_step(Function(SWISH), np.array([0.1]), need) is need
    assert np.array_equal(lookup.clear_step(Function(SWISH), need, need[:1]), need[:1])


@pytest.mark.parametrize("activation, low, high, expected", [
    (HARD, -30.0, 10.0, (-3.0, 10.0)),
    (Activation("hard_sigmoid"), -30.0, 30.0, (-3.0, 3.0)),
    (SWISH, -2.0, 9.0, (-2.0, 9.0)),
    (Activation("clip", 1.0, -1.0), -50.0, 50.0, (-1.0, 1.0)),
])
def test_a_range_ends_where_the_function_is_flat(activation: Activation, low: float, high: float, expected: tuple[float, float]) -> None:
    width = expected[1] - expected[0]
    first, last = lookup.varying(activation, low, high, 0.01)
    wanted = max(low, expected[0] - lookup.BEYOND * width), min(high, expected[1] + lookup.BEYOND * width)
    assert np.allclose((first, last), wanted, atol=0.05 * width)  # where it begins to vary by a quarter of a unit, on a grid


def test_a_flat_range_is_kept() -> None:
    assert lookup.varying(HARD, -9.0, -5.0, 0.01) == (-9.0, -5.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_error_is_that_of_a_normal_sample(name: str) -> None:
    function, steps = Function(Activation(name, alpha=0.1), 0.2, 0.1), (np.array([0.11]), np.array([0.07]))
    seen = Range(np.array([-1.0, -5.0]), np.array([1.0, 5.0]), mean=np.array([0.3, -1.0]), deviation=np.array([0.4, 2.0]))
    drawn = seen.mean[:, None] + seen.deviation[:, None] * np.random.default_rng(0).normal(size=(2, 200_000))
    x = np.clip(drawn, seen.low[:, None] - function.offset, seen.high[:, None] - function.offset)
    real = lookup.apply(function.activation, x + function.offset) - function.middle
    table = lookup.look_up(lookup.entries(function, *steps, -128, 127), np.clip(np.rint(x.T / steps[0]), -128, 127).astype(int)).T
    found = lookup.mean_error(function, *steps, seen)
    assert np.allclose(found, (real - table * steps[1]).mean(axis=1), atol=0.03 * steps[1][0])  # of 512 quantiles some ten fall into a step


@pytest.mark.parametrize("multiplier, shift, second, expected", [
    (131, 14, (0, 127), True),       # 8192 of 16384 is a tie, but no product of these reaches it, and -8192 is negative
    (131, 14, (-128, 127), False),   # -128 * -64
    (131, 13, (0, 127), False),      # 64 * 64
    (128, 14, (0, 127), False),
])
def test_products_near_a_tie_are_found(multiplier: int, shift: int, second: tuple[int, int], expected: bool) -> None:
    assert products_are_clear(np.array([multiplier] * 3), np.array([shift]), (-128, 127), second, -128, 127) is expected


def test_products_that_are_clear_are_rounded_alike_in_any_order() -> None:
    x, y = np.meshgrid(np.arange(-128, 128), np.arange(128))
    for m in range(128, 256):
        if not products_are_clear(np.array([m]), np.array([14]), (-128, 127), (0, 127), -128, 127):
            continue
        ratio = np.float32(m * 2.0**-14)
        tie = (x * y < 0) & (x * y * m % 2**14 == 2**13)
        one = np.rint((x * y).astype(np.float32) * ratio)
        other = np.rint(x.astype(np.float32) * (y.astype(np.float32) * ratio) + np.float32(128)) - 128
        law = (x * y * m + 2**13) >> 14
        inside = (law >= -128) & (law <= 127) & ~tie
        assert np.array_equal(one[inside], law[inside]) and np.array_equal(other[inside], law[inside])


def test_several_multipliers_are_never_clear() -> None:
    assert not products_are_clear(np.array([131, 133]), np.array([16]), (0, 1), (0, 1), 0, 127)
