"""The order of nodes: each behind what it reads, the order given kept where that is so already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import onnx

from quantizeml_core.errors import ModelError


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Every tensor a node needs, those captured by its subgraphs included (and those they write themselves: the caller keeps what it knows)."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (v.name for v in graph.output)
            for inner in graph.node:
                yield from reads(inner)


def leading_to(nodes: Sequence[onnx.NodeProto], tensors: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes, in order already, that some tensors depend on."""
    wanted, kept = set(tensors), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def order(nodes: Sequence[onnx.NodeProto], kept: Iterable[int] = ()) -> list[int]:
    """Positions of the nodes in an order in which each stands behind those that write what it reads.

    Arguments:
        kept: positions of nodes that stay in this order among themselves.
    A graph that writes a tensor twice has no order: it keeps its own, for a checker to refuse. Errors: ModelError when nodes read each other in a circle.
    """
    writer = {tensor: i for i, node in enumerate(nodes) for tensor in node.output if tensor}
    needs = {i: {writer[t] for t in reads(node) if t in writer} for i, node in enumerate(nodes)}
    written_twice = len(writer) < sum(bool(tensor) for node in nodes for tensor in node.output)
    if written_twice or all(need < i for i, found in needs.items() for need in found):
        return list(range(len(nodes)))
    for before, behind in pairwise(kept):
        needs[behind].add(before)
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        names = ", ".join(f"`{nodes[i].name or nodes[i].output[0]}`" for i in error.args[1])
        raise ModelError(f"these nodes read each other in a circle: {names}", where="the model", do="Export it again") from error
