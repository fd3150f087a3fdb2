"""sanitize: apply rewrites to a working copy until nothing changes, each one proven equal first.

Order is fixed: passes over the nodes in topological order, rewrites in the order given, those that come last in passes of their own. Every value that survives keeps its name; the
output of a replaced subgraph keeps its name; a new node takes the name of the node it stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx_ir as ir

from ..shapes import infer_missing
from .functions import DOMAIN, VERSION, define_functions
from .graph import UNROUNDED
from .model import Applied, Op, Proposal, Refusal, Refused, Rewrite
from .proof import prove

PASSES = 100

Outcome = Applied | Refused | None


def sanitize(model: ir.Model, rewrites: Sequence[Rewrite], wanted: Collection[str] = ()) -> tuple[ir.Model, tuple[Applied, ...], tuple[Refused, ...]]:
    """The model (a working copy from `normalize.prepare`, changed in place), what was applied, and what was refused and why.

    Arguments:
        wanted: operations that somebody's own rule takes: those that come last leave them alone.

    Refusals are those that hold for the final graph. Rewrites that undo each other end after 100 passes with a refusal.
    """
    applied: list[Applied] = []
    graph, first, last = model.graph, [r for r in rewrites if not r.last], [r for r in rewrites if r.last]
    names = {v.name for v in (*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs))}
    for _ in range(PASSES):
        outcomes = _one_pass(graph, first, names)
        if not any(isinstance(o, Applied) for o in outcomes):
            outcomes += _one_pass(graph, last, names, wanted)
        done = [o for o in outcomes if isinstance(o, Applied)]
        applied += done
        remove_dead(graph)
        if not done:
            return _finished(model), tuple(applied), tuple(o for o in outcomes if isinstance(o, Refused))
        define_functions(model)
        infer_missing(model)
    endless = Refused(applied[-1].rewrite, applied[-1].node, f"it still changes the graph after {PASSES} passes")
    return _finished(model), tuple(applied), (endless,)


def _one_pass(graph: ir.Graph, rewrites: Sequence[Rewrite], names: set[str | None], wanted: Collection[str] = ()) -> list[Applied | Refused]:
    outcomes: list[Applied | Refused] = []
    for node in (n for n in tuple(graph) if n.op_type not in wanted):
        for rewrite in rewrites:
            if node.graph is not graph:
                break
            if not rewrite.anchors or node.op_type in rewrite.anchors and node.domain in ("", "quantizeml"):
                outcome = _try(graph, node, rewrite, names)
                outcomes += [outcome] if outcome else []
    return outcomes


def _try(graph: ir.Graph, node: ir.Node, rewrite: Rewrite, names: set[str | None]) -> Outcome:
    name, found = node.name or "", rewrite.apply(node)
    if found is None:
        return None
    reason = found.reason if isinstance(found, Refusal) else _obstacle(found) or prove(found).reason
    if reason:
        return Refused(rewrite.name, name, reason)
    _apply(graph, found, names)
    return Applied(rewrite.name, name)


def _obstacle(proposal: Proposal) -> str:
    """Why the graph around a proposal does not allow it, empty when it does."""
    *inner, last = proposal.nodes
    gone = set(proposal.nodes)
    for value in (v for n in inner for v in n.outputs):
        others = [n for n in value.consumers() if n not in gone]
        if others or value.is_graph_output():
            return f"its input `{value.name}` is also " + (f"read by `{others[0].name}`" if others else "an output of the model")
    extra = next((v for v in last.outputs[1:] if v.consumers() or v.is_graph_output()), None)
    if extra is not None:
        return f"its output `{extra.name}` is used"
    return _unnameable(last.outputs[0], proposal.replacement) or _overflow(proposal.replacement)


def _unnameable(output: ir.Value, replacement: object) -> str:
    """A graph output keeps its name, so what replaces it must be free to take that name."""
    if not output.is_graph_output() or isinstance(replacement, Op):
        return ""
    if isinstance(replacement, ir.Value) and replacement.producer() is not None and not replacement.is_graph_output():
        return ""
    return f"it joins an input or another output to the output `{output.name}`"


def _overflow(replacement: object) -> str:
    if isinstance(replacement, Op):
        return next((reason for i in replacement.inputs if (reason := _overflow(i))), "")
    return "a folded constant does not fit float32" if isinstance(replacement, np.ndarray) and _is_large(replacement) else ""


def _is_large(array: np.ndarray) -> bool:
    """Whether a finite number is beyond float32. The two ends tell, where both are finite."""
    if array.dtype != np.float64 or not array.size:
        return False
    top = np.finfo(np.float32).max
    return not -top <= array.min() <= array.max() <= top and bool((np.isfinite(array) & (np.abs(array) > top)).any())


def _apply(graph: ir.Graph, proposal: Proposal, names: set[str | None]) -> None:
    last = proposal.nodes[-1]
    old = last.outputs[0]
    new = _Builder(graph, last, names).build(proposal.replacement)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(proposal.nodes, safe=True)
    if not isinstance(proposal.replacement, ir.Value) or new.is_graph_output():
        new.name = old.name


class _Builder:
    """Makes nodes and initializers of a replacement, before the node it stands for."""

    def __init__(self, graph: ir.Graph, last: ir.Node, names: set[str | None]):
        self.graph, self.last, self.output, self.taken = graph, last, last.outputs[0], names
        self.nodes: set[str] = set()

    def build(self, replacement: Op | ir.Value | np.ndarray) -> ir.Value:
        if isinstance(replacement, Op):
            return self._node(replacement, root=True)
        if isinstance(replacement, ir.Value):
            return replacement
        return self._initializer(self.unique(f"{self.output.name}/constant"), replacement)

    def unique(self, name: str) -> str:
        chosen = next(n for n in chain([name], (f"{name}_{i}" for i in count(1))) if n not in self.taken)
        self.taken.add(chosen)
        return chosen

    def _node(self, op: Op, root: bool) -> ir.Value:
        name = op.name or (self.last.name if root else self._inner(f"{self.output.name}/{op.op}"))
        inputs = [self._operand(i, f"{name}/{_role(op, k)}") for k, i in enumerate(op.inputs)]
        attributes = [_attribute(*a) for a in op.attributes.items()]
        node = ir.Node(op.domain, op.op, inputs, attributes, name=name)
        self._describe(node.outputs[0], op, root)
        self.graph.insert_before(self.last, node)
        if op.domain == DOMAIN:
            self.graph.opset_imports.setdefault(DOMAIN, VERSION)
        return node.outputs[0]

    def _inner(self, name: str) -> str:
        """A name of its own for each of several inner operations of one kind."""
        chosen = f"{name}_{sum(n.startswith(name) for n in self.nodes)}" if name in self.nodes else name
        self.nodes.add(chosen)
        return chosen

    def _operand(self, item: Op | ir.Value | np.ndarray | None, name: str) -> ir.Value | None:
        if isinstance(item, Op):
            return self._node(item, root=False)
        return self._initializer(self.unique(name), item) if isinstance(item, np.ndarray) else item

    def _describe(self, value: ir.Value, op: Op, root: bool) -> None:
        value.name = self.unique(op.output or (self.output.name if root else f"{self.output.name}/{op.op}"))
        shape = op.shape if op.shape is not None else tuple(self.output.shape) if root and self.output.shape is not None else None
        value.shape = None if shape is None else ir.Shape(["N" if d is None and i == 0 else d for i, d in enumerate(shape)])
        value.type = self.output.type

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        value = ir.Value(name=name)
        kept = array.astype(self._float()) if array.dtype == np.float64 else np.ascontiguousarray(array).reshape(array.shape)
        value.const_value = ir.Tensor(kept, name=name)
        value.shape, value.type = ir.Shape(kept.shape), ir.TensorType(value.const_value.dtype)
        if array.dtype == np.float64:
            value.meta[UNROUNDED] = array
        self.graph.register_initializer(value)
        return value

    def _float(self) -> np.dtype:
        dtype = self.output.dtype
        return dtype.numpy() if dtype is not None and dtype.is_floating_point() else np.dtype(np.float32)


def _attribute(name: str, value: Any) -> ir.Attr:
    """With its type: the library looks for the type of a list among all there are, which takes longer than the node."""
    whole = isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value)
    return ir.convenience.convert_attribute(name, value, ir.AttributeType.INTS if whole else None)


ROLES = {
    "Conv": ("input", "weight", "bias"), "Gemm": ("input", "weight", "bias"), "Clip": ("input", "min", "max"),
    "Mul": ("input", "scale"), "Add": ("input", "offset"), "Reshape": ("input", "shape"),
}


def _role(op: Op, index: int) -> str:
    names = ROLES.get(op.op, ())
    return names[index] if index < len(names) else f"constant_{index}"


def remove_dead(graph: ir.Graph) -> None:
    """Removes nodes and initializers that nothing reads."""
    for node in reversed(tuple(graph)):
        if not any(v.consumers() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
    for name, value in tuple(graph.initializers.items()):
        if not value.consumers() and not value.is_graph_output():
            del graph.initializers[name]


def _finished(model: ir.Model) -> ir.Model:
    for value in model.graph.initializers.values():
        value.meta.pop(UNROUNDED, None)
    return model
