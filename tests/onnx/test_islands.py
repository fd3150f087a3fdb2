"""Islands: quantization goes on behind operations that stay float, where it is worth it, and every region is exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_text import network

from quantizeml_core import api
from quantizeml_core.api import Result, check_model, prove, quantize_model
from quantizeml_core.errors import ModelError
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx import readback
from quantizeml_onnx.frontend import OnnxFrontend
from quantizeml_onnx.observe import session
from quantizeml_onnx.realize import from_program
from quantizeml_onnx.testing import boundaries, judge

HEAD = "(float[N,3,8,8] x) => "
WEIGHTS = "<float[4,3,3,3] w, float[6,4,3,3] v, float[6,6,3,3] u, float[5,6] d>"
LRN = "l = LRN <beta = 0.5, size = 3> (r) "

ONE = HEAD + f"(float[N,5] y) {WEIGHTS} {{ c = Conv (x, w) r = Relu (c) {LRN} k = Conv (l, v) s = Relu (k) p = GlobalAveragePool (s)" \
    " f = Flatten (p) y = Gemm <transB = 1> (f, d) }"
TWO = HEAD + f"(float[N,6,2,2] y) {WEIGHTS} {{ c = Conv (x, w) r = Relu (c) {LRN} k = Conv (l, v) e = Erf (k) y = Conv (e, u) }}"
JOIN = HEAD + f"(float[N,6,4,4] y, float[N,4,6,6] l) {WEIGHTS} {{ c = Conv (x, w) r = Relu (c) {LRN} a = Add (r, l) y = Conv (a, v) }}"
TAIL = HEAD + f"(float[N,4,6,6] y) {WEIGHTS} {{ c = Conv (x, w) r = Relu (c) {LRN} m = Relu (l) y = MaxPool <kernel_shape = [1,1]> (m) }}"
ENTRY = HEAD + f"(float[N,4,6,6] y) {WEIGHTS} {{ s = Erf (x) y = Conv (s, w) }}"
FUSED = HEAD + "(float[N,5] y) <float[4,3,3,3] w, float[4,5] d> { c = Conv (x, w) r = Relu (c)" \
    ' s = Constant <value_floats = [1.0, 1.0, 0.16666667, 0.16666667]> () m = Resize <mode = "linear"> (r, , s) f = Flatten (m) y = Gemm (f, d) }'
TABLE = HEAD + f"(float[N,6,4,4] y) {WEIGHTS} {{ c = Conv (x, w) r = Relu (c) {LRN} s = Sigmoid (l) y = Conv (s, v) }}"
SOFTMAX = HEAD + f"(float[N,6,2,2] y) {WEIGHTS} {{ c = Conv (x, w) m = Softmax <axis = 1> (c) k = Conv (m, v) e = Erf (k) y = Conv (e, u) }}"
REGIONS = {"a softmax in a file of opset 17": SOFTMAX, "a table first": TABLE, "one": ONE, "two": TWO, "join": JOIN, "entry": ENTRY, "an operation that onnxruntime would fuse": FUSED}


def samples(count: int = 16) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3, 8, 8)).astype(np.float32)


def quantized(text: str, **settings: object) -> Result:
    return quantize_model(network(text), samples=samples(), islands=True, **settings)


@pytest.fixture(scope="module")
def one() -> Result:
    return quantized(ONE)


@pytest.mark.parametrize("name", REGIONS)
def test_each_region_is_exact_and_the_network_faithful(name: str) -> None:
    result, feeds = quantized(REGIONS[name]), {"x": samples()}
    onnx.checker.check_model(result.model, full_check=True)
    assert differences(result.program, feeds, lambda f: boundaries(result.model, f)) == ()
    real, got = (session(m.SerializeToString()).run(["y"], feeds)[0] for m in (network(REGIONS[name]), result.model))
    assert decibels(real, got) > 30
    assert np.array_equal(got, result.program.predict({**feeds, **OnnxFrontend().resumed(result.model, feeds)})["y"])


@pytest.mark.parametrize(("name", "resumed", "macs"), [("one", ("l",), 1), ("two", ("l", "e"), 1), ("join", ("l",), 1), ("entry", ("s",), 1)])
def test_where_quantization_goes_on(name: str, resumed: tuple[str, ...], macs: float) -> None:
    result = quantized(REGIONS[name])
    assert result.program.resumed == resumed
    assert result.blueprint.coverage.macs == macs * result.blueprint.coverage.total_macs


def test_what_is_left_out_is_told(one: Result) -> None:
    assert [(s.op, s.island) for s in one.blueprint.stops] == [("LRN", True)]
    assert one.warnings[0].startswith("Quantization left out `l` (LRN): no rule covers it.")


def test_without_islands_nothing_changes() -> None:
    result = quantize_model(network(ONE), samples=samples())
    assert not result.program.resumed and result.blueprint.outputs == ("r",)


def test_a_lone_activation_is_not_worth_a_quantizer() -> None:
    result = quantized(TAIL)
    assert not result.program.resumed and [b.name for b in result.program.blocks] == ["quantize", "c"]
    assert [s.island for s in result.blueprint.stops] == [False]


def test_nothing_is_resumed_behind_the_requested_end() -> None:
    result = quantized(TWO, quantize_until="k")
    assert result.program.resumed == ("l",) and "e" not in result.program.shapes


def test_strict_refuses_islands_too() -> None:
    with pytest.raises(ModelError, match="--strict: Quantization left out `l`"):
        quantized(ONE, strict=True)


@pytest.mark.parametrize("name", REGIONS)
def test_the_file_gives_the_program_back(name: str) -> None:
    result = quantized(REGIONS[name])
    read = readback.program(result.model)
    assert read is not None
    assert (read.outputs, read.resumed, read.shapes) == (result.program.outputs, result.program.resumed, result.program.shapes)
    feeds = {"x": samples(), **OnnxFrontend().resumed(result.model, {"x": samples()})}
    assert all(np.array_equal(a, b) for a, b in zip(read.run(feeds).values(), result.program.run(feeds).values(), strict=True))


def test_each_dequantizer_stands_behind_its_integers(one: Result) -> None:
    assert [n.op_type.removeprefix("Quantized") for n in one.model.graph.node] == [
        "InputQuantizer", "InputConv2DBiasedReLUScaled", "Dequantizer", "LRN", "ResumeQuantizer", "InputConv2DBiasedGlobalAvgPoolReLUScaled",
        "Dense1DFlattenBiased", "Dequantizer",
    ]


def test_checks_see_every_region(one: Result) -> None:
    assert {"k"} <= {p.block for p in prove(one.model, samples=samples()) if p.observed}
    loud = quantize_model(network(ONE), samples=samples() / 100, islands=True).model
    assert {"c", "k"} <= {f.block for f in check_model(loud, samples=samples()) if f.code == "QML102"}


def test_an_island_is_told_not_to_convert() -> None:
    found = {(f.block, f.message) for f in quantized(ONE, target="akida2").findings if f.code == "QML201"}
    assert ("l/quantize", "a tensor from float operations is not in the converter's contract") in found


def test_a_configuration_reaches_every_region(one: Result) -> None:
    config = {"k": {"weight_quantizer": {"bitwidth": 4}}}
    again = quantize_model(network(ONE), samples=samples(), islands=True, q_config=config)
    assert again.plan.layers["k"].weight_bits == 4 and again.plan.layers["c"].weight_bits == 8
    assert "l/quantize" in api.dump_config(one.model)


def test_calibrating_again_keeps_the_islands(one: Result) -> None:
    assert api.calibrate(network(ONE), one.model, samples=samples()).program.to_json() == one.program.to_json()


def test_the_first_layer_is_the_models_own() -> None:
    plan = quantized(ONE, qparams=QuantizationParams(weight_bits=4)).plan
    assert [plan.layers[n].weight_bits for n in ("c", "k", "y")] == [8, 4, 4]


def test_a_program_alone_is_no_model(one: Result) -> None:
    with pytest.raises(ModelError, match="does not hold the float operations before `l`"):
        from_program(one.program)


def test_the_parity_kit_judges_islands() -> None:
    verdict = judge(network(ONE), samples(), islands=True)
    assert not verdict.mismatches and not verdict.unfaithful and len(verdict.left) == 1


def test_the_same_bytes_twice(one: Result) -> None:
    assert quantized(ONE).model.SerializeToString() == one.model.SerializeToString()
