"""Learned step sizes: the same integers at first, trained ratios that hardware has, never off the lattice."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from quantizeml.models import QuantizationParams, learn_steps, load_model, quantize, save_model
from quantizeml_core.testing import differences
from quantizeml_keras import readback
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(12)
X = RNG.normal(size=(96, 8, 8, 2)).astype("float32")
Y = (X[..., 0].mean(axis=(1, 2)) > 0).astype("int32")


@pytest.fixture(scope="module")
def quantized() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((8, 8, 2), name="x")
    y = layers.ReLU()(layers.Conv2D(4, 3, name="conv")(x))
    y = layers.ReLU()(layers.DepthwiseConv2D(3, name="depthwise")(y))
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Conv2D(6, 1, name="point")(y)))
    return quantize(keras.Model(x, layers.Dense(2, name="fc")(y)), qparams=QuantizationParams(weight_bits=2, activation_bits=4), samples=X)


def assert_on_the_lattice(model: keras.Model) -> None:
    program = readback.program(model)
    assert program is not None and not program.verify()
    assert differences(program, {"x": X[:20]}, lambda feeds: boundaries(model, feeds)) == ()


def trained(quantized: keras.Model) -> keras.Model:
    model = learn_steps(quantized)
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(X, Y, batch_size=32, epochs=4, verbose=0)
    return model


def test_the_copy_computes_the_same(quantized: keras.Model) -> None:
    model = learn_steps(quantized)
    assert np.array_equal(model.predict(X, verbose=0), quantized.predict(X, verbose=0))
    assert {v.path.split("/")[0] for v in model.trainable_variables if v.name == "step_exponent"} == {"conv", "depthwise", "point"}
    assert_on_the_lattice(model)


def test_steps_are_trained_and_stay_representable(quantized: keras.Model) -> None:
    model = trained(quantized)
    for name in ("conv", "depthwise", "point"):
        layer = model.get_layer(name)
        assert layer.learned.exponent.numpy().any()
        arrays = layer.learned.arrays()
        assert (arrays["multiplier"] >= 128).all()
        assert np.array_equal(arrays["multiplier"] * 2.0 ** -arrays["shift"], np.asarray(layer.learned.ratio()))
    assert_on_the_lattice(model)


def test_saved_and_reloaded(quantized: keras.Model, tmp_path: Path) -> None:
    model = trained(quantized)
    again = load_model(save_model(model, tmp_path / "net.keras"))
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert_on_the_lattice(again)
