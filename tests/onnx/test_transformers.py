"""Vision transformers as exporters spell them are integer from end to end, and onnxruntime computes the integers of the program."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantizeml_core.api import Result, check_model, load_model, quantize_model
from quantizeml_core.testing import decibels, differences
from quantizeml_onnx.observe import session
from quantizeml_onnx.testing import boundaries
from tests.support.onnx_transformers import vit

X = np.random.default_rng(0).random((32, 1, 28, 28)).astype(np.float32)
NETS = {"timm": vit("timm"), "timm, opset 13": vit("timm", elementary=True), "split": vit("split"), "apart": vit("apart"),
        "a fixed batch": vit("timm", batch=1)}


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


def test_the_logits_keep_30_decibels(case: tuple[onnx.ModelProto, Result]) -> None:
    """What 8-bit tensors of two encoders in a row leave (33 to 35 dB measured)."""
    some = [X[i : i + 1] for i in range(8)]
    float_logits, integer_logits = (np.vstack([session(m.SerializeToString()).run(None, {"x": x})[0] for x in some]) for m in (case[0], case[1].model))
    assert decibels(float_logits, integer_logits) > 30


def test_a_written_file_is_read_back(case: tuple[onnx.ModelProto, Result], tmp_path: object) -> None:
    path = case[1].save(f"{tmp_path}/vit.onnx")
    again = load_model(path)
    some = X[:1]
    assert differences(case[1].program, {"x": some}, lambda feeds: boundaries(again, feeds)) == ()


def test_akida_says_which_document_lists_no_transformer() -> None:
    messages = [f.message for f in check_model(NETS["timm"], target="akida2")]
    for capability in ("embed", "normalize", "attention"):
        assert any(f"lacks `{capability}`" in m and "not listed by https://doc.brainchipinc.com" in m for m in messages)


def test_an_attention_with_a_mask_stays_float_with_a_reason() -> None:
    model = vit("apart", depth=1)
    softmax = next(n for n in model.graph.node if n.op_type == "Softmax")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((49, 49), np.float32), "mask"))
    masked = onnx.helper.make_node("Add", [softmax.input[0], "mask"], ["masked"], name="masked")
    softmax.input[0] = "masked"
    model.graph.node.insert(list(model.graph.node).index(softmax), masked)
    result = quantize_model(model, samples=X)
    assert result.blueprint.stops and "attention" not in {b.kind for b in result.blueprint.blocks}
