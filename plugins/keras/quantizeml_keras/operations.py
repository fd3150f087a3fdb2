"""Operations of a graph that no Keras layer computes, as layers: where a target does not run them, a quantized model still holds them in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from .evaluate import OPERATIONS
from .layers.base import PACKAGE
from .layers.spec import decode, encode

Tensor = Any
TOLD = frozenset({"call", "layer", "operation", "reason"})
"""Attributes that say where a node comes from, not what it computes."""


@keras.saving.register_keras_serializable(PACKAGE)
class Operation(keras.layers.Layer):
    """One operation with its attributes, by its float meaning (`evaluate`). It has no weights.

    Arguments:
        op: its name in `graph`.
        attributes: numbers, arrays and tuples.
    """

    def __init__(self, op: str, attributes: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.op = op
        self.attributes = {name: _plain(decode(value)) for name, value in attributes.items() if name not in TOLD}

    def call(self, inputs: Tensor) -> Tensor:
        return OPERATIONS[self.op](self.attributes, *(inputs if isinstance(inputs, (list, tuple)) else [inputs]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "op": self.op, "attributes": {name: encode(value) for name, value in self.attributes.items()}}


def _plain(value: Any) -> Any:
    """A number of numpy as Python's own, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value
