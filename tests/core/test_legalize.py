"""Legalizations: what a target does not run is rewritten, exactly equal in real numbers, and what cannot be is refused with a reason."""

from __future__ import annotations

from dataclasses import replace

import float_blueprint
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quantizeml_akida1.profile import AKIDA1
from quantizeml_akida2.profile import AKIDA2

from quantizeml_core.blocks import Activation, Block, Pool, moves
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.geometry import convolved_size, output_size
from quantizeml_core.legality import violations
from quantizeml_core.legalize import BUILTIN_LEGALIZATIONS, Legal, Legalization, Replacement, legalize
from quantizeml_core.target import Target

RELU = Activation("relu")
NONE: frozenset[str] = frozenset()


def network(block: Block, size: tuple[int, int], channels: int, readers: int = 0) -> Blueprint:
    """An input, a 1x1 convolution, the block, and further 1x1 convolutions that read it."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-3, 4, (channels, channels, 1, 1)).astype(np.float64)
    first = Block("first", "conv2d", ("x",), "a", arrays={"weight": kernel})
    conv = convolved_size(block, size)
    pool = block.pool
    out = (1, 1) if pool and pool.kind == "gap" else output_size(conv, pool.size, pool.strides, pool.pads) if pool else conv
    filters = len(block.arrays["weight"])
    tail = [Block(f"r{i}", "conv2d", ("y",), f"r{i}", arrays={"weight": rng.integers(-3, 4, (2, filters, 1, 1)).astype(np.float64)}) for i in range(readers)]
    shapes = {"x": (None, channels, *size), "a": (None, channels, *size), "y": (None, filters, *out), **{f"r{i}": (None, 2, *out) for i in range(readers)}}
    entry = Block("quantize", "input", ("in",), "x")
    outputs = tuple(f"r{i}" for i in range(readers)) or ("y",)
    return Blueprint((entry, first, replace(block, inputs=("a",), output="y"), *tail), outputs, {"in": shapes["x"], **shapes})


def conv(kernel: tuple[int, int], strides: int = 1, pads: tuple[int, ...] = (0, 0, 0, 0), groups: int = 1, channels: int = 4, kind: str = "conv2d",
         **more: object) -> Block:
    weight = np.random.default_rng(1).integers(-9, 10, (channels, channels // groups, *kernel)).astype(np.float64)
    arrays = {"weight": weight, "bias": np.arange(channels, dtype=np.float64)}
    return Block("conv", kind, ("a",), "y", (strides, strides), pads, groups, arrays=arrays, **more)


def same_values(before: Blueprint, after: Blueprint) -> bool:
    shape = (2, *before.shapes["in"][1:])
    x = np.random.default_rng(2).integers(-5, 6, shape).astype(np.float64)
    old, new = float_blueprint.run(before, {"in": x}), float_blueprint.run(after, {"in": x})
    return all(np.array_equal(old[t], new[t]) for t in before.outputs)


def made_legal(blueprint: Blueprint, target: Target) -> Legal:
    return legalize(blueprint, target, NONE, BUILTIN_LEGALIZATIONS)


POOL = Pool("max", (2, 2), (2, 2))
CASES = {
    "even kernel": (conv((2, 2), pads=(0, 0, 1, 1)), (9, 8), 0, "embed_kernel"),
    "even kernel, upper": (conv((4, 4), pads=(2, 2, 1, 1)), (9, 8), 0, "embed_kernel"),
    "oblong kernel": (conv((1, 7), pads=(0, 3, 0, 3)), (9, 9), 0, "embed_kernel"),
    "one pixel, stride 2": (conv((1, 1), 2), (8, 8), 0, "embed_kernel"),
    "one pixel, stride 2, odd": (conv((1, 1), 2), (9, 7), 0, "embed_kernel"),
    "5x5 stride 2": (conv((5, 5), 2, (1, 1, 2, 2), activation=RELU), (8, 8), 0, "split_stride"),
    "5x5 depthwise stride 2": (conv((5, 5), 2, (2, 2, 2, 2), 4, kind="depthwise2d", activation=RELU), (9, 9), 0, "split_stride"),
    "7x7 depthwise stride 2, symmetric": (conv((7, 7), 2, (3, 3, 3, 3), 4, kind="depthwise2d"), (8, 8), 0, "split_stride"),
    "3x3 pooling": (conv((3, 3), 1, (1, 1, 1, 1), pool=Pool("max", (3, 3), (2, 2), (0, 0, 1, 1)), activation=RELU), (8, 8), 2, "split_pooling"),
    "3x3 pooling of an odd image": (conv((3, 3), 1, (1, 1, 1, 1), pool=Pool("max", (3, 3), (2, 2)), activation=RELU), (9, 9), 2, "split_pooling"),
    "3x3 pooling of an Inception": (conv((3, 3), 1, (1, 1, 1, 1), pool=Pool("max", (3, 3), (1, 1), (1, 1, 1, 1)), activation=RELU), (8, 8), 2, "split_pooling"),
    "stem of a ResNet": (conv((3, 3), 2, (1, 1, 1, 1), pool=Pool("max", (3, 3), (2, 2), (1, 1, 1, 1)), activation=RELU), (16, 16), 2, "split_pooling"),
    "groups": (conv((3, 3), 1, (1, 1, 1, 1), 2), (6, 6), 0, "ungroup"),
    "pooling at the end": (conv((3, 3), 1, (1, 1, 1, 1), pool=POOL, activation=RELU), (8, 8), 0, "identity_behind_pooling"),
    "five readers": (conv((3, 3), 1, (1, 1, 1, 1), activation=RELU), (6, 6), 5, "limit_fan_out"),
}


@pytest.mark.parametrize(("block", "size", "readers", "name"), CASES.values(), ids=CASES)
def test_what_akida2_does_not_run_becomes_what_it_does(block: Block, size: tuple[int, int], readers: int, name: str) -> None:
    before = network(block, size, 4, readers)
    assert any(v.block == "conv" for v in violations(before, AKIDA2, NONE))
    legal = made_legal(before, AKIDA2)
    assert name in {c.rewrite for c in legal.changes if not c.refused}
    assert [v for v in violations(legal.blueprint, AKIDA2, NONE) if v.rule != "outputs"] == []
    assert same_values(before, legal.blueprint)


def test_a_depthwise_layer_with_a_relu_gets_a_pointwise_one_on_akida1() -> None:
    before = network(conv((3, 3), 1, (1, 1, 1, 1), 4, kind="depthwise2d", activation=RELU), (8, 8), 4)
    legal = made_legal(before, AKIDA1)
    assert {c.rewrite for c in legal.changes} == {"pointwise_behind_depthwise"} and violations(legal.blueprint, AKIDA1, NONE) == ()
    assert same_values(before, legal.blueprint)


@settings(max_examples=100, deadline=None)
@example(kernel=(1, 2), stride=2, pads=(0, 2, 0, 0), size=(6, 7))
@given(kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)), stride=st.sampled_from([1, 2]), pads=st.tuples(*[st.integers(0, 3)] * 4),
       size=st.tuples(st.integers(6, 12), st.integers(6, 12)))
def test_whatever_is_changed_stays_equal(kernel: tuple[int, int], stride: int, pads: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    before = network(conv(kernel, stride, pads), size, 4)
    assert same_values(before, made_legal(before, AKIDA2).blueprint)


def test_what_has_no_exact_form_is_refused_with_a_reason() -> None:
    legal = made_legal(network(conv((9, 9), 1, (4, 4, 4, 4)), (16, 16), 4), AKIDA2)
    (change,) = legal.changes
    assert (change.rewrite, change.refused) == ("embed_kernel", "no legal kernel holds 9x9 with strides (1, 1) and pads (4, 4, 4, 4)")


def test_a_wrong_legalization_is_refused_by_its_proof() -> None:
    def shifted(here: object) -> Replacement:
        block = here.block  # type: ignore[attr-defined]
        return Replacement((replace(block, strides=(1, 1), pads=(0, 0, 0, 0)).with_arrays(weight=block.weight[:, :, :1, :1]),))

    before = network(conv((2, 2), pads=(0, 0, 1, 1)), (8, 8), 4)
    legal = legalize(before, AKIDA2, NONE, [Legalization("wrong", ("kernel_strides",), shifted)])
    assert legal.blueprint == before and "integers would differ" in legal.changes[0].refused


def test_a_choice_of_pixels_moves_integers_only() -> None:
    legal = made_legal(network(CASES["5x5 stride 2"][0], (8, 8), 4), AKIDA2)
    assert [b.name for b in legal.blueprint.blocks if moves(b)] == ["conv/choose"]
    assert legal.ranges == {"y/full": "y"}
