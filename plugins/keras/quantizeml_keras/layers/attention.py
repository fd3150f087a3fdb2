"""Scaled dot-product attention of all pixels, the integers of `quantizeml_core.attention`.

Its gradient is that of a softmax in real numbers on the same integers: rounding counts as the identity.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core import attention

from ..backend import floor, matmul, minimum
from ..quantize_ops import round_through
from .base import PACKAGE, QuantizedLayer, Tensor
from .tail import Tail


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedAttention(QuantizedLayer):
    """softmax(q k^T scale) v, head by head, then the tail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        arrays = self.spec.block.arrays
        self.heads = self.spec.block.groups
        self.ratio = float(arrays["score_multiplier"][0]) * 2.0 ** -float(arrays["score_shift"][0])
        self.mask = arrays.get("mask")
        self.tail = Tail(self.spec.block, self.spec.sources[2].limit << attention.FRACTION)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    def call(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = ops.shape(v)
        q, k, v = (self._tokens(ops.cast(t, "float64")) for t in (q, k, v))
        below = ops.multiply(self._below(q, k), self.ratio)
        smooth = self._seen(ops.exp(ops.multiply(below, -np.log(2.0) / 2**attention.FRACTION)))
        mean = ops.multiply(self._mean(smooth, v), 2.0**attention.FRACTION)
        rest = ops.stop_gradient(ops.subtract(self._exact(below, v), mean))
        joined = ops.transpose(round_through(ops.add(mean, rest)), (0, 2, 1, 3))
        return self.tail(ops.reshape(joined, (shape[0], shape[1], shape[2], int(self.spec.shape[1]))))

    def _tokens(self, x: Tensor) -> Tensor:
        """(N, heads, tokens, channels of a head)."""
        channels = x.shape[-1]
        return ops.transpose(ops.reshape(x, (-1, int(np.prod(x.shape[1:3])), self.heads, channels // self.heads)), (0, 2, 1, 3))

    def _below(self, q: Tensor, k: Tensor) -> Tensor:
        scores = matmul(q, ops.transpose(k, (0, 1, 3, 2)))
        scores = scores if self.mask is None else ops.add(scores, ops.cast(self.mask, "float64"))
        return ops.subtract(ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)), scores)

    def _seen(self, weights: Tensor) -> Tensor:
        """Nothing for the keys that a mask hides."""
        return weights if self.mask is None else ops.multiply(weights, ops.cast(self.mask != attention.HIDDEN, "float64"))

    def _mean(self, weights: Tensor, v: Tensor) -> Tensor:
        return ops.divide(matmul(weights, v), ops.sum(weights, axis=-1, keepdims=True))

    def _exact(self, below: Tensor, v: Tensor) -> Tensor:
        index = ops.cast(minimum(floor(ops.add(below, 0.5)), attention.ENTRIES - 1), "int32")
        weights = self._seen(ops.take(ops.convert_to_tensor(attention.TABLE.astype(np.float64)), index, axis=0))
        total = ops.sum(weights, axis=-1, keepdims=True)
        return floor(ops.divide(ops.add(ops.multiply(matmul(weights, v), 512.0), total), ops.multiply(total, 2.0)))
