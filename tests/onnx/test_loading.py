"""Files: read, refused with one clear error, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from quantizeml_core.errors import ModelError, QuantizeMLError
from quantizeml_core.hooks import InputSpec
from quantizeml_onnx import loading

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x, uint8[N,5] z) => (float[1,2,6,6] y) <float[2,3,3,3] w> { y = Conv(x, w) }"""


def small_model() -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((2, 3, 3, 3), 0.25, np.float32), "w"))
    return model


def external(folder: Path) -> Path:
    path = folder / "external.onnx"
    onnx.save_model(small_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_a_saved_model_is_read_back(tmp_path):
    path = loading.save(small_model(), tmp_path / "m.onnx")
    assert loading.load(path) == small_model()


def test_external_data_is_read(tmp_path):
    tensor = loading.load(external(tmp_path)).graph.initializer[0]
    assert onnx.numpy_helper.to_array(tensor).tolist() == onnx.numpy_helper.to_array(small_model().graph.initializer[0]).tolist()


@pytest.mark.parametrize("given, written", [("m", "m.onnx"), ("m.v1", "m.v1.onnx"), ("m.onnx", "m.onnx"), ("m.ONNX", "m.ONNX")])
def test_the_suffix_is_made_right(tmp_path, given, written):
    assert loading.save(small_model(), tmp_path / given) == tmp_path / written
    assert [p.name for p in tmp_path.iterdir()] == [written]


def test_nothing_is_left_behind_where_nothing_can_be_written(tmp_path):
    with pytest.raises(QuantizeMLError):
        loading.save(small_model(), tmp_path / "absent" / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def truncated(folder: Path) -> Path:
    path = folder / "truncated.onnx"
    path.write_bytes(small_model().SerializeToString()[:-40])
    return path


def without_data(folder: Path) -> Path:
    path = external(folder)
    (folder / "weights.bin").unlink()
    return path


def short_data(folder: Path) -> Path:
    path = external(folder)
    (folder / "weights.bin").write_bytes(b"1234")
    return path


def holding(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "m.onnx").write_bytes(content)
        return folder / "m.onnx"
    return write


def unknown_operation(folder: Path) -> Path:
    model = small_model()
    model.graph.node[0].op_type = "Convolve"
    return holding(model.SerializeToString())(folder)


BAD = {
    "absent": (lambda folder: folder / "absent.onnx", "there is no such file"),
    "folder": (lambda folder: folder, "it cannot be read"),
    "text": (holding(b"this is no model\n" * 20), "it is not an ONNX file, or it is truncated"),
    "empty": (holding(b""), "it holds no ONNX model"),
    "truncated": (truncated, "it is not an ONNX file, or it is truncated"),
    "no external data": (without_data, "its external data cannot be read"),
    "short external data": (short_data, "its external data cannot be read"),
    "unknown operation": (unknown_operation, "it is not a valid ONNX model: No Op registered for Convolve"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_clear_error(tmp_path, kind):
    make, message = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(ModelError) as error:
        loading.load(path)
    assert error.value.where == str(path)
    assert error.value.what.startswith(message)
    assert error.value.do or error.value.allowed
    assert "\n" not in str(error.value)


def test_inputs_have_their_native_shape_and_type():
    model = small_model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (2, 3, 3, 3)))
    assert loading.inputs(model) == (InputSpec("x", (None, 3, 8, 8), "float32"), InputSpec("z", (None, 5), "uint8"))
