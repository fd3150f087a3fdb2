"""A float Keras network full of what Akida does not run: checked without samples, repaired exactly, quantized, the same integers layer by layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.api import Result, check_model, quantize_model
from quantizeml_core.testing import differences
from quantizeml_keras.testing import boundaries


@pytest.fixture(scope="module")
def net() -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input((16, 16, 3), name="pixels")
    a = layers.ReLU(name="a_relu")(layers.Conv2D(8, 3, padding="same", name="a")(x))
    b = layers.ReLU(name="b_relu")(layers.Conv2D(8, 2, padding="same", name="b")(a))
    d = layers.ReLU(name="d_relu")(layers.DepthwiseConv2D(5, strides=2, padding="same", name="d")(b))
    e = layers.ReLU(name="e_relu")(layers.Conv2D(8, 3, groups=4, padding="same", name="e")(d))
    f = layers.Conv2D(8, 1, strides=2, name="f")(a)
    g = layers.ReLU(name="g_relu")(layers.Add(name="g")([e, f]))
    k = layers.Concatenate(name="k")([g, f, d])
    return keras.Model(x, layers.Dense(6, name="y")(layers.GlobalAveragePooling2D(name="p")(k)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (32, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def fitted(net: keras.Model, pixels: np.ndarray) -> Result:
    return quantize_model(net, target=AKIDA2, samples=pixels)


def test_every_broken_row_has_an_exact_repair(net: keras.Model) -> None:
    found = check_model(net, target="akida2")
    assert {(f.rule, f.fix) for f in found} == {("kernel_strides", "exact"), ("groups", "exact"), ("max_readers", "exact")}


def test_the_repaired_network_is_legal_and_whole(fitted: Result) -> None:
    assert not [f for f in fitted.findings if f.severity == "error"] and not fitted.blueprint.stops
    assert {"embed_kernel", "split_stride", "ungroup", "limit_fan_out"} <= {c.rewrite for c in fitted.changes if not c.refused}


def test_the_layers_compute_the_integers_of_the_program(fitted: Result, pixels: np.ndarray) -> None:
    assert differences(fitted.program, {"pixels": pixels[:8]}, lambda feeds: boundaries(fitted.model, feeds)) == ()


def test_a_repaired_network_trains_on(fitted: Result, pixels: np.ndarray) -> None:
    model = fitted.model
    model.compile("sgd", "mse")
    history = model.fit(pixels, np.zeros((32, 6)), batch_size=32, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
