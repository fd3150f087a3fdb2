"""The integer program of a quantized Keras model: the integers of now, after any training, from the layers' own arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

from .layers import Dequantizer, InputQuantizer, QuantizedEmbedding, QuantizedLayer, QuantizedLinear
from .layouts import to_canonical


NO_ARITHMETIC = (keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.Identity)


def program(model: keras.Model) -> Program | None:
    """The program inside a quantized model, None for a float one."""
    layers = [layer for layer in _flat(model) if isinstance(layer, QuantizedLayer)]
    if not layers:
        return None
    shapes = {layer.spec.block.inputs[0]: layer.spec.shape for layer in layers if isinstance(layer, InputQuantizer)}
    shapes |= {layer.spec.block.output: layer.spec.shape for layer in layers}
    formats = {layer.spec.block.output: layer.spec.output for layer in layers}
    ends = [layer for layer in _flat(model) if isinstance(layer, Dequantizer)]
    outputs = tuple(layer.tensor for layer in sorted(ends, key=lambda end: (len(end.name), end.name)))
    return Program(tuple(_block(layer) for layer in layers), formats, outputs, shapes)


def configuration(model: keras.Model) -> dict[str, Any] | None:
    """The configuration a model was quantized with, None for a float one."""
    kept = (layer.configuration for layer in _flat(model) if isinstance(layer, InputQuantizer))
    return next((c for c in kept if c is not None), None)


def float_layers(model: keras.Model) -> tuple[str, ...]:
    """The layers of a quantized model that compute in float: all but those that only pass values on."""
    return tuple(layer.name for layer in _flat(model) if not isinstance(layer, (QuantizedLayer, Dequantizer, *NO_ARITHMETIC)))


def _flat(model: Any) -> Iterator[Any]:
    """The layers in topological order, those of nested models in their place."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _block(layer: QuantizedLayer) -> Block:
    block = layer.spec.block
    if isinstance(layer, QuantizedEmbedding):
        return block.with_arrays(entries=ops.convert_to_numpy(layer.integer_entries()).T.astype(np.int32))
    if not isinstance(layer, QuantizedLinear):
        return block
    weight = layer.integer_weight()
    kernel = to_canonical(block, ops.convert_to_numpy(weight), layer.spec.sources[0].shape).astype(np.int8)
    bias = ops.convert_to_numpy(layer.integer_bias(weight)).astype(np.int64) if layer.has_bias else None
    return block.with_arrays(weight=kernel, bias=bias, **(layer.learned.arrays() if layer.learned else {}))
