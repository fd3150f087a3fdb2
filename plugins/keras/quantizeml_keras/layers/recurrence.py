"""A complex state for each channel, carried from frame to frame: the integers of `quantizeml_core.recurrence`. Its coefficients are not trained."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from quantizeml_core import recurrence

from ..backend import floor, maximum, minimum
from .base import PACKAGE, QuantizedLayer, Tensor
from .frames import Buffered, Carry
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedStatefulRecurrent(Buffered, QuantizedLayer):
    """s <- A s + x with rounded products, then the tail on both parts of s: channels 2 c and 2 c + 1."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.memory = Carry()
        self.coefficients = [c.astype("float64") * 2.0**-recurrence.COEFFICIENT for c in self.spec.block.arrays["coefficients"]]
        self.tail = Tail(self.spec.block, recurrence.LIMIT)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, x: Tensor) -> Tensor:
        states = self.memory.push(ops.cast(x, "float64"), self._advance)
        return self.tail(ops.reshape(states, (-1, *x.shape[1:-1], 2 * x.shape[-1])))

    def _advance(self, state: Tensor, x: Tensor) -> Tensor:
        (a, b), r, i = (ops.convert_to_tensor(c) for c in self.coefficients), state[..., 0], state[..., 1]
        real = ops.add(_rounded(ops.subtract(ops.multiply(a, r), ops.multiply(b, i))), ops.multiply(x, 2.0**recurrence.FRACTION))
        imaginary = _rounded(ops.add(ops.multiply(a, i), ops.multiply(b, r)))
        return minimum(maximum(ops.stack([real, imaginary], axis=-1), -float(recurrence.LIMIT)), float(recurrence.LIMIT))


def _rounded(x: Tensor) -> Tensor:
    """floor(x + 1/2), gradient 1."""
    return ops.add(x, ops.stop_gradient(ops.subtract(floor(ops.add(x, 0.5)), x)))
