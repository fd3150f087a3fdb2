"""The range of a quiet channel: what the samples say about the next one."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.calibration import Range, RangeObserver, two_largest
from quantizeml_core.errors import UsageError
from quantizeml_core.margin import Margin, margin, to_bound
from quantizeml_core.plan import LayerPlan, Plan


def _seen(top: list[float], second: list[float], samples: int = 16, pixels: int = 49) -> Range:
    return Range(np.zeros(len(top)), np.array(top), second=np.array(second), samples=samples, pixels=pixels)


@pytest.mark.parametrize(("top", "second", "low", "high"), [
    ([6.0, 0.5], [6.0, 0.5], 0.0, 0.0),        # every sample reaches the same
    ([6.0, 0.5], [6.0, 0.45], 0.0, 0.125),     # nearly the same
    ([6.0, *[2.0] * 15], [6.0, *[0.1] * 15], 0.9, 1.0),  # one sample of sixteen went twenty times further, in channel after channel
    ([6.0, *[6.0, 0.0] * 8], [6.0, *[0.0] * 16], 0.9, 1.0),  # one from silence to the top
    ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),        # nothing was seen
], ids=["agree", "nearly", "apart", "silent", "zero"])
def test_a_floor_as_high_as_single_samples_stand_out(top: list[float], second: list[float], low: float, high: float) -> None:
    assert low <= margin(_seen(top, second), 127).floor <= high


def test_more_samples_less_fear() -> None:
    floors = [margin(_seen([6.0, 6.0, 1.0], [6.0, 0.5, 0.5], n), 127).floor for n in (2, 16, 4096, 2**30)]
    assert floors == sorted(floors, reverse=True) and floors[0] == 1.0 and floors[-1] < 0.2


def test_few_channels_spoil_few_samples() -> None:
    found = [margin(_seen([1.0] * n, [0.4] * n, 512, 1), 127).headroom for n in (1, 8, 64, 512)]
    assert found == sorted(found) and found[0] == 1.0 < found[-1]


def test_fewer_bits_less_headroom() -> None:
    floors = [margin(_seen([6.0, 3.0, 1.0], [6.0, 0.5, 0.5]), 2**bits - 1).floor for bits in (8, 4, 2, 1)]
    assert floors == sorted(floors, reverse=True) and floors[0] > floors[-1]


def test_one_sample_says_nothing_about_a_channel() -> None:
    assert margin(_seen([6.0, 0.5, 1.0], [0.0, 0.0, 0.0], 1, 1), 127).floor > 0.9


def test_no_margin_where_samples_were_not_counted() -> None:
    assert margin(Range(np.zeros(2), np.array([6.0, 1.0])), 127) == Margin(0.0, 1.0)


def test_headroom_where_each_sample_goes_a_little_further() -> None:
    top = [6.0, *[1.0] * 15]
    found = [margin(_seen(top, [t / gap for t in top]), 127).headroom for gap in (1.1, 1.0)]
    assert found == [1.5, 1.0]


@pytest.mark.parametrize(("extra", "high", "ends"), [
    (Margin(), [6.0, 5.0, 4.0], [6.0, 6.0, 4.0]), (Margin(0.0, 1.25), [6.0, 4.0, 3.0], [6.0, 6.0, 3.0]), (Margin(0.875, 1.0), [6.0, 1.0, 0.0], [6.0, 6.0, 6.0]),
    (Margin(), [3.0, 1.0, 0.0], [3.0, 1.0, 0.0]), (Margin(), [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
], ids=["near", "with headroom", "with a floor", "far", "silent"])
def test_a_range_near_the_bound_of_a_relu_ends_there(extra: Margin, high: list[float], ends: list[float]) -> None:
    assert to_bound(np.array(high), extra, 6.0).tolist() == ends


def test_the_fewer_pixels_the_more_headroom() -> None:
    found = [margin(_seen([1.0] * 16, [0.8] * 16, pixels=n), 127).headroom for n in (1, 49, 3136)]
    assert found == sorted(found, reverse=True) and found[0] >= 1.5 > found[-1]


def test_two_largest_of_any_batches() -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(9, 5)))
    one = two_largest(rows[8:], two_largest(rows[3:8], two_largest(rows[:3])))
    assert one.tolist() == np.sort(rows, axis=0)[-2:].tolist()


def test_a_sample_stands_for_all_its_pixels() -> None:
    observer = RangeObserver()
    observer.update(np.array([[[[9, -8]], [[1, 1]]], [[[3, 0]], [[-4, 2]]]], np.float32))
    assert observer.seen.second.tolist() == [3.0, 1.0] and (observer.seen.samples, observer.seen.pixels) == (2, 2)


def test_a_plan_holds_the_margin_and_the_range_that_was_seen() -> None:
    layer = LayerPlan(low=np.array([-8.0, 0.0]), high=np.array([4.0, 1.0]), floor=0.25, headroom=1.25)
    assert layer.absmax.tolist() == [10.0, 2.5] and layer.to_json()["output_quantizer"]["range"] == [[-8.0, 0.0], [4.0, 1.0]]


def test_an_unsigned_input_is_widened_at_both_ends() -> None:
    layer = LayerPlan(signed=False, low=np.array([-2.0, -1.0, 1.0, 0.0]), high=np.array([6.0, 1.0, 2.0, 0.0]), floor=0.5)
    assert [end.tolist() for end in layer.spans] == [[-2.0, -2.0, 0.0, 0.0], [6.0, 2.0, 4.0, 4.0]]


@pytest.mark.parametrize(("entry", "floor"), [({}, 0.25), ({"range": [[0, 0], [1, 2]]}, 0.0), ({"range": [[0, 0], [1, 2]], "floor": 0.5}, 0.5), ({"floor": 0}, 0.0)])
def test_a_range_given_by_hand_holds_as_it_is(entry: dict, floor: float) -> None:
    assert LayerPlan(low=np.zeros(2), high=np.ones(2), floor=0.25).merged({"output_quantizer": entry}).floor == floor


@pytest.mark.parametrize(("key", "value"), [("floor", 1.5), ("floor", "high"), ("headroom", 0.5)])
def test_margins_that_cannot_be_are_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`conv.output_quantizer`: the {key}"):
        Plan({"conv": LayerPlan()}).merged({"conv": {"output_quantizer": {key: value}}})
