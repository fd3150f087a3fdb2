"""Are both sides of a legalization equal? On integers, with no tolerance, by the numpy specification (`kernels`).

A legalization treats all channels alike, so a witness is enough: the same block with two channels and small random integers, on an image of the real
size. The same function rewrites the witness; both are run and every integer must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..blocks import Block, moves
from ..kernels import KERNELS
from ..legality import Site

CHANNELS = 2
LARGEST = 9
"""Weights and values are integers of at most this size: every sum is exact."""


def difference(here: Site, propose: Callable[[Site], Any]) -> str:
    """Empty when both sides are equal, otherwise how many integers differ."""
    generator = np.random.default_rng(0)
    block = _witness(here.block, generator)
    size = here.blueprint.shapes[block.inputs[0]]
    shapes = {t: s if len(s) != 4 else (1, CHANNELS, *s[2:]) for t, s in here.blueprint.shapes.items()}
    x = _values(generator, size, here.nonnegative(block.inputs[0]))
    old = _run((block,), x, block)
    shapes[block.output] = old.shape
    blocks = tuple(block if b.name == block.name else b for b in here.blueprint.blocks)
    made = propose(replace(here, block=block, blueprint=replace(here.blueprint, blocks=blocks, shapes=shapes)))
    if not hasattr(made, "blocks"):
        return "it does not do for two channels what it does for all"
    new = _run(made.blocks, x, block)
    if old.shape != new.shape:
        return f"it would change the shape {old.shape} to {new.shape}"
    return f"{np.count_nonzero(old != new)} of {old.size} integers would differ" if np.any(old != new) else ""


def _values(generator: np.random.Generator, shape: tuple[int | None, ...], nonnegative: bool) -> np.ndarray:
    return generator.integers(0 if nonnegative else -LARGEST, LARGEST + 1, (1, CHANNELS, *shape[2:]) if len(shape) == 4 else (1, *shape[1:]))


def _witness(block: Block, generator: np.random.Generator) -> Block:
    """Two channels, integers for weights and bias; a table becomes a ReLU (both act on one value), a global mean a sum. A convolution that
    only moves keeps its first two channels, or has its only one twice."""
    if block.weight is None or block.weight.ndim != 4:
        return block
    groups = 1 if block.groups == 1 else CHANNELS
    if moves(block):
        alone = len(block.weight) < CHANNELS
        weight = np.einsum("cd,ij->cdij", np.eye(CHANNELS), block.weight[0, 0]) if alone else block.weight[:CHANNELS, : CHANNELS // groups]
        return replace(block, groups=groups, arrays={"weight": weight.astype(np.int64)})
    weight = generator.integers(-LARGEST, LARGEST + 1, (CHANNELS, CHANNELS // groups, *block.weight.shape[2:]))
    vectors = {name: generator.integers(1, LARGEST, CHANNELS) for name in ("pad_value", "bias") if name in block.arrays}
    activation = None if block.activation is None else replace(block.activation, name="relu", bound=None, alpha=None)
    return replace(block, groups=groups, activation=activation, probe="", arrays={"weight": weight, **vectors})


def _run(blocks: tuple[Block, ...], x: np.ndarray, old: Block) -> np.ndarray:
    values: Mapping[str, np.ndarray] = {t: x for t in old.inputs}
    for block in blocks:
        values = {**values, block.output: KERNELS[block.kind](_integer(block), *(values[t] for t in block.inputs))}
    return values[old.output]


def _integer(block: Block) -> Block:
    return block if block.weight is None else block.with_arrays(weight=block.weight.astype(np.int64))
