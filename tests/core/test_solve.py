"""Scales: ranges are covered, ratios are exact, accumulators fit, quiet and dead channels stay finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import networks, plans

from quantizeml_core import numerics
from quantizeml_core.bake import bake
from quantizeml_core.blocks import LINEAR, Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.report.inspect import accumulator_bits
from quantizeml_core.scheme import CHANNEL_FLOOR, Exact
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
def test_every_range_is_covered(data: st.DataObject) -> None:
    """step * qmax reaches the calibrated range of every channel, but where a clipped ReLU ends it or a channel is quiet."""
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    solutions = solve(blueprint, plan, ranges)
    for block in (b for b in blueprint.blocks if b.kind not in ("input", "concat")):
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


def test_a_quiet_channel_is_resolved_as_its_tensor_allows() -> None:
    need = Exact().need(np.array([1.0, 1e-6, 0.0]), 8, True)
    assert need.tolist() == [1 / 127, CHANNEL_FLOOR / 127, CHANNEL_FLOOR / 127]


@pytest.mark.parametrize(("low", "high", "integer", "step", "zero_point"), [
    (0.0, 255.0, True, 1.0, 0), (0.0, 200.0, True, 1.0, 0), (0.0, 200.0, False, 200 / 255, 0), (-3.0, -1.0, False, 3 / 255, 255),
    (-1.0, 1.0, False, 2 / 255, 128), (5.0, 10.0, False, 10 / 255, 0), (-100.0, 155.0, True, 1.0, 100), (0.0, 4096.0, True, 4096 / 255, 0),
])
def test_affine_input(low: float, high: float, integer: bool, step: float, zero_point: int) -> None:
    got = Exact().affine(np.array([low]), np.array([high]), integer)
    assert (got[0].item(), got[1].item()) == (pytest.approx(step, rel=1e-12), zero_point)  # one float64 quotient


def test_a_clipped_relu_inside_its_range_saturates_at_the_bound() -> None:
    blueprint, plan, ranges = _one(np.full((3, 2, 1, 1), 4.0), np.zeros(3), np.full(3, 6.0))
    clipped = tuple(b if b.kind == "input" else Block("conv", "conv2d", ("q",), "y", activation=Activation("relu", bound=6.0), arrays=b.arrays) for b in blueprint.blocks)
    blueprint = Blueprint(clipped, blueprint.outputs, blueprint.shapes)
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    assert "bound" not in program.blocks[1].arrays
    assert program.predict({"x": np.ones((1, 2, 1, 1), np.float32)})["y"].ravel().tolist() == [6.0] * 3
