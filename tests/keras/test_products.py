"""Products of two sequences and softmaxes inside a network: one block each, the same integers in numpy, Keras and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from quantizeml_onnx.testing import boundaries as in_onnxruntime

from quantizeml_core.api import check_model, load_model, quantize_model
from quantizeml_core.api import export as exported
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.testing import boundaries

X = np.random.default_rng(0).normal(size=(32, 12, 16)).astype("float32")
Mix = Callable[[Any, Any], Any]

PRODUCTS: dict[str, tuple[Mix, list[str]]] = {
    "columns": (lambda a, b: ops.matmul(a, b), ["matmul"]),
    "rows by rows": (lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))), ["matmul"]),
    "a Permute": (lambda a, b: ops.matmul(a, layers.Permute((2, 1))(b)), ["matmul"]),
    "a Dot": (lambda a, b: layers.Dot((2, 1))([a, b]), ["matmul"]),
    "a Dot of rows, behind it a ReLU": (lambda a, b: layers.ReLU()(layers.Dot(2)([a, b])), ["matmul"]),
    "einsum": (lambda a, b: ops.einsum("btk,bsk->bts", a, b), ["matmul"]),
    "a softmax that gates": (lambda a, b: layers.Multiply()([layers.Softmax()(a), b]), ["softmax", "multiply"]),
    "a softmax as activation": (lambda a, b: layers.Multiply()([layers.Dense(12, activation="softmax")(a), b]), ["softmax", "multiply"]),
    "a softmax that mixes tokens": (lambda a, b: ops.matmul(ops.softmax(layers.Dense(12)(a)), b), ["softmax", "matmul"]),
    "an attention of one head": (lambda a, b: ops.matmul(ops.softmax(ops.matmul(a, ops.transpose(b, (0, 2, 1))) * 0.3), b), ["attention"]),
}


def network(mix: Mix) -> keras.Model:
    keras.utils.set_random_seed(7)
    x = entry = keras.Input((12, 16), name="steps")
    mixed = mix(layers.Dense(12, activation="relu", name="first")(x), layers.Dense(12, name="second")(x))
    return keras.Model(entry, layers.Dense(4, name="last")(layers.Dense(8, name="out")(mixed)), name="products")


@pytest.mark.parametrize("name", PRODUCTS)
def test_it_is_an_integer_block(name: str, tmp_path: object) -> None:
    """24 dB: what 8-bit tensors of a few layers leave, weights of a softmax among them (26 to 33 dB measured)."""
    mix, kinds = PRODUCTS[name]
    model = network(mix)
    result = quantize_model(model, samples=X)
    assert not result.blueprint.stops and [b.kind for b in result.blueprint.blocks if b.kind not in ("input", "conv2d")] == kinds
    assert differences(result.program, {"steps": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()
    file = load_model(exported(result.model, f"{tmp_path}/net.onnx"))
    assert differences(result.program, {"steps": X[:8, None]}, lambda feeds: in_onnxruntime(file, feeds)) == ()
    assert decibels(np.asarray(model(X)), np.asarray(result.model.predict(X, verbose=0)).reshape(model(X).shape)) > 24


def test_gradients_pass(name: str = "a softmax that mixes tokens") -> None:
    quantized = quantize_model(network(PRODUCTS[name][0]), samples=X).model
    before = [np.asarray(w) for w in quantized.trainable_weights]
    quantized.compile("adam", "mse", jit_compile=False)
    quantized.fit(X, np.zeros((32, 1, 12, 4)).reshape(32, *quantized.output_shape[1:]), verbose=0)
    assert all(np.any(w != np.asarray(v)) for w, v in zip(before, quantized.trainable_weights, strict=True))


def test_a_softmax_at_the_end_stays_float_with_a_reason() -> None:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(3, activation="softmax")])
    result = quantize_model(model, samples=X[:, 0, :5])
    assert [b.kind for b in result.blueprint.blocks] == ["input", "dense", "dense"] and "inside a network only" in result.blueprint.stops[0].reason


def test_akida_says_which_document_does_not_list_them() -> None:
    messages = [f.message for f in check_model(network(PRODUCTS["a softmax that mixes tokens"][0]), target="akida2")]
    assert any("lacks `softmax`" in m and "not listed by https://doc.brainchipinc.com" in m for m in messages)
