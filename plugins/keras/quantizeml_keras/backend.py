"""What the exact integer laws need of a Keras backend: float64. JAX has it only when told so, for the whole process; and outside TensorFlow some of Keras'
operations give float32 whatever they are given (`floor` on JAX; `floor`, `matmul`, `maximum`, `minimum` on PyTorch) or refuse float64 (`max_pool` on
JAX). The functions here give the type of their operands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import keras
from keras import ops

Tensor = Any


def require_float64() -> None:
    """Switch JAX to 64 bits; TensorFlow and PyTorch have them."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)


def floor(x: Tensor) -> Tensor:
    """The largest whole number that is no larger than x."""
    return _narrow_or(x, ops.floor, lambda: ops.subtract(ops.round(x), ops.cast(ops.round(x) > x, x.dtype)))


def maximum(x: Tensor, y: Tensor | float) -> Tensor:
    """The larger of x and y, element by element."""
    return _narrow_or(x, lambda x: ops.maximum(x, y), lambda: ops.where(x >= y, x, ops.cast(y, x.dtype)))


def minimum(x: Tensor, y: Tensor | float) -> Tensor:
    """The smaller of x and y, element by element."""
    return _narrow_or(x, lambda x: ops.minimum(x, y), lambda: ops.where(x <= y, x, ops.cast(y, x.dtype)))


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """The product of the matrices on the last two axes."""
    return ops.einsum("...ij,...jk->...ik", x, y) if keras.backend.backend() == "torch" else ops.matmul(x, y)


def max_pool(x: Tensor, size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The largest of each window of images (N, H, W, C), without padding."""
    return _narrow_or(x, lambda x: ops.max_pool(x, size, strides, padding="valid", data_format="channels_last"), lambda: _largest(x, size, strides))


def _largest(x: Tensor, size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """Place by place of the window."""
    (down, across), (height, width) = strides, ((ops.shape(x)[axis + 1] - size[axis]) // strides[axis] for axis in (0, 1))
    places = [(i, j) for i in range(size[0]) for j in range(size[1])]
    return reduce(maximum, [x[:, i : i + height * down + 1 : down, j : j + width * across + 1 : across] for i, j in places])


def _narrow_or(x: Tensor, usual: Callable[[Tensor], Tensor], wide: Callable[[], Tensor]) -> Tensor:
    """Keras' own operation where it keeps the type."""
    kept = keras.backend.backend() == "tensorflow" or keras.backend.standardize_dtype(x.dtype) != "float64"
    return usual(x) if kept else wide()
