"""How many samples run at once, and what that takes: a bound that does not know how many samples there are."""

from __future__ import annotations

import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.load import BUDGET, Load, load

SAMPLE = 2 * 4 * (3 * 8 * 8 + 4 * 8 * 8)
"""Bytes of the input and of one tensor, twice."""


def blueprint(size: int) -> Blueprint:
    blocks = (Block("quantize", "input", ("x",), "q"), Block("conv", "conv2d", ("q",), "y"))
    return Blueprint(blocks, ("y",), {"x": (None, 3, size, size), "q": (None, 3, size, size), "y": (None, 4, size, size)})


@pytest.mark.parametrize(("size", "wanted", "expected"), [
    (8, 32, Load(32, 32 * SAMPLE)),
    (8, 1, Load(1, SAMPLE)),
    (1024, 32, Load(4, 4 * SAMPLE * 128**2)),
    (16384, 32, Load(1, SAMPLE * 2048**2)),
])
def test_the_budget_limits_the_batch_but_never_below_one(size: int, wanted: int, expected: Load) -> None:
    found = load(blueprint(size), ["y"], wanted)
    assert found == expected and (found.bytes <= BUDGET or found.rows == 1)


@pytest.mark.parametrize(("found", "text"), [
    (Load(8, 214_400_000), "8 samples at a time, at most 214 MB for activations"),
    (Load(1, 999), "one sample at a time, at most 1 MB for activations"),
])
def test_what_people_read(found: Load, text: str) -> None:
    assert found.text == text
