"""Float layers on sequences, frame by frame. Some convolve over time: the last T frames, zero before the first, enter a convolution of one pixel.

    BufferTempConv             kernel (1, 1, T * C, F), T major: row t * C + c weighs channel c of frame t, t = 0 the oldest
    DepthwiseBufferTempConv    kernel (T, C)
    FrameBuffer                no kernel: the frames side by side, channel c * T + t

One turns and shrinks a complex state for each channel, zero before the first frame:

    StatefulRecurrent          s <- A s + x, both parts of s on a new last axis

What is remembered is kept in the layer from call to call (`layers.frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from .layers.base import PACKAGE, Tensor
from .layers.frames import Buffered, Carry, Fifo, windowed

Shape = tuple[int | None, ...]


class _Temporal(Buffered, keras.layers.Layer):
    """A layer on images that remembers `kernel_size` frames."""

    def __init__(self, kernel_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 1:
            raise ValueError(f"kernel_size is {kernel_size!r}, allowed is a positive integer: the number of frames")
        self.kernel_size, self.bias = kernel_size, None
        self.memory = Fifo(kernel_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}

    def _biased(self, y: Tensor) -> Tensor:
        return y if self.bias is None else ops.add(y, ops.cast(self.bias, y.dtype))


@keras.saving.register_keras_serializable(PACKAGE)
class FrameBuffer(_Temporal):
    """The last `kernel_size` frames side by side, channel major."""

    def call(self, inputs: Tensor) -> Tensor:
        return windowed(self.memory.push(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], input_shape[-1] * self.kernel_size)


@keras.saving.register_keras_serializable(PACKAGE)
class BufferTempConv(_Temporal):
    """A convolution over the last `kernel_size` frames, one pixel wide."""

    def __init__(self, filters: int, kernel_size: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(kernel_size, **kwargs)
        self.filters, self.use_bias = filters, use_bias

    def build(self, input_shape: Shape) -> None:
        shape = (1, 1, self.kernel_size * input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs: Tensor) -> Tensor:
        frames = ops.concatenate(self.memory.push(inputs), axis=-1)
        return self._biased(ops.matmul(frames, ops.cast(self.kernel, inputs.dtype)[0, 0]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseBufferTempConv(_Temporal):
    """Each channel convolved on its own over the last `kernel_size` frames."""

    def __init__(self, kernel_size: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(kernel_size, **kwargs)
        self.use_bias = use_bias

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(self.kernel_size, input_shape[-1]), initializer="glorot_uniform")
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: Tensor) -> Tensor:
        frames = ops.stack(self.memory.push(inputs), axis=-2)
        return self._biased(ops.sum(ops.multiply(frames, ops.cast(self.kernel, inputs.dtype)), axis=-2))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_bias": self.use_bias}


@keras.saving.register_keras_serializable(PACKAGE)
class StatefulRecurrent(Buffered, keras.layers.Layer):
    """A complex number for each channel, s <- A s + x, of frames (batch, channels) or (batch, height, width, channels); gives (..., channels, 2).

    Arguments:
        num_coeffs: how many A there are; None is one for each channel.
        repeat: how many neighbouring channels share one of `num_coeffs`.
    """

    def __init__(self, num_coeffs: int | None = None, repeat: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_coeffs, self.repeat, self.memory = num_coeffs, repeat, Carry()

    def build(self, input_shape: Shape) -> None:
        channels, wanted = input_shape[-1], None if self.num_coeffs is None else self.num_coeffs * self.repeat
        if len(input_shape) not in (2, 4):
            raise ValueError(f"a frame has the shape {tuple(input_shape)}, allowed are (batch, channels) and (batch, height, width, channels)")
        if wanted not in (None, channels):
            raise ValueError(f"frames have {channels} channels, num_coeffs * repeat asks for {wanted}")
        uniform = keras.initializers.RandomUniform
        self.A_real, self.A_imag = (
            self.add_weight(name=name, shape=(self.num_coeffs or channels,), initializer=uniform(low, high))
            for name, low, high in (("A_real", 0.5, 0.9), ("A_imag", -0.4, 0.4)))

    def coefficients(self) -> list[Tensor]:
        """The real and the imaginary part of A of each channel."""
        return [c if self.num_coeffs is None else ops.repeat(c, self.repeat) for c in (ops.convert_to_tensor(v) for v in (self.A_real, self.A_imag))]

    def call(self, inputs: Tensor) -> Tensor:
        return self.memory.push(inputs, partial(turned, [ops.cast(c, inputs.dtype) for c in self.coefficients()]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_coeffs": self.num_coeffs, "repeat": self.repeat}


def turned(coefficients: Sequence[Tensor], state: Tensor, x: Tensor) -> Tensor:
    """A s + x: the state (..., channels, 2) behind a frame."""
    (a, b), r, i = coefficients, state[..., 0], state[..., 1]
    real = ops.add(ops.subtract(ops.multiply(a, r), ops.multiply(b, i)), x)
    return ops.stack([real, ops.add(ops.multiply(a, i), ops.multiply(b, r))], axis=-1)
