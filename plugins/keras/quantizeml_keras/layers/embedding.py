"""Pixels as tokens plus a table, the integers of `quantizeml_core.embedding`. The table is kept as it was quantized: training does not change it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core import embedding

from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedEmbedding(QuantizedLayer):
    """One row of tokens of an image, learned tokens in front, positions added, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = self.spec.block.arrays["entries"].T[None].astype(np.float64)
        self.tail = Tail(self.spec.block, (self.spec.sources[0].limit << embedding.FRACTION) + int(np.abs(self.entries).max()))

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        _, length, channels = self.entries.shape
        pixels = int(np.prod(x.shape[1:3]))
        row = ops.reshape(ops.multiply(ops.cast(x, "float64"), 2.0**embedding.FRACTION), (-1, pixels, channels))
        tokens = ops.add(ops.pad(row, ((0, 0), (length - pixels, 0), (0, 0))), ops.convert_to_tensor(self.entries))
        return self.tail(tokens[:, None])
