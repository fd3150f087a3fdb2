"""A float ONNX network full of what Akida 2.0 does not run: checked without samples, repaired exactly, quantized, and equal in onnxruntime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import parser
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.api import Result, check_model, quantize_model
from quantizeml_core.cli import build
from quantizeml_core.errors import ModelError
from quantizeml_core.params import QuantizationParams
from quantizeml_core.testing import differences
from quantizeml_onnx.testing import boundaries

NEARLY = """<ir_version: 8, opset_import: ["" : 17]>
nearly (float[N,3,16,16] x) => (float[N,6] y)
  <float[8,3,3,3] w0, float[8,8,2,2] w1, float[8,1,5,5] w2, float[8,2,3,3] w3, float[8,8,1,1] w4, float[6,24,1,1] w5, float[6,24] h, float[6] c> {
  a = Conv <pads = [1,1,1,1]> (x, w0)  ar = Relu (a)
  b = Conv <pads = [0,0,1,1]> (ar, w1)  br = Relu (b)
  d = Conv <group = 8, pads = [1,1,2,2], strides = [2,2]> (br, w2)  dr = Relu (d)
  e = Conv <group = 4, pads = [1,1,1,1]> (dr, w3)  er = Relu (e)
  f = Conv <strides = [2,2]> (ar, w4)  g = Add (er, f)  gr = Relu (g)
  k = Concat <axis = 1> (gr, f, dr)
  p = GlobalAveragePool (k)  q = Flatten (p)  y = Gemm <transB = 1> (q, h, c) }"""
REPAIRS = {"embed_kernel", "split_stride", "ungroup", "limit_fan_out", "concat_in_pairs", "identity_convolution"}
ILLEGAL = NEARLY.replace("float[8,8,2,2] w1", "float[8,8,9,9] w1").replace("<pads = [0,0,1,1]> (ar", "<pads = [4,4,4,4]> (ar")


def model(text: str = NEARLY) -> onnx.ModelProto:
    proto, rng = parser.parse_model(text), np.random.default_rng(5)
    for info in proto.graph.value_info:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        proto.graph.initializer.append(onnx.numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return proto


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(x: np.ndarray) -> Result:
    return quantize_model(model(), target="akida2", samples=x)


def run(*words: object) -> Any:
    return CliRunner().invoke(build(), [str(w) for w in words])


def test_every_broken_row_is_found_without_samples() -> None:
    found = check_model(model(), target="akida2")
    assert {(f.rule, f.fix) for f in found} == {("kernel_strides", "exact"), ("groups", "exact"), ("max_readers", "exact")}


def test_what_is_repaired_is_listed(fitted: Result) -> None:
    assert {c.rewrite for c in fitted.changes if not c.refused} >= REPAIRS


def test_the_repaired_network_is_legal(fitted: Result) -> None:
    assert [f for f in fitted.findings if f.severity == "error"] == [] and not fitted.blueprint.stops


def test_the_repaired_network_runs_the_same_integers_in_onnxruntime(fitted: Result, x: np.ndarray) -> None:
    assert differences(fitted.program, {"x": x[:8]}, lambda feeds: boundaries(fitted.model, feeds)) == ()


def test_repairs_change_no_integer(fitted: Result, x: np.ndarray) -> None:
    """Beside the same target without its tables, for which nothing is repaired."""
    bare = quantize_model(model(), samples=x, target=replace(AKIDA2, limits=()))
    repaired = fitted.program.run({"x": x})
    assert len(bare.program.blocks) < len(fitted.program.blocks)
    assert all(np.array_equal(value, repaired[tensor]) for tensor, value in bare.program.run({"x": x}).items())


def test_a_quantized_file_is_checked_by_the_same_rows(fitted: Result) -> None:
    assert [f.rule for f in check_model(fitted.model, target="akida2") if f.code == "QML301"] == []
    assert "followed_by" in {f.rule for f in check_model(fitted.model, target="akida1") if f.code == "QML301"}


def test_strict_refuses_what_cannot_be_repaired_before_any_sample(x: np.ndarray) -> None:
    with pytest.raises(ModelError, match="kernel_strides 9x9 stride 1, allowed 1x1 stride 1"):
        quantize_model(model(ILLEGAL), target="akida2", samples=x, strict=True)


SHIFTED = ILLEGAL.replace("float[8,8,9,9] w1", "float[8,8,7,7] w1").replace("<pads = [4,4,4,4]> (ar", "<pads = [2,3,4,3]> (ar")


def test_an_approximation_is_offered_with_its_effect_and_made_when_allowed(tmp_path: Path, x: np.ndarray) -> None:
    (offer,) = [f for f in check_model(model(SHIFTED), target="akida2") if f.severity == "error"]
    assert (offer.rule, offer.fix, offer.value) == ("padding", "approximate", "(2, 3, 4, 3) (top, left, bottom, right)")
    assert float(offer.hint.split("changes ")[1].split(" %")[0]) > 1
    made = quantize_model(model(SHIFTED), target="akida2", samples=x, approximate=True)
    assert [f.code for f in made.findings if f.severity in ("error", "warning")] == ["QML303"]
    assert differences(made.program, {"x": x[:4]}, lambda feeds: boundaries(made.model, feeds)) == ()


def test_what_lies_behind_a_stop_is_checked_too() -> None:
    text = ILLEGAL.replace("br = Relu (b)", "bx = Cos (b)  br = Relu (bx)").replace("float[8,1,5,5] w2", "float[8,1,9,9] w2")
    found = check_model(model(text.replace("pads = [1,1,2,2]", "pads = [3,3,4,4]")), target="akida2")
    assert {(f.code, f.block) for f in found if f.severity != "info"} == {("QML001", "bx"), ("QML301", "b"), ("QML301", "d")}


def test_check_fails_and_says_where_the_row_is_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(ILLEGAL), path)
    result = run("check", "-m", path, "--target", "akida2", "--json")
    (error,) = [f for f in json.loads(result.stdout) if f["severity"] == "error"]
    assert result.exit_code == 1
    assert (error["rule"], error["value"], error["fix"]) == ("kernel_strides", "9x9 stride 1", "manual") and error["source"].startswith("https://")


def test_a_profile_from_a_file_changes_what_is_legal(tmp_path: Path) -> None:
    path, chip = tmp_path / "net.onnx", tmp_path / "chip.json"
    onnx.save(model(ILLEGAL), path)
    data = json.loads(run("targets", "akida2", "--json").stdout)
    for row in data["limits"]:
        row["value"] = [*row["value"], [9, [1]]] if row["rule"] == "kernel_strides" else row["value"]
    chip.write_text(json.dumps({**data, "name": "wider"}), encoding="utf-8")
    assert run("check", "-m", path, "--target", chip).exit_code == 0


def test_the_overflow_proof_never_has_a_negative_margin(fitted: Result, tmp_path: Path) -> None:
    path = fitted.save(tmp_path / "q.onnx")
    proofs = json.loads(run("check", "-m", path, "--target", "akida2", "--proof", "--json").stdout)["accumulators"]
    assert len(proofs) > 8 and all(p["observed"] <= p["worst"] <= p["budget"] == p["worst"] + p["margin"] for p in proofs)


def test_weights_that_could_overflow_get_a_wider_step(x: np.ndarray) -> None:
    narrow = quantize_model(model(), samples=x, qparams=QuantizationParams(buffer_bits=16))
    widened = {f.block for f in narrow.findings if f.code == "QML106"}
    assert widened and not [f for f in narrow.findings if f.code == "QML101"]


def test_weights_without_a_bit_left_are_refused_by_name(x: np.ndarray) -> None:
    with pytest.raises(ModelError, match="`a`: its 8-bit weights could overflow 8 bits"):
        quantize_model(model(), samples=x, qparams=QuantizationParams(buffer_bits=8))


def test_the_maximum_of_a_single_channel_is_judged() -> None:
    """An identity in front of it moves one channel; its witness has two."""
    text = """<ir_version: 8, opset_import: ["" : 17]> one (float[N,1,8,8] x) => (float[N,4,7,7] y) <float[4,1,3,3] w> {
        p = MaxPool <kernel_shape = [2,2], pads = [1,1,1,1]> (x)  y = Conv (p, w) }"""
    gray = np.random.default_rng(1).integers(0, 256, (16, 1, 8, 8)).astype(np.float32)
    result = quantize_model(model(text), target="akida1", samples=gray)
    assert differences(result.program, {"x": gray}, lambda feeds: boundaries(result.model, feeds)) == ()
