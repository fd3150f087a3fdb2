"""LRN in ONNX: integers exact in onnxruntime whatever its strength, faithful to the float network, refused with a reason where there is no integer form."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_text import feeds, network

from quantizeml_core.api import quantize_model
from quantizeml_core.errors import ModelError
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries


def net(attributes: str, between: str = "Relu (a)", behind: str = "y = Conv (l, v)") -> str:
    return f"(float[N,3,8,8] x) => (float[N,6,4,4] y) <float[12,3,3,3] w, float[6,12,3,3] v> {{ a = Conv (x, w) r = {between} l = LRN <{attributes}> (r) {behind} }}"


@pytest.mark.parametrize(("attributes", "between", "levels"), [
    ("size = 5", "Relu (a)", "1"), ("size = 3, alpha = 0.5, bias = 2.0", "Relu (a)", "1"), ("size = 5, alpha = 20.0", "Relu (a)", "3"),
    ("size = 15, alpha = 200.0, bias = 0.5", "Identity (a)", "4"), ("size = 1, alpha = 1.0", "Relu (a)", "2"),
])
def test_each_strength_is_exact_and_faithful(attributes: str, between: str, levels: str) -> None:
    model = network(net(attributes, between))
    samples = feeds(model)
    result = quantize_model(model, samples=samples)
    _, conv, normalization, _ = result.program.blocks
    assert not result.blueprint.stops and normalization.kind == "local_response" and conv.activation is None
    assert normalization.arrays.get("offset", np.zeros(1)).tolist() == [128 if between == "Relu (a)" else 0], "the ReLU is left to saturation"
    assert differences(result.program, samples, lambda f: boundaries(result.model, f)) == ()
    assert next(f.overload for f in result.model.functions if f.name.startswith("QuantizedLocalResponse")).split("l")[1][0] == levels
    real, got = (session(m.SerializeToString()).run(None, samples)[0] for m in (model, result.model))
    assert decibels(real, got) > 30


def test_an_activation_behind_it_is_fused() -> None:
    model = network(net("size = 5", "Identity (a)", "k = Relu (l) y = Conv (k, v)"))
    result = quantize_model(model, samples=feeds(model))
    assert [b.kind for b in result.program.blocks] == ["input", "conv2d", "local_response", "conv2d"]
    assert differences(result.program, feeds(model), lambda f: boundaries(result.model, f)) == ()


@pytest.mark.parametrize(("attributes", "reason"), [
    ("size = 5, beta = 0.5", "its exponent is 0.5, only 0.75 has an integer form"),
    ("size = 5, alpha = -1.0", "its alpha is -1 and its bias 1, both must be positive"),
    ("size = 2001", "it sums over 2001 channels, at most 255 are exact"),
])
def test_what_has_no_integer_form(attributes: str, reason: str) -> None:
    model = network(net(attributes))
    result = quantize_model(model, samples=feeds(model))
    assert reason in result.blueprint.stops[0].nearest


def test_akida_has_none() -> None:
    model = network(net("size = 5"))
    result = quantize_model(model, samples=feeds(model), target="akida2")
    assert "lacks `local_response`" in result.blueprint.stops[0].nearest


def test_one_unit_of_the_input_may_be_large() -> None:
    model = network(net("size = 5, alpha = 1.0"), w=1e3 * np.random.default_rng(0).normal(size=(12, 3, 3, 3)))
    with pytest.raises(ModelError, match="`l`: one unit of its input"):
        quantize_model(model, samples=feeds(model))


def test_a_configuration_of_equal_steps_for_each_channel() -> None:
    model = network(net("size = 5"))
    samples = feeds(model)
    name = quantize_model(model, samples=samples).program.blocks[1].name
    result = quantize_model(model, samples=samples, q_config={name: {"output_quantizer": {"axis": "per-axis", "floor": 1.0}}})
    assert result.program.blocks[2].arrays["offset"].tolist() == [128]
    assert differences(result.program, samples, lambda f: boundaries(result.model, f)) == ()
