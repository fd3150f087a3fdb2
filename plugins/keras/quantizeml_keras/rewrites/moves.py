"""Moves of data that need not happen.

    Reshape -> Reshape             the last one; none, when it gives the first one's input back
    Permute -> Flatten -> Dense    Flatten -> Dense, the rows of its kernel in the other order
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantizeml_core.match import Node

from ..evaluate import OPERATIONS
from ..graph import Graph, changed
from .driver import Edit, Rewrite

RESHAPES = ("Reshape", "Flatten")


def _twice(graph: Graph, node: Node) -> Edit | str | None:
    reader = graph.only_reader(node.outputs[0])
    if node.op not in RESHAPES or reader is None or reader.op not in RESHAPES:
        return None
    return Edit((node, reader), (replace(changed(reader), inputs=node.inputs),))


def _nothing(graph: Graph, node: Node) -> Edit | str | None:
    """A reshape to the shape that is there, in front of a node that can read its input instead."""
    reader = graph.only_reader(node.outputs[0])
    if node.op not in RESHAPES or reader is None or reader.op not in OPERATIONS:
        return None
    if graph.shapes[node.inputs[0]][1:] != tuple(node.native["shape"]):
        return None
    inputs = tuple(node.inputs[0] if t == node.outputs[0] else t for t in reader.inputs)
    return Edit((node, reader), (replace(reader, inputs=inputs),))


def _permuted(graph: Graph, node: Node) -> Edit | str | None:
    flatten = graph.only_reader(node.outputs[0])
    dense = graph.only_reader(flatten.outputs[0]) if flatten is not None else None
    if node.op != "Permute" or flatten is None or flatten.op != "Flatten" or dense is None or dense.op != "Dense":
        return None
    shape = graph.shapes[node.inputs[0]][1:]
    if None in shape:
        return "the flattened size is not known"
    order = np.arange(np.prod(shape)).reshape(shape).transpose([d - 1 for d in node.native["dims"]]).reshape(-1)
    kernel = np.empty_like(dense.native["kernel"])
    kernel[order] = dense.native["kernel"]
    return Edit((node, flatten, dense), (replace(changed(flatten), inputs=node.inputs), changed(dense, kernel=kernel)))


MOVES = (Rewrite("fold_permute", _permuted), Rewrite("keep_last_reshape", _twice), Rewrite("drop_reshape", _nothing))
