"""With the reference's own choices our formulas give the reference's integers: initializers and every node output, zero tolerance.

Two known differences are left out, by name: the reference inserts identity convolutions (they change no integer of the other nodes), and
`rescale` with a signed input, where its README says that the reference pads wrongly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantizeml_core.bake import bake
from quantizeml_core.blocks import LINEAR, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.calibration import Range
from quantizeml_core.entry import fold_entry
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.program import Program
from quantizeml_core.scheme import Reference
from quantizeml_core.solve import solve
from quantizeml_onnx import contract
from quantizeml_onnx.emit import initializer
from quantizeml_onnx.normalize import prepare
from quantizeml_onnx.rewrites import BUILTIN_REWRITES, sanitize
from quantizeml_onnx.rules import builtin_rules
from quantizeml_onnx.survey import survey

ROOT = Path(__file__).parents[1] / "specimens" / "onnx"
TAGS = ("u8_axis", "u8_tensor", "i8_axis", "u8_axis_lob8")
CASES = [(n, t) for n in ("tiny", "residual", "dwsep", "swish_concat", "rescale") for t in TAGS if (n, t) != ("rescale", "i8_axis")] + [("mlp", "i8_axis")]


class Specimen:
    """One network quantized by the reference in one configuration."""

    def __init__(self, name: str, tag: str) -> None:
        folder = ROOT / name
        self.signed, self.per_tensor, self.last_bits = tag.startswith("i8"), "tensor" in tag, 8 if "lob8" in tag else None
        self.float = onnx.load(folder / "float.onnx")
        self.ranges, self.params, self.outputs = (np.load(folder / f"{part}_{tag}.npz") for part in ("ranges", "params", "outputs"))
        self.x = np.load(folder / "inputs.npz")["x"]
        nodes = json.loads((folder / f"graph_{tag}.json").read_text())["nodes"]
        self.nodes: dict[str, dict[str, Any]] = {n["outputs"][0]: n for n in nodes if n["name"] != "dequantizer"}

    def blueprint(self) -> Blueprint:
        model, _, _ = sanitize(prepare(self.float), BUILTIN_REWRITES)
        return fold_entry(survey(model, builtin_rules(GENERIC)))

    def range(self, tensor: str) -> Range:
        low, high = (np.atleast_1d(self.ranges[f"{tensor}::{end}"].astype(np.float64)) for end in ("lowest", "highest"))
        return Range(low, high)

    def program(self) -> Program:
        blueprint = self.blueprint()
        ranges = {b.output: self.range(b.inputs[0] if b.kind == "input" else b.output) for b in blueprint.blocks}
        ranges |= {b.probe: self.range(b.probe) for b in blueprint.blocks if b.probe}
        plan = Plan({b.name: self.layer(b, blueprint, ranges[b.output]) for b in blueprint.blocks})
        return bake(blueprint, plan, solve(blueprint, plan, ranges, Reference()), 8)

    def layer(self, block: Block, blueprint: Blueprint, seen: Range) -> LayerPlan:
        raw = not blueprint.consumers(block.output) and block.activation is None and block.kind in ("dense", "add") and self.last_bits is None
        per_axis = not self.per_tensor and (block.kind == "input" or len(blueprint.shapes[block.output]) > 2)
        signed = self.signed if block.kind == "input" else True
        return LayerPlan(8 if block.kind in LINEAR else None, None if raw else 8, signed, per_axis, seen.low, seen.high)


@pytest.mark.parametrize(("name", "tag"), CASES)
def test_the_reference_integers_are_reproduced(name: str, tag: str) -> None:
    specimen = Specimen(name, tag)
    program = specimen.program()
    checked = 0
    for block, integers in program.trace({program.blocks[0].inputs[0]: specimen.x}):
        node = specimen.nodes["quantize" if block.kind == "input" else block.output]
        for parameter in contract.call(program, block).parameters:
            ours, theirs = initializer(program, block, parameter), specimen.params[node["name"] + contract.PARAMETERS[parameter][1]]
            assert np.array_equal(*np.broadcast_arrays(ours, theirs)), f"{block.name}: {parameter}"
            checked += 1
        assert np.array_equal(integers, specimen.outputs[node["outputs"][0]]), block.name
    assert checked >= 4 * (len(program.blocks) - 1) - 4
