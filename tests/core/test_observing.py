"""What follows from ranges that were seen, without looking again."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from quantizeml_core.blocks import Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import RangeObserver, side_by_side
from quantizeml_core.observing import observed

BLOCKS = (Block("q", "input", ("x",), "q"), Block("c", "conv2d", ("q",), "a"), Block("j", "concat", ("q", "a"), "b"), Block("k", "concat", ("b", "a"), "y"))
BLUEPRINT = Blueprint(BLOCKS, ("y",), {t: (None, 3, 4, 4) for t in ("x", "q", "a", "b", "y")})


def test_a_concatenation_has_the_ranges_of_its_parts_to_the_last_bit() -> None:
    parts = [np.random.default_rng(i).normal(size=(16, i, 7, 5)).astype(np.float32) for i in (2, 3)]
    seen = [RangeObserver(), RangeObserver(), RangeObserver()]
    for start in range(0, 16, 5):
        rows = [part[start:start + 5] for part in parts]
        for observer, values in zip(seen, (*rows, np.concatenate(rows, axis=1)), strict=True):
            observer.update(values)
    *apart, together = (observer.seen for observer in seen)
    assert all(np.array_equal(found, expected) for found, expected in zip(astuple(side_by_side(apart)), astuple(together), strict=True))


def test_concatenations_are_looked_at_only_where_weights_of_few_bits_are() -> None:
    assert observed(BLUEPRINT, ()) == ["a"]
    assert observed(BLUEPRINT, (), {"b"}) == ["a", "b"]
