"""`quantize_model` through the ONNX frontend: hard numbers, several inputs and outputs, partial quantization, refusals before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from quantizeml_core.api import Result, check_model, dump_config, quantize_model
from quantizeml_core.errors import ModelError, SampleError, UsageError
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_onnx import contract, emit
from quantizeml_onnx.body import Body
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries

RNG = np.random.default_rng(5)
NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,6,6] x) => (float[N,4] y) <float[5,3,3,3] w, float[5] b, float[4,180] h, float[4] c> {
  a = Conv <pads = [1,1,1,1]> (x, w, b)  r = Relu (a)  f = Flatten (r)  y = Gemm <transB = 1> (f, h, c) }"""


def model(text: str = NET, **arrays: np.ndarray) -> onnx.ModelProto:
    """ONNX text with its typed initializers given seeded or special values."""
    proto = parser.parse_model(text)
    for info in proto.graph.value_info:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        value = arrays.get(info.name, RNG.normal(size=shape) * 0.3).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
    del proto.graph.value_info[:]
    return proto


def samples(count: int = 16, shape: tuple[int, ...] = (3, 6, 6)) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


def sqnr(proto: onnx.ModelProto, result: Result, x: np.ndarray) -> float:
    feeds = {proto.graph.input[0].name: x}
    floats, integers = (session(m.SerializeToString()).run(None, feeds)[0].astype(np.float64) for m in (proto, result.model))
    return float(10 * np.log10((floats**2).sum() / ((floats - integers) ** 2).sum()))


@pytest.mark.parametrize("case", ["plain", "constant zero channel", "all negative", "far from zero", "one sample", "whole pixels", "zero filter", "huge bias"])
def test_hard_numbers_give_a_correct_model(case: str) -> None:
    """30 dB: what 8 bits leave; 6 dB less after one sample, whose ranges leave as much room again for what others may hold (numerics, section 20)."""
    x, arrays = samples(), {}
    if case == "constant zero channel":
        x[:, 1] = 0
    elif case == "all negative":
        x = -np.abs(x) - 1
    elif case == "far from zero":
        x = x + 100
    elif case == "one sample":
        x = x[:1]
    elif case == "whole pixels":
        x = np.random.default_rng(2).integers(0, 256, x.shape).astype(np.float32)
    elif case == "zero filter":
        arrays["w"] = RNG.normal(size=(5, 3, 3, 3)) * np.array([1, 1, 0, 1, 1]).reshape(-1, 1, 1, 1)
    elif case == "huge bias":
        arrays["b"] = np.array([0, 1e4, 0, -1e4, 0])
    proto = model(**arrays)
    result = quantize_model(proto, samples=x)
    assert sqnr(proto, result, x) > (24 if case == "one sample" else 30)
    assert differences(result.program, {"x": x}, lambda feeds: boundaries(result.model, feeds)) == ()


@pytest.mark.parametrize(("bad", "message"), [
    (np.full((2, 3, 6, 6), np.nan, np.float32), "holds nan"),
    (np.zeros((0, 3, 6, 6), np.float32), "holds no sample"),
    (samples(shape=(6, 6, 3)), "channel-last, the model takes channel-first"),
    (samples(shape=(3, 5, 5)), r"shape \(3, 5, 5\).*Allowed: \(3, 6, 6\)"),
    (np.full((2, 3, 6, 6), "a"), "Allowed: integers or floats"),
])
def test_bad_samples_are_one_clear_error(bad: np.ndarray, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        quantize_model(model(), samples=bad)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"target": "akida9"}, "no target is called `akida9`.*Allowed: .*generic"),
    ({"target": "akida1", "qparams": QuantizationParams(weight_bits=8)}, "8 bits are not possible on target `akida1`.*Allowed: 2, 4"),
    ({"qparams": QuantizationParams(weight_bits=1)}, "1 bits are not possible"),
    ({"target": "akida1", "qparams": QuantizationParams(per_tensor_activations=False)}, "one scale for all channels"),
])
def test_contradictions_are_refused_before_samples_are_touched(arguments: dict[str, Any], message: str) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("samples were touched")

    with pytest.raises(UsageError, match=message):
        quantize_model(model(), samples=Untouchable(), **arguments)


def test_a_quantized_model_is_not_quantized_again() -> None:
    with pytest.raises(ModelError, match="quantized already"):
        quantize_model(quantize_model(model(), samples=samples()).model, samples=samples())


def test_a_configuration_is_dumped_edited_and_given_back() -> None:
    config = dump_config(quantize_model(model(), samples=samples()).model)
    name = next(n for n in config if "weight_quantizer" in config[n])
    config[name]["weight_quantizer"]["bitwidth"] = 4
    result = quantize_model(model(), samples=samples(), q_config=config)
    weight = next(b for b in result.program.blocks if b.name == name).arrays["weight"]
    assert np.abs(weight).max() <= 7 and dump_config(result.model) == config


def test_bits_of_a_configuration_obey_the_target() -> None:
    name = list(dump_config(quantize_model(model(), samples=samples()).model))[1]
    with pytest.raises(UsageError, match="2-bit weights.*Allowed: 4, 8"):
        quantize_model(model(), samples=samples(), q_config={name: {"weight_quantizer": {"bitwidth": 2}}}, target="akida2")


PARTIAL = NET.replace("y = Gemm <transB = 1> (f, h, c)", "s = Erf (f)  y = Gemm <transB = 1> (s, h, c)")


def test_what_stays_float_is_the_original_behind_a_dequantizer() -> None:
    proto = model(PARTIAL)
    result = quantize_model(proto, samples=samples())
    assert "stopped before `f` (Flatten)" in result.warnings[0]
    assert [n.op_type for n in result.model.graph.node][-4:] == ["Dequantizer", "Flatten", "Erf", "Gemm"]
    assert sqnr(proto, result, samples()) > 35


def test_strict_makes_it_an_error() -> None:
    with pytest.raises(ModelError, match="--strict: Quantization stopped before"):
        quantize_model(model(PARTIAL), samples=samples(), strict=True)


def test_quantize_until_stops_there_without_a_warning() -> None:
    result = quantize_model(model(), samples=samples(), quantize_until="r")
    assert result.blueprint.outputs == ("r",) and not [w for w in result.warnings if "stopped" in w]


def test_nothing_to_quantize_says_why() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,3] y) { y = Erf (x) }"""
    with pytest.raises(ModelError, match="no layer can be quantized.*Erf"):
        quantize_model(parser.parse_model(text), samples=samples(shape=(3,)))


TWO = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,6,6] x, float[N,3,6,6] z) => (float[N,4,6,6] y, float[N,4,6,6] t) <float[4,3,1,1] v, float[4,3,3,3] w> {
  a = Conv (x, v)  b = Conv <pads = [1,1,1,1]> (z, w)  y = Add (a, b)  t = Relu (b) }"""


def test_several_inputs_and_outputs() -> None:
    proto = model(TWO)
    feeds = {"x": samples(), "z": samples() * 2}
    result = quantize_model(proto, samples=feeds)
    assert differences(result.program, feeds, lambda f: boundaries(result.model, f)) == ()
    wanted, got = (session(m.SerializeToString()).run(["y", "t"], feeds) for m in (proto, result.model))
    assert all(10 * np.log10((w**2).sum() / ((w - g) ** 2).sum()) > 30 for w, g in zip(wanted, got, strict=True))


def test_check_tells_where_a_float_model_will_stop() -> None:
    assert [(f.code, f.severity) for f in check_model(model(PARTIAL))] == [("QML001", "warning")]


def test_check_counts_saturated_outputs() -> None:
    quantized = quantize_model(model(), samples=samples() / 100).model
    assert "QML102" in {f.code for f in check_model(quantized, samples=samples())}


@pytest.mark.parametrize("given", [{"input_shape": (3, 6, 6)}, {"samples": np.zeros((1, 3, 6, 6), np.float32)}], ids=["a shape", "samples"])
def test_check_takes_the_shape_that_a_model_leaves_open(given: dict[str, Any]) -> None:
    open_sizes = model(NET.replace("float[N,3,6,6] x", "float[N,3,H,W] x"))
    with pytest.raises(ModelError, match="--input_shape"):
        check_model(open_sizes)
    assert check_model(open_sizes, **given) == check_model(model())


def test_bodies_that_share_a_key_get_overloads_of_their_own() -> None:
    call, known = contract.Call("own", "Kind", ()), {}
    for lines, overload in ((("a",), "k"), (("b",), "k_2"), (("c",), "k_3"), (("b",), "k_2")):
        body = emit._of_its_own(Body("k", lines), call, known)
        known[call.domain, call.op_type, body.overload] = (call, body, ())
        assert (body.overload, body.lines) == (overload, lines)
