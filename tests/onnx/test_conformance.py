"""The converter's rules as findings, and the probe of the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.program import Format, Program
from quantizeml_core.testing import Mismatch
from quantizeml_onnx import conformance, functions, pairs, selfcheck
from quantizeml_onnx.conformance import same_pads, violations

CHANNELS = 4
CONV = Block("conv", "conv2d", ("q",), "y", pads=(1, 1, 1, 1), activation=Activation("relu"), arrays={
    "weight": np.ones((CHANNELS, CHANNELS, 3, 3), np.int8), "bias": np.full(CHANNELS, 100), "multiplier": np.full(CHANNELS, 131, np.uint8),
    "shift": np.full(CHANNELS, 12), "range": np.array([-128, 127]),
})


def _program(block: Block, size: tuple[int, int] = (8, 8), bits: int = 8) -> Program:
    entry = Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3), arrays={"scale": np.ones(1, np.float32), "zero_point": np.zeros(1, np.int8)})
    formats = {"q": Format(8, True, np.ones(1)), "y": Format(bits, True, np.ones(CHANNELS))}
    return Program((entry, block), formats, ("y",), {t: (None, CHANNELS, *size) for t in "xqy"})


def test_a_block_inside_the_contract_has_no_violation() -> None:
    assert list(violations(_program(CONV))) == []


@pytest.mark.parametrize(("block", "fact"), [
    (replace(CONV, arrays={**CONV.arrays, "bias": np.full(CHANNELS, 1001)}), "8 bits of mantissa"),
    (replace(CONV, arrays={**CONV.arrays, "bound": np.full(CHANNELS, 1001)}), "bound has more than 8 bits"),
    (replace(CONV, pads=(1, 0, 1, 0), arrays={**CONV.arrays, "weight": np.ones((CHANNELS, CHANNELS, 3, 1), np.int8)}), "not square"),
    (replace(CONV, strides=(2, 1)), "not square"),
    (replace(CONV, pads=(2, 2, 0, 0)), "neither valid nor"),
    (replace(CONV, pool=Pool("max", (2, 1), (2, 1))), "pooling (2, 1)"),
    (replace(CONV, pool=Pool("max", (3, 3), (2, 2), (1, 1, 1, 1))), "pooling pads (1, 1, 1, 1), the converter takes (0, 0, 1, 1)"),
    (replace(CONV, kind="depthwise2d", groups=CHANNELS, pool=Pool("gap")), "pooling after a depthwise convolution"),
    (replace(CONV, groups=2), "a grouped convolution"),
    (Block("d", "dense", ("q",), "y", activation=Activation("tanh"), arrays={"weight": np.ones((CHANNELS, CHANNELS), np.int8), "table": np.ones(2048)}),
     "a table after a dense layer"),
])
def test_each_rule_is_a_finding_not_a_crash(block: Block, fact: str) -> None:
    assert any(fact in message for _, message, _ in violations(_program(block)))


def test_few_bits_are_outside_the_contract() -> None:
    assert any("a 4-bit output" in message for _, message, _ in violations(_program(CONV, bits=4)))


@pytest.mark.parametrize(("strides", "pads", "size", "allowed"), [
    ((1, 1), (1, 1, 1, 1), (8, 8), True), ((2, 2), (0, 0, 1, 1), (8, 8), True), ((2, 2), (1, 1, 0, 0), (8, 8), True), ((2, 2), (1, 1, 1, 1), (8, 8), True),
    ((2, 2), (1, 1, 1, 1), (7, 7), True), ((1, 1), (0, 0, 0, 0), (8, 8), True), ((1, 1), (0, 1, 0, 1), (8, 8), False),
])
def test_pads(strides: tuple[int, int], pads: tuple[int, ...], size: tuple[int, int], allowed: bool) -> None:
    assert conformance.pads_allowed(replace(CONV, strides=strides, pads=pads), size, (3, 3)) is allowed


def test_same_pads_put_the_larger_half_at_the_end() -> None:
    assert same_pads((8, 7), (3, 3), (2, 2)) == (0, 1, 1, 1)


def test_this_machine_passes_or_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "inexact_kernels", lambda: (Mismatch("signed", "9 of 9 integers differ"),))
    assert [f.code for f in conformance.machine()] == ["QML220"]


@pytest.mark.parametrize(("weight", "groups", "top", "saturate"), [
    (np.full((4, 8, 3, 3), 127), 1, 127, False), (np.full((4, 8, 3, 3), -127), 1, 255, True), (np.full((4, 8, 3, 3), 64), 1, 255, False),
    (np.full((4, 8, 3, 3), 65), 1, 255, True), (np.full((8, 1, 3, 3), 127), 8, 255, False), (np.full((1, 1, 3, 3), 127), 1, 255, True),
    (np.full((8, 1, 3, 3), 127), 4, 255, True), (np.full((4, 8), 7), 1, 255, False),
], ids=["behind a ReLU", "a full byte", "a quarter less", "one more", "depthwise", "one channel", "two filters of a channel", "four bits"])
def test_pairs_that_saturate_sixteen_bits(weight: np.ndarray, groups: int, top: int, saturate: bool) -> None:
    assert pairs.saturate(weight.astype(np.int8), groups, top) is saturate


def test_there_are_two_ways_where_bytes_are_full() -> None:
    """The first convolution reads signed integers, the second those behind a ReLU."""
    large = {**CONV.arrays, "weight": np.full((CHANNELS, CHANNELS, 3, 3), 127, np.int8)}
    first, second = replace(CONV, arrays=large), replace(CONV, name="next", inputs=("y",), output="z", arrays=large)
    program = _program(first)
    program = replace(program, blocks=(*program.blocks, second), formats={**program.formats, "z": program.formats["y"]},
                      shapes={**program.shapes, "z": program.shapes["y"]})
    for block, ways in ((first, 1), (second, 0)):
        assert sum("= If" in line for line in functions.body(program, block).lines) == ways


def test_either_way_gives_the_same_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not selfcheck.inexact_kernels()
    monkeypatch.setattr(pairs, "SUM", 0)
    selfcheck.inexact_kernels.cache_clear()
    assert not selfcheck.inexact_kernels()
    selfcheck.inexact_kernels.cache_clear()


def test_the_probe_shows_a_saturating_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that loses half of a pair of products changes every probed block."""
    def halved(model: object, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {b.output: v // 2 if b.kind != "input" else v for b, v in selfcheck.probe().trace(feeds)}

    monkeypatch.setattr(selfcheck, "boundaries", halved)
    selfcheck.inexact_kernels.cache_clear()
    assert {m.block for m in selfcheck.inexact_kernels()} == {"unsigned", "ends", "signed", "integer", "sum", "dense"}
    selfcheck.inexact_kernels.cache_clear()
