"""Dilated convolutions keep their few taps: the same integers in numpy, in onnxruntime and as bytes; hardware without them gets the kernel with its zeros."""

from __future__ import annotations

import numpy as np
import pytest
from deployment import check
from onnx_text import network

from quantizeml_core.api import quantize_model, survey_model
from quantizeml_core.params import QuantizationParams
from quantizeml_onnx.quantized import quantized_nodes
from quantizeml_onnx.testing import judge

NET = network(
    "(float[N,3,13,11] x) => (float[N] y) <float[8,3,3,3] w, float[8,8,3,3] a, float[8,1,3,3] d, float[8,4,3,1] g, float[4,8,2,3] s, float[4] o, float[8,8,3,3] m, float[6,8,3,3] e,"
    " float[5,6,1,1] h> { c = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, w) r = Relu(c) t = Conv<pads=[3,2,3,2], dilations=[3,2]>(r, a) u = Add(r, t) f = Relu(u)"
    " q = Conv<group=8, strides=[2,1], pads=[2,3,2,3], dilations=[2,3]>(f, d) p = Relu(q) k = Conv<group=2, pads=[4,0,4,0], dilations=[4,7]>(p, g) z = Sigmoid(k)"
    " i = Conv<pads=[2,2,0,2], dilations=[2,2]>(z, s, o) l = Concat<axis=1>(i, i) j = Conv<pads=[2,2,2,2], dilations=[2,2]>(l, m) b = MaxPool<kernel_shape=[2,2]>(j) v = Relu(b)"
    " n = Conv<pads=[5,5,5,5], dilations=[5,5]>(v, e) aa = Relu(n) bb = GlobalAveragePool(aa) y = Conv(bb, h) }")


def samples(count: int = 32) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, 3, 13, 11)).astype(np.float32)


@pytest.mark.parametrize("target", ["generic", "cpu"])
def test_integers_are_equal(target: str) -> None:
    verdict = judge(NET, samples(), target)
    assert verdict.passed, verdict.text


@pytest.mark.parametrize("target, bits", [("generic", 8), ("generic", 4), ("cpu", 8)])
def test_the_deployment_form_computes_them(target: str, bits: int) -> None:
    result = quantize_model(NET, samples=samples(), target=target, qparams=QuantizationParams(weight_bits=bits, activation_bits=bits))
    check(result.model, {"x": samples(4)})
    weights = {n.name: n for n in quantized_nodes(result.model)}
    assert {b.name: b.dilations for b in result.program.blocks if b.dilations != (1, 1)} == {
        name: tuple(next(a.ints for a in weights[name].attribute if a.name == "dilations")) for name in ("c", "t", "q", "k", "i", "j", "n")}
    assert next(b.dilations for b in result.program.blocks if b.name == "k") == (4, 1), "a single tap has no distance"


def test_hardware_gets_the_kernel_with_its_zeros() -> None:
    blocks = {b.name: b for b in survey_model(NET, target="akida2").blueprint.blocks}
    assert (blocks["t"].dilations, blocks["t"].weight.shape[2:]) == ((1, 1), (7, 5))
    far = network("(float[N,64,40,40] x) => (float[N] y) <float[512,64,1,1] v, float[512,512,3,3] w>"
                  " { c = Conv(x, v) r = Relu(c) y = Conv<pads=[18,18,18,18], dilations=[18,18]>(r, w) }")
    stop, = survey_model(far, target="akida2").blueprint.stops
    assert (stop.node, "lacks `dilation`" in stop.nearest) == ("y", True)
