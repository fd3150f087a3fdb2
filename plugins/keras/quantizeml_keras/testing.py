"""The parity kit on Keras: the integers of every block boundary, and the verdict on a model, for `quantizeml_core.testing`."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from quantizeml_core.api import quantize_model
from quantizeml_core.match import stop_message
from quantizeml_core.testing import Feeds, Verdict
from quantizeml_core.testing import judge as judged

from .layers import QuantizedLayer
from .layers.frames import reset_buffers
from .layouts import channels_first


def boundaries(model: keras.Model, feeds: Feeds, keep: bool = False) -> Mapping[str, np.ndarray]:
    """Channel-first integers by tensor name of the program, in the tensors' own types. `feeds`: by input name, in the native layout.

    Arguments:
        keep: a network with a memory goes on with its sequence; else one begins.
    """
    if not keep:
        reset_buffers(model)
    layers = [layer for layer in model.layers if isinstance(layer, QuantizedLayer)]
    exposed = keras.Model(model.inputs, [layer.output for layer in layers])
    values = exposed([ops.convert_to_tensor(feeds[t.name]) for t in model.inputs], training=False)
    return {layer.spec.block.output: _stored(layer, ops.convert_to_numpy(value)) for layer, value in zip(layers, keras.tree.flatten(values), strict=True)}


def _stored(layer: QuantizedLayer, value: np.ndarray) -> np.ndarray:
    integers = value.transpose(channels_first(value.ndim)).astype(layer.spec.output.dtype)
    return integers if (integers == value.transpose(channels_first(value.ndim))).all() else value


def judge(model: keras.Model, samples: np.ndarray, target: str = "generic", count: int = 8) -> Verdict:
    """Quantize a model of one input to 8 bits, compare integers layer by layer, and every block with the float layer of its name.

    Arguments:
        samples: float32 (N, ...); all calibrate, `count` are compared.
    """
    result = quantize_model(model, samples=samples, target=target)
    feeds = {model.inputs[0].name: np.asarray(samples[:count], np.float32)}
    layers = {layer.output.name: layer.output for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)}
    shared = [b.output for b in result.program.blocks if b.output in layers]
    reset_buffers(model)
    values = keras.Model(model.inputs, [layers[t] for t in shared])(list(feeds.values()), training=False)
    floats = {t: ops.convert_to_numpy(v) for t, v in zip(shared, keras.tree.flatten(values), strict=True)}
    channel_first = {t: v.transpose(channels_first(v.ndim)) for t, v in floats.items()}
    return judged(result.program, feeds, lambda given: boundaries(result.model, given), channel_first, tuple(map(stop_message, result.blueprint.stops)))
