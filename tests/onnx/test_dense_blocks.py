"""Pre-activation blocks, as DenseNet has them: a normalization that no convolution can take in becomes a depthwise one; the rest folds into it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantizeml_core.api import Result, quantize_model
from quantizeml_core.testing import differences
from quantizeml_onnx.testing import boundaries

RNG = np.random.default_rng(3)
WEIGHTS = {"w1": (4, 3, 3, 3), "w2": (4, 8, 1, 1), "k": (8, 1, 1), "b": (8, 1, 1)}
BODY = """
    i = BatchNormalization(x, g3, g3, z3, v3) c = Conv<pads=[1,1,1,1]>(i, w1) r = Relu(c) j = Concat<axis=1>(c, r)
    n = BatchNormalization(j, g8, b8, z8, v8) m = Mul(n, k) a = Add(m, b) s = Relu(a) y = Conv(s, w2)
"""


def model() -> onnx.ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {BODY} }}')
    arrays = {name: RNG.normal(size=shape) for name, shape in WEIGHTS.items()}
    for size in (3, 8):
        arrays |= {f"g{size}": RNG.normal(1, 0.3, size), f"b{size}": RNG.normal(size=size), f"z{size}": RNG.normal(size=size), f"v{size}": np.full(size, 2.0)}
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items())
    return made


@pytest.fixture(scope="module")
def result() -> Result:
    return quantize_model(model(), samples=RNG.normal(size=(64, 3, 8, 8)).astype(np.float32))


def test_it_is_quantized_whole(result: Result) -> None:
    assert result.blueprint.stops == ()
    assert [b.kind for b in result.program.blocks] == ["input", "conv2d", "depthwise2d", "concat", "depthwise2d", "conv2d"]
    assert "depthwise_normalization" in {c.rewrite for c in result.changes if not c.refused}


def test_the_normalization_of_the_input_is_folded_into_its_scale(result: Result) -> None:
    assert result.program.blocks[0].inputs == ("x",) and result.program.blocks[1].kind == "conv2d"


def test_integers_are_equal(result: Result) -> None:
    x = RNG.normal(size=(9, 3, 8, 8)).astype(np.float32)
    assert differences(result.program, {"x": x}, lambda feeds: boundaries(result.model, feeds)) == ()
