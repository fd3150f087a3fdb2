"""Blocks that change the size of an image without weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from quantizeml_core.geometry import common_denominator
from quantizeml_core.numerics import FLOAT32_EXACT

from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail
from .windows import depthwise, pad


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedUpSampling2D(QuantizedLayer):
    """Every pixel repeated `strides` times in height and width; the integers stay as they are."""

    def call(self, x: Tensor) -> Tensor:
        height, width = self.spec.block.strides
        return ops.repeat(ops.repeat(x, height, axis=1), width, axis=2)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedAveragePooling2D(QuantizedLayer):
    """The sum over windows, by a depthwise convolution with ones, brought to one denominator, then the tail: 1 / denominator belongs to the step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.spec.block.pool is not None
        self.pool = self.spec.block.pool
        height, width = (int(s or 0) for s in self.spec.sources[0].shape[2:])
        denominator, self.factors = common_denominator((height, width), self.pool)
        reach = denominator * self.spec.sources[0].limit
        self.carrier = "float32" if reach < FLOAT32_EXACT else "float64"
        self.tail = Tail(self.spec.block, reach)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        ones = ops.ones((*self.pool.size, x.shape[-1], 1), self.carrier)
        sums = depthwise(pad(ops.cast(x, self.carrier), self.pool.pads, 0.0), ones, self.pool.strides, "valid")
        return self.tail(sums if self.pool.padded else ops.multiply(sums, ops.cast(self.factors[..., None], self.carrier)))
