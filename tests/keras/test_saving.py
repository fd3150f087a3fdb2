"""A quantized model is a Keras model: saved, reloaded, cloned, its weights moved, it gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from quantizeml.models import QuantizationParams, load_model, quantize, save_model
from quantizeml_keras import readback

RNG = np.random.default_rng(6)
X = RNG.normal(size=(24, 8, 8, 2)).astype("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(5)
    x = keras.Input((8, 8, 2), name="x")
    y = layers.SeparableConv2D(4, 3, name="separable", activation="silu")(x)
    y = layers.Concatenate()([layers.Conv2D(3, 1, name="a")(y), layers.LeakyReLU()(layers.Conv2D(3, 1, name="b")(y))])
    net = keras.Model(x, [layers.Dense(3, name="out")(layers.Flatten()(y)), layers.UnitNormalization(name="unit")(y)])
    with pytest.warns(UserWarning, match="stopped before `unit`"):
        made = quantize(net, qparams=QuantizationParams(weight_bits=4), samples=X)
    made.get_layer("a").kernel.assign_add(np.full((1, 1, 4, 3), 0.05, "float32"))  # trained, so to say
    return made


def outputs(model: keras.Model) -> list[bytes]:
    return [np.asarray(y).tobytes() for y in model.predict(X, verbose=0)]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_and_reloaded_gives_the_same_bytes(model: keras.Model, tmp_path: Path, suffix: str) -> None:
    path = save_model(model, tmp_path / f"net{suffix}")
    again = load_model(path)
    assert outputs(again) == outputs(model) and path.name == f"net{suffix}"
    assert readback.configuration(again) == readback.configuration(model) and readback.configuration(again)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_reloaded_program_is_the_same(model: keras.Model, tmp_path: Path, suffix: str) -> None:
    ours, theirs = readback.program(model), readback.program(load_model(save_model(model, tmp_path / f"net{suffix}")))
    assert ours is not None and theirs is not None and ours.outputs == theirs.outputs and ours.shapes == theirs.shapes
    for a, b in zip(ours.blocks, theirs.blocks, strict=True):
        assert a == b and all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)


def test_a_name_without_suffix_gets_one(model: keras.Model, tmp_path: Path) -> None:
    assert save_model(model, tmp_path / "net").name == "net.keras"
    assert [p.name for p in tmp_path.iterdir()] == ["net.keras"]


def test_clone_with_weights(model: keras.Model) -> None:
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert outputs(clone) == outputs(model)


def test_weights_by_path(model: keras.Model) -> None:
    clone = keras.models.clone_model(model)
    values = {v.path: v.numpy() for v in model.variables}
    for variable in clone.variables:
        variable.assign(values[variable.path])
    assert outputs(clone) == outputs(model)


def test_weights_by_file(model: keras.Model, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "w.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "w.weights.h5")
    assert outputs(clone) == outputs(model)


def test_plain_keras_loads_it_once_the_layers_are_registered(model: keras.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "net.keras")
    assert outputs(keras.models.load_model(tmp_path / "net.keras")) == outputs(model)
