"""The guide's custom-pattern story on a small ResNet (lone ReLUs, ReLU and global pooling, 1x1 with stride 2), three ways: nothing needed, rules in a
scope - callbacks of old scripts among them - and, in examples/, an installed plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from quantizeml.models import quantize
from quantizeml.onnx_support import graph_tools, layers
from quantizeml.onnx_support.quantization import PATTERNS_MAP, custom_pattern_scope
from quantizeml_core.api import quantize_model
from quantizeml_core.blocks import Block
from quantizeml_core.errors import UsageError
from quantizeml_core.match import Match, P, Rule, pattern_scope
from quantizeml_core.testing import differences
from quantizeml_onnx.testing import boundaries

RESNET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,16] x) => (float[N,5] y) <float[8,3,7,7] w0, float[8,8,3,3] w1, float[8,8,1,1] w2, float[5,8] h, float[5] c> {
  a = Conv <pads = [3,3,3,3], strides = [2,2]> (x, w0)  ar = Relu (a)  m = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]> (ar)
  b = Conv <pads = [1,1,1,1]> (m, w1)  s = Add (b, m)  r = Relu (s)
  d = Conv <strides = [2,2]> (r, w2)  e = Relu (d)  p = GlobalAveragePool (e)  q = Flatten (p)  y = Gemm <transB = 1> (q, h, c) }"""
ERF = RESNET.replace("e = Relu (d)", "e = Erf (d)")


def model(text: str = RESNET) -> onnx.ModelProto:
    proto, rng = parser.parse_model(text), np.random.default_rng(3)
    for info in proto.graph.value_info:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        proto.graph.initializer.append(onnx.numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return proto


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (32, 3, 16, 16)).astype(np.float32)


def identity(channels: int) -> np.ndarray:
    return np.eye(channels, dtype=np.float32)[..., None, None]


class Identity(layers.QuantizedConv2D):
    """A layer that sets its kernel when it learns its shape, as the guide's example does."""

    def __build__(self, input_ts: layers.TensorShape, downscale: bool = True) -> Any:
        self.set_weight("kernel", identity(input_ts.shape[1]))
        return super().__build__(input_ts, downscale=downscale)


def two(block_nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> layers.OnnxLayer:
    return Identity(activation=True, name=block_nodes[0].name)


def three(block_nodes: list[onnx.NodeProto], graph: onnx.GraphProto, tensor_ranges: Any) -> layers.OnnxLayer:
    layer = Identity(activation=True)
    layer.set_weight("range_max", np.abs(tensor_ranges[block_nodes[0].input[0]].highest))
    return layer


def named(block_nodes: list[onnx.NodeProto], **more: Any) -> layers.OnnxLayer:
    return three(block_nodes, more["graph"], more["tensor_ranges"])


def new(match: Match) -> Block:
    kernel = identity(match.view.shape(match.inputs[0])[1])
    return Block(match.nodes[0].name, "conv2d", match.inputs, match.output, arrays={"weight": kernel})


def test_nothing_is_needed(x: np.ndarray) -> None:
    result = quantize_model(model(), samples=x, target="akida2")
    assert not result.blueprint.stops
    assert differences(result.program, {"x": x[:4]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_a_stop_says_why_and_what_to_do(x: np.ndarray) -> None:
    (stop,) = quantize_model(model(ERF), samples=x).blueprint.stops
    assert stop.op == "Erf"


@pytest.mark.parametrize("build", [two, three, named, new], ids=["two", "three", "named", "match"])
def test_a_scope_takes_what_no_rule_does(build: Callable[..., Any], x: np.ndarray) -> None:
    with custom_pattern_scope({"Erf": build}):
        result = quantize_model(model(ERF), samples=x)
    assert not result.blueprint.stops
    assert differences(result.program, {"x": x[:4]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_a_rule_in_a_scope_does_the_same(x: np.ndarray) -> None:
    with pattern_scope(Rule("erf", P("Erf"), new)):
        assert not quantize_model(model(ERF), samples=x).blueprint.stops


def test_a_layer_from_nodes_may_be_edited(x: np.ndarray) -> None:
    """The guide's step 5: another padding for the first convolution and its pooling."""
    def padded(block_nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> layers.OnnxLayer:
        layer = layers.get_qconv(block_nodes, graph)
        layer.set_weight("pads", np.array([0, 0, 2, 2, 0, 0, 3, 3], np.int64))
        graph_tools.replace_field(layer, "pool_pads", [0, 0, 1, 1])
        return layer

    with custom_pattern_scope({("Conv", "Relu", "MaxPool"): padded}):
        first = quantize_model(model(), samples=x).blueprint.blocks[1]
    assert first.pads == (2, 2, 3, 3) and first.pool is not None and first.pool.pads == (0, 0, 1, 1)


def broken(block_nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> Any:
    raise ValueError("not today")


@pytest.mark.parametrize(("callback", "reason"), [
    (broken, "raised ValueError: not today"),
    (lambda nodes, graph: 3, "returned int, no layer"),
    (lambda nodes, graph: layers.QuantizedConv2D(), "has no kernel"),
    (lambda nodes, graph: layers.QuantizedConv2D().set_weight("colour", 1), "has no weight `colour`"),
])
def test_a_callback_that_fails_leaves_the_line_and_says_why(callback: Callable[..., Any], reason: str, x: np.ndarray) -> None:
    with custom_pattern_scope({"Erf": callback}):
        (stop,) = quantize_model(model(ERF), samples=x).blueprint.stops
    assert reason in stop.nearest


def test_a_built_in_rule_takes_over_where_a_callback_fails(x: np.ndarray) -> None:
    with custom_pattern_scope({("Conv", "Relu"): broken}):
        assert not quantize_model(model(), samples=x).blueprint.stops


def test_scopes_nest_and_end(x: np.ndarray) -> None:
    with custom_pattern_scope({"Erf": two}):
        with custom_pattern_scope({"Cos": two}):
            pass
        assert not quantize_model(model(ERF), samples=x).blueprint.stops
    assert quantize_model(model(ERF), samples=x).blueprint.stops


def test_the_map_of_patterns_can_be_printed() -> None:
    assert PATTERNS_MAP[("Conv", "Relu", "GlobalAveragePool")] == "conv2d" and ("Conv", "MaxPool", "Relu") in PATTERNS_MAP


@pytest.fixture
def conv() -> Iterator[onnx.NodeProto]:
    yield onnx.helper.make_node("Conv", ["x", "w0"], ["a"], "conv", strides=[2, 2])


def test_fields_of_a_node(conv: onnx.NodeProto) -> None:
    graph_tools.replace_field(conv, "strides", [1, 1])
    assert graph_tools.has_field(conv, "strides") and graph_tools.get_field(conv, "strides") == [1, 1]
    assert graph_tools.get_field(conv, "group", 1) == 1 and graph_tools.to_field("group", 2).i == 2


@pytest.mark.parametrize("call", [lambda node: graph_tools.get_field(node, "group"), lambda node: graph_tools.replace_field(node, "group", 2)])
def test_a_field_that_is_not_there_is_named(call: Callable[[Any], Any], conv: onnx.NodeProto) -> None:
    with pytest.raises(UsageError, match="`conv`.group: the attribute is not there. Allowed: strides"):
        call(conv)


def test_variables_and_nodes_of_a_graph() -> None:
    graph = model().graph
    assert graph_tools.get_variable("w2", graph).shape == (8, 8, 1, 1) and graph_tools.get_node(graph, "none") is None
    with pytest.raises(UsageError, match="it is no initializer"):
        graph_tools.get_variable("x", graph)


def test_lines_of_dense_depthwise_and_add_layers_have_helpers() -> None:
    proto = model()
    gemm, flatten = proto.graph.node[-1], proto.graph.node[-2]
    dense = layers.get_qgemm([flatten, gemm], proto.graph)
    assert dense.serialize_attr["flatten"] and dense.weights["kernel"].shape == (5, 8)
    add = next(n for n in proto.graph.node if n.op_type == "Add")
    assert layers.get_qadd([add], proto.graph).kind == "add"


def test_the_public_quantize_is_the_same(x: np.ndarray) -> None:
    from quantizeml.onnx_support.quantization import quantize as old

    assert old is quantize
