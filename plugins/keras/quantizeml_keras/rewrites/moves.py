"""Reshapes that undo each other: only the last of several counts, and none when it gives the first one's input back."""

from __future__ import annotations

from dataclasses import replace

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


MOVES = (Rewrite("keep_last_reshape", _twice), Rewrite("drop_reshape", _nothing))
