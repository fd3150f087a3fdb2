"""Weights of few bits are rounded against the data: never worse on it than the nearest integers, whatever the batches were."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.rounding import PLACES, TapObserver, _rounded
from quantizeml_core.scheme import least_error_step

RNG = np.random.default_rng(5)


def conv(f: int = 3, c: int = 2, groups: int = 1, **extra: object) -> Block:
    return Block("c", "conv2d", ("x",), "y", pads=(1, 1, 1, 1), groups=groups, arrays={"weight": RNG.normal(size=(f, c // groups, 3, 3)), **extra})


def covariance_of(block: Block, *batches: np.ndarray) -> np.ndarray:
    observer = TapObserver(block)
    for batch in batches:
        observer.update(batch)
    return observer.covariance


def test_covariance_does_not_depend_on_batches() -> None:
    x = RNG.normal(size=(12, 2, 7, 5)).astype("float32")
    assert np.array_equal(covariance_of(conv(), x), covariance_of(conv(), x[:5], x[5:]))


def test_covariance_of_every_place_of_a_small_image() -> None:
    block, x = conv(), RNG.normal(size=(50, 2, 2, 2)).astype("float32")
    assert PLACES > 4
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(200, 18)
    expected = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    assert np.allclose(covariance_of(block, x)[0], expected, rtol=1e-4, atol=1e-6)  # kept with 20 significant bits


def test_padding_value_is_seen() -> None:
    x = np.full((3, 2, 4, 4), 7.0, "float32")
    assert not covariance_of(conv(pad_value=np.full(2, 7.0)), x).any() and covariance_of(conv(), x).any()


@pytest.mark.parametrize("groups", [1, 4])
def test_never_worse_than_nearest(groups: int) -> None:
    taps, filters = 12, 8
    units = RNG.normal(0, 3, (filters, taps))
    mixed = RNG.normal(size=(groups, taps, taps))
    covariance = mixed @ mixed.transpose(0, 2, 1)
    nearest = np.clip(np.rint(units), -7, 7)
    found = _rounded(units, nearest, covariance, 7)

    def error(integers: np.ndarray) -> np.ndarray:
        parts = (integers - units).reshape(groups, -1, taps)
        return np.einsum("gfk,gkl,gfl->gf", parts, covariance, parts).ravel()

    assert (error(found) <= error(nearest) * 1.02).all()  # compared with one hundredth of damping
    assert error(found).sum() < 0.8 * error(nearest).sum() and np.abs(found).max() <= 7


def test_without_signal_the_nearest_integers_stay() -> None:
    units = RNG.normal(0, 3, (2, 4))
    assert np.array_equal(_rounded(units, np.rint(units), np.zeros((1, 4, 4)), 7), np.rint(units))


def test_a_filter_that_is_representable_keeps_its_step() -> None:
    weight = np.array([[7.0, -3.0, 1.0], [0.0, 0.0, 0.0], [7.0, 0.9, -1.1]])
    step = least_error_step(weight, np.array([1.0, 0.0, 1.0]), 7)
    assert step[0] == 1.0 and step[1] == 0.0 and step[2] <= 1.0
