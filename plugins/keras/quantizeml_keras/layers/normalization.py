"""Layer normalization over the channels of each pixel, the integers of `quantizeml_core.layernorm`.

Its gradient is that of the formula in real numbers on the same integers: rounding counts as the identity.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core import layernorm

from ..backend import floor, maximum
from ..quantize_ops import round_through
from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail

LEVELS = np.array([4.0**k for k in range(1, layernorm.LEVELS)])
EXPONENTS = np.arange(layernorm.SMALLEST_J, layernorm.SMALLEST_J + layernorm.LEVELS)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedLayerNormalization(QuantizedLayer):
    """(x - mean) / sqrt(variance + epsilon) with 10 fractional bits, then the tail. It has no weights: they are in its neighbours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channels = int(self.spec.shape[1])
        self.epsilon = float(self.spec.block.arrays["epsilon"][0])
        self.tail = Tail(self.spec.block, layernorm.reach(self.channels))

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float64")
        x = ops.reshape(x, (-1, self.channels)) if self.spec.block.flatten else x
        deviation, variance = self._moments(x)
        smooth = ops.divide(ops.multiply(deviation, 2.0**layernorm.FRACTION), ops.sqrt(variance))
        rest = ops.stop_gradient(ops.subtract(self._exact(deviation, variance), smooth))
        return self.tail(round_through(ops.add(smooth, rest)))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """C (x - mean), and C^2 (variance + epsilon), at least 1."""
        total = ops.sum(x, axis=-1, keepdims=True)
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        variance = ops.add(ops.subtract(ops.multiply(squares, float(self.channels)), ops.square(total)), self.epsilon)
        return ops.subtract(ops.multiply(x, float(self.channels)), total), maximum(variance, 1.0)

    def _exact(self, deviation: Tensor, variance: Tensor) -> Tensor:
        level = ops.sum(ops.cast(variance[..., None] >= ops.cast(LEVELS, "float64"), "int32"), axis=-1)
        quarter, half = (ops.take(ops.convert_to_tensor(v, "float64"), level, axis=0) for v in (4.0**-EXPONENTS, 2.0 ** -(12 + EXPONENTS)))
        root = floor(ops.sqrt(floor(ops.divide(2.0**44, floor(ops.multiply(variance, quarter))))))
        return floor(ops.add(ops.multiply(ops.multiply(deviation, root), half), 0.5))
