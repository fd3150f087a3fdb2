"""The working copy: one spelling, every shape known, equal to the model it was made from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from quantizeml_core.errors import ModelError, UsageError
from quantizeml_onnx.normalize import prepare


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 7, opset_import: ["" : {opset}]> g {text}')


def shapes(model: ir.Model) -> dict[str, str]:
    return {v.name: str(v.shape) for node in model.graph for v in node.outputs}


def run(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    constants = {t.name for t in model.graph.initializer}
    feeds = {i.name: (3 * rng.standard_normal([d.dim_value or batch for d in i.type.tensor_type.shape.dim])).astype(np.float32)
             for i in model.graph.input if i.name not in constants}
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


OLD = {
    "clip": (7, "(float[N,4] x) => (float[N,4] y) { y = Clip<min=-1.0, max=2.0>(x) }", "Clip"),
    "clip_one_bound": (10, "(float[N,4] x) => (float[N,4] y) { y = Clip<max=2.0>(x) }", "Clip"),
    "pad": (10, "(float[N,1,2,2] x) => (float[N,1,4,2] y) { y = Pad<pads=[0,0,1,0,0,0,1,0], value=3.0>(x) }", "Pad"),
    "squeeze": (12, "(float[N,4,1,1] x) => (float[N,4] y) { y = Squeeze<axes=[2,3]>(x) }", "Squeeze"),
    "unsqueeze": (11, "(float[N,4] x) => (float[N,4,1] y) { y = Unsqueeze<axes=[2]>(x) }", "Unsqueeze"),
    "reduce_sum": (11, "(float[N,4,3] x) => (float[N,4] y) { y = ReduceSum<axes=[2], keepdims=0>(x) }", "ReduceSum"),
    "slice": (9, "(float[N,4] x) => (float[N,2] y) { y = Slice<axes=[1], starts=[1], ends=[3]>(x) }", "Slice"),
    "split": (11, "(float[N,4] x) => (float[N,1] y, float[N,3] z) { y, z = Split<axis=1, split=[1,3]>(x) }", "Split"),
    "top_k": (9, "(float[N,4] x) => (float[N,2] y, int64[N,2] z) { y, z = TopK<k=2>(x) }", "TopK"),
    "dropout": (7, "(float[N,4] x) => (float[N,4] y) { y, mask = Dropout<ratio=0.3>(x) }", "Dropout"),
    "batch_normalization": (7, "(float[N,2,2,2] x) => (float[N,2,2,2] y) <float[2] s = {1.0, 2.0}> { y = BatchNormalization(x, s, s, s, s) }",
                            "BatchNormalization"),
    "softmax": (9, "(float[N,4] x) => (float[N,4] y) { y = Softmax(x) }", "Softmax"),
    "softmax_over_many_axes": (9, "(float[N,2,3] x) => (float[N,2,3] y) { y = Softmax(x) }", None),
    "upsample": (9, "(float[N,2,3,3] x) => (float[N,2,6,6] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> { y = Upsample<mode=\"nearest\">(x, s) }", None),
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_spelling_becomes_a_new_one_that_computes_the_same(name):
    opset, text, op = OLD[name]
    model = parse(text, opset)
    after = prepare(model)
    assert after.graph.opset_imports[""] == 17
    assert op is None or [n.op_type for n in after.graph] == [op]
    proto = ir.to_proto(after)
    onnx.checker.check_model(proto, full_check=True)
    for before, now in zip(run(model, 3), run(proto, 3), strict=True):
        # The same float32 kernels on the same numbers; only a Softmax respelled by the converter may sum in another order.
        np.testing.assert_allclose(now, before, rtol=1e-6)


def test_a_newer_opset_is_kept():
    assert prepare(parse("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", 20)).graph.opset_imports[""] == 20


@pytest.mark.parametrize("opset", [6, 1])
def test_an_opset_that_is_too_old_is_refused(opset):
    with pytest.raises(ModelError, match=f"uses opset {opset}. Allowed: opset 7 or newer"):
        prepare(parse("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", opset))


def test_constants_of_every_spelling_become_initializers():
    text = """(float[N,2] x) => (float[N,2] y) {
        a = Constant<value = float[2] {1.0, 2.0}>() b = Constant<value_float = 3.0>() c = Constant<value_floats = [4.0, 5.0]>()
        d = Add(x, a) e = Add(d, b) y = Add(e, c) }"""
    graph = prepare(parse(text)).graph
    assert [n.op_type for n in graph] == ["Add", "Add", "Add"]
    assert {n: v.const_value.numpy().tolist() for n, v in graph.initializers.items()} == {"a": [1, 2], "b": 3, "c": [4, 5]}


def test_initializers_are_no_inputs():
    model = parse("(float[N,2] x, float[2] w) => (float[N,2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }")
    assert [v.name for v in prepare(model).graph.inputs] == ["x"]


def test_unnamed_and_repeated_names_become_those_of_the_outputs():
    model = parse("(float[N,2] x) => (float[N,2] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = Relu(c) }")
    model.graph.node[1].name = model.graph.node[2].name = "twice"
    assert [n.name for n in prepare(model).graph] == ["a", "twice", "c", "y"]


def test_local_functions_are_inlined():
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N,2] x) => (float[N,2] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }""")
    assert [(n.domain, n.op_type) for n in prepare(model).graph] == [("", "Add")]


@pytest.mark.parametrize("batch", ["N", "unk__12", "1", "8"])
def test_the_batch_is_symbolic(batch):
    model = prepare(parse(f"(float[{batch},3,8,8] x) => (float[{batch},3,4,4] y) {{ y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }}"))
    assert (str(model.graph.inputs[0].shape), shapes(model)) == ("[N,3,8,8]", {"y": "[N,3,4,4]"})


def test_a_static_export_runs_with_any_batch():
    text = """(float[1,3,2,2] x) => (float[1,5] y) <int64[2] s = {1, 12}, float[12,5] w = {%s}>
        { a = Relu(x) b = Reshape(a, s) y = MatMul(b, w) }""" % ", ".join(["0.5"] * 60)
    after = prepare(parse(text))
    assert shapes(after) == {"a": "[N,3,2,2]", "b": "[N,12]", "y": "[N,5]"}
    assert run(ir.to_proto(after), 4)[0].shape == (4, 5)


def test_the_input_shape_fills_dynamic_sizes():
    model = parse("(float[N,3,H,W] x) => (float[N,3,I,J] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }")
    assert shapes(prepare(model, input_shape=(3, 10, 12))) == {"y": "[N,3,5,6]"}


def test_two_inputs_take_shapes_by_name():
    model = parse("(float[N,A] p, float[N,B] q) => (float[N,C] y) { y = Concat<axis=1>(p, q) }")
    assert shapes(prepare(model, input_shape={"p": (2,), "q": (3,)})) == {"y": "[N,5]"}


RELU = "(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }"
BAD = {
    "dynamic": (RELU, None, ModelError, r"input `x`: its shape \(\?, 3, \?, \?\) is dynamic beyond the batch"),
    "rank": (RELU, (8, 8), UsageError, r"input_shape: \(8, 8\) does not fit input `x`. Allowed: 3 sizes, batch left out"),
    "name": (RELU, {"z": (3, 8, 8)}, UsageError, r"does not fit input `z`. Allowed: x"),
    "zero": (RELU, (3, 0, 8), ModelError, r"input `x`: its shape \(None, 3, 0, 8\) has a dimension of size 0"),
    "two inputs": ("(float[N,2] p, float[N,2] q) => (float[N,2] y) { y = Add(p, q) }", (2,), UsageError, "the model has 2 inputs"),
    "contradiction": ("(float[N,3,8,8] x) => (float[N,2,6,6] y) <float[2,1,1,1] w = {1.0, 2.0}> { y = Conv<kernel_shape=[3]>(x, w) }", None,
                      ModelError, "its shapes contradict each other"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_shape_that_does_not_fit_is_refused(name):
    text, shape, error, message = BAD[name]
    with pytest.raises(error, match=message):
        prepare(parse(text), input_shape=shape)


def test_the_model_of_the_caller_is_not_modified():
    model = parse("""(float[1,2,2,2] x, float[2] s) => (float[1,8] y) <float[2] s = {1.0, 2.0}, int64[2] t = {1, 8}>
        { b = BatchNormalization(x, s, s, s, s) c = Clip<min=0.0>(b) y = Reshape(c, t) }""", 10)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(1, np.float32))))
    before = model.SerializeToString(deterministic=True)
    prepare(model)
    assert model.SerializeToString(deterministic=True) == before
