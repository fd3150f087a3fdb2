"""Integer layer normalization: equal to the formula in exact arithmetic, near the real quotient, and the same in onnxruntime."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizeml_core.layernorm import FRACTION, integer_epsilon, normalize, reach


def by_hand(x: list[int], epsilon: int) -> list[int]:
    """The formula in Python's own integers."""
    variance = max(len(x) * sum(v * v for v in x) - sum(x) ** 2 + epsilon, 1)
    j = next(j for j in range(-10, 40) if variance < Fraction(4) ** (j + 11))
    scaled = int(variance / Fraction(4) ** j)
    root = isqrt(2**44 // scaled)
    return [((len(x) * v - sum(x)) * root + 2 ** (11 + j)) >> (12 + j) for v in x]


@settings(max_examples=200, deadline=None)
@given(x=st.lists(st.integers(-128, 127), min_size=1, max_size=40), epsilon=st.integers(0, 10**6))
def test_it_is_the_formula(x: list[int], epsilon: int) -> None:
    assert normalize(np.array(x)[None, :, None, None], epsilon).ravel().tolist() == by_hand(x, epsilon)


@pytest.mark.parametrize("channels", [1, 2, 3, 64, 192, 2048])
def test_it_is_near_the_real_quotient_and_within_its_reach(channels: int) -> None:
    x = np.random.default_rng(channels).integers(-128, 128, (16, channels, 3, 3))
    z = normalize(x, 1) / 2**FRACTION
    real = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1 / channels**2)
    # 2^-11 of the reciprocal root, 2^-20 of the variance and half a unit of z: see the module.
    assert np.abs(z - real).max() <= np.abs(real).max() * 2**-10.9 + 2.0 ** -(FRACTION + 1)
    assert np.abs(normalize(x, 0)).max() <= reach(channels)


@pytest.mark.parametrize("values", [[7, 7, 7], [0, 0, 0], [-128]])
def test_no_variance_gives_zero(values: list[int]) -> None:
    assert not normalize(np.array(values)[None, :, None, None], 0).any()


def test_one_against_all_others_stays_within_the_reach() -> None:
    x = np.zeros((1, 2048, 1, 1), np.int64)
    x[0, 0] = 127
    assert np.abs(normalize(x, 0)).max() <= reach(2048)


def test_epsilon_in_units_of_the_variance() -> None:
    assert integer_epsilon(1e-6, 192, 0.05) == 15
