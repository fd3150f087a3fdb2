"""Targets are data: JSON round trip, and the figures the documents state for bits, axes and accumulators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from quantizeml_akida1.profile import AKIDA1, AKIDA1_2023, AKIDA1_PRE_PRODUCTION
from quantizeml_akida2.profile import AKIDA2, AKIDA2_2023

from quantizeml_core.builtin import CPU, GENERIC
from quantizeml_core.errors import UsageError
from quantizeml_core.plugins import Registry
from quantizeml_core.target import CAPABILITIES, Target

EDITIONS = {f"{t.name}@{t.revision}": t for t in (AKIDA1, AKIDA1_2023, AKIDA1_PRE_PRODUCTION, AKIDA2, AKIDA2_2023)}
TARGETS = {target.name: target for target in (GENERIC, CPU, AKIDA1, AKIDA2)}


@pytest.mark.parametrize("target", [*TARGETS.values(), *EDITIONS.values()], ids=[*TARGETS, *EDITIONS])
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


@pytest.mark.parametrize("target", EDITIONS.values(), ids=EDITIONS)
def test_every_row_names_its_document(target: Target) -> None:
    assert all(row.source.startswith("https://") and row.revision for row in target.limits)


@pytest.mark.parametrize("target", EDITIONS.values(), ids=EDITIONS)
def test_rows_and_widths_agree(target: Target) -> None:
    rows = {layer: target.limit(layer, "weight_bits") for layer in ("conv2d", "depthwise2d", "dense")}
    assert all(set(target.weight_bits) & set(bits) for bits in rows.values() if bits)
    assert all(target.accumulator_bits[row.layer] == row.value for row in target.limits
               if row.rule == "accumulator_bits" and row.layer in target.accumulator_bits)


@pytest.mark.parametrize(("edition", "layer", "rule", "value"), [
    ("akida1", "input_conv2d", "second_axis", (5, 256)),
    ("akida1", "input_conv2d", "max_pool", ((1, 2, 1, 2), (2, 1, 2, 1), (2, 2, 2, 2))),
    ("akida1@2023", "input_conv2d", "weight_bits", (1, 2, 4, 8)),
    ("akida1@2023", "conv2d", "max_channels", None),
    ("akida1", "conv2d", "kernel_strides", ((1, (1,)), (3, (1, 2)), (5, (1,)), (7, (1,)))),
    ("akida1", "dense", "max_inputs", 57334),
    ("akida1@pre-production", "dense", "max_inputs", 81920),
    ("akida1@pre-production", "input_conv2d", "padding", None),
    ("akida2", "input_conv2d", "second_axis", (5, 384)),
    ("akida2", "input_conv2d", "kernel_strides", ((3, (1, 2, 3)), (4, (1, 2, 3, 4)), (5, (1, 2, 3, 4, 5)), (7, (1, 2, 3, 4, 5, 6)))),
    ("akida2", "conv2d", "gap_area_below", 144),
    ("akida2@2023", "conv2d", "gap_area_below", None),
    ("akida2@2023", "conv2d", "weight_bits", (8,)),
    ("akida2", "conv_transpose2d", "kernel_strides", ((3, (2,)), (4, (2,)))),
    ("akida2", "buffer_temp_conv", "fifo_size", (2, 10)),
    ("akida2", "add", "accumulator_bits", 32),
])
def test_table_values(edition: str, layer: str, rule: str, value: object) -> None:
    assert Registry.load().target(edition).limit(layer, rule) == value


def test_the_first_edition_answers_to_its_revision_too() -> None:
    assert Registry.load().target("akida2@2025") == AKIDA2


def test_a_target_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my_chip.json"
    path.write_text(json.dumps({**AKIDA2.to_json(), "name": "my_chip"}), encoding="utf-8")
    assert Registry.load().target(str(path)) == replace(AKIDA2, name="my_chip")


@pytest.mark.parametrize(("text", "message"), [
    ("{", "line 1, column 2"),
    ("[]", "is not a JSON object"),
    ("{}", "fields are missing"),
    (json.dumps({**GENERIC.to_json(), "limits": [{"layer": "conv2d", "rule": "colour", "value": 1, "source": "", "revision": ""}]}), "no rule `colour`"),
    (json.dumps({**GENERIC.to_json(), "limits": [{"layer": "conv2d"}]}), "a row cannot be read"),
])
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chip.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        Registry.load().target(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Registry.load().target(str(tmp_path / "none.json"))
