"""Layers that pool, pad, repeat or move pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Shape
from .steps import Reader, Step, pair, window


def _pool(op: str) -> Reader:
    def reader(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        size = pair(layer.pool_size)
        found = window(layer, shapes[0], size)
        if isinstance(found, str):
            return found
        pads, extent = found
        return [Step(op, {"size": size, "strides": pair(layer.strides), "pads": pads}, (shapes[0][0], *extent, shapes[0][-1]))]

    return reader


def _global_average(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    batch, *_, channels = shapes[0]
    pooled = Step("GlobalAveragePool", {}, (batch, 1, 1, channels))
    return [pooled] if layer.keepdims else [pooled, Step("Flatten", {"shape": (channels,)}, (batch, channels), "flatten")]


def _flatten(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    before, after = shapes[0], tuple(call.output_tensors[0].shape)
    return [] if before == after else [Step("Flatten" if len(after) == 2 else "Reshape", {"shape": after[1:]}, after)]


def _permute(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    dims = tuple(layer.dims)
    return [] if dims == tuple(range(1, len(dims) + 1)) else [Step("Permute", {"dims": dims}, tuple(call.output_tensors[0].shape))]


def _transpose(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    axes = tuple(operation.axes or reversed(range(len(shapes[0]))))
    if axes[0] != 0:
        return "a transposition that moves the batch is not supported"
    return [] if axes == tuple(range(len(axes))) else [Step("Permute", {"dims": axes[1:]}, tuple(call.output_tensors[0].shape))]


def _zero_padding(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    (top, bottom), (left, right) = layer.padding
    batch, height, width, channels = shapes[0]
    shape = (batch, None if height is None else height + top + bottom, None if width is None else width + left + right, channels)
    return [Step("Pad", {"pads": (top, left, bottom, right)}, shape)]


def _up_sampling(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if getattr(layer, "interpolation", "nearest") != "nearest":
        return f"UpSampling2D with `{layer.interpolation}` has no integer form here, only `nearest`"
    (down, across), (batch, height, width, channels) = pair(layer.size), shapes[0]
    shape = (batch, None if height is None else height * down, None if width is None else width * across, channels)
    return [Step("UpSampling2D", {"size": (down, across)}, shape)]


GEOMETRY = {
    "AveragePooling2D": _pool("AveragePool"), "Flatten": _flatten, "GlobalAveragePooling2D": _global_average, "MaxPooling2D": _pool("MaxPool"),
    "Permute": _permute, "Reshape": _flatten, "Transpose": _transpose, "UpSampling2D": _up_sampling, "ZeroPadding2D": _zero_padding,
}
