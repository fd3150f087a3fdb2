"""The target `cpu` in Keras: what padded depthwise layers read is left to saturation, averages are of bytes, and all three backends compute the same integers."""

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


def test_no_relu_is_left_and_the_average_stands_alone(result: Result) -> None:
    blocks = {b.name: b for b in result.program.blocks}
    assert [n for n, b in blocks.items() if "pad_value" in b.arrays] == ["first", "second"]
    assert {b.activation for b in blocks.values()} == {None} and blocks["mean"].kind == "depthwise2d"


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
