"""Steps around additions: ratios are powers of two, nothing saturates, the base is the best of the group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantizeml_core.align import FINEST, align, common_base
from quantizeml_core.blocks import Block


def _add(name: str, a: str, b: str, out: str) -> Block:
    return Block(name, "add", (a, b), out)


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(1e-3, 1e3)))
def test_common_base(wanted: np.ndarray) -> None:
    steps = common_base(wanted, np.zeros((0, 3), np.int64))
    exponents = np.log2(steps / steps[0])
    assert np.abs(exponents - np.rint(exponents)).max() < 1e-9  # exp2 of a float64 fraction is not exact
    assert (steps >= wanted * (1 - 1e-9)).all()
    assert (steps < 2 * np.maximum(wanted, wanted.max() * FINEST) * (1 + 1e-9)).all()


def test_a_sum_is_not_resolved_finer_than_its_operands() -> None:
    assert common_base(np.array([1.0, 2.0, 0.1]), np.array([[0, 1, 2]])).tolist() == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(("wanted", "equal"), [
    ([[1.0, 1.5, 2.2]], True), ([[1.0, 1.1, 3.2]], False), ([[1.0, 1.1, 3.2], [1.0, 1.5, 2.2], [2.0, 1.5, 2.2], [1.7, 1.5, 2.2]], True),
], ids=["no more noise", "too much of it", "too much in one channel, little on the average"])
def test_operands_and_sum_share_one_step_where_that_is_cheap(wanted: list[list[float]], equal: bool) -> None:
    """With 1.0, 1.1, 3.2 it costs 2 * 3.2^2 beside 1.6^2 + 3.2^2, 1.6 times as much."""
    steps = common_base(np.array(wanted), np.array([[0, 1, 2]]))
    assert bool((steps == np.max(wanted, axis=1, keepdims=True)).all()) is equal


@pytest.mark.parametrize(("serves", "growth", "patterned", "alike"), [(None, 1.0, False, True), (1, 1.9, False, False), (1, 2.1, False, True), (1, 1.9, True, True)],
                         ids=["nothing else reads them", "too coarse for others", "hardly coarser", "better alike"])
def test_channels_have_one_pattern_of_steps_where_that_is_cheap(serves: int | None, growth: float, patterned: bool, alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three channels alone would have 1:2:4, 1:1:4 and 1:1:2."""
    monkeypatch.setattr("quantizeml_core.align.EQUAL_GROWTH", growth)
    wanted = np.array([[1.0, 1.6, 3.9], [1.0, 0.9, 3.6], [1.0, 0.9, 1.9]])
    steps = common_base(wanted, np.array([[0, 1, 2]]), np.arange(3) == serves, patterned)
    patterns, alone = ({tuple(row / row[0]) for row in found} for found in (steps, np.stack([common_base(row, np.array([[0, 1, 2]])) for row in wanted])))
    assert (len(patterns) == 1) is alike and len(alone) > 1 and (steps >= wanted * (1 - 1e-12)).all()  # one product more


def test_few_groups_of_many_slots_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that a function ties together: a pattern of hundreds of exponents took minutes to find."""
    monkeypatch.setattr("quantizeml_core.align._patterned", pytest.fail)
    wanted, sums = np.exp2(np.random.default_rng(0).uniform(0, 6, (2, 9))), np.arange(9).reshape(3, 3)
    assert common_base(wanted, sums, np.ones(9, bool), patterned=True).shape == (2, 9)


@pytest.mark.parametrize(("cost", "kept"), [(1.7, True), (1.8, False)])
def test_channels_that_differ_too_much_keep_their_own_pattern(cost: float, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The common one, 1:1:1:1:1:1:2, brings 1.75 times the noise of either kind."""
    monkeypatch.setattr("quantizeml_core.align.PATTERN_COST", cost)
    wanted, sums = np.array(([[1.0] * 6 + [64.0]] * 2 + [[64.0] * 7]) * 3), np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6]])
    assert bool((common_base(wanted, sums, patterned=True) == wanted).all()) is kept


@pytest.mark.parametrize(("serves", "equal"), [((False, False, False), True), ((True, False, False), False), ((False, True, False), True)])
def test_what_others_read_keeps_its_step(serves: tuple[bool, ...], equal: bool) -> None:
    """One step for all makes the first operand twice as coarse, which the sum does not notice but others would."""
    steps = common_base(np.array([[1.0, 3.0, 3.0]]), np.array([[0, 1, 2]]), np.array(serves))
    assert bool((steps == 3.0).all()) is equal


def test_tensors_joined_by_a_chain_of_additions_share_one_base_per_channel() -> None:
    wanted = {t: np.array([v, 3 * v]) for t, v in (("a", 1.0), ("b", 1.4), ("s", 2.1), ("c", 0.3), ("t", 5.0), ("free", 0.7))}
    steps = align([_add("1", "a", "b", "s"), _add("2", "s", "c", "t")], wanted, dict.fromkeys(wanted, 2))
    assert "free" not in steps
    for channel in (0, 1):
        ratios = np.log2([steps[t][channel] / steps["a"][channel] for t in "abcst"])
        assert np.abs(ratios - np.rint(ratios)).max() < 1e-9  # as above


def test_per_tensor_steps_stay_scalars() -> None:
    wanted = {t: np.array([v]) for t, v in (("a", 1.0), ("b", 1.4), ("s", 2.1))}
    assert {t: s.shape for t, s in align([_add("1", "a", "b", "s")], wanted, dict.fromkeys(wanted, 4)).items()} == dict.fromkeys("abs", (1,))


def test_a_concatenation_passes_the_tie_to_its_sources() -> None:
    wanted = {"a": np.array([1.0]), "b": np.array([1.7]), "ab": np.array([1.7, 1.7]), "c": np.array([0.9, 2.3]), "s": np.array([3.0, 3.0])}
    channels = {"a": 1, "b": 1, "ab": 2, "c": 2, "s": 2}
    steps = align([Block("cat", "concat", ("a", "b"), "ab"), _add("1", "ab", "c", "s")], wanted, channels)
    for index, source in enumerate("ab"):
        ratio = np.log2(steps[source][0] / steps["c"][index])
        assert ratio == pytest.approx(round(ratio), abs=1e-9)  # as above


@pytest.mark.parametrize("shared", [frozenset(), frozenset("a")], ids=["", "one table for all channels"])
def test_channels_that_are_added_bind_those_of_a_tensor_that_is_split(shared: frozenset[str]) -> None:
    """Of four channels two are added; the others keep what they want but where a table asks for one base."""
    wanted = {"a": np.array([1.0, 1.3, 1.9, 0.7]), "half": np.array([1.9, 0.7]), "b": np.array([1.1, 0.6]), "s": np.array([2.5, 1.2])}
    split = Block("split", "select", ("a",), "half", arrays={"channels": np.array([2, 3])})
    steps = align([split, _add("1", "half", "b", "s")], wanted, {t: len(w) for t, w in wanted.items()}, shared)
    ratios = np.log2(np.stack([steps["a"][2:], steps["b"]]) / steps["s"])
    assert np.abs(ratios - np.rint(ratios)).max() < 1e-9  # as above
    whole = np.log2(steps["a"] / steps["a"][0])
    assert np.abs(whole - np.rint(whole)).max() < 1e-9 if shared else steps["a"][:2].tolist() == [1.0, 1.3]


def test_a_table_producer_gives_all_its_channels_one_base() -> None:
    wanted = {t: np.array([1.0, 1.3, 1.9]) for t in "abs"}
    steps = align([_add("1", "a", "b", "s")], wanted, dict.fromkeys(wanted, 3), frozenset("a"))
    ratios = np.log2(steps["a"] / steps["a"][0])
    assert np.abs(ratios - np.rint(ratios)).max() < 1e-9  # as above
