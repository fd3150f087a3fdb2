"""Fold an affine operation (BatchNormalization, Rescaling, the weights of a LayerNormalization) into a linear neighbour.

    Linear -> Affine         W' = W * scale (per filter),  b' = b * scale + offset
    Affine -> Dense          W' = scale * W (per input),   b' = b + offset W
    Affine -> Conv2D 1x1     the same: a dense layer on each pixel; into each of them, where several read it
    Affine -> Affine         one
    Embed -> Embed           one: a class token and positions are one table
    MaxPool -> Affine        Affine -> MaxPool, where every scale is positive: a maximum commutes with what grows
    GlobalAveragePool -> Affine      Affine -> GlobalAveragePool: a mean commutes with every affine function
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from quantizeml_core.match import Node

from ..graph import Graph, changed
from .driver import Edit, Rewrite


def _behind_linear(graph: Graph, node: Node) -> Edit | str | None:
    if node.op not in FILTERS or (affine := _next_affine(graph, node)) is None:
        return None
    scale, offset = affine.native["scale"], affine.native["offset"]
    kernel = np.asarray(node.native["kernel"], np.float64)
    bias = 0.0 if node.native["bias"] is None else np.asarray(node.native["bias"], np.float64)
    bias = np.broadcast_to(bias * scale + offset, (graph.shapes[node.outputs[0]][-1],))
    folded = changed(node, kernel=FILTERS[node.op](kernel, scale), bias=bias)
    return Edit((node, affine), (replace(folded, outputs=affine.outputs),))


def _before_dense(graph: Graph, node: Node) -> Edit | str | None:
    dense = graph.only_reader(node.outputs[0])
    if node.op != "Affine" or dense is None or dense.op != "Dense":
        return None
    kernel = np.asarray(dense.native["kernel"], np.float64)
    scale, offset = (np.broadcast_to(node.native[k], kernel.shape[:1]) for k in ("scale", "offset"))
    bias = (0.0 if dense.native["bias"] is None else dense.native["bias"]) + offset @ kernel
    folded = changed(dense, kernel=kernel * scale[:, None], bias=np.asarray(bias))
    return Edit((node, dense), (replace(folded, inputs=node.inputs),))


def _before_pointwise(graph: Graph, node: Node) -> Edit | str | None:
    readers = graph.consumers(node.outputs[0]) if node.op == "Affine" and node.outputs[0] not in graph.results else ()
    if not readers or node.inputs[0] in graph.entries or not all(_pointwise(r) for r in readers):
        return None
    conv = readers[0]
    kernel = np.asarray(conv.native["kernel"], np.float64)
    scale, offset = (np.broadcast_to(node.native[k], kernel.shape[2:3]) for k in ("scale", "offset"))
    bias = (0.0 if conv.native["bias"] is None else conv.native["bias"]) + offset @ kernel[0, 0]
    folded = replace(changed(conv, kernel=kernel * scale[:, None], bias=np.asarray(bias)), inputs=node.inputs)
    return Edit((node, conv), (node, folded) if readers[1:] else (folded,))


def _pointwise(node: Node) -> bool:
    return node.op == "Conv2D" and node.native["kernel"].shape[:2] == (1, 1) and node.native["groups"] == 1 and not any(node.native["pads"])


def _twice(graph: Graph, node: Node) -> Edit | str | None:
    if node.op != "Affine" or (after := _next_affine(graph, node)) is None:
        return None
    scale = node.native["scale"] * after.native["scale"]
    offset = node.native["offset"] * after.native["scale"] + after.native["offset"]
    return Edit((node, after), (replace(changed(node, scale=scale, offset=offset), outputs=after.outputs),))


def _behind_pool(graph: Graph, node: Node) -> Edit | str | None:
    if node.op not in ("MaxPool", "GlobalAveragePool") or (affine := _next_affine(graph, node)) is None:
        return None
    before = graph.producer(node.inputs[0])
    if before is None or before.op not in FILTERS or graph.only_reader(node.inputs[0]) is None:
        return None
    if node.op == "MaxPool" and (affine.native["scale"] <= 0).any():
        return "some channels of the normalization have no positive scale: their maximum would become a minimum"
    between = f"{affine.name}/moved"
    first = replace(changed(affine), inputs=node.inputs, outputs=(between,))
    second = replace(changed(node), inputs=(between,), outputs=affine.outputs)
    return Edit((node, affine), (first, second), {between: graph.shapes[node.inputs[0]]})


def _next_affine(graph: Graph, node: Node) -> Node | None:
    reader = graph.only_reader(node.outputs[0])
    return reader if reader is not None and reader.op == "Affine" else None


def _depthwise_filters(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return kernel * (scale if scale.size == 1 else scale.reshape(kernel.shape[2:]))


def _tables(graph: Graph, node: Node) -> Edit | str | None:
    after = graph.only_reader(node.outputs[0]) if node.op == "Embed" else None
    if after is None or after.op != "Embed":
        return None
    first, second = node.native["table"], after.native["table"]
    table = np.pad(first, ((len(second) - len(first), 0), (0, 0))) + second
    return Edit((node, after), (replace(changed(after, table=table), inputs=node.inputs),))


FILTERS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Conv2D": lambda kernel, scale: kernel * scale,
    "DepthwiseConv2D": _depthwise_filters,
    "Conv2DTranspose": lambda kernel, scale: kernel * (scale if scale.size == 1 else scale[:, None]),
    "Dense": lambda kernel, scale: kernel * scale,
}

FOLDING = (
    Rewrite("merge_affine", _twice),
    Rewrite("move_batch_normalization_before_pooling", _behind_pool),
    Rewrite("fold_batch_normalization", _behind_linear),
    Rewrite("merge_tables", _tables),
    Rewrite("fold_into_dense", _before_dense),
    Rewrite("fold_into_pointwise", _before_pointwise),
)
