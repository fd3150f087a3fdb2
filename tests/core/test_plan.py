"""Decisions: defaults per block, and a user's configuration merged over them."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.calibration import Range, RangeObserver
from quantizeml_core.decide import decide
from quantizeml_core.errors import UsageError
from quantizeml_core.params import QuantizationParams, resolve
from quantizeml_core.plan import LayerPlan, Plan

RELU = Activation("relu")
CONV = Block("conv", "conv2d", ("q",), "a", activation=RELU, arrays={"weight": np.ones((2, 2, 1, 1))})
SECOND = Block("second", "conv2d", ("a",), "b", arrays={"weight": np.ones((2, 2, 1, 1))})
HEAD = Block("head", "dense", ("b",), "y", flatten=True, arrays={"weight": np.ones((2, 2))})
ENTRY = Block("quantize", "input", ("x",), "q")


def _plan(*blocks: Block, **params: object) -> Plan:
    blueprint = Blueprint((ENTRY, *blocks), (blocks[-1].output,), {})
    ranges = {b.output: Range(np.array([-1.0, 0.0]), np.array([2.0, 3.0])) for b in blueprint.blocks}
    return decide(blueprint, ranges, resolve(QuantizationParams(**params), GENERIC), GENERIC)


def test_defaults_of_each_role() -> None:
    layers = _plan(CONV, SECOND, HEAD, input_weight_bits=8, weight_bits=4, activation_bits=4).layers
    assert [layers[n].weight_bits for n in ("quantize", "conv", "second", "head")] == [None, 8, 4, 4]
    assert [layers[n].output_bits for n in ("quantize", "conv", "second", "head")] == [8, 4, 8, None]
    assert [layers[n].signed for n in ("quantize", "conv", "second")] == [False, False, True]


@pytest.mark.parametrize(("first", "dtype", "signed"), [
    (CONV, None, False), (HEAD, None, True), (Block("dw", "depthwise2d", ("q",), "a", groups=2, arrays=CONV.arrays), None, True),
    (CONV, "int8", True), (CONV, "uint8", False), (HEAD, "uint8", True),
])
def test_the_input_type_suits_the_first_layer(first: Block, dtype: str | None, signed: bool) -> None:
    block = Block(first.name, first.kind, ("q",), "a", arrays=first.arrays, groups=first.groups)
    assert _plan(block, input_dtype=dtype).layers["quantize"].signed is signed


def test_a_last_dense_keeps_its_accumulators_or_its_tables_entries() -> None:
    heads = (Block("head", "dense", ("b",), "y", activation=a, arrays=HEAD.arrays) for a in (None, Activation("sigmoid"), RELU))
    assert [_plan(CONV, SECOND, head).layers["head"].output_bits for head in heads] == [None, None, 8]


def test_last_output_bits_requantize_the_head() -> None:
    assert _plan(CONV, SECOND, HEAD, last_output_bits=8).layers["head"].output_bits == 8


def test_an_entry_merges_key_by_key() -> None:
    plan = _plan(CONV, SECOND, HEAD)
    merged = plan.merged({"second": {"weight_quantizer": {"bitwidth": 4}}, "conv": {"output_quantizer": {"range": [[0, 0], [9, 9]], "axis": "per-tensor"}}})
    assert (merged.layers["second"].weight_bits, merged.layers["second"].output_bits) == (4, 8)
    assert merged.layers["conv"].absmax.tolist() == [9.0] and merged.layers["conv"].output_bits == 8
    assert merged.layers["head"] == plan.layers["head"]


def test_a_dumped_plan_merged_over_itself_changes_nothing() -> None:
    plan = _plan(CONV, SECOND, HEAD)
    assert plan.merged(plan.to_json()).to_json() == plan.to_json()


@pytest.mark.parametrize(("config", "message"), [
    ({"secnd": {}}, "unknown layer `secnd`.*nearest: `second`"),
    ({"conv": {"weight_quantiser": {}}}, "unknown key `weight_quantiser`.*nearest: `weight_quantizer`"),
    ({"conv": {"output_quantizer": {"bits": 4}}}, "`conv.output_quantizer`: unknown key `bits`"),
    ({"conv": 8}, "the entry is int, not an object"),
])
def test_an_unknown_name_is_an_error_with_the_nearest_ones(config: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _plan(CONV, SECOND, HEAD).merged(config)


def test_per_tensor_takes_the_widest_channel() -> None:
    layer = LayerPlan(per_axis=False, low=np.array([-5.0, 0.0]), high=np.array([1.0, 3.0]))
    assert layer.absmax.tolist() == [5.0] and [e.tolist() for e in layer.extremes] == [[-5.0], [3.0]]


def test_ranges_do_not_depend_on_how_samples_are_batched() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3, 4, 4)).astype(np.float32)
    seen = []
    for size in (60, 7, 1):
        observer = RangeObserver()
        for start in range(0, 60, size):
            observer.update(x[start : start + size])
        seen.append(observer.seen)
    for other in seen[1:]:
        assert [getattr(other, k).tolist() for k in ("low", "high", "mean")] == [getattr(seen[0], k).tolist() for k in ("low", "high", "mean")]


@pytest.mark.parametrize(("value", "integer"), [(3.0, True), (3.5, False)])
def test_whole_numbers_are_noticed(value: float, integer: bool) -> None:
    observer = RangeObserver(track_integers=True)
    observer.update(np.full((2, 1), value, np.float32))
    assert observer.seen.integer is integer
