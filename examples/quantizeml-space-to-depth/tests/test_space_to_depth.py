"""The rule against the parity kit: equal integers in onnxruntime, and the block computes what the operation did."""

import numpy as np
import onnx
import pytest
from onnx import parser
from quantizeml_onnx.testing import judge

from quantizeml_core.plugins import Registry

STEM = """<ir_version: 8, opset_import: ["" : 17]>
stem (float[N,3,16,16] x) => (float[N,10,1,1] y) <float[10,48,3,3] w> {
  s = SpaceToDepth <blocksize = 4> (x)  c = Conv <pads = [1,1,1,1]> (s, w)  r = Relu (c)  y = GlobalAveragePool (r) }"""


@pytest.fixture
def stem() -> onnx.ModelProto:
    model = parser.parse_model(STEM)
    weight = np.random.default_rng(0).normal(size=(10, 48, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    del model.graph.value_info[:]
    return model


def test_the_entry_point_is_found() -> None:
    assert any(plugin.name == "space_to_depth" and plugin.hooks for plugin in Registry.load().plugins)


def test_the_rule_passes_the_parity_kit(stem: onnx.ModelProto) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 3, 16, 16)).astype(np.float32)
    verdict = judge(stem, pixels)
    assert verdict.passed, verdict.text
