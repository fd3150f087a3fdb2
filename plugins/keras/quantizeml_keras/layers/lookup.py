"""Functions of bytes: the entries of `quantizeml_core.lookup`, with the slope of the table for a gradient."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..quantize_ops import entries_of
from .base import PACKAGE, QuantizedLayer, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedLookup(QuantizedLayer):
    """The entry of each value, (C or 1, 256)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = self.spec.block.arrays["entries"].astype(np.float32)
        self.slope = np.gradient(self.entries, axis=1).astype(np.float32)

    def call(self, x: Tensor) -> Tensor:
        return entries_of(x, self.entries, self.slope)
