"""A ConvNeXt as torch exports one: channels-last stretches between transpositions, LayerNormalization, Linear as MatMul, a layer scale."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from quantizeml_core.api import Result, check_model, quantize_model
from quantizeml_core.testing import differences
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries

CONVNEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,32,32] x) => (float[N,5] y)
  <float[16,3,4,4] ws, float[16] g0, float[16] b0, float[16,1,7,7] wd, float[16] bd, float[16] g1, float[16] b1, float[16,64] w1, float[64] c1,
   float[64,16] w2, float[16] c2, float[16,1,1] scale, float[16] g2, float[16] b2, float[5,16] h, float[5] c> {
  s = Conv <strides = [4,4]> (x, ws)
  s1 = Transpose <perm = [0,2,3,1]> (s)  s2 = LayerNormalization <axis = -1, epsilon = 0.000001> (s1, g0, b0)  s3 = Transpose <perm = [0,3,1,2]> (s2)
  d = Conv <group = 16, pads = [3,3,3,3]> (s3, wd, bd)
  d1 = Transpose <perm = [0,2,3,1]> (d)  d2 = LayerNormalization <axis = -1, epsilon = 0.000001> (d1, g1, b1)
  m = MatMul (d2, w1)  m1 = Add (c1, m)
  root = Constant <value_float = 1.4142135> ()  one = Constant <value_float = 1.0> ()  half = Constant <value_float = 0.5> ()
  e0 = Div (m1, root)  e1 = Erf (e0)  e2 = Add (e1, one)  e3 = Mul (m1, e2)  ge = Mul (e3, half)
  n = MatMul (ge, w2)  n1 = Add (c2, n)  n2 = Transpose <perm = [0,3,1,2]> (n1)
  n3 = Mul (scale, n2)  r = Add (n3, s3)
  p = GlobalAveragePool (r)
  p1 = Transpose <perm = [0,2,3,1]> (p)  p2 = LayerNormalization <axis = -1, epsilon = 0.000001> (p1, g2, b2)  p3 = Transpose <perm = [0,3,1,2]> (p2)
  q = Flatten (p3)  y = Gemm <transB = 1> (q, h, c) }"""


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    proto, rng = parser.parse_model(CONVNEXT), np.random.default_rng(5)
    for info in proto.graph.value_info:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        value = rng.uniform(0.5, 1.5, shape) if info.name.startswith("g") else rng.normal(size=shape) * 0.3
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return proto


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (32, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def result(net: onnx.ModelProto, x: np.ndarray) -> Result:
    return quantize_model(net, samples=x)


def test_the_whole_network_is_integer(result: Result) -> None:
    assert not result.blueprint.stops
    assert [b.kind for b in result.blueprint.blocks].count("normalize") == 3


def test_onnxruntime_computes_the_integers_of_the_program(result: Result, x: np.ndarray) -> None:
    assert differences(result.program, {"x": x[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_the_error_is_that_of_eight_bits(net: onnx.ModelProto, result: Result, x: np.ndarray) -> None:
    floats, integers = (session(m.SerializeToString()).run(None, {"x": x})[0].astype(np.float64) for m in (net, result.model))
    assert 10 * np.log10((floats**2).sum() / ((floats - integers) ** 2).sum()) > 30


def test_akida_says_that_it_has_none(net: onnx.ModelProto) -> None:
    assert any("lacks `normalize`" in f.message for f in check_model(net, target="akida2"))


def test_a_float_remainder_keeps_the_functions_it_calls(net: onnx.ModelProto, x: np.ndarray) -> None:
    """Found on the way: a Gelu behind the place where quantization stops was called and not defined."""
    partial = quantize_model(net, samples=x, target="akida2")
    assert partial.blueprint.stops and session(partial.model.SerializeToString()).run(None, {"x": x[:2]})[0].shape == (2, 5)


def test_gamma_and_beta_go_into_the_convolution_behind(result: Result) -> None:
    changes = [c.rewrite for c in result.changes if not c.refused]
    assert changes.count("merge_pointwise") == 1 and "channels_first" in changes
