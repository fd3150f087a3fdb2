"""The guide's transformer layers: their formulas, their gradients, a model of all of them saved and loaded, and in integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from quantizeml.layers import AddPositionEmbs, Attention, ClassToken, ExtractToken, LayerMadNormalization, Shiftmax, StochasticDepth
from quantizeml_core.api import Result, export, load_model, quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.readback import program
from quantizeml_keras.testing import boundaries
from quantizeml_onnx.testing import boundaries as in_onnxruntime

X = np.random.default_rng(0).random((128, 12, 12, 3)).astype("float32")


FORMS = {"standard": (layers.LayerNormalization, "softmax"), "hardware": (LayerMadNormalization, "shiftmax")}


def network(normalization: type, softmax: str) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = entry = keras.Input((12, 12, 3), name="pixels")
    x = layers.Reshape((9, 16), name="tokens")(layers.Conv2D(16, 4, strides=4, name="patches")(x))
    x = AddPositionEmbs(name="positions")(ClassToken(name="class_token")(x))
    y = normalization(name="norm")(x)
    q, k, v = (layers.Dense(16, name=name)(y) for name in ("queries", "keys", "values"))
    context, _ = Attention(4, softmax, name="attention")([q, k, v])
    x = layers.Add(name="add")([x, StochasticDepth(0.1, name="depth")(layers.Dense(16, name="out")(context))])
    model = keras.Model(entry, layers.Dense(5, name="head")(ExtractToken(0, name="token")(x)), name="guide")
    rng = np.random.default_rng(4)
    model.set_weights([w + rng.normal(size=w.shape) * 0.2 if w.dtype.kind == "f" else w for w in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest) -> keras.Model:
    return network(*FORMS[request.param])


@pytest.fixture(scope="module")
def result(model: keras.Model) -> Result:
    return quantize_model(model, samples=X)


def test_the_whole_network_is_integer(result: Result) -> None:
    assert not result.blueprint.stops
    kinds = {b.kind for b in result.blueprint.blocks}
    assert {"embed", "normalize", "attention"} <= kinds or {"embed", "mad_normalize", "shift_attention"} <= kinds


def test_numpy_keras_and_onnxruntime_compute_the_same_integers(result: Result, tmp_path: object) -> None:
    file = load_model(export(result.model, f"{tmp_path}/net.onnx"))
    assert differences(result.program, {"pixels": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert differences(result.program, {"pixels": X[:8]}, lambda feeds: in_onnxruntime(file, feeds)) == ()


def test_the_error_is_that_of_eight_bits(model: keras.Model, result: Result) -> None:
    """30 dB: what 8-bit tensors of a few layers in a row leave. 12 dB with a shiftmax: a score next to a whole number falls on either side of it, the more so as the
    ranges of few samples have room for others (numerics, section 20)."""
    bar = 12 if model.get_layer("attention").softmax == "shiftmax" else 30
    assert decibels(np.asarray(model(X)), np.asarray(result.model(X))) > bar


def test_a_float_model_is_saved_and_loaded(model: keras.Model, tmp_path: object) -> None:
    model.save(f"{tmp_path}/net.keras")
    assert np.array_equal(np.asarray(load_model(f"{tmp_path}/net.keras")(X)), np.asarray(model(X)))


def test_mad_normalization_divides_by_the_mean_absolute_value() -> None:
    x = np.array([[3.0, -1.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    assert np.allclose(np.asarray(LayerMadNormalization()(x)), [[1.5, -0.5, 0.0, 2.0], [0.0] * 4], atol=1e-6)  # float32


@pytest.mark.parametrize(("logits", "expected"), [
    ([10 / 32, -3 / 32, 57 / 32, 100 / 32, -4.0], [2.0**-4, 2.0**-5, 2.0**-3, 0.5, 2.0**-8]),
    ([1 / 32, 2 / 32, 3 / 32, 4 / 32, 5 / 32], [0.25] * 5),
])
def test_shiftmax_gives_the_powers_of_two_of_the_reference(logits: list[float], expected: list[float]) -> None:
    """The golden integers of v09_shiftmax.json, 10 fractional bits."""
    assert np.asarray(Shiftmax()(np.array([logits], np.float32))).tolist() == [expected]


@pytest.mark.parametrize("layer", [LayerMadNormalization(), Shiftmax()], ids=lambda layer: type(layer).__name__)
def test_gradients_reach_through(layer: keras.layers.Layer) -> None:
    tf = pytest.importorskip("tensorflow")
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 5)).astype("float32") * 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.square(layer(x)))
    assert np.abs(np.asarray(tape.gradient(y, x))).sum() > 0


def test_unknown_softmax_and_heads_that_divide_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="one of softmax, shiftmax, softmax2"):
        Attention(4, softmax="sparsemax")
    with pytest.raises(ValueError, match="3 heads do not divide"):
        Attention(3)([np.zeros((1, 4, 8), np.float32)] * 3)


def test_stochastic_depth_drops_whole_samples_while_training() -> None:
    y = np.asarray(StochasticDepth(0.5, seed=1)(np.ones((64, 3, 2), np.float32), training=True))
    assert set(np.unique(y)) == {0.0, 2.0} and all(len(np.unique(sample)) == 1 for sample in y)


def test_training_reaches_weights_and_the_table_and_the_file_follows(result: Result, tmp_path: object) -> None:
    patches, tokens = (result.model.get_layer(name) for name in ("patches", result.program.blocks[2].name.replace("/", "_")))
    before = [np.asarray(patches.kernel).copy(), np.asarray(tokens.integer_entries()).copy()]
    result.model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    result.model.fit(X, np.ones((len(X), 5)), verbose=0)
    assert all((a != np.asarray(b)).any() for a, b in zip(before, (patches.kernel, tokens.integer_entries()), strict=True))
    file = load_model(export(result.model, f"{tmp_path}/trained.onnx"))
    assert differences(program(result.model), {"pixels": X[:8]}, lambda feeds: in_onnxruntime(file, feeds)) == ()
    assert differences(program(result.model), {"pixels": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()
