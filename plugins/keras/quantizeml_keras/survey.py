"""A sanitized Keras graph as a Blueprint: the entry blocks, the blocks the rules find behind them, and what stays float.

Shapes are channel-first, the batch None; a vector behind a global pooling keeps its two axes of one pixel until a Flatten takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint, Coverage, Stop
from quantizeml_core.errors import UsageError
from quantizeml_core.match import NO_RULE, Cover, Node, Rule, cover, everywhere, nowhere

from .graph import ARITHMETIC_FREE, Graph, Shape

LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")


def survey(graph: Graph, rules: Sequence[Rule], *, until: str | None = None, through: bool = False) -> Blueprint:
    """Cover a graph.

    Arguments:
        rules: from `rules.builtin_rules` and from plugins.
        until: name of a layer behind which nothing is quantized.
        through: cover what lies behind a stop too.
    Errors: UsageError when `until` names nothing; PluginError when a rule is broken.
    """
    until = _resolve(graph, until)
    entries = {t: _entry(graph, t) for t in graph.entries if _is_known(graph, t)}
    sources = {tensor: block.output for block, tensor, _ in entries.values()}
    covered = cover(graph, rules, sources=list(sources), taken=[name for e in entries.values() for name in e[2]], until=until,
                    resume=everywhere if through else nowhere)
    blocks = tuple(replace(b, inputs=tuple(sources.get(t, t) for t in b.inputs)) for b in covered.blocks)
    inputs = [e for e in entries.values() if any(e[0].output in b.inputs for b in blocks)]
    taken = covered.nodes.union(*(names for _, _, names in inputs))
    return Blueprint(
        blocks=(*(block for block, _, _ in inputs), *blocks),
        outputs=_outputs(graph, covered, through),
        shapes=_shapes(graph, [block for block, _, _ in inputs], blocks),
        stops=(*_blind(graph), *(_told(graph, s) for s in covered.stops if _is_worth_telling(graph, s, covered))),
        coverage=_coverage(graph, taken),
    )


def _resolve(graph: Graph, until: str | None) -> str | None:
    """The tensor that a layer's name means: what it writes."""
    nodes = {n.name: n.outputs[0] for n in graph.members}
    if until is None or until in graph.shapes and until not in nodes:
        return until
    if until in nodes:
        return nodes[until]
    near = get_close_matches(until, sorted({*nodes, *graph.shapes}), n=3, cutoff=0.5)
    raise UsageError(f"`{until}` names no layer of the simplified model", where="quantize_until",
                     allowed=", ".join(f"`{n}`" for n in near) if near else "", do="" if near else "Give the name of a layer")


def _entry(graph: Graph, tensor: str) -> tuple[Block, str, tuple[str, ...]]:
    """The input block of a model input, the tensor it stands for, and the nodes it takes in: a rescaling that only linear layers read."""
    name = "quantize" if len(graph.entries) == 1 else f"{tensor}/quantize"
    block = Block(name, "input", (tensor,), name, perm=() if len(graph.shapes[tensor]) == 2 else (0, 3, 1, 2))
    row = _row(graph, tensor)
    taken = () if row is None else (row.name,)
    tensor = tensor if row is None else row.outputs[0]
    reader = graph.only_reader(tensor)
    if reader is None or reader.op != "Affine" or not _feeds_linear(graph, reader.outputs[0]):
        return block, tensor, taken
    return block.with_arrays(scale=reader.native["scale"], offset=reader.native["offset"]), reader.outputs[0], (*taken, reader.name)


def _is_known(graph: Graph, tensor: str) -> bool:
    """Images, vectors, and sequences that are read as images of one row."""
    return len(graph.shapes[tensor]) in (2, 4) or _row(graph, tensor) is not None


def _row(graph: Graph, tensor: str) -> Node | None:
    """The reshape that makes an image of one row of a sequence."""
    reader, shape = graph.only_reader(tensor), graph.shapes[tensor]
    return reader if reader is not None and reader.op == "Reshape" and len(shape) == 3 and reader.native["shape"] == (1, *shape[1:]) else None


def _feeds_linear(graph: Graph, tensor: str) -> bool:
    readers = graph.consumers(tensor)
    return bool(readers) and tensor not in graph.results and all(r.op in LINEAR for r in readers)


def _blind(graph: Graph) -> tuple[Stop, ...]:
    """The readers of inputs that are neither images nor vectors."""
    reason = "its input `{}` has the shape {}; only images (height, width, channels), sequences behind 1-D convolutions and vectors are quantized"
    return tuple(Stop(n.name, _layer(n), reason.format(t, graph.shapes[t]))
                 for t in graph.entries if not _is_known(graph, t) for n in graph.consumers(t))


def _told(graph: Graph, stop: Stop) -> Stop:
    """A stop in the user's words: the layer's class, and why it could not be read."""
    node = _node(graph, stop.node)
    known = node.native.get("reason")
    return replace(stop, op=_layer(node), reason=known if known and stop.reason == NO_RULE else stop.reason)


def _layer(node: Node) -> str:
    return str(node.native.get("layer", node.op))


def _node(graph: Graph, name: str) -> Node:
    return next(n for n in graph.members if n.name == name)


def _is_worth_telling(graph: Graph, stop: Stop, covered: Cover) -> bool:
    """Whether some arithmetic stays float behind a stop, and no other stop right behind it says so."""
    node = _node(graph, stop.node)
    readers = [n.name for t in node.outputs for n in graph.consumers(t)]
    hands_on = node.op in ARITHMETIC_FREE and bool(readers) and {s.node for s in covered.stops}.issuperset(readers)
    return _leads_to_arithmetic(graph, node) and not hands_on


def _leads_to_arithmetic(graph: Graph, node: Node) -> bool:
    return node.op not in ARITHMETIC_FREE or any(_leads_to_arithmetic(graph, n) for t in node.outputs for n in graph.consumers(t))


def _outputs(graph: Graph, covered: Cover, through: bool) -> tuple[str, ...]:
    """Block outputs that the float part, or the caller, needs; the caller alone, where the float part is looked through."""
    left = set() if through else {t for n in graph.members if n.name not in covered.nodes for t in n.inputs}
    return tuple(b.output for b in covered.blocks if b.output in left or b.output in graph.results)


def _shapes(graph: Graph, inputs: Iterable[Block], blocks: Iterable[Block]) -> dict[str, Shape]:
    shapes = {b.output: _channel_first(graph.shapes[b.inputs[0]]) for b in inputs}
    shapes |= {b.inputs[0]: shapes[b.output] for b in inputs}
    return shapes | {t: _channel_first(graph.shapes[t]) for b in blocks for t in (*b.inputs, b.output) if t not in shapes}


def _channel_first(shape: Shape) -> Shape:
    if len(shape) == 3:
        return None, shape[2], 1, shape[1]
    return (None, shape[3], shape[1], shape[2]) if len(shape) == 4 else (None, *shape[1:])


def _coverage(graph: Graph, covered: frozenset[str]) -> Coverage:
    counted = [n for n in graph.members if n.op not in ARITHMETIC_FREE]
    inside = [n for n in counted if n.name in covered]
    return Coverage(len(inside), len(counted), sum(_macs(graph, n) for n in inside), sum(_macs(graph, n) for n in counted))


def _macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node per sample; 0 for an operation without, or of unknown size."""
    shape = graph.shapes[node.outputs[0]]
    kernel = node.native.get("kernel")
    if kernel is None or None in shape[1:]:
        return 0
    per_output = kernel.shape[0] * kernel.shape[1] if node.op == "DepthwiseConv2D" else math.prod(kernel.shape[:-1])
    return math.prod(d or 0 for d in shape[1:]) * per_output
