"""What readers are made of: the step, and what layers have in common (kernels, biases, windows, activations of their own)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from ..activations import activation_step
from ..graph import OPAQUE, Shape
from ..layers.windows import same_pads


@dataclass(frozen=True)
class Step:
    """One operation: its attributes, the shape of its output, a suffix for its name when it is not the layer's main one."""

    op: str
    attributes: Mapping[str, Any]
    shape: Shape
    suffix: str = ""
    binary: bool = False


Reader = Callable[[Any, Any, Sequence[Shape]], "list[Step] | str"]


def window(layer: Any, shape: Shape, kernel: tuple[int, ...]) -> tuple[tuple[int, int, int, int], Shape] | str:
    """Pads and output size (height, width) of a sliding window; or why they are unknown."""
    strides, padding = pair(layer.strides), layer.padding
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


def activated(steps: list[Step], layer: Any) -> list[Step]:
    """The steps of a layer, and that of its own activation; one without a table stays float, the layer itself need not."""
    found, shape = activation_step(layer.activation), steps[-1].shape
    if isinstance(found, str):
        return [*steps, Step(f"{OPAQUE}Activation", {"reason": found, "function": layer.activation, "layer": "Activation"}, shape, "activation")]
    return steps + [Step(op, attributes, shape, "activation") for op, attributes in found]


LARGEST = 1 << 26
"""Numbers a kernel may have."""


def dilated(kernel: np.ndarray, rate: Any) -> np.ndarray | str:
    """The kernel with zeros between its taps: a dilated convolution is that of the dilated kernel. Why not where that is too large."""
    (down, across), (height, width) = pair(rate), kernel.shape[:2]
    shape = ((height - 1) * down + 1, (width - 1) * across + 1, *kernel.shape[2:])
    if math.prod(shape) > LARGEST:
        return f"its kernel of {shape[0]}x{shape[1]} pixels would have {math.prod(shape)} numbers, more than {LARGEST}"
    out = np.zeros(shape, kernel.dtype)
    out[::down, ::across] = kernel
    return out


def pair(value: Any) -> tuple[int, int]:
    pair = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),) * 2
    return pair[0], pair[1]


def array(variable: Any) -> np.ndarray:
    return ops.convert_to_numpy(variable)


def bias(layer: Any) -> np.ndarray | None:
    return array(layer.bias) if layer.use_bias else None
