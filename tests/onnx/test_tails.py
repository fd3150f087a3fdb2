"""What onnxruntime's optimisations make of the float operations behind the integers: the same numbers as without them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_text import network

from quantizeml_core.api import quantize_model
from quantizeml_core.params import QuantizationParams
from quantizeml_onnx.deploy import deployed

IMAGE = "float[N,3,8,8] x"
TAILS = {
    "a transposition": (IMAGE, "float[6,3,3,3] w", "g = Conv(x, w) r = Transpose<perm=[0,2,3,1]>(g) y = Erf(r)"),
    "a reshape": (IMAGE, "float[6,3,3,3] w", "g = Conv(x, w) s = Constant<value_ints=[0,2,3,36]>() r = Reshape(g, s) y = Erf(r)"),
    "a squeeze": ("float[N,3,1,8] x", "float[6,3,1,3] w", "g = Conv(x, w) s = Constant<value_ints=[2]>() r = Squeeze(g, s) y = Erf(r)"),
    "a slice": (IMAGE, "float[6,3,3,3] w", "g = Conv(x, w) s = Constant<value_ints=[2,2]>() e = Constant<value_ints=[-1,5]>() a = Constant<value_ints=[0,2]>() r = Slice(g, s, e, a) y = Erf(r)"),
    "accumulators": (IMAGE, "float[12,192] w", "f = Flatten(x) g = Gemm<transB=1>(f, w) s = Constant<value_ints=[0,3,4]>() r = Reshape(g, s) y = Tanh(r)"),
    "accumulators of one filter": (IMAGE, "float[1,192] w", "f = Flatten(x) g = Gemm<transB=1>(f, w) s = Constant<value_ints=[0]>() r = Unsqueeze(g, s) y = Tanh(r)"),
    "two tensors": (IMAGE, "float[6,3,3,3] w, float[1,192] v", "g = Conv(x, w) r = Transpose<perm=[0,2,3,1]>(g) y = Erf(r) f = Flatten(x) h = Gemm<transB=1>(f, v) s = Constant<value_ints=[0]>()"
                    " q = Unsqueeze(h, s) z = Tanh(q)"),
}


def outputs(model: onnx.ModelProto, x: np.ndarray, level: onnxruntime.GraphOptimizationLevel) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.mark.parametrize("one_step", [False, True], ids=["a step for each channel", "one step"])
@pytest.mark.parametrize("tail", TAILS)
def test_optimisations_change_nothing(tail: str, one_step: bool) -> None:
    entry, weights, body = TAILS[tail]
    model = network(f"({entry}) => (float[N] y{', float[N] z' if 'z =' in body else ''}) <{weights}> {{ {body} }}")
    x = np.random.default_rng(0).normal(size=(16, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]))).astype(np.float32)
    made = quantize_model(model, samples=x, qparams=QuantizationParams(per_tensor_activations=one_step)).model
    for form in (made, deployed(made)):
        plain, optimised = (outputs(form, x, level) for level in (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL))
        for a, b in zip(plain, optimised, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)  # onnxruntime's Erf and Tanh in vectors and one by one
