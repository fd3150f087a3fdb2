"""Mad normalization against its formula; the shiftmax against the golden integers of quantizeml 0.9."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantizeml_core.attention import split_heads
from quantizeml_core.hardware_forms import FRACTION, mad_normalize, shiftmax

FOLDER = Path(__file__).parents[1] / "specimens" / "keras"


def golden(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())["cases"][0]


def ints(record: dict[str, Any]) -> np.ndarray:
    return np.array(record["values"]).astype(np.int64)


def test_shiftmax_replays_the_golden_integers() -> None:
    case = golden("v09_shiftmax")
    assert shiftmax(ints(case["in"]) >> int(case["in"]["frac_bits"])).tolist() == ints(case["out"]).tolist()


def heads(x: np.ndarray) -> np.ndarray:
    """(1, T, C) as (1, 2, T, C / 2)."""
    return split_heads(x.transpose(0, 2, 1)[:, :, None], 2)


def requantized(x: np.ndarray, scales: object, shift: list[int]) -> np.ndarray:
    """Multiplied, shifted with halves up, saturated."""
    right = -np.array(shift)
    return np.clip((x * np.array(scales) + (1 << (right - 1))) >> right, -128, 127)


def test_an_attention_replays_the_golden_integers() -> None:
    """Scores have 4 + 4 fractional bits, and 1 more: 4 channels of a head, 2^-round(log2 sqrt(4))."""
    case = golden("v09_vit")
    q, k, v = (heads(ints(case[t]) << np.array(case["values_shift"] if t == "v" else 0)) for t in "qkv")
    shift = case["q"]["frac_bits"] + case["k"]["frac_bits"] + 1
    mask = shiftmax((q @ k.swapaxes(-1, -2)) >> shift)
    context = (mask @ v).transpose(0, 2, 1, 3).reshape(1, 5, 8)
    assert np.array_equal(mask, ints(case["mask"])) and np.array_equal(requantized(context, 1, case["context_shift"]), ints(case["context"]))


@pytest.mark.parametrize(("layer", "source"), [("ln1", "positions"), ("ln2", "add"), ("ln3", "add2")])
def test_the_mad_normalization_of_the_hardware_replays_the_golden_integers(layer: str, source: str) -> None:
    """Its own quotient is truncated before the product; ours rounds once, behind it."""
    case = golden("v09_vit")[layer]
    x = ints(golden("v09_vit")[source]) << np.array(case["input_shift"])
    quotient = (np.array(case["gamma"]) << case["gamma_shift"]) // np.abs(x).sum(axis=-1, keepdims=True)
    assert np.array_equal(requantized(x * quotient + np.array(case["beta"]), case["scales"], case["shift"]), case["out"])


def test_class_token_and_positions_replay_the_golden_integers() -> None:
    case = golden("v09_vit")
    table, tokens = case["position_table"], ints(case["class_token"])
    assert np.array_equal(tokens[:, 1:], ints(case["tokens"]))
    assert np.array_equal(requantized(tokens + np.array(table["values"]), table["scales"], table["shift"]), ints(case["positions"]))


@pytest.mark.parametrize("channels", [1, 7, 64, 2048])
def test_mad_normalization_is_off_by_half_a_unit_at_most(channels: int) -> None:
    x = np.random.default_rng(channels).integers(-128, 128, (50, channels, 2, 3))
    exact = x / np.maximum(np.abs(x).mean(axis=1, keepdims=True), 1 / channels)
    assert np.abs(mad_normalize(x) / 2**FRACTION - exact).max() <= 0.5 / 2**FRACTION + 1e-12  # the last term: float64


def test_nothing_normalizes_to_nothing() -> None:
    assert not mad_normalize(np.zeros((1, 4, 1, 1), np.int64)).any()
