"""Run by test_backends.py in a process of its own, on the backend that KERAS_BACKEND names: read, quantize, parity, a training step, parity; wide sums."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from numpy.lib.stride_tricks import sliding_window_view

from quantizeml_core.api import quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_keras import backend, readback
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(1)


def operations() -> None:
    """What accumulators pass through keeps float64, and max pooling takes it."""
    x = ops.convert_to_tensor(RNG.normal(size=(1, 4, 4, 2)) - 1e6, "float64")
    made = {
        "floor": backend.floor(x), "maximum": backend.maximum(x, 0.5), "minimum": backend.minimum(x, x), "max_pool": backend.max_pool(x, (3, 2), (1, 2)),
        "matmul": backend.matmul(x, ops.transpose(x, (0, 1, 3, 2))),
    }
    values = ops.convert_to_numpy(x)
    expected = {
        "floor": np.floor(values), "maximum": np.maximum(values, 0.5), "minimum": values, "matmul": values @ values.swapaxes(2, 3),
        "max_pool": sliding_window_view(values, (3, 2), axis=(1, 2))[:, :, ::2].max(axis=(4, 5)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(ops.convert_to_numpy(made[name]), value, rtol=1e-15, err_msg=name)  # the order of two products in a sum is free


def wide() -> None:
    """Sums beyond float32: requantized, pooled, normalized and attended to in float64."""
    x = keras.Input((8, 8, 192), name="x")
    y = layers.MaxPooling2D(2)(layers.Conv2D(64, 3, padding="same")(x))
    y = layers.Reshape((16, 64))(layers.LayerNormalization()(layers.Activation("gelu")(layers.Conv2D(64, 3, padding="same")(y))))
    y = layers.Dense(4)(layers.Flatten()(layers.MultiHeadAttention(4, 16)(y, y)))
    data = RNG.normal(size=(64, 8, 8, 192)).astype("float32")
    result = quantize_model(keras.Model(x, y), samples=data)
    assert result.blueprint.stops == ()
    assert differences(result.program, {"x": data}, lambda feeds: boundaries(result.model, feeds)) == ()


def main() -> None:
    operations()
    wide()
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
