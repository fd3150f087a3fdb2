"""Layers that do the same to every pixel: affine ones and activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..activations import SOFTMAX_ALONE, activation_step
from ..graph import Shape
from .steps import Reader, Step, array


def _batch_normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(shapes[0]) - 1):
        return "a BatchNormalization of another axis than the last is not supported"
    mean, variance = array(layer.moving_mean).astype(np.float64), array(layer.moving_variance).astype(np.float64)
    gamma = array(layer.gamma).astype(np.float64) if layer.scale else np.ones_like(mean)
    beta = array(layer.beta).astype(np.float64) if layer.center else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return [Step("Affine", {"scale": scale, "offset": beta - mean * scale}, shapes[0])]


def _layer_normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if getattr(layer, "rms_scaling", False) or axis not in ([-1], [len(shapes[0]) - 1]):
        return "a LayerNormalization by root mean squares, or of other axes than the last, is not supported"
    gamma = array(layer.gamma).astype(np.float64) if layer.scale else np.ones(1)
    beta = array(layer.beta).astype(np.float64) if layer.center else np.zeros(1)
    first = Step("Normalize", {"epsilon": float(layer.epsilon)}, shapes[0], "normalized")
    return [first, Step("Affine", {"scale": gamma, "offset": beta}, shapes[0])] if layer.scale or layer.center else [replace(first, suffix="")]


def _mad_normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    gamma, beta = (array(w).astype(np.float64) for w in (layer.gamma, layer.beta))
    return [Step("MadNormalize", {}, shapes[0], "normalized"), Step("Affine", {"scale": gamma, "offset": beta}, shapes[0])]


def _layer_scale(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    """Of keras.applications.convnext: a factor for each channel."""
    return [Step("Affine", {"scale": array(layer.gamma).astype(np.float64), "offset": np.zeros(1)}, shapes[0])]


def _rescaling(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    scale, offset = (np.atleast_1d(np.asarray(v, np.float64)).reshape(-1) for v in (layer.scale, layer.offset))
    if {len(scale), len(offset)} - {1, shapes[0][-1]}:
        return "scale and offset must be numbers, or one number for each channel"
    return [Step("Affine", {"scale": scale, "offset": offset}, shapes[0])]


def _normalization(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    mean, variance = (array(v).astype(np.float64).reshape(-1) for v in (layer.mean, layer.variance))
    if layer.invert or {mean.size, variance.size} - {1, shapes[0][-1]}:
        return "a Normalization that is inverted, or of another axis than the last, is not supported"
    scale = 1.0 / np.maximum(np.sqrt(variance), 1e-7)  # Keras' own lower limit, keras.backend.epsilon()
    return [Step("Affine", {"scale": scale, "offset": -mean * scale}, shapes[0])]


def _softmax(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    if len(call.arguments.args) > 1 or call.arguments.kwargs.get("mask") is not None or layer.axis not in (-1, len(shapes[0]) - 1):
        return "a Softmax with a mask, or over another axis than the last, is not supported outside an attention"
    return [Step("Softmax", {"reason": SOFTMAX_ALONE}, shapes[0])]


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
    alpha = array(layer.alpha)
    if alpha.size == 0 or (alpha != alpha.flat[0]).any():
        return "a PReLU whose slopes differ has no table; one slope for all is supported"
    return [Step("Table", {"function": "leaky_relu", "alpha": float(alpha.flat[0])}, shapes[0])]


def _activation(layer: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
    step = activation_step(layer.activation)
    return step if isinstance(step, str) else [Step(op, attributes, shapes[0]) for op, attributes in step]


def _function(name: str) -> Reader:
    def reader(operation: Any, call: Any, shapes: Sequence[Shape]) -> list[Step] | str:
        step = activation_step(name, operation)
        return step if isinstance(step, str) else [Step(op, attributes, shapes[0]) for op, attributes in step]

    return reader


ELEMENTWISE = {
    "Activation": _activation, "BatchNormalization": _batch_normalization, "ELU": _function("elu"), "Gelu": _function("gelu"),
    "HardSigmoid": _function("hard_sigmoid"), "HardSilu": _function("hard_silu"), "LayerMadNormalization": _mad_normalization, "LayerNormalization": _layer_normalization, "LayerScale": _layer_scale, "LeakyReLU": _leaky, "LeakyRelu": _function("leaky_relu"),
    "Normalization": _normalization, "PReLU": _prelu, "ReLU": _relu, "Relu": _relu, "Relu6": _function("relu6"), "Rescaling": _rescaling,
    "Sigmoid": _function("sigmoid"), "Silu": _function("silu"), "Softmax": _softmax, "Tanh": _function("tanh"),
}
