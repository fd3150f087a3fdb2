"""The parity kit tells a rule that is right from one that is wrong, and says why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from quantizeml_core.blocks import Block
from quantizeml_core.match import Match, P, Rule, pattern_scope
from quantizeml_core.testing import Mismatch, Verdict
from quantizeml_onnx.testing import judge

NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w> {
  c = Conv <pads = [1,1,1,1]> (x, w)  y = Neg (c) }"""


def rule(factor: float) -> Rule:
    def build(match: Match) -> Block:
        weight = factor * np.eye(4, dtype=np.float32)[:, :, None, None]
        return Block("neg", "conv2d", match.inputs, match.output, arrays={"weight": weight})

    return Rule("neg", P("Neg"), build)


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    model = parser.parse_model(NET)
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    del model.graph.value_info[:]
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (32, 3, 8, 8)).astype(np.float32)


def test_a_right_rule_passes(net: onnx.ModelProto, pixels: np.ndarray) -> None:
    with pattern_scope(rule(-1)):
        verdict = judge(net, pixels)
    assert verdict.passed and verdict.text == "pass"


def test_a_wrong_rule_computes_something_else(net: onnx.ModelProto, pixels: np.ndarray) -> None:
    with pattern_scope(rule(1)):
        verdict = judge(net, pixels)
    assert not verdict.passed and verdict.text.startswith("`neg` is -6.0 dB over its error") and not verdict.mismatches


def test_a_missing_rule_leaves_the_operation(net: onnx.ModelProto, pixels: np.ndarray) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(net)
    other.graph.node[1].op_type = "Erf"
    assert "Erf" in judge(other, pixels).text


def test_a_wrong_integer_is_named() -> None:
    verdict = Verdict((Mismatch("conv", "1 of 9 integers differ", (0, 0, 1, 1), 3, 4),), ())
    assert verdict.text == "`conv`: 1 of 9 integers differ, first at (0, 0, 1, 1): 4 instead of 3"
