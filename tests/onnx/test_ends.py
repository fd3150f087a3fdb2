"""Several inputs and outputs: each input has its own samples and quantizer, each output keeps its name and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_text import feeds, judged, network, quantize

from quantizeml_core.api import quantize_model
from quantizeml_core.errors import UsageError
from quantizeml_onnx import readback

X = "(float[N,3,8,8] x) => "
XZ = "(float[N,3,8,8] x, float[N,3,8,8] z) => "
Y = "float[N,4,6,6] y"
W = "<float[4,3,3,3] w, float[4,3,3,3] v, float[6,4,3,3] u, float[5,4] d>"

ENDS = {
    "two inputs": f"{XZ} ({Y}) {W} {{ a = Conv (x, w) b = Conv (z, v) y = Add (a, b) }}",
    "two inputs side by side": f"{XZ} ({Y}) <float[4,6,3,3] w> {{ a = Concat <axis = 1> (x, z) y = Conv (a, w) }}",
    "an image and a vector": "(float[N,3,8,8] x, float[N,5] z) => (float[N,3] y) <float[4,3,3,3] w, float[5,4] d, float[5,5] e, float[3,10] f>"
    " { a = Conv (x, w) r = Relu (a) p = GlobalAveragePool (r) q = Flatten (p) b = Gemm <transB = 1> (q, d) c = Gemm <transB = 1> (z, e)"
    " k = Concat <axis = 1> (b, c) y = Gemm <transB = 1> (k, f) }",
    "heads": f"{X} (float[N,6,4,4] late, float[N,5] early, float[N,4,6,6] r) {W} {{ a = Conv (x, w) r = Relu (a) late = Conv (r, u) p = GlobalAveragePool (r)"
    " q = Flatten (p) early = Gemm <transB = 1> (q, d) }",
    "branches at the input": f"{X} ({Y}) {W} {{ a = Conv (x, w) b = Conv (x, v) r = Relu (b) y = Add (a, r) }}",
    "a pooled input": f"{X} (float[N,7,4,4] y) <float[4,3,1,1] w> {{ p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x) a = Conv <strides = [2,2]> (x, w)"
    " y = Concat <axis = 1> (a, p) }",
    "an input added later": f"{X} (float[N,3,8,8] y) <float[3,3,3,3] w> {{ a = Conv <pads = [1,1,1,1]> (x, w) y = Add (a, x) }}",
    "a rescaled input added later": f"{X} (float[N,3,8,8] y) <float[3,3,3,3] w, float[1,3,1,1] s, float[1] o> {{ m = Mul (x, s) i = Sub (m, o)"
    " a = Conv <pads = [1,1,1,1]> (i, w) y = Add (a, i) }",
    "a rescaled input given back": f"{X} ({Y}, float[N,3,8,8] i) <float[4,3,3,3] w, float[1] s> {{ i = Mul (x, s) y = Conv (i, w) }}",
    "an input passed on": f"{X} ({Y}, float[N,3,8,8] t) {W} {{ y = Conv (x, w) t = Identity (x) }}",
    "an input that is an output": f"{X} ({Y}, float[N,3,8,8] x) {W} {{ y = Conv (x, w) }}",
    "an activated input": f"{X} (float[N,3,8,8] t, {Y}) {W} {{ y = Conv (x, w) t = Relu (x) }}",
    "a rescaled input activated": f"{X} (float[N,3,8,8] t) <float s = {{0.2}}> {{ m = Mul (x, s) t = Tanh (m) }}",
    "one tensor under two names": f"{X} ({Y}, float[N,4,6,6] t) {W} {{ a = Conv (x, w) y = Identity (a) t = Identity (a) }}",
    "one tensor and its other name": f"{X} ({Y}, float[N,4,6,6] t) {W} {{ y = Conv (x, w) t = Identity (y) }}",
    "one output twice": f"{X} ({Y}, {Y}) {W} {{ y = Conv (x, w) }}",
    "an unused input": f"(float[N,3,8,8] x, float[N,2] z) => ({Y}) {W} {{ y = Conv (x, w) }}",
    "an input of integers": f"(float[N,3,8,8] x, int64[N,4] z) => ({Y}, float[N,4] t) {W} {{ y = Conv (x, w) t = Cast <to = 1> (z) }}",
    "a constant output": f"{X} ({Y}, float[2] t) {W} {{ y = Conv (x, w) t = Constant <value_floats = [1.0, 2.0]> () }}",
}


def names(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    return [v.name for v in model.graph.input], [v.name for v in model.graph.output]


@pytest.mark.parametrize("name", ENDS)
def test_ends(tmp_path: Path, name: str) -> None:
    model = network(ENDS[name])
    code, said, made = quantize(tmp_path, model, "--strict")
    assert code == 0 and made is not None, said
    assert names(made) == names(model)
    different, clear = judged(model, made)
    assert different == () and min(clear) > 30


OPEN = "(float[N,3,H,K] x, float[N,3,H,K] z) => (float[N,4,P,Q] y) <float[4,3,3,3] w, float[4,3,3,3] v> { a = Conv (x, w) b = Conv (z, v) y = Add (a, b) }"


def test_sizes_left_open_are_those_of_the_samples(tmp_path: Path) -> None:
    model, samples = network(OPEN), feeds(network(ENDS["two inputs"]))
    code, said, made = quantize(tmp_path, model, "--strict", samples=samples)
    assert code == 0 and made is not None, said
    assert judged(model, made, samples)[0] == ()


def test_sizes_left_open_by_name() -> None:
    shapes = {"x": (3, 8, 8), "z": (3, 8, 8)}
    assert quantize_model(network(OPEN), input_shape=shapes, num_samples=4).program.shapes["y"] == (None, 4, 6, 6)
    with pytest.raises(UsageError, match="input_shape: the model has 2 inputs. Give samples, their shapes are taken"):
        quantize_model(network(OPEN), input_shape=(3, 8, 8), num_samples=4)


def test_each_input_has_its_own_quantizer(tmp_path: Path) -> None:
    _, _, made = quantize(tmp_path, network(ENDS["two inputs"]))
    program = readback.program(made)
    steps = [program.formats[b.output].step for b in program.blocks if b.kind == "input"]
    assert len(steps) == 2 and (steps[1] > 1.5 * steps[0]).all()


@pytest.mark.parametrize(("arrays", "message"), [
    ({"x": 16}, "its arrays are called x. Allowed: one array for each input of the model: x, z"),
    ({"x": 16, "z": 8}, "the inputs have different numbers of samples: {'x': 16, 'z': 8}"),
    ({"x": 16, "z": 16, "t": 16}, "its arrays are called x, z, t. Allowed: one array for each input of the model: x, z"),
])
def test_samples_that_do_not_fit_the_inputs(tmp_path: Path, arrays: dict[str, int], message: str) -> None:
    samples = {name: np.ones((count, 3, 8, 8), np.float32) for name, count in arrays.items()}
    code, said, made = quantize(tmp_path, network(ENDS["two inputs"]), samples=samples)
    assert code == 1 and made is None and message in said and said.strip().count("\n") == 0


def test_a_rescaled_input_that_the_float_part_reads_too() -> None:
    model = network(f"{X} ({Y}, float[N,3,8,8] t) {W} {{ m = Add (x, x) y = Conv (m, w) t = Erf (m) }}")
    made = quantize_model(model, samples=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)).model
    onnx.checker.check_model(made, full_check=True)
    assert [b.kind for b in readback.program(made).blocks] == ["input", "conv2d"]


def test_functions_of_the_float_part_are_no_blocks() -> None:
    """The graph that was covered goes on behind an output whose other name went; its GELU is a function of our domain."""
    model = network(f"{X} (float[N,4,6,6] i, {Y}) <float[4,3,3,3] w, float r = {{1.4142135}}, float o = {{1.0}}, float h = {{0.5}}> {{ c = Conv (x, w) i = Identity (c)"
                    " s = Sin (c) a = Div (s, r) e = Erf (a) p = Add (e, o) m = Mul (s, p) y = Mul (m, h) }")
    made = quantize_model(model, samples=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)).model
    assert "Gelu" in [n.op_type for n in made.graph.node] and [b.kind for b in readback.program(made).blocks] == ["input", "conv2d"]
