"""The zoo's network with planted causes of loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, parser

from benchmarks.noise import outputs, without_softmax
from benchmarks.zoo.images import samples
from benchmarks.zoo.imbalanced import CAUSES, model


def test_depthwise_channels_are_loud_and_outputs_are_level(tmp_path: Path) -> None:
    made = model(64)
    depthwise = next(n for n in made.graph.node if n.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in n.attribute))
    made.graph.output.append(helper.make_empty_tensor_value_info(depthwise.output[0]))
    onnx.save(made, tmp_path / "net.onnx")
    scores, wide = outputs(tmp_path / "net.onnx", samples(made, 4))
    reach = np.abs(wide).max(axis=(0, 2, 3))
    assert reach.max() > 6 * np.median(reach) and 0.3 < np.sqrt(np.mean(scores**2)) < 3.0


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_can_be_left_out(cause: str) -> None:
    assert model(32, cause).SerializeToString() != model(32).SerializeToString()


def test_a_softmax_at_the_end_is_cut() -> None:
    net = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,3] y) { a = Relu(x) y = Softmax(a) }')
    cut = without_softmax(net)
    assert [o.name for o in cut.graph.output] == ["a"] and [n.op_type for n in cut.graph.node] == ["Relu"]
