"""The guide's functions on a real network: `quantize`, `load_model`, `save_model`, `dump_config`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import quantizeml
from quantizeml.models import QuantizationParams, dump_config, load_model, quantize, save_model
from quantizeml_core.errors import ModelError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
NET = EXAMPLES / "models/dscnn_mnist.onnx"


def samples() -> np.ndarray:
    return np.load(EXAMPLES / "data/mnist5k.npz")["x_train"][:32]


def test_quantize_leaves_the_callers_model_alone() -> None:
    model = load_model(NET)
    before = model.SerializeToString(deterministic=True)
    assert isinstance(quantize(model, samples=samples()), onnx.ModelProto)
    assert model.SerializeToString(deterministic=True) == before


def test_two_calls_in_one_process_do_not_know_each_other() -> None:
    first = quantize(load_model(NET), samples=samples())
    quantize(load_model(NET), qparams=QuantizationParams(weight_bits=4, activation_bits=4), samples=samples())
    assert quantize(load_model(NET), samples=samples()) == first


def test_random_samples_raise_a_warning() -> None:
    with pytest.warns(UserWarning, match="No samples were given"):
        quantize(load_model(NET), num_samples=4)


def test_partial_quantization_raises_a_warning_with_the_node() -> None:
    data = np.load(EXAMPLES / "data/breast_cancer.npz")
    with pytest.warns(UserWarning, match=r"stopped before `.*` \(Sigmoid\): no rule covers it.*lacks `dense.table`"):
        quantize(load_model(EXAMPLES / "models/mlp_breast_cancer.onnx"), samples=(data["x_train"] - data["mean"]) / data["std"], target="akida2")


def test_configuration_is_the_plan() -> None:
    config = dump_config(quantize(load_model(NET), samples=samples()))
    name = next(name for name, entry in config.items() if "weight_quantizer" in entry)
    changed = quantize(load_model(NET), q_config={name: {"weight_quantizer": {"bitwidth": 4}}}, samples=samples())
    assert dump_config(changed)[name]["weight_quantizer"] == {"bitwidth": 4}


def test_saved_and_loaded(tmp_path: Path) -> None:
    quantized = quantize(load_model(NET), samples=samples())
    path = quantizeml.save_model(quantized, tmp_path / "net")
    assert path == tmp_path / "net.onnx" and quantizeml.load_model(path) == quantized


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Allowed: 2, 4"):
        quantize(load_model(NET), qparams=QuantizationParams(weight_bits=8), target="akida1", samples=samples())
    with pytest.raises(ModelError, match="quantized already"):
        quantize(quantize(load_model(NET), samples=samples()), samples=samples())
    with pytest.raises(ModelError, match="not quantized"):
        dump_config(load_model(NET))
    with pytest.raises(ModelError, match="no frontend reads this kind of model"):
        save_model(3, tmp_path / "net")
