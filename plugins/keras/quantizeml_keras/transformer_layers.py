"""Float layers of vision transformers: a class token, positions, attention without its projections, one token taken out, and the forms of
normalization and softmax that hardware computes without a square root or an exponential.

    LayerMadNormalization   gamma x / mean|x| + beta
    Shiftmax                2^(l - round(log2 sum 2^l))     l = floor(x) - max floor(x)
    Attention               softmax(q k^T / 2^round(log2 sqrt(d))) v, d channels per head

Rounding passes gradients as the identity does.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from .layers.base import PACKAGE
from .quantize_ops import round_through

SMALLEST = 1e-7
SOFTMAXES = ("softmax", "shiftmax", "softmax2")
"""`softmax2` is the old name of `shiftmax`."""


@keras.saving.register_keras_serializable(PACKAGE)
class ClassToken(keras.layers.Layer):
    """A learned token (1, 1, C), weight `cls`, in front of a sequence (B, T, C)."""

    def build(self, input_shape: Any) -> None:
        self.cls = self.add_weight(name="cls", shape=(1, 1, input_shape[-1]), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        token = ops.broadcast_to(ops.cast(self.cls, inputs.dtype), (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([token, inputs], axis=1)


@keras.saving.register_keras_serializable(PACKAGE)
class AddPositionEmbs(keras.layers.Layer):
    """Learned positions (1, T, C), weight `pos_embedding`, added to a sequence."""

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(f"AddPositionEmbs takes sequences (batch, tokens, channels) of a known length, not {tuple(input_shape)}")
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.pos_embedding = self.add_weight(name="pos_embedding", shape=(1, *input_shape[1:]), initializer=initializer)

    def call(self, inputs: Any) -> Any:
        return ops.add(inputs, ops.cast(self.pos_embedding, inputs.dtype))


@keras.saving.register_keras_serializable(PACKAGE)
class ExtractToken(keras.layers.Layer):
    """One entry of an axis: (B, T, C) to (B, C)."""

    def __init__(self, token: int = 0, axis: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token, self.axis = token, axis

    def call(self, inputs: Any) -> Any:
        return ops.take(inputs, self.token, axis=self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "token": self.token, "axis": self.axis}


@keras.saving.register_keras_serializable(PACKAGE)
class LayerMadNormalization(keras.layers.Layer):
    """Divided by the mean absolute value of the channels, weights `gamma` and `beta`; zeros stay zeros."""

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        deviation = ops.maximum(ops.mean(ops.abs(inputs), axis=-1, keepdims=True), SMALLEST)
        return ops.add(ops.multiply(ops.divide(inputs, deviation), self.gamma), self.beta)


def shiftmax(x: Any) -> Any:
    """Powers of two that sum to about one, over the last axis."""
    whole = _floor_through(x)
    below = ops.subtract(whole, ops.stop_gradient(ops.max(whole, axis=-1, keepdims=True)))
    total = ops.sum(ops.power(2.0, below), axis=-1, keepdims=True)
    return ops.power(2.0, ops.subtract(below, round_through(ops.divide(ops.log(total), float(np.log(2.0))))))


def _floor_through(x: Any) -> Any:
    return ops.add(x, ops.stop_gradient(ops.subtract(ops.floor(x), x)))


@keras.saving.register_keras_serializable(PACKAGE)
class Shiftmax(keras.layers.Layer):
    """`shiftmax` over the last axis."""

    def call(self, inputs: Any) -> Any:
        return shiftmax(inputs)


@keras.saving.register_keras_serializable(PACKAGE)
class Attention(keras.layers.Layer):
    """Attention of [queries, keys, values], each (B, T, C), head by head; (context, mask): (B, T, C) and (B, heads, T, T).

    Arguments:
        num_heads: divides the channels, else ValueError.
        softmax: one of `SOFTMAXES`.
    """

    def __init__(self, num_heads: int = 8, softmax: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if softmax not in SOFTMAXES:
            raise ValueError(f"softmax `{softmax}` is unknown; one of {', '.join(SOFTMAXES)}")
        self.num_heads, self.softmax = num_heads, softmax

    def build(self, input_shape: Any) -> None:
        channels = {shape[-1] for shape in input_shape}
        if len(channels) > 1 or next(iter(channels)) % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide the channels of queries, keys and values ({', '.join(map(str, sorted(channels)))})")
        self.scale = score_scale(next(iter(channels)) // self.num_heads)

    def call(self, inputs: Any) -> Any:
        q, k, v = (self._heads(t) for t in inputs)
        scores = ops.multiply(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), self.scale)
        mask = ops.softmax(scores, axis=-1) if self.softmax == "softmax" else shiftmax(scores)
        context = ops.transpose(ops.matmul(mask, v), (0, 2, 1, 3))
        return ops.reshape(context, (-1, inputs[0].shape[1], inputs[2].shape[-1])), mask

    def _heads(self, x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (-1, x.shape[1], self.num_heads, x.shape[2] // self.num_heads)), (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "softmax": self.softmax}


def score_scale(channels: int) -> float:
    """2^-round(log2 sqrt(channels of a head)): a shift."""
    return float(2.0 ** -np.rint(np.log2(np.sqrt(channels))))


@keras.saving.register_keras_serializable(PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """Drops a whole sample of a branch with probability `rate` while training (Huang et al., arXiv 1603.09382); the identity at inference."""

    def __init__(self, rate: float = 0.1, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        kept = ops.floor(keras.random.uniform((ops.shape(inputs)[0], *(1,) * (len(inputs.shape) - 1)), seed=self.generator) + 1.0 - self.rate)
        return ops.multiply(inputs, ops.cast(kept, inputs.dtype) / (1.0 - self.rate))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
