"""Parameters: what is unset takes the target's defaults, contradictions name the allowed set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quantizeml_akida1.profile import AKIDA1
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.builtin import GENERIC
from quantizeml_core.errors import UsageError
from quantizeml_core.params import QuantizationParams, resolve
from quantizeml_core.target import Target


@pytest.mark.parametrize(("target", "expected"), [
    (GENERIC, (8, 8, 8, False)), (AKIDA1, (8, 4, 4, True)), (AKIDA2, (8, 8, 8, False)),
], ids=["generic", "akida1", "akida2"])
def test_unset_takes_the_targets_defaults(target: Target, expected: tuple[int, int, int, bool]) -> None:
    full = resolve(None, target)
    assert (full.input_weight_bits, full.weight_bits, full.activation_bits, full.per_tensor_activations) == expected
    assert (full.output_bits, full.buffer_bits, full.input_dtype, full.last_output_bits) == (8, None, None, None)


@pytest.mark.parametrize(("target", "said", "message"), [
    (AKIDA1, {"weight_bits": 8}, r"weight_bits \(-w\): 8 bits.*`akida1`.*Allowed: 2, 4\."),
    (AKIDA1, {"activation_bits": 8}, r"activation_bits \(-a\).*Allowed: 1, 2, 4\."),
    (AKIDA1, {"input_weight_bits": 4}, r"input_weight_bits \(-i\).*Allowed: 8\."),
    (AKIDA1, {"per_tensor_activations": False}, "one scale for all channels"),
    (AKIDA2, {"weight_bits": 2}, r"Allowed: 4, 8\."),
    (AKIDA2, {"last_output_bits": 2}, r"last_output_bits \(-lob\).*Allowed: 4, 8\."),
    (GENERIC, {"weight_bits": 3}, r"Allowed: 2, 4, 8\."),
    (GENERIC, {"output_bits": 16}, r"output_bits \(-o\).*Allowed: 1, 2, 4, 8\."),
    (GENERIC, {"buffer_bits": 64}, r"buffer_bits \(-b\).*Allowed: 8 to 32\."),
])
def test_contradictions_are_refused(target: Target, said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(QuantizationParams(**said), target)


def test_what_is_said_and_allowed_is_kept() -> None:
    said = QuantizationParams(8, 4, 2, True, 4, 24, "int8", 8)
    assert resolve(said, GENERIC) == said


@pytest.mark.parametrize("dtype", ["int8", np.int8, np.dtype("int8")])
def test_input_dtype_is_a_name(dtype: Any) -> None:
    assert QuantizationParams(input_dtype=dtype).input_dtype == "int8"


@pytest.mark.parametrize(("said", "message"), [
    ({"input_dtype": "int16"}, "Allowed: uint8, int8"),
    ({"weight_bits": 0}, "a positive integer"),
    ({"weight_bits": 4.0}, "a positive integer"),
    ({"activation_bits": True}, "a positive integer"),
])
def test_nonsense_is_refused_when_it_is_said(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QuantizationParams(**said)


def test_json_round_trip() -> None:
    said = QuantizationParams(weight_bits=4, per_tensor_activations=False)
    assert said.to_json() == {"weight_bits": 4, "per_tensor_activations": False}
    assert QuantizationParams.from_json(said.to_json()) == said
    with pytest.raises(UsageError, match="unknown parameter wieght_bits"):
        QuantizationParams.from_json({"wieght_bits": 4})


def test_the_guides_spelling_is_the_public_one() -> None:
    from quantizeml.layers import QuantizationParams as from_layers
    from quantizeml.models import QuantizationParams as from_models
    assert from_layers is from_models is QuantizationParams
