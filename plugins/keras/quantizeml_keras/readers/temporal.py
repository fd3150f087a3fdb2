"""Layers with a memory: those that convolve over time are the frames side by side, channel major, and a convolution of one pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from ..graph import Shape
from .steps import Step, array, bias


def _full(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel = array(layer.kernel)
    by_time = kernel.reshape(layer.kernel_size, -1, kernel.shape[-1])
    return _steps(layer, shapes[0], by_time.swapaxes(0, 1).reshape(kernel.shape), 1)


def _depthwise(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return _steps(layer, shapes[0], array(layer.kernel)[None, None], int(shapes[0][-1] or 0))


def _frames(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return [_buffer(layer, shapes[0], "")] if layer.kernel_size > 1 else []


def _recurrent(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    (*frame, channels), coefficients = shapes[0], np.stack([ops.convert_to_numpy(c) for c in layer.coefficients()])
    if np.abs(coefficients).max() > 1:
        return "a part of its A is larger than 1: its state grows without end"
    inner = Step("Recurrent", {"coefficients": coefficients}, (*frame, 2 * channels))
    return [inner, Step("Reshape", {"shape": (*frame[1:], channels, 2)}, (*shapes[0], 2), "parts")]


def _steps(layer: Any, shape: Shape, kernel: np.ndarray, groups: int) -> list[Step] | str:
    """A kernel over one frame needs no buffer."""
    if len(shape) != 4:
        return f"{type(layer).__name__} is quantized on images only, not on the shape {shape}"
    attributes = {"kernel": kernel, "bias": bias(layer), "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": groups}
    conv = Step("Conv2D", attributes, (*shape[:-1], kernel.shape[-1]))
    if layer.kernel_size == 1 and groups > 1:
        conv = Step("DepthwiseConv2D", {**attributes, "kernel": kernel.reshape(1, 1, groups, 1)}, shape)
    return [conv] if layer.kernel_size == 1 else [_buffer(layer, shape, "buffer"), conv]


def _buffer(layer: Any, shape: Shape, suffix: str) -> Step:
    return Step("Buffer", {"frames": layer.kernel_size}, (*shape[:-1], (shape[-1] or 0) * layer.kernel_size), suffix)


TEMPORAL = {"BufferTempConv": _full, "DepthwiseBufferTempConv": _depthwise, "FrameBuffer": _frames, "StatefulRecurrent": _recurrent}
