"""Integer attention: the formula in Python's own integers, and near softmax in real numbers."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.attention import (
    ENTRIES,
    FRACTION,
    SOFTMAX_FRACTION,
    TABLE,
    attend,
    integer_mask,
    product,
    score_multiplier,
    softmax,
    split_heads,
)

RNG = np.random.default_rng(0)


def drawn(channels: int, tokens: int) -> np.ndarray:
    return RNG.integers(-128, 128, (2, channels, 1, tokens))


def by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray, multiplier: int, shift: int) -> list[list[int]]:
    """One head of one sample, (channels, tokens) each."""
    rows = []
    for i in range(q.shape[1]):
        scores = [sum(int(a) * int(b) for a, b in zip(q[:, i], k[:, t], strict=True)) for t in range(k.shape[1])]
        weights = [int(TABLE[min(((max(scores) - s) * multiplier + 2 ** (shift - 1)) >> shift, ENTRIES - 1)]) for s in scores]
        rows.append([(512 * sum(w * int(x) for w, x in zip(weights, c, strict=True)) + sum(weights)) // (2 * sum(weights)) for c in v])
    return rows


def test_it_is_the_formula() -> None:
    q, k, v = drawn(8, 5), drawn(8, 5), drawn(6, 5)
    m, f = score_multiplier(0.003)
    y = attend(q, k, v, 2, m, f)
    for head in (0, 1):
        parts = [t[1].reshape(2, -1, 5)[head] for t in (q, k, v)]
        assert y[1].reshape(2, 3, 5)[head].T.tolist() == by_hand(*parts, m, f)


@pytest.mark.parametrize(("tokens", "sharpness"), [(16, 2e-6), (16, 1e-3), (197, 1e-4), (1024, 1e-5)])
def test_it_is_near_softmax(tokens: int, sharpness: float) -> None:
    q, k, v = drawn(32, tokens), drawn(32, tokens), drawn(32, tokens)
    y = attend(q, k, v, 1, *score_multiplier(sharpness * np.log2(np.e) * 2**FRACTION)) / 2**FRACTION
    scores = np.einsum("ncwt,ncwu->ntu", q, k) * sharpness
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    real = np.einsum("ntu,ncwu->ncwt", weights / weights.sum(axis=-1, keepdims=True), v)
    # Half a unit of u is 0.14 % of a weight, half a unit of e 2^-16 for each token; both average out over tokens, so one unit of v in 128 is far.
    assert np.abs(y - real).max() < 0.5


@pytest.mark.parametrize("name", ["causal", "a bias for each head"])
def test_a_mask_is_near_that_of_softmax(name: str) -> None:
    sharpness, tokens = 1e-3, 32
    q, k, v = drawn(16, tokens), drawn(16, tokens), drawn(16, tokens)
    mask = np.where(np.tri(tokens, dtype=bool), 0, -np.inf)[None] if name == "causal" else RNG.normal(size=(2, tokens, tokens))
    y = attend(q, k, v, 2, *score_multiplier(sharpness * np.log2(np.e) * 2**FRACTION), integer_mask(mask, sharpness)) / 2**FRACTION
    a, b, c = (split_heads(t, 2) for t in (q, k, v))
    scores = a @ b.swapaxes(-1, -2) * sharpness + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    real = weights @ c / weights.sum(axis=-1, keepdims=True)
    # As without a mask; half a score, 5e-4 of a weight, comes on top of it.
    assert np.abs(split_heads(y, 2) - real).max() < 0.5


def test_a_hidden_key_counts_for_nothing() -> None:
    q, v = np.zeros((1, 1, 1, 3), np.int64), np.array([1, 5, 127]).reshape(1, 1, 1, 3)
    mask = integer_mask(np.array([[[0, -np.inf, -np.inf], [0, 0, -1e9], [0, 0, 0]]]), 1e-12)
    assert (attend(q, q, v, 1, *score_multiplier(1e-10), mask) / 2**FRACTION).ravel().round(2).tolist() == [1.0, 3.0, 44.33]


@pytest.mark.parametrize(("channels", "step"), [(2, 1e-3), (10, 0.05), (1000, 0.02)])
def test_a_softmax_alone_is_near_that_of_real_numbers(channels: int, step: float) -> None:
    x = RNG.integers(-128, 128, (50, channels, 1, 2))
    y = softmax(x, *score_multiplier(step * np.log2(np.e) * 2**FRACTION)) / 2**SOFTMAX_FRACTION
    real = np.exp((x - x.max(axis=1, keepdims=True)) * step)
    real /= real.sum(axis=1, keepdims=True)
    # 2^-9 of itself for the exponent, on both sides of the quotient; 2^-16 of the largest, and of itself for each channel, for the table; half of 2^-15.
    assert (np.abs(y - real) <= real * 2.0**-8 + real.max(axis=1, keepdims=True) * 2.0**-16 + real * channels * 2.0**-16 + 2.0**-16).all()


def test_a_product_sums_channels_and_pixels_or_channels_and_channels() -> None:
    x, y, z = drawn(5, 3)[:, :, :1], RNG.integers(-128, 128, (2, 4, 1, 5)), RNG.integers(-128, 128, (2, 5, 2, 2))
    assert np.array_equal(product(x, y, False)[:, :, 0], np.einsum("nkt,nsk->nst", x[:, :, 0], y[:, :, 0]))
    assert np.array_equal(product(x, z, True)[:, :, 0], np.einsum("nkt,nks->nst", x[:, :, 0], z.reshape(2, 5, 4)))


@pytest.mark.parametrize("ratio", [1e-12, 3e-5, 0.5, 7.0])
def test_the_multiplier_is_close(ratio: float) -> None:
    m, f = score_multiplier(ratio)
    assert abs(m * 2.0**-f / ratio - 1) <= 2**-15 and 1 <= f <= 60


def test_the_table_starts_at_one_and_ends_at_nothing() -> None:
    assert (TABLE[0], TABLE[256], TABLE[-2], TABLE[-1]) == (2**15, 2**14, 1, 0)
