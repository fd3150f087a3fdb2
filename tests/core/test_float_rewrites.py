"""`fold_entry`, `centre` and `correct`: the network stays the same function; only where a known error is taken out may a bias differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import float_blueprint
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from networks import networks, plans

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.centre import centre
from quantizeml_core.correct import correct
from quantizeml_core.entry import fold_entry
from quantizeml_core.errors import ModelError
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.solve import solve

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
#: Folding reorders float64 sums of at most a few hundred terms.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def _feed(blueprint: Blueprint, tensor: str = "quantize") -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=tuple(s or 3 for s in blueprint.shapes[tensor]))}


@EXAMPLES
@given(st.data())
def test_a_folded_rescaling_is_the_same_function(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    assume(all(b.kind in ("conv2d", "depthwise2d", "dense") for b in blueprint.consumers("quantize")))
    channels = blueprint.channels("quantize")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    entry = blueprint.blocks[0].with_arrays(scale=rng.uniform(0.1, 3, channels), offset=rng.normal(size=channels))
    scaled = replace(blueprint, blocks=(entry, *blueprint.blocks[1:]))
    folded = fold_entry(scaled)
    expected, got = (float_blueprint.run(b, _feed(b)) for b in (scaled, folded))

    assert "scale" not in folded.blocks[0].arrays
    for tensor in (b.output for b in blueprint.blocks[1:]):
        np.testing.assert_allclose(got[tensor], expected[tensor], **CLOSE)


def added(name: str) -> Blueprint:
    """An addition of a rescaled input, which the input block or a tensor of another name holds."""
    entry = Block(name, "input", ("x",), "q", arrays={"scale": np.array([2.0, 3.0]), "offset": np.array([0.5, -1.0])})
    shapes = {t: (None, 2, 1, 1) for t in ("x", "q", "y")}
    return Blueprint((entry, Block("sum", "add", ("q", "q"), "y")), ("y",), shapes)


def test_an_addition_of_a_rescaled_input_gets_a_convolution() -> None:
    blueprint = added("quantize")
    folded = fold_entry(blueprint)
    expected, got = (float_blueprint.run(b, {"x": np.array([1.0, 4.0]).reshape(1, 2, 1, 1)}) for b in (blueprint, folded))
    assert [b.kind for b in folded.blocks] == ["input", "conv2d", "add"]
    np.testing.assert_allclose(got["y"], expected["y"], **CLOSE)


def test_an_addition_of_a_rescaled_input_that_has_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match="reads a rescaled model input"):
        fold_entry(added("q"))


@EXAMPLES
@given(st.data())
def test_centring_shifts_tensors_and_nothing_else(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    centred, moved, means = centre(blueprint, plan, ranges)
    ends = {b.output: (moved.layers[b.name].low * 128 / 127, moved.layers[b.name].high) for b, c in zip(blueprint.blocks, centred.blocks, strict=True) if b.activation != c.activation}
    before, after = float_blueprint.run(blueprint, _feed(blueprint), _from_zero(ends)), float_blueprint.run(centred, _feed(blueprint), ends)

    for tensor in (b.output for b in blueprint.blocks):
        offset = before[tensor] - after[tensor]
        shift = ranges[tensor].mean - means[tensor].mean
        np.testing.assert_allclose(offset, np.broadcast_to(shift.reshape(1, -1, *(1,) * (offset.ndim - 2)), offset.shape), **CLOSE)
    for tensor in blueprint.outputs:
        np.testing.assert_allclose(after[tensor], before[tensor], **CLOSE)


def _from_zero(ends: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same ranges of bytes, moved to where they begin at zero."""
    return {t: (np.zeros(1), high - low) for t, (low, high) in ends.items()}


def _chain(pads: tuple[int, int, int, int] = (0, 0, 0, 0), activation: Activation | None = None) -> Blueprint:
    rng = np.random.default_rng(3)
    first = Block("first", "conv2d", ("q",), "a", activation=activation, arrays={"weight": rng.normal(size=(4, 3, 1, 1)), "bias": rng.normal(size=4) + 5})
    second = Block("second", "conv2d", ("a",), "y", pads=pads, activation=Activation("relu"), arrays={"weight": rng.normal(size=(2, 4, 1, 1))})
    blocks = (Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3)), first, second)
    return Blueprint(blocks, ("y",), {t: (None, c, 4, 4) for t, c in (("q", 3), ("a", 4), ("y", 2))})


def _plan(blueprint: Blueprint, feeds: dict[str, np.ndarray], bits: int = 8) -> tuple[Plan, dict[str, Range]]:
    values = float_blueprint.run(blueprint, feeds)
    ranges = {b.output: Range(*(f(values[b.output], axis=(0, 2, 3)) for f in (np.min, np.max)), mean=values[b.output].mean(axis=(0, 2, 3))) for b in blueprint.blocks}
    layers = {b.name: LayerPlan(bits if b.kind != "input" else None, 8, True, True, ranges[b.output].low, ranges[b.output].high) for b in blueprint.blocks}
    return Plan(layers), ranges


@pytest.mark.parametrize(("blueprint", "moves"), [
    (_chain(), True), (_chain(pads=(1, 1, 1, 1)), False), (_chain(activation=Activation("relu")), False),
])
def test_only_tensors_that_can_be_given_back_move(blueprint: Blueprint, moves: bool) -> None:
    plan, ranges = _plan(blueprint, _feed(blueprint, "q"))
    _, centred, _ = centre(blueprint, plan, ranges)
    low, high = centred.layers["first"].extremes
    assert np.allclose(low, -high, atol=1e-12) is moves  # a difference of float64 numbers
    assert centred.layers["second"] == plan.layers["second"]


@pytest.mark.parametrize(("activation", "reader", "bits", "left"), [
    (Activation("relu"), {}, 8, True), (Activation("relu", bound=2.0), {}, 8, True), (Activation("relu"), {"pads": (1, 1, 1, 1)}, 8, False),
    (Activation("relu"), {"kind": "add", "inputs": ("a", "a")}, 8, False), (Activation("relu"), {}, 4, False),
])
@pytest.mark.parametrize("differ", [True, False], ids=["taps that differ", "an average"])
def test_a_relu_behind_a_depthwise_convolution_is_left_to_saturation(activation: Activation, reader: dict[str, Any], bits: int, left: bool, differ: bool) -> None:
    """128 steps below the middle is zero, 127 above it the largest value, or the ReLU's bound; where the reader can give that back, and bytes are whole."""
    blueprint, taps, left = _chain(activation=activation), np.random.default_rng(4).normal(size=(3, 3)) if differ else 0.1, left and differ
    first = replace(blueprint.blocks[1], kind="depthwise2d", groups=3, pads=(1, 1, 1, 1), arrays={"weight": taps * np.ones((3, 1, 3, 3))})
    second = replace(blueprint.blocks[2].with_arrays(weight=np.ones((2, 3, 1, 1))), **reader)
    blueprint = Blueprint((blueprint.blocks[0], first, second), ("y",), {**blueprint.shapes, "a": (None, 3, 4, 4)})
    plan, ranges = _plan(blueprint, _feed(blueprint, "q"))
    plan = Plan({**plan.layers, "first": replace(plan.layers["first"], output_bits=bits, signed=bits == 8)})
    made, centred, moved = centre(blueprint, plan, ranges)
    assert (made.blocks[1].activation is None) is left
    if left:
        middle, step = ranges["a"].mean - moved["a"].mean, centred.layers["first"].absmax / 127
        np.testing.assert_allclose(middle - 128 * step, 0, atol=1e-12)  # differences of float64 numbers
        np.testing.assert_allclose(middle + 127 * step, np.minimum(plan.layers["first"].absmax, activation.bound or np.inf))


@pytest.mark.parametrize(("kind", "activation", "padding", "left"), [
    ("depthwise2d", Activation("relu", bound=2.0), True, True), ("depthwise2d", Activation("relu"), False, False),
    ("depthwise2d", Activation("tanh"), True, False), ("conv2d", Activation("relu"), True, False),
])
def test_a_relu_in_front_of_a_padded_depthwise_convolution(kind: str, activation: Activation, padding: bool, left: bool) -> None:
    """Left to saturation where the target pads with another number than zero: with the integer of zero, -128."""
    blueprint = _chain((1, 1, 1, 1), activation)
    weight = np.random.default_rng(5).normal(size=(4, 1, 3, 3) if kind == "depthwise2d" else (2, 4, 3, 3))
    second = replace(blueprint.blocks[2].with_arrays(weight=weight), kind=kind, groups=4 if kind == "depthwise2d" else 1)
    blueprint = replace(blueprint, blocks=(*blueprint.blocks[:2], second))
    plan, ranges = _plan(blueprint, _feed(blueprint, "q"))
    made, centred, _ = centre(blueprint, plan, ranges, padding)
    assert (made.blocks[1].activation is None) is left
    assert not left or np.allclose(made.blocks[2].arrays["pad_value"], -128 / 127 * centred.layers["first"].absmax)  # quotients of float64 numbers


@pytest.mark.parametrize("case", ["unsigned", "moves"])
def test_what_has_no_negative_integers_or_keeps_those_it_reads_stays(case: str) -> None:
    blueprint = _chain()
    plan, ranges = _plan(blueprint, _feed(blueprint, "q"))
    if case == "unsigned":
        plan = Plan({**plan.layers, "first": replace(plan.layers["first"], signed=False)})
    else:
        first = replace(blueprint.blocks[1], kind="depthwise2d", groups=3, pool=Pool("max", (2, 2), (2, 2)), arrays={"weight": np.ones((3, 1, 1, 1))})
        second = blueprint.blocks[2].with_arrays(weight=np.ones((2, 3, 1, 1)))
        blueprint = Blueprint((blueprint.blocks[0], first, second), ("y",), {**blueprint.shapes, "a": (None, 3, 4, 4)})
    assert centre(blueprint, plan, ranges)[1].layers == plan.layers


@pytest.mark.parametrize(("low", "high", "covered"), [
    (0.0, 1.0, (0.0, 2.0)), (0.5, 1.5, (0.0, 2.0)), (3.0, 4.0, (2.5, 4.5)), (-1.0, 0.0, (-2.0, 0.0)), (-0.5, 0.5, (-1.0, 1.0)), (-1.0, 1.0, (-1.0, 1.0)),
])
def test_a_margin_does_not_go_beyond_zero(low: float, high: float, covered: tuple[float, float]) -> None:
    """The first of two channels is half as wide as the second and gets the width of that one: to either side, or to the one where something may come."""
    blueprint = _chain()
    plan, ranges = _plan(blueprint, _feed(blueprint, "q"))
    wide = replace(plan.layers["first"], low=np.array([low, -1.0, -1.0, -1.0]), high=np.array([high, 1.0, 1.0, 1.0]), floor=1.0)
    _, centred, moved = centre(blueprint, Plan({**plan.layers, "first": wide}), ranges)
    middle = ranges["a"].mean[0] - moved["a"].mean[0]
    reach = centred.layers["first"].absmax[0]
    assert (middle - reach, middle + reach) == pytest.approx(covered)  # a mean of hundreds of numbers moved and taken back


def test_correction_takes_out_the_mean_of_rounded_weights() -> None:
    """With 2-bit weights the mean error per filter is large; afterwards it is nil on the very samples the means come from."""
    blueprint = _chain()
    feeds = _feed(blueprint, "q")
    plan, ranges = _plan(blueprint, feeds, bits=2)
    solutions = solve(blueprint, plan, ranges)
    corrected = correct(blueprint, plan, solutions, ranges, {})
    first, fixed = blueprint.blocks[1], corrected.blocks[1]
    step = solutions["first"].acc_step.reshape(-1, 1, 1, 1) / solutions["quantize"].output.step.reshape(1, -1, 1, 1)
    rounded = np.clip(np.rint(first.weight / step), -1, 1) * step
    wrong, right = (float_blueprint._linear(replace(b, arrays={**b.arrays, "weight": rounded}), feeds["x"]) for b in (first, fixed))
    truth = float_blueprint._linear(first, feeds["x"])

    assert np.abs((wrong - truth).mean(axis=(0, 2, 3))).max() > 1e-3
    np.testing.assert_allclose((right - truth).mean(axis=(0, 2, 3)), 0, atol=1e-5)  # the mean keeps 20 significant bits
