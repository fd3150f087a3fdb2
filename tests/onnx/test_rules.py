"""Which lines of ONNX operations become which block, and in what words the others are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from float_blueprint import run as run_float

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import CPU, GENERIC
from quantizeml_core.match import stop_message
from quantizeml_core.target import Target
from quantizeml_onnx import guards
from quantizeml_onnx.observe import session
from quantizeml_onnx.rules import builtin_rules
from quantizeml_onnx.survey import survey

CONSTANTS = {
    "w": np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3), "b": np.arange(4, dtype=np.float32),
    "w4": np.ones((4, 4, 1, 1), np.float32), "wd": np.ones((4, 1, 3, 3), np.float32), "wg": np.ones((4, 2, 3, 3), np.float32),
    "wm": np.ones((8, 1, 3, 3), np.float32), "w1d": np.ones((4, 3, 3), np.float32),
    "g": np.ones((5, 3), np.float32), "gb": np.arange(5, dtype=np.float32), "gb1": np.ones((1, 5), np.float32), "gs": np.float32(2),
    "gn": np.ones((2, 5), np.float32), "gt": np.ones((3, 5), np.float32), "gf": np.ones((5, 192), np.float32), "gc": np.ones((5, 144), np.float32), "gd": np.ones((6, 4), np.float32),
    "f22": np.float32([1, 1, 2, 2]), "f23": np.float32([1, 1, 2, 3]), "f2h": np.float32([1, 1, 2, 1.5]), "s18": np.int64([1, 4, 18, 12]),
    "wt": np.arange(4 * 5 * 3 * 3, dtype=np.float32).reshape(4, 5, 3, 3), "b5": np.arange(5, dtype=np.float32), "wt2": np.ones((4, 5, 2, 2), np.float32),
    "w8": np.ones((4, 3, 3, 3), np.int8), "zero": np.float32(0), "six": np.float32(6), "minus": np.float32(-1), "huge": np.float32(3.4028235e38), "half": np.float32([[[[0.5]]]]),
}

IMAGE = "float[N,3,8,8] x"
MIXED = "float[N,4,8,8] x"
VECTOR = "float[N,3] x"


def network(body: str, inputs: str = IMAGE, outputs: str = "float[N,C,H,W] y", opset: int = 18) -> ir.Model:
    """A graph in ONNX text, its constants by name, every node called like its first output."""
    text = f'<ir_version: 10, opset_import: ["" : {opset}, "quantizeml" : 1, "com.acme" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & CONSTANTS.keys()):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(CONSTANTS[name]), name))
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def blueprint(body: str, inputs: str = IMAGE, outputs: str = "float[N,C,H,W] y", target: Target = GENERIC, opset: int = 18) -> Blueprint:
    return survey(network(body, inputs, outputs, opset), builtin_rules(target))


def blocks(body: str, inputs: str = IMAGE, **options) -> tuple[Block, ...]:
    return tuple(b for b in blueprint(body, inputs, **options).blocks if b.kind != "input")


RELU, RELU6 = Activation("relu"), Activation("relu", bound=6.0)
MAX, GAP = Pool("max", (2, 2), (2, 2)), Pool("gap")
MAXPOOL = "MaxPool<kernel_shape=[2,2], strides=[2,2]>"
SWISH = Activation("swish")


@pytest.mark.parametrize("body, activation, pool", [
    ("y = Conv(x, w)", None, None),
    ("c = Conv(x, w, b) y = Relu(c)", RELU, None),
    ("c = Conv(x, w) y = Clip(c, zero, six)", RELU6, None),
    ("c = Conv(x, w) y = Clip(c, zero)", RELU, None),
    ("c = Conv(x, w) y = Clip(c, zero, huge)", RELU, None),
    ("c = Conv(x, w) r = Relu(c) y = GlobalAveragePool(r)", RELU, GAP),
    ("c = Conv(x, w) r = Clip(c, zero, six) y = GlobalAveragePool(r)", RELU6, GAP),
    ("c = Conv(x, w) y = GlobalAveragePool(c)", None, GAP),
    (f"c = Conv(x, w) r = Relu(c) y = {MAXPOOL}(r)", RELU, MAX),
    (f"c = Conv(x, w) m = {MAXPOOL}(c) y = Relu(m)", RELU, MAX),
    (f"c = Conv(x, w) m = {MAXPOOL}(c) y = Clip(m, zero, six)", RELU6, MAX),
    (f"c = Conv(x, w) y = {MAXPOOL}(c)", None, MAX),
    ("c = Conv(x, w) y = quantizeml.Swish(c)", SWISH, None),
    ("c = Conv(x, w) s = HardSwish(c) y = GlobalAveragePool(s)", Activation("hard_swish"), GAP),
    ("c = Conv(x, w) y = HardSwish(c)", Activation("hard_swish"), None),
    ("c = Conv(x, w) y = quantizeml.Gelu(c)", Activation("gelu"), None),
    ("c = Conv(x, w) y = LeakyRelu<alpha=0.25>(c)", Activation("leaky_relu", alpha=0.25), None),
    ("c = Conv(x, w) y = quantizeml.Gelu<approximate=\"tanh\">(c)", Activation("gelu_tanh"), None),
    ("c = Conv(x, w) y = Sigmoid(c)", Activation("sigmoid"), None),
    ("c = Conv(x, w) y = HardSigmoid<alpha=0.16666667, beta=0.5>(c)", Activation("hard_sigmoid"), None),
    ("c = Conv(x, w) y = HardSigmoid<alpha=0.25>(c)", Activation("hard_sigmoid", alpha=0.25), None),
    ("c = Conv(x, w) y = Abs(c)", Activation("abs"), None),
    ("c = Conv(x, w) y = Celu<alpha=0.5>(c)", Activation("celu", alpha=0.5), None),
    ("c = Conv(x, w) y = Mish(c)", Activation("mish"), None),
    ("c = Conv(x, w) y = Selu(c)", Activation("selu"), None),
    ("c = Conv(x, w) y = Softplus(c)", Activation("softplus"), None),
    ("c = Conv(x, w) y = Softsign(c)", Activation("softsign"), None),
    ("c = Conv(x, w) y = Tanh(c)", Activation("tanh"), None),
    ("c = Conv(x, w) y = Elu(c)", Activation("elu", alpha=1.0), None),
])
def test_convolution_lines(body: str, activation: Activation | None, pool: Pool | None) -> None:
    (block,) = blocks(body)
    assert (block.kind, block.activation, block.pool, block.output) == ("conv2d", activation, pool, "y")
    assert block.name in ("n_c", "n_y")


def test_bounds_are_read_from_attributes_before_opset_11() -> None:
    (block,) = blocks("c = Conv(x, w) y = Clip<min=0.0, max=6.0>(c)", opset=8)
    assert block.activation == RELU6


def test_geometry_and_arrays_of_a_convolution() -> None:
    (block,) = blocks("y = Conv<strides=[2,1], pads=[1,2,0,1]>(x, w, b)")
    assert (block.strides, block.pads, block.groups, block.inputs) == ((2, 1), (1, 2, 0, 1), 1, ("quantize",))
    np.testing.assert_array_equal(block.weight, CONSTANTS["w"])
    np.testing.assert_array_equal(block.arrays["bias"], CONSTANTS["b"])


def test_geometry_of_a_pool() -> None:
    (block,) = blocks("c = Conv(x, w) y = MaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,0,1]>(c)")
    assert block.pool == Pool("max", (3, 2), (2, 1), (1, 0, 0, 1))


@pytest.mark.parametrize("body, activation, pool", [
    ("y = Conv<group=4>(x, wd)", None, None),
    ("c = Conv<group=4>(x, wd, b) y = Relu(c)", RELU, None),
    ("c = Conv<group=4>(x, wd) y = Clip(c, zero, six)", RELU6, None),
    ("c = Conv<group=4>(x, wd) r = Relu(c) y = GlobalAveragePool(r)", RELU, GAP),
    (f"c = Conv<group=4>(x, wd) r = Relu(c) y = {MAXPOOL}(r)", RELU, MAX),
])
def test_depthwise_lines(body: str, activation: Activation | None, pool: Pool | None) -> None:
    (block,) = blocks(body, MIXED)
    assert (block.kind, block.groups, block.activation, block.pool) == ("depthwise2d", 4, activation, pool)


@pytest.mark.parametrize("body, groups", [("y = Conv<group=2>(x, wg)", 2), ("c = Conv<group=4>(x, wm) y = Relu(c)", 4)])
def test_grouped_lines(body: str, groups: int) -> None:
    (block,) = blocks(body, MIXED)
    assert (block.kind, block.groups) == ("conv2d", groups)


@pytest.mark.parametrize("body, inputs, flatten, activation", [
    ("y = Gemm<transB=1>(x, g, gb)", VECTOR, False, None),
    ("y = Gemm<transB=1>(x, g)", VECTOR, False, None),
    ("d = Gemm<transB=1>(x, g, gb1) y = Relu(d)", VECTOR, False, RELU),
    ("d = Gemm<transB=1>(x, g, gs) y = Clip(d, zero, six)", VECTOR, False, RELU6),
    ("f = Flatten(x) y = Gemm<transB=1>(f, gf)", IMAGE, True, None),
    ("f = Flatten<axis=-3>(x) d = Gemm<transB=1>(f, gf) y = Relu(d)", IMAGE, True, RELU),
    ("f = Flatten(x) y = Gemm<transB=1>(f, gf)", "float[N,3,64] x", True, None),
    ("f = Flatten(x) y = Gemm<transB=1>(f, g)", VECTOR, False, None),
    ("d = Gemm<transB=1>(x, g) y = Sigmoid(d)", VECTOR, False, Activation("sigmoid")),
])
def test_dense_lines(body: str, inputs: str, flatten: bool, activation: Activation | None) -> None:
    (block,) = blocks(body, inputs)
    assert (block.kind, block.flatten, block.activation, block.inputs) == ("dense", flatten, activation, ("quantize",))
    assert block.arrays.get("bias", np.zeros(5)).shape == (5,)


@pytest.mark.parametrize("body, expected", [
    ("c = Conv(x, w) d = Conv(x, w) y = Add(c, d)", ("add", "n_y", ("c", "d"), None)),
    ("c = Conv(x, w) d = Conv(x, w) a = Add(c, d) y = Relu(a)", ("add", "n_a", ("c", "d"), RELU)),
    ("c = Conv(x, w) d = Conv(x, w) y = Concat<axis=1>(c, d)", ("concat", "n_y", ("c", "d"), None)),
    ("c = Conv(x, w) d = Conv(x, w) y = Mul(c, d)", ("multiply", "n_y", ("c", "d"), None)),
    ("c = Conv(x, w) y = Mul(c, c)", ("multiply", "n_y", ("c", "c"), None)),
    ("c = Conv(x, w) d = GlobalAveragePool(c) m = Mul(d, c) y = Relu(m)", ("multiply", "n_m", ("d", "c"), RELU)),
    ("c = Conv(x, w) d = Conv(x, w) y = Concat<axis=-3>(c, d)", ("concat", "n_y", ("c", "d"), None)),
])
def test_blocks_of_two_tensors(body: str, expected: tuple) -> None:
    last = blocks(body)[-1]
    assert (last.kind, last.name, last.inputs, last.activation) == expected


@pytest.mark.parametrize("body, expected", [
    ("a = Add(c, d) r = Relu(a) y = GlobalAveragePool(r)", [("add", RELU, None), ("depthwise2d", None, GAP)]),
    ("a = Concat<axis=1>(c, d) r = Relu(a) y = GlobalAveragePool(r)", [("concat", None, None), ("depthwise2d", RELU, GAP)]),
    (f"a = Concat<axis=1>(c, d) r = Clip(a, zero, six) y = {MAXPOOL}(r)", [("concat", None, None), ("depthwise2d", RELU6, MAX)]),
    (f"a = Add(c, d) y = {MAXPOOL}(a)", [("add", None, None), ("depthwise2d", None, MAX)]),
    ("a = Add(c, d) y = HardSwish(a)", [("add", None, None), ("depthwise2d", Activation("hard_swish"), None)]),
    (f"a = Add(c, d) m = {MAXPOOL}(a) y = HardSwish(m)",
     [("add", None, None), ("depthwise2d", None, MAX), ("depthwise2d", Activation("hard_swish"), None)]),
])
def test_what_stands_alone_gets_an_identity_convolution(body: str, expected: list[tuple]) -> None:
    found = blocks(f"c = Conv(x, w) d = Conv(x, w) {body}")[2:]
    assert [(b.kind, b.activation, b.pool) for b in found] == expected
    assert found[-1].groups == found[-1].weight.shape[0] and (found[-1].weight == 1).all() and found[-1].weight.shape[1:] == (1, 1, 1)


def test_hardware_without_depthwise_pooling_gets_a_square_identity() -> None:
    poor = replace(GENERIC, name="poor", capabilities=GENERIC.capabilities - {"depthwise2d.pool"})
    last = blocks(f"c = Conv(x, w) d = Conv(x, w) a = Add(c, d) y = {MAXPOOL}(a)", target=poor)[-1]
    assert (last.kind, last.pool) == ("conv2d", MAX)
    np.testing.assert_array_equal(last.weight[:, :, 0, 0], np.eye(len(last.weight)))


@pytest.mark.parametrize("body, expected", [
    ("y = HardSwish(c)", ["conv2d", "lookup"]), ("d = Conv(x, w) a = Add(c, d) y = Tanh(a)", ["conv2d", "conv2d", "add", "lookup"]),
    ("p = GlobalAveragePool(c) y = HardSigmoid<alpha=0.16666667>(p)", ["conv2d", "depthwise2d", "lookup"]),
    (f"m = {MAXPOOL}(c) y = Elu(m)", ["conv2d", "lookup"]),
    ("f = Flatten(c) d = Gemm<transB=1>(f, gc) y = Tanh(d)", ["conv2d", "dense"]),
    ("f = Flatten(c) d = Gemm<transB=1>(f, gc) t = Tanh(d) y = Gemm<transB=1>(t, gd)", ["conv2d", "dense", "lookup", "dense"]),
])
def test_a_cpu_looks_functions_up(body: str, expected: list[str]) -> None:
    """But for that of a last dense layer, which keeps its accumulators."""
    assert [b.kind for b in blocks(f"c = Conv(x, w) {body}", target=CPU)] == expected


@pytest.mark.parametrize("body, expected", [
    ("y = GlobalAveragePool(c)", [None, "gap"]), ("r = Relu(c) y = GlobalAveragePool(r)", [None, "gap"]), ("d = Conv(x, w) a = Add(c, d) y = GlobalAveragePool(a)", [None, None, None, "gap"]),
    ("d = Conv(x, w) a = Add(c, d) r = Relu(a) y = GlobalAveragePool(r)", [None, None, None, "gap"]), (f"y = {MAXPOOL}(c)", ["max"]),
])
def test_a_cpu_averages_bytes(body: str, expected: list[str | None]) -> None:
    assert [b.pool and b.pool.kind for b in blocks(f"c = Conv(x, w) {body}", target=CPU)] == expected


@pytest.mark.parametrize("body, probe", [
    ("y = HardSwish(c)", "c"), ("m = HardSwish(c) y = GlobalAveragePool(m)", "c"), ("p = GlobalAveragePool(c) y = HardSwish(p)", "p"),
    ("y = Relu(c)", ""), ("f = Flatten(c) d = Gemm<transB=1>(f, gc) y = Tanh(d)", "d"),
])
def test_a_table_names_the_tensor_that_sizes_its_index(body: str, probe: str) -> None:
    assert blocks(f"c = Conv(x, w) {body}")[-1].probe == probe


@pytest.mark.parametrize("body, strides, pads", [
    ("y = ConvTranspose(c, wt, b5)", (1, 1), (0, 0, 0, 0)),
    ("y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]>(c, wt, b5)", (2, 2), (1, 1, 0, 1)),
    ("t = ConvTranspose<strides=[2,1], pads=[0,1,0,0], output_padding=[1,0]>(c, wt, b5) y = Relu(t)", (2, 1), (0, 1, -1, 0)),
    ("t = ConvTranspose<strides=[2,1], output_shape=[13,6]>(c, wt, b5) y = Sigmoid(t)", (2, 1), (0, 1, 0, 1)),
    ('y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(c, wt2, b5)', (2, 2), (0, 0, 0, 0)),
])
def test_transposed_convolutions(body: str, strides: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    found = blueprint(f"c = Conv(x, w) {body}")
    block = found.blocks[-1]
    assert (block.kind, block.strides, block.pads) == ("conv_transpose2d", strides, pads)
    assert block.weight.shape[:2] == (5, 4) and block.arrays["bias"].shape == (5,)
    values = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
    ours = run_float(replace(found, blocks=(replace(block, inputs=("c",)),)), {"c": values})[block.output]
    alone = network(body, "float[N,4,6,6] c")
    (theirs,) = session(ir.to_proto(alone).SerializeToString()).run(None, {"c": values})
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)  # onnxruntime sums in float32


@pytest.mark.parametrize("body, activation, pool", [
    ("y = AveragePool<kernel_shape=[2,3]>(c)", None, Pool("avg", (2, 3))),
    ("p = AveragePool<kernel_shape=[2,2], strides=[2,1], pads=[1,0,0,1], count_include_pad=1>(c) y = Relu(p)", RELU,
     Pool("avg", (2, 2), (2, 1), (1, 0, 0, 1))),
])
def test_averages(body: str, activation: Activation | None, pool: Pool) -> None:
    last = blocks(f"c = Conv(x, w) {body}")[-1]
    assert (last.kind, last.activation, last.pool, last.inputs) == ("pool2d", activation, pool, ("c",))


RESIZE = 'Resize<mode="nearest", coordinate_transformation_mode="{}", nearest_mode="{}">'
ASYMMETRIC = RESIZE.format("asymmetric", "floor")


@pytest.mark.parametrize("body, factors", [
    (f"y = {ASYMMETRIC}(c, , f23)", (2, 3)),
    (f"y = {ASYMMETRIC}(c, , , s18)", (3, 2)),
    ("y = Resize(c, , f23)", (2, 3)),
    (f"y = {RESIZE.format('pytorch_half_pixel', 'round_prefer_ceil')}(c, , f23)", (2, 3)),
    (f"y = {RESIZE.format('tf_half_pixel_for_nn', 'floor')}(c, , f23)", (2, 3)),
    (f"y = {RESIZE.format('asymmetric', 'round_prefer_floor')}(c, , f22)", (2, 2)),
])
def test_upsampling(body: str, factors: tuple[int, int]) -> None:
    last = blocks(f"c = Conv(x, w) {body}")[-1]
    assert (last.kind, last.name, last.strides, last.inputs) == ("upsample2d", "n_y", factors, ("c",))


@pytest.mark.parametrize(("mode", "nearest"), sorted(guards.REPEATING))
@pytest.mark.parametrize("factor", [1, 2, 3, 5, 8])
def test_modes_that_repeat_pixels_do(mode: str, nearest: str, factor: int) -> None:
    """By onnxruntime's own Resize."""
    text = f'<ir_version: 10, opset_import: ["" : 18]> g (float[1,1,1,7] x, float[4] s) => (float[N,C,H,W] y) {{ y = {RESIZE.format(mode, nearest)}(x, , s) }}'
    x = np.arange(7, dtype=np.float32).reshape(1, 1, 1, 7)
    (y,) = session(onnx.parser.parse_model(text).SerializeToString()).run(None, {"x": x, "s": np.float32([1, 1, 1, factor])})
    assert np.array_equal(y, x.repeat(factor, axis=3))


C, DW = "conv2d (quantizeml-onnx)", "depthwise2d (quantizeml-onnx)"
NEAREST = "no rule covers it. Nearest: "
POST = "one of 20 operations"
CONSTANT, BOUNDS = "only a constant can be quantized", "only a lower bound of 0 and an upper bound above it can be quantized"


@pytest.mark.parametrize("body, inputs, message", [
    ("y = Conv(x, w1d)", "float[N,3,8] x",
     f"(Conv): {NEAREST}{C} refuses it: it is a 1-D convolution, only 2-D ones (N, C, H, W) can be quantized."),
    ("y = Conv<auto_pad=\"SAME_UPPER\">(x, w)", IMAGE,
     f"(Conv): {NEAREST}{C} refuses it: its auto_pad is SAME_UPPER, which cannot be made explicit while the input size is not known: "
     "give the model an input shape."),
    ("y = Conv(x, z)", "float[N,3,8,8] x, float[4,3,3,3] z",
     f"(Conv): {NEAREST}{C} refuses it: its weight is computed by the model, {CONSTANT}."),
    ("c = Conv(x, w) y = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(c)", IMAGE,
     f"(MaxPool): {NEAREST}{C} refuses it: its dilations are (2, 2), only 1 can be quantized."),
    ("c = Conv(x, w) y = Clip(c, minus, six)", IMAGE,
     f"(Clip): {NEAREST}{C} refuses it: it clips to [-1, 6], {BOUNDS}."),
    ("c = Conv(x, w) y = Clip(c)", IMAGE,
     f"(Clip): {NEAREST}{C} refuses it: it clips to [-inf, inf], {BOUNDS}."),
    ("y = Relu(x)", VECTOR,
     f"(Relu): {NEAREST}identity (quantizeml-onnx) refuses it: its input has 2 axes, "
     "alone it can be quantized on images (N, C, H, W) only."),
    ("y = Relu(x)", "float[N,4096,8,8] x",
     f"(Relu): {NEAREST}identity (quantizeml-onnx) refuses it: its input has 4096 channels, alone it can be quantized up to 2048."),
    ("c = Conv(x, w) y = HardSigmoid<beta=0.4>(c)", IMAGE,
     f"(HardSigmoid): {NEAREST}{C} refuses it: it is clip(0.2 x + 0.4), only a positive factor and 0.5 can be quantized."),
    ("c = Conv(x, w) y = Celu<alpha=-1.0>(c)", IMAGE, f"(Celu): {NEAREST}{C} refuses it: its alpha is -1, only positive ones can be quantized."),
    ("c = Conv(x, w) y = Selu<alpha=1.5>(c)", IMAGE, f"(Selu): {NEAREST}{C} refuses it: its alpha is 1.5, only 1.673263 can be quantized."),
    ("c = Conv(x, w) y = GlobalAveragePool(c)", "float[N,3,H,W] x",
     f"(GlobalAveragePool): {NEAREST}{C} refuses it: the shape of `c` is not known: give the model an input shape."),
    ("c = Conv(x, w) y = Softmax(c)", IMAGE,
     f"(Softmax): {NEAREST}softmax (quantizeml-onnx) refuses it: it is no softmax over the channels."),
    ("c = Conv(x, w) y = Softmax<axis=1>(c)", IMAGE,
     f"(Softmax): {NEAREST}softmax (quantizeml-onnx) refuses it: a softmax is quantized inside a network only, in front of a product, a sum or a layer "
     "with weights."),
    ("c = Conv(x, w) y = com.acme.Foo(c)", IMAGE,
     f"(com.acme::Foo): {NEAREST}{C} expected {POST}, got com.acme::Foo."),
    ("y = Gemm(x, gt)", VECTOR, f"(Gemm): {NEAREST}dense (quantizeml-onnx) refuses it: its transB is 0, only 1 can be quantized."),
    ("y = Gemm<transB=1, alpha=2.0>(x, g)", VECTOR,
     f"(Gemm): {NEAREST}dense (quantizeml-onnx) refuses it: its alpha is 2, only 1 can be quantized."),
    ("y = Gemm<transB=1>(x, g, gn)", VECTOR,
     f"(Gemm): {NEAREST}dense (quantizeml-onnx) refuses it: its bias has shape (2, 5), only one value per filter (5,) can be quantized."),
    ("f = Flatten<axis=2>(x) y = Gemm<transB=1>(f, gf)", IMAGE,
     f"(Flatten): {NEAREST}dense (quantizeml-onnx) refuses it: it flattens from axis 2, only axis 1 can be quantized."),
    ("c = Conv(x, w) d = Conv(c, w4) y = Add(d, half)", IMAGE,
     f"(Add): {NEAREST}add (quantizeml-onnx) refuses it: one operand is a constant, only the sum of two tensors can be quantized."),
    ("c = Conv(x, w) y = Add(c, c)", IMAGE,
     f"(Add): {NEAREST}add (quantizeml-onnx) refuses it: both operands are `c`, only two different tensors can be quantized."),
    ("c = Conv(x, w) d = GlobalAveragePool(c) e = Conv(x, w) y = Add(d, e)", IMAGE,
     f"(Add): {NEAREST}add (quantizeml-onnx) refuses it: it adds shapes (None, 4, 1, 1) and (None, 4, 6, 6), "
     "only equal ones can be quantized."),
    ("c = Conv(x, w) y = Mul(c, half)", IMAGE,
     f"(Mul): {NEAREST}multiply (quantizeml-onnx) refuses it: one operand is a constant, only the product of two tensors can be quantized."),
    ("c = Conv(x, w) p = GlobalAveragePool(c) f = Flatten(p) d = Gemm<transB=1>(f, gd) y = Mul(d, c)", IMAGE,
     f"(Mul): {NEAREST}multiply (quantizeml-onnx) refuses it: it multiplies shapes (None, 6) and (None, 4, 6, 6), "
     "only such of one rank, axes equal or 1, can be quantized."),
    ("c = Conv(x, w) y = ConvTranspose<group=2>(c, wt)", IMAGE,
     f"(ConvTranspose): {NEAREST}conv_transpose2d (quantizeml-onnx) refuses it: it has 2 groups, only 1 can be quantized."),
    ("c = Conv(x, w) y = ConvTranspose<strides=[2,2], output_shape=[12,12]>(c, wt)", IMAGE,
     f"(ConvTranspose): {NEAREST}conv_transpose2d (quantizeml-onnx) refuses it: its pads are negative or hang on the output's size "
     "in a way that leaves their order open: export it with explicit pads."),
    ("c = Conv(x, w) y = AveragePool<kernel_shape=[2,2], strides=[2,2], pads=[1,1,0,0], count_include_pad=1, ceil_mode=1>(c)", IMAGE,
     f"(AveragePool): {NEAREST}pool2d (quantizeml-onnx) refuses it: it counts padded pixels but not those that its ceil_mode adds, "
     "only all or none can be quantized."),
    (f"c = Conv(x, w) y = {ASYMMETRIC}(c, , f2h)", IMAGE,
     "(Resize): " + NEAREST + "upsample2d (quantizeml-onnx) refuses it: its factors are not whole numbers in height and width of images of a known size."),
    ('c = Conv(x, w) y = Resize<mode="linear">(c, , f22)', IMAGE,
     f"(Resize): {NEAREST}upsample2d (quantizeml-onnx) refuses it: its mode is linear, only nearest can be quantized, and linear by whole factors up to 10 (half_pixel or asymmetric)."),
    (f"c = Conv(x, w) y = {RESIZE.format('align_corners', 'floor')}(c, , f22)", IMAGE,
     f"(Resize): {NEAREST}upsample2d (quantizeml-onnx) refuses it: it picks pixels by align_corners and floor, only repeated ones can be quantized."),
    ("c = Conv(x, w) d = Conv(x, w) y = Concat<axis=2>(c, d)", IMAGE,
     f"(Concat): {NEAREST}concat (quantizeml-onnx) refuses it: it joins along axis 2, only channels (axis 1) can be quantized."),
    ("c = Conv(x, w) d = Conv(x, w) e = Conv(x, w) y = Concat<axis=1>(c, d, e)", IMAGE,
     f"(Concat): {NEAREST}concat (quantizeml-onnx) refuses it: it joins 3 tensors (3 computed), only two computed ones can be quantized."),
    ("q, s, z = DynamicQuantizeLinear(x) y = ConvInteger(q, w8, z)", IMAGE,
     f"(DynamicQuantizeLinear): {NEAREST}quantized (quantizeml-onnx) refuses it: another tool has quantized the network: give the float network it was made from."),
])
def test_a_refusal_says_what_to_change(body: str, inputs: str, message: str) -> None:
    assert [stop_message(s).split("` ", 1)[1] for s in blueprint(body, inputs).stops] == [message]


@pytest.mark.parametrize("missing, body, inputs, ops", [
    ("add", "c = Conv(x, w) d = Conv(x, w) y = Add(c, d)", IMAGE, ["conv2d", "conv2d"]),
    ("concat", "c = Conv(x, w) d = Conv(x, w) y = Concat<axis=1>(c, d)", IMAGE, ["conv2d", "conv2d"]),
    ("depthwise2d", "y = Conv<group=4>(x, wd)", MIXED, []),
    ("activation.table", "c = Conv(x, w) y = HardSwish(c)", IMAGE, ["conv2d"]),
    ("multiply", "c = Conv(x, w) d = Conv(x, w) y = Mul(c, d)", IMAGE, ["conv2d", "conv2d"]),
    ("conv_transpose2d", "c = Conv(x, w) y = ConvTranspose(c, wt)", IMAGE, ["conv2d"]),
    ("depthwise2d pool2d", "c = Conv(x, w) y = AveragePool<kernel_shape=[2,2]>(c)", IMAGE, ["conv2d"]),
    ("upsample2d", "c = Conv(x, w) y = Resize(c, , f22)", IMAGE, ["conv2d"]),
    ("dense.table", "d = Gemm<transB=1>(x, g) y = Sigmoid(d)", VECTOR, ["dense"]),
])
def test_what_a_target_lacks_stays_float_with_its_reason(missing: str, body: str, inputs: str, ops: list[str]) -> None:
    poor = replace(GENERIC, name="poor", capabilities=GENERIC.capabilities - set(missing.split()))
    result = blueprint(body, inputs, target=poor)
    assert [b.kind for b in result.blocks if b.kind != "input"] == ops
    assert f"refuses it: target `poor` lacks `{missing.split()[-1]}` (" in result.stops[0].nearest


@pytest.mark.parametrize("missing, body, inputs, expected", [
    ("add.activation", "c = Conv(x, w) d = Conv(x, w) a = Add(c, d) y = Relu(a)", IMAGE, [("add", None, None), ("depthwise2d", RELU, None)]),
    ("pool2d", "c = Conv(x, w) y = AveragePool<kernel_shape=[2,2]>(c)", IMAGE, [("conv2d", None, None), ("depthwise2d", None, None)]),
    ("depthwise2d.pool", f"c = Conv<group=4>(x, wd) y = {MAXPOOL}(c)", MIXED, [("depthwise2d", None, None), ("conv2d", None, MAX)]),
])
def test_what_a_block_of_a_target_cannot_fuse_gets_a_block_of_its_own(missing: str, body: str, inputs: str, expected: list[tuple]) -> None:
    poor = replace(GENERIC, name="poor", capabilities=GENERIC.capabilities - {missing})
    assert [(b.kind, b.activation, b.pool) for b in blocks(body, inputs, target=poor)[-2:]] == expected
