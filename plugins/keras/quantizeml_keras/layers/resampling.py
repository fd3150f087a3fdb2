"""Blocks that change the size of an image without weights."""

from __future__ import annotations

import keras
from keras import ops

from .base import PACKAGE, QuantizedLayer, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedUpSampling2D(QuantizedLayer):
    """Every pixel repeated `strides` times in height and width; the integers stay as they are."""

    def call(self, x: Tensor) -> Tensor:
        height, width = self.spec.block.strides
        return ops.repeat(ops.repeat(x, height, axis=1), width, axis=2)
