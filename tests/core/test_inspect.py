"""What can be told of a quantized model from its integers and its configuration alone."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.blocks import Block
from quantizeml_core.builtin import GENERIC
from quantizeml_core.program import Format, Program
from quantizeml_core.report.inspect import inspect_config, inspect_program


def dense(weight: list[list[int]]) -> Program:
    arrays = {"weight": np.array(weight, np.int8)}
    start = Block("quantize", "input", ("x",), "quantize", arrays={"scale": np.ones(1, np.float32), "zero_point": np.zeros(1, np.int8)})
    blocks = (start, Block("fc", "dense", ("quantize",), "fc", arrays=arrays))
    formats = {"quantize": Format(8, True, np.ones(1), np.zeros(1, np.int64)), "fc": Format(32, True, np.ones(len(weight)))}
    shapes = {"x": (None, 2), "quantize": (None, 2), "fc": (None, len(weight))}
    return Program(blocks, formats, ("fc",), shapes)


@pytest.mark.parametrize(("weight", "codes"), [
    ([[127, 0], [-127, 3]], []), ([[127, 0], [0, 0]], ["QML103"]), ([[127, 0], [60, -10]], ["QML105"]), ([[127, 0], [64, 0]], []),
])
def test_weights(weight: list[list[int]], codes: list[str]) -> None:
    assert [f.code for f in inspect_program(dense(weight), GENERIC)] == codes


@pytest.mark.parametrize(("ends", "found"), [
    ([[0.0, -1.0], [2.0, 1.0]], []), ([[0.0, 0.0], [0.0, 1.0]], [("info", "1 of 2")]), ([[0.0], [0.0]], [("warning", "1 of 1")]), (None, []),
])
def test_ranges(ends: list[list[float]] | None, found: list[tuple[str, str]]) -> None:
    findings = inspect_config({"conv": {"output_quantizer": {"range": ends}}, "fc": {"buffer_bitwidth": 32}})
    assert [(f.severity, f.message[:6]) for f in findings] == found


@pytest.mark.parametrize(("flat_below", "flat_above", "told"), [(True, True, 0.0), (True, False, 0.25), (False, True, 0.25), (False, False, 0.5)])
def test_nothing_is_lost_where_a_function_is_flat(flat_below: bool, flat_above: bool, told: float) -> None:
    """A quarter of the values saturates at either end."""
    entries = np.arange(-128, 128)[None].astype(np.int8)
    entries[0, :2], entries[0, -2:] = (-128, -128 if flat_below else -127), (127 if flat_above else 126, 127)
    program = dense([[127, 0], [0, 127]])
    linear = program.blocks[1].with_arrays(multiplier=np.array([128]), shift=np.array([7]), range=np.array([-128, 127]))
    function = Block("f", "lookup", ("fc",), "f", arrays={"entries": entries})
    formats = {**program.formats, "fc": Format(8, True, np.ones(2)), "f": Format(8, True, np.ones(1))}
    looked_up = Program((program.blocks[0], linear, function), formats, ("f",), {**program.shapes, "f": (None, 2)})
    x = np.array([[-5.0, 5.0], [0.0, 0.0]], np.float32)
    found = [f.message for f in inspect_program(looked_up, GENERIC, feeds={"x": x}) if f.code == "QML102"]
    assert found == ([f"{100 * told:.1f} % of its outputs saturate on the given samples"] if told else [])
