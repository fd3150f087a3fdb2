"""An encoder and decoder with a gate, averages, a transposed convolution and an upsampling: quantized whole, equal in onnxruntime, close to float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantizeml_core.api import quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries

RNG = np.random.default_rng(5)
WEIGHTS = {
    "w1": (6, 3, 3, 3), "w2": (6, 6, 1, 1), "g1": (3, 6, 1, 1), "g2": (6, 3, 1, 1), "wt": (6, 4, 2, 2), "w3": (4, 4, 3, 3), "w4": (2, 10, 1, 1),
}
BODY = """
    c = Conv<pads=[1,1,1,1]>(x, w1) a = HardSwish(c) m = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)
    e = Conv(m, w2) p = GlobalAveragePool(e) q = Conv(p, g1) r = Relu(q) s = Conv(r, g2) gate = Sigmoid(s) k = Mul(e, gate) sum = Add(k, m)
    t = ConvTranspose<strides=[2,2]>(sum, wt) u = Elu(t) v = Conv<pads=[1,1,1,1]>(u, w3) n = Tanh(v)
    up = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(sum, , f) j = Concat<axis=1>(n, up) y = Conv(j, w4)
"""


def _model() -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : 18]> g (float[N,3,8,8] x) => (float[N,2,8,8] y) {{ {BODY} }}'
    model = onnx.parser.parse_model(text)
    arrays = {name: RNG.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:])) for name, shape in WEIGHTS.items()} | {"f": np.array([1, 1, 2, 2])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items())
    return model


def _images(count: int) -> np.ndarray:
    return RNG.normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_a_decoder_is_quantized_whole(per_tensor: bool) -> None:
    model, x = _model(), _images(32)
    result = quantize_model(model, samples=_images(256), qparams=QuantizationParams(per_tensor_activations=per_tensor))
    (exact,), (got,) = (session(m.SerializeToString()).run(None, {"x": x}) for m in (model, result.model))

    assert result.blueprint.stops == () and result.blueprint.coverage.macs == result.blueprint.coverage.total_macs
    assert differences(result.program, {"x": x}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert 10 * np.log10(np.square(exact).sum() / np.square(exact - got).sum()) > 26  # the 8-bit input and first layer alone leave 33 to 34 dB


@pytest.mark.parametrize("target", ["akida1", "akida2"])
def test_hardware_without_these_blocks_says_so(target: str) -> None:
    result = quantize_model(_model(), samples=_images(16), target=target)
    assert result.blueprint.stops and all("lacks `" in stop.nearest for stop in result.blueprint.stops[:1])
    assert {b.kind for b in result.program.blocks} <= {"input", "conv2d", "depthwise2d", "dense", "add", "concat"}
