"""Programs on disk: every array and format comes back; what is no program is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import networks, plans

from quantizeml_core.bake import bake
from quantizeml_core.blocks import Block
from quantizeml_core.errors import ModelError
from quantizeml_core.program import Format, Program, reach
from quantizeml_core.solve import solve


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_saved_and_loaded_programs_are_equal(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    again = Program.load(program.save(tmp_path_factory.mktemp("p") / "net.npz"))

    assert again.to_json() == program.to_json() and again.blocks == program.blocks
    for one, other in zip(program.blocks, again.blocks, strict=True):
        assert {k: (v.dtype, v.tolist()) for k, v in one.arrays.items()} == {k: (v.dtype, v.tolist()) for k, v in other.arrays.items()}
    assert {t: f.step.tolist() for t, f in program.formats.items()} == {t: f.step.tolist() for t, f in again.formats.items()}


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 truncated"])
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a saved program"):
        Program.load(path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{"program.json": np.array([object()], dtype=object)})
    with pytest.raises(ModelError, match="not a saved program"):
        Program.load(tmp_path / "net.npz")


ENTRY = Block("quantize", "input", ("x",), "q", arrays={"scale": np.ones(1, np.float32), "zero_point": np.zeros(1, np.int8)})
DENSE = Block("fc", "dense", ("q",), "y", arrays={"weight": np.ones((2, 2), np.int8)})
FORMATS = {"q": Format(8, True, np.ones(1)), "y": Format(32, True, np.ones(2))}


def _program(block: Block = DENSE, formats: dict[str, Format] = FORMATS, outputs: tuple[str, ...] = ("y",)) -> Program:
    return Program((ENTRY, block), formats, outputs, {"q": (None, 2), "y": (None, 2)})


@pytest.mark.parametrize(("program", "fault"), [
    (_program(), ""),
    (_program(replace(DENSE, inputs=("z",))), "`fc` reads `z`, which nothing writes"),
    (_program(replace(DENSE, kind="magic")), "unknown kind `magic`"),
    (_program(formats={"q": FORMATS["q"]}), "`y` has no format"),
    (_program(DENSE.with_arrays(weight=np.ones((2, 2)))), "holds floats in `weight`"),
    (_program(DENSE.with_arrays(multiplier=np.array([300]))), "multiplier outside 0..255"),
    (_program(outputs=("y", "nowhere")), "output `nowhere` has no producer"),
])
def test_verify_names_each_fault(program: Program, fault: str) -> None:
    faults = program.verify()
    assert any(fault in f for f in faults) if fault else faults == ()


def test_reach_knows_that_a_relu_is_not_negative() -> None:
    from quantizeml_core.blocks import Activation
    formats = {**FORMATS, "y": Format(8, True, np.ones(2))}
    assert reach(_program(formats=formats), "y") == (-128, 127)
    assert reach(_program(replace(DENSE, activation=Activation("relu")), formats), "y") == (0, 127)
