"""Buffers in ONNX files: plain onnxruntime streams a sequence with the integers of numpy; a file reads back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from quantizeml_onnx import loading, states
from quantizeml_onnx.contract import reasons
from quantizeml_onnx.observe import session
from quantizeml_onnx.readback import program as read_program
from quantizeml_onnx.realize import from_program
from quantizeml_onnx.testing import boundaries

from quantizeml_core.bake import bake
from quantizeml_core.blocks import Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.calibration import Range
from quantizeml_core.decide import decide
from quantizeml_core.params import QuantizationParams, resolve
from quantizeml_core.program import Program
from quantizeml_core.solve import solve
from quantizeml_core.testing import differences

RNG = np.random.default_rng(11)
FRAMES, BATCH = 9, 2


def baked(groups: int) -> Program:
    """Two buffers of different lengths, the first behind a ReLU, the second on signed data; with slashes in their names."""
    def conv(name: str, source: str, shape: tuple[int, ...], relu: bool = False, groups: int = 1) -> Block:
        return Block(name, "conv2d", (source,), f"t_{name}", groups=groups, activation=Activation("relu") if relu else None,
                     arrays={"weight": RNG.normal(size=shape), "bias": RNG.normal(size=shape[0])})

    blocks = (
        Block("quantize", "input", ("x",), "q", perm=(0, 3, 1, 2)), conv("stem", "q", (4, 3, 3, 3), relu=True),
        Block("one/buffer", "buffer", ("t_stem",), "w1", frames=5),
        conv("one", "w1", (4 if groups > 1 else 6, 20 // groups, 1, 1), groups=groups),
    )
    width = len(blocks[-1].arrays["weight"])
    blocks += (Block("two/buffer", "buffer", ("t_one",), "w2", frames=2), conv("two", "w2", (3, 2 * width, 1, 1)))
    widths = {"x": 3, "q": 3, "t_stem": 4, "w1": 20, "t_one": width, "w2": 2 * width, "t_two": 3}
    shapes = {t: (None, w, *((8, 6) if t in "xq" else (6, 4))) for t, w in widths.items()}
    drawn = Blueprint(blocks, ("t_two",), shapes)
    ranges = {b.output: Range(np.full(widths[b.output], -4.0), np.full(widths[b.output], 4.0)) for b in blocks}
    plan = decide(drawn, ranges, resolve(QuantizationParams(last_output_bits=8), GENERIC), GENERIC)
    return bake(drawn, plan, solve(drawn, plan, ranges))


@pytest.fixture(scope="module", params=[1, 4])
def case(request: pytest.FixtureRequest) -> tuple[Program, onnx.ModelProto, np.ndarray]:
    program = baked(request.param)
    return program, from_program(program), (RNG.normal(size=(FRAMES, BATCH, 8, 6, 3)) * 2).astype(np.float32)


def test_plain_onnxruntime_streams_the_integers_of_the_program(case: tuple[Program, onnx.ModelProto, np.ndarray]) -> None:
    program, model, frames = case
    onnx.checker.check_model(model)
    run, outputs = session(model.SerializeToString()), [o.name for o in model.graph.output]
    assert outputs == ["t_two", "one/buffer_state_next", "two/buffer_state_next"]
    state, kept = program.initial_state(BATCH), states.initial(model, BATCH)
    for frame in frames:
        expected, state = program.step({"x": frame}, state)
        found = dict(zip(outputs, run.run(outputs, {"x": frame, **kept}), strict=True))
        kept = states.following(model, found)
        assert np.array_equal(found["t_two"], program.dequantize("t_two", expected["t_two"]))
        assert all(np.array_equal(kept[states.names(block)[0]], older) and older.dtype == np.int8 for block, older in state.items())


def test_every_boundary_holds_the_integers_in_the_middle_of_a_sequence(case: tuple[Program, onnx.ModelProto, np.ndarray]) -> None:
    program, model, frames = case
    state = program.initial_state(BATCH)
    for frame in frames[:6]:
        fed = {states.names(block)[0]: older for block, older in state.items()}
        found = boundaries(model, {"x": frame, **fed})
        expected, state = program.step({"x": frame}, state)
        assert all(np.array_equal(found[t], v) and found[t].dtype == v.dtype for t, v in expected.items())
    assert differences(program, {"x": frames[0]}, lambda feeds: boundaries(model, feeds)) == ()


def test_a_file_reads_back_as_its_program(case: tuple[Program, onnx.ModelProto, np.ndarray]) -> None:
    program, model, frames = case
    again = read_program(model)
    assert again is not None and again.verify() == ()
    facts = [[(b.kind, b.inputs, b.output, b.frames, b.groups) for b in p.blocks] for p in (again, program)]
    assert facts[0] == facts[1]
    assert {t: (f.bits, f.signed) for t, f in again.formats.items()} == {t: (f.bits, f.signed) for t, f in program.formats.items()}
    one, other = program.initial_state(BATCH), again.initial_state(BATCH)
    for frame in frames[:6]:
        (a, one), (b, other) = program.step({"x": frame}, one), again.step({"x": frame}, other)
        assert all(np.array_equal(v, b[t]) for t, v in a.items())


def test_states_are_no_samples_and_the_block_is_outside_the_converter(case: tuple[Program, onnx.ModelProto, np.ndarray]) -> None:
    program, model, _ = case
    assert [(spec.name, spec.ordered) for spec in loading.inputs(model)] == [("x", True)]
    assert reasons(program, program.blocks[2]) == ("frames kept from call to call",)
