"""Layers with kernels on images and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Shape
from .steps import Step, activated, array, bias, dilated, pair, window


def _conv2d(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel, groups = dilated(array(layer.kernel), layer.dilation_rate), layer.groups
    if isinstance(kernel, str):
        return kernel
    if groups > 1 and kernel.shape[2] == 1:
        return _depthwise_steps(layer, shapes[0], kernel.reshape(*kernel.shape[:2], groups, -1))
    attributes = {"kernel": kernel, "bias": bias(layer), "groups": groups}
    return _sliding("Conv2D", layer, shapes[0], attributes, kernel.shape[-1])


def _padded_conv2d(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """A convolution whose padding has a value."""
    steps = _conv2d(layer, call, shapes)
    if isinstance(steps, str):
        return steps
    value = np.broadcast_to(np.asarray(layer.padding_value, np.float64), (shapes[0][-1],))
    return [replace(steps[0], attributes={**steps[0].attributes, "pad_value": value}), *steps[1:]]


def _depthwise(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel = dilated(array(layer.kernel), layer.dilation_rate)
    return kernel if isinstance(kernel, str) else _depthwise_steps(layer, shapes[0], kernel)


def _depthwise_steps(layer: Any, shape: Shape, kernel: np.ndarray) -> list[Step] | str:
    return _sliding("DepthwiseConv2D", layer, shape, {"kernel": kernel, "bias": bias(layer)}, kernel.shape[2] * kernel.shape[3])


def _separable(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    depthwise = dilated(array(layer.depthwise_kernel), layer.dilation_rate)
    if isinstance(depthwise, str):
        return depthwise
    found = window(layer, shapes[0], depthwise.shape[:2])
    if isinstance(found, str):
        return found
    pads, size = found
    first = Step("DepthwiseConv2D", {"kernel": depthwise, "bias": None, "strides": pair(layer.strides), "pads": pads},
                 (shapes[0][0], *size, depthwise.shape[2] * depthwise.shape[3]), "depthwise")
    pointwise = array(layer.pointwise_kernel)
    second = Step("Conv2D", {"kernel": pointwise, "bias": bias(layer), "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1},
                  (shapes[0][0], *size, pointwise.shape[-1]))
    return activated([first, second], layer)


def _sliding(op: str, layer: Any, shape: Shape, attributes: dict[str, Any], channels: int) -> list[Step] | str:
    found = window(layer, shape, attributes["kernel"].shape[:2])
    if isinstance(found, str):
        return found
    pads, size = found
    step = Step(op, {**attributes, "strides": pair(layer.strides), "pads": pads}, (shape[0], *size, channels))
    return activated([step], layer)


def _dense(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel, shape = array(layer.kernel), shapes[0]
    out = (*shape[:-1], kernel.shape[-1])
    if len(shape) == 2:
        return activated([Step("Dense", {"kernel": kernel, "bias": bias(layer)}, out)], layer)
    if len(shape) != 4:
        return f"a Dense on {len(shape)} axes has no integer form here, only on 2 or 4"
    return activated([Step("Conv2D", {"kernel": kernel[None, None], "bias": bias(layer), "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}, out)], layer)


def _transposed(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if set(pair(layer.dilation_rate)) != {1} or layer.output_padding is not None:
        return "a Conv2DTranspose with a dilation or an output padding is not supported"
    kernel, strides = array(layer.kernel), pair(layer.strides)
    attributes = {"kernel": kernel, "bias": bias(layer), "strides": strides, "padding": layer.padding,
                  "crops": _crops(kernel.shape[:2], strides, layer.padding)}
    return activated([Step("Conv2DTranspose", attributes, tuple(call.output_tensors[0].shape))], layer)


def _depthwise_transposed(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """As a transposed convolution whose kernel is a diagonal."""
    kernel, strides = array(layer.kernel), layer.strides
    attributes = {"kernel": kernel * np.eye(kernel.shape[2], dtype=kernel.dtype), "bias": bias(layer), "strides": strides, "padding": "same",
                  "crops": _crops(kernel.shape[:2], strides, "same")}
    return [Step("Conv2DTranspose", attributes, tuple(call.output_tensors[0].shape))]


def _crops(kernel: tuple[int, ...], strides: tuple[int, int], padding: str) -> tuple[int, int, int, int]:
    """Rows and columns that a transposed convolution drops from (size - 1) * stride + kernel: top, left, bottom, right; negative ones are added.

    Keras keeps size * stride for `same`, half of the rest dropped before; for `valid` no less than that.
    """
    rest = [k - s if padding == "same" else min(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
    before = [max(r, 0) // 2 for r in rest]
    return before[0], before[1], rest[0] - before[0], rest[1] - before[1]


LINEAR = {
    "Conv2D": _conv2d, "Conv2DTranspose": _transposed, "Dense": _dense, "DepthwiseConv2D": _depthwise, "DepthwiseConv2DTranspose": _depthwise_transposed,
    "PaddedConv2D": _padded_conv2d, "UnequalDepthwiseConv2D": _depthwise, "SeparableConv2D": _separable,
}
