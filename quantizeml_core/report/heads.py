"""What each output keeps of the float network's: signal over error on a few calibration samples, and channels that few integers resolve.

A large error of one head hides behind another one, and quiet channels behind loud ones: every output is told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..blocks import ENTRIES, MOVES
from ..blueprint import Blueprint
from ..hooks import Batch, Frontend, Survey
from ..numerics import qmax
from ..observing import Progress
from ..plan import LayerPlan, Plan
from ..program import Program
from ..samples import Samples
from ..testing import decibels
from .findings import Finding

#: Samples that are run through the integers unless so many are asked for, fewer for a network of more than MACS / SAMPLES multiplications, none for one of more than MACS.
SAMPLES, MACS = 16, 50_000_000
#: An output below this many decibels is worth telling.
POOR = 15.0
#: A channel that its output's scale resolves by fewer integers is worth telling.
LEVELS = 8


@dataclass(frozen=True)
class Head:
    """An output of the integers: its signal over its error in dB, on so many samples."""

    output: str
    decibels: float
    samples: int


@dataclass
class _Kept:
    """An observer that keeps what it sees."""

    parts: list[np.ndarray] = field(default_factory=list)

    def update(self, x: np.ndarray) -> None:
        self.parts.append(np.array(x))

    @property
    def value(self) -> np.ndarray:
        return np.concatenate(self.parts)


def measure_heads(frontend: Frontend, survey: Survey, program: Program, samples: Samples, wanted: int | None = None,
                  progress: Progress | None = None) -> tuple[Head, ...]:
    """Each output on the first samples, none where that would take long and is not asked for, or where it depends on earlier frames or on floats in between.

    Arguments:
        wanted: how many samples; by default what takes seconds.
    """
    macs = max(survey.blueprint.coverage.total_macs, 1)
    count = min(wanted or min(SAMPLES, MACS // macs), len(samples))
    known = [t for t in program.outputs if t in survey.blueprint.outputs]
    if not count or not known or program.resumed or any(program.remembering()):
        return ()
    floats, integers = {t: _Kept() for t in known}, {t: _Kept() for t in known}

    def batches() -> Iterator[Batch]:
        done = 0
        for batch in samples.batches(min(count, max(MACS // macs, 1))):
            rows = {name: values[:count - done] for name, values in batch.items()}
            found, done = program.predict(rows), done + len(next(iter(rows.values())))
            for tensor in known:
                integers[tensor].update(found[tensor])
            yield rows
            if progress:
                progress("Measuring the integers", done, count)
            if done == count:
                return

    frontend.observe(survey, batches(), floats)
    return tuple(Head(t, decibels(floats[t].value, integers[t].value), count) for t in known)


def inspect_heads(heads: Sequence[Head], blueprint: Blueprint, plan: Plan) -> tuple[Finding, ...]:
    """QML107 and QML108."""
    poor = (Finding("QML107", "warning", h.output, f"this output keeps {h.decibels:.1f} dB of signal over error on the calibration samples",
                    "Calibrate with more samples, quantize up to an earlier tensor, or train the quantized model") for h in heads if h.decibels < POOR)
    return (*poor, *(f for t in blueprint.outputs for f in _unresolved(t, blueprint, plan)))


def _unresolved(tensor: str, blueprint: Blueprint, plan: Plan) -> Iterator[Finding]:
    block = blueprint.producer(tensor)
    if block is None or block.kind in ENTRIES:
        return
    if block.kind in MOVES:
        for source in block.inputs:
            yield from _unresolved(source, blueprint, plan)
        return
    levels = _levels(plan.layers[block.name])
    if few := int(np.count_nonzero((levels > 0) & (levels < LEVELS))):
        yield Finding("QML108", "warning", block.name, f"{few} of {len(levels)} channels of an output have fewer than {LEVELS} integers for all they showed",
                      "Give them an output of their own, or one scale for each channel (not per-tensor)")


def _levels(layer: LayerPlan) -> np.ndarray:
    """The integers on one side of zero that each channel's calibrated range holds; infinite for raw accumulators."""
    assert layer.low is not None and layer.high is not None
    seen = np.maximum(np.abs(layer.low), np.abs(layer.high)).astype(np.float64)
    if layer.output_bits is None:
        return np.full(len(seen), np.inf)
    return seen / np.maximum(layer.absmax, np.finfo(np.float64).tiny) * qmax(layer.output_bits, layer.signed)
