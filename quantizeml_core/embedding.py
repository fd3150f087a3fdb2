"""Pixels as tokens in integers: they stand in one row, zeros in front of them for the tokens that are learned, and a table is added.

    y = x 2^8 + t          t = round_half_even(table 2^8 / step_x)          acc_step = 2^-8 step_x

A class token is a table whose first column is the token; position embeddings are a table of all columns (Dosovitskiy et al., arXiv 2010.11929).
"""

from __future__ import annotations

import numpy as np

from .numerics import Ints, round_half_even

FRACTION = 8
"""Fractional bits of the sum, in units of the input's step."""


def embed(x: Ints, entries: Ints) -> Ints:
    """(N, C, H, W) and (C, T) to (N, C, 1, T), T - H W tokens in front."""
    channels, length = entries.shape
    row = x.reshape(len(x), channels, 1, -1) << FRACTION
    return np.pad(row, ((0, 0), (0, 0), (0, 0), (length - row.shape[3], 0))) + entries[:, None]


def integer_entries(table: np.ndarray, step: np.ndarray) -> Ints:
    """The table (C, T) in units of 2^-8 step; `step` is that of the input, one or (C,)."""
    return round_half_even(np.asarray(table, np.float64) * 2**FRACTION / np.reshape(step, (-1, 1))).astype(np.int64)
