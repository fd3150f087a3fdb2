"""The pattern algebra: a pattern is a set of straight lines of operations; a rule turns a matched line into a block.

    P("Conv") >> P.opt(P("Relu") | P("Clip"))                 Conv;  Conv, Relu;  Conv, Clip
    P.either_order(P.opt(P("MaxPool")), P.opt(P("Relu")))     both, one or none, in any order
    P("Clip", guard)                                          guard(view, node): None, or the reason why this node will not do

    Rule("conv2d", pattern, build)                            build(match): a Block, or a Miss with the reason
    with pattern_scope(rule): quantize(...)                   a rule without packaging

Nothing here knows a framework: a frontend shows its graph as `Node` records through a `GraphView`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from .blocks import Block
from .errors import PluginError, UsageError


@dataclass(frozen=True)
class Node:
    """One operation of a native graph, as the matcher sees it.

    Arguments:
        name: unique in its graph.
        op: operation type; an operation outside the framework's own vocabulary carries its domain, as `domain::Op`.
        inputs: names of its data inputs in order. Constants (weights, shapes, bounds) are no data inputs.
        outputs: names of the tensors it writes, in order.
        native: the framework's own object, for the rules of that framework.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    native: Any = field(default=None, compare=False, repr=False)


class GraphView(Protocol):
    """What a frontend shows of its graph. Rules may ask their own frontend's view for more (shapes, constants)."""

    def inputs(self) -> tuple[str, ...]:
        """Tensors that enter the graph."""

    def outputs(self) -> tuple[str, ...]:
        """Tensors that leave the graph."""

    def nodes(self) -> tuple[Node, ...]:
        """Every node, in topological order."""

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, each once, in topological order."""


Guard = Callable[[Any, Node], "str | None"]


@dataclass(frozen=True)
class Step:
    """One place of a line: an operation type, and a guard that may refuse a particular node with a reason."""

    op: str
    guard: Guard | None = None

    def refusal(self, view: GraphView, node: Node) -> str | None:
        """None when the node fits; the operation type is already known to be right."""
        return self.guard(view, node) if self.guard else None


Line = tuple[Step, ...]


class P:
    """A pattern: `>>` follows, `|` is either, `opt` may be absent. Immutable."""

    __slots__ = ("lines",)
    lines: tuple[Line, ...]

    def __init__(self, op: str, guard: Guard | None = None):
        self.lines = ((Step(op, guard),),)

    @classmethod
    def _of(cls, lines: Iterable[Line]) -> P:
        pattern = cls.__new__(cls)
        pattern.lines = tuple(dict.fromkeys(lines))
        return pattern

    def __rshift__(self, other: P) -> P:
        return P._of(a + b for a in self.lines for b in other.lines)

    def __or__(self, other: P) -> P:
        return P._of(self.lines + other.lines)

    @staticmethod
    def opt(pattern: P) -> P:
        """The pattern, or nothing."""
        return P._of(((), *pattern.lines))

    @staticmethod
    def either_order(a: P, b: P) -> P:
        """`a` then `b`, or `b` then `a`."""
        return (a >> b) | (b >> a)

    @staticmethod
    def line(*ops: str) -> P:
        """A plain line of operation types."""
        return P._of((tuple(Step(op) for op in ops),))


@dataclass(frozen=True)
class Match:
    """A line of nodes that fits a rule's pattern, all of whose data inputs are quantized.

    Arguments:
        nodes: the line, first to last.
        inputs: data inputs that come from outside the line, in order, repeated when read twice.
        output: the only tensor the line gives to others.
        view: the frontend's view of the graph.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    output: str
    view: Any = field(compare=False, repr=False)

    def find(self, *ops: str) -> Node | None:
        """The first node of the line whose operation is one of `ops`."""
        return next((n for n in self.nodes if n.op in ops), None)

    @property
    def ops(self) -> tuple[str, ...]:
        return tuple(n.op for n in self.nodes)


@dataclass(frozen=True)
class Rule:
    """A pattern and what to make of it.

    Arguments:
        name: how messages call it.
        pattern: the lines it covers, at least one node each.
        build: Match -> Block, or a `Miss(reason)` that lets a shorter line or another rule try.
        source: the distribution that brings it, for messages.
        priority: among lines of equal length the smallest goes first.
    """

    name: str
    pattern: P
    build: Callable[[Match], "Block | Miss"]
    source: str = ""
    priority: int = 0

    def __post_init__(self) -> None:
        if not self.pattern.lines or not all(self.pattern.lines):
            raise PluginError("its pattern also matches no node at all", where=f"rule `{self.label}`", do="Make one operation mandatory")

    @property
    def label(self) -> str:
        return f"{self.name} ({self.source})" if self.source else self.name

    @property
    def order(self) -> tuple[int, str, str]:
        return self.priority, self.name, self.source


@dataclass(frozen=True)
class Miss:
    """Why something is not a block. A rule gives the reason; the matcher adds the rule, the node that failed and how many nodes matched."""

    reason: str
    rule: Rule | None = None
    node: str = ""
    progress: int = 0

    def text(self) -> str:
        """`conv2d (quantizeml-onnx) expected Relu, got LeakyRelu`."""
        return f"{self.rule.label} {self.reason}" if self.rule else self.reason


_SCOPED: ContextVar[tuple[Rule, ...]] = ContextVar("quantizeml_scoped_rules", default=())


@contextmanager
def pattern_scope(*rules: Rule) -> Iterator[None]:
    """Add rules to every `quantize()` call of this thread (or task) inside the `with` block. Scopes nest."""
    if wrong := [r for r in rules if not isinstance(r, Rule)]:
        raise UsageError(f"got a {type(wrong[0]).__name__}", where="pattern_scope", allowed="Rule objects")
    token = _SCOPED.set(_SCOPED.get() + rules)
    try:
        yield
    finally:
        _SCOPED.reset(token)


def scoped_rules() -> tuple[Rule, ...]:
    """The rules of the enclosing pattern scopes, outermost first."""
    return _SCOPED.get()
