"""Float layers that Keras does not have and networks for Akida use: a convolution padded with a value, depthwise ones transposed or with unequal strides."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from .layers.base import PACKAGE
from .layers.windows import depthwise, pad, same_pads


@keras.saving.register_keras_serializable(PACKAGE)
class PaddedConv2D(keras.layers.Conv2D):
    """A `same` convolution padded with `padding_value`, a number or one for each input channel, instead of zero."""

    def __init__(self, *args: Any, padding_value: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "padding": "same"})
        self.padding_value = np.atleast_1d(np.asarray(padding_value, np.float32))

    def call(self, inputs: Any) -> Any:
        value = ops.cast(self.padding_value, inputs.dtype)
        pads = same_pads(inputs.shape[1:3], self.kernel_size, self.strides)
        assert pads is not None, "PaddedConv2D needs a fixed height and width"
        padded = ops.add(pad(ops.subtract(inputs, value), pads, 0.0), value)
        y = ops.conv(padded, ops.cast(self.kernel, inputs.dtype), self.strides, "valid", "channels_last", self.dilation_rate)
        return self.activation(ops.add(y, ops.cast(self.bias, y.dtype)) if self.use_bias else y)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding_value": self.padding_value.tolist()}


@keras.saving.register_keras_serializable(PACKAGE)
class UnequalDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution whose strides differ, which TensorFlow refuses on processors where it does not use oneDNN."""

    def call(self, inputs: Any) -> Any:
        pads = same_pads(inputs.shape[1:3], self.kernel_size, self.strides) if self.padding == "same" else (0, 0, 0, 0)
        assert pads is not None, "UnequalDepthwiseConv2D needs a fixed height and width"
        y = depthwise(pad(inputs, pads, 0.0), ops.cast(self.kernel, inputs.dtype), self.strides, "valid")
        return self.activation(ops.add(y, ops.cast(self.bias, y.dtype)) if self.use_bias else y)


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseConv2DTranspose(keras.layers.Layer):
    """Each channel convolved transposed on its own, `same` padding; the kernel is (kh, kw, C, 1)."""

    def __init__(self, kernel_size: Any, strides: Any = (2, 2), use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size, self.strides = (tuple(v) if isinstance(v, (tuple, list)) else (v, v) for v in (kernel_size, strides))
        self.use_bias, self.padding, self.bias = use_bias, "same", None

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight(name="depthwise_kernel", shape=(*self.kernel_size, channels, 1), initializer="glorot_uniform")
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        diagonal = ops.multiply(self.kernel, ops.eye(inputs.shape[-1], dtype=self.kernel.dtype))
        y = ops.conv_transpose(inputs, ops.cast(diagonal, inputs.dtype), self.strides, "same", data_format="channels_last")
        return ops.add(y, ops.cast(self.bias, y.dtype)) if self.use_bias else y

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "strides": self.strides, "use_bias": self.use_bias}
