"""The deployment form: plain operators, bytes between them, and the program's integers but for negative ties of signed outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from deployment import Values, check, ties_down
from examples import trained
from onnx_text import network

from benchmarks.zoo import ZOO
from benchmarks.zoo.images import samples
from quantizeml_core import kernels
from quantizeml_core.api import check_model, quantize_model
from quantizeml_core.blocks import Block
from quantizeml_core.cli import build
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx import pairs, readback
from quantizeml_onnx.deploy import deployed
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries

NETS = list(trained.NETS.values())
SCHEMES = {"8/8/8": {}, "8/8/8 per tensor": {"qparams": QuantizationParams(per_tensor_activations=True)},
           "8/4/4": {"qparams": QuantizationParams(weight_bits=4, activation_bits=4)}, "akida2": {"target": "akida2"}, "cpu": {"target": "cpu"}}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("net", NETS, ids=[n.name for n in NETS])
def test_trained_networks(net: trained.Net, scheme: str) -> None:
    result = quantize_model(str(net.path), samples=net.samples(64), **SCHEMES[scheme])
    name = result.program.blocks[0].inputs[0]
    for data in (net.test()[0][:16], 100 * net.test()[0][:16]):
        check(result.model, {name: data})


@pytest.mark.parametrize("target", ["generic", "cpu"])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3", "unet", "spelled_normalization", "time_series"])
def test_networks_of_the_zoo(name: str, target: str) -> None:
    model = ZOO[name].build(ZOO[name].small)
    x = samples(model, 8)
    check(quantize_model(model, samples=x, target=target).model, {"input": x[:1]})


def test_nothing_is_clipped_in_front_of_depthwise_convolutions_on_a_cpu() -> None:
    model = ZOO["mobilenet_v2"].build(ZOO["mobilenet_v2"].small)
    forms = [deployed(quantize_model(model, samples=samples(model, 8), target=target).model) for target in ("generic", "cpu")]
    assert [sum(n.op_type == "Clip" for n in form.graph.node) for form in forms] == [18, 1], "the last one ends the average, in float64"


FUNCTIONS = {
    "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Elu<alpha=0.7>": "Elu", "LeakyRelu<alpha=0.1>": "LeakyRelu", "HardSwish": "HardSwish",
    'Gelu<approximate="tanh">': "FastGelu", "Gelu": "Gelu",
}


@pytest.fixture(scope="module", params=FUNCTIONS)
def looked_up(request: pytest.FixtureRequest) -> tuple[str, onnx.ModelProto, Values]:
    """A function behind a convolution, in front of padded ones, of a residual addition and a concatenation, and behind these."""
    f = request.param
    model = network(f"""(float[N,3,12,12] x) => (float[N,5] y) <float[6,3,3,3] w, float[6,1,3,3] d, float[6,6,1,1] p, float[8,12,1,1] q, float[5,8] g>
        {{ a = Conv<pads=[1,1,1,1]>(x, w) b = {f}(a) c = Conv<pads=[1,1,1,1], group=6>(b, d) e = {f}(c) h = Conv(e, p) i = {f}(h) s = Add(b, i)
        t = Concat<axis=1>(s, e) k = {f}(t) u = Conv(k, q) v = {f}(u) m = GlobalAveragePool(v) n = Flatten(m) y = Gemm<transB=1>(n, g) }}""", opset=20)
    x = 2 * np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)
    return f, quantize_model(model, samples=x, target="cpu").model, {"x": x}


def test_functions_of_bytes(looked_up: tuple[str, onnx.ModelProto, Values]) -> None:
    f, model, feeds = looked_up
    check(model, feeds)
    check(model, {"x": 30 * feeds["x"]})
    ops = [n.op_type for n in deployed(model).graph.node]
    assert ops.count(FUNCTIONS[f]) + ops.count("GatherElements") == 5 and FUNCTIONS[f] in ops and "GatherElements" in ops, "that of several steps is looked up, and what an addition gave an unlucky one"


def test_functions_of_bytes_in_the_file(looked_up: tuple[str, onnx.ModelProto, Values]) -> None:
    _, model, feeds = looked_up
    program = readback.program(model)
    assert [b.kind for b in program.blocks].count("lookup") == 5
    assert differences(program, feeds, lambda given: boundaries(model, given)) == ()


def test_nothing_is_kept_that_nobody_reads() -> None:
    """onnxruntime would warn of each when it loads the file."""
    model = network("(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> { c = Conv(x, w) y = HardSwish(c) }")
    graph = deployed(quantize_model(model, samples=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)).model).graph
    read = {t for n in graph.node for inner in (n, *(m for a in n.attribute for m in a.g.node)) for t in inner.input}
    assert {t.name for t in graph.initializer} <= read


IN = "(float[N,3,8,8] x) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4,4,3,3] v, float[4] b>"
ODD = {
    "the model's input": (f"{IN} {{ s = Sigmoid(x) c = Conv(s, w) y = Conv(c, v) }}", {}, 30),
    "nothing": (f"{IN} {{ c = Conv(x, w) s = Sigmoid(c) y = Conv(s, v) }}", {"w": np.zeros((4, 3, 3, 3))}, 30),
    "a constant": (f"{IN} {{ c = Conv(x, w, b) s = Tanh(c) y = Conv(s, v) }}", {"w": np.zeros((4, 3, 3, 3)), "b": np.full(4, 0.7)}, 30),
    "another function": (f"{IN} {{ c = Conv(x, w) s = HardSwish(c) t = Tanh(s) y = Conv(t, v) }}", {}, 30),
    "the same as another": (f"{IN} {{ c = Conv(x, w) s = HardSwish(c) t = Tanh(c) a = Add(s, t) y = Conv(a, v) }}", {}, 30),
    "what others read whole": (f"{IN} {{ c = Conv(x, w) s = Tanh(c) a = Add(s, c) y = Conv(a, v) }}", {"w": np.random.default_rng(1).normal(size=(4, 3, 3, 3))}, 30),
    "large numbers": (f"{IN} {{ c = Conv(x, w, b) s = HardSwish(c) y = Conv(s, v) }}", {"b": np.full(4, 30.0)}, 30),
    "far from zero, for padded layers": (f"{IN.replace('4,4,4] y', '4,6,6] y')} {{ c = Conv(x, w, b) s = HardSwish(c) y = Conv<pads=[1,1,1,1]>(s, v) }}", {"b": np.full(4, 30.0)}, 30),
    "where it is flat": (f"{IN} {{ c = Conv(x, w, b) s = HardSwish(c) y = Conv(s, v) }}", {"b": np.full(4, -30.0)}, 30),
}


TRANSPOSED = {"kernel=stride": ("2,2", "strides=[2,2]"), "overlapping": ("3,3", "strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]"), "cropped": ("4,4", "strides=[2,2], pads=[1,1,1,1]"),
              "shorter than the stride": ("2,3", "strides=[3,2]"), "not square": ("5,2", "strides=[3,1], pads=[2,0,0,1]"), "stride 1": ("3,3", "strides=[1,1], pads=[1,1,1,1]"),
              "cropped by more than a stride": ("5,5", "strides=[2,2], pads=[4,3,1,0]")}


@pytest.mark.parametrize("tail", ["", "Relu", "Clip6"])
@pytest.mark.parametrize(("kernel", "attributes"), TRANSPOSED.values(), ids=TRANSPOSED)
def test_a_transposed_convolution_is_one_of_its_phases(kernel: str, attributes: str, tail: str) -> None:
    body = {"": "c = Identity(b)", "Relu": "c = Relu(b)", "Clip6": "lo = Constant<value_float=0.0>() hi = Constant<value_float=0.5>() c = Clip(b, lo, hi)"}[tail]
    model = network(f"""(float[N,3,9,7] x) => (float[N,4] y) <float[6,3,3,3] w, float[6,5,{kernel}] t, float[5] v, float[4,5,3,3] u>
        {{ a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) b = ConvTranspose<{attributes}>(r, t, v) {body} d = Conv<pads=[1,1,1,1]>(c, u) e = GlobalAveragePool(d) y = Flatten(e) }}""", opset=20)
    x = np.random.default_rng(0).normal(size=(8, 3, 9, 7)).astype(np.float32)
    quantized = quantize_model(model, samples=x).model
    check(quantized, {"x": x})
    check(quantized, {"x": 30 * x[:1]})
    assert "ConvTranspose" not in {n.op_type for n in deployed(quantized).graph.node}


@pytest.mark.parametrize("before", ["Relu", "Identity"])
@pytest.mark.parametrize(("attributes", "floating"), [
    ("kernel_shape=[2,2], strides=[2,2]", 0), ("kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1", 0), ("kernel_shape=[3,2], strides=[2,1], pads=[1,0,0,1], count_include_pad=1", 0),
    ("kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", 1),
], ids=["no pads", "zeros count", "not square", "zeros do not count"])
def test_averages_of_windows_are_of_bytes(attributes: str, floating: int, before: str) -> None:
    """Where nothing is negative: a sum of few bytes is halfway so often that no negative tie may go down."""
    model = network(f"""(float[N,3,8,8] x) => (float[N,5] y) <float[16,3,3,3] w, float[5,16,3,3] v>
        {{ a = Conv<pads=[1,1,1,1]>(x, w) b = {before}(a) c = AveragePool<{attributes}>(b) d = Conv(c, v) e = Relu(d) f = GlobalMaxPool(e) y = Flatten(f) }}""")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    quantized = quantize_model(model, samples=x).model
    check(quantized, {"x": 2 * x})
    assert sum(n.op_type == "Conv" for n in deployed(quantized).graph.node) == (floating if before == "Relu" else 1)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield from (node, *(inner for a in node.attribute if a.HasField("g") for inner in _nodes(a.g)))


@pytest.mark.parametrize(("channels", "filters", "groups", "merged"), [(8, 8, 8, 8), (8, 16, 8, 1), (12, 6, 6, 1), (48, 96, 6, 2), (66, 66, 2, 2), (3, 9, 3, 1)],
                         ids=["depthwise", "two filters each", "two inputs each", "eight inputs each", "large", "colours"])
def test_small_groups_are_merged(channels: int, filters: int, groups: int, merged: int) -> None:
    """Zeros between change no integer."""
    model = network(f"""(float[N,{channels},6,6] x) => (float[N,3] y) <float[{filters},{channels // groups},3,3] w, float[3,{filters}] v>
        {{ a = Conv<group={groups}, pads=[1,1,1,1]>(x, w) b = Relu(a) c = GlobalMaxPool(b) d = Flatten(c) y = Gemm<transB=1>(d, v) }}""")
    x = np.random.default_rng(0).normal(size=(8, channels, 6, 6)).astype(np.float32)
    quantized = quantize_model(model, samples=x).model
    check(quantized, {"x": 3 * x})
    assert {a.i for n in _nodes(deployed(quantized).graph) if n.op_type == "QLinearConv" for a in n.attribute if a.name == "group"} == {merged}


ROWS = {
    "stride 2": (3, 8, "3,3", "strides=[2,2], pads=[1,1,1,1]", 16, 12), "pads at the end": (3, 8, "3,3", "strides=[2,2], pads=[0,0,1,1]", 16, 12),
    "7x7": (3, 8, "7,7", "strides=[2,2], pads=[3,3,3,3]", 16, 12), "grey": (1, 8, "5,5", "pads=[2,2,2,2]", 16, 4), "patches": (3, 8, "4,4", "strides=[4,4]", 16, 12),
    "two channels": (2, 8, "3,3", "pads=[1,1,1,1]", 16, 4), "six channels": (6, 8, "3,3", "strides=[2,2], pads=[1,1,1,1]", 16, 12),
    "beside the kernel": (3, 8, "1,1", "strides=[2,2]", 16, 12), "not square": (3, 8, "3,5", "strides=[1,2], pads=[1,2,0,2]", 16, 12),
    "dilated rows": (3, 8, "3,3", "dilations=[2,1], pads=[2,1,2,1]", 16, 12), "dilated columns": (3, 8, "3,3", "dilations=[1,2], pads=[1,2,1,2]", 16, 4),
    "a width of 18": (3, 8, "3,3", "strides=[2,2], pads=[1,1,1,1]", 18, 4), "no pads": (3, 8, "3,3", "strides=[2,2]", 16, 4), "many filters": (3, 64, "3,3", "pads=[1,1,1,1]", 16, 4),
    "whole words": (8, 8, "3,3", "strides=[2,2], pads=[1,1,1,1]", 16, 8),
}


@pytest.mark.parametrize("offset", [0, 30], ids=["one zero", "zeros of channels"])
@pytest.mark.parametrize(("channels", "filters", "kernel", "attributes", "width", "read"), ROWS.values(), ids=ROWS)
def test_pixels_of_a_row_are_read_together(channels: int, filters: int, kernel: str, attributes: str, width: int, read: int, offset: float) -> None:
    """Where that makes whole words of four, and adds few products."""
    model = network(f"""(float[N,{channels},10,{width}] x) => (float[N,3] y) <float[{filters},{channels},{kernel}] w, float[{filters}] b, float[3,{filters},1,1] v>
        {{ a = Conv<{attributes}>(x, w, b) r = Relu(a) m = MaxPool<kernel_shape=[2,2]>(r) c = Conv(m, v) d = GlobalMaxPool(c) y = Flatten(d) }}""")
    x = (np.random.default_rng(0).normal(size=(8, channels, 10, width)) + offset * np.arange(channels).reshape(-1, 1, 1)).astype(np.float32)
    quantized = quantize_model(model, samples=x).model
    check(quantized, {"x": x})
    form = deployed(quantized)
    assert next(t.dims[1] for t in form.graph.initializer if t.name.endswith("/weight")) == read


@pytest.mark.parametrize(("filter_", "groups", "read", "gathers"), [
    ("1,1", 4, "", 0), ("3,3", 4, "", 0), ("1,1", 1, "", 0), ("1,1", 4, "k = GlobalMaxPool(b)", 1), ("1,1", 12, "", 1),
], ids=["one pixel", "three by three", "no groups", "others read it", "depthwise"])
def test_a_convolution_writes_shuffled_channels(filter_: str, groups: int, read: str, gathers: int) -> None:
    side, more = (5 if filter_ == "3,3" else 7), ", float[N,12,1,1] k" if read else ""
    model = network(f"""(float[N,12,7,7] x) => (float[N,3] y{more}) <float[12,{12 // groups},{filter_}] w, float[12,1,3,3] d, float[3,12] v>
        {{ a = Conv<group={groups}>(x, w) b = Relu(a) {read} s = Constant<value_ints=[-1,4,3,{side},{side}]>() t = Constant<value_ints=[-1,12,{side},{side}]>()
        e = Reshape(b, s) f = Transpose<perm=[0,2,1,3,4]>(e) h = Reshape(f, t) i = Conv<group=12, pads=[1,1,1,1]>(h, d) j = Relu(i) m = GlobalAveragePool(j) n = Flatten(m)
        y = Gemm<transB=1>(n, v) }}""")
    x = np.random.default_rng(0).normal(size=(8, 12, 7, 7)).astype(np.float32)
    quantized = quantize_model(model, samples=x).model
    check(quantized, {"x": 3 * x})
    assert sum(n.op_type == "Gather" for n in deployed(quantized).graph.node) == gathers


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("reads", ODD)
def test_what_a_function_may_read(reads: str, bits: int) -> None:
    """Signal over error of 8 bits: 34 dB where two of them stand in a row."""
    text, arrays, least = ODD[reads]
    model, x = network(text, opset=20, **arrays), np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = quantize_model(model, samples=x, target="cpu", qparams=QuantizationParams(output_bits=bits)).model
    check(made, {"x": 3 * x})
    real, found = (session(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, made))
    assert bits < 8 or decibels(real, found) > least


def test_silu_is_one_operator() -> None:
    model = network("(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w, float[4,4,1,1] v> { c = Conv(x, w) s = Sigmoid(c) m = Mul(c, s) y = Conv(m, v) }")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = quantize_model(model, samples=x, target="cpu").model
    check(made, {"x": 10 * x})
    assert [n.op_type for n in deployed(made).graph.node if n.op_type in ("QuickGelu", "Sigmoid", "Mul", "GatherElements")] == ["QuickGelu"]


@pytest.mark.parametrize("side", [7, 64])
def test_a_mean_is_one_product_with_ones(side: int) -> None:
    model = network(f"""(float[N,3,{side},{side}] x) => (float[N,2,1,1] y) <float[4,3,1,1] v, float[4,3,1,1] w, float[2,4,1,1] u>
        {{ c = Conv(x, v) k = Relu(x) d = Conv(k, w) s = Add(c, d) p = GlobalAveragePool(s) y = Conv(p, u) }}""")
    x = np.random.default_rng(0).normal(size=(4, 3, side, side)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    mean = next(b.name for b in readback.program(made).blocks if b.pool)
    assert [n.op_type for n in deployed(made).graph.node if f"{mean}/ones" in n.input] == ["MatMulInteger"]
    for values in (x, 100 * x):
        check(made, {"x": values})


@pytest.mark.parametrize("probed", [pairs.SUM, 0], ids=["as probed", "unsigned weights"])
@pytest.mark.parametrize("activation", ["d = Identity(c)", "d = Relu(c)", "zero = Constant <value_float = 0.0> () bound = Constant <value_float = 0.7> () d = Clip(c, zero, bound)"])
def test_a_product_is_averaged_before_it_is_requantized(activation: str, probed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an image of three channels, whose convolution reads four."""
    text = """(float[N,3,9,9] x) => (float[N,2,1,1] y) <float[5,3,3,3] w, float[6,5,1,1] v, float[6] b, float[2,6,1,1] u>
        { a = Conv <pads = [1, 1, 1, 1]> (x, w)  c = Conv(a, v, b)  ACTIVATION  p = GlobalAveragePool(d)  y = Conv(p, u) }"""
    model = network(text.replace("ACTIVATION", activation))
    x = np.random.default_rng(0).normal(size=(16, 3, 9, 9)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    monkeypatch.setattr(pairs, "SUM", probed)
    assert sum(n.op_type == "MatMul" for n in deployed(made).graph.node) == 1
    for values in (x, 100 * x):
        check(made, {"x": values})


@pytest.mark.parametrize("bias", [-1000.0, 10.0])
def test_an_average_over_many_pixels_with_a_large_bias(bias: float) -> None:
    """Sums over 4096 pixels leave 32 bits by the biases alone, or do not."""
    model = network("""(float[N,3,64,64] x) => (float[N,2,1,1] y) <float[4,3,1,1] v, float[4] b, float[2,4,1,1] u>
        { c = Conv(x, v, b) d = Relu(c) p = GlobalAveragePool(d) y = Conv(p, u) }""", b=np.array([bias, 0.0, 0.1, -0.1]))
    x = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    check(quantize_model(model, samples=x).model, {"x": x})


@pytest.mark.parametrize(("before", "floating"), [("LRN <size = 3> (r)", True), ("HardSwish (c)", True), ("Identity (r)", False)], ids=["a normalization", "a table", "a convolution"])
def test_what_an_exact_body_wrote_is_pooled_in_floats(before: str, floating: bool) -> None:
    pool = "MaxPool <kernel_shape = [3, 3], strides = [2, 2]>"
    model = network(f"""(float[N,3,15,15] x) => (float[N,2,3,3] y) <float[4,3,1,1] v, float[2,4,1,1] u>
        {{ c = Conv(x, v) r = Relu(c) b = {before} p = {pool} (b) q = {pool} (p) y = Conv(q, u) }}""")
    x = np.random.default_rng(0).normal(size=(16, 3, 15, 15)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    form = deployed(made)
    read = {t: n.op_type for n in form.graph.node for t in n.output}
    assert sum(n.op_type == "MaxPool" and read[n.input[0]] == "Cast" for n in form.graph.node) == floating
    for values in (x, 100 * x):
        check(made, {"x": values})


@pytest.mark.parametrize("first", ["c", "r"], ids=["both signed", "one behind a ReLU"])
@pytest.mark.parametrize("last", ["Identity", "Relu"])
def test_operands_of_one_step_are_added_plainly(first: str, last: str) -> None:
    """Dilations, which say nothing of a single pixel, keep the two convolutions apart."""
    model = network(f"""(float[N,3,8,8] x) => (float[N,2,8,8] y) <float[4,3,1,1] v, float[4,3,1,1] w, float[2,4,1,1] u>
        {{ c = Conv(x, v) r = Relu(c) d = Conv<dilations=[2,2]>(x, w) s = Add({first}, d) t = {last}(s) y = Conv(t, u) }}""")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    assert sum(n.op_type == "QLinearAdd" for n in deployed(made).graph.node) == 1
    for values in (x, 100 * x):
        check(made, {"x": values})


@pytest.mark.parametrize(("factors", "shift", "one"), [
    ((1, 1), 0, True), ((2, 1), 0, True), ((1, 4), 0, True), ((1, 1), 1, True), ((2, 1), 1, True), ((1, 2), 1, True), ((4, 1), 2, True), ((8, 1), 3, True), ((1, 8), 2, True),
    ((8, 8), 4, True), ((2, 1), 2, False), ((1, 1), 2, False), ((16, 1), 4, False), ((32, 1), 5, False), ((1, (1, 2, 1, 1)), 1, False), ((1, 1), (0, 1, 1, 1), False),
], ids=str)
@pytest.mark.parametrize("last", ["Identity", "Relu"])
@pytest.mark.parametrize("first", ["c", "r"], ids=["both signed", "one behind a ReLU"])
def test_sums_of_bytes(first: str, last: str, factors: tuple, shift: int | tuple, one: bool) -> None:
    """One operator where channels are scaled alike: not where operands may be finer than it can say, unless a ReLU follows."""
    model = network(f"""(float[N,3,64,64] x) => (float[N,2,64,64] y) <float[4,3,1,1] v, float[4,3,1,1] w, float[2,4,1,1] u>
        {{ c = Conv(x, v) r = Relu(c) d = Conv<dilations=[2,2]>(x, w) s = Add({first}, d) t = {last}(s) y = Conv(t, u) }}""")
    x = np.random.default_rng(0).normal(size=(16, 3, 64, 64)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    for name, value in (("s_x1_shift", factors[0]), ("s_x2_shift", factors[1]), ("s_S_out", np.exp2(shift))):
        tensor = next(t for t in made.graph.initializer if t.name == name)
        kept = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.broadcast_to(np.reshape(value, (1, -1, 1, 1)), kept.shape).astype(kept.dtype), name))
    check(made, {"x": 1.5 * x})
    assert (sum(n.op_type == "QLinearAdd" for n in deployed(made).graph.node) == 1) == (one or last == "Relu" and factors[0] + np.max(factors[1]) <= 16 and np.ndim(shift) == np.ndim(factors[1]) == 0)


@pytest.mark.parametrize("pool", ["p = Identity(r)", "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)"], ids=["alone", "pooled"])
@pytest.mark.parametrize("activation", ["r = Relu(d)", "zero = Constant <value_float = 0.0> () bound = Constant <value_float = 0.7> () r = Clip(d, zero, bound)"])
def test_a_relu_of_a_depthwise_convolution_is_saturation(activation: str, pool: str) -> None:
    """In both files: bytes from -128 on, without Clip, equal to the kernel to the last one."""
    text = """(float[N,3,8,8] x) => (float[N,2,H,W] y) <float[4,3,1,1] v, float[4,1,3,3] w, float[4] b, float[2,4,1,1] u>
        { c = Conv(x, v) d = Conv <pads = [1, 1, 1, 1], group = 4> (c, w, b) ACTIVATION POOL y = Conv(p, u) }"""
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    result = quantize_model(network(text.replace("ACTIVATION", activation).replace("POOL", pool)), samples=x)
    block = next(b for b in result.program.blocks if b.kind == "depthwise2d")
    codes = {f.code for f in check_model(result.model, samples=x) if f.block == block.name}
    assert block.activation is None and "QML210" not in codes and ("Relu" not in activation or "QML102" not in codes)
    for data in (x, 100 * x):
        assert differences(result.program, {"x": data}, lambda feeds: boundaries(result.model, feeds)) == ()
        check(result.model, {"x": data})


def test_a_signed_tie_goes_down_and_nothing_else_differs() -> None:
    """64 of 128 units are half of one: in the law up, in the deployment form down where it is negative."""
    arrays = {"weight": np.full((1, 1, 1, 1), 64, np.int8), "multiplier": np.array([129], np.uint8), "shift": np.array([7]), "range": np.array([-128, 127])}
    conv = Block("conv", "conv2d", ("q",), "y", arrays=arrays)
    x = np.arange(-128, 128).reshape(1, 1, 16, 16)
    got = ties_down(conv, x)
    law = kernels.KERNELS["conv2d"](conv, x)
    assert set((law - got)[law != got].tolist()) == {1} and (x[law != got] < 0).all()


def test_only_operators_that_onnxruntime_brings() -> None:
    form = deployed(quantize_model(str(NETS[0].path), samples=NETS[0].samples(16)).model)
    assert {n.domain for n in form.graph.node} <= {"", "com.microsoft"} and not form.functions
    onnx.checker.check_model(form)


def test_unsigned_weights_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose products of signed weights saturate."""
    net = trained.NETS["resnet_mnist"]
    model = quantize_model(str(net.path), samples=net.samples(32)).model
    feeds = {model.graph.input[0].name: net.test()[0][:8]}
    usual = session(deployed(model).SerializeToString()).run(None, feeds)[0]
    monkeypatch.setattr(pairs, "SUM", 0)
    check(model, feeds)
    assert np.array_equal(usual, session(deployed(model).SerializeToString()).run(None, feeds)[0])


def test_the_way_is_chosen_when_the_file_is_loaded(tmp_path: Path) -> None:
    net = trained.NETS["resnet_mnist"]
    form = deployed(quantize_model(str(net.path), samples=net.samples(32)).model)
    assert any(n.op_type == "If" for n in form.graph.node)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.graph_optimization_level = str(tmp_path / "loaded.onnx"), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(form.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert not any(n.op_type == "If" for n in onnx.load(tmp_path / "loaded.onnx").graph.node)


@pytest.mark.parametrize("name", ["detector", "mobilenet_v3"])
def test_onnxruntime_may_be_told_to_be_precise(name: str) -> None:
    model = ZOO[name].build(ZOO[name].small)
    x = samples(model, 8)
    form = deployed(quantize_model(model, samples=x, target="cpu").model)
    usual, precise = (trained.session(form, precise=p).run(None, {"input": x[:1]}) for p in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(usual, precise, strict=True))


def test_what_stays_float_stays() -> None:
    model = network("(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> { c = Conv(x, w) r = Relu(c) y = Softmax<axis=1>(r) }")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = quantize_model(model, samples=x).model
    form = deployed(made)
    assert [n.op_type for n in form.graph.node][-2:] == ["DequantizeLinear", "Softmax"]
    assert np.array_equal(*(session(m.SerializeToString()).run(None, {"x": x})[0] for m in (made, form)))


def test_the_command_writes_it_beside_the_model(tmp_path: Path) -> None:
    made = quantize_model(str(NETS[0].path), samples=NETS[0].samples(16)).save(tmp_path / "net_i8_w8_a8.onnx")
    done = CliRunner().invoke(build(), ["export", "-m", str(made), "--format", "onnxruntime"])
    assert done.exit_code == 0, done.output
    assert onnx.load(tmp_path / "net_i8_w8_a8_onnxruntime.onnx").graph.node


@pytest.mark.parametrize(("target", "hint"), [("generic", True), ("cpu", False)])
def test_the_command_says_what_is_slow(target: str, hint: bool, tmp_path: Path) -> None:
    """The function of a last dense layer is a table of accumulators on any target."""
    model = network("""(float[N,3,8,8] x) => (float[N,2] y) <float[4,3,3,3] w, float[2,4] v>
        { c = Conv(x, w) s = HardSwish(c) p = GlobalMaxPool(s) f = Flatten(p) d = Gemm<transB=1>(f, v) y = Tanh(d) }""")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = quantize_model(model, samples=x, target=target).save(tmp_path / "net.onnx")
    done = CliRunner().invoke(build(), ["export", "-m", str(made), "--format", "onnxruntime"])
    assert done.exit_code == 0 and ("`quantize --target cpu`" in done.output) == hint, done.output
