"""A graph as a blueprint: entry, edges, shapes, outputs, coverage, where it ends on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint, Coverage
from quantizeml_core.builtin import GENERIC
from quantizeml_core.errors import UsageError
from quantizeml_core.match import REQUESTED, Match, P, Rule, pattern_scope, scoped_rules
from quantizeml_onnx.custom import custom_pattern_scope
from quantizeml_onnx.normalize import prepare
from quantizeml_onnx.rewrites import rewrites_for, sanitize
from quantizeml_onnx.rules import builtin_rules
from quantizeml_onnx.survey import survey

MODELS = Path(__file__).parents[2] / "examples" / "models"
CONSTANTS = {
    "w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones((4, 4, 3, 3), np.float32), "g": np.ones((5, 4), np.float32),
    "two": np.float32(2), "half": np.float32([0.5]), "rgb": np.float32([1, 2, 3]).reshape(3, 1, 1), "last": np.float32([1, 2, 3]),
    "dead": np.float32([1, 0, 2]).reshape(3, 1, 1), "rows": np.ones((8, 1), np.float32), "m": np.ones((5, 7), np.float32),
}
RULES = builtin_rules(GENERIC)


def network(body: str, inputs: str = "float[N,3,8,8] x", outputs: str = "y") -> ir.Model:
    """A graph in ONNX text, its constants by name, every node called n_<first output>."""
    declared = ", ".join(f"float[N] {o}" for o in outputs.split())
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> g ({inputs}) => ({declared}) {{ {body} }}')
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & CONSTANTS.keys()):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(CONSTANTS[name]), name))
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def look(body: str, until: str | None = None, **options: str) -> Blueprint:
    return survey(network(body, **options), RULES, until=until)


def entry(body: str, **options: str) -> Block:
    return look(body, **options).blocks[0]


def test_a_bare_input_is_called_quantize() -> None:
    result = look("y = Conv(x, w)")
    assert [(b.kind, b.name, b.inputs, b.output) for b in result.blocks] == [
        ("input", "quantize", ("x",), "quantize"), ("conv2d", "n_y", ("quantize",), "y"),
    ]
    assert result.shapes == {"x": (None, 3, 8, 8), "quantize": (None, 3, 8, 8), "y": (None, 4, 6, 6)}


@pytest.mark.parametrize("body, inputs, perm, scale, offset", [
    ("t = Transpose<perm=[0,3,1,2]>(x)", "float[N,8,8,3] x", (0, 3, 1, 2), None, None),
    ("t = Cast<to=1>(x)", "uint8[N,3,8,8] x", (), None, None),
    ("s = Mul(x, half) t = Add(s, rgb)", "float[N,3,8,8] x", (), [0.5] * 3, [1, 2, 3]),
    ("s = Add(x, rgb) t = Mul(half, s)", "float[N,3,8,8] x", (), [0.5] * 3, [0.5, 1, 1.5]),
    ("s = Sub(x, rgb) t = Div(s, two)", "float[N,3,8,8] x", (), [0.5] * 3, [-0.5, -1, -1.5]),
    ("t = Sub(two, x)", "float[N,3,8,8] x", (), [-1] * 3, [2] * 3),
    ("c = Cast<to=1>(x) s = Mul(c, last) t = Transpose<perm=[0,3,1,2]>(s)", "uint8[N,8,8,3] x", (0, 3, 1, 2), [1, 2, 3], [0, 0, 0]),
    ("c = Transpose<perm=[0,3,1,2]>(x) t = Mul(c, rgb)", "float[N,8,8,3] x", (0, 3, 1, 2), [1, 2, 3], [0, 0, 0]),
])
def test_the_entry_absorbs_layout_and_rescaling(body: str, inputs: str, perm: tuple, scale: list | None, offset: list | None) -> None:
    block = entry(f"{body} y = Conv(t, w)", inputs=inputs)
    assert (block.name, block.inputs, block.output, block.perm) == ("quantize", ("x",), "t", perm)
    assert {k: v.tolist() for k, v in block.arrays.items()} == ({} if scale is None else {"scale": scale, "offset": offset})


@pytest.mark.parametrize("body, inputs", [
    ("t = Mul(x, rows) y = Conv(t, w)", "float[N,3,8,8] x"),
    ("t = Transpose<perm=[1,0,2,3]>(x) y = Conv(t, w)", "float[3,N,8,8] x"),
    ("t = Div(two, x) y = Conv(t, w)", "float[N,3,8,8] x"),
    ("t = Mul(x, dead) y = Conv(t, w)", "float[N,3,8,8] x"),
    ("t = Cast<to=7>(x) y = Conv(t, w)", "float[N,3,8,8] x"),
])
def test_what_an_entry_cannot_hold_is_a_stop(body: str, inputs: str) -> None:
    result = look(body, inputs=inputs)
    assert (result.blocks, [s.node for s in result.stops]) == ((), ["n_t"])


def test_channel_first_shapes_of_a_channel_last_model() -> None:
    shapes = look("t = Transpose<perm=[0,3,1,2]>(x) y = Conv(t, w)", inputs="float[N,8,9,3] x").shapes
    assert (shapes["x"], shapes["t"]) == ((None, 3, 8, 9), (None, 3, 8, 9))


def test_an_input_with_several_consumers() -> None:
    blocks = look("a = Conv(x, w) b = Conv(x, w) y = Add(a, b)").blocks
    assert [b.inputs for b in blocks] == [("x",), ("quantize",), ("quantize",), ("a", "b")]


def test_several_inputs_have_names_of_their_own() -> None:
    blocks = look("a = Conv(x, w) b = Conv(z, w) y = Add(a, b)", inputs="float[N,3,8,8] x, float[N,3,8,8] z").blocks
    assert [(b.name, b.output) for b in blocks[:2]] == [("x/quantize", "x/quantize"), ("z/quantize", "z/quantize")]


def test_an_input_of_the_float_part_has_no_block() -> None:
    result = look("a = Conv(x, w) b = Cos(z) y = Mul(a, b)", inputs="float[N,3,8,8] x, float[N,4,6,6] z")
    assert [b.name for b in result.blocks] == ["x/quantize", "n_a"]
    assert result.outputs == ("a",)


def test_an_input_of_unknown_rank_asks_for_its_shape() -> None:
    model = network("y = Conv(x, w)")
    model.graph.inputs[0].shape = None
    assert survey(model, RULES).stops[0].reason == "the shape of `x` is not known: give the model an input shape"


def test_outputs_are_what_the_float_part_and_the_caller_need() -> None:
    result = look("a = Conv(x, w) b = Conv(a, v) y = Cos(b)", outputs="a y")
    assert result.outputs == ("a", "b")


def test_a_subgraph_that_reads_a_tensor_is_a_consumer() -> None:
    inner = "then_branch = t () => (float[N] p) { p = Cos(a) }, else_branch = e () => (float[N] q) { q = Sin(a) }"
    result = look(f"a = Conv(x, w) r = Relu(a) c = Cast<to=9>(two) i = If<{inner}>(c) y = Add(r, i)")
    assert "a" in result.outputs and [b.output for b in result.blocks] == ["quantize", "a", "r"]


def test_coverage_counts_arithmetic_and_macs() -> None:
    result = look("a = Conv(x, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) d = Gemm<transB=1>(f, g) y = MatMul(d, m)")
    assert result.coverage == Coverage(4, 5, 4 * 6 * 6 * 27 + 5 * 4, 4 * 6 * 6 * 27 + 5 * 4 + 7 * 5)
    assert [s.node for s in result.stops] == ["n_y"]


def test_a_reshape_of_the_result_is_no_stop() -> None:
    result = look("a = Conv(x, w) p = GlobalAveragePool(a) y = Flatten(p)")
    assert (result.stops, result.outputs, result.coverage.nodes) == ((), ("p",), result.coverage.total)


def test_nodes_of_one_name_are_told_apart() -> None:
    model = network("a = Conv(x, w) y = Conv(a, v)")
    for node in model.graph:
        node.name = "same"
    assert [b.name for b in survey(model, RULES).blocks] == ["quantize", "same", "y"]


@pytest.mark.parametrize("until, last", [("r", "r"), ("n_r", "r"), ("a", "a"), ("b", "b")])
def test_until_names_a_tensor_or_a_node(until: str, last: str) -> None:
    result = look("a = Conv(x, w) r = Relu(a) b = Conv(r, v) y = Relu(b)", until=until)
    assert (result.outputs, [s.reason for s in result.stops]) == ((last,), [REQUESTED])


def test_an_unknown_until_lists_near_names() -> None:
    with pytest.raises(UsageError, match="quantize_until: `n_rr` names no tensor and no node .* Allowed: `n_r`"):
        look("a = Conv(x, w) r = Relu(a) y = Conv(r, v)", until="n_rr")


def test_the_model_is_not_touched() -> None:
    model = network("a = Conv(x, w) y = Relu(a)")
    before = ir.to_proto(model).SerializeToString()
    survey(model, RULES)
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("name, left", [
    ("dscnn_mnist", []), ("resnet_mnist", []), ("mlp_breast_cancer", []),
    ("mobilenetv2_mnist", []), ("mobilenetv2_mnist_bn", []), ("mobilenetv2_mnist_dynamo", []),
])
def test_trained_models_are_covered_up_to_their_last_activation(name: str, left: list[str]) -> None:
    model = sanitize(prepare(onnx.load(MODELS / f"{name}.onnx")), rewrites_for(GENERIC.capabilities))[0]
    result = survey(model, RULES)
    assert [s.op for s in result.stops] == left
    assert (result.coverage.total - result.coverage.nodes, result.coverage.macs) == (len(left), result.coverage.total_macs)
    assert all(None not in shape[1:] for shape in result.shapes.values())


def cosine(match: Match) -> Block:
    return Block(match.nodes[0].name, "concat", match.inputs, match.output)


@pytest.mark.parametrize("scope", [
    lambda: pattern_scope(Rule("cosine", P("Cos"), cosine)),
    lambda: custom_pattern_scope({"Cos": cosine}),
    lambda: custom_pattern_scope({("Cos",): cosine}),
])
def test_a_scope_brings_a_pattern(scope) -> None:
    model = network("a = Conv(x, w) b = Cos(a) y = Conv(b, v)")
    with scope():
        assert [b.kind for b in survey(model, RULES + scoped_rules()).blocks] == ["input", "conv2d", "concat", "conv2d"]
    assert [s.node for s in survey(model, RULES + scoped_rules()).stops] == ["n_b"]


@pytest.mark.parametrize("patterns, words", [
    ({(): cosine}, "it is no line of operation types"),
    ({3: cosine}, "it is no line of operation types"),
    ({"Cos": "cosine"}, "its value is no function of a match"),
    ({"Cos": lambda: None}, "its value is no function of a match"),
])
def test_a_malformed_custom_pattern_is_refused(patterns: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        custom_pattern_scope(patterns)
