"""How much memory calibration takes, and how many samples it runs at once. It is a bound for any number of samples: nothing is kept but ranges.

    bytes = rows * 2 * 4 * (elements of one sample over all tensors that are looked at)

Twice, because a framework holds as much again while it computes them: what it keeps between two of those tensors, and what a convolution unrolls.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from .blueprint import Blueprint

BUDGET = 1 << 28
"""Bytes that calibration may take beside the network itself: samples run fewer at once where a batch would need more, but never less than one."""
HELD = 2 * 4


@dataclass(frozen=True)
class Load:
    """What calibration takes.

    Arguments:
        rows: samples run at once.
        bytes: at most so many beside the network.
    """

    rows: int
    bytes: int

    @property
    def text(self) -> str:
        """For people."""
        samples = f"{self.rows} samples" if self.rows > 1 else "one sample"
        return f"{samples} at a time, at most {max(self.bytes / 1e6, 1):.0f} MB for activations"


def load(blueprint: Blueprint, tensors: Collection[str], wanted: int) -> Load:
    """The load of looking at some tensors of the float network.

    Arguments:
        wanted: samples at once, where memory allows it.
    """
    names = {*tensors, *(b.inputs[0] for b in blueprint.blocks if b.kind == "input")}
    one = HELD * sum(math.prod(size or 1 for size in blueprint.shapes.get(name, ())[1:]) for name in names)
    rows = max(1, min(wanted, BUDGET // max(one, 1)))
    return Load(rows, rows * one)
