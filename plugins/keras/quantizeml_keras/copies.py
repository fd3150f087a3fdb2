"""Copies of layers with their weights, made once for each layer, so that a layer that is called several times stays shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

Tensor = Any


class Copies:
    """The copies made so far."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def call(self, call: Any, operands: Sequence[Tensor]) -> list[Tensor]:
        """Repeat a call of a layer on other tensors, with the layer's copy; its outputs."""
        positional, named = call.arguments.fill_in({id(old): new for old, new in zip(call.input_tensors, operands, strict=True)})
        return keras.tree.flatten(self.of(call.operation)(*positional, **named))

    def of(self, operation: Any) -> Any:
        """A layer's copy; an operation without state serves as it is."""
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in self._made:
            self._made[id(operation)] = _copied(operation)
        return self._made[id(operation)]


def _copied(operation: keras.layers.Layer) -> keras.layers.Layer:
    copy = keras.models.clone_model(operation) if isinstance(operation, keras.Model) else type(operation).from_config(operation.get_config())
    if not copy.built:
        copy.build_from_config(operation.get_build_config() or {})
    copy.set_weights(operation.get_weights())
    return copy
