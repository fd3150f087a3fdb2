"""Integer local response normalization: equal to the formula in exact arithmetic, near the real value, within its reach."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizeml_core.errors import ModelError
from quantizeml_core.local_response import BASE, FRACTION, respond, squares_multiplier


def by_hand(q: list[int], window: int, multiplier: int, shift: int) -> list[int]:
    """The formula in Python's own integers."""
    out = []
    for c, value in enumerate(q):
        squares = sum(v * v for v in q[max(c - (window - 1) // 2, 0):c + window // 2 + 1])
        v, j = ((squares * multiplier + 2 ** (shift - 1)) >> shift) + 2**16, 0
        while v >= 2**20:
            v, j = v >> 4, j + 1
        r = isqrt(2**44 // v)
        out.append((value * r * isqrt(2**12 * r) + 2 ** (12 + 3 * j)) >> (13 + 3 * j))
    return out


@settings(max_examples=200, deadline=None)
@given(q=st.lists(st.integers(-128, 255), min_size=1, max_size=20), window=st.integers(1, 9), multiplier=st.integers(2**14, 2**15 - 1), shift=st.integers(1, 40))
def test_it_is_the_formula(q: list[int], window: int, multiplier: int, shift: int) -> None:
    assert respond(np.array(q)[None, :, None, None], window, multiplier, shift).ravel().tolist() == by_hand(q, window, multiplier, shift)


@pytest.mark.parametrize("strength", [1e-9, 1e-5, 1e-3, 0.1, 0.24])
def test_it_is_near_the_real_value(strength: float) -> None:
    q = np.random.default_rng(0).integers(-128, 128, (8, 96, 4, 4))
    z = respond(q, 5, *squares_multiplier(strength, 1.0, "")) / 2**FRACTION
    padded = np.pad(np.square(q), ((0, 0), (2, 2), (0, 0), (0, 0)))
    real = q * (1 + strength * sum(padded[:, i:i + 96] for i in range(5))) ** -0.75
    # 0.07 % of the roots and half a unit of z: see the module.
    assert (np.abs(z - real) <= np.abs(real) * 7e-4 + 2.0 ** -(FRACTION + 1)).all()
    assert np.abs(z).max() <= 128


def test_an_input_that_drowns_the_bias_is_refused() -> None:
    assert squares_multiplier(0.2, 1.0, "")[0] < 2**15
    with pytest.raises(ModelError, match=r"`n`: one unit of its input, 2, is squared to 0.8 times its bias"):
        squares_multiplier(0.2, 2.0, "`n`")


def test_nothing_stays_nothing() -> None:
    assert not respond(np.zeros((1, 4, 1, 1), np.int64), 5, 2**14, BASE).any()
