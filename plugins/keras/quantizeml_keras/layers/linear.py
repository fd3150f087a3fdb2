"""Convolutions and dense layers on integers: float kernels are the trainable truth, integers a view recomputed at every call (`spec.Lattice`)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend import matmul
from ..quantize_ops import align_mantissa, lattice, round_through
from .base import PACKAGE, QuantizedLayer, Tensor
from .carrier import Carrier, carrier
from .learned import LearnedStep, can_learn, learned_lattice
from .spec import Lattice
from .tail import Tail
from .windows import Window, depthwise, grouped_pixels, max_pool, pad

Shape = tuple[int | None, ...]


class QuantizedLinear(QuantizedLayer):
    """A linear block: sum of products, max pooling, bias, tail."""

    #: Axes of the kernel that one filter is summed over.
    summed: tuple[int, ...] = ()

    def __init__(self, *args: Any, learned_step: bool = False, **kwargs: Any) -> None:
        """`learned_step`: train the step of each filter (`learned`)."""
        super().__init__(*args, **kwargs)
        assert self.spec.lattice is not None
        self.learned_step = learned_step and can_learn(self.spec.block)
        self.learned: LearnedStep | None = None
        self.lattice: Lattice = self.spec.lattice
        self.carrier = self._carrier()
        self.bias: Any = None

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight(name="kernel", shape=self.lattice.shape, initializer="glorot_uniform", dtype="float32")
        if self.lattice.bias_real is not None:
            self.bias = self.add_weight(name="bias", shape=self.lattice.bias_real.shape, initializer="zeros", dtype="float32")
        if self.learned_step:
            exponent = self.add_weight(name="step_exponent", shape=self.lattice.inverse_step.shape, initializer="zeros", dtype="float32")
            self.learned = LearnedStep(self.spec.block, exponent, int(np.prod(self.lattice.shape)) // exponent.shape[0])
        self.input_step = self.constant("input_step", self.lattice.input_step)
        self.inverse_step = self.constant("inverse_step", self.lattice.inverse_step)
        self.extent = self._extent(input_shape)
        self.tail = Tail(self.spec.block, self.carrier.reach, self.extent)

    def call(self, x: Tensor) -> Tensor:
        weight = self.integer_weight()
        acc = self._pooled(self._sums(x, weight))
        return self.tail(acc if not self.has_bias else ops.add(acc, self.integer_bias(weight)), self.learned)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learned_step": self.learned_step}

    def inverse_steps(self) -> Tensor:
        """(F,) accumulator units per real unit, now."""
        if self.learned is None:
            return self.inverse_step
        return ops.divide(self.inverse_step, ops.cast(self.learned.widening(), "float32"))

    def integer_weight(self) -> Tensor:
        """Integers of the kernel now, in Keras layout."""
        folded, inverse = ops.multiply(self.kernel, self.input_step), self._per_filter(self.inverse_steps())
        if self.learned is not None:
            return learned_lattice(folded, inverse, self.lattice.limit)
        return lattice(ops.multiply(folded, inverse), self.lattice.limit)

    def integer_bias(self, weight: Tensor) -> Tensor:
        """(F,) integers of the bias now; `weight`: from `integer_weight`, for the share of the input's zero point."""
        known, total = self.lattice, self.carrier.total
        bias = ops.cast(known.bias_integer, total)
        if self.learned is not None:
            bias = ops.cast(round_through(ops.divide(ops.cast(known.bias_integer, "float64"), self.learned.widening())), total)
        if self.bias is not None:
            moved = ops.multiply(ops.subtract(self.bias, known.bias_real), self.inverse_steps())
            bias = ops.add(bias, ops.cast(round_through(moved), total))
        if known.zero_point is not None:
            share = ops.sum(ops.multiply(ops.cast(weight, total), ops.cast(known.zero_point, total)), axis=self.summed)
            bias = ops.subtract(bias, ops.reshape(share, (-1,)))
        bias = bias if known.mantissa is None else align_mantissa(bias, known.mantissa)
        return ops.clip(bias, -self.carrier.bias_limit, self.carrier.bias_limit)

    @property
    def output_dtype(self) -> str:
        return self.tail.dtype

    @property
    def has_bias(self) -> bool:
        return self.lattice.bias_integer is not None

    def _carrier(self) -> Carrier:
        known, shape = self.lattice, self.lattice.shape
        largest = self.spec.sources[0].limit
        taps, channels = self._size(shape)
        start = 0 if known.bias_integer is None else int(np.abs(known.bias_integer).max())
        share = 0 if known.zero_point is None else taps * channels * known.limit * int(known.zero_point.max())
        return carrier(channels, taps, known.limit, largest, start + share)

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Products per input channel of one filter, and input channels of one filter."""
        return int(np.prod([shape[axis] for axis in self.summed[:-1]])), shape[self.summed[-1]]

    def _per_filter(self, vector: Tensor) -> Tensor:
        return vector

    def _extent(self, input_shape: Shape) -> tuple[int, ...]:
        return ()

    def _pooled(self, acc: Tensor) -> Tensor:
        return acc

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """The sums of products of all parts of the input channels, in the carrier's total type."""
        inputs, weights = self._split(x, -1), self._split(weight, self.summed[-1])
        sums = [self._products(ops.cast(p, self.carrier.products), ops.cast(w, self.carrier.products)) for p, w in zip(inputs, weights, strict=True)]
        return sum((ops.cast(s, self.carrier.total) for s in sums[1:]), ops.cast(sums[0], self.carrier.total))

    def _split(self, x: Tensor, axis: int) -> list[Tensor]:
        size, parts = x.shape[axis], self.carrier.parts
        step = -(-size // parts)
        return [x] if parts == 1 else ops.split(x, list(range(step, size, step)), axis=axis)

    def _products(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError


class QuantizedWindows(QuantizedLinear):
    """A linear block that slides over an image."""

    def build(self, input_shape: Shape) -> None:
        block, kernel = self.spec.block, self.lattice.shape[:2]
        self.window = Window.of(block.pads, kernel, block.strides, input_shape[1:3], block.arrays.get("pad_value"))
        super().build(input_shape)

    def _extent(self, input_shape: Shape) -> tuple[int, ...]:
        return self.window.output_size(input_shape[1:3])

    def _pooled(self, acc: Tensor) -> Tensor:
        pool = self.spec.block.pool
        return max_pool(acc, pool) if pool is not None and pool.kind == "max" else acc

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._sums(self.window.padded(x), weight)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2D(QuantizedWindows):
    """A convolution; one of several groups is computed group by group, unless it is of one pixel."""

    summed = (0, 1, 2)

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        groups = self.spec.block.groups
        if groups == 1:
            return super()._sums(x, weight)
        window, products = self.window, self.carrier.products
        if window.kernel == window.strides == (1, 1) and not any(window.amounts) and self.carrier.parts == 1 and None not in x.shape[1:3]:
            return ops.cast(grouped_pixels(ops.cast(x, products), ops.cast(weight, products), groups), self.carrier.total)
        pairs = zip(ops.split(x, groups, axis=-1), ops.split(weight, groups, axis=-1), strict=True)
        return ops.concatenate([self._group(i, p, w) for i, (p, w) in enumerate(pairs)], axis=-1)

    def _group(self, index: int, x: Tensor, weight: Tensor) -> Tensor:
        return QuantizedLinear._sums(self, self.window.of_group(index, self.spec.block.groups).padded(x), weight)

    def _products(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv(x, weight, strides=self.window.strides, padding=self.window.padding, data_format="channels_last")


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDepthwiseConv2D(QuantizedWindows):
    """Each channel convolved on its own."""

    summed = (0, 1)

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[0] * shape[1], 1

    def _per_filter(self, vector: Tensor) -> Tensor:
        return ops.reshape(vector, self.lattice.shape[2:])

    def _products(self, x: Tensor, weight: Tensor) -> Tensor:
        return depthwise(x, weight, self.window.strides, self.window.padding)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2DTranspose(QuantizedLinear):
    """Every pixel writes a kernel; what the pads cover is cropped, negative ones grow the image at its end."""

    summed = (0, 1, 3)

    def _per_filter(self, vector: Tensor) -> Tensor:
        return ops.reshape(vector, (-1, 1))

    def _products(self, x: Tensor, weight: Tensor) -> Tensor:
        """Frameworks write at least a stride behind the last pixel, however small the kernel."""
        block, kernel = self.spec.block, self.lattice.shape[:2]
        full = ops.conv_transpose(x, weight, strides=block.strides, padding="valid", data_format="channels_last")
        top, left = block.pads[:2]
        bottom, right = (p + max(s - k, 0) for p, s, k in zip(block.pads[2:], block.strides, kernel, strict=True))
        cropped = full[:, top : -bottom if bottom > 0 else None, left : -right if right > 0 else None]
        return pad(cropped, (0, 0, max(-bottom, 0), max(-right, 0)), 0.0)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDense(QuantizedLinear):
    """A product with a matrix; an image is flattened first, in Keras order."""

    summed = (0,)

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return 1, shape[0]

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._sums(ops.reshape(x, (-1, self.lattice.shape[0])) if self.spec.block.flatten else x, weight)

    def _products(self, x: Tensor, weight: Tensor) -> Tensor:
        return matmul(x, weight)
