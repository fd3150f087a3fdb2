"""Vision transformers as exporters spell them are integer from end to end, and onnxruntime computes the integers of the program."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantizeml_core.api import Result, check_model, load_model, quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx.normalize import prepare
from quantizeml_onnx.observe import session
from quantizeml_onnx.rewrites import BUILTIN_REWRITES, sanitize
from quantizeml_onnx.testing import boundaries
from tests.support.onnx_transformers import Mask, Writer, vit

X = np.random.default_rng(0).random((32, 1, 28, 28)).astype(np.float32)
NETS = {"timm": vit("timm"), "timm, opset 13": vit("timm", elementary=True), "split": vit("split"), "apart": vit("apart"),
        "a fixed batch": vit("timm", batch=1), "torch": vit("torch"), "tensorflow": vit("tensorflow"), "torch, a fixed batch": vit("torch", batch=1)}


@pytest.fixture(scope="module", params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, Result]:
    return NETS[request.param], quantize_model(NETS[request.param], samples=X)


def test_the_whole_network_is_integer(case: tuple[onnx.ModelProto, Result]) -> None:
    kinds = [b.kind for b in case[1].blueprint.blocks]
    assert not case[1].blueprint.stops and kinds.count("attention") == 2 and kinds.count("normalize") == 5 and kinds.count("embed") == 1


def test_onnxruntime_computes_the_integers_of_the_program(case: tuple[onnx.ModelProto, Result]) -> None:
    model, result = case
    some = X[:1] if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value else X[:8]
    assert differences(result.program, {"x": some}, lambda feeds: boundaries(result.model, feeds)) == ()


def test_the_logits_keep_28_decibels(case: tuple[onnx.ModelProto, Result]) -> None:
    """What 8-bit tensors of two encoders in a row leave (30 to 35 dB measured)."""
    some = [X[i : i + 1] for i in range(8)]
    float_logits, integer_logits = (np.vstack([session(m.SerializeToString()).run(None, {"x": x})[0] for x in some]) for m in (case[0], case[1].model))
    assert decibels(float_logits, integer_logits) > 28


def test_a_written_file_is_read_back(case: tuple[onnx.ModelProto, Result], tmp_path: object) -> None:
    path = case[1].save(f"{tmp_path}/vit.onnx")
    again = load_model(path)
    some = X[:1]
    assert differences(case[1].program, {"x": some}, lambda feeds: boundaries(again, feeds)) == ()


def test_akida_says_which_document_lists_no_transformer() -> None:
    messages = [f.message for f in check_model(NETS["timm"], target="akida2")]
    for capability in ("embed", "normalize", "attention"):
        assert any(f"lacks `{capability}`" in m and "not listed by https://doc.brainchipinc.com" in m for m in messages)


def causal(tokens: int) -> np.ndarray:
    return np.where(np.tri(tokens, dtype=bool), 0, -np.inf)[None, None]


MASKS: dict[str, Mask] = {
    "causal, added": lambda w, x, t: w.op("Add", x, w.constant(causal(t), np.float32)),
    "causal, chosen": lambda w, x, t: w.op("Where", w.constant(np.tri(t), np.bool_), x, w.constant(-1e9, np.float32)),
    "hidden keys, chosen": lambda w, x, t: w.op("Where", w.constant(np.arange(t) % 3 == 1, np.bool_), w.constant(-np.inf, np.float32), x),
    "a bias for each head": lambda w, x, t: w.op("Add", w.constant(w.rng.normal(size=(4, t, t)), np.float32), x),
    "scaled behind it": lambda w, x, t: w.op("Mul", w.op("Add", x, w.constant(w.rng.normal(size=(t, t)), np.float32)), w.constant(0.5, np.float32)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_constant_mask_is_part_of_the_attention(name: str, tmp_path: object) -> None:
    model = vit("apart", depth=1, mask=MASKS[name])
    result = quantize_model(model, samples=X)
    attention = next(b for b in result.program.blocks if b.kind == "attention")
    assert not result.blueprint.stops and "mask" in attention.arrays
    again = load_model(result.save(f"{tmp_path}/masked.onnx"))
    assert differences(result.program, {"x": X[:4]}, lambda feeds: boundaries(again, feeds)) == ()
    logits = [session(m.SerializeToString()).run(None, {"x": X})[0] for m in (model, result.model)]
    assert decibels(*logits) > 30


REFUSED: dict[str, tuple[Mask, str]] = {
    "a mask that is computed": (lambda w, x, t: w.op("Add", x, w.op("Abs", x)), "its scores are no product of queries and keys"),
    "a token that sees nothing": (lambda w, x, t: w.op("Add", x, w.constant(np.full((t, 1), -np.inf), np.float32)), "its mask hides every token"),
    "one for each sample": (lambda w, x, t: w.op("Add", x, w.constant(np.zeros((32, 1, t, t)), np.float32)), "its mask has the shape (32, 1, 49, 49)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_mask_stays_float_with_a_reason(name: str) -> None:
    mask, reason = REFUSED[name]
    _, _, refused = sanitize(prepare(vit("apart", depth=1, mask=mask)), BUILTIN_REWRITES)
    assert any(r.rewrite == "attention" and r.reason.startswith(reason) for r in refused), refused


def mixer(beta: bool) -> onnx.ModelProto:
    """An MLP on tokens as TensorFlow's exporter writes it: pixels channels last, normalizations by a factor, dense layers on matrices of rows."""
    w = Writer(2)

    def norm(x: str) -> str:
        mean = w.op("GlobalAveragePool", x)
        d = w.op("Sub", x, mean)
        variance = w.op("Add", w.op("GlobalAveragePool", w.op("Mul", d, d)), w.constant(1e-3, np.float32))
        factor = w.op("Mul", w.op("Reciprocal", w.op("Sqrt", variance)), w.constant(w.rng.uniform(0.5, 1.5, (1, 1, 16)), np.float32))
        shift = w.op("Sub", w.weight(1, 1, 16), w.op("Mul", mean, factor)) if beta else w.op("Mul", w.op("Neg", mean), factor)
        return w.op("Add", w.op("Mul", x, factor), shift)

    def dense(x: str, inputs: int, outputs: int) -> str:
        rows = w.op("MatMul", w.op("Reshape", x, w.constant([-1, inputs])), w.weight(inputs, outputs))
        sizes = w.op("Concat", w.op("Gather", w.op("Shape", x), w.constant([0, 1])), w.constant([outputs]), axis=0)
        return w.op("Add", w.op("Reshape", rows, sizes), w.weight(outputs, scale=0.1))

    patches = w.op("Transpose", w.op("Conv", "x", w.weight(16, 1, 4, 4, scale=0.3), strides=[4, 4]), perm=[0, 2, 3, 1])
    batch = w.op("Gather", w.op("Shape", patches), w.constant([0]))
    x = w.op("Reshape", patches, w.op("Concat", batch, w.constant([49, 16]), axis=0))
    x = w.op("Add", x, dense(w.op("Relu", dense(norm(x), 16, 32)), 32, 16))
    return w.model(["N", 1, 28, 28], w.dense(w.op("ReduceMean", norm(x), axes=[1], keepdims=0), 16, 10), 10, 17)


@pytest.mark.parametrize("beta", [True, False])
def test_tokens_as_tensorflow_exports_them_are_integers(beta: bool) -> None:
    """30 dB: 8-bit tensors of a few layers."""
    model = mixer(beta)
    result = quantize_model(model, samples=X)
    assert not result.blueprint.stops and [b.kind for b in result.blueprint.blocks].count("normalize") == 2
    assert differences(result.program, {"x": X[:4]}, lambda feeds: boundaries(result.model, feeds)) == ()
    assert decibels(*(session(m.SerializeToString()).run(None, {"x": X})[0] for m in (model, result.model))) > 30


def test_sizes_that_only_the_batch_hides_are_known() -> None:
    """A network of a fixed batch runs with any: the batch is followed through heads, rows and a class token."""
    net = prepare(vit("torch", batch=1, depth=1))
    float_net, x = net_bytes(net), X[:3]
    single = np.vstack([session(vit("torch", batch=1, depth=1).SerializeToString()).run(None, {"x": x[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(session(float_net).run(None, {"x": x})[0], single, atol=1e-5)  # float32 in another order


def net_bytes(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString()
