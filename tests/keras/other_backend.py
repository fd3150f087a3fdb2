"""Run by test_backends.py in a process of its own, on the backend that KERAS_BACKEND names: read, quantize, parity, a training step, parity."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from quantizeml_core.api import quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_keras import readback
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(1)


def main() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 2), name="x")
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", strides=2)(layers.Rescaling(0.5, -1)(x))))
    y = layers.Add()([layers.Conv2D(4, 1)(y), layers.DepthwiseConv2D(3, padding="same", activation="relu")(y)])
    y = layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Activation("silu")(layers.Conv2D(4, 1)(y))))
    data, labels = RNG.normal(size=(32, 8, 8, 2)).astype("float32"), RNG.integers(0, 2, 32)
    result = quantize_model(keras.Model(x, y), qparams=QuantizationParams(weight_bits=4), samples=data)
    model = result.model
    assert differences(result.program, {"x": data}, lambda feeds: boundaries(model, feeds)) == ()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data, labels, epochs=2, verbose=0)
    trained = readback.program(model)
    assert trained is not None and differences(trained, {"x": data}, lambda feeds: boundaries(model, feeds)) == ()
    print(keras.backend.backend(), "agrees on", len(trained.blocks), "blocks")


if __name__ == "__main__":
    main()
