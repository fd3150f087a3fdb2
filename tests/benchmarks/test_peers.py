"""The peers are run as benchmarks/README.md says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from benchmarks import peers
from benchmarks.accuracy import SCHEMES, float_ops
from benchmarks.launch import launch
from examples.trained import NETS, run, sqnr


@pytest.fixture(scope="module")
def qdq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = NETS["mlp_breast_cancer"]
    return peers.quantize_with_onnxruntime(net.path, net.samples(), tmp_path_factory.mktemp("qdq") / "mlp.onnx")


def test_onnxruntime_reaches_its_figure(qdq: Path) -> None:
    net = NETS["mlp_breast_cancer"]
    x, _ = net.test()
    # half a decibel: the kernels of another processor may round another way
    assert sqnr(run(net.path, x), run(qdq, x)) == pytest.approx(40.2, abs=0.5)


def test_onnxruntime_quantizes_weights_per_channel(qdq: Path) -> None:
    weights = [t for t in onnx.load(str(qdq)).graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 2]
    scales = {t.name: t for t in onnx.load(str(qdq)).graph.initializer}
    assert weights
    assert all(tuple(scales[t.name.replace("_quantized", "_scale")].dims) == (t.dims[1],) for t in weights)


@pytest.mark.parametrize(("net", "sizes"), [("mobilenetv2_mnist", [64, 36]), ("mobilenetv2_mnist_bn", [1] * 100)])
def test_batches_have_the_size_the_model_allows(net: str, sizes: list[int]) -> None:
    batches = peers.Batches(NETS[net].path, np.zeros((100, 1, 28, 28), np.float32))
    assert [len(batch["input"]) for batch in iter(batches.get_next, None)] == sizes


def test_a_reference_that_is_not_installed_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUANTIZEML_PEER_VENV", str(tmp_path))
    assert peers.quantize_with_reference(tmp_path / "a.onnx", tmp_path / "s.npz", tmp_path / "o.onnx") is None


def test_the_reference_does_not_see_our_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert "PYTHONPATH" not in peers.reference_environment()


def test_float_operations_are_those_of_the_standard_domain_that_compute() -> None:
    node = onnx.helper.make_node
    nodes = [node("QuantizedAdd", ["x", "x"], ["y"], domain="com.brainchip"),
             node("Reshape", ["y", "s"], ["z"]),
             node("Softmax", ["z"], ["p"])]
    assert float_ops(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))) == ("Softmax",)


def test_scheme_names_and_flags_say_bits_and_axes() -> None:
    assert [scheme.name for scheme in SCHEMES] == ["8/8/8 per-axis", "8/8/8 per-tensor", "8/4/4 per-axis", "8/4/4 per-tensor"]
    assert SCHEMES[3].flags == ("-i", "8", "-w", "4", "-a", "4", "--per_tensor_activations")


def test_launch_reports_time_memory_and_exit_code() -> None:
    found = launch([sys.executable, "-c", "block = bytearray(50_000_000); raise SystemExit(3)"])
    assert found["code"] == 3
    assert found["seconds"] > 0
    assert found["megabytes"] > 50
