"""Layers on sequences: on images of one row they are layers on images, their kernels, strides and the like with a first axis of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ..graph import Shape
from .geometry import GEOMETRY
from .linear import LINEAR
from .steps import Reader, Step, array


ROWS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("kernel", "depthwise_kernel", "pointwise_kernel"), lambda kernel: array(kernel)[None]),
    **dict.fromkeys(("strides", "dilation_rate", "pool_size", "size"), lambda value: (1, value[0] if isinstance(value, (tuple, list)) else value)),
    **dict.fromkeys(("padding", "bias", "use_bias", "activation", "groups", "data_format"), lambda value: value),
}
"""What a layer on sequences has, and what it is on images of one row."""


def _on_rows(reader: Reader) -> Reader:
    """The reader of a layer on sequences, by way of that on images: kernels, strides and the like get a first axis of one."""

    def read_rows(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        return reader(SimpleNamespace(**{name: change(getattr(layer, name)) for name, change in ROWS.items() if hasattr(layer, name)}), call, shapes)

    return read_rows


def _pad_row(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    (left, right), (batch, height, width, channels) = layer.padding, shapes[0]
    return [Step("Pad", {"pads": (0, left, 0, right)}, (batch, height, None if width is None else width + left + right, channels))]


SEQUENCES = {
    "AveragePooling1D": _on_rows(GEOMETRY["AveragePooling2D"]), "Conv1D": _on_rows(LINEAR["Conv2D"]),
    "DepthwiseConv1D": _on_rows(LINEAR["DepthwiseConv2D"]), "GlobalAveragePooling1D": GEOMETRY["GlobalAveragePooling2D"],
    "MaxPooling1D": _on_rows(GEOMETRY["MaxPooling2D"]), "SeparableConv1D": _on_rows(LINEAR["SeparableConv2D"]),
    "UpSampling1D": _on_rows(GEOMETRY["UpSampling2D"]), "ZeroPadding1D": _pad_row,
}

ON_ANY_SHAPE = frozenset({"Activation", "Add", "BatchNormalization", "Concatenate", "Dense", "ELU", "Flatten", "LayerMadNormalization", "LayerNormalization",
                          "LeakyReLU", "Multiply", "Normalization",
                          "ReLU", "Relu", "Relu6", "Rescaling", "Sigmoid", "Silu", "Gelu", "Softmax", "Tanh"})
"""Layers that do the same to a sequence and to its image of one row."""
