"""A causal network over whole clips, (frames, height, width, channels), as the network that computes the same frame by frame.

    Conv3D (1, h, w)                                 Conv2D
    ZeroPadding3D of k - 1 frames in front,
    then Conv3D (k, 1, 1)                            BufferTempConv; with one filter on each channel DepthwiseBufferTempConv
    pooling, padding and cropping in space           the same in two dimensions; a global average where the window is the whole image
    BatchNormalization, activations, sums, Dense     the same on one frame

Kernel (k, 1, 1, C, F) becomes (1, 1, k * C, F), time major. Everything that looks ahead in time, or mixes frames otherwise, is refused by
name. Layers and weights are copied; the model given is not modified. Frame t of the clip's output is what the t-th call computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from quantizeml_core.errors import ModelError

from .readers.steps import array, bias
from .temporal import BufferTempConv, DepthwiseBufferTempConv
from .trace import calls, refuse_without_graph

Tensor = Any
Layer = Any
Made = list[tuple[Layer, "list[np.ndarray] | None"]]
"""Layers one behind the other, each with its weights, None where it has none to set."""


@dataclass(frozen=True)
class _Value:
    """A tensor of one frame, and how many frames of zeros stand in front of the clip."""

    frame: Tensor
    ahead: int = 0


def replace_conv3d(model: keras.Model) -> keras.Model:
    """The streaming model. ModelError names the layer that cannot be computed frame by frame."""
    refuse_without_graph(model)
    entries = [keras.Input(_without_time(t, "an input"), dtype=t.dtype, name=t.name) for t in model.inputs]
    values = {id(old): _Value(new) for old, new in zip(model.inputs, entries, strict=True)}
    copies: dict[int, Made] = {}
    for call in calls(model):
        results = [_run(call, [values[id(t)] for t in call.input_tensors], copies)]
        values |= {id(t): value for t, value in zip(call.output_tensors, results, strict=True)}
    outputs = [_settled(values[id(t)], "the output").frame for t in model.outputs]
    return keras.Model(*(ts[0] if len(ts) == 1 else ts for ts in (entries, outputs)), name=model.name)


def _without_time(tensor: Tensor, what: str) -> tuple[int | None, ...]:
    if len(tensor.shape) != 5:
        raise ModelError(f"{what} has the shape {tuple(tensor.shape)}", where=f"`{tensor.name}`",
                         allowed="(batch, frames, height, width, channels)")
    return tuple(tensor.shape[2:])


def _run(call: Any, inputs: Sequence[_Value], copies: dict[int, Made]) -> _Value:
    layer = call.operation
    shapes = [tuple(t.shape) for t in call.input_tensors]
    _refuse(layer, "the data format `channels_first`", getattr(layer, "data_format", "channels_last") == "channels_first")
    kind = type(layer).__name__
    if kind in NOTHING:
        return inputs[0]
    if kind == "ZeroPadding3D":
        return _padded(layer, inputs[0])
    if id(layer) in copies and kind == "Conv3D" and layer.kernel_size[0] > 1:
        _refuse(layer, "a convolution over time that is called twice", True)
    if id(layer) not in copies:
        if kind not in MADE:
            raise ModelError(f"{kind} cannot be computed frame by frame here", where=f"`{layer.name}`",
                             allowed=", ".join(sorted({*MADE, *NOTHING, "ZeroPadding3D"})))
        copies[id(layer)] = MADE[kind](layer, shapes)
    _refuse_ahead(layer, inputs)
    return _Value(_applied(copies[id(layer)], [value.frame for value in inputs]))


def _applied(made: Made, frames: list[Tensor]) -> Tensor:
    x: Any = frames if len(frames) > 1 else frames[0]
    for layer, weights in made:
        x = layer(x)
        if weights is not None:
            layer.set_weights(weights)
    return x


def _refuse(layer: Layer, what: str, holds: bool = True) -> None:
    if holds:
        raise ModelError(f"{what} cannot be computed frame by frame", where=f"`{layer.name}` ({type(layer).__name__})",
                         allowed="causal networks: Conv3D of (1, h, w), and of (k, 1, 1) behind a ZeroPadding3D of k - 1 frames in front")


def _refuse_ahead(layer: Layer, inputs: Sequence[_Value]) -> None:
    """Zeros in front of a clip are the memory of the convolution over time behind them, and of nothing else."""
    wanted = layer.kernel_size[0] - 1 if type(layer).__name__ == "Conv3D" else 0
    if any(value.ahead != wanted for value in inputs):
        _refuse(layer, f"a layer over {wanted + 1} frames behind {max(value.ahead for value in inputs)} frames of padding")


def _settled(value: _Value, what: str) -> _Value:
    if value.ahead:
        raise ModelError(f"{value.ahead} frames of padding reach it", where=what, do="Remove the ZeroPadding3D")
    return value


def _padded(layer: Layer, value: _Value) -> _Value:
    (front, behind), *space = layer.padding
    _refuse(layer, "padding behind the last frame", behind != 0)
    frame = keras.layers.ZeroPadding2D(space, name=layer.name)(value.frame) if np.any(space) else value.frame
    return _Value(frame, value.ahead + front)


def _conv3d(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
    (time, *space), strides, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
    _refuse(layer, "a stride or a dilation in time", strides[0] != 1 or (time > 1 and dilation[0] != 1))
    _refuse(layer, f"a kernel over time and space {tuple(layer.kernel_size)}", time > 1 and space != [1, 1])
    return _over_time(layer, int(shapes[0][-1] or 0)) if time > 1 else _over_space(layer)


def _over_space(layer: Layer) -> Made:
    kernel = array(layer.kernel)[0]
    conv = keras.layers.Conv2D(
        layer.filters, layer.kernel_size[1:], layer.strides[1:], layer.padding, dilation_rate=layer.dilation_rate[1:], groups=layer.groups,
        activation=layer.activation, use_bias=layer.use_bias, name=layer.name)
    return [(conv, _with_bias(layer, kernel))]


def _over_time(layer: Layer, channels: int) -> Made:
    time, kernel = layer.kernel_size[0], array(layer.kernel)
    _refuse(layer, f"a stride in space {tuple(layer.strides)}", tuple(layer.strides) != (1, 1, 1))
    _refuse(layer, "padding on both sides of the frames", layer.padding != "valid")
    if layer.groups == 1:
        made: Layer = BufferTempConv(layer.filters, time, use_bias=layer.use_bias, name=layer.name)
        weights = _with_bias(layer, kernel.reshape(1, 1, time * channels, layer.filters))
    else:
        _refuse(layer, f"a convolution over time in {layer.groups} groups of several channels",
                not layer.groups == channels == layer.filters)
        made = DepthwiseBufferTempConv(time, use_bias=layer.use_bias, name=layer.name)
        weights = _with_bias(layer, kernel.reshape(time, channels))
    plain = layer.activation is keras.activations.linear
    return [(made, weights)] + ([] if plain else [(keras.layers.Activation(layer.activation, name=f"{layer.name}_activation"), None)])


def _with_bias(layer: Layer, kernel: np.ndarray) -> list[np.ndarray]:
    found = bias(layer)
    return [kernel] if found is None else [kernel, found]


def _batch_normalization(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
    _refuse(layer, f"a normalization of the axis {layer.axis}", layer.axis not in (-1, 4))
    return _copied(layer, axis=-1)


def _pooled(flat: Callable[..., Layer]) -> Callable[..., Made]:
    def make(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
        (time, *size), strides = layer.pool_size, layer.strides
        _refuse(layer, "pooling over time", time != 1 or strides[0] != 1)
        if flat is keras.layers.AveragePooling2D and tuple(size) == tuple(shapes[0][2:4]) and layer.padding == "valid":
            return [(keras.layers.GlobalAveragePooling2D(keepdims=True, name=layer.name), None)]
        return [(flat(tuple(size), strides[1:], layer.padding, name=layer.name), None)]

    return make


def _global(flat: Callable[..., Layer]) -> Callable[..., Made]:
    def make(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
        _refuse(layer, "pooling over all frames", shapes[0][1] != 1)
        return [(flat(keepdims=layer.keepdims, name=layer.name), None)]

    return make


def _reshaped(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
    frames, *rest = layer.target_shape
    _refuse(layer, f"a reshape to {tuple(layer.target_shape)}, which does not leave the frames alone",
            frames != shapes[0][1] or frames is None)
    return [(keras.layers.Reshape(rest, name=layer.name), None)]


def _joined(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
    axis = getattr(layer, "axis", -1)
    _refuse(layer, f"tensors side by side on axis {axis}", axis not in (-1, len(shapes[0]) - 1))
    return _copied(layer, **({"axis": -1} if hasattr(layer, "axis") else {}))


def _same(layer: Layer, shapes: Sequence[tuple[int | None, ...]]) -> Made:
    return _copied(layer)


def _copied(layer: Layer, **changes: Any) -> Made:
    weights = layer.get_weights()
    return [(type(layer).from_config({**layer.get_config(), **changes}), weights or None)]


NOTHING = frozenset({"ActivityRegularization", "Dropout", "Identity", "SpatialDropout3D"})
MADE: Mapping[str, Callable[..., Made]] = {
    "Activation": _same, "Add": _joined, "AveragePooling3D": _pooled(keras.layers.AveragePooling2D),
    "BatchNormalization": _batch_normalization, "Concatenate": _joined, "Conv3D": _conv3d, "Dense": _same, "ELU": _same,
    "GlobalAveragePooling3D": _global(keras.layers.GlobalAveragePooling2D), "LeakyReLU": _same,
    "MaxPooling3D": _pooled(keras.layers.MaxPooling2D), "Multiply": _joined, "ReLU": _same, "Rescaling": _same, "Reshape": _reshaped,
}
