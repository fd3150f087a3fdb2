"""The guide's import surface for Keras."""

from __future__ import annotations

import keras
import pytest

import quantizeml.layers
from quantizeml_core.quantizers import PowerOfTwoOutputQuantizer


@pytest.mark.parametrize("name", [n for n in quantizeml.layers.__all__ if n[0].isupper()])
def test_names_are_there(name: str) -> None:
    found = getattr(quantizeml.layers, name)
    is_keras = name in quantizeml.layers.FLOAT_LAYERS + quantizeml.layers.INTEGER_LAYERS
    assert isinstance(found, type) and issubclass(found, keras.layers.Layer) == is_keras


def test_quantizers_are_those_of_the_core() -> None:
    assert quantizeml.layers.OutputQuantizer is PowerOfTwoOutputQuantizer


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute `Nothing`"):
        quantizeml.layers.Nothing  # noqa: B018 - asking for it is the test
