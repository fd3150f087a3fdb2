"""Run the float network and hand the tensors at block boundaries to observers, batch by batch, channel-first.

Only what leads to an observed tensor is run, operation by operation, and a tensor is dropped once its last reader has run: memory is that of one batch
of the widest place, and nothing has to be compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from quantizeml_core.hooks import Batch, Observer
from quantizeml_core.match import Node
from quantizeml_core.sequences import starts_sequence

from .evaluate import OPERATIONS
from .graph import Graph
from .layouts import channels_first

Tensor = Any
REMEMBERING = frozenset({"Buffer", "Recurrent"})
"""Operations that see frames before those of a batch."""


def observe(graph: Graph, batches: Iterable[Batch], observers: Mapping[str, Observer]) -> None:
    """Feed every observer its tensor, (N, C, ...) float32.

    Arguments:
        graph: the sanitized float graph; it is only read.
        observers: by tensor name.
    """
    nodes = [_on_device(node) for node in _needed(graph, observers)]
    last = {tensor: index for index, node in enumerate(nodes) for tensor in (*node.outputs, *node.inputs)}
    for batch in batches:
        if starts_sequence(batch):
            _forget(nodes)
        feeds = {name: ops.cast(ops.convert_to_tensor(x), "float32") for name, x in batch.items() if name in last}
        for tensor, value in _tensors(nodes, last, feeds):
            if tensor in observers:
                observers[tensor].update(ops.convert_to_numpy(ops.transpose(value, channels_first(len(value.shape)))))


def _tensors(nodes: list[Node], last: Mapping[str, int], feeds: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the nodes, in order."""
    values = dict(feeds)
    for index, node in enumerate(nodes):
        output = node.outputs[0]
        values[output] = OPERATIONS[node.op](node.native, *(values[t] for t in node.inputs))
        yield output, values[output]
        for tensor in {output, *node.inputs}:
            if last[tensor] == index:
                del values[tensor]


def _forget(nodes: list[Node]) -> None:
    for node in nodes:
        node.native.get("before", []).clear()


def _on_device(node: Node) -> Node:
    """A node whose arrays are float32 tensors: converted once, not for every batch. One with a memory gets a place for what was before a batch."""
    arrays = {k: ops.convert_to_tensor(v.astype(np.float32)) for k, v in node.native.items() if isinstance(v, np.ndarray)}
    memory = {"before": []} if node.op in REMEMBERING else {}
    return replace(node, native={**node.native, **arrays, **memory})


def _needed(graph: Graph, tensors: Iterable[str]) -> list[Node]:
    """The nodes that lead to some tensors, in order."""
    wanted, needed = set(tensors), []
    for node in reversed(graph.members):
        if wanted.intersection(node.outputs):
            needed.append(node)
            wanted.update(node.inputs)
    return needed[::-1]
