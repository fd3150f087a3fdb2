"""Attention spelled out by hand with matmul or einsum is the block that a MultiHeadAttention is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from quantizeml_core.api import quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.testing import boundaries

X = np.random.default_rng(0).normal(size=(128, 12, 16)).astype("float32")
HEADS, SIZE = 4, 8


def matmul(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (layers.Permute((2, 1, 3))(layers.Reshape((12, HEADS, SIZE))(t)) for t in (q, k, v))
    weights = layers.Softmax()(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / np.sqrt(SIZE))
    return layers.Reshape((12, HEADS * SIZE))(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)))


def einsum(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (ops.reshape(t, (-1, 12, HEADS, SIZE)) for t in (q, k, v))
    weights = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", ops.multiply(q, SIZE**-0.5), k), axis=-1)
    return ops.reshape(ops.einsum("bhqk,bkhd->bqhd", weights, v), (-1, 12, HEADS * SIZE))


def keys_first(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (ops.reshape(t, (-1, 12, HEADS, SIZE)) for t in (q, k, v))
    weights = layers.Activation("softmax")(layers.Rescaling(SIZE**-0.5)(ops.einsum("aecd,abcd->acbe", k, q)))
    return layers.Reshape((12, HEADS * SIZE))(ops.einsum("acbe,aecd->abcd", weights, v))


def network(mix: Callable[[Any, Any, Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(7)
    x = entry = keras.Input((12, 16), name="steps")
    y = layers.LayerNormalization(name="norm")(layers.Conv1D(32, 3, padding="same", name="embed")(x))
    mixed = mix(*(layers.Dense(HEADS * SIZE, name=name)(y) for name in ("queries", "keys", "values")))
    return keras.Model(entry, layers.Conv1D(4, 1, name="last")(layers.Dense(32, name="out")(mixed)), name="spelled")


@pytest.mark.parametrize("mix", [matmul, einsum, keys_first], ids=lambda mix: mix.__name__)
def test_it_is_one_block_with_the_same_integers(mix: Callable[[Any, Any, Any], Any]) -> None:
    """28 dB: what 8-bit tensors of a few layers in a row leave, their ranges with room for other samples (numerics, section 20)."""
    model = network(mix)
    result = quantize_model(model, samples=X)
    assert not result.blueprint.stops and [b.kind for b in result.blueprint.blocks].count("attention") == 1
    assert differences(result.program, {"steps": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert decibels(np.asarray(model(X)), np.asarray(result.model(X)).reshape(model(X).shape)) > 28


SEEN = np.tri(12, dtype=bool)
BIAS = np.random.default_rng(1).normal(size=(HEADS, 12, 12)).astype("float32")


def masked(change: Callable[[Any], Any], **softmax: Any) -> Callable[[Any, Any, Any], Any]:
    def mix(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (layers.Permute((2, 1, 3))(layers.Reshape((12, HEADS, SIZE))(t)) for t in (q, k, v))
        weights = layers.Softmax()(change(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))), **softmax)
        return layers.Reshape((12, HEADS * SIZE))(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)))

    return mix


def attention(**given: Any) -> Callable[[Any, Any, Any], Any]:
    return lambda q, k, v: layers.MultiHeadAttention(HEADS, SIZE, output_shape=HEADS * SIZE)(q, v, k, **given)


MASKED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "causal": attention(use_causal_mask=True),
    "a mask of ones and zeros": attention(attention_mask=SEEN[None, ::-1, ::-1]),
    "both": attention(attention_mask=np.arange(12)[None, None] != 5, use_causal_mask=True),
    "added, then scaled": masked(lambda s: (s + np.where(SEEN, 0, -1e9).astype("float32")) * 0.3),
    "scaled, then a bias for each head": masked(lambda s: s * 0.3 + BIAS),
    "chosen": masked(lambda s: ops.where(SEEN, s * 0.3, -1e9)),
    "chosen the other way": masked(lambda s: ops.where(~SEEN, -1e9, s * 0.3)),
    "told to the softmax": masked(lambda s: s * 0.3, mask=SEEN[None, None]),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_constant_mask_is_part_of_the_attention(name: str) -> None:
    """28 dB as above; the integers are those of the program, with and without compiling."""
    model = network(MASKED[name])
    result = quantize_model(model, samples=X)
    block = next(b for b in result.program.blocks if b.kind == "attention")
    assert not result.blueprint.stops and "mask" in block.arrays
    assert differences(result.program, {"steps": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert decibels(np.asarray(model(X)), np.asarray(result.model.predict(X, verbose=0)).reshape(model(X).shape)) > 28


UNKNOWN: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a mask that is computed": masked(lambda s: s + ops.abs(s)),
    "a token that sees nothing": attention(attention_mask=(np.arange(12) > 0)[None, :, None] & SEEN[None]),
    "a mask of a small number": masked(lambda s: ops.where(SEEN, s, -3.0)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_another_mask_stays_float(name: str) -> None:
    result = quantize_model(network(UNKNOWN[name]), samples=X)
    assert result.blueprint.stops and "attention" not in {b.kind for b in result.blueprint.blocks}


def heads_mixed_up(q: Any, k: Any, v: Any) -> Any:
    """Values split into interleaved heads, which is no attention of heads that stand together."""
    q, k = (layers.Permute((2, 1, 3))(layers.Reshape((12, HEADS, SIZE))(t)) for t in (q, k))
    v = ops.transpose(layers.Reshape((12, SIZE, HEADS))(v), (0, 3, 1, 2))
    return layers.Reshape((12, HEADS * SIZE))(ops.transpose(ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))), v), (0, 2, 1, 3)))


def test_what_is_no_attention_stays_float() -> None:
    model = network(heads_mixed_up)
    result = quantize_model(model, samples=X)
    assert result.blueprint.stops and "attention" not in {b.kind for b in result.blueprint.blocks}
    assert decibels(np.asarray(model(X)), np.asarray(result.model(X)).reshape(model(X).shape)) > 20
