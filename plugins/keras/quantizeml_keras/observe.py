"""Run the float network and hand the tensors at block boundaries to observers, batch by batch, channel-first.

Only what leads to an observed tensor is run. Memory is that of one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from quantizeml_core.hooks import Batch, Observer
from quantizeml_core.match import Node

from .evaluate import evaluate
from .graph import Graph
from .layouts import channels_first


class _Network(keras.Model):
    """The operations that lead to a few tensors, as one Keras model, so that the backend compiles them."""

    def __init__(self, nodes: Sequence[Node], tensors: Sequence[str]) -> None:
        super().__init__(name="observed", dtype="float32")
        self.nodes, self.tensors = nodes, tensors

    def call(self, feeds: Mapping[str, Any]) -> list[Any]:
        values = evaluate(self.nodes, {name: ops.cast(x, "float32") for name, x in feeds.items()})
        return [ops.transpose(values[t], channels_first(len(values[t].shape))) for t in self.tensors]


def observe(graph: Graph, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
    """Feed every observer its tensor, (N, C, ...) float32.

    Arguments:
        graph: the sanitized float graph; it is only read.
        observers: by tensor name.
    """
    tensors = list(observers)
    nodes = _needed(graph, tensors)
    network = _Network(nodes, tensors)
    network.compile(jit_compile=False)
    names = [t for t in graph.entries if any(t in n.inputs for n in nodes)]
    for batch in batches:
        values = network.predict_on_batch({name: batch[name] for name in names})
        for tensor, value in zip(tensors, values, strict=True):
            observers[tensor].update(value)


def _needed(graph: Graph, tensors: Iterable[str]) -> tuple[Node, ...]:
    """The nodes that lead to some tensors, in order."""
    wanted, needed = set(tensors), []
    for node in reversed(graph.members):
        if wanted.intersection(node.outputs):
            needed.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(needed))
