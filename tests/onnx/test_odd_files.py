"""Files that are valid but unusual quantize like any other; what cannot be quantized is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_text import feeds, judged, network, quantize

from quantizeml_core.api import quantize_model
from quantizeml_core.errors import ModelError

X = "(float[N,3,8,8] x) => "
W = "<float[4,3,3,3] w, float[4] b, float[5,4] d, float[5] e>"
NET = f"{X} (float[N,5] y) {W} {{ a = Conv (x, w, b) r = Relu (a) p = GlobalAveragePool (r) q = Flatten (p) y = Gemm <transB = 1> (q, d, e) }}"
TAIL = f"{X} (float[N,5] y) {W} {{ a = Conv (x, w, b) r = Relu (a) s = Erf (r) p = GlobalAveragePool (s) q = Flatten (p) y = Gemm <transB = 1> (q, d, e) }}"
DROPOUT = f"(float[1,3,8,8] x) => (float[1,5] y) {W} {{ a = Conv (x, w, b) r = Relu (a) p = GlobalAveragePool (r) o, mask = Dropout <ratio = 0.5> (p)" \
    " q = Flatten (o) y = Gemm <transB = 1> (q, d, e) }"
STATIC = "(float[1,3,8,8] x) => (float[1,5] y) <float[4,3,3,3] w, float[5,144] d> { a = Conv (x, w) r = Relu (a) k = Constant <value = int64[2] {1,144}> ()" \
    " q = Reshape (r, k) y = Gemm <transB = 1> (q, d) }"
FLAT = "(float[1,3,8,8] x) => (float[5] y) <float[4,3,3,3] w, float[144,5] d> { a = Conv (x, w) r = Relu (a) k = Constant <value = int64[1] {144}> ()" \
    " q = Reshape (r, k) y = MatMul (q, d) }"
TIED = f"{X} (float[N,4,6,6] y) <float[4,3,3,3] w, float[4,4,3,3] v> {{ a = Conv (x, w) r = Relu (a) c = Conv <pads = [1,1,1,1]> (r, v)" \
    " k = Conv <pads = [1,1,1,1]> (c, v) y = Add (c, k) }"
TIED_WITH_FLOAT = f"{X} (float[N,4,6,6] y) <float[4,3,3,3] w, float[4,4,3,3] v> {{ a = Conv (x, w) r = Relu (a) c = Conv <pads = [1,1,1,1]> (r, v) s = Erf (c)" \
    " y = Conv <pads = [1,1,1,1]> (s, v) }"
TAKEN = "(float[N,3,8,8] quantize) => (float[N,4,6,6] y, float[N,4,6,6] dequantizer) <float[4,3,3,3] w, float[4,4,1,1] v, float[1] c_M> { c = Conv (quantize, w)" \
    " dequantizer_scale = Relu (c) y = Conv (dequantizer_scale, v) t = Erf (y) dequantizer = Mul (t, c_M) }"

DEAD = np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * np.reshape([1, 0, 0, 1], (4, 1, 1, 1))


def edited(text: str, edit: Callable[[onnx.ModelProto], object], opset: int = 17) -> onnx.ModelProto:
    model = network(text, opset)
    edit(model)
    return model


def old(model: onnx.ModelProto) -> None:
    """IR version 3 lists every initializer as an input too."""
    model.ir_version = 3
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer)


def backwards(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def called(*names: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        for node, name in zip(model.graph.node, names, strict=False):
            node.name = name
    return edit


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "dead filters": lambda: network(NET, w=DEAD, b=np.array([1, 0, -5, 1.0])),
    "no living filter": lambda: network(NET, w=0 * DEAD, b=np.array([-1, 0, -5, -1.0])),
    "tied weights": lambda: network(TIED),
    "weights tied with a float node": lambda: network(TIED_WITH_FLOAT),
    "initializers as inputs": lambda: edited(NET, old, 8),
    "nodes in any order": lambda: edited(NET, backwards),
    "dangling nodes": lambda: network(f"{X} (float[N,4,6,6] y) {W} {{ y = Conv (x, w) z = Relu (y) q = Flatten (z) }}"),
    "no graph name": lambda: edited(NET, lambda model: model.graph.ClearField("name")),
    "nodes called like ours": lambda: edited(TAIL, called("quantize", "dequantizer", "a", "y")),
    "tensors called like ours": lambda: network(TAKEN),
    "opset 7, a mask": lambda: edited(DROPOUT, old, 7),
    "opset 9, a mask": lambda: network(DROPOUT, 9),
    "one sample, reshaped": lambda: network(STATIC),
    "one sample, the rest reshaped": lambda: network(STATIC.replace("{1,144}", "{1,-1}")),
    "one sample, flat": lambda: network(FLAT),
}
ALONE = {"opset 7, a mask", "opset 9, a mask", "one sample, reshaped", "one sample, the rest reshaped", "one sample, flat"}


@pytest.mark.parametrize("name", FILES)
def test_an_unusual_file(tmp_path: Path, name: str) -> None:
    model = FILES[name]()
    code, said, made = quantize(tmp_path, model)
    assert code == 0 and made is not None, said
    onnx.checker.check_model(made)
    assert [v.name for v in made.graph.output] == [v.name for v in model.graph.output]
    different, clear = judged(model, made, {key: rows[:1] for key, rows in feeds(model).items()} if name in ALONE else None)
    assert different == () and min(clear) > 30


def test_repeated_node_names(tmp_path: Path) -> None:
    """The checker allows them, onnxruntime does not: the quantized file runs nevertheless."""
    model = edited(TAIL, called("n", "n", "n", "n", "n", "n"))
    code, said, made = quantize(tmp_path, model)
    assert code == 0 and made is not None, said
    assert len({node.name for node in made.graph.node}) == len(made.graph.node)
    assert judged(network(TAIL), made)[0] == ()


def test_an_operation_that_nobody_knows_stays_float(tmp_path: Path) -> None:
    model = edited(f"{X} (float[N,4,6,6] y) {W} {{ a = Conv (x, w) y = other.Custom (a) }}", lambda m: m.opset_import.append(helper.make_opsetid("other", 1)))
    code, said, made = quantize(tmp_path, model)
    assert code == 0 and made is not None and "`y` (other::Custom): no rule covers it" in said
    assert [n.op_type for n in made.graph.node][-2:] == ["Dequantizer", "Custom"]


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "r"


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "NaN in a bias": (lambda: network(NET, b=np.array([1, np.nan, 1, 1])), "`a`: its bias holds NaN or infinity"),
    "infinite weights": (lambda: network(NET, w=np.full((4, 3, 3, 3), np.inf)), "`a`: its weight holds NaN or infinity"),
    "a circle": (lambda: edited(NET, circle), "these nodes read each other in a circle: "),
    "a tensor written twice": (lambda: network(f"{X} (float[N,4,6,6] y) {W} {{ y = Conv (x, w) y = Relu (y) }}"), "single static assignment"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_unusual_model_in_memory(name: str) -> None:
    onnx.checker.check_model(quantize_model(FILES[name](), samples=feeds(FILES[name]())).model)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_quantized_in_memory(name: str) -> None:
    with pytest.raises(ModelError):
        quantize_model(REFUSED[name][0](), num_samples=4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_quantized_is_one_line(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    code, said, made = quantize(tmp_path, make())
    assert code == 1 and made is None and message in said and said.strip().count("\n") == 0, said
