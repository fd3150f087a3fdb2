"""A softmax alone, and the product of two sequences: the integers of `quantizeml_core.attention`. Rounding counts as the identity in the gradient."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core import attention
from quantizeml_core.numerics import FLOAT32_EXACT

from ..backend import floor, matmul, minimum
from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedSoftmax(QuantizedLayer):
    """A softmax over the channels with 15 fractional bits, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        arrays = self.spec.block.arrays
        self.ratio = float(arrays["score_multiplier"][0]) * 2.0 ** -float(arrays["score_shift"][0])
        self.tail = Tail(self.spec.block, 1 << attention.SOFTMAX_FRACTION)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float64")
        below = ops.multiply(ops.subtract(ops.stop_gradient(ops.max(x, axis=-1, keepdims=True)), x), self.ratio)
        smooth = ops.exp(ops.multiply(below, -np.log(2.0) / 2**attention.FRACTION))
        share = ops.multiply(ops.divide(smooth, ops.sum(smooth, axis=-1, keepdims=True)), 2.0**attention.SOFTMAX_FRACTION)
        return self.tail(ops.round(ops.stop_gradient(self._exact(below))) + (share - ops.stop_gradient(share)))

    def _exact(self, below: Tensor) -> Tensor:
        index = ops.cast(minimum(floor(ops.add(below, 0.5)), attention.ENTRIES - 1), "int32")
        weights = ops.take(ops.convert_to_tensor(attention.TABLE.astype(np.float64)), index, axis=0)
        total = ops.sum(weights, axis=-1, keepdims=True)
        return floor(ops.divide(ops.add(ops.multiply(weights, 2.0 ** (attention.SOFTMAX_FRACTION + 1)), total), ops.multiply(total, 2.0)))


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedMatMul(QuantizedLayer):
    """The product of two sequences, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        x, y = self.spec.sources
        reach = int(x.shape[1] or 0) * x.limit * y.limit
        self.carrier = "float32" if reach < FLOAT32_EXACT else "float64"
        self.tail = Tail(self.spec.block, reach)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor, y: Tensor) -> Tensor:
        rows, other = (ops.reshape(ops.cast(t, self.carrier), (-1, int(np.prod(t.shape[1:3])), t.shape[3])) for t in (x, y))
        sums = matmul(rows, ops.transpose(other, (0, 2, 1)) if self.spec.block.perm else other)
        return self.tail(ops.reshape(sums, (-1, *x.shape[1:3], sums.shape[-1])))
