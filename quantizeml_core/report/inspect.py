"""Inspect an integer program: structure, accumulator proof, dead filters, and saturation on samples. Codes are listed in docs/errors.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import numerics
from ..blocks import ENTRIES, LINEAR, MOVES, Block, may_saturate
from ..hooks import Batch
from ..plan import Plan
from ..program import Program
from ..solve import Solution
from ..target import Target
from .findings import Finding

#: Share of an output's integers at the end of their range above which it is worth telling.
SATURATION = 0.01


def inspect_program(program: Program, target: Target, plan: Plan | None = None, feeds: Batch | None = None, random: bool = False) -> tuple[Finding, ...]:
    """Findings of the core about a program.

    Arguments:
        plan: gives each block's own accumulator width; the target's is used without it.
        feeds: a few samples to count saturated outputs on, by the name of what the entries read; none are counted without.
        random: nobody gave them.
    """
    faults = tuple(Finding("QML100", "error", "", fault, "Quantize the model again") for fault in program.verify())
    static = tuple(f for b in program.blocks if b.kind in LINEAR for f in _linear(program, b, target, plan))
    return (*faults, *static, *(_saturated(program, feeds, random) if feeds is not None else ()))


def inspect_widened(solutions: Mapping[str, Solution], plan: Plan) -> tuple[Finding, ...]:
    """Blocks whose weights got a wider step so that their accumulator cannot overflow."""
    def found(name: str, bits: int) -> Finding:
        layer = plan.layers[name]
        fact = f"the weights' step was widened by {bits} bits: {layer.weight_bits}-bit weights could overflow {layer.buffer_bits} bits"
        return Finding("QML106", "info", name, fact, "Nothing, or a wider accumulator", "accumulator", str(bits), str(layer.buffer_bits), fix="exact")

    return tuple(found(name, solution.widened) for name, solution in solutions.items() if solution.widened)


def inspect_config(config: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Findings about the ranges that a quantized model was calibrated with, from its configuration."""
    return tuple(f for name, entry in config.items() for f in _idle(name, entry.get("output_quantizer")))


def _idle(name: str, output: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Channels that were zero on every sample: their scale is a guess."""
    if not output or not output.get("range"):
        return
    low, high = (np.asarray(end) for end in output["range"])
    idle = int(np.count_nonzero((low == 0) & (high == 0)))
    if idle:
        severity = "warning" if idle == low.size else "info"
        yield Finding("QML104", severity, name, f"{idle} of {low.size} channels were zero on every calibration sample",
                      "Calibrate with samples that use them, or prune them")


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
    largest = _largest(block.arrays["weight"])
    if dead := np.count_nonzero(largest == 0):
        yield Finding("QML103", "info", block.name, f"{dead} of {len(largest)} filters have no weight left", "Prune them, or use more weight bits")
    if coarse := np.count_nonzero((largest > 0) & (2 * largest < largest.max())):
        yield Finding("QML105", "info", block.name, f"{coarse} of {len(largest)} filters use less than half of the weights' integers: their bias, or "
                      "their share of the output, is large beside their weights", "Nothing, or more weight bits if the accuracy suffers")


def _largest(weight: np.ndarray) -> np.ndarray:
    """The largest |weight| of each filter."""
    flat = weight.reshape(len(weight), -1)
    return np.maximum(flat.max(axis=1).astype(np.int64), -flat.min(axis=1).astype(np.int64))


def _saturated(program: Program, feeds: Batch, random: bool) -> Iterator[Finding]:
    for block, values in program.sequence(feeds):
        fmt = program.formats[block.output]
        if fmt.bits > 8 or block.kind in ENTRIES | MOVES | {"lookup"}:  # a function has the range that its input leaves it
            continue
        lost = np.isin(values, _ends(program, block))
        if (share := float(lost.mean())) > SATURATION:
            kind = "random" if random else "given"
            yield Finding("QML102", "warning", block.name, f"{100 * share:.1f} % of its outputs saturate on the {kind} samples", "Calibrate with more real samples")


def _ends(program: Program, block: Block) -> list[int]:
    """The integers at which something is lost: not where a ReLU is the saturation (`centre`), nor where all that read it are functions, and flat there."""
    (low, high), readers = program.formats[block.output].range, [b for b in program.blocks if block.output in b.inputs]
    if readers and all(b.kind == "lookup" for b in readers):
        tables = np.concatenate([b.arrays["entries"] for b in readers])
        return [end for end, (outer, inner) in ((low, (0, 1)), (high, (-1, -2))) if (tables[:, outer] != tables[:, inner]).any()]
    return [high] if block.activation or may_saturate(block, readers) else [low, high]
