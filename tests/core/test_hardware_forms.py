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


def test_the_mask_of_an_attention_replays_the_golden_integers() -> None:
    """Scores have 4 + 4 fractional bits, and 1 more: 4 channels of a head, 2^-round(log2 sqrt(4))."""
    case = golden("v09_attention")
    q, k = (split_heads(ints(case[t]).transpose(0, 2, 1)[:, :, None], 2) for t in ("q", "k"))
    shift = int(case["q"]["frac_bits"] + case["k"]["frac_bits"]) + 1
    assert np.array_equal(shiftmax((q @ k.swapaxes(-1, -2)) >> shift), ints(case["mask"]))


@pytest.mark.parametrize("channels", [1, 7, 64, 2048])
def test_mad_normalization_is_off_by_half_a_unit_at_most(channels: int) -> None:
    x = np.random.default_rng(channels).integers(-128, 128, (50, channels, 2, 3))
    exact = x / np.maximum(np.abs(x).mean(axis=1, keepdims=True), 1 / channels)
    assert np.abs(mad_normalize(x) / 2**FRACTION - exact).max() <= 0.5 / 2**FRACTION + 1e-12  # the last term: float64


def test_nothing_normalizes_to_nothing() -> None:
    assert not mad_normalize(np.zeros((1, 4, 1, 1), np.int64)).any()
