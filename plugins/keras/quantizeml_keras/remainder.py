"""What stays float: the part of a Keras model behind tensors that are computed elsewhere, rebuilt from copies of its own layers.

A tensor is named by the layer that writes it at its first call; inside a nested model the names are joined by a slash (`backbone/conv1`). A layer that
is called several times is copied once, so that its weights stay shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras

Tensor = Any


class Remainder:
    """A float model that can be rebuilt behind known tensors.

    Arguments:
        model: functional or sequential, built; it is only read.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
        self.copies: dict[int, Any] = {}

    def shape(self, tensor: str) -> tuple[int | None, ...]:
        """Native shape of a named tensor."""
        scope, names = self.model, tensor.split("/")
        for name in names[:-1]:
            scope = scope.get_layer(name)
        return tuple(_first_output(scope, names[-1]).shape)

    def outputs(self, known: Mapping[str, Tensor]) -> list[Tensor]:
        """The model's outputs, computed from its inputs and the known tensors."""
        return self._scope(self.model, self.inputs, known, "")

    def _scope(self, model: Any, inputs: Iterable[Tensor], known: Mapping[str, Tensor], prefix: str) -> list[Tensor]:
        """The outputs of a model, or of a nested one whose inner names begin with `prefix`."""
        values = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        values |= {id(_first_output(model, name.removeprefix(prefix))): new for name, new in known.items() if _directly_inside(name, prefix)}
        return [self._value(tensor, values, known, prefix) for tensor in model.outputs]

    def _value(self, tensor: Tensor, values: dict[int, Tensor], known: Mapping[str, Tensor], prefix: str) -> Tensor:
        """The new tensor for one of the float model's; what it needs is computed on the way. Deep networks need no deep recursion."""
        waiting = [tensor]
        while waiting:
            node = _node(waiting[-1])
            missing = [t for t in node.input_tensors if id(t) not in values]
            if id(waiting[-1]) in values or not missing:
                if id(waiting.pop()) not in values:
                    self._call(node, values, known, prefix)
            else:
                waiting += missing
        return values[id(tensor)]

    def _call(self, node: Any, values: dict[int, Tensor], known: Mapping[str, Tensor], prefix: str) -> None:
        inner = f"{prefix}{node.operation.name}/"
        if any(name.startswith(inner) for name in known):
            results = self._scope(node.operation, [values[id(t)] for t in node.input_tensors], known, inner)
        else:
            positional, named = node.arguments.fill_in({id(t): values[id(t)] for t in node.input_tensors})
            results = keras.tree.flatten(self._copy(node.operation)(*positional, **named))
        values.update((id(old), new) for old, new in zip(node.output_tensors, results, strict=True))

    def _copy(self, operation: Any) -> Any:
        """A layer's copy with its weights; an operation without state serves as it is."""
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in self.copies:
            nested = isinstance(operation, keras.Model)
            self.copies[id(operation)] = keras.models.clone_model(operation) if nested else type(operation).from_config(operation.get_config())
            self._fill(operation)
        return self.copies[id(operation)]

    def _fill(self, operation: keras.layers.Layer) -> None:
        copy = self.copies[id(operation)]
        if not copy.built:
            copy.build_from_config(operation.get_build_config() or {})
        copy.set_weights(operation.get_weights())


def _node(tensor: Tensor) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _first_output(model: Any, layer: str) -> Tensor:
    """What a layer writes at its first call inside a model; the input of that name when there is none."""
    operation = next(o for o in model.operations if o.name == layer)
    own = {id(n) for nodes in model._nodes_by_depth.values() for n in nodes}
    return next(n for n in operation._inbound_nodes if id(n) in own).output_tensors[0]


def _directly_inside(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and "/" not in name.removeprefix(prefix)
