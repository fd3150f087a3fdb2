"""Blocks of two inputs: addition, product, and concatenation of channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core.numerics import FLOAT32_EXACT

from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedAdd(QuantizedLayer):
    """x * x_shift + y * y_shift, power-of-two factors, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        arrays = self.spec.block.arrays
        self.factors = tuple(arrays[name].astype(np.float64) for name in ("x_shift", "y_shift"))
        reach = sum(int(f.max()) * s.limit for f, s in zip(self.factors, self.spec.sources, strict=True))
        self.carrier = "float32" if reach < FLOAT32_EXACT else "float64"
        self.tail = Tail(self.spec.block, reach)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor, y: Tensor) -> Tensor:
        return self.tail(ops.add(*(self._scaled(t, f) for t, f in zip((x, y), self.factors, strict=True))))

    def _scaled(self, x: Tensor, factor: np.ndarray) -> Tensor:
        x = ops.cast(x, self.carrier)
        return x if (factor == 1).all() else ops.multiply(x, ops.cast(factor, self.carrier))


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedMultiply(QuantizedLayer):
    """x * y, axes of size 1 repeated, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        x, y = self.spec.sources
        self.tail = Tail(self.spec.block, x.limit * y.limit)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor, y: Tensor) -> Tensor:
        return self.tail(ops.multiply(x, y))


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConcatenate(QuantizedLayer):
    """Integers side by side on the channel axis; the steps of the output are those of the inputs side by side."""

    def call(self, x: Tensor, y: Tensor) -> Tensor:
        return ops.concatenate([x, y], axis=-1)
