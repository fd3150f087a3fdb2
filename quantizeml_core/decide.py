"""Default decisions: bits, signs, axes and ranges of every block, before any scale is chosen.

- a block ending in an activation gets `activation_bits`, every other one `output_bits`;
- a ReLU output is unsigned below 8 bits (0 .. 2^b - 1), everything else is signed;
- the first linear block on a path from the input gets `input_weight_bits`, the others `weight_bits`;
- a convolution that only moves pixels keeps the bits and the sign of what it reads;
- a last Dense or Add without ReLU keeps its raw accumulators, or its table's entries, unless `last_output_bits` is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from .blocks import ENTRIES, LINEAR, Block, moves
from .blueprint import Blueprint
from .calibration import Range
from .centre import saturates
from .margin import Margin, margin, to_bound
from .numerics import qmax
from .params import QuantizationParams
from .plan import LayerPlan, Plan
from .target import Target


SUMMED: Mapping[str, int] = {"normalize": 1, "mad_normalize": 1, "local_response": 1, "attention": 2, "shift_attention": 2,
                              "softmax": 1, "matmul": 2}
"""Kinds that sum over channels, and how many of their inputs they do that with."""
BYTEWISE = ("lookup", "multiply")
"""Kinds whose output has one step for all channels where bytes are looked up: onnxruntime's operators on bytes have one."""


def decide(blueprint: Blueprint, ranges: Mapping[str, Range], params: QuantizationParams, target: Target) -> Plan:
    """The default plan. `params` must be resolved against the target (no field left None but `last_output_bits` and `input_dtype`)."""
    first = _first_linear(blueprint)
    layers: dict[str, LayerPlan] = {}
    for block in blueprint.blocks:
        layer = _layer(block, blueprint, ranges[block.output], params, target, block.name in first)
        source = blueprint.producer(block.inputs[0]) if block.kind in LINEAR and moves(block) else None
        layers[block.name] = layer if source is None or source.kind in ENTRIES else _kept(layer, layers[source.name])
    whole = _whole(blueprint, BYTEWISE if target.can("byte_table") else ())
    return Plan({b.name: replace(layers[b.name], per_axis=False, floor=0.0, headroom=1.0) if b.output in whole else layers[b.name] for b in blueprint.blocks})


def _whole(blueprint: Blueprint, bytewise: Collection[str]) -> set[str]:
    """Tensors that have one step for all channels: those that are summed as they are, by a normalization or an attention, or looked up in one table, directly or behind
    blocks that only move; and the outputs of some kinds."""
    found = {block.output for block in blueprint.blocks if block.kind in bytewise}
    for block in reversed(blueprint.blocks):
        if block.kind in (*SUMMED, "lookup", *bytewise) or (block.output in found and moves(block)):
            found.update(block.inputs[: SUMMED.get(block.kind)])
    return found


def _kept(layer: LayerPlan, source: LayerPlan) -> LayerPlan:
    """A convolution that only moves keeps the integers: its output is as wide as its input."""
    return replace(layer, output_bits=source.output_bits or layer.output_bits, signed=source.signed if source.output_bits else layer.signed)


def _layer(block: Block, blueprint: Blueprint, seen: Range, params: QuantizationParams, target: Target, first: bool) -> LayerPlan:
    bits = _output_bits(block, blueprint, params)
    relu = block.activation is not None and not block.activation.is_table
    signed = input_signed(block, blueprint, params) if block.kind in ENTRIES else not (relu and bits is not None and bits < 8)
    weight_bits = (params.input_weight_bits if first else params.weight_bits) if block.kind in LINEAR else None
    kind = "input_conv2d" if block.kind == "conv2d" and _reads_unsigned_input(block, blueprint, params) else block.kind
    width = min(target.accumulator_bits.get(kind, 32), params.buffer_bits or 32)
    per_axis = not params.per_tensor_activations
    whole = target.bias_mantissa_bits is None and saturates(block, blueprint, bits, signed, target.can("pad_value"))
    extra = margin(seen, qmax(bits or 8, signed and not whole)) if per_axis else Margin()
    high = to_bound(seen.high, extra, block.activation.bound) if relu and block.activation.bound is not None else seen.high
    return LayerPlan(weight_bits, bits, signed, per_axis, seen.low, high, width, *extra)


def _output_bits(block: Block, blueprint: Blueprint, params: QuantizationParams) -> int | None:
    if block.kind in ENTRIES or any(reader.kind == "lookup" for reader in blueprint.consumers(block.output)):
        return 8
    last = not blueprint.consumers(block.output)
    if last and params.last_output_bits is not None:
        return params.last_output_bits
    plain = block.activation is None or block.activation.is_table
    if last and plain and block.kind in ("dense", "add"):
        return None
    return params.activation_bits if block.activation else params.output_bits


def input_signed(block: Block, blueprint: Blueprint, params: QuantizationParams) -> bool:
    """int8 or uint8 at an entry. Unsigned (affine, with a zero point) only where every consumer is a standard convolution, which can fold
    the zero point and pad with it; a Dense-first or depthwise-first network gets int8. The user's `input_dtype` wins where it is possible, at the model's inputs."""
    foldable = all(c.kind == "conv2d" and c.groups == 1 for c in blueprint.consumers(block.output))
    if params.input_dtype is not None and block.kind == "input":
        return np.dtype(params.input_dtype) == np.int8 or not foldable
    return not foldable


def _reads_unsigned_input(block: Block, blueprint: Blueprint, params: QuantizationParams) -> bool:
    producer = blueprint.producer(block.inputs[0])
    return producer is not None and producer.kind in ENTRIES and not input_signed(producer, blueprint, params)


def _first_linear(blueprint: Blueprint) -> set[str]:
    """Linear blocks with no linear block between them and a model input."""
    raw = {b.output for b in blueprint.blocks if b.kind == "input"}
    first: set[str] = set()
    for block in blueprint.blocks:
        if not block.inputs or block.kind == "input" or not all(t in raw for t in block.inputs):
            continue
        if block.kind in LINEAR:
            first.add(block.name)
        else:
            raw.add(block.output)
    return first
