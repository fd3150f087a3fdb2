"""The parity kit: does a native quantized model compute the integers of its program, at every block boundary, with zero tolerance?

A frontend, or a plugin that brings a rule, hands over a way to run its model and reads which integers differ:

    mismatches = differences(program, feeds, run)          # run(feeds) -> {tensor: integers}
    assert not mismatches, mismatches[0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .program import Program

Feeds = Mapping[str, np.ndarray]
Runner = Callable[[Feeds], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Mismatch:
    """A tensor on which a native model and its program disagree.

    Arguments:
        block: the block that writes it.
        what: `missing`, `dtype`, `shape`, or how many integers differ.
        where: index of the first difference, with the program's integer and the model's.
    """

    block: str
    what: str
    where: tuple[int, ...] = ()
    expected: int | None = None
    got: int | None = None


def differences(program: Program, feeds: Feeds, run: Runner) -> tuple[Mismatch, ...]:
    """Every block boundary at which `run` and the numpy specification give different integers."""
    native = run(feeds)
    found = (_compare(block.name, value, native.get(block.output)) for block, value in program.trace(feeds))
    return tuple(m for m in found if m is not None)


def _compare(block: str, expected: np.ndarray, got: np.ndarray | None) -> Mismatch | None:
    if got is None:
        return Mismatch(block, "missing")
    if got.shape != expected.shape:
        return Mismatch(block, f"shape {got.shape}, expected {expected.shape}")
    if got.dtype != expected.dtype:
        return Mismatch(block, f"dtype {got.dtype}, expected {expected.dtype}")
    wrong = np.argwhere(got != expected)
    if not len(wrong):
        return None
    first = tuple(int(i) for i in wrong[0])
    return Mismatch(block, f"{len(wrong)} of {expected.size} integers differ", first, int(expected[first]), int(got[first]))
