"""Float layers that convolve over time, frame by frame: the last T frames, zero before the first, enter a convolution of one pixel.

    BufferTempConv             kernel (1, 1, T * C, F), T major: row t * C + c weighs channel c of frame t, t = 0 the oldest
    DepthwiseBufferTempConv    kernel (T, C)
    FrameBuffer                no kernel: the frames side by side, channel c * T + t

The frames are kept in the layer from call to call (`layers.frames`).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from .layers.base import PACKAGE, Tensor
from .layers.frames import Buffered, Fifo, windowed

Shape = tuple[int | None, ...]


class _Temporal(Buffered, keras.layers.Layer):
    """A layer on images that remembers `kernel_size` frames."""

    def __init__(self, kernel_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 1:
            raise ValueError(f"kernel_size is {kernel_size!r}, allowed is a positive integer: the number of frames")
        self.kernel_size, self.bias = kernel_size, None
        self.fifo = Fifo(kernel_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}

    def _biased(self, y: Tensor) -> Tensor:
        return y if self.bias is None else ops.add(y, ops.cast(self.bias, y.dtype))


@keras.saving.register_keras_serializable(PACKAGE)
class FrameBuffer(_Temporal):
    """The last `kernel_size` frames side by side, channel major."""

    def call(self, inputs: Tensor) -> Tensor:
        return windowed(self.fifo.push(inputs))

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
        frames = ops.concatenate(self.fifo.push(inputs), axis=-1)
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
        frames = ops.stack(self.fifo.push(inputs), axis=-2)
        return self._biased(ops.sum(ops.multiply(frames, ops.cast(self.kernel, inputs.dtype)), axis=-2))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_bias": self.use_bias}
