"""What the float network is watched for: ranges at every block boundary, what the taps of few-bit weights see, and the mean error of the input quantizers.

The frontend runs the samples, batch by batch; nothing is kept between batches but what the observers keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from .bake import bake_input
from .blueprint import Blueprint
from .calibration import MEAN_BITS, Range, RangeObserver, Several, channel_sum, side_by_side
from .hooks import Batch, Frontend, Observer, Survey
from .kernels import channel_first, input_quantize
from .load import Load
from .numerics import Floats, round_significant
from .params import QuantizationParams
from .rounding import LAST_BITS, TapObserver, worth_observing
from .samples import Samples
from .solve import Solution

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it, and how much there is."""


def observed(blueprint: Blueprint, alike: Collection[str], tapped: Collection[str] = ()) -> list[str]:
    """The tensors of the float network whose ranges count: block boundaries and probes of tables. A concatenation has the ranges of its parts.

    Arguments:
        alike: tensors that the float network does not have.
        tapped: tensors that are looked at anyway.
    """
    boundaries = [b.output for b in blueprint.blocks if b.output in tapped or b.kind not in ("input", "concat") and b.output not in alike]
    return boundaries + [b.probe for b in blueprint.blocks if b.probe]


def observe(frontend: Frontend, survey: Survey, blueprint: Blueprint, samples: Samples, weight: Load, epochs: int, progress: Progress | None,
            taps: Mapping[str, TapObserver], alike: Mapping[str, str]) -> dict[str, Range]:
    """Ranges of every block boundary and table probe. Extremes do not change when samples are seen again, so one epoch is enough for any count.

    Arguments:
        taps: by block name; they see the block's input.
        alike: tensors the float network does not have -> the tensors whose ranges they have.
    """
    inputs = {b.output: RangeObserver(track_integers=True) for b in blueprint.blocks if b.kind == "input"}
    native = {b.output: b.inputs[0] for b in blueprint.blocks if b.kind == "resume"}
    by_tensor: dict[str, list[TapObserver]] = {}
    for observer in taps.values():
        by_tensor.setdefault(observer.block.inputs[0], []).append(observer)
    looked_up = {b.inputs[0] for b in blueprint.blocks if b.kind == "lookup"}
    inner = {t: RangeObserver(track_integers=t in native, track_squares=t in looked_up) for t in observed(blueprint, alike, by_tensor.keys() - inputs.keys())}

    def batches() -> Iterator[Batch]:
        done, stage = 0, f"Calibrating, {weight.text}"
        if progress:
            progress(stage, 0, len(samples))
        for batch in samples.batches(weight.rows):
            for block in (b for b in blueprint.blocks if b.kind == "input"):
                values = batch[block.inputs[0]]
                values = channel_first(block, values)
                inputs[block.output].update(values)
                for observer in by_tensor.get(block.output, ()):
                    observer.update(values)
            yield batch
            done += len(next(iter(batch.values())))
            if progress:
                progress(stage, done, len(samples))

    watching: dict[str, list[Observer]] = {}
    for tensor, observer in inner.items():
        watching.setdefault(native.get(tensor, tensor), []).extend((observer, *by_tensor.get(tensor, ())))
    frontend.observe(survey, batches(), {t: Several(observers) for t, observers in watching.items()})
    return _all_ranges(blueprint, {t: o.seen for t, o in (inputs | inner).items()}, alike)


def _all_ranges(blueprint: Blueprint, seen: Mapping[str, Range], alike: Mapping[str, str]) -> dict[str, Range]:
    """What was seen, and what follows from it: of tensors that are alike, and of concatenations."""
    found, parts = dict(seen), {b.output: b.inputs for b in blueprint.blocks if b.kind == "concat"}

    def of(tensor: str) -> Range:
        if tensor not in found:
            found[tensor] = of(alike[tensor]) if tensor in alike else side_by_side([of(t) for t in parts[tensor]])
        return found[tensor]

    for tensor in (*parts, *alike):
        of(tensor)
    return found


def tap_observers(blueprint: Blueprint, params: QuantizationParams, config: Mapping[str, Any] | None,
                  unseen: Collection[str]) -> dict[str, TapObserver]:
    """For blocks that may get weights of few bits and read a tensor that the float network has."""
    widths = [params.weight_bits, params.input_weight_bits, *(e.get("weight_quantizer", {}).get("bitwidth") for e in (config or {}).values())]
    few = any(isinstance(w, int) and w <= LAST_BITS for w in widths)
    return {b.name: TapObserver(b) for b in blueprint.blocks if few and worth_observing(b) and not set(b.inputs) & set(unseen)}


def input_errors(blueprint: Blueprint, solutions: Mapping[str, Solution], samples: Samples, batch_size: int) -> dict[str, Floats]:
    """Mean of x - dequantize(quantize(x)) per channel of each input block's tensor, over all samples."""
    blocks = [bake_input(b, solutions[b.name]) for b in blueprint.blocks if b.kind == "input"]
    totals, counts = {b.output: np.zeros(1) for b in blocks}, {b.output: 0 for b in blocks}
    for batch in samples.batches(batch_size):
        for block in blocks:
            x, fmt = batch[block.inputs[0]], solutions[block.name].output
            back = fmt.dequantize(input_quantize(block, x))
            plain = channel_first(block, x)
            totals[block.output] = totals[block.output] + channel_sum(plain.astype(np.float64) - back)
            counts[block.output] += plain.size // plain.shape[1]
    return {t: round_significant(total / counts[t], MEAN_BITS) for t, total in totals.items()}
