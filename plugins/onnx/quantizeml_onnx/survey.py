"""A sanitized ONNX graph as a Blueprint: the entry blocks, the blocks the rules find behind them, and what stays float.

Shapes are channel-first with the batch as None. Coverage counts the nodes that carry arithmetic; multiply-accumulates are per sample:
a convolution has prod(output) * prod(weight[1:]), a product of matrices prod(output) * inner size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial

import onnx_ir as ir

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint, Coverage, Shape, Stop
from quantizeml_core.errors import UsageError
from quantizeml_core.islands import resumed, settle, told
from quantizeml_core.match import Cover, Node, Rule, cover, nowhere
from quantizeml_core.names import Names

from .entry import Entry, entry
from .guards import NO_SHAPE
from .view import OnnxView, ints, operand

MOVES = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operations that carry no arithmetic: not counted, and no stop when nothing but them follows."""


def survey(model: ir.Model, rules: Sequence[Rule], *, until: str | None = None, through: bool = False, islands: bool = False) -> Blueprint:
    """Cover a graph.

    Arguments:
        model: the sanitized graph; it is only read.
        rules: from `rules.builtin_rules` and from plugins.
        until: name of a tensor, or of a node, behind which nothing is quantized.
        through: cover what lies behind a stop too.
        islands: the same where it is worth it, and what lies between stays float.
    Errors: UsageError when `until` names nothing; PluginError when a rule is broken.
    """
    view = OnnxView(model)
    until = _resolve(view, until)
    free = Names((*view.tensors(), *(n.name for n in view.nodes())))
    entries, blind = _entries(view, until, free)
    renamed = {e.tensor: e.block.output for e in entries}
    absorbed = [name for e in entries for name in e.nodes]
    covered = cover(view, rules, sources=list(renamed), taken=absorbed, until=until, resume=partial(_resumable, view) if through or islands else nowhere)
    covered = settle(covered, renamed) if islands else covered
    blocks = tuple(resumed(covered.blocks, renamed if islands else {t: t for b in covered.blocks for t in b.inputs} | renamed, free))
    entries = tuple(e for e in entries if any(e.block.output in b.inputs for b in blocks))
    return Blueprint(
        blocks=(*(e.block for e in entries), *blocks),
        outputs=_outputs(view, covered, through),
        shapes=_shapes(view, entries, blocks),
        stops=(*blind, *_worth_telling(view, told(view, covered, blocks))),
        coverage=_coverage(view, covered.nodes.union(*(e.nodes for e in entries))),
    )


def _resolve(view: OnnxView, until: str | None) -> str | None:
    """The tensor that `until` means: a tensor's name, else the first output of the node of that name."""
    nodes = {n.name: n.outputs[0] for n in view.nodes()}
    if until is None or until in view.tensors():
        return until
    if until in nodes:
        return nodes[until]
    near = get_close_matches(until, sorted({*nodes, *view.tensors()}), n=3, cutoff=0.5)
    raise UsageError(
        f"`{until}` names no tensor and no node of the simplified model", where="quantize_until",
        allowed=", ".join(f"`{n}`" for n in near) if near else "", do="" if near else "Give the name of an output of a layer",
    )


def _entries(view: OnnxView, until: str | None, free: Names) -> tuple[tuple[Entry, ...], tuple[Stop, ...]]:
    """One entry per model input that has a channel axis; the nodes that read an input of unknown shape are stops."""
    names = view.inputs()
    found = {t: entry(view, t, free("quantize" if len(names) == 1 else f"{t}/quantize"), until) for t in names}
    blind = tuple(Stop(n.name, n.op, NO_SHAPE.format(t)) for t in names if view.shape(t) is None for n in view.consumers(t))
    return tuple(e for e in found.values() if e), blind


def _resumable(view: OnnxView, tensor: str) -> bool:
    """Whether a tensor that stays float can be quantized: reals with a batch and a known number of channels."""
    shape = view.shape(tensor)
    return view.dtype(tensor) == ir.DataType.FLOAT and shape is not None and len(shape) > 1 and shape[0] is None and shape[1] is not None


def _outputs(view: OnnxView, covered: Cover, through: bool) -> tuple[str, ...]:
    """Block outputs that the float part, or the caller, needs; the caller alone, where the float part is looked through."""
    left = set() if through else {t for n in view.nodes() if n.name not in covered.nodes for t in n.inputs}
    return tuple(b.output for b in covered.blocks if b.output in left or b.output in view.outputs())


def _shapes(view: OnnxView, entries: Iterable[Entry], blocks: Iterable[Block]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for block in (e.block for e in entries):
        native = view.shape(block.inputs[0]) or ()
        wide = native if len(block.perm) <= len(native) else (native[0], 1, *native[1:])
        shapes[block.output] = _free_batch(tuple(wide[i] for i in block.perm) or native)
        shapes[block.inputs[0]] = shapes[block.output] if wide is native else _free_batch(native)
    for block in (b for b in blocks if b.kind == "resume"):
        shapes[block.inputs[0]] = shapes[block.output] = _free_batch(view.shape(block.inputs[0]) or ())
    for tensor in (t for b in blocks for t in (*b.inputs, b.output) if t not in shapes):
        shapes[tensor] = _free_batch(view.shape(tensor) or ())
    return shapes


def _free_batch(shape: Shape) -> Shape:
    return (None, *shape[1:])


def _worth_telling(view: OnnxView, stops: Iterable[Stop]) -> tuple[Stop, ...]:
    """Stops behind which some arithmetic stays float: a reshape that merely hands over the result is none, nor one before another stop."""
    nodes, told = {n.name: n for n in view.nodes()}, tuple(stops)
    names = {s.node for s in told}
    return tuple(s for s in told if _leads_to_arithmetic(view, nodes[s.node]) and not _hands_on(view, nodes[s.node], names))


def _hands_on(view: OnnxView, node: Node, stops: set[str]) -> bool:
    readers = [n.name for t in node.outputs for n in view.consumers(t)]
    return node.op in MOVES and bool(readers) and stops.issuperset(readers)


def _leads_to_arithmetic(view: OnnxView, node: Node) -> bool:
    return node.op not in MOVES or any(_leads_to_arithmetic(view, n) for t in node.outputs for n in view.consumers(t))


def _coverage(view: OnnxView, covered: frozenset[str]) -> Coverage:
    counted = [n for n in view.nodes() if n.op not in MOVES]
    inside = [n for n in counted if n.name in covered]
    return Coverage(len(inside), len(counted), sum(_macs(view, n) for n in inside), sum(_macs(view, n) for n in counted))


def _macs(view: OnnxView, node: Node) -> int:
    """Multiply-accumulates of a node per sample; 0 for an operation without, or of unknown size."""
    shape, count = view.shape(node.outputs[0]), MACS.get(node.op)
    return math.prod(d or 0 for d in shape[1:]) * count(view, node) if shape and count else 0


def _kernel(view: OnnxView, node: Node) -> int:
    weight = operand(view, node, 1)
    return 0 if weight is None else math.prod(weight.shape[1:])


def _inner(view: OnnxView, node: Node) -> int:
    shape = view.shape(node.inputs[0]) or (None,)
    return shape[-1] or 0


def _scattered(view: OnnxView, node: Node) -> int:
    """Products of one pixel of a transposed convolution: it sees one in stride * stride of the taps of every input channel."""
    weight = operand(view, node, 1)
    return 0 if weight is None else weight[:, 0].size // math.prod(ints(node, "strides", (1, 1)))


MACS = {"Conv": _kernel, "ConvTranspose": _scattered, "Gemm": _inner, "MatMul": _inner}
