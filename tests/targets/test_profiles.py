"""Targets are data: JSON round trip, and the figures the documents state for bits, axes and accumulators."""

from __future__ import annotations

import json

import pytest
from quantizeml_akida1.profile import AKIDA1
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.builtin import GENERIC
from quantizeml_core.errors import UsageError
from quantizeml_core.target import CAPABILITIES, Target

TARGETS = {target.name: target for target in (GENERIC, AKIDA1, AKIDA2)}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_json_round_trip(target: Target) -> None:
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_defaults_are_allowed(target: Target) -> None:
    assert target.defaults["weight_bits"] in target.weight_bits
    assert target.defaults["input_weight_bits"] in target.input_weight_bits
    assert target.defaults["activation_bits"] in target.activation_bits
    assert target.defaults["per_tensor_activations"] or target.per_axis_activations


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_capabilities_are_known(target: Target) -> None:
    assert target.capabilities <= set(CAPABILITIES)


@pytest.mark.parametrize(("name", "field", "expected"), [
    ("akida1", "weight_bits", (2, 4)),
    ("akida1", "input_weight_bits", (8,)),
    ("akida1", "activation_bits", (1, 2, 4)),
    ("akida1", "per_axis_activations", False),
    ("akida1", "bias_mantissa_bits", 8),
    ("akida2", "weight_bits", (4, 8)),
    ("akida2", "activation_bits", (4, 8)),
    ("akida2", "per_axis_activations", True),
    ("akida2", "bias_mantissa_bits", 8),
    ("generic", "bias_mantissa_bits", None),
])
def test_hardware_facts(name: str, field: str, expected: object) -> None:
    assert getattr(TARGETS[name], field) == expected


@pytest.mark.parametrize(("kind", "bits"), [("input_conv2d", 32), ("conv2d", 28), ("depthwise2d", 28), ("dense", 28), ("add", 32)])
def test_akida2_accumulators(kind: str, bits: int) -> None:
    assert AKIDA2.accumulator_bits[kind] == bits


@pytest.mark.parametrize(("change", "message"), [
    ({"colour": "red"}, "unknown field colour"),
    ({"weight_bits": None}, "fields are missing: .*weight_bits"),
    ({"defaults": {"weight_bits": 8}}, "defaults are given for weight_bits"),
])
def test_a_bad_profile_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    data = {key: value for key, value in {**GENERIC.to_json(), **change}.items() if value is not None or key not in change}
    with pytest.raises(UsageError, match=message):
        Target.from_json(data)


def test_a_target_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        AKIDA2.defaults["weight_bits"] = 4  # type: ignore[index]
