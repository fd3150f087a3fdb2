"""The numpy kernels against loops over Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.kernels import KERNELS, max_pool

RNG = np.random.default_rng(7)


def _loop_convolution(x: np.ndarray, w: np.ndarray, groups: int, strides: tuple[int, int], pads: tuple[int, ...], pad: np.ndarray) -> np.ndarray:
    n, c, h, wd = x.shape
    padded = np.tile(pad.reshape(1, c, 1, 1), (n, 1, h + pads[0] + pads[2], wd + pads[1] + pads[3]))
    padded[:, :, pads[0] : pads[0] + h, pads[1] : pads[1] + wd] = x
    f, cg, kh, kw = w.shape
    oh, ow = (padded.shape[2] - kh) // strides[0] + 1, (padded.shape[3] - kw) // strides[1] + 1
    out = np.zeros((n, f, oh, ow), np.int64)
    for b, o, i, j in itertools.product(range(n), range(f), range(oh), range(ow)):
        first = (o // (f // groups)) * cg
        window = padded[b, first : first + cg, i * strides[0] : i * strides[0] + kh, j * strides[1] : j * strides[1] + kw]
        out[b, o, i, j] = sum(int(a) * int(v) for a, v in zip(window.ravel(), w[o].ravel(), strict=True))
    return out


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("strides", "pads"), [((1, 1), (0, 0, 0, 0)), ((2, 1), (1, 0, 2, 1)), ((2, 2), (1, 1, 0, 0))])
def test_convolution(groups: int, strides: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    x, pad = RNG.integers(0, 256, (2, 4, 5, 6)), np.array([3, 0, 255, 7])
    weight = RNG.integers(-127, 128, (8, 4 // groups, 3, 2))
    block = Block("c", "conv2d", ("x",), "y", strides=strides, pads=pads, groups=groups, arrays={"weight": weight, "pad_value": pad})
    assert np.array_equal(KERNELS["conv2d"](block, x), _loop_convolution(x, weight, groups, strides, pads, pad))


def _loop_transposed(x: np.ndarray, w: np.ndarray, strides: tuple[int, int], pads: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    out = np.zeros((len(x), len(w), *size), np.int64)
    for n, f, c, i, j, a, b in itertools.product(*map(range, (len(x), *w.shape[:2], *x.shape[2:], *w.shape[2:]))):
        row, column = strides[0] * i + a - pads[0], strides[1] * j + b - pads[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            out[n, f, row, column] += int(x[n, c, i, j]) * int(w[f, c, a, b])
    return out


@pytest.mark.parametrize(("strides", "pads", "size"), [((1, 1), (0, 0, 0, 0), (5, 6)), ((2, 3), (1, 0, 0, 1), (6, 13)), ((4, 2), (0, 1, -2, -1), (13, 10))])
def test_transposed_convolution(strides: tuple[int, int], pads: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    x, weight = RNG.integers(-128, 128, (2, 3, 3, 5)), RNG.integers(-127, 128, (4, 3, 3, 2))
    block = Block("t", "conv_transpose2d", ("x",), "y", strides=strides, pads=pads, arrays={"weight": weight})
    assert np.array_equal(KERNELS["conv_transpose2d"](block, x), _loop_transposed(x, weight, strides, pads, size))


def test_accumulators_beyond_float32_stay_exact() -> None:
    x, weight = np.full((1, 4096, 1, 1), 127), np.full((1, 4096, 1, 1), 127)
    weight[0, 0] = 126
    block = Block("c", "conv2d", ("x",), "y", arrays={"weight": weight})
    assert KERNELS["conv2d"](block, x).item() == 4095 * 127 * 127 + 127 * 126


def test_max_pool_pads_never_win() -> None:
    x = np.full((1, 1, 3, 3), -5)
    assert max_pool(x, Pool("max", (2, 2), (2, 2), (1, 1, 0, 0))).tolist() == [[[[-5, -5], [-5, -5]]]]


def test_products_repeat_axes_of_size_one() -> None:
    x, y = RNG.integers(-128, 128, (2, 3, 4, 5)), RNG.integers(-128, 128, (2, 3, 1, 1))
    block = Block("m", "multiply", ("x", "y"), "z", arrays={"multiplier": np.array([131]), "shift": np.array([15]), "range": np.array([-128, 127])})
    expected = [[[[(int(v) * int(y[n, c, 0, 0]) * 131 + 16384) >> 15 for v in row] for row in x[n, c]] for c in range(3)] for n in range(2)]
    assert KERNELS["multiply"](block, x, y).tolist() == expected


def test_upsampling_repeats_pixels() -> None:
    block = Block("u", "upsample2d", ("x",), "y", strides=(2, 3))
    assert KERNELS["upsample2d"](block, np.array([[[[1, -2]]]])).tolist() == [[[[1, 1, 1, -2, -2, -2]] * 2]]


def test_average_pool_sums_windows_padded_with_zeros() -> None:
    block = Block("a", "pool2d", ("x",), "y", pool=Pool("avg", (2, 2), (2, 2), (1, 1, 0, 0)))
    assert KERNELS["pool2d"](block, np.array([[[[1, -2, 3], [4, 5, 6], [7, 8, 9]]]])).tolist() == [[[[1, 1], [11, 28]]]]


def test_global_average_is_a_sum_after_the_activation() -> None:
    block = Block("c", "conv2d", ("x",), "y", activation=Activation("relu"), pool=Pool("gap"), arrays={"weight": np.ones((1, 1, 1, 1), np.int64)})
    assert KERNELS["conv2d"](block, np.array([[[[-7, 2], [3, -1]]]])).item() == 5


def test_bound_is_applied_on_the_accumulator() -> None:
    arrays = {"weight": np.ones((1, 1, 1, 1), np.int64), "bound": np.array([4]), "multiplier": np.array([1]), "shift": np.array([1]), "range": np.array([-128, 127])}
    block = Block("c", "conv2d", ("x",), "y", activation=Activation("relu", bound=1.0), arrays=arrays)
    assert KERNELS["conv2d"](block, np.array([[[[9, 3, -3]]]])).tolist() == [[[[2, 2, 0]]]]
