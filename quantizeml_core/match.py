"""Cover a native graph with blocks: which nodes become which block, and a reason for everything that does not.

The walk goes in topological order from tensors that are already quantized. A node is taken only when every data input is quantized. A line
goes on over a tensor that has one reader, is no output of the graph and is not where the user asked to end. The longest line whose rule
accepts wins; equal lengths are settled by (priority, rule name, source), so the order in which rules were installed never matters.

Failure is a value: every refusal is noted as a `Miss` at the node that failed, and a node that ends coverage reports the one that came
nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .blocks import Block
from .blueprint import Stop
from .errors import PluginError, QuantizeMLError
from .patterns import GraphView, Line, Match, Miss, Node, P, Rule, Step, pattern_scope, scoped_rules

__all__ = [
    "NO_RULE", "REQUESTED", "Cover", "GraphView", "Match", "Miss", "Node", "P", "Rule", "Step",
    "cover", "everywhere", "nowhere", "pattern_scope", "scoped_rules", "stop_message",
]

NO_RULE = "no rule covers it"
REFUSES = "refuses it: "
REQUESTED = "quantization was asked to end here"


@dataclass(frozen=True)
class Cover:
    """The result of a walk: blocks with their matches, in topological order, and the nodes at which coverage ended."""

    blocks: tuple[Block, ...]
    matches: tuple[Match, ...]
    stops: tuple[Stop, ...]

    @cached_property
    def nodes(self) -> frozenset[str]:
        """Names of the covered nodes."""
        return frozenset(n.name for m in self.matches for n in m.nodes)


MOST_LISTED = 8
"""Operations that a message names; more say nothing."""

Resume = Callable[[str], bool]
"""Whether a tensor that a float operation writes may be quantized, so that coverage goes on behind it."""


def nowhere(tensor: str) -> bool:
    """Coverage ends at the first operation that no rule takes."""
    return False


def everywhere(tensor: str) -> bool:
    """Coverage goes on behind a stop as if it had been covered: shows all there is to say about a graph."""
    return True


def cover(view: GraphView, rules: Sequence[Rule], *, sources: Iterable[str], taken: Iterable[str] = (), until: str | None = None,
          resume: Resume = nowhere) -> Cover:
    """Cover a graph with blocks.

    Arguments:
        sources: tensors that are already quantized: the outputs of the `input` blocks.
        taken: names of the nodes that those blocks have absorbed.
        until: a tensor behind which nothing is quantized.
        resume: which outputs of float operations count as quantized.
    Errors: PluginError when a rule raises instead of answering, or returns a block that does not stand where it matched.
    """
    walk = _Walk(view, tuple(sorted(rules, key=lambda r: r.order)), set(sources), set(taken), until, resume)
    for node in view.nodes():
        walk.visit(node)
    return Cover(tuple(walk.blocks), tuple(walk.matches), tuple(walk.stops))


def stop_message(stop: Stop) -> str:
    """One line for the user: the node, the reason, and the rule that came nearest."""
    nearest = f" Nearest: {stop.nearest}." if stop.nearest else ""
    return f"Quantization {'left out' if stop.island else 'stopped before'} `{stop.node}` ({stop.op}): {stop.reason}.{nearest}"


class _Walk:
    """The state of one walk: what is quantized, what is taken, and every miss by the node that failed."""

    def __init__(self, view: GraphView, rules: tuple[Rule, ...], quantized: set[str], taken: set[str], until: str | None, resume: Resume):
        self.view, self.rules, self.quantized, self.taken, self.until, self.resume = view, rules, quantized, taken, until, resume
        self.blocks: list[Block] = []
        self.matches: list[Match] = []
        self.stops: list[Stop] = []
        self.behind: set[str] = set()
        self.ended: set[str] = set()
        self.misses: dict[str, list[Miss]] = {}
        self.starting: dict[str, list[Rule]] = {}
        for rule in rules:
            for op in dict.fromkeys(line[0].op for line in rule.pattern.lines):
                self.starting.setdefault(op, []).append(rule)

    def visit(self, node: Node) -> None:
        if node.name in self.taken:
            return
        reason = self.obstacle(node)
        if reason is None and not self.take(node):
            reason = NO_RULE
        if reason is not None:
            self.stop(node, reason)

    def obstacle(self, node: Node) -> str | None:
        """Why no rule may look at a node; empty when the node lies outside or behind an earlier stop and is not worth a word."""
        if self.behind.intersection(node.inputs) or not self.quantized.intersection(node.inputs):
            return ""
        if self.until in node.inputs:
            return REQUESTED
        return next((f"its input `{t}` is not quantized" for t in node.inputs if t not in self.quantized), None)

    def stop(self, node: Node, reason: str) -> None:
        if reason:
            nearest = self.nearest(node) if reason == NO_RULE else ""
            self.stops.append(Stop(node.name, node.op, reason, nearest))
        if reason == REQUESTED or self.ended.intersection(node.inputs):
            self.ended.update(node.outputs)
        resumed = {t for t in node.outputs if t not in self.ended and self.resume(t)}
        self.quantized |= resumed
        if reason or self.behind.intersection(node.inputs):
            self.behind.update(resumed.symmetric_difference(node.outputs))

    def take(self, node: Node) -> bool:
        """Try every line that starts here, longest first."""
        found = [(rule, nodes) for rule in self.starting.get(node.op, ()) for nodes in self.lines(rule, node)]
        for rule, nodes in sorted(found, key=lambda f: (-len(f[1]), f[0].order)):
            outcome = self.attempt(rule, nodes)
            if isinstance(outcome, Block):
                self.accept(outcome, nodes)
                return True
            for member in nodes:
                self.note(replace(outcome, rule=rule, node=member.name, progress=len(nodes)))
        return False

    def accept(self, block: Block, nodes: tuple[Node, ...]) -> None:
        self.blocks.append(block)
        self.matches.append(self.match(nodes))
        self.taken.update(n.name for n in nodes)
        self.quantized.add(block.output)

    def lines(self, rule: Rule, node: Node) -> Iterator[tuple[Node, ...]]:
        """Every length at which the line that starts at `node` completes a line of the rule's pattern. Notes why longer ones fail."""
        alive, nodes = rule.pattern.lines, ()
        while alive:
            with _blame(rule, node):
                alive, reason = _accepting(alive, len(nodes), self.view, node)
            if reason:
                self.note(Miss(reason, rule, node.name, len(nodes)))
            nodes += (node,)
            if any(len(line) == len(nodes) for line in alive):
                yield nodes
            alive = tuple(line for line in alive if len(line) > len(nodes))
            following = self.cross(rule, nodes, frozenset(line[len(nodes)].op for line in alive))
            if following is None:
                return
            node = following

    def cross(self, rule: Rule, nodes: tuple[Node, ...], wanted: frozenset[str]) -> Node | None:
        """The node a line may go on with, None when it must end after `nodes`."""
        if not wanted or (tensor := nodes[-1].outputs[0]) == self.until:
            return None
        readers = self.view.consumers(tensor)
        reason = self.barrier(nodes[-1], tensor, readers)
        for reader in readers if reason else ():
            if reader.op in wanted:
                self.note(Miss(f"cannot fuse {reader.op}: {reason}", rule, reader.name, len(nodes)))
        return readers[0] if readers and not reason else None

    def barrier(self, node: Node, tensor: str, readers: Sequence[Node]) -> str:
        if tensor in self.view.outputs():
            return f"`{tensor}` is an output of the model"
        if len(readers) > 1:
            return f"{len(readers)} nodes read `{tensor}`"
        return f"`{node.name}` has a second output in use" if len(self.used(node)) > 1 else ""

    def used(self, node: Node) -> list[str]:
        """The outputs of a node that somebody reads."""
        return [t for t in node.outputs if t in self.view.outputs() or self.view.consumers(t)]

    def match(self, nodes: tuple[Node, ...]) -> Match:
        inner = {t for n in nodes[:-1] for t in n.outputs}
        inputs = tuple(t for n in nodes for t in n.inputs if t not in inner)
        return Match(nodes, inputs, nodes[-1].outputs[0], self.view)

    def attempt(self, rule: Rule, nodes: tuple[Node, ...]) -> Block | Miss:
        match = self.match(nodes)
        if outside := [t for t in match.inputs if t not in self.quantized]:
            return Miss(f"needs `{outside[0]}`, which is not quantized")
        with _blame(rule, nodes[0]):
            outcome = rule.build(match)
        outcome = _checked(rule, match, outcome)
        if isinstance(outcome, Miss):
            return replace(outcome, reason=REFUSES + outcome.reason)
        second = any(t != match.output for t in self.used(nodes[-1]))
        return Miss(f"cannot give the second output of `{nodes[-1].name}`") if second else outcome

    def note(self, miss: Miss) -> None:
        self.misses.setdefault(miss.node, []).append(miss)

    def nearest(self, node: Node) -> str:
        """The miss that says most: a rule's own refusal, then most nodes matched; failing any, where rules would take this operation."""
        misses = self.misses.get(node.name)
        if misses:
            return min(misses, key=lambda m: (not m.reason.startswith(REFUSES), -m.progress, m.rule.order if m.rule else ())).text()
        return _elsewhere(self.rules, node.op)


def _accepting(lines: tuple[Line, ...], depth: int, view: GraphView, node: Node) -> tuple[tuple[Line, ...], str]:
    """The lines whose step at `depth` takes `node`; when there is none, the reason (empty when a first operation simply is another one)."""
    steps = dict.fromkeys(line[depth] for line in lines)
    refusals = {s: s.refusal(view, node) for s in steps if s.op == node.op}
    accepting = tuple(line for line in lines if refusals.get(line[depth], "") is None)
    if accepting or (depth == 0 and not refusals):
        return accepting, ""
    ops = sorted({s.op for s in steps})
    expected = _listing(ops) if len(ops) <= MOST_LISTED else f"one of {len(ops)} operations"
    return (), next((REFUSES + r for r in refusals.values() if r), f"expected {expected}, got {node.op}")


def _elsewhere(rules: Sequence[Rule], op: str) -> str:
    """`Relu is taken only after Add or Conv (rules add, conv2d)`, empty when no rule ever takes the operation."""
    before = {rule.name: {a.op for line in rule.pattern.lines for a, b in zip(line, line[1:]) if b.op == op} for rule in rules}
    names = [name for name, ops in before.items() if ops]
    ops = _listing(sorted(set().union(*before.values())))
    return f"{op} is taken only after {ops} (rules {', '.join(sorted(names))})" if names else ""


def _listing(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _checked(rule: Rule, match: Match, outcome: Any) -> Block | Miss:
    """A rule's answer, refused when it is neither a miss nor a block that stands where it matched."""
    if isinstance(outcome, Miss):
        return outcome
    if not isinstance(outcome, Block):
        raise PluginError(f"it returned a {type(outcome).__name__}", where=f"rule `{rule.label}`", allowed="a Block or a Miss")
    if outcome.output != match.output or not set(outcome.inputs) <= set(match.inputs):
        raise PluginError(
            f"its block `{outcome.name}` goes from {outcome.inputs} to `{outcome.output}`", where=f"rule `{rule.label}`",
            allowed=f"inputs among {match.inputs}, output `{match.output}`",
        )
    return outcome


@contextmanager
def _blame(rule: Rule, node: Node) -> Iterator[None]:
    """A rule that raises is a broken plugin: say which one, and on which node."""
    try:
        yield
    except QuantizeMLError:
        raise
    except Exception as error:
        raise PluginError(
            f"it failed on `{node.name}` ({node.op}) with {type(error).__name__}: {error}", where=f"rule `{rule.label}`",
            do="Report it to its distribution, or run without that plugin",
        ) from error
