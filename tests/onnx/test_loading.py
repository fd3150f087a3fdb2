"""Files: read, refused with one clear error, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx_text import feeds, judged, network, quantize

from quantizeml_core.errors import ModelError, QuantizeMLError
from quantizeml_core.hooks import InputSpec
from quantizeml_onnx import large, loading
from quantizeml_onnx.frontend import OnnxFrontend

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


# ---- above 2 GiB, with a smaller limit

def conv_and_dense() -> onnx.ModelProto:
    return network("(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[144,40] d, float[40,5] e> "
                   "{ a = Conv (x, w) r = Relu (a) f = Flatten (r) s = MatMul (f, d) t = Erf (s) y = MatMul (t, e) }")


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LIMIT", 2000)


def test_a_large_model_is_two_files_that_read_back(tmp_path, small_limit):
    path = loading.save(conv_and_dense(), tmp_path / "m")
    graph, data = sorted(tmp_path.iterdir(), key=lambda p: p.suffix, reverse=True)
    assert path == graph == tmp_path / "m.onnx" and data.name.startswith("m.") and data.suffix == ".data"
    back, model = loading.load(path), conv_and_dense()
    assert all(np.array_equal(arrays(back)[name], value) for name, value in arrays(model).items())
    assert back.graph.node == model.graph.node and len(graph.read_bytes()) < 2000
    onnx.checker.check_model(str(path), full_check=True)


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_its_size_is_that_of_both_files(tmp_path, small_limit):
    path = loading.save(conv_and_dense(), tmp_path / "m.onnx")
    (tmp_path / "m.0.data").write_bytes(b"of another model")
    assert sorted(p.suffix for p in OnnxFrontend().files(path)) == [".data", ".onnx"]
    code, said, _ = quantize(tmp_path, conv_and_dense())
    assert code == 0 and f"({sum(p.stat().st_size for p in tmp_path.glob('out.*')) / 1000:.0f} kB)" in said, said


def test_a_large_model_that_cannot_be_written_leaves_nothing(tmp_path, small_limit):
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(QuantizeMLError):
        loading.save(conv_and_dense(), tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_writing_again_does_not_touch_the_data_of_another_model(tmp_path, small_limit):
    loading.save(conv_and_dense(), tmp_path / "m.onnx")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    loading.save(conv_and_dense(), tmp_path / "m.onnx")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("flags", [(), ("--islands",)])
def test_a_large_model_quantizes(tmp_path, small_limit, flags):
    model = conv_and_dense()
    code, said, made = quantize(tmp_path, loading.load(loading.save(model, tmp_path / "float.onnx")), *flags, samples=feeds(model, 64))
    assert code == 0, said
    different, clear = judged(model, made)
    assert different == () and min(clear) > 30


def test_a_large_model_is_checked_on_loading(tmp_path, small_limit):
    model = conv_and_dense()
    model.graph.node[0].op_type = "Convolve"
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=100)
    with pytest.raises(ModelError, match="it is not a valid ONNX model: No Op registered for Convolve"):
        loading.load(tmp_path / "m.onnx")


def test_a_large_weight_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(32, 32), raw_data=bytes(4 * 32 * 31))
    model = onnx.helper.make_model(parser.parse_graph("net (float[N,32] x) => (float[N,32] y) { y = MatMul (x, w) }"))
    model.graph.initializer.append(weight)
    (tmp_path / "short.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="`w` holds another number of bytes"):
        loading.load(tmp_path / "short.onnx")
