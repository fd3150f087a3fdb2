"""numpy Program == plain onnxruntime, integer for integer, at every block boundary, on generated networks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import networks, plans

from quantizeml_core.bake import bake
from quantizeml_core.blocks import LINEAR, Block, Pool
from quantizeml_core.blueprint import Blueprint
from quantizeml_core.calibration import Range
from quantizeml_core.plan import LayerPlan, Plan
from quantizeml_core.solve import solve
from quantizeml_core.testing import differences
from quantizeml_onnx.readback import program as read_program
from quantizeml_onnx.realize import from_program
from quantizeml_onnx.testing import boundaries

EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _feeds(blueprint, seed: int, scale: float) -> dict[str, np.ndarray]:
    shape = tuple(s or 5 for s in blueprint.shapes["quantize"])
    return {"x": (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)}


@EXAMPLES
@given(st.data())
def test_generated_networks_give_the_same_integers(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    mantissa = data.draw(st.sampled_from([None, 8]))
    program = bake(blueprint, plan, solve(blueprint, plan, ranges), mantissa)
    model = from_program(program)
    onnx.checker.check_model(model, full_check=True)
    feeds = _feeds(blueprint, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.1, 1.0, 1000.0])))

    assert program.verify() == ()
    assert differences(program, feeds, lambda f: boundaries(model, f)) == ()


@EXAMPLES
@given(st.data())
def test_a_file_reads_back_as_the_program_it_was_made_from(data: st.DataObject) -> None:
    blueprint = data.draw(networks())
    plan, ranges = data.draw(plans(blueprint))
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    again = read_program(from_program(program))
    feeds = _feeds(blueprint, 0, 1.0)

    assert again is not None
    assert {t: v.tolist() for t, v in again.run(feeds).items()} == {t: v.tolist() for t, v in program.run(feeds).items()}


#: Blocks whose sums leave the integers of float32, with the shapes they read and write.
WIDE = {
    "averages": (Block("a", "pool2d", ("quantize",), "y", pool=Pool("avg", (379, 379))), (1, 380, 380), (1, 2, 2)),
    **{f"a transposed convolution, {name}": (
        Block("t", "conv_transpose2d", ("quantize",), "y", strides=strides, pads=pads, arrays={"weight": np.ones((2, 700, *kernel))}), (700, 3, 4), (2, *out))
       for name, strides, pads, kernel, out in (
           ("cropped", (2, 1), (1, 0, 0, 1), (3, 2), (6, 4)), ("grown", (2, 3), (0, 0, -1, -2), (3, 2), (8, 10)), ("kernel below stride", (3, 4), (0, 0, 0, -3), (2, 1), (8, 16)),
       )},
}


@pytest.mark.parametrize("name", WIDE)
def test_sums_beyond_float32(name: str) -> None:
    block, *shapes = WIDE[name]
    entry = Block("quantize", "input", ("x",), "quantize", perm=(0, 1, 2, 3))
    ranges = {b.output: Range(np.full(s[0], -1.0), np.full(s[0], 1.0)) for b, s in zip((entry, block), shapes, strict=True)}
    plan = Plan({b.name: LayerPlan(8 if b.kind in LINEAR else None, 8, True, True, ranges[b.output].low, ranges[b.output].high) for b in (entry, block)})
    blueprint = Blueprint((entry, block), ("y",), {b.output: (None, *s) for b, s in zip((entry, block), shapes, strict=True)})
    program = bake(blueprint, plan, solve(blueprint, plan, ranges))
    feeds = {"x": np.random.default_rng(1).uniform(0.9, 1.1, (1, *shapes[0])).astype(np.float32)}
    assert differences(program, feeds, lambda f: boundaries(from_program(program), f)) == ()
