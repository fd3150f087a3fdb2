"""Run a quantized Keras model and return the integers of every block boundary, for `quantizeml_core.testing`."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from quantizeml_core.testing import Feeds

from .layers import QuantizedLayer
from .layouts import channels_first


def boundaries(model: keras.Model, feeds: Feeds) -> Mapping[str, np.ndarray]:
    """Channel-first integers by tensor name of the program, in the tensors' own types. `feeds`: by input name, in the native layout."""
    layers = [layer for layer in model.layers if isinstance(layer, QuantizedLayer)]
    exposed = keras.Model(model.inputs, [layer.output for layer in layers])
    values = exposed([ops.convert_to_tensor(feeds[t.name]) for t in model.inputs], training=False)
    return {layer.spec.block.output: _stored(layer, ops.convert_to_numpy(value)) for layer, value in zip(layers, keras.tree.flatten(values), strict=True)}


def _stored(layer: QuantizedLayer, value: np.ndarray) -> np.ndarray:
    integers = value.transpose(channels_first(value.ndim)).astype(layer.spec.output.dtype)
    return integers if (integers == value.transpose(channels_first(value.ndim))).all() else value
