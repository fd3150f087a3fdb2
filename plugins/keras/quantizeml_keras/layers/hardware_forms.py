"""Mad normalization and attention with a shiftmax, the integers of `quantizeml_core.hardware_forms`.

Gradients are those of the formulas in real numbers: rounding counts as the identity, floors and maxima too.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core.hardware_forms import EXPONENTS, FRACTION, HALF_POWERS

from ..backend import floor, matmul, maximum
from ..quantize_ops import round_through
from .attention import QuantizedAttention
from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedMadNormalization(QuantizedLayer):
    """x divided by the mean absolute value of its channels, then the tail. It has no weights: they are in its neighbours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channels = float(self.spec.shape[1])
        self.tail = Tail(self.spec.block, int(self.channels) << FRACTION)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float64")
        total = maximum(ops.sum(ops.abs(x), axis=-1, keepdims=True), 1.0)
        doubled = ops.add(ops.multiply(x, self.channels * 2.0 ** (FRACTION + 1)), total)
        exact = floor(ops.divide(doubled, ops.multiply(total, 2.0)))
        smooth = ops.divide(ops.multiply(x, self.channels * 2.0**FRACTION), total)
        return self.tail(round_through(ops.add(smooth, ops.stop_gradient(ops.subtract(exact, smooth)))))


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedShiftAttention(QuantizedAttention):
    """Attention with powers of two for a softmax, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tail = Tail(self.spec.block, int(np.prod(self.spec.shape[2:])) * self.spec.sources[2].limit << FRACTION)

    def call(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = ops.shape(v)
        q, k, v = (self._tokens(ops.cast(t, "float64")) for t in (q, k, v))
        scores = ops.multiply(matmul(q, ops.transpose(k, (0, 1, 3, 2))), self.ratio)
        below = ops.subtract(scores, ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
        smooth = ops.multiply(self._mean(ops.exp(ops.multiply(below, float(np.log(2.0)))), v), 2.0**FRACTION)
        exact = matmul(self._weights(floor(scores)), v)
        mean = round_through(ops.add(smooth, ops.stop_gradient(ops.subtract(exact, smooth))))
        return self.tail(ops.reshape(ops.transpose(mean, (0, 2, 1, 3)), (shape[0], shape[1], shape[2], int(self.spec.shape[1]))))

    def _weights(self, whole: Tensor) -> Tensor:
        below = ops.add(ops.subtract(whole, ops.max(whole, axis=-1, keepdims=True)), float(EXPONENTS))
        total = ops.sum(ops.where(below >= 0, self._power(below), 0.0), axis=-1, keepdims=True)
        rounded = ops.sum(ops.cast(total[..., None] >= ops.convert_to_tensor(HALF_POWERS), "float64"), axis=-1)
        exponent = ops.add(ops.subtract(below, rounded), float(FRACTION))
        return ops.where(ops.logical_and(below >= 0, exponent >= 0), self._power(exponent), 0.0)

    def _power(self, exponent: Tensor) -> Tensor:
        """2^n from a table: powers of some backends are off by a last bit."""
        index = ops.cast(ops.clip(exponent, 0, 2 * EXPONENTS), "int32")
        return ops.take(ops.convert_to_tensor(2.0 ** np.arange(2 * EXPONENTS + 1)), index, axis=0)
