"""Frames kept from call to call: the window by hand, state passed explicitly, and a whole sequence streamed and computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from quantizeml_core.bake import bake
from quantizeml_core.blocks import Activation, Block
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.builtin import GENERIC
from quantizeml_core.calibration import Range
from quantizeml_core.decide import decide
from quantizeml_core.errors import ModelError
from quantizeml_core.kernels import KERNELS
from quantizeml_core.params import QuantizationParams, resolve
from quantizeml_core.program import Program, reach
from quantizeml_core.solve import solve

RNG = np.random.default_rng(5)
T, C, F = 3, 2, 4
FRAMES = 7


def blueprint(groups: int, join: bool = False) -> Blueprint:
    """Two convolutions with a buffer between them; with `join`, what the buffer's reader gives is added to the frame itself."""
    filters = C if groups > 1 or join else F
    blocks = [
        Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3)),
        Block("conv", "conv2d", ("q",), "a", pads=(1, 1, 1, 1), activation=Activation("relu"),
              arrays={"weight": RNG.normal(size=(C, 3, 3, 3)), "bias": RNG.normal(size=C)}),
        Block("kept", "buffer", ("a",), "w", frames=T),
        Block("mix", "conv2d", ("w",), "b", groups=groups,
              arrays={"weight": RNG.normal(size=(filters, C * T // groups, 1, 1)), "bias": RNG.normal(size=filters)}),
    ]
    shapes = {"x": (None, 3, 4, 5), "q": (None, 3, 4, 5), "a": (None, C, 4, 5), "w": (None, C * T, 4, 5), "b": (None, filters, 4, 5)}
    if join:
        blocks.append(Block("sum", "add", ("b", "a"), "s"))
        shapes["s"] = shapes["b"]
    return Blueprint(tuple(blocks), (blocks[-1].output,), shapes)


def baked(drawn: Blueprint, last_output_bits: int | None = 8) -> Program:
    widths = {b.output: drawn.channels(b.output) for b in drawn.blocks}
    tops = {t: RNG.uniform(2, 6, widths[t]) for t in widths}
    tops["w"] = tops["a"].repeat(T)
    ranges = {t: Range(-top, top) for t, top in tops.items()}
    plan = decide(drawn, ranges, resolve(QuantizationParams(last_output_bits=last_output_bits), GENERIC), GENERIC)
    return bake(drawn, plan, solve(drawn, plan, ranges))


def streamed(program: Program, frames: np.ndarray) -> list[dict[str, np.ndarray]]:
    state, found = program.initial_state(frames.shape[1]), []
    for frame in frames:
        values, state = program.step({"x": frame}, state)
        found.append(values)
    return found


def at_once(program: Program, frames: np.ndarray) -> dict[str, np.ndarray]:
    """One sequence, (frames, C, H, W), its frames as rows: windows by shifting rows, every other block by its own kernel."""
    values: dict[str, np.ndarray] = {"x": frames}
    for block in program.blocks:
        arguments = [values[t] if block.kind == "input" else values[t].astype(np.int64) for t in block.inputs]
        if block.kind == "buffer":
            x = arguments[0]
            rows = [np.concatenate([np.zeros_like(x[:age]), x[: len(x) - age]]) for age in range(block.frames - 1, -1, -1)]
            values[block.output] = np.stack(rows, axis=2).reshape(len(x), -1, *x.shape[2:])
        else:
            values[block.output] = KERNELS[block.kind](block, *arguments)
    return values


def test_the_window_is_channel_major_and_oldest_first() -> None:
    block = Block("kept", "buffer", ("x",), "y", frames=3)
    x = np.array([5, -7]).reshape(1, 2, 1, 1)
    assert KERNELS["buffer"](block, x).ravel().tolist() == [0, 0, 5, 0, 0, -7]


@pytest.mark.parametrize(("groups", "join"), [(1, False), (C, False), (1, True)])
def test_a_streamed_sequence_is_the_sequence_at_once(groups: int, join: bool) -> None:
    program = baked(blueprint(groups, join))
    assert program.verify() == ()
    frames = RNG.normal(size=(FRAMES, 2, 3, 4, 5)).astype(np.float32) * 3
    stream = streamed(program, frames)
    for sequence in range(2):
        whole = at_once(program, frames[:, sequence])
        for block, rows in program.sequence({"x": frames[:, sequence]}):
            assert np.array_equal(rows, whole[block.output]), block.name
            assert np.array_equal(np.stack([s[block.output][sequence] for s in stream]), whole[block.output]), block.name


def test_run_is_the_first_frame_of_a_sequence() -> None:
    program = baked(blueprint(1))
    frame = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    first, _ = program.step({"x": frame}, program.initial_state(2))
    assert all(np.array_equal(first[t], v) for t, v in program.run({"x": frame}).items())


def test_a_step_leaves_the_state_it_was_given() -> None:
    program = baked(blueprint(1))
    state = program.initial_state(1)
    _, after = program.step({"x": np.ones((1, 3, 4, 5), np.float32)}, state)
    assert not state["kept"].any() and after["kept"].any() and after["kept"].dtype == state["kept"].dtype == np.int8


def test_every_channel_keeps_its_step_and_its_reach() -> None:
    program = baked(blueprint(1))
    assert program.formats["w"].step.tolist() == program.formats["a"].step.repeat(T).tolist()
    assert reach(program, "w") == reach(program, "a") == (0, 127)


def test_a_raw_model_input_in_a_buffer_is_signed() -> None:
    drawn = Blueprint((Block("quantize", "input", ("x",), "q", perm=(0, 1, 2, 3)), Block("kept", "buffer", ("q",), "w", frames=T),
                       Block("mix", "conv2d", ("w",), "b", arrays={"weight": RNG.normal(size=(F, C * T, 1, 1))})), ("b",),
                      {"x": (None, C, 4, 5), "q": (None, C, 4, 5), "w": (None, C * T, 4, 5), "b": (None, F, 4, 5)})
    ranges = {t: Range(-np.ones(n), np.ones(n)) for t, n in (("q", C), ("w", C * T), ("b", F))}
    plan = decide(drawn, ranges, resolve(QuantizationParams(input_dtype="uint8"), GENERIC), GENERIC)
    assert bake(drawn, plan, solve(drawn, plan, ranges)).formats["q"].signed


def test_a_state_that_does_not_fit_is_refused() -> None:
    program = baked(blueprint(1))
    with pytest.raises(ModelError, match="its state has the shape"):
        program.step({"x": np.ones((2, 3, 4, 5), np.float32)}, program.initial_state(1))


def test_a_saved_program_keeps_its_frames(tmp_path: object) -> None:
    program = baked(blueprint(1))
    assert Program.load(program.save(f"{tmp_path}/net.npz")).blocks == program.blocks
