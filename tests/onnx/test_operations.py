"""One small network for each operation that exporters write: whole, exact in onnxruntime, and what the float network computes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_text import network

from quantizeml_onnx.testing import judge

IMAGE, SERIES = "float[N,3,9,9] x", "float[N,4,16] x"
W, V, G = "float[8,3,3,3] w", "float[6,8,1,1] v", "float[8,2,3,3] g"
CONV = "c = Conv<pads=[1,1,1,1]>(x, w)"


def arrays(**values: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


CASES: dict[str, tuple[str, str, str, dict[str, np.ndarray]]] = {
    "max pooling alone": (IMAGE, W, f"{CONV} m = MaxPool<kernel_shape=[3,3]>(c) n = MaxPool<kernel_shape=[2,2]>(m) y = Relu(n)", {}),
    "long filters of one pixel, with and without strides": (IMAGE, "float[1100,3,3,3] w, float[8,1100,1,1] v, float[8,1100,1,1] t, float[8,8,1,1] u",
        f"{CONV} r = Relu(c) a = Conv(r, v) d = Conv<strides=[2,2]>(r, t) e = Conv<strides=[2,2]>(a, u) y = Add(d, e)", {}),
    "max pooling, size rounded up": (IMAGE, W, f"{CONV} r = Relu(c) y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(r)", {}),
    "a last window behind the image": (IMAGE, W, f"{CONV} r = Relu(c) y = MaxPool<kernel_shape=[2,2], strides=[3,3], pads=[0,0,1,1], ceil_mode=1>(r)", {}),
    "average of existing pixels": (IMAGE, W, f"{CONV} r = Relu(c) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(r)", {}),
    "average of existing pixels, strided": (IMAGE, W, f"{CONV} y = AveragePool<kernel_shape=[5,3], strides=[2,3], pads=[2,1,1,0]>(c)", {}),
    "average, size rounded up": (IMAGE, W, f"{CONV} r = Relu(c) y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(r)", {}),
    "average of padded pixels": (IMAGE, W, f"{CONV} r = Relu(c) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(r)", {}),
    "clip to both sides": (IMAGE, f"{W}, float a, float b", f"{CONV} y = Clip(c, a, b)", arrays(a=-1, b=0.5)),
    "clip from above only": (IMAGE, f"{W}, float b", f"{CONV} y = Clip(c, , b)", arrays(b=0.5)),
    "clip from below only": (IMAGE, f"{W}, float a", f"{CONV} y = Clip(c, a)", arrays(a=-0.25)),
    "clip away from zero": (IMAGE, f"{W}, float a, float b", f"{CONV} y = Clip(c, a, b)", arrays(a=0.25, b=1)),
    "a factor behind a bound": (IMAGE, f"{W}, float b, float s", f"{CONV} d = Clip(c, , b) e = Relu(d) y = Div(e, s)", arrays(b=2, s=4)),
    "slopes per channel": (IMAGE, f"{W}, float[8,1,1] s", f"{CONV} y = PRelu(c, s)", arrays(s=np.linspace(-0.2, 0.7, 8).reshape(8, 1, 1))),
    "a hard sigmoid of any slope": (IMAGE, W, f"{CONV} y = HardSigmoid<alpha=0.3, beta=0.4>(c)", {}),
    "split and joined again": (IMAGE, W, f"{CONV} r = Relu(c) a, b = Split<axis=1>(r) s = Sigmoid(a) y = Concat<axis=1>(b, s)", {}),
    "sliced": (IMAGE, W, f"{CONV} o = Constant<value_ints=[1]>() e = Constant<value_ints=[7]>() t = Constant<value_ints=[2]>() y = Slice(c, o, e, o, t)", {}),
    "shuffled": (IMAGE, W, f"{CONV} a = Constant<value_ints=[0,2,4,9,9]>() b = Constant<value_ints=[0,8,9,9]>() r = Reshape(c, a)"
                           " t = Transpose<perm=[0,2,1,3,4]>(r) y = Reshape(t, b)", {}),
    "gathered": (IMAGE, W, f"{CONV} r = Relu(c) i = Constant<value_ints=[3,0,-1]>() y = Gather<axis=1>(r, i)", {}),
    "groups": (IMAGE, f"{W}, {G}", f"{CONV} y = Conv<group=4>(c, g)", {}),
    "dilated": (IMAGE, f"{W}, float[4,8,3,3] d", f"{CONV} y = Conv<dilations=[2,3], pads=[2,3,2,3]>(c, d)", {}),
    "an even kernel": (IMAGE, "float[8,3,4,2] w", "c = Conv<pads=[2,1,1,0]>(x, w) y = Relu(c)", {}),
    "added to itself": (IMAGE, W, f"{CONV} r = Relu(c) y = Add(r, r)", {}),
    "added to a constant": (IMAGE, f"{W}, float[8,1,1] k", f"{CONV} r = Relu(c) a = Add(r, k) y = Relu(a)", {}),
    "scaled channel by channel": (IMAGE, f"{W}, {V}, float[8,1,1] k", f"{CONV} r = Sigmoid(c) a = Mul(r, k) y = Conv(a, v)", {}),
    "normalization behind a sum": (IMAGE, f"{W}, {V}, float[8,1,1] m, float[8,1,1] k, float[8,1,1] o",
                                   f"{CONV} r = Relu(c) s = Add(c, r) a = Sub(s, m) b = Mul(a, k) d = Add(b, o) e = Relu(d) y = Conv(e, v)", {}),
    "gamma of zero and below": (IMAGE, f"{W}, float[8] k, float[8] o, float[8] m, float[8] q", f"{CONV} y = BatchNormalization(c, k, o, m, q)",
                                arrays(k=[0, -1, 2, 0.5, -0.5, 1, 1, 0], q=np.full(8, 0.7), o=np.linspace(-1, 1, 8), m=np.linspace(0, 1, 8))),
    "a dead tensor": (IMAGE, f"{W}, float[8] b, float[8,8,3,3] u, float[8] a", f"c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, u, a) e = Conv(x, w)"
                      " f = Conv<pads=[1,1,1,1]>(e, u) g = MaxPool<kernel_shape=[3,3]>(d) y = Add(g, f)", arrays(b=np.full(8, -99.0))),
    "a dead channel": (IMAGE, W, f"{CONV} r = Relu(c) y = MaxPool<kernel_shape=[2,2]>(r)", arrays(w=np.concatenate([np.zeros((1, 3, 3, 3)), np.ones((7, 3, 3, 3))]))),
    "a filter as good as dead": (IMAGE, f"{W}, float[8] b, {V}", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) y = Conv(r, v)",
                                 arrays(w=np.random.default_rng(1).normal(size=(8, 3, 3, 3)) * np.array([1e-34, *[0.3] * 7]).reshape(8, 1, 1, 1), b=[1e-32, *[0.1] * 7])),
    "a gate": (IMAGE, f"{W}, float[8,8,1,1] u", f"{CONV} p = GlobalAveragePool(c) e = Conv(p, u) q = HardSigmoid<alpha=0.2, beta=0.5>(e) y = Mul(c, q)", {}),
    "branches at the input": (IMAGE, f"{W}, float[8,3,1,1] u", f"{CONV} d = Conv(x, u) s = Add(c, d) y = Relu(s)", {}),
    "a gate along the channels": (IMAGE, f"{W}, {V}, float[1,1,3] u", f"{CONV} r = Relu(c) p = ReduceMean<axes=[2,3], keepdims=0>(r) a = Constant<value_ints=[0,1,-1]>() s = Reshape(p, a)"
                                  " d = Conv<pads=[1,1]>(s, u) q = Sigmoid(d) b = Constant<value_ints=[0,-1,1,1]>() g = Reshape(q, b) m = Mul(r, g) y = Conv(m, v)",
                                  arrays(u=[[[4, -6, 5]]])),
    "a sum of three": (IMAGE, f"{W}, float[8,3,1,1] u, float[8,3,1,1] t", f"{CONV} d = Conv(x, u) e = Conv(x, t) y = Sum(c, d, e)", {}),
    **{f"{f} alone": (IMAGE, f"{W}, {V}", f"{CONV} r = MaxPool<kernel_shape=[2,2]>(c) f = {f}(r) y = Conv(f, v)", {}) for f in (
        "Abs", "Celu<alpha=0.5>", "Elu", "HardSigmoid", "Selu", "Softplus", "Softsign")},
    "a SiLU of a factor": (IMAGE, f"{W}, {V}, float b", f"{CONV} g = Mul(b, c) s = Sigmoid(g) m = Mul(s, c) y = Conv(m, v)", arrays(b=1.702)),
    "a Mish spelled out": (IMAGE, f"{W}, {V}", f"{CONV} p = Softplus(c) t = Tanh(p) m = Mul(c, t) y = Conv(m, v)", {}),
    "slopes per channel behind a sum": (IMAGE, f"{W}, float[8,1,1] s", f"{CONV} r = Relu(c) a = Add(c, r) y = PRelu(a, s)", arrays(s=np.linspace(-0.2, 0.7, 8).reshape(8, 1, 1))),
    "a difference": (IMAGE, f"{W}, float[8,3,1,1] u", f"{CONV} d = Conv(x, u) r = Relu(d) y = Sub(c, r)", {}),
    "a sum with one pixel": (IMAGE, f"{W}, float[8,8,1,1] u", f"{CONV} p = GlobalAveragePool(c) e = Conv(p, u) y = Add(c, e)", {}),
    "a difference with one channel": (IMAGE, f"{W}, float[1,8,1,1] u", f"{CONV} e = Conv(c, u) y = Sub(c, e)", {}),
    "a negative": (IMAGE, f"{W}, {V}", f"{CONV} r = Relu(c) n = Neg(r) y = Conv(n, v)", {}),
    "a transposed convolution of groups, dilated": (IMAGE, f"{W}, float[8,2,3,3] u",
        f"{CONV} r = Relu(c) y = ConvTranspose<group=4, dilations=[2,1], strides=[2,2], pads=[1,0,1,1], output_padding=[1,0]>(r, u)", {}),
    "a normalized concatenation": (IMAGE, f"{W}, float[4,3,3,3] u", f"{CONV} d = Conv<pads=[1,1,1,1]>(x, u) k = Concat<axis=1>(c, d) y = LRN<size=3, alpha=0.1>(k)", {}),
    "a concatenation, normalized pixel by pixel": (IMAGE, f"{W}, float[4,3,3,3] u, float[12] g, float[12] o, float[5,12,1,1] v",
        f"{CONV} d = Conv<pads=[1,1,1,1]>(x, u) k = Concat<axis=1>(c, d) t = Transpose<perm=[0,2,3,1]>(k) n = LayerNormalization(t, g, o) z = Transpose<perm=[0,3,1,2]>(n) y = Conv(z, v)", {}),
    "a square": (IMAGE, f"{W}, {V}, float t", f"{CONV} p = Pow(c, t) y = Conv(p, v)", arrays(t=2)),
    "the maximum of an image": (IMAGE, f"{W}, {V}", f"{CONV} m = GlobalMaxPool(c) y = Conv(m, v)", {}),
    "enlarged, bilinear, twice": (IMAGE, f"{W}, {V}, float[4] s", f'{CONV} r = Relu(c) u = Resize<mode="linear">(r, , s) y = Conv(u, v)', arrays(s=[1, 1, 2, 2])),
    "enlarged, bilinear, to a size": (IMAGE, f"{W}, {V}", f'{CONV} h = Shape<end=2>(c) z = Constant<value_ints=[27,9]>() k = Concat<axis=0>(h, z)'
                                      ' u = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(c, , , k) y = Conv(u, v)', {}),
    "padded in front of a maximum": (IMAGE, f"{W}, {V}", f"{CONV} p = Constant<value_ints=[0,0,1,0,0,0,0,1]>() d = Pad(c, p) m = MaxPool<kernel_shape=[2,2]>(d) y = Conv(m, v)", {}),
    "two heads of one flattened image": (IMAGE, f"{W}, float[5,392] a, float[3,392] b",
        f"{CONV} p = MaxPool<kernel_shape=[3,3]>(c) f = Flatten(p) d = Gemm<transB=1>(f, a) e = Gemm<transB=1>(f, b) y = Concat<axis=1>(d, e)", {}),
    "space to depth": ("float[N,3,8,8] x", "float[6,12,1,1] w", "d = SpaceToDepth<blocksize=2>(x) y = Conv(d, w)", {}),
    "depth to space": (IMAGE, f"{W}, float[5,2,3,3] u", f"{CONV} r = Relu(c) d = DepthToSpace<blocksize=2>(r) y = Conv(d, u)", {}),
    "every second pixel": (IMAGE, f"{W}, {V}", f"{CONV} o = Constant<value_ints=[1,0]>() e = Constant<value_ints=[99,99]>() a = Constant<value_ints=[2,3]>()"
                           " t = Constant<value_ints=[2,2]>() p = Slice(c, o, e, a, t) y = Conv(p, v)", {}),
    "a normalization beside the shortcut of its convolution": (IMAGE, f"{W}, float[8,8,1,1] u, float[8] k, float[8] o, float[8] m, float[8] q",
        f"{CONV} n = BatchNormalization(c, k, o, m, q) r = Relu(n) d = Conv(r, u) y = Add(c, d)", arrays(q=np.ones(8))),
    "a normalized input that something else reads": (IMAGE, f"{W}, float[8,3,1,1] u, float[3] k, float[3] o, float[3] m, float[3] q",
        f"n = BatchNormalization(x, k, o, m, q) r = Relu(n) d = Conv(r, u) {CONV} y = Add(c, d)", arrays(q=np.ones(3))),
    "a series": (SERIES, "float[6,4,3] w, float[6,1,5] d", "c = Conv<pads=[1,1], strides=[2]>(x, w) r = Relu(c) y = Conv<group=6, pads=[4,0]>(r, d)", {}),
    "a series, pooled and averaged": (SERIES, "float[6,4,3] w, float[6,6] m", "c = Conv<dilations=[2], pads=[4,0]>(x, w) r = Relu(c)"
                                      " p = MaxPool<kernel_shape=[2], strides=[2]>(r) a = AveragePool<kernel_shape=[3], pads=[1,1]>(p)"
                                      " g = GlobalAveragePool(a) f = Flatten(g) y = Gemm(f, m)", {}),
    "a series with a shortcut": (SERIES, "float[4,4,3] w, float[4] k, float[4] o, float[4] e, float[4] q", "n = BatchNormalization(x, k, o, e, q)"
                                 " c = Conv<pads=[1,1]>(n, w) r = LeakyRelu<alpha=0.1>(c) s = Add(c, r) y = Concat<axis=1>(s, r)", arrays(q=np.ones(4))),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_whole_exact_and_faithful(name: str) -> None:
    entry, weights, body, values = CASES[name]
    model = network(f"({entry}) => (float[N] y) <{weights}> {{ {body} }}", **values)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = np.random.default_rng(3).normal(size=(64, *shape)).astype(np.float32)
    verdict = judge(model, x)
    assert verdict.passed, verdict.text
