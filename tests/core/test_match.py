"""The walk on a toy graph: what is covered, in which order of preference, and the words for everything that is not."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given

from quantizeml_core.blocks import Block
from quantizeml_core.errors import PluginError, UsageError
from quantizeml_core.match import NO_RULE, REQUESTED, Match, Miss, Node, P, Rule, cover, pattern_scope, scoped_rules, stop_message


@dataclass(frozen=True)
class Toy:
    """A graph written as text: `out = Op in in`, one node a line; the node is called like its output. `!` leaves the graph."""

    text: str
    exits: tuple[str, ...]

    def inputs(self) -> tuple[str, ...]:
        return ("x",)

    def outputs(self) -> tuple[str, ...]:
        return self.exits

    def nodes(self) -> tuple[Node, ...]:
        return tuple(_node(line) for line in self.text.split(";"))

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes() if tensor in n.inputs)


def _node(line: str) -> Node:
    left, right = line.split("=")
    op, *inputs = right.split()
    outputs = tuple(left.split())
    return Node(outputs[0], op, tuple(inputs), outputs)


def block(match: Match) -> Block:
    return Block(match.nodes[0].name, "conv2d", match.inputs, match.output)


def rule(name: str, pattern: P, build=block, priority: int = 0, source: str = "dist") -> Rule:
    return Rule(name, pattern, build, source, priority)


def walk(text: str, *rules: Rule, exits: str = "", until: str | None = None):
    return cover(Toy(text, tuple(exits.split())), rules, sources=["x"], until=until)


def taken(text: str, *rules: Rule, **options) -> list[str]:
    return ["+".join(n.name for n in m.nodes) for m in walk(text, *rules, **options).matches]


RELU = P("Relu") | P("Clip")
CONV = rule("conv", P("Conv") >> P.either_order(P.opt(P("MaxPool")), P.opt(RELU)))
ADD = rule("add", P("Add"))


@pytest.mark.parametrize("text, expected", [
    ("a=Conv x", ["a"]),
    ("a=Conv x; b=Relu a", ["a+b"]),
    ("a=Conv x; b=Clip a", ["a+b"]),
    ("a=Conv x; b=MaxPool a; c=Relu b", ["a+b+c"]),
    ("a=Conv x; b=Relu a; c=MaxPool b", ["a+b+c"]),
    ("a=Conv x; b=Relu a; c=Relu b", ["a+b"]),
    ("a=Conv x; b=Relu a; c=Conv b; d=MaxPool c", ["a+b", "c+d"]),
    ("a=Conv x; b=Relu a; c=Conv b; d=Add b c", ["a+b", "c", "d"]),
    ("a=Conv x; b=Relu a; c=Conv a", ["a", "c"]),
    ("a=Conv y; b=Conv x", ["b"]),
    ("a=Relu x; b=Conv a", []),
])
def test_a_line_is_as_long_as_it_can_be(text: str, expected: list[str]) -> None:
    assert taken(text, CONV, ADD) == expected


def test_an_output_of_the_graph_ends_a_line() -> None:
    assert taken("a=Conv x; b=Relu a", CONV, exits="a b") == ["a"]


@pytest.mark.parametrize("until, expected", [("a", ["a"]), ("b", ["a+b"]), ("c", ["a+b", "c"])])
def test_until_ends_lines_and_branches(until: str, expected: list[str]) -> None:
    result = walk("a=Conv x; b=Relu a; c=Conv b; d=Conv c", CONV, until=until)
    assert ["+".join(n.name for n in m.nodes) for m in result.matches] == expected
    assert [s.reason for s in result.stops] == [REQUESTED]


def test_until_leaves_parallel_branches_alone() -> None:
    assert taken("a=Conv x; b=Conv a; c=Conv x; d=Conv c; e=Add b d", CONV, ADD, until="a") == ["a", "c", "d"]


def test_a_shorter_line_is_tried_when_the_longer_one_is_refused() -> None:
    picky = rule("picky", P("Conv") >> P.opt(P("Relu")), lambda m: Miss("no Relu today") if len(m.nodes) > 1 else block(m))
    result = walk("a=Conv x; b=Relu a", picky)
    assert [m.ops for m in result.matches] == [("Conv",)]
    assert stop_message(result.stops[0]) == (
        "Quantization stopped before `b` (Relu): no rule covers it. Nearest: picky (dist) refuses it: no Relu today."
    )


@pytest.mark.parametrize("first, second, winner", [
    (("a", 0), ("b", 0), "a"),
    (("a", 1), ("b", 0), "b"),
    (("same", 0, "dist1"), ("same", 0, "dist2"), "dist1"),
])
def test_ties_never_depend_on_the_order_of_registration(first: tuple, second: tuple, winner: str) -> None:
    def named(name: str, priority: int, source: str = "dist") -> Rule:
        return rule(name, P("Conv"), lambda m: Block(name if source == "dist" else source, "conv2d", m.inputs, m.output), priority, source)

    rules = named(*first), named(*second)
    assert {walk("a=Conv x", *order).blocks[0].name for order in (rules, rules[::-1])} == {winner}


GRAPHS = st.lists(st.tuples(st.sampled_from("Conv Relu Clip MaxPool Add Foo".split()), st.integers(0, 9), st.integers(0, 9)), max_size=9)


def text_of(graph: list[tuple[str, int, int]]) -> str:
    """Node i is called t<i + 1> and reads earlier tensors; t0 is the input."""
    tensor = ["x", *(f"t{i + 1}" for i in range(len(graph)))]
    reads = [(op, tensor[a % (i + 1)], tensor[b % (i + 1)] if op == "Add" else "") for i, (op, a, b) in enumerate(graph)]
    return "; ".join(f"{name}={' '.join(read)}" for name, read in zip(tensor[1:], reads, strict=True)) or "t1=Foo x"


@given(GRAPHS, st.permutations([CONV, ADD, rule("a", P("Conv") >> RELU), rule("b", P("Conv") >> P.opt(P("Clip")), priority=-1)]))
def test_any_graph_any_order_of_rules(graph: list[tuple[str, int, int]], rules: list[Rule]) -> None:
    result, reference = walk(text_of(graph), *rules), walk(text_of(graph), *sorted(rules, key=lambda r: r.name))
    assert result == reference
    ready = {"x"}
    for found in result.blocks:
        assert ready.issuperset(found.inputs)
        ready.add(found.output)
    assert len(result.nodes) == sum(len(m.nodes) for m in result.matches)
    assert result.nodes.isdisjoint(s.node for s in result.stops)


def test_the_longest_line_wins_over_priority() -> None:
    assert taken("a=Conv x; b=Relu a", CONV, rule("mine", P("Conv"), priority=-1)) == ["a+b"]


def no_six(view: Toy, node: Node) -> str | None:
    return "its bound is 6" if node.name.endswith("6") else None


GUARDED = rule("guarded", P("Conv") >> P.opt(P("Clip", no_six)))
STRICT = rule("strict", P("Conv") >> P("Relu"))


@pytest.mark.parametrize("text, rules, message", [
    ("a=Conv x; b=Softmax a", (CONV,), "`b` (Softmax): no rule covers it. Nearest: conv (dist) expected Clip, MaxPool or Relu, got Softmax."),
    ("a=Conv x; b=LeakyRelu a", (STRICT, CONV),
     "`b` (LeakyRelu): no rule covers it. Nearest: conv (dist) expected Clip, MaxPool or Relu, got LeakyRelu."),
    ("a=Conv x; b=LeakyRelu a", (STRICT,), "`a` (Conv): no rule covers it."),
    ("l=Lambda x", (CONV,), "`l` (Lambda): no rule covers it."),
    ("a=Add x x; r=Relu a", (CONV, ADD), "`r` (Relu): no rule covers it. Nearest: Relu is taken only after Conv or MaxPool (rules conv)."),
    ("a=Conv x; b=Relu a; c=Conv a", (CONV,), "`b` (Relu): no rule covers it. Nearest: conv (dist) cannot fuse Relu: 2 nodes read `a`."),
    ("a=Conv x; c6=Clip a", (GUARDED,), "`c6` (Clip): no rule covers it. Nearest: guarded (dist) refuses it: its bound is 6."),
    ("a=Conv x; b=Add a y", (CONV, ADD), "`b` (Add): its input `y` is not quantized."),
])
def test_a_stop_names_the_node_the_reason_and_the_nearest_rule(text: str, rules: tuple[Rule, ...], message: str) -> None:
    assert stop_message(walk(text, *rules).stops[0]) == "Quantization stopped before " + message


def test_a_fused_output_is_named_as_the_reason() -> None:
    stops = walk("a=Conv x; b=Relu a", CONV, exits="a b").stops
    assert stops[0].nearest == "conv (dist) cannot fuse Relu: `a` is an output of the model"


def test_the_nearest_miss_is_the_one_with_most_nodes_matched() -> None:
    far = rule("a_far", P.line("Conv", "Square"))
    near = rule("z_near", P.line("Conv", "Relu", "Square"))
    stops = walk("a=Conv x; b=Relu a; c=Cube b", rule("plain", P.line("Conv", "Relu")), far, near).stops
    assert [(s.node, s.nearest) for s in stops] == [("c", "z_near (dist) expected Square, got Cube")]


def test_only_the_first_node_of_a_float_branch_is_reported() -> None:
    stops = walk("a=Conv x; b=Foo a; c=Conv b; d=Add c a", CONV, ADD).stops
    assert [(s.node, s.reason) for s in stops] == [("b", NO_RULE)]


def test_a_line_may_read_other_quantized_tensors() -> None:
    fused = rule("fused", P("Conv") >> P("Add"))
    result = walk("s=Conv x; a=Conv x; b=Add a s", fused, CONV, ADD)
    assert [(m.ops, m.inputs) for m in result.matches] == [(("Conv",), ("x",)), (("Conv", "Add"), ("x", "s"))]


def test_a_line_falls_back_when_its_other_tensor_comes_later() -> None:
    fused = rule("fused", P("Conv") >> P("Add"))
    assert taken("a=Conv x; s=Conv x; b=Add a s", fused, CONV, ADD) == ["a", "s+b"]


def test_a_second_output_in_use_is_refused() -> None:
    stops = walk("a b=Conv x; c=Foo b", CONV).stops
    assert stops[0].nearest == "conv (dist) cannot give the second output of `a`"


def test_covered_nodes() -> None:
    assert walk("a=Conv x; b=Relu a; c=Foo b", CONV).nodes == {"a", "b"}


@pytest.mark.parametrize("build, words", [
    (lambda m: 1 / 0, "it failed on `a` (Conv) with ZeroDivisionError"),
    (lambda m: None, "it returned a NoneType"),
    (lambda m: Block("a", "conv2d", ("elsewhere",), "a"), "goes from ('elsewhere',)"),
    (lambda m: Block("a", "conv2d", ("x",), "elsewhere"), "to `elsewhere`"),
])
def test_a_broken_rule_is_named(build, words: str) -> None:
    with pytest.raises(PluginError, match="rule `broken \\(dist\\)`") as error:
        walk("a=Conv x", rule("broken", P("Conv"), build))
    assert words in str(error.value)


def test_a_rule_needs_a_mandatory_node() -> None:
    with pytest.raises(PluginError, match="matches no node at all"):
        rule("empty", P.opt(P("Conv")))


def test_scopes_nest_and_end() -> None:
    with pattern_scope(CONV):
        with pattern_scope(ADD):
            assert scoped_rules() == (CONV, ADD)
        assert scoped_rules() == (CONV,)
    assert scoped_rules() == ()


def test_a_scope_ends_when_its_body_fails() -> None:
    with pytest.raises(RuntimeError), pattern_scope(CONV):
        raise RuntimeError
    assert scoped_rules() == ()


def test_a_scope_is_invisible_to_other_threads() -> None:
    seen: list[tuple[Rule, ...]] = []
    with pattern_scope(CONV):
        thread = threading.Thread(target=lambda: seen.append(scoped_rules()))
        thread.start()
        thread.join()
    assert seen == [()]


def test_a_scope_takes_rules_only() -> None:
    with pytest.raises(UsageError, match="got a dict"), pattern_scope({"Relu": block}):  # type: ignore[arg-type]
        pass
