"""A complex state turned from frame to frame: the formula in Python's own integers, near the real one, the same streamed and at once."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.kernels import recurrent, recurrent_rows
from quantizeml_core.memory import MEMORIES
from quantizeml_core.recurrence import FRACTION, LIMIT, advance, integer_coefficients

RNG = np.random.default_rng(0)


def turning(channels: int, most: float = 0.999) -> np.ndarray:
    size, angle = RNG.uniform(0.5, most, channels), RNG.uniform(-np.pi, np.pi, channels)
    return np.stack([size * np.cos(angle), size * np.sin(angle)])


def test_it_is_the_formula() -> None:
    a, b = (int(c[0]) for c in integer_coefficients(turning(1)))
    r, i, x = -123456789, 987654, -77
    real, imaginary = ((a * r - b * i + 2**19) >> 20) + (x << 10), (a * i + b * r + 2**19) >> 20
    state = np.array([r, i], np.int64).reshape(1, 1, 2)
    assert advance(np.array([[x]]), state, np.array([[a], [b]])).ravel().tolist() == [real, imaginary]


@pytest.mark.parametrize("most", [0.9, 0.999])
def test_it_is_near_the_recurrence_of_real_numbers(most: float) -> None:
    coefficients, frames, channels = turning(16, most), 400, 16
    x, state, real = RNG.integers(-128, 128, (frames, 3, channels)), np.zeros((3, channels, 2), np.int64), np.zeros((3, channels), complex)
    worst = largest = 0.0
    for frame in x:
        state, real = advance(frame, state, integer_coefficients(coefficients)), (coefficients[0] + 1j * coefficients[1]) * real + frame
        worst, largest = max(worst, np.abs(state[..., 0] + 1j * state[..., 1] - real * 2**FRACTION).max()), max(largest, np.abs(real).max())
    # Each step adds half a unit to either part, and 2^-20.5 of the state for A; both shrink by |A| from then on.
    assert worst <= (2**-0.5 + largest * 2**FRACTION * 2**-20.5) / (1 - most)


def test_a_state_saturates() -> None:
    state = np.full((1, 1, 2), LIMIT)
    assert advance(np.array([[127]]), state, integer_coefficients(np.array([[1.0], [-1.0]]))).ravel().tolist() == [LIMIT, 0]


def test_streamed_or_at_once_it_is_the_same() -> None:
    block = Block("turn", "recurrent", ("x",), "y").with_arrays(coefficients=integer_coefficients(turning(4)))
    x, memory = RNG.integers(-128, 128, (9, 4, 2, 3)), MEMORIES["recurrent"]
    state, streamed = np.zeros((1, *memory.shape(block, x.shape[1:])), np.int64), []
    for frame in x:
        y, state = memory.step(block, frame[None], state)
        streamed.append(y)
    assert np.array_equal(np.concatenate(streamed), recurrent_rows(block, x)) and np.array_equal(recurrent(block, x[:1]), streamed[0])
