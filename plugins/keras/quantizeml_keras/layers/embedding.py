"""Pixels as tokens plus a table, the integers of `quantizeml_core.embedding`.

    entries = clip(entries_0 + rint(change / acc_step), -bound, bound)          change: what training added to the table, in real units
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core import embedding

from ..quantize_ops import round_through
from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail

MARGIN = 1 << 12
"""Units by which entries may outgrow twice the largest one they start with."""


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedEmbedding(QuantizedLayer):
    """One row of tokens of an image, learned tokens in front, positions added, then the tail. The weight `change` is (T, C)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        arrays = self.spec.block.arrays
        self.entries = arrays["entries"].T.astype(np.float64)
        self.bound = 2 * int(np.abs(self.entries).max()) + MARGIN
        self.inverse = 2.0 ** arrays["shift"].astype(np.float64) / arrays.get("multiplier", 1) / self.spec.output.step
        self.tail = Tail(self.spec.block, (self.spec.sources[0].limit << embedding.FRACTION) + self.bound)

    def build(self, input_shape: Any) -> None:
        self.change = self.add_weight(name="change", shape=self.entries.shape, initializer="zeros")

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def integer_entries(self) -> Tensor:
        """(T, C), float64."""
        moved = round_through(ops.multiply(ops.cast(self.change, "float64"), ops.convert_to_tensor(self.inverse)))
        return ops.clip(ops.add(ops.convert_to_tensor(self.entries), moved), -self.bound, self.bound)

    def call(self, x: Tensor) -> Tensor:
        length, channels = self.entries.shape
        pixels = int(np.prod(x.shape[1:3]))
        row = ops.reshape(ops.multiply(ops.cast(x, "float64"), 2.0**embedding.FRACTION), (-1, pixels, channels))
        tokens = ops.add(ops.pad(row, ((0, 0), (length - pixels, 0), (0, 0))), self.integer_entries())
        return self.tail(tokens[:, None])
