"""The target `cpu` in Keras: what padded depthwise layers read is left to saturation, functions are of bytes, and all compute the same integers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from quantizeml.models import load_model
from quantizeml_core.api import Result, export, quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.readback import program
from quantizeml_keras.testing import boundaries
from quantizeml_onnx.testing import boundaries as in_onnxruntime

X = np.random.default_rng(0).random((64, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = entry = keras.Input((16, 16, 3), name="image")
    x = layers.ReLU(6.0)(layers.Conv2D(8, 3, padding="same")(x))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", name="first")(x))
    x = layers.ReLU()(layers.Conv2D(12, 1)(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, 2, padding="same", name="second")(x))
    x = layers.ReLU()(layers.Conv2D(9, 1)(x))
    return keras.Model(entry, layers.Dense(4)(layers.GlobalAveragePooling2D(name="mean")(x)), name="separable")


@pytest.fixture(scope="module")
def result(model: keras.Model) -> Result:
    return quantize_model(model, samples=X, target="cpu")


def test_relus_are_saturation_and_the_average_is_of_bytes(result: Result) -> None:
    blocks = {b.name: b for b in result.program.blocks}
    assert [n for n, b in blocks.items() if "pad_value" in b.arrays] == ["first", "second"]
    assert [n for n, b in blocks.items() if b.activation is not None] == []
    assert [n for n, b in blocks.items() if b.pool is not None] == ["mean"]


def test_the_integers_are_the_same_everywhere(result: Result, tmp_path: Path) -> None:
    result.model.save(tmp_path / "net.keras")
    again, file = load_model(tmp_path / "net.keras"), load_model(export(result.model, tmp_path / "net.onnx"))
    assert differences(result.program, {"image": X[:8]}, lambda feeds: boundaries(again, feeds)) == ()
    assert differences(result.program, {"image": X[:8]}, lambda feeds: in_onnxruntime(file, feeds)) == ()


def test_it_is_faithful(model: keras.Model, result: Result) -> None:
    """35 dB: what 8 bits leave of a network this short."""
    assert decibels(np.asarray(model(X)), np.asarray(result.model(X))) > 35


def test_trained_integers_follow(model: keras.Model) -> None:
    trained = quantize_model(model, samples=X, target="cpu").model
    trained.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    trained.fit(X, np.ones((len(X), 4)), verbose=0)
    assert differences(program(trained), {"image": X[:8]}, lambda feeds: boundaries(trained, feeds)) == ()


@pytest.fixture(scope="module")
def gated() -> keras.Model:
    """Squeeze and excitation with four functions, one of them behind a dense layer, and another at the end."""
    keras.utils.set_random_seed(4)
    x = entry = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="swish", name="first")(x)
    y = layers.Activation("hard_silu", name="second")(layers.DepthwiseConv2D(3, padding="same")(x))
    gate = layers.Conv2D(4, 1, activation="tanh")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Conv2D(8, 1)(layers.Multiply()([y, layers.Conv2D(8, 1, activation="sigmoid")(gate)]))
    x = layers.LeakyReLU(0.1)(layers.Concatenate()([x, layers.Add()([x, y])]))
    x = layers.Dense(6, activation="gelu")(layers.GlobalAveragePooling2D()(layers.Conv2D(12, 3, padding="same")(x)))
    return keras.Model(entry, layers.Dense(4, activation="sigmoid", name="last")(x), name="gated")


@pytest.fixture(scope="module")
def looked_up(gated: keras.Model) -> Result:
    return quantize_model(gated, samples=X, target="cpu")


def test_functions_are_blocks_but_for_the_last(looked_up: Result) -> None:
    functions = [b.activation.name for b in looked_up.program.blocks if b.kind == "lookup"]
    assert functions == ["swish", "hard_swish", "tanh", "sigmoid", "leaky_relu", "gelu"] and "table" in looked_up.program.blocks[-1].arrays


def test_functions_are_the_same_everywhere(looked_up: Result, tmp_path: Path) -> None:
    looked_up.model.save(tmp_path / "net.keras")
    again, file = load_model(tmp_path / "net.keras"), load_model(export(looked_up.model, tmp_path / "net.onnx"))
    assert differences(looked_up.program, {"image": X[:8]}, lambda feeds: boundaries(again, feeds)) == ()
    assert differences(looked_up.program, {"image": X[:8]}, lambda feeds: in_onnxruntime(file, feeds)) == ()


def test_functions_learn(gated: keras.Model) -> None:
    made = quantize_model(gated, samples=X, target="cpu").model
    made.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = np.array(made.get_layer("first").kernel)
    losses = made.fit(X, np.tile([0.9, 0.1, 0.9, 0.1], (len(X), 1)), epochs=3, verbose=0).history["loss"]
    assert losses[0] > losses[1] > losses[2] and np.abs(made.get_layer("first").kernel - before).max() > 1e-4, "through every function"
    assert differences(program(made), {"image": X[:8]}, lambda feeds: boundaries(made, feeds)) == ()
