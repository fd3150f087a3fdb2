"""An option of training: a copy of a quantized model whose filters learn their weight steps (`layers.learned`)."""

from __future__ import annotations

import keras

from .layers import QuantizedLinear


def learn_steps(model: keras.Model) -> keras.Model:
    """The same integers, one trained weight more for each filter that can have it; compile and fit the copy."""

    def learning(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "learned_step": True} if isinstance(layer, QuantizedLinear) else config)

    copy = keras.models.clone_model(model, clone_function=learning)
    for old, new in zip(model.layers, copy.layers, strict=True):
        known = {w.name: w for w in old.weights}
        for weight in new.weights:
            if weight.name in known:
                weight.assign(known[weight.name])
    return copy
