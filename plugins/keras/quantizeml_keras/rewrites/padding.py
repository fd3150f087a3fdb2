"""Give the zeros of a ZeroPadding2D to the operation behind it: the four amounts are added, never guessed from sizes.

    Pad -> Conv2D, DepthwiseConv2D     the convolution pads with zeros as well: amounts add up
    Pad -> MaxPool                     behind a ReLU only, where a zero never exceeds the values beside it
"""

from __future__ import annotations

from dataclasses import replace

from quantizeml_core.match import Node

from ..graph import Graph, changed
from .driver import Edit, Rewrite


def _into_convolution(graph: Graph, node: Node) -> Edit | str | None:
    reader = graph.only_reader(node.outputs[0])
    if node.op != "Pad" or reader is None or reader.op not in ("Conv2D", "DepthwiseConv2D"):
        return None
    if reader.native.get("pad_value") is not None:
        return "the convolution pads with another value than zero"
    return _padded(node, reader)


def _into_pooling(graph: Graph, node: Node) -> Edit | str | None:
    reader, before = graph.only_reader(node.outputs[0]), graph.producer(node.inputs[0])
    if node.op != "Pad" or reader is None or reader.op != "MaxPool" or before is None:
        return None
    if before.op != "ReLU":
        return "zeros beside values that may be negative win a maximum"
    if any(amount >= size for amount, size in zip(node.native["pads"], reader.native["size"] * 2, strict=True)):
        return "some windows lie in the padding alone"
    edit = _padded(node, reader)
    return Edit((before, *edit.old), (before, *edit.new)) if graph.only_reader(before.outputs[0]) is node else "the ReLU has other readers"


def _padded(node: Node, reader: Node) -> Edit:
    pads = tuple(a + b for a, b in zip(node.native["pads"], reader.native["pads"], strict=True))
    return Edit((node, reader), (replace(changed(reader, pads=pads), inputs=node.inputs),))


PADDING = (Rewrite("fold_zero_padding", _into_convolution), Rewrite("fold_zero_padding_into_pooling", _into_pooling))
