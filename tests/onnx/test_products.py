"""Products of two sequences and softmaxes inside a network, as exporters spell them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantizeml_core.api import load_model, quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries
from tests.support.onnx_transformers import Writer

X = np.random.default_rng(0).normal(size=(32, 12, 12, 1)).astype(np.float32).reshape(32, 12, 1, 12)


def model(kind: str) -> onnx.ModelProto:
    """Two dense layers on the 12 pixels of a row, mixed, and two more."""
    w = Writer(3)
    x = w.op("Transpose", w.op("Reshape", w.op("Conv", "x", w.weight(12, 12, 1, 1, scale=0.3)), w.constant([0, 12, -1])), perm=[0, 2, 1])
    a, b = w.op("Relu", w.dense(x, 12, 12)), w.dense(x, 12, 12)
    mixed = MIXED[kind][0](w, a, b)
    return w.model(["N", 12, 1, 12], w.dense(w.dense(w.op("ReduceMean", mixed, axes=[1], keepdims=0), 12, 8), 8, 3), 3, 17)


MIXED = {
    "columns": (lambda w, a, b: w.op("MatMul", a, b), ["matmul"]),
    "rows by rows": (lambda w, a, b: w.op("Relu", w.op("MatMul", a, w.op("Transpose", b, perm=[0, 2, 1]))), ["matmul"]),
    "einsum": (lambda w, a, b: w.op("Einsum", a, b, equation="btk,bsk->bts"), ["matmul"]),
    "a softmax that gates": (lambda w, a, b: w.op("Mul", w.op("Softmax", a, axis=-1), b), ["softmax", "multiply"]),
    "a softmax that mixes tokens": (lambda w, a, b: w.op("MatMul", w.op("Softmax", w.dense(a, 12, 12), axis=2), b), ["softmax", "matmul"]),
    "an attention of one head": (
        lambda w, a, b: w.op("MatMul", w.op("Softmax", w.op("MatMul", a, w.op("Transpose", b, perm=[0, 2, 1])), axis=-1), b), ["attention"]),
}


@pytest.mark.parametrize("kind", MIXED)
def test_it_is_an_integer_block(kind: str, tmp_path: object) -> None:
    """28 dB: 8-bit tensors of a few layers, averaged over 12 tokens."""
    net = model(kind)
    result = quantize_model(net, samples=X)
    kinds = [b.kind for b in result.blueprint.blocks if b.kind in ("matmul", "softmax", "multiply", "attention")]
    assert not result.blueprint.stops and kinds == MIXED[kind][1]
    again = load_model(result.save(f"{tmp_path}/net.onnx"))
    assert differences(result.program, {"x": X[:8]}, lambda feeds: boundaries(again, feeds)) == ()
    assert decibels(*(session(m.SerializeToString()).run(None, {"x": X})[0] for m in (net, result.model))) > 28
