"""Quantization-aware training: floats move, integers follow, nothing leaves the lattice; everything `fit` takes works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from quantizeml.models import QuantizationParams, quantize
from quantizeml_core.testing import differences
from quantizeml_keras import readback
from quantizeml_keras.testing import boundaries

RNG = np.random.default_rng(2)
X = RNG.integers(0, 256, (96, 8, 8, 1)).astype("float32")
Y = (X.mean(axis=(1, 2, 3)) > np.median(X.mean(axis=(1, 2, 3)))).astype("int32")
BATCH = 32


def float_net() -> keras.Model:
    keras.utils.set_random_seed(4)
    x = keras.Input((8, 8, 1), name="x")
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", name="conv")(layers.Rescaling(1 / 127.5, -1)(x))))
    y = layers.Add()([layers.Conv2D(6, 1, name="side")(y), layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y))])
    y = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(layers.ReLU()(y))))
    return keras.Model(x, y)


def quantized_net(bits: int = 4) -> keras.Model:
    return quantize(float_net(), qparams=QuantizationParams(weight_bits=bits, activation_bits=bits), samples=X)


def compiled(model: keras.Model, optimizer: Any = "adam", **settings: Any) -> keras.Model:
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], **settings)
    return model


@pytest.fixture(scope="module")
def net() -> keras.Model:
    """One network that goes on training through several tests: building the training function is what takes time."""
    return compiled(quantized_net(), jit_compile=False)


def assert_on_the_lattice(model: keras.Model) -> None:
    """The forward is that of the integers that the layers hold now."""
    program = readback.program(model)
    assert program is not None and not program.verify()
    assert differences(program, {"x": X[:16]}, lambda feeds: boundaries(model, feeds)) == ()


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_training_step_moves_floats_and_stays_on_the_lattice(bits: int) -> None:
    model = compiled(quantized_net(bits), keras.optimizers.Adam(0.01))
    kernel = model.get_layer("conv").kernel.numpy().copy()
    losses = model.fit(X, Y, batch_size=BATCH, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and (kernel != model.get_layer("conv").kernel.numpy()).any()
    assert_on_the_lattice(model)


def test_weights_that_leave_their_range_saturate() -> None:
    model = quantized_net(8)
    layer = model.get_layer("side")
    layer.kernel.assign(layer.kernel.numpy() * 50)
    layer.bias.assign(layer.bias.numpy() + 1e6)
    assert_on_the_lattice(model)


def test_only_kernels_and_biases_are_trained_and_ranges_are_frozen(net: keras.Model) -> None:
    frozen = {v.path: v.numpy().copy() for v in net.non_trainable_variables}
    net.fit(X, Y, batch_size=BATCH, verbose=0)
    assert {v.name for v in net.trainable_variables} == {"kernel", "bias"}
    assert frozen and all(np.array_equal(v.numpy(), frozen[v.path]) for v in net.non_trainable_variables)


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)


class Sequence(keras.utils.PyDataset):
    def __len__(self) -> int:
        return len(X) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return X[rows], Y[rows]


def generator() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        yield X[:BATCH], Y[:BATCH]


def callbacks() -> list[keras.callbacks.Callback]:
    return [keras.callbacks.EarlyStopping("loss"), keras.callbacks.TerminateOnNaN(), keras.callbacks.ReduceLROnPlateau("loss")]


FITS: dict[str, Callable[[keras.Model], Any]] = {
    "arrays with callbacks and validation": lambda m: m.fit(X, Y, BATCH, 2, verbose=0, validation_split=0.25, callbacks=callbacks()),
    "tf.data": lambda m: m.fit(dataset(), verbose=0, shuffle=False),
    "generator": lambda m: m.fit(generator(), steps_per_epoch=2, verbose=0, shuffle=False),
    "sequence": lambda m: m.fit(Sequence(), verbose=0),
    "class weights": lambda m: m.fit(X, Y, BATCH, verbose=0, class_weight={0: 1.0, 1: 3.0}),
    "sample weights": lambda m: m.fit(X, Y, BATCH, verbose=0, sample_weight=np.ones(len(X))),
    "one batch": lambda m: m.train_on_batch(X, Y),
}


@pytest.mark.parametrize("way", FITS)
def test_ways_to_train(net: keras.Model, way: str) -> None:
    before = net.get_layer("conv").kernel.numpy().copy()
    FITS[way](net)
    assert (before != net.get_layer("conv").kernel.numpy()).any()
    assert_on_the_lattice(net)


def test_xla_trains_and_predicts_the_same_integers() -> None:
    model = compiled(quantized_net(), jit_compile=True)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    program = readback.program(model)
    assert program is not None
    (expected,) = program.predict({"x": X}).values()
    assert np.array_equal(model.predict(X, verbose=0), expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers(optimizer: str) -> None:
    model = compiled(quantized_net(), optimizer, run_eagerly=True)
    model.train_on_batch(X, Y)
    assert_on_the_lattice(model)


def test_mixed_precision_keeps_integers_exact() -> None:
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = compiled(quantized_net(), run_eagerly=True)
        model.train_on_batch(X, Y)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert_on_the_lattice(model)


def test_mirrored_strategy() -> None:
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        model = compiled(quantized_net(), jit_compile=False)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    assert_on_the_lattice(model)


def test_frozen_layers_do_not_move() -> None:
    model = quantized_net()
    model.get_layer("conv").trainable = False
    before = model.get_layer("conv").kernel.numpy().copy()
    compiled(model, run_eagerly=True).train_on_batch(X, Y)
    assert np.array_equal(before, model.get_layer("conv").kernel.numpy())


def test_training_is_deterministic() -> None:
    def trained() -> np.ndarray:
        model = compiled(quantized_net(), run_eagerly=True)
        model.train_on_batch(X, Y)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    assert np.array_equal(trained(), trained())
