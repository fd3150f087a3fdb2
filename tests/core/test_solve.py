"""Scales: ranges are covered, ratios are exact, accumulators fit, quiet and dead channels stay finite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import networks, plans

from quantizeml_core import numerics
from quantizeml_core.align import bound
from quantizeml_core.bake import bake
from quantizeml_core.blocks import LINEAR, MOVES, Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.report.inspect import accumulator_bits
from quantizeml_core.solve import convolution_area, solve

EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(st.data())
def test_every_multiplier_is_exact(data: st.DataObject) -> None:
    """accumulator step == output step * M * 2^-f: no gain error in any block (a sum of H * W pixels counts as their average)."""
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    solutions = solve(blueprint, plan, ranges)
    for block in (b for b in blueprint.blocks if b.kind in LINEAR and not (b.activation and b.activation.is_table)):
        s = solutions[block.name]
        if s.multiplier is None or s.acc_step is None or s.shift is None:
            continue
        area = convolution_area(block, blueprint.shapes[block.inputs[0]]) if block.pool and block.pool.kind == "gap" else 1
        value = numerics.multiplier_value(s.multiplier, s.shift)
        np.testing.assert_allclose(s.acc_step / area, s.output.step * value, rtol=1e-12)  # float64 products of exact factors


@EXAMPLES
@given(st.data())
def test_products_and_averages_are_exact_unless_an_addition_gives_their_step(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    solutions = solve(blueprint, plan, ranges)
    for block in (b for b in blueprint.blocks if b.kind in ("multiply", "pool2d")):
        s, tied = solutions[block.name], block.output in bound(blueprint.blocks)
        gain = s.output.step * numerics.multiplier_value(s.multiplier, s.shift) / s.acc_step
        np.testing.assert_allclose(gain, 1, rtol=2.0**-8 if tied else 1e-12)  # neighbouring multipliers are 2^-7 apart; float64 products


@EXAMPLES
@given(st.data())
def test_every_range_is_covered(data: st.DataObject) -> None:
    """step * qmax reaches the calibrated range of every channel, but where a clipped ReLU ends it or a channel is quiet."""
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    solutions = solve(blueprint, plan, ranges)
    for block in (b for b in blueprint.blocks if b.kind not in ("input", *MOVES)):
        layer, fmt = plan.layers[block.name], solutions[block.name].output
        bound = block.activation.bound if block.activation and block.activation.bound is not None else np.inf
        if layer.output_bits is not None:
            assert (fmt.step * fmt.range[1] >= np.minimum(layer.absmax, bound) * (1 - 1e-9)).all()  # float64 quotients


@EXAMPLES
@given(st.data(), st.sampled_from([16, 20, 28]))
def test_accumulators_fit_the_width_of_the_plan(data: st.DataObject, width: int) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    narrow = Plan({n: LayerPlan(p.weight_bits, p.output_bits, p.signed, p.per_axis, p.low, p.high, width) for n, p in plan.layers.items()})
    program = bake(blueprint, narrow, solve(blueprint, narrow, ranges))
    for block in (b for b in program.blocks if b.kind in LINEAR):
        assert accumulator_bits(program, block) <= width


def _one(weight: np.ndarray, bias: np.ndarray, high: np.ndarray) -> tuple[Blueprint, Plan, dict[str, Range]]:
    blocks = (
        Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3)),
        Block("conv", "conv2d", ("q",), "y", activation=Activation("relu"), arrays={"weight": weight, "bias": bias}),
    )
    ranges = {"q": Range(np.full(2, -1.0), np.full(2, 1.0)), "y": Range(np.zeros_like(high), high)}
    layers = {b.name: LayerPlan(None if b.kind == "input" else 8, 8, True, True, ranges[b.output].low, ranges[b.output].high) for b in blocks}
    return Blueprint(blocks, ("y",), {"q": (None, 2, 1, 1), "y": (None, len(high), 1, 1)}), Plan(layers), ranges


@pytest.mark.parametrize("case", ["zero weights", "dead output", "all dead", "tiny weights beside a huge bias"])
def test_degenerate_channels_give_a_sound_program(case: str) -> None:
    weight, bias, high = np.ones((3, 2, 1, 1)), np.full(3, 0.5), np.array([2.5, 2.5, 2.5])
    if case == "zero weights":
        weight[1] = 0
    elif case == "dead output":
        high[1] = 0
    elif case == "all dead":
        weight[:], bias[:], high[:] = 0, 0, 0
    else:
        weight[1], bias[1], high[1] = 1e-12, 1e3, 1e3
    blueprint, plan, ranges = _one(weight, bias, high)
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    out = program.predict({"x": np.ones((1, 2, 1, 1), np.float32)})["y"].ravel()

    assert program.verify() == () and np.isfinite(out).all()
    if case != "all dead":
        assert out[0] == pytest.approx(2.5, rel=0.02)  # half a step of 127
    if case.startswith("tiny"):
        assert out[1] == pytest.approx(1e3, rel=0.02)  # as above


def test_a_dense_head_with_an_empty_row_keeps_raw_accumulators() -> None:
    blocks = (Block("quantize", "input", ("x",), "q"), Block("head", "dense", ("q",), "y", arrays={"weight": np.array([[1.0, 2.0], [0.0, 0.0]])}))
    ranges = {"q": Range(np.full(2, -1.0), np.full(2, 1.0)), "y": Range(np.zeros(2), np.array([3.0, 0.0]))}
    layers = {"quantize": LayerPlan(None, 8, True, True, np.full(2, -1.0), np.full(2, 1.0)), "head": LayerPlan(8, None, True, True, np.zeros(2), np.ones(2))}
    blueprint = Blueprint(blocks, ("y",), {"q": (None, 2), "y": (None, 2)})
    program = bake(blueprint, Plan(layers), solve(blueprint, Plan(layers), ranges))
    assert program.predict({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[pytest.approx(3.0, rel=0.01), 0.0]]  # 8-bit weights


def test_a_clipped_relu_inside_its_range_saturates_at_the_bound() -> None:
    blueprint, plan, ranges = _one(np.full((3, 2, 1, 1), 4.0), np.zeros(3), np.full(3, 6.0))
    clipped = tuple(b if b.kind == "input" else Block("conv", "conv2d", ("q",), "y", activation=Activation("relu", bound=6.0), arrays=b.arrays) for b in blueprint.blocks)
    blueprint = Blueprint(clipped, blueprint.outputs, blueprint.shapes)
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    assert "bound" not in program.blocks[1].arrays
    assert program.predict({"x": np.ones((1, 2, 1, 1), np.float32)})["y"].ravel().tolist() == [6.0] * 3


def _pair() -> tuple[Blueprint, Plan, dict[str, Range]]:
    rng = np.random.default_rng(11)
    blocks = (
        Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3)),
        Block("first", "conv2d", ("q",), "a", arrays={"weight": rng.normal(size=(4, 3, 1, 1)), "bias": rng.normal(size=4)}, activation=Activation("relu")),
        Block("second", "conv2d", ("a",), "b", arrays={"weight": rng.normal(size=(4, 4, 1, 1)), "bias": rng.normal(size=4)}),
        Block("sum", "add", ("a", "b"), "c"),
        Block("head", "dense", ("c",), "y", flatten=True, arrays={"weight": rng.normal(size=(2, 4)), "bias": np.zeros(2)}),
    )
    shapes = {"q": (None, 3, 1, 1), "a": (None, 4, 1, 1), "b": (None, 4, 1, 1), "c": (None, 4, 1, 1), "y": (None, 2)}
    ranges = {t: Range(-rng.uniform(1, 3, s[1]), rng.uniform(1, 3, s[1])) for t, s in shapes.items()}
    bits = {"quantize": (None, 8), "first": (8, 8), "second": (8, 8), "sum": (None, 8), "head": (8, None)}
    layers = {b.name: LayerPlan(*bits[b.name], True, True, ranges[b.output].low, ranges[b.output].high) for b in blocks}
    return Blueprint(blocks, ("y",), shapes), Plan(layers), ranges


def _measured(unit_in: float, unit_out: float, signed: bool) -> tuple[Blueprint, Plan, dict[str, Range]]:
    """The same network for an input in other units, with all inner tensors and the output in other units too."""
    blueprint, plan, ranges = _pair()
    scales = {b.output: unit_in if b.kind == "input" else unit_out for b in blueprint.blocks}
    blocks = tuple(
        b.with_arrays(weight=b.weight * (scales[b.output] / scales[b.inputs[0]]), bias=b.arrays["bias"] * scales[b.output]) if b.weight is not None else b
        for b in blueprint.blocks
    )
    moved = {t: Range(r.low * scales[t], r.high * scales[t]) for t, r in ranges.items()}
    layers = {b.name: replace(plan.layers[b.name], low=moved[b.output].low, high=moved[b.output].high, signed=signed or b.kind != "input") for b in blocks}
    return replace(blueprint, blocks=blocks), Plan(layers), moved


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("unit_in", "unit_out"), [(-40, 0), (-60, -60), (0, -50), (40, 0), (0, 50)])
def test_integers_do_not_depend_on_the_units_of_measure(unit_in: int, unit_out: int, signed: bool) -> None:
    """A sensor's volts as nanovolts, or activations a thousand times smaller with the next weights a thousand times larger: the same program."""
    plain, other = (bake(*made[:2], solve(*made)) for made in (_measured(1.0, 1.0, signed), _measured(2.0**unit_in, 2.0**unit_out, signed)))
    for one, two in zip(plain.blocks, other.blocks, strict=True):
        assert {k: v.tolist() for k, v in one.arrays.items() if k != "scale"} == {k: v.tolist() for k, v in two.arrays.items() if k != "scale"}


@pytest.mark.parametrize(("bits", "fan_in", "width"), [(2, 20, 13), (2, 5, 11), (4, 300, 16), (8, 300, 20)])
def test_rounding_up_does_not_break_the_width(bits: int, fan_in: int, width: int) -> None:
    """Weights just above a half all round up: their integers sum to nearly twice what the floats say."""
    top = 2 ** (bits - 1) - 1
    weight = np.full((1, fan_in, 1, 1), 0.51 if bits == 2 else 0.6 / top)
    weight[0, 0] = 1
    blueprint, plan, ranges = _one(weight, np.zeros(1), np.full(1, 0.01))
    channels = np.ones(fan_in)
    layers = {"quantize": LayerPlan(None, 8, False, True, 0 * channels, 255 * channels), "conv": replace(plan.layers["conv"], weight_bits=bits, buffer_bits=width)}
    ranges |= {"q": Range(0 * channels, 255 * channels)}
    blueprint = replace(blueprint, shapes={"q": (None, fan_in, 1, 1), "y": (None, 1, 1, 1)})
    program = bake(blueprint, Plan(layers), solve(blueprint, Plan(layers), ranges))
    assert accumulator_bits(program, program.blocks[1]) <= width
