"""Rewrites: ONNX text before, operations after; both sides compared in onnxruntime; refusals with their reason."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from quantizeml_onnx.normalize import prepare
from quantizeml_onnx.rewrites import BUILTIN_REWRITES, Op, Proposal, Rewrite, rewrites_for, sanitize

HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>'

#: Every folded weight is rounded to float32 once (2^-24 of its size) and onnxruntime sums in float32 on both sides, in another order: a few
#: units of 2^-24 for each of at most 100 terms of the size of the output. 1e-5 of the largest output is far above that and far below any error.
TOLERANCE = 1e-5


def model(text: str, opset: int = 17, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A model from the text of its graph; weights are given by shape and filled with seeded numbers between 0.5 and 1.5, signs mixed."""
    proto = parser.parse_model(HEADER.format(opset=opset) + f"g {text}")
    rng = np.random.default_rng(7)
    for name, shape in weights.items():
        array = rng.uniform(0.5, 1.5, shape) * rng.choice((-1.0, 1.0), shape)
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return proto


def with_arrays(proto: onnx.ModelProto, **arrays: np.ndarray) -> onnx.ModelProto:
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    return proto


def run(proto: onnx.ModelProto, batch: int = 1) -> list[np.ndarray]:
    """Outputs on seeded data around the kinks of the activations."""
    rng = np.random.default_rng(3)
    constants = {t.name for t in proto.graph.initializer}
    feeds = {}
    for value in (i for i in proto.graph.input if i.name not in constants):
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = (4 * rng.standard_normal(shape)).astype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def rewritten(proto: onnx.ModelProto, rewrites=BUILTIN_REWRITES):
    """The sanitized model, what was refused; checked valid, equal in onnxruntime, its output names and its source untouched."""
    source = proto.SerializeToString(deterministic=True)
    result, applied, refused = sanitize(prepare(proto), rewrites)
    assert proto.SerializeToString(deterministic=True) == source
    after = ir.to_proto(result)
    onnx.checker.check_model(after, full_check=True)
    assert [o.name for o in after.graph.output] == [o.name for o in proto.graph.output]
    for before, now in zip(run(proto), run(after), strict=True):
        assert np.abs(before - now).max() <= TOLERANCE * max(1.0, float(np.abs(before).max()))
    return after, applied, refused


def ops(proto: onnx.ModelProto) -> str:
    return " ".join(n.op_type for n in proto.graph.node)


CONV = "(float[N,3,8,8] x) => (float[N,4,8,8] y)"
EQUAL = {
    "concat_of_four": (17, "(float[N,3,4,4] x) => (float[N,12,4,4] y) { a = Abs(x) b = Tanh(x) c = Erf(x) y = Concat<axis=1>(x, a, b, c) }", {},
                       "Abs Tanh Erf Concat Concat Concat"),
    "identity_dropout": (7, CONV + " { a = Conv<pads=[1,1,1,1]>(x, w) b = Dropout<ratio=0.5>(a) y = Identity(b) }", {"w": (4, 3, 3, 3)}, "Conv"),
    "cast_to_same": (17, CONV + " { a = Conv<pads=[1,1,1,1]>(x, w) y = Cast<to=1>(a) }", {"w": (4, 3, 3, 3)}, "Conv"),
    "pad_by_nothing": (17, "(float[N,3,8,8] x) => (float[N,3,8,8] y) <int64[8] p = {0,0,0,0,0,0,0,0}> { a = Pad(x, p) y = Relu(a) }", {}, "Relu"),
    "matmul_add": (17, "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w) y = Add(a, b) }", {"w": (6, 4), "b": (4,)}, "Gemm"),
    "matmul_add_row": (17, "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w) y = Add(b, a) }", {"w": (6, 4), "b": (1, 4)}, "Gemm"),
    "gemm_attributes": (17, "(float[N,6] x) => (float[N,4] y) { y = Gemm<alpha=0.5, beta=3.0>(x, w, b) }", {"w": (6, 4), "b": (1,)}, "Gemm"),
    "gemm_beta_zero": (9, "(float[N,6] x) => (float[N,4] y) { y = Gemm<beta=0.0, transB=1>(x, w, b) }", {"w": (4, 6), "b": (4,)}, "Gemm"),
    "flatten_axis_minus_3": (17, "(float[N,3,2,2] x) => (float[N,12] y) { y = Flatten<axis=-3>(x) }", {}, "Flatten"),
    "reshape_batch_free": (17, "(float[N,3,2,2] x) => (float[M,12] y) <int64[2] s = {-1,12}> { y = Reshape(x, s) }", {}, "Flatten"),
    "reshape_static_batch": (17, "(float[1,3,2,2] x) => (float[1,5] y) <int64[2] s = {1,12}> { a = Reshape(x, s) y = Gemm<transB=1>(a, w) }",
                             {"w": (5, 12)}, "Flatten Gemm"),
    "squeeze_twice": (17, "(float[N,3,4,4] x) => (float[N,3] y) <int64[1] s = {3}, int64[1] t = {2}> "
                          "{ a = GlobalAveragePool(x) b = Squeeze(a, s) y = Squeeze(b, t) }", {}, "GlobalAveragePool Flatten"),
    "squeeze_attribute": (9, "(float[N,3,4,4] x) => (float[N,3] y) { a = GlobalAveragePool(x) y = Squeeze<axes=[2,3]>(a) }", {},
                          "GlobalAveragePool Flatten"),
    "flatten_of_rank_2": (17, "(float[N,6] x) => (float[N,4] y) { a = Flatten(x) y = Gemm<transB=1>(a, w) }", {"w": (4, 6)}, "Gemm"),
    "shape_arithmetic": (17, "(float[N,3,2,2] x) => (float[M,5] y) <int64 z = {0}, int64[1] k = {0}, int64[1] m = {-1}> "
                             "{ s = Shape(x) n = Gather<axis=0>(s, z) u = Unsqueeze(n, k) t = Concat<axis=0>(u, m) a = Reshape(x, t) "
                             "y = Gemm<transB=1>(a, w) }", {"w": (5, 12)}, "Flatten Gemm"),
    "constants_of_sizes": (17, "(float[N,3,7,8] x) => (float[N,4,3,4] y) <int64 i = {2}, float d = {2.0}, int64[3] b = {0,0,0}, int64[4] e = {1,0,0,1}> "
                               "{ s = Shape(x) h = Gather(s, i) f = Cast<to=1>(h) g = Div(f, d) c = Ceil(g) u = Sub(g, c) v = Floor(u) k = Cast<to=7>(v) n = Neg(k) o = Constant<value_ints=[0]>() "
                               "r = Unsqueeze(n, o) p = Concat<axis=0>(b, e, r) a = Pad(x, p) y = Conv<strides=[2,2]>(a, w) }", {"w": (4, 3, 3, 3)}, "Conv"),
    "standardized_weights": (17, CONV + " <int64[3] k = {1,4,27}, int64[4] o = {4,3,3,3}> "
                                 "{ a = Reshape(w, k) b, c, d = BatchNormalization<training_mode=1>(a, g, h, h, g) e = Reshape(b, o) y = Conv<pads=[1,1,1,1]>(x, e) }",
                             {"w": (4, 3, 3, 3), "g": (4,), "h": (4,)}, "Conv"),
    "channel_last_flatten": (17, "(float[N,3,4,2] x) => (float[N,5] y) <int64[2] s = {-1,24}> "
                                 "{ r = Relu(x) a = Transpose<perm=[0,2,3,1]>(r) b = Reshape(a, s) y = MatMul(b, w) }", {"w": (24, 5)},
                             "Relu Flatten Gemm"),
    "two_dense_layers_of_one_flatten": (17, "(float[N,3,2,2] x) => (float[N,4] y, float[N,5] z) { r = Relu(x) f = Flatten(r) y = Gemm<transB=1>(f, v) z = Gemm<transB=1>(f, w) }",
                                        {"v": (4, 12), "w": (5, 12)}, "Relu Flatten Flatten Gemm Gemm"),
    "two_dense_layers_channel_last": (17, "(float[N,3,2,2] x) => (float[N,4] y, float[N,5] z) { r = Relu(x) t = Transpose<perm=[0,2,3,1]>(r) f = Flatten(t) "
                                          "y = MatMul(f, v) z = MatMul(f, w) }", {"v": (12, 4), "w": (12, 5)}, "Relu Flatten Gemm Flatten Gemm"),
    "normalized_features": (17, "(float[N,6] x) => (float[N,4] y, float[N,4] z) <float[6] q = {1.0, 2.0, 3.0, 0.5, 0.25, 4.0}> "
                                "{ r = Relu(x) a = BatchNormalization(r, g, b, m, q) y = MatMul(a, w) c = Mul(r, m) d = Sub(c, b) z = Gemm(d, w, o) }",
                            {"g": (6,), "b": (6,), "m": (6,), "w": (6, 4), "o": (4,)}, "Relu Gemm Gemm"),
    "channel_attention_of_timm": (17, "(float[N,6,4,4] x) => (float[N,6,4,4] y) <int64[3] a = {0,1,-1}, int64[4] b = {0,-1,1,1}> "
                                      "{ m = ReduceMean<axes=[2,3], keepdims=0>(x) s = Reshape(m, a) c = Conv<pads=[1,1]>(s, w) g = Sigmoid(c) v = Reshape(g, b) z = Shape(x) e = Expand(v, z) "
                                      "y = Mul(x, e) }", {"w": (1, 1, 3)}, "GlobalAveragePool Conv Sigmoid Mul"),
    "channel_attention_of_its_authors": (17, "(float[N,6,4,4] x) => (float[N,6,4,4] y) <int64[1] a = {3}> "
                                             "{ m = GlobalAveragePool(x) s = Squeeze(m, a) t = Transpose<perm=[0,2,1]>(s) c = Conv<pads=[2,2]>(t, w, k) u = Transpose<perm=[0,2,1]>(c) "
                                             "v = Unsqueeze(u, a) g = Sigmoid(v) z = Shape(x) e = Expand(g, z) y = Mul(e, x) }", {"w": (1, 1, 5), "k": (1,)},
                                         "GlobalAveragePool Conv Sigmoid Mul"),
    "softmax_of_rows": (17, "(float[N,3,4,5] x) => (float[N,3,4,5] y) <int64[4] s = {-1,3,4,5}> { f = Flatten<axis=3>(x) m = Softmax<axis=-1>(f) y = Reshape(m, s) }", {}, "Softmax"),
    "a_sequence_that_is_a_row_again": (17, "(float[N,4,1,6] x) => (float[N,5,1,6] y) <int64[1] h = {2}, int64[4] b = {0,1,6,4}> "
                                           "{ r = Squeeze(x, h) t = Transpose<perm=[0,2,1]>(r) c = Relu(t) q = Reshape(c, b) i = Transpose<perm=[0,3,1,2]>(q) y = Conv(i, w) }",
                                       {"w": (5, 4, 1, 1)}, "Relu Conv"),
    "sizes_that_are_copied": (17, "(float[N,6,4] x) => (float[N,5] y) <int64 i = {1}, int64[1] a = {0}, int64[1] f = {4}, int64[2] e = {-1,24}> "
                                  "{ s = Shape(x) h = Gather(s, i) u = Unsqueeze(h, a) t = Concat<axis=0>(a, u, f) r = Reshape(x, t) g = Relu(r) j = Reshape(g, e) y = Gemm<transB=1>(j, w) }",
                              {"w": (5, 24)}, "Relu Flatten Gemm"),
    "mean_keepdims": (17, "(float[N,3,4,5] x) => (float[N,3,1,1] y) { y = ReduceMean<axes=[2,3]>(x) }", {}, "GlobalAveragePool"),
    "mean_no_keepdims": (17, "(float[N,3,4,5] x) => (float[N,3] y) { y = ReduceMean<axes=[-1,-2], keepdims=0>(x) }", {},
                         "GlobalAveragePool Flatten"),
    "mean_axes_input": (18, "(float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {2,3}> { y = ReduceMean<keepdims=0>(x, a) }", {},
                        "GlobalAveragePool Flatten"),
    "mean_channel_last": (17, "(float[N,3,4,5] x) => (float[N,3] y) { r = Relu(x) t = Transpose<perm=[0,2,3,1]>(r) "
                              "y = ReduceMean<axes=[1,2], keepdims=0>(t) }", {}, "Relu GlobalAveragePool Flatten"),
    "average_of_all": (17, "(float[N,3,4,4] x) => (float[N,3,1,1] y) { y = AveragePool<kernel_shape=[4,4]>(x) }", {}, "GlobalAveragePool"),
    "max_then_min": (17, "(float[N,3] x) => (float[N,3] y) <float z = {0.0}, float s = {6.0}> { a = Max(x, z) y = Min(s, a) }", {}, "Clip"),
    "max_zero": (17, "(float[N,3] x) => (float[N,3] y) <float z = {0.0}> { y = Max(z, x) }", {}, "Relu"),
    "clip_attributes": (7, "(float[N,3] x) => (float[N,3] y) { y = Clip<min=0.0, max=6.0>(x) }", {}, "Clip"),
    "clip_float_max": (7, "(float[N,3] x) => (float[N,3] y) { y = Clip<min=0.0>(x) }", {}, "Relu"),
    "clip_unbounded": (17, "(float[N,3] x) => (float[N,3] y) { a = Clip(x) y = Relu(a) }", {}, "Relu"),
    "relu_of_relu": (17, "(float[N,3] x) => (float[N,3] y) { a = Relu(x) y = Relu(a) }", {}, "Relu"),
    "clip_of_disjoint_clip": (17, "(float[N,3] x) => (float[N,3] y) <float a = {-3.0}, float b = {-1.0}, float c = {1.0}, float d = {2.0}> "
                                  "{ t = Clip(x, a, b) y = Clip(t, c, d) }", {}, "Clamp"),
    "swish": (17, "(float[N,3] x) => (float[N,3] y) { s = Sigmoid(x) y = Mul(s, x) }", {}, "Swish"),
    "swish_of_a_factor": (17, "(float[N,6] x) => (float[N,4] y) <float b = {1.702}> { g = MatMul(x, v) c = Mul(g, b) s = Sigmoid(c) h = Mul(g, s) y = MatMul(h, w) }",
                          {"v": (6, 5), "w": (5, 4)}, "Gemm Swish Gemm"),
    "swish_after_add": (17, "(float[N,3] p, float[N,3] q) => (float[N,3] y) { x = Add(p, q) s = Sigmoid(x) y = Mul(x, s) }", {}, "Add Swish"),
    "hard_swish_hard_sigmoid": (14, "(float[N,3] x) => (float[N,3] y) { s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s) }", {},
                                "HardSwish"),
    "hard_swish_clip": (17, "(float[N,3] x) => (float[N,3] y) <float t = {3.0}, float z = {0.0}, float s = {6.0}> "
                            "{ a = Add(x, t) b = Clip(a, z, s) c = Div(b, s) y = Mul(x, c) }", {}, "HardSwish"),
    "hard_swish_times_sixth": (17, "(float[N,3] x) => (float[N,3] y) <float t = {3.0}, float z = {0.0}, float s = {6.0}, float k = {0.16666667}> "
                                   "{ a = Add(x, t) r = Relu(a) b = Min(r, s) c = Mul(x, b) y = Mul(c, k) }", {}, "HardSwish"),
    "gelu_torch": (17, "(float[N,3] x) => (float[N,3] y) <float r = {1.4142135}, float o = {1.0}, float h = {0.5}> "
                       "{ a = Div(x, r) e = Erf(a) p = Add(e, o) m = Mul(x, p) y = Mul(m, h) }", {}, "Gelu"),
    "gelu_half_first": (17, "(float[N,3] x) => (float[N,3] y) <float r = {0.70710678}, float o = {1.0}, float h = {0.5}> "
                            "{ a = Mul(x, r) e = Erf(a) p = Add(o, e) m = Mul(x, h) y = Mul(m, p) }", {}, "Gelu"),
    "mish": (17, "(float[N,3] x) => (float[N,3] y) { p = Softplus(x) t = Tanh(p) y = Mul(x, t) }", {}, "Mish"),
    "gelu_tanh_power": (17, "(float[N,3] x) => (float[N,3] y) <float e = {3.0}, float c = {0.044715}, float r = {0.7978845608}, float o = {1.0}, float h = {0.5}> "
                            "{ a = Pow(x, e) b = Mul(a, c) d = Add(x, b) f = Mul(d, r) t = Tanh(f) p = Add(t, o) m = Mul(x, p) y = Mul(m, h) }", {}, "FastGelu"),
    "gelu_tanh_products": (17, "(float[N,3] x) => (float[N,3] y) <float c = {0.044715}, float r = {0.7978845608}, float o = {1.0}, float h = {0.5}> "
                               "{ q = Mul(x, x) a = Mul(q, x) b = Mul(c, a) d = Add(x, b) f = Mul(r, d) t = Tanh(f) p = Add(o, t) m = Mul(h, x) y = Mul(m, p) }", {}, "FastGelu"),
    "negative": (17, "(float[N,3] x) => (float[N,3] y) { y = Neg(x) }", {}, "Mul"),
    "negative_convolution": (17, "(float[N,3,4,4] x) => (float[N,2,4,4] y) { c = Conv(x, w) y = Neg(c) }", {"w": (2, 3, 1, 1)}, "Conv"),
    "square": (17, "(float[N,3] x) => (float[N,3] y) <float t = {2.0}> { y = Pow(x, t) }", {}, "Mul"),
    "difference_of_convolutions": (17, "(float[N,3,4,4] x) => (float[N,3,4,4] y) { c = Conv(x, w) r = Relu(x) d = Conv(r, v) y = Sub(c, d) }",
                                   {"w": (3, 3, 1, 1), "v": (3, 3, 1, 1)}, "Conv Relu Conv Add"),
    "a_repvgg_block": (17, "(float[N,3,9,8] x) => (float[N,3,9,8] y) <float[3] q = {1.0, 2.0, 0.5}> "
                           "{ r = Relu(x) a = Conv<pads=[1,1,1,1]>(r, w) b = Conv(r, v, k) n = BatchNormalization(r, g, k, k, q) s = Add(a, b) t = Add(s, n) y = Relu(t) }",
                       {"w": (3, 3, 3, 3), "v": (3, 3, 1, 1), "g": (3,), "k": (3,)}, "Relu Conv Relu"),
    "a_depthwise_repvgg_block": (17, "(float[N,4,9,8] x) => (float[N,4,5,4] y) { a = Conv<group=4, pads=[1,2,1,2], strides=[2,2]>(x, w) b = Conv<group=4, strides=[2,2], pads=[0,1,0,1]>(x, v) "
                                     "y = Add(b, a) }", {"w": (4, 1, 3, 5), "v": (4, 1, 1, 3)}, "Conv"),
    "the_mean_of_two_heads": (17, "(float[N,3,2,2] x) => (float[N,4] y) <float t = {2.0}> "
                                  "{ r = Relu(x) f = Flatten(r) a = Gemm<transB=1>(f, v, k) b = Gemm<transB=1>(f, w) s = Add(a, b) y = Div(s, t) }",
                              {"v": (4, 12), "w": (4, 12), "k": (4,)}, "Relu Flatten Gemm"),
    "convolutions_of_other_strides": (17, "(float[N,3,8,8] x) => (float[N,2,4,4] y) { a = Conv<strides=[2,2]>(x, w) b = Conv(x, v) y = Add(a, b) }",
                                      {"w": (2, 3, 1, 1), "v": (2, 3, 5, 5)}, "Conv Conv Add"),
    "global_max_pool": (17, "(float[N,3,4,5] x) => (float[N,3,1,1] y) { y = GlobalMaxPool(x) }", {}, "MaxPool"),
    "maximum_without_axes": (18, "(float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {3,2}> { y = ReduceMax<keepdims=0>(x, a) }", {}, "MaxPool Flatten"),
    "slopes_of_a_sum": (17, "(float[N,3,4,4] p, float[N,3,4,4] q) => (float[N,3,4,4] y) { a = Add(p, q) y = PRelu(a, s) }", {"s": (3, 1, 1)}, "Add Conv Relu Conv"),
    "bilinear_twice": (18, "(float[N,3,4,5] x) => (float[N,3,8,10] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> { y = Resize<mode=\"linear\">(x, , s) }", {},
                       "Resize AveragePool AveragePool"),
    "bilinear_thrice": (18, "(float[N,3,4,5] x) => (float[N,3,12,5] y) <float[4] s = {1.0, 1.0, 3.0, 1.0}> "
                            "{ y = Resize<mode=\"linear\", coordinate_transformation_mode=\"pytorch_half_pixel\">(x, , s) }", {}, "Resize AveragePool"),
    "bilinear_of_tensorflow": (18, "(float[N,3,4,5] x) => (float[N,3,16,10] y) <float[4] s = {1.0, 1.0, 4.0, 2.0}> "
                                   "{ y = Resize<mode=\"linear\", coordinate_transformation_mode=\"asymmetric\">(x, , s) }", {}, "Resize AveragePool"),
    "bilinear_of_one_pixel": (18, "(float[N,3,1,1] x) => (float[N,3,28,28] y) <float[4] s = {1.0, 1.0, 28.0, 28.0}> { y = Resize<mode=\"linear\">(x, , s) }", {}, "Resize"),
    "bilinear_to_a_computed_size": (18, "(float[N,3,4,5] x) => (float[N,3,8,10] y) <int64[2] s = {8, 10}> "
                                        "{ a = Shape<end=2>(x) b = Concat<axis=0>(a, s) y = Resize<mode=\"linear\">(x, , , b) }", {}, "Resize AveragePool AveragePool"),
    "bilinear_of_a_static_export": (18, "(float[1,3,4,5] x) => (float[1,3,8,10] y) <int64[4] s = {1, 3, 8, 10}> { y = Resize<mode=\"linear\">(x, , , s) }", {},
                                    "Resize AveragePool AveragePool"),
    "space_to_depth": (17, "(float[N,3,4,6] x) => (float[N,4,2,3] y) { d = SpaceToDepth<blocksize=2>(x) y = Conv(d, w) }", {"w": (4, 12, 1, 1)}, "Conv Gather Conv"),
    "depth_to_space": (17, "(float[N,8,4,3] x) => (float[N,4,8,6] y) { d = DepthToSpace<blocksize=2>(x) y = Conv(d, w) }", {"w": (4, 2, 1, 1)}, "ConvTranspose Conv"),
    "depth_first_to_space": (17, "(float[N,18,2,3] x) => (float[N,4,6,9] y) { d = DepthToSpace<blocksize=3, mode=\"CRD\">(x) y = Conv(d, w) }", {"w": (4, 2, 1, 1)},
                             "ConvTranspose Conv"),
    "depth_to_space_at_the_end": (17, "(float[N,8,4,3] x) => (float[N,2,8,6] y) { y = DepthToSpace<blocksize=2>(x) }", {}, "DepthToSpace"),
    "every_second_pixel": (17, "(float[N,3,8,7] x) => (float[N,4,4,3] y) <int64[2] s = {1,1}, int64[2] e = {9223372036854775807,9223372036854775807}, int64[2] a = {2,3}, "
                               "int64[2] t = {2,2}> { p = Slice(x, s, e, a, t) y = Conv(p, w) }", {"w": (4, 3, 1, 1)}, "Conv Conv"),
    "cropped_image": (17, "(float[N,3,8,7] x) => (float[N,4,5,7] y) <int64[1] s = {1}, int64[1] e = {-2}, int64[1] a = {-2}> { p = Slice(x, s, e, a) y = Conv(p, w) }",
                      {"w": (4, 3, 1, 1)}, "Conv Conv"),
    "grouped_transposed": (17, "(float[N,4,3,5] x) => (float[N,6,5,9] y) { y = ConvTranspose<group=2, strides=[2,2], pads=[1,1,1,1]>(x, w, b) }", {"w": (4, 3, 3, 3), "b": (6,)},
                           "ConvTranspose"),
    "dilated_transposed": (17, "(float[N,2,4,5] x) => (float[N,3,9,9] y) { y = ConvTranspose<dilations=[2,1], strides=[1,2], output_padding=[0,1], pads=[0,1,1,2]>(x, w) }",
                           {"w": (2, 3, 4, 3)}, "ConvTranspose"),
    "sum_with_one_pixel": (17, "(float[N,3,4,5] x, float[N,3,1,1] g) => (float[N,3,4,5] y) { y = Add(g, x) }", {}, "Resize Add"),
    "sum_with_one_channel": (17, "(float[N,3,4,5] x, float[N,1,4,5] g) => (float[N,3,4,5] y) { y = Add(x, g) }", {}, "Gather Add"),
    "sum_of_row_and_column": (17, "(float[N,3,4,1] x, float[N,1,1,5] g) => (float[N,3,4,5] y) { y = Add(x, g) }", {}, "Resize Gather Resize Add"),
    "normalized_concatenation": (17, "(float[N,3,4,4] x, float[N,2,4,4] z) => (float[N,5,4,4] y) { c = Concat<axis=1>(x, z) y = LRN<size=3, alpha=0.1>(c) }", {}, "Concat Conv LRN"),
    "prelu_one_slope": (17, "(float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2,1,1] s = {0.25, 0.25}> { y = PRelu(x, s) }", {}, "LeakyRelu"),
    "sum_of_three": (17, "(float[N,3] a, float[N,3] b, float[N,3] c) => (float[N,3] y) { y = Sum(a, b, c) }", {}, "Add Add"),
    "pad_conv": (10, "(float[N,3,8,8] x) => (float[N,4,4,4] y) { a = Pad<pads=[0,0,0,1,0,0,1,0]>(x) y = Conv<strides=[2,2], pads=[1,0,0,1]>(a, w) }",
                 {"w": (4, 3, 3, 3)}, "Conv"),
    "pad_axes_conv": (18, "(float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[4] p = {1,1,1,1}, float z = {0.0}, int64[2] d = {2,-1}> "
                          "{ a = Pad(x, p, z, d) y = Conv(a, w) }", {"w": (4, 3, 3, 3)}, "Conv"),
    "pad_max_pool": (17, "(float[N,3,8,8] x) => (float[N,3,4,4] y) <int64[8] p = {0,0,1,1,0,0,1,1}> "
                         "{ r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(a) }", {}, "Relu MaxPool"),
    "pad_max_pool_minus_inf": (17, "(float[N,3,8,8] x) => (float[N,3,4,4] y) <int64[8] p = {0,0,0,0,0,0,1,1}, float m = {-inf}> "
                                   "{ a = Pad(x, p, m) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(a) }", {}, "MaxPool"),
    "pad_of_two": (17, "(float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[8] p = {0,0,1,1,0,0,1,1}> "
                       "{ r = Relu(x) a = Pad(r, p) c = Conv(a, w) m = MaxPool<kernel_shape=[3,3]>(a) d = Conv(m, v) y = Add(c, d) }", {"w": (4, 3, 3, 3), "v": (4, 3, 1, 1)},
                   "Relu Conv MaxPool Conv Add"),
    "pad_alone": (17, "(float[N,3,8,8] x) => (float[N,3,5,5] y) <int64[8] p = {0,0,1,1,0,0,1,2}> { a = Pad(x, p) y = MaxPool<kernel_shape=[3,4], strides=[2,2]>(a) }", {},
                  "Conv MaxPool"),
    "pad_beyond_the_window": (17, "(float[N,3,8,8] x) => (float[N,3,11,11] y) <int64[8] p = {0,0,2,2,0,0,2,2}> { r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[2,2]>(a) }",
                              {}, "Relu Conv MaxPool"),
    "same_upper_conv": (17, "(float[N,3,9,8] x) => (float[N,4,5,4] y) { y = Conv<auto_pad=\"SAME_UPPER\", strides=[2,2]>(x, w) }",
                        {"w": (4, 3, 3, 4)}, "Conv"),
    "same_lower_depthwise": (17, "(float[N,4,8,8] x) => (float[N,4,4,4] y) { y = Conv<auto_pad=\"SAME_LOWER\", strides=[2,2], group=4>(x, w) }",
                             {"w": (4, 1, 3, 3)}, "Conv"),
    "valid_max_pool": (17, "(float[N,3,8,8] x) => (float[N,3,3,3] y) { y = MaxPool<auto_pad=\"VALID\", kernel_shape=[3,3], strides=[2,2]>(x) }", {},
                       "MaxPool"),
    "scale_and_shift_after_conv": (17, "(float[N,3,8,8] x) => (float[N,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w, b) m = Mul(a, s) t = Div(m, d) "
                                       "u = Sub(o, t) y = Add(u, o) }",
                                   {"w": (4, 3, 3, 3), "b": (4,), "s": (4, 1, 1), "d": (1, 4, 1, 1), "o": (1, 1, 1)}, "Conv"),
    "depthwise_scale": (17, "(float[N,4,8,8] x) => (float[N,4,6,6] y) { a = Conv<group=4>(x, w) m = Mul(a, s) y = Add(m, o) }",
                        {"w": (4, 1, 3, 3), "s": (1, 4, 1, 1), "o": (1, 4, 1, 1)}, "Conv"),
    "entry_chain": (17, "(float[N,3,8,8] x) => (float[N,4,6,6] y) { a = Sub(x, m) b = Div(a, s) c = Add(b, o) d = Mul(c, k) y = Conv(d, w) }",
                    {"w": (4, 3, 3, 3), "m": (3, 1, 1), "s": (1, 3, 1, 1), "o": (1,), "k": (3, 1, 1)}, "Mul Add Conv"),
    "entry_batch_normalization": (17, "(float[N,6] x) => (float[N,4] y) <float[6] v = {1.0, 2.0, 3.0, 0.5, 0.25, 4.0}> "
                                      "{ a = BatchNormalization(x, g, b, m, v) y = MatMul(a, w) }",
                                  {"g": (6,), "b": (6,), "m": (6,), "w": (6, 4)}, "Mul Add Gemm"),
    "entry_reshape": (17, "(float[N,4,5,1] x) => (float[N,2,2,3] y) <int64[4] s = {-1,1,4,5}, float k = {0.5}> "
                          "{ a = Mul(x, k) b = Reshape(a, s) y = Conv(b, w) }", {"w": (2, 1, 3, 3)}, "Mul Transpose Conv"),
    "constants": (17, "(float[N,6] x) => (float[N,4] y) <int64[2] s = {6, 4}> { a = Add(v, v) b = Reshape(a, s) y = MatMul(x, b) }", {"v": (24,)},
                  "Gemm"),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    opset, text, weights, expected = EQUAL[name]
    after, _, refused = rewritten(model(text, opset, **weights))
    assert ops(after) == expected
    assert refused == ()


def batch_normalization(linear: str, gamma, variance, **weights) -> onnx.ModelProto:
    text = f"{{ a = {linear} b = BatchNormalization<epsilon=0.001>(a, g, o, m, v) y = Relu(b) }}"
    shapes = "(float[N,3,6,6] x) => (float[N,3,4,4] y) " if "Conv" in linear else "(float[N,5] x) => (float[N,3] y) "
    return with_arrays(model(shapes + text, **weights, o=(3,), m=(3,)), g=np.array(gamma, np.float32), v=np.array(variance, np.float32))


@pytest.mark.parametrize("linear, weights", [
    ("Conv(x, w)", {"w": (3, 3, 3, 3)}), ("Conv(x, w, c)", {"w": (3, 3, 3, 3), "c": (3,)}), ("Conv<group=3>(x, w)", {"w": (3, 1, 3, 3)}),
    ("Gemm<transB=1>(x, w)", {"w": (3, 5)}), ("MatMul(x, w)", {"w": (5, 3)})])
def test_batch_normalization_is_folded_whatever_its_sign(linear, weights):
    after, _, _ = rewritten(batch_normalization(linear, [1.5, 0.0, -2.0], [1.0, 4.0, 0.0], **weights))
    assert ops(after) == ("Conv Relu" if "Conv" in linear else "Gemm Relu")


def test_a_weight_is_rounded_once():
    proto = model("(float[N,3,8,8] x) => (float[N,4,6,6] y) { a = Conv(x, w) b = Mul(a, s) c = Mul(b, t) y = Mul(c, u) }",
                  w=(4, 3, 3, 3), s=(4, 1, 1), t=(4, 1, 1), u=(4, 1, 1))
    after, _, _ = rewritten(proto)
    w, s, t, u = (numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer)
    expected = (w * (s * t * u)[..., None]).astype(np.float32)
    found = numpy_helper.to_array(next(i for i in after.graph.initializer if i.dims[:] == [4, 3, 3, 3]))
    assert np.abs(found.view(np.int32) - expected.view(np.int32)).max() == 0


def test_names_survive():
    text = CONV + " { a = Conv<pads=[1,1,1,1]>(x, w) b = Mul(a, s) r = Relu(b) m = ReduceMean<axes=[2,3]>(r) y = Mul(r, m) }"
    proto = model(text, w=(4, 3, 3, 3), s=(4, 1, 1))
    proto.graph.node[0].name, proto.graph.node[2].name, proto.graph.node[3].name = "first", "activation", "mean"
    after, _, _ = rewritten(proto)
    assert [(n.name, n.output[0]) for n in after.graph.node] == [("first", "b"), ("activation", "r"), ("mean", "m"), ("y", "y")]


def test_two_runs_give_the_same_model():
    proto = batch_normalization("Conv(x, w)", [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], w=(3, 3, 3, 3))
    first, second = (rewritten(proto)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


REFUSED = {
    "shared_convolution": ("(float[N,3,8,8] x) => (float[N,3,8,8] y) { a = Conv(x, w) b = Mul(a, s) y = Add(a, b) }",
                           {"w": (3, 3, 1, 1), "s": (3, 1, 1)}, "fold_affine", "its input `a` is also read by `y`"),
    "returned_convolution": ("(float[N,3,8,8] x) => (float[N,3,8,8] a, float[N,3,8,8] y) { a = Conv(x, w) y = Mul(a, s) }",
                             {"w": (3, 3, 1, 1), "s": (3, 1, 1)}, "fold_affine", "its input `a` is also an output of the model"),
    "pixel_constant": ("(float[N,3,2,2] x) => (float[N,3,2,2] y) { a = Conv(x, w) y = Mul(a, s) }", {"w": (3, 3, 1, 1), "s": (3, 2, 2)},
                       "fold_affine", "its constant varies along other axes than the channels"),
    "normalization_after_pooling": ("(float[N,3,8,8] x) => (float[N,3,4,4] y) <float[3] v = {1.0, 1.0, 1.0}> "
                                    "{ a = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = BatchNormalization(a, g, g, g, v) }", {"g": (3,)},
                                    "fold_batch_normalization", "it follows `a` (MaxPool), only a Conv or a Gemm can take it in"),
    "division_by_zero": ("(float[N,3] x) => (float[N,3] y) <float z = {0.0}> { a = Gemm<transB=1>(x, w) y = Div(a, z) }", {"w": (3, 3)},
                         "fold_affine", "it cannot be proven equal: its constants give values that are not finite"),
    "pad_with_one": ("(float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[8] p = {0,0,1,1,0,0,1,1}, float o = {1.0}> "
                     "{ a = Pad(x, p, o) y = Conv(a, w) }", {"w": (4, 3, 3, 3)}, "fold_pad",
                     "the Pad pads with 1.0, a convolution pads with 0"),
    "pad_reflect": ("(float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[8] p = {0,0,1,1,0,0,1,1}> "
                    "{ a = Pad<mode=\"reflect\">(x, p) y = Conv(a, w) }", {"w": (4, 3, 3, 3)}, "fold_pad",
                    "the Pad has mode 'reflect', only constant padding can move into it"),
    "pad_channels": ("(float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[8] p = {0,1,0,0,0,0,0,0}> { a = Pad(x, p) y = Conv(a, w) }",
                     {"w": (4, 4, 1, 1)}, "fold_pad", "the Pad pads batch or channels, or crops (pads (0, 1, 0, 0, 0, 0, 0, 0))"),
    "mean_of_channels": ("(float[N,3,4,5] x) => (float[N,1,4,5] y) { y = ReduceMean<axes=[1]>(x) }", {}, "reduce_mean_to_global_average_pool",
                         "it averages axes (1,), only height and width together can be quantized"),
    "matmul_of_rank_3": ("(float[N,3,4] x) => (float[N,3,5] y) { y = MatMul(x, w) }", {"w": (4, 5)}, "matmul_to_gemm",
                         "it multiplies tensors of rank 3 and 2, only (N, C) by (C, F) is a dense layer"),
    "matmul_of_two_tensors": ("(float[N,4] x, float[4,5] w) => (float[N,5] y) { y = MatMul(x, w) }", {}, "matmul_to_gemm",
                              "its second operand is no constant"),
    "prelu_pixel_slopes": ("(float[N,3,2,2] x) => (float[N,3,2,2] y) { y = PRelu(x, s) }", {"s": (3, 2, 2)}, "slopes_to_convolution",
                           "its slopes differ between pixels"),
    "maximum_of_channels": ("(float[N,3,4,5] x) => (float[N,1,4,5] y) { y = ReduceMax<axes=[1]>(x) }", {}, "global_max_pool_to_max_pool",
                            "it is the maximum over axes (1,), only height and width together can be quantized"),
    "bilinear_of_corners": ("(float[N,3,4,5] x) => (float[N,3,8,10] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
                            "{ y = Resize<mode=\"linear\", coordinate_transformation_mode=\"align_corners\">(x, , s) }", {}, "bilinear_to_averages",
                            "it interpolates by align_corners, only half_pixel and asymmetric can be quantized"),
    "bilinear_far": ("(float[N,3,4,5] x) => (float[N,3,48,5] y) <float[4] s = {1.0, 1.0, 12.0, 1.0}> { y = Resize<mode=\"linear\">(x, , s) }", {},
                     "bilinear_to_averages", "its factor is 12, only up to 10 can be quantized"),
    "bilinear_between": ("(float[N,3,4,6] x) => (float[N,3,6,9] y) <float[4] s = {1.0, 1.0, 1.5, 1.5}> { y = Resize<mode=\"linear\">(x, , s) }", {},
                         "bilinear_to_averages", "its factors are not whole numbers"),
    "cropped_far": ("(float[N,3,20,20] x) => (float[N,3,10,20] y) <int64[1] s = {5}, int64[1] e = {15}, int64[1] a = {2}> { p = Slice(x, s, e, a) y = Relu(p) }", {},
                    "slice_to_convolution", "it takes pixels backwards or leaves out more than 7 at an end"),
    "cube": ("(float[N,3] x) => (float[N,3] y) <float t = {3.0}> { y = Pow(x, t) }", {}, "square_to_product", "its exponent is 3, only 2 can be quantized"),
    "almost_gelu": ("(float[N,3] x) => (float[N,3] y) <float r = {1.4142}, float o = {1.0}, float h = {0.5}> "
                    "{ a = Div(x, r) e = Erf(a) p = Add(e, o) m = Mul(x, p) y = Mul(m, h) }", {}, "recognize_activation", "it is not equal"),
    "reshape_to_the_batch": ("(float[N,2,3] x, float[M,4] z) => (float[P,Q] y) <int64[1] m = {6}> "
                             "{ s = Shape<end=1>(z) p = Mul(s, s) t = Concat<axis=0>(m, p) y = Reshape(x, t) }", {}, "fold_shape_arithmetic",
                             "its target shape (6, 4 for a batch of 2) mixes the batch with other sizes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    text, weights, rewrite, reason = REFUSED[name]
    _, _, refused = sanitize(prepare(model(text, **weights)), BUILTIN_REWRITES)
    assert any(r.rewrite == rewrite and r.reason.startswith(reason) for r in refused), refused


def test_a_slice_of_other_axes_stays_while_the_batch_is_open():
    text = "(float[N,3,8,8] x) => (float[M,3,8,8] y) <int64[1] s = {0}, int64[1] e = {1}> { p = Slice(x, s, e) y = Relu(p) }"
    assert ops(rewritten(model(text))[0]) == "Slice Relu"


def test_a_sum_over_the_batch_alone_is_not_repeated():
    _, applied, refused = sanitize(prepare(model("(float[N,3,8,8] x, float[1,3,8,8] z) => (float[N,3,8,8] y) { y = Add(x, z) }")), BUILTIN_REWRITES)
    assert (applied, refused) == ((), ())


def test_an_identity_at_both_ends_stays():
    after, _, refused = rewritten(model("(float[N,3] x) => (float[N,3] y) { y = Identity(x) }"))
    assert ops(after) == "Identity"
    assert [r.reason for r in refused] == ["it joins an input or another output to the output `y`"]


# ---- rewrites of third parties are judged too

def _double(node: ir.Node) -> Proposal:
    return Proposal((node,), Op("Mul", (node.inputs[0], np.array(2.0))), extent="element")


def _shrink(node: ir.Node) -> Proposal:
    return Proposal((node,), Op("ReduceMean", (node.inputs[0],), {"axes": (1,)}), extent="any")


def _unknown(node: ir.Node) -> Proposal:
    return Proposal((node,), Op("LSTM", (node.inputs[0],)), extent="any")


WRONG = [
    (_double, "it is not equal: outputs differ by up to"),
    (_shrink, "it is not equal: its output has shape"),
    (_unknown, "it cannot be proven equal: operation LSTM is not known to the evaluator"),
]


@pytest.mark.parametrize("apply, reason", WRONG)
def test_a_wrong_rewrite_is_not_applied(apply, reason):
    after, _, (refused,) = rewritten(model("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), (Rewrite("wrong", apply, ("Relu",)),))
    assert ops(after) == "Relu"
    assert refused.reason.startswith(reason)


def test_an_almost_equal_rewrite_is_not_applied():
    def nudge(node: ir.Node) -> Proposal:
        weight = node.inputs[1].const_value.numpy().astype(np.float64)
        return Proposal((node,), Op("Gemm", (node.inputs[0], weight * (1 + 1e-9)), {"transB": 1}))

    _, _, (refused,) = rewritten(model("(float[N,8] x) => (float[N,3] y) { y = Gemm<transB=1>(x, w) }", w=(3, 8)), (Rewrite("nudge", nudge, ("Gemm",)),))
    assert refused.reason.startswith("it is not equal: outputs differ by up to")


def test_rewrites_that_undo_each_other_end():
    def swap(node: ir.Node) -> Proposal:
        return Proposal((node,), Op("Add", (node.inputs[1], node.inputs[0])))

    proto = model("(float[N,3] p, float[N,3] q) => (float[N,3] y) { y = Add(p, q) }")
    _, _, (refused,) = sanitize(prepare(proto), (Rewrite("swap", swap, ("Add",)),))
    assert refused.reason == "it still changes the graph after 100 passes"


# ---- what depends on the target

@pytest.mark.parametrize("attributes, kernel", [("dilations=[2,2], pads=[2,2,2,2]", [5, 5]), ("dilations=[1,3], pads=[0,2,1,2], strides=[2,2]", [3, 7])])
def test_a_dilated_kernel_gets_its_zeros_without_the_capability(attributes, kernel):
    after, _, _ = rewritten(model(f"(float[N,3,8,8] x) => (float[N,4,H,W] y) {{ y = Conv<{attributes}>(x, w) }}", w=(4, 3, 3, 3)), rewrites_for(set()))
    assert ops(after) == "Conv"
    assert after.graph.initializer[0].dims[2:] == kernel


ADD_RELU = "(float[N,3,8,8] x, float[N,3,8,8] z) => (float[N,3,8,8] y) { a = Conv(x, w) b = Conv(z, v) c = Add(a, b) y = Relu(c) }"


@pytest.mark.parametrize("capabilities, expected", [({"add.activation"}, "Conv Conv Add Relu"), (set(), "Conv Conv Add Conv Relu")])
def test_an_activation_after_add_needs_a_convolution_without_the_capability(capabilities, expected):
    after, _, _ = rewritten(model(ADD_RELU, w=(3, 3, 1, 1), v=(3, 3, 1, 1)), rewrites_for(capabilities))
    assert ops(after) == expected
    assert after.graph.node[2].output[0] == "c"
