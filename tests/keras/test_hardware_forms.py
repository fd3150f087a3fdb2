"""A transformer rewritten to Mad normalizations and shiftmax attentions: how far it is from the original, and that it goes to integers whole."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import quantizeml_keras.to_hardware_forms as module
from quantizeml.layers import Attention
from quantizeml.models import to_hardware_forms
from quantizeml_core.api import quantize_model
from quantizeml_core.errors import ModelError
from quantizeml_core.testing import decibels, differences
from quantizeml_keras.testing import boundaries

X = np.random.default_rng(0).normal(size=(32, 12, 16)).astype("float32")


def encoder() -> keras.Model:
    keras.utils.set_random_seed(5)
    x = entry = keras.Input((12, 16), name="steps")
    y = layers.LayerNormalization(name="norm")(layers.Dense(32, name="embed")(x))
    y = layers.MultiHeadAttention(4, 8, name="attend")(y, y)
    q = layers.Dense(32, name="queries")(y)
    context, _ = Attention(4, name="bare")([q, y, y])
    return keras.Model(entry, layers.Dense(5, name="head")(context), name="encoder")


@pytest.mark.parametrize(("name", "share"), [("LOG2_E", 0.4), ("LOG2_E", 2.5), ("MAD_OF_NORMAL", 0.5), ("MAD_OF_NORMAL", 2.0)])
def test_other_factors_are_further_from_the_original(monkeypatch: pytest.MonkeyPatch, name: str, share: float) -> None:
    """9.8 dB are left: a floor of a score weighs a token wrong by up to a factor of two."""
    model = encoder()
    right = decibels(np.asarray(model(X)), np.asarray(to_hardware_forms(model)(X)))
    monkeypatch.setattr(module, name, getattr(module, name) * share)
    assert decibels(np.asarray(model(X)), np.asarray(to_hardware_forms(model)(X))) < right


def test_the_original_is_left_as_it_was() -> None:
    model = encoder()
    before = np.asarray(model(X))
    to_hardware_forms(model)
    assert np.array_equal(np.asarray(model(X)), before)


def test_the_forms_are_integer_blocks() -> None:
    result = quantize_model(to_hardware_forms(encoder()), samples=X)
    kinds = [b.kind for b in result.blueprint.blocks]
    assert not result.blueprint.stops and kinds.count("mad_normalize") == 1 and kinds.count("shift_attention") == 2
    assert differences(result.program, {"steps": X[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_a_model_without_transformers_is_refused() -> None:
    x = keras.Input((4,))
    with pytest.raises(ModelError, match="no LayerNormalization and no attention"):
        to_hardware_forms(keras.Model(x, layers.Dense(2)(x)))
