"""Inspect an integer program: structure, accumulator proof, dead filters, and saturation on samples. Codes are listed in docs/errors.md."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import numerics
from ..blocks import LINEAR, MOVES, Block
from ..plan import Plan
from ..program import Program
from ..samples import Samples
from ..target import Target
from .findings import Finding

#: Share of an output's integers at the end of their range above which it is worth telling.
SATURATION = 0.01


def inspect_program(program: Program, target: Target, plan: Plan | None = None, samples: Samples | None = None) -> tuple[Finding, ...]:
    """Findings of the core about a program.

    Arguments:
        plan: gives each block's own accumulator width; the target's is used without it.
        samples: a few to count saturated outputs on; none are counted without.
    """
    faults = tuple(Finding("QML100", "error", "", fault, "Quantize the model again") for fault in program.verify())
    static = tuple(f for b in program.blocks if b.kind in LINEAR for f in _linear(program, b, target, plan))
    return (*faults, *static, *(_saturated(program, samples) if samples is not None else ()))


def accumulator_bits(program: Program, block: Block) -> int:
    """Bits that hold every accumulator of a linear block, proven from its weights and the range of its input."""
    low, high = program.input_range(block)
    pad = block.arrays.get("pad_value")
    if pad is not None and any(block.pads):
        low, high = min(low, int(pad.min())), max(high, int(pad.max()))
    return numerics.signed_bits(*numerics.accumulator_reach(block.arrays["weight"], block.arrays.get("bias"), min(low, 0), high))


def accumulator_budget(program: Program, block: Block, target: Target) -> int:
    """Width of the target's accumulator for a block."""
    reads_input = block.kind == "conv2d" and program.formats[block.inputs[0]].zero_point is not None
    return target.accumulator_bits.get("input_conv2d" if reads_input else block.kind, 32)


def _linear(program: Program, block: Block, target: Target, plan: Plan | None) -> Iterator[Finding]:
    needed, budget = accumulator_bits(program, block), accumulator_budget(program, block, target)
    if plan is not None:
        budget = min(budget, plan.layers[block.name].buffer_bits)
    if needed > budget:
        yield Finding("QML101", "error", block.name, f"the accumulator may need {needed} bits, `{target.name}` has {budget}", "Use fewer weight bits")
    dead = np.flatnonzero(~block.arrays["weight"].reshape(len(block.arrays["weight"]), -1).any(axis=1))
    if len(dead):
        yield Finding("QML103", "info", block.name, f"{len(dead)} of {len(block.arrays['weight'])} filters have no weight left", "Prune them, or use more weight bits")


def _saturated(program: Program, samples: Samples) -> Iterator[Finding]:
    batch = next(iter(samples.batches(64)))
    for block, values in program.trace(batch):
        fmt = program.formats[block.output]
        if fmt.bits > 8 or block.kind in ("input", *MOVES):
            continue
        low, high = fmt.range
        ends = values == high if block.activation else (values == high) | (values == low)
        if (share := float(ends.mean())) > SATURATION:
            kind = "random" if samples.is_random else "given"
            yield Finding("QML102", "warning", block.name, f"{100 * share:.1f} % of its outputs saturate on the {kind} samples", "Calibrate with more real samples")
