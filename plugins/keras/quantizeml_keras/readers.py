"""Readers: what a Keras layer computes at inference, as steps of simple operations (`graph`), by class name.

A reader answers with its steps, none for a layer that does nothing at inference, or with the reason why the layer has no integer form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from keras import ops
from keras.utils import is_keras_tensor

from .activations import activation_step
from .graph import OPAQUE, Shape
from .layers.windows import same_pads


Reader = Callable[[Any, Any, Sequence[Shape]], "list[Step] | str"]


@dataclass(frozen=True)
class Step:
    """One operation: its attributes, the shape of its output, a suffix for its name when it is not the layer's main one."""

    op: str
    attributes: Mapping[str, Any]
    shape: Shape
    suffix: str = ""
    binary: bool = False


def read(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """The steps of one call. `shapes`: native shapes of its inputs."""
    kind = type(operation).__name__
    if kind in NOTHING_AT_INFERENCE or kind.startswith("Random"):
        return []
    reader = READERS.get(kind)
    if reader is None:
        return f"{kind} has no integer form here"
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        return "data_format `channels_first` is not supported, only `channels_last`"
    return reader(operation, call, shapes)


def _conv2d(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel = _dilated(_array(layer.kernel), layer.dilation_rate)
    groups = layer.groups
    if groups > 1 and kernel.shape[2] == 1:
        return _depthwise_steps(layer, shapes[0], kernel.reshape(*kernel.shape[:2], groups, -1))
    attributes = {"kernel": kernel, "bias": _bias(layer), "groups": groups}
    return _sliding("Conv2D", layer, shapes[0], attributes, kernel.shape[-1])


def _padded_conv2d(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """A convolution whose padding has a value."""
    steps = _conv2d(layer, call, shapes)
    if isinstance(steps, str):
        return steps
    value = np.broadcast_to(np.asarray(layer.padding_value, np.float64), (shapes[0][-1],))
    return [replace(steps[0], attributes={**steps[0].attributes, "pad_value": value}), *steps[1:]]


def _depthwise_transposed(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """As a transposed convolution whose kernel is a diagonal."""
    kernel, strides = _array(layer.kernel), layer.strides
    attributes = {"kernel": kernel * np.eye(kernel.shape[2], dtype=kernel.dtype), "bias": _bias(layer), "strides": strides, "padding": "same",
                  "crops": _crops(kernel.shape[:2], strides, "same")}
    return [Step("Conv2DTranspose", attributes, tuple(call.output_tensors[0].shape))]


def _permute(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    dims = tuple(layer.dims)
    return [] if dims == tuple(range(1, len(dims) + 1)) else [Step("Permute", {"dims": dims}, tuple(call.output_tensors[0].shape))]


def _transpose(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    axes = tuple(operation.axes or reversed(range(len(shapes[0]))))
    if axes[0] != 0:
        return "a transposition that moves the batch is not supported"
    return [] if axes == tuple(range(len(axes))) else [Step("Permute", {"dims": axes[1:]}, tuple(call.output_tensors[0].shape))]


def _depthwise(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return _depthwise_steps(layer, shapes[0], _dilated(_array(layer.kernel), layer.dilation_rate))


def _depthwise_steps(layer: Any, shape: Shape, kernel: np.ndarray) -> list[Step] | str:
    return _sliding("DepthwiseConv2D", layer, shape, {"kernel": kernel, "bias": _bias(layer)}, kernel.shape[2] * kernel.shape[3])


def _separable(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    depthwise = _dilated(_array(layer.depthwise_kernel), layer.dilation_rate)
    window = _window(layer, shapes[0], depthwise.shape[:2])
    if isinstance(window, str):
        return window
    pads, size = window
    first = Step("DepthwiseConv2D", {"kernel": depthwise, "bias": None, "strides": _pair(layer.strides), "pads": pads},
                 (shapes[0][0], *size, depthwise.shape[2] * depthwise.shape[3]), "depthwise")
    pointwise = _array(layer.pointwise_kernel)
    second = Step("Conv2D", {"kernel": pointwise, "bias": _bias(layer), "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1},
                  (shapes[0][0], *size, pointwise.shape[-1]))
    return _activated([first, second], layer)


def _sliding(op: str, layer: Any, shape: Shape, attributes: dict[str, Any], channels: int) -> list[Step] | str:
    window = _window(layer, shape, attributes["kernel"].shape[:2])
    if isinstance(window, str):
        return window
    pads, size = window
    step = Step(op, {**attributes, "strides": _pair(layer.strides), "pads": pads}, (shape[0], *size, channels))
    return _activated([step], layer)


def _window(layer: Any, shape: Shape, kernel: tuple[int, ...]) -> tuple[tuple[int, int, int, int], Shape] | str:
    """Pads and output size (height, width) of a sliding window; or why they are unknown."""
    strides, padding = _pair(layer.strides), layer.padding
    if padding == "causal":
        pads = (0, kernel[1] - 1, 0, 0)
        return pads, output_size(shape[1:3], kernel, strides, pads)
    pads = (0, 0, 0, 0) if padding == "valid" else same_pads(shape[1:3], (kernel[0], kernel[1]), strides)
    if padding not in ("valid", "same"):
        return f"padding `{padding}` is not supported, only `same` and `valid`"
    if pads is None:
        return "`same` padding needs a fixed height and width: give input_shape"
    return pads, output_size(shape[1:3], kernel, strides, pads)


def output_size(size: Shape, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Shape:
    """Height and width behind a sliding window, None where unknown."""
    return tuple(None if s is None else (s + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, s in enumerate(size))


def _on_rows(reader: Reader) -> Reader:
    """The reader of a layer on sequences, by way of that on images: kernels, strides and the like get a first axis of one."""

    def read_rows(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        return reader(SimpleNamespace(**{name: change(getattr(layer, name)) for name, change in ROWS.items() if hasattr(layer, name)}), call, shapes)

    return read_rows


def _pad_row(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    (left, right), (batch, height, width, channels) = layer.padding, shapes[0]
    return [Step("Pad", {"pads": (0, left, 0, right)}, (batch, height, None if width is None else width + left + right, channels))]


def _dense(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    kernel, shape = _array(layer.kernel), shapes[0]
    out = (*shape[:-1], kernel.shape[-1])
    if len(shape) == 2:
        return _activated([Step("Dense", {"kernel": kernel, "bias": _bias(layer)}, out)], layer)
    if len(shape) != 4:
        return f"a Dense on {len(shape)} axes has no integer form here, only on 2 or 4"
    return _activated([Step("Conv2D", {"kernel": kernel[None, None], "bias": _bias(layer), "strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}, out)], layer)


def _transposed(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if set(_pair(layer.dilation_rate)) != {1} or layer.output_padding is not None:
        return "a Conv2DTranspose with a dilation or an output padding is not supported"
    kernel, strides = _array(layer.kernel), _pair(layer.strides)
    attributes = {"kernel": kernel, "bias": _bias(layer), "strides": strides, "padding": layer.padding,
                  "crops": _crops(kernel.shape[:2], strides, layer.padding)}
    return _activated([Step("Conv2DTranspose", attributes, tuple(call.output_tensors[0].shape))], layer)


def _crops(kernel: tuple[int, ...], strides: tuple[int, int], padding: str) -> tuple[int, int, int, int]:
    """Rows and columns that a transposed convolution drops from (size - 1) * stride + kernel: top, left, bottom, right; negative ones are added.

    Keras keeps size * stride for `same`, half of the rest dropped before; for `valid` no less than that.
    """
    rest = [k - s if padding == "same" else min(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
    before = [max(r, 0) // 2 for r in rest]
    return before[0], before[1], rest[0] - before[0], rest[1] - before[1]


def _batch_normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(shapes[0]) - 1):
        return "a BatchNormalization of another axis than the last is not supported"
    mean, variance = _array(layer.moving_mean).astype(np.float64), _array(layer.moving_variance).astype(np.float64)
    gamma = _array(layer.gamma).astype(np.float64) if layer.scale else np.ones_like(mean)
    beta = _array(layer.beta).astype(np.float64) if layer.center else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return [Step("Affine", {"scale": scale, "offset": beta - mean * scale}, shapes[0])]


def _rescaling(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    scale, offset = (np.atleast_1d(np.asarray(v, np.float64)).reshape(-1) for v in (layer.scale, layer.offset))
    if {len(scale), len(offset)} - {1, shapes[0][-1]}:
        return "scale and offset must be numbers, or one number for each channel"
    return [Step("Affine", {"scale": scale, "offset": offset}, shapes[0])]


def _relu(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    slope = float(getattr(layer, "negative_slope", 0) or 0)
    top, threshold = getattr(layer, "max_value", None), float(getattr(layer, "threshold", 0) or 0)
    if threshold or (slope and top is not None):
        return "a ReLU with a threshold, or with a negative slope and a bound, is not supported"
    if slope:
        return [Step("Table", {"function": "leaky_relu", "alpha": slope}, shapes[0])]
    return [Step("ReLU", {"bound": None if top is None else float(top)}, shapes[0])]


def _leaky(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return [Step("Table", {"function": "leaky_relu", "alpha": float(layer.negative_slope)}, shapes[0])]


def _prelu(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    alpha = _array(layer.alpha)
    if alpha.size == 0 or (alpha != alpha.flat[0]).any():
        return "a PReLU whose slopes differ has no table; one slope for all is supported"
    return [Step("Table", {"function": "leaky_relu", "alpha": float(alpha.flat[0])}, shapes[0])]


def _activation(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    step = activation_step(layer.activation)
    return step if isinstance(step, str) else [Step(op, attributes, shapes[0]) for op, attributes in step]


def _function(name: str) -> Callable[[Any, Any, Sequence[Shape]], "list[Step] | str"]:
    def reader(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        step = activation_step(name, operation)
        return step if isinstance(step, str) else [Step(op, attributes, shapes[0]) for op, attributes in step]

    return reader


def _pool(op: str) -> Callable[[Any, Any, Sequence[Shape]], "list[Step] | str"]:
    def reader(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        size = _pair(layer.pool_size)
        window = _window(layer, shapes[0], size)
        if isinstance(window, str):
            return window
        pads, extent = window
        if op == "AveragePool" and any(pads):
            return "an average pooling whose padding is left out of the mean has windows of different sizes"
        return [Step(op, {"size": size, "strides": _pair(layer.strides), "pads": pads}, (shapes[0][0], *extent, shapes[0][-1]))]

    return reader


def _global_average(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    batch, *_, channels = shapes[0]
    pooled = Step("GlobalAveragePool", {}, (batch, 1, 1, channels))
    return [pooled] if layer.keepdims else [pooled, Step("Flatten", {"shape": (channels,)}, (batch, channels), "flatten")]


def _flatten(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    return _reshaped(shapes[0], tuple(call.output_tensors[0].shape))


def _reshaped(before: Shape, after: Shape) -> list[Step]:
    op = "Flatten" if len(after) == 2 else "Reshape"
    return [] if before == after else [Step(op, {"shape": after[1:]}, after)]


def _zero_padding(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    (top, bottom), (left, right) = layer.padding
    batch, height, width, channels = shapes[0]
    shape = (batch, None if height is None else height + top + bottom, None if width is None else width + left + right, channels)
    return [Step("Pad", {"pads": (top, left, bottom, right)}, shape)]


def _up_sampling(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if getattr(layer, "interpolation", "nearest") != "nearest":
        return f"UpSampling2D with `{layer.interpolation}` has no integer form here, only `nearest`"
    (down, across), (batch, height, width, channels) = _pair(layer.size), shapes[0]
    shape = (batch, None if height is None else height * down, None if width is None else width * across, channels)
    return [Step("UpSampling2D", {"size": (down, across)}, shape)]


def _chain(op: str) -> Callable[[Any, Any, Sequence[Shape]], "list[Step] | str"]:
    """An operation of n operands as n - 1 operations of two."""

    def reader(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        if len(shapes) < 2:
            return _with_constant(op, call, shapes[0])
        if op == "Concatenate" and layer.axis not in (-1, len(shapes[0]) - 1):
            return _concatenated_pixels(layer.axis % len(shapes[0]), shapes)
        if op == "Add" and len(set(shapes)) > 1:
            return f"operands of different shapes ({', '.join(map(str, shapes))}) are not supported"
        steps, seen = [], shapes[0]
        for index, shape in enumerate(shapes[1:], 2):
            seen = (*seen[:-1], (seen[-1] or 0) + (shape[-1] or 0)) if op == "Concatenate" else _wider(seen, shape)
            steps.append(Step(op, {}, seen, "" if index == len(shapes) else f"first_{index}", binary=True))
        return steps

    return reader


def _concatenated_pixels(axis: int, shapes: Sequence[Shape]) -> list[Step] | str:
    """Images side by side: each padded with zeros to the whole size, and added."""
    if len(shapes[0]) != 4 or axis == 0 or any(shape[axis] is None for shape in shapes):
        return "a Concatenate on another axis than the channels takes images of a known size"
    place = axis - 1
    steps, size = [], shapes[0][axis] or 0
    for index, shape in enumerate(shapes[1:], 2):
        more = shape[axis] or 0
        first, second = ([0, 0, 0, 0] for _ in range(2))
        first[place + 2], second[place] = more, size
        size += more
        whole = (*shape[:axis], size, *shape[axis + 1:])
        attributes = {"first_pads": tuple(first), "second_pads": tuple(second)}
        steps.append(Step("Add", attributes, whole, "" if index == len(shapes) else f"first_{index}", binary=True))
    return steps


def _with_constant(op: str, call: Any, shape: Shape) -> list[Step] | str:
    """`x + 3`, `x * 0.5`: an affine operation, where the constant is a number or one for each channel."""
    constants = [a for a in call.arguments.args if not is_keras_tensor(a)]
    values = [np.asarray(c, np.float64).reshape(-1) for c in constants if isinstance(c, (int, float, np.ndarray, np.number))]
    if op not in ("Add", "Multiply") or len(values) != 1 or values[0].size not in (1, shape[-1]) or len(constants) != 1:
        return f"{op} with this constant is not supported, only with a number or one for each channel"
    one, zero = np.ones_like(values[0]), np.zeros_like(values[0])
    scale, offset = (one, values[0]) if op == "Add" else (values[0], zero)
    return [Step("Affine", {"scale": scale, "offset": offset}, shape)]


def _normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    mean, variance = (_array(v).astype(np.float64).reshape(-1) for v in (layer.mean, layer.variance))
    if layer.invert or {mean.size, variance.size} - {1, shapes[0][-1]}:
        return "a Normalization that is inverted, or of another axis than the last, is not supported"
    scale = 1.0 / np.maximum(np.sqrt(variance), 1e-7)  # Keras' own lower limit, keras.backend.epsilon()
    return [Step("Affine", {"scale": scale, "offset": -mean * scale}, shapes[0])]


def _wider(a: Shape, b: Shape) -> Shape:
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def _activated(steps: list[Step], layer: Any) -> list[Step]:
    """The steps of a layer, and that of its own activation; one without a table stays float, the layer itself need not."""
    found, shape = activation_step(layer.activation), steps[-1].shape
    if isinstance(found, str):
        return [*steps, Step(f"{OPAQUE}Activation", {"reason": found, "function": layer.activation, "layer": "Activation"}, shape, "activation")]
    return steps + [Step(op, attributes, shape, "activation") for op, attributes in found]


def _dilated(kernel: np.ndarray, rate: Any) -> np.ndarray:
    """The kernel with zeros between its taps: a dilated convolution is that of the dilated kernel."""
    down, across = _pair(rate)
    height, width = kernel.shape[:2]
    out = np.zeros(((height - 1) * down + 1, (width - 1) * across + 1, *kernel.shape[2:]), kernel.dtype)
    out[::down, ::across] = kernel
    return out


def _pair(value: Any) -> tuple[int, int]:
    pair = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * 2
    return pair[0], pair[1]


def _array(variable: Any) -> np.ndarray:
    return ops.convert_to_numpy(variable)


def _bias(layer: Any) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


NOTHING_AT_INFERENCE = frozenset({
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "InputLayer", "SpatialDropout1D",
    "SpatialDropout2D", "StochasticDepth",
})

READERS: Mapping[str, Reader] = {
    "Activation": _activation, "Add": _chain("Add"), "AveragePooling2D": _pool("AveragePool"), "BatchNormalization": _batch_normalization,
    "Concatenate": _chain("Concatenate"), "Conv2D": _conv2d, "Conv2DTranspose": _transposed, "Dense": _dense, "DepthwiseConv2D": _depthwise,
    "Flatten": _flatten, "GlobalAveragePooling2D": _global_average, "LeakyReLU": _leaky, "MaxPooling2D": _pool("MaxPool"),
    "Multiply": _chain("Multiply"), "Normalization": _normalization, "PReLU": _prelu, "ReLU": _relu, "Relu": _relu, "Rescaling": _rescaling, "Reshape": _flatten,
    "DepthwiseConv2DTranspose": _depthwise_transposed, "PaddedConv2D": _padded_conv2d, "Permute": _permute, "Transpose": _transpose,
    "SeparableConv2D": _separable, "UpSampling2D": _up_sampling, "ZeroPadding2D": _zero_padding,
    "ELU": _function("elu"), "Gelu": _function("gelu"), "HardSigmoid": _function("hard_sigmoid"), "HardSilu": _function("hard_silu"), "Relu6": _function("relu6"),
    "Sigmoid": _function("sigmoid"), "Silu": _function("silu"), "Tanh": _function("tanh"), "LeakyRelu": _function("leaky_relu"),
    "AveragePooling1D": _on_rows(_pool("AveragePool")), "Conv1D": _on_rows(_conv2d), "DepthwiseConv1D": _on_rows(_depthwise),
    "GlobalAveragePooling1D": _global_average, "MaxPooling1D": _on_rows(_pool("MaxPool")), "SeparableConv1D": _on_rows(_separable),
    "UpSampling1D": _on_rows(_up_sampling), "ZeroPadding1D": _pad_row,
}

ON_SEQUENCES = frozenset({"AveragePooling1D", "Conv1D", "DepthwiseConv1D", "GlobalAveragePooling1D", "MaxPooling1D", "SeparableConv1D", "UpSampling1D",
                          "ZeroPadding1D"})
"""Layers that read sequences: on images of one row they are layers of images."""

ON_ANY_SHAPE = frozenset({"Activation", "Add", "BatchNormalization", "Concatenate", "Dense", "ELU", "Flatten", "LeakyReLU", "Multiply", "Normalization",
                          "ReLU", "Relu", "Relu6", "Rescaling", "Sigmoid", "Silu", "Gelu", "Tanh"})
"""Layers that do the same to a sequence and to its image of one row."""

ROWS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("kernel", "depthwise_kernel", "pointwise_kernel"), lambda kernel: _array(kernel)[None]),
    **dict.fromkeys(("strides", "dilation_rate", "pool_size", "size"), lambda value: (1, value[0] if isinstance(value, (tuple, list)) else value)),
    **dict.fromkeys(("padding", "bias", "use_bias", "activation", "groups", "data_format"), lambda value: value),
}
"""What a layer on sequences has, and what it is on images of one row."""
