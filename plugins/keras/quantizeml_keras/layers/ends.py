"""The two ends of a quantized region: floats to integers, integers to floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core.program import Format

from ..layouts import channels_last
from ..quantize_ops import round_through
from .base import PACKAGE, QuantizedLayer, Tensor
from .spec import Spec, decode, encode


@keras.saving.register_keras_serializable(PACKAGE)
class InputQuantizer(QuantizedLayer):
    """float -> integers: sat(round_half_even(x / scale) + zero_point), the division in float32.

    Arguments:
        configuration: the configuration that the model was quantized with, kept by one of its input quantizers.
    """

    def __init__(self, spec: Spec | Mapping[str, Any], *, configuration: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(spec, **kwargs)
        self.configuration = None if configuration is None else dict(configuration)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "configuration": self.configuration}

    def build(self, input_shape: Any) -> None:
        self.scale = self.constant("scale", self.spec.block.arrays["scale"])
        self.zero_point = self.constant("zero_point", self.spec.block.arrays["zero_point"])

    def call(self, x: Tensor) -> Tensor:
        x = ops.expand_dims(x, 1) if len(self.spec.block.perm) == len(x.shape) + 1 else x  # a sequence is an image of one row
        order = self._order(len(x.shape))
        x = ops.cast(x if order == tuple(range(len(order))) else ops.transpose(x, order), "float32")
        q = ops.add(round_through(self._in_units(x)), self.zero_point)
        low, high = self.spec.output.range
        return ops.clip(q, low, high)

    def _in_units(self, x: Tensor) -> Tensor:
        """x / scale as float32 divides. Compilers make a product with 1 / scale of it, which rounds otherwise: in float64 that lies too near to show."""
        return ops.cast(ops.divide(ops.cast(x, "float64"), ops.cast(self.scale, "float64")), "float32")

    def _order(self, rank: int) -> tuple[int, ...]:
        """From the native layout by way of the block's channel-first one to channels last."""
        perm = self.spec.block.perm or tuple(range(rank))
        return tuple(perm[axis] for axis in channels_last(rank))


@keras.saving.register_keras_serializable(PACKAGE)
class Dequantizer(keras.layers.Layer):
    """Integers -> floats: float32(q - zero_point) * float32(step).

    Arguments:
        tensor: name of the tensor that leaves the integer region, or its JSON. That is no bare string: in `.h5` files Keras replaces strings that are
            called like one of its functions (`concatenate`, `add`) by the function.
        fmt: its format, or its JSON.
        shape: the shape in the float model, batch left out, where the integer layers keep axes of one pixel; None leaves it.
    """

    def __init__(self, tensor: str | Mapping[str, str], fmt: Format | Mapping[str, Any], shape: tuple[int, ...] | None = None, *, name: str | None = None,
                 trainable: bool = True, dtype: Any = None) -> None:
        super().__init__(name=name, trainable=trainable, dtype="float32", autocast=False)
        self.tensor = tensor if isinstance(tensor, str) else tensor["name"]
        self.format = fmt if isinstance(fmt, Format) else Format(**{k: decode(v) for k, v in fmt.items()})
        self.shape = None if shape is None else tuple(shape)

    def get_config(self) -> dict[str, Any]:
        fmt = {k: encode(getattr(self.format, k)) for k in ("bits", "signed", "step", "zero_point")}
        return {**super().get_config(), "tensor": {"name": self.tensor}, "fmt": fmt, "shape": None if self.shape is None else list(self.shape)}

    def call(self, q: Tensor) -> Tensor:
        if self.format.zero_point is not None:
            q = ops.subtract(q, ops.cast(self.format.zero_point, q.dtype))
        x = ops.multiply(ops.cast(q, "float32"), self.format.step.astype(np.float32))
        return x if self.shape is None else ops.reshape(x, (-1, *self.shape))
