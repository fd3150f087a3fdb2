"""The rewrite through a whole quantization: its kernel, equal integers in onnxruntime; and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantizeml_dilated.rewrite import ZEROS_BETWEEN_TAPS
from quantizeml_onnx.normalize import prepare
from quantizeml_onnx.rewrites import sanitize
from quantizeml_onnx.testing import boundaries, judge

from quantizeml_core.api import quantize_model
from quantizeml_core.hooks import Change
from quantizeml_core.testing import differences

PIXELS = np.random.default_rng(1).normal(size=(32, 4, 16, 16)).astype(np.float32)


def net(dilation: int, kernel: int = 3, stride: int = 1, group: int = 1) -> onnx.ModelProto:
    rng, pads = np.random.default_rng(0), [1, 2, 3, 2]
    weights = {"w": rng.normal(size=(8, 4 // group, kernel, kernel)), "b": rng.normal(size=8)}
    conv = helper.make_node("Conv", ["x", *weights], ["c"], "conv", dilations=[dilation] * 2, strides=[stride] * 2, pads=pads, group=group)
    shapes = {"x": ["N", 4, 16, 16], "y": ["N", 8, "H", "W"]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph([conv, helper.make_node("Relu", ["c"], ["y"], "relu")], "net", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("dilation", "kernel", "stride", "group"), [(2, 3, 1, 1), (3, 3, 2, 1), (2, 4, 1, 2), (6, 2, 1, 4)])
def test_the_integers_are_equal(dilation: int, kernel: int, stride: int, group: int) -> None:
    result = quantize_model(net(dilation, kernel, stride, group), samples=PIXELS)
    assert Change("zeros_between_taps", "conv") in result.changes
    block = next(b for b in result.program.blocks if b.name == "conv")
    size = (kernel - 1) * dilation + 1
    assert block.arrays["weight"].shape[2:] == (size, size)
    assert (block.strides, block.pads, block.groups) == ((stride, stride), (1, 2, 3, 2), group)
    assert differences(result.program, {"x": PIXELS[:8]}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_the_block_computes_what_the_dilated_convolution_did() -> None:
    verdict = judge(net(3), PIXELS)
    assert verdict.passed, verdict.text


@pytest.mark.parametrize(("dilation", "kernel", "words"), [(4, 3, "grow to 9x9"), (7, 2, "grow to 8x8")])
def test_a_kernel_that_would_be_too_large_is_refused(dilation: int, kernel: int, words: str) -> None:
    _, applied, (refused,) = sanitize(prepare(net(dilation, kernel)), (ZEROS_BETWEEN_TAPS,))
    assert not applied and (refused.rewrite, refused.node) == ("zeros_between_taps", "conv") and words in refused.reason


def test_what_is_not_dilated_alike_both_ways_is_left_alone() -> None:
    uneven = net(2)
    next(a for a in uneven.graph.node[0].attribute if a.name == "dilations").ints[1] = 1
    for model in (net(1), uneven):
        assert sanitize(prepare(model), (ZEROS_BETWEEN_TAPS,))[1:] == ((), ())
