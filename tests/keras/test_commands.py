"""Keras on the command line and through the public functions: export, insert_rescaling, config, check, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from examples.trained import NETS
from keras import layers

from quantizeml.models import QuantizationParams, calibrate, dump_config, load_model, quantize
from quantizeml_core.cli import build
from quantizeml_core.errors import ModelError, SampleError, UsageError

RNG = np.random.default_rng(11)
DSCNN = NETS["dscnn_mnist"]


def run(*words: object) -> Any:
    return CliRunner().invoke(build(), [str(w) for w in words])


@pytest.fixture(scope="module")
def net() -> keras.Model:
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.ReLU(), layers.Conv2D(4, 3, name="inner_conv")], name="inner")
    return keras.Sequential([keras.Input((8, 8, 3), name="pixels"), layers.Conv2D(4, 3, name="first"), inner, layers.Flatten(), layers.Dense(3)])


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return RNG.integers(0, 256, (16, 8, 8, 3)).astype("float32")


@pytest.fixture
def saved(net: keras.Model, x: np.ndarray, tmp_path: Path) -> Path:
    net.save(tmp_path / "net.keras")
    np.savez(tmp_path / "samples.npz", x)
    return tmp_path / "net.keras"


def test_the_guide_on_the_command_line(saved: Path, x: np.ndarray) -> None:
    """quantize, config, quantize again with the edited configuration, check, export: the file computes what the Keras model does."""
    samples, folder = saved.with_name("samples.npz"), saved.parent
    assert run("quantize", "-m", saved, "-sa", samples, "-w", 4, "-a", 4).exit_code == 0
    first = folder / "net_i8_w4_a4.keras"
    assert run("config", "-m", first, "-o", folder / "c.json").exit_code == 0
    config = json.loads((folder / "c.json").read_text())
    config["first"]["weight_quantizer"]["bitwidth"] = 4
    (folder / "c.json").write_text(json.dumps(config))
    assert run("quantize", "-m", saved, "-sa", samples, "-c", folder / "c.json").exit_code == 0
    second = folder / "net_c.keras"
    assert dump_config(load_model(second))["first"]["weight_quantizer"] == {"bitwidth": 4}
    assert run("check", "-m", second, "--json").exit_code == 0
    assert run("export", "-m", second, "-o", folder / "net").output.startswith(f"{second} -> {folder / 'net.onnx'}")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"pixels": x})[0], load_model(second).predict(x, verbose=0))


@pytest.mark.parametrize(("build_net", "message"), [
    (lambda q: q, "is not quantized"),
    (lambda q: quantize(keras.Sequential([q, layers.UnitNormalization(name="unit")]), samples=np.ones((4, 8, 8, 3))), "`unit` computes in float"),
])
@pytest.mark.filterwarnings("ignore:Quantization stopped")
def test_what_cannot_be_exported(net: keras.Model, tmp_path: Path, build_net: Any, message: str) -> None:
    from quantizeml.models import export

    with pytest.raises(ModelError, match=message):
        export(build_net(net), tmp_path / "out.onnx")
    assert not any(tmp_path.iterdir())


def test_only_frontends_that_can_write_programs(net: keras.Model, tmp_path: Path) -> None:
    from quantizeml.models import export

    with pytest.raises(UsageError, match="from_program is not made for files like `out.h5`"):
        export(net, tmp_path / "out.h5")


def test_islands_are_for_onnx(saved: Path) -> None:
    done = run("quantize", "-m", saved, "--islands")
    assert done.exit_code == 2 and "islands are made for ONNX models" in done.output


def test_insert_rescaling(saved: Path, net: keras.Model, x: np.ndarray) -> None:
    dest = saved.with_name("rescaled.keras")
    assert run("insert_rescaling", "-m", saved, "-s", "0.007843", "-o", "-1", "-d", dest).exit_code == 0
    model = load_model(dest)
    first = model.layers[1]
    assert (first.scale, first.offset, model.inputs[0].name) == (0.007843, -1.0, "pixels")
    assert model.get_layer("inner").get_layer("inner_conv").kernel.shape == (3, 3, 4, 4)
    assert np.array_equal(model(x), net(first(x)))


def test_insert_rescaling_is_refused_twice_and_for_onnx(saved: Path) -> None:
    dest = saved.with_name("once.keras")
    flags = ("-s", "0.5", "-o", "0", "-d")
    assert run("insert_rescaling", "-m", saved, *flags, dest).exit_code == 0
    again = run("insert_rescaling", "-m", dest, *flags, saved.with_name("twice.keras"))
    assert again.exit_code == 1 and "has a Rescaling already" in again.output and not saved.with_name("twice.keras").exists()
    onnx = run("insert_rescaling", "-m", DSCNN.path, *flags, saved.with_name("o.onnx"))
    assert onnx.exit_code == 2 and "not made for onnx models" in onnx.output


def test_calibrate_keeps_the_bits_and_takes_new_ranges(net: keras.Model, x: np.ndarray) -> None:
    first = quantize(net, qparams=QuantizationParams(weight_bits=4), samples=x)
    again = calibrate(net, first, samples=x / 2)
    before, after = dump_config(first)["inner/inner_conv"], dump_config(again)["inner/inner_conv"]
    assert after["weight_quantizer"] == before["weight_quantizer"] == {"bitwidth": 4}
    assert after["output_quantizer"]["range"] != before["output_quantizer"]["range"]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "cannot be read"), (b"PK\x03\x04 broken", "cannot be read"),
])
def test_files_that_are_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        result = run("quantize", "-m", path)
        assert result.exit_code == 1 and message in result.output and list(tmp_path.iterdir()) == [path]
        path.unlink()


def test_a_truncated_archive(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:2000])
    result = run("quantize", "-m", saved)
    assert result.exit_code == 1 and "cannot be read" in result.output


def test_weights_without_a_model(net: keras.Model, tmp_path: Path) -> None:
    net.save_weights(tmp_path / "only.weights.h5")
    result = run("quantize", "-m", tmp_path / "only.weights.h5")
    assert result.exit_code == 1 and "holds weights, but no model" in result.output


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda v: v * 2, output_shape=(4,)), layers.Dense(2)])
    model.save(tmp_path / "lambda.keras")
    result = run("quantize", "-m", tmp_path / "lambda.keras")
    assert result.exit_code == 1 and "Replace the Lambda layer" in result.output


def test_samples_are_checked_before_any_work(net: keras.Model) -> None:
    with pytest.raises(SampleError, match="shape"):
        quantize(net, samples=np.zeros((4, 9, 9, 3)))


def test_subclassed_and_unbuilt_models_are_refused() -> None:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    for model in (Own(), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(ModelError):
            quantize(model, samples=np.zeros((4, 3)))
