"""Pixels as tokens plus a table: against the sum of real numbers."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.embedding import FRACTION, embed, integer_entries


@pytest.mark.parametrize(("prefix", "steps"), [(0, [0.1]), (1, [0.1]), (2, [0.1, 0.02, 3.0])])
def test_the_sum_is_off_by_half_a_unit_at_most(prefix: int, steps: list[float]) -> None:
    rng, step = np.random.default_rng(prefix), np.array(steps)
    x, table = rng.integers(-128, 128, (2, 3, 4, 5)), rng.normal(size=(3, 20 + prefix))
    unit = (step * 2.0**-FRACTION).reshape(-1, 1)
    real = np.pad((x * step.reshape(-1, 1, 1)).reshape(2, 3, 20), ((0, 0), (0, 0), (prefix, 0))) + table
    got = embed(x, integer_entries(table, step))
    assert got.shape == (2, 3, 1, 20 + prefix) and np.abs(got[:, :, 0] * unit - real).max() <= 0.501 * unit.max()
